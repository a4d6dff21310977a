"""
Embeddings as Perplexity writes them: those of OpenAI, with each vector as base64 of signed bytes.

The numbers are -128 to 127 and of no unit length: compare them by cosine. Source:
https://docs.perplexity.ai/docs/embeddings/best-practices, read 2026-11-21.
"""

from __future__ import annotations

from typing import Any

from llm_master.answers import EmbeddingResponse
from llm_master.classes import Request
from llm_master.vectors import unpacked_int8
from llm_master.wire.openai_embeddings import encode, read

__all__ = ["decode", "encode"]


def decode(body: bytes, headers: Any, texts: list[str], request: Request) -> EmbeddingResponse:  # noqa: ARG001  # as all
    """The vectors in the order of the texts; raises as ``openai_embeddings.decode``."""
    return read(body, texts, request, unpacked_int8, "signed bytes")
