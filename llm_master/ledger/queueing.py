"""
What waits to be written: a call's rows, and who wants to know when they are.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol, TypeAlias

from llm_master.errors import LedgerError
from llm_master.ledger.rows import Make, Rows

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from asyncio import Future as AsyncFuture

__all__ = ["Awaited", "Bell", "Companion", "Kept", "Waiter", "Waiting"]

# What a row takes in memory, without its contents; measured, generous.
_ROW_BYTES, _CONTENTS = 2_500, -1


class Companion(Protocol):
    """What has to know of committed rows."""

    def notify(self) -> None:
        """Rows are committed; must not wait."""

    def stop(self, timeout: float) -> None:
        """End, within some seconds."""


class Waiting:
    """A row whose caller waits until it is committed; without rows: everything before it is."""

    __slots__ = ("future", "make")

    def __init__(self, make: Make | None) -> None:
        self.make = make
        self.future: Future[None] = Future()

    def done(self, error: LedgerError | None = None, later: Bell | None = None) -> None:  # noqa: ARG002
        """Tell the caller, who may have gone; ``later`` may tell many at once."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            if error is None:
                self.future.set_result(None)
            else:
                self.future.set_exception(error)


class Awaited:
    """
    A row that a coroutine waits for.

    Its future brings None, or the LedgerError as its result: who does not wait any more leaves no unread exception.
    """

    __slots__ = ("future", "loop", "make")

    def __init__(self, make: Make, loop: AbstractEventLoop) -> None:
        self.make, self.loop = make, loop
        self.future: AsyncFuture[LedgerError | None] = loop.create_future()

    def done(self, error: LedgerError | None = None, later: Bell | None = None) -> None:
        """Tell the caller, in its loop."""
        if later is not None:
            later.add(self, error)
        else:
            bell = Bell()
            bell.add(self, error)
            bell.ring()


class Bell:
    """Wakes the loops of many callers once each: waking one is a write to a socket."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: dict[AbstractEventLoop, list[tuple[Awaited, LedgerError | None]]] = {}

    def add(self, waiting: Awaited, error: LedgerError | None) -> None:
        """Have a caller told at the next ring."""
        self._told.setdefault(waiting.loop, []).append((waiting, error))

    def ring(self) -> None:
        """Tell them all."""
        told, self._told = self._told, {}
        for loop, many in told.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed, and who waited in it is gone
                loop.call_soon_threadsafe(_tell, many)


def _tell(many: list[tuple[Awaited, LedgerError | None]]) -> None:
    for waiting, error in many:
        if not waiting.future.done():
            waiting.future.set_result(error)


Waiter: TypeAlias = Waiting | Awaited


class Kept:
    """Rows on their way into the file, and who waits for them; ``settled`` when they are in it or given up."""

    __slots__ = ("rows", "settled", "size", "waiting")

    def __init__(self, rows: Rows, waiting: Waiter | None) -> None:
        self.rows, self.waiting = rows, waiting
        self.settled = False
        self.size = _ROW_BYTES * (1 + len(rows[1])) + len(rows[0][_CONTENTS] or "")

    def told(self, error: LedgerError | None = None, later: Bell | None = None) -> None:
        """Tell who waits, once; the rows may be on their way still."""
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.done(error, later)
