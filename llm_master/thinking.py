"""
Tokens to think with that are part of the output limit, as Claude counts them wherever it is served.
"""

from __future__ import annotations

from llm_master.draft import RequestDraft

__all__ = ["budget_for", "budget_within"]

_LEAST = 1024


def budget_for(draft: RequestDraft, wanted: int, limit: int | None) -> int | None:
    """
    The budget that stands for an effort; None where the limit, with drop_params, leaves no room for any.

    Args:
        wanted: tokens that the effort stands for.
        limit: the output limit in tokens, None for none.
    """
    if limit is None:
        return wanted
    if limit <= _LEAST:
        draft.refuse(
            "reasoning_effort",
            f"thinking takes {_LEAST} tokens at least and max_tokens is {limit}",
            "raise max_tokens",
        )
        return None
    # The budget is part of max_tokens; half of it is kept for the answer.
    return max(_LEAST, min(wanted, limit // 2))


def budget_within(draft: RequestDraft, budget: int, limit: int | None) -> int | None:
    """The caller's own budget, with drop_params the nearest that is possible; None where none is."""
    most = budget if limit is None else limit - 1
    if _LEAST <= budget <= most:
        return budget
    draft.refuse(
        "thinking_budget", f"{budget} is not between {_LEAST} and max_tokens - 1 = {most}", "change it or max_tokens"
    )
    return None if most < _LEAST else min(max(budget, _LEAST), most)
