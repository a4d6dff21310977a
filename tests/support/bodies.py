"""
Well-formed answers of the wire families, plain and as stream events.

One ``Answer`` says what a model answered; the builders write it down as OpenAI chat or as Anthropic Messages, those of
``bodies_families`` as the four others. They are written from the vendors' documentation and share no code with
``llm_master.wire``, which the tests check with them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Literal

from llm_master.classes import ToolCall, Usage
from support.event_stream import frame

__all__ = [
    "ALL_FAMILIES",
    "BEDROCK",
    "CHAT",
    "COHERE",
    "FAMILIES",
    "GEMINI",
    "MESSAGES",
    "RESPONSES",
    "Answer",
    "Event",
    "Family",
    "after_content",
    "answer_events",
    "answer_json",
    "chat_events",
    "chat_json",
    "dumps",
    "error_event",
    "error_json",
    "halves",
    "messages_events",
    "messages_json",
    "render",
]

Family = Literal["openai_chat", "anthropic_messages", "openai_responses", "gemini", "cohere", "bedrock"]
CHAT: Family = "openai_chat"
MESSAGES: Family = "anthropic_messages"
RESPONSES: Family = "openai_responses"
GEMINI: Family = "gemini"
COHERE: Family = "cohere"
BEDROCK: Family = "bedrock"
#: The two that most tests of faults go through.
FAMILIES: tuple[Family, ...] = (CHAT, MESSAGES)
ALL_FAMILIES: tuple[Family, ...] = (CHAT, MESSAGES, RESPONSES, GEMINI, COHERE, BEDROCK)

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "context_window": "model_context_window_exceeded",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """
    What the model answers.

    Attributes:
        text: the whole text; None is ``content: null``.
        pieces: how a stream cuts the text; by default after every space. Given without ``text`` they are the text.
        reasoning: reasoning text, before the text; ``reasoning_field`` names its field in the chat family.
        refusal: the model's words of refusal (chat), or a refusal as stop reason (messages).
        tool_calls: after the text; their arguments are cut in two in a stream.
        usage: normalised tokens; None leaves usage out.
        finish: a finish reason in LLM Master's words; by default ``stop``, or ``tool_calls`` when there are some.
        model: the served model; by default the one the request asks for.
    """

    text: str | None = "Hello from the other side."
    pieces: tuple[str, ...] | None = None
    reasoning: str | None = None
    reasoning_field: str = "reasoning_content"
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = dataclasses.field(default_factory=lambda: Usage(11, 7))
    finish: str | None = None
    model: str = "model"
    id: str = "answer-1"

    @classmethod
    def of(cls, text: str | Iterable[str] | None = "Hello from the other side.", **fields: Any) -> Answer:
        """An answer from its text, or from the pieces in which its text shall arrive."""
        if text is None or isinstance(text, str):
            return cls(text=text, **fields)
        pieces = tuple(text)
        return cls(text="".join(pieces), pieces=pieces, **fields)

    @property
    def text_pieces(self) -> tuple[str, ...]:
        """The text as a stream cuts it."""
        if self.pieces is not None:
            return self.pieces
        words = (self.text or "").split(" ")
        return tuple(word + " " for word in words[:-1]) + ((words[-1],) if words[-1] else ())

    @property
    def finish_reason(self) -> str:
        """The finish reason in LLM Master's words."""
        return self.finish or ("tool_calls" if self.tool_calls else "stop")

    @property
    def stop_reason(self) -> str:
        """The finish reason in Anthropic's words."""
        return "refusal" if self.refusal else _STOP_REASONS.get(self.finish_reason, self.finish_reason)


@dataclasses.dataclass(frozen=True)
class Event:
    """
    One event of a stream.

    ``kind`` says what it is for, so that a fault can be put at the right place: ``start``, ``open``, ``delta``,
    ``close``, ``finish`` (the finish reason), ``usage``, ``end`` (the terminal marker), ``error``, ``comment``.
    A ``binary`` one is a message of Amazon's event stream.
    """

    kind: str
    data: str
    name: str | None = None
    binary: bool = False


