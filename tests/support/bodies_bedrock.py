"""
Well-formed answers of Amazon Bedrock's Converse, plain and as binary messages of ConverseStream, and its errors.

Written from the vendor's reference of both operations; shares no code with the package.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Usage
from support.bodies import Answer, Event, dumps, halves

__all__ = ["error", "error_event", "error_headers", "events", "incomplete", "noise", "plain", "speechless"]

_STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "content_filtered",
    "refusal": "refusal",
    "context_window": "model_context_window_exceeded",
    "error": "malformed_model_output",
}


def usage_json(usage: Usage) -> dict[str, Any]:
    """Tokens: the input excludes what came from or went to the cache; the total holds all."""
    return {
        "inputTokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens,
        "cacheReadInputTokens": usage.cached_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
    }


def _reason(answer: Answer) -> str:
    return _STOP["content_filter"] if answer.refusal else _STOP.get(answer.finish_reason, answer.finish_reason)


def plain(answer: Answer) -> dict[str, Any]:
    """What ``Converse`` answers; it does not name the model."""
    content: list[dict[str, Any]] = []
    if answer.reasoning is not None:
        thought = {"text": answer.reasoning, "signature": "c2lnbmF0dXJl"}
        content.append({"reasoningContent": {"reasoningText": thought}})
    if answer.text or answer.refusal:
        content.append({"text": answer.text or answer.refusal})
    content += [
        {"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}} for call in answer.tool_calls
    ]
    body = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _reason(answer),
        "metrics": {"latencyMs": 5},
    }
    return body if answer.usage is None else body | {"usage": usage_json(answer.usage)}


def events(answer: Answer) -> list[Event]:
    """``messageStart``, the blocks, ``messageStop`` with the reason, ``metadata`` with the usage."""

    def event(kind: str, name: str, /, **fields: Any) -> Event:
        return Event(kind, dumps(fields), name, binary=True)

    found = [event("start", "messageStart", role="assistant")]
    for index, (head, deltas) in enumerate(_blocks(answer)):
        if head is not None:
            found.append(event("open", "contentBlockStart", contentBlockIndex=index, start=head))
        found += [event("delta", "contentBlockDelta", contentBlockIndex=index, delta=delta) for delta in deltas]
        found.append(event("close", "contentBlockStop", contentBlockIndex=index))
    found.append(event("finish", "messageStop", stopReason=_reason(answer)))
    more = {} if answer.usage is None else {"usage": usage_json(answer.usage)}
    return [*found, event("usage", "metadata", metrics={"latencyMs": 5}, **more)]


def _blocks(answer: Answer) -> list[tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
    """How each block starts, None where it just does, and its pieces."""
    blocks: list[tuple[dict[str, Any] | None, list[dict[str, Any]]]] = []
    if answer.reasoning is not None:
        parts = [{"text": answer.reasoning}, {"signature": "c2lnbmF0dXJl"}]
        blocks.append((None, [{"reasoningContent": part} for part in parts]))
    if answer.text or answer.refusal:
        pieces = answer.text_pieces or (str(answer.refusal),)
        blocks.append((None, [{"text": piece} for piece in pieces]))
    for call in answer.tool_calls:
        head = {"toolUse": {"toolUseId": call.id, "name": call.name}}
        blocks.append((head, [{"toolUse": {"input": part}} for part in halves(call.raw_arguments)]))
    return blocks


# When it fails --------------------------------------------------------------------------------------------------------

_ERRORS: dict[int, tuple[str, str]] = {
    400: ("ValidationException", "The request was wrong."),
    401: ("UnrecognizedClientException", "The security token included in the request is invalid."),
    403: ("AccessDeniedException", "You don't have access to the model with the specified model ID."),
    404: ("ResourceNotFoundException", "Could not resolve the foundation model from the model identifier."),
    408: ("ModelTimeoutException", "The model took too long."),
    424: ("ModelErrorException", "The model failed."),
    429: ("ThrottlingException", "Too many requests, please wait before trying again."),
    500: ("InternalServerException", "The server had an error."),
    503: ("ServiceUnavailableException", "The service cannot serve the request now."),
}


def error(status: int, message: str | None, type: str | None, code: str | None) -> dict[str, Any]:
    """The error body: words alone."""
    return {"message": message or _ERRORS.get(status, ("", "The server had an error."))[1]}


def error_headers(status: int) -> list[tuple[str, str]]:
    """The header that names the exception."""
    known = _ERRORS.get(status)
    where = "http://internal.amazon.com/coral/com.amazon.bedrock/"
    return [("x-amzn-requestid", "req-fault"), *([("x-amzn-errortype", f"{known[0]}:{where}")] if known else [])]


def error_event(status: int) -> Event:
    """An exception in the stream: its name begins with a small letter there."""
    name, words = _ERRORS.get(status, _ERRORS[500])
    return Event("error", dumps({"message": words}), name[0].lower() + name[1:], binary=True)


def incomplete(body: dict[str, Any]) -> dict[str, Any]:
    """The plain answer without its reason."""
    return body | {"stopReason": None}


def speechless(body: dict[str, Any]) -> dict[str, Any]:
    """The plain answer without anything in it."""
    return body | {"stopReason": None, "output": {"message": {"role": "assistant", "content": []}}}


def noise() -> list[Event]:
    """What may stand between two messages and means nothing."""
    return [Event("noise", '{"n":1}', "hintEvent", binary=True)]
