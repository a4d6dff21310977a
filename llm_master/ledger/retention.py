"""
Removing old calls, and never one that another database is still waiting for.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from llm_master.errors import LedgerError
from llm_master.ledger.sqlite_file import is_busy, open_file, transaction, trouble

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Pruned", "forget", "make_room", "prune", "register"]

_AT_ONCE = 500
_PATIENCE = 10.0


class Pruned(msgspec.Struct, frozen=True):
    """
    What a pruning has done.

    ``calls`` were removed, with their attempts and tags. ``kept`` are old enough and stay, because the PostgreSQL
    databases in ``held_back_by`` do not have them yet. ``freed`` bytes were given back to the file system.
    """

    calls: int
    kept: int
    held_back_by: tuple[str, ...]
    freed: int


def prune(path: str, older_than: timedelta | datetime) -> Pruned:
    """Remove the calls of a file that are older than an age or an instant."""
    if isinstance(older_than, timedelta):
        older_than = datetime.now(UTC) - older_than
    if older_than.tzinfo is None:
        raise ValueError("older_than needs a time zone, as datetime(2026, 1, 1, tzinfo=UTC) has it")
    before = int(older_than.timestamp() * 1_000_000)
    with _opened(path) as connection:
        size = _bytes(connection)
        gone = 0
        while removed := _remove(connection, "ts < ?", before):
            gone += removed
        kept = connection.execute("SELECT count(*) FROM calls WHERE ts < ?", (before,)).fetchone()[0]
        held = _holders(connection) if kept else ()
        connection.executescript("PRAGMA incremental_vacuum")  # execute() would free one page
        return Pruned(gone, kept, held, max(0, size - _bytes(connection)))


def make_room(connection: sqlite3.Connection, most_bytes: int) -> bool:
    """Remove the oldest calls of an open file until it has its size; False when those that may go are not enough."""
    while _bytes(connection) - _free(connection) > most_bytes:
        if not _remove(connection, "true"):
            return False
    connection.executescript("PRAGMA incremental_vacuum")  # execute() would free one page
    return True


def register(path: str, target: str) -> None:
    """Make the mark of a database, so that nothing is removed before it went there."""
    with _opened(path) as connection:
        _patiently(connection, "INSERT OR IGNORE INTO forwarding VALUES (?, NULL, 0, NULL, 0)", (target,))


def forget(path: str, target: str) -> None:
    """Remove the mark of a database."""
    with _opened(path) as connection:
        for table in ("forwarding", "forwarding_refused"):
            _patiently(connection, f"DELETE FROM {table} WHERE target = ?", (target,))  # noqa: S608  # our names


def _remove(connection: sqlite3.Connection, which: str, *values: int) -> int:
    """Remove some of the oldest calls that every known database has; how many."""
    until = time.monotonic() + _PATIENCE
    # min() of no rows is NULL: nobody forwards, and every call may go. A call that was refused exists here alone.
    mark = "coalesce((SELECT min(mark) FROM forwarding), 9223372036854775807)"
    chosen = (
        f"SELECT seq, id FROM calls WHERE {which} AND seq <= {mark}"  # noqa: S608  # our own words
        " AND seq NOT IN (SELECT seq FROM forwarding_refused) ORDER BY seq LIMIT ?"
    )
    while True:
        try:
            with transaction(connection):
                found = connection.execute(chosen, (*values, _AT_ONCE)).fetchall()
                connection.executemany("DELETE FROM call_tags WHERE call_id = ?", [(id_,) for _, id_ in found])
                connection.executemany("DELETE FROM attempts WHERE call_id = ?", [(id_,) for _, id_ in found])
                connection.executemany("DELETE FROM calls WHERE seq = ?", [(seq,) for seq, _ in found])
        except Exception as error:
            if not is_busy(error) or time.monotonic() > until:
                raise
        else:
            return len(found)


def _holders(connection: sqlite3.Connection) -> tuple[str, ...]:
    newest = "(SELECT coalesce(max(seq), 0) FROM calls)"
    rows = connection.execute(
        f"SELECT target FROM forwarding WHERE mark < {newest}"  # noqa: S608  # our own words
        " UNION SELECT target FROM forwarding_refused ORDER BY target"
    )
    return tuple(target for (target,) in rows)


def _patiently(connection: sqlite3.Connection, statement: str, values: tuple[str, ...]) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute(statement, values)
        except Exception as error:
            if not is_busy(error) or time.monotonic() > until:
                raise
        else:
            return


@contextlib.contextmanager
def _opened(path: str) -> Iterator[sqlite3.Connection]:
    import sqlite3

    try:
        with contextlib.closing(open_file(path, patience=_PATIENCE)) as connection:
            yield connection
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(trouble(error, path)) from error


def _bytes(connection: sqlite3.Connection) -> int:
    pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages * size)


def _free(connection: sqlite3.Connection) -> int:
    pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size"))
    return int(pages * size)
