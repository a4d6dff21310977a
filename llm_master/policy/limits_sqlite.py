"""
The same limits, and budgets that outlive the process, for all processes of one machine: in a SQLite file.
"""

from __future__ import annotations

import asyncio
import random
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from llm_master.policy import limits_sqlite_sql as sql
from llm_master.policy.limits_rules import Limit, Reservation, Shortage, after_fork
from llm_master.policy.limits_shared import SharedLimiter, UnansweredError
from llm_master.policy.limits_sqlite_file import LimitsFile

__all__ = ["SqliteLimiter", "limiter_at"]


class _Hold:
    """What a reservation refers to: its name, the keys of its limits, and of its budgets."""

    __slots__ = ("budgets", "limits", "name")

    def __init__(self, name: str, wanted: Sequence[Any]) -> None:
        self.name = name
        self.limits = [each.key for each in wanted if isinstance(each, Limit)]
        self.budgets = [each.key for each in wanted if not isinstance(each, Limit)]


class SqliteLimiter(SharedLimiter):
    """
    Limits and budgets in a file, with the meaning of ``MemoryLimiter``; every answer is the file's own.

    All of a call is reserved in one transaction, by a thread of the limiter. A place under ``max_concurrency``, and
    what a call holds of a budget, is a lease that is prolonged while the call lasts: a process that dies gives its
    places back, while what its calls held of budgets counts as spent, since it may be. The file must lie on a local
    disk.

    Args:
        path: the file; ``~`` is the user's home.
        timeout: seconds that an operation waits for other processes; then the file counts as not answering.
        rest: seconds before a file that failed is tried again.
        lease: seconds that is held what is not prolonged.
        wall: UNIX seconds.
        clock: monotonic seconds.
        rand: a number from 0 to 1, which spreads the waiters of several processes.
    """

    def __init__(
        self,
        path: str,
        *,
        timeout: float = 5.0,
        rest: float = 1.0,
        lease: float = 60.0,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._file = LimitsFile(path, timeout=timeout, rest=rest, chore=_prolonging(weakref.ref(self)), every=lease / 3)
        self._timeout, self._lease, self._wall = timeout, lease, wall
        super().__init__(clock, rand)
        after_fork(self)

    def _begin(self) -> None:
        super()._begin()
        self.held: dict[str, list[str]] = {}

    def reset_after_fork(self) -> None:
        """In a forked child: waiters and reservations are the parent's."""
        self._begin()

    @property
    def path(self) -> str:
        """The file."""
        return self._file.path

    @property
    def failures(self) -> int:
        """How often the file could not be read or written."""
        return self._file.failures

    def spent(self, charge: Any) -> tuple[int, int] | None:
        """What is spent in a budget's window, and held by calls under way; None when the file cannot be read."""
        found: tuple[int, int] | None = self._file.look(_spent, charge.key)
        return found

    async def aclose(self) -> None:
        """Wait until the file holds all that was told it, for as long as one operation may take."""
        await asyncio.to_thread(self._file.flush, self._timeout)

    @property
    def _outage(self) -> tuple[str, float]:
        return self._file.why or "the file did not answer in time", self._file.resting

    async def _reserve(self, name: str, limits: Sequence[Any], tokens: int) -> Reservation | Shortage:
        now, hold = self._wall(), _Hold(name, limits)
        future: asyncio.Future[Shortage | int] = asyncio.get_running_loop().create_future()

        def late(found: Any) -> None:
            if isinstance(found, int):
                self._told(hold, found, (-1, -tokens), [0 for _ in hold.budgets])

        self.held[name] = hold.limits + hold.budgets
        wish = sql.Wish(name, limits, tokens, now, now + self._lease)
        self._file.ask(future, late, sql.reserve, wish)
        try:
            # Longer than a transaction waits: usually the file itself says that it cannot.
            async with asyncio.timeout(self._timeout + 1.0):
                found = await future
        except BaseException as error:
            self.held.pop(name, None)
            if future.done() and not future.cancelled() and future.exception() is None:
                # It was granted in the moment in which its caller left, or while something held the loop up.
                late(future.result())
            if isinstance(error, OSError):
                raise UnansweredError(sent=False) from None
            raise
        if isinstance(found, Shortage):
            self.held.pop(name, None)
            return found
        return Reservation(hold, found, tokens)

    def _finish(self, reservation: Reservation, requests: int, tokens: int, finals: Sequence[int]) -> None:
        self._told(reservation.handle, reservation.cell, (requests, tokens), finals)

    def _told(self, hold: _Hold, cell: int, change: tuple[int, int], finals: Sequence[int]) -> None:
        self.held.pop(hold.name, None)
        changes = [(key, *change) for key in hold.limits]
        self._file.tell(self._settle, hold, cell, changes, list(zip(hold.budgets, finals, strict=True)))

    def _settle(self, db: Any, hold: _Hold, cell: int, changes: Any, finals: Any) -> None:
        sql.settle(db, hold.name, cell, changes, finals)
        # Who looks now comes behind this transaction, in the same thread.
        self._nudge([*hold.limits, *hold.budgets])

    def _stop(self, keys: Iterable[str], seconds: float) -> None:
        self._file.tell(sql.stop, tuple(keys), self._wall() + seconds)

    def prolonging(self) -> tuple[Callable[..., Any], Any, Any] | None:
        """What keeps the reservations of this process, None when there are none."""
        if not self.held:
            return None
        return sql.prolong, list(self.held.items()), self._wall() + self._lease


def _prolonging(ref: weakref.ref[SqliteLimiter]) -> Callable[[], tuple[Callable[..., Any], Any, Any] | None]:
    def chore() -> tuple[Callable[..., Any], Any, Any] | None:
        limiter = ref()
        return None if limiter is None else limiter.prolonging()

    return chore


def _spent(db: Any, key: str) -> tuple[int, int]:
    return (0, 0) if db is None else sql.spent(db, key)


@cache
def limiter_at(path: str) -> SqliteLimiter:
    """The limiter of this process for a file, the same for every client."""
    return SqliteLimiter(path)
