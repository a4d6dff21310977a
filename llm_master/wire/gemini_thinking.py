"""
How much a model thinks: ``reasoning_effort``, ``thinking_budget`` and ``thinking`` in the words of its generation.

Models from 3 on take a level, those of 2.5 a budget of tokens; a request that holds both is rejected. Whoever asks for
thinking gets its summary too.
"""

from __future__ import annotations

from typing import Any

from llm_master.efforts import advice, effort_for, nearest
from llm_master.errors import InvalidRequestError
from llm_master.wire.gemini_draft import Draft, camel_keys

__all__ = ["BUDGETS", "THINKING", "write_thinking"]

#: The parameters that are written here.
THINKING = ("reasoning_effort", "thinking_budget", "thinking", "thinking_config", "thinkingConfig", "include_thoughts")

#: Effort -> tokens to think with, for models that take a budget, and the way back. The first four are those of
#: Google's own translation (https://ai.google.dev/gemini-api/docs/openai, read 2026-11-21).
BUDGETS: dict[str, int] = {
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 65_536,
}
_EFFORTS = tuple(BUDGETS)
_NATIVE = frozenset(("thinkingBudget", "thinkingLevel", "includeThoughts"))


def write_thinking(draft: Draft) -> None:
    """
    Write ``thinkingConfig`` into the generation config.

    Raises:
        InvalidRequestError: parameters that contradict each other or cannot be read.
        UnsupportedParameterError: what the model cannot do, unless drop_params is set.
    """
    given = {name: draft.params.pop(name) for name in THINKING if name in draft.params}
    show = given.pop("include_thoughts", None)
    if len(given) > 1:
        raise InvalidRequestError(f"{draft.target}: give {' or '.join(given)}, not both")
    config: dict[str, Any] = {}
    for name, value in given.items():
        config = _CHOOSE[name](draft, name, value)
    if show is not None and draft.rules.thinking != "none":
        config["includeThoughts"] = bool(show)
    elif show:
        draft.refuse("include_thoughts", "it does not think", "use a model that does")
    if config:
        draft.config["thinkingConfig"] = {**draft.config.get("thinkingConfig", {}), **config}


def _from_effort(draft: Draft, name: str, effort: Any) -> dict[str, Any]:
    if effort == "none":
        return _switch_off(draft, name)
    if effort not in BUDGETS:
        known = draft.rules.levels if draft.rules.thinking == "level" else _EFFORTS
        draft.refuse(
            name, f"{effort!r} is no effort", advice(effort, ("none", *known) if draft.rules.can_rest else known)
        )
        return {}
    if _cannot_think(draft, name):
        return {}
    if draft.rules.thinking == "level":
        return {"thinkingLevel": _level(effort, draft), "includeThoughts": True}
    least, most = draft.rules.budget
    return {"thinkingBudget": min(max(BUDGETS[effort], least), most), "includeThoughts": True}


def _from_budget(draft: Draft, name: str, budget: Any) -> dict[str, Any]:
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < -1:
        raise InvalidRequestError(f"{draft.target}: {name} is a number of tokens, not {budget!r}")
    if budget == 0:
        return _switch_off(draft, name)
    if _cannot_think(draft, name):
        return {}
    if draft.rules.thinking == "level":
        if budget == -1:
            return {"includeThoughts": True}
        return {"thinkingLevel": _level(effort_for(budget, BUDGETS), draft), "includeThoughts": True}
    least, most = draft.rules.budget
    if budget != -1 and not least <= budget <= most:
        draft.refuse(name, f"{budget} is not between {least} and {most}", "change it, or give -1")
        budget = min(max(budget, least), most)
    return {"thinkingBudget": budget, "includeThoughts": True}


def _from_thinking(draft: Draft, name: str, value: Any) -> dict[str, Any]:
    """``thinking`` as a yes or no, as the Messages API writes it, or as ``thinkingConfig``."""
    if not isinstance(value, dict | bool):
        raise InvalidRequestError(f"{draft.target}: {name} is a dict or a bool, not {value!r}")
    if isinstance(value, bool):
        value = {"type": "adaptive" if value else "disabled"}
    kind = value.get("type")
    if kind == "disabled":
        return _switch_off(draft, name)
    if kind == "adaptive":
        return {} if _cannot_think(draft, name) else {"includeThoughts": True}
    if kind == "enabled":
        return _from_budget(draft, name, value.get("budget_tokens", -1))
    return _native(draft, name, camel_keys(value))


def _native(draft: Draft, name: str, config: dict[str, Any]) -> dict[str, Any]:
    unknown = config.keys() - _NATIVE
    if unknown:
        raise InvalidRequestError(
            f"{draft.target}: {name} holds {', '.join(sorted(unknown))}; it takes {', '.join(sorted(_NATIVE))}"
        )
    if "thinkingBudget" in config and "thinkingLevel" in config:
        raise InvalidRequestError(f"{draft.target}: {name} holds a budget and a level; give one of them")
    if any(config.values()) and _cannot_think(draft, name):
        return {}
    level = config.get("thinkingLevel")
    if isinstance(level, str):
        if draft.rules.thinking == "budget":
            draft.refuse(name, "it takes a thinkingBudget and no level", "give thinking_budget")
            return {}
        config["thinkingLevel"] = level.upper()
    return config


_CHOOSE = {
    "reasoning_effort": _from_effort,
    "thinking_budget": _from_budget,
    "thinking": _from_thinking,
    "thinking_config": _from_thinking,
    "thinkingConfig": _from_thinking,
}


def _cannot_think(draft: Draft, name: str) -> bool:
    if draft.rules.thinking == "none":
        draft.refuse(name, "it does not think", "use a model that does")
        return True
    return False


def _switch_off(draft: Draft, name: str) -> dict[str, Any]:
    rules = draft.rules
    if rules.thinking == "none":
        return {}
    if rules.can_rest:
        return {"thinkingBudget": 0}
    if rules.thinking == "level":
        least = rules.levels[0]
        draft.refuse(name, "its thinking cannot be switched off", f"reasoning_effort={least!r} is the least")
        return {"thinkingLevel": least.upper()}
    draft.refuse(name, "its thinking cannot be switched off", f"thinking_budget={rules.budget[0]} is the least")
    return {"thinkingBudget": rules.budget[0]}


def _level(effort: str, draft: Draft) -> str:
    levels = draft.rules.levels
    return (nearest(effort, levels) or levels[0]).upper()
