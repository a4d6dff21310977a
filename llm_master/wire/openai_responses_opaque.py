"""
What a turn of the model must be given back unchanged: its output items, reasoning among them.

The payload travels in ``message["opaque"]``, marked with the provider and model that made it. It is the whole turn, as
the API pairs a reasoning item with the item after it and rejects one without the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llm_master.classes import Request
from llm_master.wire.openai_responses_items import call_of
from llm_master.wire.openai_responses_parts import text_of
from llm_master.wire.openai_responses_plan import Plan

__all__ = ["FAMILY", "Item", "opaque_of", "replayed"]

Item = dict[str, Any]

FAMILY = "openai_responses"
# Items whose fields may be null in an answer and must not be null in a request.
_OWN = ("message", "function_call", "reasoning")


def opaque_of(items: Iterable[Item], request: Request) -> dict[str, Any] | None:
    """The opaque part of a turn, None when its text and plain function calls are all of it."""
    turn = list(items)
    if all(_is_plain(item) for item in turn):
        return None
    return {"family": FAMILY, "provider": request.provider, "model": request.model, "payload": turn}


def _is_plain(item: Item) -> bool:
    kind = item.get("type")
    if kind == "message":
        return item.get("phase") is None
    if kind != "function_call":
        return False
    caller = item.get("caller")
    return not item.get("namespace") and (not isinstance(caller, Mapping) or caller.get("type") == "direct")


def replayed(message: Mapping[str, Any], request: Request, plan: Plan, *, stateless: bool) -> list[Item] | None:
    """
    The items to give back for an assistant message; None when it has to be said in its own words.

    A payload counts for the family, provider and maker that made it, and only while it still says what the message
    says. Reasoning that the model cannot read takes the whole payload with it.
    """
    opaque = message.get("opaque")
    if not isinstance(opaque, Mapping) or opaque.get("family") != FAMILY or opaque.get("provider") != request.provider:
        return None
    # Of ``vendor/model`` the vendor must be the same: what is encrypted is its maker's.
    made_by = str(opaque.get("model"))
    if _vendor(made_by) != _vendor(request.model):
        return None
    payload = [item for item in opaque.get("payload") or () if isinstance(item, dict)]
    while payload and payload[-1].get("type") == "reasoning":
        payload.pop()  # an answer was cut off while it reasoned; the API wants something to follow
    if not payload or not _says(payload, message):
        return None
    wanted = plan.dialect.reasoning_items
    for item in payload:
        if item.get("type") == "reasoning" and (
            wanted == "no" or (wanted == "encrypted" and stateless and not item.get("encrypted_content"))
        ):
            return None
    return [_clean(item, phase=plan.dialect.phase) for item in payload]


def _vendor(model: str) -> str:
    return model.partition("/")[0] if "/" in model else ""


def _says(payload: list[Item], message: Mapping[str, Any]) -> bool:
    """Whether the items say what the message says: nobody has edited it."""
    calls = [call.get("id") for call in message.get("tool_calls") or ()]
    made = [call.id for item in payload if (call := call_of(item)) is not None]
    words = "".join(text_of(item.get("content")) for item in payload if item.get("type") == "message")
    return calls == made and words == text_of(message.get("content"))


def _clean(item: Item, *, phase: bool) -> Item:
    if item.get("type") not in _OWN:
        return item
    return {field: value for field, value in item.items() if value is not None and (phase or field != "phase")}
