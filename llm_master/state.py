"""
What the circuit breakers of this machine's processes know, in one small file a process, for ``llm-master doctor``.

Only with ``LLM_MASTER_STATE_DIR`` set: a process writes ``<dir>/<pid>.json`` after a breaker opened or closed and each
second while one is not closed, and removes it at its exit. A thread of its own does that; no call waits for a disk.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import os
import queue
import stat
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from llm_master.built import build

__all__ = ["BreakerState", "ProcessState", "Publisher", "publisher", "running"]

logger = logging.getLogger("llm_master")

# Seconds between two files while a breaker is not closed, and between any two files at least.
_REFRESH, _PAUSE = 1.0, 0.05
# Seconds that the exit of the process waits for a file that is being written.
_PATIENCE = 0.5
# Deployments that a file holds at most, and bytes that are read of one.
_MOST = 1000
_LARGEST = 1_000_000
_WHOLE, _UNFINISHED = ".json", ".llm-master-unfinished"


class BreakerState(msgspec.Struct, frozen=True, kw_only=True):
    """
    One deployment of a model, as its process knew it when the file was written.

    Attributes:
        model: the name that calls ask for; ``deployment``: None for the only one.
        state: ``closed``, ``open`` or ``half_open``, see ``state_at``.
        kind: the kind of failure that opened it last, None when it never opened.
        until: UNIX time from which a probe may go; 0 when it is closed.
        probing: whether a probe was under way.
        inflight: calls under way.
    """

    model: str
    deployment: str | None = None
    state: str
    kind: str | None = None
    until: float = 0.0
    probing: bool = False
    inflight: int = 0

    def state_at(self, now: float) -> str:
        """The state at a UNIX time: a cool-down that is over leaves an open breaker half open."""
        return "half_open" if self.state == "open" and now >= self.until else self.state


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a process wrote.

    Attributes:
        pid: of the process; ``program``: the name of its program, ``host``: its machine's.
        born: a mark of the process's start, None where the system has none; another process with its number differs.
        written: UNIX time.
        breakers: the deployments of the models that it has asked for so far, those that are not closed first;
            ``left_out``: how many more there are, in a process that asks for very many.
    """

    format: Literal["llm-master state 1"] = "llm-master state 1"
    pid: int
    program: str
    host: str
    born: str | None
    written: float
    breakers: tuple[BreakerState, ...]
    left_out: int = 0


class Source(Protocol):
    """What knows pools of deployments: the admission of a client."""

    pools: list[Any]
    on_change: Any


class Publisher:
    """
    Writes the file of this process.

    Args:
        directory: where, as a whole path; it is made when it is missing, and must be the user's own and not writable by
            everybody.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._sources: tuple[weakref.ref[Source], ...] = ()
        self._warned = False
        self.reset_after_fork()
        _LIVE.add(self)

    def reset_after_fork(self) -> None:
        """In a forked child: the thread, its lock and the file are the parent's."""
        self._thread: threading.Thread | None = None
        self._joining = threading.Lock()
        self._starting = threading.Lock()
        self._writing = threading.Lock()
        # Its put may interrupt itself, so that whatever reports a change, a finalizer too, never waits.
        self._changes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._over = False
        self._swept = False
        self._written = False

    def watch(self, source: Source) -> None:
        """Take in a client, for as long as it lives; its breakers report to ``changed`` from now on."""
        source.on_change = self.changed
        with self._joining:
            self._sources = (*(ref for ref in self._sources if ref() is not None), weakref.ref(source))

    def changed(self, _breaker: Any = None) -> None:
        """Have the file written soon; never waits and never raises."""
        self._changes.put(None)
        if self._thread is None and self._starting.acquire(blocking=False):
            try:
                if self._thread is None and not self._over:
                    thread = threading.Thread(target=self._run, args=(self._changes,), name="llm-master-state")
                    thread.daemon = True
                    thread.start()
                    self._thread = thread
                    atexit.register(self.close)
            except RuntimeError as error:  # no more threads, or the interpreter is going down
                self._warn(error)
            finally:
                self._starting.release()

    def write(self) -> bool:
        """Write the file now; whether a breaker is not closed."""
        found = sorted(_breakers(self._sources), key=lambda each: each.state == "closed")
        pid = os.getpid()
        state = ProcessState(
            pid=pid,
            program=_program(),
            host=os.uname().nodename,
            born=_born(pid),
            written=time.time(),
            breakers=tuple(found[:_MOST]),
            left_out=len(found[_MOST:]),
        )
        with self._writing:
            if not self._over:
                try:
                    _put(self.directory, pid, msgspec.json.encode(state))
                    self._written = True
                    if not self._swept:
                        self._swept = True
                        running(self.directory)  # what others left that could not remove it themselves
                except OSError as error:
                    self._warn(error)
        return bool(found) and found[0].state != "closed"

    def _run(self, changes: queue.SimpleQueue[None]) -> None:
        troubled = False
        while not self._over:
            with contextlib.suppress(queue.Empty):
                changes.get(timeout=_REFRESH if troubled else None)
                while True:
                    changes.get_nowait()
            troubled = self.write()
            time.sleep(_PAUSE)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            reason = getattr(error, "strerror", None) or str(error)
            logger.warning("the state of the circuit breakers is not written to %s: %s", self.directory, reason)

    def close(self) -> None:
        """Write no more and remove the file, unless a disk that hangs holds it; the exit of the process does it."""
        self._over = True
        self._changes.put(None)
        if self._writing.acquire(timeout=_PATIENCE):
            try:
                if self._written:
                    with contextlib.suppress(OSError), _opened(self.directory) as folder:
                        os.unlink(f"{os.getpid()}{_WHOLE}", dir_fd=folder)
            finally:
                self._writing.release()


