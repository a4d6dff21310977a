"""
The words for how much a model reasons, and which of them comes nearest to one that it does not know.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

__all__ = ["advice"]

# From weakest to strongest; ``default`` is Groq's word for the middle.
_LADDER = {"none": 0, "minimal": 1, "low": 2, "medium": 3, "default": 3, "high": 4, "xhigh": 5, "max": 6}


def advice(effort: Any, known: Collection[str]) -> str:
    """
    What an error says of an effort that is not taken: those that are, and the nearest.

    A word that is on no ladder is taken for a misspelling, or else for the middle; of two words that are equally near
    the stronger is named, and never ``none`` for some reasoning.

    Args:
        effort: as the caller gave it.
        known: the words that the model takes, at least one.
    """
    return f"it takes {', '.join(known)}, the nearest being {_nearest(effort, known)!r}"


def _nearest(effort: Any, known: Collection[str]) -> str:
    import difflib

    word = effort.strip().lower() if isinstance(effort, str) else ""
    if word in known:
        return word
    if word not in _LADDER:
        word = next(iter(difflib.get_close_matches(word, (*known, *_LADDER), 1)), "medium")
    wanted = _LADDER.get(word, 3)
    steps = [each for each in known if each in _LADDER and (each != "none" or not wanted)]
    return min(steps or known, key=lambda each: (abs(_LADDER.get(each, 9) - wanted), -_LADDER.get(each, 9)))
