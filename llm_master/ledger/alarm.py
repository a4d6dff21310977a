"""
What fails again and again, told once a minute.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["Alarm"]

logger = logging.getLogger("llm_master")


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
            logger.warning("%s", message)

    def over(self, message: str) -> None:
        """It works again; said only when the failure was."""
        if self._told:
            self._told = False
            logger.warning("%s", message)
