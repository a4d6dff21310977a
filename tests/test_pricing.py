"""
Each rule of a price, with its arithmetic written out: USD = tokens x price of a million / 1,000,000.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any

import pytest

from llm_master import ModelConfig, ModelRegistry, Usage
from llm_master.metering import set_model_pricing
from llm_master.pricing import Pricer, cost_of, upper_bound

MILLION = Decimal(1_000_000)
NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)  # a Wednesday


def price(tokens: int, per_million: str) -> Decimal:
    return tokens * Decimal(per_million) / MILLION


def cost(usage: Usage, model: str, **how: Any) -> Decimal:
    found = cost_of(usage, model, **{"at": NOON, **how})
    assert found is not None
    assert found.complete, found.missing
    return found.total


# -- the parts of the input ------------------------------------------------------------------------------------------


def test_every_token_of_the_input_is_priced_once() -> None:
    # 10,000 in: 1,000 read from the cache, 3,000 written for 5 minutes, 2,000 for an hour, so 4,000 plain.
    usage = Usage(10_000, 500, cached_tokens=1_000, cache_write_tokens=5_000, cache_write_1h_tokens=2_000)
    found = cost_of(usage, "claude-opus-5-5", at=NOON)
    assert found is not None
    assert found.input == price(4_000, "4") + price(1_000, "0.2") + price(3_000, "5") + price(2_000, "8")
    assert found.output == price(500, "20")
    assert (found.items, found.total) == (0, found.input + found.output)
    assert (found.complete, found.missing, found.estimated) == (True, (), False)


def test_writes_without_a_split_are_short_ones() -> None:
    assert cost(Usage(1_000, 0, cache_write_tokens=1_000), "claude-sonnet-5-5") == price(1_000, "2.5")


def test_long_writes_of_openai_cost_two_and_a_half_times_the_input() -> None:
    usage = Usage(1_000, 0, cache_write_tokens=1_000, cache_write_1h_tokens=400)
    assert cost(usage, "gpt-6.1-sol") == price(600, "2.5") + price(400, "5")


@pytest.mark.parametrize("model", ["openai/gpt-4", "openai/text-embedding-3-small"])
def test_cached_tokens_without_a_price_of_their_own_are_plain_ones(model: str) -> None:
    assert cost(Usage(1_000, 0, cached_tokens=900), model) == cost(Usage(1_000, 0), model)


def test_writes_without_a_price_of_their_own_are_plain_ones() -> None:
    assert cost(Usage(1_000, 0, cache_write_tokens=900), "gpt-4o") == price(1_000, "2.5")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(100, 0, cached_tokens=900), price(100, "1.25")),
        (Usage(100, 0, cached_tokens=60, cache_write_tokens=60), price(60, "1.25") + price(40, "2.5")),
        (Usage(100, 0, cache_write_tokens=10, cache_write_1h_tokens=30), price(100, "2.5")),
        (Usage(100, -5), price(100, "2.5")),
        (Usage(100, 0, cached_tokens=-40), price(100, "2.5")),
        (Usage(100, 0, cached_tokens=100, cache_write_tokens=-1), price(100, "1.25")),
    ],
)
def test_parts_larger_than_the_whole_are_cut_and_told(usage: Usage, expected: Decimal) -> None:
    found = cost_of(usage, "gpt-4o", at=NOON)
    assert found is not None
    assert (found.total, found.complete) == (expected, False)
    assert found.missing == ("a usage whose parts do not fit the whole",)


def test_an_impossible_usage_has_no_price() -> None:
    assert cost_of(Usage(-3, -2), "gpt-4o", at=NOON) is None


# -- the parts of the output -----------------------------------------------------------------------------------------


def test_reasoning_is_inside_the_output() -> None:
    assert cost(Usage(0, 1_000, reasoning_tokens=900), "o3") == price(1_000, "8")


def test_reasoning_with_a_price_of_its_own() -> None:
    # 2 in, 8 out, 3 for reasoning; what was cited has a price too, and nobody counts it.
    found = cost_of(Usage(1_000, 1_000, reasoning_tokens=900), "sonar-deep-research", provider="perplexity", at=NOON)
    assert found is not None
    assert found.output == price(100, "8") + price(900, "3")
    assert (found.complete, found.missing) == (False, ("citation tokens",))


def test_sound_has_its_own_price() -> None:
    usage = Usage(1_000, 100, input_audio_tokens=900)
    assert cost(usage, "openai/gpt-4o-mini-transcribe") == price(100, "1.25") + price(900, "3") + price(100, "5")
    assert cost(Usage(1_000, 0, input_audio_tokens=1_000), "gemini-2.5-flash") == price(1_000, "1")


def test_images_by_tokens() -> None:
    # 1,000 in, of which 800 are pictures; 6,000 tokens of image out.
    usage = Usage(1_000, 6_000, input_image_tokens=800, output_image_tokens=6_000)
    expected = price(200, "5") + price(800, "8") + price(6_000, "30")
    for model in ("gpt-image-2", "gpt-image-2.5-flare", "gpt-image-2.6-sunburst"):
        assert cost(usage, model, provider="openai") == expected


def test_text_and_images_of_an_output_have_two_prices() -> None:
    usage = Usage(100, 1_390, output_image_tokens=1_290)
    found = cost(usage, "gemini-2.5-flash-image", provider="gemini")
    assert found == price(100, "0.3") + price(100, "2.5") + price(1_290, "30")


def test_which_cached_tokens_were_images_is_not_known() -> None:
    # Text is taken first: 100 of text and 300 of pictures come from the cache.
    found = cost_of(
        Usage(1_000, 0, cached_tokens=400, input_image_tokens=900), "gpt-image-2", provider="openai", at=NOON
    )
    assert found is not None
    assert found.total == price(100, "1.25") + price(300, "2") + price(600, "8")
    assert found.missing == ("which of the cached tokens were sound or images",)


# -- long context ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "last", "low", "high"),
    [
        ("gpt-6.1-sol", 272_000, ("2", "10"), ("4", "15")),
        ("gemini-3.1-pro-preview", 200_000, ("2", "12"), ("4", "18")),
        ("claude-haiku-5-5", 100_000, ("0.1", "0.5"), ("0.5", "2.5")),
        # xAI's threshold belongs to the higher price.
        ("grok-4.7", 199_999, ("2", "6"), ("4", "12")),
    ],
)
def test_over_the_threshold_every_token_costs_more(
    model: str, last: int, low: tuple[str, str], high: tuple[str, str]
) -> None:
    for tokens, (of_input, of_output) in ((last, low), (last + 1, high)):
        assert cost(Usage(tokens, 1_000), model) == price(tokens, of_input) + price(1_000, of_output)


def test_cached_tokens_count_towards_the_threshold_and_take_its_price() -> None:
    usage = Usage(300_000, 0, cached_tokens=299_000)
    assert cost(usage, "gpt-6.1-sol") == price(1_000, "4") + price(299_000, "0.2")


def test_sonnet_4_6_has_no_threshold() -> None:
    assert cost(Usage(300_000, 0), "claude-sonnet-4-6") == price(300_000, "3")


# -- tiers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "how", "of_input", "of_output"),
    [
        ("gpt-6.1-sol", {"service_tier": "default"}, "2", "10"),
        ("gpt-6.1-sol", {"service_tier": "auto"}, "2", "10"),
        ("gpt-6.1-sol", {"service_tier": "flex"}, "1", "5"),
        ("gpt-6.1-sol", {"service_tier": "priority"}, "4", "20"),
        ("gpt-6.1-sol", {"service_tier": "fast"}, "4", "20"),
        ("gpt-6.1-sol", {"batch": True}, "1", "5"),
        ("gpt-6-astra", {"service_tier": "ultrafast"}, "60", "300"),
        ("claude-opus-5-5", {"speed": "fast"}, "8", "40"),
        ("claude-opus-5-5", {"service_tier": "fast"}, "8", "40"),
        ("claude-opus-5-5", {"service_tier": "standard"}, "4", "20"),
        ("claude-opus-5-5", {"service_tier": "batch"}, "2", "10"),
        ("gemini-4-argon", {"service_tier": "priority"}, "3.6", "18"),
        ("gemini-4-argon", {"service_tier": "flex"}, "1", "5"),
        ("gemini-4-argon", {"batch": True}, "1", "5"),
        ("groq/openai/gpt-oss-120b", {"service_tier": "flex"}, "0.15", "0.6"),
        ("groq/openai/gpt-oss-120b", {"service_tier": "on_demand"}, "0.15", "0.6"),
    ],
)
def test_tiers(model: str, how: dict[str, Any], of_input: str, of_output: str) -> None:
    assert cost(Usage(1_000, 200), model, **how) == price(1_000, of_input) + price(200, of_output)


def test_a_tier_stacks_with_long_context_and_cache() -> None:
    usage = Usage(300_000, 1_000, cached_tokens=100_000, cache_write_tokens=50_000)
    expected = price(150_000, "2") + price(100_000, "0.1") + price(50_000, "2.5") + price(1_000, "7.5")
    assert cost(usage, "gpt-6.1-sol", service_tier="flex") == expected
    # The factor of ultrafast on each of the prices over the threshold: 20 and 75.
    usage = Usage(300_000, 1_000)
    assert cost(usage, "gpt-6-astra", service_tier="ultrafast") == price(300_000, "120") + price(1_000, "450")


def test_a_tier_inherits_what_it_has_no_price_for() -> None:
    # Half a million of a million read from the cache: 0.5 x 2 + 0.5 x 0.4, the batch without a price of cached input.
    usage = Usage(1_000_000, 0, cached_tokens=500_000)
    assert cost(usage, "gemini-3.1-pro-preview", batch=True) == Decimal("1.2")


@pytest.mark.parametrize(
    ("model", "tier"), [("gpt-6.1-sol", "scale"), ("claude-opus-5-5", "priority"), ("mistral-large-4", "turbo")]
)
def test_a_tier_without_a_known_price_is_told(model: str, tier: str) -> None:
    found, standard = (cost_of(Usage(1_000, 10), model, service_tier=each, at=NOON) for each in (tier, None))
    assert found is not None
    assert standard is not None
    assert (found.total, found.complete) == (standard.total, False)
    assert found.missing == (f"the price of the tier {tier!r}",)


def test_a_tier_has_a_price_only_since_it_is_known() -> None:
    before = cost_of(Usage(1_000, 0), "gpt-6.1-sol", service_tier="priority", at=datetime(2026, 10, 11, tzinfo=UTC))
    assert before is not None
    assert before.missing == ("the price of the tier 'priority'",)
    # A batch costs half in any case, which the maker says.
    day = datetime(2026, 10, 1, tzinfo=UTC)
    assert cost(Usage(1_000, 0), "gpt-6.1-sol", batch=True, at=day) == price(1_000, "1")


# -- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "moment", "of_input", "of_output"),
    [
        ("gpt-5.6-sol", "2026-08-20T23:59:59+00:00", "5", "30"),
        ("gpt-5.6-sol", "2026-08-21T00:00:00+00:00", "4", "20"),
        ("gpt-5.6-sol", "2026-08-21T01:00:00+02:00", "5", "30"),
        ("mistral-large-4", "2026-10-19T00:00:00+00:00", "0.68", "2.09"),
        ("mistral-large-4", "2026-10-20T00:00:00+00:00", "1.36", "4.18"),
        ("mistral-large-4", "2026-10-29T00:00:00+00:00", "0.7", "2.1"),
        ("gemini-4-argon", "2026-11-30T23:59:59+00:00", "2", "10"),
        ("gemini-4-argon", "2026-12-01T00:00:00+00:00", "4", "20"),
        ("gemini-3.8-flash", "2026-12-31T12:00:00+00:00", "0.75", "3.75"),
        ("gemini-3.8-flash", "2027-01-01T00:00:00+00:00", "1.5", "7.5"),
    ],
)
def test_dated_prices(model: str, moment: str, of_input: str, of_output: str) -> None:
    expected = price(1_000, of_input) + price(200, of_output)
    at = datetime.fromisoformat(moment)
    assert cost(Usage(1_000, 200), model, at=at) == expected
    assert cost(Usage(1_000, 200), model, at=at.timestamp()) == expected
    assert cost(Usage(1_000, 200), model, at=at.astimezone(UTC).replace(tzinfo=None)) == expected


@pytest.mark.parametrize(
    ("moment", "of_input"),
    [
        ("2026-11-18T00:59:59", "0.66"),
        ("2026-11-18T01:00:00", "1.32"),  # Wednesday, 9:00 in Beijing
        ("2026-11-18T03:59:59", "1.32"),
        ("2026-11-18T04:00:00", "0.66"),
        ("2026-11-18T06:00:00", "1.32"),
        ("2026-11-18T10:00:00", "0.66"),
        ("2026-11-21T02:00:00", "0.66"),  # Saturday
        ("2026-11-22T07:00:00", "0.66"),  # Sunday
        ("2026-11-23T07:00:00", "1.32"),  # Monday
        ("2026-10-07T02:00:00", "0.66"),  # Wednesday of the week of the National Day
        ("2026-10-08T02:00:00", "1.32"),
        ("2026-10-10T02:00:00", "0.66"),  # a Saturday on which people work instead is still a Saturday
        ("2026-09-25T02:00:00", "0.66"),  # Mid-Autumn
        ("2026-08-22T02:00:00", "1.32"),  # weekends count since 23 August
        ("2026-08-14T02:00:00", "0.435"),  # no hour had a price of its own before 17 August
    ],
)
def test_peak_hours_of_working_days(moment: str, of_input: str) -> None:
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert cost(Usage(1_000, 0), "deepseek-v4-pro", at=at) == price(1_000, of_input)


def test_a_day_of_which_nobody_knows_whether_it_is_a_holiday() -> None:
    at = datetime(2027, 2, 9, 2, tzinfo=UTC)
    found = cost_of(Usage(1_000, 0), "deepseek-v4-pro", at=at)
    assert found is not None
    assert (found.total, found.missing) == (price(1_000, "1.32"), ("whether the day is a public holiday",))
    at_night = at - timedelta(hours=6)
    assert cost(Usage(1_000, 0), "deepseek-v4-pro", at=at_night) == price(1_000, "0.66")


def test_hours_over_midnight() -> None:
    # deepseek-chat: 00:30 to 16:30 UTC at the full price, by a clock of any zone.
    at = datetime(2026, 11, 18, 1, 0, tzinfo=timezone(timedelta(hours=1)))
    assert cost(Usage(1_000, 0), "deepseek-chat", provider="deepseek", at=at) == price(1_000, "0.135")
    at += timedelta(minutes=30)
    assert cost(Usage(1_000, 0), "deepseek-chat", provider="deepseek", at=at) == price(1_000, "0.27")


# -- place -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "provider", "how", "of_input"),
    [
        ("claude-opus-5-5", "anthropic", {"geo": "us"}, "4.4"),
        ("claude-opus-5-5", "anthropic", {"geo": "global"}, "4"),
        ("claude-opus-4-5", "anthropic", {"geo": "us"}, "5"),
        ("gpt-6.1-sol", "openai", {"host": "eu.api.openai.com"}, "2.2"),
        ("gpt-6.1-sol", "openai", {"host": "api.openai.com"}, "2"),
        ("gpt-6.1-sol", "openai", {"host": "eu.api.openai.com.evil.example"}, "2"),
        ("gpt-4o", "openai", {"host": "us.api.openai.com"}, "2.5"),
        ("gemini-4-argon", "vertex", {"host": "europe-west1-aiplatform.googleapis.com"}, "2.2"),
        ("gemini-4-argon", "vertex", {"host": "aiplatform.googleapis.com"}, "2"),
        ("gemini-4-argon", "vertex", {"host": "aiplatform.eu.rep.googleapis.com"}, "2.2"),
        ("openai/gpt-oss-120b", "together", {"host": "us-api.together.ai"}, "0.1875"),
        ("openai/gpt-oss-120b", "together", {"host": "ca-api.together.xyz"}, "0.1875"),
        ("openai/gpt-oss-120b", "together", {"host": "api.together.ai"}, "0.15"),
        # Bedrock's places are in its names and in its price sheet.
        ("global.anthropic.claude-opus-5-5", "bedrock", {}, "4"),
        ("us.anthropic.claude-opus-5-5", "bedrock", {}, "4.4"),
    ],
)
def test_places(model: str, provider: str, how: dict[str, Any], of_input: str) -> None:
    assert cost(Usage(1_000, 0), model, provider=provider, **how) == price(1_000, of_input)


def test_a_place_stacks_with_speed_cache_and_long_writes() -> None:
    usage = Usage(1_000, 100, cached_tokens=400, cache_write_tokens=200, cache_write_1h_tokens=200)
    found = cost(usage, "claude-opus-5-5", speed="fast", geo="us")
    assert found == Decimal("1.1") * (price(400, "8") + price(400, "0.4") + price(200, "16") + price(100, "40"))


# -- by the piece ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "searches", "expected"),
    [
        ("claude-opus-5-5", 3, "0.030"),
        ("gpt-6.1-sol", 3, "0.030"),
        ("gemini-4-argon", 3, "0.042"),
        ("gemini-2.5-flash", 1, "0.035"),
        ("xai/grok-4.7", 2, "0.010"),
        ("perplexity/perplexity/sonar", 4, "0.0100"),
    ],
)
def test_searches(model: str, searches: int, expected: str) -> None:
    found = cost_of(Usage(1_000, 0, web_searches=searches), model, at=NOON)
    plain = cost_of(Usage(1_000, 0), model, at=NOON)
    assert found is not None
    assert plain is not None
    assert (found.items, found.total) == (Decimal(expected), plain.total + Decimal(expected))
    # Half the price of tokens, the whole price of searches.
    if model == "gpt-6.1-sol":
        assert cost(Usage(1_000, 0, web_searches=3), model, batch=True) == price(1_000, "1") + Decimal("0.03")


def test_a_search_without_a_known_price_is_told() -> None:
    found = cost_of(Usage(1_000, 0, web_searches=1), "mistral-large-4", at=NOON)
    assert found is not None
    assert (found.total, found.complete, found.missing) == (price(1_000, "0.7"), False, ("web searches",))


def test_other_pieces() -> None:
    counted = {"file_searches": 2, "containers": 1}
    found = cost_of(Usage(1_000, 0), "gpt-6.1-sol", counted=counted, at=NOON)
    assert found is not None
    assert found.items == 2 * Decimal("0.0025") + Decimal("0.03")
    odd = cost_of(Usage(1_000, 0), "gpt-6.1-sol", counted={"file_searches": None, "miracles": 1}, at=NOON)
    assert odd is not None
    assert (odd.items, odd.missing) == (0, ("file searches", "miracles"))


def test_a_fee_for_the_request() -> None:
    found = cost_of(Usage(1_000, 1_000), "sonar", provider="perplexity", at=NOON)
    assert found is not None
    assert (found.input, found.output, found.items) == (price(1_000, "1"), price(1_000, "1"), Decimal("0.012"))


@pytest.mark.parametrize(
    ("model", "counted", "expected"),
    [
        ("recraft/recraftv3", {"images": 2}, "0.08"),
        ("recraft/recraftv4_1_pro", {"images": 1}, "0.21"),
        ("replicate/black-forest-labs/flux-schnell", {"images": 4, "megapixels": None}, "0.012"),
        (f"replicate/black-forest-labs/flux-dev:{'0a' * 32}", {"images": 1}, "0.025"),
        ("fal/fal-ai/flux/dev", {"images": 2, "megapixels": 3}, "0.075"),
        ("bfl/flux-pro-1.1", {"images": 1}, "0.04"),
        ("xai/grok-imagine-image", {"images": 1}, "0.02"),
        ("cohere/rerank-v3.5", {"search_units": 3}, "0.006"),
        ("openai/tts-1", {"characters": 2_000}, "0.03"),
        ("openai/whisper-1", {"audio_seconds": 90}, "0.009"),  # 0.006 a minute
        ("openai/whisper-1", {"audio_seconds": 0.1}, "0.00001"),
        ("groq/whisper-large-v3", {"audio_seconds": 3_600}, "0.111"),
        ("groq/whisper-large-v3", {"audio_seconds": 36}, "0.00111"),
    ],
)
def test_models_by_the_piece(model: str, counted: dict[str, Any], expected: str) -> None:
    found = cost_of(Usage(), model, counted=counted, at=NOON)
    assert found is not None
    assert (found.total, found.items, found.complete) == (Decimal(expected), Decimal(expected), True)


def test_ten_seconds_at_least() -> None:
    # 10 of 3,600 seconds at 0.111 an hour, to the nearest 10**-24.
    found = cost_of(Usage(), "groq/whisper-large-v3", counted={"audio_seconds": 2}, at=NOON)
    assert found is not None
    with localcontext(prec=60):
        assert abs(found.total - Decimal("0.111") / 360) <= Decimal("5e-25")


def test_a_size_that_is_not_told() -> None:
    assert cost_of(Usage(), "fal/fal-ai/flux/dev", counted={"images": 1, "megapixels": None}, at=NOON) is None
    assert cost_of(Usage(), "openai/whisper-1", at=NOON) is None


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "provider", "same_as"),
    [
        ("claude-sonnet-4-5-20250929", "anthropic", "claude-sonnet-4-5"),
        ("gpt-6.1-sol-2026-10-12", "openai", "gpt-6.1-sol"),
        ("GPT-6.1-SOL", "openai", "gpt-6.1-sol"),
        ("gpt-6.1-sol-20261012", "openai", "gpt-6.1-sol"),
        ("models/gemini-2.5-flash", "gemini", "gemini-2.5-flash"),
        ("claude-opus-5-5@default", "vertex", "claude-opus-5-5"),
        ("publishers/google/models/gemini-4-argon", "vertex", "gemini-4-argon"),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("openai/gpt-4o", "openai", "gpt-4o"),
    ],
)
def test_names_of_the_same_model(name: str, provider: str, same_as: str) -> None:
    usage = Usage(1_000, 200, cached_tokens=100)
    assert cost(usage, name, provider=provider) == cost(usage, same_as, provider=provider)


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("my-gpt-4o-clone", "openai"),
        ("gpt-4o-turbo-max", "openai"),
        ("claude-sonnet-4-5-mega", "anthropic"),
        ("notclaude-sonnet-4-5", "vertex"),
        ("gemini-2.5-flash-native-audio-dialog-9", "gemini"),
        ("ft:gpt-9:acme::1", "openai"),
        ("gpt-4o", "nvidia"),
        ("gpt-4o", "a-server-of-mine"),
        ("meta-llama/Llama-3.3-70B-Instruct", "huggingface"),
        ("", "openai"),
    ],
)
def test_names_that_nobody_knows_have_no_price(name: str, provider: str) -> None:
    assert cost_of(Usage(1_000, 10), name, provider=provider, at=NOON) is None


def test_a_name_that_leads_nowhere_has_no_price() -> None:
    for name in ("nobody-serves-this", "", "opnai/gpt-4o"):
        assert cost_of(Usage(1_000, 10), name, at=NOON) is None


def test_a_snapshot_with_a_price_of_its_own() -> None:
    assert cost(Usage(1_000, 0), "gpt-4o-2024-05-13") == price(1_000, "5")
    assert cost(Usage(1_000, 0), "gpt-4o-2024-11-20") == price(1_000, "2.5")


def test_a_fine_tune_costs_more_than_its_base() -> None:
    name = "ft:gpt-4o-mini-2024-07-18:acme::abc123"
    assert cost(Usage(1_000, 0), name, provider="openai") == price(1_000, "0.3")


def test_free_is_free_and_an_empty_price_is_not() -> None:
    found = cost_of(Usage(1_000, 10), "deepseek/deepseek-r1:free", provider="openrouter", at=NOON)
    assert found is not None
    assert (found.total, found.complete) == (0, True)
    assert cost_of(Usage(1_000, 10), "gemma-3", provider="gemini", at=NOON) is None


def test_a_route_has_its_own_price() -> None:
    found = cost_of(Usage(1_000, 0), "openai/gpt-4o:nitro", provider="openrouter", at=NOON)
    assert found is not None
    assert found.missing == ("the price of the route ':nitro'",)


def test_a_router_has_the_price_of_who_serves() -> None:
    usage = Usage(1_000, 10)
    found = cost_of(usage, "meta-llama/Llama-3.3-70B-Instruct:together", provider="huggingface", at=NOON)
    other = cost_of(usage, "meta-llama/Llama-3.3-70B-Instruct:nebius", provider="huggingface", at=NOON)
    assert found is not None
    assert other is not None
    assert found.total != other.total


# -- whose price counts ----------------------------------------------------------------------------------------------


def test_own_prices_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = Usage(1_000, 100, cached_tokens=400, cache_write_tokens=100)
    monkeypatch.setitem(
        ModelRegistry.CONFIGS,
        "gpt-4o",
        ModelConfig(input_price_per_million=1.0, output_price_per_million=3.0, cached_input_price_per_million=0.5),
    )
    found = cost_of(usage, "gpt-4o", provider="openai", at=NOON, service_tier="priority")
    assert found is not None
    # What is written to a cache is plain input where nobody says otherwise, and an own price knows no tiers.
    assert found.total == price(600, "1") + price(400, "0.5") + price(100, "3")
    assert (found.source, found.as_of, found.complete) == ("own price", None, True)


def test_an_own_price_is_the_decimal_that_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ModelConfig(input_price_per_million=0.1, output_price_per_million=0.3)
    monkeypatch.setitem(ModelRegistry.CONFIGS, "mine", own)
    assert cost_of(Usage(3, 3), "mine", provider="openai") is not None
    assert cost(Usage(3, 3), "mine", provider="openai") == price(3, "0.1") + price(3, "0.3")


def test_half_an_own_price_is_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ModelRegistry.CONFIGS, "mine", ModelConfig(input_price_per_million=2.0))
    found = cost_of(Usage(1_000, 100), "mine", provider="openai")
    assert found is not None
    assert (found.total, found.missing) == (price(1_000, "2"), ("output tokens",))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0])
def test_a_price_that_is_no_amount_counts_as_none(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_one = ModelConfig(input_price_per_million=wrong, output_price_per_million=1.0)
    monkeypatch.setitem(ModelRegistry.CONFIGS, "unheard-of", wrong_one)
    assert cost_of(Usage(1_000, 100), "unheard-of", provider="openai") is None


def test_pieces_cost_what_they_cost_beside_an_own_price(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ModelConfig(input_price_per_million=1.0, output_price_per_million=1.0)
    monkeypatch.setitem(ModelRegistry.CONFIGS, "gpt-6.1-sol", own)
    found = cost_of(Usage(1_000, 0, web_searches=1), "gpt-6.1-sol", provider="openai", at=NOON)
    assert found is not None
    assert (found.total, found.complete) == (price(1_000, "1") + Decimal("0.01"), True)


def test_prices_of_metering_count_below_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    set_model_pricing("openai", "priced-by-metering", Decimal(7), Decimal(9))
    assert cost(Usage(1_000, 100), "priced-by-metering", provider="openai") == price(1_000, "7") + price(100, "9")
    own = ModelConfig(input_price_per_million=1.0, output_price_per_million=1.0)
    monkeypatch.setitem(ModelRegistry.CONFIGS, "priced-by-metering", own)
    assert cost(Usage(1_000, 100), "priced-by-metering", provider="openai") == price(1_100, "1")


def test_the_embedded_model_is_free() -> None:
    found = cost_of(Usage(1_000, 10), "local")
    assert found is not None
    assert (found.total, found.source, found.complete) == (0, "free", True)


def test_a_usage_that_was_not_told_has_no_price() -> None:
    assert cost_of(Usage(), "gpt-4o", at=NOON) is None


def test_what_was_estimated_says_so() -> None:
    found = cost_of(Usage(1_000, 10, estimated=True), "gpt-4o", at=NOON)
    assert found is not None
    assert found.estimated
    assert found.complete


def test_the_model_that_served_counts_and_else_the_one_that_was_asked_for() -> None:
    at = NOON.timestamp()
    served = Pricer("gpt-4o", "openai", "gpt-4o-2024-05-13", at).details(Usage(1_000, 0))
    assert served is not None
    assert served.total == price(1_000, "5")
    unknown = Pricer("openai/gpt-4o", "openai", "a-name-of-the-server", at).details(Usage(1_000, 0))
    assert unknown is not None
    assert unknown.total == price(1_000, "2.5")
    assert not unknown.complete
    assert "'a-name-of-the-server'" in unknown.missing[0]


def test_a_cost_says_where_it_is_from() -> None:
    found = cost_of(Usage(1_000, 10), "gpt-4o", at=NOON)
    assert found is not None
    assert found.source == "genai-prices 0.2.3"
    assert found.as_of is not None
    assert "2026-11-01" <= found.as_of <= datetime.now(UTC).date().isoformat()
    own = cost_of(Usage(), "recraftv3", counted={"images": 1})
    assert own is not None
    assert (own.source, own.as_of) == ("llm_master catalogue", "2026-11-21")


def test_the_callers_arithmetic_does_not_round_a_price() -> None:
    with localcontext(prec=3):
        found = cost_of(Usage(123_456_789, 987_654_321, cached_tokens=1), "gpt-4o-mini", at=NOON)
    assert found is not None
    assert found.total == price(123_456_788, "0.15") + price(1, "0.075") + price(987_654_321, "0.6")


def test_costs_add_up() -> None:
    one, two = cost_of(Usage(1_000, 10), "gpt-4o", at=NOON), cost_of(Usage(1_000, 0, web_searches=1), "o3", at=NOON)
    three = cost_of(Usage(5, 0, web_searches=1), "mistral-large-4", at=NOON)
    assert one is not None
    assert two is not None
    assert three is not None
    found = one + two + three
    assert found.total == one.total + two.total + three.total
    assert (found.complete, found.missing) == (False, ("web searches",))
    assert found.source == "genai-prices 0.2.3"


# -- the most that a call can cost ------------------------------------------------------------------------------------


def bound(model: str, given: int, made: int, **how: Any) -> Decimal | None:
    provider = how.pop("provider", "openai")
    return upper_bound(model, provider=provider, input_tokens=given, output_tokens=made, **{"at": NOON, **how})


def test_the_dearest_kind_tier_and_place_bound_a_call() -> None:
    # All of it written for long, in a place that costs a tenth more: 8 and 20 at Anthropic.
    assert bound("claude-opus-5-5", 1_000, 100, provider="anthropic") == Decimal("1.1") * (
        price(1_000, "8") + price(100, "20")
    )
    # OpenAI may serve a project's calls in the tier priority, unasked; long writes there: 2.5 x 4.
    assert bound("gpt-6.1-sol", 1_000, 100) == price(1_000, "10") + price(100, "20")
    assert bound("gpt-6.1-sol", 300_000, 100) == price(300_000, "20") + price(100, "30")
    assert bound("gpt-6.1-sol", 1_000, 100, host="eu.api.openai.com") == Decimal("1.1") * (
        price(1_000, "10") + price(100, "20")
    )
    # A tier that must be asked for counts where it is.
    assert bound("gpt-6-astra", 0, 1_000) == price(1_000, "100")
    assert bound("gpt-6-astra", 0, 1_000, service_tier="ultrafast") == price(1_000, "300")
    assert bound("claude-opus-5-5", 0, 1_000, provider="anthropic", speed="fast") == Decimal("1.1") * price(1_000, "40")


def test_what_is_not_known_has_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bound("nobody-knows", 10, 10) is None
    assert bound("gpt-6.1-sol", 10, 10, service_tier="scale") is None
    assert bound("text-embedding-3-small", 10, 10) is None
    assert bound("text-embedding-3-small", 1_000, 0) == price(1_000, "0.02")
    monkeypatch.setitem(ModelRegistry.CONFIGS, "half", ModelConfig(input_price_per_million=2.0))
    assert bound("half", 10, 10) is None
    assert bound("half", 10, 0) == price(10, "2")


def test_own_and_free_models_have_a_bound() -> None:
    own = ModelConfig(input_price_per_million=2.0, output_price_per_million=4.0, cached_input_price_per_million=3.0)
    assert bound("mine", 10, 5, entry=own) == price(10, "3") + price(5, "4")
    assert bound("local", 10, 5, provider="local") == 0
    assert bound("deepseek/deepseek-r1:free", 10, 5, provider="openrouter") == 0


def test_a_bound_in_a_peak_of_an_unknown_year_is_the_peak() -> None:
    at = datetime(2027, 2, 9, 2, tzinfo=UTC)
    assert bound("deepseek-v4-pro", 1_000, 0, provider="deepseek", at=at) == price(1_000, "1.32")