def dumps(value: Any) -> str:
    """Compact JSON that keeps its characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def render(event: Event, newline: str = "\n") -> bytes:
    """The event's bytes on the wire."""
    if event.binary:
        sort = "exception" if event.kind == "error" else "event"
        headers = {f":{sort}-type": event.name, ":content-type": "application/json", ":message-type": sort}
        return frame(headers, event.data.encode("utf-8", "surrogateescape"))
    if event.kind == "comment":
        return f": {event.data}{newline}{newline}".encode()
    name = f"event: {event.name}{newline}" if event.name else ""
    return f"{name}data: {event.data}{newline}{newline}".encode("utf-8", "surrogateescape")


def after_content(events: list[Event], count: int) -> int:
    """The place in a stream after so many pieces of content (reasoning included); 0: before the first."""
    contents = [at for at, event in enumerate(events) if event.kind == "delta"]
    if not contents:
        return 1
    return contents[min(count, len(contents)) - 1] + 1 if count else contents[0]


def answer_json(family: Family, answer: Answer) -> dict[str, Any]:
    """The plain answer of a family."""
    if family not in FAMILIES:
        found: dict[str, Any] = _form(family).plain(answer)
        return found
    return chat_json(answer) if family == CHAT else messages_json(answer)


def answer_events(family: Family, answer: Answer) -> list[Event]:
    """The streamed answer of a family."""
    if family not in FAMILIES:
        found: list[Event] = _form(family).events(answer)
        return found
    return chat_events(answer) if family == CHAT else messages_events(answer)


def _form(family: Family) -> ModuleType:
    # Their modules need this one.
    from support.bodies_families import FORMS

    return FORMS[family]


# OpenAI chat ----------------------------------------------------------------------------------------------------------


def chat_usage(usage: Usage) -> dict[str, Any]:
    """Tokens in the chat family's words: details are parts of the totals."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": usage.input_audio_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def chat_json(answer: Answer) -> dict[str, Any]:
    """A ``chat.completion``."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
    if answer.reasoning is not None:
        message[answer.reasoning_field] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [call.to_dict() for call in answer.tool_calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    body = {
        "id": answer.id,
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": answer.model,
        "choices": [choice],
    }
    return body if answer.usage is None else body | {"usage": chat_usage(answer.usage)}


def chat_events(answer: Answer) -> list[Event]:
    """``chat.completion.chunk`` events: role, text, tool calls, finish reason, usage, ``[DONE]``."""

    def chunk(kind: str, delta: dict[str, Any], finish: str | None = None, **more: Any) -> Event:
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        body = {
            "id": answer.id,
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": answer.model,
            "choices": choices,
        }
        return Event(kind, dumps(body | more))

    events = [chunk("start", {"role": "assistant", "content": ""})]
    if answer.reasoning:
        events.append(chunk("delta", {answer.reasoning_field: answer.reasoning}))
    if answer.refusal:
        events.append(chunk("delta", {"refusal": answer.refusal}))
    events += [chunk("delta", {"content": piece}) for piece in answer.text_pieces]
    for index, call in enumerate(answer.tool_calls):
        head = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        events.append(chunk("delta", {"tool_calls": [{"index": index} | head]}))
        for part in halves(call.raw_arguments):
            events.append(chunk("delta", {"tool_calls": [{"index": index, "function": {"arguments": part}}]}))
    events.append(chunk("finish", {}, answer.finish_reason))
    if answer.usage is not None:
        events.append(chunk("usage", {}, choices=[], usage=chat_usage(answer.usage)))
    return [*events, Event("end", "[DONE]")]


# Anthropic Messages ---------------------------------------------------------------------------------------------------


def messages_usage(usage: Usage) -> dict[str, Any]:
    """Tokens in Anthropic's words: the input excludes what came from or went to the cache."""
    long = usage.cache_write_1h_tokens
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - long,
            "ephemeral_1h_input_tokens": long,
        },
        "output_tokens": usage.output_tokens,
        "service_tier": "standard",
    }


