"""
Calls added up by who was asked, for whom and on which day: sums, and every latency.

One statement makes the groups of a range of calls, in SQLite and in PostgreSQL. The groups lose nothing that a report
shows, so those of a full chunk can be kept (``ledger/chunks.py``) and those of different ranges put together.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from llm_master.ledger.rows import CALL_COLUMNS, TOKENS

__all__ = [
    "CONDITIONAL",
    "DAY",
    "KEY",
    "KINDS",
    "SUMMED",
    "SUMS",
    "Dialect",
    "Group",
    "Malformed",
    "Overflow",
    "Summary",
    "numbers",
    "packed",
    "summarise",
]

#: Microseconds of a day.
DAY = 86_400_000_000

#: What a group has in common, beside the day.
KEY = ("kind", "provider", "model", "model_asked", "deployment", "key_id")

#: The kinds of tokens of a call, by their columns and by the fields of ``Usage``.
KINDS = tuple(name for name in TOKENS if name in CALL_COLUMNS)

#: Columns whose sum a group holds; the cost is the sum of what is known.
SUMMED = ("attempts", "fallback", "cached", *KINDS, "usage_estimated", "bytes_sent", "bytes_received", "cost")

#: Counts of calls that are so; an answer that broke off half-way failed, one whose caller went away did not.
CONDITIONAL = {
    "calls": "1 = 1",
    "errors": "outcome IN ('error', 'interrupted')",
    "cancelled": "outcome = 'cancelled'",
    "unpriced": "cost IS NULL",
    "incomplete": "cost IS NOT NULL AND cost_complete = 0",
}

#: The order of ``Group.sums``.
SUMS = (*CONDITIONAL, *SUMMED)

_NARROW, _WIDE = "I", "q"  # four bytes are 71 minutes
# Days are counted from this one, so that whole-number division, which cuts towards 0, never meets a negative number.
_FIRST_DAY = -1_000_000


class Overflow(Exception):  # a signal between two functions, never seen by a user
    """A sum does not fit the database's integers."""


class Malformed(Exception):  # same
    """A row does not hold what its column says."""


class Dialect(msgspec.Struct, frozen=True):
    """
    What SQLite and PostgreSQL say differently.

    Args:
        mark: the place of a value.
        joined: all values of a column as one text with commas.
        like: the comparison with a pattern that does not heed case.
        bytewise: what makes a text compare by its bytes.
        overflows: whether a sum of integers can be too large.
        late: how many numbers of ``seq`` may come to light after a larger one.
    """

    mark: str
    joined: str
    like: str
    bytewise: str
    overflows: bool
    late: int


class Group(msgspec.Struct, array_like=True, gc=False):
    """
    Calls that have ``KEY`` (and ``tags``, the column's text, when asked for) and the day in common.

    ``sums`` are those of ``SUMS``. ``latencies`` and ``first_tokens`` are microseconds, sorted, as ``numbers`` reads
    them; a call without a first token has none.
    """

    kind: str
    provider: str | None
    model: str | None
    model_asked: str
    deployment: str | None
    key_id: str | None
    tags: str | None
    first_ts: int
    last_ts: int
    sums: tuple[int, ...]
    latencies: memoryview
    first_tokens: memoryview


class Summary(msgspec.Struct, array_like=True, gc=False):
    """Groups, and the width of their numbers: wide ones have eight bytes instead of four."""

    wide: bool
    groups: list[Group]


