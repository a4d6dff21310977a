"""
Ranking of documents as NVIDIA speaks it: ``POST https://ai.api.nvidia.com/v1/retrieval/{model}/reranking``, and
``POST {base}/ranking`` on a NIM of one's own.

Scores are logits, from about -20 to 20. The service gives all documents, so ``top_n`` cuts here. Sources, read
2026-11-21: https://docs.api.nvidia.com/nim/reference/nvidia-llama-3_2-nv-rerankqa-1b-v2-infer; litellm
``llms/nvidia_nim/rerank`` (the name has underscores in the address and dots in the body); github.com/NVIDIA/nv-ingest.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.answers import RankedDocument, RerankResponse
from llm_master.classes import Request, Usage
from llm_master.errors import ResponseError
from llm_master.operations import Operation, provider_params, read_body

__all__ = ["decode", "encode"]


class _Item(msgspec.Struct):
    index: int
    logit: float


class _Tokens(msgspec.Struct):
    total_tokens: int | None = None


class _Answer(msgspec.Struct):
    rankings: list[_Item]
    usage: _Tokens | None = None


_decoder = msgspec.json.Decoder(_Answer)


def encode(payload: tuple[str, list[str]], request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """The JSON body of a query and its passages."""
    query, documents = payload
    params = provider_params(operation, request)
    params.pop("top_n", None)
    passages = [{"text": each} for each in documents]
    model = request.model.replace("_", ".")
    return msgspec.json.encode({"model": model, "query": {"text": query}, "passages": passages, **params}), {}


def decode(body: bytes, headers: Any, payload: tuple[str, list[str]], request: Request) -> RerankResponse:  # noqa: ARG001  # as all
    """
    The documents as they were given, the best first.

    Raises:
        ResponseError: the answer cannot be read, or names a document that was not given.
    """
    documents = payload[1]
    answer, notes = read_body(_decoder, body, "ranking", request, (_Tokens, ("usage",)))
    items = sorted(answer.rankings, key=lambda item: -item.logit)
    indexes = {item.index for item in items}
    if len(indexes) != len(items) or not indexes <= set(range(len(documents))):
        raise ResponseError(
            f"{request.provider} ranked other documents than the {len(documents)} given to {request.model!r};"
            " try again",
            provider=request.provider,
            model=request.model,
        )
    most = request.params.get("top_n")
    return RerankResponse(
        results=[RankedDocument(item.index, item.logit, documents[item.index]) for item in items[:most]],
        usage=Usage(input_tokens=max((answer.usage or _Tokens()).total_tokens or 0, 0)),
        notes=notes,
    )
