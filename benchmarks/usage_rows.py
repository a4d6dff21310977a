"""
What ``llm-master usage`` and ``logs`` take over a ledger of many rows, beside plain SQL on the same file.

    python benchmarks/usage_rows.py                     one million calls; prints the table
    python benchmarks/usage_rows.py --rows 20000        the same with fewer
    python benchmarks/usage_rows.py --keep ledger.sqlite3   uses the file, or makes it and leaves it there

Each command runs in a process of its own, start of the interpreter included. CPU is user and system time of that
process, which other programs on the machine disturb less than the wall time beside it.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from llm_master.ledger.chunks import Sealer
from llm_master.ledger.insert import insert
from llm_master.ledger.rows import AttemptRow, CallRow, Rows, rows_of, tags_text
from llm_master.ledger.sqlite_file import open_file, transaction

__all__ = ["COMMANDS", "calls", "fill", "seal"]

#: Days that the calls lie in, and the moment after the last of them: 2026-11-01 00:00 UTC.
DAYS, END = 90, 1_793_491_200_000_000
_DAY, _HOUR = 86_400_000_000, 3_600_000_000
_BATCH = 512

_PROVIDERS = ("openai", "anthropic", "gemini", "groq", "mistral", "deepseek", "azure", "bedrock", "xai", "cohere")
#: Sixty models; the first are asked for most. Each belongs to one provider.
MODELS = tuple((f"{_PROVIDERS[n % 10]}-model-{n:02d}", _PROVIDERS[n % 10]) for n in range(60))
KEYS = tuple(f"key_{n:08x}" for n in range(0, 8 * 7919, 7919))
TEAMS = tuple(f"team-{n:02d}" for n in range(12))
JOBS = tuple(f"job-{n:03d}" for n in range(200))
_HOURS = (2, 1, 1, 1, 1, 2, 4, 7, 10, 12, 12, 11, 10, 11, 12, 12, 11, 9, 7, 6, 5, 4, 3, 2)
_ERRORS = (("RateLimitError", "rate_limit_exceeded"), ("APITimeoutError", None), ("ServerError", "overloaded"))


def calls(rows: int, seed: int = 5) -> Iterator[tuple[CallRow, list[AttemptRow]]]:
    """
    Calls as a busy team has them, in the order of time: 60 models of 10 providers, 8 keys, tags of 212 names.

    Four in a hundred fail, three are served by a fallback, five come from the cache, and some have no known cost.
    """
    made = random.Random(seed)
    models = made.choices(MODELS, [1 / (n + 1) for n in range(len(MODELS))], k=rows)
    days = made.choices(range(DAYS), [5 if n % 7 < 5 else 1 for n in range(DAYS)], k=rows)
    hours = made.choices(range(24), _HOURS, k=rows)
    times = sorted(
        END - (DAYS - day) * _DAY + hour * _HOUR + made.randrange(_HOUR) for day, hour in zip(days, hours, strict=True)
    )
    for number, (ts, (model, provider)) in enumerate(zip(times, models, strict=True)):
        yield _one(made, number, ts, model, provider)


def _one(made: random.Random, number: int, ts: int, model: str, provider: str) -> tuple[CallRow, list[AttemptRow]]:
    chance = made.random()
    outcome = "ok" if chance < 0.94 else "error" if chance < 0.98 else "cancelled" if chance < 0.99 else "interrupted"
    error, code = made.choice(_ERRORS) if outcome == "error" else (None, None)
    retried, fallback, cached = made.random() < 0.04, made.random() < 0.03, made.random() < 0.05
    streamed = made.random() < 0.4
    read, written = int(made.lognormvariate(7, 1.2)), int(made.lognormvariate(5.5, 1)) if error is None else 0
    latency = int(made.lognormvariate(13.8, 0.9))
    cost = None if error or made.random() < 0.03 else read * 2_500_000 + written * 10_000_000
    tags = [made.choice(TEAMS)] if made.random() < 0.7 else []
    tags += [made.choice(JOBS)] if made.random() < 0.3 else []
    name = f"{ts // 1000:012x}7{number:019x}"
    key = made.choice(KEYS)
    common = {
        "ts": ts,
        "key_id": key,
        "deployment": f"{provider}-eu" if provider == "azure" else None,
        "request_id": None if error else f"req_{number:016x}",
        "input_tokens": read,
        "output_tokens": written,
        "cached_tokens": read // 2 if number % 3 == 0 else 0,
        "usage_estimated": int(outcome in ("cancelled", "interrupted")),
        "cost": cost,
        "cost_complete": int(cost is not None and number % 50 != 0),
        "price_source": None if cost is None else "genai-prices 2026-10-30",
        "ttft_us": latency // 5 if streamed and error is None else None,
        "latency_us": latency,
    }
    call = CallRow(
        id=name,
        kind="chat" if number % 12 else "embed",
        streamed=int(streamed),
        model_asked=f"{model}-latest" if number % 10 == 0 else model,
        model=None if error else model,
        provider=provider,
        tags=tags_text(tags),
        outcome=outcome,
        error=error,
        error_code=code,
        finish_reason=None if error else "stop",
        attempts=0 if cached else 1 + retried,
        fallback=int(fallback),
        cached=int(cached),
        bytes_sent=read * 4,
        bytes_received=written * 5,
        **common,
    )
    tries = [
        AttemptRow(call_id=name, number=at + 1, provider=provider, model=model, outcome=outcome, error=error, **common)
        for at in range(call.attempts)
    ]
    return call, tries


def fill(path: Path, made: Iterable[tuple[CallRow, list[AttemptRow]]]) -> None:
    """Write calls as the ledger's own writer does, many in one transaction."""
    connection = open_file(str(path))
    connection.execute("PRAGMA synchronous = OFF")
    built: Iterator[Rows] = (rows_of(*each) for each in made)
    while batch := list(islice(built, _BATCH)):
        with transaction(connection):
            insert(connection, batch)
    connection.close()


