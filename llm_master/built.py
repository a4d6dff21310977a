"""
msgspec's knowledge of a type, built by one thread at a time.

msgspec (0.22.0) gathers what it knows of a Struct or dataclass when it first meets it. Two threads that meet it at once
can crash the process, so the first meeting happens under this lock; what was built once is read by all.
"""

from __future__ import annotations

import threading
from typing import Any

import msgspec

__all__ = ["build"]

_LOCK = threading.Lock()


def build(*kinds: Any) -> None:
    """Have msgspec know these types; a type that it cannot know is left to the first use, which says why."""
    with _LOCK:
        for kind in kinds:
            try:
                msgspec.json.Decoder(kind)
            except (TypeError, NotImplementedError, NameError):
                continue
