"""
The words for how much a model reasons, the tokens that they stand for, and which of them comes nearest to another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["BUDGETS", "advice", "effort_for", "nearest"]

# From weakest to strongest; ``default`` is Groq's word for the middle.
_LADDER = {"none": 0, "minimal": 1, "low": 2, "medium": 3, "default": 3, "high": 4, "xhigh": 5, "max": 6}

#: Effort -> tokens to think with, for models that take a budget, and the way back.
BUDGETS: dict[str, int] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32768,
    "max": 65536,
}


def nearest(effort: Any, known: Collection[str]) -> str | None:
    """
    The nearest effort that a model takes; of two that are equally near the stronger, and never ``none`` for some.

    None for a word that is on no ladder, and where nothing that is known can stand for it.
    """
    wanted = _LADDER.get(effort) if isinstance(effort, str) else None
    if wanted is None:
        return None
    if effort in known:
        return str(effort)
    steps = [each for each in known if each in _LADDER and (each != "none" or not wanted)]
    return min(steps, key=lambda each: (abs(_LADDER[each] - wanted), -_LADDER[each]), default=None)


def effort_for(budget: int, budgets: Mapping[str, int] = BUDGETS) -> str:
    """The strongest effort that does with so many tokens to think with, at least one; else the weakest."""
    fitting = [effort for effort, tokens in budgets.items() if tokens <= budget]
    return fitting[-1] if fitting else next(iter(budgets))


def advice(effort: Any, known: Collection[str]) -> str:
    """
    What an error says of an effort that is not taken: those that are, and the nearest.

    A word that is on no ladder is taken for a misspelling, or else for the middle; of two words that are equally near
    the stronger is named, and never ``none`` for some reasoning.

    Args:
        effort: as the caller gave it.
        known: the words that the model takes, at least one.
    """
    return f"it takes {', '.join(known)}, the nearest being {_meant(effort, known)!r}"


def _meant(effort: Any, known: Collection[str]) -> str:
    import difflib

    word = effort.strip().lower() if isinstance(effort, str) else ""
    if word in known:
        return word
    if word not in _LADDER:
        word = next(iter(difflib.get_close_matches(word, (*known, *_LADDER), 1)), "medium")
    wanted = _LADDER.get(word, 3)
    steps = [each for each in known if each in _LADDER and (each != "none" or not wanted)]
    return min(steps or known, key=lambda each: (abs(_LADDER.get(each, 9) - wanted), -_LADDER.get(each, 9)))
