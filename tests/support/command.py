"""
The command line as a user runs it: a process of its own, a bare environment, pipes or a terminal.
"""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from support.forked import forks

__all__ = [
    "AUTHORITY",
    "COMMAND",
    "PICTURE",
    "PROGRAM",
    "ROOT",
    "Done",
    "Terminal",
    "bare_environment",
    "run",
    "start",
    "summary",
]

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = (sys.executable, "-W", "error", "-m", "llm_master.cli.main")
#: A program of Python; its text comes first.
PROGRAM = (sys.executable, "-W", "error", "-c")
PATIENCE = 120.0

#: The only authority that tests trust by default, its key is gone: to read a system's takes 40 ms for each client.
AUTHORITY = ROOT / "tests" / "support" / "authority.pem"

#: The smallest picture there is.
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)

# Makes its standard input the terminal of its session, so that Ctrl-C there reaches it, and becomes the command.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def summary(model: str, tokens: str = r"\d+ tokens in, \d+ out", cost: str = r"\$0") -> str:
    """A pattern of the line about an answer on stderr; all three are patterns."""
    return rf"{model} \| {tokens} \| \d+\.\d\d s \| \d+\.\d tokens/s \| {cost}"


def bare_environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a process needs to find Python and this package, and nothing else of ours."""
    base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
    # The folder is the home and is looked at afterwards: no ledger is kept in it.
    base["LLM_MASTER_LEDGER"] = "off"
    base["SSL_CERT_FILE"] = str(AUTHORITY)
    return base | dict(more or {})


@dataclasses.dataclass(frozen=True)
class Done:
    """A finished process."""

    code: int
    out: str
    err: str


def start(
    *arguments: str,
    folder: Path,
    env: Mapping[str, str] | None = None,
    command: tuple[str, ...] = COMMAND,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """The command with its output in pipes."""
    return subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        env=bare_environment(folder, env),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # so that what a test has not read is there for communicate()
    )


def run(
    *arguments: str,
    folder: Path,
    env: Mapping[str, str] | None = None,
    command: tuple[str, ...] = COMMAND,
    given: str | bytes | None = None,
    fork: bool | None = None,
) -> Done:
    """
    Run the command to its end.

    Args:
        given: its standard input, nothing by default.
        fork: whether it may run in a fork (`support.forked`); by default our own command does, unless it is told
            something that is read at the start or at an import.
    """
    data = given.encode() if isinstance(given, str) else given
    if fork is None:
        fork = command == COMMAND and not any(name.startswith(("PYTHON", "SSL_")) for name in env or {})
    if fork:
        assert command[:3] == (sys.executable, "-W", "error")
        whole = (*command[3:], *arguments)
        environment = bare_environment(folder, env)
        code, out, err = forks().run(whole, folder=folder, env=environment, given=data, patience=PATIENCE)
        return Done(code, out.decode(), err.decode())
    kind = subprocess.DEVNULL if data is None else subprocess.PIPE
    with start(*arguments, folder=folder, env=env, command=command, stdin=kind) as process:
        out, err = process.communicate(data, timeout=PATIENCE)
    return Done(process.returncode, out.decode(), err.decode())


class Terminal:
    """
    The command in a terminal of its own: all three streams are one, and it has a size.

    Use it as a context manager; ``type`` presses keys, ``end`` gives the exit code and all that was shown.
    """

    def __init__(self, *arguments: str, folder: Path, env: Mapping[str, str] | None = None, columns: int = 100) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *COMMAND, *arguments],
            cwd=folder,
            env=bare_environment(folder, {"TERM": "xterm-256color"} | dict(env or {})),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._shown = b""

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until a text is on the terminal."""
        while text not in self._text():
            if not self._read():
                raise AssertionError(f"the command ended before it showed {text!r}; it showed {self._text()!r}")

    def end(self) -> Done:
        """Read to the end; the line ends are those of a file."""
        while self._read():
            pass
        return Done(self._process.wait(PATIENCE), self._text(), "")

    def _text(self) -> str:
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def _read(self) -> bool:
        if not select.select([self._master], [], [], PATIENCE)[0]:
            raise AssertionError(f"nothing more in {PATIENCE:g} s; the terminal shows {self._text()!r}")
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux says so when the last process has left its terminal
            data = b""
        self._shown += data
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)
