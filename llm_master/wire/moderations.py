"""
Moderation as OpenAI and Mistral speak it: ``POST {base}/moderations``.

OpenAI says ``flagged``; Mistral leaves it out, and its input counts as flagged when any category applies. Sources: the
openai package 3.52.0, ``types/moderation.py``; https://docs.mistral.ai/api; both read 2026-11-21.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.answers import ModerationResponse, ModerationResult
from llm_master.classes import Request, Usage
from llm_master.classify import error_from_object
from llm_master.operations import Operation, miscounted, provider_params, read_body

__all__ = ["decode", "encode"]


class _Item(msgspec.Struct):
    # A category that a model does not know is null with OpenAI.
    categories: dict[str, bool | None]
    category_scores: dict[str, float | None] = {}
    flagged: bool | None = None


class _Tokens(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Answer(msgspec.Struct):
    results: list[_Item] | None = None
    model: str | None = None
    usage: _Tokens | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Answer)


def encode(texts: list[Any], request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """The JSON body; ``texts`` are texts, or parts of one input with images."""
    return msgspec.json.encode({"model": request.model, "input": texts, **provider_params(operation, request)}), {}


def decode(body: bytes, headers: Any, texts: list[Any], request: Request) -> ModerationResponse:  # noqa: ARG001  # as all
    """
    A result for each input; for parts, one for all of them.

    Raises:
        ProviderError: the answer is an error, cannot be read, or does not hold a result for each input.
    """
    who: dict[str, Any] = {"provider": request.provider, "model": request.model}
    answer, notes = read_body(_decoder, body, "moderation", request, (_Tokens, ("usage",)))
    if answer.error is not None:
        raise error_from_object({"error": answer.error}, **who)
    expected = 1 if any(isinstance(text, dict) for text in texts) else len(texts)
    found = answer.results or []
    if len(found) != expected:
        # An input without a verdict must never look harmless.
        raise miscounted(len(found), expected, "verdicts", request)
    used = answer.usage or _Tokens()
    return ModerationResponse(
        results=[_result(item) for item in found],
        model=answer.model,
        usage=Usage(input_tokens=max(used.prompt_tokens or used.total_tokens or 0, 0)),
        notes=notes,
    )


def _result(item: _Item) -> ModerationResult:
    categories = {name: bool(applies) for name, applies in item.categories.items() if applies is not None}
    scores = {name: score for name, score in item.category_scores.items() if score is not None}
    return ModerationResult(any(categories.values()) if item.flagged is None else item.flagged, categories, scores)
