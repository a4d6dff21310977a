"""
One pass over a ledger for a report: what is kept of full chunks where that says it all, else the calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress

import msgspec

from llm_master.ledger.chunks import COLUMNS, TOTAL, columns_of, summary_of
from llm_master.ledger.columns import NAMES, Columns, Texts, read
from llm_master.ledger.groups import NEEDS, SLOT, grouped
from llm_master.ledger.reading_source import Open
from llm_master.ledger.reading_when import Zone
from llm_master.ledger.rows import tags_of
from llm_master.ledger.summary import Malformed, Summary

__all__ = ["Reading", "Selection"]


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


# The columns that the patterns of a selection are held against; one model was asked for and one served.
_HELD_AGAINST = {
    "model": ("model", "model_asked"),
    "provider": ("provider",),
    "key": ("key_id",),
    "deployment": ("deployment",),
    "kind": ("kind",),
    "tag": ("tags",),
}

# A summary that has each call of a range once, in however many groups, and one of the groups that are asked for, whose
# labels are tuples; None when none are.
_Piece = tuple[Summary, Summary | None]


class _Chunk(msgspec.Struct):
    """A full chunk that was added up, and when its first and its last call began."""

    calls: int
    first: int
    last: int


class Reading:
    """
    One pass.

    Args:
        by: names of ``BY``.
        chosen: which calls.
        where: whose days are meant.

    ``first`` and ``last`` are when the first and the last of the calls began, ``summarised`` is how many of them were
    not read one by one; all of it once ``pieces`` has ended.
    """

    def __init__(self, ledger: Open, by: Sequence[str], chosen: Selection, where: Zone) -> None:
        self._ledger, self._by, self._chosen, self._zone = ledger, list(by), chosen, where
        self._patterns = {name: _fitting(getattr(chosen, name)) for name in _HELD_AGAINST if getattr(chosen, name)}
        needed = {column for name in by for column in NEEDS[name]}
        needed |= {column for name in self._patterns for column in _HELD_AGAINST[name]}
        self._needed = [name for name in NAMES if name in needed]
        self.first: int | None = None
        self.last: int | None = None
        self.summarised = 0

    def pieces(self) -> Iterator[_Piece]:
        """Summaries that hold each of the calls once."""
        # Asked for together, the two would have every call looked at.
        [(low, high)] = self._ledger.run("SELECT (SELECT min(seq) FROM calls), (SELECT max(seq) FROM calls)")
        if low is None:
            return
        # PostgreSQL numbers its calls too, and keeps no chunks.
        known = {} if self._ledger.dialect.late else self._known()
        page = self._ledger.dialect.page
        for number in range((low - 1) // page, (high - 1) // page + 1):
            chunk = known.get(number)
            if chunk is not None and self._outside(chunk):
                continue
            found = None if chunk is None else self._kept(number, chunk)
            if found is None:
                found = self._of(self._rows(number * page + 1, (number + 1) * page))
            if found is not None:
                yield found

    def _known(self) -> dict[int, _Chunk]:
        tables = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'usage_sums'"
        if not self._ledger.run(tables):  # an older LLM Master's
            return {}
        rows = self._ledger.run("SELECT chunk, calls, first_ts, last_ts FROM usage_chunks")
        return {number: _Chunk(calls, first, last) for number, calls, first, last in rows if calls}

    def _outside(self, chunk: _Chunk) -> bool:
        since, until = self._chosen.since, self._chosen.until
        return (since is not None and chunk.last < since) or (until is not None and chunk.first >= until)

    def _inside(self, chunk: _Chunk) -> bool:
        since, until = self._chosen.since, self._chosen.until
        return (since is None or chunk.first >= since) and (until is None or chunk.last < until)

    # -- what is kept -------------------------------------------------------------------------------------------------

    def _kept(self, number: int, chunk: _Chunk) -> _Piece | None:
        """What a chunk adds up to, without its calls; None when that cannot be said."""
        total = None
        if not self._patterns and self._inside(chunk):
            total = summary_of(self._data(number, TOTAL), chunk.calls)
            if total is not None and total.calls != [chunk.calls]:
                total = None
        found = self._summed(number, chunk, total) if total is not None else None
        if found is not None:
            self._extend(chunk.first, chunk.last)
        else:
            columns = columns_of(self._data(number, COLUMNS), chunk.calls)
            if columns is None:
                return None
            found = self._of(columns, total)
        self.summarised += chunk.calls
        return found

    def _summed(self, number: int, chunk: _Chunk, total: Summary) -> _Piece | None:
        if len(self._by) != 1:
            return None if self._by else (total, None)
        [name] = self._by
        groups = summary_of(self._data(number, "slot" if name == "day" else name), chunk.calls)
        labels = None if groups is None else self._days(groups.labels, SLOT) if name == "day" else groups.labels
        if groups is None or labels is None:
            return None
        return total, msgspec.structs.replace(groups if groups.calls else total, labels=[(each,) for each in labels])

    def _data(self, number: int, name: str) -> bytes | None:
        rows = self._ledger.run("SELECT data FROM usage_sums WHERE chunk = ? AND name = ?", (number, name))
        return rows[0][0] if rows else None

    def _days(self, slots: Iterable[int], unit: int) -> list[str] | None:
        try:
            return self._zone.days_of(slots, unit)
        except (OverflowError, ValueError, TypeError) as error:
            raise Malformed(f"ts: {error}") from error

    # -- calls --------------------------------------------------------------------------------------------------------

    def _rows(self, low: int, high: int) -> Columns:
        dialect = self._ledger.dialect
        where, values = f"seq BETWEEN {dialect.mark} AND {dialect.mark}", [low, high]
        for bound, sign in ((self._chosen.since, ">="), (self._chosen.until, "<")):
            if bound is not None:
                where = f"{where} AND ts {sign} {dialect.mark}"
                values.append(bound)
        return read(self._ledger.run, dialect, where, values, self._needed)

    def _of(self, columns: Columns, total: Summary | None = None) -> _Piece | None:
        """Those of some calls that are chosen, added up; None without any. ``total`` is of all that are, if known."""
        keep = self._chosen_of(columns)
        if not (columns.count if keep is None else keep):
            return None
        times = columns.numbers["ts"]
        times = times if keep is None else [times[place] for place in keep]
        self._extend(min(times), max(times))
        if not self._by:
            return total or columns.groups(grouped(columns, (), keep=keep)), None
        groups = columns.groups(grouped(columns, self._by, keep=keep, days=self._days))
        if total is None:
            # All groups together are the calls, but where a call is in one for each of its tags.
            total = columns.groups(grouped(columns, (), keep=keep)) if "tag" in self._by else groups
        return total, groups

    def _chosen_of(self, columns: Columns) -> list[int] | None:
        """The places of the calls that are chosen; None is all of them."""
        keep: list[int] | None = None
        since, until = self._chosen.since, self._chosen.until
        if since is not None or until is not None:
            low = -(1 << 64) if since is None else since
            high = 1 << 64 if until is None else until
            keep = [place for place, ts in enumerate(columns.numbers["ts"]) if low <= ts < high]
        for name, fits in self._patterns.items():
            held = [_fit(columns.texts[each], fits, tags=name == "tag") for each in _HELD_AGAINST[name]]
            good = held[0] if len(held) == 1 else [one or other for one, other in zip(*held, strict=True)]
            keep = list(compress(range(columns.count), good)) if keep is None else [at for at in keep if good[at]]
        return keep

    def _extend(self, first: int, last: int) -> None:
        self.first = first if self.first is None else min(first, self.first)
        self.last = last if self.last is None else max(last, self.last)


_Fits = Callable[[str], object]


def _fitting(patterns: Sequence[str]) -> _Fits:
    # * and ? as in a shell, in any case; whatever else stands there stands for itself.
    special = {"*": ".*", "?": "."}
    texts = ["".join(special.get(c) or re.escape(c) for c in each) for each in patterns]
    return re.compile("|".join(texts), re.IGNORECASE | re.DOTALL).fullmatch


def _fit(texts: Texts, fits: _Fits, *, tags: bool) -> list[bool]:
    """Of each call whether its name fits, or one of its tags does."""
    try:
        good = [
            any(map(fits, tags_of(value or ""))) if tags else value is not None and bool(fits(value))
            for value in texts.values
        ]
    except (msgspec.MsgspecError, TypeError) as error:
        raise Malformed(f"tags: {error}") from error
    return [good[code] for code in texts.codes]
