"""
Kill a process under load at random moments, and look whether the ledger holds what its callers have seen.

Run it with ``make kill9``. A child makes calls, 32 at a time and half of them streams, to a provider that fails now
and then; its ledger is strict and forwards to a real PostgreSQL. It prints the id of each call whose answer it has
got. After a random moment it is killed, and the next child goes on with the same ledger. After each run every id that
was printed must have its rows, whole, and the file must pass SQLite's integrity check. Now and then PostgreSQL is
killed or frozen as well. In the end the rest is forwarded, and PostgreSQL must hold each row of the file once and
nothing else. It prints a table and ends with status 1 when anything was otherwise. ``--seed`` repeats the moments.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import random
import selectors
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from llm_master import Ledger, LLMConfig, ProviderError, QueryLLM, RetryPolicy

TESTS = Path(__file__).resolve().parent.parent / "tests"
AT_ONCE = 32
# Seconds for what has to come to an end.
_PATIENCE = 60.0


# -- the child --------------------------------------------------------------------------------------------------------


async def calls(url: str, path: str, postgres: str) -> None:
    """Make calls until the process is killed; print the id of each that was answered."""
    ledger = Ledger(path, mode="strict", postgres=postgres)
    llm = QueryLLM(
        LLMConfig(openai_api_key="sk-kill9-0123456789abcdef", base_urls={"openai": url}),
        retry=RetryPolicy(max_attempts=4, base_delay=0.001, max_delay=0.005, max_retry_after=0.01),
        ledger=ledger,
    )

    async def caller(name: int) -> None:
        number = 0
        while True:
            number += 1
            prompt = json.dumps({"id": f"{os.getpid()}-{name}-{number}", "say": "seen"})
            with contextlib.suppress(ProviderError):  # its row is in the ledger too, but nobody has seen an answer
                if name % 2:
                    stream = await llm.query("openai/gpt-4o-mini", prompt, tags=["kill9"], timeout=5, stream=True)
                    await stream.text()
                    response = stream.response
                else:
                    response = await llm.query("openai/gpt-4o-mini", prompt, tags=["kill9"], timeout=5)
                os.write(1, f"{response.call_id}\n".encode())

    await asyncio.gather(*(caller(name) for name in range(AT_ONCE)))


# -- the one who kills ------------------------------------------------------------------------------------------------


class Runs:
    """
    Runs over one ledger, and what was wrong.

    Args:
        folder: where the ledger is made.
        url: the provider.
        postgres: the database's address.
        seed: of the moments.
        longest: seconds that a child makes calls at most.
    """

    def __init__(self, folder: Path, url: str, postgres: str, seed: str, longest: float = 1.0) -> None:
        self.path = folder / "usage.sqlite3"
        self.url, self.postgres, self.longest = url, postgres, longest
        self.chance = random.Random(seed)  # noqa: S311  # moments that can be repeated, no secret
        self.seen: set[str] = set()
        self.table: list[tuple[int, int, int, float]] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        """One child, killed at a random moment, and the look at what it has left."""
        command = [sys.executable, __file__, "--child", self.url, str(self.path)]
        variables = os.environ | {"KILL9_DB": self.postgres}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=variables) as child:  # noqa: S603  # ourselves
            seconds = self.chance.uniform(0.02, self.longest)
            found = self._read(child, seconds)
            child.kill()
            assert child.stdout is not None  # noqa: S101  # a pipe
            found += child.stdout.read()
        if child.returncode != -9:
            self.wrong.append(f"a child ended by itself with status {child.returncode}")
        # The last line may have been cut off by the kill.
        ids = found.decode().split("\n")[:-1]
        self.seen |= set(ids)
        rows = self.check()
        self.table.append((len(self.table) + 1, len(ids), rows, seconds))

    def _read(self, child: subprocess.Popen[bytes], seconds: float) -> bytes:
        """What the child prints until some seconds after its first line."""
        assert child.stdout is not None  # noqa: S101  # a pipe
        found, until = b"", time.monotonic() + _PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while (left := until - time.monotonic()) > 0:
                if not selector.select(left):
                    continue
                piece = os.read(child.stdout.fileno(), 1 << 16)
                if not piece:
                    break
                if not found:
                    until = time.monotonic() + seconds
                found += piece
        return found

    def check(self) -> int:
        """Whether the file is sound and has all that was seen; how many calls it has."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            health = connection.execute("PRAGMA integrity_check").fetchall()
            if health != [("ok",)]:
                self.wrong.append(f"integrity_check: {health[:3]}")
            there = {id_ for (id_,) in connection.execute("SELECT id FROM calls")}
            if lost := self.seen - there:
                self.wrong.append(f"{len(lost)} answers were seen and have no row, as {min(lost)}")
            # A call and what belongs to it are one transaction.
            halves = connection.execute(
                "SELECT count(*) FROM calls WHERE attempts <> (SELECT count(*) FROM attempts WHERE call_id = id)"
                " OR NOT EXISTS (SELECT 1 FROM call_tags WHERE call_id = id AND tag = 'kill9')"
            ).fetchone()[0]
            if halves:
                self.wrong.append(f"{halves} calls lack their attempts or tags")
        return len(there)

    def forward(self) -> int:
        """Bring the rest to PostgreSQL, and compare; how many calls are there."""
        ledger = Ledger(self.path, postgres=self.postgres)
        ledger.start()
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            state = ledger.health().forwarding
            if state is not None and state.behind == 0:
                break
            time.sleep(0.02)
        else:
            self.wrong.append(f"not all is forwarded: {ledger.health().forwarding}")
        ledger.close()
        psycopg: Any = importlib.import_module("psycopg")
        orders = {"calls": "id", "attempts": "call_id, number", "call_tags": "tag, call_id"}
        count = 0
        with psycopg.connect(self.postgres) as there, contextlib.closing(sqlite3.connect(self.path)) as here:
            for table, key in orders.items():
                columns = [name for _, name, *_ in here.execute(f"PRAGMA table_info({table})") if name != "seq"]
                question = f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608  # our own names
                mine = sorted(here.execute(question).fetchall(), key=repr)
                theirs = sorted(there.execute(question).fetchall(), key=repr)
                if mine != theirs:
                    self.wrong.append(f"{table}: {len(mine)} rows here, {len(theirs)} in PostgreSQL, or others ({key})")
                count = count or len(theirs)
        return count

    def words(self) -> str:
        """The runs as a table."""
        lines = [f"{'run':>3}  {'killed after':>12}  {'seen':>6}  {'rows':>6}"]
        lines += [
            f"{number:>3}  {seconds:>10.2f} s  {seen:>6}  {rows:>6}" for number, seen, rows, seconds in self.table
        ]
        return "\n".join(lines)


