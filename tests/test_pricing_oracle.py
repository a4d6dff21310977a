"""
Every model of genai-prices, priced by genai-prices itself: ours is the same to the last digit, but for what stands
here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers as SHEETS  # a table

from llm_master import Cost, Usage
from llm_master.prices.rules import rules
from llm_master.pricing import Pricer

# A Wednesday, and no peak hour of DeepSeek, whose weekends genai-prices does not know.
NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
MILLION = Decimal(1_000_000)
# A provider of theirs -> ours. Theirs that nobody here serves are priced under their own names.
OURS = {sheet: provider for provider, sheet in rules().sheet_ids.items()} | {"google": "gemini", "azure": "azure"}

#: What a usage is called here -> the usage, and the same in their words.
USAGES: dict[str, tuple[Usage, dict[str, int]]] = {
    "plain": (Usage(1_000, 100), {"input_tokens": 1_000, "output_tokens": 100}),
    "mixed": (
        Usage(150_000, 2_000, 30_000, 20_000, 5_000),
        {
            "input_tokens": 150_000,
            "output_tokens": 2_000,
            "cache_read_tokens": 30_000,
            "cache_write_tokens": 20_000,
            "cache_write_1h_tokens": 5_000,
        },
    ),
    "long": (
        Usage(300_000, 2_000, 30_000, reasoning_tokens=500),
        {
            "input_tokens": 300_000,
            "output_tokens": 2_000,
            "cache_read_tokens": 30_000,
            "output_reasoning_tokens": 500,
        },
    ),
    "media": (
        Usage(10_000, 2_000, 0, 0, 0, 0, 4_000, 500, 3_000, 700),
        {
            "input_tokens": 10_000,
            "output_tokens": 2_000,
            "input_audio_tokens": 4_000,
            "output_audio_tokens": 500,
            "input_image_tokens": 3_000,
            "output_image_tokens": 700,
        },
    ),
    "search": (
        Usage(10_000, 2_000, web_searches=3),
        {"input_tokens": 10_000, "output_tokens": 2_000, "web_searches": 3},
    ),
}
# -- where ours is another one ---------------------------------------------------------------------------------------

#: OpenAI's writes that are kept for 12 hours cost 2.5 times the input; their data has the price of short ones alone.
LONG_WRITES = {
    *("gpt-5.6-cyber", "gpt-5.6-luna", "gpt-5.6-sol", "gpt-5.6-terra"),
    *("gpt-6-astra", "gpt-6-cyber", "gpt-6-luna", "gpt-6-rosalind", "gpt-6-sol", "gpt-6.1-sol", "gpt-6.1-terra"),
}
#: Their data has no price of these searches and adds nothing for them; the table here has one: USD for one search.
SEARCHES = {
    **dict.fromkeys(("gemini-2.0-flash-lite", "gemini-2.5-flash-image", "gemini-live-2.5-flash"), "0.035"),
    **dict.fromkeys(("gemini-2.5-flash-tts", "gemini-2.5-flash-lite-preview-tts", "gemini-2.5-pro-tts"), "0.035"),
    **dict.fromkeys(("gemini-3.1-flash-lite-image", "gemini-3.1-flash-tts-preview"), "0.014"),
    **dict.fromkeys(("gemini-3.8-flash-lite-tts", "gemini-3.8-flash-tts"), "0.014"),
}
#: xAI's searches cost the same with every model of its own.
XAI_SEARCH = Decimal("0.005")
#: Models whose sound costs more than text, of which their data has the prices of text alone: sound in and out.
SOUND = {
    "gpt-4o-audio-preview": (Decimal(40), Decimal(80)),
    "gpt-4o-mini-audio-preview": (Decimal(10), Decimal(20)),
}
#: Models with no price at all in their data, so that they cost 0 there. Some are free, some are billed by what has no
#: name there (a song, a seat): nothing says which, so that they have no price here.
EMPTY = {
    "azure": {"mai-ds-r1:free", "phi-4-reasoning-plus:free", "phi-4-reasoning:free"},
    "cerebras": {"qwen-3-coder-480b"},
    "github-copilot": {"gpt-3.5-turbo", "gpt-4.1", "gpt-4o", "gpt-4o-mini"},
    "google": {"gemma-3", "gemma-3n"},
    "huggingface_together": {
        "ServiceNow-AI/Apriel-1.6-15b-Thinker",
        "prism-ml/Ternary-Bonsai-27B-AWQ-4bit",
        "prism-ml/Ternary-Bonsai-27B-gguf",
    },
    "mistral": {"devstral-small:free", "mistral-nemo:free", "mistral-small-24b-instruct-2501:free"},
    "openai": {"moderation"},
    "openrouter": {
        *("gemini-2.5-pro-exp-03-25", "google/gemini-flash-1.5-8b-exp", "stealth/crouton-alpha"),
        *("google/lyria-3-clip-preview", "google/lyria-3-pro-preview"),
    },
}
#: And those of them that are said to be free, with the table's source for that.
FREE = {"google": {"gemma-4-26b-a4b-it", "gemma-4-31b-it"}}


def clauses(match: Any) -> Iterator[tuple[str, str]]:
    """The kinds of names that a match is made of, and their texts."""
    inner = getattr(match, "or_", None) or getattr(match, "and_", None)
    if inner is None:
        kind, text = next(iter(vars(match).items()))
        yield kind, text
        return
    for each in inner:
        yield from clauses(each)


def names_of(provider: Any, model: Any) -> list[str]:
    """Names that mean a model, its exact ones first."""
    found = list(clauses(model.match))
    exact = [text for kind, text in found if kind == "equals"]
    parts = [text for kind, text in found if kind not in ("equals", "regex")]
    return [name for name in dict.fromkeys((*exact, model.id, *parts)) if provider.find_model(name) is model]


def ours(sheet: str, name: str, usage: Usage, **how: Any) -> Cost | None:
    provider, sign, route = sheet.partition("huggingface_")
    provider = "huggingface" if sign else OURS.get(provider, provider)
    name = f"{name}:{route}" if sign else name
    return Pricer(name, provider, name, NOON.timestamp(), **how).details(usage)


def prices_of(model: Any, context: dict[str, str] | None = None) -> dict[str, Any]:
    return {key: value for key, value in vars(model.get_prices(NOON, context)).items() if value is not None}


def expected(
    sheet: str, model: Any, label: str, theirs: Decimal, context: dict[str, str] | None = None
) -> tuple[Decimal, set[str]] | None:
    """What ours must be where genai-prices says ``theirs``: the total, and what it must name as missing."""
    prices, searches = prices_of(model, context), USAGES[label][0].web_searches
    total, missing = theirs, set()
    if not prices:
        free = model.id in FREE.get(sheet, ()) or (sheet == "openrouter" and model.id.endswith(":free"))
        assert free or model.id in EMPTY[sheet], f"{sheet}/{model.id} has no price: why?"
        return (Decimal(0), set()) if free else None
    # These have a price, and no usage counts them.
    missing |= {f"{kind} tokens" for kind in ("citation", "video") if f"output_{kind}_mtok" in prices}
    missing |= {f"{kind} tokens" for kind in ("input", "output") if f"{kind}_mtok" not in prices}
    if searches and "web_searches_kcount" not in prices:
        one = XAI_SEARCH if sheet == "x-ai" else Decimal(SEARCHES.get(model.id, 0)) if sheet == "google" else Decimal(0)
        total += searches * one
        if not one:
            missing.add("web searches")
    if label == "mixed" and sheet == "openai" and model.id in LONG_WRITES:
        levels = {key: getattr(prices[key], "base", prices[key]) for key in ("input_mtok", "cache_write_mtok")}
        total += 5_000 * (Decimal("2.5") * levels["input_mtok"] - levels["cache_write_mtok"]) / MILLION
    if label == "media" and sheet in ("openai", "azure") and model.id in SOUND:
        of_input, of_output = SOUND[model.id]
        total += (4_000 * (of_input - prices["input_mtok"]) + 500 * (of_output - prices["output_mtok"])) / MILLION
    return (total, missing) if total or not missing else None


ALL = [(provider, model) for provider in SHEETS for model in provider.models]


def test_every_model_by_every_name() -> None:
    compared: Counter[str] = Counter()
    for provider, model in ALL:
        names = names_of(provider, model)
        assert names, f"{provider.id}/{model.id} has no name"
        for label, (usage, words) in USAGES.items():
            theirs = model.calc_price(genai_prices.Usage(**words), provider, genai_request_timestamp=NOON).total_price
            wanted = expected(provider.id, model, label, theirs)
            for name in names if label == "plain" else names[:1]:
                found = ours(provider.id, name, usage)
                got = None if found is None else (found.total, set(found.missing))
                assert got == wanted, (provider.id, model.id, name, label)
                compared[label] += 1
    assert compared["plain"] > 3_800
    assert {compared[label] for label in USAGES if label != "plain"} == {len(ALL)}
    assert len(ALL) > 2_300


def test_the_exceptions_are_of_models_that_there_are() -> None:
    known = {(provider.id, model.id) for provider, model in ALL}
    told = {("openai", name) for name in (*LONG_WRITES, *SOUND)} | {("google", name) for name in SEARCHES}
    told |= {(sheet, name) for each in (EMPTY, FREE) for sheet, names in each.items() for name in names}
    assert told <= known
    # Whoever is excepted has a reason to be: their data says nothing of the price.
    for provider, model in ALL:
        prices = prices_of(model)
        if model.id in EMPTY.get(provider.id, ()) or model.id in FREE.get(provider.id, ()):
            assert not prices
        elif provider.id == "openai" and model.id in LONG_WRITES:
            assert "cache_write_1h_mtok" not in prices
        elif provider.id == "openai" and model.id in SOUND:
            assert not prices.keys() & {"input_audio_mtok", "output_audio_mtok"}
        elif provider.id == "google" and model.id in SEARCHES:
            assert "web_searches_kcount" not in prices


# -- tiers -----------------------------------------------------------------------------------------------------------

#: Their words for how a request was served that answers are read for. The other two nobody here reads: the route of
#: OpenRouter and the kind of search at Perplexity, both of which report what a request cost.
SERVED = {"service_tier", "speed", "processing"}
UNREAD = {("openrouter", "route"), ("perplexity", "search_type")}


@pytest.mark.parametrize("label", ["mixed", "long", "media", "search"])
def test_every_tier_of_every_model(label: str) -> None:
    usage, words = USAGES[label]
    compared: Counter[str] = Counter()
    for provider, model in ALL:
        for when in {tuple(each.when.items()) for each in model.price_variants or ()}:
            ((key, word),) = when
            if key not in SERVED:
                assert (provider.id, key) in UNREAD
                continue
            if not any(
                tuple(each.when.items()) == when and (each.constraint is None or each.constraint.active(NOON))
                for each in model.price_variants or ()
            ):
                continue
            theirs = model.calc_price(
                genai_prices.Usage(**words), provider, genai_request_timestamp=NOON, price_context=dict(when)
            ).total_price
            how: dict[str, Any] = {"batch": True} if key == "processing" else {key.removeprefix("service_"): word}
            found = ours(provider.id, names_of(provider, model)[0], usage, **how)
            got = None if found is None else (found.total, set(found.missing))
            assert got == expected(provider.id, model, label, theirs, dict(when)), (provider.id, model.id, when)
            compared[word] += 1
    assert compared.keys() >= {"batch", "fast", "flex", "priority", "default"}
    assert compared.total() > 200