def numbers(data: bytes | memoryview, *, wide: bool) -> array[int]:
    """The numbers in ``Group.latencies``, or in several of them one behind the other."""
    found = array(_WIDE if wide else _NARROW)
    found.frombytes(data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def packed(values: Sequence[int], *, wide: bool) -> memoryview:
    """Numbers as ``numbers`` reads them; they are sorted first."""
    made = array(_WIDE if wide else _NARROW, sorted(values))
    if sys.byteorder == "big":
        made.byteswap()
    return memoryview(made.tobytes())


def summarise(
    run: Callable[[str, Sequence[Any]], Sequence[Sequence[Any]]],
    dialect: Dialect,
    where: str,
    values: Sequence[Any],
    *,
    tagged: bool,
    unit: int = DAY,
) -> Summary:
    """
    The groups of the calls for which a condition holds.

    Args:
        run: runs a statement and gives its rows.
        where: the condition, with the dialect's marks.
        values: what stands for the marks.
        tagged: whether calls with different tags stay apart.
        unit: microseconds within which the calls of a group began, in steps from the epoch.

    Raises:
        Malformed: a row holds what its column does not allow.
        Overflow: only where the dialect's sums can overflow beyond what two halves hold.
    """
    try:
        return _groups(run(_statement(dialect, where, tagged=tagged, unit=unit, halves=False), values), halves=False)
    except Overflow:
        return _groups(run(_statement(dialect, where, tagged=tagged, unit=unit, halves=True), values), halves=True)


def _statement(dialect: Dialect, where: str, *, tagged: bool, unit: int, halves: bool) -> str:
    shift = -_FIRST_DAY * (DAY // unit)
    by = [f"(ts + {shift * unit}) / {unit}", *KEY, *(["tags"] if tagged else [])]
    counts = [f"count(CASE WHEN {condition} THEN 1 END)" for condition in CONDITIONAL.values()]
    if halves:  # the upper half is signed and the lower one is not: upper * 2**32 + lower is the number
        sums = [f"sum({name} >> 32), sum({name} & 4294967295)" for name in SUMMED]
    else:
        sums = [f"sum({name})" for name in SUMMED]
    joined = [dialect.joined.format(name) for name in ("latency_us", "ttft_us")]
    chosen = [*KEY, "tags" if tagged else "NULL", "min(ts)", "max(ts)", *joined, *counts, *sums]
    # Only names of our own columns stand in it; the condition is ours as well.
    return (
        f"SELECT {', '.join(chosen)} FROM calls WHERE {where}"  # noqa: S608
        f" GROUP BY {', '.join(by)}"
    )


def _groups(rows: Sequence[Sequence[Any]], *, halves: bool) -> Summary:
    try:
        return _made(rows, halves=halves)
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise Malformed(str(error)) from error


def _made(rows: Sequence[Sequence[Any]], *, halves: bool) -> Summary:
    at = len(KEY) + 1
    sums_at = at + 4 + len(CONDITIONAL)
    lists = [(_parsed(row[at + 2]), _parsed(row[at + 3])) for row in rows]
    wide = any(values and not 0 <= min(values) <= max(values) < 1 << 32 for pair in lists for values in pair)
    groups = []
    for row, (latencies, first_tokens) in zip(rows, lists, strict=True):
        sums = [_whole(value) for value in row[sums_at:]]
        if halves:
            sums = [(upper << 32) + lower for upper, lower in zip(sums[::2], sums[1::2], strict=True)]
        counts = row[at + 4 : sums_at]
        if len(latencies) != counts[0]:
            raise ValueError("a call without a latency")
        groups.append(
            Group(  # type: ignore[call-arg]  # the key is as long as its fields
                *row[:at],
                _whole(row[at]),
                _whole(row[at + 1]),
                (*counts, *sums),
                packed(latencies, wide=wide),
                packed(first_tokens, wide=wide),
            )
        )
    return Summary(wide, groups)


def _parsed(text: str | None) -> list[int]:
    return list(map(int, text.split(","))) if text else []


def _whole(value: Any) -> int:
    """A sum: an int of SQLite, a Decimal of PostgreSQL, None of nothing; anything else comes of a broken row."""
    if type(value) is int:
        return value
    if value is None:
        return 0
    if isinstance(value, (float, str, bytes)):
        raise TypeError(f"{value!r} where a whole number belongs")
    return int(value)
