"""
Requests of the Messages API as tests write them, with the rules of the shipped row.
"""

from __future__ import annotations

import json
from pathlib import Path

from llm_master.rows import ProviderRow
from llm_master.wire import anthropic_messages as family
from support.family_requests import HI, TOOL, Requests, call

__all__ = ["DIALECT", "HI", "TOOL", "body", "call", "dropping", "refused", "request"]

CATALOGUE = Path(__file__).parents[2] / "llm_master" / "catalogue" / "providers.json"
DIALECT = ProviderRow.parse("anthropic", json.loads(CATALOGUE.read_text())["anthropic"]).messages
_MADE = Requests("anthropic", family.encode, DIALECT)
request, body, dropping, refused = _MADE.request, _MADE.body, _MADE.dropping, _MADE.refused
