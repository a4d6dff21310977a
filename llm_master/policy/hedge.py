"""
Hedging: when a target is slow to answer, a second one is asked as well, and the first to succeed is taken.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from llm_master.errors import InvalidRequestError
from llm_master.redaction import redact

__all__ = ["GRACE", "HedgeBudget", "HedgePolicy", "race"]

#: Seconds that a winner waits at most for its loser to end.
GRACE = 0.1

# Shares are kept in billionths, as whole numbers: sums of floats drift.
_ONE = 1_000_000_000


class HedgePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """
    When a second target is asked as well.

    Attributes:
        after: seconds without a first token.
        max_share: share of the calls that is hedged at most, above 0 and up to 1.

    Raises:
        InvalidRequestError: a value is out of its range.
    """

    after: float
    max_share: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what is no time and no share."""
        if not _is_number(self.after) or self.after <= 0:
            raise InvalidRequestError(f"after={self.after!r}: give a number of seconds above 0")
        _check_share(self.max_share)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_share(value: Any) -> None:
    if not _is_number(value) or not 0 < value <= 1:
        raise InvalidRequestError(f"max_share={value!r}: give a number above 0 and up to 1")


class HedgeBudget:
    """
    A token bucket that every call pays into and every hedge takes one from.

    Among any n calls in a row at most ``burst + max_share * n`` are hedged. It is for any number of threads and never
    waits; a forked child starts with a bucket of its own, as full as a new one.

    Args:
        max_share: tokens that a call pays in, above 0 and up to 1; digits after the ninth do not count.
        burst: tokens at the start, and at most; at least 1.

    Raises:
        InvalidRequestError: a value is out of its range.
    """

    __slots__ = ("__weakref__", "_burst", "_level", "_lock", "_share")

    def __init__(self, max_share: float, burst: float = 5.0) -> None:
        _check_share(max_share)
        if not _is_number(burst) or burst < 1:
            raise InvalidRequestError(f"burst={burst!r}: give a number of at least 1")
        self._share = round(max_share * _ONE)
        self._burst = round(burst * _ONE)
        self.reset_after_fork()
        _LIVE.add(self)

    def reset_after_fork(self) -> None:
        """Begin anew: a forked child has not made the parent's calls, and its lock is not ours."""
        self._lock = threading.Lock()
        self._level = self._burst

    def deposit(self) -> None:
        """Pay in for a call."""
        with self._lock:
            self._level = min(self._burst, self._level + self._share)

    def try_hedge(self) -> bool:
        """Take what one hedge costs; False when there is too little, and the hedge must not be made."""
        with self._lock:
            if self._level < _ONE:
                return False
            self._level -= _ONE
            return True

    @property
    def saved(self) -> float:
        """Hedges that could be made now."""
        return self._level / _ONE


_LIVE: weakref.WeakSet[HedgeBudget] = weakref.WeakSet()


def _reset_all() -> None:
    for budget in list(_LIVE):
        budget.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)


# Losers that outlived their grace: the event loop alone would let go of them.
_LEFT: set[asyncio.Task[Any]] = set()


async def race(
    first: Callable[[], Coroutine[Any, Any, Any]],
    second: Callable[[], Coroutine[Any, Any, Any]],
    after: float | None,
    may_hedge: Callable[[], bool],
    discard: Callable[[Any], object] | None = None,
) -> tuple[Any, int]:
    """
    The result of whichever succeeds first, and which one it was: 0 or 1.

    ``second`` begins when ``first`` has not ended after ``after`` seconds and ``may_hedge()`` is true, which is asked
    once and only then. When one fails, the other decides; a failure of ``first`` before that ends the race. With both
    failed the error of ``first`` is raised, with a note of the other.

    The loser is cancelled and has ended when this returns, unless it ignores that for ``GRACE`` seconds: then it ends
    in the background. When the caller is cancelled, both are, and both have ended when this raises. Each runs in a
    task and a copy of the caller's context of its own; with ``after`` None, ``first`` runs in the caller's and no task
    is made.

    Args:
        first: makes the coroutine of the usual way; it does its own retries.
        second: makes that of the hedge.
        after: seconds; None never hedges.
        may_hedge: whether there is still leave for a hedge; it takes what that costs.
        discard: is given each result that nobody takes, to close what it holds; it must not wait.
    """
    if after is None:
        return await first(), 0
    loop = asyncio.get_running_loop()
    runners = [loop.create_task(first())]
    try:
        await asyncio.wait(runners, timeout=after)
        if not runners[0].done() and may_hedge():
            runners.append(loop.create_task(second()))
        winner = await _first_success(runners)
        if winner is None:
            _note(runners)
            winner = 0
        elif len(runners) == 2:
            await _let_go(runners[1 - winner], discard)
        return runners[winner].result(), winner
    except GeneratorExit:
        # Closed from outside: nothing can be awaited any more.
        if not loop.is_closed():
            for runner in runners:
                runner.cancel()
                _leave(runner, discard)
        raise
    except (asyncio.CancelledError, Exception):
        await _stop(runners, discard)
        raise
    finally:
        # An error holds this frame, which must not hold the task that holds the error.
        runners.clear()


async def _first_success(runners: list[asyncio.Task[Any]]) -> int | None:
    """Which one succeeds first, of two at once the first one; None when all fail."""
    while True:
        for index, runner in enumerate(runners):
            if runner.done() and not runner.cancelled() and runner.exception() is None:
                return index
        pending = [runner for runner in runners if not runner.done()]
        if not pending:
            return None
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)


def _note(runners: list[asyncio.Task[Any]]) -> None:
    """Tell in the error that is raised what became of the hedge."""
    if len(runners) < 2 or any(runner.cancelled() for runner in runners):
        return
    error, other = (runner.exception() for runner in runners)
    if error is not None:
        error.add_note(f"the hedge failed as well: {type(other).__name__}: {redact(str(other))}")


async def _let_go(loser: asyncio.Task[Any], discard: Callable[[Any], object] | None) -> None:
    """Cancel the loser and wait for its end, for a moment."""
    if loser.cancel():
        await asyncio.wait((loser,), timeout=GRACE)
    if loser.done():
        _retrieve(loser, discard)
    else:
        _leave(loser, discard)


async def _stop(runners: list[asyncio.Task[Any]], discard: Callable[[Any], object] | None) -> None:
    """Cancel and wait to the end, as an ``await`` of each would; a cancellation meanwhile is passed on to them."""
    again: asyncio.CancelledError | None = None
    while pending := [runner for runner in runners if not runner.done()]:
        for runner in pending:
            # A loser that was told already is closing its connection, and a second word would break that off.
            if again is not None or not runner.cancelling():
                runner.cancel()
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as cancelled:
            again = cancelled
    for runner in runners:
        _retrieve(runner, discard)
    if again is not None:
        raise again


def _leave(runner: asyncio.Task[Any], discard: Callable[[Any], object] | None) -> None:
    """Let it end in the background."""

    def ended(task: asyncio.Task[Any]) -> None:
        _LEFT.discard(task)
        _retrieve(task, discard)

    _LEFT.add(runner)
    runner.add_done_callback(ended)


def _retrieve(runner: asyncio.Task[Any], discard: Callable[[Any], object] | None) -> None:
    """Take what an ended task brought, so that no error counts as unseen and no result stays open."""
    if runner.cancelled() or runner.exception() is not None or discard is None:
        return
    try:
        discard(runner.result())
    except Exception as error:  # noqa: BLE001  # the winner's result must not be lost for it
        runner.get_loop().call_exception_handler(
            {"message": "a hedge's result could not be discarded", "exception": error, "task": runner}
        )
