"""
Embeddings of Vertex AI: ``POST {base}/publishers/google/models/{model}:predict``.

Source: google-genai 3.4.0, ``models.py`` (``embed_content`` of Vertex AI), read 2026-11-21.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.answers import EmbeddingResponse
from llm_master.classes import Request, Usage
from llm_master.operations import Operation, miscounted, provider_params, read_body

__all__ = ["decode", "encode"]

# Parameters that stand beside each text; the others are one set for all.
_OF_EACH = ("task_type", "title")


class _Statistics(msgspec.Struct):
    token_count: float = 0
    truncated: bool = False


class _Vector(msgspec.Struct):
    values: list[float]
    statistics: _Statistics | None = None


class _Prediction(msgspec.Struct):
    embeddings: _Vector


class _Answer(msgspec.Struct):
    predictions: list[_Prediction]


_decoder = msgspec.json.Decoder(_Answer)


def encode(texts: list[str], request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """The JSON body, an instance for each text."""
    params = provider_params(operation, request)
    own = {name: params.pop(name) for name in _OF_EACH if name in params}
    body: dict[str, Any] = {"instances": [{"content": text, **own} for text in texts]}
    if params:
        body["parameters"] = params
    return msgspec.json.encode(body), {}


def decode(body: bytes, headers: Any, texts: list[str], request: Request) -> EmbeddingResponse:  # noqa: ARG001  # as all
    """
    The vectors, in the order of the texts; a text that was cut is noted.

    Raises:
        ResponseError: the answer cannot be read or does not hold one vector for each text.
    """
    answer, _ = read_body(_decoder, body, "embedding", request)
    found = [each.embeddings for each in answer.predictions]
    if len(found) != len(texts):
        raise miscounted(len(found), len(texts), "vectors", request)
    counts = [each.statistics or _Statistics() for each in found]
    cut = sum(each.truncated for each in counts)
    return EmbeddingResponse(
        embeddings=[each.values for each in found],
        usage=Usage(input_tokens=int(sum(each.token_count for each in counts))),
        notes=(f"{request.provider} cut {cut} of {len(texts)} texts that were too long",) if cut else (),
    )
