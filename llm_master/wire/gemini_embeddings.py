"""
Embeddings of Google's Gemini API: ``POST {base}/models/{model}:batchEmbedContents``.

Source: https://ai.google.dev/api/embeddings and google-genai 3.4.0, ``models.py``, read 2026-11-21.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.answers import EmbeddingResponse
from llm_master.classes import Request, Usage
from llm_master.operations import Operation, miscounted, provider_params, read_body

__all__ = ["decode", "encode"]


class _Vector(msgspec.Struct):
    values: list[float]


class _Tokens(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    total_token_count: int | None = None


class _Answer(msgspec.Struct, rename="camel"):
    embeddings: list[_Vector]
    usage_metadata: _Tokens | None = None


_decoder = msgspec.json.Decoder(_Answer)


def encode(texts: list[str], request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """The JSON body: one request for each text, all with the same parameters."""
    params = provider_params(operation, request)
    name = f"models/{request.model.removeprefix('models/')}"
    requests = [{"model": name, "content": {"parts": [{"text": text}]}, **params} for text in texts]
    return msgspec.json.encode({"requests": requests}), {}


def decode(body: bytes, headers: Any, texts: list[str], request: Request) -> EmbeddingResponse:  # noqa: ARG001  # as all
    """
    The vectors, in the order of the texts.

    Raises:
        ResponseError: the answer cannot be read or does not hold one vector for each text.
    """
    answer, notes = read_body(_decoder, body, "embedding", request, (_Tokens, ("usageMetadata",)))
    if len(answer.embeddings) != len(texts):
        raise miscounted(len(answer.embeddings), len(texts), "vectors", request)
    used = answer.usage_metadata or _Tokens()
    return EmbeddingResponse(
        embeddings=[each.values for each in answer.embeddings],
        usage=Usage(input_tokens=max(used.prompt_token_count or used.total_token_count or 0, 0)),
        notes=notes,
    )
