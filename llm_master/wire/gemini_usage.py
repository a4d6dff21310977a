"""
Tokens and searches of an answer, normalised.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llm_master.classes import Usage
from llm_master.wire.gemini_shapes import Count, UsageBody

__all__ = ["searches_of", "tier_of", "usage_of"]

_TIERS = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_OFFPEAK": "offpeak",
    "PROVISIONED_THROUGHPUT": "provisioned",
}


def usage_of(body: UsageBody, searches: int = 0) -> Usage:
    """
    Normalise a usage object.

    ``candidatesTokenCount`` leaves thoughts out and ``promptTokenCount`` what tools gave the model, so both are added,
    unless the total says that they are within.
    """
    given, output = _count(body.prompt_token_count), _count(body.candidates_token_count)
    details, made = body.prompt_tokens_details, body.candidates_tokens_details
    thoughts, fetched = body.thoughts_token_count, body.tool_use_prompt_token_count
    cached = body.cached_content_token_count
    if not (thoughts or fetched or cached or searches) and _only_text(details) and _only_text(made):
        # Every chunk of a stream counts anew, so the plain case must be quick.
        return Usage(given, output)
    thoughts, fetched = _count(thoughts), _count(fetched)
    total, base = body.total_token_count, given + output
    if total not in (base, base + thoughts, base + fetched):
        given, output = given + fetched, output + thoughts
    elif total == base + thoughts:
        output += thoughts
    elif total == base + fetched:
        given += fetched
    tools = body.tool_use_prompt_tokens_details
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cached_tokens=min(_count(cached), given),
        reasoning_tokens=min(thoughts, output),
        input_audio_tokens=min(_of("AUDIO", details, tools), given),
        output_audio_tokens=min(_of("AUDIO", made), output),
        input_image_tokens=min(_of("IMAGE", details, tools), given),
        output_image_tokens=min(_of("IMAGE", made), output),
        web_searches=searches,
    )


def _only_text(details: list[Count] | None) -> bool:
    return not details or (len(details) == 1 and details[0].modality == "TEXT")


def _count(value: int | None) -> int:
    return value if value is not None and value > 0 else 0


def _of(modality: str, *details: Iterable[Count] | None) -> int:
    return sum(_count(each.token_count) for counts in details for each in counts or () if each.modality == modality)


def searches_of(grounding: dict[str, Any], *, per_prompt: bool) -> int:
    """
    Searches as they are billed (https://ai.google.dev/gemini-api/docs/google-search#pricing, read 2026-11-21).

    Args:
        per_prompt: one for a prompt that brought a source of the web, whatever it searched; else one a query.
    """
    queries = grounding.get("webSearchQueries")
    unique = {query for query in queries if isinstance(query, str) and query.strip()} if queries else set()
    if not per_prompt:
        return len(unique)
    chunks = grounding.get("groundingChunks") or ()
    return int(bool(unique) and any(isinstance(chunk, dict) and chunk.get("web") for chunk in chunks))


def tier_of(body: UsageBody) -> str | None:
    """The tier that served the request, as prices name it."""
    if body.service_tier:
        # The name of the value stands there too: SERVICE_TIER_FLEX.
        tier = body.service_tier.lower().removeprefix("service_tier_")
        return None if tier == "unspecified" else tier
    return _TIERS.get(body.traffic_type, body.traffic_type.lower()) if body.traffic_type else None
