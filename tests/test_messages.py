"""
Messages: every form a caller may give, the one form they become, and what is refused and why.
"""

from __future__ import annotations

import copy
import types
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from llm_master.classes import LLMResponse, ToolCall
from llm_master.errors import InvalidRequestError
from llm_master.messages import normalise

USER = {"role": "user", "content": "Hello"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
ASKS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "2"}


# -- what stays as it is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [{"role": "system", "content": "Be brief."}, USER, {"role": "assistant", "content": "Hi"}, USER],
        [{"role": "developer", "content": ""}],
        [{"role": "user", "content": "/etc/passwd https://example.com/cat.png data:image/png;base64,x"}],
        [{**USER, "name": "eve", "cache_control": {"type": "ephemeral"}, "x-own": [1, {}]}],
        [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}],
        [
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "https://h/x.png", "detail": "low"}}],
            }
        ],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://h/x.png"}, "own": 1}]}],
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]}],
        [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}, {"type": "document", "source": {}}]}],
        [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}],
        [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "AA"}}]}],
        [{"role": "user", "content": [{"type": "something_new", "payload": {"a": [1]}}]}],
        [USER, ASKS, RESULT],
        [ASKS, {**RESULT, "content": [{"type": "text", "text": "2"}]}],
        [{"role": "assistant", "tool_calls": [CALL]}],
        [{"role": "assistant", "content": "", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "x"}}]}],
        [{"role": "assistant", "content": [], "tool_calls": [CALL]}],
        [{"role": "assistant", "content": None, "refusal": "No."}],
        [{"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}],
        [{"role": "assistant", "content": None, "opaque": {"family": "anthropic_messages", "blocks": []}}],
        [{"role": "assistant", "content": "a", "reasoning_content": "hm", "images": [{"type": "image_url"}]}],
        [{"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}],
        [{"role": "function", "name": "add", "content": "2"}],
        [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "add", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "2"}]},
        ],
    ],
)
def test_what_is_in_form_is_given_back_as_it_is(messages: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(messages)
    assert normalise(messages) is messages
    assert messages == before


def test_a_message_that_needs_no_change_stays_the_same_object() -> None:
    given_messages = [USER, {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "x", "y": 1}]}]
    result = normalise(given_messages)
    assert result == [USER, {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "x", "y": 1}]}]
    assert result[0] is USER
    assert result[1]["content"][1] is given_messages[1]["content"][1]
    assert given_messages[1]["content"][0]["type"] == "input_text"


# -- short forms ----------------------------------------------------------------------------------------------------


def test_a_text_and_a_prompt_are_a_users_message() -> None:
    assert normalise("Hello") == [USER]
    assert normalise(None, prompt="Hello") == [USER]
    assert normalise([], prompt="Hello") == [USER]
    history = [{"role": "system", "content": "s"}]
    assert normalise(history, prompt="Hello") == [{"role": "system", "content": "s"}, USER]
    assert normalise("a", prompt="Hello") == [{"role": "user", "content": "a"}, USER]
    assert history == [{"role": "system", "content": "s"}]


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": ["a", {"type": "text", "text": "b"}]}, ["a", "b"]),
        ({"content": ("a", "b")}, ["a", "b"]),
        ({"content": [{"text": "a"}, {"type": None, "text": "b"}]}, ["a", "b"]),
        ({"content": [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}]}, ["a", "b"]),
        ({"content": {"type": "text", "text": "a"}}, ["a"]),
        ({"content": {"parts": ["a", "b"]}}, ["a", "b"]),
        ({"parts": ["a", {"type": "text", "text": "b"}]}, ["a", "b"]),
        ({"parts": [], "content": None}, None),
    ],
)
def test_text_parts(message: dict[str, Any], content: list[str] | None) -> None:
    message = {"role": "user", **message, "name": "eve"}
    if content is None:
        with pytest.raises(InvalidRequestError, match="no content"):
            normalise([message])
        return
    parts = [{"type": "text", "text": each} for each in content]
    assert normalise([message]) == [{"role": "user", "content": parts, "name": "eve"}]


@pytest.mark.parametrize(
    "message", [{"text": "a"}, {"parts": "a"}, {"content": {"text": "a"}}, {"text": "a", "images": []}]
)
def test_a_text_alone_stays_a_text(message: dict[str, Any]) -> None:
    assert normalise([{"role": "user", **message}]) == [{"role": "user", "content": "a"}]


