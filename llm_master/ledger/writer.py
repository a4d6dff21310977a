"""
The one thread of a process that writes a ledger's file.

Everything that is queued goes into one transaction. What cannot be written stays in a bounded buffer and is tried
again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from llm_master.errors import LedgerError
from llm_master.ledger.alarm import Alarm
from llm_master.ledger.chunks import Sealer
from llm_master.ledger.ending import ENDING, write_at_exit
from llm_master.ledger.insert import insert, mended
from llm_master.ledger.queueing import Awaited, Bell, Companion, Kept, Waiter, Waiting
from llm_master.ledger.retention import make_room
from llm_master.ledger.rows import Make
from llm_master.ledger.sqlite_file import identity_of, is_busy, leave_moved, open_file, transaction, trouble
from llm_master.policy.cache_forks import around_fork

if TYPE_CHECKING:
    import sqlite3

__all__ = ["MOST_QUEUED", "Writer", "writer_of"]

logger = logging.getLogger("llm_master")

# Calls that may wait to be built; then rows that may wait for the file, in bytes.
MOST_QUEUED = 100_000
MOST_KEPT = 64 * 1024 * 1024
_AT_ONCE = 512
# Seconds that the first row waits for more of them, so that a busy process writes 20 times a second and not 2,000.
_GATHER = 0.04
# Seconds that a row waits whose caller waits for it, when the last one was not alone: a transaction is a write to the
# disk, and one of ten rows costs hardly more than one of one.
_GATHER_AWAITED = 0.0003
# Seconds before a file that failed is tried again.
_RETRY = 1.0
# Rows of a transaction from which on a process is busy, and rows that may then wait to be added up.
_BUSY, _MOST_LATE = 5, 16 * 8192
# Rows between two looks at the size of the file.
_LOOK_AFTER = 500


class Writer:
    """
    Writes rows of any number of threads and event loops into one file; a forked child begins with nothing queued.

    The thread begins with the first row and the file is opened by it.

    Args:
        path: an absolute path.
        patience: seconds that a locked file is waited for before that is a failure.
    """

    def __init__(self, path: str, patience: float = 5.0) -> None:
        self.path = path
        self.patience = patience
        self.strict = False
        self.gather, self.retry, self.most_kept = _GATHER, _RETRY, MOST_KEPT
        self.queue: deque[Make | Waiter] = deque()
        self.alarm = Alarm()
        self.most_bytes: int | None = None
        self.companions: list[Companion] = []
        # Held while SQLite works: a fork waits for it, because a lock that SQLite holds would stay held in the child.
        self._gate = threading.RLock()
        self._begin()
        around_fork(self)
        write_at_exit(self)

    def _begin(self) -> None:
        self.queue.clear()
        # Who adds a row wakes the thread only when this is set.
        self.idle = True
        self._asleep = self._hurried = self._pressed = self._several = self._stopping = self.opened = False
        self.failure: str | None = None
        self.written = self.lost = self._size = 0
        self._kept: deque[Kept] = deque()
        self._barriers: list[Waiter] = []
        self._wake = threading.Event()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._sealer: Sealer | None = None
        self._newest = self._added = self._next_look = 0
        self._late = False
        self._level = ""
        self._file: tuple[int, int] = (0, 0)

    # -- in any thread ----------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Rows that are not in the file yet."""
        return len(self.queue) + len(self._kept)

    def awake(self) -> None:
        """Have the thread look at the queue."""
        self.idle = False
        if self._thread is None:
            self._launch()
        self._wake.set()

    def hurry(self) -> None:
        """Have the thread write at once, without gathering more."""
        self._hurried = True
        if self.idle or self._asleep:
            self.awake()

    def press(self) -> None:
        """Have the thread write soon: somebody waits for a row."""
        self._pressed = True
        if self.idle or self._asleep:
            self.awake()

    def lose(self, why: str) -> None:
        """One row is given up."""
        self.lost += 1
        self.alarm.tell(f"the ledger in {self.path} has lost {self.lost} rows: {why}")

    def barrier(self) -> Waiting:
        """Done when everything queued so far is committed, or with an error when that failed."""
        waiting = Waiting(None)
        self.queue.append(waiting)
        self.hurry()
        return waiting

    def stop(self, timeout: float) -> None:
        """End the thread when it has written what it can; the next row begins a new one."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._stopping = True
            self.awake()
            thread.join(timeout)

    def _launch(self) -> None:
        with self._start:
            if self._thread is not None:
                return
            if ENDING.is_set():
                # A thread begun now would be stopped anywhere: who adds a row so late writes it.
                self._cycle()
                self.idle = True
                return
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="llm-master-ledger", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:
                self._thread = None
                self.idle = True
                self.alarm.tell(f"the ledger in {self.path} has no thread ({error}); {self.pending} rows wait")

    # -- in the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                self._rest()
                self._hurried = self._pressed = False
                self._cycle()
                if self._stopping and not self.queue:
                    return
        finally:
            with self._gate:
                self._close()
            self._thread = None
            self.idle = True
            if self.queue:  # added while it ended
                self.awake()

    def _rest(self) -> None:
        """Sleep until there is something to do, and a moment longer for more of it."""
        if self.failure is not None:
            self._pause()
            return
        while True:
            self.idle = True
            if self.queue or self._stopping or self._hurried:
                break
            if self._late:
                self._add_up()
                continue
            self._wake.wait()
            self._wake.clear()
        self.idle = False
        if not self._pressed:
            self._sleep(self.gather)
        if self._pressed and self._several and not (self._hurried or self._stopping):
            self._wake.wait(_GATHER_AWAITED)
            self._wake.clear()

    def _pause(self) -> None:
        """After a failure the file is left alone for a moment; who commits meanwhile hears of it at once."""
        end = time.monotonic() + self.retry
        while not self._stopping and not self._barriers and (left := end - time.monotonic()) > 0:
            self._sleep(left)
            self._hurried = self._pressed = False
            self._build()

    def _sleep(self, seconds: float) -> None:
        self._asleep = True
        if not (self._hurried or self._pressed or self._stopping):
            self._wake.wait(seconds)
        self._wake.clear()
        self._asleep = False

    def _cycle(self) -> bool:
        """Write all that is queued; whether all of it was. What comes meanwhile may wait for more, if it is little."""
        while True:
            self._build()
            if not self._write():
                break
            if not self._kept and ((len(self.queue) < _AT_ONCE and not ENDING.is_set()) or not self.queue):
                break
        error = LedgerError(self.failure) if self.failure is not None else None
        barriers, self._barriers = self._barriers, []
        for barrier in barriers:
            barrier.done(error)
        return error is None

    def _build(self) -> None:
        """Make rows of what is queued, as many as one transaction takes, or more while the file cannot be written."""
        queue = self.queue
        for _ in range(_AT_ONCE if self.failure is None else len(queue)):
            if not queue:
                return
            # It leaves the queue when it is built: who asks meanwhile what is pending must not be told "nothing".
            item = queue[0]
            if not isinstance(item, Waiting | Awaited):
                self._keep(item, None)
            elif item.make is not None:
                self._keep(item.make, item)
            else:
                self._barriers.append(item)
            queue.popleft()

    def _keep(self, make: Make, waiting: Waiter | None) -> None:
        try:
            kept = Kept(make(), waiting)
        except Exception as error:  # noqa: BLE001  # whatever a row's maker does, the next row is written
            self._refuse(waiting, f"a row could not be built ({type(error).__name__}: {error})")
            return
        if self._size + kept.size > self.most_kept:
            self._refuse(
                waiting, f"more than {self.most_kept} bytes of rows wait; {self.failure or 'the disk is slow'}"
            )
            return
        self._size += kept.size
        self._kept.append(kept)
        if self.failure is not None:
            kept.told(LedgerError(self.failure))

    def _refuse(self, waiting: Waiter | None, why: str) -> None:
        self.lose(why)
        if waiting is not None:
            waiting.done(LedgerError(f"the ledger in {self.path}: {why}"))

    def _write(self) -> bool:
        """Commit what is built; whether the file could be written."""
        try:
            batch = list(islice(self._kept, _AT_ONCE))
            if batch or self.failure is not None or not self.opened:
                self._commit(batch)
        except Exception as error:  # noqa: BLE001  # whatever it is, the rows are kept and calls go on
            self._failed(trouble(error, self.path))
            return False
        if self.failure is not None:
            self.alarm.over(f"the ledger in {self.path} works again; {self.lost} rows are lost since the start")
            self.failure = None
        if batch:
            for companion in self.companions:
                companion.notify()
            self._make_room()
            # Adding up takes 70 ms in which no row is written, so it is left to a quiet moment, though not for ever.
            if len(batch) < _BUSY or self._newest - self._added >= _MOST_LATE:
                self._add_up()
            else:
                self._late = True
        return True

    def _add_up(self) -> None:
        """Sum one chunk of rows that is full; they are in the file already, whatever comes of it."""
        import sqlite3

        self._late = False
        try:
            with self._gate:
                if self._sealer is not None:
                    self._late = self._sealer.step(self._newest)
                    if not self._late:
                        self._added = self._newest
        except sqlite3.Error as error:
            logger.debug("the ledger in %s is added up later: %s", self.path, error)

    def _make_room(self) -> None:
        """Remove the oldest rows of a file that has become too large."""
        import sqlite3

        if self.most_bytes is None or self.written < self._next_look:
            return
        self._next_look = self.written + _LOOK_AFTER
        try:
            with self._gate:
                if self._connection is not None and not make_room(self._connection, self.most_bytes):
                    self.alarm.tell(
                        f"the ledger in {self.path} is larger than {self.most_bytes} bytes:"
                        " PostgreSQL does not have its oldest calls yet"
                    )
        except sqlite3.Error as error:
            logger.debug("the ledger in %s is made smaller later: %s", self.path, error)

    def _failed(self, why: str) -> None:
        with self._gate:
            self._close()
        self.alarm.tell(f"{why}; {self.pending} rows wait, {self.lost} are lost")
        self.failure = why
        for kept in self._kept:
            # The row stays: the call was made, and costs what it costs.
            kept.told(LedgerError(why))

    def _commit(self, batch: list[Kept]) -> None:
        """One transaction; another process that holds the file is waited for."""
        import sqlite3

        # Once it has failed nobody is kept waiting again: the file is tried, and left.
        until = time.monotonic() + (self.patience if self.failure is None else 0.0)
        while True:
            try:
                with self._gate:
                    connection = self._ready()
                    if batch:
                        self._insert(connection, batch)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= until:
                    raise
                # Between two tries a fork may happen, and what arrives is made small.
                time.sleep(0.001)
                self._build()
            else:
                break
        bell = Bell()
        self._several = len(batch) > 1
        for kept in batch:
            self._kept.popleft()
            self._size -= kept.size
            kept.told(later=bell)
        bell.ring()

    def _insert(self, connection: sqlite3.Connection, batch: list[Kept]) -> None:
        """Insert a batch; a row that SQLite will not take is found and given up, and the others are written."""
        import sqlite3

        batch = [kept for kept in batch if not kept.settled]
        rows_at_fault = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
        try:
            with transaction(connection):
                self._newest = insert(connection, [kept.rows for kept in batch])
            self.written += len(batch)
            for kept in batch:
                kept.settled = True
        except (*rows_at_fault, OverflowError, UnicodeEncodeError) as error:
            if len(batch) > 1:
                half = len(batch) // 2
                self._insert(connection, batch[:half])
                self._insert(connection, batch[half:])
                return
            [kept] = batch
            if isinstance(error, UnicodeEncodeError) and mended(kept.rows) != kept.rows:
                kept.rows = mended(kept.rows)
                self._insert(connection, batch)
                return
            kept.settled = True
            self._refuse(kept.waiting, f"SQLite does not take a row ({type(error).__name__}: {error})")

    def _ready(self) -> sqlite3.Connection:
        """The open file, at the level of durability that is asked for; opened again when somebody has replaced it."""
        if self._connection is not None and identity_of(self.path) != self._file:
            self._close()
        if self._connection is None:
            self._connection, self._level = open_file(self.path, patience=0.0), "NORMAL"
            self._file = identity_of(self.path)
            self._sealer, self._newest, self._added = Sealer(self._connection), 0, 0
            self.opened = True
        level = "FULL" if self.strict else "NORMAL"
        if level != self._level:
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._level = level
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        self._sealer, self.opened = None, False
        if connection is not None:
            if identity_of(self.path) != self._file:
                leave_moved(connection)
            connection.close()

    # -- fork and end -----------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Close the file: SQLite forbids to carry an open one into a child."""
        self._gate.acquire()
        self._close()

    def after_fork(self, *, child: bool) -> None:
        """The parent goes on; a child has no thread and nothing queued, because its parent writes that."""
        if child:
            self._begin()
        self._gate.release()


_WRITERS: weakref.WeakValueDictionary[str, Writer] = weakref.WeakValueDictionary()
_MAKING = threading.RLock()


def writer_of(path: str, patience: float) -> Writer:
    """The process's writer of a path; the first who asks makes it, with its patience."""
    path = os.path.realpath(path)
    with _MAKING:
        writer = _WRITERS.get(path)
        if writer is None:
            writer = _WRITERS[path] = Writer(path, patience)
        return writer


def _in_child() -> None:
    global _MAKING  # noqa: PLW0603  # another thread of the parent may have held it
    _MAKING = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
