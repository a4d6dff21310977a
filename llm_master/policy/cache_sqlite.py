"""
Answers kept in one SQLite file, for any number of processes of one machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from llm_master.policy.cache_forks import around_fork
from llm_master.policy.cache_outage import Outage

if TYPE_CHECKING:
    import sqlite3

__all__ = ["SqliteStore"]

# Seconds that another process may hold the file. The waiting is done in the store's own thread.
_BUSY = 0.1
_PAUSE = 0.005
# Keys whose use is remembered until the next answer is written.
_MOST_TOUCHED = 1000
_EXPIRED_AT_ONCE = 100

# The names end in the version of the form, so that an older and a newer one can share a file. The triggers keep the
# totals, because counting takes SQLite a walk through the table.
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS answers_1 (
        key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, expires REAL, used INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS answers_1_used ON answers_1 (used)",
    "CREATE INDEX IF NOT EXISTS answers_1_expires ON answers_1 (expires) WHERE expires IS NOT NULL",
    """CREATE TABLE IF NOT EXISTS totals_1 (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        entries INTEGER NOT NULL, bytes INTEGER NOT NULL, uses INTEGER NOT NULL)""",
    "INSERT OR IGNORE INTO totals_1 VALUES (1, 0, 0, 0)",
    """CREATE TRIGGER IF NOT EXISTS answers_1_insert AFTER INSERT ON answers_1 BEGIN
        UPDATE totals_1 SET entries = entries + 1, bytes = bytes + length(new.value); END""",
    """CREATE TRIGGER IF NOT EXISTS answers_1_update AFTER UPDATE OF value ON answers_1 BEGIN
        UPDATE totals_1 SET bytes = bytes - length(old.value) + length(new.value); END""",
    """CREATE TRIGGER IF NOT EXISTS answers_1_delete AFTER DELETE ON answers_1 BEGIN
        UPDATE totals_1 SET entries = entries - 1, bytes = bytes - length(old.value); END""",
)
# total() gives a number whatever somebody else made of the table.
_TOTALS = "SELECT CAST(total(entries) AS INTEGER), total(bytes) FROM totals_1"


class SqliteStore:
    """
    A bounded store in a file; what was not used for longest goes first.

    A file that is corrupt, locked, read-only or not there is a miss, with one warning in the log. All work is done in
    one thread of the store, for any number of event loops. That an answer was used is written with the next one, so
    that reading never waits for a writer. The file is created with mode 0600; an existing one keeps its mode.

    Args:
        path: the file; ``~`` is the user's home.
        max_entries: answers kept at most.
        max_bytes: bytes of their values; a larger value is not kept.
        timeout: seconds that a call waits for the store's thread.
        rest: seconds before a file that failed is tried again, reading and writing apart.
        clock: UNIX time in seconds, because other processes read it too.
        monotonic: seconds, for ``rest``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_entries: int = 10_000,
        max_bytes: int = 1024 * 1024 * 1024,
        *,
        timeout: float = 1.0,
        rest: float = 1.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  # pathlib makes starts slower
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._timeout, self._clock = timeout, clock
        self._outage = Outage(self.path, rest, monotonic)
        self._touched: dict[str, None] = {}
        self._lock = threading.RLock()
        self._begin()
        around_fork(self)

    def _begin(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._threads = ThreadPoolExecutor(1, "llm-master-cache")

    @property
    def failures(self) -> int:
        """How often the file could not be read or written."""
        return self._outage.failures

    async def get(self, key: str) -> bytes | None:
        """The value, None when there is none that is still valid or the file cannot be read."""
        found: bytes | None = await self._ask("get", self._get, key)
        return found

    async def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """Keep a value for ``ttl`` seconds, None for as long as there is room."""
        if len(value) > self._max_bytes or (ttl is not None and not ttl > 0.0):
            return
        await self._ask("put", self._put, key, value, None if ttl is None else self._clock() + ttl)

    async def aclose(self) -> None:
        """Close the file; a later call opens it again."""
        threads, self._threads = self._threads, ThreadPoolExecutor(1, "llm-master-cache")
        await self._in(threads, self._shut)
        threads.shutdown(wait=False)

    async def _ask(self, kind: str, job: Callable[..., Any], *arguments: Any) -> Any:
        if not self._outage.enter(kind):
            return None
        future = await self._in(self._threads, self._work, kind, job, arguments)
        if future.cancelled():
            self._outage.failed(kind, "the file did not answer in time")
            return None
        return future.result()

    async def _in(self, threads: ThreadPoolExecutor, job: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Have a job done in a thread and wait for it, but not for ever: it is cancelled then."""
        future = asyncio.get_running_loop().run_in_executor(threads, job, *arguments)
        try:
            await asyncio.wait({future}, timeout=self._timeout)
        finally:
            future.cancel()
        return future

    # -- in the store's thread --------------------------------------------------------------------------------------

    def _work(self, kind: str, job: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        import sqlite3

        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                result = job(self._connection, *arguments)
            except (sqlite3.Error, OSError) as error:
                self._close()
                self._outage.failed(kind, _words(error))
                return None
        self._outage.worked(kind)
        return result

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        path = os.path.realpath(self.path)  # through a link that leads nowhere yet
        # Only a new file is opened here: closing a descriptor of an existing one would drop the locks that SQLite
        # holds for other connections of this process.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        import sqlite3

        until = time.monotonic() + self._timeout / 2
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                made = "SELECT count(*) FROM sqlite_master WHERE name GLOB 'answers_1*' OR name = 'totals_1'"
                # A file that is read-only may still be read.
                if connection.execute(made).fetchone()[0] < len(_SCHEMA) - 1:
                    with _transaction(connection):
                        for statement in _SCHEMA:
                            connection.execute(statement)
            except sqlite3.OperationalError as error:
                # Several processes that begin at once: SQLite does not wait by itself while one turns WAL on.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE)
            else:
                return

    def _get(self, connection: sqlite3.Connection, key: str) -> bytes | None:
        row = connection.execute("SELECT value, expires FROM answers_1 WHERE key = ?", (key,)).fetchone()
        if row is None or not isinstance(row[0], bytes) or (row[1] is not None and row[1] <= self._clock()):
            return None
        self._touched.pop(key, None)
        self._touched[key] = None
        if len(self._touched) > _MOST_TOUCHED:
            del self._touched[next(iter(self._touched))]
        return row[0]

    def _put(self, connection: sqlite3.Connection, key: str, value: bytes, expires: float | None) -> None:
        with _transaction(connection):
            uses = self._write_uses(connection)
            connection.execute(
                "INSERT INTO answers_1 VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET"
                " value = excluded.value, expires = excluded.expires, used = excluded.used",
                (key, value, expires, uses + 1),
            )
            connection.execute("UPDATE totals_1 SET uses = ?", (uses + 1,))
            self._make_room(connection)
        self._touched.clear()

    def _write_uses(self, connection: sqlite3.Connection) -> int:
        """Write which answers were read, in their order; the number of uses counted so far."""
        uses: int = connection.execute("SELECT CAST(total(uses) AS INTEGER) FROM totals_1").fetchone()[0]
        used = [(uses + number, key) for number, key in enumerate(self._touched, 1)]
        connection.executemany("UPDATE answers_1 SET used = ? WHERE key = ?", used)
        return uses + len(used)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            "DELETE FROM answers_1 WHERE key IN (SELECT key FROM answers_1 WHERE expires <= ? LIMIT ?)",
            (self._clock(), _EXPIRED_AT_ONCE),
        )
        while True:
            entries, size = connection.execute(_TOTALS).fetchone()
            if entries <= self._max_entries and size <= self._max_bytes:
                return
            gone = connection.execute(
                "DELETE FROM answers_1 WHERE key IN (SELECT key FROM answers_1 ORDER BY used LIMIT ?)",
                (max(1, entries - self._max_entries),),
            ).rowcount
            if not gone:  # somebody else changed the totals
                return

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _shut(self) -> None:
        with self._lock:
            self._close()

    # -- fork and end -----------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Close the file: SQLite forbids to carry an open one into a child."""
        self._lock.acquire()
        self._close()

    def after_fork(self, *, child: bool) -> None:
        """Open it again when it is needed; a child has no thread yet."""
        if child:
            self._begin()
        self._lock.release()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # half built, or an interpreter that is going down
            self._close()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Any:
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or rolls back what failed
        yield


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
