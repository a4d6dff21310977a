"""
A whole answer, and the errors that hide in one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from llm_master.bodies import ODD_USAGE, UNREADABLE, mended, no_answer
from llm_master.classes import LLMResponse, Request
from llm_master.classify import error_from_object
from llm_master.dialect_gemini import GeminiDialect
from llm_master.errors import ProviderError
from llm_master.wire.gemini_answer import Gathered, Piece
from llm_master.wire.gemini_shapes import ANSWER, Answer, UsageBody, read_answer

__all__ = ["decode", "failure_in", "hidden_error"]


def decode(
    body: bytes, request: Request, dialect: GeminiDialect, *, rules: Mapping[str, str] | None = None
) -> LLMResponse:
    """
    Read an answer; a list of chunks, as the API streams without ``alt=sse``, is one too.

    Args:
        rules: the row's ``error_codes``.

    Raises:
        ContentPolicyError: the prompt was blocked.
        ProviderError: the body is an error object; typed by what it says.
        ResponseError: the body is not JSON, or holds no candidate.
    """
    gathered = Gathered(request, dialect)
    out: list[Piece] = []
    found = False
    for payload, answer in _answers(body, request, rules, gathered.note):
        failure = failure_in(answer, request, rules, found=found)
        if failure is not None:
            raise failure
        found = found or bool(answer.candidates)
        gathered.take(answer, payload, out, whole=True)
    if not found:
        raise no_answer(body, request, "JSON without candidates")
    gathered.settle(out)
    response = gathered.response(body)
    if response.finish_reason is None:
        response.finish_reason = "error"
        response.notes = (*response.notes, "the answer has no finishReason")
    return response


def _answers(
    body: bytes, request: Request, rules: Mapping[str, str] | None, note: Callable[[str], None]
) -> list[tuple[bytes, Answer]]:
    try:
        return [(body, read_answer(body))]
    except UNREADABLE as error:
        whole: Answer | None = mended(ANSWER, body, error, UsageBody, ("usageMetadata",))
        if whole is not None:
            note(ODD_USAGE)
            return [(body, whole)]
        try:
            found = msgspec.json.decode(body)
            if isinstance(found, list) and found and hidden_error(found, request, rules) is None:
                pieces = [msgspec.json.encode(each) for each in found]
                return [(piece, read_answer(piece)) for piece in pieces]
        except UNREADABLE:
            raise no_answer(body, request, "something else than JSON") from error
        failure = hidden_error(found, request, rules)
        raise failure or no_answer(body, request, f"no answer ({error})") from error


def hidden_error(found: Any, request: Request, rules: Mapping[str, str] | None) -> ProviderError | None:
    """The error in decoded JSON that came with HTTP 200, also one in a list; None when it holds none."""
    first = found[0] if isinstance(found, list) and found else found
    if not isinstance(first, dict) or not first.get("error"):
        return None
    return error_from_object(first, provider=request.provider, model=request.model, rules=rules)


def failure_in(
    answer: Answer, request: Request, rules: Mapping[str, str] | None, *, found: bool
) -> ProviderError | None:
    """
    The error that an answer or chunk stands for, None for a good one.

    Args:
        found: whether candidates came before.
    """
    if answer.error:
        body: dict[str, Any] = {"error": answer.error}
    elif answer.candidates or found or answer.prompt_feedback is None:
        return None
    else:
        reason = answer.prompt_feedback.block_reason
        if reason in (None, "BLOCKED_REASON_UNSPECIFIED"):
            return None
        said = answer.prompt_feedback.block_reason_message
        message = f"the prompt was blocked: {reason}" + (f" ({said})" if said else "")
        body = {"error": {"code": 400, "message": message, "type": reason, "status": "content_filter"}}
    return error_from_object(
        body, provider=request.provider, model=request.model, rules=rules, request_id=answer.response_id
    )
