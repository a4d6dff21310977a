"""
JSON schemas in the part of the language that an API compiles.

Keywords outside it are moved into the description, where the model at least reads them; that is what vendors' own
packages do too (anthropic-python 2.11.0, seen 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

__all__ = ["Subset", "close", "fitted"]

_OF_NAMED_SCHEMAS = ("properties", "$defs", "definitions")


class Subset(msgspec.Struct, frozen=True):
    """
    What an API compiles.

    Attributes:
        takes: whether a keyword is taken with a value.
        lists: keyword of alternatives -> the one under which they are sent.
        nested: keywords whose value is a schema.
        silent: keywords that are left out without a word.
        finish: a last change of a schema that was fitted; it is given that and the caller's.
    """

    takes: Callable[[str, Any], bool]
    lists: Mapping[str, str]
    nested: tuple[str, ...]
    silent: tuple[str, ...]
    finish: Callable[[dict[str, Any], dict[str, Any]], None]


def fitted(schema: Any, subset: Subset) -> Any:
    """A copy of a schema in a subset."""
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    words: list[str] = []
    for key, value in schema.items():
        if key in subset.lists:
            result.setdefault(subset.lists[key], []).extend(fitted(each, subset) for each in value)
        elif key in _OF_NAMED_SCHEMAS:
            result[key] = {name: fitted(each, subset) for name, each in value.items()}
        elif key in subset.nested:
            result[key] = fitted(value, subset)
        elif subset.takes(key, value):
            result[key] = value
        elif key not in subset.silent:
            words.append(f"{key}: {msgspec.json.encode(value).decode()}")
    subset.finish(result, schema)
    if words:
        said = ", ".join(words)
        result["description"] = f"{result['description']} ({said})" if result.get("description") else said
    return result


def close(result: dict[str, Any], schema: dict[str, Any]) -> None:
    """Close an object: it has no properties but those that are named."""
    if schema.get("type") == "object" or "properties" in schema:
        result["additionalProperties"] = False
