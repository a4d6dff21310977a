"""
Requests of Converse as tests write them, with the rules of its row.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from llm_master.dialect_bedrock import BedrockDialect
from llm_master.wire import bedrock as family
from support.event_stream import stream
from support.family_requests import HI, TOOL, Requests, call

__all__ = ["CLAUDE", "DIALECT", "GOLDEN", "HI", "TOOL", "body", "call", "dropping", "refused", "request", "stream_of"]

GOLDEN = Path(__file__).parents[1] / "wire" / "bedrock"
DIALECT = msgspec.convert(json.loads((GOLDEN / "row.json").read_text())["bedrock"], BedrockDialect)
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
_MADE = Requests("bedrock", family.encode, DIALECT)
request, body, dropping, refused = _MADE.request, _MADE.body, _MADE.dropping, _MADE.refused


def stream_of(name: str) -> bytes:
    """The bytes of a golden stream, whose events stand one a line."""
    lines = (GOLDEN / f"{name}.events.jsonl").read_text().splitlines()
    return stream(json.loads(line) for line in lines)
