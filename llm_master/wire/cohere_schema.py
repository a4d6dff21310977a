"""
JSON schemas in the subset that Cohere's structured outputs know.

Keywords outside it are moved into the description, where the model at least reads them. Source:
https://docs.cohere.com/docs/structured-outputs, read 2026-11-21.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["fitted"]

_UNKNOWN = frozenset(
    (
        *("allOf", "not", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minItems", "maxItems", "uniqueItems", "contains", "minLength", "maxLength"),
        *("minProperties", "maxProperties", "propertyNames", "patternProperties", "dependentRequired"),
    )
)
_FORMATS = frozenset(("date-time", "uuid", "date", "time"))
_NOT_IN_PATTERNS = ("^", "$", "?=", "?!")
_OF_SCHEMAS = {"anyOf": "anyOf", "oneOf": "anyOf"}
_OF_NAMED_SCHEMAS = ("properties", "$defs", "definitions")


def fitted(schema: Any) -> Any:
    """A copy of a schema in the subset; every object gets a required property, as the API wants."""
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    words: list[str] = []
    for key, value in schema.items():
        if key in _OF_SCHEMAS:
            result.setdefault(_OF_SCHEMAS[key], []).extend(fitted(each) for each in value)
        elif key in _OF_NAMED_SCHEMAS:
            result[key] = {name: fitted(each) for name, each in value.items()}
        elif key in ("items", "additionalProperties"):
            result[key] = fitted(value)
        elif _known(key, value):
            result[key] = value
        elif key != "$schema":
            words.append(f"{key}: {msgspec.json.encode(value).decode()}")
    if result.get("properties") and not result.get("required"):
        result["required"] = [next(iter(result["properties"]))]
    if words:
        said = ", ".join(words)
        result["description"] = f"{result['description']} ({said})" if result.get("description") else said
    return result


def _known(key: str, value: Any) -> bool:
    if key == "format":
        return value in _FORMATS
    if key == "pattern":
        return not any(part in str(value) for part in _NOT_IN_PATTERNS)
    return key not in _UNKNOWN and key != "$schema"
