"""
The JSON of an answer, whole or a chunk of a stream: both have the same shape.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = [
    "ANSWER",
    "Answer",
    "Candidate",
    "Count",
    "Function",
    "Part",
    "UsageBody",
    "parts_as_sent",
    "read_answer",
]

_NOTHING = msgspec.Raw(b"")


class Function(msgspec.Struct, rename="camel"):
    """A call of a function; its arguments stay the text that came."""

    name: str = ""
    args: msgspec.Raw = _NOTHING
    id: str | None = None
    partial_args: Any = None

    @property
    def arguments(self) -> str:
        """The arguments as JSON text without the line breaks that a whole answer has."""
        given = bytes(self.args)
        return msgspec.json.format(given, indent=-1).decode() if given not in (b"", b"null") else "{}"


class Blob(msgspec.Struct, rename="camel", gc=False):
    """Bytes in base64."""

    mime_type: str = ""
    data: str = ""


class Part(msgspec.Struct, rename="camel"):
    """A part of a turn; what is not named here is seen only in the part as it was sent."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: Function | None = None
    inline_data: Blob | None = None
    file_data: dict[str, Any] | None = None


class Content(msgspec.Struct):
    """A turn; it lacks its parts where the limit was reached before anything was said."""

    parts: list[Part] | None = None


class Candidate(msgspec.Struct, rename="camel"):
    """One of the answers."""

    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    grounding_metadata: dict[str, Any] | None = None
    citation_metadata: dict[str, Any] | None = None
    continuation_token: str | None = None


class Feedback(msgspec.Struct, rename="camel", gc=False):
    """Why a prompt was blocked."""

    block_reason: str | None = None
    block_reason_message: str | None = None


class Count(msgspec.Struct, rename="camel", gc=False):
    """Tokens of one modality."""

    modality: str | None = None
    token_count: int | None = None


class UsageBody(msgspec.Struct, rename="camel"):
    """``usageMetadata``."""

    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[Count] | None = None
    candidates_tokens_details: list[Count] | None = None
    tool_use_prompt_tokens_details: list[Count] | None = None
    traffic_type: str | None = None
    service_tier: str | None = None

    def update(self, later: UsageBody) -> None:
        """Take over what a later report says; its numbers are totals, so they replace. It may leave some out."""
        for field in _COUNTED:
            value = getattr(later, field)
            if value is not None:
                setattr(self, field, value)


_COUNTED = UsageBody.__struct_fields__


class Answer(msgspec.Struct, rename="camel"):
    """A whole answer, or a chunk of one."""

    candidates: list[Candidate] | None = None
    usage_metadata: UsageBody | None = None
    prompt_feedback: Feedback | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: Any = None


class _Turn(msgspec.Struct):
    parts: list[dict[str, Any]] = []


class _Candidate(msgspec.Struct):
    content: _Turn | None = None


class _Parts(msgspec.Struct):
    candidates: list[_Candidate]


ANSWER = msgspec.json.Decoder(Answer)
read_answer = ANSWER.decode
_read_parts = msgspec.json.Decoder(_Parts).decode


def parts_as_sent(payload: bytes, position: int) -> list[dict[str, Any]]:
    """The parts of a candidate with every field that they have."""
    content = _read_parts(payload).candidates[position].content
    return content.parts if content is not None else []
