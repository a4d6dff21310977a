"""
What the Responses family makes of requests: nothing is lost, nothing is changed, what cannot be sent is refused.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.responses_scenarios import DIALECTS, PLAIN, asked, dialect_of, expected, plain_of, request_of

from llm_master.classes import Request
from llm_master.dialect_responses import SAMPLING, ResponsesDialect
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.messages import normalise
from llm_master.rows import ChatDialect
from llm_master.wire import openai_chat
from llm_master.wire import openai_responses as family

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FOREIGN = st.dictionaries(st.text(min_size=1, max_size=8).map("x_".__add__), JSON.filter(lambda x: x is not None))
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": "Hi"}


def body_of(request: Request, dialect: ResponsesDialect | None = None) -> dict[str, Any]:
    return json.loads(family.encode(request, dialect or ResponsesDialect()))


def calls(*ids: str) -> dict[str, Any]:
    made = [{"id": each, "type": "function", "function": {"name": "f", "arguments": "{}"}} for each in ids]
    return {"role": "assistant", "content": None, "tool_calls": made}


@given(st.sampled_from(sorted(DIALECTS)), FOREIGN, FOREIGN)
def test_what_is_not_known_is_passed_on(name: str, params: dict[str, Any], fields: dict[str, Any]) -> None:
    given_messages = [{"role": "user", "content": [{"type": "x", **fields}, {"type": "text", "text": "a"}]}]
    messages = copy.deepcopy(given_messages)
    body = body_of(asked(*messages, **params, max_tokens=3), DIALECTS[name])
    assert all(body[each] == value for each, value in params.items())
    assert body["input"][0]["content"] == [{"type": "x", **fields}, {"type": "input_text", "text": "a"}]
    assert body["max_output_tokens"] == 3
    assert messages == given_messages


@given(st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=5))
def test_foreign_tool_ids_become_valid_ones(ids: list[str]) -> None:
    messages: list[dict[str, Any]] = []
    for each in ids:  # a turn for each, as ids may come again in a later turn
        messages += [calls(each), {"role": "tool", "tool_call_id": each, "content": "1"}]
    items = body_of(asked(USER, *messages))["input"][1:]
    made = [item["call_id"] for item in items if item["type"] == "function_call"]
    assert made == [item["call_id"] for item in items if item["type"] == "function_call_output"]
    assert len(set(made)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", each) for each in made)
    first = next(item["call_id"] for item in items)
    assert (first == ids[0]) == bool(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", ids[0]))


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"x": object()}, "cannot be written as JSON"),
        ({"x": "\ud83d"}, "cannot be written as JSON"),
        ({"model": "other"}, "'model' is not a parameter"),
        ({"input": "Hi"}, "'input' is not a parameter"),
        ({"extra_body": [1]}, "extra_body is a list"),
        ({"max_tokens": 1, "max_output_tokens": 2}, "are the same limit but differ"),
        ({"max_tokens": 1, "limit": 2}, "max_tokens and what the server calls it are both given"),
        ({"text": "short"}, "text is a dict"),
        ({"text": {"format": {"type": "text"}}, "response_format": {"type": "json_object"}}, "not both"),
        ({"response_format": {"type": "yaml"}}, "its type is text, json_object or json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "holds no schema"),
        ({"reasoning": "high"}, "reasoning is a dict"),
        ({"reasoning_effort": 3}, "reasoning_effort is a word"),
        ({"thinking_budget": "much"}, "thinking_budget is a number of tokens"),
        ({"thinking": {"type": "deep"}}, "thinking .* is not known"),
        ({"thinking_budget": 0, "reasoning_effort": "high"}, "contradict each other"),
        ({"tools": ["f"]}, "a tool is a str"),
        ({"tools": [{"type": "function", "function": {}}]}, "a tool without a name"),
        ({"tools": [TOOL], "tool_choice": "f"}, "tool_choice 'f' is not known"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice .* is not known"),
    ],
)
def test_parameters_that_cannot_be_read_are_refused(params: dict[str, Any], reason: str) -> None:
    dialect = ResponsesDialect(rename={"max_tokens": "limit"})
    for drop_params in (False, True):  # what cannot be read is no matter of dropping
        request = Request("acme", "m", [USER], params, drop_params=drop_params)
        with pytest.raises(InvalidRequestError, match=f"^acme/m: .*{reason}"):
            family.encode(request, dialect)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "user", "content": [{"text": "a"}]}, "part without a type"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "without a url or file_id"),
        ({"role": "user", "content": [{"type": "image", "source": {"type": "s3"}}]}, "source of type 's3'"),
        ({"role": "user", "content": [{"type": "file", "file": {"filename": "a"}}]}, "a file part needs"),
        ({"role": "assistant", "tool_calls": [{"id": "a", "type": "function"}]}, "'a' is no function call"),
    ],
)
def test_messages_that_cannot_be_read_are_refused(message: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^acme/m.*{reason}"):
        family.encode(asked(USER, message), DIALECTS["openrouter"])


def test_the_result_of_the_providers_own_tool_needs_its_own_form() -> None:
    item = {"type": "computer_call", "id": "cu", "call_id": "c", "action": {"type": "wait"}}
    messages = [{"role": "user", "content": [item]}, {"role": "tool", "tool_call_id": "c", "content": "done"}]
    with pytest.raises(InvalidRequestError, match=r"needs its own form; give content=\[\{'type': 'computer_call_out"):
        family.encode(asked(*messages), ResponsesDialect())
    messages[1]["content"] = [{"type": "computer_call_output", "output": {"type": "computer_screenshot"}}]
    sent = body_of(asked(*messages))["input"]
    assert sent == [item, {"type": "computer_call_output", "output": {"type": "computer_screenshot"}, "call_id": "c"}]


@pytest.mark.parametrize(
    ("params", "parameter", "instead"),
    [
        ({"stop": ["a"]}, "stop", "cut the text yourself"),
        ({"n": 2}, "n", "make several calls"),
        ({"seed": 1}, "seed", "api='chat'"),
        ({"frequency_penalty": 1}, "frequency_penalty", "api='chat'"),
        ({"logit_bias": {"1": 1}}, "logit_bias", "api='chat'"),
        ({"audio": {"voice": "a"}}, "audio", "a model that speaks"),
        ({"background": True}, "background", "extra_body="),
        ({"temperature": 0.2}, "temperature", "reasoning_effort='none'"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "it takes none, low, medium, high, xhigh"),
    ],
)
def test_what_the_model_cannot_take_is_refused_or_dropped(params: dict[str, Any], parameter: str, instead: str) -> None:
    request = asked(USER, provider="openai", model="gpt-5.5", **params)
    with pytest.raises(
        UnsupportedParameterError, match=f"^openai/gpt-5.5 does not take {parameter}.*{instead}"
    ) as info:
        family.encode(request, DIALECTS["openai"])
    assert info.value.parameter == parameter
    request.drop_params = True
    assert body_of(request, DIALECTS["openai"]) == {
        "model": "gpt-5.5",
        "input": [USER],
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    assert request.dropped == (parameter,)


@pytest.mark.parametrize("name", sorted(DIALECTS))
@pytest.mark.parametrize("params", [{"store": True}, {"previous_response_id": "r"}, {"conversation": "c"}])
def test_state_is_the_callers_choice_or_refused(name: str, params: dict[str, Any]) -> None:
    (field,) = params
    dialect = DIALECTS[name]
    request = asked(USER, **params)
    if field in dialect.drop:
        with pytest.raises(UnsupportedParameterError, match=f"does not take {field}"):
            family.encode(request, dialect)
    else:
        body = body_of(request, dialect)
        assert {each: body[each] for each in ("store", "include", *params) if each in body} == params


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_nothing_is_stored_unless_asked_for(name: str) -> None:
    body = body_of(asked(USER), DIALECTS[name])
    assert body.get("store") == DIALECTS[name].store
    assert body.get("store") is not True


def test_stream_options_go_with_streams_only() -> None:
    request = asked(USER, stream_options={"include_usage": True, "include_obfuscation": False})
    assert "stream_options" not in body_of(request)
    assert request.dropped == ("stream_options",)
    request.stream = True
    assert body_of(request)["stream_options"] == {"include_obfuscation": False}
    assert request.dropped == ()


# Turns that go back -------------------------------------------------------------------------------------------------

WHOLE = [name for name in PLAIN if expected(name).get("response", {}).get("opaque")]
OWN_RESULTS = {
    "computer_call": [{"type": "computer_call_output", "output": {"type": "computer_screenshot"}}],
    "tool_search_call": [{"type": "tool_search_output", "tools": []}],
    "shell_call": [{"type": "shell_call_output", "output": []}],
}
OWN_TOOLS = ("computer_call", "custom_tool", "tool_search")


def continued(name: str, model: str) -> list[dict[str, Any]]:
    """The messages of a scenario with its answer, as JSON has kept it, and results for its calls."""
    request = request_of(name)
    message = family.decode(plain_of(name), request, dialect_of(name)).message
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": OWN_RESULTS.get(call["type"], "done")}
        for call in message.get("tool_calls", ())
    ]
    kept = json.loads(json.dumps([*request.messages, message, *results, USER]))
    return normalise(kept)


@pytest.mark.parametrize("name", WHOLE)
def test_an_answer_goes_back_as_the_items_that_it_was(name: str) -> None:
    request = request_of(name)
    again = Request(request.provider, request.model, continued(name, request.model), {})
    sent = body_of(again, dialect_of(name))["input"]
    output = [item for item in json.loads(plain_of(name))["output"] if isinstance(item, dict)]
    if name == "length_in_reasoning":
        assert not any(item.get("type") == "reasoning" for item in sent)  # nothing follows it
    elif name == "loose_shapes":
        assert "plain words more!" in [item.get("content") for item in sent]  # its reasoning is not encrypted
    else:
        at = sent.index(output[0])
        assert sent[at : at + len(output)] == output


@pytest.mark.parametrize("name", [name for name in WHOLE if name not in OWN_TOOLS])
def test_elsewhere_an_answer_goes_in_its_own_words(name: str) -> None:
    said = expected(name)["response"]
    for sent in (
        body_of(Request("azure", "gpt-5.5", continued(name, "m"), {}), DIALECTS["azure"]),
        json.loads(openai_chat.encode(Request("openai", "gpt-4.1", continued(name, "m"), {}), ChatDialect())),
    ):
        text = json.dumps(sent.get("input", sent.get("messages")), ensure_ascii=False)
        assert "gAAAA" not in text
        assert "opaque" not in text
        assert json.dumps(said["content"], ensure_ascii=False)[1:-1] in text
        assert all(call["id"] in text for call in said.get("tool_calls", ()))


def test_a_turn_that_was_kept_is_not_changed() -> None:
    messages = continued("tools_parallel", "m")
    before = copy.deepcopy(messages)
    body_of(Request("openai", "gpt-5.5", messages, {}), DIALECTS["openai"])
    assert messages == before


# Dialects and the way to this family --------------------------------------------------------------------------------

HERE = ["gpt-5.4", "gpt-5.4-mini", "gpt-5.5", "gpt-5.6-terra", "gpt-6-astra", "gpt-6.1-sol", "gpt-6-luna", "gpt-9-nova"]
ALWAYS = ["gpt-5-pro", "gpt-5.4-pro", "gpt-5.5-pro-2026-04-23", "o3-pro", "gpt-5-codex", "o4-mini-deep-research"]
EITHER = ["gpt-4.1", "gpt-4o-mini", "chatgpt-4o-latest", "gpt-5", "gpt-5-mini", "gpt-5.1", "gpt-5.3-chat-latest", "o3"]


@pytest.mark.parametrize("model", HERE)
def test_tools_while_reasoning_come_here_by_themselves(model: str) -> None:
    dialect = DIALECTS["openai"].for_model(model)
    assert dialect.wanted({"tools": [TOOL], "reasoning_effort": "low"})
    assert dialect.wanted({"functions": [TOOL["function"]], "thinking_budget": 5000})
    assert dialect.wanted({"tools": [TOOL], "reasoning": {"effort": "high"}})
    assert dialect.wanted({"tools": [TOOL]}) == (not model.startswith("gpt-5.4"))  # which by itself does not reason
    assert not dialect.wanted({"tools": [TOOL], "reasoning_effort": "none"})
    assert not dialect.wanted({"tools": [TOOL], "thinking": {"type": "disabled"}})
    assert not dialect.wanted({"tools": [], "reasoning_effort": "low"})
    assert not dialect.wanted({"reasoning_effort": "low", "previous_response_id": None})


@pytest.mark.parametrize("model", ALWAYS)
def test_models_that_are_served_nowhere_else_come_here(model: str) -> None:
    assert DIALECTS["openai"].for_model(model).wanted({})


@pytest.mark.parametrize("model", EITHER)
def test_what_only_this_api_has_comes_here(model: str) -> None:
    dialect = DIALECTS["openai"].for_model(model)
    assert not dialect.wanted({"tools": [TOOL, {"type": "custom", "name": "a"}], "reasoning_effort": "high"})
    assert dialect.wanted({"tools": [TOOL, {"type": "web_search"}]})
    for name in ("previous_response_id", "conversation", "truncation", "include", "background", "reasoning_summary"):
        assert dialect.wanted({name: "x"})


@pytest.mark.parametrize(
    ("model", "temperature", "encrypted"),
    [("gpt-4.1", True, False), ("gpt-5.1", True, True), ("gpt-5", False, True), ("gpt-7", False, True)],
)
def test_what_a_model_takes_is_data(model: str, temperature: bool, encrypted: bool) -> None:
    request = asked(USER, model=model, temperature=0.5)
    request.drop_params = True
    body = body_of(request, DIALECTS["openai"])
    assert ("temperature" in body, "include" in body) == (temperature, encrypted)


def test_a_dialect_is_checked_as_it_is_read() -> None:
    with pytest.raises(msgspec.ValidationError, match="nonsense"):
        msgspec.convert({"per_model": {"a": {"nonsense": 1}}}, ResponsesDialect)
    dialect = ResponsesDialect(drop=frozenset({"sampling", "user"}), per_model={"A-B": {}, "a-b": {"store": None}})
    assert dialect.drop == SAMPLING | {"user"}
    assert dialect.for_model("x/A-B-c").store is None
    assert dialect.for_model("other") is dialect


def test_a_dialect_is_never_taken_for_another() -> None:
    # Dialects that are gone leave their memory address to the next one.
    for number in range(3000):
        dialect = ResponsesDialect(rename={"user": f"user_{number}"})
        assert f'"user_{number}":"a"' in family.encode(asked(model=f"m{number % 7}", user="a"), dialect).decode()


def test_what_the_family_says_of_itself() -> None:
    assert family.PATH == "/responses"
    assert not any(family.takes_prefill(dialect, "m") for dialect in DIALECTS.values())
