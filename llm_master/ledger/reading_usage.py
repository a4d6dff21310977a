"""
What a ledger's calls add up to: read from the summaries of chunks where they say it all, else from the calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fnmatch import translate
from typing import Any

import msgspec

from llm_master.classes import Usage
from llm_master.errors import InvalidRequestError
from llm_master.ledger.chunks import CHUNK, NO_TAGS, unpacked
from llm_master.ledger.reading_ranks import nearest_ranks
from llm_master.ledger.reading_source import Open
from llm_master.ledger.reading_when import Zone
from llm_master.ledger.rows import tags_of
from llm_master.ledger.summary import DAY, KINDS, SUMS, Group, Malformed, Summary, numbers, summarise
from llm_master.redaction import shown

__all__ = ["BY", "Percentiles", "Selection", "UsageReport", "UsageRow", "report"]

# Chunks without a summary that one statement adds up, so that no sorting outgrows the memory.
_AT_ONCE = 16
# Where a day does not begin at midnight UTC: every zone of today begins its days at a quarter of an hour.
_QUARTER, _SECOND = 900_000_000, 1_000_000


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


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls: microseconds from ``since`` to before ``until``; each tuple holds patterns of which one must fit."""

    since: int | None = None
    until: int | None = None
    model: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    deployment: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()


_Names = Callable[[Group, Zone], Iterable[str | None]]


def _tags(group: Group, _: Zone) -> Sequence[str | None]:
    return tags_of(group.tags or "[]") or (None,)


#: What calls may be grouped by, and what a group is called then.
BY: dict[str, _Names] = {
    "model": lambda group, _: (group.model or group.model_asked,),
    "asked": lambda group, _: (group.model_asked,),
    "provider": lambda group, _: (group.provider,),
    "key": lambda group, _: (group.key_id,),
    "deployment": lambda group, _: (group.deployment,),
    "kind": lambda group, _: (group.kind,),
    "day": lambda group, where: (where.day_of(group.first_ts).isoformat(),),
    "tag": _tags,
}


# What a pattern of a selection is held against.
_ATTRIBUTES = {"provider": "provider", "key": "key_id", "deployment": "deployment", "kind": "kind"}


def report(ledger: Open, by: Sequence[str], chosen: Selection, where: Zone) -> UsageReport:
    """
    Add up a ledger; raises InvalidRequestError for a name that is not of ``BY``, Malformed for a broken row.
    """
    unknown = [name for name in by if name not in BY]
    if unknown:
        raise InvalidRequestError(f"usage cannot be grouped by {shown(unknown[0])}; take one of {', '.join(BY)}")
    local_days = "day" in by and not where.is_utc
    tagged = "tag" in by or bool(chosen.tag)
    reading = _Reading(ledger, chosen, where if local_days else None, tagged=tagged)
    fits = _filter(chosen)
    everything = _Sum()
    parts: dict[tuple[str | None, ...], _Sum] = {}
    for summary in reading.summaries():
        for group in summary.groups:
            if fits is not None and not fits(group):
                continue
            everything.add(group, wide=summary.wide)
            for key in _keys(group, by, where) if by else ():
                part = parts.get(key)
                if part is None:
                    part = parts[key] = _Sum()
                part.add(group, wide=summary.wide)
    total = everything.row({})
    rows = [part.row(dict(zip(by, key, strict=True))) for key, part in parts.items()] if by else [total]
    return UsageReport(
        total=total, rows=rows, first=everything.first, last=everything.last, summarised=reading.summarised
    )


def _keys(group: Group, by: Sequence[str], where: Zone) -> Iterable[tuple[str | None, ...]]:
    keys: list[tuple[str | None, ...]] = [()]
    try:
        for name in by:
            found = BY[name](group, where)
            keys = [(*key, each) for key in keys for each in found]
    except (msgspec.MsgspecError, TypeError) as error:
        raise Malformed(f"tags {group.tags!r}: {error}") from error
    except (OverflowError, ValueError) as error:
        raise Malformed(f"ts {group.first_ts}: {error}") from error
    return keys


def _filter(chosen: Selection) -> Callable[[Group], bool] | None:
    def fitting(patterns: Sequence[str]) -> Callable[[str | None], object]:
        # As in a shell: * and ?, in any case.
        match = re.compile("|".join(translate(each) for each in patterns), re.IGNORECASE).match
        return lambda text: text is not None and match(text)

    tests: list[Callable[[Group], object]] = []
    if chosen.model:
        model = fitting(chosen.model)
        tests.append(lambda group: model(group.model) or model(group.model_asked))
    if chosen.tag:
        tag = fitting(chosen.tag)
        tests.append(lambda group: any(tag(each) for each in tags_of(group.tags or "[]")))
    tests += [
        _of(attribute, fitting(getattr(chosen, name)))
        for name, attribute in _ATTRIBUTES.items()
        if getattr(chosen, name)
    ]
    return (lambda group: all(test(group) for test in tests)) if tests else None


def _of(attribute: str, fits: Callable[[str | None], object]) -> Callable[[Group], object]:
    return lambda group: fits(getattr(group, attribute))


