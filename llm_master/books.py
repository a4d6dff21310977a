"""
Where calls that have ended are written down: the ledger, and whatever adds them up.
"""

from __future__ import annotations

from random import getrandbits
from time import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Book", "new_uid"]


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


def new_uid() -> str:
    """A new name for a call: 32 hexadecimal digits of a UUID of version 7, in the order of time."""
    chance = getrandbits(74)
    return f"{int(time() * 1000):012x}7{chance & 0xFFF:03x}{8 | chance >> 12 & 3:x}{chance >> 14:015x}"
