"""
A whole answer, and the errors that hide in one.
"""

from __future__ import annotations

from collections.abc import Mapping

from llm_master.bodies import as_object, no_answer, unreadable
from llm_master.bodies import hidden_error as error_in
from llm_master.classes import LLMResponse, Request, Usage
from llm_master.classify import error_from_object
from llm_master.errors import ProviderError, ResponseError
from llm_master.events import StreamEvent
from llm_master.rows import ChatDialect
from llm_master.wire.openai_chat_draft import Draft
from llm_master.wire.openai_chat_plan import Plan, plan_for
from llm_master.wire.openai_chat_shapes import Answer, Choice, Turn, decode_shape, read_shape, tier_of
from llm_master.wire.openai_chat_usage import bill_of

__all__ = ["decode", "failed_choice", "hidden_error", "no_choices"]

# Finish reasons that depend on what else the answer holds, or are errors.
_DERIVED = ("tool_calls", "error")


def decode(
    body: bytes, request: Request, dialect: ChatDialect, *, rules: Mapping[str, str] | None = None
) -> LLMResponse:
    """
    The answer in a body that came with HTTP 200.

    Args:
        rules: the row's ``error_codes``.

    Raises:
        ProviderError: the body holds an error instead, typed by what it says.
        ResponseError: the body cannot be read or holds no answer.
    """
    plan = plan_for(dialect, request.model)
    usual = plan.plain_text
    try:
        answer = decode_shape(body)
    except (ValueError, RecursionError):
        usual = False
        try:
            answer = read_shape(body)
        except ValueError as error:
            raise unreadable(body, request) from error
    choices = answer.choices
    if answer.error or not choices:
        raise hidden_error(body, request, rules) or no_choices(body, request)
    choice = choices[0] if len(choices) == 1 else _first(choices)
    turn = choice.message or choice.delta
    word = choice.finish_reason
    reason = plan.finish.get(word) if word is not None else None
    usual = usual and not choice.error
    if not usual or turn is None or reason is None or reason in _DERIVED or not _is_text(turn):
        failure = failed_choice(choice, request, plan, rules)
        if failure is not None:
            raise failure
        return _decode_rest(answer, choice, body, request, plan)
    usage, cost = bill_of(answer, body, plan)
    return LLMResponse(
        turn.content,  # type: ignore[arg-type]  # _is_text says that it is a str
        "",
        usage if usage is not None else Usage(),
        0.0,
        reason,
        answer.model,
        request.provider,
        citations=answer.citations or [],
        request_id=answer.id,
        dropped=request.dropped,
        reported_cost=cost,
        service_tier=answer.service_tier or tier_of(answer),
        raw_body=body,
    )


def _is_text(turn: Turn) -> bool:
    return turn.content.__class__ is str and not (
        turn.tool_calls
        or turn.reasoning_content
        or turn.reasoning
        or turn.refusal
        or turn.reasoning_details
        or turn.annotations
        or turn.audio
        or turn.images
        or turn.function_call
    )


def _first(choices: list[Choice]) -> Choice:
    """The choice with index 0; the others are in ``raw``."""
    return next((choice for choice in choices if choice.index == 0), choices[0])


def _decode_rest(
    answer: Answer,
    choice: Choice,
    body: bytes,
    request: Request,
    plan: Plan,
) -> LLMResponse:
    """An answer with more than plain text."""
    draft = Draft(request, plan)
    events: list[str | StreamEvent] = []
    draft.head(answer)
    draft.bill(*bill_of(answer, body, plan), events)
    turn = choice.message or choice.delta
    if turn is not None:
        draft.add(turn, events, whole=True)
    draft.reason = choice.finish_reason or ("tool_calls" if draft.calls else None)
    draft.settle(events, cut=False)
    return draft.response(body)


def failed_choice(
    choice: Choice, request: Request, plan: Plan, rules: Mapping[str, str] | None
) -> ProviderError | None:
    """The error of a choice that ended in one, else None."""
    word = choice.finish_reason
    if not choice.error and (not word or plan.finish.get(word.lower()) != "error"):
        return None
    said = {"message": f"the provider ended the answer with finish_reason {word!r}", "code": word}
    return error_from_object(
        {"error": choice.error or said}, provider=request.provider, model=request.model, rules=rules
    )


def hidden_error(payload: bytes, request: Request, rules: Mapping[str, str] | None) -> ProviderError | None:
    """The error in a payload that came with HTTP 200, None when it holds none."""
    found = as_object(payload)
    first = found[0] if isinstance(found, list) and found else found
    status = first.get("base_resp") if isinstance(first, dict) else None
    if isinstance(status, dict) and status.get("status_code"):
        found = {"message": str(status.get("status_msg")), "code": status["status_code"]}
    return error_in(found, request, rules)


def no_choices(body: bytes, request: Request) -> ResponseError:
    """The error for JSON that is neither an answer nor an error."""
    return no_answer(body, request, "JSON without choices", "try again or use another model", status=None)
