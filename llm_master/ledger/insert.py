"""
Rows as one transaction writes them into SQLite.

Many rows go into one statement. Each statement lets go of the interpreter once, and a busy program may take
milliseconds to give it back: row by row, five hundred rows took 800 ms beside a busy thread; like this, 20.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from llm_master.ledger.rows import ATTEMPT_COLUMNS, CALL_COLUMNS, TAG_COLUMNS, AttemptRow, CallRow, Rows, rows_of

if TYPE_CHECKING:
    import sqlite3

__all__ = ["insert", "mended", "probe"]

# Values that one statement may take: SQLite's own default since 3.32.
_MOST_VALUES = 32_766
_TABLES = {
    "calls": (CALL_COLUMNS, "id"),
    "attempts": (ATTEMPT_COLUMNS, "call_id, number"),
    "call_tags": (TAG_COLUMNS, "tag, call_id"),
}


def mended(rows: Rows) -> Rows:
    """The same rows without halves of characters, which no database takes."""
    call, attempts, tags = rows
    return _mended(call), [_mended(row) for row in attempts], [_mended(row) for row in tags]


def _mended(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.encode("utf-8", "replace").decode() if isinstance(each, str) else each for each in row)


def insert(connection: sqlite3.Connection, many: Sequence[Rows]) -> int:
    """Insert calls with all that belongs to them; one that is there already stays as it is. The last call's number."""
    newest = _insert(connection, "calls", [call for call, _, _ in many])
    _insert(connection, "attempts", list(chain.from_iterable(attempts for _, attempts, _ in many)))
    _insert(connection, "call_tags", list(chain.from_iterable(tags for _, _, tags in many)))
    return newest


def probe(connection: sqlite3.Connection) -> None:
    """Insert a call and take it back, inside a transaction: a file that is damaged where the next row goes says so."""
    row = CallRow(id="~", ts=1 << 62, kind="chat", model_asked="", outcome="ok", tags='["~"]')
    attempt = AttemptRow(call_id="~", number=1, ts=0, provider="", model="", outcome="ok")
    connection.execute("SAVEPOINT probe")
    insert(connection, [rows_of(row, [attempt])])
    connection.execute("ROLLBACK TO probe")


def _insert(connection: sqlite3.Connection, table: str, rows: list[tuple[Any, ...]]) -> int:
    start = newest = 0
    for size in _sizes(len(rows), _MOST_VALUES // len(_TABLES[table][0])):
        values = list(chain.from_iterable(rows[start : start + size]))
        newest = connection.execute(_statement(table, size), values).lastrowid or 0
        start += size
    return newest


def _sizes(count: int, most: int) -> Iterable[int]:
    """Powers of two that make up a count, so that few statements serve every count and stay prepared."""
    size = 1 << (most.bit_length() - 1)
    while count:
        while size > count:
            size >>= 1
        yield size
        count -= size


@cache
def _statement(table: str, rows: int) -> str:
    columns, key = _TABLES[table]
    row = f"({', '.join('?' * len(columns))})"
    values = ", ".join([row] * rows)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {values} ON CONFLICT ({key}) DO NOTHING"  # noqa: S608
