"""
Programs run in processes that are forked from one which has imported what they need.

Half a second of every start is imports. A fork has its own memory, environment, folder, streams, exit handlers and exit
code as any process has; only the modules are there already. What is about imports, signals, terminals or the
interpreter's own settings takes a process of its own (`support.command.start`).

This module is both ends: the tests use `Forks`, and the process that is forked runs it as a program.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

__all__ = ["Forks", "forks"]


class Forks:
    """
    The process that is forked.

    Args:
        command: how it is started.
        env: what it sees; each fork has an environment of its own instead.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [*command, str(theirs.fileno())],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def run(
        self, arguments: Sequence[str], *, folder: Path, env: Mapping[str, str], given: bytes | None, patience: float
    ) -> tuple[int, bytes, bytes]:
        """
        Run one program to its end.

        Args:
            arguments: as Python takes them: ``-c TEXT ...``, ``-m MODULE ...`` or ``FILE ...``.
            given: its standard input; None is the empty one.
            patience: seconds until it and the process that is forked are killed.

        Returns:
            The exit code and all that it wrote to stdout and stderr.
        """
        asked = json.dumps({"arguments": list(arguments), "folder": str(folder), "env": dict(env)}).encode()
        pipes = [os.pipe() for _ in range(3)]
        (stdin, feed), (out, stdout), (err, stderr) = pipes
        if given is None:
            os.close(stdin)
            stdin = os.open(os.devnull, os.O_RDONLY)
        self._ours.sendall(len(asked).to_bytes(4, "big"))
        socket.send_fds(self._ours, [asked[:1]], [stdin, stdout, stderr])
        self._ours.sendall(asked[1:])
        for each in (stdin, stdout, stderr):
            os.close(each)
        try:
            shown = _talk(feed, given or b"", (out, err), time.monotonic() + patience)
            self._ours.settimeout(patience)
            said = self._ours.recv(4)
        except TimeoutError:
            self.close()
            forks.cache_clear()
            raise AssertionError(f"{arguments} took more than {patience:g} s") from None
        assert said, "the process that is forked has ended"
        return os.waitstatus_to_exitcode(int.from_bytes(said, "big")), *shown

    def close(self) -> None:
        """End the process."""
        self._ours.close()
        self._process.kill()
        self._process.wait()


def _talk(feed: int, given: bytes, outputs: tuple[int, int], until: float) -> list[bytes]:
    """Write the input and read both outputs to their ends, whichever is ready; close all three."""
    shown = dict.fromkeys(outputs, b"")
    with selectors.DefaultSelector() as ready:
        for each in outputs:
            ready.register(each, selectors.EVENT_READ)
        ready.register(feed, selectors.EVENT_WRITE)
        try:
            while ready.get_map():
                events = ready.select(until - time.monotonic())
                if not events:
                    raise TimeoutError
                for key, _ in events:
                    if key.fd != feed:
                        data = os.read(key.fd, 65536)
                        shown[key.fd] += data
                        over = not data
                    else:
                        # A program may end without reading all of it.
                        with contextlib.suppress(BrokenPipeError):
                            given = given[os.write(feed, given[:4096]) :] if given else b""
                        over = not given
                    if over:
                        ready.unregister(key.fd)
                        os.close(key.fd)
        finally:
            for each in list(ready.get_map()):
                os.close(each)
    return list(shown.values())


@functools.cache
def forks() -> Forks:
    """The process that is forked, one for all tests of this process."""
    from support.command import bare_environment

    made = Forks((sys.executable, "-W", "error", __file__), bare_environment(Path(os.devnull)))
    atexit.register(made.close)
    return made


# The process that is forked -------------------------------------------------------------------------------------------

_LIBRARIES = ("aiohttp", "msgspec.json", "requests", "rich.console", "rich.table", "typer._adapters")


def serve(requests: socket.socket) -> NoReturn:
    """Fork for each request, and tell how it ended."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    for each in pkgutil.walk_packages(importlib.import_module("llm_master").__path__, "llm_master."):
        # The module that is run is loaded by running it.
        if each.name != "llm_master.cli.main":
            importlib.import_module(each.name)
    assert threading.active_count() == 1, "a process with threads cannot be forked"
    gc.collect()
    gc.freeze()
    while size := requests.recv(4, socket.MSG_WAITALL):
        first, streams, _, _ = socket.recv_fds(requests, 1, 3)
        asked = json.loads(first + requests.recv(int.from_bytes(size, "big") - 1, socket.MSG_WAITALL))
        child = os.fork()
        if not child:
            requests.close()
            _become(asked["folder"], asked["env"], streams)
            _end(_run(asked["arguments"]))
        for each in streams:
            os.close(each)
        requests.sendall(os.waitpid(child, 0)[1].to_bytes(4, "big"))
    os._exit(0)


def _become(folder: str, env: dict[str, str], streams: list[int]) -> None:
    """Take a folder, an environment and the three streams, as a new process has them."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    for number, each in enumerate(streams):
        os.dup2(each, number)
        os.close(each)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        was = getattr(sys, name)
        kind = {"encoding": was.encoding, "errors": was.errors, "buffering": 1 if name == "stderr" else -1}
        setattr(sys, name, open(number, mode, closefd=False, **kind))  # noqa: SIM115  # open to the end


def _run(arguments: list[str]) -> int:
    """Do with the arguments what the interpreter does; the exit code."""
    first, *others = arguments
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        if first == "-m":
            sys.argv, sys.path[0] = others, str(Path.cwd())
            runpy.run_module(others[0], run_name="__main__", alter_sys=True)
        elif first == "-c":
            sys.argv, sys.path[0] = ["-c", *others[1:]], ""
            exec(compile(others[0], "<string>", "exec"), vars(main))
        else:
            sys.argv, sys.path[0] = arguments, str(Path(first).parent)
            runpy.run_path(first, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, int) or end.code is None:
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:  # noqa: BLE001  # as the interpreter does
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """
    End as the interpreter does, but leave the modules to the system: taking them apart needs longer than most programs.

    What a program has left open still says so.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    vars(sys.modules["__main__"]).clear()
    gc.collect()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
