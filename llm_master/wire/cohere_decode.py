"""
The body of a whole answer as an ``LLMResponse``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llm_master.bodies import ODD_USAGE, UNREADABLE, mended, refused
from llm_master.classes import LLMResponse, Request, ToolCall
from llm_master.dialect_cohere import CohereDialect
from llm_master.wire.cohere_answer import Gathered, WireUsage, failure, respond
from llm_master.wire.cohere_draft import SCHEMA_TOOL, schema_tool_wanted

__all__ = ["decode"]


class _Item(msgspec.Struct):
    type: str = "text"
    text: str | None = None
    thinking: str | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Turn(msgspec.Struct):
    content: list[_Item] | None = None
    tool_calls: list[_Call] | None = None
    tool_plan: str | None = None
    citations: list[Any] | None = None


class _Answer(msgspec.Struct):
    message: _Turn
    id: str | None = None
    finish_reason: str | None = None
    usage: WireUsage | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def decode(
    body: bytes, request: Request, dialect: CohereDialect, *, rules: Mapping[str, str] | None = None
) -> LLMResponse:
    """
    Read an answer.

    Args:
        rules: the row's ``error_codes``.

    Raises:
        ProviderError: the body is an error object, or the answer ended in an error; typed by what it says.
        ResponseError: the body is not JSON, or holds no answer.
    """
    notes: tuple[str, ...] = ()
    try:
        answer = _ANSWER.decode(body)
    except UNREADABLE as error:
        answer, notes = mended(_ANSWER, body, error, WireUsage, ("usage",)), (ODD_USAGE,)
        if answer is None:
            raise refused(body, request, rules, error, _error_in) from error
    failed = failure(answer.finish_reason, None, request, rules, id=answer.id)
    if failed is not None:
        raise failed
    schema = bool(request.params) and schema_tool_wanted(request, dialect)
    gathered = Gathered()
    turn = answer.message
    for item in turn.content or ():
        if item.thinking:
            gathered.thoughts.append(item.thinking)
        elif item.text:
            gathered.texts.append(item.text)
    gathered.plan = turn.tool_plan or ""
    gathered.citations = turn.citations or []
    for number, call in enumerate(turn.tool_calls or ()):
        function = call.function or _Function()
        if schema and function.name == SCHEMA_TOOL:
            gathered.structured = function.arguments or "{}"
        else:
            gathered.calls.append(
                ToolCall(call.id or f"call_{number}", function.name or "", raw_arguments=function.arguments or "{}")
            )
    return respond(
        request,
        gathered,
        id=answer.id,
        usage=answer.usage or WireUsage(),
        reason=answer.finish_reason or "null",
        notes=notes,
        raw_body=body,
    )


def _error_in(found: dict[str, Any]) -> tuple[dict[str, Any], Any] | None:
    says = isinstance(found.get("message"), str) or found.get("error")
    return (found, found.get("id")) if says else None
