"""
A request as the JSON body of ``POST /responses``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.classes import Request
from llm_master.dialect_responses import ResponsesDialect
from llm_master.errors import InvalidRequestError
from llm_master.refusals import Refusals
from llm_master.wire.openai_responses_input import encode_input
from llm_master.wire.openai_responses_params import is_stateless, settle, wants_object
from llm_master.wire.openai_responses_plan import plan_for

__all__ = ["encode"]

_json = msgspec.json.Encoder().encode


def encode(request: Request, dialect: ResponsesDialect) -> bytes:
    """
    The JSON body of a request.

    The messages and parameters are not changed. What had to be left out or moved is listed in ``request.dropped``.

    Raises:
        UnsupportedParameterError: the model cannot take a parameter and ``request.drop_params`` is off.
        InvalidRequestError: something in the request cannot be sent.
    """
    plan = plan_for(dialect, request.model)
    refusals = Refusals(request)
    params = request.params
    system, items = encode_input(
        request,
        plan,
        refusals,
        # Of the instructions nothing counts as input, and JSON without a schema must be asked for there.
        instructions=params.get("instructions") is None and not wants_object(params),
        stateless=is_stateless(params),
    )
    body: dict[str, Any] = {"model": request.model}
    if system is not None:
        body["instructions"] = system
    body["input"] = items
    fields, extra = settle(request, plan, refusals)
    body.update(fields)
    if request.stream:
        body["stream"] = True
    body.update(extra)
    request.dropped = tuple(refusals.left_out)
    try:
        return _json(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequestError(
            f"{refusals.who}: the request cannot be written as JSON ({error});"
            " pass plain dicts, lists, texts and numbers"
        ) from error
