"""
The same limits shared by any number of processes and hosts, in Redis or Valkey: the store decides, in one script.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llm_master.errors import ConfigurationError
from llm_master.policy.limits_rules import Limit, Reservation, Shortage, after_fork
from llm_master.policy.limits_shared import SharedLimiter, UnansweredError
from llm_master.policy.limits_store import Link, Store, nothing_of

__all__ = ["RedisLimiter"]

# Seconds for which the sum of a budget's window is kept after its end: calls that began in it may end later.
_KEPT = 2 * 86400.0


class _Hold:
    """What a reservation refers to: its name, the store's keys, the store's time (s), the link that prolongs it."""

    __slots__ = ("at", "keys", "link", "name")

    def __init__(self, name: str, keys: list[str], at: float, link: Link) -> None:
        self.name, self.keys, self.at, self.link = name, keys, at, link


class RedisLimiter(SharedLimiter):
    """
    Limits shared through Redis or Valkey, with the meaning of ``MemoryLimiter``; every answer is the store's own.

    Within a process callers go in order; between processes order is by chance. A store that does not answer within
    ``timeout`` is left alone for ``rest`` seconds; meanwhile limits that fail open let calls go on, with a note on
    their reservation, and others fail. A call's place under ``max_concurrency`` is a lease that is prolonged while the
    call lasts, so that a process that dies gives its places back. What was used is only as durable as the store.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        namespace: the hash tag that all keys begin with.
        timeout: seconds that a command may take, connecting included.
        patience: the same for one that is about budgets: without an answer the call fails.
        rest: seconds before a store that failed is asked again, by one call first.
        lease: seconds that a place is held without being prolonged.
        at: gives the time instead of the server: seconds, or a key that counts it; for tests.
        clock: monotonic seconds.
        rand: a number from 0 to 1, which spreads the waiters of several processes.

    Raises:
        ConfigurationError: the URL is none of these, or the ``redis`` extra is not installed (when first used).
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "llmm",
        timeout: float = 0.1,
        patience: float = 3.0,
        rest: float = 1.0,
        lease: float = 60.0,
        at: Callable[[], float | str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigurationError("the address of shared limits begins with redis://, rediss:// or unix://")
        self._store = Store(
            url, timeout=timeout, patience=patience, rest=rest, lease=lease, at=at, clock=clock, settled=self._told
        )
        self._namespace, self._lease = namespace, lease
        super().__init__(clock, rand)
        if at is not None:
            self._pace = 0.0  # a time that is given passes while nobody waits
        after_fork(self)

    def reset_after_fork(self) -> None:
        """In a forked child: connections, waiters and reservations are the parent's."""
        self._store.reset_after_fork()
        self._begin()

    @property
    def failures(self) -> int:
        """How often the store did not answer or failed."""
        return self._store.failures

    @property
    def _outage(self) -> tuple[str, float]:
        return self._store.why, self._store.resting

    async def aclose(self) -> None:
        """Tell the store what it was not told yet, within one timeout, and close this loop's connections."""
        await self._store.aclose()

    async def _reserve(self, name: str, limits: Sequence[Any], tokens: int) -> Reservation | Shortage:
        link, keys = self._store.link(), self._keys(limits)
        figures = [
            "" if figure is None else figure
            for limit in limits
            for figure in (
                (limit.rpm, limit.tpm, limit.max_concurrency) if isinstance(limit, Limit) else _figures(limit)
            )
        ]
        try:
            reply = await self._store.run(link, keys, "reserve", name, tokens, self._lease, *figures)
        except UnansweredError as failure:
            if failure.sent and nothing_of(keys):
                self._store.post(keys, "undo", name)  # it may have been done; the call is refused
            raise
        if reply[0] == 1:
            if any(limit.max_concurrency is not None or not isinstance(limit, Limit) for limit in limits):
                self._store.hold(link, name, keys)
            return Reservation(_Hold(name, keys, reply[2] / 1000.0, link), reply[1], tokens)
        milliseconds, number, kind, certain, *used = reply[1:]
        seconds = math.inf if milliseconds < 0 else milliseconds / 1000.0
        spent = int(used[0]) - int(used[1]) if used else None
        return Shortage(seconds, limits[number - 1], kind, bool(certain), spent)

    def _finish(self, reservation: Reservation, requests: int, tokens: int, finals: Sequence[int]) -> None:
        hold = reservation.handle
        hold.link.places.pop(hold.name, None)
        self._store.post(hold.keys, "settle", hold.name, reservation.cell, requests, tokens, *map(str, finals))

    def _stop(self, keys: Iterable[str], seconds: float) -> None:
        self._store.post([f"{{{self._namespace}}}:{kind}:{key}" for key in keys for kind in "wp"], "stop", "", seconds)

    def _keys(self, limits: Sequence[Any]) -> list[str]:
        """The two keys of each: window and places of a limit, sum and open calls of a budget."""
        return [
            f"{{{self._namespace}}}:{kind}:{limit.key}"
            for limit in limits
            for kind in ("wp" if isinstance(limit, Limit) else "uo")
        ]

    def _told(self, keys: list[str]) -> None:
        start = len(self._namespace) + 5
        self._nudge(key[start:] for key in keys[::2])


def _figures(charge: Any) -> tuple[str, str, str]:
    """Amount, most and the milliseconds for which the sum is kept, as texts: numbers of Lua are not exact enough."""
    ends = charge.span.ends
    kept = "" if ends is None else str(int((max(0.0, ends - time.time()) + _KEPT) * 1000))
    # What is over the whole budget need not be told: a number of more than 64 bits is an error there.
    return str(min(charge.amount, charge.cap + 1)), str(2**63 - 1 if charge.free else charge.cap), kept
