"""
How much a model reasons: ``reasoning_effort`` and ``thinking_budget`` in the words and fields of one server.

A server that counts the tokens of reasoning has a field for them (``ChatDialect.budget``); to another one that knows
efforts a budget is the strongest effort that does with so many.
"""

from __future__ import annotations

from typing import Any

from llm_master.efforts import effort_for, nearest
from llm_master.errors import InvalidRequestError
from llm_master.refusals import Refusals
from llm_master.rows import BudgetRule, ChatDialect

__all__ = ["settle_reasoning"]


def settle_reasoning(given: dict[str, Any], dialect: ChatDialect, refusals: Refusals) -> bool:
    """
    Translate what says how much to reason; whether the model will.

    Args:
        given: the parameters, changed in place.

    Raises:
        InvalidRequestError: two of them contradict each other, or one cannot be read.
        UnsupportedParameterError: the model has no such setting and ``drop_params`` is off.
    """
    parameter = "reasoning_effort"
    if given.get("thinking_budget") is not None:
        budget = given.pop("thinking_budget")
        _check(budget, given, dialect, refusals)
        if dialect.budget is not None and (budget or dialect.budget.off is not None):
            _put(budget, dialect.budget, given)
            return bool(budget)
        effort = _effort_for(budget, dialect, refusals)
        if effort is None:
            return dialect.reasons
        given["reasoning_effort"] = effort
        parameter = "thinking_budget"
    elif given.get("tools") and dialect.tools_effort is not None:
        given.setdefault("reasoning_effort", dialect.tools_effort)
    effort = given.get("reasoning_effort")
    if effort is None:
        return dialect.reasons
    taken = refusals.fitting(parameter, effort, dialect, shown="reasoning_effort")
    if taken is None:
        del given["reasoning_effort"]
        return dialect.reasons
    given["reasoning_effort"] = dialect.effort_rename.get(taken, taken) if isinstance(taken, str) else taken
    return bool(taken != "none")


def _check(budget: Any, given: dict[str, Any], dialect: ChatDialect, refusals: Refusals) -> None:
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < -1:
        raise InvalidRequestError(f"{refusals.who}: thinking_budget is a number of tokens, not {budget!r}")
    rule = dialect.budget
    own = {"reasoning_effort", "thinking"}
    if rule is not None:
        own |= {rule.field.partition(".")[0], *rule.on, *(rule.off or ())}
    other = next((name for name in sorted(own) if given.get(name) is not None), None)
    if other is not None:
        raise InvalidRequestError(f"{refusals.who}: give thinking_budget or {other}, not both")


def _put(budget: int, rule: BudgetRule, given: dict[str, Any]) -> None:
    """Write a budget into the server's own fields."""
    if not budget:
        given.update(rule.off or {})
        return
    for name, value in rule.on.items():
        given[name] = dict(value) if isinstance(value, dict) else value
    if budget == -1:
        return  # as much as the model likes
    *parents, last = rule.field.split(".")
    at = given
    for name in parents:
        at = at.setdefault(name, {})
    at[last] = budget


def _effort_for(budget: int, dialect: ChatDialect, refusals: Refusals) -> str | None:
    """The effort for a budget that the server has no field for; None where there is none to send."""
    if dialect.efforts is None:
        effort = "none" if not budget else "medium" if budget == -1 else effort_for(budget)
        refusals.refuse(
            "thinking_budget",
            ": no field of this server for it is known",
            f"the nearest is reasoning_effort={effort!r}, or extra_body with the field that it has",
        )
        return None
    if not budget:
        # What does not reason need not be kept from it.
        return "none" if dialect.efforts or dialect.reasons else None
    if budget == -1 and dialect.reasons:
        return None
    effort = "medium" if budget == -1 else effort_for(budget)
    if dialect.efforts:
        refusals.note(f"thinking_budget={budget}->reasoning_effort={nearest(effort, dialect.efforts) or effort}")
    return effort
