"""
JSON schemas in the subset that the Messages API compiles (strict tools and ``output_config.format``).

The API wants every object closed and rejects keywords that it cannot compile, bounds and patterns among them. Such
keywords are moved into the description, where the model at least reads them; that is what the vendor's SDK does too
(anthropic-python 2.11.0, seen 2026-11-21).
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["closed"]

_KEPT = frozenset(("type", "enum", "const", "$ref", "title", "description", "required"))
_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"),
)
_OF_SCHEMAS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_OF_NAMED_SCHEMAS = ("properties", "$defs", "definitions")


def closed(schema: Any) -> Any:
    """A copy of a schema with every object closed and what cannot be compiled put into words."""
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    words: list[str] = []
    for key, value in schema.items():
        if key in _OF_SCHEMAS:
            result.setdefault(_OF_SCHEMAS[key], []).extend(closed(each) for each in value)
        elif key in _OF_NAMED_SCHEMAS:
            result[key] = {name: closed(each) for name, each in value.items()}
        elif key == "items":
            result[key] = closed(value)
        elif _compiles(key, value):
            result[key] = value
        elif key not in ("additionalProperties", "$schema"):
            words.append(f"{key}: {msgspec.json.encode(value).decode()}")
    if schema.get("type") == "object" or "properties" in schema:
        result["additionalProperties"] = False
    if words:
        said = ", ".join(words)
        result["description"] = f"{result['description']} ({said})" if result.get("description") else said
    return result


def _compiles(key: str, value: Any) -> bool:
    if key == "format":
        return value in _FORMATS
    if key == "minItems":
        return value in (0, 1)
    return key in _KEPT
