"""
Embeddings of Cohere's version 2 API: ``POST {base}/embed``.

Source: the cohere package 7.3.1, ``v2/raw_client.py`` and ``types/embed_by_type_response.py``, read 2026-11-21.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.answers import EmbeddingResponse
from llm_master.classes import Request, Usage
from llm_master.errors import UnsupportedParameterError
from llm_master.operations import Operation, miscounted, provider_params, read_body, unreadable
from llm_master.vectors import unpacked

__all__ = ["decode", "encode"]

# Our encodings -> the types of Cohere's that are floats; its integer types are no vectors of floats.
_ENCODINGS = {"float": "float", "base64": "base64"}


class _Vectors(msgspec.Struct):
    floats: list[list[float]] | None = msgspec.field(name="float", default=None)
    base64: list[str] | None = None


class _Billed(msgspec.Struct):
    input_tokens: float | None = None
    image_tokens: float | None = None


class _Meta(msgspec.Struct):
    billed_units: _Billed | None = None
    warnings: list[str] | None = None


class _Answer(msgspec.Struct):
    embeddings: _Vectors
    meta: _Meta | None = None


_decoder = msgspec.json.Decoder(_Answer)


def encode(texts: list[str], request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """The JSON body; ``encoding_format`` becomes ``embedding_types``."""
    params = provider_params(operation, request)
    encoding = params.pop("encoding_format", None)
    types = params.get("embedding_types") or [encoding or "float"]
    if len(types) != 1 or types[0] not in _ENCODINGS:
        raise UnsupportedParameterError(
            f"{request.provider}: vectors of {request.model!r} are read as 'float' or 'base64', not as {types!r};"
            " give encoding_format='float'",
            parameter="embedding_types",
        )
    body = {"model": request.model, "texts": texts, **params, "embedding_types": list(types)}
    return msgspec.json.encode(body), {}


def decode(body: bytes, headers: Any, texts: list[str], request: Request) -> EmbeddingResponse:  # noqa: ARG001  # as all
    """
    The vectors, in the order of the texts.

    Raises:
        ResponseError: the answer cannot be read or does not hold one vector for each text.
    """
    answer, notes = read_body(_decoder, body, "embedding", request, (_Billed, ("meta", "billed_units")))
    found = answer.embeddings
    try:
        vectors = found.floats if found.floats is not None else [unpacked(each) for each in found.base64 or ()]
    except ValueError as error:
        raise unreadable(body, "embedding", request) from error
    if len(vectors) != len(texts):
        raise miscounted(len(vectors), len(texts), "vectors", request)
    meta = answer.meta or _Meta()
    billed = meta.billed_units or _Billed()
    return EmbeddingResponse(
        embeddings=vectors,
        usage=Usage(input_tokens=int(max(billed.input_tokens or 0, 0) + max(billed.image_tokens or 0, 0))),
        notes=(*notes, *(meta.warnings or ())),
    )
