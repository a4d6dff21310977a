"""
What every client program does with its client: take commands on stdin, one JSON object a line, and answer with CPU
time. The time is that of the whole process, so the threads of a client written in Rust count too.

A client is an object with ``call(prompt) -> (text, output tokens)`` and ``stream(prompt) -> number of text pieces``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KEY = "sk-bench"
MODEL = "gpt-4o-mini"
SYSTEM = "You are a patient engineer. Answer in plain words, in one paragraph, without lists."
PROMPT = "Explain how a token bucket keeps a caller inside a rate limit, and what happens when a burst of calls comes."
SHORT = 20
LONG = {"together": 520, "apart": 220}


class Client(Protocol):
    """One way to call the provider."""

    async def call(self, prompt: str) -> tuple[str, int]:
        """Make one plain call and read its text and its output tokens."""

    async def stream(self, prompt: str) -> int:
        """Make one streamed call and count the pieces of text."""


def messages(prompt: str) -> list[dict[str, str]]:
    """The messages of every call, built for each call as an application would."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]


def peak_memory() -> float:
    """The most memory this process has held, in MB (2**20 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss would count the parent's memory from before exec, so the kernel's own high-water mark is read.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _prepare(core: int | None) -> None:
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _calls(client: Client, flight: int, each: int) -> None:
    async def one_after_another() -> None:
        for _ in range(each):
            await client.call(PROMPT)

    if flight == 1:
        await one_after_another()
    else:
        await asyncio.gather(*(one_after_another() for _ in range(flight)))


async def measure_calls(client: Client, flight: int, seconds: float) -> dict[str, float]:
    """CPU and wall microseconds a call with ``flight`` calls in flight, over at least about ``seconds`` of CPU."""
    # The first calls open the connections (idle ones may have expired since the last command), the second ones give an
    # estimate; a client that took long is spared them.
    rehearsal = max(1, 32 // flight)
    cost = 0.0
    for _ in range(2):
        began = time.process_time()
        await _calls(client, flight, rehearsal)
        spent = time.process_time() - began
        cost = spent / (rehearsal * flight)
        if spent > 1.5:
            break
    # With many in flight a wave of calls is long; a few waves are needed for a mean.
    each = max(2, round(max(seconds, seconds * flight / 400) / max(cost, 1e-6) / flight))
    gc.collect()
    began, start = time.process_time(), time.perf_counter()
    await _calls(client, flight, each)
    spent, took = time.process_time() - began, time.perf_counter() - start
    count = flight * each
    return {"us": spent / count * 1e6, "wall": took / count * 1e6, "calls": count}


async def _streams(client: Client, prompt: str, count: int, expected: int) -> float:
    began = time.process_time()
    for _ in range(count):
        pieces = await client.stream(prompt)
        if pieces != expected:
            raise SystemExit(f"{prompt}: {pieces} pieces of text, expected {expected}")
    return time.process_time() - began


async def measure_chunks(client: Client, mode: str, seconds: float) -> dict[str, float]:
    """
    CPU microseconds a streamed chunk: what a long stream costs more than a short one, over the difference in chunks.

    What a streamed call costs once (request, headers, end) cancels out.
    """
    long = LONG[mode]
    await _streams(client, f"{mode}:{SHORT}", 1, SHORT)
    first = await _streams(client, f"together:{long}", 1, long)
    # A stream whose chunks come one by one lasts as long as it lasts: two pairs give enough chunks for a mean.
    pairs = 2 if mode == "apart" else max(2, round(seconds / max(first, 1e-6)))
    gc.collect()
    spent = 0.0
    for _ in range(pairs):
        spent += await _streams(client, f"{mode}:{long}", 1, long)
        spent -= await _streams(client, f"{mode}:{SHORT}", 1, SHORT)
    return {"us": spent / (pairs * (long - SHORT)) * 1e6, "chunks": pairs * (long + SHORT)}


async def _run(client: Client, command: dict[str, Any]) -> dict[str, Any]:
    what = command.pop("do")
    if what == "first":
        text, tokens = await client.call(PROMPT)
        return {"text": text, "tokens": tokens, "mb": peak_memory()}
    if what == "limiter":
        return {"us": client.limiter()}  # type: ignore[attr-defined]  # only the client with limits is asked
    return await (measure_calls if what == "calls" else measure_chunks)(client, **command)


def main(make: Callable[[str], Awaitable[Client]]) -> None:
    """Make the client and carry out commands until stdin closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("--core", type=int, default=None)
    options = parser.parse_args()
    _prepare(options.core)

    async def made() -> Client:
        return await make(options.base_url)

    # The answers go to the pipe that stdout was; whatever a peer prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    client = loop.run_until_complete(made())
    for line in sys.stdin:
        answers.write(json.dumps(loop.run_until_complete(_run(client, json.loads(line)))) + "\n")
        answers.flush()
    # No tidy end: a peer's own shutdown is not what is measured.
    os._exit(0)
