"""
A minute of chaos: very many calls at once against a provider that fails in every way it can.

Run it with ``make soak``. Every call must come to exactly one end: the whole answer, byte for byte; a typed error; or
the cancellation that was ours. None may outlive its deadline, each must have its rows in the ledger, and nothing may be
left behind. It prints one table and ends with status 1 when anything else happened. ``--seed`` repeats the faults and
the calls of a run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import Any, Literal

from llm_master import (
    BreakerPolicy,
    DiscardEvent,
    EndEvent,
    Ledger,
    LLMConfig,
    LLMError,
    LLMResponse,
    LLMStream,
    ModelConfig,
    ProviderError,
    QueryLLM,
    RetryPolicy,
    StreamInterrupted,
    TextEvent,
    Timeouts,
)

TESTS = Path(__file__).resolve().parent.parent / "tests"
MODELS = ("openai/gpt-4o-mini", "openai/gpt-4.1", "anthropic/claude-sonnet-4-5", "anthropic/claude-haiku-4-5")
# Calls to this one stand in line for their turn, so that reservations are given back in every way there is.
NARROW, NARROW_CALLS = "openai/gpt-4.1", 12
WORDS = ("the", "Straße", "世界", "naïve", "🙂🙃", "quick", "\\", '"', "<b>", "ποτέ", "\t", "{}", "data:", "end.")
# Seconds that a call may come too late on a machine that is busy with everything else.
MARGIN = 3.0


@dataclass(frozen=True)
class Plan:
    """
    One call: how it is asked, and what its caller does to it.

    ``total`` is its deadline in seconds. The caller cancels after ``cancel`` seconds, or leaves after ``leave`` pieces.
    """

    id: str
    say: str
    model: str
    fallbacks: tuple[str, ...]
    manner: str
    total: float
    on_interrupt: str | None = None
    hedge: float | None = None
    attempts: int = 3
    cancel: float | None = None
    leave: int | None = None

    @classmethod
    def drawn(cls, seed: str, number: int) -> Plan:
        """The call with a number, the same in every run with the seed."""
        rng = random.Random(f"{seed} call {number}")  # noqa: S311  # chaos that can be repeated, no secret
        model, *others = rng.sample(MODELS, len(MODELS))
        manner = rng.choice(("plain", "plain", "iterated", "text", "events", "batches"))
        return cls(
            id=str(number),
            # Numbered, so that no end of a text is the beginning of its rest.
            say=" ".join(f"{place}:{rng.choice(WORDS)}" for place in range(rng.randrange(1, 60))),
            model=model,
            fallbacks=tuple(others[: rng.choice((0, 0, 1, 1, 2))]),
            manner=manner,
            total=rng.choice((0.2, 1.0, 4.0, 4.0)),
            on_interrupt=rng.choice((None, "continue", "restart")),
            hedge=0.1 if rng.random() < 0.05 else None,
            attempts=rng.choice((1, 3, 3)),
            cancel=rng.uniform(0.0, 0.2) if rng.random() < 0.1 else None,
            leave=rng.randrange(1, 4) if manner in ("iterated", "batches") and rng.random() < 0.15 else None,
        )


@dataclass
class Given:
    """What a caller had in hand when its call ended."""

    text: str = ""
    response: LLMResponse | None = None
    left: bool = False


@dataclass
class Soak:
    """One run: its client, and what was counted and found wrong."""

    url: str
    seed: str
    ends: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    told: Counter[int] = field(default_factory=Counter)
    made: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    started: int = 0
    stopped: float = 0.0

    def client(self, ledger: Ledger | Literal["off"] = "off") -> QueryLLM:
        """The client under test, with short limits of time."""
        llm = QueryLLM(
            LLMConfig(
                openai_api_key="sk-soak-0123456789abcdef",
                anthropic_api_key="sk-ant-soak-0123456789abcdef",
                base_urls={"openai": self.url, "anthropic": self.url},
            ),
            registry={NARROW: ModelConfig(max_concurrency=NARROW_CALLS)},
            timeouts=Timeouts(total=4.0, connect=2.0, first_token=0.4, idle=0.4),
            retry=RetryPolicy(base_delay=0.01, max_delay=0.1, max_retry_after=1.0),
            # Left alone for moments only, so that there is always somebody to be asked.
            breaker=BreakerPolicy(cooldown=0.05, max_cooldown=0.2),
            ledger=ledger,
        )
        llm.on_event(self._hear)
        return llm

    def _hear(self, event: Any) -> None:
        if event.name == "start":
            self.started += 1
        elif event.name == "end":
            self.told[event.call] += 1

    # -- one call -----------------------------------------------------------------------------------------------

    async def call(self, llm: QueryLLM, plan: Plan) -> None:
        """Make a call, do to it what its plan says, and judge its end."""
        given = Given()
        began = time.monotonic()
        task = asyncio.create_task(self._ask(llm, plan, given))
        ours = asyncio.get_running_loop().call_later(plan.cancel, task.cancel) if plan.cancel is not None else None
        done, _ = await asyncio.wait({task}, timeout=plan.total + MARGIN)
        if ours is not None:
            ours.cancel()
        if not done:
            self._blame(plan, f"hangs {plan.total + MARGIN:g} s after its start")
            task.cancel()
            await asyncio.wait({task}, timeout=MARGIN)
        self.seconds.append(time.monotonic() - began)
        self.ends[self._judge(plan, task, given)] += 1

    async def _ask(self, llm: QueryLLM, plan: Plan, given: Given) -> None:
        limits = Timeouts(total=plan.total, connect=2.0, first_token=0.4, idle=0.4)
        answer = await llm.query(
            plan.model,
            json.dumps({"id": plan.id, "say": plan.say}),
            stream=plan.manner != "plain",
            fallback_model=list(plan.fallbacks) or None,
            timeout=limits,
            max_attempts=plan.attempts,
            on_interrupt=plan.on_interrupt,
            hedge_after=plan.hedge,
        )
        if isinstance(answer, LLMStream):
            await _read(answer, plan, given)
        else:
            given.text, given.response = answer.content, answer

    def _judge(self, plan: Plan, task: asyncio.Task[None], given: Given) -> str:
        """The name of a call's end; what is wrong with it is noted."""
        if not task.done():
            return "hangs"
        if task.cancelled():
            if plan.cancel is None:
                self._blame(plan, "was cancelled by nobody")
            return "cancelled by us"
        error = task.exception()
        if error is not None:
            return self._judge_error(plan, error, given)
        if given.left:
            if plan.on_interrupt != "restart" and not plan.say.startswith(given.text):
                self._blame(plan, f"gave {given.text!r} before it was left")
            return "left early"
        self._judge_answer(plan, given)
        return "answer"

    def _judge_answer(self, plan: Plan, given: Given) -> None:
        response = given.response
        again = plan.on_interrupt == "restart" and plan.manner in ("iterated", "batches")
        if response is None or response.content != plan.say:
            self._blame(plan, f"answers {response and response.content!r}")
        elif not (given.text.endswith(plan.say) if again else given.text == plan.say):
            self._blame(plan, f"gave {given.text!r}")
        elif not any(attempt.outcome == "ok" for attempt in response.attempts):
            self._blame(plan, f"has no good attempt: {response.attempts}")
        else:
            self._note_attempts(plan, response.attempts)

    def _judge_error(self, plan: Plan, error: BaseException, given: Given) -> str:
        name = type(error).__name__
        self.errors[name] += 1
        if not isinstance(error, LLMError):
            self._blame(plan, f"raised {error!r}")
            return "untyped error"
        if "\n" in str(error) or not str(error) or "sk-" in str(error):
            self._blame(plan, f"says {error!r}")
        if isinstance(error, ProviderError):
            self._note_attempts(plan, error.attempts)
        if isinstance(error, StreamInterrupted) and plan.manner in ("iterated", "batches"):
            if plan.on_interrupt is None and error.partial_text != given.text:
                self._blame(plan, f"gave {given.text!r} and says {error.partial_text!r}")
            if plan.on_interrupt != "restart" and not plan.say.startswith(given.text):
                self._blame(plan, f"gave {given.text!r}")
        return "typed error"

    def _note_attempts(self, plan: Plan, attempts: tuple[Any, ...]) -> None:
        self.made[plan.id] = sum(attempt.outcome != "skipped" for attempt in attempts)

    def _blame(self, plan: Plan, what: str) -> None:
        hedged = ", hedged" if plan.hedge else ""
        self.wrong.append(
            f"call {plan.id} of {plan.model} and {len(plan.fallbacks)} fallbacks, {plan.manner}"
            f" (on_interrupt={plan.on_interrupt}, {plan.total:g} s, {plan.attempts} attempts{hedged}): {what[:400]}"
        )

    # -- all of them --------------------------------------------------------------------------------------------

    async def run(self, seconds: float, calls: int, workers: int) -> None:
        """Call for so many seconds and at least so often, then close the client and look for what it left."""
        asyncio.get_running_loop().set_exception_handler(lambda _, what: self.wrong.append(f"the loop caught {what}"))
        hook = sys.unraisablehook
        sys.unraisablehook = lambda found: self.wrong.append(f"unraisable: {found.exc_value!r} in {found.object!r}")
        watch = asyncio.create_task(self._watch())
        mine = asyncio.all_tasks()
        files = _open_files()
        try:
            with tempfile.TemporaryDirectory(prefix="llm-master-soak-") as folder:
                ledger = Ledger(Path(folder, "usage.sqlite3"))
                async with self.client(ledger) as llm:
                    await self._storm(llm, seconds, calls, workers)
                    # A stream that was dropped is closed when it is collected.
                    gc.collect()
                    await asyncio.sleep(0)
                    await self._look_at(llm)
                await asyncio.to_thread(ledger.close)
                self._look_into(ledger)
            await self._look_for_rest(mine, files)
        finally:
            sys.unraisablehook = hook
            watch.cancel()

    async def _storm(self, llm: QueryLLM, seconds: float, calls: int, workers: int) -> None:
        until = time.monotonic() + seconds
        numbers = iter(range(sys.maxsize))

        async def work() -> None:
            while time.monotonic() < until or self.started < calls:
                await self.call(llm, Plan.drawn(self.seed, next(numbers)))

        await asyncio.gather(*(work() for _ in range(workers)))

    async def _watch(self) -> None:
        """Measure how long the loop stood still at most: so much later than its time may a call end."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            self.stopped = max(self.stopped, time.monotonic() - before - 0.01)

    async def _look_at(self, llm: QueryLLM) -> None:
        """Nothing is under way any more, each call has told its one end, and every reservation was given back."""
        for name, places in llm.health().items():
            busy = {place.name: place.inflight for place in places if place.inflight}
            if busy:
                self.wrong.append(f"calls of {name} that never ended: {busy}")
        if len(self.told) != self.started or set(self.told.values()) - {1}:
            twice = sum(1 for count in self.told.values() if count > 1)
            self.wrong.append(f"{self.started} calls told {len(self.told)} ends, {twice} of them more than one")
        prompt = json.dumps({"id": "last", "say": "here"})
        last = (llm.query(NARROW, prompt, limit_wait=0, max_attempts=1) for _ in range(NARROW_CALLS))
        ends = await asyncio.gather(*last, return_exceptions=True)
        refused = sum(getattr(end, "code", None) == "local_rate_limit" for end in ends)
        if refused:
            self.wrong.append(f"{refused} of {NARROW_CALLS} places in line are still taken though nobody calls")

    def _look_into(self, ledger: Ledger) -> None:
        """Every call has its row, and so has every attempt."""
        with contextlib.closing(sqlite3.connect(ledger.path)) as file:
            ((calls, attempts),) = file.execute("SELECT count(*), sum(attempts) FROM calls")
            ((rows,),) = file.execute("SELECT count(*) FROM attempts")
        if calls != len(self.told):
            self.wrong.append(f"{len(self.told)} calls have {calls} rows in the ledger")
        if rows != attempts:
            self.wrong.append(f"{attempts} attempts have {rows} rows in the ledger")

    async def _look_for_rest(self, mine: set[asyncio.Task[Any]], files: int) -> None:
        rest = asyncio.all_tasks() - mine
        if rest:
            _, rest = await asyncio.wait(rest, timeout=MARGIN)
        if rest:
            self.wrong.append(f"{len(rest)} tasks are left: {[task.get_name() for task in rest][:3]}")
        if _open_files() > files:
            self.wrong.append(f"{_open_files() - files} sockets are left open")

    def compare(self, report: dict[str, Any]) -> None:
        """What the server saw: no connection that is open still, and no request that the record leaves out."""
        if report["open"]:
            self.wrong.append(f"{report['open']} connections are open at the server")
        hidden = {name: report["asked"].get(name, 0) - made for name, made in self.made.items()}
        hidden = {name: count for name, count in hidden.items() if count > 0}
        if hidden:
            self.wrong.append(f"requests that no record tells of, by call: {dict(list(hidden.items())[:10])}")

    def table(self, report: dict[str, Any]) -> str:
        """The run in one table."""
        took = sorted(self.seconds)
        calls = len(took)
        rows = [("calls", calls), *sorted(self.ends.items()), ("requests", report["requests"])]
        rows += [("  faults met", sum(count for name, count in report["faults"].items() if name != "none"))]
        rows += [("  kinds of fault", len(report["faults"]) - ("none" in report["faults"]))]
        rows += [(f"  {name}", count) for name, count in self.errors.most_common()]
        lines = [f"{name:<26}{count:>10}" for name, count in rows]
        times = [(f"{name} of a call", took[int(share * (calls - 1))]) for name, share in _SHARES]
        times += [("longest stop of the loop", self.stopped)]
        lines += [f"{name:<26}{value:>8.3f} s" for name, value in times]
        return "\n".join([*lines, f"{'violations':<26}{len(self.wrong):>10}"])


_SHARES = (("median", 0.5), ("99th percentile", 0.99), ("longest", 1.0))


async def _read(stream: LLMStream, plan: Plan, given: Given) -> None:
    """Read a stream in the plan's manner, perhaps not to its end."""
    if plan.manner == "text":
        given.text = await stream.text()
    elif plan.manner == "events":
        async for event in stream.events():
            if isinstance(event, DiscardEvent):
                given.text = ""
            elif isinstance(event, TextEvent):
                given.text += event.text
            elif isinstance(event, EndEvent):
                given.response = event.response
    else:
        pieces = 0
        async for piece in stream if plan.manner == "iterated" else stream.batches():
            given.text += piece if isinstance(piece, str) else "".join(piece)
            pieces += 1
            if pieces == plan.leave:
                given.left = True
                # Others let go of it without a word; then it is closed when it is collected.
                if int(plan.id) % 2:
                    await stream.aclose()
                return
    given.response = stream.response


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return sum(1 for _ in (folder if folder.is_dir() else Path("/dev/fd")).iterdir())