class _Sum:
    """Groups on their way to a row."""

    __slots__ = ("_latencies", "_sums", "_tokens", "first", "last")

    def __init__(self) -> None:
        self._sums: list[tuple[int, ...]] = []
        # Four and eight bytes a number apart, each in pieces.
        self._latencies: tuple[list[memoryview], list[memoryview]] = ([], [])
        self._tokens: tuple[list[memoryview], list[memoryview]] = ([], [])
        self.first: int | None = None
        self.last: int | None = None

    def add(self, group: Group, *, wide: bool) -> None:
        self._sums.append(group.sums)
        self._latencies[wide].append(group.latencies)
        if group.first_tokens:
            self._tokens[wide].append(group.first_tokens)
        if self.first is None or group.first_ts < self.first:
            self.first = group.first_ts
        if self.last is None or group.last_ts > self.last:
            self.last = group.last_ts

    def row(self, group: dict[str, str | None]) -> UsageRow:
        columns = map(sum, zip(*self._sums, strict=True)) if self._sums else (0 for _ in SUMS)
        sums = dict(zip(SUMS, columns, strict=True))
        priced = sums["calls"] - sums["unpriced"]
        return UsageRow(
            group=group,
            calls=sums["calls"],
            errors=sums["errors"],
            cancelled=sums["cancelled"],
            fallbacks=sums["fallback"],
            cached=sums["cached"],
            requests=sums["attempts"],
            usage=Usage(**{name: sums[name] for name in KINDS}, estimated=sums["usage_estimated"] > 0),
            estimated=sums["usage_estimated"],
            cost=_exact(sums["cost"]) if priced else None,
            unpriced=sums["unpriced"],
            incomplete=sums["incomplete"],
            bytes_sent=sums["bytes_sent"],
            bytes_received=sums["bytes_received"],
            latency=_percentiles(*self._latencies),
            first_token=_percentiles(*self._tokens),
        )


def _exact(picodollars: int) -> Decimal:
    """USD with every digit, however many there are."""
    digits = tuple(map(int, str(abs(picodollars))))
    return Decimal((int(picodollars < 0), digits, -12))


def _percentiles(narrow: list[memoryview], wide: list[memoryview]) -> Percentiles | None:
    values = numbers(b"".join(narrow), wide=False).tolist()
    if wide:
        values += numbers(b"".join(wide), wide=True).tolist()
    found = nearest_ranks(values)
    return None if found is None else Percentiles(found[0], found[1], found[2], len(values))


class _Reading:
    """
    One pass over a ledger.

    Args:
        days: the zone whose days must not share a group; None is UTC, whose days never do.
    """

    def __init__(self, ledger: Open, chosen: Selection, days: Zone | None, *, tagged: bool) -> None:
        self._ledger, self._days, self._tagged = ledger, days, tagged
        self._since, self._until = chosen.since, chosen.until
        self.summarised = 0

    def summaries(self) -> Iterable[Summary]:
        """Groups that hold each call of the time asked for once."""
        if self._ledger.run("SELECT 1 FROM calls LIMIT 1"):
            # PostgreSQL numbers its calls too, but in no order that one could rely on.
            yield from self._rows("1 = 1", []) if self._ledger.dialect.late else self._chunked()

    def _chunked(self) -> Iterable[Summary]:
        [(first, last)] = self._ledger.run("SELECT min(seq), max(seq) FROM calls")
        known = self._known()
        pending: list[int] = []  # chunks to be read call by call
        for chunk in range((first - 1) // CHUNK, (last - 1) // CHUNK + 1):
            if chunk in known and self._outside(*known[chunk]):
                continue
            found = self._kept(chunk) if chunk in known and self._inside(*known[chunk]) else None
            if found is not None:
                yield found
                continue
            if pending and (chunk != pending[-1] + 1 or len(pending) >= _AT_ONCE):
                yield from self._range(pending)
                pending = []
            pending.append(chunk)
        if pending:
            yield from self._range(pending)

    def _known(self) -> dict[int, tuple[int, int]]:
        """The chunks that have a summary, and when their first and last call began."""
        if not self._ledger.run("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'usage_chunks'"):
            return {}
        rows = self._ledger.run("SELECT chunk, first_ts, last_ts FROM usage_chunks WHERE plain IS NOT NULL")
        return {chunk: (first, last) for chunk, first, last in rows}

    def _outside(self, first: int, last: int) -> bool:
        early = self._since is not None and last < self._since
        return early or (self._until is not None and first >= self._until)

    def _inside(self, first: int, last: int) -> bool:
        return (self._since is None or first >= self._since) and (self._until is None or last < self._until)

    def _kept(self, chunk: int) -> Summary | None:
        """The summary of a chunk when it can answer."""
        column = "tagged" if self._tagged else "plain"
        [(calls, data)] = self._ledger.run(f"SELECT calls, {column} FROM usage_chunks WHERE chunk = ?", (chunk,))  # noqa: S608
        if data == NO_TAGS:
            [(data,)] = self._ledger.run("SELECT plain FROM usage_chunks WHERE chunk = ?", (chunk,))
        found = unpacked(data, calls)
        if found is None or self._straddles(found):
            return None
        self.summarised += calls
        return found

    def _range(self, chunks: list[int]) -> Iterable[Summary]:
        return self._rows("seq BETWEEN ? AND ?", [chunks[0] * CHUNK + 1, (chunks[-1] + 1) * CHUNK])

    def _rows(self, where: str, values: list[Any]) -> Iterable[Summary]:
        dialect = self._ledger.dialect
        for bound, sign in ((self._since, ">="), (self._until, "<")):
            if bound is not None:
                where = f"{where} AND ts {sign} {dialect.mark}"
                values = [*values, bound]
        units = (DAY,) if self._days is None else (_QUARTER, _SECOND)
        for unit in units:
            found = summarise(self._ledger.run, dialect, where, values, tagged=self._tagged, unit=unit)
            if not self._straddles(found):
                break
        yield found

    def _straddles(self, summary: Summary) -> bool:
        """Whether a group has calls of two days."""
        days = self._days
        if days is None:
            return False
        try:
            return any(days.day_of(group.first_ts) != days.day_of(group.last_ts) for group in summary.groups)
        except (OverflowError, ValueError) as error:
            raise Malformed(f"ts: {error}") from error
