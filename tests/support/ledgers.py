"""
Rows for ledgers under test, and looks into their files that go past the ledger's own code.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from llm_master.books import new_uid
from llm_master.ledger.rows import AttemptRow, CallRow, Make, rows_of, tags_text

__all__ = ["ask", "children", "count", "made", "program", "until"]


def made(id: str | None = None, *, attempts: int = 1, tags: Iterable[str] = ("team",), **fields: Any) -> Make:
    """What a call hands over: its rows with an id of its own, built when they are asked for."""
    known = {
        "id": id or new_uid(),
        "ts": time.time_ns() // 1000,
        "kind": "chat",
        "model_asked": "gpt-4o",
        "outcome": "ok",
    }
    row = CallRow(**(known | {"attempts": attempts, "tags": tags_text(tags)} | fields))
    tries = [
        AttemptRow(call_id=row.id, number=number + 1, ts=row.ts, provider="openai", model="gpt-4o", outcome="ok")
        for number in range(attempts)
    ]
    return lambda: rows_of(row, tries)


def ask(path: Path, question: str, *values: Any) -> list[tuple[Any, ...]]:
    """What the file answers."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(question, values).fetchall()


def count(path: Path) -> int:
    """The calls in the file; 0 while there is none."""
    if not path.exists() or not ask(path, "SELECT 1 FROM sqlite_master WHERE name = 'calls'"):
        return 0
    return int(ask(path, "SELECT count(*) FROM calls")[0][0])


def until(is_so: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait for what another thread or process brings about."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it does not come"
        threading.Event().wait(0.003)


def program(code: str, *arguments: Any, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program of its own; ``made`` and ``Ledger`` are there, ``argv`` holds the arguments."""
    head = (
        f"import sys, os\nsys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        "from llm_master.ledger.store import Ledger\nargv = sys.argv[1:]\n"
        "def made(*given, **fields):\n    from support.ledgers import made\n    return made(*given, **fields)\n"
    )
    command = [sys.executable, "-W", "error", "-c", head + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60)


def children(code: str, count: int, *arguments: Any) -> list[str]:
    """Run several programs at once; what each has printed."""
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda number=number: found.append(program(code, number, *arguments).stdout))
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == count, "one of them failed"
    return found
