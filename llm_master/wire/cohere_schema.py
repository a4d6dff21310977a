"""
JSON schemas in the subset that Cohere's structured outputs know.

Keywords outside it are moved into the description, where the model at least reads them. Source:
https://docs.cohere.com/docs/structured-outputs, read 2026-11-21.
"""

from __future__ import annotations

from typing import Any

from llm_master import subset

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


def _known(key: str, value: Any) -> bool:
    if key == "format":
        return value in _FORMATS
    if key == "pattern":
        return not any(part in str(value) for part in _NOT_IN_PATTERNS)
    return key not in _UNKNOWN and key != "$schema"


def _require(result: dict[str, Any], schema: dict[str, Any]) -> None:  # noqa: ARG001  # every last change has both
    if result.get("properties") and not result.get("required"):
        result["required"] = [next(iter(result["properties"]))]


_KNOWN = subset.Subset(
    takes=_known,
    lists={"anyOf": "anyOf", "oneOf": "anyOf"},
    nested=("items", "additionalProperties"),
    silent=("$schema",),
    finish=_require,
)


def fitted(schema: Any) -> Any:
    """A copy of a schema in the subset; every object gets a required property, as the API wants."""
    return subset.fitted(schema, _KNOWN)
