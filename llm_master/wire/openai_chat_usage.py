"""
Tokens and reported cost, whatever a server puts where.
"""

from __future__ import annotations

from typing import Any

from llm_master.bodies import amount_of, as_object, walk, with_upstream
from llm_master.classes import Usage
from llm_master.wire.openai_chat_plan import Plan
from llm_master.wire.openai_chat_shapes import Answer, Details, UsageBody, usage_body

__all__ = ["bill_of", "usage_of"]

# What details look like when they say nothing, the case of most answers; comparing is quicker than reading them.
_NO_DETAILS = Details()
_SILENT_INPUT = (None, Details(cached_tokens=0, audio_tokens=0), Details(cached_tokens=0), _NO_DETAILS)
_SILENT_OUTPUT = (None, Details(reasoning_tokens=0, audio_tokens=0), Details(reasoning_tokens=0), _NO_DETAILS)


def bill_of(answer: Answer, payload: bytes, plan: Plan) -> tuple[Usage | None, Any]:
    """The usage of an answer or chunk, None when it has none, and the USD (a Decimal) it says it costs, or None."""
    body = answer.usage
    if plan.marker is not None and plan.marker in payload:
        return _bill_by_paths(body, payload, plan)
    if body is None:
        return None, None
    cost = _cost_of(body) if plan.cost and body.cost is not None else None
    return usage_of(body, reasoning_outside=plan.dialect.reasoning_outside), cost


def _bill_by_paths(body: UsageBody | None, payload: bytes, plan: Plan) -> tuple[Usage | None, Any]:
    found = as_object(payload)
    if plan.usage_path:
        body = usage_body(walk(found, plan.usage_path)) or body
    cached = None
    if plan.cached_path:
        holder = walk(found, plan.usage_path or ("usage",)) or walk(found, ("usage",))
        cached = walk(holder, plan.cached_path)
    cost = None
    if plan.cost_path:
        cost = amount_of(walk(found, plan.cost_path), plan.dialect.cost_unit)
    elif plan.cost and body is not None:
        cost = _cost_of(body)
    if body is None:
        return None, cost
    if isinstance(cached, int | float):
        body.cached_tokens = int(cached)
        if body.prompt_tokens_details is not None:
            body.prompt_tokens_details.cached_tokens = None
    return usage_of(body, reasoning_outside=plan.dialect.reasoning_outside), cost


def _cost_of(body: UsageBody) -> Any:
    return with_upstream(amount_of(body.cost), body.is_byok, body.cost_details)


def usage_of(body: UsageBody, *, reasoning_outside: bool = False) -> Usage:
    """
    Normalise a usage object.

    Args:
        body: the object as the server sent it.
        reasoning_outside: whether ``completion_tokens`` leaves reasoning out; believed unless the total says otherwise.
    """
    given, output = body.prompt_tokens or 0, body.completion_tokens or 0
    details, parts = body.prompt_tokens_details, body.completion_tokens_details
    hit = body.prompt_cache_hit_tokens or body.cached_tokens
    if (
        not hit
        and details in _SILENT_INPUT
        and parts in _SILENT_OUTPUT
        and body.num_search_queries is None
        and body.server_tool_use is None
        and given >= 0
        and output >= 0
    ):
        return Usage(given, output)
    return _with_parts(body, max(given, 0), max(output, 0), reasoning_outside=reasoning_outside)


def _with_parts(body: UsageBody, given: int, output: int, *, reasoning_outside: bool) -> Usage:
    details, parts = body.prompt_tokens_details or _NO_DETAILS, body.completion_tokens_details or _NO_DETAILS
    cached = max(details.cached_tokens or body.prompt_cache_hit_tokens or body.cached_tokens or 0, 0)
    written = max(details.cache_write_tokens or 0, 0)
    reasoning = max(parts.reasoning_tokens or 0, 0)
    total = body.total_tokens
    # The same model leaves it out at one host and not at another; where the sum is that of all three, it is left out.
    if reasoning > output or (reasoning and (reasoning_outside or total == given + output + reasoning)):
        if total is None or total != given + output:
            output += reasoning
        reasoning = min(reasoning, output)
    if cached + written > given:
        # Impossible when caches are part of the input: the total shows whether they were left out of it.
        if total is not None and total >= given + output + cached + written:
            given += cached + written
        cached = min(cached, given)
        written = min(written, given - cached)
    return Usage(
        given,
        output,
        cached,
        written,
        0,
        reasoning,
        min(max(details.audio_tokens or 0, 0), given),
        min(max(parts.audio_tokens or 0, 0), output),
        min(max(details.image_tokens or 0, 0), given),
        min(max(parts.image_tokens or 0, 0), output),
        max(_searches(body) or 0, 0),
    )


def _searches(body: UsageBody) -> int | None:
    count = (body.server_tool_use or {}).get("web_search_requests")
    return count if isinstance(count, int) else body.num_search_queries
