"""
Embeddings of Amazon Titan on Bedrock: ``POST {base}/model/{id}/invoke``, one text a request.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.md, read 2026-11-21.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.answers import EmbeddingResponse
from llm_master.classes import Request, Usage
from llm_master.operations import Operation, miscounted, provider_params, read_body

__all__ = ["decode", "encode"]


class _Answer(msgspec.Struct, rename="camel"):
    embedding: list[float]
    input_text_token_count: int = 0


_decoder = msgspec.json.Decoder(_Answer)


def encode(texts: list[str], request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """The JSON body; the model stands in the address."""
    (text,) = texts
    return msgspec.json.encode({"inputText": text, **provider_params(operation, request)}), {}


def decode(body: bytes, headers: Any, texts: list[str], request: Request) -> EmbeddingResponse:  # noqa: ARG001  # as all
    """The one vector; raises ResponseError when the answer cannot be read."""
    answer, _ = read_body(_decoder, body, "embedding", request)
    if not answer.embedding:
        raise miscounted(0, len(texts), "vectors", request)
    return EmbeddingResponse(embeddings=[answer.embedding], usage=Usage(input_tokens=answer.input_text_token_count))
