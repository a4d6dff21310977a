"""
A whole answer, and the errors that hide in one.
"""

from __future__ import annotations

from collections.abc import Mapping

from llm_master.bodies import as_object, unreadable
from llm_master.bodies import hidden_error as error_in
from llm_master.classes import LLMResponse, Request
from llm_master.dialect_responses import ResponsesDialect
from llm_master.errors import ProviderError
from llm_master.wire.openai_responses_answer import failure, read_answer, respond
from llm_master.wire.openai_responses_items import gather
from llm_master.wire.openai_responses_plan import plan_for

__all__ = ["decode", "hidden_error"]

# What an answer without output may be; anything else is no answer.
_WITHOUT_OUTPUT = ("queued", "in_progress", "failed", "cancelled")


def decode(
    body: bytes, request: Request, dialect: ResponsesDialect, rules: Mapping[str, str] | None = None
) -> LLMResponse:
    """
    The answer in a body that came with HTTP 200.

    Args:
        rules: the row's ``error_codes``.

    Raises:
        ProviderError: the body holds an error, or the model's run failed; typed by what it says.
        ResponseError: the body cannot be read or holds no answer.
    """
    try:
        answer = read_answer(body)
    except (ValueError, RecursionError) as error:
        raise hidden_error(body, request, rules) or unreadable(body, request) from error
    output = answer.output
    if not isinstance(output, list) and answer.status not in _WITHOUT_OUTPUT:
        raise hidden_error(body, request, rules) or unreadable(body, request, "JSON without output")
    failed = failure(answer, request, rules)
    if failed is not None:
        raise failed
    gathered = gather(output if isinstance(output, list) else ())
    return respond(answer, gathered, request, plan_for(dialect, request.model), raw_body=body)


def hidden_error(body: bytes, request: Request, rules: Mapping[str, str] | None) -> ProviderError | None:
    """The error in JSON that came with HTTP 200 and is no answer; None when it holds none."""
    try:
        found = as_object(body)
    except (ValueError, RecursionError):
        return None
    return error_in(found, request, rules)
