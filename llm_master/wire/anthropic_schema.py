"""
JSON schemas in the subset that the Messages API compiles (strict tools and ``output_config.format``).

The API wants every object closed and rejects keywords that it cannot compile, bounds and patterns among them.
"""

from __future__ import annotations

from typing import Any

from llm_master.subset import Subset, close, fitted

__all__ = ["closed"]

_KEPT = frozenset(("type", "enum", "const", "$ref", "title", "description", "required"))
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"),
)


def _compiles(key: str, value: Any) -> bool:
    if key == "format":
        return value in _FORMATS
    if key == "minItems":
        return value in (0, 1)
    return key in _KEPT


_COMPILED = Subset(
    takes=_compiles,
    lists={"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"},
    nested=("items",),
    silent=("additionalProperties", "$schema"),
    finish=close,
)


def closed(schema: Any) -> Any:
    """A copy of a schema with every object closed and what cannot be compiled put into words."""
    return fitted(schema, _COMPILED)