# -- objects --------------------------------------------------------------------------------------------------------


def test_an_answer_of_ours_is_its_message() -> None:
    answer = LLMResponse("", "m", tool_calls=[ToolCall("call_1", "add", {"a": 1})], opaque={"family": "x"})
    result = normalise([USER, answer, RESULT])
    assert result == [USER, answer.message, RESULT]
    assert result[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a":1}'}
    assert result[1]["opaque"] == {"family": "x"}
    assert normalise([USER, answer.message, RESULT])[1] == answer.message


def test_an_answer_of_the_openai_package_is_its_message() -> None:
    message = ChatCompletionMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [CALL]})
    assert normalise([message, RESULT]) == [{"role": "assistant", "tool_calls": [CALL]}, RESULT]
    own = {"role": "assistant", "content": None, "tool_calls": message.tool_calls}
    assert normalise([own, RESULT])[0] == ASKS
    whole = LLMResponse("x", "m").to_openai()
    assert isinstance(whole, ChatCompletion)
    with pytest.raises(InvalidRequestError, match=r"messages\[0\] is a whole chat completion.*choices\[0\]\.message"):
        normalise([whole])


def test_an_answer_of_the_anthropic_package_is_its_message() -> None:
    blocks = [{"type": "text", "text": "a"}, {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}]
    body = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": blocks,
        "stop_reason": "tool_use",
    }
    answer = AnthropicMessage.model_validate({**body, "usage": {"input_tokens": 1, "output_tokens": 1}})
    for message in (answer, {"role": "assistant", "content": answer.content}):
        assert normalise([message, RESULT]) == [{"role": "assistant", "content": blocks}, RESULT]


def test_any_mapping_is_a_message() -> None:
    assert normalise((types.MappingProxyType(USER),)) == [USER]


# -- tools ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({"id": "c", "function": {"name": "f", "arguments": "{}"}}, ("function", "{}")),
        ({"id": "c", "type": "function", "function": {"name": "f"}}, ("function", "{}")),
        ({"id": "c", "type": "function", "function": {"name": "f", "arguments": None}}, ("function", "{}")),
        (
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": [1]}}},
            ("function", '{"a":[1]}'),
        ),
        ({"id": "c", "type": "function", "function": {"name": "f", "arguments": "not JSON"}}, ("function", "not JSON")),
        (ToolCall("c", "f", raw_arguments="{ }"), ("function", "{ }")),
    ],
)
def test_a_call_is_brought_to_form(call: Any, expected: tuple[str, str]) -> None:
    result = normalise([{"role": "assistant", "tool_calls": [call]}])[0]["tool_calls"]
    assert result == [{"id": "c", "type": expected[0], "function": {"name": "f", "arguments": expected[1]}}]


def test_other_fields_of_a_call_survive() -> None:
    call = {
        "id": "c",
        "index": 0,
        "extra_content": {"s": 1},
        "function": {"name": "f", "arguments": {}, "strict": True},
    }
    result = normalise([{"role": "assistant", "tool_calls": [call]}])[0]["tool_calls"][0]
    assert result["extra_content"] == {"s": 1}
    assert result["index"] == 0
    assert result["function"]["strict"] is True


@pytest.mark.parametrize("nothing", [None, []])
def test_no_calls_are_no_field(nothing: Any) -> None:
    message = {"role": "assistant", "content": "a", "tool_calls": nothing}
    assert normalise([message]) == [{"role": "assistant", "content": "a"}]
    assert "tool_calls" in message


# -- refusals -------------------------------------------------------------------------------------------------------


class _Plain:
    role = "user"