def seal(path: Path) -> None:
    """Add up every full chunk, as the writer has done by the time that it is full."""
    connection = open_file(str(path))
    sealer = Sealer(connection)
    while sealer.step(None):
        pass
    connection.close()


#: What is measured: the arguments after ``llm-master``.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("usage",),
    *(("usage", "--by", name) for name in ("model", "provider", "key", "tag", "day")),
    ("usage", "--by", "day", "--timezone", "Asia/Kolkata"),
    ("usage", "--by", "day", "--timezone", "America/New_York"),
    ("usage", "--by", "model", "--since", "2026-10-20T07:30"),
    ("usage", "--by", "tag", "--since", "2026-08-20T07:30"),
    ("usage", "--by", "model", "--provider", "openai"),
    ("usage", "--by", "model", "--by", "day"),
    ("usage", "--by", "model", "--json"),
    ("usage", "--by", "tag", "--csv"),
    ("logs",),
    ("logs", "--errors"),
    ("logs", "req_00000000000003e8"),
)

#: The least that plain SQL does for a report: no percentiles.
PLAIN = (
    "SELECT model, count(*), sum(cost), count(*) - count(cost), sum(input_tokens), sum(output_tokens),"
    " sum(outcome = 'error'), avg(latency_us) FROM calls GROUP BY model"
)
_SQL = "import sqlite3, sys; print(len(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall()))"


class Spent(NamedTuple):
    """Seconds of a process."""

    wall: float
    cpu: float


def spent(command: Sequence[str], path: Path) -> Spent:
    """Run a process to its end; raises SystemExit with its own words when it fails."""
    environment = {**os.environ, "LLM_MASTER_LEDGER": str(path)}
    before = os.times()
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode or not done.stdout:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Spent(wall, used)


def measure(path: Path, rounds: int, only: str = "") -> list[tuple[str, list[Spent]]]:
    """Every command in whose text ``only`` stands, in every round; plain SQL first."""
    plain = ("plain SQL, GROUP BY model", [sys.executable, "-c", _SQL, str(path), PLAIN])
    start = [sys.executable, "-m", "llm_master.cli.main"]
    ours = [(" ".join(("llm-master", *each)), [*start, *each]) for each in COMMANDS if only in " ".join(each)]
    found: list[tuple[str, list[Spent]]] = [(name, []) for name, _ in (plain, ("llm-master --version", []), *ours)]
    for _ in range(rounds):
        everything = (plain, ("", [*start, "--version"]), *ours)
        for (_, samples), (_, command) in zip(found, everything, strict=True):
            samples.append(spent(command, path))
    return found


def table(found: list[tuple[str, list[Spent]]]) -> str:
    """Markdown: medians, the first run, and how many times the wall time of plain SQL."""
    lines = ["| command | wall s | first run | CPU s | to plain SQL |", "|---|---:|---:|---:|---:|"]
    base = statistics.median(each.wall for each in found[0][1])
    for name, samples in found:
        wall, cpu = (statistics.median(each) for each in zip(*samples, strict=True))
        lines.append(f"| `{name}` | {wall:.2f} | {samples[0].wall:.2f} | {cpu:.2f} | {wall / base:.2f}x |")
    return "\n".join(lines)


def main() -> int:
    """Make the ledger, measure and print."""
    parser = argparse.ArgumentParser(description="Measure reports over a ledger of many calls.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="calls in the ledger")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each command; 0 only makes the file")
    parser.add_argument("--only", default="", help="commands with this text in them")
    parser.add_argument("--keep", type=Path, default=None, help="a file to use, made when it is not there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llm-master-rows-") as scratch:
        path = options.keep or Path(scratch) / "usage.sqlite3"
        start = time.perf_counter()
        if not path.exists():
            fill(path, calls(options.rows))
        filled = time.perf_counter()
        seal(path)
        added = time.perf_counter() - filled
        print(f"{options.rows:,} calls: {filled - start:.0f} s to write, {added:.1f} s to add up")
        size = path.stat().st_size / 2**20
        with sqlite3.connect(path) as connection:
            (sums,) = connection.execute("SELECT coalesce(sum(length(data)), 0) FROM usage_sums").fetchone()
        print(f"{size:,.0f} MiB, {sums / 2**20:,.1f} MiB of it sums\n")
        if options.rounds:
            print(table(measure(path, options.rounds, options.only)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
