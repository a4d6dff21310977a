"""
The chat family against its golden files, every split of the bytes, and the official SDK as a second opinion.

A scenario is ``wire/openai_chat/NAME.request.json`` (dialect and request), ``NAME.response.json`` or ``NAME.sse`` (the
server's bytes), and ``NAME.expected.json``. ``python tests/test_wire_openai_chat.py NAME...`` writes the expected files
anew; read the difference before you keep it.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
import pathlib
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_master.classes import LLMResponse, Request, ToolCall, Usage
from llm_master.errors import InvalidRequestError, LLMError, ResponseTooLargeError
from llm_master.events import StreamEvent, ToolCallEvent
from llm_master.rows import ChatDialect
from llm_master.wire import openai_chat

FOLDER = pathlib.Path(__file__).parent / "wire" / "openai_chat"
NAMES = sorted(path.name.removesuffix(".request.json") for path in FOLDER.glob("*.request.json"))
STREAMED = [name for name in NAMES if (FOLDER / f"{name}.sse").exists()]


def setting(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.request.json").read_text())


def dialect_of(name: str) -> ChatDialect:
    return msgspec.convert(setting(name)["dialect"], ChatDialect)


def request_of(name: str) -> Request:
    return msgspec.convert(setting(name)["request"], Request)


def sent(name: str) -> bytes | None:
    """The server's bytes, None for a scenario that is about the request only."""
    for ending in ("sse", "response.json"):
        path = FOLDER / f"{name}.{ending}"
        if path.exists():
            return path.read_bytes()
    return None


# What a scenario brings, as plain JSON ------------------------------------------------------------------------------


def shown(value: Any) -> Any:
    """Any value of a response as JSON."""
    found = value
    if isinstance(value, bytes):
        found = {"base64": base64.b64encode(value).decode()}
    elif isinstance(value, ToolCall):
        found = {"id": value.id, "name": value.name, "arguments": value.raw_arguments, "extra": value.extra}
    elif isinstance(value, Usage):
        found = {field: getattr(value, field) for field in value.__struct_fields__ if getattr(value, field)}
    elif isinstance(value, msgspec.Struct):
        fields = {field: shown(getattr(value, field)) for field in value.__struct_fields__}
        found = {"event": value.type, **fields} if isinstance(value, StreamEvent) else fields
    elif isinstance(value, list | tuple):
        found = [shown(entry) for entry in value]
    elif not isinstance(value, dict | str | int | bool | None):
        found = str(value)
    return found


def shown_response(response: LLMResponse) -> dict[str, Any]:
    """The fields that are set."""
    plain = LLMResponse()
    fields = {
        field: shown(getattr(response, field))
        for field in response.__struct_fields__
        if field not in ("raw_body", "provider") and getattr(response, field) != getattr(plain, field)
    }
    return {"content": response.content, "finish_reason": response.finish_reason, **fields}


def shown_error(error: LLMError) -> dict[str, Any]:
    fields = {name: getattr(error, name, None) for name in ("code", "status_code", "parameter", "retryable")}
    return {"type": type(error).__name__, "message": str(error), **{k: v for k, v in fields.items() if v is not None}}


def folded(name: str, pieces: list[bytes]) -> dict[str, Any]:
    """What a stream brings when its bytes arrive in these pieces."""
    request = request_of(name)
    fold = openai_chat.Fold(request, dialect_of(name), rules=setting(name).get("rules"))
    events: list[str | StreamEvent] = []
    found: dict[str, Any] = {}
    try:
        for piece in pieces:
            events += fold.feed(piece)
        events += fold.end()
    except LLMError as error:
        found["error"] = shown_error(error)
    response = fold.response()
    assert response.notes == tuple(fold.notes)
    if "error" not in found:
        # Before an error in the same bytes, what was given out depends on how they were split.
        found["events"] = shown(events)
        assert "".join(event for event in events if isinstance(event, str)) == response.content
        given = [event.tool_call for event in events if isinstance(event, ToolCallEvent)]
        assert given == [call for call in response.tool_calls if call in given]
    raw = response.raw
    return {
        **found,
        "done": fold.done,
        "complete": fold.complete,
        "response": shown_response(response),
        **({"raw": raw} if raw is not None else {}),
    }


