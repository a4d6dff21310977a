"""
JSON schemas made fit for servers that know less of them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.errors import InvalidRequestError

__all__ = ["add_to_system", "fit_format", "fit_tool", "inline_refs", "schema_instruction"]


def fit_tool(tool: Any, *, strict: bool, inline: bool) -> Any:
    """A tool definition without ``strict`` or ``$defs`` where the server takes none."""
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        return tool
    fitted = dict(function) if strict else {name: value for name, value in function.items() if name != "strict"}
    if inline and isinstance(fitted.get("parameters"), dict):
        fitted["parameters"] = inline_refs(fitted["parameters"], str(fitted.get("name")))
    return {**tool, "function": fitted}


def fit_format(response_format: dict[str, Any], *, strict: bool, inline: bool) -> dict[str, Any]:
    """A ``response_format`` of type ``json_schema`` without ``strict`` or ``$defs`` where the server takes none."""
    holder = response_format.get("json_schema")
    if not isinstance(holder, dict):
        return response_format
    fitted = dict(holder) if strict else {name: value for name, value in holder.items() if name != "strict"}
    if inline and isinstance(fitted.get("schema"), dict):
        fitted["schema"] = inline_refs(fitted["schema"], str(fitted.get("name")))
    return {**response_format, "json_schema": fitted}


def inline_refs(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """
    A schema whose local references are replaced by what they mean.

    Raises:
        InvalidRequestError: a reference leads nowhere, or round in a circle.
    """
    inlined = _inline(schema, schema, (), name)
    if not isinstance(inlined, dict):
        raise InvalidRequestError(f"schema {name!r} is not an object; give a JSON schema of type 'object'")
    return {field: value for field, value in inlined.items() if field not in ("$defs", "definitions")}


def _inline(node: Any, root: dict[str, Any], trail: tuple[str, ...], name: str) -> Any:
    if isinstance(node, list):
        return [_inline(entry, root, trail, name) for entry in node]
    if not isinstance(node, dict):
        return node
    target = node.get("$ref")
    if not isinstance(target, str) or not target.startswith("#"):
        skipped = ("$defs", "definitions") if node is root else ()
        return {key: _inline(value, root, trail, name) for key, value in node.items() if key not in skipped}
    if target in trail:
        raise InvalidRequestError(
            f"schema {name!r} refers to itself at {target!r} and this server needs every reference inlined;"
            " give a schema that is not recursive or use another provider"
        )
    meant = _inline(_follow(root, target, name), root, (*trail, target), name)
    rest = {key: _inline(value, root, trail, name) for key, value in node.items() if key != "$ref"}
    return {**meant, **rest} if isinstance(meant, dict) else meant


def _follow(root: dict[str, Any], target: str, name: str) -> Any:
    found: Any = root
    for step in target.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
        if found is None:
            raise InvalidRequestError(f"schema {name!r} refers to {target!r}, which it does not hold; add it to $defs")
    return found


def schema_instruction(response_format: dict[str, Any]) -> str:
    """What a model is told when its server knows JSON output but no schemas."""
    holder = response_format.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, dict) else None
    text = msgspec.json.encode(schema if schema is not None else {}).decode()
    return f"Answer with one JSON object that fits this JSON schema, and with nothing else:\n{text}"


def add_to_system(messages: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The messages with a text at the end of the leading system message, or in a new one."""
    first = messages[0] if messages else None
    if first is None or first.get("role") not in ("system", "developer"):
        return [{"role": "system", "content": text}, *messages]
    content = first.get("content")
    if isinstance(content, list):
        content = [*content, {"type": "text", "text": text}]
    else:
        content = f"{content}\n\n{text}" if content else text
    return [{**first, "content": content}, *messages[1:]]
