"""
Python functions as definitions of tools.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec

from llm_master.built import adapter_of
from llm_master.errors import InvalidRequestError

__all__ = ["definitions", "function_tool", "parameters_of"]

_SECTION = re.compile(r"^\s*(args|arguments|parameters)\s*:\s*$", re.IGNORECASE)
_OTHER_SECTION = re.compile(r"^\s*(returns?|raises?|yields?|examples?|notes?)\s*:\s*$", re.IGNORECASE)
_ENTRY = re.compile(r"^\s*\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")


def function_tool(function: Callable[..., Any]) -> dict[str, Any]:
    """
    The definition of a Python function as a tool: its types become the schema, its docstring the descriptions.

    Raises:
        InvalidRequestError: it has no name that can be sent, takes ``*args``, or a parameter has no JSON type.
    """
    name = getattr(function, "__name__", "")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        raise InvalidRequestError(f"tools: {function!r} has no name of letters, digits and _; define it with def")
    # A class without a docstring would show that of its base.
    text = None if inspect.isclass(function) and not function.__doc__ else inspect.getdoc(function)
    summary, described = _docstring(text or "")
    properties: dict[str, Any] = {}
    required = []
    defs: dict[str, Any] = {}
    for parameter, kind in parameters_of(function):
        schema, parts = _schema(name, parameter.name, kind)
        defs.update(parts)
        if parameter.name in described:
            schema = {**schema, "description": described[parameter.name]}
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
        properties[parameter.name] = schema
    parameters: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    parameters["additionalProperties"] = False
    if defs:
        parameters["$defs"] = defs
    return {"type": "function", "function": {"name": name, "description": summary, "parameters": parameters}}


def parameters_of(function: Callable[..., Any]) -> list[tuple[inspect.Parameter, Any]]:
    """
    The parameters of a function with their types; ``**kwargs`` is left out.

    Raises:
        InvalidRequestError: its types cannot be read, or a parameter cannot be given by name.
    """
    try:
        signature, hints = inspect.signature(function), get_type_hints(function, include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise InvalidRequestError(f"tools: the types of {function!r} cannot be read ({error}); annotate it") from error
    found = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise InvalidRequestError(
                f"tools: {function.__name__}({parameter}) cannot be given by name; use named parameters"
            )
        found.append((parameter, hints.get(parameter.name, Any)))
    return found


def _schema(tool: str, parameter: str, kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        if hasattr(kind, "model_json_schema"):
            schema = dict(kind.model_json_schema(ref_template="#/$defs/{model}"))
            return schema, schema.pop("$defs", {})
        adapter = adapter_of(kind)
        if adapter is not None:
            schema = dict(adapter.json_schema(ref_template="#/$defs/{model}"))
            return schema, schema.pop("$defs", {})
        (root,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    except (TypeError, NameError, RuntimeError) as error:  # the last is what pydantic's own derive from
        raise InvalidRequestError(f"tools: {tool}({parameter}: {kind!r}) has no JSON schema ({error})") from error
    return root, parts


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """The text before the sections, and what stands for each parameter in its section of arguments."""
    summary: list[str] = []
    described: dict[str, str] = {}
    where, last = "summary", ""
    for line in text.splitlines():
        if _SECTION.match(line):
            where = "arguments"
        elif _OTHER_SECTION.match(line):
            where = "other"
        elif where == "summary":
            summary.append(line)
        elif where == "arguments" and line.strip():
            entry = _ENTRY.match(line)
            if entry is not None:
                last = entry[1]
                described[last] = entry[2].strip()
            elif last:
                described[last] = f"{described[last]} {line.strip()}".strip()
    return "\n".join(summary).strip(), described


def definitions(tools: Any) -> Any:
    """The tools of a call with Python functions turned into definitions; the same object where there is none."""
    if not isinstance(tools, (list, tuple)) or not any(map(callable, tools)):
        return tools
    return [function_tool(tool) if callable(tool) else tool for tool in tools]
