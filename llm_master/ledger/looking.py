"""
A look at a ledger from outside: whether calls could write it, and what waits to be forwarded. Nothing is changed.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from llm_master.errors import LedgerError
from llm_master.ledger.postgres import Database
from llm_master.ledger.sqlite_file import lacks, trouble

if TYPE_CHECKING:
    import sqlite3

    from llm_master.redaction import Secret

__all__ = ["Forwarded", "Look", "ask", "look"]

# Seconds that another program's lock is waited for, and a PostgreSQL's answer.
_PATIENCE, _CONNECT = 1.0, 5


class Forwarded(msgspec.Struct, frozen=True):
    """Of one database: how many calls wait to be brought there, and how many it has refused."""

    target: str
    waiting: int
    refused: int


class Look(msgspec.Struct, frozen=True):
    """
    A file that could be written.

    ``calls`` is None when there is no file yet. ``old`` is whether its tables are brought up to date by the next call.
    """

    calls: int | None = None
    old: bool = False
    forwarded: tuple[Forwarded, ...] = ()


def look(path: str) -> Look:
    """
    Look at a ledger's file.

    Args:
        path: an absolute path.

    Raises:
        LedgerError: calls could not write it; why, and what to do.
    """
    import sqlite3

    path = os.path.realpath(path)
    if not os.path.lexists(path):
        _check_folder(path)
        return Look()
    try:
        # Not created here, should it go away in between.
        address = f"file:{quote(path)}?mode=rw"
        with contextlib.closing(
            sqlite3.connect(address, uri=True, timeout=_PATIENCE, isolation_level=None)
        ) as connection:
            return _look(connection, path)
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(trouble(error, path)) from error


def ask(address: Secret) -> str | None:
    """What is wrong with a PostgreSQL, None when it answers; ``address`` is shown nowhere."""
    import psycopg

    try:
        with psycopg.connect(address, connect_timeout=_CONNECT) as connection:
            connection.execute("SELECT 1")
    except (psycopg.Error, OSError) as error:
        return Database(address).words(error)
    return None


def _look(connection: sqlite3.Connection, path: str) -> Look:
    old = bool(lacks(connection, path))
    connection.execute("BEGIN IMMEDIATE")  # what a call would do; nothing follows
    connection.execute("ROLLBACK")
    if old:
        return Look(calls=_count(connection, "calls") if _has(connection, "calls") else 0, old=True)
    refused = dict(connection.execute("SELECT target, count(*) FROM forwarding_refused GROUP BY target"))
    marks = connection.execute("SELECT target, mark FROM forwarding ORDER BY target").fetchall()
    return Look(
        calls=_count(connection, "calls"),
        forwarded=tuple(
            Forwarded(target, _count(connection, "calls WHERE seq > ?", mark), refused.get(target, 0))
            for target, mark in marks
        ),
    )


def _has(connection: sqlite3.Connection, table: str) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is not None


def _count(connection: sqlite3.Connection, what: str, *values: int) -> int:
    found = connection.execute(f"SELECT count(*) FROM {what}", values)  # noqa: S608  # our own words
    return int(found.fetchone()[0])


def _check_folder(path: str) -> None:
    """Whether a file, and the folders above it that are missing, could be made."""
    folder = os.path.dirname(path)  # noqa: PTH120  # one of many plain paths here
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)  # noqa: PTH120
    if not os.path.isdir(folder):  # noqa: PTH112
        raise LedgerError(f"the ledger in {path} cannot be made: {folder} is no folder; name another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LedgerError(f"the ledger in {path} cannot be made: {folder} may not be written; check its mode")
