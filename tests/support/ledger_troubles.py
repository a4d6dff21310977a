"""
A program that makes calls while its ledger cannot be written: ``python -m support.ledger_troubles URL FOLDER``.

For each trouble, mode and choice it makes a call, a stream and an embedding, lets the trouble end, and makes one call
more. It prints a line of JSON with what came of each. Root may write everywhere, so that it becomes somebody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from llm_master import Ledger, LLMConfig, LLMError, QueryLLM, RetryPolicy
from llm_master.ledger.sqlite_file import open_file
from support.ledgers import count, made, until

__all__ = ["CHOICES", "KINDS", "MODES", "TROUBLES"]

MODES, CHOICES, KINDS = ("relaxed", "strict"), ("serve", "refuse"), ("chat", "stream", "embed")
# SQLite's index of its log has 32 KiB; the tables of a new ledger have more than the rest.
_ROOM = 40_000
_NOBODY = 65534

_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""

Trouble = Callable[[Path], "contextlib.AbstractContextManager[None]"]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Another process holds the file."""
    open_file(str(path)).close()
    command = [sys.executable, "-c", _HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.communicate(b"")


@contextlib.contextmanager
def _full(_: Path) -> Iterator[None]:
    """The system lets no file grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def _read_only(path: Path) -> Iterator[None]:
    """Neither the folder nor a file that is there already may be written."""
    open_file(str(path)).close()
    path.chmod(0o444)
    path.parent.chmod(0o555)
    was = os.geteuid()
    if not was:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)
        path.parent.chmod(0o755)
        path.chmod(0o644)


@contextlib.contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """Its first page is right, and nothing else."""
    ledger = Ledger(path)
    for number in range(50):
        ledger.add(made(tags=[str(number)]))
    ledger.close()
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    yield
    for each in path.parent.glob(f"{path.name}*"):
        each.rename(each.with_name(f"moved-{each.name}"))


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[None]:
    """A folder is where the file should be."""
    path.mkdir()
    yield
    path.rmdir()


@contextlib.contextmanager
def _foreign(path: Path) -> Iterator[None]:
    """It is the database of another program."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    yield
    path.unlink()


@contextlib.contextmanager
def _newer(path: Path) -> Iterator[None]:
    """A later version of this program has made it."""
    open_file(str(path)).close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    yield
    path.unlink()


TROUBLES: dict[str, Trouble] = {
    "locked": _locked,
    "full": _full,
    "read-only": _read_only,
    "damaged": _damaged,
    "directory": _directory,
    "foreign": _foreign,
    "newer": _newer,
}


class _Told(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def _ask(llm: QueryLLM, kind: str, prompt: str) -> dict[str, Any]:
    try:
        if kind == "embed":
            embedded = await llm.embed("text-embedding-3-small", prompt)
            return {"answer": embedded.embeddings, "notes": embedded.notes}
        if kind == "stream":
            stream = await llm.query("gpt-4o-mini", prompt, stream=True)
            await stream.text()
            answer = stream.response
        else:
            answer = await llm.query("gpt-4o-mini", prompt)
    except LLMError as error:
        return {"error": type(error).__name__, "words": str(error)}
    return {"answer": answer.content, "notes": answer.notes}


async def _calls(url: str, ledger: Ledger, name: str, trouble: contextlib.AbstractContextManager[None]) -> Any:
    config = LLMConfig(openai_api_key="sk-trouble-0123456789", base_urls={"openai": url})
    async with QueryLLM(config, retry=RetryPolicy(max_attempts=1), ledger=ledger) as llm:
        with trouble:
            found: dict[str, Any] = {kind: await _ask(llm, kind, f"{name} {kind}") for kind in KINDS}
            # Relaxed rows are tried a moment later.
            ledger.flush()
            found["health"] = ledger.health().failure
            found["pending"] = ledger.health().pending
        await asyncio.to_thread(until, lambda: ledger.health().failure is None)
        found["after"] = await _ask(llm, "chat", f"{name} after")
    ledger.close()
    found["rows"] = count(Path(ledger.path))
    found["lost"] = ledger.lost
    return found


def main(url: str, folder: str) -> None:
    """Every trouble once with each mode and choice."""
    told = _Told()
    logging.getLogger("llm_master").addHandler(told)
    for trouble, mode, choice in [("none", "strict", "refuse"), *product(TROUBLES, MODES, CHOICES)]:
        name = f"{trouble} {mode} {choice}"
        path = Path(folder) / name.replace(" ", "-") / "usage.sqlite3"
        path.parent.mkdir()
        told.lines.clear()
        ledger = Ledger(path, mode=mode, on_failure=choice, patience=0.02)  # type: ignore[arg-type]  # of the tables above
        ledger._writer.retry = 0.01
        # The first makes every import, which nobody else than its owner may be able to.
        around = TROUBLES[trouble](path) if trouble in TROUBLES else contextlib.nullcontext()
        found = asyncio.run(_calls(url, ledger, name, around))
        print(json.dumps({"name": name, "told": told.lines, **found}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
