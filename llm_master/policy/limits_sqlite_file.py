"""
The file of the limits: one thread that does all that is asked of it, many things in one transaction.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_master.policy import limits_sqlite_sql as sql

if TYPE_CHECKING:
    import asyncio
    import sqlite3

__all__ = ["LimitsFile"]

logger = logging.getLogger("llm_master")

# Seconds that SQLite itself waits for another process; in between the thread lets a fork pass.
_BUSY = 0.02
_PAUSE = 0.002
# Operations of one transaction: while others wait for the file, it takes a few milliseconds.
_MOST_AT_ONCE = 200
# Seconds for which the end of the process waits for what is still to be written.
_AT_EXIT = 2.0


class _Order(NamedTuple):
    """One operation: ``reply`` gets its result, or the error that kept the file from doing it."""

    job: Callable[..., Any]
    arguments: tuple[Any, ...]
    reply: Callable[[Any], None] | None


class LimitsFile:
    """
    The tables of ``limits_sqlite_sql`` in a file, for any number of threads and event loops.

    What is told is done in order and not lost while the file cannot be written; what is asked fails then.

    Args:
        path: of the file; its folder is made when it is missing.
        chore: what is to be told again and again, None when there is nothing now; every: seconds between.
        timeout: seconds for which one transaction waits for other processes.
        rest: seconds before a file that failed is tried again.
    """

    def __init__(
        self,
        path: str,
        *,
        timeout: float = 5.0,
        rest: float = 1.0,
        chore: Callable[[], tuple[Callable[..., Any], Any, Any] | None] = lambda: None,
        every: float = 20.0,
    ) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  # pathlib makes starts slower
        self._timeout, self._rest = timeout, rest
        self._chore, self._every = chore, every
        self.why, self.failures = "", 0
        self.begin()
        _LIVE.add(self)

    def begin(self) -> None:
        """Begin anew, also in a forked child: what was ordered is the parent's."""
        # Its put may interrupt itself, so that whatever settles, a finalizer too, never waits.
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._owed: deque[_Order] = deque()
        self._connection: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self.lock = threading.Lock()  # held while the file is worked on
        self._down_until = 0.0
        self._due = time.monotonic() + self._every

    @property
    def resting(self) -> float:
        """Seconds for which the file is left alone after a failure."""
        return max(0.0, self._down_until - time.monotonic())

    # -- from any thread --------------------------------------------------------------------------------------------

    def ask(
        self, future: asyncio.Future[Any], late: Callable[[Any], None], job: Callable[..., Any], *arguments: Any
    ) -> None:
        """
        Have an operation done, and a future get its result, or as its exception why the file did not do it.

        Args:
            late: gets the result when nobody waits for it any more.
        """

        def resolve(found: Any) -> None:
            if future.done():
                late(found)
            elif isinstance(found, Exception):
                future.set_exception(found)
            else:
                future.set_result(found)

        def reply(found: Any) -> None:
            try:
                future.get_loop().call_soon_threadsafe(resolve, found)
            except RuntimeError:  # a closed loop waits for nothing
                late(found)

        self._put(_Order(job, arguments, reply))

    def tell(self, job: Callable[..., Any], *arguments: Any) -> None:
        """Have an operation done without waiting for it."""
        self._put(_Order(job, arguments, None))

    def flush(self, seconds: float) -> bool:
        """Wait until all that was told is in the file; False when that takes longer, or cannot be."""
        if self._thread is None:
            return True
        done = threading.Event()
        found: list[Any] = []

        def reply(result: Any) -> None:
            found.append(result)
            done.set()

        self._put(_Order(_nothing, (), reply))
        return done.wait(seconds) and not isinstance(found[0], Exception)

    def look(self, job: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a reading operation, by a connection of its own; None when the file cannot be read."""
        import sqlite3

        self.flush(_PAUSE * 100)
        if not os.path.exists(self.path):  # noqa: PTH110  # pathlib makes starts slower
            return job(None, *arguments)
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=_BUSY)) as db:
                return job(db, *arguments)
        except sqlite3.Error:
            return None

    def _put(self, order: _Order) -> None:
        self._orders.put(order)
        if self._thread is None and self._starting.acquire(blocking=False):
            try:
                if self._thread is None:
                    thread = threading.Thread(target=_run, args=(weakref.ref(self), self._orders), daemon=True)
                    thread.name = "llm-master-limits"
                    thread.start()
                    self._thread = thread
                    atexit.register(_at_exit, weakref.ref(self))
            except RuntimeError as error:  # no more threads, or the interpreter is going down
                self._fail([order], error)
            finally:
                self._starting.release()

    def stop(self) -> None:
        """End the thread, once it has done what was ordered before."""
        if self._thread is not None:
            self._orders.put(None)

    # -- in the thread ----------------------------------------------------------------------------------------------

    def work(self, orders: Sequence[_Order]) -> None:
        """Do some operations in one transaction, after those that are owed; all or none."""
        import sqlite3

        if self.resting:
            self._fail(orders, OSError(self.why))
            return
        batch = [*self._owed, *orders]
        self._owed.clear()
        until = time.monotonic() + self._timeout
        while True:
            with self.lock:
                try:
                    results = self._transact(batch)
                except sqlite3.OperationalError as error:
                    failure: Exception = error
                    busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                except (sqlite3.Error, OSError, OverflowError) as error:
                    failure, busy = error, False
                else:
                    break
                if not busy or time.monotonic() > until:
                    self._close()
                    self._fail(batch, failure)
                    return
            time.sleep(_PAUSE * (1.0 + random.random()))  # noqa: S311  # it only spreads processes
        self._down_until = 0.0
        for order, result in zip(batch, results, strict=True):
            if order.reply is not None:
                order.reply(result)

    def _transact(self, batch: Sequence[_Order]) -> list[Any]:
        db = self._connection = self._connection or self._open()
        db.execute("BEGIN IMMEDIATE")
        try:
            results = [order.job(db, *order.arguments) for order in batch]
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return results

    def _fail(self, orders: Sequence[_Order], error: Exception) -> None:
        if not self.resting:
            self.failures += 1
            self.why = f"{self.path}: {error}"
            self._down_until = time.monotonic() + self._rest
            logger.warning("limits: %s; trying again in %g s", self.why, self._rest)
        # What is told must be done in the end: nobody else knows what a call really cost.
        self._owed.extend(order for order in orders if order.reply is None)
        for order in orders:
            if order.reply is not None:
                order.reply(OSError(self.why))

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        path = os.path.realpath(self.path)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120  # as above
        # Only a new file is opened here: closing a descriptor of an existing one would drop the locks that SQLite
        # holds for other connections of this process.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        db = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            sql.prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # -- fork and end -----------------------------------------------------------------------------------------------

    def come_to_rest(self) -> None:
        """Before a fork: SQLite forbids to carry an open file into a child."""
        self.lock.acquire()
        self._close()

    def pause(self) -> float | None:
        """Seconds until the thread has something to do that nobody orders."""
        pauses = [self.resting] if self._owed else []
        if self._chore() is not None:
            pauses.append(self._due - time.monotonic())
        return max(_PAUSE, min(pauses)) if pauses else None

    @property
    def owes(self) -> bool:
        """Whether something is still to be written that could not be."""
        return bool(self._owed)

    def chores(self) -> list[_Order]:
        """What is due by itself."""
        now = time.monotonic()
        if now < self._due:
            return []
        self._due = now + self._every
        chore = self._chore()
        return [] if chore is None else [_Order(chore[0], chore[1:], None)]

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # half built, or an interpreter that is going down
            self.stop()
            self._close()


def _nothing(_: Any) -> None:
    """An operation that only says that those before it are done."""


def _run(ref: weakref.ref[LimitsFile], orders: queue.SimpleQueue[_Order | None]) -> None:
    """Take orders until there are no more; the file itself is not kept alive by that."""
    while True:
        file = ref()
        wait = None if file is None else file.pause()
        del file
        batch: list[_Order] = []
        over = False
        with contextlib.suppress(queue.Empty):
            order = orders.get(timeout=wait)
            while order is not None:
                batch.append(order)
                if len(batch) >= _MOST_AT_ONCE:
                    break
                order = orders.get_nowait()
            over = order is None
        file = ref()
        if file is None:
            return
        batch += file.chores()
        if batch or file.owes:
            file.work(batch)
        if over:
            return
        del file


def _at_exit(ref: weakref.ref[LimitsFile]) -> None:
    file = ref()
    if file is not None:
        file.flush(_AT_EXIT)


_LIVE: weakref.WeakSet[LimitsFile] = weakref.WeakSet()
# Held across the fork, so that of two threads that fork at once none waits for what the other has brought to rest.
_GATE = threading.RLock()
_RESTING: list[LimitsFile] = []


def _before_fork() -> None:
    _GATE.acquire()
    for file in list(_LIVE):
        file.come_to_rest()
        _RESTING.append(file)


def _in_parent() -> None:
    while _RESTING:
        _RESTING.pop().lock.release()
    _GATE.release()


def _in_child() -> None:
    while _RESTING:
        _RESTING.pop().begin()
    _GATE.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
