"""
What of an answer is kept, and how it is brought back.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from llm_master.classes import Image, LLMResponse, ToolCall, Usage
from llm_master.errors import ToolArgumentsError

__all__ = ["as_cached", "copied", "decode", "encode", "is_cacheable", "is_plain"]

# The name and version of the form, then the digest of key and rest: another version and a damaged entry read alike.
_HEAD = b"llmm-answer-1\n"
_DIGEST = 16
_LARGEST = 16 * 1024 * 1024
_LARGEST_RAW = 64 * 1024
# A shorter key is the "none" or "x" of a server that asks for any.
_SHORTEST_SECRET = 8

# What a field may be without being worth a copy.
_FIXED = (str, bytes, int, float, type(None))


class _Call(msgspec.Struct, array_like=True):
    id: str
    name: str
    raw_arguments: str
    extra: dict[str, Any] | None


class _Entry(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The fields that are kept, in their order. Any change of them is another version of ``_HEAD``."""

    content: str
    usage: Usage
    finish_reason: str | None
    model: str | None
    provider: str | None
    tool_calls: list[_Call]
    reasoning: str | None
    refusal: str | None
    citations: list[Any]
    images: list[Image]
    audio_data: bytes | None
    dropped: tuple[str, ...]
    opaque: dict[str, Any] | None
    service_tier: str | None
    raw_body: bytes | None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Entry)


def is_plain(value: Any) -> bool:
    """Whether a value is made of nothing but JSON's types and bytes, so that it has one encoding."""
    if value is None or isinstance(value, (str, bytes, int, float)):
        return True
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(each) for key, each in value.items())
    return isinstance(value, (list, tuple)) and all(map(is_plain, value))


def is_cacheable(response: LLMResponse) -> bool:
    """
    Whether an answer is whole and stays true: it ended by itself, holds something, and was not refused.

    An image that is only an address is not kept: providers let such addresses die within the hour. A tool call whose
    arguments are no JSON object is not kept either, because asking again may mend it.
    """
    if response.finish_reason not in ("stop", "tool_calls") or response.refusal is not None:
        return False
    if any(image.data is None and not (image.url or "").startswith("data:") for image in response.images or ()):
        return False
    if not all(map(_is_readable, response.tool_calls or ())):
        return False
    text = isinstance(response.content, str) and response.content.strip()
    return bool(text or response.tool_calls or response.images or response.audio_data)


def _is_readable(call: ToolCall) -> bool:
    if call.extra is not None and call.extra.get("type") == "custom":  # its input is any text
        return True
    try:
        return isinstance(call.arguments, dict)
    except ToolArgumentsError:
        return False


def encode(key: str, response: LLMResponse, secrets: Iterable[str] = ()) -> bytes | None:
    """
    The bytes to keep under a key; None for an answer that cannot be brought back as it was.

    That is one with values of other types than JSON's and bytes, one that is very large, and one in which a secret
    stands.
    """
    calls = [_Call(each.id, each.name, each.raw_arguments, each.extra) for each in response.tool_calls or ()]
    kept = {name: getattr(response, name) for name in _Entry.__struct_fields__}
    try:
        if not is_plain([response.citations, response.opaque, [call.extra for call in calls]]):
            return None
        data = _ENCODER.encode(_Entry(**{**kept, "tool_calls": calls, "raw_body": _raw(response.raw_body)}))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    if len(data) > _LARGEST or any(len(each) >= _SHORTEST_SECRET and each.encode() in data for each in secrets):
        return None
    return _HEAD + _digest(key, data) + data


def _raw(body: Any) -> bytes | None:
    """The provider's own JSON if it is small; it may have been parsed already."""
    if body is not None and not isinstance(body, bytes):
        body = msgspec.json.encode(body)
    return body if body is not None and len(body) <= _LARGEST_RAW else None


def decode(key: str, data: bytes, model_name: str = "") -> LLMResponse | None:
    """
    The answer that was kept under a key; None when the bytes are damaged, another key's, or of another version.

    Its ``model_name`` is the one given: a name is the caller's, not the answer's.
    """
    start = len(_HEAD) + _DIGEST
    if not data.startswith(_HEAD) or data[len(_HEAD) : start] != _digest(key, data[start:]):
        return None
    try:
        entry = _DECODER.decode(data[start:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    found = {name: getattr(entry, name) for name in _Entry.__struct_fields__}
    found["tool_calls"] = [
        ToolCall(each.id, each.name, raw_arguments=each.raw_arguments, extra=each.extra) for each in entry.tool_calls
    ]
    return LLMResponse(model_name=model_name, cached=True, reported_cost=_nothing(), **found)


def _digest(key: str, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST, key=hashlib.sha256(key.encode()).digest()).digest()


def _nothing() -> Any:
    from decimal import Decimal

    return Decimal(0)


def copied(response: LLMResponse) -> LLMResponse:
    """A copy of which no part that can change is shared with the original, its pricer apart."""
    made = copy.copy(response)
    for name in made.__struct_fields__:
        value = getattr(made, name)
        if name != "pricer" and not isinstance(value, _FIXED):
            setattr(made, name, _deep(value))
    return made


def _deep(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  # a custom provider's object may refuse to be copied in any way: it is shared
        return value


def as_cached(response: LLMResponse) -> LLMResponse:
    """A copy for a caller for whom nothing was asked: it cost nothing and made no attempt; its times are not set."""
    made = copied(response)
    made.cached = True
    made.attempts = ()
    made.latency = 0.0
    made.time_to_first_token = None
    made.reported_cost = _nothing()
    made.pricer = None
    return made
