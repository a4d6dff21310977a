"""
Tools for models whose servers do not offer them reliably: the answer is forced into a JSON schema.

The schema is ``anyOf`` of one ``{"name": <tool>, "arguments": {...}}`` a tool and, where the model may also answer in
words, ``{"answer": text}``. Earlier calls and results become plain text of the same form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.rows import ChatDialect
from llm_master.wire.openai_chat_schema import add_to_system, inline_refs

_TEXT = {"type": "text", "text": ""}.keys()

__all__ = ["offer_by_schema", "offered_names", "plain_history"]


def offered_names(request: Request, dialect: ChatDialect) -> frozenset[str] | None:
    """The tools that a request offers by schema, None when it offers none that way."""
    if dialect.tools_via != "schema":
        return None
    tools, choice = request.params.get("tools"), request.params.get("tool_choice")
    if not tools or choice == "none":
        return None
    return frozenset(_chosen(_functions(tools, request), choice, request))


def offer_by_schema(
    request: Request, params: dict[str, Any], messages: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """
    Parameters and messages that offer the tools of ``params`` by schema instead.

    Raises:
        UnsupportedParameterError: a tool is not a function.
        InvalidRequestError: ``tool_choice`` names a tool that is not there.
    """
    messages = plain_history(messages)
    params = dict(params)
    tools, choice = params.pop("tools", None), params.pop("tool_choice", None)
    params.pop("parallel_tool_calls", None)
    if not tools or choice == "none":
        return params, messages
    functions = _chosen(_functions(tools, request), choice, request)
    forms = [_form(function) for function in functions.values()]
    free = choice in (None, "auto")
    if free:
        answer = _answer_schema(params.get("response_format"))
        forms.append(_object({"answer": answer}))
    schema = forms[0] if len(forms) == 1 else {"anyOf": forms}
    params["response_format"] = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
    return params, add_to_system(messages, _listing(functions, free=free))


def _functions(tools: Any, request: Request) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for tool in tools:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise UnsupportedParameterError(
                f"{request.provider}/{request.model} takes tools of type 'function' with a name only;"
                " leave the others out",
                parameter="tools",
            )
        found[function["name"]] = dict(function)
    return found


def _chosen(functions: dict[str, dict[str, Any]], choice: Any, request: Request) -> dict[str, dict[str, Any]]:
    if not isinstance(choice, Mapping):
        return functions
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    if name not in functions:
        raise InvalidRequestError(
            f"{request.provider}/{request.model}: tool_choice names {name!r}, which is not among the tools;"
            f" known: {', '.join(functions)}"
        )
    return {name: functions[name]}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _form(function: dict[str, Any]) -> dict[str, Any]:
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    # References would point outside the form that holds them.
    return _object({"name": {"const": function["name"]}, "arguments": inline_refs(parameters, function["name"])})


def _answer_schema(response_format: Any) -> dict[str, Any]:
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "json_schema":
        holder = response_format["json_schema"]
        return inline_refs(holder.get("schema") or {}, str(holder.get("name")))
    return {"type": "object"} if kind == "json_object" else {"type": "string"}


def _listing(functions: dict[str, dict[str, Any]], *, free: bool) -> str:
    lines = [f"- {name}: {function.get('description') or 'no description'}" for name, function in functions.items()]
    how = 'To use a tool, reply with {"name": "<tool>", "arguments": {...}}.'
    if free:
        how += ' To answer without a tool, reply with {"answer": "<text>"}.'
    return "\n".join(["You can use these tools:", *lines, how])


def plain_history(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose tool calls and results are plain text; all others are the same objects."""
    calls: dict[Any, str] = {}
    plain: list[dict[str, Any]] = []
    results: dict[str, Any] | None = None
    for message in messages:
        role = message.get("role")
        if role in ("tool", "function"):
            text = _result(message, calls)
            if results is None:
                results = {"role": "user", "content": text}
                plain.append(results)
            else:
                results["content"] = _join(results["content"], text)
            known = ("role", "content", "tool_call_id", "name", "opaque")
            results.update({field: value for field, value in message.items() if field not in known})
            continue
        results = None
        called = role == "assistant" and message.get("tool_calls")
        plain.append(_with_calls(message, calls) if called else message)
    return plain


def _with_calls(message: dict[str, Any], calls: dict[Any, str]) -> dict[str, Any]:
    lines = []
    for call in message["tool_calls"]:
        function = call.get("function") or {}
        arguments = function.get("arguments") or "{}"
        if not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        name = str(function.get("name"))
        calls[call.get("id")] = f"{name}({arguments})"
        lines.append(f'{{"name": {msgspec.json.encode(name).decode()}, "arguments": {arguments}}}')
    text = "\n".join(lines)
    content = message.get("content")
    kept = {field: value for field, value in message.items() if field != "tool_calls"}
    return {**kept, "content": _join(content, text) if content else text}


def _result(message: dict[str, Any], calls: dict[Any, str]) -> str | list[Any]:
    name = calls.get(message.get("tool_call_id")) or message.get("name") or "the tool"
    head = f"Result of {name}:"
    content = message.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, dict) and part.keys() == _TEXT for part in content):
            return [{"type": "text", "text": head}, *content]
        content = "\n".join(part["text"] for part in content)
    return f"{head}\n{content or ''}"


def _join(first: str | list[Any], second: str | list[Any]) -> str | list[Any]:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n{second}"
    return [*_parts(first), *_parts(second)]


def _parts(content: str | list[Any]) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]
