"""
The events of a stream, as the Messages API names them.

Unknown events and unknown kinds of delta are skipped, as the API's versioning policy asks of its clients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from llm_master.bodies import ODD_USAGE, UNREADABLE, mended
from llm_master.classify import excerpt
from llm_master.events import MALFORMED
from llm_master.wire.anthropic_answer import WireUsage

__all__ = [
    "BlockDelta",
    "BlockStart",
    "BlockStop",
    "CitationsDelta",
    "Error",
    "Event",
    "Head",
    "JSONDelta",
    "MessageDelta",
    "MessageStart",
    "MessageStop",
    "Ping",
    "SignatureDelta",
    "Stop",
    "TextDelta",
    "ThinkingDelta",
    "read_events",
]


class TextDelta(msgspec.Struct, gc=False, tag="text_delta"):
    """A piece of text."""

    text: str = ""


class ThinkingDelta(msgspec.Struct, gc=False, tag="thinking_delta"):
    """A piece of thinking."""

    thinking: str = ""


class JSONDelta(msgspec.Struct, gc=False, tag="input_json_delta"):
    """A piece of a tool's arguments."""

    partial_json: str = ""


class SignatureDelta(msgspec.Struct, gc=False, tag="signature_delta"):
    """The signature of a thinking block, whole."""

    signature: str = ""


class CitationsDelta(msgspec.Struct, tag="citations_delta"):
    """One more citation of a text block."""

    citation: Any = None


class BlockDelta(msgspec.Struct, gc=False, tag="content_block_delta"):
    """More of a block."""

    delta: TextDelta | ThinkingDelta | JSONDelta | SignatureDelta | CitationsDelta
    index: int = 0


class BlockStart(msgspec.Struct, tag="content_block_start"):
    """A block begins."""

    content_block: dict[str, Any]
    index: int = 0


class BlockStop(msgspec.Struct, gc=False, tag="content_block_stop"):
    """A block is whole."""

    index: int = 0


class Head(msgspec.Struct):
    """What is known of a message at its start."""

    id: str | None = None
    model: str | None = None
    usage: WireUsage | None = None


class MessageStart(msgspec.Struct, tag="message_start"):
    """The message begins."""

    message: Head


class Stop(msgspec.Struct):
    """Why the message ended."""

    stop_reason: str | None = None
    stop_details: Any = None


class MessageDelta(msgspec.Struct, tag="message_delta"):
    """The end of the message, and the totals of its tokens."""

    delta: Stop | None = None
    usage: WireUsage | None = None


class MessageStop(msgspec.Struct, gc=False, tag="message_stop"):
    """The end of the stream."""


class Ping(msgspec.Struct, gc=False, tag="ping"):
    """A sign of life."""


class Error(msgspec.Struct, tag="error"):
    """The provider failed in the middle of the stream."""

    error: Any = None
    request_id: str | None = None


Event = BlockDelta | BlockStart | BlockStop | MessageStart | MessageDelta | MessageStop | Ping | Error
_KINDS = frozenset(
    (
        "content_block_delta",
        "content_block_start",
        "content_block_stop",
        "message_start",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    )
)
_DELTAS = frozenset(("text_delta", "thinking_delta", "input_json_delta", "signature_delta", "citations_delta"))
_ONE = msgspec.json.Decoder(Event)
_MANY = msgspec.json.Decoder(list[Event])


def read_events(payloads: list[bytes], note: Callable[[str], None]) -> Sequence[Event]:
    """
    The events of the payloads that arrived together.

    Args:
        payloads: at least one.
        note: told of every payload that had to be skipped although it should not have been.
    """
    try:
        # One call of the decoder for all that arrived together costs half of one call each.
        return _MANY.decode(b"[%b]" % b",".join(payloads)) if len(payloads) > 1 else (_ONE.decode(payloads[0]),)
    except UNREADABLE:
        return [event for payload in payloads if (event := _read(payload, note)) is not None]


def _read(payload: bytes, note: Callable[[str], None]) -> Event | None:
    try:
        event: Event = _ONE.decode(payload)
    except UNREADABLE as error:
        whole: Event | None = mended(_ONE, payload, error, WireUsage, ("message", "usage"), ("usage",))
        if whole is None:
            return _tolerate(payload, note)
        note(ODD_USAGE)
        return whole
    return event


def _tolerate(payload: bytes, note: Callable[[str], None]) -> Event | None:
    if payload == b"[DONE]" or not payload.strip():
        return None
    repaired = payload.decode("utf-8", "replace").encode()
    if repaired != payload:
        try:
            event: Event = _ONE.decode(repaired)
        except UNREADABLE:
            pass
        else:
            note("bytes that are no UTF-8 were replaced")
            return event
    try:
        found = msgspec.json.decode(payload)
    except UNREADABLE:
        note(f"{MALFORMED}: {excerpt(payload)}")
        return None
    kind = found.get("type") if isinstance(found, dict) else ""
    if kind not in _KINDS and kind != "":
        return Error(found["error"]) if found.get("error") else None
    delta = found.get("delta") if kind == "content_block_delta" else None
    if not isinstance(delta, dict) or delta.get("type") in _DELTAS:
        note(f"a chunk of an unexpected shape was skipped: {excerpt(payload)}")
    return None
