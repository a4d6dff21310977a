"""
A store of answers that fails: left alone for a while, and each reason told once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["Outage"]

logger = logging.getLogger("llm_master")


class Outage:
    """
    Whether a store may be asked, by kind of operation.

    A reason is logged as a warning once, and again only after an operation of its kind has worked in between.

    Args:
        name: the store, for the log.
        rest: seconds before a store that failed is asked again, by one operation first.
        clock: monotonic seconds.
    """

    def __init__(self, name: str, rest: float, clock: Callable[[], float]) -> None:
        self._name, self._rest, self._clock = name, rest, clock
        self._until: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self.failures = 0

    def enter(self, kind: str) -> bool:
        """Whether the store may be asked; after a failure the first who may is alone until it ``worked``."""
        until = self._until.get(kind)
        if until is None:
            return True
        now = self._clock()
        if until > now:
            return False
        self._until[kind] = now + self._rest
        return True

    def failed(self, kind: str, why: str) -> None:
        """An operation failed."""
        self.failures += 1
        self._until[kind] = self._clock() + self._rest
        if why in self._told:
            return
        self._told[why] = kind
        logger.warning("response cache in %s: %s; calls go on without it", self._name, why)

    def worked(self, kind: str) -> None:
        """An operation did what it should."""
        if self._until:
            self._until.pop(kind, None)
        if self._told:
            self._told = {why: told for why, told in self._told.items() if told != kind}
