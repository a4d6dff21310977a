"""
Requests, tokens and concurrency in any 60 seconds, kept within one process.

A call reserves its estimate over all limits that apply, all or none, and settles with what it really used. Each key has
61 one-second cells, so that no 60 seconds ever hold more than a limit. Who does not fit waits in line.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from llm_master.policy.limits_rules import (
    Limit,
    Reservation,
    Shortage,
    after_fork,
    check_fits,
    check_tokens,
    refusal,
)
from llm_master.policy.limits_windows import Window, Windows, commit, release, worst
from llm_master.retry_after import provider_stop

if TYPE_CHECKING:
    import asyncio

__all__ = ["Limit", "MemoryLimiter", "Reservation"]


class _Waiter:
    """One call in line; all but ``future`` is changed under the limiter's lock only."""

    __slots__ = (
        "armed",
        "began",
        "future",
        "keys",
        "limits",
        "loop",
        "number",
        "patience",
        "reservation",
        "shortage",
        "timer",
        "tokens",
        "unseen",
    )

    def __init__(
        self, limits: Sequence[Limit], tokens: int, loop: asyncio.AbstractEventLoop, began: float, patience: float
    ) -> None:
        self.limits, self.tokens, self.loop, self.began, self.patience = limits, tokens, loop, began, patience
        self.keys = tuple(limit.key for limit in limits)
        self.unseen = set(self.keys)  # the limits that never had room while it waited
        self.future: asyncio.Future[None] = loop.create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.armed = math.inf
        self.number = 0
        self.reservation: Reservation | None = None
        self.shortage: Shortage | None = None

    def wake(self) -> None:
        """Let the call go on; runs in its own loop."""
        if not self.future.done():
            self.future.set_result(None)

    def arm(self, seconds: float, tick: Callable[[_Waiter], None]) -> None:
        """Look again after some seconds; runs in its own loop."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.future.done():
            # A clock that runs apart from the loop's must not make the loop spin.
            self.timer = self.loop.call_later(max(seconds, 0.001), tick, self)

    def tell(self, function: Callable[..., None], *arguments: Any) -> bool:
        """Run a function in the call's own loop, from any thread; False when that loop is closed."""
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return False
        return True


