"""
JSON of what callers and models said, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

__all__ = ["written"]


def written(value: Any, shown: Callable[[Any], str]) -> str:
    """
    A value as JSON; one that has no form in it is told as Python shows it.

    Args:
        shown: how an object of a type that JSON does not know is told.
    """
    try:
        return msgspec.json.encode(value, enc_hook=shown).decode()
    except (TypeError, ValueError, OverflowError):  # half a character, or a key that is no text
        return msgspec.json.encode({"shown": repr(value)}).decode()
    except RecursionError:
        return '{"shown":"nested too deeply"}'
