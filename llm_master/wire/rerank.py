"""
Ranking of documents as Cohere speaks it, and those that followed: ``POST {base}/rerank``.

Cohere, Jina, Together, vLLM and llama.cpp answer with ``results``, Voyage and Fireworks with ``data``; a document
stands in the answer as text, as ``{"text": ...}`` or not at all. Sources: the cohere package 7.3.1,
``v2/raw_client.py``;
https://docs.voyageai.com/reference/reranker-api; https://docs.fireworks.ai/api-reference/rerank-documents;
https://docs.together.ai/docs/rerank-overview; all read 2026-11-21.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.answers import RankedDocument, RerankResponse
from llm_master.classes import Request, Usage
from llm_master.classify import error_from_object
from llm_master.errors import ResponseError
from llm_master.operations import Operation, provider_params, read_body, unreadable

__all__ = ["decode", "encode"]


class _Item(msgspec.Struct):
    index: int
    relevance_score: float


class _Billed(msgspec.Struct):
    input_tokens: float | None = None
    search_units: float | None = None


class _Meta(msgspec.Struct):
    billed_units: _Billed | None = None
    warnings: list[str] | None = None


class _Tokens(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Answer(msgspec.Struct):
    results: list[_Item] | None = None
    data: list[_Item] | None = None
    model: str | None = None
    usage: _Tokens | None = None
    meta: _Meta | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Answer)
_ODD: tuple[tuple[type, tuple[str, ...]], ...] = ((_Tokens, ("usage",)), (_Billed, ("meta", "billed_units")))


def encode(payload: tuple[str, list[str]], request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """The JSON body of a query and its documents."""
    query, documents = payload
    params = provider_params(operation, request)
    return msgspec.json.encode({"model": request.model, "query": query, "documents": documents, **params}), {}


def decode(body: bytes, headers: Any, payload: tuple[str, list[str]], request: Request) -> RerankResponse:  # noqa: ARG001  # as all
    """
    The documents as they were given, the best first.

    Raises:
        ProviderError: the answer is an error, cannot be read, or names a document that was not given.
    """
    documents = payload[1]
    who: dict[str, Any] = {"provider": request.provider, "model": request.model}
    answer, notes = read_body(_decoder, body, "ranking", request, *_ODD)
    if answer.error is not None:
        raise error_from_object({"error": answer.error}, **who)
    items = answer.results if answer.results is not None else answer.data
    if items is None:
        raise unreadable(body, "ranking", request)
    indexes = {item.index for item in items}
    if len(indexes) != len(items) or not indexes <= set(range(len(documents))):
        raise ResponseError(
            f"{request.provider} ranked other documents than the {len(documents)} given to {request.model!r};"
            " try again",
            **who,
        )
    # Some servers keep the order of the documents.
    items = sorted(items, key=lambda item: -item.relevance_score)
    used, meta = answer.usage or _Tokens(), answer.meta or _Meta()
    billed = meta.billed_units or _Billed()
    given = used.total_tokens or used.prompt_tokens or billed.input_tokens or 0
    return RerankResponse(
        results=[RankedDocument(item.index, item.relevance_score, documents[item.index]) for item in items],
        model=answer.model,
        usage=Usage(input_tokens=max(int(given), 0)),
        search_units=billed.search_units,
        billed=None if billed.search_units is None else {"search_units": billed.search_units},
        notes=(*notes, *(meta.warnings or ())),
    )
