"""
What fails again and again, told once a minute, and never to nobody.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable

__all__ = ["Alarm", "say"]

logger = logging.getLogger("llm_master")
# As everywhere in the package; what must be heard is said by ``say``.
logger.addHandler(logging.NullHandler())


def say(level: int, message: str) -> None:
    """Log; a program that has set up no logging gets it on stderr, because rows that are lost cannot be had again."""
    logger.log(level, "%s", message)
    if logger.isEnabledFor(level) and not _is_heard() and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # closed, at the end of a program
            print(f"llm_master: {message}", file=sys.stderr)  # noqa: T201  # as the standard library's last resort


def _is_heard() -> bool:
    """Whether a handler gets what this package logs, or was meant to get it."""
    node: logging.Logger | None = logger
    while node is not None:
        if not node.propagate or any(not isinstance(each, logging.NullHandler) for each in node.handlers):
            return True
        node = node.parent
    return False


class Alarm:
    """
    Warnings of the ledger: one a minute at most, however often it fails anew, and one line when what was told is over.

    Args:
        clock: monotonic seconds.
        every: seconds between two warnings.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, every: float = 60.0) -> None:
        self._clock, self._every = clock, every
        self._next: float | None = None
        self._told = False

    def tell(self, message: str) -> None:
        """Something failed; ``message`` says what and what becomes of the rows."""
        now = self._clock()
        if self._next is None or now >= self._next:
            self._next, self._told = now + self._every, True
            say(logging.WARNING, message)

    def over(self, message: str) -> None:
        """It works again; said only when the failure was."""
        if self._told:
            self._told = False
            say(logging.WARNING, message)
