"""
What a turn of the model must be given back unchanged: signed reasoning, and the blocks of the service's own tools.

The payload travels in ``message["opaque"]``, marked with the provider and model that made it. It holds those blocks
alone where they lead the turn, which is the usual case, and the whole turn where their place matters.
"""

from __future__ import annotations

from typing import Any

from llm_master import history
from llm_master.classes import Request
from llm_master.draft import is_blank
from llm_master.history import payload_of
from llm_master.wire.bedrock_blocks import SERVER_TOOL, Block, kind_of

__all__ = ["FAMILY", "opaque_of", "replayed"]

FAMILY = "bedrock"
_ONE_WAY = ("image", "audio")


def _ordinary(block: Block) -> bool:
    """Whether the chat format has an equal of a block: text, or a call of the caller's own tool."""
    return "text" in block or ("toolUse" in block and block["toolUse"].get("type") != SERVER_TOOL)


def _said_again(block: Block) -> bool:
    """Whether the message itself says what a block says."""
    return _ordinary(block) or kind_of(block) == "citationsContent"


def _calls(blocks: list[Block]) -> list[Any]:
    return [block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block and _ordinary(block)]


def opaque_of(blocks: list[Block], request: Request) -> dict[str, Any] | None:
    """The opaque part of a turn, None when text and tool calls are all of it."""
    # Blank texts and pictures are given out by some models, and taken back from none.
    blocks = [b for b in blocks if b and not is_blank(b.get("text", FAMILY)) and kind_of(b) not in _ONE_WAY]
    special = [block for block in blocks if not _said_again(block)]
    if not special:
        return None
    leading = blocks[: len(special)] == special
    cited = any(kind_of(block) == "citationsContent" for block in blocks)
    return {
        "family": FAMILY,
        "provider": request.provider,
        "model": request.model,
        "payload": special if leading and not cited else blocks,
    }


def replayed(message: dict[str, Any], request: Request) -> tuple[list[Block], bool]:
    """
    The blocks to give back for an assistant message, and whether they are the whole turn.

    A payload of another family, provider or model gives none.
    """
    payload = payload_of(message, FAMILY, request).get("payload") or []
    return history.replayed(message, payload, ordinary=_said_again, calls=_calls, said=_said)


def _said(blocks: list[Block]) -> str:
    """The text of a turn, cited or not."""
    return "".join(
        block.get("text")
        or "".join(part.get("text") or "" for part in block.get("citationsContent", {}).get("content") or ())
        for block in blocks
    )