BAD: list[tuple[str, Any, str]] = [
    ("nothing", None, "no messages and no prompt"),
    ("an empty list", [], "no messages and no prompt"),
    ("an empty text", "  ", "messages is an empty text"),
    ("a dict", USER, r"must be a list.*put it into a list"),
    ("an answer", LLMResponse("x", "m"), r"must be a list.*put it into a list"),
    ("a number", 5, "must be a list of messages or one text, not 5"),
    ("a generator", (each for each in [USER]), "must be a list"),
    ("a text in the list", [USER, "hi"], r"messages\[1\] must be a dict such as"),
    ("None in the list", [None], r"messages\[0\] must be a dict"),
    ("an object", [_Plain()], r"messages\[0\] must be a dict"),
    ("a class", [ChatCompletionMessage], r"messages\[0\] must be a dict"),
    ("no role", [{"content": "a"}], r"messages\[0\] has the unknown role None"),
    ("an unknown role", [USER, {"role": "bot", "content": "a"}], r"messages\[1\].*'bot'.*user.*write 'assistant'"),
    ("a role in capitals", [{"role": "User", "content": "a"}], "write 'user'"),
    ("a role that is a list", [{"role": ["user"], "content": "a"}], "unknown role"),
    ("no content", [{"role": "user"}], r"messages\[0\] \(role 'user'\) has no content"),
    ("null content", [{"role": "system", "content": None}], "has no content"),
    ("no parts", [{"role": "user", "content": []}], "has no content"),
    ("an assistant who says nothing", [{"role": "assistant", "content": None, "name": "a"}], "has no content"),
    ("a number for content", [{"role": "user", "content": 5}], r"messages\[0\]\.content must be a text.*not 5"),
    ("bytes for content", [{"role": "user", "content": b"x"}], r"content must be a text"),
    ("a dict for content", [{"role": "user", "content": {"a": 1}}], r"content must be a text"),
    ("a dict for a result", [ASKS, {**RESULT, "content": {"sum": 2}}], r"messages\[1\]\.content.*json\.dumps"),
    ("a number for a result", [ASKS, {**RESULT, "content": 2}], r"json\.dumps"),
    ("no result", [ASKS, {**RESULT, "content": None}], "has no content"),
    ("a part that is a number", [{"role": "user", "content": ["a", 5]}], r"messages\[0\]\.content\[1\] must be a dict"),
    ("a part without a type", [{"role": "user", "content": [{"a": 1}]}], r"content\[0\] is a part without a type"),
    ("a type that is a number", [{"role": "user", "content": [{"type": 1}]}], "without a type"),
    ("a text that is none", [{"role": "user", "content": [{"type": "text", "text": 5}]}], r"\[0\]\.text must be"),
    ("a text part without text", [{"role": "user", "content": [{"type": "input_text"}]}], r"\.text.*not None"),
    ("two contents", [{"role": "user", "content": "a", "text": "b"}], "has content and text; give one"),
    ("two contents inside", [{"role": "user", "content": {"parts": ["a"], "text": "b"}}], "has parts and text"),
    ("parts that are none", [{"role": "user", "parts": 5}], r"\.parts must be a text or a list"),
    ("a result without a call", [RESULT], r"messages\[0\] answers the tool call 'call_1'"),
    ("a result before its call", [RESULT, ASKS], r"messages\[0\] answers"),
    ("a result of another call", [ASKS, {**RESULT, "tool_call_id": "x"}], r"messages\[1\] answers the tool call 'x'"),
    ("a result without an id", [ASKS, {"role": "tool", "content": "2"}], "without tool_call_id"),
    ("a block without its call", [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}],
     r"messages\[0\]\.content\[0\] answers the tool call 't'"),
    ("a block without an id", [{"role": "user", "content": [{"type": "tool_result"}]}], "without tool_use_id"),
    ("a call of a user", [{**USER, "tool_calls": [CALL]}], "only an assistant message calls tools"),
    ("calls that are no list", [{"role": "assistant", "tool_calls": CALL}], "tool_calls must be a list"),
    ("a call without an id", [{"role": "assistant", "tool_calls": [{**CALL, "id": ""}]}], r"tool_calls\[0\] has no id"),
    ("a call without a name", [{"role": "assistant", "tool_calls": [{"id": "c", "function": {}}]}], r"function\.name"),
    ("a flat call", [{"role": "assistant", "tool_calls": [{"id": "c", "name": "f"}]}], r"no function\.name"),
    ("arguments that are a list", [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f",
     "arguments": [1]}}]}], r"arguments must be JSON text or a dict, not \[1\]"),
    ("a call that is a text", [{"role": "assistant", "tool_calls": ["add"]}], r"tool_calls\[0\] must be a dict"),
    ("a function without a name", [{"role": "function", "content": "2"}], "role 'function' and no name"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "says"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_cannot_be_sent_is_refused_and_named(messages: Any, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as caught:
        normalise(messages)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("prompt", ["", "  ", 5, ["a"]])
def test_a_prompt_is_a_text(prompt: Any) -> None:
    with pytest.raises(InvalidRequestError, match="prompt must be a text"):
        normalise([USER], prompt=prompt)


# -- properties -----------------------------------------------------------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_taken = {"role", "content", "parts", "text", "images", "image_paths", "image_details", "tool_calls", "tool_call_id",
          "type", "image", "url", "image_url", "path", "data", "source", "file_id", "detail", "mime_type", "media_type",
          "mimeType", "id", "function", "tool_use_id"}  # fmt: skip
_extra = st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda key: key not in _taken), _json, max_size=3)
_url = st.sampled_from(["https://h/a.png", "HTTP://h/b", "data:image/png;base64,iVBORw0KGgo="])
_PNG = b"\x89PNG\r\n\x1a\n"


