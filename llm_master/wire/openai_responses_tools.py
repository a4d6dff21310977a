"""
Tools, tool choice and the shape of the answer, flat as this API wants them.

The provider's own tools, and what is in this API's form already, pass unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_master.dialect_responses import ResponsesDialect
from llm_master.errors import InvalidRequestError
from llm_master.refusals import Refusals

__all__ = ["flat_choice", "flat_format", "flat_tool", "is_forced", "search_tool"]

_CHOICES = {"auto": "auto", "none": "none", "required": "required", "any": "required"}


def flat_tool(tool: Any, dialect: ResponsesDialect, refusals: Refusals) -> dict[str, Any]:
    """
    One tool.

    Raises:
        InvalidRequestError: it is no dict, or a function without a name.
    """
    if not isinstance(tool, Mapping):
        raise InvalidRequestError(f"{refusals.who}: a tool is a {type(tool).__name__}; give a dict")
    if "cache_control" in tool:
        refusals.note("cache_control")
        tool = {field: value for field, value in tool.items() if field != "cache_control"}
    kind = tool.get("type") or "function"
    # The Messages API calls a function a custom tool.
    if kind != "function" and "input_schema" not in tool:
        return _custom(tool) if kind == "custom" else dict(tool)
    return _function(tool, dialect, refusals)


def _function(tool: Mapping[str, Any], dialect: ResponsesDialect, refusals: Refusals) -> dict[str, Any]:
    inner = tool.get("function")
    made = {field: value for field, value in tool.items() if field != "function"}
    if isinstance(inner, Mapping):
        made.update(inner)
    if "input_schema" in made:
        made["parameters"] = made.pop("input_schema")
    if not made.get("name"):
        raise InvalidRequestError(f"{refusals.who}: a tool without a name; give its function's name and parameters")
    if made.get("parameters") is None:
        made["parameters"] = {"type": "object", "properties": {}}
    if dialect.strict_tools:
        # Left out, it would mean true: the server would make every parameter a required one.
        made["strict"] = bool(made.get("strict"))
    elif made.pop("strict", None):
        refusals.note("tools.strict")
    return {**{field: value for field, value in made.items() if value is not None}, "type": "function"}


def _custom(tool: Mapping[str, Any]) -> dict[str, Any]:
    inner = tool.get("custom")
    made = dict(inner) if isinstance(inner, Mapping) else {k: v for k, v in tool.items() if k != "type"}
    shape = made.get("format")
    if isinstance(shape, Mapping) and isinstance(shape.get("grammar"), Mapping):
        made["format"] = {"type": "grammar", **shape["grammar"]}
    return {"type": "custom", **made}


def search_tool(options: Any) -> dict[str, Any]:
    """The web search tool for chat completions' ``web_search_options``."""
    made: dict[str, Any] = {"type": "web_search"}
    for field, value in options.items() if isinstance(options, Mapping) else ():
        if field == "user_location" and isinstance(value, Mapping) and isinstance(value.get("approximate"), Mapping):
            made[field] = {"type": "approximate", **value["approximate"]}
        else:
            made[field] = value
    return made


def flat_choice(choice: Any, refusals: Refusals) -> Any:
    """
    A tool choice: a word, a function, one of the provider's tools, or a list of allowed ones.

    Raises:
        InvalidRequestError: it is none of these.
    """
    if isinstance(choice, str) and choice.lower() in _CHOICES:
        return _CHOICES[choice.lower()]
    if isinstance(choice, Mapping) and isinstance(kind := choice.get("type"), str):
        if kind in _CHOICES:
            return _CHOICES[kind]
        if kind == "allowed_tools":
            inner = choice.get("allowed_tools")
            allowed = inner if isinstance(inner, Mapping) else choice
            tools = [_reference(tool) for tool in allowed.get("tools") or ()]
            return {"type": kind, "mode": allowed.get("mode", "auto"), "tools": tools}
        made = _reference(choice)
        if made["type"] not in ("function", "custom") or made.get("name"):
            return made
    raise InvalidRequestError(
        f"{refusals.who}: tool_choice {choice!r} is not known; give 'auto', 'none', 'required' or "
        '{"type": "function", "function": {"name": ...}}'
    )


def _reference(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, Mapping):
        return {"type": "function", "name": tool}
    kind = "function" if tool.get("type") == "tool" else tool.get("type", "function")
    inner = tool.get(kind)
    if isinstance(inner, Mapping):
        return {"type": kind, **inner}
    return {**tool, "type": kind}


def is_forced(choice: Any) -> bool:
    """Whether a flat choice makes the model call some tool."""
    if isinstance(choice, dict):
        return choice.get("type") != "allowed_tools" or choice.get("mode") == "required"
    return bool(choice == "required")


def flat_format(wanted: Any, dialect: ResponsesDialect, refusals: Refusals) -> dict[str, Any] | None:
    """
    The ``text.format`` for a ``response_format``; None for plain text, which needs none.

    Raises:
        InvalidRequestError: its type is unknown, or it holds no schema.
    """
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind == "text":
        return None
    if kind in ("json_object", "grammar"):
        return dict(wanted)
    if kind != "json_schema":
        raise InvalidRequestError(
            f"{refusals.who}: response_format {wanted!r} is not known; its type is text, json_object or json_schema"
        )
    inner = wanted.get("json_schema")
    made = dict(inner) if isinstance(inner, Mapping) else {k: v for k, v in wanted.items() if k != "type"}
    if not isinstance(made.get("schema"), Mapping):
        raise InvalidRequestError(f"{refusals.who}: response_format json_schema holds no schema")
    if not dialect.strict_tools and made.pop("strict", None):
        refusals.note("response_format.strict")
    made.setdefault("name", "answer")
    return {"type": "json_schema", **{field: value for field, value in made.items() if value is not None}}
