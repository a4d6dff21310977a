"""
A program in a fork is a process of its own: its streams, its exit code, its environment, and nothing of the one before.
"""

from __future__ import annotations

import signal

import pytest
from support.command import PROGRAM, Done, run


@pytest.fixture
def both(tmp_path):
    """A program in a process of its own and the same in a fork."""

    def ran(text: str, *arguments: str, given: str | None = None, **env: str) -> tuple[Done, Done]:
        kind = {"folder": tmp_path, "env": env, "command": PROGRAM, "given": given}
        return run(text, *arguments, **kind, fork=False), run(text, *arguments, **kind, fork=True)

    return ran


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("pass", 0),
        ("raise SystemExit", 0),
        ("raise SystemExit(3)", 3),
        ("import sys; sys.exit('words')", 1),
        ("import os; os._exit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); print('lost')", 120),
    ],
)
def test_the_exit_code(both, text, code):
    assert [done.code for done in both(text)] == [code, code]


def test_its_folder_environment_arguments_streams_and_end(both, tmp_path):
    text = """
import atexit, os, sys, threading
print(os.getcwd(), sorted(os.environ), sys.argv, sys.path, __name__, sys.flags, sys.warnoptions)
print([thread.name for thread in threading.enumerate()])
print([(s.encoding, s.errors, s.isatty()) for s in (sys.stdin, sys.stdout, sys.stderr)])
print(sys.stdin.read(), file=sys.stderr)
atexit.register(print, "at the exit")
threading.Timer(0.01, print, ["in a thread"]).start()
"""
    alone, forked = both(text, "-x", "y z", given="ü" * 100_000, COLOUR="red")
    assert forked == alone
    assert all(word in forked.out for word in (str(tmp_path), "'COLOUR'", "['-c', '-x', 'y z']", "__main__"))
    assert forked.out.endswith("in a thread\nat the exit\n")
    assert forked.err == "ü" * 100_000 + "\n"


def test_what_goes_wrong_is_shown(both):
    for done in both("import socket; left = socket.socket(); 1 / 0"):
        assert done.code == 1
        assert "Traceback (most recent call last)" in done.err
        assert "ZeroDivisionError: division by zero" in done.err
        assert "ResourceWarning: unclosed <socket" in done.err


def test_nothing_is_left_of_the_one_before(tmp_path):
    text = "import os, json; print(os.environ.get('A'), hasattr(json, 'a')); json.a = os.environ['A'] = 'x'"
    ends = [run(text, folder=tmp_path, command=PROGRAM, fork=True) for _ in range(2)]
    assert ends == [Done(0, "None False\n", "")] * 2
