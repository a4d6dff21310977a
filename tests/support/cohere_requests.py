"""
Requests of Cohere's chat API as tests write them, with the rules of its row.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from llm_master.dialect_cohere import CohereDialect
from llm_master.wire import cohere as family
from support.family_requests import HI, TOOL, Requests

__all__ = ["DIALECT", "GOLDEN", "HI", "TOOL", "body", "dropping", "refused", "request"]

GOLDEN = Path(__file__).parents[1] / "wire" / "cohere"
DIALECT = msgspec.convert(json.loads((GOLDEN / "row.json").read_text())["cohere"], CohereDialect)
_MADE = Requests("cohere", family.encode, DIALECT)
request, body, dropping, refused = _MADE.request, _MADE.body, _MADE.dropping, _MADE.refused
