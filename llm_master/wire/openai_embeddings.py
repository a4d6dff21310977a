"""
Embeddings as OpenAI-compatible servers speak them: ``POST {base}/embeddings``.

Source: the openai package 3.52.0, ``resources/embeddings.py``, read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from llm_master.answers import EmbeddingResponse
from llm_master.classes import Request, Usage
from llm_master.classify import error_from_object
from llm_master.errors import ResponseError
from llm_master.operations import Operation, miscounted, provider_params, read_body, unreadable
from llm_master.vectors import unpacked

__all__ = ["decode", "encode", "read"]

_encoder = msgspec.json.Encoder()


class _Item(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None


class _Tokens(msgspec.Struct):
    prompt_tokens: int | None = 0
    total_tokens: int | None = 0


class _Answer(msgspec.Struct):
    data: list[_Item] | None = None
    model: str | None = None
    usage: _Tokens | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Answer)


def encode(texts: list[str], request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """The JSON body, and no header of its own."""
    return _encoder.encode({"model": request.model, "input": texts, **provider_params(operation, request)}), {}


def decode(body: bytes, headers: Any, texts: list[str], request: Request) -> EmbeddingResponse:  # noqa: ARG001  # as all
    """
    The vectors in the order of the texts, whatever the order of the answer.

    Raises:
        ProviderError: the answer is an error, cannot be read, or does not hold one vector for each text.
    """
    return read(body, texts, request, unpacked)


def read(
    body: bytes, texts: list[str], request: Request, unpack: Callable[[str], list[float]], what: str = "32-bit floats"
) -> EmbeddingResponse:
    """As ``decode``; ``unpack`` reads a vector that is a text, of base64 of ``what``."""
    who: dict[str, Any] = {"provider": request.provider, "model": request.model}
    answer, notes = read_body(_decoder, body, "embedding", request, (_Tokens, ("usage",)))
    if answer.error is not None:
        raise error_from_object({"error": answer.error}, **who)
    items = sorted(enumerate(answer.data or ()), key=lambda each: each[0] if each[1].index is None else each[1].index)
    places = [place if item.index is None else item.index for place, item in items]
    if places != list(range(len(texts))):
        raise miscounted(len(items), len(texts), "vectors", request)
    used = answer.usage or _Tokens()
    try:
        vectors = [unpack(value) if isinstance(value := item.embedding, str) else value for _, item in items]
    except ValueError as error:
        raise ResponseError(
            f"{request.provider} gave a vector for {request.model!r} that is no base64 of {what}; try again"
            " without encoding_format",
            **who,
        ) from error
    if len({len(vector) for vector in vectors}) != 1 or not vectors[0]:
        raise unreadable(body, "embedding", request)
    given = max(used.prompt_tokens or used.total_tokens or 0, 0)
    return EmbeddingResponse(embeddings=vectors, model=answer.model, usage=Usage(input_tokens=given), notes=notes)
