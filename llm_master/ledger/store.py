"""
``Ledger``: where the rows of calls go, and what becomes of them.
"""

from __future__ import annotations

import os
from asyncio import get_running_loop
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from llm_master.errors import ConfigurationError, LedgerError
from llm_master.ledger.queueing import Awaited, Waiter, Waiting
from llm_master.ledger.rows import Make
from llm_master.ledger.writer import MOST_QUEUED, writer_of
from llm_master.redaction import MASK

if TYPE_CHECKING:
    from asyncio import Future as AsyncFuture
    from datetime import datetime, timedelta

    from llm_master.ledger.forward import Forwarder
    from llm_master.ledger.retention import Pruned

__all__ = ["ForwardingHealth", "Ledger", "LedgerHealth", "no_place"]

_MODES = ("relaxed", "strict")
_CHOICES = ("serve", "refuse")
_OFF = ("off", "0", "no", "false")


def no_place() -> str:
    """Why ``Ledger.default_path()`` is None."""
    if os.environ.get("LLM_MASTER_LEDGER", "").strip():
        return "LLM_MASTER_LEDGER switches the ledger off"
    return "there is no home folder for the ledger"


def _at_home(path: str | os.PathLike[str]) -> Path:
    if os.fspath(path).startswith(("postgresql:/", "postgres:/")):
        # It would become a folder, and its name would hold the password.
        raise ConfigurationError(
            "a ledger's path, or LLM_MASTER_LEDGER, is a file of this machine, not the address of a PostgreSQL; name"
            " that with postgres= or, in [ledger] of the settings file, with postgres_url_env"
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"the ledger's path {os.fspath(path)!r}: {error}; write it out") from error


class ForwardingHealth(msgspec.Struct, frozen=True):
    """
    How forwarding to PostgreSQL goes.

    ``target`` is host, port and database. ``active`` is True in the one process that forwards at the moment.
    ``forwarded`` counts the calls that this process has brought there, ``refused`` those that the database would not
    take. ``behind`` is the number of calls that are not there yet, None before the first look.
    """

    target: str
    active: bool
    failure: str | None
    forwarded: int
    refused: int
    behind: int | None


class LedgerHealth(msgspec.Struct, frozen=True):
    """
    The state of a ledger in this process.

    ``failure`` says why the file cannot be written, None when it can. ``pending`` rows are not in it yet, ``written``
    are, ``lost`` were given up; all since the process began. ``forwarding`` is None without PostgreSQL.
    """

    path: str
    failure: str | None
    pending: int
    written: int
    lost: int
    forwarding: ForwardingHealth | None = None

    @property
    def ok(self) -> bool:
        """Nothing fails and nothing was lost."""
        return self.failure is None and not self.lost and (self.forwarding is None or self.forwarding.failure is None)


