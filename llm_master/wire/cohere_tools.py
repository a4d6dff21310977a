"""
Tools, tool choice and the shape of the answer.

``response_format`` does not go with tools or documents
(https://docs.cohere.com/docs/structured-outputs, read 2026-11-21). With tools the model is made to call
``SCHEMA_TOOL``, whose arguments ``decode`` and ``Fold`` turn back into the answer's text.
"""

from __future__ import annotations

from typing import Any

from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.wire.cohere_draft import SCHEMA_TOOL, Draft
from llm_master.wire.cohere_schema import fitted

__all__ = ["write_tools"]

_AUTO, _NONE, _REQUIRED = "auto", "none", "required"
_CHOICES = {"auto": _AUTO, "none": _NONE, "required": _REQUIRED, "any": _REQUIRED}
_JSON = "Answer with one JSON object and nothing else."


def write_tools(draft: Draft) -> None:
    """
    Write ``tools``, ``tool_choice``, ``strict_tools`` and ``response_format``.

    Raises:
        InvalidRequestError: a tool, a choice or a schema that cannot be read.
        UnsupportedParameterError: what the model cannot do, unless drop_params is set.
    """
    params = draft.params
    given = params.pop("tools", ())
    choice, name = _choice(params.pop("tool_choice", None), draft)
    if params.pop("parallel_tool_calls", None) is False and given:
        draft.refuse("parallel_tool_calls", "it may always make several calls at once", "take the first call only")
    if given and not draft.dialect.tools:
        draft.refuse("tools", "it calls no tools", "use a model that does, such as command-a-plus-05-2026")
        given, choice, name = (), _AUTO, None
    tools = [_tool(tool, draft) for tool in given]
    if name is not None and not any(tool["function"]["name"] == name for tool in tools):
        raise InvalidRequestError(f"{draft.target}: tool_choice names {name!r}, which is not among tools")
    if choice == _REQUIRED and not tools:
        raise InvalidRequestError(f"{draft.target}: tool_choice forces a tool and tools is empty; give tools")
    if name is not None:
        # There is no way to name a tool, so it is the only one on offer.
        tools = [tool for tool in tools if tool["function"]["name"] == name]
    choice = _write_format(draft, tools, choice, named=name is not None)
    if tools:
        _write_strict(draft, tools)
        draft.body["tools"] = tools
        _write_choice(draft, choice, name)


def _choice(choice: Any, draft: Draft) -> tuple[str, str | None]:
    if choice is None:
        return _AUTO, None
    if isinstance(choice, str) and choice.lower() in _CHOICES:
        return _CHOICES[choice.lower()], None
    if isinstance(choice, dict):
        kind = choice.get("type")
        name = choice.get("name") or (choice.get("function") or {}).get("name")
        if kind in ("function", "tool") and name:
            return _REQUIRED, name
        if kind in _CHOICES:
            return _CHOICES[kind], None
    raise InvalidRequestError(
        f"{draft.target}: tool_choice {choice!r} is not known; give 'auto', 'none', 'required' or "
        '{"type": "function", "function": {"name": ...}}'
    )


def _write_choice(draft: Draft, choice: str, name: str | None) -> None:
    if choice == _AUTO:
        return
    if draft.dialect.tool_choice:
        draft.body["tool_choice"] = "NONE" if choice == _NONE else "REQUIRED"
        return
    if choice == _NONE:
        # Without tools the model calls none.
        del draft.body["tools"]
        draft.body.pop("strict_tools", None)
        draft.drop("tools")
        return
    if not draft.schema_tool:
        draft.refuse("tool_choice", "it cannot be forced to call a tool", "use 'auto' and ask for it in the prompt")
        draft.instructions.append(f"Call the tool {name!r}." if name else "Call at least one of the tools.")


