"""
The same limits shared by any number of processes and hosts, in Redis or Valkey.

The store decides, in one script; here is the order of the waiters of this process, and what becomes of a call when the
store does not answer.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from llm_master.errors import ConfigurationError, RateLimitError
from llm_master.policy.limits_rules import (
    Limit,
    Reservation,
    Shortage,
    after_fork,
    check_fits,
    check_tokens,
    merged,
    refusal,
)
from llm_master.policy.limits_store import Link, Store, UnansweredError
from llm_master.retry_after import provider_stop

__all__ = ["RedisLimiter"]

_SOON = 0.02  # seconds over which processes that wait for the same moment spread
_LONGEST_PAUSE = 1.0  # between two looks where a call of another process may make room

_NUMBERS = itertools.count()


class _Hold:
    """What a reservation refers to: its name, the store's keys, the store's time (s), the link that prolongs it."""

    __slots__ = ("at", "keys", "link", "name")

    def __init__(self, name: str, keys: list[str], at: float, link: Link) -> None:
        self.name, self.keys, self.at, self.link = name, keys, at, link


class _Turn:
    """One waiting call of this process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.key: str | None = None
        self.shortage: Shortage | None = None
        self.looks = 0
        self.loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Let it look again, from any thread."""
        with contextlib.suppress(RuntimeError):  # a closed loop has no waiters
            self.loop.call_soon_threadsafe(self._woken.set)

    async def rest(self, seconds: float) -> None:
        """Sleep some seconds, or until it is woken."""
        timer = self.loop.call_later(seconds, self._woken.set) if seconds < math.inf else None
        try:
            await self._woken.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._woken.clear()


class RedisLimiter:
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
        rest: float = 1.0,
        lease: float = 60.0,
        at: Callable[[], float | str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigurationError("the address of shared limits begins with redis://, rediss:// or unix://")
        self._store = Store(url, timeout=timeout, rest=rest, lease=lease, at=at, clock=clock, settled=self._nudge)
        self._namespace, self._lease, self._clock, self._rand = namespace, lease, clock, rand
        self._pace = 1.0 if at is None else 0.0  # a time that is given passes while nobody waits
        self._begin()
        after_fork(self)

    def _begin(self) -> None:
        self._prefix = f"{os.getpid():x}-{os.urandom(6).hex()}"
        self._arrivals = 0
        # Re-entrant: a coroutine that the garbage collector closes leaves its line, in whatever thread that happens.
        self._lock = threading.RLock()
        self._lines: dict[str, list[_Turn]] = {}

    def reset_after_fork(self) -> None:
        """In a forked child: connections, waiters and reservations are the parent's."""
        self._store.reset_after_fork()
        self._begin()

    @property
    def failures(self) -> int:
        """How often the store did not answer or failed."""
        return self._store.failures

    # -- reserve ------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        limits: Sequence[Limit],
        tokens: int,
        *,
        timeout: float | None = None,
        provider: str | None = None,
        model: str | None = None,
    ) -> Reservation:
        """
        Reserve one request, its tokens and one place under every limit, or wait for all of them.

        Arguments and errors are those of ``MemoryLimiter.acquire``.

        Raises:
            RateLimitError: also when the store does not answer and a limit does not fail open
                (code ``limits_unavailable``).
        """
        check_tokens(tokens)
        for limit in limits:
            check_fits(limit, tokens, provider, model)
        if not limits:
            return Reservation(None, 0, tokens)
        limits, link, began = merged(limits), self._store.link(), self._clock()
        patience = math.inf if timeout is None else timeout if timeout > 0 else 0.0
        with self._lock:
            self._arrivals += 1
            turn = _Turn(self._arrivals)
        first: Shortage | None = None
        try:
            while True:
                shortage = self._others_first(limits, turn)
                if shortage is None:
                    try:
                        got = await self._reserve(link, limits, tokens)
                    except UnansweredError:
                        return self._without_store(limits, tokens, provider, model)
                    if isinstance(got, Reservation):
                        if first is not None:
                            got.waited, got.wait_reason = self._clock() - began, first.reason
                        return got
                    shortage = got
                first, turn.shortage = first or shortage, shortage
                waited = self._clock() - began
                left = patience - waited
                if left <= 0.0 or (shortage.certain and shortage.seconds > left):
                    raise refusal(shortage, provider, model, timeout, waited if patience > 0.0 else 0.0)
                self._stand(turn, shortage.limit.key)
                await turn.rest(min(left, self._pause(turn, shortage)))
        finally:
            self._stand(turn, None)

    async def _reserve(self, link: Link, limits: Sequence[Limit], tokens: int) -> Reservation | Shortage:
        name = f"{self._prefix}:{next(_NUMBERS):x}"
        keys = self._keys(limit.key for limit in limits)
        figures = [
            "" if figure is None else figure
            for limit in limits
            for figure in (limit.rpm, limit.tpm, limit.max_concurrency)
        ]
        reply = await self._store.run(link, keys, "reserve", name, tokens, self._lease, *figures)
        if reply[0] == 1:
            if any(limit.max_concurrency is not None for limit in limits):
                self._store.hold(link, name, keys)
            return Reservation(_Hold(name, keys, reply[2] / 1000.0, link), reply[1], tokens)
        milliseconds, number, kind, certain = reply[1:]
        seconds = math.inf if milliseconds < 0 else milliseconds / 1000.0
        return Shortage(seconds, limits[number - 1], kind, certain=bool(certain))

    def _without_store(
        self, limits: Sequence[Limit], tokens: int, provider: str | None, model: str | None
    ) -> Reservation:
        closed = next((limit for limit in limits if not limit.fail_open), None)
        if closed is None:
            return Reservation(None, 0, tokens, note=f"went on without its shared limits: {self._store.why}")
        raise RateLimitError(
            f"the shared limit {closed.key} cannot be kept ({self._store.why}); check the store of the limits, set"
            " fail_open=True or give a fallback_model=",
            provider=provider,
            model=model,
            code="limits_unavailable",
            retryable=False,
            retry_after=self._store.resting,
        )

    # -- give back ----------------------------------------------------------------------------------------------

    def settle(self, reservation: Reservation, tokens: int | None = None) -> None:
        """
        End a reservation with the tokens really used; None keeps the estimate (a cancelled call may be billed).

        It never waits: the store is told by a task of the running loop, or, where none runs, with the next command.
        """
        self._end(reservation, 0, 0 if tokens is None else max(0, tokens) - reservation.tokens)

    def cancel(self, reservation: Reservation) -> None:
        """Undo a reservation whose request was never sent."""
        self._end(reservation, -1, -reservation.tokens)

    def observe(self, keys: Iterable[str], headers: Mapping[str, str], now: float | None = None) -> None:
        """Heed a provider's ratelimit headers, for all processes; see ``MemoryLimiter.observe``."""
        seconds = provider_stop(headers, now)
        if seconds > 0.0:
            self._store.post(self._keys(keys), "stop", "", seconds)

    async def aclose(self) -> None:
        """Tell the store what it was not told yet, within one timeout, and close this loop's connections."""
        await self._store.aclose()

    def _end(self, reservation: Reservation, requests: int, tokens: int) -> None:
        if not reservation.open:
            return
        reservation.open = False
        reservation.tokens += tokens
        hold = reservation.handle
        if hold is not None and hold.name.startswith(self._prefix):
            hold.link.places.pop(hold.name, None)
            self._store.post(hold.keys, "settle", hold.name, reservation.cell, requests, tokens)

    # -- the line of this process -------------------------------------------------------------------------------

    def _others_first(self, limits: Sequence[Limit], turn: _Turn) -> Shortage | None:
        """What an earlier call of this process waits for, if this call needs it too."""
        with self._lock:
            for limit in limits:
                line = self._lines.get(limit.key, [])
                while line and line[0].loop.is_closed():
                    del line[0]
                    if line:
                        line[0].wake()
                if line and line[0].number < turn.number:
                    known = line[0].shortage
                    return Shortage(math.inf if known is None else known.seconds, limit, "line", certain=False)
        return None

    def _stand(self, turn: _Turn, key: str | None) -> None:
        """Move a call to the line of a key, or out of all lines; the next of the line it leaves looks again."""
        with self._lock:
            if turn.key == key:
                return
            old = self._lines.get(turn.key, []) if turn.key is not None else []
            if turn in old:
                led = old[0] is turn
                old.remove(turn)
                if old and led:
                    old[0].wake()
            if turn.key is not None and not old:
                self._lines.pop(turn.key, None)
            turn.key = key
            if key is not None:
                bisect.insort(self._lines.setdefault(key, []), turn, key=lambda each: each.number)

    def _pause(self, turn: _Turn, shortage: Shortage) -> float:
        if shortage.kind == "line":
            return math.inf  # the first of the line wakes the next when it goes
        if shortage.certain:
            return (shortage.seconds + self._rand() * _SOON) * self._pace
        turn.looks += 1
        backoff = min(_LONGEST_PAUSE, _SOON * 2.0 ** min(turn.looks, 10)) * (0.5 + self._rand())
        return min(shortage.seconds + self._rand() * _SOON, backoff) * self._pace

    def _nudge(self, keys: list[str]) -> None:
        """Room was made under these keys: the first of each line looks again."""
        with self._lock:
            for key in keys[::2]:
                line = self._lines.get(key.partition(":w:")[2])
                if line:
                    line[0].wake()

    def _keys(self, keys: Iterable[str]) -> list[str]:
        return [f"{{{self._namespace}}}:{kind}:{key}" for key in keys for kind in ("w", "p")]
