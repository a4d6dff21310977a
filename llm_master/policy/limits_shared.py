"""
What the limiters that share a store have in common: the order of the waiters of this process, and what becomes of a
call when the store does not answer.
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
from typing import Any

from llm_master.errors import RateLimitError
from llm_master.policy.limits_rules import Limit, Reservation, Shortage, check_fits, check_tokens, merged, refusal
from llm_master.retry_after import provider_stop

__all__ = ["SharedLimiter", "UnansweredError"]

_SOON = 0.02  # seconds over which processes that wait for the same moment spread
_LONGEST_PAUSE = 1.0  # between two looks where a call of another process may make room

_NUMBERS = itertools.count()


class UnansweredError(Exception):
    """The store did not answer; ``sent`` tells whether it may have done what it was asked."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__()
        self.sent = sent


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


class SharedLimiter:
    """
    Limits and budgets that a store keeps for several processes.

    Within a process callers go in order; between processes order is by chance. While the store does not answer, limits
    that fail open let calls go on, with a note on their reservation; others fail, and so do budgets.

    Args:
        clock: monotonic seconds.
        rand: a number from 0 to 1, which spreads the waiters of several processes.
    """

    # What a pause between two looks is multiplied with.
    _pace = 1.0

    def __init__(self, clock: Callable[[], float] = time.monotonic, rand: Callable[[], float] = random.random) -> None:
        self._clock, self._rand = clock, rand
        self._begin()

    def _begin(self) -> None:
        self._prefix = f"{os.getpid():x}-{os.urandom(6).hex()}"
        self._arrivals = 0
        # Re-entrant: a coroutine that the garbage collector closes leaves its line, in whatever thread that happens.
        self._lock = threading.RLock()
        self._lines: dict[str, list[_Turn]] = {}

    # -- what a store does ------------------------------------------------------------------------------------------

    async def _reserve(self, name: str, limits: Sequence[Any], tokens: int) -> Reservation | Shortage:
        """Have the store reserve under a name, or say what is lacking; raises UnansweredError."""
        raise NotImplementedError

    def _finish(self, reservation: Reservation, requests: int, tokens: int, finals: Sequence[int]) -> None:
        """Tell the store the end of a reservation of this process: changes of the counts, and what charges come to."""
        raise NotImplementedError

    def _stop(self, keys: Iterable[str], seconds: float) -> None:
        """Tell the store that a provider allows nothing more for some seconds."""
        raise NotImplementedError

    @property
    def _outage(self) -> tuple[str, float]:
        """Why the store does not answer, and for how many seconds it is left alone."""
        raise NotImplementedError

    # -- reserve ------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        limits: Sequence[Limit],
        tokens: int,
        *,
        timeout: float | None = None,
        provider: str | None = None,
        model: str | None = None,
        charges: Sequence[Any] = (),
    ) -> Reservation:
        """
        Reserve one request, its tokens, one place and its charges on budgets, or wait for all of them.

        Arguments and errors are those of ``MemoryLimiter.acquire``.

        Raises:
            RateLimitError: also when the store does not answer and a limit does not fail open
                (code ``limits_unavailable``).
        """
        check_tokens(tokens)
        for limit in limits:
            check_fits(limit, tokens, provider, model)
        if not limits and not charges:
            return Reservation(None, 0, tokens)
        wanted: Sequence[Any] = (*merged(limits), *charges) if charges else merged(limits)
        began = self._clock()
        patience = math.inf if timeout is None else timeout if timeout > 0 else 0.0
        with self._lock:
            self._arrivals += 1
            turn = _Turn(self._arrivals)
        first: Shortage | None = None
        try:
            while True:
                shortage = self._others_first(wanted, turn)
                if shortage is None:
                    try:
                        got = await self._reserve(f"{self._prefix}:{next(_NUMBERS):x}", wanted, tokens)
                    except UnansweredError:
                        return self._without_store(wanted, tokens, provider, model)
                    if isinstance(got, Reservation):
                        got.charges = tuple(charges)
                        if first is not None:
                            got.waited, got.wait_reason = self._clock() - began, first.reason
                        return got
                    shortage = got
                first, turn.shortage = first or shortage, shortage
                waited = self._clock() - began
                left = patience - waited
                if left <= 0.0 or shortage.is_beyond(left):
                    raise refusal(shortage, provider, model, timeout, waited if patience > 0.0 else 0.0)
                self._stand(turn, shortage.limit.key)
                await turn.rest(min(left, self._pause(turn, shortage)))
        finally:
            self._stand(turn, None)

    def _without_store(
        self, limits: Sequence[Any], tokens: int, provider: str | None, model: str | None
    ) -> Reservation:
        why, resting = self._outage
        closed = next((limit for limit in limits if not limit.fail_open), None)
        if closed is None:
            return Reservation(None, 0, tokens, note=f"went on without its shared limits: {why}")
        if isinstance(closed, Limit):
            what, instead = f"the shared limit {closed.key}", "check the store of the limits, set fail_open=True"
        else:
            what, instead = f"the budget {closed.key}", "check the store of the budgets"
        raise RateLimitError(
            f"{what} cannot be kept ({why}); {instead} or give a fallback_model=",
            provider=provider,
            model=model,
            code="limits_unavailable",
            retryable=False,
            retry_after=resting,
        )

    # -- give back ----------------------------------------------------------------------------------------------

    def settle(
        self, reservation: Reservation, tokens: int | None = None, cost: int | None = None, used: int | None = None
    ) -> None:
        """
        End a reservation with what was really used; see ``MemoryLimiter.settle``.

        It never waits, and a store is told once.
        """
        finals = [charge.final(tokens if used is None else used, cost) for charge in reservation.charges]
        self._end(reservation, 0, 0 if tokens is None else max(0, tokens) - reservation.tokens, finals)

    def cancel(self, reservation: Reservation) -> None:
        """Undo a reservation whose request was never sent."""
        self._end(reservation, -1, -reservation.tokens, [0 for _ in reservation.charges])

    def observe(self, keys: Iterable[str], headers: Mapping[str, str], now: float | None = None) -> None:
        """Heed a provider's ratelimit headers, for all processes; see ``MemoryLimiter.observe``."""
        seconds = provider_stop(headers, now)
        if seconds > 0.0:
            self._stop(keys, seconds)

    def _end(self, reservation: Reservation, requests: int, tokens: int, finals: Sequence[int]) -> None:
        if not reservation.open:
            return
        reservation.open = False
        reservation.tokens += tokens
        if reservation.handle is not None and reservation.handle.name.startswith(self._prefix):
            self._finish(reservation, requests, tokens, finals)

    # -- the line of this process -------------------------------------------------------------------------------

    def _others_first(self, limits: Sequence[Any], turn: _Turn) -> Shortage | None:
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

    def _nudge(self, keys: Iterable[str]) -> None:
        """Room was made under these keys: the first of each line looks again."""
        with self._lock:
            for key in keys:
                line = self._lines.get(key)
                if line:
                    line[0].wake()
