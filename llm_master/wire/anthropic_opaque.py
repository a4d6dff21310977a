"""
What a turn of the model must be given back unchanged: signed thinking, and the blocks of the provider's own tools.

The payload travels in ``message["opaque"]``, marked with the provider and model that made it. It holds those blocks
alone where they lead the turn, which is the usual case, and the whole turn where their place or a citation matters.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from llm_master.classes import Request
from llm_master.wire.anthropic_blocks import Block, text_of

__all__ = ["FAMILY", "opaque_of", "replayed"]

FAMILY = "anthropic_messages"
_TEXT_AND_CALLS = ("text", "tool_use")


def opaque_of(blocks: Iterable[Block], request: Request) -> dict[str, Any] | None:
    """The opaque part of a turn, None when text and tool calls are all of it."""
    turn = list(blocks)
    special = [block for block in turn if block.get("type") not in _TEXT_AND_CALLS]
    bound = any(block.get("toolset_name") or _caller(block) for block in turn)
    if not special and not bound:
        return None
    leading = turn[: len(special)] == special
    cited = any(block.get("citations") for block in turn)
    return {
        "family": FAMILY,
        "provider": request.provider,
        "model": request.model,
        "payload": special if leading and not bound and not cited else turn,
    }


def _caller(block: Block) -> bool:
    caller = block.get("caller")
    return isinstance(caller, dict) and caller.get("type") != "direct"


def replayed(message: dict[str, Any], request: Request) -> tuple[list[Block], bool]:
    """
    The blocks to give back for an assistant message, and whether they are the whole turn.

    A payload of another family, provider or model gives none. A whole turn counts only while it still says what the
    message says; of an edited message only the blocks before the edit are kept, those that lead the turn.
    """
    opaque = message.get("opaque")
    if not isinstance(opaque, dict) or opaque.get("family") != FAMILY:
        return [], False
    if opaque.get("provider") != request.provider or opaque.get("model") != request.model:
        return [], False
    payload: list[Block] = opaque.get("payload") or []
    leading = list(itertools.takewhile(lambda block: block.get("type") not in _TEXT_AND_CALLS, payload))
    if len(leading) == len(payload):
        return leading, False
    calls = [call.get("id") for call in message.get("tool_calls") or ()]
    same_calls = calls == [block.get("id") for block in payload if block.get("type") == "tool_use"]
    if same_calls and text_of(message.get("content")) == text_of(payload):
        return list(payload), True
    return leading, False
