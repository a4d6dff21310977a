"""
Ten thousand calls at once on one event loop: all end, each once, and leave nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_master import CallEvent, LLMConfig, LLMStream, ModelConfig, QueryLLM, RetryPolicy, Timeouts

TESTS = Path(__file__).resolve().parent
MODEL = "openai/gpt-4o-mini"
CALLS = 10_000
# Beside the sockets of the calls: the files that Python, pytest and the machinery here hold open.
OTHER_FILES = 300
MOST_BYTES_A_CALL = 200_000
PATIENT = Timeouts(total=300, connect=120, first_token=300, idle=300)
ONCE = RetryPolicy(max_attempts=1)


class Server:
    """``support.chaos_server`` in a process of its own, well-behaved."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.chaos_server", *options],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def report(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    async def reported(self, what: str, number: int) -> dict[str, Any]:
        """The first report in which a figure has reached a number; it only has to come at all."""
        async with asyncio.timeout(120):
            while (report := await asyncio.to_thread(self.report))[what] != number:
                await asyncio.sleep(0.02)
        return report

    def stop(self) -> None:
        # Closes its input, which ends it, and its output.
        self._process.communicate()
        assert self._process.returncode == 0


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Server]:
    server = Server(*options)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def room() -> Iterator[int]:
    """How many sockets this process may have, raised as far as it is allowed; a server's process inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CALLS + OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    yield max(soft, allowed) - OTHER_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def client(server: Server, **options: Any) -> QueryLLM:
    config = LLMConfig(openai_api_key="sk-many-0123456789abcdef", base_urls={"openai": server.url})
    return QueryLLM(config, timeouts=PATIENT, retry=ONCE, **options)


def prompt(number: int) -> str:
    return json.dumps({"id": number, "say": f"This is the answer to question {number}."})


async def ask(llm: QueryLLM, number: int, *, stream: bool, **options: Any) -> str:
    answer = await llm.query(MODEL, prompt(number), stream=stream, **options)
    return await answer.text() if isinstance(answer, LLMStream) else answer.content


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return sum(1 for _ in (folder if folder.is_dir() else Path("/dev/fd")).iterdir())


def resident() -> int:
    """Bytes in memory now, or where that cannot be read the most that there ever were."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


async def left_over(files: int) -> tuple[int, int]:
    """Tasks and files that are still there when what was on its way has ended."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    if rest:
        _, rest = await asyncio.wait(rest, timeout=30)
    gc.collect()
    return len(rest), max(0, open_files() - files)


def test_ten_thousand_calls_at_once(room: int) -> None:
    """Every fifth one is a stream. None is answered before all of them, or as many as there may be, have come."""
    at_once = min(CALLS, room)
    told: Counter[tuple[int, str]] = Counter()
    outcomes: Counter[str | None] = Counter()

    def hear(event: CallEvent) -> None:
        if event.name in ("start", "end"):
            told[event.call, event.name] += 1
            outcomes[event.outcome] += 1

    async def main() -> tuple[float, tuple[int, int], dict[str, Any]]:
        files, before = open_files(), resident()
        narrow = {} if at_once == CALLS else {MODEL: ModelConfig(max_concurrency=at_once)}
        async with client(server, registry=narrow) as llm:
            llm.on_event(hear)
            answers = await asyncio.gather(*(ask(llm, number, stream=number % 5 == 1) for number in range(CALLS)))
            memory = (resident() - before) / CALLS
            assert answers == [f"This is the answer to question {number}." for number in range(CALLS)]
        return memory, await left_over(files), await server.reported("open", 0)

    with serving(f"--barrier={at_once}") as server:
        memory, rest, report = asyncio.run(main())
    print(f"\n{CALLS} calls, {report['most']} at a time: {memory / 1024:.1f} KiB a call")
    assert report["most"] == at_once
    assert report["requests"] == CALLS
    assert rest == (0, 0), "tasks and sockets that are left"
    assert 0 < memory < MOST_BYTES_A_CALL
    assert len(told) == 2 * CALLS
    assert set(told.values()) == {1}, "a call has one beginning and one end"
    assert outcomes == {None: CALLS, "ok": CALLS}


def test_two_thousand_cancelled_calls_leave_nothing() -> None:
    """All wait for an answer that nobody gives; then all are cancelled at the same moment."""
    calls = 2000

    async def main() -> tuple[Counter[str], tuple[int, int]]:
        files = open_files()
        async with client(server) as llm:
            ends: Counter[str] = Counter()
            llm.on_event(lambda event: ends.update([event.outcome] if event.outcome else []))
            tasks = [asyncio.create_task(ask(llm, number, stream=number % 2 == 1)) for number in range(calls)]
            await server.reported("requests", calls)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            # The client is still open: a cancelled call closes its own connection.
            await server.reported("open", 0)
            assert [place.inflight for places in llm.health().values() for place in places] == [0]
            # What was cancelled holds no place: an answer to this one is not waited for either.
            with pytest.raises(TimeoutError):
                await ask(llm, calls, stream=False, timeout=0.05)
        return ends, await left_over(files)

    with serving(f"--barrier={10 * calls}") as server:
        ends, rest = asyncio.run(main())
    assert ends == {"cancelled": calls, "error": 1}
    assert rest == (0, 0), "tasks and sockets that are left"


def test_calls_stand_in_line_for_their_turn() -> None:
    """Never more at a time than ``max_concurrency``, all of them answered, and each in the order of its coming."""
    calls, most = 2000, 40
    began: list[int] = []

    async def one(llm: QueryLLM, number: int) -> str:
        text = await ask(llm, number, stream=number % 2 == 1)
        began.append(number)
        return text

    async def main() -> dict[str, Any]:
        async with client(server, registry={MODEL: ModelConfig(max_concurrency=most)}) as llm:
            answers = await asyncio.gather(*(one(llm, number) for number in range(calls)))
            assert answers == [f"This is the answer to question {number}." for number in range(calls)]
        return await server.reported("open", 0)

    with serving("--pause=0.01") as server:
        report = asyncio.run(main())
    assert 1 < report["most"] <= most
    assert report["requests"] == calls
    # Of those under way at the same time any may be the first to end.
    assert all(abs(number - place) < 4 * most for place, number in enumerate(began))
