"""
Limits and budgets as tables of one SQLite file: what each operation reads and writes inside of a transaction.

Times are UNIX seconds, because several processes share them; money is in picodollars.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_master.policy.limits_rules import CELLS, Limit, Shortage

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Wish", "prepare", "prolong", "reserve", "settle", "spent", "stop"]

# Seconds for which an ended window of a budget stays in the file.
_KEPT = 62 * 86400.0

# The names end in the version of the form, so that an older and a newer one can share a file.
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS uses_1 (
        key TEXT NOT NULL, cell INTEGER NOT NULL, requests INTEGER NOT NULL, tokens INTEGER NOT NULL,
        PRIMARY KEY (key, cell)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS places_1 (
        key TEXT NOT NULL, id TEXT NOT NULL, expires REAL NOT NULL, PRIMARY KEY (key, id)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS stops_1 (key TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS budgets_1 (
        key TEXT PRIMARY KEY, used INTEGER NOT NULL, open INTEGER NOT NULL, ends REAL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS holds_1 (
        key TEXT NOT NULL, id TEXT NOT NULL, amount INTEGER NOT NULL, expires REAL, PRIMARY KEY (key, id))
        WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS holds_1_expires ON holds_1 (key, expires) WHERE expires IS NOT NULL",
)


def prepare(db: sqlite3.Connection) -> None:
    """Make what is missing of the tables."""
    made = "SELECT count(*) FROM sqlite_master WHERE name IN ('uses_1', 'places_1', 'stops_1', 'budgets_1', 'holds_1')"
    if db.execute(made).fetchone()[0] < len(_SCHEMA) - 1:
        db.execute("BEGIN IMMEDIATE")
        with db:
            for statement in _SCHEMA:
                db.execute(statement)


class Wish(NamedTuple):
    """
    What a call asks for: under which name, from which limits and budgets, tokens, the time, and how long it holds them.
    """

    name: str
    wanted: Sequence[Any]
    tokens: int
    now: float
    expires: float


def reserve(db: sqlite3.Connection, wish: Wish) -> Shortage | int:
    """The second that a call is counted in under all its limits and budgets, or what it lacks; then nothing changes."""
    lacking: list[Shortage] = []
    for each in wish.wanted:
        if isinstance(each, Limit):
            lacking += _lacking(db, wish.now, each, wish.tokens)
        else:
            found = _short(db, wish.now, each)
            if found is not None and found.kind == "budget":
                return found
            lacking += [] if found is None else [found]
    if lacking:
        return max(lacking, key=lambda each: (each.seconds < math.inf, each.seconds))
    for each in wish.wanted:
        if isinstance(each, Limit):
            _count(db, each, wish)
        else:
            _take(db, each, wish)
    return int(wish.now)


# -- limits -----------------------------------------------------------------------------------------------------------


def _lacking(db: sqlite3.Connection, now: float, limit: Limit, tokens: int) -> list[Shortage]:
    second, found = int(now), []
    stop = db.execute("SELECT until FROM stops_1 WHERE key = ?", (limit.key,)).fetchone()
    if stop is not None and stop[0] > now:
        found.append(Shortage(stop[0] - now, limit, "provider", certain=True))
    if limit.rpm is not None or limit.tpm is not None:
        cells = _cells(db, limit.key, second)
        requests, used = sum(row[1] for row in cells), sum(row[2] for row in cells)
        if limit.rpm is not None and requests >= limit.rpm:
            until = _free_at(cells, 1, requests + 1 - limit.rpm, second)
            found.append(Shortage(until - now, limit, "rpm", certain=True))
        if limit.tpm is not None and used + tokens > limit.tpm:
            until = _free_at(cells, 2, used + tokens - limit.tpm, second)
            # A call under way may yet give back what it does not use.
            found.append(Shortage(until - now, limit, "tpm", certain=not _places(db, now, limit.key)))
    if limit.max_concurrency is not None and _places(db, now, limit.key) >= limit.max_concurrency:
        found.append(Shortage(math.inf, limit, "max_concurrency", certain=False))
    return found


def _cells(db: sqlite3.Connection, key: str, second: int) -> list[tuple[int, int, int]]:
    """Second, requests and tokens of the last 61 seconds, oldest first."""
    asked = "SELECT cell, requests, tokens FROM uses_1 WHERE key = ? AND cell > ? ORDER BY cell"
    rows: list[tuple[int, int, int]] = db.execute(asked, (key, second - CELLS)).fetchall()
    if rows and rows[-1][0] - second >= CELLS:
        # The clock was set back. All that was used counts as used now: never too much, and over in a minute.
        rows = [(second, sum(row[1] for row in rows), sum(row[2] for row in rows))]
        db.execute("DELETE FROM uses_1 WHERE key = ?", (key,))
        db.execute("INSERT INTO uses_1 VALUES (?, ?, ?, ?)", (key, *rows[0]))
    return rows


def _free_at(cells: Sequence[tuple[int, int, int]], column: int, excess: int, second: int) -> int:
    for row in cells:
        excess -= row[column]
        if excess <= 0:
            return row[0] + CELLS
    return second + CELLS


def _places(db: sqlite3.Connection, now: float, key: str) -> int:
    db.execute("DELETE FROM places_1 WHERE key = ? AND expires <= ?", (key, now))
    found: int = db.execute("SELECT count(*) FROM places_1 WHERE key = ?", (key,)).fetchone()[0]
    return found


def _count(db: sqlite3.Connection, limit: Limit, wish: Wish) -> None:
    second = int(wish.now)
    if limit.rpm is not None or limit.tpm is not None:
        db.execute("DELETE FROM uses_1 WHERE key = ? AND cell <= ?", (limit.key, second - CELLS))
        db.execute(
            "INSERT INTO uses_1 VALUES (?, ?, 1, ?) ON CONFLICT (key, cell) DO UPDATE SET"
            " requests = requests + 1, tokens = tokens + excluded.tokens",
            (limit.key, second, wish.tokens),
        )
    if limit.max_concurrency is not None or limit.tpm is not None:
        db.execute("INSERT INTO places_1 VALUES (?, ?, ?)", (limit.key, wish.name, wish.expires))


def stop(db: sqlite3.Connection, keys: Iterable[str], until: float) -> None:
    """Let nothing go under some keys before a moment; an earlier stop is never shortened."""
    db.executemany(
        "INSERT INTO stops_1 VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET until = max(until, excluded.until)",
        [(key, until) for key in keys],
    )


# -- budgets ----------------------------------------------------------------------------------------------------------


def _short(db: sqlite3.Connection, now: float, charge: Any) -> Shortage | None:
    row = db.execute("SELECT used, open FROM budgets_1 WHERE key = ?", (charge.key,)).fetchone()
    used, held = (0, 0) if row is None else row
    if charge.lacks(used, held) is None:
        return None
    held -= _expire(db, now, charge.key)
    kind = charge.lacks(used, held)
    return Shortage(math.inf, charge, kind or "budget", kind == "budget", used - held)


def _expire(db: sqlite3.Connection, now: float, key: str) -> int:
    """What calls of processes that are gone held: it stays used, and nobody waits for it; its sum."""
    asked = "SELECT coalesce(sum(amount), 0) FROM holds_1 WHERE key = ? AND expires <= ?"
    gone: int = db.execute(asked, (key, now)).fetchone()[0]
    if gone:
        db.execute("UPDATE holds_1 SET expires = NULL WHERE key = ? AND expires <= ?", (key, now))
        db.execute("UPDATE budgets_1 SET open = open - ? WHERE key = ?", (gone, key))
    return gone


def _take(db: sqlite3.Connection, charge: Any, wish: Wish) -> None:
    amount = charge.amount
    row = (amount, amount, charge.key)
    if not db.execute("UPDATE budgets_1 SET used = used + ?, open = open + ? WHERE key = ?", row).rowcount:
        _forget(db, wish.now)
        db.execute("INSERT INTO budgets_1 VALUES (?, ?, ?, ?)", (charge.key, amount, amount, charge.span.ends))
    db.execute("INSERT INTO holds_1 VALUES (?, ?, ?, ?)", (charge.key, wish.name, amount, wish.expires))


def _forget(db: sqlite3.Connection, now: float) -> None:
    """Drop windows that have ended long ago."""
    old = db.execute("SELECT key FROM budgets_1 WHERE ends <= ?", (now - _KEPT,)).fetchall()
    db.executemany("DELETE FROM holds_1 WHERE key = ?", old)
    db.executemany("DELETE FROM budgets_1 WHERE key = ?", old)


def _end(db: sqlite3.Connection, name: str, key: str, final: int) -> None:
    """A call's charge is what it came to; once."""
    row = db.execute("SELECT amount, expires FROM holds_1 WHERE key = ? AND id = ?", (key, name)).fetchone()
    if row is None:
        return
    amount, expires = row
    db.execute("DELETE FROM holds_1 WHERE key = ? AND id = ?", (key, name))
    db.execute(
        "UPDATE budgets_1 SET used = used + ?, open = open - ? WHERE key = ?",
        (final - amount, amount if expires is not None else 0, key),
    )


