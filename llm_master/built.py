"""
msgspec's knowledge of a type, built by one thread at a time.

msgspec (0.22.0) gathers what it knows of a Struct or dataclass when it first meets it. Two threads that meet it at once
can crash the process, so the first meeting happens under this lock; what was built once is read by all.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import msgspec

__all__ = ["build"]

_LOCK = threading.Lock()


def _reset_lock() -> None:
    global _LOCK  # noqa: PLW0603  # it may be held by a thread that fork did not copy
    _LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_lock)


def build(*kinds: Any) -> None:
    """Have msgspec know these types; a type that it cannot know is left to the first use, which says why."""
    with _LOCK:
        for kind in kinds:
            try:
                msgspec.json.Decoder(kind)
            except (TypeError, NotImplementedError, NameError):
                continue
