"""
What waits to be written: a call's rows, and who wants to know when they are.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from llm_master.errors import LedgerError
from llm_master.ledger.insert import Rows
from llm_master.ledger.rows import Make

__all__ = ["Companion", "Kept", "Waiting"]

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

    def done(self, error: LedgerError | None = None) -> None:
        """Tell the caller, who may have gone."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            if error is None:
                self.future.set_result(None)
            else:
                self.future.set_exception(error)


class Kept:
    """Rows on their way into the file, and who waits for them; ``settled`` when they are in it or given up."""

    __slots__ = ("rows", "settled", "size", "waiting")

    def __init__(self, rows: Rows, waiting: Waiting | None) -> None:
        self.rows, self.waiting = rows, waiting
        self.settled = False
        self.size = _ROW_BYTES * (1 + len(rows[1])) + len(rows[0][_CONTENTS] or "")

    def told(self, error: LedgerError | None = None) -> None:
        """Tell who waits, once; the rows may be on their way still."""
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.done(error)
