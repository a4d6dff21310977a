"""
Modules that stand above who needs them, loaded by name when they are needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = ["pricing", "whole_cost"]


def pricing() -> Any:
    """The module that knows prices."""
    return importlib.import_module("llm_master.pricing")


def whole_cost(answer: Any) -> Decimal | None:
    """USD of the whole call behind an answer; prices are loaded where failed attempts were paid for too."""
    if len(answer.attempts) > 1 and sum(attempt.usage is not None for attempt in answer.attempts) > 1:
        found = pricing().response_cost(answer)
        return None if found is None else found.total
    if answer.reported_cost is not None:
        return answer.reported_cost  # type: ignore[no-any-return]  # a Decimal, typed Any to keep decimal unloaded
    return None if answer.pricer is None else answer.pricer(answer.usage)
