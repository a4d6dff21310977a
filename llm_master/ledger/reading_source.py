"""
Where a report reads from: the ledger's file, or a PostgreSQL server. Nothing is ever written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar
from urllib.parse import quote

from llm_master.errors import ConfigurationError, LedgerError
from llm_master.ledger.chunks import SQLITE, run_in
from llm_master.ledger.summary import Dialect
from llm_master.redaction import redact

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Open", "Source", "source_of"]

_T = TypeVar("_T")

# Seconds. A writer in WAL mode never holds a reader up; another program may.
_BUSY = 5.0
_CONNECT = 10
# Readings without a lock that others may spoil.
_TRIES = 2

POSTGRESQL = Dialect(
    mark="%s",
    listed="json_agg({})::text",
    like="ILIKE",
    bytewise=' COLLATE "C"',
    typed=True,
    # Hosts and transactions that run side by side number their rows before they are seen.
    late=10_000,
    page=65_536,
)


class Open(Protocol):
    """A ledger while it is read: one state of it, whoever writes meanwhile."""

    dialect: Dialect

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        ...


class Source(Protocol):
    """A ledger that can be read; ``name`` is what an error calls it."""

    name: str

    def read(self, work: Callable[[Open], _T]) -> _T:
        """Do some reading; raises LedgerError or ConfigurationError."""
        ...


def source_of(place: str | os.PathLike[str]) -> Source:
    """The ledger at a path, or behind ``postgresql://``."""
    text = os.fspath(place)
    if text.startswith(("postgresql://", "postgres://")):
        return _Postgres(text)
    return _File(text)


class _OpenFile:
    dialect = SQLITE

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return run_in(self.connection, statement, values)


class _File:
    def __init__(self, path: str) -> None:
        try:
            self.name = str(Path(path).expanduser())
        except RuntimeError as error:
            raise ConfigurationError(f"the ledger's path {path!r}: {error}; write it out") from error

    def read(self, work: Callable[[Open], _T]) -> _T:
        import sqlite3

        tries = _TRIES
        while True:
            before = self._stamp()
            # Opening a file in WAL mode makes two files beside it, unless SQLite is told that nobody writes. Nobody did
            # when there is no log and the file stays as it was; otherwise what was read is thrown away, and where one
            # short program after the other writes, the file is opened as it is while others write it.
            still = before[1:] == (False, False) and tries > 0
            tries -= 1
            try:
                found = self._read(work, still=still)
            except Exception as error:
                if still and self._stamp() != before:  # whatever it was, it was half of one state and half of another
                    continue
                if isinstance(error, sqlite3.Error):
                    self._refuse(error)
                raise
            if not still or self._stamp() == before:
                return found

    def _read(self, work: Callable[[Open], _T], *, still: bool) -> _T:
        import sqlite3

        address = f"file:{quote(os.path.realpath(self.name))}?{'immutable=1' if still else 'mode=ro'}"
        connection = sqlite3.connect(address, uri=True, timeout=_BUSY, isolation_level=None)
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA temp_store = MEMORY")
            if not still:
                # Without a lock on it the file may be made shorter, and the system ends who reads what is gone.
                connection.execute("PRAGMA mmap_size = 1073741824")
            connection.execute("BEGIN")
            return work(_OpenFile(connection))
        finally:
            connection.close()

    def _stamp(self) -> tuple[tuple[int, int, int], bool, bool]:
        """What changes when somebody writes: the file, its write-ahead log, its journal."""
        try:
            found = Path(self.name).stat()
        except FileNotFoundError as error:
            raise LedgerError(
                f"no ledger at {self.name}: nothing was recorded there yet; make a call with the ledger on, or name"
                " another file with --ledger or LLM_MASTER_LEDGER"
            ) from error
        except OSError as error:
            raise LedgerError(f"the ledger in {self.name} cannot be read: {error.strerror}") from error
        if not Path(self.name).is_file():
            raise LedgerError(f"the ledger {self.name} is no file; name the file, usage.sqlite3")
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        real = os.path.realpath(self.name)
        return state, _has_content(f"{real}-wal"), _has_content(f"{real}-journal")

    def _refuse(self, error: sqlite3.Error) -> NoReturn:
        import sqlite3

        if not Path(self.name).stat().st_size:
            raise LedgerError(
                f"the ledger {self.name} is empty: nothing was recorded there yet; make a call with the ledger on"
            ) from error
        if "no such table" in str(error) or "no such column" in str(error):
            raise LedgerError(f"{self.name} is a database of another program, not a ledger: {error}") from error
        advice = {
            sqlite3.SQLITE_BUSY: "another program holds it locked; end that program, or wait",
            sqlite3.SQLITE_CANTOPEN: "check the modes of the file and its folder, or copy it with its -wal file",
            sqlite3.SQLITE_READONLY: "check the modes of the file and its folder, or copy it with its -wal file",
            sqlite3.SQLITE_CORRUPT: "it is damaged; sqlite3's .recover saves what is left of it",
            sqlite3.SQLITE_NOTADB: "it is no SQLite database; name another file with --ledger",
        }.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "see the message")
        raise LedgerError(f"the ledger in {self.name} cannot be read: {advice} ({error})") from error


def _has_content(path: str) -> bool:
    return Path(path).exists()


class _OpenPostgres:
    dialect = POSTGRESQL

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self._cursor.execute(statement, list(values))
        return list(self._cursor.fetchall())


class _Postgres:
    def __init__(self, address: str) -> None:
        self._address = address
        self.name = _public(address)

    def read(self, work: Callable[[Open], _T]) -> _T:
        # It says which extra is missing, too.
        from llm_master.ledger.postgres import address_of

        address = address_of(self._address)
        import psycopg

        if self.name == _UNREADABLE:
            raise ConfigurationError(
                f"{_UNREADABLE} that can be read; write postgresql://USER:PASSWORD@HOST/DATABASE, with %40 for an @ and"
                " %2F for a / in the password"
            )
        try:
            with psycopg.connect(address, connect_timeout=_CONNECT) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.read_only = True
                with connection.cursor() as cursor:
                    return work(_OpenPostgres(cursor))
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            raise LedgerError(f"{self.name} holds no ledger: {error.diag.message_primary}") from error
        except psycopg.errors.InsufficientPrivilege as error:
            advice = "let this user SELECT from calls, attempts and call_tags"
            raise LedgerError(f"the ledger in {self.name} cannot be read: {self._words(error)}; {advice}") from error
        except psycopg.OperationalError as error:
            advice = "check that the server runs, and host, port, database, user and password"
            raise LedgerError(f"the ledger in {self.name} cannot be read: {self._words(error)}; {advice}") from error
        except psycopg.Error as error:
            raise LedgerError(f"the ledger in {self.name} cannot be read: {self._words(error)}") from error

    def _words(self, error: Exception) -> str:
        """What the server or the driver says, in one line, without the password."""
        from psycopg.conninfo import conninfo_to_dict

        said = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
        password = conninfo_to_dict(self._address).get("password")
        return " ".join(redact(said, self._address, password if isinstance(password, str) else None).split())


_UNREADABLE = "the ledger's PostgreSQL has no address"


def _public(address: str) -> str:
    """An address as it may be shown: host, port and database."""
    scheme, _, rest = address.partition("://")
    where = re.sub(r"^[^@/]*@", "", rest).partition("?")[0]
    # An @ or a / that nobody escaped: what looks like a host is a piece of the password.
    if "@" in where or where.count("/") > 1:
        return _UNREADABLE
    return f"{scheme}://{where}"
