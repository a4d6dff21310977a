"""
Embeddings of Cohere on Bedrock: ``POST {base}/model/{id}/invoke``.

Version 3 answers with a list of vectors, or by type when a type was asked for, as version 4 always does. The tokens
stand in a header. Sources: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed-v3.html and
-v4.html, read 2026-11-21.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.answers import EmbeddingResponse
from llm_master.classes import Request, Usage
from llm_master.operations import Operation, miscounted, provider_params, read_body

__all__ = ["decode", "encode"]

_TOKENS = "x-amzn-bedrock-input-token-count"


class _Vectors(msgspec.Struct):
    floats: list[list[float]] = msgspec.field(name="float")


class _Answer(msgspec.Struct):
    embeddings: list[list[float]] | _Vectors


_decoder = msgspec.json.Decoder(_Answer)


def encode(texts: list[str], request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """The JSON body; the model stands in the address."""
    params = provider_params(operation, request)
    return msgspec.json.encode({"texts": texts, **params, "embedding_types": ["float"]}), {}


def decode(body: bytes, headers: Any, texts: list[str], request: Request) -> EmbeddingResponse:
    """
    The vectors, in the order of the texts.

    Raises:
        ResponseError: the answer cannot be read or does not hold one vector for each text.
    """
    answer, _ = read_body(_decoder, body, "embedding", request)
    found = answer.embeddings
    vectors = found.floats if isinstance(found, _Vectors) else found
    if len(vectors) != len(texts):
        raise miscounted(len(vectors), len(texts), "vectors", request)
    tokens = headers.get(_TOKENS) or ""
    return EmbeddingResponse(embeddings=vectors, usage=Usage(input_tokens=int(tokens) if tokens.isdecimal() else 0))
