"""
An answer of the Responses API, whole or at the end of a stream, as an ``LLMResponse``; and the errors in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.bodies import amount_of, as_object, walk, with_upstream
from llm_master.classes import LLMResponse, Request, Usage
from llm_master.classify import error_from_object
from llm_master.errors import ProviderError
from llm_master.wire.openai_responses_items import Gathered
from llm_master.wire.openai_responses_opaque import opaque_of
from llm_master.wire.openai_responses_plan import Plan

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = [
    "Answer",
    "failure",
    "read_answer",
    "refused",
    "respond",
    "usage_of",
    "whole_text",
]

_WAITING = ("queued", "in_progress")

# Codes of this API alone: category and the status that they stand for.
# https://developers.openai.com/api/reference/resources/responses (error.code), seen 2026-11-21; the two at the end are
# sent in streams: github.com/openai/openai-dotnet/issues/881, github.com/vercel/ai/pull/20022.
_CODES: dict[str, tuple[str, int]] = {
    **dict.fromkeys(
        (
            "data_residency_mismatch",
            "empty_image_file",
            "failed_to_download_image",
            "image_file_not_found",
            "image_file_too_large",
            "image_parse_error",
            "image_too_large",
            "image_too_small",
            "invalid_base64_image",
            "invalid_image",
            "invalid_image_format",
            "invalid_image_mode",
            "invalid_image_url",
            "unsupported_image_media_type",
        ),
        ("bad_request", 400),
    ),
    **dict.fromkeys(
        ("bio_policy", "cyber_policy", "image_content_policy_violation", "misalignment_policy_violation"),
        ("content", 400),
    ),
    "vector_store_timeout": ("timeout", 504),
    "too_many_requests": ("rate", 429),
    "service_unavailable_error": ("overloaded", 503),
}
_CATEGORIES = {code: category for code, (category, _) in _CODES.items()}


class Answer(msgspec.Struct, gc=False):
    """The fields of an answer that are read here; the types are the server's affair."""

    id: Any = None
    model: Any = None
    status: Any = None
    output: Any = None
    usage: Any = None
    error: Any = None
    incomplete_details: Any = None
    service_tier: Any = None
    tool_usage: Any = None
    error_type: Any = None


_decode = msgspec.json.Decoder(Answer).decode


def read_answer(payload: bytes) -> Answer:
    """
    The answer in a JSON body.

    Raises:
        ValueError: the payload is not a JSON object.
    """
    try:
        return _decode(payload)
    except (ValueError, RecursionError):
        found = whole_text(as_object(payload))
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004  # the caller asks for JSON objects, whatever else it is
    return Answer(**{name: found.get(name) for name in Answer.__struct_fields__})


