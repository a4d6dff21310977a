"""
Embeddings as OpenAI-compatible servers speak them: ``POST {base}/embeddings``.

Source: the openai package 3.52.0, ``resources/embeddings.py``, read 2026-11-21.
"""

from __future__ import annotations

import base64
from array import array
from typing import Any

import msgspec

from llm_master.classes import EmbeddingResponse, Request, Usage
from llm_master.classify import error_from_object, excerpt
from llm_master.errors import InvalidRequestError, ResponseError

__all__ = ["PATH", "decode", "encode"]

PATH = "/embeddings"

_encoder = msgspec.json.Encoder()


class _Item(msgspec.Struct):
    embedding: list[float] | str
    index: int | None = None


class _Tokens(msgspec.Struct):
    prompt_tokens: int = 0
    total_tokens: int = 0


class _Answer(msgspec.Struct):
    data: list[_Item] | None = None
    model: str | None = None
    usage: _Tokens | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Answer)


def encode(texts: list[str], request: Request) -> bytes:
    """
    The JSON body.

    Raises:
        InvalidRequestError: no text, or something that is not a text.
    """
    if not texts:
        raise InvalidRequestError(f"no text to embed with {request.model!r}: give a string or a list of strings")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            raise InvalidRequestError(f"input[{index}] for {request.model!r} must be a text that is not empty")
    return _encoder.encode({"model": request.model, "input": texts, **request.params})


def decode(body: bytes, texts: list[str], request: Request) -> EmbeddingResponse:
    """
    The vectors in the order of the texts, whatever the order of the answer.

    Raises:
        ProviderError: the answer is an error, cannot be read, or does not hold one vector for each text.
    """
    who: dict[str, Any] = {"provider": request.provider, "model": request.model}
    try:
        answer = _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise ResponseError(
            f"{request.provider} answered {request.model!r} with something that is no embedding: {excerpt(body)};"
            " check the base URL",
            **who,
        ) from error
    if answer.error is not None:
        raise error_from_object({"error": answer.error}, **who)
    items = sorted(enumerate(answer.data or ()), key=lambda each: each[0] if each[1].index is None else each[1].index)
    if len(items) != len(texts):
        raise ResponseError(
            f"{request.provider} gave {len(items)} vectors for {len(texts)} texts with {request.model!r}; try again",
            **who,
        )
    used = answer.usage or _Tokens()
    return EmbeddingResponse(
        embeddings=[_vector(item.embedding) for _, item in items],
        model=answer.model,
        usage=Usage(input_tokens=used.prompt_tokens or used.total_tokens),
    )


def _vector(value: list[float] | str) -> list[float]:
    if isinstance(value, str):  # encoding_format="base64": little-endian 32-bit floats
        return list(array("f", base64.b64decode(value)))
    return value
