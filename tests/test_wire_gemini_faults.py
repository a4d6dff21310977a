"""
The Gemini API when it fails: error objects, blocked prompts, answers that are none, streams that break off.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.family_requests import check_unreadable
from support.gemini_scenarios import DIALECT, chunk, request

from llm_master.errors import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
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
)
from llm_master.wire import gemini

MODEL = "gemini-2.5-flash"


def answer(*parts: Any, finish: str | None = "STOP", **more: Any) -> bytes:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts or ({"text": "Hi"},))}}
    if finish is not None:
        candidate["finishReason"] = finish
    return json.dumps({"candidates": [candidate], **more}).encode()


def decoded(body: bytes, **params: Any) -> Any:
    return gemini.decode(body, request(MODEL, **params), DIALECT)


def started(**params: Any) -> gemini.Fold:
    return gemini.Fold(request(MODEL, **params), DIALECT)


def reason(name: str) -> list[dict[str, Any]]:
    return [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": name, "domain": "googleapis.com"}]


def quota(name: str, delay: str | None = None) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name}]}
    ]
    if delay:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return details


TOO_LONG = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
ERRORS: list[tuple[int, str, str, Any, type[ProviderError], bool]] = [
    (400, "INVALID_ARGUMENT", "Unknown name", None, BadRequestError, False),
    (400, "INVALID_ARGUMENT", TOO_LONG, None, ContextWindowError, False),
    (400, "INVALID_ARGUMENT", "API key not valid.", reason("API_KEY_INVALID"), AuthenticationError, False),
    (400, "FAILED_PRECONDITION", "Please enable billing on your project", None, QuotaExceededError, False),
    (401, "UNAUTHENTICATED", "Expected OAuth 2 access token", None, AuthenticationError, False),
    (403, "PERMISSION_DENIED", "The caller does not have permission", None, PermissionDeniedError, False),
    (404, "NOT_FOUND", "models/nope is not found for API version v1beta", None, NotFoundError, False),
    (429, "RESOURCE_EXHAUSTED", "Quota exceeded", quota("RequestsPerMinutePerModel", "12s"), RateLimitError, True),
    (429, "RESOURCE_EXHAUSTED", "Quota exceeded", quota("RequestsPerDayPerModel"), QuotaExceededError, False),
    (500, "INTERNAL", "An internal error has occurred", None, ServerError, True),
    (503, "UNAVAILABLE", "The model is overloaded", None, OverloadedError, True),
    (504, "DEADLINE_EXCEEDED", "Deadline expired", None, APITimeoutError, True),
]


def read_plain(body: Any) -> None:
    decoded(json.dumps(body).encode())


def read_stream(body: Any) -> None:
    started().feed(chunk({"text": "Hi"}) + f"data: {json.dumps(body)}\r\n\r\n".encode())


@pytest.mark.parametrize("case", ERRORS, ids=[f"{case[0]} {case[2][:12]}" for case in ERRORS])
@pytest.mark.parametrize("read", [read_plain, read_stream])
@pytest.mark.parametrize("listed", [False, True])
def test_an_error_inside_a_good_answer(read: Callable[[Any], None], case: Any, listed: bool) -> None:
    code, word, text, details, cls, retryable = case
    error = {"error": {"code": code, "message": text, "status": word, **({"details": details} if details else {})}}
    with pytest.raises(cls) as caught:
        read([error] if listed else error)
    found = caught.value
    assert type(found) is cls
    assert (found.provider, found.model, found.status_code, found.code) == ("gemini", MODEL, code, word)
    assert found.retryable is retryable
    assert text in str(found)
    assert found.retry_after == (12.0 if details and len(details) > 1 else None)


@pytest.mark.parametrize("word", ["SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "JAILBREAK"])
@pytest.mark.parametrize("read", [read_plain, read_stream])
def test_a_blocked_prompt(read: Callable[[Any], None], word: str) -> None:
    body = {"promptFeedback": {"blockReason": word, "safetyRatings": []}, "responseId": "r9"}
    if read is read_stream:
        fold = started()
        with pytest.raises(ContentPolicyError) as caught:
            fold.feed(f"data: {json.dumps(body)}\n\n".encode())
        assert not fold.complete
    else:
        with pytest.raises(ContentPolicyError) as caught:
            read(body)
    assert (caught.value.code, caught.value.request_id, caught.value.retryable) == (word, "r9", False)
    assert word in str(caught.value)


def test_feedback_that_blocks_nothing() -> None:
    for feedback in ({}, {"blockReason": "BLOCKED_REASON_UNSPECIFIED"}, {"safetyRatings": []}):
        assert decoded(answer(promptFeedback=feedback)).content == "Hi"
        with pytest.raises(ResponseError, match="without candidates"):
            read_plain({"promptFeedback": feedback})
    fold = started()
    late = b'data: {"promptFeedback": {"blockReason": "SAFETY"}}\n\n'
    assert fold.feed(chunk({"text": "Hi"}, finish="STOP") + late) == ["Hi"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502 Bad Gateway</html>",
        answer()[:-9],
        b"\xff\xfe",
        b"{}",
        b'{"candidates": []}',
        b'{"candidates": "text"}',
        b'{"error": null}',
        b"[]",
        b"[1]",
        b'"text"',
        b'{"candidates":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=[
        "empty",
        "html",
        "truncated",
        "not utf-8",
        "nothing",
        "none",
        "a text",
        "null",
        "a list",
        "number",
        "str",
        "deep",
    ],
)
def test_what_is_no_answer_is_a_response_error(body: bytes) -> None:
    check_unreadable(lambda: decoded(body), "gemini", MODEL)


def test_a_response_error_shows_no_secret() -> None:
    with pytest.raises(ResponseError) as caught:
        decoded(b"upstream said: x-goog-api-key: AIzaSyA1234567890abcdefghij")
    assert "1234567890" not in str(caught.value)
    assert "1234567890" not in str(caught.value.body)


@pytest.mark.parametrize(
    ("word", "finish", "noted"),
    [
        ("STOP", "stop", False),
        ("MAX_TOKENS", "length", False),
        ("CONTINUATION", "pause", False),
        ("SAFETY", "content_filter", True),
        ("RECITATION", "content_filter", True),
        ("PROHIBITED_CONTENT", "content_filter", True),
        ("IMAGE_SAFETY", "content_filter", True),
        ("IMAGE_OTHER", "content_filter", True),
        ("MODEL_ARMOR", "content_filter", True),
        ("MALFORMED_FUNCTION_CALL", "error", True),
        ("MALFORMED_RESPONSE", "error", True),
        ("UNEXPECTED_TOOL_CALL", "error", True),
        ("MISSING_THOUGHT_SIGNATURE", "error", True),
        ("NO_IMAGE", "error", True),
        ("LANGUAGE", "error", True),
        ("OTHER", "error", True),
        ("FINISH_REASON_UNSPECIFIED", "error", True),
        (None, "error", True),
        ("NEW_WORD", "stop", True),
    ],
)
def test_finish_reasons(word: str | None, finish: str, noted: bool) -> None:
    response = decoded(answer(finish=word))
    assert response.finish_reason == finish
    assert bool(response.notes) is noted
    called = decoded(answer({"functionCall": {"name": "now"}}, finish=word))
    assert called.finish_reason == ("tool_calls" if finish == "stop" else finish)


# Streams ------------------------------------------------------------------------------------------------------------


def test_a_stream_that_breaks_off_is_not_complete() -> None:
    fold = started()
    fold.feed(chunk({"text": "Once"}, {"functionCall": {"name": "now"}}, usageMetadata={"promptTokenCount": 3}))
    fold.end()
    assert (fold.done, fold.complete) == (False, False)
    response = fold.response()
    assert (response.content, response.finish_reason, response.request_id) == ("Once", None, "r1")
    assert (response.usage.input_tokens, len(response.tool_calls)) == (3, 1)


def test_a_marker_without_a_finish_reason_ends_in_an_error_finish() -> None:
    fold = started()
    fold.feed(chunk({"text": "Hi"}) + b"data: [DONE]\n\n")
    assert (fold.done, fold.complete) == (True, False)
    assert fold.response().finish_reason == "error"


def test_what_is_pending_when_an_error_comes() -> None:
    fold = started()
    with pytest.raises(OverloadedError):
        fold.feed(chunk({"text": "Hi"}) + b'data: {"error": {"code": 503, "message": "overloaded"}}\n\n')
    assert list(fold.pending) == ["Hi"]


def test_notes_stay_few() -> None:
    fold = started()
    fold.feed(b"".join(b"data: {broken %d\n\n" % number for number in range(500)))
    assert len(fold.notes) == len(fold.response().notes) == 20


def test_deep_nesting_is_noted_and_does_no_harm() -> None:
    fold = started()
    assert fold.feed(b"data: " + b"[" * 100_000 + b"\n\n" + chunk({"text": "Hi"})) == ["Hi"]
    assert len(fold.notes) == 1


def test_an_endless_event_is_an_error() -> None:
    fold = started()
    fold.feed(b"data: " + b"x" * (8 * 1024 * 1024 - 6))
    with pytest.raises(ResponseTooLargeError, match=MODEL):
        fold.feed(b"xx")


def test_arguments_in_pieces_are_noted() -> None:
    pieces = {
        "functionCall": {"name": "now", "partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}], "willContinue": True}
    }
    fold = started()
    fold.feed(chunk(pieces, finish="STOP"))
    assert fold.response().notes == ("a tool call came in pieces, which are not put together",)


def test_calls_are_numbered_over_all_chunks() -> None:
    fold = started()
    for name in ("a", "b"):
        fold.feed(chunk({"functionCall": {"name": name, "args": {"x": 1}}}))
    fold.feed(chunk({"functionCall": {"name": "c", "id": "own", "args": None}}, finish="STOP"))
    calls = fold.response().tool_calls
    assert [(call.id, call.name, call.raw_arguments) for call in calls] == [
        ("call_1_0", "a", '{"x":1}'),
        ("call_1_1", "b", '{"x":1}'),
        ("own", "c", "{}"),
    ]


@pytest.mark.parametrize(
    ("text", "data"), [("-_8=", b"\xfb\xff"), ("+/8=", b"\xfb\xff"), ("AA", None), ("A*==", None), ("", b"")]
)
def test_pictures_in_both_alphabets_of_base64(text: str, data: bytes | None) -> None:
    response = decoded(answer({"inlineData": {"mimeType": "image/png", "data": text}}))
    assert [image.data for image in response.images] == ([data] if data is not None else [])
    assert bool(response.notes) is (data is None)


def test_the_first_candidate_of_a_whole_answer_counts_however_it_is_numbered() -> None:
    body = json.loads(answer())
    body["candidates"][0]["index"] = 3
    assert decoded(json.dumps(body).encode()).content == "Hi"


def test_a_structured_answer_counts_once() -> None:
    schema = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"a": {}}}},
    }
    tools = [{"type": "function", "function": {"name": "f"}}]
    twice = [{"functionCall": {"name": "structured_answer", "args": {"a": number}}} for number in (1, 2)]
    response = decoded(answer({"text": "Well:"}, *twice), response_format=schema, tools=tools)
    assert (response.content, response.tool_calls, response.finish_reason) == ('{"a":1}', [], "stop")
    # Where nobody asked for it the name is the caller's own.
    assert [call.name for call in decoded(answer(*twice)).tool_calls] == ["structured_answer"] * 2
