"""
The PostgreSQL side of forwarding: a connection that no silent server can hold, and rows that arrive once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.errors import ConfigurationError, LedgerError
from llm_master.ledger.rows import ATTEMPT_COLUMNS, CALL_COLUMNS, TAG_COLUMNS, AttemptRow, CallRow
from llm_master.ledger.schema import VERSION_TABLE, missing, revisions, statements
from llm_master.redaction import MASK, Secret, redact

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import NullConnectionPool

__all__ = ["Batch", "Database", "address_of"]

# Seconds for a connection, and for one batch from its first statement to its commit.
_CONNECT, _BATCH = 5.0, 20.0
# Any number, the same in every LLM Master: one host at a time brings the tables up to date.
_UPGRADE_LOCK = 7_313_002_164_112
# What a child of a fork has of its parent and may neither use nor close.
_INHERITED: list[Any] = []

# Calls, attempts and tags as tuples of their columns.
Batch = tuple[Sequence[tuple[Any, ...]], Sequence[tuple[Any, ...]], Sequence[tuple[Any, ...]]]


def address_of(given: str) -> Secret:
    """
    The address of a database, read from its variable when it is ``env:NAME``.

    Raises:
        ConfigurationError: the variable is not set, or the extra ``postgres`` is not installed.
    """
    try:
        import psycopg
        import psycopg_pool  # noqa: F401  # used later; missing now is better told
    except ImportError as error:
        raise ConfigurationError(
            'a ledger in PostgreSQL needs psycopg; install it with: pip install "llm-master[postgres]"'
        ) from error
    text = given
    if given.startswith("env:"):
        text = os.environ.get(given[4:], "")
        if not text:
            raise ConfigurationError(f"the variable {given[4:]!r}, which names the ledger's PostgreSQL, is not set")
    try:
        psycopg.conninfo.conninfo_to_dict(text)
    except psycopg.ProgrammingError:
        # Its message quotes the address.
        raise ConfigurationError(
            "the ledger's PostgreSQL has no address that can be read; write postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None
    return Secret(text)


class Database:
    """
    One PostgreSQL database, reached by one thread.

    A connection is made when rows are there and given back after a while without any, so that many hosts share a
    server. ``name`` is host, port and database, which may be shown.
    """

    def __init__(self, address: Secret, *, connect: float = _CONNECT, batch: float = _BATCH) -> None:
        from psycopg.conninfo import conninfo_to_dict

        self._address, self._connect, self._batch = address, connect, batch
        parts = conninfo_to_dict(address)
        self._password = parts.get("password")
        host = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST") or "localhost"
        port = parts.get("port") or os.environ.get("PGPORT") or 5432
        self.name = f"{host}:{port}/{parts.get('dbname') or os.environ.get('PGDATABASE') or parts.get('user') or ''}"
        self._pool: NullConnectionPool[Any] | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._socket: socket.socket | None = None
        self._identity = ""

    def __repr__(self) -> str:
        return f"Database({MASK})"

    def identity(self) -> str:
        """
        Connect and bring the tables up to date; the name that the database got when they were made.

        Raises:
            psycopg.Error: it is down, silent or refuses.
            LedgerError: its tables are of a newer LLM Master or of another program.
        """
        self._connected()
        return self._identity

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            from psycopg_pool import NullConnectionPool

            # Servers behind a pooler of their own know no prepared statements.
            kwargs = {"prepare_threshold": None, "autocommit": True, "application_name": "llm-master"}
            if self._pool is None:
                self._pool = NullConnectionPool(
                    self._address, kwargs=kwargs, max_size=1, num_workers=1, open=True, name="llm-master-ledger"
                )
            self._connection = self._pool.getconn(timeout=self._connect)
            self._socket = socket.socket(fileno=os.dup(self._connection.fileno()))
            try:
                with self._in_time(self._connection) as connection:
                    self._identity = self._upgraded(connection)
            except BaseException:
                self.leave()
                raise
        return self._connection

    def send(self, batch: Batch) -> None:
        """
        Insert rows in one transaction; what is there already stays as it is.

        Raises:
            psycopg.Error: nothing is inserted, or the database did not say whether.
        """
        with self._in_time(self._connected()) as connection, connection.transaction():
            connection.execute(f"SET LOCAL statement_timeout = {int(self._batch * 1000)}")
            for statement, rows in zip(_inserts(), batch, strict=True):
                if rows:
                    connection.execute(statement, [list(column) for column in zip(*rows, strict=True)])

    def refuses_row(self, error: Exception) -> bool:
        """Whether an error is about what a row holds, so that the rows without it may go."""
        import psycopg

        # A name that is too long for an index goes over a limit of the program's.
        of_rows = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
        return isinstance(error, of_rows)

    def words(self, error: Exception) -> str:
        """An error in one line, without the password and without what a row holds."""
        import psycopg

        said = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        text = redact(said or str(error), self._address, self._password if isinstance(self._password, str) else None)
        return " ".join(f"{type(error).__name__}: {text}".split())

    def cut(self) -> None:
        """Break the connection off; whoever waits for it, in any thread, gets an error."""
        cable = self._socket
        if cable is not None:
            with contextlib.suppress(OSError):  # it is broken already
                cable.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """Give the connection back; the next batch makes a new one."""
        connection, self._connection = self._connection, None
        cable, self._socket = self._socket, None
        pool, self._pool = self._pool, None
        if cable is not None:
            cable.close()
        if pool is not None:
            if connection is not None:
                pool.putconn(connection)
            pool.close(timeout=1.0)

    def inherited(self) -> None:
        """In the child of a fork: forget the parent's connection without a word to the server."""
        _INHERITED.append((self._pool, self._connection, self._socket))
        self._pool = self._connection = self._socket = None

    @contextlib.contextmanager
    def _in_time(self, connection: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
        """Cut the connection when the server is silent for too long: frozen, it answers no timeout of its own."""
        timer = threading.Timer(self._batch, self.cut)
        timer.daemon = True
        timer.start()
        try:
            yield connection
        finally:
            timer.cancel()

    def _upgraded(self, connection: psycopg.Connection[Any]) -> str:
        newest = revisions("postgresql")[-1]
        if self._version(connection) != newest:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [_UPGRADE_LOCK])
                for revision in missing("postgresql", self._version(connection), self.name):
                    for statement in statements("postgresql", revision):
                        connection.execute(statement)
        found = connection.execute("SELECT id FROM ledger_identity").fetchone()
        if found is None:
            raise LedgerError(f"the ledger's tables in {self.name} are not whole: ledger_identity is empty")
        return str(found[0])

    def _version(self, connection: psycopg.Connection[Any]) -> str | None:
        # to_regclass() may answer from before another host's upgrade that was just waited for.
        there = connection.execute(
            "SELECT 1 FROM pg_catalog.pg_tables WHERE tablename = %s AND schemaname = ANY (current_schemas(false))",
            [VERSION_TABLE],
        )
        if there.fetchone() is None:
            return None
        found = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608  # our own name
        return str(found[0]) if found else None


@cache
def _inserts() -> tuple[Any, ...]:
    """A statement for each table, which takes one array a column."""
    tables: tuple[tuple[str, tuple[str, ...], str, type[msgspec.Struct] | None], ...] = (
        ("calls", CALL_COLUMNS, "id", CallRow),
        ("attempts", ATTEMPT_COLUMNS, "call_id, number", AttemptRow),
        ("call_tags", TAG_COLUMNS, "tag, call_id", None),
    )
    made = []
    for table, columns, key, struct in tables:
        fields = (
            ["text", "text", "bigint"] if struct is None else [_type(each) for each in msgspec.structs.fields(struct)]
        )
        arrays = ", ".join(f"%s::{kind}[]" for kind in fields)
        source = f"SELECT * FROM unnest({arrays})"  # noqa: S608  # our own names
        statement = f"INSERT INTO {table} ({', '.join(columns)}) {source} ON CONFLICT ({key}) DO NOTHING"
        made.append(statement)
    return tuple(made)


def _type(field: msgspec.structs.FieldInfo) -> str:
    return "text" if field.type in (str, str | None) else "bigint"
