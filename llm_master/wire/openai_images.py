"""
The wire family ``openai_images``: ``POST {base}/images/generations``, and ``/images/edits`` where pictures are given.

``encode`` writes a request's body, JSON or a form; ``where`` tells from the body to which path it goes and what it is;
``decode`` reads a whole answer, and ``Fold`` a streamed one. Source: the openai package 3.52.0 (``resources/images.py``
and its types), docs.x.ai/developers/model-capabilities/images, www.recraft.ai/docs and docs.together.ai, read
2026-11-21.
"""

from __future__ import annotations

from llm_master.dialect_images import ImagesDialect
from llm_master.wire.openai_images_decode import decode
from llm_master.wire.openai_images_encode import PATH, encode, readable, where
from llm_master.wire.openai_images_fold import Fold

__all__ = ["PATH", "Fold", "decode", "encode", "readable", "takes_prefill", "where"]


def takes_prefill(dialect: ImagesDialect, model: str) -> bool:  # noqa: ARG001  # every family has this signature
    """Whether the model goes on with an assistant's turn that stands last; no image is begun by the caller."""
    return False
