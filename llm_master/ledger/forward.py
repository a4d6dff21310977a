"""
Forwarding: what is in the file is brought to PostgreSQL, every row once.

The rows are in SQLite first, so that a database that is down, slow, full or frozen loses nothing and holds up nobody.
One process forwards a file at a time. The mark moves after the database's commit; what was sent and not marked is sent
again, and is there already.
"""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from llm_master.ledger.alarm import Alarm
from llm_master.ledger.marks import LEASE, Marks
from llm_master.ledger.postgres import Batch, Database, address_of
from llm_master.ledger.sqlite_file import is_busy
from llm_master.ledger.writer import Writer
from llm_master.policy.cache_forks import around_fork

__all__ = ["Forwarder", "forwarder_of"]

# Seconds: between looks for rows of other processes, before a connection without work is given back, for gathering.
_POLL, _IDLE, _GATHER = 2.0, 30.0, 0.1
# Seconds of the first and of the longest pause after a failure; each is a random part of twice the one before.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
# Seconds that the first row waits for a file that others hold, to be marked as waited for.
_PATIENCE = 5.0


class Forwarder:
    """
    Forwards the calls of one file to one database, in a thread of its own.

    Args:
        path: the ledger's file.
        database: where they go.
        chance: random numbers from 0 to 1; None are the forwarder's own.
        lease: seconds after which another process takes over from one that died.
        pauses: seconds of the first and of the longest pause after a failure.
    """

    def __init__(
        self,
        path: str,
        database: Database,
        *,
        chance: Callable[[], float] | None = None,
        lease: float = LEASE,
        pauses: tuple[float, float] = (_FIRST_PAUSE, _LONGEST_PAUSE),
    ) -> None:
        self._path, self._database, self._pauses = path, database, pauses
        # Not the shared one, which a user may have seeded.
        self._chance = chance or random.Random().random  # noqa: S311  # only to spread the tries of many hosts
        self._marks = Marks(path, database.name, lease=lease)
        self._lease = lease
        self._alarm = Alarm()
        self._begin()
        around_fork(self)

    def _begin(self) -> None:
        self._wake = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = self._marked = False
        self._failures = 0
        self._used = 0.0
        self._active = False
        self._failure: str | None = None
        self._forwarded = self._refused = 0
        self._behind: int | None = None

    @property
    def target(self) -> str:
        """The database's public name."""
        return self._database.name

    def state(self) -> dict[str, Any]:
        """The fields of ``ForwardingHealth``."""
        return {
            "target": self.target,
            "active": self._active,
            "failure": self._failure,
            "forwarded": self._forwarded,
            "refused": self._refused,
            "behind": self._behind,
        }

    def start(self) -> None:
        """Begin to forward what is in the file."""
        with self._starting:
            self._stopping = False
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name="llm-master-forward", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # the next committed row tries again
                self._thread = None
                self._alarm.tell(f"the ledger in {self._path} is not forwarded: {error}")

    def notify(self) -> None:
        """Rows are committed."""
        if not self._marked:
            self._mark()
        if self._thread is None or self._stopping:
            self.start()
        elif self._failure is None:
            self._wake.set()

    def _mark(self) -> None:
        """Have the file say who waits for its calls, before the writer removes the oldest of one that is too large."""
        until = time.monotonic() + _PATIENCE
        while not self._marked:
            try:
                self._marks.behind()
                self._marked = True
            except Exception as error:  # noqa: BLE001  # whatever it is, the thread meets it too and tells it
                if not is_busy(error) or time.monotonic() > until:
                    return

    def stop(self, timeout: float) -> None:
        """Forward what is there, for ``timeout`` seconds at most, and end; not when the database fails anyway."""
        with self._starting:
            thread = self._thread
            if thread is None:
                return
            self._stopping = True
        self._wake.set()
        thread.join(timeout)
        if thread.is_alive():
            self._database.cut()
            thread.join(1.0)

    # -- in the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            while not self._finished(self._turn()):
                pass
            self._active = False
            self._leave()
            with self._starting:
                if self._stopping:  # and nobody has started it again in the meantime
                    self._thread = None
                    return

    def _finished(self, pause: float | None) -> bool:
        """Wait after a turn, None for not at all; whether the thread ends."""
        if self._stopping and (pause is not None or self._failures):
            return True
        if pause is not None and self._wake.wait(pause) and not self._stopping:
            # Rows come in groups: a moment later there are more of them.
            self._wake.clear()
            time.sleep(_GATHER)
        return False

    def _turn(self) -> float | None:
        """Forward one batch; the seconds to wait before the next, None when there is more."""
        try:
            pause = self._forward()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told and tried again
            if is_busy(error):  # the file is being written, and was waited for a moment
                return 0.0 if self._stopping else None
            self._active = False
            self._failures += 1
            failure = f"{self.target}: {self._database.words(error)}"
            self._alarm.tell(
                f"forwarding the ledger in {self._path} to {failure}; {self._behind} calls wait in the file and go"
                " there when it works again"
            )
            self._failure = failure
            self._leave()
            return self._pause()
        if pause is None and self._failures:
            self._alarm.over(f"forwarding the ledger in {self._path} to {self.target} works again")
            self._failures, self._failure = 0, None
        return pause

    def _forward(self) -> float | None:
        self._behind = self._marks.behind()
        if not self._behind:
            if self._active:
                self._active = False
                self._marks.release()
            if time.monotonic() - self._used > _IDLE:
                self._leave()
            # Nothing is asked of the database, so that nothing can be said of it either.
            return _POLL
        self._active = self._marks.claim()
        if not self._active:
            self._failures, self._failure = 0, None
            self._leave()
            return self._lease * (0.3 + 0.1 * self._chance())
        self._marks.meets(self._database.identity())
        numbers, batch = self._marks.next()
        if numbers:
            refused = self._send(numbers, batch)
            self._marks.move(numbers[-1], refused)
            self._forwarded += len(numbers) - len(refused)
            self._refused += len(refused)
            self._used = time.monotonic()
        return None

    def _send(self, numbers: list[int], batch: Batch) -> dict[int, str]:
        """Bring rows there; those that the database will not take, and why."""
        try:
            self._database.send(batch)
        except Exception as error:
            if not self._database.refuses_row(error):
                raise
            if len(numbers) == 1:
                why = self._database.words(error)
                self._alarm.tell(f"{self.target} refuses a call of the ledger in {self._path}; it stays there: {why}")
                return {numbers[0]: why}
        else:
            return {}
        half = len(numbers) // 2
        calls, attempts, tags = batch
        found: dict[int, str] = {}
        for part in (slice(None, half), slice(half, None)):
            ids = {call[0] for call in calls[part]}
            mine = [row for row in attempts if row[0] in ids], [row for row in tags if row[1] in ids]
            found |= self._send(numbers[part], (calls[part], *mine))
        return found

    def _pause(self) -> float:
        first, longest = self._pauses
        span: float = min(longest, first * 2.0 ** min(self._failures, 20))
        return span * (0.5 + 0.5 * self._chance())

    def _leave(self) -> None:
        try:
            self._database.leave()
        except Exception as error:  # noqa: BLE001  # a broken connection may say so once more
            self._alarm.tell(f"the connection to {self.target} ended badly: {self._database.words(error)}")

    # -- fork -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Close the file: SQLite forbids to carry an open one into a child."""
        self._marks.gate.acquire()
        self._marks.close()

    def after_fork(self, *, child: bool) -> None:
        """The parent goes on; a child is somebody else, with a connection of its own."""
        if child:
            self._database.inherited()
            self._marks.begin()
            self._begin()
        self._marks.gate.release()


_FORWARDERS: weakref.WeakKeyDictionary[Writer, dict[str, Forwarder]] = weakref.WeakKeyDictionary()


def forwarder_of(writer: Writer, postgres: str) -> Forwarder:
    """
    The forwarder of a process from a file to a database; the first who asks makes it.

    Raises:
        ConfigurationError: the address cannot be read, its variable is not set or the extra is missing.
    """
    address = address_of(postgres)
    known = _FORWARDERS.setdefault(writer, {})
    if address not in known:
        forwarder = known[address] = Forwarder(writer.path, Database(address))
        writer.companions.append(forwarder)
    return known[address]
