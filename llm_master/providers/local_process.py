"""
One child process of the embedded model, from its start to the moment it is reaped.

What a crash means for the callers is decided in ``local.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from llm_master.errors import APIConnectionError, APITimeoutError, ConfigurationError, LLMError
from llm_master.redaction import Secret, redact

__all__ = ["ChildProcess", "Crash", "Plan", "Served", "environment"]

#: Base URL and key of a running server.
Served = tuple[str, Secret]

_CHILD = Path(__file__).with_name("local_child.py")
_GRACE = 0.5  # seconds between the end of input, SIGTERM and SIGKILL
_LINES, _LINE = 20, 500

# What the child may see of our environment: where programs and libraries are, and how to compute. Never a key.
_PASSED = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME"}
)
_PASSED_PREFIXES = ("OMP_", "GOMP_", "GGML_", "CUDA_", "HIP_", "ROCR_", "HSA_")

_HINTS: dict[int, str] = {
    signal.SIGKILL: "it may have run out of memory: lower LLM_MASTER_LOCAL_CONTEXT or LLM_MASTER_LOCAL_PARALLEL",
    signal.SIGILL: "this CPU lacks instructions that the wheel uses (AVX2): build xllamacpp from source",
}


class Plan(NamedTuple):
    """
    What a child needs.

    Attributes:
        folder: where the package ``xllamacpp`` lies.
        settings: the child's JSON line without the key; ``model`` is the path of the weights.
        verify: called while the child loads the library; raises ConfigurationError when the weights are not good.
    """

    folder: str
    settings: dict[str, str | int]
    verify: Callable[[], None]


class Crash(NamedTuple):
    """An end that nobody asked for: how, the child's last lines on standard error, and what may help."""

    how: str
    words: str
    hint: str


def environment() -> dict[str, str]:
    """The child's environment: nothing of ours but the names that are known to be harmless."""
    passed = {name: value for name, value in os.environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}
    # How long a thread that waits for the others spins before it sleeps; the user's own choice wins. Tokens/s of two
    # threads on two cores, alone and beside two busy processes: 93 and 9 with the library's default, 26 and 23 without
    # spinning, 90 and 39 with this.
    if "OMP_WAIT_POLICY" not in passed:
        passed.setdefault("GOMP_SPINCOUNT", "1000")
    return passed


