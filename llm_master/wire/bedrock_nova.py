"""
Embeddings of Amazon Nova on Bedrock: ``POST {base}/model/{id}/invoke``, one text a request.

A text that is too long is refused instead of cut (``truncationMode``). Sources, read 2026-11-21:
https://docs.aws.amazon.com/nova/latest/userguide/embeddings-schema.html; the answer's place of the vector also in
github.com/crmne/ruby_llm. That tokens stand in the header of Bedrock's other embeddings is not verified.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.answers import EmbeddingResponse
from llm_master.classes import Request, Usage
from llm_master.operations import Operation, miscounted, provider_params, read_body

__all__ = ["decode", "encode"]

_TOKENS = "x-amzn-bedrock-input-token-count"


class _Vector(msgspec.Struct):
    embedding: list[float]


class _Answer(msgspec.Struct):
    embeddings: list[_Vector]


_decoder = msgspec.json.Decoder(_Answer)


def encode(texts: list[str], request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """The JSON body; the model stands in the address."""
    (value,) = texts
    params = provider_params(operation, request)
    text = {"truncationMode": params.pop("truncationMode", "NONE"), "value": value}
    body = {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": {**params, "text": text}}
    return msgspec.json.encode(body), {}


def decode(body: bytes, headers: Any, texts: list[str], request: Request) -> EmbeddingResponse:
    """The one vector; raises ResponseError when the answer cannot be read."""
    answer, _ = read_body(_decoder, body, "embedding", request)
    vectors = [each.embedding for each in answer.embeddings]
    if len(vectors) != len(texts):
        raise miscounted(len(vectors), len(texts), "vectors", request)
    tokens = headers.get(_TOKENS) or ""
    return EmbeddingResponse(embeddings=vectors, usage=Usage(input_tokens=int(tokens) if tokens.isdecimal() else 0))
