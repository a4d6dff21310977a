"""
What a turn of the model must be given back unchanged: signed thinking, and the blocks of the provider's own tools.

The payload travels in ``message["opaque"]``, marked with the provider and model that made it. It holds those blocks
alone where they lead the turn, which is the usual case, and the whole turn where their place or a citation matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llm_master import history
from llm_master.classes import Request
from llm_master.history import payload_of, text_of
from llm_master.wire.anthropic_blocks import Block

__all__ = ["FAMILY", "opaque_of", "replayed"]

FAMILY = "anthropic_messages"
_TEXT_AND_CALLS = ("text", "tool_use")


def _ordinary(block: Block) -> bool:
    return block.get("type") in _TEXT_AND_CALLS


def _calls(blocks: list[Block]) -> list[Any]:
    return [block.get("id") for block in blocks if block.get("type") == "tool_use"]


def opaque_of(blocks: Iterable[Block], request: Request) -> dict[str, Any] | None:
    """The opaque part of a turn, None when text and tool calls are all of it."""
    turn = list(blocks)
    special = [block for block in turn if not _ordinary(block)]
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

    A payload of another family, provider or model gives none.
    """
    payload = payload_of(message, FAMILY, request).get("payload") or []
    return history.replayed(message, payload, ordinary=_ordinary, calls=_calls, said=text_of)
