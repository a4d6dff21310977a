"""
Well-formed answers of Cohere's version 2 chat, plain and as stream events, and its errors.

Written from the vendor's reference of ``/v2/chat`` and of its errors; shares no code with the package.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Usage
from support.bodies import Answer, Event, dumps, halves

__all__ = ["error", "error_event", "error_headers", "events", "incomplete", "noise", "plain", "speechless"]

_FINISH = {"stop": "COMPLETE", "tool_calls": "TOOL_CALL", "length": "MAX_TOKENS", "error": "ERROR"}


def usage_json(usage: Usage) -> dict[str, Any]:
    """Tokens: what is billed, and what the model saw."""
    counts = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    return {"billed_units": counts, "tokens": counts, "cached_tokens": usage.cached_tokens}


def _finish(answer: Answer) -> str:
    return _FINISH.get(answer.finish_reason, "COMPLETE" if answer.refusal else answer.finish_reason)


def plain(answer: Answer) -> dict[str, Any]:
    """A chat's answer; what a model says before it calls tools is its plan."""
    content: list[dict[str, Any]] = []
    if answer.reasoning is not None:
        content.append({"type": "thinking", "thinking": answer.reasoning})
    if answer.text or answer.refusal:
        content.append({"type": "text", "text": answer.text or answer.refusal})
    message: dict[str, Any] = {"role": "assistant"}
    if content:
        message["content"] = content
    if answer.tool_calls:
        message["tool_calls"] = [call.to_dict() for call in answer.tool_calls]
    body = {"id": answer.id, "finish_reason": _finish(answer), "message": message}
    return body if answer.usage is None else body | {"usage": usage_json(answer.usage)}


def events(answer: Answer) -> list[Event]:
    """``message-start``, the contents, the calls, ``message-end`` with finish reason and usage."""

    def event(kind: str, name: str, /, **fields: Any) -> Event:
        return Event(kind, dumps({"type": name} | fields), name)

    def turn(kind: str, name: str, index: int, **fields: Any) -> Event:
        return event(kind, name, index=index, delta={"message": fields})

    nothing = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    found = [event("start", "message-start", id=answer.id, delta={"message": nothing})]
    contents: list[tuple[str, tuple[str, ...]]] = []
    if answer.reasoning is not None:
        contents.append(("thinking", (answer.reasoning,)))
    if answer.text or answer.refusal:
        contents.append(("text", answer.text_pieces or (str(answer.refusal),)))
    for index, (field, pieces) in enumerate(contents):
        found.append(turn("open", "content-start", index, content={"type": field, field: ""}))
        found += [turn("delta", "content-delta", index, content={field: piece}) for piece in pieces]
        found.append(event("close", "content-end", index=index))
    for index, call in enumerate(answer.tool_calls):
        head = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        found.append(turn("delta", "tool-call-start", index, tool_calls=head))
        for part in halves(call.raw_arguments):
            found.append(turn("delta", "tool-call-delta", index, tool_calls={"function": {"arguments": part}}))
        found.append(event("close", "tool-call-end", index=index))
    last: dict[str, Any] = {"finish_reason": _finish(answer)}
    if answer.usage is not None:
        last["usage"] = usage_json(answer.usage)
    return [*found, event("finish", "message-end", delta=last)]


# When it fails --------------------------------------------------------------------------------------------------------

_ERRORS: dict[int, str] = {
    400: "invalid request: the request was wrong.",
    401: "invalid api token",
    402: "Please add or update your payment method to continue.",
    403: "your api key is not allowed to do this",
    404: "model 'some-model' not found, make sure the correct model ID was used",
    422: "invalid request: a field cannot be processed",
    429: "you are past the per minute request limit, please wait and try again later",
    498: "invalid token",
    499: "request cancelled",
    500: "internal server error, please try again later",
    503: "the server is temporarily unavailable",
    504: "the request timed out",
}


def error(status: int, message: str | None, type: str | None, code: str | None) -> dict[str, Any]:
    """The error body: words and an id, no code."""
    return {"id": "req-fault", "message": message or _ERRORS.get(status, "internal server error")}


def error_headers(status: int) -> list[tuple[str, str]]:
    """Headers that an error has."""
    return []


def error_event(status: int) -> Event:
    """The end of a stream that failed."""
    delta = {"finish_reason": "ERROR", "error": _ERRORS.get(status, "internal server error")}
    return Event("error", dumps({"type": "message-end", "delta": delta}), "message-end")


def incomplete(body: dict[str, Any]) -> dict[str, Any]:
    """The plain answer without its finish reason."""
    return body | {"finish_reason": None}


def speechless(body: dict[str, Any]) -> dict[str, Any]:
    """The plain answer without anything in it."""
    return body | {"finish_reason": None, "message": {"role": "assistant", "content": []}}


def noise() -> list[Event]:
    """What may stand between two events and means nothing."""
    return [Event("comment", "keep-alive"), Event("noise", '{"type":"debug","prompt":"x"}', "debug")]
