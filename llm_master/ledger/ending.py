"""
The end of a program: what is queued is written, and what cannot be written is said.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from concurrent.futures import wait
from functools import cache
from typing import Protocol

from llm_master.ledger.alarm import say
from llm_master.ledger.queueing import Companion, Waiting

__all__ = ["ENDING", "Ending", "write_at_exit"]

#: Set when the program ends: who adds a row from now on writes it.
ENDING = threading.Event()
# Seconds for the rows of a file, and for the databases that they are forwarded to.
_SECONDS, _FORWARD_SECONDS = 10.0, 2.0
_LIVE: weakref.WeakSet[Ending] = weakref.WeakSet()


class Ending(Protocol):
    """What has rows to write before the program ends; see ``writer.Writer``."""

    path: str
    failure: str | None
    companions: list[Companion]

    @property
    def pending(self) -> int:
        """Rows that are not in the file yet."""

    def barrier(self) -> Waiting:
        """Done when everything queued so far is committed."""

    def stop(self, timeout: float) -> None:
        """End the thread when it has written what it can."""


def write_at_exit(writer: Ending) -> None:
    """Have a writer's rows written when the program ends, as long as it lives."""
    _LIVE.add(writer)
    _register()


def _flush() -> None:
    for writer in list(_LIVE):
        if writer.pending:
            wait([writer.barrier().future], _SECONDS)


def _end() -> None:
    """Write what is queued and close the files; what cannot be written is lost now, and said."""
    _flush()
    ENDING.set()
    for writer in list(_LIVE):
        for companion in writer.companions:
            # What does not get there now is in the file and gets there next time.
            companion.stop(_FORWARD_SECONDS)
        writer.stop(_SECONDS)
        if writer.pending:
            say(logging.ERROR, f"{writer.pending} rows of the ledger in {writer.path} are lost: {writer.failure}")


@cache
def _register() -> None:
    # Threads that are no daemons are waited for before this, so that the rows of their calls are queued by now.
    atexit.register(_end)
    # A child that multiprocessing has forked does not run that (before Python 3.13), but it does this.
    getattr(threading, "_register_atexit", lambda _: None)(_flush)
