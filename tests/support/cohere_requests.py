"""
Requests of Cohere's chat API as tests write them, with the rules of its row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llm_master.classes import Request
from llm_master.dialect_cohere import CohereDialect
from llm_master.errors import UnsupportedParameterError
from llm_master.wire import cohere as family

__all__ = ["DIALECT", "GOLDEN", "HI", "TOOL", "body", "dropping", "refused", "request"]

GOLDEN = Path(__file__).parents[1] / "wire" / "cohere"
DIALECT = msgspec.convert(json.loads((GOLDEN / "row.json").read_text())["cohere"], CohereDialect)
HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "now", "parameters": {"type": "object", "properties": {}}},
}


def request(model: str, messages: list[Any] | None = None, *, drop: bool = False, **params: Any) -> Request:
    """A request to the ``cohere`` row."""
    return Request("cohere", model, messages or HI, params, drop_params=drop)


def body(model: str, messages: list[Any] | None = None, **params: Any) -> dict[str, Any]:
    """The body that is sent, parsed."""
    found: dict[str, Any] = json.loads(family.encode(request(model, messages, **params), DIALECT))
    return found


def dropping(model: str, messages: list[Any] | None = None, **params: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body that is sent with ``drop_params``, and what was left out."""
    asked = request(model, messages, drop=True, **params)
    return json.loads(family.encode(asked, DIALECT)), asked.dropped


def refused(model: str, parameter: str, messages: list[Any] | None = None, **params: Any) -> str:
    """The text of the error that a parameter brings without ``drop_params``."""
    with pytest.raises(UnsupportedParameterError) as caught:
        body(model, messages, **params)
    assert caught.value.parameter == parameter
    for said in ("cohere", repr(model), "drop_params=True"):
        assert said in str(caught.value)
    return str(caught.value)