class Ledger:
    """
    One row a call and one an attempt, in a SQLite file.

    Several ledgers of one path in a process share its one writer, and any number of processes may write one file.
    Nothing is opened before the first row. A forked child goes on with a writer of its own.

    Args:
        path: the file; ``~`` is the user's home. None is ``default_path()``.
        mode: ``"relaxed"`` commits a row within 100 ms and leaves it to the system to bring it to the disk: kill -9
            loses at most the rows of that time. ``"strict"`` is for ``commit``: the row is on the disk when it is done.
        on_failure: what a file that cannot be written does to calls. ``"serve"``: they go on, a warning a minute is
            logged, and their rows are kept, 64 MiB at most, until it works again. ``"refuse"``: ``check`` raises.
        contents: whether the caller wants prompts and answers kept; never unless asked.
        postgres: a PostgreSQL database that gets every row too: its address, or ``"env:NAME"`` for the variable that
            holds it. Extra ``postgres``.
        max_bytes: the file's size from which the oldest calls are removed; None keeps all. Calls that PostgreSQL does
            not have yet are never removed.
        patience: seconds that a locked file is waited for.

    Raises:
        ConfigurationError: an unknown mode or choice, no path of a file, a variable that is not set, or the extra is
            not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        mode: Literal["relaxed", "strict"] = "relaxed",
        on_failure: Literal["serve", "refuse"] = "serve",
        contents: bool = False,
        postgres: str | None = None,
        max_bytes: int | None = None,
        patience: float = 5.0,
    ) -> None:
        if mode not in _MODES:
            raise ConfigurationError(f"a ledger's mode is 'relaxed' or 'strict', not {mode!r}")
        if on_failure not in _CHOICES:
            raise ConfigurationError(f"a ledger's on_failure is 'serve' or 'refuse', not {on_failure!r}")
        chosen = self.default_path() if path is None else _at_home(path)
        if chosen is None:
            raise ConfigurationError(f"{no_place()}; make no ledger, or give it a path")
        self.path = str(chosen.absolute())
        self.mode, self.on_failure, self.contents = mode, on_failure, contents
        #: Whether the call path has to ask ``check`` before a request.
        self.refuses = on_failure == "refuse"
        self._writer = writer_of(self.path, patience)
        self._queue = self._writer.queue
        if mode == "strict":
            self._writer.strict = True
        if max_bytes is not None:
            self._writer.most_bytes = max_bytes
        self._forwarder: Forwarder | None = None
        if postgres is not None:
            from llm_master.ledger.forward import forwarder_of

            self._forwarder = forwarder_of(self._writer, postgres)

    @staticmethod
    def default_path() -> Path | None:
        """
        Where the ledger is when nothing is said; None when it is switched off, or there is no home folder.

        ``LLM_MASTER_LEDGER`` is a path or ``off``; else ``$XDG_STATE_HOME/llm_master/usage.sqlite3``, else
        ``~/.local/state/llm_master/usage.sqlite3``.

        Raises:
            ConfigurationError: the variable names the home of a user whom nobody knows, or a PostgreSQL.
        """
        given = os.environ.get("LLM_MASTER_LEDGER", "").strip()
        if given:
            return None if given.lower() in _OFF else _at_home(given)
        state = os.environ.get("XDG_STATE_HOME", "")
        try:
            # The XDG specification has a relative path ignored.
            home = Path(state) if state.startswith("/") else Path("~/.local/state").expanduser()
        except RuntimeError:  # a user without an entry and without HOME, as in containers
            return None
        return home / "llm_master" / "usage.sqlite3"

    def add(self, make: Make) -> None:
        """
        Queue a call's rows; never waits and never raises.

        Args:
            make: builds the rows; called once, in the writer's thread.
        """
        queue, writer = self._queue, self._writer
        if len(queue) >= MOST_QUEUED:
            writer.lose(f"{MOST_QUEUED} calls wait to be written")
            return
        queue.append(make)
        if writer.idle:
            writer.awake()

    def commit(self, make: Make) -> Future[None]:
        """
        Queue a call's rows; the future is done when they are committed, in strict mode to the disk.

        Its exception is a ``LedgerError``. The rows are kept then and written when the file works again, because the
        call was made; only rows that cannot be built or stored at all are given up.
        """
        waiting = Waiting(make)
        self._commit(waiting)
        return waiting.future

    def commit_soon(self, make: Make) -> AsyncFuture[LedgerError | None]:
        """
        As ``commit``, for a coroutine, which awaits the future in the loop that runs now.

        Its result is the error, None when the rows are committed. Rows of coroutines that wait at the same time share
        a transaction, and their loop is woken once for all of them.
        """
        waiting = Awaited(make, get_running_loop())
        self._commit(waiting)
        return waiting.future

    def _commit(self, waiting: Waiter) -> None:
        if len(self._queue) >= MOST_QUEUED:
            self._writer.lose(f"{MOST_QUEUED} calls wait to be written")
            waiting.done(LedgerError(f"the ledger in {self.path}: {MOST_QUEUED} calls wait to be written"))
            return
        self._queue.append(waiting)
        self._writer.press()

    def check(self, timeout: float = 1.0) -> None:
        """
        Raise when rows cannot be written and the choice is to refuse; cheap, for every call.

        The first time it opens the file, and waits for that ``timeout`` seconds at most.

        Raises:
            LedgerError: why, and what to do.
        """
        if not self.refuses:
            return
        if not self._writer.opened and self._writer.failure is None:
            try:
                self._writer.barrier().future.result(timeout)
            except TimeoutError:
                raise LedgerError(f"the ledger in {self.path} could not be opened in {timeout} s; try again") from None
        why = self._writer.failure
        if why is not None:
            # After ``close`` nobody tries the file again, and a row that would have it tried is refused.
            self._writer.awake()
            raise LedgerError(why)

    def start(self) -> None:
        """Open the file and begin forwarding now, rather than with the first row."""
        self._writer.barrier()
        if self._forwarder is not None:
            self._forwarder.start()

    def flush(self, timeout: float | None = 10.0) -> bool:
        """Write what is queued; whether all of it is committed after ``timeout`` seconds at most."""
        if not self._writer.pending:
            return True
        try:
            self._writer.barrier().future.result(timeout)
        except (TimeoutError, LedgerError):
            return False
        return True

    def close(self, timeout: float = 10.0) -> None:
        """Write what is queued, end the threads and close the file; a later row opens it again."""
        self.flush(timeout)
        if self._forwarder is not None:
            self._forwarder.stop(timeout)
        self._writer.stop(timeout)

    @property
    def lost(self) -> int:
        """Rows that this process has given up."""
        return self._writer.lost

    def health(self) -> LedgerHealth:
        """The state of the file and of forwarding."""
        writer = self._writer
        forwarding = None if self._forwarder is None else ForwardingHealth(**self._forwarder.state())
        return LedgerHealth(writer.path, writer.failure, writer.pending, writer.written, writer.lost, forwarding)

    def prune(self, older_than: timedelta | datetime) -> Pruned:
        """
        Remove calls that are older, with their attempts and tags; blocks, in steps that let the writer in between.

        Args:
            older_than: an age, or an instant with its time zone.

        Raises:
            LedgerError: the file cannot be written.
        """
        from llm_master.ledger.retention import prune, register

        self.flush()
        if self._forwarder is not None:
            register(self._writer.path, self._forwarder.target)
        return prune(self._writer.path, older_than)

    def forget(self, target: str) -> None:
        """
        Forget how far a database is: one that is gone holds back ``prune`` no longer, one that is there gets all again.

        Args:
            target: as ``Pruned.held_back_by`` and ``ForwardingHealth.target`` name it.
        """
        from llm_master.ledger.retention import forget

        forget(self._writer.path, target)

    def __repr__(self) -> str:
        postgres = "" if self._forwarder is None else f", postgres={MASK!r}"
        return f"Ledger({self.path!r}, mode={self.mode!r}, on_failure={self.on_failure!r}{postgres})"
