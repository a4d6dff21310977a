"""
Tools, tool choice and the shape of the answer.

A JSON schema goes into ``output_config.format`` where the model knows it. The others are made to call
``SCHEMA_TOOL``, whose arguments ``decode`` and ``Fold`` turn back into the answer's text.
"""

from __future__ import annotations

from typing import Any

from llm_master.errors import InvalidRequestError
from llm_master.subset import compilable
from llm_master.wire.anthropic_draft import SCHEMA_TOOL, Draft, schema_tool_wanted
from llm_master.wire.anthropic_schema import closed

__all__ = ["TOOLS", "write_tools"]

#: The parameters that are written here.
TOOLS = ("tools", "tool_choice", "parallel_tool_calls", "response_format")

_CHOICES = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
_FORCED = ("any", "tool")


def write_tools(draft: Draft) -> None:
    """
    Write ``tools``, ``tool_choice`` and ``output_config.format``; ``thinking`` must be there already.

    Raises:
        InvalidRequestError: a tool or a choice that cannot be read.
        UnsupportedParameterError: a forced tool where the model takes none, unless drop_params is set.
    """
    params = draft.params
    tools = [_tool(tool, draft) for tool in params.pop("tools", ())]
    choice = _choice(params.pop("tool_choice", None), draft)
    one_at_a_time = params.pop("parallel_tool_calls", None) is False
    if not tools and choice is not None:
        if choice["type"] in _FORCED:
            raise InvalidRequestError(f"{draft.target}: tool_choice forces a tool and tools is empty; give tools")
        choice = None
    if choice is not None and choice["type"] in _FORCED:
        choice = _forced(choice, draft)
    choice = _write_format(draft, tools, choice)
    if not tools and draft.has_calls:
        tools = _tools_of_history(draft)
        choice = {"type": "none"} if tools else None
    if not tools:
        return
    if one_at_a_time and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    draft.body["tools"] = tools
    if choice is not None:
        draft.body["tool_choice"] = choice


def _tool(tool: Any, draft: Draft) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise InvalidRequestError(f"{draft.target}: a tool is {type(tool).__name__}; give a dict")
    if "input_schema" in tool or tool.get("type") not in (None, "function"):
        return tool
    function = tool.get("function", tool)
    if not isinstance(function, dict) or not function.get("name"):
        raise InvalidRequestError(f"{draft.target}: a tool without a name; give its function's name and parameters")
    native = {name: value for name, value in tool.items() if name not in ("type", "function")}
    native.update(function)
    native.pop("type", None)
    native["input_schema"] = _object_schema(native.pop("parameters", None))
    loose = bool(native.get("strict")) and not compilable(native["input_schema"])
    if (loose or not draft.rules.native_schema) and native.pop("strict", None):
        draft.drop("tools.strict")
    if native.get("strict"):
        native["input_schema"] = closed(native["input_schema"])
    return {name: value for name, value in native.items() if value is not None}


def _object_schema(schema: Any) -> dict[str, Any]:
    if not schema:
        return {"type": "object", "properties": {}}
    return schema if "type" in schema else {"type": "object", **schema}


def _choice(choice: Any, draft: Draft) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice.lower() in _CHOICES:
        return {"type": _CHOICES[choice.lower()]}
    if isinstance(choice, dict):
        kind = choice.get("type")
        if kind in ("auto", "any", "tool", "none"):
            return dict(choice)
        name = choice.get("name") or (choice.get("function") or {}).get("name")
        if kind == "function" and name:
            return {"type": "tool", "name": name}
    raise InvalidRequestError(
        f"{draft.target}: tool_choice {choice!r} is not known; give 'auto', 'none', 'required' or "
        '{"type": "function", "function": {"name": ...}}'
    )


def _forced(choice: dict[str, Any], draft: Draft) -> dict[str, Any]:
    why = _no_forcing(draft)
    if why is None:
        return choice
    draft.refuse("tool_choice", why, "use 'auto' and ask for the tool in the prompt")
    name = choice.get("name")
    draft.instructions.append(f"Call the tool {name!r}." if name else "Call at least one of the tools.")
    return {"type": "auto", **{key: value for key, value in choice.items() if key not in ("type", "name")}}


def _no_forcing(draft: Draft) -> str | None:
    if draft.rules.no_forced_tools:
        return "it cannot be forced to call a tool"
    thinking = draft.body.get("thinking")
    if draft.dialect.strict_thinking and isinstance(thinking, dict) and thinking.get("type") == "enabled":
        return "it cannot be forced to call a tool while it thinks with a budget"
    return None


def _write_format(draft: Draft, tools: list[dict[str, Any]], choice: dict[str, Any] | None) -> dict[str, Any] | None:
    wanted = draft.params.pop("response_format", None)
    if wanted is None:
        return choice
    kind = draft.format_kind(wanted)
    if kind == "json_object":
        draft.instructions.append("Answer with one JSON object and nothing else.")
    elif kind == "json_schema":
        return _write_schema(draft, wanted, tools, choice)
    return choice


def _write_schema(
    draft: Draft, wanted: dict[str, Any], tools: list[dict[str, Any]], choice: dict[str, Any] | None
) -> dict[str, Any] | None:
    definition = draft.definition(wanted)
    schema = definition["schema"]
    description = definition.get("description")
    if not schema_tool_wanted(draft.request, draft.rules):
        if description and "description" not in schema:
            schema = {**schema, "description": description}
        draft.body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": closed(schema)}
        return choice
    tool = {
        "name": SCHEMA_TOOL,
        "description": description or "Give your answer with this tool.",
        "input_schema": _object_schema(schema),
    }
    usable = bool(tools) and (choice is None or choice["type"] != "none")
    if not usable:
        tools.clear()
    tools.append(tool)
    if choice is not None and choice["type"] == "tool":
        return choice
    if _no_forcing(draft) is not None:
        draft.instructions.append(f"Give your final answer by calling the tool {SCHEMA_TOOL!r} once.")
        return {"type": "auto"}
    return {"type": "any"} if usable else {"type": "tool", "name": SCHEMA_TOOL, "disable_parallel_tool_use": True}


def _tools_of_history(draft: Draft) -> list[dict[str, Any]]:
    # Tool blocks in the history are rejected when no tool is defined, as in a fallback, which gets no parameters.
    names: dict[str, None] = {}
    for message in draft.body["messages"]:
        if message["role"] == "assistant" and not isinstance(message["content"], str):
            names.update((block["name"], None) for block in message["content"] if block["type"] == "tool_use")
    return [{"name": name, "input_schema": _object_schema(None)} for name in names]
