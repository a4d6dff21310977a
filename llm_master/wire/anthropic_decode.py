"""
The body of a whole answer as an ``LLMResponse``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llm_master.bodies import ODD_USAGE, UNREADABLE, mended, refused
from llm_master.classes import LLMResponse, Request, ToolCall
from llm_master.rows import MessagesDialect
from llm_master.wire.anthropic_answer import Gathered, WireUsage, respond
from llm_master.wire.anthropic_draft import SCHEMA_TOOL, schema_tool_wanted
from llm_master.wire.anthropic_opaque import opaque_of
from llm_master.wire.anthropic_rules import rules_for

__all__ = ["decode"]

_NOTHING = msgspec.Raw(b"")


class _Block(msgspec.Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    id: str = ""
    name: str = ""
    input: msgspec.Raw = _NOTHING
    citations: list[Any] | None = None
    caller: Any = None
    toolset_name: Any = None


class _Message(msgspec.Struct):
    content: list[_Block]
    id: str | None = None
    model: str | None = None
    usage: WireUsage | None = None
    stop_reason: str | None = None
    stop_details: Any = None


class _Turn(msgspec.Struct):
    content: list[dict[str, Any]]


_MESSAGE = msgspec.json.Decoder(_Message)
_TURN = msgspec.json.Decoder(_Turn)


def decode(
    body: bytes, request: Request, dialect: MessagesDialect, *, rules: Mapping[str, str] | None = None
) -> LLMResponse:
    """
    Read an answer.

    Args:
        rules: the row's ``error_codes``.

    Raises:
        ProviderError: the body is an error object; typed by what it says.
        ResponseError: the body is not JSON, or not a message.
    """
    notes: tuple[str, ...] = ()
    try:
        message = _MESSAGE.decode(body)
    except UNREADABLE as error:
        message, notes = mended(_MESSAGE, body, error, WireUsage, ("usage",)), (ODD_USAGE,)
        if message is None:
            raise refused(body, request, rules, error, _error_in, what="no message") from error
    schema = bool(request.params) and schema_tool_wanted(request, rules_for(dialect, request.model))
    gathered = Gathered()
    plain = True
    for block in message.content:
        kind = block.type
        if kind == "text":
            if block.text:
                gathered.texts.append(block.text)
            if block.citations:
                gathered.citations.extend(block.citations)
        elif kind == "tool_use":
            arguments = bytes(block.input).decode() if block.input else "{}"
            if schema and block.name == SCHEMA_TOOL:
                gathered.structured = arguments
            else:
                gathered.calls.append(ToolCall(block.id, block.name, raw_arguments=arguments))
                plain = plain and block.caller is None and block.toolset_name is None
        else:
            plain = False
            if block.thinking:
                gathered.thoughts.append(block.thinking)
    return respond(
        request,
        gathered,
        id=message.id,
        model=message.model,
        usage=message.usage or WireUsage(),
        stop_reason=message.stop_reason or "null",
        stop_details=message.stop_details,
        opaque=None if plain else _opaque(body, request, schema=schema),
        notes=notes,
        raw_body=body,
    )


def _opaque(body: bytes, request: Request, *, schema: bool) -> dict[str, Any] | None:
    blocks = _TURN.decode(body).content
    return opaque_of((each for each in blocks if not (schema and each.get("name") == SCHEMA_TOOL)), request)


def _error_in(found: dict[str, Any]) -> tuple[dict[str, Any], Any] | None:
    return (found, found.get("request_id")) if "error" in found or found.get("type") == "error" else None
