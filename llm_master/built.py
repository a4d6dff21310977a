"""
msgspec's knowledge of a type, built by one thread at a time, and pydantic's of the types that speak its language.

msgspec (0.22.0) gathers what it knows of a Struct or dataclass when it first meets it. Two threads that meet it at once
can crash the process, so the first meeting happens under this lock; what was built once is read by all.
"""

from __future__ import annotations

import os
import threading
from typing import Any, get_args

import msgspec

__all__ = ["adapter_of", "build"]

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


def adapter_of(kind: Any) -> Any:
    """
    The ``TypeAdapter`` of a type with pydantic's models or fields inside, such as ``list[Model]`` or
    ``Annotated[int, Field(ge=1)]``, which mean nothing to msgspec; None for any other type, a model itself among them.
    """
    if hasattr(kind, "model_json_schema") or not _speaks_pydantic(kind):
        return None
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _speaks_pydantic(kind: Any) -> bool:
    inside = get_args(kind)
    return any(
        hasattr(each, "model_json_schema")
        or type(each).__module__.partition(".")[0] == "pydantic"
        or _speaks_pydantic(each)
        for each in inside
    )
