"""
JSON schemas in the part of the language that an API compiles.

Keywords outside it are moved into the description, where the model at least reads them; that is what vendors' own
packages do too (anthropic-python 2.11.0, seen 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

__all__ = ["Subset", "close", "compilable", "fitted", "referred"]

_OF_NAMED_SCHEMAS = ("properties", "$defs", "definitions")
# Keys that hold values, not schemas.
_VALUES = frozenset(("enum", "const", "default", "examples"))


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


def compilable(schema: Any) -> bool:
    """
    Whether an API that closes every object can hold an answer to a schema.

    It cannot where the names of an object are free: closed, that object would stay empty. Nor where the schema contains
    itself: https://platform.claude.com/docs/en/build-with-claude/structured-outputs and
    https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html (read 2026-11-21).
    """
    return not _beyond(schema, schema, (), set())


def _beyond(node: Any, root: Any, inside: tuple[str, ...], seen: set[str]) -> bool:
    if isinstance(node, list):
        return any(_beyond(each, root, inside, seen) for each in node)
    if not isinstance(node, dict):
        return False
    if _is_open(node):
        return True
    reference = node.get("$ref")
    if isinstance(reference, str):
        if reference in inside:
            return True
        if reference not in seen:
            seen.add(reference)
            if _beyond(referred(reference, root), root, (*inside, reference), seen):
                return True
    parts = [each for key in _OF_NAMED_SCHEMAS if isinstance(held := node.get(key), dict) for each in held.values()]
    others = (each for key, each in node.items() if key not in _VALUES and key not in _OF_NAMED_SCHEMAS)
    return any(_beyond(each, root, inside, seen) for each in (*parts, *others))


def _is_open(node: dict[str, Any]) -> bool:
    extra = node.get("additionalProperties")
    if "patternProperties" in node or extra not in (None, False):
        return True
    return extra is None and node.get("type") == "object" and "properties" not in node


def referred(reference: str, root: Any) -> Any:
    """What a reference means in a schema, None for nothing."""
    if not reference.startswith("#"):
        return None
    node = root
    for part in filter(None, reference[1:].split("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            node = node[int(name)] if name.isdecimal() and int(name) < len(node) else None
        else:
            node = node.get(name) if isinstance(node, dict) else None
    return node
