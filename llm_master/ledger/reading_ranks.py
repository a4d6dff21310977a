"""
Exact percentiles by nearest rank: of n sorted values, the percentile p is the one at place ceil(p / 100 * n), from 1.

So a percentile is always a latency that some call had, and equals PostgreSQL's ``percentile_disc``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

from llm_master.ledger.summary import numbers

__all__ = ["PERCENTS", "nearest_ranks", "ranks_of"]

PERCENTS = (50, 95, 99)

# Below it sorting is as fast as anything else.
_FEW = 20_000
_SAMPLE = 8_192


def nearest_ranks(values: Sequence[int]) -> tuple[int, ...] | None:
    """The values at ``PERCENTS``; None of none. The order of the values does not matter."""
    if not values:
        return None
    size = len(values)
    ranks = [-(-percent * size // 100) for percent in PERCENTS]
    found = _by_sample(values, ranks) if size > _FEW else None
    if found is None:
        ordered = sorted(values)
        found = tuple(ordered[rank - 1] for rank in ranks)
    return found


def ranks_of(pieces: Sequence[tuple[str, memoryview]]) -> tuple[int, ...] | None:
    """
    The values at ``PERCENTS`` and how many values there are; None of none.

    Args:
        pieces: packed numbers, sorted in each piece, with the type of ``array`` that they have.
    """
    values: list[int] = []
    for width in ("I", "q"):
        if data := [piece for code, piece in pieces if code == width]:
            values += numbers(b"".join(data), width).tolist()
    found = nearest_ranks(values)
    return None if found is None else (*found, len(values))


def _by_sample(values: Sequence[int], ranks: Sequence[int]) -> tuple[int, ...] | None:
    """
    The same without sorting everything: a sample says between which values a rank lies, and those are sorted.

    None when a rank lies outside after all; what is returned is exact, whatever the sample was.
    """
    size = len(values)
    sample = sorted(values[:: max(1, size // _SAMPLE)])
    margin = 3 * isqrt(len(sample)) // 2 + 8
    middle, *upper = ranks

    def at(rank: int, shift: int) -> int:
        return sample[min(len(sample) - 1, max(0, rank * len(sample) // size + shift))]

    low, high, tail = at(middle, -margin), at(middle, margin), at(upper[0], -margin)
    above = [value for value in values if value >= low]
    window = sorted(value for value in above if value <= high)
    top = sorted(value for value in above if value >= tail)
    place = middle - (size - len(above)) - 1
    if not 0 <= place < len(window) or len(top) < size - upper[0] + 1:
        return None
    return (window[place], *(top[len(top) - (size - rank) - 1] for rank in upper))