_publishers = cache(Publisher)


def publisher(directory: str) -> Publisher:
    """The one of this process for a directory."""
    return _publishers(os.path.abspath(directory))  # noqa: PTH100  # Path.resolve would follow links


def _breakers(sources: tuple[weakref.ref[Source], ...]) -> Iterator[BreakerState]:
    now = time.time()
    for ref in sources:
        source = ref()
        for pool in list(source.pools) if source is not None else ():
            for place, health in zip(pool.places, pool.balancer.health(), strict=True):
                breaker = health.breaker
                yield BreakerState(
                    model=pool.asked,
                    deployment=place.name,
                    state=breaker.state,
                    kind=breaker.kind,
                    until=0.0 if breaker.state == "closed" else now + breaker.retry_in,
                    probing=breaker.probing,
                    inflight=health.inflight,
                )


def _program() -> str:
    path = Path(sys.argv[0] if sys.argv else "")
    name = path.parent.name if path.name == "__main__.py" else path.name
    return "python" if name in ("", "-c", "-m") else name


# -- files -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(directory: str) -> Iterator[int]:
    """
    A descriptor of the directory, so that what was checked is what is used.

    Raises:
        OSError: it is missing, a link, another user's, or writable by everybody.
    """
    if Path(directory).is_symlink():
        raise OSError(errno.ELOOP, "it is a link; name the directory itself")
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(folder)
        if found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "it belongs to another user; name a directory of your own")
        if found.st_mode & stat.S_IWOTH:
            raise OSError(errno.EPERM, "everybody may write to it; name a directory of your own, with mode 700")
        yield folder
    finally:
        os.close(folder)


def _put(directory: str, pid: int, data: bytes) -> None:
    """Put a whole file in the place of the one before; the directory is made when it is missing."""
    with contextlib.suppress(FileExistsError):
        Path(directory).mkdir(mode=0o700)
    with _opened(directory) as folder:
        unfinished = f"{pid}{_UNFINISHED}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(unfinished, flags, 0o600, dir_fd=folder)
        try:
            with os.fdopen(file, "wb") as out:
                out.write(data)
            os.replace(unfinished, f"{pid}{_WHOLE}", src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(unfinished, dir_fd=folder)
            raise


def running(directory: str) -> list[ProcessState]:
    """
    What the live processes of this machine wrote, by process number; what dead ones left is removed.

    Raises:
        OSError: the directory cannot be used.
    """
    found = []
    host = os.uname().nodename
    with _opened(directory) as folder:
        for name in os.listdir(folder):  # noqa: PTH208  # pathlib takes no descriptor
            digits = name.removesuffix(_UNFINISHED).removesuffix(_WHOLE)
            if digits == name or not (digits.isascii() and digits.isdigit()):
                continue
            state = _read(folder, name) if name.endswith(_WHOLE) else None
            # What is not ours stays as it is, and so does what another machine or container left: the numbers of its
            # processes say nothing here.
            if name.endswith(_WHOLE) and (state is None or state.host != host or str(state.pid) != digits):
                continue
            if not _is_alive(int(digits), state):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder)
            elif state is not None:
                found.append(state)
    return sorted(found, key=lambda each: each.pid)


def _read(folder: int, name: str) -> ProcessState | None:
    """One file; None when it went away, is not one of ours, or cannot be read."""
    try:
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
            return msgspec.json.decode(file.read(_LARGEST), type=ProcessState)
    except (OSError, msgspec.DecodeError):
        return None


def _is_alive(pid: int, state: ProcessState | None) -> bool:
    """Whether a process runs, and is the one that wrote the file."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's process has the number now, or the one that wrote it has become another user's
    born = _born(pid)
    return born != "" and (state is None or state.born is None or born is None or state.born == born)


def _born(pid: int) -> str | None:
    """A mark of a process's start: clock ticks since the machine's; ``""`` for one that has ended, None unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    # The third field of proc_pid_stat(5) is the state, the 22nd the start.
    return "" if fields[0] in ("Z", "X") else fields[19]


_LIVE: weakref.WeakSet[Publisher] = weakref.WeakSet()


def _reset_all() -> None:
    for each in list(_LIVE):
        each.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)


build(ProcessState)
