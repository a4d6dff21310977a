"""
The ledger's file: opened, made and brought up to date.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llm_master.errors import LedgerError
from llm_master.ledger.insert import probe
from llm_master.ledger.schema import VERSION_TABLE, missing, revisions, statements

if TYPE_CHECKING:
    import sqlite3

__all__ = ["BUSY", "identity_of", "is_busy", "lacks", "leave_moved", "open_file", "transaction", "trouble"]

# Seconds that SQLite itself waits for another process; who waits longer does it in steps, and lets a fork in between.
BUSY = 0.1
_PAUSE = 0.005


def open_file(path: str, *, patience: float = 5.0) -> sqlite3.Connection:
    """
    A connection to the ledger's file, which is made when there is none.

    A new folder has mode 0700 and a new file 0600; what is there keeps its mode. The tables are brought up to date.

    Args:
        path: an absolute path.
        patience: seconds to wait for other processes that hold the file.

    Raises:
        LedgerError: the file is of a newer LLM Master or of another program.
        OSError, sqlite3.Error: it cannot be made, read or written; ``trouble`` says what to do.
    """
    import sqlite3

    path = os.path.realpath(path)  # through a link that leads nowhere yet
    _make_folders(os.path.dirname(path))  # noqa: PTH120  # one of many plain paths here
    # Only a new file is opened here: closing a descriptor of an existing one would drop the locks that SQLite holds
    # for other connections of this process.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path, time.monotonic() + patience)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_folders(folder: str) -> None:
    """Make a folder and those above it that are missing, readable by their owner alone."""
    if os.path.isdir(folder):  # noqa: PTH112
        return
    _make_folders(os.path.dirname(folder))  # noqa: PTH120
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)  # noqa: PTH102


def _prepare(connection: sqlite3.Connection, path: str, until: float) -> None:
    import sqlite3

    while True:
        try:
            if lacks(connection, path) == list(revisions("sqlite")):
                # It has to be asked before the first table, and lets pruning give back room.
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            with transaction(connection):  # also shows whether it can be written at all
                _upgrade(connection, path)
                probe(connection)
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself while one process turns WAL on.
            if not is_busy(error) or time.monotonic() > until:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _upgrade(connection: sqlite3.Connection, path: str) -> None:
    for revision in lacks(connection, path):
        for statement in statements("sqlite", revision):
            connection.execute(statement)


def lacks(connection: sqlite3.Connection, path: str) -> list[str]:
    """The revisions that the file lacks; looks only, so that a file of another program stays as it is."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    version = None
    if VERSION_TABLE in tables:
        found = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608  # our name
        version = found[0] if found else None
    elif tables - {"sqlite_sequence"}:
        raise LedgerError(f"{path} is a database of another program, not a ledger; name another path for the ledger")
    return missing("sqlite", version, path)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, as the only writer."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or rolls back what failed
        yield


def identity_of(path: str) -> tuple[int, int]:
    """Which file is at a path: one that was removed or replaced is another."""
    try:
        found = os.stat(path)  # noqa: PTH116  # once a transaction
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def leave_moved(connection: sqlite3.Connection) -> None:
    """Bring what is in the log into a file that was moved away; SQLite itself does not when it closes such a file."""
    import sqlite3

    with contextlib.suppress(sqlite3.Error):  # nothing can be done for a file that is gone
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def is_busy(error: Exception) -> bool:
    """Whether another connection holds the file and waiting may help."""
    import sqlite3

    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def trouble(error: Exception, path: str) -> str:
    """What is wrong with the file, and what to do about it, in one line."""
    import sqlite3

    if isinstance(error, LedgerError):
        return str(error)
    modes = "check the modes of the file and its folder, name another path, or keep none with LLM_MASTER_LEDGER=off"
    advice = {
        sqlite3.SQLITE_BUSY: "another program holds it locked; end that program, or wait",
        sqlite3.SQLITE_LOCKED: "another program holds it locked; end that program, or wait",
        sqlite3.SQLITE_FULL: "the disk is full; make room",
        sqlite3.SQLITE_IOERR: "the disk refuses it: it may be full, over a quota or failing; see the system's log",
        sqlite3.SQLITE_READONLY: modes,
        sqlite3.SQLITE_PERM: modes,
        sqlite3.SQLITE_CANTOPEN: f"it cannot be opened; {modes}",
        sqlite3.SQLITE_CORRUPT: "it is damaged; move it away and a new one is begun",
        sqlite3.SQLITE_NOTADB: "it is no SQLite database; name another path for the ledger",
    }.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "see the system's message")
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "the disk is full; make room" if full else modes
    return f"the ledger in {path} cannot be written: {advice} ({type(error).__name__}: {error})"
