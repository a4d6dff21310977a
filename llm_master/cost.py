"""
What was spent, and how well it is known.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from llm_master.money import EXACT

__all__ = ["Cost"]


class Cost(msgspec.Struct, frozen=True):
    """
    What was spent, in USD.

    Attributes:
        total: all of it; exact, or rounded to 10**-24 USD where a price is not for a whole token or thing.
        input, output, items: its parts: tokens read, tokens written, and what is billed by the piece (searches,
            images, seconds, the request itself). None where only the total is known.
        complete: whether all that was used has a known price; where not, ``missing`` names what has none.
        source: ``reported by NAME``, ``own price``, ``genai-prices VERSION``, ``llm_master catalogue``, ``free``.
        as_of: the day of the price data, ``2026-11-21``; None for own prices.
        estimated: whether the usage is estimated because the provider did not tell all of it.
    """

    total: Decimal
    input: Decimal | None
    output: Decimal | None
    items: Decimal | None
    complete: bool
    source: str
    as_of: str | None
    missing: tuple[str, ...] = ()
    estimated: bool = False

    def __add__(self, other: Cost) -> Cost:
        """Both together, as of a call whose attempts had prices of their own."""
        return Cost(
            total=EXACT.add(self.total, other.total),
            input=_sum(self.input, other.input),
            output=_sum(self.output, other.output),
            items=_sum(self.items, other.items),
            complete=self.complete and other.complete,
            source="; ".join(dict.fromkeys((*self.source.split("; "), *other.source.split("; ")))),
            as_of=min((day for day in (self.as_of, other.as_of) if day is not None), default=None),
            missing=tuple(dict.fromkeys((*self.missing, *other.missing))),
            estimated=self.estimated or other.estimated,
        )


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else EXACT.add(one, other)
