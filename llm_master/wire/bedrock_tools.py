"""
Tools, tool choice and the shape of the answer.

A JSON schema goes into ``outputConfig`` where the model knows it. The others are made to call ``SCHEMA_TOOL``, whose
arguments ``decode`` and ``Fold`` turn back into the answer's text.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.subset import compilable
from llm_master.wire.bedrock_blocks import SERVER_TOOL, Block, cache_point
from llm_master.wire.bedrock_draft import SCHEMA_TOOL, Draft
from llm_master.wire.bedrock_schema import closed

__all__ = ["write_tools"]

_AUTO, _NONE, _ANY = "auto", "none", "any"
_CHOICES = {"auto": _AUTO, "none": _NONE, "required": _ANY, "any": _ANY}
_NATIVE = ("toolSpec", "systemTool", "cachePoint")
_VALID_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class _Choice(msgspec.Struct):
    """Which tools may be called: ``kind``, and the ``name`` of the only one or None."""

    kind: str
    name: str | None = None

    @property
    def forced(self) -> bool:
        return self.kind == _ANY


def write_tools(draft: Draft) -> None:
    """
    Write ``toolConfig`` and ``outputConfig``; the fields of reasoning must be there already.

    Raises:
        InvalidRequestError: a tool or a choice that cannot be read.
        UnsupportedParameterError: what the model cannot do, unless drop_params is set.
    """
    params = draft.params
    tools = [block for tool in params.pop("tools", ()) for block in _tool(tool, draft)]
    tools += _searching(draft)
    choice = _choice(params.pop("tool_choice", None), draft)
    serial = params.pop("parallel_tool_calls", None) is False
    if tools and not draft.dialect.tools:
        draft.refuse("tools", "it calls no tools", "use a model that does")
        tools, choice = [], _Choice(_AUTO)
    if not tools and choice.forced:
        raise InvalidRequestError(f"{draft.target}: tool_choice forces a tool and tools is empty; give tools")
    if choice.forced:
        choice = _forced(choice, draft)
    choice = _write_format(draft, tools, choice)
    if "toolConfig" in draft.body:
        return
    if not tools and draft.has_calls:
        # The API rejects a history with tool calls when no tool is defined, as in a fallback, which gets no parameters.
        tools, choice = _tools_of_history(draft), _Choice(_NONE)
        draft.merge(draft.dialect.no_tools)
    elif choice.kind == _NONE and tools:
        tools = _bar(draft, tools)
    if tools:
        _write_config(draft, tools, choice, serial=serial)


def _write_config(draft: Draft, tools: list[Block], choice: _Choice, *, serial: bool) -> None:
    config: dict[str, Any] = {"tools": tools}
    if choice.forced:
        config["toolChoice"] = {"tool": {"name": choice.name}} if choice.name else {"any": {}}
    if serial and choice.kind != _NONE:
        if draft.dialect.serial_tools:
            draft.merge(draft.dialect.serial_tools)
            config.setdefault("toolChoice", {"auto": {}})
        else:
            draft.refuse("parallel_tool_calls", "it may always make several calls at once", "take the first call only")
    draft.body["toolConfig"] = config


def _bar(draft: Draft, tools: list[Block]) -> list[Block]:
    """The tools to be defined although none may be called: none at all, unless the history has calls."""
    if not draft.has_calls:
        draft.drop("tools")
        return []
    if draft.dialect.no_tools:
        draft.merge(draft.dialect.no_tools)
    else:
        draft.refuse("tool_choice", "it cannot be kept from calling tools", "ask for it in the prompt")
        draft.instructions.append("Call no tools.")
    return tools


def _tool(tool: Any, draft: Draft) -> list[Block]:
    if not isinstance(tool, dict):
        raise InvalidRequestError(f"{draft.target}: a tool is {type(tool).__name__}; give a dict")
    native = next((kind for kind in _NATIVE if isinstance(tool.get(kind), dict)), None)
    if native is not None:
        return [{native: tool[native]}]
    if tool.get("type") not in (None, "function"):
        known = "it has web_search_options" if draft.dialect.web_search else "give a function"
        raise UnsupportedParameterError(
            f"{draft.target} has no built-in tool {tool['type']!r}; {known}, or use a provider that has it",
            parameter="tools",
        )
    function = tool.get("function", tool)
    if not isinstance(function, dict) or not function.get("name"):
        raise InvalidRequestError(f"{draft.target}: a tool without a name; give its function's name and parameters")
    if not _VALID_NAME.fullmatch(function["name"]):
        raise InvalidRequestError(
            f"{draft.target}: the tool name {function['name']!r} is not accepted;"
            " take up to 64 of the characters a-z, A-Z, 0-9, _ and -"
        )
    spec: dict[str, Any] = {"name": function["name"]}
    if function.get("description"):
        spec["description"] = function["description"]
    schema = _object_schema(function.get("parameters") or function.get("input_schema"))
    if function.get("strict"):
        if draft.dialect.strict_tools and compilable(schema):
            spec["strict"] = True
            schema = closed(schema)
        else:
            draft.drop("tools.strict")
    spec["inputSchema"] = {"json": schema}
    mark = tool.get("cache_control") or function.get("cache_control")
    point = cache_point(mark, draft, tools=True) if mark else None
    return [{"toolSpec": spec}, point] if point is not None else [{"toolSpec": spec}]


def _object_schema(schema: Any) -> dict[str, Any]:
    if not schema:
        return {"type": "object", "properties": {}}
    return schema if "type" in schema else {"type": "object", **schema}


def _searching(draft: Draft) -> list[Block]:
    options = draft.params.pop("web_search_options", None)
    if options is None:
        return []
    if draft.dialect.web_search is None:
        draft.refuse("web_search_options", "it does not search", "give a tool of your own that does")
        return []
    if options:
        draft.drop("web_search_options." + next(iter(options)))
    return [{"systemTool": {"name": draft.dialect.web_search}}]


def _choice(choice: Any, draft: Draft) -> _Choice:
    if choice is None:
        return _Choice(_AUTO)
    if isinstance(choice, str) and choice.lower() in _CHOICES:
        return _Choice(_CHOICES[choice.lower()])
    if isinstance(choice, dict):
        kind = choice.get("type")
        name = choice.get("name") or (choice.get("function") or {}).get("name")
        if kind in ("function", "tool") and name:
            return _Choice(_ANY, name)
        if kind in _CHOICES:
            return _Choice(_CHOICES[kind])
    raise InvalidRequestError(
        f"{draft.target}: tool_choice {choice!r} is not known; give 'auto', 'none', 'required' or "
        '{"type": "function", "function": {"name": ...}}'
    )


def _forced(choice: _Choice, draft: Draft) -> _Choice:
    why = _no_forcing(draft)
    if why is None:
        return choice
    draft.refuse("tool_choice", why, "use 'auto' and ask for the tool in the prompt")
    draft.instructions.append(f"Call the tool {choice.name!r}." if choice.name else "Call at least one of the tools.")
    return _Choice(_AUTO)


def _no_forcing(draft: Draft) -> str | None:
    if not draft.dialect.forced_tools:
        return "it cannot be forced to call a tool"
    if not draft.goes_with_reasoning("forced_tools"):
        return "it cannot be forced to call a tool while it reasons"
    return None


def _write_format(draft: Draft, tools: list[Block], choice: _Choice) -> _Choice:
    wanted = draft.params.pop("response_format", None)
    if wanted is None:
        return choice
    kind = draft.format_kind(wanted)
    if kind == "json_object":
        draft.instructions.append("Answer with one JSON object and nothing else.")
    elif kind == "json_schema":
        return _write_schema(draft, wanted, tools, choice)
    return choice


def _write_schema(draft: Draft, wanted: dict[str, Any], tools: list[Block], choice: _Choice) -> _Choice:
    definition = draft.definition(wanted)
    schema = definition["schema"]
    if draft.schema_tool:
        return _add_schema_tool(draft, definition, tools, choice)
    if not draft.dialect.native_schema:
        draft.refuse("response_format", "it knows no schema and calls no tools", "ask for JSON in the prompt")
        return choice
    if not compilable(schema):
        draft.refuse("response_format", "its schemas name every field and do not contain themselves", "name the fields")
        return choice
    text = msgspec.json.encode(closed(_object_schema(schema))).decode()
    structure = {"schema": text, "name": definition.get("name"), "description": definition.get("description")}
    form = {
        "type": "json_schema",
        "structure": {"jsonSchema": {key: value for key, value in structure.items() if value}},
    }
    draft.body["outputConfig"] = {"textFormat": form, **draft.body.get("outputConfig", {})}
    return choice


def _add_schema_tool(draft: Draft, definition: dict[str, Any], tools: list[Block], choice: _Choice) -> _Choice:
    if choice.kind == _NONE:
        if tools:
            draft.drop("tools")
        tools.clear()
    alone = not tools
    spec = {
        "name": SCHEMA_TOOL,
        "description": definition.get("description") or "Give your answer with this tool.",
        "inputSchema": {"json": _object_schema(definition["schema"])},
    }
    tools.append({"toolSpec": spec})
    if choice.name is not None:
        return choice
    if _no_forcing(draft) is not None:
        draft.instructions.append(f"Give your final answer by calling the tool {SCHEMA_TOOL!r} once.")
        return _Choice(_AUTO)
    return _Choice(_ANY, SCHEMA_TOOL) if alone else _Choice(_ANY)


def _tools_of_history(draft: Draft) -> list[Block]:
    found: dict[str, Block] = {}
    for message in draft.body["messages"]:
        for call in (block["toolUse"] for block in message["content"] if "toolUse" in block):
            name = call["name"]
            spec = {"name": name, "inputSchema": {"json": _object_schema(None)}}
            own = call.get("type") == SERVER_TOOL
            found[name] = {"systemTool": {"name": name}} if own else {"toolSpec": spec}
    return list(found.values())
