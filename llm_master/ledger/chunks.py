"""
Summaries of full chunks of the SQLite ledger, so that a report need not read every call.

A chunk is ``CHUNK`` numbers of ``calls.seq``, which SQLite never gives twice. When it is full, the writer adds it up
once: by each thing that a report may be grouped by, and it keeps the columns that a report reads, for the questions
that are answered by no sum. A trigger throws them away when a row of their chunk is changed or deleted, by whatever
program; what has no summary is read from the rows themselves, so a report never depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.ledger.columns import Columns, read
from llm_master.ledger.groups import grouped
from llm_master.ledger.summary import SUMS, Dialect, Malformed, Summary

if TYPE_CHECKING:
    import sqlite3

__all__ = ["CHUNK", "COLUMNS", "SQLITE", "SUMMED_BY", "TOTAL", "Sealer", "columns_of", "run_in", "summary_of"]

#: Calls of a chunk: adding it up takes about 70 ms.
CHUNK = 8192

#: The names under which a chunk's data are kept: the sum of all, the sums by each of these, and the columns.
TOTAL, COLUMNS = "total", "columns"
SUMMED_BY = ("model", "asked", "provider", "key", "deployment", "kind", "tag", "slot")

SQLITE = Dialect(mark="?", listed="json_group_array({})", like="LIKE", bytewise="", typed=False, late=0, page=CHUNK)

# The first byte of what is kept; a reader that does not know it reads the calls.
_VERSION = b"\x02"
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Summary)
_WIDTHS = {"I": 4, "q": 8}


def summary_of(data: bytes | None, calls: int) -> Summary | None:
    """
    The summary in what was kept of a chunk of so many calls; None when there is none that can be read.

    One that has a label and no calls is the total under another name.
    """
    if data is None or data[:1] != _VERSION:
        return None
    try:
        found = _DECODER.decode(memoryview(data)[1:])
    except msgspec.MsgspecError:
        return None
    if not found.calls:
        return found if len(found.labels) == 1 else None
    width = _WIDTHS.get(found.width, 0)
    groups = {len(found.labels), len(found.calls), len(found.answered), *(len(each) for each in found.sums if each)}
    sizes = (len(found.latencies), len(found.first_tokens)) == (sum(found.calls) * width, sum(found.answered) * width)
    whole = sizes and len(groups) == 1 and len(found.sums) == len(SUMS)
    return found if whole and sum(found.calls) >= calls else None


def columns_of(data: bytes | None, calls: int) -> Columns | None:
    """The same of the columns."""
    if data is None or data[:1] != _VERSION:
        return None
    try:
        found = Columns.unpack(memoryview(data)[1:])
    except (msgspec.MsgspecError, ValueError, IndexError):
        return None
    return found if found.count == calls else None


def _kept(columns: Columns) -> list[tuple[str, bytes]]:
    """What is kept of a chunk, by name; nothing when a sum has more than 64 bits or tags are none."""
    try:
        found = [(COLUMNS, _VERSION + columns.pack())]
        for name in (TOTAL, *SUMMED_BY):
            groups = grouped(columns, () if name == TOTAL else (name,))
            labels = [label[0] if label else None for label in groups]
            if len(labels) == 1 and name != TOTAL:
                summary = Summary(labels, [], [], "I", memoryview(b""), [], memoryview(b""))
            else:
                summary = columns.groups(dict(zip(labels, groups.values(), strict=True)))
            found.append((name, _VERSION + _ENCODER.encode(summary)))
    except (OverflowError, msgspec.MsgspecError, Malformed):  # whoever reads the rows will say so
        return []
    return found


def run_in(connection: sqlite3.Connection, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a statement in SQLite; raises Malformed where a column holds what cannot be a text."""
    import sqlite3

    try:
        return connection.execute(statement, values).fetchall()
    except sqlite3.OperationalError as error:
        if "JSON cannot hold BLOB" in str(error) or "Could not decode to UTF-8" in str(error):
            raise Malformed(str(error)) from error
        raise


class Sealer:
    """
    Adds up the chunks that are full; for the one thread that writes through a connection.

    Args:
        connection: to a ledger's file, outside of any transaction at each ``step``.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._next: int | None = None  # the first chunk that may lack its summary; None: to be looked up

    def step(self, newest: int | None = None) -> bool:
        """
        Add up one chunk when one is full, in a transaction of its own.

        Args:
            newest: the last ``seq`` written; None asks the database.

        Returns:
            Whether another one may be due.

        Raises:
            sqlite3.Error: the file is locked or the disk full; nothing is changed, and the next step tries again.
        """
        if self._next is not None and newest is not None and newest < (self._next + 1) * CHUNK:
            return False
        if newest is None:
            newest = self._one("SELECT max(seq) FROM calls") or 0
        if newest < CHUNK:
            self._next = 0
            return False
        chunk = self._due(newest // CHUNK)
        if chunk is None:
            self._next = newest // CHUNK
            return False
        self._seal(chunk)
        self._next = chunk + 1
        return self._next < newest // CHUNK

    def _due(self, end: int) -> int | None:
        """The first full chunk below ``end`` that holds calls and has no summary."""
        first = self._one("SELECT min(seq) FROM calls")
        if first is None:
            return None
        low = max(self._next or 0, (first - 1) // CHUNK)
        made = self._connection.execute("SELECT chunk FROM usage_chunks WHERE chunk >= ?", (low,))
        have = {chunk for (chunk,) in made}
        return next((chunk for chunk in range(low, end) if chunk not in have), None)

    def _seal(self, chunk: int) -> None:
        connection = self._connection
        # The only writer while it adds up: nobody can change a row between the sums and their being written.
        connection.execute("BEGIN IMMEDIATE")
        try:
            columns = self._columns(chunk)
            times = columns.numbers["ts"] if columns is not None else [0]
            connection.execute(
                "INSERT INTO usage_chunks VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (chunk, columns.count if columns is not None else 0, min(times, default=0), max(times, default=0)),
            )
            kept = _kept(columns) if columns is not None else []
            connection.executemany(
                "INSERT INTO usage_sums VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [(chunk, name, data) for name, data in kept],
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _columns(self, chunk: int) -> Columns | None:
        def run(statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
            return run_in(self._connection, statement, values)

        try:
            return read(run, SQLITE, "seq BETWEEN ? AND ?", (chunk * CHUNK + 1, (chunk + 1) * CHUNK))
        except Malformed:  # whoever reads the rows will say so
            return None

    def _one(self, statement: str) -> int | None:
        found = self._connection.execute(statement).fetchone()[0]
        return None if found is None else int(found)
