"""
The Messages API when it fails: error objects, answers that are none, streams that break off.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.family_requests import check_unreadable

from llm_master.classes import Request
from llm_master.errors import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ContextWindowError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    ResponseError,
    ResponseTooLargeError,
    ServerError,
    ToolArgumentsError,
)
from llm_master.events import RefusalEvent, ToolCallDeltaEvent, ToolCallEvent, UsageEvent
from llm_master.rows import MessagesDialect
from llm_master.wire import anthropic_messages as family

DIALECT = MessagesDialect()


def request(**params: Any) -> Request:
    return Request("anthropic", "claude-opus-5", [{"role": "user", "content": "Hi"}], params)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def start(**usage: int) -> bytes:
    return event("message_start", message={"id": "msg_1", "model": "served", "usage": usage or {"input_tokens": 3}})


def block(index: int, **fields: Any) -> bytes:
    return event("content_block_start", index=index, content_block=fields)


def delta(index: int, kind: str, **fields: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


def stop(reason: str | None = "end_turn", **usage: int) -> bytes:
    return event("message_delta", delta={"stop_reason": reason}, usage=usage or {"output_tokens": 7})


def message(**fields: Any) -> bytes:
    whole = {"id": "m", "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "usage": {}, **fields}
    return json.dumps(whole).encode()


ERRORS: list[tuple[str, str, type[ProviderError], int, bool]] = [
    ("invalid_request_error", "messages: at least one", BadRequestError, 400, False),
    ("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", ContextWindowError, 400, False),
    ("invalid_request_error", "Your credit balance is too low to access the API", QuotaExceededError, 400, False),
    ("authentication_error", "invalid x-api-key", AuthenticationError, 401, False),
    ("billing_error", "payment required", QuotaExceededError, 402, False),
    ("permission_error", "not allowed", PermissionDeniedError, 403, False),
    ("not_found_error", "model: claude-nope", NotFoundError, 404, False),
    ("request_too_large", "over 32 MB", BadRequestError, 413, False),
    ("rate_limit_error", "too many tokens", RateLimitError, 429, True),
    ("api_error", "Internal server error", ServerError, 500, True),
    ("timeout_error", "took too long", APITimeoutError, 504, True),
    ("overloaded_error", "Overloaded", OverloadedError, 529, True),
]


def read_plain(fields: dict[str, Any]) -> None:
    family.decode(json.dumps({"type": "error", **fields}).encode(), request(), DIALECT)


def read_stream(fields: dict[str, Any]) -> None:
    family.Fold(request(), DIALECT).feed(start() + event("error", **fields))


@pytest.mark.parametrize("case", ERRORS, ids=[f"{case[0]} {case[1][:9]}" for case in ERRORS])
@pytest.mark.parametrize("read", [read_plain, read_stream])
def test_an_error_inside_a_good_answer(read: Callable[[dict[str, Any]], None], case: Any) -> None:
    kind, text, cls, status, retryable = case
    with pytest.raises(cls) as caught:
        read({"error": {"type": kind, "message": text}, "request_id": "req_9"})
    error = caught.value
    assert type(error) is cls
    assert (error.provider, error.model, error.status_code, error.code) == ("anthropic", "claude-opus-5", status, kind)
    assert (error.retryable, error.request_id) == (retryable, "req_9")
    assert text in str(error)


def test_an_error_without_its_type_is_still_an_error() -> None:
    fold = family.Fold(request(), DIALECT)
    with pytest.raises(ServerError, match="out of memory"):
        fold.feed(b'data: {"error": {"message": "out of memory"}}\n\n')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502 Bad Gateway</html>",
        message()[:-9],
        b"\xff\xfe",
        b'{"id": "m", "choices": []}',
        b'{"content": "text"}',
        b"[]",
        b'{"content":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["empty", "html", "truncated", "not utf-8", "no content", "content is text", "a list", "deep"],
)
def test_what_is_no_message_is_a_response_error(body: bytes) -> None:
    check_unreadable(lambda: family.decode(body, request(), DIALECT), "anthropic", "claude-opus-5")


def test_a_response_error_shows_no_secret() -> None:
    with pytest.raises(ResponseError) as caught:
        family.decode(b"upstream said: x-api-key: sk-ant-api03-abcdefgh", request(), DIALECT)
    assert "abcdefgh" not in str(caught.value)
    assert "abcdefgh" not in str(caught.value.body)


@pytest.mark.parametrize(
    ("reason", "finish", "noted"),
    [
        ("end_turn", "stop", False),
        ("stop_sequence", "stop", False),
        ("max_tokens", "length", False),
        ("tool_use", "stop", False),
        ("refusal", "refusal", False),
        ("pause_turn", "pause", False),
        ("model_context_window_exceeded", "context_window", False),
        (None, "error", False),
        ("compaction", "stop", True),
    ],
)
def test_finish_reasons(reason: str | None, finish: str, noted: bool) -> None:
    response = family.decode(message(stop_reason=reason), request(), DIALECT)
    assert response.finish_reason == finish
    assert bool(response.notes) is noted


@pytest.mark.parametrize(
    "details", [None, {}, {"type": "refusal", "category": None, "explanation": None}], ids=["none", "empty", "nulls"]
)
def test_a_refusal_without_details_is_told_in_the_models_words(details: Any) -> None:
    response = family.decode(message(stop_reason="refusal", stop_details=details), request(), DIALECT)
    assert response.refusal == "Hi"
    empty = family.decode(message(stop_reason="refusal", stop_details=details, content=[]), request(), DIALECT)
    assert empty.refusal == "refused without a reason"


def test_a_compatible_server_that_says_end_turn_with_a_call() -> None:
    call = {"type": "tool_use", "id": "t", "name": "now", "input": {}}
    assert family.decode(message(content=[call]), request(), DIALECT).finish_reason == "tool_calls"


def test_usage_may_be_missing_or_null() -> None:
    for fields in ({"usage": None}, {"usage": {"input_tokens": None, "cache_creation": None}}):
        assert family.decode(message(**fields), request(), DIALECT).usage.total_tokens == 0


def test_the_split_of_cache_writes_counts_without_their_sum() -> None:
    usage: dict[str, Any] = {
        "input_tokens": 1,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 300},
    }
    found = family.decode(message(usage=usage), request(), DIALECT).usage
    assert (found.input_tokens, found.cache_write_tokens, found.cache_write_1h_tokens) == (321, 320, 300)
    usage["cache_creation"] = {"ephemeral_5m_input_tokens": None, "ephemeral_1h_input_tokens": None}
    found = family.decode(message(usage=usage), request(), DIALECT).usage
    assert (found.input_tokens, found.cache_write_tokens, found.cache_write_1h_tokens) == (1, 0, 0)


# Streams --------------------------------------------------------------------------------------------------------------


def test_a_stream_that_breaks_off_is_not_complete() -> None:
    fold = family.Fold(request(), DIALECT)
    pieces = fold.feed(start(input_tokens=3, output_tokens=1) + block(0, type="text", text=""))
    pieces += fold.feed(delta(0, "text_delta", text="Once upon"))
    pieces += fold.feed(event("content_block_stop", index=0) + block(1, type="tool_use", id="t", name="now", input={}))
    pieces += fold.feed(delta(1, "input_json_delta", partial_json='{"zo'))
    pieces += fold.end()
    assert not fold.done
    assert not fold.complete
    assert not any(isinstance(piece, ToolCallEvent) for piece in pieces)
    response = fold.response()
    assert (response.content, response.finish_reason, response.tool_calls) == ("Once upon", None, [])
    assert (response.usage.input_tokens, response.usage.output_tokens, response.request_id) == (3, 1, "msg_1")


@pytest.mark.parametrize("ending", [b"", stop("tool_use")], ids=["closed, not complete", "complete, not closed"])
def test_a_call_counts_once_it_is_closed_or_the_answer_complete(ending: bytes) -> None:
    fold = family.Fold(request(), DIALECT)
    fold.feed(start() + block(0, type="tool_use", id="t", name="now", input={}))
    assert fold.response().tool_calls == []
    fold.feed(ending or event("content_block_stop", index=0))
    assert [call.id for call in fold.response().tool_calls] == ["t"]


def test_a_stream_without_its_marker_is_complete_and_closes_its_calls() -> None:
    fold = family.Fold(request(), DIALECT)
    pieces = fold.feed(start() + block(0, type="tool_use", id="t", name="now", input={}) + stop("tool_use"))
    assert (fold.done, fold.complete) == (True, True)
    (piece,) = (each for each in pieces if isinstance(each, ToolCallEvent))
    assert piece.tool_call.arguments == {}
    assert fold.response().finish_reason == "tool_calls"


def test_a_marker_without_a_stop_reason_ends_in_an_error_finish() -> None:
    fold = family.Fold(request(), DIALECT)
    fold.feed(start() + stop(None) + event("message_stop"))
    assert (fold.done, fold.complete) == (True, False)
    assert fold.response().finish_reason == "error"


def test_what_follows_the_end_is_ignored() -> None:
    fold = family.Fold(request(), DIALECT)
    end = block(0, type="text", text="Hi") + stop() + event("message_stop")
    late = delta(0, "text_delta", text="!")
    assert [piece for piece in fold.feed(start() + end + late) if isinstance(piece, str)] == ["Hi"]
    assert fold.feed(late) == []
    assert fold.end() == []
    assert fold.response().content == "Hi"


def test_usage_of_a_later_event_replaces_and_never_adds() -> None:
    fold = family.Fold(request(), DIALECT)
    pieces = fold.feed(start(input_tokens=10, cache_read_input_tokens=5, output_tokens=1))
    pieces += fold.feed(stop(None, output_tokens=4) + stop(output_tokens=9, input_tokens=12))
    totals = [(p.usage.input_tokens, p.usage.output_tokens) for p in pieces if isinstance(p, UsageEvent)]
    assert totals == [(15, 1), (15, 4), (17, 9)]
    assert fold.response().usage.cached_tokens == 5


def test_arguments_that_broke_are_kept_and_told() -> None:
    fold = family.Fold(request(), DIALECT)
    fold.feed(start() + block(0, type="thinking", thinking="a") + event("content_block_stop", index=0))
    fold.feed(
        block(1, type="tool_use", id="t", name="now", input={}) + delta(1, "input_json_delta", partial_json='{"a')
    )
    fold.feed(event("content_block_stop", index=1) + stop("max_tokens") + event("message_stop"))
    response = fold.response()
    assert response.finish_reason == "length"
    assert response.tool_calls[0].raw_arguments == '{"a'
    with pytest.raises(ToolArgumentsError) as caught:
        _ = response.tool_calls[0].arguments
    assert caught.value.raw_arguments == '{"a'


def test_calls_are_counted_from_zero_whatever_blocks_stand_between() -> None:
    fold = family.Fold(request(), DIALECT)
    data = start() + block(0, type="text", text="x")
    data += block(1, type="tool_use", id="a", name="f", input={}) + block(2, type="text", text="y")
    data += block(3, type="tool_use", id="b", name="g", input={}) + delta(3, "input_json_delta", partial_json="{}")
    found = [(p.index, p.id, p.name) for p in fold.feed(data) if isinstance(p, ToolCallDeltaEvent)]
    assert found == [(0, "a", "f"), (1, "b", "g"), (1, None, None)]


def test_a_refusal_is_an_event_of_its_own() -> None:
    fold = family.Fold(request(), DIALECT)
    end = event("message_delta", delta={"stop_reason": "refusal", "stop_details": {"category": "bio"}}, usage=None)
    assert fold.feed(start() + end)[-1] == RefusalEvent("bio")


def test_notes_stay_few() -> None:
    fold = family.Fold(request(), DIALECT)
    fold.feed(b"data: {broken\n\n" * 500)
    assert len(fold.notes) == 10
    assert len(fold.response().notes) == 10


def test_deep_nesting_is_noted_and_does_no_harm() -> None:
    fold = family.Fold(request(), DIALECT)
    pieces = fold.feed(block(0, type="text", text="") + b"data: " + b"[" * 100_000 + b"\n\n")
    assert pieces + fold.feed(delta(0, "text_delta", text="Hi")) == ["Hi"]
    assert len(fold.notes) == 1


def test_an_endless_event_is_an_error() -> None:
    fold = family.Fold(request(), DIALECT)
    fold.feed(b"data: " + b"x" * (8 * 1024 * 1024 - 6))
    with pytest.raises(ResponseTooLargeError, match="claude-opus-5"):
        fold.feed(b"xx")


def test_an_answer_held_back_for_a_schema_comes_at_the_end() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    fold = family.Fold(request(response_format=schema), DIALECT)
    data = start() + block(0, type="text", text="No ") + delta(0, "text_delta", text="tool.")
    assert not any(isinstance(piece, str) for piece in fold.feed(data))
    assert [piece for piece in fold.feed(stop()) if isinstance(piece, str)] == ["No ", "tool."]
    assert fold.end() == []


def test_an_empty_structured_answer_is_an_object() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    fold = family.Fold(request(response_format=schema), DIALECT)
    call = block(0, type="tool_use", id="t", name="structured_answer", input={})
    pieces = fold.feed(start() + call + event("content_block_stop", index=0) + stop("tool_use") + event("message_stop"))
    assert [piece for piece in pieces if isinstance(piece, str)] == ["{}"]
    assert (fold.response().content, fold.response().finish_reason) == ("{}", "stop")
