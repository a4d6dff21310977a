"""
The list prices of the makers, as they were read on 2026-11-21, the table of our own, and any numbers at all.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_master import Usage
from llm_master.base_provider import UnifiedProvider
from llm_master.catalogue import load_prices
from llm_master.prices.package import from_package
from llm_master.prices.rules import rules
from llm_master.prices.sheets import parse
from llm_master.pricing import cost_of, upper_bound

MILLION = Decimal(1_000_000)
OFF_PEAK = datetime(2026, 11, 18, 12, tzinfo=UTC)

# provider, model -> USD a million of input, output, cache reads, writes, writes for an hour; None: not listed.
LIST: dict[tuple[str, str], tuple[str | None, ...]] = {
    ("openai", "gpt-6-astra"): ("10", "50", "1", "12.5", None),
    ("openai", "gpt-6.1-sol"): ("2", "10", "0.1", "2.5", None),
    ("openai", "gpt-6.1-terra"): ("1", "5", "0.05", "1.25", None),
    ("openai", "gpt-6-sol"): ("2", "10", "0.2", None, None),
    ("openai", "gpt-6-luna"): ("0.1", "0.5", "0.01", None, None),
    ("openai", "gpt-5.6-sol"): ("4", "20", "0.4", "5", None),
    ("openai", "gpt-5.5"): ("5", "30", "0.5", None, None),
    ("openai", "o3"): ("2", "8", "0.5", None, None),
    ("openai", "gpt-4o"): ("2.5", "10", "1.25", None, None),
    ("openai", "text-embedding-3-small"): ("0.02", None, None, None, None),
    ("anthropic", "claude-fable-5-2"): ("8", "40", "0.2", "10", "16"),
    ("anthropic", "claude-mythos-5-2"): ("8", "40", "0.2", "10", "16"),
    ("anthropic", "claude-opus-5-5"): ("4", "20", "0.2", "5", "8"),
    ("anthropic", "claude-sonnet-5-5"): ("2", "10", "0.1", "2.5", "4"),
    ("anthropic", "claude-haiku-5-5"): ("0.1", "0.5", "0.01", None, None),
    ("anthropic", "claude-sonnet-4-5"): ("3", "15", None, None, None),
    ("gemini", "gemini-4-argon"): ("2", "10", "0.1", None, None),
    ("gemini", "gemini-3.8-flash"): ("0.75", "3.75", "0.075", None, None),
    ("gemini", "gemini-3.1-pro-preview"): ("2", "12", "0.2", None, None),
    ("gemini", "gemini-2.5-flash"): ("0.3", "2.5", None, None, None),
    ("xai", "grok-4.7"): ("2", "6", "0.5", None, None),
    ("deepseek", "deepseek-flash"): ("0.15", "0.6", "0.003", None, None),
    ("deepseek", "deepseek-v4-pro"): ("0.66", "1.98", "0.022", None, None),
    ("mistral", "mistral-large-4"): ("0.7", "2.1", "0.07", None, None),
    ("moonshot", "kimi-k3.1-pro"): ("2", "10", "0.2", "2", "4"),
    ("zai", "glm-5.3"): ("1.4", "4.4", "0.26", None, None),
    ("zai", "glm-5.3-flash"): ("0.15", "0.5", None, None, None),
    ("minimax", "MiniMax-M3.1-Flash"): ("0.15", "0.6", None, None, None),
    ("meta", "muse-wonder-1.0"): ("4", "20", None, None, None),
    ("groq", "openai/gpt-oss-120b"): ("0.15", "0.6", "0.075", None, None),
    ("perplexity", "perplexity/sonar"): ("0.25", "2.5", "0.0625", None, None),
    ("cohere", "command-a-03-2025"): ("2.5", "10", None, None, None),
}
_ONE_KIND = (
    Usage(1_000, 0),
    Usage(0, 1_000),
    Usage(1_000, 0, cached_tokens=1_000),
    Usage(1_000, 0, cache_write_tokens=1_000),
    Usage(1_000, 0, cache_write_tokens=1_000, cache_write_1h_tokens=1_000),
)


@pytest.mark.parametrize(("provider", "model"), list(LIST))
def test_list_prices(provider: str, model: str) -> None:
    for usage, listed in zip(_ONE_KIND, LIST[provider, model], strict=True):
        if listed is None:
            continue
        found = cost_of(usage, model, provider=provider, at=OFF_PEAK)
        assert found is not None
        assert (found.total, found.complete) == (1_000 * Decimal(listed) / MILLION, True)


# -- the published file ----------------------------------------------------------------------------------------------


def test_the_published_file_says_the_same_as_the_package() -> None:
    # The package's data written as it is published gives the same prices back.
    raw = [
        {
            "id": "openai",
            "name": "OpenAI",
            "extractors": [{"root": "usage"}],
            "models": [
                {
                    "id": "gpt-9",
                    "match": {"or": [{"equals": "gpt-9"}, {"regex": "^gpt-9-\\d{4}$"}]},
                    "prices": [
                        {
                            "prices": {
                                "input_mtok": 0.1,
                                "output_mtok": {"base": 1, "tiers": [{"start": 5, "price": 2}]},
                            }
                        },
                        {"constraint": {"start_date": "2026-01-01"}, "prices": {"input_mtok": 0.2}},
                        {
                            "constraint": {"start_time": "01:00:00Z", "end_time": "02:00:00Z"},
                            "prices": {"input_mtok": 9},
                        },
                    ],
                    "price_variants": [{"when": {"service_tier": "flex"}, "prices": {"input_mtok": 0.05}}],
                }
            ],
        }
    ]
    model = parse(json.dumps(raw).encode())["openai"].models[0]
    first, second, third = model.periods()
    assert first.prices["input_mtok"] == Decimal("0.1"), "the decimal that is written, not the nearest float"
    assert second.constraint is not None
    assert second.constraint.start_date is not None
    assert third.constraint is not None
    assert third.constraint.start_time == "01:00:00Z"
    assert model.price_variants[0].when == {"service_tier": "flex"}
    with pytest.raises(ValueError, match="openai/gpt-9 has a price that is no amount of money"):
        parse(json.dumps(raw).replace("0.05", "-0.05").encode())


def test_all_sheets_survive_being_published() -> None:
    sheets, version = from_package()
    published = msgspec.json.Encoder(decimal_format="number").encode(list(sheets.values()))
    assert parse(published) == sheets
    assert version == "0.2.3"


# -- the table of our own --------------------------------------------------------------------------------------------


def test_every_row_names_its_source_and_nothing_unknown() -> None:
    own = rules()
    known = set(UnifiedProvider.PROVIDER_CONFIGS)
    rows = [*own.tiers, *own.regions, *own.long_writes, *own.extras, *own.peaks]
    for row in rows:
        assert row.source in own.sources
        assert set(row.providers) <= known
    for provider, models in own.models.items():
        assert provider in known
        for name, listed in models.items():
            assert listed.source in own.sources, name
            assert bool(listed.prices) != listed.free
            assert all(price > 0 for price in listed.prices.values())
            assert name == name.lower()
    for source in own.sources.values():
        assert source.source
        assert source.checked <= datetime.now(UTC).date()
    used = {row.source for row in rows} | {each.source for models in own.models.values() for each in models.values()}
    assert set(own.sources) - used <= {"sheets", "openrouter_free"}
    assert {*own.sheet_ids, *own.unasked, *own.routes, *own.free, *own.suffixed} <= known
    # A typing error in a field is an error, not a row that does nothing.
    for data in load_prices():
        assert set(json.loads(data)) <= set(own.__struct_fields__)


# -- whatever the numbers --------------------------------------------------------------------------------------------

_COUNT = st.integers(0, 2_000_000)
_ANY = st.integers(-5, 10**7)
_PRICED = [(provider, model) for provider, model in LIST if (provider, model) != ("openai", "text-embedding-3-small")]


@st.composite
def splits(draw: st.DrawFn) -> Usage:
    """A usage whose parts fit."""
    whole, made = draw(_COUNT), draw(_COUNT)
    cached = draw(st.integers(0, whole))
    written = draw(st.integers(0, whole - cached))
    audio = draw(st.integers(0, whole))
    image = draw(st.integers(0, whole - audio))
    return Usage(
        whole,
        made,
        cached,
        written,
        draw(st.integers(0, written)),
        draw(st.integers(0, made)),
        audio,
        0,
        image,
        draw(st.integers(0, made)),
    )


@settings(max_examples=150, deadline=None)
@given(usage=splits(), which=st.sampled_from(_PRICED), days=st.integers(-200, 400), geo=st.sampled_from([None, "us"]))
def test_no_split_costs_more_than_the_bound(usage: Usage, which: tuple[str, str], days: int, geo: str | None) -> None:
    provider, model = which
    at = OFF_PEAK + timedelta(days=days, hours=days % 24)
    most = upper_bound(
        model, provider=provider, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, at=at
    )
    assert most is not None
    for tier in (None, "default", "flex", "priority") if provider == "openai" else (None, "standard"):
        found = cost_of(usage, model, provider=provider, at=at, service_tier=tier, geo=geo)
        if found is not None:
            assert 0 <= found.total <= most + (found.items or 0)
            assert found.total == (found.input or 0) + (found.output or 0) + (found.items or 0)


@settings(max_examples=150, deadline=None)
@given(values=st.lists(_ANY, min_size=11, max_size=11), which=st.sampled_from(_PRICED))
def test_a_cost_is_never_negative_whatever_is_reported(values: list[int], which: tuple[str, str]) -> None:
    values[10] = abs(values[10])
    found = cost_of(Usage(*values), which[1], provider=which[0], at=OFF_PEAK)
    if found is not None:
        parts = (found.input, found.output, found.items, found.total)
        assert all(part is not None and part >= 0 for part in parts)
        assert found.total > 0 or found.complete


@settings(max_examples=100, deadline=None)
@given(one=splits(), two=splits(), which=st.sampled_from(_PRICED))
def test_two_requests_under_the_threshold_cost_the_sum(one: Usage, two: Usage, which: tuple[str, str]) -> None:
    for usage in (one, two):
        for name in usage.__struct_fields__[:11]:
            setattr(usage, name, getattr(usage, name) // 50)
        usage.cache_write_tokens = min(usage.cache_write_tokens, usage.input_tokens - usage.cached_tokens)
        usage.cache_write_1h_tokens = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
        usage.input_audio_tokens = usage.input_image_tokens = 0
    found = [cost_of(each, which[1], provider=which[0], at=OFF_PEAK) for each in (one, two, one + two)]
    if None in found:
        return
    first, second, both = (each.total for each in found if each is not None)
    assert first + second == both
