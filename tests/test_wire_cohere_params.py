"""
What each Command model takes, and what is said of the rest.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from support.cohere_requests import DIALECT, HI, TOOL, body, dropping, refused, request

from llm_master.classes import Request
from llm_master.dialect_cohere import CohereDialect, cohere_profile
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.wire import cohere as family

PLUS, REASONING, PLAIN = "command-a-plus-05-2026", "command-a-reasoning-08-2025", "command-a-03-2025"
VISION, R, AYA = "command-a-vision-07-2025", "command-r-plus-08-2024", "c4ai-aya-expanse-32b"
PNG = "data:image/png;base64,iVBORw0KGgo="
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}]
CALLING = {
    "role": "assistant",
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "1"}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"a": {"type": "string"}}}}}


@pytest.mark.parametrize(
    ("model", "thinking", "images", "tools", "tool_choice"),
    [
        (PLUS, True, True, True, True),
        (REASONING, True, False, True, True),
        (PLAIN, False, False, True, True),
        (VISION, False, True, False, False),
        ("command-r7b-12-2024", False, False, True, True),
        ("command-r-08-2024", False, False, True, False),
        ("COMMAND-R", False, False, True, False),
        ("command-a-translate-08-2025", False, False, True, True),
        (AYA, False, False, False, False),
        ("c4ai-aya-vision-32b", False, True, False, False),
        ("command-b-2031", True, True, True, True),
        ("command-reasonable", True, True, True, True),
    ],
)
def test_capabilities(model: str, thinking: bool, images: bool, tools: bool, tool_choice: bool) -> None:
    found = cohere_profile(DIALECT, model)
    assert (found.thinking, found.images, found.tools, found.tool_choice) == (thinking, images, tools, tool_choice)
    assert cohere_profile(DIALECT, model) is found


def test_two_dialects_of_one_model_stay_apart() -> None:
    other = CohereDialect(thinking=False)
    assert cohere_profile(other, PLUS).thinking is False
    assert cohere_profile(DIALECT, PLUS).thinking is True


def test_a_wrong_override_is_found_when_the_row_is_read() -> None:
    with pytest.raises(msgspec.ValidationError):
        CohereDialect(per_model={"command": {"thinks": True}})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("n", 2, "several calls"),
        ("user", "bo", "leave it out"),
        ("metadata", {"a": "b"}, "leave it out"),
        ("logit_bias", {"1": 2}, "leave it out"),
        ("top_logprobs", 3, "logprobs=True"),
        ("service_tier", "flex", "priority"),
        ("modalities", ["text", "audio"], "speaks or draws"),
        ("audio", {"voice": "a"}, "speaks"),
        ("web_search_options", {}, "documents"),
        ("prompt_cache_key", "a", "by itself"),
        ("functions", [], "tools"),
        ("store", True, "leave it out"),
        ("top_p", 1.0, "nearest it takes is 0.99"),
        ("temperature", 1.5, "nearest it takes is 1"),
        ("top_k", 900, "nearest it takes is 500"),
        ("presence_penalty", -1, "nearest it takes is 0"),
        ("stop", list("abcdef"), "5 at most"),
        ("safety_mode", "OFF", "CONTEXTUAL, STRICT"),
        ("reasoning_effort", "high", "command-a-plus"),
        ("thinking_budget", 100, "command-a-plus"),
        ("thinking", {"type": "enabled"}, "command-a-plus"),
    ],
)
def test_what_it_cannot_take_names_the_next_best(name: str, value: Any, said: str) -> None:
    assert said in refused(PLAIN, name, **{name: value})
    sent, dropped = dropping(PLAIN, **{name: value})
    assert dropped == (name,)
    assert not {name, "thinking"} & sent.keys() or name in ("temperature", "presence_penalty")


@pytest.mark.parametrize(
    "params",
    [
        {"n": 1},
        {"logit_bias": {}},
        {"service_tier": "auto"},
        {"modalities": ["text"]},
        {"store": False},
        {"temperature": None, "user": None},
        {"thinking": {"type": "disabled"}},
        {"stream_options": {"include_usage": True}, "extra_headers": {"a": "b"}},
        {"stop": []},
        {"parallel_tool_calls": False},
        {"response_format": {"type": "text"}},
        {"tool_choice": "none"},
    ],
)
def test_what_asks_for_nothing_is_taken_in_silence(params: dict[str, Any]) -> None:
    assert body(PLAIN, **params) == {"model": PLAIN, "stream": False, "messages": HI}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"stop": [1]}, "stop"),
        ({"thinking": "on"}, "thinking"),
        ({"thinking_budget": -2}, "thinking_budget"),
        ({"thinking_budget": True}, "thinking_budget"),
        ({"thinking_budget": 5, "reasoning_effort": "low"}, "not both"),
        ({"tools": ["now"]}, "tool"),
        ({"tools": [{"type": "function", "function": {}}]}, "name"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "later"}}}, "later"),
        ({"tool_choice": "required"}, "tools is empty"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "no schema"),
        ({"extra_body": {"x": object()}}, "JSON"),
    ],
)
def test_what_cannot_be_read_is_an_invalid_request(params: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as caught:
        body(PLUS, **params)
    assert not isinstance(caught.value, UnsupportedParameterError)
    assert repr(PLUS) in str(caught.value)


def test_a_built_in_tool_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedParameterError, match="web_search"):
        body(PLAIN, tools=[{"type": "web_search"}])


@pytest.mark.parametrize(
    ("params", "thinking"),
    [
        ({"reasoning_effort": "minimal"}, {"type": "enabled", "token_budget": 512}),
        ({"reasoning_effort": "xhigh"}, {"type": "enabled", "token_budget": 31000}),
        ({"reasoning_effort": "max"}, {"type": "enabled"}),
        ({"reasoning_effort": "none"}, {"type": "disabled"}),
        ({"reasoning_effort": "high", "max_tokens": 1000}, {"type": "enabled", "token_budget": 500}),
        ({"reasoning_effort": "low", "max_tokens": 1}, {"type": "enabled", "token_budget": 1}),
        ({"thinking_budget": 0}, {"type": "disabled"}),
        ({"thinking_budget": -1}, {"type": "enabled"}),
        ({"thinking_budget": 9}, {"type": "enabled", "token_budget": 9}),
        ({"thinking": {"type": "enabled", "budget_tokens": 7}}, {"type": "enabled", "token_budget": 7}),
    ],
)
def test_how_much_it_thinks(params: dict[str, Any], thinking: dict[str, Any]) -> None:
    assert body(REASONING, **params)["thinking"] == thinking


def test_an_unknown_effort_is_refused_or_left_out() -> None:
    assert "minimal" in refused(REASONING, "reasoning_effort", reasoning_effort="utmost")
    sent, dropped = dropping(REASONING, reasoning_effort="utmost")
    assert ("thinking" in sent, dropped) == (False, ("reasoning_effort",))


def test_a_tool_cannot_be_forced_where_the_model_does_not_know_how() -> None:
    refused(R, "tool_choice", tools=[TOOL], tool_choice="required")
    sent, dropped = dropping(R, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "now"}})
    assert "tool_choice" not in sent
    assert sent["messages"][0] == {"role": "system", "content": "Call the tool 'now'."}
    assert dropped == ("tool_choice",)


def test_tools_where_there_are_none() -> None:
    refused(VISION, "tools", tools=[TOOL])
    sent, dropped = dropping(VISION, tools=[TOOL], tool_choice="required")
    assert ("tools" in sent, "tool_choice" in sent, dropped) == (False, False, ("tools",))


def test_calls_one_at_a_time_cannot_be_had() -> None:
    refused(PLAIN, "parallel_tool_calls", tools=[TOOL], parallel_tool_calls=False)


def test_a_schema_where_there_is_no_way_to_hold_the_model_to_it() -> None:
    refused(AYA, "response_format", response_format=SCHEMA)
    assert dropping(AYA, response_format=SCHEMA)[1] == ("response_format",)
    assert "documents" in refused(PLAIN, "response_format", response_format=SCHEMA, documents=["a"])


def test_a_named_tool_wins_over_the_tool_of_a_schema() -> None:
    choice = {"type": "function", "function": {"name": "now"}}
    sent = body(PLAIN, tools=[TOOL], tool_choice=choice, response_format=SCHEMA)
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["now"]
    assert "response_format" not in sent


def test_a_schema_with_tools_where_none_can_be_forced() -> None:
    sent = body(R, tools=[TOOL], response_format=SCHEMA)
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["now", "structured_answer"]
    assert "tool_choice" not in sent
    assert "'structured_answer'" in sent["messages"][0]["content"]


def test_a_schema_beside_json_object_is_one() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    sent = body(PLAIN, response_format={"type": "json_object", "json_schema": schema})
    assert sent["response_format"] == {"type": "json_object", "json_schema": schema}


def test_a_schema_is_put_into_the_subset_that_is_known() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "oneOf": [{"type": "string", "format": "email"}, {"type": "string", "format": "date"}],
        "properties": {
            "code": {"type": "string", "pattern": "^a", "description": "A code"},
            "digits": {"type": "string", "pattern": "[0-9]+"},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1, "uniqueItems": True},
            "bounds": {"type": "object", "additionalProperties": {"type": "integer", "maximum": 9}},
        },
        "$defs": {"tag": {"enum": ["a", "b"], "not": {}}},
    }
    before = json.dumps(schema)
    sent = body(PLAIN, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert sent["response_format"]["json_schema"] == {
        "type": "object",
        "anyOf": [{"type": "string", "description": 'format: "email"'}, {"type": "string", "format": "date"}],
        "properties": {
            "code": {"type": "string", "description": 'A code (pattern: "^a")'},
            "digits": {"type": "string", "pattern": "[0-9]+"},
            "tags": {
                "type": "array",
                "items": {"$ref": "#/$defs/tag"},
                "description": "minItems: 1, uniqueItems: true",
            },
            "bounds": {"type": "object", "additionalProperties": {"type": "integer", "description": "maximum: 9"}},
        },
        "$defs": {"tag": {"enum": ["a", "b"], "description": "not: {}"}},
        "required": ["code"],
    }
    assert json.dumps(schema) == before


def test_a_dialects_own_words() -> None:
    dialect = CohereDialect(drop=frozenset(("seed",)), defaults={"priority": 5}, rename={"top_p": "nucleus"})
    with pytest.raises(UnsupportedParameterError, match="seed"):
        family.encode(request(PLAIN, seed=1), dialect)
    sent = json.loads(family.encode(request(PLAIN, drop=True, seed=1, top_p=2), dialect))
    assert (sent["priority"], sent["nucleus"], "seed" in sent) == (5, 2, False)
    assert json.loads(family.encode(request(PLAIN, priority=0), dialect))["priority"] == 0


# Messages ---------------------------------------------------------------------------------------------------------


def test_images_where_the_model_does_not_see() -> None:
    with pytest.raises(UnsupportedParameterError, match="takes no images") as caught:
        family.encode(request(PLAIN, IMAGE, drop=True), DIALECT)
    assert caught.value.parameter == "image_url"
    assert body(PLUS, IMAGE)["messages"] == IMAGE


@pytest.mark.parametrize("kind", ["file", "input_audio", "video_url"])
def test_other_media_are_refused_by_name(kind: str) -> None:
    with pytest.raises(UnsupportedParameterError, match=kind):
        body(PLUS, [{"role": "user", "content": [{"type": kind, kind: {}}]}])


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "narrator", "content": "x"}], "no role"),
        ([{"role": "system", "content": "x"}], "needs a user message"),
        ([{"role": "user", "content": 5}], "content is int"),
        ([{"role": "user", "content": [{"text": "x"}]}], "without a type"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "without a url"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "file:///a.png"}]}], "data: or http"),
        ([{"role": "system", "content": [{"type": "image_url", "image_url": PNG}]}], "text only"),
        ([*HI, {"role": "tool", "tool_call_id": "a", "content": "x"}], "answers no tool call"),
        ([*HI, {"role": "function", "name": "a", "content": "x"}], "answers no tool call"),
        ([*HI, {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}], "no function call"),
        ([*HI, CALLING, *HI], "has no result"),
        ([*HI, CALLING], "has no result"),
        ([*HI, CALLING, RESULT, RESULT], "a second time"),
        ([*HI, CALLING, RESULT, *HI, RESULT], "of the turn before"),
    ],
)
def test_messages_that_cannot_be_read(messages: list[Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        body(PLUS, messages)


def test_a_last_word_of_the_assistant_is_refused() -> None:
    messages = [*HI, {"role": "assistant", "content": "Sure:"}]
    refused(PLAIN, "prefill", messages)
    assert dropping(PLAIN, messages)[0]["messages"] == HI
    assert family.takes_prefill(DIALECT, PLAIN) is False


def test_the_hot_path_sends_the_callers_own_messages() -> None:
    messages = [{"role": "system", "content": "Be brief."}, *HI, {"role": "assistant", "content": "Hm."}, *HI]
    assert body(PLAIN, messages)["messages"] == messages


def test_arguments_given_as_a_dict_become_text() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "now", "arguments": {"zone": "CET"}}}
    messages = [*HI, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "a", "content": "1"}]
    assert body(PLAIN, messages)["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"zone":"CET"}'


@pytest.mark.parametrize("content", ["12", "[1, 2]", "[]", "{}", "[{}]", "{broken", "[" * 5000, "plain"])
def test_a_result_that_is_no_object_stays_text(content: str) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "a", "content": content}
    assert body(PLAIN, [*HI, {"role": "assistant", "tool_calls": [call]}, result])["messages"][2] == result


def test_documents_of_the_callers_own_pass() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    part = {"type": "document", "document": {"id": "d", "data": {"x": 1}}}
    result = {"role": "tool", "tool_call_id": "a", "content": [part]}
    assert body(PLAIN, [*HI, {"role": "assistant", "tool_calls": [call]}, result])["messages"][2] == result


def test_an_image_of_the_last_result_follows_it() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "a", "content": IMAGE[0]["content"]}
    sent = body(PLUS, [*HI, {"role": "assistant", "tool_calls": [call]}, result])["messages"]
    assert sent[-1] == IMAGE[0]
    assert [part["type"] for part in sent[-2]["content"]] == ["text"]


def test_the_open_call_is_named() -> None:
    with pytest.raises(InvalidRequestError, match=r"tool call 'a' has no result"):
        body(PLUS, [*HI, CALLING])


def test_a_bound_keeps_the_kind_of_its_number() -> None:
    asked = request(PLAIN, drop=True, top_k=900, temperature=3, top_p=2.0)
    sent = family.encode(asked, DIALECT)
    assert b'"k":500' in sent
    assert b'"k":500.0' not in sent
    assert b'"temperature":1' in sent
    assert b'"p":0.99' in sent


def test_thinking_stands_before_parts_too() -> None:
    thought = {"type": "thinking", "thinking": "kept"}
    opaque = {"family": "cohere", "provider": "cohere", "model": PLUS, "payload": {"content": [thought]}}
    parts = [{"type": "text", "text": "Hm."}]
    messages = [*HI, {"role": "assistant", "content": parts, "opaque": opaque}, *HI]
    assert body(PLUS, messages)["messages"][1]["content"] == [thought, *parts]


def test_an_error_in_parts_is_put_into_words() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "x"}], "is_error": True}
    sent = body(PLAIN, [*HI, {"role": "assistant", "tool_calls": [call]}, result])["messages"][2]
    assert [part["text"] for part in sent["content"]] == ["The tool failed:", "x"]


def test_an_unknown_field_of_a_message_is_told() -> None:
    asked = request(PLAIN, [{"role": "user", "content": "Hi", "mood": "good", "cache_control": {"type": "ephemeral"}}])
    assert json.loads(family.encode(asked, DIALECT))["messages"] == HI
    assert asked.dropped == ("messages.mood", "cache_control")


def test_a_turn_that_says_nothing_is_left_out() -> None:
    messages = [*HI, {"role": "assistant", "content": ""}, {"role": "user", "content": []}, *HI]
    assert body(PLAIN, messages)["messages"] == [*HI, *HI]


def test_a_model_that_does_not_think_gets_no_thinking_back() -> None:
    payload = {"content": [{"type": "thinking", "thinking": "x"}]}
    opaque = {"family": "cohere", "provider": "cohere", "model": PLAIN, "payload": payload}
    messages = [*HI, {"role": "assistant", "content": "Hm.", "opaque": opaque}, *HI]
    assert body(PLAIN, messages)["messages"][1] == {"role": "assistant", "content": "Hm."}


def test_thinking_of_the_callers_own_is_not_doubled() -> None:
    payload = {"content": [{"type": "thinking", "thinking": "kept"}]}
    opaque = {"family": "cohere", "provider": "cohere", "model": PLUS, "payload": payload}
    parts = [{"type": "thinking", "thinking": "given"}, {"type": "text", "text": "Hm."}]
    messages = [*HI, {"role": "assistant", "content": parts, "opaque": opaque}, *HI]
    assert body(PLUS, messages)["messages"][1] == {"role": "assistant", "content": parts}


def test_another_provider_of_the_family_gets_no_payload() -> None:
    payload = {"content": [{"type": "thinking", "thinking": "x"}]}
    opaque = {"family": "cohere", "provider": "cohere", "model": PLUS, "payload": payload}
    asked = Request("private", PLUS, [*HI, {"role": "assistant", "content": "Hm.", "opaque": opaque}, *HI], {})
    assert json.loads(family.encode(asked, DIALECT))["messages"][1] == {"role": "assistant", "content": "Hm."}
