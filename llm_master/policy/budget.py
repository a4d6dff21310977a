"""
How many retries a process may make: a share of its calls and a few a second, so that an outage is not made worse.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import cache

import msgspec

from llm_master.errors import ConfigurationError

__all__ = ["BudgetPolicy", "RetryBudget", "shared_budget"]

# Five deposits of 0.2 are one token, however floats add up.
_WHOLE = 1.0 - 1e-9


class BudgetPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """
    How much is retried at most.

    Attributes:
        ratio: tokens that a first attempt deposits; a retry takes one.
        floor: retries that any one second has without a token.
        capacity: tokens that are saved at most.
        memory: whole seconds after which a token that was not used is gone; a busy hour saves nothing for an outage.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    ratio: float = 0.2
    floor: int = 10
    capacity: float = 2000.0
    memory: int = 10

    def __post_init__(self) -> None:
        """Refuse what is negative, no number or, where a whole one is needed, broken."""
        for name in ("ratio", "capacity"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < 0:
                raise ConfigurationError(f"retry budget {name}={value!r}: give a number of at least 0")
        for name, least in (("floor", 0), ("memory", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigurationError(f"retry budget {name}={value!r}: give a whole number of at least {least}")


class RetryBudget:
    """
    A token bucket that every call of a process pays into and every retry takes from.

    In any stretch of time the retries are at most ``ratio`` times the first attempts (those of the ``memory`` seconds
    before it included) and ``floor`` for each second begun. It is for any number of threads and never waits; a forked
    child starts with an empty bucket.

    Args:
        policy: how much is retried at most.
        clock: monotonic seconds.
    """

    __slots__ = ("__weakref__", "_cells", "_clock", "_floor", "_lock", "_second", "policy")

    def __init__(self, policy: BudgetPolicy | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.policy = policy if policy is not None else BudgetPolicy()
        self._clock = clock
        self.reset_after_fork()
        _LIVE.add(self)

    def reset_after_fork(self) -> None:
        """Empty the bucket: a forked child has not made the parent's calls, and its lock is not ours."""
        self._lock = threading.Lock()
        # Tokens by the second in which they came, oldest first: at most memory + 1 cells.
        self._cells: deque[list[float]] = deque(maxlen=self.policy.memory + 1)
        self._second = -math.inf
        # The moments of the latest retries that needed no token.
        self._floor: deque[float] = deque(maxlen=self.policy.floor)

    def deposit(self) -> None:
        """Pay in for the first attempt of a call."""
        with self._lock:
            now = self._clock()
            if now >= self._second + 1.0:
                self._second = math.floor(now)
                # What this pushes out of the other end is too old.
                self._cells.append([self._second, 0.0])
            self._cells[-1][1] += self.policy.ratio

    def try_retry(self) -> bool:
        """Take what one retry costs; False when there is nothing left, and the retry must not be made."""
        with self._lock:
            now = self._clock()
            used, floor = self._floor, self.policy.floor
            if len(used) < floor or (used and now - used[0] >= 1.0):
                used.append(now)
                return True
            if self._saved(now) < _WHOLE:
                return False
            self._drop(1.0)
            return True

    @property
    def saved(self) -> float:
        """Tokens there are now, without the floor."""
        with self._lock:
            return self._saved(self._clock())

    def _saved(self, now: float) -> float:
        """Tokens that are not too old; the oldest ones over the capacity go too."""
        cells, policy = self._cells, self.policy
        while cells and cells[0][0] + policy.memory < math.floor(now):
            cells.popleft()
        total = math.fsum(cell[1] for cell in cells)
        if total > policy.capacity:
            self._drop(total - policy.capacity)
            total = policy.capacity
        return total

    def _drop(self, tokens: float) -> None:
        """Take tokens away, oldest first: they would be gone first."""
        for cell in self._cells:
            part = min(cell[1], tokens)
            cell[1] -= part
            tokens -= part


@cache
def shared_budget() -> RetryBudget:
    """The budget of this process, the same for every client that has none of its own."""
    return RetryBudget()


_LIVE: weakref.WeakSet[RetryBudget] = weakref.WeakSet()


def _reset_all() -> None:
    for budget in list(_LIVE):
        budget.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
