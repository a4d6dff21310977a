"""
How far a ledger's file has been forwarded to a database, and which process does it: kept in the file itself.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llm_master.ledger.postgres import Batch
from llm_master.ledger.rows import ATTEMPT_COLUMNS, CALL_COLUMNS, TAG_COLUMNS
from llm_master.ledger.sqlite_file import identity_of, open_file, transaction

if TYPE_CHECKING:
    import sqlite3

__all__ = ["LEASE", "Marks"]

# Seconds that a process may forward before it says again that it lives. One that died is replaced after that.
LEASE = 30.0
# A batch ends with whichever comes first.
_ROWS, _BYTES = 500, 8 * 1024 * 1024


class Marks:
    """
    The marks of one file and one database.

    Rows are numbered in the order of their commits, because one writes at a time: what is behind the mark is complete.

    Args:
        path: the ledger's file.
        target: the database's name.
        clock: UNIX time in seconds, because other processes read it too.
        lease: seconds that a claim holds.
    """

    def __init__(self, path: str, target: str, *, clock: Callable[[], float] = time.time, lease: float = LEASE) -> None:
        self._path, self.target, self._clock, self._lease = path, target, clock, lease
        #: Held while SQLite works, for whoever forks.
        self.gate = threading.RLock()
        self.begin()

    def begin(self) -> None:
        """Be somebody new, with nothing open."""
        self._holder = f"{_here()} {os.getpid()} {secrets.token_hex(8)}"
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)

    def behind(self) -> int:
        """How many calls the database does not have yet, not counting holes; the first time its mark is made."""
        with self.gate:
            connection = self._open()
            found = self._mark(connection)
            if found is None:
                with transaction(connection):
                    connection.execute("INSERT OR IGNORE INTO forwarding VALUES (?, NULL, 0, NULL, 0)", (self.target,))
                found = 0
            newest = connection.execute("SELECT max(seq) FROM calls").fetchone()[0] or 0
            return max(0, newest - found)

    def claim(self) -> bool:
        """Become the one that forwards, or stay it; False while another process is."""
        now = int(self._clock() * 1_000_000)
        lease = int(self._lease * 1_000_000)
        with self.gate:
            connection = self._open()
            with transaction(connection):
                found = connection.execute("SELECT holder, expires FROM forwarding WHERE target = ?", (self.target,))
                holder, expires = found.fetchone() or (None, 0)
                # A time far ahead is of a clock that has been set back since.
                holds = holder is not None and now < expires <= now + 2 * lease
                if holds and holder != self._holder and not _has_died(str(holder)):
                    return False
                connection.execute(
                    "UPDATE forwarding SET holder = ?, expires = ? WHERE target = ?",
                    (self._holder, now + lease, self.target),
                )
                return True

    def release(self) -> None:
        """Let another process forward."""
        with self.gate:
            connection = self._open()
            with transaction(connection):
                connection.execute(
                    "UPDATE forwarding SET holder = NULL WHERE target = ? AND holder = ?", (self.target, self._holder)
                )

    def meets(self, identity: str) -> None:
        """Begin from the first call again when another database is at the same address now."""
        with self.gate:
            connection = self._open()
            known = connection.execute("SELECT identity FROM forwarding WHERE target = ?", (self.target,)).fetchone()
            if known is not None and known[0] != identity:
                with transaction(connection):
                    connection.execute(
                        "UPDATE forwarding SET identity = ?, mark = 0 WHERE target = ?", (identity, self.target)
                    )
                    connection.execute("DELETE FROM forwarding_refused WHERE target = ?", (self.target,))

    def next(self) -> tuple[list[int], Batch]:
        """The calls behind the mark, a batch at most, with their attempts and tags; and their numbers."""
        with self.gate:
            connection = self._open()
            mark = self._mark(connection) or 0
            chosen = f"SELECT seq, {', '.join(CALL_COLUMNS)} FROM calls WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
            numbers, calls, size = [], [], 0
            # Attempts and tags are of the same transaction as their call, so that they can be read after it.
            for seq, *call in connection.execute(chosen, (mark, _ROWS)):
                numbers.append(seq)
                calls.append(_clean(call))
                size += len(call[-1] or "")
                if size > _BYTES:
                    break
            if not numbers:
                return [], ([], [], [])
            bounds = (numbers[0], numbers[-1])
            return numbers, (
                calls,
                self._of(connection, "attempts", ATTEMPT_COLUMNS, bounds),
                self._of(connection, "call_tags", TAG_COLUMNS, bounds),
            )

    def move(self, mark: int, refused: dict[int, str]) -> None:
        """The database has everything up to a number, but for what it refused."""
        with self.gate:
            connection = self._open()
            with transaction(connection):
                # Another process may have taken over and be further.
                connection.execute(
                    "UPDATE forwarding SET mark = max(mark, ?) WHERE target = ? AND holder = ?",
                    (mark, self.target, self._holder),
                )
                connection.executemany(
                    "INSERT OR REPLACE INTO forwarding_refused VALUES (?, ?, ?)",
                    [(self.target, seq, why) for seq, why in refused.items()],
                )

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self.gate:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and identity_of(self._path) != self._file:
            self.close()
        if self._connection is None:
            self._connection = open_file(self._path, patience=0.0)
            self._file = identity_of(self._path)
        return self._connection

    def _mark(self, connection: sqlite3.Connection) -> int | None:
        found = connection.execute("SELECT mark FROM forwarding WHERE target = ?", (self.target,)).fetchone()
        return None if found is None else int(found[0])

    def _of(
        self, connection: sqlite3.Connection, table: str, columns: tuple[str, ...], bounds: tuple[int, int]
    ) -> list[tuple[Any, ...]]:
        """The rows of a table that belong to calls between two numbers."""
        names = ", ".join(f"{table}.{column}" for column in columns)
        found = connection.execute(
            f"SELECT {names} FROM calls JOIN {table} ON call_id = id WHERE seq BETWEEN ? AND ?",  # noqa: S608  # our names
            bounds,
        )
        return [_clean(row) for row in found]


def _here() -> str:
    """Where a process's number means something: this machine, or this container of it."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  # no file
    except OSError:
        space = ""
    return f"{os.uname().nodename}/{space}".replace(" ", "_")


def _has_died(holder: str) -> bool:
    """Whether a holder is a process of this machine that is no more, so that nobody has to wait for its lease."""
    place, _, rest = holder.partition(" ")
    number = rest.partition(" ")[0]
    if place != _here() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is somebody else's
        return False
    return False


def _clean(row: Any) -> tuple[Any, ...]:
    """A row without the character that PostgreSQL's texts cannot hold."""
    return tuple(each.replace("\0", "\ufffd") if isinstance(each, str) else each for each in row)
