"""
How much a model reasons: ``reasoning_effort`` and ``thinking_budget`` in the fields that its family knows.

Which fields those are is data (``dialect_bedrock.Reasoning``).
"""

from __future__ import annotations

from typing import Any

from llm_master.dialect_bedrock import Mode, Reasoning
from llm_master.efforts import BUDGETS, advice, effort_for, nearest
from llm_master.errors import InvalidRequestError
from llm_master.thinking import budget_for, budget_within
from llm_master.wire.bedrock_draft import Draft

__all__ = ["BUDGETS", "REASONING", "write_reasoning"]

#: The parameters that are written here.
REASONING = ("thinking", "reasoning_effort", "thinking_budget")

_EFFORTS = tuple(BUDGETS)


def write_reasoning(draft: Draft) -> None:
    """
    Write the fields of reasoning; the output limit must be there already.

    Raises:
        InvalidRequestError: parameters that contradict each other.
        UnsupportedParameterError: what the model cannot do, unless drop_params is set.
    """
    params = draft.params
    given = [name for name in REASONING if name in params]
    if len(given) > 1:
        raise InvalidRequestError(f"{draft.target}: give {given[0]} or {given[1]}, not both")
    name, value = given[0], params.pop(given[0])
    ways = draft.dialect.reasons
    if name == "thinking":
        _write_native(draft, value, ways)
    elif value in ("none", 0) and not isinstance(value, bool):
        _switch_off(draft, name, ways)
    elif name == "reasoning_effort":
        _write_effort(draft, value, ways)
    else:
        _write_budget(draft, value, ways)


def _write_native(draft: Draft, value: Any, ways: Reasoning | None) -> None:
    """Claude's own field, passed as it is; the bars of its kind hold."""
    draft.put("thinking", value)
    kind = value.get("type") if isinstance(value, dict) else None
    if ways is not None and kind in ("enabled", "adaptive"):
        draft.mode = ways.by_budget if kind == "enabled" else ways.by_effort


def _switch_off(draft: Draft, name: str, ways: Reasoning | None) -> None:
    if ways is None:
        return
    if ways.off is None:
        efforts = ways.by_effort.efforts if ways.by_effort is not None else ()
        least = f"reasoning_effort={efforts[0]!r} is the least" if efforts else "leave it out"
        draft.refuse(name, "its reasoning cannot be switched off", least)
        return
    draft.merge(ways.off)


def _write_effort(draft: Draft, effort: Any, ways: Reasoning | None) -> None:
    if effort not in BUDGETS:
        draft.refuse("reasoning_effort", f"{effort!r} is no effort", advice(effort, _known(ways)))
    elif ways is None:
        draft.refuse("reasoning_effort", "it is not known to reason", "use a model that does")
    elif ways.by_effort is not None:
        _reason_at(draft, effort, ways.by_effort)
    elif ways.by_budget is not None:
        _reason_with(draft, budget_for(draft, BUDGETS[effort], draft.inference.get("maxTokens")), ways.by_budget)


def _known(ways: Reasoning | None) -> tuple[str, ...]:
    """The words that come to something, for the message on one that does not."""
    own = ways.by_effort.efforts if ways is not None and ways.by_effort is not None else ()
    rests = ways is None or ways.off is not None
    return (*(("none",) if rests else ()), *(own or _EFFORTS))


def _reason_at(draft: Draft, effort: str, mode: Mode) -> None:
    draft.mode = mode
    draft.merge(mode.fields)
    if mode.effort is not None and mode.efforts:
        draft.effort = nearest(effort, mode.efforts) or mode.efforts[0]
        draft.put(mode.effort, draft.effort)


def _reason_with(draft: Draft, budget: int | None, mode: Mode) -> None:
    if budget is None:
        return
    draft.mode = mode
    draft.merge(mode.fields)
    if mode.budget is not None:
        draft.put(mode.budget, budget)


def _write_budget(draft: Draft, budget: Any, ways: Reasoning | None) -> None:
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < -1:
        raise InvalidRequestError(f"{draft.target}: thinking_budget is a number of tokens, not {budget!r}")
    if ways is None:
        draft.refuse("thinking_budget", "it is not known to reason", "use a model that does")
    elif ways.by_budget is not None and budget > 0:
        _reason_with(draft, budget_within(draft, budget, draft.inference.get("maxTokens")), ways.by_budget)
    elif ways.by_effort is not None:
        if budget == -1:
            draft.mode = ways.by_effort
            draft.merge(ways.by_effort.fields)
            return
        _reason_at(draft, effort_for(budget), ways.by_effort)
    else:
        draft.refuse("thinking_budget", "it needs a number of tokens", "give one")