def whole_text(value: Any) -> Any:
    """The same value with unpaired surrogates replaced: they cannot be written anywhere."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {whole_text(key): whole_text(each) for key, each in value.items()}
    return [whole_text(each) for each in value] if isinstance(value, list) else value


# Items that are billed by the piece -> what they are counted as; web searches stand in the usage.
_BILLED = {
    "file_search_call": "file_searches",
    "code_interpreter_call": "containers",
    "image_generation_call": "drawn_images",
    "x_search_call": "social_searches",
}


def respond(
    answer: Answer,
    gathered: Gathered,
    request: Request,
    plan: Plan,
    *,
    complete: bool = True,
    raw_body: Any = None,
    notes: tuple[str, ...] = (),
) -> LLMResponse:
    """
    The response.

    Args:
        complete: whether the answer has its end; one without is an error's partial result.
        raw_body: the JSON that ``raw`` shows.
        notes: what was unusual before the answer was whole.
    """
    found = list(notes)
    reason = _finish(answer, gathered, plan, found) if complete else "error"
    _note_tools(answer, found)
    cost, searches = _by_paths(raw_body, plan)
    return LLMResponse(
        "".join(gathered.texts),
        request.model,
        usage_of(answer, gathered, searches),
        finish_reason=reason,
        model=_text(answer.model),
        provider=request.provider,
        tool_calls=gathered.calls,
        reasoning="\n\n".join(gathered.thoughts) or None,
        refusal="".join(gathered.refusals) or None,
        citations=gathered.citations,
        images=gathered.images,
        audio_data=gathered.audio,
        request_id=_text(answer.id),
        dropped=request.dropped,
        notes=tuple(dict.fromkeys((*found, *gathered.notes))),
        opaque=opaque_of(gathered.items, request) if complete else None,
        reported_cost=cost,
        service_tier=_text(answer.service_tier),
        raw_body=raw_body,
        billed=billed_of(gathered.items),
    )


def _finish(answer: Answer, gathered: Gathered, plan: Plan, notes: list[str]) -> str:
    status = answer.status
    if status == "incomplete":
        details = answer.incomplete_details
        word = details.get("reason") if isinstance(details, dict) else None
        known = plan.incomplete.get(word) if isinstance(word, str) else None
        if known is None:
            why = f"for the unknown reason {str(word)[:80]!r}" if word else "without a reason"
            notes.append(f"the answer is incomplete {why}")
        return known or "length"
    if status in _WAITING:
        notes.append(f"the answer is {status}: it runs in the background and has to be asked for by its id")
        return "pause"
    if status is None and not gathered.items:
        # Nothing is said, and nothing tells that this was all.
        return "error"
    if status not in ("completed", None):
        notes.append(f"unknown status {str(status)[:80]!r} read as 'completed'")
    if gathered.calls:
        return "tool_calls"
    return "refusal" if gathered.refusals else "stop"


def billed_of(items: list[dict[str, Any]]) -> dict[str, Any] | None:
    """
    What the items of an answer cost besides tokens, by the names that prices have; None for nothing.

    An image's tokens are its own model's, which the answer may not name, so its price is not known.
    """
    found: dict[str, Any] = {}
    for item in items:
        name = _BILLED.get(str(item.get("type")))
        if name is None or item.get("status") == "failed":
            continue
        if name == "containers":
            found.setdefault(name, set()).add(str(item.get("container_id")))
        else:
            found[name] = found.get(name, 0) + 1
    if "containers" in found:
        found["containers"] = len(found["containers"])
    return found or None


def _note_tools(answer: Answer, notes: list[str]) -> None:
    images = walk(answer.tool_usage, ("image_gen",))
    made = _count(walk(images, ("output_tokens",)))
    if made:
        read = _count(walk(images, ("input_tokens",)))
        notes.append(f"images took {read} input and {made} output tokens of their own, which usage and cost leave out")


def usage_of(answer: Answer, gathered: Gathered | None = None, searches: Any = None) -> Usage:
    """Tokens as all families count them, and web searches; what the server does not say is 0."""
    body = answer.usage
    given, output = _count(walk(body, ("input_tokens",))), _count(walk(body, ("output_tokens",)))
    details, parts = walk(body, ("input_tokens_details",)), walk(body, ("output_tokens_details",))
    reasoning = _count(walk(parts, ("reasoning_tokens",)))
    if reasoning:
        # The total shows whether it was left out of the output.
        if _count(walk(body, ("total_tokens",))) == given + output + reasoning:
            output += reasoning
        reasoning = min(reasoning, output)
    # Perplexity has the other family's word for it.
    read = walk(details, ("cached_tokens",)) or walk(details, ("cache_read_input_tokens",))
    cached = min(_count(read), given)
    if searches is None:
        searches = walk(answer.tool_usage, ("web_search", "num_requests"))
    if searches is None and gathered is not None:
        searches = gathered.searches
    written = min(_count(walk(details, ("cache_write_tokens",))), given - cached)
    return Usage(
        given,
        output,
        cached,
        written,
        min(_count(walk(details, ("cache_write_tokens_details", "ttl_12h_tokens"))), written),
        reasoning,
        min(_count(walk(details, ("audio_tokens",))), given),
        min(_count(walk(parts, ("audio_tokens",))), output),
        min(_count(walk(details, ("image_tokens",))), given),
        min(_count(walk(parts, ("image_tokens",))), output),
        _count(searches),
    )


def _by_paths(raw_body: Any, plan: Plan) -> tuple[Decimal | None, Any]:
    """The cost and the web searches that stand where only the dialect knows."""
    if (plan.cost_path is None and plan.searches_path is None) or not isinstance(raw_body, bytes):
        return None, None
    try:
        found = as_object(raw_body)
    except ValueError:
        return None, None
    cost = amount_of(walk(found, plan.cost_path), plan.dialect.cost_unit) if plan.cost_path else None
    if cost is not None:
        usage = walk(found, ("usage",))
        cost = with_upstream(cost, walk(usage, ("is_byok",)), walk(usage, ("cost_details",)))
    return cost, walk(found, plan.searches_path) if plan.searches_path else None


def _count(value: Any) -> int:
    try:
        return 0 if value is None or isinstance(value, bool) else max(int(float(value)), 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# Errors -------------------------------------------------------------------------------------------------------------


def failure(answer: Answer, request: Request, rules: Mapping[str, str] | None) -> ProviderError | None:
    """The error of an answer that failed or was cancelled, else None."""
    if answer.status == "cancelled":
        return ProviderError(
            f"{request.provider} cancelled the answer of {request.model!r}; ask again",
            provider=request.provider,
            model=request.model,
            code="cancelled",
            request_id=_text(answer.id),
            retryable=False,
        )
    if not answer.error and answer.status != "failed":
        return None
    error = answer.error if isinstance(answer.error, dict) else {"message": str(answer.error or "")}
    if not error.get("message"):
        error = {**error, "message": "the model's run failed without a reason"}
    if answer.error_type and not error.get("type"):
        error = {**error, "type": answer.error_type}
    return refused(error, request, rules, _text(answer.id))


def refused(
    error: Mapping[str, Any], request: Request, rules: Mapping[str, str] | None, request_id: str | None = None
) -> ProviderError:
    """The typed error for an ``error`` object inside a good answer or a stream."""
    for field in ("code", "type"):
        known = _CODES.get(str(error.get(field)))
        if known is not None and "status" not in error:
            error = {**error, "status": known[1]}
    return error_from_object(
        {"error": error},
        provider=request.provider,
        model=request.model,
        rules={**_CATEGORIES, **(rules or {})},
        request_id=request_id,
    )
