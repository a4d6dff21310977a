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
    Warnings of the ledger: one a minute at most, and one line when it is over.

    Args:
        clock: monotonic seconds.
        every: seconds between two warnings.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, every: float = 60.0) -> None:
        self._clock, self._every = clock, every
        self._next: float | None = None

    def tell(self, message: str) -> None:
        """Something failed; ``message`` says what and what becomes of the rows."""
        now = self._clock()
        if self._next is None or now >= self._next:
            self._next = now + self._every
            logger.warning("%s", message)

    def over(self, message: str) -> None:
        """It works again; said only when a failure was."""
        if self._next is not None:
            self._next = None
            logger.warning("%s", message)