def _with(strategy: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda extra, base: {**extra, **base}, _extra, strategy)


_bare_part = st.one_of(
    st.text(),
    st.just(_PNG),
    st.just(Path("cat.png")),
    _with(
        st.builds(lambda text, kind: {"type": kind, "text": text}, st.text(), st.sampled_from(["text", "input_text"]))
    ),
    _with(st.builds(lambda url: {"type": "image_url", "image_url": url}, _url)),
    _with(st.builds(lambda url, more: {"type": "image_url", "image_url": {**more, "url": url}}, _url, _extra)),
    _with(st.builds(lambda url: {"type": "input_image", "image_url": url, "detail": "low"}, _url)),
    _with(st.builds(lambda image: {"type": "image", "image": image}, _url | st.just(_PNG))),
    _with(st.builds(lambda data: {"type": "video_url", "video_url": data}, _json)),
    _with(st.builds(lambda word: {"type": f"new_{word}"}, st.text(max_size=5))),
)
_message = st.one_of(
    _with(st.builds(lambda text: {"role": "user", "content": text}, st.text())),
    _with(st.builds(lambda parts: {"role": "user", "content": parts}, st.lists(_bare_part, min_size=1, max_size=4))),
    _with(st.builds(lambda parts: {"role": "system", "parts": parts}, st.lists(_bare_part, min_size=1, max_size=4))),
    _with(st.builds(lambda text, urls: {"role": "user", "text": text, "images": urls}, st.text(), st.lists(_url))),
    _with(st.builds(lambda urls: {"role": "user", "content": {"text": "a", "images": urls}}, st.lists(_url))),
    _with(st.builds(lambda args: {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c", "function": {"name": "f", "arguments": args}}]}, st.text() | st.just({"a": 1}))),
)  # fmt: skip


def _extras(before: Any) -> list[tuple[str, Any]]:
    """Every key of a message and its parts that means nothing to us, with its value."""
    found = [(key, value) for key, value in before.items() if key not in _taken]
    content = before.get("content") or before.get("parts") or []
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict):
            found += [(key, value) for key, value in part.items() if key not in _taken]
            if isinstance(part.get("image_url"), dict):
                found += [(key, value) for key, value in part["image_url"].items() if key not in _taken]
    return found


@given(st.lists(_message, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_nothing_is_mutated_nothing_is_lost_and_once_is_enough(messages: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(messages)
    result = normalise(messages, read_file=lambda path: _PNG + path.encode())
    assert messages == before
    assert len(result) == len(messages)
    for old, new in zip(before, result, strict=True):
        assert new["role"] == old["role"]
        kept = _extras(new)
        assert all(extra in kept for extra in _extras(old))
        assert not {"parts", "images", "image_paths"} & set(new)
    assert normalise(result) is result


@given(st.lists(_message, max_size=2), _json)
@settings(max_examples=200, deadline=None)
def test_garbage_is_refused_and_nothing_else_is_raised(messages: list[dict[str, Any]], garbage: Any) -> None:
    for each in (garbage, [*messages, garbage], [*messages, {"role": "user", "content": garbage}],
                 [*messages, {"role": "user", "content": [garbage]}], [{"role": "assistant", "tool_calls": garbage}],
                 [{"role": "user", "text": "a", "images": garbage, "image_details": garbage}],
                 [{"role": "user", "content": [{"type": "image", "image": garbage, "data": garbage}]}]):  # fmt: skip
        try:
            result = normalise(each, read_file=lambda _: _PNG)
        except InvalidRequestError:
            continue
        assert all(isinstance(message["role"], str) for message in result)
