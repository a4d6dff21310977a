"""
JSON schemas in the subset that Bedrock's structured outputs compile.

Every object is closed; keywords that are rejected are moved into the description, where the model at least reads them.
Sources, read 2026-11-21: https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html, and where the
service differs from it (bounds of lengths are taken, exclusive bounds are not), pydantic-ai-slim 2.68.0.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

__all__ = ["closed"]

_REJECTED = frozenset(
    (
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("maxItems", "contains", "additionalProperties", "$schema"),
    )
)
_SILENT = ("additionalProperties", "$schema")
_OF_SCHEMAS = ("anyOf", "oneOf", "allOf")
_OF_NAMED_SCHEMAS = ("properties", "$defs", "definitions")
# Lookaround and back references are not compiled.
_HARD_PATTERN = re.compile(r"\(\?[=!<P]|\\[0-9]")


def closed(schema: Any) -> Any:
    """A copy of a schema with every object closed and what cannot be compiled put into words."""
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    words: list[str] = []
    for key, value in schema.items():
        if key in _OF_SCHEMAS:
            result[key] = [closed(each) for each in value]
        elif key in _OF_NAMED_SCHEMAS:
            result[key] = {name: closed(each) for name, each in value.items()}
        elif key == "items":
            result[key] = closed(value)
        elif _compiles(key, value):
            result[key] = value
        elif key not in _SILENT:
            words.append(f"{key}: {msgspec.json.encode(value).decode()}")
    if schema.get("type") == "object" or "properties" in schema:
        result["additionalProperties"] = False
    if words:
        said = ", ".join(words)
        result["description"] = f"{result['description']} ({said})" if result.get("description") else said
    return result


def _compiles(key: str, value: Any) -> bool:
    if key == "minItems":
        return value in (0, 1)
    if key == "pattern":
        return _HARD_PATTERN.search(str(value)) is None
    return key not in _REJECTED
