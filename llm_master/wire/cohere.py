"""
The wire family ``cohere``: ``POST {base}/chat`` of Cohere's version 2 API.

``encode`` writes a request's body (``cohere_encode`` and the files it names), ``decode`` reads a whole answer, and
``Fold`` a streamed one. Source: the OpenAPI description in cohere-ai/cohere-developer-experience and cohere 7.3.1,
read 2026-11-21.
"""

from __future__ import annotations

from llm_master.dialect_cohere import CohereDialect
from llm_master.wire.cohere_decode import decode
from llm_master.wire.cohere_encode import encode
from llm_master.wire.cohere_fold import Fold

__all__ = ["PATH", "Fold", "decode", "encode", "takes_prefill"]

PATH = "/chat"


def takes_prefill(dialect: CohereDialect, model: str) -> bool:  # noqa: ARG001  # every family has this signature
    """Whether the model goes on with an assistant's turn that stands last; no model here does."""
    return False