def _tool(tool: Any, draft: Draft) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise InvalidRequestError(f"{draft.target}: a tool is {type(tool).__name__}; give a dict")
    if tool.get("type") not in (None, "function"):
        raise UnsupportedParameterError(
            f"{draft.target} has no built-in tool {tool['type']!r}; give a function, or use a provider that has it",
            parameter="tools",
        )
    function = tool.get("function", tool)
    if not isinstance(function, dict) or not function.get("name"):
        raise InvalidRequestError(f"{draft.target}: a tool without a name; give its function's name and parameters")
    if tool.get("cache_control") or function.get("cache_control"):
        draft.drop("cache_control")
    sent = {
        key: value
        for key, value in function.items()
        if value is not None and key not in ("type", "cache_control", "input_schema")
    }
    sent["parameters"] = _object_schema(sent.get("parameters") or function.get("input_schema") or {"properties": {}})
    return {"type": "function", "function": sent}


def _write_strict(draft: Draft, tools: list[dict[str, Any]]) -> None:
    wishes = [tool["function"].pop("strict", None) for tool in tools]
    if "strict_tools" in draft.params or not any(wishes):
        return
    # It holds for all tools, and each must have a required parameter.
    fitting = all(wishes) and all(tool["function"]["parameters"].get("required") for tool in tools)
    if fitting and draft.dialect.strict_tools:
        draft.body["strict_tools"] = True
        for tool in tools:
            tool["function"]["parameters"] = fitted(tool["function"]["parameters"])
    else:
        draft.drop("tools.strict")


def _write_format(draft: Draft, tools: list[dict[str, Any]], choice: str, *, named: bool) -> str:
    wanted = draft.params.pop("response_format", None)
    if wanted is None:
        return choice
    kind = draft.format_kind(wanted)
    if kind == "json_object":
        schema = wanted.get("json_schema") or wanted.get("schema")
        if not isinstance(schema, dict):
            _write_object(draft, alone=not tools)
            return choice
        wanted = {"json_schema": {"schema": schema}}
    elif kind == "text":
        return choice
    definition = draft.definition(wanted)
    if draft.schema_tool:
        # Where one tool is named, the model calls that one.
        return choice if named else _add_schema_tool(draft, definition, tools)
    _write_schema(draft, definition, tools)
    return choice


def _write_object(draft: Draft, *, alone: bool) -> None:
    if alone and draft.dialect.native_schema and not draft.params.get("documents"):
        draft.body["response_format"] = {"type": "json_object"}
        if _says_json(draft):
            return
    # Unless the messages ask for JSON, the model may write blanks without end.
    draft.instructions.append(_JSON)


def _says_json(draft: Draft) -> bool:
    return any("json" in str(message.get("content")).lower() for message in draft.request.messages)


def _add_schema_tool(draft: Draft, definition: dict[str, Any], tools: list[dict[str, Any]]) -> str:
    function = {
        "name": SCHEMA_TOOL,
        "description": definition.get("description") or "Give your final answer with this tool.",
        "parameters": _object_schema(definition["schema"]),
    }
    tools.append({"type": "function", "function": function})
    if not draft.dialect.tool_choice:
        draft.instructions.append(f"Give your final answer by calling the tool {SCHEMA_TOOL!r} once.")
    return _REQUIRED


def _write_schema(draft: Draft, definition: dict[str, Any], tools: list[dict[str, Any]]) -> None:
    if not draft.dialect.native_schema:
        draft.refuse("response_format", "it knows no schema and calls no tools", "ask for JSON in the prompt")
        return
    if draft.params.get("documents"):
        draft.refuse("response_format", "a schema does not go with documents", "put the documents into the messages")
        return
    if tools:
        # They are barred by tool_choice, and a schema does not go with them.
        tools.clear()
        draft.drop("tools")
    schema, description = _object_schema(definition["schema"]), definition.get("description")
    if description and "description" not in schema:
        schema = {**schema, "description": description}
    draft.body["response_format"] = {"type": "json_object", "json_schema": fitted(schema)}
    if not _says_json(draft):
        draft.instructions.append(_JSON)


def _object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return schema if "type" in schema else {"type": "object", **schema}
