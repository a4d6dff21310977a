"""
Messages that become turns of the Messages API: what is refused, what is repaired, and that nothing gets lost.
"""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.family_requests import result, user
from support.messages_requests import DIALECT, HI, TOOL, body, call, request

from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.wire import anthropic_messages as family

OLD = "claude-sonnet-4-5"
ASKED: list[dict[str, Any]] = [*HI, {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b")]}]


def turns(messages: list[Any], **params: Any) -> list[Any]:
    found: list[Any] = body(OLD, messages, **params)["messages"]
    return found


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "user message first"),
        ([{"role": "system", "content": "S"}], "user message first"),
        ([{"role": "assistant", "content": "A"}, *HI], "user message first"),
        ([{"role": "user", "content": "  "}], "user message first"),
        ([{"role": "critic", "content": "?"}], "no role 'critic'"),
        ([{"role": "user", "content": 7}], "content is int"),
        (user({"text": "no type"}), "without a type"),
        (user({"type": "text"}), "without a text"),
        (user({"type": "image_url", "image_url": {}}), "without a url"),
        (user({"type": "image_url", "image_url": {"url": "/etc/passwd"}}), "data: URL"),
        (user({"type": "image_url", "image_url": {"url": "data:image/png;base64"}}), "no data"),
        (user({"type": "file"}), "without a file"),
        (user({"type": "file", "file": {"filename": "x"}}), "file_data"),
        (
            user({"type": "file", "file": {"filename": "x", "file_data": "data:application/zip;base64,AA"}}),
            "application/zip",
        ),
        (user({"type": "file", "file": {"file_data": "data:text/plain;base64,A"}}), "cannot be read"),
        ([{"role": "system", "content": [{"type": "image", "source": {}}]}, *HI], "takes text only"),
        ([*HI, {"role": "assistant", "tool_calls": [call("a", arguments="{not json")]}, result("a")], "'now' are not"),
        ([*HI, {"role": "assistant", "tool_calls": [call("a", arguments="[1]")]}, result("a")], "not a JSON object"),
        ([*HI, {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}, result("a")], "no function call"),
        ([*HI, result("zzz")], "'zzz' answers no tool call"),
        ([*ASKED, result("a")], "'b' has no results"),
        (ASKED, "'a' has no results"),
        ([*ASKED, result("a"), result("b"), result("a")], "'a' has 2 results"),
        ([*ASKED, result("a"), result("b"), {"role": "assistant", "content": "C"}, result("a")], "the turn before it"),
        ([*ASKED, {"role": "assistant", "content": "C"}, *HI], "'a' has no results"),
    ],
)
def test_messages_that_cannot_be_sent(messages: list[Any], said: str) -> None:
    asked = request(OLD)
    asked.messages = messages
    with pytest.raises(InvalidRequestError) as caught:
        family.encode(asked, DIALECT)
    text = str(caught.value)
    assert said in text
    assert "anthropic" in text
    assert repr(OLD) in text


@pytest.mark.parametrize("kind", ["input_audio", "video_url", "input_video"])
def test_audio_and_video_are_refused_even_with_drop_params(kind: str) -> None:
    asked = request(OLD, user({"type": kind, kind: {"data": "AA"}}), drop=True)
    with pytest.raises(UnsupportedParameterError) as caught:
        family.encode(asked, DIALECT)
    assert caught.value.parameter == kind


def test_results_come_first_and_together_wherever_they_stood() -> None:
    messages = [*ASKED, result("b", "2"), {"role": "user", "content": "x"}, result("a", "1", is_error=False)]
    (last,) = turns(messages)[2:]
    assert [block["type"] for block in last["content"]] == ["tool_result", "tool_result", "text"]
    assert last["content"][1] == {"type": "tool_result", "tool_use_id": "a", "content": "1", "is_error": False}


def test_a_system_message_between_a_call_and_its_result_does_not_part_them() -> None:
    messages = [*ASKED, {"role": "system", "content": "S"}, result("a"), result("b")]
    found = body("claude-opus-5", messages)["messages"]
    assert [turn["role"] for turn in found] == ["user", "assistant", "user", "system"]
    assert body(OLD, messages)["system"] == "S"


@pytest.mark.parametrize("ids", [("call:1", "call;1"), ("a b", "a_b"), ("ü", "ö"), ("x" * 90, "x" * 91)])
def test_ids_become_valid_and_stay_apart(ids: tuple[str, str]) -> None:
    messages = [*HI, {"role": "assistant", "tool_calls": [call(each) for each in ids]}, *map(result, ids)]
    found = turns(messages)
    sent = [block["id"] for block in found[1]["content"]]
    assert len(set(sent)) == 2
    assert all(each.isascii() and each.replace("-", "_").replace("_", "a").isalnum() for each in sent)
    assert [block["tool_use_id"] for block in found[2]["content"]] == sent
    assert turns(messages) == found


