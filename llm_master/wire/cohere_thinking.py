"""
How much a model thinks: ``reasoning_effort`` and ``thinking_budget`` as Cohere's ``thinking``.

A model that can reason does so unless it is told not to; a budget bounds it
(https://docs.cohere.com/docs/reasoning, read 2026-11-21).
"""

from __future__ import annotations

from typing import Any

from llm_master.efforts import advice
from llm_master.errors import InvalidRequestError
from llm_master.wire.cohere_draft import Draft

__all__ = ["write_thinking"]


def write_thinking(draft: Draft) -> None:
    """
    Write ``thinking`` into the body; ``max_tokens`` must be there already.

    Raises:
        InvalidRequestError: parameters that contradict each other.
        UnsupportedParameterError: what the model cannot do, unless drop_params is set.
    """
    params = draft.params
    given = [name for name in ("thinking", "thinking_budget", "reasoning_effort") if name in params]
    if not given:
        return
    if len(given) > 1:
        raise InvalidRequestError(f"{draft.target}: give {given[0]} or {given[1]}, not both")
    name, value = given[0], params.pop(given[0])
    thinking = _READ[name](value, draft)
    if thinking is None:
        return
    if draft.dialect.thinking:
        draft.body["thinking"] = thinking
    elif thinking.get("type") != "disabled":
        draft.refuse(name, "it does not reason", "use a model that does, such as command-a-plus-05-2026")


def _native(value: Any, draft: Draft) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequestError(
            f'{draft.target}: thinking is {{"type": "enabled" or "disabled", "token_budget": ...}}, not {value!r}'
        )
    if "budget_tokens" not in value:
        return value
    # Anthropic's name of the same.
    return {
        **{name: each for name, each in value.items() if name != "budget_tokens"},
        "token_budget": value["budget_tokens"],
    }


def _effort(value: Any, draft: Draft) -> dict[str, Any] | None:
    budgets = draft.dialect.budgets
    if value == "none":
        return {"type": "disabled"}
    if value not in budgets:
        draft.refuse("reasoning_effort", f"{value!r} is no effort", advice(value, ("none", *budgets)))
        return None
    budget = budgets[value]
    if budget is None:
        return {"type": "enabled"}
    limit = draft.body.get("max_tokens")
    if limit is not None:
        # Thinking counts towards max_tokens; some of them, or half, are kept for the answer.
        budget = max(1, min(budget, max(limit - draft.dialect.answer_tokens, limit // 2)))
    return {"type": "enabled", "token_budget": budget}


def _budget(value: Any, draft: Draft) -> dict[str, Any]:
    if not isinstance(value, int) or isinstance(value, bool) or value < -1:
        raise InvalidRequestError(f"{draft.target}: thinking_budget is a number of tokens, not {value!r}")
    if value == 0:
        return {"type": "disabled"}
    return {"type": "enabled"} if value == -1 else {"type": "enabled", "token_budget": value}


_READ = {"thinking": _native, "thinking_budget": _budget, "reasoning_effort": _effort}
