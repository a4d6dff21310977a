"""
The time of a request, watched together with that of others: on time, nobody else's cancellation, nothing left over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.time_loop import TimeLoop

from llm_master.alarms import Alarms


def in_clock(program: Callable[[TimeLoop, Alarms], Any]) -> Any:
    loop = TimeLoop(1000.25)
    try:
        return loop.run_until_complete(program(loop, Alarms(loop)))
    finally:
        loop.close()


async def rest(alarms: Alarms, seconds: float | None, work: float) -> str:
    """Sleep under an alarm, as a request does."""
    alarm = alarms.after(seconds)
    is_over = False
    try:
        try:
            await asyncio.sleep(work)
        finally:
            is_over = alarm.left()
    except asyncio.CancelledError:
        if not is_over:
            raise
        return "over"
    return "done"


@pytest.mark.parametrize(
    ("seconds", "ends"), [(0.5, 1000.75), (5.0, 1005.25), (5.5, 1006.0), (60.0, 1061.0), (59.75, 1060.0)]
)
def test_it_rings_in_time_and_a_long_one_at_the_next_whole_second(seconds: float, ends: float) -> None:
    async def program(loop: TimeLoop, alarms: Alarms) -> None:
        assert await rest(alarms, seconds, 1000.0) == "over"
        assert loop.now == pytest.approx(ends)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        assert await rest(alarms, seconds, seconds / 2) == "done"

    in_clock(program)


def test_no_time_at_all_rings_at_once_and_none_never() -> None:
    async def program(loop: TimeLoop, alarms: Alarms) -> None:
        assert await rest(alarms, 0.0, 3.0) == "over"
        assert await rest(alarms, -1.0, 3.0) == "over"
        assert loop.now == pytest.approx(1000.25)
        assert await rest(alarms, None, 1e6) == "done"
        assert await rest(alarms, float("inf"), 1e6) == "done"

    in_clock(program)


def test_calls_of_one_second_share_a_timer_and_ring_each_on_its_own() -> None:
    async def program(loop: TimeLoop, alarms: Alarms) -> None:
        calls = [rest(alarms, 30.0, work) for work in (1.0, 29.0, 31.0, 500.0)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0)
        assert len([timer for timer in loop._scheduled if timer.when() == 1031.0]) == 1  # type: ignore[attr-defined]
        assert await asyncio.gather(*tasks) == ["done", "done", "over", "over"]
        assert alarms._due == {}

    in_clock(program)


def test_somebody_elses_cancellation_is_not_taken_for_the_alarm() -> None:
    async def program(loop: TimeLoop, alarms: Alarms) -> None:
        task = asyncio.ensure_future(rest(alarms, 30.0, 100.0))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Both in one moment: the caller's own goes first.
        task = asyncio.ensure_future(rest(alarms, 30.0, 100.0))
        loop.call_at(1032.0, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    in_clock(program)


def test_a_callers_timeout_around_it_still_works() -> None:
    async def program(loop: TimeLoop, alarms: Alarms) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10.0):
                await rest(alarms, 30.0, 100.0)
        assert loop.now == pytest.approx(1010.25)
        async with asyncio.timeout(50.0):
            assert await rest(alarms, 30.0, 100.0) == "over"

    in_clock(program)


def test_outside_of_a_task_it_is_refused_in_words() -> None:
    async def program(loop: TimeLoop, alarms: Alarms) -> None:
        said: list[str] = []

        def outside() -> None:
            with pytest.raises(RuntimeError, match="in a task") as caught:
                alarms.after(1.0)
            said.append(str(caught.value))

        loop.call_soon(outside)
        await asyncio.sleep(0)
        assert len(said) == 1

    in_clock(program)
