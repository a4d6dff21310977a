"""
What one model takes: the patterns of a dialect, resolved once for a model's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from llm_master.per_model import by_model
from llm_master.rows import MessagesDialect

__all__ = ["ModelRules", "rules_for", "takes_prefill"]

_V = TypeVar("_V")


class ModelRules(msgspec.Struct, frozen=True):
    """The rules of one model; the fields are those of ``MessagesDialect`` without their patterns."""

    max_tokens: int
    no_sampling: bool
    no_forced_tools: bool
    no_prefill: bool
    no_thinking: bool
    adaptive_thinking: bool
    no_budget: bool
    always_thinking: bool
    between_tools: bool
    effort: tuple[str, ...]
    effort_needs_thinking: bool
    native_schema: bool
    system_in_messages: bool


_LISTS = ("no_sampling", "no_prefill", "no_thinking", "adaptive_thinking", "native_schema")


@by_model
def rules_for(dialect: MessagesDialect, model: str) -> ModelRules:
    """The rules of a model, by the patterns that occur in its name."""
    return _resolve(dialect, _known_name(dialect, model.lower().replace(".", "-")))


def takes_prefill(dialect: MessagesDialect, model: str) -> bool:
    """Whether the model goes on with an assistant's turn that stands last."""
    return not rules_for(dialect, model).no_prefill


def _known_name(dialect: MessagesDialect, name: str) -> str:
    """The name, or for one of a known family that no pattern knows that of the newest model."""
    newest = next((model for part, model in dialect.newest.items() if part in name), None)
    if newest is None:
        return name
    patterns = (*dialect.max_tokens, *dialect.effort, *(each for field in _LISTS for each in getattr(dialect, field)))
    return name if any(pattern and _occurs(pattern, name) for pattern in patterns) else newest


def _resolve(dialect: MessagesDialect, name: str) -> ModelRules:
    return ModelRules(
        max_tokens=_longest(dialect.max_tokens, name, 8192),
        no_sampling=_any(dialect.no_sampling, name),
        no_forced_tools=_any(dialect.no_forced_tools, name),
        no_prefill=_any(dialect.no_prefill, name),
        no_thinking=_any(dialect.no_thinking, name),
        adaptive_thinking=_any(dialect.adaptive_thinking, name),
        no_budget=_any(dialect.no_budget, name),
        always_thinking=_any(dialect.always_thinking, name),
        between_tools=_any(dialect.between_tools, name),
        effort=_longest(dialect.effort, name, ()),
        effort_needs_thinking=_any(dialect.effort_needs_thinking, name),
        native_schema=_any(dialect.native_schema, name),
        system_in_messages=_any(dialect.system_in_messages, name),
    )


def _occurs(pattern: str, name: str) -> bool:
    return re.search(re.escape(pattern) + r"(?!\d)", name) is not None if pattern else True


def _any(patterns: Iterable[str], name: str) -> bool:
    return any(_occurs(pattern, name) for pattern in patterns)


def _longest(table: Mapping[str, _V], name: str, default: _V) -> _V:
    found = max((pattern for pattern in table if _occurs(pattern, name)), key=len, default=None)
    return default if found is None else table[found]