async def soak(seconds: float, calls: int, workers: int, seed: str, faults: float) -> int:
    """Run the server and the calls; the number of violations."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "support.chaos_server", f"--seed={seed}", f"--faults={faults}",
        cwd=TESTS, stdin=PIPE, stdout=PIPE, limit=2**27,
    )  # fmt: skip
    assert server.stdin is not None  # noqa: S101  # both are pipes
    assert server.stdout is not None  # noqa: S101  # same
    url = (await server.stdout.readline()).decode().strip()
    run = Soak(url, seed)
    await run.run(seconds, calls, workers)
    report: dict[str, Any] = {}
    # The server hears of closed connections a moment later.
    for _ in range(100):
        server.stdin.write(b"report\n")
        report = json.loads(await server.stdout.readline())
        if not report["open"]:
            break
        await asyncio.sleep(0.02)
    server.stdin.close()
    if await server.wait():
        run.wrong.append(f"the server ended with status {server.returncode}")
    run.compare(report)
    print(run.table(report))
    for line in run.wrong[:20]:
        print(f"violation: {line}")
    return len(run.wrong)


def main() -> int:
    """The program; its status is 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--calls", type=int, default=0, help="calls at least, however long they take")
    parser.add_argument("--workers", type=int, default=100, help="calls at a time")
    parser.add_argument("--faults", type=float, default=0.35, help="share of requests that fail")
    parser.add_argument("--seed", default=str(time.time_ns() % 1_000_000))
    given = parser.parse_args()
    print(f"seed {given.seed}, {given.workers} calls at a time for {given.seconds:g} s", flush=True)
    return min(1, asyncio.run(soak(given.seconds, given.calls, given.workers, given.seed, given.faults)))


if __name__ == "__main__":
    sys.exit(main())
