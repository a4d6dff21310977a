"""
JSON schemas in the subset that Bedrock's structured outputs compile.

Every object is closed; keywords that are rejected are moved into the description, where the model at least reads them.
Sources, read 2026-11-21: https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html, and where the
service differs from it (bounds of lengths are taken, exclusive bounds are not), pydantic-ai-slim 2.68.0.
"""

from __future__ import annotations

import re
from typing import Any

from llm_master.subset import Subset, close, fitted

__all__ = ["closed"]

_REJECTED = frozenset(
    (
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("maxItems", "contains", "additionalProperties", "$schema"),
    )
)
# Lookaround and back references are not compiled.
_HARD_PATTERN = re.compile(r"\(\?[=!<P]|\\[0-9]")


def _compiles(key: str, value: Any) -> bool:
    if key == "minItems":
        return value in (0, 1)
    if key == "pattern":
        return _HARD_PATTERN.search(str(value)) is None
    return key not in _REJECTED


_COMPILED = Subset(
    takes=_compiles,
    lists={"anyOf": "anyOf", "oneOf": "oneOf", "allOf": "allOf"},
    nested=("items",),
    silent=("additionalProperties", "$schema"),
    finish=close,
)


def closed(schema: Any) -> Any:
    """A copy of a schema with every object closed and what cannot be compiled put into words."""
    return fitted(schema, _COMPILED)
