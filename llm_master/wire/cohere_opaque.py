"""
What a turn of the model is given back unchanged: its thinking and its plan.

The payload travels in ``message["opaque"]``, marked with the provider and model that made it.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Request
from llm_master.history import payload_of

__all__ = ["FAMILY", "opaque_of", "replayed"]

FAMILY = "cohere"


def opaque_of(thoughts: list[str], plan: str, request: Request) -> dict[str, Any] | None:
    """The opaque part of a turn, None when it has neither thinking nor a plan."""
    payload: dict[str, Any] = {}
    if thoughts:
        payload["content"] = [{"type": "thinking", "thinking": thought} for thought in thoughts]
    if plan:
        payload["tool_plan"] = plan
    if not payload:
        return None
    return {"family": FAMILY, "provider": request.provider, "model": request.model, "payload": payload}


def replayed(message: dict[str, Any], request: Request) -> dict[str, Any]:
    """The payload to give back for an assistant message; that of another family, provider or model gives none."""
    return payload_of(message, FAMILY, request).get("payload") or {}
