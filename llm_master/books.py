"""
Where calls that have ended are written down: the ledger, and whatever adds them up.
"""

from __future__ import annotations

import os
from random import Random
from time import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Book", "new_uid"]

# Not the shared one: a program that seeds it would give its calls the ids of another, and find its own numbers changed.
_CHANCE = Random()  # noqa: S311  # an id is no secret
_getrandbits = _CHANCE.getrandbits
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CHANCE.seed)


class Book(Protocol):
    """What is told of every call that has ended."""

    def check(self) -> None:
        """Raise an LLMError when no call may be made because it could not be written down."""

    def note(self, call: Any, outcome: str, response: Any, error: BaseException | None) -> Future[Any] | None:
        """
        Write a call down; quick, in the event loop of the call.

        Args:
            call: its ``Record``.
            outcome: ``ok``, ``error`` or ``cancelled``.
            response: the answer, None without one.
            error: what ended it, None for an answer.

        Returns:
            What the call waits for before its answer is shown, None for nothing.
        """


def new_uid(at: float | None = None) -> str:
    """
    A new name for a call: 32 hexadecimal digits of a UUID of version 7, in the order of time.

    Args:
        at: seconds since the UNIX epoch; None is now.
    """
    chance = _getrandbits(74)
    millis = int((time() if at is None else at) * 1000)
    return f"{millis:012x}7{chance & 0xFFF:03x}{8 | chance >> 12 & 3:x}{chance >> 14:015x}"
