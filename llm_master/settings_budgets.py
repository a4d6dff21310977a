"""
The budgets of a settings file: one ``[[budgets]]`` each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llm_master import settings_rules as rules
from llm_master.errors import ConfigurationError
from llm_master.policy.limits_budget import Budget, Budgets

if TYPE_CHECKING:
    from llm_master.settings_rules import Reader
    from llm_master.toml_lines import Place

__all__ = ["BUDGET", "read_budgets"]

BUDGET = {
    "key": rules.TEXT,
    "usd": rules.USD,
    "tokens": rules.COUNT,
    "per": rules.choice("hour", "day", "month", "total"),
    "timezone": rules.TEXT,
    "unknown": rules.choice("refuse", "allow"),
}


def read_budgets(reader: Reader, value: Any, provider_key: Callable[[Place, str], str | None]) -> tuple[Budget, ...]:
    """
    The budgets that are right; what is wrong the reader notes.

    Args:
        value: as it was read.
        provider_key: a provider's own key for any of its names, None when there is no such provider (noted then).
    """
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
        reader.wrong(("budgets",), "budgets must be tables: write [[budgets]] above each")
        return ()
    found: list[Budget] = []
    for number, each in enumerate(value):
        place = ("budgets", number)
        fields = reader.table(place, each, BUDGET)
        if "key" not in each:
            reader.wrong(place, 'a budget lacks its key: "all", "tag:NAME", "model:NAME" and the like')
        if len(fields) < len(each) or "key" not in fields:
            continue
        kind, colon, name = fields["key"].partition(":")
        if colon and kind == "provider":
            known = provider_key((*place, "key"), name)
            if known is None:
                continue
            fields["key"] = f"provider:{known}"
        try:
            budget = Budget(fields.pop("key"), **fields)
            Budgets((*found, budget))
        except ConfigurationError as error:
            reader.wrong(place, str(error))
        else:
            found.append(budget)
    return tuple(found)
