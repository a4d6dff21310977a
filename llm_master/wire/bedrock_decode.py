"""
The body of a whole answer as an ``LLMResponse``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from llm_master.classes import LLMResponse, Request
from llm_master.classify import error_from_object, excerpt
from llm_master.dialect_bedrock import BedrockDialect
from llm_master.errors import ResponseError
from llm_master.wire.bedrock_answer import UNREADABLE, End, respond
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
    try:
        answer = _ANSWER.decode(body)
    except UNREADABLE as error:
        _refuse(body, request, error, rules)
    if answer.stop_reason is None:
        answer.stop_reason = "null"
    schema = bool(request.params) and schema_tool_wanted(request, dialect)
    return respond(request, answer.output.message.content, answer, schema=schema, raw_body=body)


def _refuse(body: bytes, request: Request, cause: Exception, rules: Mapping[str, str] | None) -> NoReturn:
    provider, model = request.provider, request.model
    try:
        found = msgspec.json.decode(body)
    except UNREADABLE:
        what = "not JSON"
    else:
        # Some of the service's errors spell it with a capital.
        said = (found.get("message") or found.get("Message") or found.get("error")) if isinstance(found, dict) else None
        if said:
            code = str(found.get("__type") or found.get("code") or "").rpartition("#")[2]
            raise error_from_object(
                {"error": said} if isinstance(said, dict) else {"message": said, "code": code},
                provider=provider,
                model=model,
                rules=rules,
            ) from cause
        what = f"no answer ({cause})"
    raise ResponseError(
        f"{provider} answered {model!r} with {what}: {excerpt(body)}; try again or check the base URL",
        provider=provider,
        model=model,
        status_code=200,
        body=excerpt(body),
    ) from cause
