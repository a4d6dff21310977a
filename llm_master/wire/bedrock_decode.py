"""
The body of a whole answer as an ``LLMResponse``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llm_master.bodies import ODD_USAGE, UNREADABLE, mended, refused
from llm_master.classes import LLMResponse, Request
from llm_master.dialect_bedrock import BedrockDialect
from llm_master.wire.bedrock_answer import End, WireUsage, respond
from llm_master.wire.bedrock_draft import schema_tool_wanted

__all__ = ["decode"]


class _Message(msgspec.Struct):
    content: list[dict[str, Any]]


class _Output(msgspec.Struct):
    message: _Message


class _Answer(End, rename="camel", kw_only=True):
    output: _Output


_ANSWER = msgspec.json.Decoder(_Answer)


def decode(
    body: bytes, request: Request, dialect: BedrockDialect, *, rules: Mapping[str, str] | None = None
) -> LLMResponse:
    """
    Read an answer.

    Args:
        rules: the row's ``error_codes``.

    Raises:
        ProviderError: the body is an error object; typed by what it says.
        ResponseError: the body is not JSON, or holds no answer.
    """
    notes: tuple[str, ...] = ()
    try:
        answer = _ANSWER.decode(body)
    except UNREADABLE as error:
        answer, notes = mended(_ANSWER, body, error, WireUsage, ("usage",)), (ODD_USAGE,)
        if answer is None:
            raise refused(body, request, rules, error, _error_in) from error
    if answer.stop_reason is None:
        answer.stop_reason = "null"
    schema = bool(request.params) and schema_tool_wanted(request, dialect)
    return respond(request, answer.output.message.content, answer, schema=schema, notes=notes, raw_body=body)


def _error_in(found: dict[str, Any]) -> tuple[dict[str, Any], Any] | None:
    # Some of the service's errors spell it with a capital.
    said = found.get("message") or found.get("Message") or found.get("error")
    if not said:
        return None
    code = str(found.get("__type") or found.get("code") or "").rpartition("#")[2]
    return ({"error": said} if isinstance(said, dict) else {"message": said, "code": code}), None
