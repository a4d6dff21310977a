"""
What a stream tells: one small type an event.

The wire families yield plain ``str`` for text, the most frequent event by far, and these types for the rest;
``LLMStream.events()`` wraps the text too.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.classes import Attempt, Image, LLMResponse, ToolCall, Usage

__all__ = [
    "CallEvent",
    "DiscardEvent",
    "EndEvent",
    "FallbackEvent",
    "ImageEvent",
    "ReasoningEvent",
    "RefusalEvent",
    "RetryEvent",
    "StreamEvent",
    "TextEvent",
    "ToolCallDeltaEvent",
    "ToolCallEvent",
    "UsageEvent",
]


#: How the note of a chunk begins that could not be read: text may be missing where it stood.
MALFORMED = "a malformed chunk was skipped"


class StreamEvent(msgspec.Struct, frozen=True):
    """The base of all events; ``event.type`` names the kind."""

    @property
    def type(self) -> str:
        """The kind, in the field's words: ``text``, ``reasoning``, ``tool_call`` ..."""
        return _NAMES[self.__class__]


class TextEvent(StreamEvent, frozen=True):
    """A piece of the answer's text."""

    text: str


class ReasoningEvent(StreamEvent, frozen=True):
    """A piece of the model's reasoning text."""

    text: str


class RefusalEvent(StreamEvent, frozen=True):
    """A piece of the model's refusal."""

    text: str


class ToolCallDeltaEvent(StreamEvent, frozen=True):
    """A piece of a tool call: ``id`` and ``name`` on its first event, then text of its arguments."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class ToolCallEvent(StreamEvent, frozen=True):
    """A tool call that is complete."""

    tool_call: ToolCall


class ImageEvent(StreamEvent, frozen=True):
    """An image, or with ``partial`` a sketch of one; ``index`` counts images, or the sketches of one."""

    image: Image
    partial: bool = False
    index: int = 0


class UsageEvent(StreamEvent, frozen=True):
    """Tokens as the provider reports them so far; a later event replaces an earlier one."""

    usage: Usage


class RetryEvent(StreamEvent, frozen=True):
    """An attempt failed and the same target is tried again after ``wait`` seconds."""

    error: Any
    attempt: int
    wait: float


class FallbackEvent(StreamEvent, frozen=True):
    """A target is given up; the call goes on with ``model``."""

    error: Any
    model: str


class DiscardEvent(StreamEvent, frozen=True):
    """Forget what this stream gave so far: the answer starts again."""

    reason: str


class EndEvent(StreamEvent, frozen=True):
    """The answer is whole; ``response`` is all of it."""

    response: LLMResponse


class CallEvent(msgspec.Struct, frozen=True):
    """
    What ``llm.on_event`` tells while calls run.

    Attributes:
        name: ``start``, ``wait`` (for a limit or a cooling target), ``attempt`` (one has ended), ``retry``,
            ``progress`` (of a job that takes long), ``fallback``, ``hedge``, ``restart`` (a broken stream begins again
            or goes on), ``repair`` (an answer does not fit its shape) or ``end``.
        call: the call's number in this process.
        model_name: as asked.
        seconds: since the call began.
        attempt: the attempt that ended.
        error: why; for ``end`` the error that the caller gets.
        wait: seconds that are waited from here.
        target: the model that the call goes on with.
        outcome: of ``end``: ``ok``, ``error`` or ``cancelled``; response: its answer.
        tags: the caller's.
        status: of ``progress``, the provider's own word; progress: from 0 to 1, None where it does not say.
    """

    name: str
    call: int
    model_name: str
    seconds: float
    attempt: Attempt | None = None
    error: Any = None
    wait: float | None = None
    target: str | None = None
    outcome: str | None = None
    response: LLMResponse | None = None
    tags: tuple[str, ...] = ()
    status: str | None = None
    progress: float | None = None


_NAMES: dict[type, str] = {
    TextEvent: "text",
    ReasoningEvent: "reasoning",
    RefusalEvent: "refusal",
    ToolCallDeltaEvent: "tool_call_delta",
    ToolCallEvent: "tool_call",
    ImageEvent: "image",
    UsageEvent: "usage",
    RetryEvent: "retry",
    FallbackEvent: "fallback",
    DiscardEvent: "discard",
    EndEvent: "end",
    StreamEvent: "event",
}
