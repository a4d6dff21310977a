"""
How much a model reasons: ``reasoning_effort``, ``thinking_budget`` and their kin in the words of this API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_master.dialect_responses import ResponsesDialect
from llm_master.efforts import effort_for
from llm_master.errors import InvalidRequestError
from llm_master.refusals import Refusals

__all__ = ["settle_reasoning"]


def settle_reasoning(given: dict[str, Any], dialect: ResponsesDialect, refusals: Refusals) -> bool:
    """
    Turn the parameters on reasoning into ``reasoning``; whether the model will reason.

    Args:
        given: the parameters, changed in place.

    Raises:
        InvalidRequestError: two of them contradict each other, or one cannot be read.
        UnsupportedParameterError: the model has no such setting and ``drop_params`` is off.
    """
    reasoning = given.pop("reasoning", None)
    if reasoning is not None and not isinstance(reasoning, Mapping):
        raise InvalidRequestError(f"{refusals.who}: reasoning is a dict such as {{'effort': 'low'}}, not {reasoning!r}")
    made = dict(reasoning or {})
    parameter, effort = _asked(given, made, dialect, refusals)
    summary = given.pop("reasoning_summary", None)
    if summary is not None:
        made["summary"] = summary
    taken = refusals.fitting(parameter, effort, dialect, shown=parameter) if effort is not None else None
    if taken is None:
        made.pop("effort", None)
    else:
        made["effort"] = dialect.effort_rename.get(taken, taken)
    if made and dialect.efforts == ():
        refusals.refuse(f"reasoning.{next(iter(made))}", "", "this model does not reason: leave it out", "reasoning")
    elif made:
        given["reasoning"] = made
    return dialect.reasons if taken is None else taken != "none"


def _asked(
    given: dict[str, Any], reasoning: Mapping[str, Any], dialect: ResponsesDialect, refusals: Refusals
) -> tuple[str, str | None]:
    """The parameter that says how much to reason, and the effort."""
    found: dict[str, Any] = {}
    if reasoning.get("effort") is not None:
        found["reasoning"] = reasoning["effort"]
    if given.get("reasoning_effort") is not None:
        found["reasoning_effort"] = given["reasoning_effort"]
    budget = given.get("thinking_budget")
    if budget is not None:
        found["thinking_budget"] = _effort_for(budget, "thinking_budget", dialect, refusals)
    thinking = given.get("thinking")
    if thinking is not None:
        found["thinking"] = _effort_of(thinking, dialect, refusals)
    for name in ("reasoning_effort", "thinking_budget", "thinking"):
        given.pop(name, None)
    values = list(found.values())
    if any(value != values[0] for value in values):
        raise InvalidRequestError(f"{refusals.who}: {' and '.join(found)} contradict each other; give one of them")
    parameter, effort = next(iter(found.items()), ("reasoning_effort", None))
    if found and effort is None and not dialect.reasons:
        effort = "medium"  # it is to reason as much as it likes, and by itself it would not at all
    if effort is not None and not isinstance(effort, str):
        raise InvalidRequestError(f"{refusals.who}: {parameter} is a word such as 'low', not {effort!r}")
    return parameter, effort


def _effort_for(budget: Any, parameter: str, dialect: ResponsesDialect, refusals: Refusals) -> str | None:
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < -1:
        raise InvalidRequestError(f"{refusals.who}: {parameter} is a number of tokens, not {budget!r}")
    if budget == -1:
        return None  # as much as the model likes
    if budget == 0:
        return "none"
    effort = effort_for(budget)
    if dialect.efforts != ():
        refusals.note(f"{parameter}={budget}->effort {effort}")
    return effort


def _effort_of(thinking: Any, dialect: ResponsesDialect, refusals: Refusals) -> str | None:
    kind = thinking.get("type") if isinstance(thinking, Mapping) else None
    if kind == "disabled":
        return "none"
    if kind == "enabled" and thinking.get("budget_tokens") is not None:
        return _effort_for(thinking["budget_tokens"], "thinking.budget_tokens", dialect, refusals)
    if kind in ("enabled", "adaptive"):
        return None
    raise InvalidRequestError(
        f"{refusals.who}: thinking {thinking!r} is not known; give reasoning_effort, or a type enabled or disabled"
    )