class MemoryLimiter:
    """
    Limits of one process, for calls from any number of threads and event loops.

    ``try_acquire`` never waits, ``acquire`` waits in line; each reservation ends with ``settle`` or ``cancel``.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows = Windows()
        self._reset_lines()
        after_fork(self)

    def _reset_lines(self) -> None:
        self._lock = threading.Lock()
        # What could not be done at once because the lock was held; the holder does it when it lets go. A finalizer may
        # settle while its own thread holds the lock, so settling must never wait for it.
        self._later: deque[tuple[Any, ...]] = deque()
        # Waiters by the keys they need, each line in the order of arrival: only its first can be next.
        self._lines: dict[tuple[str, ...], OrderedDict[int, _Waiter]] = {}
        # Keys that a waiter needs next: when it can go at the earliest, and whether nothing can hasten it.
        self._claimed: dict[str, tuple[float, bool]] = {}
        self._arrivals = 0

    def reset_after_fork(self) -> None:
        """In a forked child: what was used still counts; the parent's calls, waiters and lock are not ours."""
        self._windows = self._windows.inherited()
        self._reset_lines()

    # -- reserve ------------------------------------------------------------------------------------------------

    def try_acquire(
        self, limits: Sequence[Limit], tokens: int, provider: str | None = None, model: str | None = None
    ) -> Reservation | float:
        """
        Reserve one request, its tokens and one place under every limit, or nothing.

        Returns:
            The reservation; or the seconds until time alone can make room, inf when only another call's end can.

        Raises:
            RateLimitError: the call alone needs more tokens than a limit allows in a minute.
            InvalidRequestError: ``tokens`` is not a whole number of at least 0.
        """
        if tokens.__class__ is not int or tokens < 0:
            check_tokens(tokens)
        lock = self._lock
        lock.acquire()
        try:
            now = self._clock()
            cell = int(now)
            windows, claimed = self._windows, self._claimed
            found: tuple[Window, ...] = ()
            for limit in limits:
                key, rpm, tpm, places = limit.key, limit.rpm, limit.tpm, limit.max_concurrency
                window = windows.get(key)
                if window is None or window.cell < cell:
                    window = windows.of(key, now)
                if (
                    (rpm is not None and window.request_sum >= rpm)
                    or (tpm is not None and window.token_sum + tokens > tpm)
                    or (places is not None and window.inflight >= places)
                    or window.stop > now
                    or key in claimed
                ):
                    break
                found += (window,)
            else:
                return commit(found, cell, tokens)
            for limit in limits:
                check_fits(limit, tokens, provider, model)
            return worst(windows.lacking(limits, tokens, now, claimed)).seconds
        finally:
            lock.release()
            if self._later:
                self._catch_up()

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
        Reserve as ``try_acquire`` does, waiting in line for room.

        Who came first under a limit that is exhausted goes first, however large; calls that do not share it pass.
        What is spent of a budget does not come back, so that nobody waits for it; what calls under way hold of it may.

        Args:
            limits: every limit that applies to the call.
            tokens: the estimate: input and the most output there can be.
            timeout: seconds to wait at most; 0 never waits, None has no end.
            provider: named in errors.
            model: named in errors.
            charges: what it takes from budgets, with the limits or not at all.

        Raises:
            RateLimitError: there is no room within ``timeout``, known at once where only time can help; or the call
                alone is larger than a limit.
            BudgetExceededError: a budget has no room.
            InvalidRequestError: ``tokens`` is not a whole number of at least 0.
        """
        if charges:
            check_tokens(tokens)
            for limit in limits:
                check_fits(limit, tokens, provider, model)
            limits = (*limits, *charges)
        else:
            got = self.try_acquire(limits, tokens, provider, model)
            if isinstance(got, Reservation):
                return got
        import asyncio

        patience = math.inf if timeout is None else timeout if timeout > 0 else 0.0
        waiter = _Waiter(limits, tokens, asyncio.get_running_loop(), self._clock(), patience)
        first = self._enqueue(waiter)
        if not waiter.future.done():
            deadline = waiter.loop.call_later(patience, waiter.wake) if patience < math.inf else None
            try:
                await waiter.future
            except BaseException:
                self._put_off(self._abandon, waiter)
                raise
            finally:
                for timer in (deadline, waiter.timer):
                    if timer is not None:
                        timer.cancel()
        reservation, waited = self._outcome(waiter)
        if reservation is None:
            shortage = waiter.shortage or first
            assert shortage is not None  # noqa: S101  # only a call that lacked something was put in line
            raise refusal(shortage, provider, model, timeout, waited)
        if first is not None:
            reservation.waited, reservation.wait_reason = waited, first.reason
        return reservation

    # -- give back ----------------------------------------------------------------------------------------------

    def settle(
        self, reservation: Reservation, tokens: int | None = None, cost: int | None = None, used: int | None = None
    ) -> None:
        """
        End a reservation with the tokens really used; None keeps the estimate (a cancelled call may be billed).

        ``cost`` is in picodollars and counts under budgets, as ``used`` does, the tokens where those of the limits are
        not known; None keeps what is held of them. The difference of the tokens is refunded or charged to the second
        of the reservation. Ending one twice changes nothing. It never waits and may be called from any thread and from
        a finalizer.
        """
        self._end(reservation, tokens, cost, used, undo=False)

    def cancel(self, reservation: Reservation) -> None:
        """Undo a reservation whose request was never sent."""
        self._end(reservation, None, None, None, undo=True)

    def observe(self, keys: Iterable[str], headers: Mapping[str, str], now: float | None = None) -> None:
        """
        Heed a provider's ratelimit headers: with nothing remaining, nothing more goes out before the reset.

        They only tighten what the user set, and an earlier stop is never shortened.

        Args:
            keys: the keys that the provider's count is about.
            headers: of its answer, looked up without regard to case by the mapping.
            now: UNIX time in seconds, for resets given as a date; None reads the clock.
        """
        seconds = provider_stop(headers, now)
        if seconds > 0.0:
            self._put_off(self._stop, tuple(keys), self._clock() + seconds)

    def used(self, key: str) -> tuple[int, int, int]:
        """Requests and tokens counted under a key in the last 60 seconds, and its calls in flight."""
        with self._lock:
            window = self._windows.get(key)
            if window is None:
                return 0, 0, 0
            window.advance(max(int(self._clock()), window.cell))
            found = window.request_sum, window.token_sum, window.inflight
        if self._later:
            self._catch_up()
        return found

    async def aclose(self) -> None:
        """Nothing to close; a shared limiter has connections."""

    def spent(self, charge: Any) -> tuple[int, int] | None:
        """What is spent in a budget's window, and held by calls under way."""
        with self._lock:
            purse = self._windows.purses.get(charge.key)
            found = (0, 0) if purse is None else (purse.spent, purse.held)
        if self._later:
            self._catch_up()
        return found

    def _end(
        self, reservation: Reservation, tokens: int | None, cost: int | None, used: int | None, *, undo: bool
    ) -> None:
        lock = self._lock
        if lock.acquire(False):  # noqa: FBT003  # "blocking" has no keyword that is as fast
            try:
                release(reservation, tokens, cost, used, undo=undo)
                if self._lines:
                    self._pump()
            finally:
                lock.release()
        else:
            self._later.append((partial(release, undo=undo), reservation, tokens, cost, used))
        if self._later:
            self._catch_up()

    def _put_off(self, function: Callable[..., None], *arguments: Any) -> None:
        self._later.append((function, *arguments))
        self._catch_up()

    def _catch_up(self) -> None:
        """Do what was put off, unless the lock is held: then its holder comes here next."""
        while self._later and self._lock.acquire(blocking=False):
            try:
                while self._later:
                    function, *arguments = self._later.popleft()
                    function(*arguments)
                if self._lines or self._claimed:
                    self._pump()
            finally:
                self._lock.release()

    def _stop(self, keys: tuple[str, ...], until: float) -> None:
        now = self._clock()
        for key in keys:
            window = self._windows.of(key, now)
            window.stop = max(window.stop, until)

    # -- the line -----------------------------------------------------------------------------------------------

    def _enqueue(self, waiter: _Waiter) -> Shortage | None:
        """Put a call in line; what it lacks, or None when it goes at once. A call that cannot wait is woken."""
        with self._lock:
            lacking = self._windows.lacking(waiter.limits, waiter.tokens, self._clock(), self._claimed)
            waiter.shortage = first = worst(lacking) if lacking else None
            if waiter.patience <= 0.0 and first is not None:
                waiter.wake()
            elif not self._is_hopeless(waiter, lacking, waiter.patience):
                self._arrivals += 1
                waiter.number = self._arrivals
                line = self._lines.setdefault(waiter.keys, OrderedDict())
                line[waiter.number] = waiter
                if len(line) == 1:
                    self._pump()
        if self._later:
            self._catch_up()
        return first

    @staticmethod
    def _is_hopeless(waiter: _Waiter, lacking: list[Shortage], left: float) -> bool:
        """Whether nothing but more time than a call has can help it; then it is woken."""
        hopeless = next(
            (each for each in lacking if each.certain and (each.seconds > left or each.seconds == math.inf)), None
        )
        if hopeless is not None:
            waiter.shortage = hopeless
            waiter.tell(waiter.wake)
        return hopeless is not None

    def _outcome(self, waiter: _Waiter) -> tuple[Reservation | None, float]:
        with self._lock:
            reservation = waiter.reservation
            if reservation is None and waiter.number:
                self._abandon(waiter)
                self._pump()
            waited = self._clock() - waiter.began
        if self._later:
            self._catch_up()
        return reservation, waited

    def _abandon(self, waiter: _Waiter) -> None:
        line = self._lines.get(waiter.keys)
        if waiter.reservation is not None:
            release(waiter.reservation, None, undo=True)
        elif line is not None and line.pop(waiter.number, None) is not None and not line:
            del self._lines[waiter.keys]

    def _tick(self, waiter: _Waiter) -> None:
        with self._lock:
            waiter.armed = math.inf
            self._pump()
        if self._later:
            self._catch_up()

    def _pump(self) -> None:
        """Let go who can, in the order of arrival; the first of each line that cannot claims what it lacks."""
        now = self._clock()
        claimed: dict[str, tuple[float, bool]] = {}
        firsts = [(next(iter(line)), keys) for keys, line in self._lines.items()]
        heapq.heapify(firsts)
        while firsts:
            number, keys = firsts[0]
            line = self._lines[keys]
            if not self._leaves(line[number], now, claimed):
                heapq.heappop(firsts)
                continue
            del line[number]
            if line:
                heapq.heapreplace(firsts, (next(iter(line)), keys))
            else:
                heapq.heappop(firsts)
                del self._lines[keys]
        self._claimed = claimed

    def _leaves(self, waiter: _Waiter, now: float, claimed: dict[str, tuple[float, bool]]) -> bool:
        lacking = self._windows.lacking(waiter.limits, waiter.tokens, now, claimed)
        if waiter.future.done():
            return True
        if not lacking:
            waiter.reservation = self._windows.take(waiter.limits, int(now), waiter.tokens)
            if not waiter.tell(waiter.wake):
                self._abandon(waiter)
            return True
        waiter.shortage = worst(lacking)
        left = waiter.began + waiter.patience - now
        if left <= 0.0 or waiter.loop.is_closed() or self._is_hopeless(waiter, lacking, left):
            return True
        self._claim(waiter, lacking, now, claimed)
        seconds = max(each.seconds for each in lacking)
        if (
            seconds < math.inf
            and not any(each.kind == "line" for each in lacking)
            and now + seconds < waiter.armed - 0.001
        ):
            waiter.armed = now + seconds
            waiter.tell(waiter.arm, seconds, self._tick)
        return False

    @staticmethod
    def _claim(waiter: _Waiter, lacking: list[Shortage], now: float, claimed: dict[str, tuple[float, bool]]) -> None:
        for each in lacking:
            if each.kind != "line":
                claimed[each.limit.key] = max(
                    claimed.get(each.limit.key, (now, False)), (now + each.seconds, each.certain)
                )
        # Each of its limits has had room by now, only never at one time. From here on it holds them all: two busy
        # limits in turn could pass it for ever.
        waiter.unseen &= {each.limit.key for each in lacking}
        if not waiter.unseen:
            for key in waiter.keys:
                claimed.setdefault(key, (now, False))
