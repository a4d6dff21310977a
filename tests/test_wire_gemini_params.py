"""
Parameters of the gemini family: refused, left out, moved into range or translated, model by model.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.gemini_scenarios import DIALECT, HI, TOOL, body, chunk, dropping, refused, request

from llm_master.dialect_gemini import MODELS, GeminiDialect, GeminiModel
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.wire import gemini, gemini_draft

NEW, OLD, OLDEST = "gemini-3.8-flash", "gemini-2.5-flash", "gemini-2.0-flash"
UNSUPPORTED = {
    "repetition_penalty": 1.1,
    "min_p": 0.1,
    "logit_bias": {"1": 1},
    "user": "u",
    "safety_identifier": "u",
    "metadata": {"a": "b"},
    "prediction": {"type": "content"},
    "verbosity": "low",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {},
    "functions": [],
    "function_call": "auto",
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "logprobs": True,
    "n": 2,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "size": "1024x1024",
    "service_tier": "turbo",
}
NEUTRAL = {
    "presence_penalty": 0,
    "frequency_penalty": 0.0,
    "n": 1,
    "logit_bias": {},
    "logprobs": False,
    "verbosity": "medium",
    "seed": None,
    "parallel_tool_calls": True,
    "service_tier": "auto",
    "response_format": {"type": "text"},
}


def config(model: str, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = body(model, **params).get("generationConfig", {})
    return found


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_parameter(name: str) -> None:
    refused(NEW, name, **{name: UNSUPPORTED[name]})
    found, dropped = dropping(NEW, **{name: UNSUPPORTED[name]})
    assert dropped == (name,)
    assert found == body(NEW)


def test_a_parameter_that_asks_for_nothing_is_taken() -> None:
    asked = request(NEW, **NEUTRAL, extra_headers={"a": "b"}, stream_options={"x": 1}, extra_query={"q": 1})
    assert json.loads(gemini.encode(asked, DIALECT)) == body(NEW)
    assert asked.dropped == ()


def test_what_was_dropped_before_stays_listed() -> None:
    asked = request(NEW, drop=True, user="u")
    asked.dropped = ("earlier",)
    for _ in range(2):
        gemini.encode(asked, DIALECT)
        assert asked.dropped == ("earlier", "user")


@pytest.mark.parametrize(
    ("name", "value", "moved", "field"),
    [
        ("temperature", 2.5, 2.0, "temperature"),
        ("presence_penalty", -3, -2.0, "presencePenalty"),
        ("frequency_penalty", 9, 2.0, "frequencyPenalty"),
    ],
)
def test_a_value_out_of_range(name: str, value: float, moved: float, field: str) -> None:
    assert f"{value!r} is not between" in refused(OLDEST, name, **{name: value})
    found, dropped = dropping(OLDEST, **{name: value})
    assert (found["generationConfig"], dropped) == ({field: moved}, (name,))


@pytest.mark.parametrize("value", ["hot", float("nan")])
def test_a_temperature_that_is_no_number(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match="temperature is a number between 0 and 2"):
        body(OLD, temperature=value)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"max_tokens": 0}, "max_tokens is a number"),
        ({"max_tokens": True}, "max_tokens is a number"),
        ({"stop": [1]}, "stop is a text"),
        ({"modalities": "audio"}, "modalities is a list"),
        ({"audio": "Kore"}, "audio is a dict"),
        ({"thinking_budget": 1.5}, "thinking_budget is a number of tokens"),
        ({"thinking_budget": -2}, "thinking_budget is a number of tokens"),
        ({"thinking": "yes"}, "thinking is a dict or a bool"),
        ({"thinking": {"budget": 5}}, "it takes includeThoughts, thinkingBudget, thinkingLevel"),
        ({"thinking_config": {"thinking_level": "low", "thinking_budget": 5}}, "a budget and a level"),
        ({"reasoning_effort": "low", "thinking_budget": 5}, "reasoning_effort or thinking_budget, not both"),
        ({"response_format": {"type": "xml"}}, "its type is text, json_object or json_schema"),
        ({"response_format": "json"}, "its type is text, json_object or json_schema"),
        ({"response_format": {"type": "json_schema"}}, "holds no schema"),
        ({"tools": ["now"]}, "a tool is str"),
        ({"tools": [{"type": "function", "function": "now"}]}, "a tool without a name"),
        ({"tools": [{"name": ""}]}, "a tool without a name"),
        ({"tools": [{}], "tool_choice": "required"}, "holds no function"),
        ({"tools": [{"unknown": {}}]}, "a tool without a name"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "now"}, "tool_choice 'now' is not known"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "then"}}}, "names 'then'"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": []}}, "names no function"),
        ({"tool_choice": "required"}, "holds no function"),
        ({"future": object()}, "cannot be written as JSON"),
    ],
)
def test_parameters_that_cannot_be_read(params: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        body(OLD, **params)
    assert said in str(caught.value)
    assert repr(OLD) in str(caught.value)


# Thinking -----------------------------------------------------------------------------------------------------------

PRO_25, LITE_25, PRO_3, FLASH_3, GEMMA = (
    "gemini-2.5-pro",
    "gemini-2.5-flash-lite",
    "gemini-3-pro-preview",
    "gemini-3.5-flash",
    "gemma-4-31b-it",
)


def budget(tokens: int) -> dict[str, Any]:
    return {"thinkingBudget": tokens, "includeThoughts": True}


def level(name: str) -> dict[str, Any]:
    return {"thinkingLevel": name, "includeThoughts": True}


@pytest.mark.parametrize(
    ("model", "params", "found"),
    [
        (OLD, {"reasoning_effort": "minimal"}, budget(1024)),
        (OLD, {"reasoning_effort": "medium"}, budget(8192)),
        (OLD, {"reasoning_effort": "max"}, budget(24_576)),
        (PRO_25, {"reasoning_effort": "max"}, budget(32_768)),
        (OLD, {"reasoning_effort": "none"}, {"thinkingBudget": 0}),
        (OLD, {"thinking_budget": 0}, {"thinkingBudget": 0}),
        (OLD, {"thinking_budget": 5000}, budget(5000)),
        (OLD, {"thinking_budget": -1}, budget(-1)),
        (OLD, {"thinking": {"type": "enabled", "budget_tokens": 2048}}, budget(2048)),
        (OLD, {"thinking": {"type": "enabled"}}, budget(-1)),
        (OLD, {"thinking": {"type": "disabled"}}, {"thinkingBudget": 0}),
        (OLD, {"thinking": True}, {"includeThoughts": True}),
        (OLD, {"thinking": False}, {"thinkingBudget": 0}),
        (OLD, {"thinkingConfig": {"thinkingBudget": 7}}, {"thinkingBudget": 7}),
        (OLD, {"include_thoughts": True}, {"includeThoughts": True}),
        (OLD, {"reasoning_effort": "low", "include_thoughts": False}, {**budget(1024), "includeThoughts": False}),
        (FLASH_3, {"reasoning_effort": "minimal"}, level("MINIMAL")),
        (NEW, {"reasoning_effort": "minimal"}, level("LOW")),
        (NEW, {"reasoning_effort": "medium"}, level("MEDIUM")),
        (NEW, {"reasoning_effort": "xhigh"}, level("HIGH")),
        (PRO_3, {"reasoning_effort": "medium"}, level("HIGH")),
        (PRO_3, {"reasoning_effort": "minimal"}, level("LOW")),
        ("gemini-9-unknown", {"reasoning_effort": "minimal"}, level("LOW")),
        (FLASH_3, {"thinking_budget": 500}, level("MINIMAL")),
        (FLASH_3, {"thinking_budget": 9000}, level("MEDIUM")),
        (FLASH_3, {"thinking_budget": -1}, {"includeThoughts": True}),
        (NEW, {"thinking": {"type": "adaptive"}}, {"includeThoughts": True}),
        (NEW, {"thinking_config": {"thinking_level": "high"}}, {"thinkingLevel": "HIGH"}),
    ],
)
def test_thinking(model: str, params: dict[str, Any], found: dict[str, Any]) -> None:
    assert config(model, **params) == {"thinkingConfig": found}


@pytest.mark.parametrize(
    ("model", "name", "value", "said", "instead"),
    [
        (PRO_25, "reasoning_effort", "none", "thinking_budget=128 is the least", {"thinkingBudget": 128}),
        (PRO_25, "thinking_budget", 0, "thinking_budget=128 is the least", {"thinkingBudget": 128}),
        (PRO_25, "thinking_budget", 64, "not between 128 and 32768", budget(128)),
        (LITE_25, "thinking_budget", 30_000, "not between 512 and 24576", budget(24_576)),
        (NEW, "reasoning_effort", "none", "reasoning_effort='low' is the least", {"thinkingLevel": "LOW"}),
        (FLASH_3, "thinking", False, "reasoning_effort='minimal' is the least", {"thinkingLevel": "MINIMAL"}),
        (NEW, "reasoning_effort", "enormous", "the nearest being 'medium'", None),
        (GEMMA, "reasoning_effort", "low", "does not think", None),
        (GEMMA, "thinking_budget", 512, "does not think", None),
        (GEMMA, "thinking", {"type": "adaptive"}, "does not think", None),
        (GEMMA, "thinking_config", {"includeThoughts": True}, "does not think", None),
        (GEMMA, "include_thoughts", True, "does not think", None),
        (OLD, "thinking_config", {"thinkingLevel": "low"}, "give thinking_budget", None),
    ],
)
def test_thinking_that_a_model_cannot_do(model: str, name: str, value: Any, said: str, instead: Any) -> None:
    assert said in refused(model, name, **{name: value})
    found, dropped = dropping(model, **{name: value})
    assert dropped == (name,)
    assert found.get("generationConfig", {}).get("thinkingConfig") == instead


@pytest.mark.parametrize("params", [{"reasoning_effort": "none"}, {"thinking_budget": 0}, {"thinking": False}])
def test_what_cannot_think_need_not_be_stopped(params: dict[str, Any]) -> None:
    assert config(GEMMA, **params) == {}


# Modalities ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"size": "16:9"}, {"aspectRatio": "16:9"}),
        ({"size": "2K"}, {"imageSize": "2K"}),
        ({"aspect_ratio": "1:1", "image_size": "4K"}, {"aspectRatio": "1:1", "imageSize": "4K"}),
        (
            {"generation_config": {"image_config": {"person_generation": "x"}}, "size": "1K"},
            {"personGeneration": "x", "imageSize": "1K"},
        ),
    ],
)
def test_sizes_of_images(params: dict[str, Any], found: dict[str, Any]) -> None:
    assert config("gemini-3-pro-image", **params) == {"imageConfig": found}


def test_sound() -> None:
    refused("gemini-2.5-flash-preview-tts", "audio.format", audio={"voice": "Kore", "format": "mp3"})
    assert config(NEW, audio={"format": "pcm16"}) == {}


@pytest.mark.parametrize(("asked", "framed"), [("wav", True), ("pcm16", False), (None, False)])
def test_bare_samples_become_a_file_where_one_was_asked_for(asked: Any, framed: bool) -> None:
    fold = gemini.Fold(request(NEW, audio={"format": asked}), DIALECT)
    fold.feed(chunk({"inlineData": {"mimeType": "audio/L16;rate=16000", "data": "AQACAA=="}}, finish="STOP"))
    data = fold.response().audio_data
    assert data is not None
    assert data.endswith(b"\x01\x00\x02\x00")
    assert (data[:4] == b"RIFF", len(data)) == (framed, 48 if framed else 4)
    if framed:
        assert int.from_bytes(data[24:28], "little") == 16_000
    fold.feed(chunk({"inlineData": {"mimeType": "audio/mpeg", "data": "AAAA"}}))


def test_logprobs_as_the_api_counts_them() -> None:
    found = {"responseLogprobs": True, "logprobs": 3}
    assert config(OLDEST, logprobs=3) == config(OLDEST, logprobs=True, top_logprobs=3) == found
    assert config(OLDEST, top_logprobs=3) == found


@pytest.mark.parametrize("given", [{"logprobs": True}, {"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}])
def test_logprobs_that_a_model_does_not_give_are_all_listed(given: dict[str, Any]) -> None:
    refused(OLD, next(iter(given)), **given)
    assert dropping(OLD, **given) == (body(OLD), tuple(given))


def test_a_stop_too_many() -> None:
    refused(NEW, "stop", stop=list("abcdef"))
    assert config(NEW, stop="x") == config(NEW, stop_sequences=["x"]) == {"stopSequences": ["x"]}
    assert config(NEW, stop=[]) == {}


# Servers ------------------------------------------------------------------------------------------------------------


def test_cached_content_holds_what_may_not_be_sent_again() -> None:
    system = [{"role": "system", "content": "S"}, *HI]
    for name, messages, params in (
        ("system", system, {}),
        ("tools", HI, {"tools": [TOOL]}),
        ("tool_choice", HI, {"tool_config": {"retrievalConfig": {}}}),
    ):
        assert "put it into the cache" in refused(OLD, name, messages, cached_content="cachedContents/a", **params)
    refused("gemini-4-argon", "cached_content", cached_content="cachedContents/a")


def test_a_cache_that_a_model_does_not_know_is_left_out() -> None:
    found = dropping("gemini-4-argon", cached_content="cachedContents/a", tools=[TOOL])
    assert found == (body("gemini-4-argon", tools=[TOOL]), ("cached_content",))


def test_a_system_prompt_of_the_apis_own_comes_first() -> None:
    messages = [{"role": "system", "content": "second"}, *HI]
    for first in ("first", {"parts": [{"text": "first"}]}):
        parts = body(NEW, messages, system_instruction=first)["systemInstruction"]["parts"]
        assert parts == [{"text": "first"}, {"text": "second"}]


def test_tiers_where_a_header_chooses_them() -> None:
    vertex = GeminiDialect(service_tiers=())
    assert "serviceTier" not in body(NEW, service_tier="default", dialect=vertex)
    assert "give extra_headers" in refused(NEW, "service_tier", service_tier="flex", dialect=vertex)
    assert body(NEW, service_tier="default")["serviceTier"] == "standard"
    assert body(NEW, serviceTier="flex")["serviceTier"] == "flex"


def test_what_a_server_does_not_know() -> None:
    dialect = GeminiDialect(drop=frozenset(("store", "seed")))
    refused(NEW, "seed", seed=1, dialect=dialect)
    assert dropping(NEW, seed=1, store=True, dialect=dialect)[0] == body(NEW)


def test_a_rows_own_knowledge_of_models() -> None:
    dialect = GeminiDialect(models={"gemini-2": {"logprobs": True}, "gemini-3.1-pro": {"can_rest": True}})
    assert body(OLD, logprobs=True, dialect=dialect)["generationConfig"] == {"responseLogprobs": True}
    found = body("gemini-3.1-pro-preview", reasoning_effort="none", dialect=dialect)
    assert found["generationConfig"] == {"thinkingConfig": {"thinkingBudget": 0}}
    assert DIALECT.model(PRO_25).can_rest is False
    assert GeminiDialect(models={"gemini-2.5": {"can_rest": True}}).model(PRO_25).can_rest is True
    with pytest.raises(msgspec.ValidationError, match="unknown field `logprob`"):
        GeminiDialect(models={"x": {"logprob": True}})


def test_names_nobody_knows_are_taken_for_the_newest() -> None:
    newest = GeminiModel()
    assert DIALECT.model("gemini-7-neon") == DIALECT.model("gemini-flash-latest") == newest
    assert DIALECT.model("GEMINI-2.5-PRO").budget == (128, 32_768)
    assert DIALECT.model("gemini-10-pro") == newest
    for fields in MODELS.values():
        msgspec.convert(fields, GeminiModel)


def test_the_rules_of_a_name_are_found_once() -> None:
    assert gemini_draft.rules_for(DIALECT, OLD) is gemini_draft.rules_for(DIALECT, OLD)


def test_who_goes_on_with_the_assistants_turn() -> None:
    assert [
        gemini.takes_prefill(DIALECT, each) for each in (OLD, FLASH_3, NEW, "gemini-4-argon", "gemini-3.5-flash-lite")
    ] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_nearest_thing_is_named() -> None:
    with pytest.raises(UnsupportedParameterError) as caught:
        body(NEW, size="1024x1024")
    assert "'16:9', or one of 512, 1K, 2K, 4K" in str(caught.value)
