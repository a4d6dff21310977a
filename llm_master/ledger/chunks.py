"""
Summaries of full chunks of the SQLite ledger, so that a report reads a hundredth of it.

A chunk is ``CHUNK`` numbers of ``calls.seq``, which SQLite never gives twice. When it is full, the writer adds it up
once. A trigger throws a summary away when a row of its chunk is changed or deleted, by whatever program; what has no
summary is read from the rows themselves, so a report never depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.ledger.summary import Dialect, Malformed, Overflow, Summary, summarise

if TYPE_CHECKING:
    import sqlite3

__all__ = ["CHUNK", "NO_TAGS", "SQLITE", "Sealer", "run_in", "unpacked"]

#: Calls of a chunk: adding it up takes about 50 ms, nearly all of it without the interpreter's lock.
CHUNK = 8192

#: Groups beyond which reading the calls themselves is as fast.
MOST_GROUPS = CHUNK // 4

#: What stands for the summary by tags when no call of the chunk has one.
NO_TAGS = b""

SQLITE = Dialect(mark="?", joined="group_concat({})", like="LIKE", bytewise="", overflows=True, late=0)

# The first byte of a summary; a reader that does not know it reads the calls.
_VERSION = b"\x01"
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Summary)


def unpacked(data: bytes | None, calls: int) -> Summary | None:
    """The summary of a chunk of so many calls; None when there is none that can be read."""
    if data is None or data[:1] != _VERSION:
        return None
    try:
        found = _DECODER.decode(memoryview(data)[1:])
    except msgspec.MsgspecError:
        return None
    return found if sum(group.sums[0] for group in found.groups) == calls else None


def _packed(summary: Summary) -> bytes | None:
    if len(summary.groups) > MOST_GROUPS:
        return None
    try:
        return _VERSION + _ENCODER.encode(summary)
    except (OverflowError, msgspec.MsgspecError):  # a sum of more than 64 bits
        return None


def run_in(connection: sqlite3.Connection, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a statement of ``summarise`` in SQLite; raises Overflow where a sum is too large."""
    import sqlite3

    try:
        return connection.execute(statement, values).fetchall()
    except sqlite3.OperationalError as error:
        if str(error) == "integer overflow":
            raise Overflow from error
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
            bounds = (chunk * CHUNK + 1, (chunk + 1) * CHUNK)
            calls, first, last, bare = connection.execute(
                "SELECT count(*), coalesce(min(ts), 0), coalesce(max(ts), 0), count(CASE WHEN tags = '[]' THEN 1 END)"
                " FROM calls WHERE seq BETWEEN ? AND ?",
                bounds,
            ).fetchone()
            plain = self._summary(bounds, tagged=False)
            tagged = NO_TAGS if bare == calls else self._summary(bounds, tagged=True)
            connection.execute(
                "INSERT INTO usage_chunks VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (chunk, calls, first, last, plain, tagged),
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _summary(self, bounds: tuple[int, int], *, tagged: bool) -> bytes | None:
        def run(statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
            return run_in(self._connection, statement, values)

        try:
            return _packed(summarise(run, SQLITE, "seq BETWEEN ? AND ?", bounds, tagged=tagged))
        except (Malformed, Overflow):  # whoever reads the rows will say so
            return None

    def _one(self, statement: str) -> int | None:
        found = self._connection.execute(statement).fetchone()[0]
        return None if found is None else int(found)
