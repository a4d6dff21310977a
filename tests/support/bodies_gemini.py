"""
Well-formed answers of Google's ``generateContent``, plain and as stream events, and its errors.

Written from the vendor's reference of the Gemini API; shares no code with the package.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Usage
from support.bodies import Answer, Event, dumps

__all__ = ["error", "error_event", "error_headers", "events", "incomplete", "noise", "plain", "speechless"]

_FINISH = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "PROHIBITED_CONTENT",
    "pause": "CONTINUATION",
    "error": "OTHER",
}


def usage_json(usage: Usage) -> dict[str, Any]:
    """Tokens: what comes from the cache is part of the prompt, thoughts are no part of the candidates."""
    return {
        "promptTokenCount": usage.input_tokens,
        "cachedContentTokenCount": usage.cached_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "thoughtsTokenCount": usage.reasoning_tokens,
        "totalTokenCount": usage.total_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input_tokens}],
    }


def _finish(answer: Answer) -> str:
    return _FINISH["refusal"] if answer.refusal else _FINISH.get(answer.finish_reason, answer.finish_reason)


def _calls(answer: Answer) -> list[dict[str, Any]]:
    """One part a call, whole; only the first one is signed."""
    return [
        {"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}}
        | ({"thoughtSignature": "c2lnbmF0dXJl"} if number == 0 else {})
        for number, call in enumerate(answer.tool_calls)
    ]


def _body(answer: Answer, parts: list[dict[str, Any]], finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    body = {"candidates": [candidate], "modelVersion": answer.model, "responseId": answer.id}
    return body if answer.usage is None else body | {"usageMetadata": usage_json(answer.usage)}


def _thoughts(answer: Answer) -> list[dict[str, Any]]:
    return [{"text": answer.reasoning, "thought": True}] if answer.reasoning is not None else []


def plain(answer: Answer) -> dict[str, Any]:
    """A ``GenerateContentResponse``."""
    text = [{"text": answer.text}] if answer.text else []
    return _body(answer, [*_thoughts(answer), *text, *_calls(answer)], _finish(answer))


def events(answer: Answer) -> list[Event]:
    """The same object a piece: text grows, calls come whole, and the usage so far stands in each. There is no end."""
    parts = [*_thoughts(answer), *({"text": piece} for piece in answer.text_pieces), *_calls(answer)]
    found = [Event("delta", dumps(_body(answer, [part]))) for part in parts]
    return [*found, Event("finish", dumps(_body(answer, [{"text": ""}], _finish(answer))))]


# When it fails --------------------------------------------------------------------------------------------------------

_ERRORS: dict[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "The caller does not have permission."),
    404: ("NOT_FOUND", "models/some is not found for API version v1beta."),
    408: ("CANCELLED", "The request was cancelled."),
    429: ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    500: ("INTERNAL", "An internal error has occurred."),
    502: ("INTERNAL", "Bad gateway."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "The request did not finish in time."),
    529: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
}


def error(status: int, message: str | None, type: str | None, code: str | None) -> dict[str, Any]:
    """A ``google.rpc.Status``; ``code`` is the reason of an ``ErrorInfo``."""
    word, words = _ERRORS.get(status, ("UNKNOWN", "Unknown error."))
    inner: dict[str, Any] = {"code": status, "message": message or words, "status": type or word}
    if code is not None:
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        inner["details"] = [{"@type": kind, "reason": code, "domain": "googleapis.com"}]
    return {"error": inner}


def error_headers(status: int) -> list[tuple[str, str]]:
    """Headers that an error has."""
    return []


def error_event(status: int) -> Event:
    """The error body as a piece of the stream."""
    return Event("error", dumps(error(status, None, None, None)))


def incomplete(body: dict[str, Any]) -> dict[str, Any]:
    """The plain answer without its finish reason."""
    (candidate,) = body["candidates"]
    return body | {"candidates": [{name: value for name, value in candidate.items() if name != "finishReason"}]}


def speechless(body: dict[str, Any]) -> dict[str, Any]:
    """The plain answer without candidates."""
    return body | {"candidates": []}


def noise() -> list[Event]:
    """What may stand between two events and means nothing."""
    return [Event("comment", "keep-alive"), Event("noise", '{"responseId":"answer-1"}')]
