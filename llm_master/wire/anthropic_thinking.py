"""
How much a model thinks: ``reasoning_effort`` and ``thinking_budget`` in the words that its generation knows.

Newer models think adaptively and take an effort; older ones take a budget of tokens, which is derived from the effort.
"""

from __future__ import annotations

from typing import Any

from llm_master.efforts import BUDGETS, advice, effort_for, nearest
from llm_master.errors import InvalidRequestError
from llm_master.thinking import budget_for, budget_within
from llm_master.wire.anthropic_draft import Draft

__all__ = ["BUDGETS", "THINKING", "write_thinking"]

#: The parameters that are written here.
THINKING = ("thinking", "output_config", "reasoning_effort", "thinking_budget")

_EFFORTS = tuple(BUDGETS)
_TOP_EFFORTS = ("xhigh", "max")


def write_thinking(draft: Draft) -> None:
    """
    Write ``thinking`` and ``output_config`` into the body; ``max_tokens`` must be there already.

    Raises:
        InvalidRequestError: parameters that contradict each other.
        UnsupportedParameterError: what the model cannot do, unless drop_params is set.
    """
    params = draft.params
    if "thinking" in params:
        draft.body["thinking"] = params.pop("thinking")
    if "output_config" in params:
        config = params.pop("output_config")
        if not isinstance(config, dict):
            raise InvalidRequestError(f"{draft.target}: output_config is a dict, not {config!r}")
        draft.body["output_config"] = dict(config)
    effort = params.pop("reasoning_effort", None)
    budget = params.pop("thinking_budget", None)
    if budget is not None:
        if "thinking" in draft.body or effort is not None:
            other = "thinking" if "thinking" in draft.body else "reasoning_effort"
            raise InvalidRequestError(f"{draft.target}: give thinking_budget or {other}, not both")
        _write_budget(draft, budget)
    elif effort is not None:
        _write_effort(draft, effort)
    _check_top_effort(draft)


def _write_effort(draft: Draft, effort: Any) -> None:
    if effort == "none":
        if "thinking" in draft.body:
            raise InvalidRequestError(f"{draft.target}: give thinking or reasoning_effort='none', not both")
        _switch_off(draft, "reasoning_effort")
        return
    if effort not in BUDGETS:
        known = draft.rules.effort or _EFFORTS
        rests = draft.rules.no_thinking or not draft.rules.always_thinking or draft.rules.between_tools
        draft.refuse(
            "reasoning_effort", f"{effort!r} is no effort", advice(effort, ("none", *known) if rests else known)
        )
        return
    rules = draft.rules
    if rules.no_thinking:
        draft.refuse("reasoning_effort", "it does not think", "use a model that does")
        return
    if rules.effort:
        _put_effort(draft, nearest(effort, rules.effort) or rules.effort[0])
    elif "thinking" in draft.body:
        raise InvalidRequestError(f"{draft.target}: give thinking or reasoning_effort, not both")
    if "thinking" not in draft.body:
        if rules.adaptive_thinking:
            draft.body["thinking"] = {"type": "adaptive"}
        else:
            _think_with(draft, budget_for(draft, BUDGETS[effort], draft.body["max_tokens"]))


def _write_budget(draft: Draft, budget: Any) -> None:
    rules = draft.rules
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < -1:
        raise InvalidRequestError(f"{draft.target}: thinking_budget is a number of tokens, not {budget!r}")
    if budget == 0:
        _switch_off(draft, "thinking_budget")
    elif rules.no_thinking:
        draft.refuse("thinking_budget", "it does not think", "use a model that does")
    elif rules.no_budget or (budget == -1 and rules.adaptive_thinking):
        draft.body["thinking"] = {"type": "adaptive"}
        if budget > 0 and rules.effort:
            _put_effort(draft, nearest(effort_for(budget), rules.effort) or rules.effort[0])
    elif budget == -1:
        draft.refuse("thinking_budget", "it needs a number of tokens", "give one")
    else:
        _think_with(draft, budget_within(draft, budget, draft.body["max_tokens"]))


def _think_with(draft: Draft, budget: int | None) -> None:
    if budget is not None:
        draft.body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _switch_off(draft: Draft, parameter: str) -> None:
    rules = draft.rules
    if rules.no_thinking:
        return
    if rules.between_tools:
        draft.body["thinking"] = {"type": "between_tools"}
    elif rules.always_thinking:
        draft.refuse(
            parameter,
            "its thinking cannot be switched off",
            f"reasoning_effort={(rules.effort or _EFFORTS)[0]!r} is the least",
        )
    else:
        draft.body["thinking"] = {"type": "disabled"}


def _put_effort(draft: Draft, effort: str) -> None:
    config = draft.body.setdefault("output_config", {})
    if config.get("effort") not in (None, effort):
        raise InvalidRequestError(f"{draft.target}: give output_config.effort or reasoning_effort, not both")
    config["effort"] = effort


def _check_top_effort(draft: Draft) -> None:
    if not draft.rules.effort_needs_thinking:
        return
    thinking, config = draft.body.get("thinking"), draft.body.get("output_config")
    off = isinstance(thinking, dict) and thinking.get("type") == "disabled"
    if off and config and config.get("effort") in _TOP_EFFORTS:
        draft.refuse(
            "reasoning_effort", f"effort {config['effort']!r} is for thinking, which is switched off", "give 'high'"
        )
        config["effort"] = "high"
