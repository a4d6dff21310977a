"""
Answers kept in this process.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from llm_master.policy.cache_forks import around_fork

__all__ = ["MemoryStore"]

#: Bytes that an entry takes beside its key and value.
OVERHEAD = 200


class MemoryStore:
    """
    A bounded store for any number of threads and event loops; what was not used for longest goes first.

    Args:
        max_entries: answers kept at most.
        max_bytes: bytes of keys and values, with ``OVERHEAD`` for each entry; a larger value is not kept.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        max_entries: int = 10_000,
        max_bytes: int = 64 * 1024 * 1024,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries, self._max_bytes, self._clock = max_entries, max_bytes, clock
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._lock = threading.RLock()
        self.size = 0
        around_fork(self)

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: str) -> bytes | None:
        """The value, None when there is none that is still valid."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            value, expires = found
            if expires <= self._clock():
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            return value

    async def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """Keep a value for ``ttl`` seconds, None for as long as there is room."""
        size = _size(key, value)
        with self._lock:
            self._drop(key)
            if size > self._max_bytes or self._max_entries < 1 or (ttl is not None and not ttl > 0.0):
                return
            self._entries[key] = (value, math.inf if ttl is None else self._clock() + ttl)
            self.size += size
            while len(self._entries) > self._max_entries or self.size > self._max_bytes:
                self._drop(next(iter(self._entries)))

    async def aclose(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self.size = 0

    def _drop(self, key: str) -> None:
        found = self._entries.pop(key, None)
        if found is not None:
            self.size -= _size(key, found[0])

    def before_fork(self) -> None:
        """Let no other thread be halfway through a change."""
        self._lock.acquire()

    def after_fork(self, *, child: bool) -> None:  # noqa: ARG002  # a child keeps its copy
        """Go on with what is there."""
        self._lock.release()


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + OVERHEAD
