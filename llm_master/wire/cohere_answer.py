"""
An answer of Cohere's chat API, whole or streamed, as an ``LLMResponse``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llm_master.classes import LLMResponse, Request, ToolCall, Usage
from llm_master.classify import error_from_object
from llm_master.errors import ProviderError
from llm_master.wire.cohere_opaque import opaque_of

__all__ = ["Gathered", "WireUsage", "failure", "respond"]

# finish_reason -> ours; cohere 7.3.1, read 2026-11-21.
_FINISH: dict[str, str] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "null": "error",
}
# The finish reasons that are errors -> their category.
_FAILED: dict[str, str] = {"ERROR": "server", "TIMEOUT": "timeout"}


class _Tokens(msgspec.Struct, gc=False):
    # Whole numbers that the API may write with a decimal point.
    input_tokens: float | None = None
    output_tokens: float | None = None
    search_units: float | None = None


class WireUsage(msgspec.Struct):
    """
    The usage object.

    ``billed_units`` is what costs money; ``tokens`` also counts the prompt that the API itself puts around the
    messages. Where both are given, the billed ones are what a call is said to have used.
    """

    billed_units: _Tokens | None = None
    tokens: _Tokens | None = None
    cached_tokens: float | None = None

    def normalised(self) -> Usage:
        """Tokens as all families count them."""
        billed, counted = self.billed_units or _Tokens(), self.tokens or _Tokens()
        taken = billed.input_tokens if billed.input_tokens is not None else counted.input_tokens
        given = billed.output_tokens if billed.output_tokens is not None else counted.output_tokens
        whole = max(int(taken or 0), 0)
        # Hits are counted with the API's own prompt, so that they may be more than what is billed.
        return Usage(
            input_tokens=whole,
            output_tokens=max(int(given or 0), 0),
            cached_tokens=min(max(int(self.cached_tokens or 0), 0), whole),
        )

    def notes(self) -> tuple[str, ...]:
        """What of it no price counts."""
        units = self.billed_units.search_units if self.billed_units is not None else None
        return (f"billed {units:g} search units besides the tokens",) if units else ()


class Gathered:
    """
    What an answer says, by kind.

    ``structured`` is the answer that came as arguments of ``SCHEMA_TOOL``, None when none did.
    """

    __slots__ = ("calls", "citations", "plan", "structured", "texts", "thoughts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.plan = ""
        self.calls: list[ToolCall] = []
        self.citations: list[Any] = []
        self.structured: str | None = None

    @property
    def content(self) -> str:
        """The answer's text."""
        return "".join(self.texts) if self.structured is None else self.structured

    @property
    def reasoning(self) -> str | None:
        """Thinking, then the plan for the tools."""
        said = [thought for thought in (*self.thoughts, self.plan) if thought]
        return "\n\n".join(said) or None


def failure(
    reason: str | None, said: str | None, request: Request, rules: Mapping[str, str] | None, *, id: str | None
) -> ProviderError | None:
    """The error of an answer that ended in one, else None."""
    if not said and reason not in _FAILED:
        return None
    message = said or f"the provider ended the answer with finish_reason {reason!r}"
    return error_from_object(
        {"message": message, "code": reason},
        provider=request.provider,
        model=request.model,
        rules={**_FAILED, **(rules or {})},
        request_id=id,
    )


def respond(
    request: Request,
    gathered: Gathered,
    *,
    id: str | None,
    usage: WireUsage,
    reason: str | None,
    notes: tuple[str, ...] = (),
    raw_body: Any = None,
) -> LLMResponse:
    """The response; ``reason`` None means that the answer has no end, and so no finish reason."""
    finish = _FINISH.get(reason) if reason is not None else None
    if finish is None and reason is not None:
        finish = "stop"
        notes = (*notes, f"unknown finish_reason {reason[:80]!r}")
    if gathered.calls and finish == "stop":
        finish = "tool_calls"
    elif finish == "tool_calls" and not gathered.calls:
        finish = "stop"
    return LLMResponse(
        content=gathered.content,
        model_name=request.model,
        usage=usage.normalised(),
        finish_reason=finish,
        provider=request.provider,
        tool_calls=gathered.calls,
        reasoning=gathered.reasoning,
        citations=gathered.citations,
        request_id=id,
        dropped=request.dropped,
        notes=(*notes, *usage.notes()),
        # What led to an answer that came as a tool's arguments has no tool call to stand before.
        opaque=opaque_of(gathered.thoughts, gathered.plan if gathered.calls else "", request),
        raw_body=raw_body,
    )