def trouble(server: Any, number: int) -> None:
    """Of four runs PostgreSQL is killed and started before one, and frozen during another."""
    if number % 4 == 1:
        server.stop()
        server.start()
    elif number % 4 == 3:
        server.freeze()


def main(arguments: list[str] | None = None) -> int:
    """Run; the status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", default=str(time.time_ns()))
    parser.add_argument("--faults", type=float, default=0.05)
    parser.add_argument("--longest", type=float, default=1.0, help="seconds that a child makes calls at most")
    parser.add_argument("--child", nargs=2, metavar=("URL", "PATH"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        asyncio.run(calls(given.child[0], given.child[1], "env:KILL9_DB"))
        return 0
    sys.path.insert(0, str(TESTS))
    postgres: Any = importlib.import_module("support.postgres")
    command = [sys.executable, "-m", "support.chaos_server", f"--seed={given.seed}", f"--faults={given.faults}"]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kill9-")))
        provider = stack.enter_context(
            subprocess.Popen(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  # ours
        )
        assert provider.stdout is not None  # noqa: S101  # a pipe
        server = stack.enter_context(postgres.Postgres())
        database = stack.enter_context(server.database())
        runs = Runs(folder, provider.stdout.readline().strip(), database, given.seed, given.longest)
        for number in range(given.runs):
            trouble(server, number)
            runs.run()
            server.thaw()
        forwarded = runs.forward()
        assert provider.stdin is not None  # noqa: S101  # a pipe
        provider.stdin.close()
    print(runs.words())
    print(f"{len(runs.seen)} answers seen, {forwarded} calls in PostgreSQL, each once; seed {given.seed}")
    for line in runs.wrong[:20]:
        print(f"violation: {line}")
    return 1 if runs.wrong or not runs.seen else 0


if __name__ == "__main__":
    sys.exit(main())
