"""
What the ledger keeps of a price is the price: whole picodollars, rounded once.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_master import Usage
from llm_master.classes import ModelConfig
from llm_master.money import pico, usd
from llm_master.pricing import Pricer

WIDE = Context(prec=100, rounding=ROUND_HALF_EVEN)
COUNT = st.integers(0, 2_000_000)
MODELS = [
    ("openai", "gpt-4o-mini"),
    ("openai", "o3"),
    ("anthropic", "claude-sonnet-4-5"),
    ("gemini", "gemini-2.5-pro"),
    ("deepseek", "deepseek-chat"),
    ("local", "local"),
    ("openai", "a-model-that-nobody-prices"),
]


@given(st.integers(-(10**40), 10**40))
def test_grains_become_picodollars_as_decimals_do(count: int) -> None:
    exact = WIDE.scaleb(usd(count), 12) if count >= 0 else -WIDE.scaleb(usd(-count), 12)
    assert pico(count) == int(WIDE.to_integral_value(exact))


@pytest.mark.parametrize(("count", "found"), [(5 * 10**11, 0), (15 * 10**11, 2), (5 * 10**11 + 1, 1), (0, 0)])
def test_a_half_goes_to_the_even_one(count: int, found: int) -> None:
    assert pico(count) == found


@pytest.mark.parametrize(("provider", "model"), MODELS)
@settings(deadline=None)  # the first price reads the data
@given(usage=st.builds(Usage, COUNT, COUNT, cached_tokens=COUNT, cache_write_tokens=COUNT, reasoning_tokens=COUNT))
def test_the_ledger_keeps_the_cost_that_the_response_shows(provider: str, model: str, usage: Usage) -> None:
    pricer = Pricer(model, provider, model, 1_790_000_000.0, free=provider == "local")
    shown, kept = pricer.details(usage), pricer.picodollars(usage)
    assert (shown is None) is (kept is None)
    if shown is not None and kept is not None:
        whole = int(WIDE.to_integral_value(WIDE.scaleb(shown.total, 12)))
        assert kept == (whole, shown.complete, shown.source, shown.as_of)


def test_own_prices_are_kept_so_too() -> None:
    entry = ModelConfig(input_price_per_million=0.123456, output_price_per_million=1)
    pricer = Pricer("m", "openai", "m", 0.0, entry=entry)
    assert pricer.picodollars(Usage(7, 3)) == (3_864_192, True, "own price", None)
    assert pricer(Usage(7, 3)) == Decimal("0.000003864192")
