"""
Modules that stand above who needs them, loaded by name when they are needed.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["pricing"]


def pricing() -> Any:
    """The module that knows prices."""
    return importlib.import_module("llm_master.pricing")