def test_ids_that_each_turn_counts_anew() -> None:
    turn = [{"role": "assistant", "tool_calls": [call("0")]}, result("0")]
    found = turns([*HI, *turn, *turn, *turn])
    sent = [block["id"] for each in found if each["role"] == "assistant" for block in each["content"]]
    answered = [block["tool_use_id"] for each in found[1:] if each["role"] == "user" for block in each["content"]]
    assert len(set(sent)) == 3
    assert sent == answered


def test_calls_without_ids_are_answered_in_order() -> None:
    messages = [*HI, {"role": "assistant", "tool_calls": [call(""), call("")]}, result("", "1"), result("", "2")]
    found = turns(messages)
    assert [block["id"] for block in found[1]["content"]] == [block["tool_use_id"] for block in found[2]["content"]]
    assert [block["content"] for block in found[2]["content"]] == ["1", "2"]


def test_arguments_keep_their_digits() -> None:
    arguments = '{"big": 12345678901234567890123, "one": 1.0}'
    asked = request(OLD, [*HI, {"role": "assistant", "tool_calls": [call("a", arguments=arguments)]}, result("a")])
    assert arguments.encode() in family.encode(asked, DIALECT)


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a":1}', ' {"a": 1}\n'])
def test_arguments_in_every_form(arguments: Any) -> None:
    found = turns([*HI, {"role": "assistant", "tool_calls": [call("a", arguments=arguments)]}, result("a")])
    assert found[1]["content"][0]["input"] == {"a": 1}


@pytest.mark.parametrize("name", ["ann", None, ""])
def test_a_name_stands_before_the_text(name: str | None) -> None:
    said = f"{name}: x" if name else "x"
    image = {"type": "image", "source": {"type": "url", "url": "https://x"}}
    assert turns([{"role": "user", "content": "x", "name": name}]) == [{"role": "user", "content": said}]
    (turn,) = turns(user(image, {"type": "text", "text": "x"}, name=name))
    assert turn["content"] == [image, {"type": "text", "text": said}]
    (turn,) = turns(user(image, name=name))
    assert turn["content"] == ([{"type": "text", "text": f"{name}:"}, image] if name else [image])


def test_cache_marks_stay_where_they_can() -> None:
    mark = {"type": "ephemeral"}
    assert turns([{"role": "user", "content": "x", "cache_control": mark}])[0]["content"][0]["cache_control"] == mark
    (turn,) = turns(user({"type": "text", "text": "x"}, {"type": "text", "text": "", "cache_control": mark}))
    assert turn["content"] == [{"type": "text", "text": "x", "cache_control": mark}]
    thinking = {"type": "thinking", "thinking": "t", "signature": "s"}
    marked = {"role": "assistant", "content": [{"type": "text", "text": "A"}, thinking], "cache_control": mark}
    assert turns([*HI, marked, *HI])[1]["content"] == [{"type": "text", "text": "A", "cache_control": mark}]
    found = turns([*HI, {"role": "assistant", "tool_calls": [{**call("a"), "cache_control": mark}]}, result("a")])
    assert found[1]["content"][0]["cache_control"] == mark
    asked = request(OLD, [*HI, {"role": "assistant", "content": "", "cache_control": mark}, *HI])
    family.encode(asked, DIALECT)
    assert asked.dropped == ("cache_control",)


def test_parts_in_other_spellings() -> None:
    parts = ["plain", {"type": "refusal", "refusal": "No."}, {"type": "refusal", "refusal": ""}]
    (turn,) = turns(user(*parts, {"type": "input_image", "file_id": "file_1"}))
    image = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}
    assert turn["content"] == [{"type": "text", "text": "plain"}, {"type": "text", "text": "No."}, image]


