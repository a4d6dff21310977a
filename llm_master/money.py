"""
Exact amounts of money: sums are made in whole grains, so that no context of ``decimal`` and no float rounds them.

A grain is 10**-24 USD. A price a token has 18 digits behind the point of a dollar at most in any price list, so sums
of tokens are exact; only what is divided (a price an hour, a piece of a megapixel) is rounded, to the nearest grain.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any

__all__ = ["EXACT", "grains", "money", "pico", "usd"]

_DIGITS = 24
#: The caller's own context may round to six digits; sums of prices never see it.
EXACT = Context(prec=200, rounding=ROUND_HALF_EVEN, traps=[])
_ZERO = Decimal(0)
# No price and no count is as large; sums of what is below stay within the digits of EXACT.
_ABSURD = Decimal(10) ** 18
# Grains of a picodollar, the unit of ledgers and budgets.
_PICO = 10**12


def grains(amount: Decimal) -> int:
    """An amount in USD as whole grains, rounded half to even where it has more than 24 digits behind the point."""
    return int(EXACT.to_integral_value(EXACT.scaleb(amount, _DIGITS)))


def usd(count: int) -> Decimal:
    """Grains as USD, without zeros at the end."""
    if not count:
        return _ZERO
    found = EXACT.normalize(EXACT.scaleb(Decimal(count), -_DIGITS))
    exponent = found.as_tuple().exponent
    # 10 and not 1E+1: what is printed is money.
    return found if not isinstance(exponent, int) or exponent <= 0 else EXACT.quantize(found, Decimal(1))


def pico(count: int) -> int:
    """Grains as whole picodollars, rounded half to even."""
    whole, rest = divmod(count, _PICO)
    return whole + (2 * rest > _PICO or (2 * rest == _PICO and whole % 2 == 1))


def money(value: Any) -> Decimal | None:
    """A number as an amount of money or a count; None for what is no number, not finite, negative or absurdly large."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        # str() first: the shortest decimal that names a float is what was written.
        found = value if isinstance(value, Decimal) else Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() and 0 <= found < _ABSURD else None
