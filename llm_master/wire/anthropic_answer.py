"""
An answer of the Messages API, whole or streamed, as an ``LLMResponse``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.classes import LLMResponse, Request, ToolCall, Usage

__all__ = ["Gathered", "WireUsage", "refusal_of", "respond"]

# stop_reason -> ours; https://platform.claude.com/docs/en/api/messages, seen 2026-11-21.
_FINISH: dict[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
    "pause_turn": "pause",
    "model_context_window_exceeded": "context_window",
    "null": "error",
}


class _CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class _ServerTools(msgspec.Struct, gc=False):
    web_search_requests: int | None = None


_INPUT = frozenset(("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"))


class WireUsage(msgspec.Struct):
    """The usage object; ``input_tokens`` is the plain part only, without cache reads and writes."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None

    def update(self, later: WireUsage) -> None:
        """
        Take over what a later report says; its numbers are totals, so they replace.

        Some servers tell the input at the start only, and a 0 for it at the end
        (https://github.com/envoyproxy/ai-gateway/pull/1631, read 2026-11-21).
        """
        for field in self.__struct_fields__:
            value = getattr(later, field)
            if value is not None and (value != 0 or field not in _INPUT or not getattr(self, field)):
                setattr(self, field, value)

    @property
    def tier(self) -> str | None:
        """The tier that sets the price: ``fast`` is one of its own."""
        return "fast" if self.speed == "fast" else self.service_tier

    def normalised(self) -> Usage:
        """Tokens as all families count them."""
        written, long = max(self.cache_creation_input_tokens or 0, 0), 0
        split = self.cache_creation
        if split is not None:
            long = max(split.ephemeral_1h_input_tokens or 0, 0)
            written = max(written, long + max(split.ephemeral_5m_input_tokens or 0, 0))
        read, output = max(self.cache_read_input_tokens or 0, 0), max(self.output_tokens or 0, 0)
        details, tools = self.output_tokens_details, self.server_tool_use
        thought = (details.thinking_tokens or 0) if details is not None else 0
        return Usage(
            input_tokens=max(self.input_tokens or 0, 0) + read + written,
            output_tokens=output,
            cached_tokens=read,
            cache_write_tokens=written,
            cache_write_1h_tokens=long,
            reasoning_tokens=min(max(thought, 0), output),
            web_searches=max(tools.web_search_requests or 0, 0) if tools is not None else 0,
        )


class Gathered:
    """
    What the blocks of an answer say, by kind.

    ``structured`` is the answer that came as arguments of ``SCHEMA_TOOL``, None when none did.
    """

    __slots__ = ("calls", "citations", "structured", "texts", "thoughts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[ToolCall] = []
        self.citations: list[Any] = []
        self.structured: str | None = None

    @property
    def content(self) -> str:
        """The answer's text."""
        if self.structured is not None:
            return self.structured
        return self.texts[0] if len(self.texts) == 1 else "".join(self.texts)


def refusal_of(details: Any, content: str) -> str:
    """Why the model refused: category and explanation where the API gives them, else its own words."""
    given = details if isinstance(details, dict) else {}
    said = [str(given[field]) for field in ("category", "explanation") if given.get(field)]
    return ": ".join(said) or content or "refused without a reason"


def respond(
    request: Request,
    gathered: Gathered,
    *,
    id: str | None,
    model: str | None,
    usage: WireUsage,
    stop_reason: str | None,
    stop_details: Any = None,
    opaque: dict[str, Any] | None = None,
    notes: tuple[str, ...] = (),
    raw_body: bytes | None = None,
) -> LLMResponse:
    """The response; ``stop_reason`` None means that the answer has no end, and so no finish reason."""
    finish = _FINISH.get(stop_reason) if stop_reason is not None else None
    if finish is None and stop_reason is not None:
        finish = "stop"
        notes = (*notes, f"unknown stop_reason {stop_reason[:80]!r}")
    # Compatible servers say end_turn with a call; a schema's own tool is no call of the caller's.
    if gathered.calls and stop_reason == "end_turn":
        finish = "tool_calls"
    elif finish == "tool_calls" and not gathered.calls:
        finish = "stop"
    content = gathered.content
    return LLMResponse(
        content=content,
        model_name=request.model,
        usage=usage.normalised(),
        finish_reason=finish,
        model=model,
        provider=request.provider,
        tool_calls=gathered.calls,
        reasoning="\n\n".join(gathered.thoughts) or None if gathered.thoughts else None,
        refusal=refusal_of(stop_details, content) if finish == "refusal" else None,
        citations=gathered.citations,
        request_id=id,
        dropped=request.dropped,
        notes=notes,
        opaque=opaque,
        service_tier=usage.tier,
        raw_body=raw_body,
        geo=usage.inference_geo,
    )
