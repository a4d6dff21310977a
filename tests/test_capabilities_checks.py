"""
What a model is known to be unable to take is stopped before anything is sent, or left out and listed.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.behaviours import ok, status
from support.bodies import BEDROCK, CHAT, COHERE, GEMINI, MESSAGES, RESPONSES, Family
from support.conformance import KEY, api_of
from support.fault_server import FaultServer

from llm_master import (
    ContextWindowError,
    InvalidRequestError,
    LLMConfig,
    LLMResponse,
    NotFoundError,
    QueryLLM,
    UnsupportedParameterError,
)
from llm_master.base_provider import row_of
from llm_master.efforts import BUDGETS, advice, effort_for, nearest
from llm_master.guard import guard_for
from llm_master.model_facts import facts_of

HI = [{"role": "user", "content": "Say hello."}]
# One model a family: provider, name, the field of the body with the output limit.
SIX: dict[Family, tuple[str, str, tuple[str, ...]]] = {
    CHAT: ("openai", "gpt-5", ("max_completion_tokens",)),
    RESPONSES: ("openai", "gpt-5", ("max_output_tokens",)),
    MESSAGES: ("anthropic", "claude-opus-5-5", ("max_tokens",)),
    GEMINI: ("gemini", "gemini-3.8-flash", ("generationConfig", "maxOutputTokens")),
    COHERE: ("cohere", "command-a-03-2025", ("max_tokens",)),
    BEDROCK: ("bedrock", "us.anthropic.claude-opus-5-5", ("inferenceConfig", "maxTokens")),
}
FAMILIES = list(SIX)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
WAV = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}


def name_of(family: Family) -> tuple[str, dict[str, Any]]:
    provider, model, _ = SIX[family]
    return f"{provider}/{model}", dict(api_of(provider, family))


def ask(
    server: FaultServer, name: str, messages: Any = HI, *, settings: dict[str, Any] | None = None, **params: Any
) -> Any:
    """One call at a client whose provider is the server."""
    provider = name.partition("/")[0]

    async def main() -> LLMResponse:
        config = LLMConfig(
            **{row_of(provider).api_key_attr or "": KEY},  # type: ignore[arg-type]  # one field's name
            base_urls={provider: server.url + "/base/v1"},
        )
        async with QueryLLM(config, **(settings or {})) as llm:
            answer = await llm.query(name, messages, max_attempts=1, **params)
            if params.get("stream"):
                await answer.text()
                return answer.response  # type: ignore[no-any-return]  # a stream's own
            return answer

    return asyncio.run(main())


def sent(server: FaultServer, family: Family) -> Any:
    value: Any = json.loads(server.requests[-1].body)
    for field in SIX[family][2]:
        value = value[field]
    return value


# -- the output limit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_more_output_than_a_model_gives_is_refused_with_the_limit(family):
    name, api = name_of(family)
    most = facts_of(*name.split("/", 1)).facts.max_output
    with FaultServer() as server:
        server.script([ok("fine")])
        with pytest.raises(
            UnsupportedParameterError, match=rf"gives at most {most} tokens.*max_tokens={most}"
        ) as caught:
            ask(server, name, max_tokens=most + 1, **api)
        assert caught.value.parameter == "max_tokens"
        assert "\n" not in str(caught.value)
        assert server.requests == []
        assert ask(server, name, max_tokens=most, **api).dropped == ()
        assert sent(server, family) == most


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("spelling", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_with_drop_params_it_becomes_the_limit_and_is_listed(family, spelling):
    name, api = name_of(family)
    most = facts_of(*name.split("/", 1)).facts.max_output
    params = {spelling: 10 * most}
    with FaultServer() as server:
        server.script([ok("fine")])
        answer = ask(server, name, drop_params=True, **params, **api)
        assert sent(server, family) == most
    assert answer.dropped == (f"{spelling}={10 * most}->{most}",)
    assert params == {spelling: 10 * most}


def test_the_limit_of_a_model_that_is_merely_like_a_known_one_refuses_nothing():
    with FaultServer() as server:
        server.script([ok("fine")])
        ask(server, "openai/ft:gpt-4o:acme::1", max_tokens=500_000)
        assert json.loads(server.requests[-1].body)["max_completion_tokens"] == 500_000


# -- drop_params ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("where", ["settings", "call"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_taken_is_left_out_and_listed(family, where, stream):
    name, api = name_of(family)
    settings, own = ({"drop_params": True}, {}) if where == "settings" else ({}, {"drop_params": True})
    with FaultServer() as server:
        server.script([ok("fine")])
        answer = ask(server, name, settings=settings, logit_bias={"1": 1}, stream=stream, **own, **api)
        assert answer.content
        assert answer.dropped == ("logit_bias",)
        assert b"logit" not in server.requests[-1].body.lower()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_call_may_be_stricter_than_its_settings(family):
    name, api = name_of(family)
    with FaultServer() as server:
        with pytest.raises(UnsupportedParameterError, match="drop_params=True") as caught:
            ask(server, name, settings={"drop_params": True}, logit_bias={"1": 1}, drop_params=False, **api)
        assert caught.value.parameter == "logit_bias"
        assert name.split("/", 1)[1] in str(caught.value)
        assert server.requests == []


@pytest.mark.parametrize("family", [RESPONSES, MESSAGES, GEMINI, COHERE, BEDROCK])
def test_several_answers_where_there_is_one(family):
    name, api = name_of(family)
    with FaultServer() as server:
        server.script([ok("fine")])
        with pytest.raises(UnsupportedParameterError, match="make several calls") as caught:
            ask(server, name, n=2, **api)
        assert caught.value.parameter == "n"
        assert server.requests == []
        assert ask(server, name, n=1, **api).dropped == ()
        assert ask(server, name, n=2, drop_params=True, **api).dropped == ("n",)


@pytest.mark.parametrize(
    ("name", "value", "nearest", "api"),
    [
        ("temperature", 2.5, 2.0, "chat"),
        ("temperature", 2.5, 2.0, "responses"),
        ("presence_penalty", -3.5, -2.0, "chat"),
    ],
)
def test_a_value_outside_of_a_documented_range_is_not_sent(name, value, nearest, api):
    with FaultServer() as server:
        with pytest.raises(UnsupportedParameterError, match=rf"{name}={value}.* nearest {nearest:g}"):
            ask(server, "openai/gpt-4o", api=api, **{name: value})
        assert server.requests == []
        assert ask(server, "openai/gpt-4o", api=api, drop_params=True, **{name: value}).dropped == (
            f"{name}={value}->{nearest:g}",
        )
        assert server.requests[0].json[name] == nearest


def test_where_one_value_is_taken_it_is_named():
    with FaultServer() as server, pytest.raises(UnsupportedParameterError, match="n=2; it takes 1 only"):
        ask(server, "groq/llama", n=2)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_effort_that_is_none_names_the_nearest(family):
    name, api = name_of(family)
    if family == COHERE:
        name = "cohere/command-a-plus-05-2026"
    with FaultServer() as server, pytest.raises(UnsupportedParameterError, match="the nearest being 'high'"):
        ask(server, name, reasoning_effort="hihg", **api)


@given(
    st.text(max_size=8) | st.sampled_from(["none", "minimal", "max", "default", 3, None]),
    st.lists(st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"]), min_size=1, unique=True),
)
def test_the_nearest_effort_is_one_that_is_taken(effort, known):
    found = advice(effort, known).rpartition("the nearest being ")[2].strip("'")
    assert found in known
    if effort in known:
        assert found == effort
    elif effort in ("minimal", "max", "default") and known != ["none"]:
        assert found != "none"


# -- How much is reasoned ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini", "ft:gpt-4o:acme:x", "gpt-3.5-turbo"])
@pytest.mark.parametrize("setting", [{"reasoning_effort": "high"}, {"thinking_budget": 2000}])
def test_a_model_of_openai_that_does_not_reason_says_so(model, api, setting):
    (name,) = setting
    with FaultServer() as server:
        with pytest.raises(UnsupportedParameterError, match="has no such setting") as caught:
            ask(server, f"openai/{model}", api=api, **setting)
        assert caught.value.parameter == name
        assert server.requests == []
        assert ask(server, f"openai/{model}", api=api, drop_params=True, **setting).dropped == (name,)
        assert ask(server, f"openai/{model}", api=api, reasoning_effort="none").dropped == ()
        assert all("reasoning" not in seen.json and "reasoning_effort" not in seen.json for seen in server.requests)


@pytest.mark.parametrize(
    ("name", "api", "least"),
    [
        ("openai/gpt-5.5-pro", "chat", "medium"),
        ("openai/gpt-5.5-pro", "responses", "medium"),
        ("groq/openai/gpt-oss-120b", "chat", "low"),
        ("deepseek/deepseek-chat", "chat", "low"),
        ("xai/grok-4.7", "chat", "low"),
        ("xai/grok-4.7", "responses", "low"),
    ],
)
@pytest.mark.parametrize("given", [{"reasoning_effort": "none"}, {"thinking_budget": 0}], ids=["effort", "budget"])
def test_what_always_reasons_says_so_and_names_the_least(name, api, least, given):
    parameter = next(iter(given))
    with FaultServer() as server:
        server.script([ok("fine")])
        with pytest.raises(UnsupportedParameterError, match=f"always reasons; the least is .*={least!r}") as caught:
            ask(server, name, api=api, **given)
        assert caught.value.parameter == parameter
        assert server.requests == []
        answer = ask(server, name, api=api, drop_params=True, **given)
        assert answer.dropped == (f"{parameter}=none->{least}",)
        body = json.loads(server.requests[-1].body)
        assert (body["reasoning"]["effort"] if api == "responses" else body["reasoning_effort"]) == least


@pytest.mark.parametrize(
    ("name", "budget", "sent", "dropped"),
    [
        ("dashscope/qwen3-max", 3000, {"enable_thinking": True, "thinking_budget": 3000}, ()),
        ("dashscope/qwen3-max", -1, {"enable_thinking": True}, ()),
        ("dashscope/qwen3-max", 0, {"enable_thinking": False}, ()),
        ("openrouter/qwen/qwen3-max", 3000, {"reasoning": {"enabled": True, "max_tokens": 3000}}, ()),
        ("openrouter/qwen/qwen3-max", 0, {"reasoning": {"effort": "none"}}, ()),
        ("vercel/anthropic/claude-sonnet-4.5", 3000, {"reasoning": {"enabled": True, "max_tokens": 3000}}, ()),
        ("vllm/qwen3", 3000, {"thinking_token_budget": 3000}, ()),
        ("groq/qwen3-32b", 3000, {"reasoning_effort": "default"}, ("thinking_budget=3000->reasoning_effort=default",)),
        ("mistral/magistral", 500, {"reasoning_effort": "high"}, ("thinking_budget=500->reasoning_effort=high",)),
        ("gemini_openai/gemini-2.5-flash", 9000, {"reasoning_effort": "medium"}, None),
    ],
)
def test_a_budget_goes_where_the_server_has_a_field_and_else_becomes_an_effort(name, budget, sent, dropped):
    with FaultServer() as server:
        server.script([ok("fine")])
        answer = ask(server, name, thinking_budget=budget)
        body = json.loads(server.requests[-1].body)
    fields = ("enable_thinking", "thinking_budget", "thinking_token_budget", "reasoning", "reasoning_effort")
    assert {field: body[field] for field in fields if field in body} == sent
    if dropped is None:
        dropped = (f"thinking_budget={budget}->reasoning_effort={sent['reasoning_effort']}",)
    assert [entry for entry in answer.dropped if entry.startswith("thinking_budget")] == list(dropped)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("together/deepseek-ai/DeepSeek-R1", "nearest is reasoning_effort='low', or extra_body"),
        ("zai/glm-5", "no such setting"),
    ],
)
def test_a_budget_that_goes_nowhere_is_refused(name, match):
    with FaultServer() as server:
        server.script([ok("fine")])
        with pytest.raises(UnsupportedParameterError, match=match) as caught:
            ask(server, name, thinking_budget=3000)
        assert caught.value.parameter == "thinking_budget"
        assert server.requests == []
        assert ask(server, name, thinking_budget=3000, drop_params=True).dropped == ("thinking_budget",)
        assert "thinking_budget" not in json.loads(server.requests[-1].body)


@given(st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"]), st.integers(1, 10**6))
def test_an_effort_for_a_budget_needs_no_more_than_it(effort, budget):
    found = effort_for(budget)
    assert BUDGETS[found] <= budget or found == "minimal"
    assert all(tokens > budget or tokens <= BUDGETS[found] for tokens in BUDGETS.values())
    assert nearest(effort, [effort]) == effort


# -- Meta's tools ---------------------------------------------------------------------------------------------------


def test_meta_cannot_be_kept_from_its_tools_so_they_are_left_out():
    with FaultServer() as server:
        server.script([ok("fine")])
        with pytest.raises(UnsupportedParameterError, match="tool_choice='none'; leave tools out") as caught:
            ask(server, "meta/muse-spark-1.3", tools=[TOOL], tool_choice="none")
        assert caught.value.parameter == "tool_choice"
        answer = ask(server, "meta/muse-spark-1.3", tools=[TOOL], tool_choice="none", drop_params=True)
        assert answer.dropped == ("tools",)
        assert {"tools", "tool_choice"}.isdisjoint(json.loads(server.requests[-1].body))
        assert ask(server, "meta/muse-spark-1.3", tools=[TOOL], tool_choice="auto").dropped == ()


# -- kinds of input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "api", "part", "said"),
    [
        ("deepseek/deepseek-v4-pro", {}, PNG, "reads no images.*such as deepseek-v4-flash"),
        ("deepseek/deepseek-v4-pro", {"api": "messages"}, PNG, "reads no images.*such as deepseek-v4-flash"),
        ("openai/o3-mini", {}, PNG, r"reads no images.*such as gpt-6\.1-sol"),
        ("openai/gpt-5", {}, WAV, r"reads no audio \('input_audio' part\); send a transcript"),
        ("openai/gpt-5", {"api": "responses"}, WAV, "reads no audio"),
        ("anthropic/claude-opus-5", {}, WAV, "reads no audio"),
        ("bedrock/us.anthropic.claude-opus-5", {}, WAV, "reads no audio"),
        ("cohere/command-a-03-2025", {"api": "cohere"}, PNG, "takes no images"),
    ],
)
def test_what_a_model_does_not_read_is_not_sent(name, api, part, said):
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]
    with FaultServer() as server:
        with pytest.raises(UnsupportedParameterError, match=said) as caught:
            ask(server, name, messages, **api)
        assert name.split("/", 1)[1] in str(caught.value)
        assert "\n" not in str(caught.value)
        assert server.requests == []


def test_a_picture_in_an_earlier_turn_counts_too():
    messages = [{"role": "user", "content": [PNG]}, {"role": "assistant", "content": "A cat."}, *HI]
    with FaultServer() as server, pytest.raises(UnsupportedParameterError, match="reads no images"):
        ask(server, "deepseek/deepseek-v4-pro", messages)


@pytest.mark.parametrize(
    "name", ["deepseek/deepseek-v4-flash", "openai/gpt-4o", "openai/ft:o3-mini:acme", "vllm/o3-mini"]
)
def test_what_a_model_reads_or_nobody_knows_is_sent(name):
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, PNG]}]
    with FaultServer() as server:
        server.script([ok("fine")])
        assert ask(server, name, messages).content
        assert b"image_url" in server.requests[-1].body


def test_a_fallback_that_sees_gets_the_picture():
    messages = [{"role": "user", "content": [PNG]}]
    with FaultServer() as server:
        server.script([ok("a cat")])
        answer = ask(server, "deepseek/deepseek-v4-pro", messages, fallback_model="deepseek/deepseek-v4-flash")
        assert answer.model_name == "deepseek/deepseek-v4-flash"
        assert [json.loads(seen.body)["model"] for seen in server.requests] == ["deepseek-v4-flash"]


# -- the context ----------------------------------------------------------------------------------------------------


def test_what_fits_into_no_context_is_not_sent():
    with FaultServer() as server:
        server.script([ok("fine")])
        far = [{"role": "user", "content": "word and word " * 200_000}]
        with pytest.raises(ContextWindowError, match="gpt-4o holds 128000 tokens and the messages are about"):
            ask(server, "openai/gpt-4o", far, temperature=0)
        assert server.requests == []
        # What an estimate alone says against is the provider's to judge.
        near = [{"role": "user", "content": "word and word " * 60_000}]
        assert ask(server, "openai/gpt-4o", near, temperature=0).content


def test_the_providers_word_on_the_context_gets_the_number():
    refusal = {"error": {"message": "too long", "code": "context_length_exceeded", "type": "invalid_request_error"}}
    with FaultServer() as server:
        server.script([status(400, json.dumps(refusal).encode())])
        with pytest.raises(ContextWindowError, match="'gpt-4o' holds 128000 tokens of input and answer"):
            ask(server, "openai/gpt-4o")


# -- retired models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_a_retired_model_says_so(stream):
    with FaultServer() as server:
        server.script([ok("fine")])
        answer = ask(server, "anthropic/claude-3-5-sonnet-latest", stream=stream)
        said = "anthropic retired 'claude-3-5-sonnet-latest' on 2025-10-28; it names claude-sonnet-4-5 instead"
        assert said in answer.notes
        assert ask(server, "openai/gpt-4o", stream=stream).notes == ()


def test_a_model_that_is_gone_says_since_when():
    with FaultServer() as server:
        server.script([status(404)])
        with pytest.raises(NotFoundError, match="openai retired 'o4-mini' on 2026-10-23"):
            ask(server, "openai/o4-mini")


@pytest.mark.parametrize(
    ("day", "said"),
    [("2026-09-11", None), ("2026-09-12", "retires"), ("2026-12-10", "retires"), ("2026-12-11", "retired")],
)
def test_the_note_begins_ninety_days_before(day, said):
    guard = guard_for(row_of("openai"), "gpt-5", today=dt.date.fromisoformat(day))
    assert guard.notice == (None if said is None else f"openai {said} 'gpt-5' on 2026-12-11")


def test_a_name_that_no_source_speaks_of_has_no_guard():
    assert guard_for(row_of("openai"), "gpt-7") is None
    assert guard_for(row_of("vllm"), "gpt-4o") is None


# -- shapes ---------------------------------------------------------------------------------------------------------


def test_a_shape_that_a_family_cannot_express_is_not_sent():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    shape = {"$ref": "#/$defs/node", "$defs": {"node": node}}
    wanted = {"type": "json_schema", "json_schema": {"name": "tree", "schema": shape}}
    with FaultServer() as server:
        with pytest.raises(InvalidRequestError, match=r"gemini-2\.0-flash"):
            ask(server, "gemini/gemini-2.0-flash", response_format=wanted)
        assert server.requests == []
