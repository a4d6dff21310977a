"""
Exact percentiles by nearest rank: of n sorted values, the percentile p is the one at place ceil(p / 100 * n), from 1.

So a percentile is always a latency that some call had, and equals PostgreSQL's ``percentile_disc``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import chain
from math import isqrt

from llm_master.ledger.summary import numbers

__all__ = ["PERCENTS", "ranks_of"]

PERCENTS = (50, 95, 99)

# Below it sorting is as fast as anything else; and where the pieces are so short on the average.
_FEW, _SHORT = 4_096, 48
_SAMPLE = 4_096


def ranks_of(pieces: Sequence[tuple[str, memoryview]]) -> tuple[int, ...] | None:
    """
    The values at ``PERCENTS``, and how many values there are; None of none.

    Args:
        pieces: packed numbers, sorted within each piece, with the type of ``array`` that they have.
    """
    size = sum(len(data) // (4 if width == "I" else 8) for width, data in pieces)
    if not size:
        return None
    ranks = [-(-percent * size // 100) for percent in PERCENTS]
    found = None
    if size > max(_FEW, _SHORT * len(pieces)):
        found = _by_sample([numbers(data, width) for width, data in pieces], size, ranks)
    if found is None:
        ordered = sorted(_flat(pieces))
        found = [ordered[rank - 1] for rank in ranks]
    return (*found, size)


def _flat(pieces: Iterable[tuple[str, memoryview]]) -> list[int]:
    by_width: dict[str, list[memoryview]] = {}
    for width, data in pieces:
        by_width.setdefault(width, []).append(data)
    return list(chain.from_iterable(numbers(b"".join(data), width).tolist() for width, data in by_width.items()))


def _by_sample(pieces: Sequence[array[int]], size: int, ranks: Sequence[int]) -> list[int] | None:
    """
    The same without sorting everything: a sample says between which values a rank lies, and those are sorted.

    None when a rank lies outside after all; what is returned is exact, whatever the sample was.
    """
    step = max(1, size // _SAMPLE)
    # Each piece begins elsewhere within a step, so that short pieces do not all give their middle.
    sample = sorted(chain.from_iterable(each[at * 7 % step :: step] for at, each in enumerate(pieces)))
    # A piece errs by half a step at most, many of them by the root of their number.
    margin = min(2 * isqrt(len(sample)), isqrt(2 * len(pieces))) + 4
    found = []
    for rank in ranks:
        place = rank * len(sample) // size
        low, high = sample[max(0, place - margin)], sample[min(len(sample) - 1, place + margin)]
        window: list[int] = []
        before = 0
        for each in pieces:
            start = bisect_left(each, low)
            before += start
            window += each[start : bisect_right(each, high, start)]
        # Below the smallest and above the largest of the sample there may be more.
        if not before < rank <= before + len(window):
            return None
        window.sort()
        found.append(window[rank - before - 1])
    return found