def messages_json(answer: Answer) -> dict[str, Any]:
    """A ``message``."""
    content: list[dict[str, Any]] = []
    if answer.reasoning is not None:
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": "c2lnbmF0dXJl"})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in answer.tool_calls
    ]
    body = _message_shell(answer) | {"content": content, "stop_reason": answer.stop_reason}
    return body if answer.usage is None else body | {"usage": messages_usage(answer.usage)}


def _message_shell(answer: Answer) -> dict[str, Any]:
    return {
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def messages_events(answer: Answer) -> list[Event]:
    """``message_start``, the blocks, ``message_delta`` with stop reason and usage, ``message_stop``."""

    def event(kind: str, name: str, **fields: Any) -> Event:
        return Event(kind, dumps({"type": name} | fields), name)

    shell = _message_shell(answer)
    usage = messages_usage(answer.usage) if answer.usage is not None else None
    if usage is not None:
        shell["usage"] = usage | {"output_tokens": 1}
    events = [event("start", "message_start", message=shell)]
    for index, (block, deltas) in enumerate(_blocks(answer)):
        events.append(event("open", "content_block_start", index=index, content_block=block))
        events += [event("delta", "content_block_delta", index=index, delta=delta) for delta in deltas]
        events.append(event("close", "content_block_stop", index=index))
    final = {"delta": {"stop_reason": answer.stop_reason, "stop_sequence": None}}
    if usage is not None:
        final["usage"] = usage
    return [*events, event("finish", "message_delta", **final), event("end", "message_stop")]


def _blocks(answer: Answer) -> Iterable[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if answer.reasoning is not None:
        yield (
            {"type": "thinking", "thinking": "", "signature": ""},
            [
                {"type": "thinking_delta", "thinking": answer.reasoning},
                {"type": "signature_delta", "signature": "c2lnbmF0dXJl"},
            ],
        )
    if answer.text:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in answer.text_pieces]
    for call in answer.tool_calls:
        yield (
            {"type": "tool_use", "id": call.id, "name": call.name, "input": {}},
            [{"type": "input_json_delta", "partial_json": part} for part in halves(call.raw_arguments)],
        )


def halves(text: str) -> tuple[str, str]:
    """A text cut in two."""
    middle = len(text) // 2
    return text[:middle], text[middle:]


# Errors ---------------------------------------------------------------------------------------------------------------

_CHAT_ERRORS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "The request was wrong."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    402: ("insufficient_quota", "insufficient_quota", "You have no credit left."),
    403: ("permission_error", None, "Your country, region or project is not permitted."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    408: ("timeout_error", None, "The request took too long."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    503: ("server_error", None, "The server is overloaded."),
    529: ("server_error", "server_is_overloaded", "The server is overloaded."),
}

_MESSAGES_ERRORS: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "The request was wrong."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "You have no credit left."),
    403: ("permission_error", "Not permitted."),
    404: ("not_found_error", "model: no such model"),
    409: ("conflict_error", "Conflict."),
    413: ("request_too_large", "Request exceeds the maximum size."),
    429: ("rate_limit_error", "This request would exceed your rate limit."),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}


def error_json(
    family: Family, status: int, *, message: str | None = None, type: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The error body that a family's vendor sends with a status; ``code`` exists in OpenAI's and Google's only."""
    if family not in FAMILIES:
        found: dict[str, Any] = _form(family).error(status, message, type, code)
        return found
    if family == MESSAGES:
        usual, words = _MESSAGES_ERRORS.get(status, ("api_error", "Internal server error"))
        return {
            "type": "error",
            "error": {"type": type or usual, "message": message or words},
            "request_id": "req_fault",
        }
    kind, usual_code, words = _CHAT_ERRORS.get(status, ("server_error", None, "The server had an error."))
    return {
        "error": {
            "message": message or words,
            "type": type or kind,
            "param": None,
            "code": code or (usual_code if type is None else None),
        }
    }


def error_event(family: Family, status: int) -> Event:
    """An error inside a stream."""
    if family not in FAMILIES:
        found: Event = _form(family).error_event(status)
        return found
    return Event("error", dumps(error_json(family, status)), None if family == CHAT else "error")
