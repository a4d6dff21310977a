"""
What a turn of the model must be given back unchanged: thought signatures, and the parts that are neither text nor call.

The payload travels in ``message["opaque"]``, marked with the provider and model that made it. It holds the parts of the
turn as they came: a signature belongs to the part on which it stands, and parts must not be joined or divided
(https://ai.google.dev/gemini-api/docs/thought-signatures).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from llm_master.bodies import UNREADABLE
from llm_master.classes import Request
from llm_master.history import payload_of, text_of
from llm_master.wire.gemini_parts import Part

__all__ = ["FAMILY", "continuation", "kept_call", "kept_parts", "opaque_of", "says_the_same"]

FAMILY = "gemini"
_TEXT = frozenset(("text", "thought"))
_CALL = frozenset(("name", "args"))
_LONE_SIGNATURE = frozenset(("thoughtSignature",))


def opaque_of(parts: Sequence[Part], request: Request, token: str | None) -> dict[str, Any] | None:
    """
    The opaque part of a turn, None when text and calls without ids are all of it.

    Args:
        token: what a further request needs to go on with this answer, None for an answer that ended.
    """
    # A signature without any content is rejected when it is given back.
    payload = [part for part in parts if part.keys() != _LONE_SIGNATURE]
    if token is None and not any(_is_special(part) for part in payload):
        return None
    opaque: dict[str, Any] = {
        "family": FAMILY,
        "provider": request.provider,
        "model": request.model,
        "payload": payload,
    }
    if token is not None:
        opaque["continuation"] = token
    return opaque


def _is_special(part: Part) -> bool:
    call = part.get("functionCall")
    if isinstance(call, dict) and len(part) == 1:
        return not call.keys() <= _CALL
    return not part.keys() <= _TEXT


def continuation(message: dict[str, Any], request: Request) -> str | None:
    """The token with which an unfinished answer goes on, None for any other message."""
    token = payload_of(message, FAMILY, request).get("continuation") if message.get("role") == "assistant" else None
    return token if isinstance(token, str) else None


def kept_parts(message: dict[str, Any], request: Request) -> list[Part]:
    """The parts that may be given back for an assistant message; none of another provider's or model's."""
    payload = payload_of(message, FAMILY, request).get("payload")
    return payload if isinstance(payload, list) else []


def says_the_same(message: dict[str, Any], parts: list[Part]) -> bool:
    """Whether the parts still say what the message says, which a caller may have edited."""
    words = "".join(part.get("text") or "" for part in parts if not part.get("thought"))
    if words != text_of(message.get("content")):
        return False
    made = [part for part in parts if "functionCall" in part]
    calls = message.get("tool_calls") or ()
    return len(made) == len(calls) and all(_is_call(part, call) for part, call in zip(made, calls, strict=True))


def kept_call(parts: list[Part], call: dict[str, Any]) -> Part | None:
    """The part that was this call, None when there is none or it was edited."""
    return next((part for part in parts if "functionCall" in part and _is_call(part, call)), None)


def _is_call(part: Part, call: dict[str, Any]) -> bool:
    made, function = part["functionCall"], call.get("function") or {}
    if made.get("name") != function.get("name") or made.get("id", call.get("id")) != call.get("id"):
        return False
    arguments = function.get("arguments") or {}
    try:
        given = msgspec.json.decode(arguments) if isinstance(arguments, str) else arguments
    except UNREADABLE:
        return False
    return bool((made.get("args") or {}) == given)