class ChildProcess:
    """
    One child, supervised by a thread of its own.

    The kernel's death signal fires when the thread that started the child ends, not when the process does; so one
    thread starts the child, drains its output, ends it and reaps it.

    Args:
        plan: gives the plan; called in the thread, may raise LLMError.
        key: the key that the server will ask for.
        on_ready: called in the thread with the address, before ``outcome`` is set.
        on_end: called once in the thread when the process is gone, with a Crash or None.
        start_limit: seconds after which a child that is not ready is killed.

    Attributes:
        outcome: how the start went: Served, an LLMError, or a Crash.
        ended: done when the process is gone and reaped.
    """

    def __init__(
        self,
        plan: Callable[[], Plan],
        *,
        key: Secret,
        on_ready: Callable[[ChildProcess, Served], None],
        on_end: Callable[[ChildProcess, Crash | None], None],
        start_limit: float,
    ) -> None:
        self.outcome: Future[Served | LLMError | Crash] = Future()
        self.ended: Future[None] = Future()
        # A future that runs cannot be cancelled: a caller who gives up must not take it from the others.
        self.outcome.set_running_or_notify_cancel()
        self.ended.set_running_or_notify_cancel()
        self._plan = plan
        self._key = key
        self._on_ready = on_ready
        self._on_end = on_end
        self._start_limit = start_limit
        self._model = "the model"
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._refusal: dict[str, str] | None = None
        self._stopping = self._late = False
        self._lock = threading.Lock()
        self._wake_out, self._wake_in = os.pipe()
        self._thread = threading.Thread(target=self._run, name="llm-master-local", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process id, None before the start."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the child to end; returns at once. The thread sees to it: end of input, then SIGTERM, then SIGKILL."""
        with self._lock:
            if not self._stopping and self._wake_in >= 0:
                self._stopping = True
                os.write(self._wake_in, b"x")

    def join(self, timeout: float) -> None:
        """Wait until the process is gone, at most ``timeout`` seconds."""
        self._thread.join(timeout)

    def abandon(self) -> None:
        """In a process that was forked off: let go of the parent's child without touching it."""
        self._lock = threading.Lock()  # another thread may have held it during the fork
        self._close_wake()
        if self._process is not None:
            self._close_pipes(self._process)
            self._process.returncode = 0  # else its finalizer would wait for a process that is not ours

    def _run(self) -> None:
        outcome: LLMError | Crash = Crash("an error of its supervisor", "", "")
        try:
            outcome = self._live()
        finally:
            # Whatever happened, no process is left behind and no caller waits for ever.
            self._reap()
            self._close_wake()
            self._on_end(self, outcome if isinstance(outcome, Crash) else None)
            if not self.outcome.done():
                self.outcome.set_result(outcome)
            self.ended.set_result(None)

    def _live(self) -> LLMError | Crash:
        """From the start to the end; tells how it ended."""
        try:
            plan = self._plan()
            self._model = str(plan.settings["model"])
            if not self._stopping:
                self._serve(plan)
        except LLMError as error:
            return error
        except OSError as error:
            return ConfigurationError(f"local: the process for {self._model} cannot be started: {error}")
        code = self._reap()
        refused = self._refused()
        if refused is not None:
            return refused
        if self._stopping:
            return APIConnectionError(
                f"local: {self._model} was stopped while it started (aclose() was called)",
                provider="local",
                model=self._model,
                retryable=False,
            )
        return Crash(_how(code), self._words(), _HINTS.get(-code, ""))

    def _serve(self, plan: Plan) -> None:
        self._process = process = subprocess.Popen(  # noqa: S603  # our own file, run by our own interpreter
            [sys.executable, "-P", str(_CHILD), plan.folder, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment(),
            start_new_session=True,  # Ctrl-C in the terminal reaches the parent only
        )
        plan.verify()
        assert process.stdin is not None  # noqa: S101  # PIPE above
        with contextlib.suppress(BrokenPipeError):  # it is gone already; its report says why
            process.stdin.write(json.dumps({**plan.settings, "key": self._key}).encode() + b"\n")
        self._attend(process)

    def _attend(self, process: subprocess.Popen[bytes]) -> None:
        """Drain the child's output until both pipes end; keep the time of its start and of its stop."""
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None  # noqa: S101, PT018  # PIPE
        out, err = process.stdout.fileno(), process.stderr.fileno()
        takers = {out: _lines_of(self._take_report), err: _lines_of(self._take_words)}
        poller = select.poll()
        for fd in (out, err, self._wake_out):
            poller.register(fd, select.POLLIN)
        steps: Iterator[Callable[[], None]] = iter((process.terminate, process.kill))
        limit: float | None = time.monotonic() + self._start_limit
        while takers:
            for fd, _ in poller.poll(None if limit is None else max(0.0, limit - time.monotonic()) * 1000 + 1):
                if fd == self._wake_out:
                    poller.unregister(fd)
                    process.stdin.close()
                    limit = time.monotonic() + _GRACE
                elif not takers[fd](os.read(fd, 65536)):
                    poller.unregister(fd)
                    del takers[fd]
            if self.outcome.done() and not self._stopping:
                limit = None
            elif limit is not None and time.monotonic() >= limit:
                self._late = not self._stopping
                step = next(steps, None)
                if step is not None:
                    step()
                limit = time.monotonic() + _GRACE

    def _take_report(self, line: str) -> None:
        report = json.loads(line)
        if "url" in report:
            served = (f"{report['url']}/v1", self._key)
            self._on_ready(self, served)
            self.outcome.set_result(served)
        else:
            self._refusal = report

    def _take_words(self, line: str) -> None:
        self._lines.append(line[:_LINE])

    def _reap(self) -> int:
        process = self._process
        if process is None:
            return 0
        self._close_pipes(process)
        try:
            return process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _refused(self) -> LLMError | None:
        if self._late:
            return APITimeoutError(
                f"local: {self._model} was not ready after {self._start_limit:.0f} s;"
                " try again, or set LLM_MASTER_LOCAL_START_TIMEOUT (seconds)",
                provider="local",
                model=self._model,
            )
        if self._refusal is None:
            return None
        said = self._refusal.get("message", "")
        if self._refusal.get("error") == "load":
            why = next((line for line in self._lines if "error loading model:" in line), None)
            why = why.partition("error loading model:")[2].strip() if why else self._words() or said
            return ConfigurationError(
                f"local: {self._model} cannot be loaded: {why}; give the path of a complete GGUF file"
            )
        if "libgomp" in said:
            return ConfigurationError(
                f"local: the system lacks libgomp1, which xllamacpp needs ({said}); install it"
                " (Debian, Ubuntu: apt-get install libgomp1; Fedora: dnf install libgomp)"
            )
        return ConfigurationError(
            f"local: xllamacpp cannot be imported ({said}); reinstall it:"
            ' pip install --force-reinstall "llm-master[local]"'
        )

    def _words(self) -> str:
        return redact(" | ".join(list(self._lines)[-5:]), self._key)

    def _close_wake(self) -> None:
        with self._lock:
            fds = (self._wake_in, self._wake_out)
            self._wake_in = self._wake_out = -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    @staticmethod
    def _close_pipes(process: subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _how(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {-code}, {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _lines_of(take: Callable[[str], None]) -> Callable[[bytes], bool]:
    """A taker of bytes that hands on whole lines; False once the pipe has ended."""
    rest = b""

    def feed(data: bytes) -> bool:
        nonlocal rest
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > 65536 or (not data and rest):
            lines.append(rest)
            rest = b""
        for line in lines:
            take(line.decode("utf-8", "replace"))
        return bool(data)

    return feed