def test_a_cache_mark_on_nothing_is_listed() -> None:
    asked = request(OLD, user({"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}, "x"))
    assert json.loads(family.encode(asked, DIALECT))["messages"] == [{"role": "user", "content": "x"}]
    assert asked.dropped == ("cache_control",)


def test_native_thinking_is_not_doubled_by_the_opaque_payload() -> None:
    thinking = {"type": "thinking", "thinking": "t", "signature": "s"}
    opaque = {"family": "anthropic_messages", "provider": "anthropic", "model": OLD, "payload": [thinking]}
    answer = {"role": "assistant", "content": [thinking, {"type": "text", "text": "A"}], "opaque": opaque}
    assert turns([*HI, answer, *HI])[1]["content"] == [thinking, {"type": "text", "text": "A"}]


def test_a_whole_turn_without_text_comes_back_for_a_message_without_content() -> None:
    payload = [{"type": "tool_use", "id": "a", "name": "now", "input": {}, "toolset_name": "browser"}]
    opaque = {"family": "anthropic_messages", "provider": "anthropic", "model": OLD, "payload": payload}
    answer = {"role": "assistant", "content": None, "tool_calls": [call("a")], "opaque": opaque}
    assert turns([*HI, answer, result("a")])[1]["content"] == payload


def test_fields_of_a_message_without_an_equivalent_are_listed() -> None:
    messages = [{"role": "user", "content": "x", "weight": 3, "empty": None}, {"role": "assistant", "content": "A"}]
    messages += [{"role": "assistant", "content": "B", "reasoning_content": "hm", "audio": {"id": "a"}}, *HI]
    asked = request(OLD, messages)
    family.encode(asked, DIALECT)
    assert asked.dropped == ("messages.weight", "messages.reasoning_content", "messages.audio")


def test_a_turn_that_ended_in_thinking_is_not_replayed_so() -> None:
    payload = [{"type": "thinking", "thinking": "t", "signature": "s"}]
    opaque = {"family": "anthropic_messages", "provider": "anthropic", "model": OLD, "payload": payload}
    cut_off = {"role": "assistant", "content": "", "opaque": opaque}
    assert turns([*HI, cut_off, *HI]) == user({"type": "text", "text": "Hi"}, {"type": "text", "text": "Hi"})


@pytest.mark.parametrize("field", ["family", "provider", "model"])
def test_an_opaque_payload_of_another_origin_is_stripped(field: str) -> None:
    payload = [{"type": "thinking", "thinking": "t", "signature": "s"}]
    opaque = {"family": "anthropic_messages", "provider": "anthropic", "model": OLD, "payload": payload}
    answer = {"role": "assistant", "content": "A", "opaque": opaque}
    assert turns([*HI, answer, *HI])[1]["content"] == [*payload, {"type": "text", "text": "A"}]
    answer["opaque"] = {**opaque, field: "other"}
    assert turns([*HI, answer, *HI])[1]["content"] == "A"


def test_a_response_goes_back_as_it_came() -> None:
    content = [
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "text", "text": "A"},
        {
            "type": "tool_use",
            "id": "x",
            "name": "now",
            "input": {},
            "caller": {"type": "code_execution", "tool_id": "y"},
        },
    ]
    raw = json.dumps({"id": "m", "content": content, "stop_reason": "tool_use", "usage": {}}).encode()
    response = family.decode(raw, request(OLD), DIALECT)
    assert turns([*HI, response.message, result("x")], tools=[TOOL])[1]["content"] == content


TEXTS = st.sampled_from(["", " ", "a", "b\n"])
PARTS = st.lists(TEXTS.map(lambda text: {"type": "text", "text": text}), max_size=3)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "developer"]), "content": st.one_of(TEXTS, PARTS)},
    optional={"name": st.just("n"), "cache_control": st.just({"type": "ephemeral"})},
)


@pytest.mark.parametrize("model", [OLD, "claude-opus-5"])
def test_whatever_the_messages_the_api_can_take_the_turns(model: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(st.lists(MESSAGE, max_size=8))
    def check(messages: list[dict[str, Any]]) -> None:
        asked = request(model, drop=True)
        asked.messages = [*HI, *messages]
        before = copy.deepcopy(asked.messages)
        found = json.loads(family.encode(asked, DIALECT))
        assert asked.messages == before
        roles = [turn["role"] for turn in found["messages"]]
        assert roles[0] == "user"
        assert all(one != other for one, other in itertools.pairwise(roles))
        assert all(before == "user" for before, role in itertools.pairwise(roles) if role == "system")
        assert all(after == "assistant" for role, after in itertools.pairwise(roles) if role == "system")
        said = [block for turn in found["messages"] for block in blocks(turn["content"])]
        said += blocks(found.get("system", "s"))
        assert all(block["text"].strip() for block in said)
        last = found["messages"][-1]
        if last["role"] == "assistant":
            text = blocks(last["content"])[-1]["text"]
            assert text == text.rstrip()

    check()


def blocks(content: Any) -> list[Any]:
    return [{"text": content}] if isinstance(content, str) else content
