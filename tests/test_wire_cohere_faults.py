"""
Cohere's chat API when it fails: error objects, answers that are none, streams that break off.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.cohere_requests import DIALECT, GOLDEN, TOOL, request
from support.family_requests import check_unreadable

from llm_master.classify import error_from_response
from llm_master.errors import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ContextWindowError,
    NotFoundError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    ResponseTooLargeError,
    ServerError,
    ToolArgumentsError,
)
from llm_master.events import ToolCallDeltaEvent, ToolCallEvent, UsageEvent
from llm_master.wire import cohere as family

MODEL = "command-a-03-2025"
RULES = json.loads((GOLDEN / "row.json").read_text())["error_codes"]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {}}}}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def start(id: str = "id-1") -> bytes:
    return event("message-start", id=id, delta={"message": {"role": "assistant", "content": []}})


def delta(index: int, **content: str) -> bytes:
    return event("content-delta", index=index, delta={"message": {"content": content}})


def call(index: int | None, id: str | None, name: str | None, arguments: str = "") -> bytes:
    function = {"name": name, "arguments": arguments}
    return event("tool-call-start", index=index, delta={"message": {"tool_calls": {"id": id, "function": function}}})


def more(index: int, arguments: str) -> bytes:
    return event(
        "tool-call-delta", index=index, delta={"message": {"tool_calls": {"function": {"arguments": arguments}}}}
    )


def end(reason: str | None = "COMPLETE", **fields: Any) -> bytes:
    return event("message-end", delta={"finish_reason": reason, **fields})


def answer(**fields: Any) -> bytes:
    whole = {"id": "id-1", "message": {"content": [{"type": "text", "text": "Hi"}]}, "finish_reason": "COMPLETE"}
    return json.dumps({**whole, **fields}).encode()


# HTTP errors, as the vendor's page of errors words them -----------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message", "cls", "retryable"),
    [
        (400, "invalid request: message must be at least 1 token long", BadRequestError, False),
        (
            400,
            "too many tokens: size limit exceeded by 11326 tokens. Try using shorter inputs",
            ContextWindowError,
            False,
        ),
        (401, "no api key supplied", AuthenticationError, False),
        (402, "Maximum billing reached for this API key as set in your dashboard", QuotaExceededError, False),
        (404, "model 'xyz' not found, make sure the correct model ID was used", NotFoundError, False),
        (422, "unsupported parameter", BadRequestError, False),
        (429, "You are past the per minute request limit, please wait and try again later.", RateLimitError, True),
        (498, "invalid api token", AuthenticationError, False),
        (499, "request cancelled", ServerError, True),
        (500, "internal server error", ServerError, True),
        (501, "not implemented", ServerError, True),
        (503, "service unavailable", ServerError, True),
        (504, "gateway timeout", ServerError, True),
    ],
)
def test_an_http_error(status: int, message: str, cls: type[ProviderError], retryable: bool) -> None:
    body = json.dumps({"id": "req", "message": message}).encode()
    error = error_from_response(status, body, provider="cohere", model=MODEL, rules=RULES)
    assert type(error) is cls
    assert (error.status_code, error.retryable) == (status, retryable)
    assert message in str(error)


# Inside a good answer ---------------------------------------------------------------------------------------------


def read_plain(reason: str) -> None:
    family.decode(answer(finish_reason=reason), request(MODEL), DIALECT)


def read_stream(reason: str) -> None:
    family.Fold(request(MODEL), DIALECT).feed(start() + end(reason))


@pytest.mark.parametrize("read", [read_plain, read_stream])
@pytest.mark.parametrize(("reason", "cls"), [("ERROR", ServerError), ("TIMEOUT", APITimeoutError)])
def test_an_answer_that_ended_in_an_error(read: Callable[[str], None], reason: str, cls: type[ProviderError]) -> None:
    with pytest.raises(cls) as caught:
        read(reason)
    error = caught.value
    assert (type(error), error.code, error.retryable) == (cls, reason, True)
    assert (error.provider, error.model, error.request_id) == ("cohere", MODEL, "id-1")


def test_what_the_stream_says_of_its_error_is_told() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    with pytest.raises(ServerError, match="out of memory"):
        fold.feed(start() + delta(0, text="Hel") + end("ERROR", error="out of memory"))
    assert [piece for piece in fold.pending if isinstance(piece, str)] == ["Hel"]
    assert fold.response().content == "Hel"
    assert (fold.complete, fold.done, fold.response().finish_reason) == (False, False, None)


def test_a_row_may_give_a_finish_reason_another_category() -> None:
    with pytest.raises(RateLimitError):
        family.decode(answer(finish_reason="ERROR"), request(MODEL), DIALECT, rules={"ERROR": "rate"})


@pytest.mark.parametrize(
    "body",
    [
        {"id": "r", "message": "invalid api token"},
        {"error": "invalid api token"},
        {"type": "error", "message": "invalid api token"},
    ],
)
def test_an_error_object_in_a_good_answer(body: dict[str, Any]) -> None:
    with pytest.raises(ServerError, match=r"an error inside the answer.*invalid api token"):
        family.decode(json.dumps(body).encode(), request(MODEL), DIALECT)
    with pytest.raises(ServerError, match=r"an error inside the answer.*invalid api token"):
        family.Fold(request(MODEL), DIALECT).feed(b"data: %b\n\n" % json.dumps(body).encode())


def test_an_error_event_that_says_nothing_is_an_error() -> None:
    with pytest.raises(ServerError, match="an error inside the answer"):
        family.Fold(request(MODEL), DIALECT).feed(b'data: {"type": "error", "code": "overloaded"}\n\n')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502 Bad Gateway</html>",
        answer()[:-9],
        b"\xff\xfe",
        b'{"id": "m", "choices": []}',
        b'{"message": []}',
        b"[]",
        b'{"message":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["empty", "html", "truncated", "not utf-8", "no message", "message is a list", "a list", "deep"],
)
def test_what_is_no_answer_is_a_response_error(body: bytes) -> None:
    check_unreadable(lambda: family.decode(body, request(MODEL), DIALECT), "cohere", MODEL)


@pytest.mark.parametrize(
    ("reason", "finish", "noted"),
    [
        ("COMPLETE", "stop", False),
        ("STOP_SEQUENCE", "stop", False),
        ("MAX_TOKENS", "length", False),
        ("TOOL_CALL", "stop", False),
        (None, "error", False),
        ("PAUSE", "stop", True),
    ],
)
def test_finish_reasons(reason: str | None, finish: str, noted: bool) -> None:
    response = family.decode(answer(finish_reason=reason), request(MODEL), DIALECT)
    assert response.finish_reason == finish
    assert bool(response.notes) is noted


def test_a_call_under_another_finish_reason_is_a_call() -> None:
    calls = [{"function": {"name": "now"}}, {"id": None, "function": {"name": "now", "arguments": None}}]
    response = family.decode(answer(message={"tool_calls": calls}), request(MODEL), DIALECT)
    assert response.finish_reason == "tool_calls"
    assert [(each.id, each.arguments) for each in response.tool_calls] == [("call_0", {}), ("call_1", {})]


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, (0, 0, 0)),
        ({}, (0, 0, 0)),
        ({"tokens": {"input_tokens": 71.0, "output_tokens": 4}}, (71, 4, 0)),
        ({"billed_units": {"input_tokens": 0, "output_tokens": 3}, "tokens": {"input_tokens": 9}}, (0, 3, 0)),
        ({"billed_units": {"input_tokens": 33, "output_tokens": 22}, "cached_tokens": 144}, (33, 22, 33)),
        ({"billed_units": None, "tokens": None, "cached_tokens": None}, (0, 0, 0)),
    ],
)
def test_usage(usage: Any, counts: tuple[int, int, int]) -> None:
    found = family.decode(answer(usage=usage), request(MODEL), DIALECT).usage
    assert (found.input_tokens, found.output_tokens, found.cached_tokens) == counts


# Streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_that_breaks_off_is_not_complete() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    pieces = fold.feed(start() + delta(0, text="Once upon") + call(0, "c", "now") + more(0, '{"zo'))
    pieces += fold.end()
    assert (fold.done, fold.complete) == (False, False)
    assert not any(isinstance(piece, ToolCallEvent) for piece in pieces)
    response = fold.response()
    assert (response.content, response.finish_reason, response.tool_calls) == ("Once upon", None, [])
    assert response.request_id == "id-1"


def test_a_stream_that_breaks_off_inside_an_event_says_so() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    fold.feed(start() + delta(0, text="Hi")[:-12])
    fold.end()
    assert fold.notes == ["the stream ended inside an event"]


def test_an_end_without_a_reason_ends_in_an_error_finish() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    fold.feed(start() + event("message-end", delta=None))
    assert (fold.done, fold.complete) == (True, False)
    assert fold.response().finish_reason == "error"


def test_what_follows_the_end_is_ignored() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    late = delta(0, text="!") + end("ERROR")
    assert [piece for piece in fold.feed(start() + delta(0, text="Hi") + end() + late) if isinstance(piece, str)] == [
        "Hi"
    ]
    assert fold.feed(late) == []
    assert fold.end() == []
    assert fold.response().content == "Hi"


def test_a_call_counts_once_it_is_closed_or_the_answer_complete() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    fold.feed(start() + call(0, "c", "now"))
    assert fold.response().tool_calls == []
    pieces = fold.feed(end("TOOL_CALL"))
    assert [piece.tool_call.arguments for piece in pieces if isinstance(piece, ToolCallEvent)] == [{}]
    assert [each.id for each in fold.response().tool_calls] == ["c"]


def test_calls_of_one_index_stay_apart() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    data = start() + call(None, "a", "f") + more(0, "{}") + call(0, None, "g", '{"x"') + more(0, ":1}")
    found = [(p.index, p.id, p.name, p.arguments) for p in fold.feed(data) if isinstance(p, ToolCallDeltaEvent)]
    assert found == [
        (0, "a", "f", ""),
        (0, None, None, "{}"),
        (1, "call_1", "g", ""),
        (1, None, None, '{"x"'),
        (1, None, None, ":1}"),
    ]
    fold.feed(end("TOOL_CALL"))
    assert [each.raw_arguments for each in fold.response().tool_calls] == ["{}", '{"x":1}']


def test_arguments_that_broke_are_kept_and_told() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    fold.feed(start() + call(0, "c", "now", '{"a') + end("MAX_TOKENS"))
    response = fold.response()
    assert response.finish_reason == "length"
    with pytest.raises(ToolArgumentsError) as caught:
        _ = response.tool_calls[0].arguments
    assert caught.value.raw_arguments == '{"a'


def test_thoughts_and_plan_are_told_apart_by_blank_lines() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    plan = event("tool-plan-delta", delta={"message": {"tool_plan": "Then b."}})
    data = start() + delta(0, thinking="a") + delta(0, thinking="a") + delta(1, thinking="b") + plan
    told = "".join(piece.text for piece in fold.feed(data))
    assert told == "aa\n\nb\n\nThen b."
    assert fold.response().reasoning == told


def test_an_answer_held_back_for_a_schema_comes_at_the_end() -> None:
    fold = family.Fold(request(MODEL, tools=[TOOL], response_format=SCHEMA), DIALECT)
    assert fold.feed(start() + delta(0, text="No ") + delta(0, text="tool.")) == []
    assert fold.feed(end()) == ["No ", "tool."]


def test_an_empty_structured_answer_is_an_object() -> None:
    fold = family.Fold(request(MODEL, tools=[TOOL], response_format=SCHEMA), DIALECT)
    pieces = fold.feed(start() + call(0, "c", "structured_answer") + end("TOOL_CALL"))
    assert pieces == ["{}"]
    assert (fold.response().content, fold.response().finish_reason) == ("{}", "stop")
    assert fold.response().opaque is None


def test_usage_is_told_before_an_error_is() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    with pytest.raises(ServerError):
        fold.feed(start() + end("ERROR", usage={"billed_units": {"input_tokens": 3, "output_tokens": 1}}))
    assert [piece.usage.total_tokens for piece in fold.pending if isinstance(piece, UsageEvent)] == [4]


def test_notes_stay_few() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    fold.feed(b"data: {broken\n\n" * 500)
    assert len(fold.notes) == 10


def test_bytes_that_are_no_utf8_are_replaced_and_told() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    broken = delta(0, text="ab").replace(b'"ab"', b'"a\xff"')
    assert fold.feed(start() + broken) == ["a\ufffd"]
    assert fold.notes == ["bytes that are no UTF-8 were replaced"]
    assert fold.feed(b"data: {broken \xff\n\n") == []
    assert fold.notes[1].startswith("a malformed chunk was skipped")


def test_deep_nesting_is_noted_and_does_no_harm() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    assert fold.feed(b"data: " + b"[" * 100_000 + b"\n\n" + delta(0, text="Hi")) == ["Hi"]
    assert len(fold.notes) == 1


def test_an_endless_event_is_an_error() -> None:
    fold = family.Fold(request(MODEL), DIALECT)
    fold.feed(b"data: " + b"x" * (8 * 1024 * 1024 - 6))
    with pytest.raises(ResponseTooLargeError, match=MODEL):
        fold.feed(b"xx")
