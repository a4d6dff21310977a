"""
Calls added up by one thing that they have in common: sums, and every latency.

A summary loses nothing that a report shows. Those of a full chunk of calls are kept (``ledger/chunks.py``), and those
of different calls can be put together.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Any

import msgspec

from llm_master.ledger.rows import CALL_COLUMNS, TOKENS

__all__ = ["KINDS", "SUMS", "Dialect", "Malformed", "Summary", "numbers", "packed", "summarised", "width_of"]

#: The kinds of tokens of a call, by their columns and by the fields of ``Usage``.
KINDS = tuple(name for name in TOKENS if name in CALL_COLUMNS)

#: What is added up of each call, beside the calls themselves, as SQL. An answer that broke off half-way failed, one
#: whose caller went away did not; the cost is the sum of what is known.
SUMS: dict[str, str] = {
    "errors": "CASE WHEN outcome IN ('error', 'interrupted') THEN 1 ELSE 0 END",
    "cancelled": "CASE WHEN outcome = 'cancelled' THEN 1 ELSE 0 END",
    "unpriced": "CASE WHEN cost IS NULL THEN 1 ELSE 0 END",
    "incomplete": "CASE WHEN cost IS NOT NULL AND cost_complete = 0 THEN 1 ELSE 0 END",
    **{name: name for name in ("attempts", "fallback", "cached", *KINDS)},
    **{name: name for name in ("usage_estimated", "bytes_sent", "bytes_received")},
    "cost": "coalesce(cost, 0)",
}

_WIDTHS = (("B", 1 << 8), ("H", 1 << 16), ("I", 1 << 32))


class Malformed(Exception):  # a signal between two functions, never seen by a user
    """A row does not hold what its column says."""


class Dialect(msgspec.Struct, frozen=True):
    """
    What SQLite and PostgreSQL say differently.

    Args:
        mark: the place of a value.
        listed: all values of a column as one JSON text, in the same order for every column of a statement.
        like: the comparison with a pattern that does not heed case.
        bytewise: what makes a text compare by its bytes.
        typed: whether a column takes nothing but values of its type.
        late: how many numbers of ``seq`` may come to light after a larger one.
        page: how many numbers of ``seq`` are read at once.
    """

    mark: str
    listed: str
    like: str
    bytewise: str
    typed: bool
    late: int
    page: int


class Summary(msgspec.Struct, array_like=True, gc=False):
    """
    Groups of calls, column by column.

    Args:
        labels: what the calls of each group have in common.
        calls: how many each group has.
        sums: of each of ``SUMS`` a number a group, or nothing at all where every number is 0.
        width: how many bytes a latency has, as ``array`` names it.
        latencies: microseconds, as ``numbers`` reads them: those of the first group, sorted, then of the next ...
        answered: how many calls of each group have a first token.
        first_tokens: the same as ``latencies`` of those.
    """

    labels: list[Any]
    calls: list[int]
    sums: list[list[int]]
    width: str
    latencies: memoryview
    answered: list[int]
    first_tokens: memoryview


def width_of(least: int, most: int) -> str:
    """The narrowest type of ``array`` that holds both."""
    if least < 0:
        return "q"
    return next((code for code, end in _WIDTHS if most < end), "q")


def numbers(data: bytes | memoryview, width: str) -> array[int]:
    """Packed numbers, or several pieces of them one behind the other."""
    found = array(width)
    found.frombytes(data)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def packed(values: Sequence[int], width: str) -> memoryview:
    """Numbers as ``numbers`` reads them; raises OverflowError for one of more than 64 bits."""
    made = values if isinstance(values, array) and values.typecode == width else array(width, values)
    if sys.byteorder == "big":
        made = array(width, made)
        made.byteswap()
    return memoryview(made.tobytes())


def summarised(
    labels: list[Any], sums: list[list[int]], latencies: Sequence[list[int]], first_tokens: Sequence[list[int]]
) -> Summary:
    """A summary of groups, their numbers in sorted lists; raises OverflowError for one of more than 64 bits."""
    ends = [value for each in (*latencies, *first_tokens) if each for value in (each[0], each[-1])]
    # One byte or two would be of use to nobody: four are 71 minutes.
    width = "I" if width_of(min(ends, default=0), max(ends, default=0)) != "q" else "q"
    flat: list[array[int]] = []
    for lists in (latencies, first_tokens):
        made = array(width)
        for each in lists:
            made.extend(each)
        flat.append(made)
    return Summary(
        labels,
        list(map(len, latencies)),
        sums,
        width,
        packed(flat[0], width),
        list(map(len, first_tokens)),
        packed(flat[1], width),
    )
