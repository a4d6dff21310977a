"""
A request body in the making: what is written so far, and what had to be left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_master.classes import Request
from llm_master.dialect_gemini import GeminiDialect, GeminiModel
from llm_master.draft import SCHEMA_TOOL, RequestDraft
from llm_master.per_model import by_model

__all__ = ["SCHEMA_TOOL", "Draft", "camel", "camel_keys", "merged", "rules_for", "takes_prefill"]

rules_for: Callable[[GeminiDialect, str], GeminiModel] = by_model(GeminiDialect.model)
"""What a model takes, resolved once for a name."""


def takes_prefill(dialect: GeminiDialect, model: str) -> bool:
    """Whether the model goes on with an assistant's turn that stands last."""
    return rules_for(dialect, model).prefill


def camel(name: str) -> str:
    """``snake_case`` as the API spells it; a name that is so already stays."""
    if "_" not in name:
        return name
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def camel_keys(value: Any) -> Any:
    """A copy of a configuration with every key as the API spells it."""
    if isinstance(value, dict):
        return {camel(key): camel_keys(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [camel_keys(each) for each in value]
    return value


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Two bodies as one: where both hold an object its fields are merged, else ``over`` wins."""
    result = dict(base)
    for name, value in over.items():
        known = result.get(name)
        result[name] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


class Draft(RequestDraft):
    """
    One request on its way to a body.

    Attributes:
        config: ``generationConfig`` of the body.
        system: the texts of the system prompt.
    """

    __slots__ = ("config", "dialect", "rules", "system")

    def __init__(self, request: Request, dialect: GeminiDialect) -> None:
        super().__init__(request)
        self.dialect = dialect
        self.rules = rules_for(dialect, request.model)
        self.config: dict[str, Any] = {}
        self.system: list[str] = []
