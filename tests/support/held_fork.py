"""
A process that forks while one of its threads holds a lock.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

__all__ = ["fork_while_held"]

_PROGRAM = """
import os, signal, threading
{before}
held, go = threading.Event(), threading.Event()

def hold():
    with {lock}:
        held.set()
        go.wait()

thread = threading.Thread(target=hold, daemon=True)
thread.start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(20)
{child}
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
go.set()
thread.join()
{after}
"""


def fork_while_held(lock: str, *, before: str, child: str, after: str) -> None:
    """
    Run such a process; any part of the program that fails fails the test.

    Args:
        lock: the expression that names it.
        before: what is done before the fork; child: in the child; after: in the parent once the child has ended.
    """
    parts = {name: textwrap.dedent(text) for name, text in (("before", before), ("after", after))}
    program = _PROGRAM.format(lock=lock, child=textwrap.indent(textwrap.dedent(child), "    "), **parts)
    # CPython 3.12 warns of any fork beside threads, and that is what is tried here.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
