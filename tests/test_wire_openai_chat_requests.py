"""
What the chat family makes of requests: nothing is lost, nothing is changed, what cannot be sent is refused.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chat_scenarios import dialect_of, request_of, sent

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError
from llm_master.rows import ChatDialect
from llm_master.wire import openai_chat

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FOREIGN = st.dictionaries(st.text(min_size=1, max_size=8).map("x_".__add__), JSON, max_size=4)
DIALECTS = [
    dialect_of(name) for name in ("plain", "openai", "tool_results_mistral", "system_joined", "stream_usage_groq")
]


@given(st.sampled_from(DIALECTS), FOREIGN, FOREIGN, st.sampled_from(["user", "assistant", "system"]), st.booleans())
def test_what_is_not_known_is_passed_on(
    dialect: ChatDialect, params: dict[str, Any], fields: dict[str, Any], role: str, stream: bool
) -> None:
    given_messages = [{"role": role, "content": "Hi", **fields}, {"role": "user", "content": [{"type": "x", **fields}]}]
    messages = copy.deepcopy(given_messages)
    body = json.loads(openai_chat.encode(Request("acme", "m", messages, {**params, "max_tokens": 3}, stream), dialect))
    assert all(body[name] == value for name, value in params.items())
    assert all(body["messages"][0][name] == value for name, value in fields.items())
    assert body["messages"][1]["content"] == [{"type": "x", **fields}]
    assert messages == given_messages


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5, unique=True))
def test_foreign_tool_ids_become_nine_letters_and_digits(ids: list[str]) -> None:
    calls = [{"id": each, "type": "function", "function": {"name": "f", "arguments": "{}"}} for each in ids]
    results = [{"role": "tool", "tool_call_id": each, "content": "1"} for each in ids]
    messages = [{"role": "assistant", "content": None, "tool_calls": calls}, *results]
    body = json.loads(openai_chat.encode(Request("m", "m", messages, {}), ChatDialect(tool_ids="alnum9")))
    made = [call["id"] for call in body["messages"][0]["tool_calls"]]
    assert made == [result["tool_call_id"] for result in body["messages"][1:]]
    assert len(set(made)) == len(ids)
    assert all(len(each) == 9 and each.isascii() and each.isalnum() for each in made)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning_details", "mistral_thinking"])
def test_an_answer_goes_back_to_its_own_provider_with_its_reasoning(name: str) -> None:
    request, dialect = request_of(name), dialect_of(name)
    answer = sent(name)
    assert answer is not None
    message = openai_chat.decode(answer, request, dialect).message
    turn = [{"role": "user", "content": "a"}, message, {"role": "user", "content": "b"}]
    here = json.loads(openai_chat.encode(Request(request.provider, request.model, turn, {}), dialect))["messages"][1]
    there = json.loads(openai_chat.encode(Request("elsewhere", "m", turn, {}), dialect))["messages"][1]
    assert there == {"role": "assistant", "content": message["content"]}
    assert here != there
    field = dialect.replay_reasoning if dialect.replay_reasoning in here else dialect.replay_details
    if field in here:
        assert {key: value for key, value in here.items() if key != field} == there
    else:
        assert here["content"][0]["type"] == "thinking"


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"x": object()}, "cannot be written as JSON"),
        ({"x": "\ud83d"}, "cannot be written as JSON"),
        ({"model": "other"}, "'model' is not a parameter"),
        ({"stream": True}, "'stream' is not a parameter"),
        ({"extra_body": [1]}, "extra_body is a list"),
        ({"seed": 1, "random_seed": 2}, "seed and what the server calls it are both given"),
        ({"reasoning_effort": {"effort": "high"}}, "it takes low, high"),
    ],
)
def test_what_cannot_be_sent_is_refused(params: dict[str, Any], reason: str) -> None:
    dialect = ChatDialect(rename={"seed": "random_seed"}, efforts=("low", "high"))
    with pytest.raises(InvalidRequestError, match=f"^acme/m.*{reason}"):
        openai_chat.encode(Request("acme", "m", [{"role": "user", "content": "Hi"}], params), dialect)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, "refers to itself"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"items": {"$ref": "#/$defs/A"}}}}, "refers to itself"),
        ({"$ref": "#/$defs/B"}, "'#/\\$defs/B', which it does not hold"),
    ],
)
def test_a_schema_that_cannot_be_inlined_is_refused(schema: dict[str, Any], reason: str) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    request = Request("acme", "m", [{"role": "user", "content": "Hi"}], {"tools": [tool]})
    with pytest.raises(InvalidRequestError, match=f"schema 'f' .*{reason}"):
        openai_chat.encode(request, ChatDialect(inline_defs=True))


def test_system_messages_that_contradict_each_other_are_not_joined() -> None:
    messages = [{"role": "system", "content": "a", "x": 1}, {"role": "system", "content": "b", "x": 2}]
    with pytest.raises(InvalidRequestError, match="differ in 'x'"):
        openai_chat.encode(Request("acme", "m", messages, {}), ChatDialect(single_system=True))


def test_a_dialect_is_never_taken_for_another() -> None:
    # Dialects that are gone leave their memory address to the next one.
    for number in range(3000):
        dialect = ChatDialect(rename={"seed": f"seed_{number}"})
        request = Request("acme", f"m{number % 7}", [{"role": "user", "content": "Hi"}], {"seed": 1})
        assert f'"seed_{number}":1' in openai_chat.encode(request, dialect).decode()


def test_other_choices_are_in_raw() -> None:
    answer = sent("several_choices")
    assert answer is not None
    response = openai_chat.decode(answer, request_of("several_choices"), ChatDialect())
    assert [choice["message"]["content"] for choice in response.raw["choices"]] == ["Second", "First"]


@pytest.mark.parametrize(
    ("given_choice", "sent_choice"),
    [
        ("ANY", "required"),
        ("Auto", "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "custom", "custom": {"name": "f"}}, {"type": "custom", "custom": {"name": "f"}}),
    ],
)
def test_a_choice_in_the_words_of_another_family_means_the_same(given_choice: Any, sent_choice: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    request = Request("acme", "m", [{"role": "user", "content": "Hi"}], {"tools": tools, "tool_choice": given_choice})
    assert json.loads(openai_chat.encode(request, ChatDialect()))["tool_choice"] == sent_choice
