"""
Where calls that have ended are written down: the ledger, and whatever adds them up.
"""

from __future__ import annotations

import os
from random import Random
from time import time
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from concurrent.futures import Future

    from llm_master.errors import LLMError

__all__ = ["Book", "Wait", "new_uid"]

#: What a call waits for until it is written down: raises an LLMError, or brings one, when it could not be.
Wait: TypeAlias = "Future[Any] | Awaitable[LLMError | None]"

# Not the shared one: a program that seeds it would give its calls the ids of another, and find its own numbers changed.
_CHANCE = Random()  # noqa: S311  # an id is no secret
_getrandbits = _CHANCE.getrandbits
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CHANCE.seed)


class Book(Protocol):
    """What is told of every call that has ended."""

    def check(self) -> None:
        """Raise an LLMError when no call may be made because it could not be written down."""

    def note(self, call: Any, outcome: str, response: Any, error: BaseException | None) -> Wait | None:
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