def observed(name: str) -> dict[str, Any]:
    """All that a scenario brings."""
    found: dict[str, Any] = {}
    request, dialect = request_of(name), dialect_of(name)
    try:
        found["body"] = json.loads(openai_chat.encode(request, dialect))
    except LLMError as error:
        return {"refused": shown_error(error)}
    if request.dropped:
        found["dropped"] = list(request.dropped)
    answer = sent(name)
    if answer is None:
        return found
    if request.stream:
        return {**found, **folded(name, [answer])}
    try:
        response = openai_chat.decode(answer, request, dialect, rules=setting(name).get("rules"))
    except LLMError as error:
        return {**found, "error": shown_error(error)}
    assert response.provider == request.provider
    assert response.dropped == request.dropped
    assert response.raw_body is answer
    return {**found, "response": {k: v for k, v in shown_response(response).items() if k != "dropped"}}


def expected(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.expected.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_gives_what_is_expected(name: str) -> None:
    assert observed(name) == expected(name)


@pytest.mark.parametrize("name", NAMES)
def test_encoding_changes_nothing_that_was_given(name: str) -> None:
    request = request_of(name)
    messages, params = request.messages, request.params
    before = copy.deepcopy((messages, params))
    first: Any = None
    for _ in range(2):
        try:
            body: Any = openai_chat.encode(request, dialect_of(name))
        except LLMError as error:
            body = str(error)
        assert first in (None, body)
        first = body
        assert (request.messages, request.params) == before
        assert request.messages is messages
        assert request.params is params


def test_every_field_of_the_dialect_has_a_scenario() -> None:
    used = {field for name in NAMES for field in setting(name)["dialect"]}
    assert used == set(ChatDialect.__struct_fields__)


# Streams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_that_comes_byte_by_byte_is_the_same(name: str) -> None:
    stream = sent(name)
    assert stream is not None
    assert folded(name, [stream[i : i + 1] for i in range(len(stream))]) == folded(name, [stream])


@pytest.mark.parametrize("name", STREAMED)
@given(st.lists(st.floats(0, 1), max_size=8))
@settings(max_examples=12)
def test_a_stream_is_the_same_however_it_is_split(name: str, cuts: list[float]) -> None:
    stream = sent(name)
    assert stream is not None
    edges = [0, *sorted(int(cut * len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert folded(name, pieces) == folded(name, [stream])


def chunk(delta: dict[str, Any], finish: str | None = None, *, ascii: bool = True, **more: Any) -> bytes:
    value = {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return f"data: {json.dumps(value, ensure_ascii=ascii)}\n\n".encode()


def asked(**params: Any) -> Request:
    return Request("acme", "m", [{"role": "user", "content": "Hi"}], params, stream=True)


def test_text_is_given_out_as_it_comes() -> None:
    fold = openai_chat.Fold(asked(), ChatDialect())
    assert fold.feed(chunk({"role": "assistant", "content": ""})) == []
    assert fold.feed(chunk({"content": "Hel"}) + chunk({"content": "lo"})[:20]) == ["Hel"]
    assert fold.feed(chunk({"content": "lo"})[20:]) == ["lo"]
    assert fold.response().content == "Hello"


def test_nothing_more_is_needed_after_finish_reason_and_usage() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    fold = openai_chat.Fold(asked(), ChatDialect())
    fold.feed(chunk({"content": "Hi"}, usage=usage))
    assert (fold.complete, fold.done) == (False, False)
    fold.feed(chunk({}, "stop"))
    assert (fold.complete, fold.done) == (True, False)
    fold.feed(b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n')
    assert (fold.complete, fold.done) == (True, True)


def test_of_several_choices_only_the_end_marker_ends_the_stream() -> None:
    fold = openai_chat.Fold(asked(n=2), ChatDialect())
    fold.feed(chunk({"content": "Hi"}, "stop", usage={"prompt_tokens": 1}))
    assert (fold.complete, fold.done) == (True, False)
    fold.feed(b"data: [DONE]\n\n")
    assert (fold.complete, fold.done) == (True, True)


def test_sizes_are_limited() -> None:
    for start in (b"data: ", b"{"):
        fold = openai_chat.Fold(asked(), ChatDialect())
        fold.feed(start)
        with pytest.raises(ResponseTooLargeError, match=r"acme .*'m'"):
            fold.feed(bytes(64 * 1024 * 1024))


PIECES = st.lists(
    st.text(st.sampled_from('<think>/ \\"\n\u00e9\u20ac\U0001f600{}a:'), max_size=6), min_size=1, max_size=12
)
TEXTS = st.one_of(
    PIECES,
    PIECES.map(lambda pieces: ["<think>", *pieces]),
    st.tuples(PIECES, PIECES).map(lambda both: ["<thi", "nk>", *both[0], "</th", "ink>", *both[1]]),
)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def both_ways(pieces: list[str], request: Request, dialect: ChatDialect) -> LLMResponse:
    """The folded answer, after checking that the whole answer decodes to the same."""
    fold = openai_chat.Fold(request, dialect)
    events = [event for piece in pieces for event in fold.feed(chunk({"content": piece}, ascii=False))]
    events += fold.feed(chunk({}, "stop")) + fold.end()
    response = fold.response()
    whole = {"choices": [{"message": {"content": "".join(pieces)}, "finish_reason": "stop"}], "id": "c1", "model": "m"}
    assert shown_response(response) == shown_response(openai_chat.decode(json.dumps(whole).encode(), request, dialect))
    assert "".join(event for event in events if isinstance(event, str)) == response.content
    return response


@given(TEXTS)
def test_thinking_is_split_off_wherever_the_server_cuts_its_text(pieces: list[str]) -> None:
    response = both_ways(pieces, asked(), ChatDialect(think_tags=True))
    text = "".join(pieces)
    thought, tag, answer = text.lstrip().removeprefix("<think>").partition("</think>")
    if not text.lstrip().startswith("<think>"):
        assert (response.reasoning, response.content) == (None, text)
    elif not tag:
        assert ((response.reasoning or ""), response.content) == (thought.lstrip(), "")
    else:
        assert ((response.reasoning or ""), response.content) == (thought.lstrip(), answer.lstrip())


@given(st.text(), st.booleans(), st.lists(st.floats(0, 1), max_size=6))
def test_a_forced_answer_is_its_text_wherever_the_server_cuts_it(answer: str, ascii: bool, cuts: list[float]) -> None:
    text = json.dumps({"answer": answer}, ensure_ascii=ascii)
    edges = [0, *sorted(int(cut * len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    response = both_ways(pieces, asked(tools=[TOOL]), ChatDialect(tools_via="schema"))
    assert (response.content, response.tool_calls, response.finish_reason) == (answer, [], "stop")


@given(st.dictionaries(st.text(max_size=3), st.integers()), st.lists(st.floats(0, 1), max_size=6))
def test_a_forced_call_is_a_call_wherever_the_server_cuts_it(arguments: dict[str, int], cuts: list[float]) -> None:
    text = json.dumps({"name": "f", "arguments": arguments})
    edges = [0, *sorted(int(cut * len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    response = both_ways(pieces, asked(tools=[TOOL]), ChatDialect(tools_via="schema"))
    assert [(call.name, call.arguments) for call in response.tool_calls] == [("f", arguments)]
    assert (response.content, response.finish_reason) == ("", "tool_calls")


# Requests -----------------------------------------------------------------------------------------------------------

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
    assert params.items() <= body.items() if not params else all(body[name] == params[name] for name in params)
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
    ],
)
def test_what_cannot_be_sent_is_refused(params: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^acme/m: .*{reason}"):
        openai_chat.encode(Request("acme", "m", [{"role": "user", "content": "Hi"}], params), ChatDialect())


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


if __name__ == "__main__":
    for chosen in sys.argv[1:] or NAMES:
        text = json.dumps(observed(chosen), indent=1, ensure_ascii=False)
        (FOLDER / f"{chosen}.expected.json").write_text(text + "\n")
