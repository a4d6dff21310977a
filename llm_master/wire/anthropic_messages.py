"""
The wire family ``anthropic_messages``: ``POST {base}/messages`` of Anthropic and the servers that speak like it.

``encode`` writes a request's body (``anthropic_encode`` and the files it names), ``decode`` reads a whole answer, and
``Fold`` a streamed one.
"""

from __future__ import annotations

from llm_master.wire.anthropic_cache import cache_places
from llm_master.wire.anthropic_decode import decode
from llm_master.wire.anthropic_encode import encode
from llm_master.wire.anthropic_fold import Fold
from llm_master.wire.anthropic_rules import takes_prefill

__all__ = ["PATH", "Fold", "cache_places", "decode", "encode", "takes_prefill"]

PATH = "/messages"
