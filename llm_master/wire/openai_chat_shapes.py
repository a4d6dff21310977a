"""
The JSON of answers and chunks as typed shapes, and a patient reader for servers whose types are off.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.bodies import as_object

__all__ = ["Answer", "Choice", "Details", "Turn", "UsageBody", "decode_shape", "read_shape", "tier_of", "usage_body"]


class Details(msgspec.Struct, gc=False):
    """Parts of a token count."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class UsageBody(msgspec.Struct, gc=False):
    """The ``usage`` object with the fields that servers add to it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
    cost: Any = None
    num_search_queries: int | None = None
    server_tool_use: dict[str, Any] | None = None
    service_tier: str | None = None
    is_byok: Any = None
    cost_details: Any = None


class Turn(msgspec.Struct, gc=False):
    """A ``message`` of an answer or a ``delta`` of a chunk."""

    content: str | list[Any] | None = None
    tool_calls: list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    reasoning_details: list[Any] | None = None
    annotations: list[Any] | None = None
    audio: dict[str, Any] | None = None
    images: list[Any] | None = None
    function_call: dict[str, Any] | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers; a chunk has ``delta``, a whole answer ``message``."""

    delta: Turn | None = None
    finish_reason: str | None = None
    index: int | None = None
    message: Turn | None = None
    error: Any = None


class Answer(msgspec.Struct, gc=False):
    """A whole answer or a chunk of one."""

    choices: list[Choice] | None = None
    usage: UsageBody | None = None
    error: Any = None
    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    citations: list[Any] | None = None


def tier_of(answer: Answer) -> str | None:
    """The service tier, which some servers (Mistral) say in the usage."""
    return answer.service_tier or (answer.usage.service_tier if answer.usage is not None else None)


decode_shape = msgspec.json.Decoder(Answer).decode


def read_shape(payload: bytes) -> Answer:
    """
    An answer or chunk, with fields of an unexpected type left out where they cannot be read.

    Raises:
        ValueError: the payload is not JSON.
    """
    try:
        return decode_shape(payload)
    except (ValueError, RecursionError):
        return _loose(as_object(payload))


def usage_body(found: Any) -> UsageBody | None:
    """A usage object whose numbers may be floats, texts or null; None when it is no object."""
    if not isinstance(found, dict):
        return None
    fields: dict[str, Any] = {
        name: _count(found.get(name))
        for name in (
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "prompt_cache_hit_tokens",
            "cached_tokens",
            "num_search_queries",
        )
    }
    for name in ("prompt_tokens_details", "completion_tokens_details"):
        parts = found.get(name)
        if isinstance(parts, dict):
            fields[name] = Details(**{part: _count(parts.get(part)) for part in Details.__struct_fields__})
    return UsageBody(
        cost=found.get("cost"),
        server_tool_use=_dict(found.get("server_tool_use")),
        service_tier=_text(found.get("service_tier")),
        is_byok=found.get("is_byok"),
        cost_details=found.get("cost_details"),
        **fields,
    )


def _loose(found: Any) -> Answer:
    if isinstance(found, list):
        # Some servers wrap an error in a list.
        first = found[0] if found else None
        return Answer(error=first.get("error", first) if isinstance(first, dict) else None)
    if not isinstance(found, dict):
        return Answer()
    choices = _list(found.get("choices")) or []
    return Answer(
        choices=[_choice(entry) for entry in choices if isinstance(entry, dict)],
        usage=usage_body(found.get("usage")),
        error=found.get("error"),
        id=_text(found.get("id")),
        model=_text(found.get("model")),
        service_tier=_text(found.get("service_tier")),
        citations=_list(found.get("citations")),
    )


def _choice(found: dict[str, Any]) -> Choice:
    return Choice(
        delta=_turn(found.get("delta")),
        message=_turn(found.get("message")),
        finish_reason=_text(found.get("finish_reason")),
        index=_count(found.get("index")),
        error=found.get("error"),
    )


def _turn(found: Any) -> Turn | None:
    if not isinstance(found, dict):
        return None
    content = found.get("content")
    return Turn(
        content=[content] if isinstance(content, dict) else content if isinstance(content, str | list) else None,
        tool_calls=_list(found.get("tool_calls")),
        reasoning_content=_text(found.get("reasoning_content")),
        reasoning=_text(found.get("reasoning")),
        refusal=_text(found.get("refusal")),
        reasoning_details=_list(found.get("reasoning_details")),
        annotations=_list(found.get("annotations")),
        audio=_dict(found.get("audio")),
        images=_list(found.get("images")),
        function_call=_dict(found.get("function_call")),
    )


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    # Unpaired surrogates cannot be written anywhere; those of content are dealt with where pieces may form pairs.
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if isinstance(value, str) else None


def _list(value: Any) -> list[Any] | None:
    return value if isinstance(value, list) else None


def _dict(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _count(value: Any) -> int | None:
    try:
        return None if value is None or isinstance(value, bool) else int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None
