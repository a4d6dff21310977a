"""
The wire family ``bedrock``: Converse and ConverseStream of Amazon Bedrock.

``encode`` writes a request's body (``bedrock_encode`` and the files it names), ``decode`` reads a whole answer, and
``Fold`` a streamed one, whose bytes are binary messages (``bedrock_frames``). The model stands in the path. Source:
botocore 1.44.5, bedrock-runtime 2023-09-30, read 2026-11-21.
"""

from __future__ import annotations

from urllib.parse import quote

from llm_master.dialect_bedrock import BedrockDialect, bedrock_profile
from llm_master.wire.bedrock_decode import decode
from llm_master.wire.bedrock_encode import encode
from llm_master.wire.bedrock_fold import Fold

__all__ = ["PATH", "Fold", "cache_places", "decode", "encode", "path", "takes_prefill"]


def path(model: str, stream: bool) -> str:
    """The path of a model, percent-encoded: an id holds colons, an ARN slashes too."""
    return f"/model/{quote(model, safe='-._~')}/{'converse-stream' if stream else 'converse'}"


PATH = path


def takes_prefill(dialect: BedrockDialect, model: str) -> bool:
    """Whether the model goes on with an assistant's turn that stands last."""
    return bedrock_profile(dialect, model).prefill


def cache_places(dialect: BedrockDialect, model: str) -> tuple[bool, bool]:
    """Whether a model takes marks of its prompt cache in messages, and in tools."""
    profile = bedrock_profile(dialect, model)
    return profile.cache, profile.cache and profile.cache_tools
