"""
Converse when it fails: HTTP errors, exceptions in a stream, answers that are none, streams that break off.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.bedrock_requests import CLAUDE, DIALECT, TOOL, request
from support.event_stream import event, exception, frame
from support.family_requests import check_unreadable

from llm_master.classify import error_from_response
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
    ServerError,
    ToolArgumentsError,
)
from llm_master.events import ReasoningEvent, ToolCallDeltaEvent, ToolCallEvent, UsageEvent
from llm_master.wire import bedrock as family

NOVA = "us.amazon.nova-lite-v1:0"
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {}}}}


def delta(index: int, **fields: Any) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": fields})


def call(index: int, id: str, name: str, **fields: Any) -> bytes:
    start = {"toolUse": {"toolUseId": id, "name": name, **fields}}
    return event("contentBlockStart", {"contentBlockIndex": index, "start": start})


def closed(index: int) -> bytes:
    return event("contentBlockStop", {"contentBlockIndex": index})


def stop(reason: str = "end_turn") -> bytes:
    return event("messageStop", {"stopReason": reason})


def meta(**usage: int) -> bytes:
    return event("metadata", {"usage": usage or {"inputTokens": 3, "outputTokens": 2}, "metrics": {"latencyMs": 1}})


def answer(**fields: Any) -> bytes:
    message = {"role": "assistant", "content": [{"text": "Hi"}]}
    return json.dumps({"output": {"message": message}, "stopReason": "end_turn", "usage": {}, **fields}).encode()


# Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "message", "cls", "retryable"),
    [
        (400, "ValidationException", "The provided model identifier is invalid.", BadRequestError, False),
        (400, "ValidationException", "Input is too long for requested model.", ContextWindowError, False),
        (400, "ServiceQuotaExceededException", "too many", QuotaExceededError, False),
        (403, "AccessDeniedException", "no access to the model", PermissionDeniedError, False),
        (403, "UnrecognizedClientException", "The security token is invalid", PermissionDeniedError, False),
        (404, "ResourceNotFoundException", "not there", NotFoundError, False),
        (408, "ModelTimeoutException", "took too long", APITimeoutError, True),
        (424, "ModelErrorException", "the model failed", ServerError, True),
        (429, "ThrottlingException", "Too many requests, please wait", RateLimitError, True),
        (429, "ModelNotReadyException", "not ready", OverloadedError, True),
        (500, "InternalServerException", "oh", ServerError, True),
        (503, "ServiceUnavailableException", "oh", OverloadedError, True),
    ],
)
def test_an_http_error(status: int, kind: str, message: str, cls: type[ProviderError], retryable: bool) -> None:
    body = json.dumps({"message": message}).encode()
    headers = {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/"}
    error = error_from_response(status, body, provider="bedrock", model=NOVA, headers=headers)
    assert type(error) is cls
    assert (error.status_code, error.code, error.retryable) == (status, kind, retryable)
    assert message in str(error)


@pytest.mark.parametrize(
    ("kind", "fields", "cls", "status", "retryable"),
    [
        ("throttlingException", {"message": "slow down"}, RateLimitError, 429, True),
        ("validationException", {"message": "wrong"}, BadRequestError, 400, False),
        ("validationException", {"message": "prompt is too long: 9 tokens"}, ContextWindowError, 400, False),
        ("internalServerException", {"message": "oh"}, ServerError, 500, True),
        ("serviceUnavailableException", {"message": "oh"}, OverloadedError, 503, True),
        ("modelTimeoutException", {"message": "late"}, APITimeoutError, 408, True),
        ("modelStreamErrorException", {"message": "broke off"}, ServerError, 424, True),
        ("modelStreamErrorException", {"message": "x", "originalStatusCode": 429}, RateLimitError, 429, True),
        ("modelStreamErrorException", {"message": "x", "originalStatusCode": 400}, BadRequestError, 400, False),
        ("modelStreamErrorException", {"originalMessage": "upstream said no"}, ServerError, 424, True),
        ("serviceQuotaExceededException", {"message": "no"}, QuotaExceededError, 400, False),
        ("accessDeniedException", {"message": "no"}, AuthenticationError, 403, False),
        ("brandNewException", {}, ServerError, 500, True),
    ],
)
def test_an_exception_in_a_stream(
    kind: str, fields: dict[str, Any], cls: type[ProviderError], status: int, retryable: bool
) -> None:
    fold = family.Fold(request(NOVA), DIALECT)
    with pytest.raises(cls) as caught:
        fold.feed(delta(0, text="Hel") + exception(kind, **fields) + delta(0, text="lo"))
    error = caught.value
    assert isinstance(error, cls)
    assert (error.code, error.status_code, error.retryable) == (kind, status, retryable)
    assert (error.provider, error.model) == ("bedrock", NOVA)
    assert (fields.get("message") or fields.get("originalMessage") or kind) in str(error)
    assert fold.pending == ["Hel"]
    assert (fold.complete, fold.response().content, fold.response().finish_reason) == (False, "Hel", None)


def test_a_row_may_give_an_exception_another_category() -> None:
    fold = family.Fold(request(NOVA), DIALECT, rules={"modelStreamErrorException": "overloaded"})
    with pytest.raises(OverloadedError):
        fold.feed(exception("modelStreamErrorException", message="x"))


def test_an_error_below_the_events() -> None:
    headers = {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "it broke"}
    with pytest.raises(ServerError, match="it broke") as caught:
        family.Fold(request(NOVA), DIALECT).feed(frame(headers, b""))
    assert caught.value.code == "InternalFailure"


def test_an_exception_that_is_no_json_is_quoted() -> None:
    data = frame({":message-type": "exception", ":exception-type": "throttlingException"}, b"Slow down!")
    with pytest.raises(RateLimitError, match="Slow down!"):
        family.Fold(request(NOVA), DIALECT).feed(data)


@pytest.mark.parametrize(
    ("body", "cls"),
    [
        ({"message": "no", "__type": "com.amazon.coral.service#AccessDeniedException"}, AuthenticationError),
        ({"message": "no", "__type": "ThrottlingException"}, RateLimitError),
        ({"Message": "no", "code": "ResourceNotFoundException"}, NotFoundError),
        ({"error": {"message": "no", "code": "overloaded_error"}}, OverloadedError),
        ({"message": "no"}, ServerError),
    ],
)
def test_an_error_object_in_a_good_answer(body: dict[str, Any], cls: type[ProviderError]) -> None:
    with pytest.raises(cls, match="no"):
        family.decode(json.dumps(body).encode(), request(NOVA), DIALECT)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502 Bad Gateway</html>",
        answer()[:-9],
        b"\xff\xfe",
        b'{"output": {}}',
        b'{"output": {"message": {"content": "Hi"}}}',
        b"[]",
        b'{"output":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["empty", "html", "truncated", "not utf-8", "no message", "content is text", "a list", "deep"],
)
def test_what_is_no_answer_is_a_response_error(body: bytes) -> None:
    check_unreadable(lambda: family.decode(body, request(NOVA), DIALECT), "bedrock", NOVA)


@pytest.mark.parametrize(
    ("reason", "finish", "noted"),
    [
        ("end_turn", "stop", False),
        ("stop_sequence", "stop", False),
        ("max_tokens", "length", False),
        ("tool_use", "stop", False),
        ("guardrail_intervened", "content_filter", False),
        ("content_filtered", "content_filter", False),
        ("model_context_window_exceeded", "context_window", False),
        ("malformed_model_output", "error", False),
        ("malformed_tool_use", "error", False),
        (None, "error", False),
        ("tired", "stop", True),
    ],
)
def test_finish_reasons(reason: str | None, finish: str, noted: bool) -> None:
    response = family.decode(answer(stopReason=reason), request(NOVA), DIALECT)
    assert response.finish_reason == finish
    assert bool(response.notes) is noted
    if reason is not None:
        fold = family.Fold(request(NOVA), DIALECT)
        fold.feed(delta(0, text="Hi") + stop(reason) + meta())
        assert fold.response().finish_reason == finish


def test_a_call_under_another_finish_reason_is_a_call() -> None:
    content = [{"toolUse": {"toolUseId": "t", "name": "now", "input": {}}}]
    output = {"message": {"content": content}}
    assert family.decode(answer(output=output), request(NOVA), DIALECT).finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, (0, 0, 0, 0, 0)),
        ({}, (0, 0, 0, 0, 0)),
        ({"inputTokens": 5, "outputTokens": 7, "cacheReadInputTokens": None}, (5, 7, 0, 0, 0)),
        ({"inputTokens": 2, "outputTokens": 5, "cacheWriteInputTokens": 1322}, (1324, 5, 0, 1322, 0)),
        ({"inputTokens": 2, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 3}, (15, 0, 10, 3, 0)),
        (
            {"inputTokens": 1, "cacheDetails": [{"ttl": "1h", "inputTokens": 4}, {"ttl": "5m", "inputTokens": 2}]},
            (7, 0, 0, 6, 4),
        ),
    ],
)
def test_usage(usage: Any, counts: tuple[int, ...]) -> None:
    found = family.decode(answer(usage=usage), request(NOVA), DIALECT).usage
    assert counts == (
        found.input_tokens,
        found.output_tokens,
        found.cached_tokens,
        found.cache_write_tokens,
        found.cache_write_1h_tokens,
    )


def test_an_image_that_failed_is_noted() -> None:
    image = {"format": "png", "source": {"bytes": "!"}, "error": {"message": "too dark"}}
    output = {"message": {"content": [{"image": image}, {"audio": {"format": "wav", "source": {"bytes": "AAAA"}}}]}}
    response = family.decode(answer(output=output), request(NOVA), DIALECT)
    assert (response.images, response.notes) == ([], ("an image was left out: too dark",))
    assert response.audio_data == b"\x00\x00\x00"


# Streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_that_breaks_off_is_not_complete() -> None:
    fold = family.Fold(request(NOVA), DIALECT)
    pieces = fold.feed(
        delta(0, text="Once upon") + closed(0) + call(1, "t", "now") + delta(1, toolUse={"input": '{"zo'})
    )
    pieces += fold.end()
    assert (fold.done, fold.complete) == (False, False)
    assert not any(isinstance(piece, ToolCallEvent) for piece in pieces)
    response = fold.response()
    assert (response.content, response.finish_reason, response.tool_calls) == ("Once upon", None, [])


def test_a_stream_without_its_usage_is_complete() -> None:
    fold = family.Fold(request(NOVA), DIALECT)
    pieces = fold.feed(call(0, "t", "now") + stop("tool_use"))
    assert (fold.done, fold.complete, fold.end()) == (False, True, [])
    assert [piece.tool_call.arguments for piece in pieces if isinstance(piece, ToolCallEvent)] == [{}]
    assert fold.response().finish_reason == "tool_calls"


def test_usage_may_come_before_the_end() -> None:
    fold = family.Fold(request(NOVA), DIALECT)
    fold.feed(delta(0, text="Hi") + meta())
    assert (fold.done, fold.complete) == (False, False)
    fold.feed(stop())
    assert (fold.done, fold.complete) == (True, True)
    assert fold.response().usage.total_tokens == 5


def test_what_follows_the_end_is_ignored() -> None:
    fold = family.Fold(request(NOVA), DIALECT)
    late = delta(0, text="!") + exception("throttlingException", message="x")
    pieces = fold.feed(delta(0, text="Hi") + stop() + meta() + late)
    assert [piece for piece in pieces if isinstance(piece, str)] == ["Hi"]
    assert fold.feed(b"not an event stream at all") == []
    assert (fold.end(), fold.response().content) == ([], "Hi")


def test_usage_of_a_later_event_replaces_and_never_adds() -> None:
    fold = family.Fold(request(NOVA), DIALECT)
    pieces = fold.feed(meta(inputTokens=3, outputTokens=1) + meta(inputTokens=3, outputTokens=9) + stop())
    assert [piece.usage.output_tokens for piece in pieces if isinstance(piece, UsageEvent)] == [1, 9]


def test_arguments_that_broke_are_kept_and_told() -> None:
    fold = family.Fold(request(NOVA), DIALECT)
    fold.feed(call(0, "t", "now") + delta(0, toolUse={"input": '{"a'}) + closed(0) + stop("max_tokens") + meta())
    response = fold.response()
    assert response.finish_reason == "length"
    with pytest.raises(ToolArgumentsError) as caught:
        _ = response.tool_calls[0].arguments
    assert caught.value.raw_arguments == '{"a'


def test_calls_are_counted_from_zero_whatever_blocks_stand_between() -> None:
    data = delta(0, text="x") + call(1, "a", "f", type="tool_use") + call(2, "s", "own", type="server_tool_use")
    data += (
        delta(2, toolUse={"input": "{}"}) + delta(3, text="y") + call(4, "b", "g") + delta(4, toolUse={"input": "{}"})
    )
    fold = family.Fold(request(NOVA), DIALECT)
    found = [(p.index, p.id, p.name) for p in fold.feed(data) if isinstance(p, ToolCallDeltaEvent)]
    assert found == [(0, "a", "f"), (1, "b", "g"), (1, None, None)]


def test_thoughts_are_told_apart_by_blank_lines() -> None:
    data = b"".join(delta(index, reasoningContent={"text": text}) for index, text in ((0, "a"), (0, "b"), (1, "c")))
    fold = family.Fold(request(CLAUDE), DIALECT)
    told = "".join(piece.text for piece in fold.feed(data) if isinstance(piece, ReasoningEvent))
    assert told == fold.response().reasoning == "ab\n\nc"


def test_texts_of_two_blocks_that_take_turns_are_kept_in_their_order() -> None:
    fold = family.Fold(request(NOVA), DIALECT)
    data = delta(0, text="a") + delta(1, text="c") + delta(0, text="b") + stop() + meta()
    assert [piece for piece in fold.feed(data) if isinstance(piece, str)] == ["a", "c", "b"]
    assert fold.response().content == "abc"


def test_bytes_that_are_no_base64_are_noted() -> None:
    fold = family.Fold(request(CLAUDE), DIALECT)
    fold.feed(delta(0, reasoningContent={"redactedContent": "a"}) + delta(1, text="Hi") + stop() + meta())
    assert "no base64" in fold.notes[0]


def test_an_image_of_a_stream_that_failed_is_noted() -> None:
    start = event("contentBlockStart", {"contentBlockIndex": 0, "start": {"image": {"format": "png"}}})
    fold = family.Fold(request(NOVA), DIALECT)
    fold.feed(start + delta(0, image={"error": {"message": "too dark"}}) + stop() + meta())
    assert fold.response().notes == ("an image was left out: too dark",)


def test_an_answer_held_back_for_a_schema_comes_at_the_end() -> None:
    fold = family.Fold(request(NOVA, tools=[TOOL], response_format=SCHEMA), DIALECT)
    assert fold.feed(delta(0, text="No ") + delta(0, text="tool.")) == []
    assert fold.feed(stop()) == ["No ", "tool."]


def test_an_empty_structured_answer_is_an_object() -> None:
    fold = family.Fold(request(NOVA, response_format=SCHEMA), DIALECT)
    pieces = fold.feed(call(0, "t", "structured_answer") + closed(0) + stop("tool_use"))
    assert pieces == ["{}"]
    assert (fold.response().content, fold.response().finish_reason) == ("{}", "stop")


def test_notes_stay_few() -> None:
    fold = family.Fold(request(NOVA), DIALECT)
    fold.feed(event("contentBlockDelta", b"{broken") * 50 + event("metadata", b"[" * 100_000))
    assert len(fold.notes) == 10