def spent(db: sqlite3.Connection, key: str) -> tuple[int, int]:
    """What is spent in a budget's window, and what calls under way hold of it."""
    row = db.execute("SELECT used, open FROM budgets_1 WHERE key = ?", (key,)).fetchone()
    return (0, 0) if row is None else (row[0] - row[1], row[1])


# -- both -------------------------------------------------------------------------------------------------------------


def settle(
    db: sqlite3.Connection, name: str, cell: int, changes: Iterable[tuple[str, int, int]], finals: Iterable[Any]
) -> None:
    """
    End a reservation.

    Args:
        changes: the keys of its limits, with what is added to their requests and tokens.
        finals: the keys of its budgets, each with what the call came to.
    """
    for key, requests, tokens in changes:
        db.execute("DELETE FROM places_1 WHERE key = ? AND id = ?", (key, name))
        if requests or tokens:
            db.execute(
                "UPDATE uses_1 SET requests = max(0, requests + ?), tokens = max(0, tokens + ?)"
                " WHERE key = ? AND cell = ?",
                (requests, tokens, key, cell),
            )
    for key, final in finals:
        _end(db, name, key, final)


def prolong(db: sqlite3.Connection, calls: Iterable[tuple[str, Sequence[str]]], expires: float) -> None:
    """Let calls under way keep what they hold: each with the keys of its limits and budgets."""
    rows = [(expires, key, name) for name, keys in calls for key in keys]
    db.executemany("UPDATE places_1 SET expires = ? WHERE key = ? AND id = ?", rows)
    db.executemany("UPDATE holds_1 SET expires = ? WHERE key = ? AND id = ? AND expires IS NOT NULL", rows)
