"""
The chaos soak in its short form; ``make soak`` is the long one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soak
from support import faults
from support.behaviours import ok, status
from support.exchange import Behaviour
from support.fault_server import FaultServer

TOOL = Path(soak.__file__)
PLAN = soak.Plan(id="1", say="0:what 1:was 2:asked", model=soak.MODELS[0], fallbacks=(), manner="plain", total=5.0)
IDLE = {"open": 0, "requests": 1, "asked": {}, "faults": {}}


def test_four_seconds_of_chaos_lose_nothing() -> None:
    # A busy machine makes few calls in four seconds; it goes on until there were enough to say something.
    storm = ("--seconds", "4", "--calls", "400", "--workers", "60", "--seed", "4")
    command = [sys.executable, "-W", "error", str(TOOL), *storm]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    print(done.stdout)
    assert (done.stderr, done.returncode) == ("", 0), done.stdout
    rows = {name.strip(): int(count) for name, count in re.findall(r"^(.+?)\s+(\d+)$", done.stdout, re.MULTILINE)}
    assert rows["violations"] == 0
    ends = ("answer", "typed error", "cancelled by us", "left early")
    assert all(rows[end] > 0 for end in ends), "the storm was none"
    assert sum(rows[end] for end in ends) == rows["calls"] >= 400
    assert rows["kinds of fault"] > 20
    assert rows["faults met"] > 50
    assert "seed 4," in done.stdout


def test_a_call_can_be_repeated_by_its_seed_and_number() -> None:
    assert soak.Plan.drawn("7", 12) == soak.Plan.drawn("7", 12) != soak.Plan.drawn("8", 12)
    assert len({soak.Plan.drawn("7", number).manner for number in range(100)}) == 5


# -- what it must see, each made to happen once ------------------------------------------------------------------------


def verdict(server: FaultServer, behaviour: Behaviour, **changes: Any) -> soak.Soak:
    server.default = behaviour
    plan = dataclasses.replace(PLAN, **changes)

    async def main() -> soak.Soak:
        run = soak.Soak(server.url, "1")
        async with run.client() as llm:
            await run.call(llm, plan)
        run.compare(IDLE | {"asked": {plan.id: len(server.requests)}})
        return run

    return asyncio.run(main())


def test_a_good_call_is_an_answer(fault_server: FaultServer) -> None:
    for manner in ("plain", "iterated", "text", "events", "batches"):
        run = verdict(fault_server, ok(PLAN.say), manner=manner)
        assert (run.wrong, dict(run.ends)) == ([], {"answer": 1})
        fault_server.requests.clear()


@pytest.mark.parametrize("manner", ["plain", "iterated", "text", "events", "batches"])
def test_a_text_that_is_not_the_whole_one_is_seen(manner: str, fault_server: FaultServer) -> None:
    run = verdict(fault_server, ok(PLAN.say[:-1]), manner=manner)
    assert len(run.wrong) == 1
    assert "answers '0:what 1:was 2:aske'" in run.wrong[0]


class Own(soak.Soak):
    """A soak whose calls do what the test says in place of asking a model."""

    act: Any = None

    async def _ask(self, llm: Any, plan: soak.Plan, given: soak.Given) -> None:
        await self.act()


def judged(server: FaultServer, act: Any, **changes: Any) -> soak.Soak:
    async def main() -> soak.Soak:
        run = Own(server.url, "1")
        run.act = act
        async with run.client() as llm:
            await run.call(llm, dataclasses.replace(PLAN, **changes))
        return run

    return asyncio.run(main())


def test_a_call_that_outlives_its_deadline_is_seen(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "MARGIN", 0.01)
    run = judged(fault_server, asyncio.Event().wait, total=0.01)
    assert "hangs 0.02 s after its start" in run.wrong[0]


def test_an_error_of_another_tree_is_seen(fault_server: FaultServer) -> None:
    async def fail() -> None:
        raise KeyError("choices")

    run = judged(fault_server, fail)
    assert dict(run.ends) == {"untyped error": 1}
    assert "raised KeyError('choices')" in run.wrong[0]


def test_a_cancellation_that_was_not_ours_is_seen(fault_server: FaultServer) -> None:
    async def cancel() -> None:
        raise asyncio.CancelledError

    assert "was cancelled by nobody" in judged(fault_server, cancel).wrong[0]
    run = judged(fault_server, asyncio.Event().wait, cancel=0.01)
    assert (run.wrong, dict(run.ends)) == ([], {"cancelled by us": 1})


def test_a_refused_request_is_a_typed_error(fault_server: FaultServer) -> None:
    run = verdict(fault_server, status(400))
    assert (run.wrong, dict(run.ends), dict(run.errors)) == ([], {"typed error": 1}, {"BadRequestError": 1})


def test_a_task_that_is_left_is_seen(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "MARGIN", 0.01)
    kept = []

    async def leave() -> None:
        kept.append(asyncio.create_task(asyncio.Event().wait(), name="left behind"))

    async def main() -> soak.Soak:
        run = Own(fault_server.url, "1")
        run.act = leave
        await run.run(0.0, 0, 1)
        before = asyncio.all_tasks()
        await run.call(run.client(), PLAN)
        await run._look_for_rest(before, 10_000)
        return run

    assert any("1 tasks are left: ['left behind']" in line for line in asyncio.run(main()).wrong)


def test_an_interrupted_iteration_is_a_typed_error(fault_server: FaultServer) -> None:
    run = verdict(fault_server, faults.missing_terminal_marker(text=PLAN.say), manner="iterated")
    assert (run.wrong, dict(run.errors)) == ([], {"StreamInterrupted": 1})


def test_what_the_record_leaves_out_is_seen(fault_server: FaultServer) -> None:
    run = soak.Soak(fault_server.url, "1")
    run.made["5"] = 1
    run.compare(IDLE | {"asked": {"5": 3}})
    run.compare(IDLE | {"open": 2})
    assert run.wrong == ["requests that no record tells of, by call: {'5': 2}", "2 connections are open at the server"]
