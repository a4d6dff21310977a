"""
What a ledger's calls add up to, as a report shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from llm_master.classes import Usage
from llm_master.errors import InvalidRequestError
from llm_master.ledger.groups import BY
from llm_master.ledger.reading_chunks import Reading, Selection
from llm_master.ledger.reading_ranks import ranks_of
from llm_master.ledger.reading_source import Open
from llm_master.ledger.reading_when import Zone
from llm_master.ledger.summary import KINDS, SUMS, Summary
from llm_master.redaction import shown

__all__ = ["Percentiles", "UsageReport", "UsageRow", "report"]


class Percentiles(msgspec.Struct, frozen=True):
    """Microseconds by nearest rank: a value that a call had. ``count`` is the number of calls that have one."""

    p50: int
    p95: int
    p99: int
    count: int


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """
    What some calls add up to.

    ``group`` holds what they have in common, by the names of ``by``; a value is None where the ledger has none.
    ``calls`` are all, ``errors`` those that failed or broke off, ``cancelled`` those whose caller went away,
    ``fallbacks`` those that another model served than the one asked for, ``cached`` those answered without the
    provider. ``requests`` are the attempts of all. ``cost`` is exact USD of the calls whose cost is known and None when
    none is: ``unpriced`` calls have no known cost, ``incomplete`` ones a cost that lacks a part. ``estimated`` calls
    have tokens that were not reported. ``latency`` and ``first_token`` are of all calls that have one, failed and
    cached ones included.
    """

    group: dict[str, str | None]
    calls: int
    errors: int
    cancelled: int
    fallbacks: int
    cached: int
    requests: int
    usage: Usage
    estimated: int
    cost: Decimal | None
    unpriced: int
    incomplete: int
    bytes_sent: int
    bytes_received: int
    latency: Percentiles | None
    first_token: Percentiles | None

    @property
    def error_rate(self) -> float:
        """Failed calls of all, 0 to 1."""
        return self.errors / self.calls if self.calls else 0.0

    @property
    def fallback_rate(self) -> float:
        """Calls that another model served of all, 0 to 1."""
        return self.fallbacks / self.calls if self.calls else 0.0


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """
    Rows and their total.

    A call with several tags counts in the row of each, and in the total once. ``first`` and ``last`` are when the
    first and the last of the calls began (microseconds since the epoch), None without calls. ``summarised`` of the
    calls were read from summaries, the others one by one.
    """

    total: UsageRow
    rows: list[UsageRow]
    first: int | None
    last: int | None
    summarised: int


def report(ledger: Open, by: Sequence[str], chosen: Selection, where: Zone) -> UsageReport:
    """
    Add up a ledger; raises InvalidRequestError for a name that is not of ``BY``, Malformed for a broken row.
    """
    unknown = [name for name in by if name not in BY]
    if unknown:
        raise InvalidRequestError(f"usage cannot be grouped by {shown(unknown[0])}; take one of {', '.join(BY)}")
    reading = Reading(ledger, by, chosen, where)
    everything, parts = _Sums(), _Sums()
    for total, groups in reading.pieces():
        everything.add(total, [()] * len(total.labels))
        if groups is not None:
            parts.add(groups, groups.labels)
    total_row = next(iter(everything.rows(())), None) or _nothing()
    return UsageReport(
        total=total_row,
        rows=list(parts.rows(by)) if by else [total_row],
        first=reading.first,
        last=reading.last,
        summarised=reading.summarised,
    )


def _nothing() -> UsageRow:
    zero = dict.fromkeys(SUMS, 0)
    return _row({}, 0, zero, None, None)


class _Sums:
    """Groups of several summaries on their way to rows."""

    def __init__(self) -> None:
        self._places: dict[tuple[str | None, ...], int] = {}
        self._calls: list[int] = []
        self._sums: list[list[int]] = [[] for _ in SUMS]
        # Of each group the sorted numbers, in pieces, by the width that they have there.
        self._latencies: list[list[tuple[str, memoryview]]] = []
        self._tokens: list[list[tuple[str, memoryview]]] = []

    def add(self, summary: Summary, labels: Sequence[tuple[str | None, ...]]) -> None:
        """Add the groups of a summary to those that have the same labels."""
        at = [self._place(label) for label in labels]
        for sums, values in zip((self._calls, *self._sums), (summary.calls, *summary.sums), strict=True):
            if values:
                for place, value in zip(at, values, strict=True):
                    sums[place] += value
        width, size = summary.width, 4 if summary.width == "I" else 8
        for pieces, counts, data in (
            (self._latencies, summary.calls, summary.latencies),
            (self._tokens, summary.answered, summary.first_tokens),
        ):
            start = 0
            for place, count in zip(at, counts, strict=True):
                if count:
                    end = start + count * size
                    pieces[place].append((width, data[start:end]))
                    start = end

    def _place(self, label: tuple[str | None, ...]) -> int:
        place = self._places.get(label)
        if place is None:
            place = self._places[label] = len(self._calls)
            for sums in (self._calls, *self._sums):
                sums.append(0)
            self._latencies.append([])
            self._tokens.append([])
        return place

    def rows(self, by: Sequence[str]) -> list[UsageRow]:
        """A row of each group."""
        return [
            _row(
                dict(zip(by, label, strict=True)),
                self._calls[place],
                {name: sums[place] for name, sums in zip(SUMS, self._sums, strict=True)},
                _percentiles(self._latencies[place]),
                _percentiles(self._tokens[place]),
            )
            for label, place in self._places.items()
        ]


def _row(
    group: dict[str, str | None],
    calls: int,
    sums: dict[str, int],
    latency: Percentiles | None,
    first_token: Percentiles | None,
) -> UsageRow:
    return UsageRow(
        group=group,
        calls=calls,
        errors=sums["errors"],
        cancelled=sums["cancelled"],
        fallbacks=sums["fallback"],
        cached=sums["cached"],
        requests=sums["attempts"],
        usage=Usage(**{name: sums[name] for name in KINDS}, estimated=sums["usage_estimated"] > 0),
        estimated=sums["usage_estimated"],
        cost=_exact(sums["cost"]) if calls > sums["unpriced"] else None,
        unpriced=sums["unpriced"],
        incomplete=sums["incomplete"],
        bytes_sent=sums["bytes_sent"],
        bytes_received=sums["bytes_received"],
        latency=latency,
        first_token=first_token,
    )


def _exact(picodollars: int) -> Decimal:
    """USD with every digit, however many there are."""
    digits = tuple(map(int, str(abs(picodollars))))
    return Decimal((int(picodollars < 0), digits, -12))


def _percentiles(pieces: Sequence[tuple[str, memoryview]]) -> Percentiles | None:
    found = ranks_of(pieces)
    return None if found is None else Percentiles(*found)
