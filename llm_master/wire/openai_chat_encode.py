"""
A request as the JSON body of ``POST /chat/completions``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError
from llm_master.rows import ChatDialect
from llm_master.wire.openai_chat_messages import encode_messages
from llm_master.wire.openai_chat_params import settle
from llm_master.wire.openai_chat_plan import Plan, plan_for
from llm_master.wire.openai_chat_schema import add_to_system, schema_instruction
from llm_master.wire.openai_chat_tools import offer_by_schema

__all__ = ["encode"]

_USAGE = {"include_usage": True}
_json = msgspec.json.Encoder().encode


def encode(request: Request, dialect: ChatDialect) -> bytes:
    """
    The JSON body of a request.

    The messages and parameters are not changed. What had to be left out or moved is listed in ``request.dropped``.

    Raises:
        UnsupportedParameterError: the server cannot take a parameter and ``request.drop_params`` is off.
        InvalidRequestError: something in the request cannot be sent.
    """
    plan = plan_for(dialect, request.model)
    dialect = plan.dialect
    messages, params = request.messages, request.params
    left_out: list[str] = []
    if dialect.tools_via == "schema" or dialect.json_schema == "object":
        params, messages = _by_prompt(request, dialect)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": encode_messages(messages, request, plan, left_out),
    }
    if dialect.prefill == "prefix" and messages[-1].get("role") == "assistant":
        turns = body["messages"]
        body["messages"] = [*turns[:-1], {**turns[-1], "prefix": True}]
    if request.stream:
        body["stream"] = True
        if dialect.stream_options:
            body["stream_options"] = _USAGE
    if params:
        _add_params(body, params, request, plan, left_out)
    for name, value in dialect.defaults.items():
        body.setdefault(name, value)
    request.dropped = tuple(left_out) if left_out else ()
    try:
        return _json(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequestError(
            f"{request.provider}/{request.model}: the request cannot be written as JSON ({error});"
            " pass plain dicts, lists, texts and numbers"
        ) from error


def _add_params(
    body: dict[str, Any], params: dict[str, Any], request: Request, plan: Plan, left_out: list[str]
) -> None:
    if plan.inspected.isdisjoint(params) and None not in params.values():
        expected = len(body) + len(params)
        renames = plan.renames
        if renames.keys().isdisjoint(params):
            body.update(params)
        else:
            for name, value in params.items():
                body[renames.get(name, name)] = value
        if len(body) == expected:
            return
    body.update(settle(params, request, plan, left_out))


def _by_prompt(request: Request, dialect: ChatDialect) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Parameters and messages where the prompt says what the server's own parameters cannot."""
    params, messages = request.params, request.messages
    if dialect.tools_via == "schema":
        params, messages = offer_by_schema(request, params, messages)
    wanted = params.get("response_format")
    if dialect.json_schema == "object" and isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        messages = add_to_system(messages, schema_instruction(wanted))
    return params, messages
