"""
A slow answer gets a rival, the loser leaves nothing behind, and only a share of the calls is hedged.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import math
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.held_fork import fork_while_held
from support.threads import at_once

from llm_master.errors import InvalidRequestError, ServerError
from llm_master.policy import hedge
from llm_master.policy.hedge import HedgeBudget, HedgePolicy, race

AT_ONCE, NEVER = 0.0, 3600.0
PATIENCE = 30.0


class Side:
    """A runner whose end the test decides; it notes what happened to it."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go = asyncio.Event()
        self.outcome: Any = "answer"
        self.story: list[str] = []

    async def __call__(self) -> Any:
        self.story.append("began")
        self.began.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.story.append("cancelled")
            # Closing a connection takes a few turns of the event loop.
            for _ in range(5):
                await asyncio.sleep(0)
            self.story.append("closed")
            raise
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def end(self, outcome: Any) -> None:
        self.outcome = outcome
        self.go.set()


class Stubborn(Side):
    """It does not heed that it is cancelled before ``go``."""

    async def __call__(self) -> Any:
        self.story.append("began")
        self.began.set()
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.story.append("cancelled")
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class Asked:
    """``may_hedge`` that counts how often it is asked."""

    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.times = 0

    def __call__(self) -> bool:
        self.times += 1
        return self.answer


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test in a loop of its own: it ends in time, leaves no task and no error that nobody saw."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        await asyncio.wait_for(main(), PATIENCE)
        gc.collect()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not hedge._LEFT

    asyncio.run(watched())
    gc.collect()
    assert complaints == []


async def hedged(first: Side, second: Side, discard: Callable[[Any], object] | None = None) -> asyncio.Task[Any]:
    """A race in which both run."""
    racing = asyncio.create_task(race(first, second, AT_ONCE, Asked(), discard))
    await first.began.wait()
    await second.began.wait()
    return racing


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# -- without a hedge ----------------------------------------------------------------------------------------------


def test_without_a_time_nothing_is_made_but_the_call() -> None:
    variable = contextvars.ContextVar("variable", default=0)

    async def main() -> None:
        async def first() -> tuple[Any, int]:
            variable.set(1)
            return asyncio.current_task(), len(asyncio.all_tasks())

        may_hedge = Asked()
        before = len(asyncio.all_tasks())
        (task, tasks), winner = await race(first, first, None, may_hedge)
        assert (task, tasks, winner) == (asyncio.current_task(), before, 0)
        assert (variable.get(), may_hedge.times) == (1, 0)

    run(main)


def test_a_first_that_is_in_time_has_no_rival() -> None:
    async def main() -> None:
        first, second, may_hedge = Side(), Side(), Asked()
        first.end("one")
        assert await race(first, second, NEVER, may_hedge) == ("one", 0)
        assert (second.story, may_hedge.times) == ([], 0)

    run(main)


@pytest.mark.parametrize("after", [None, NEVER])
def test_a_failure_before_the_hedge_ends_the_race(after: float | None) -> None:
    async def main() -> None:
        first, second, may_hedge = Side(), Side(), Asked()
        first.end(ServerError("one"))
        with pytest.raises(ServerError, match="one") as caught:
            await race(first, second, after, may_hedge)
        assert caught.value is first.outcome
        assert (second.story, may_hedge.times) == ([], 0)
        assert not hasattr(caught.value, "__notes__")

    run(main)


def test_without_leave_the_first_is_waited_for() -> None:
    async def main() -> None:
        first, second, may_hedge = Side(), Side(), Asked(answer=False)
        racing = asyncio.create_task(race(first, second, AT_ONCE, may_hedge))
        while not may_hedge.times:
            await asyncio.sleep(0)
        await turns()
        assert not racing.done()
        first.end("one")
        assert await racing == ("one", 0)
        assert (second.story, may_hedge.times) == ([], 1)

    run(main)


# -- who wins -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("winner", [0, 1])
def test_the_first_to_succeed_wins_and_the_loser_has_ended(winner: int) -> None:
    async def main() -> None:
        sides = Side(), Side()
        racing = await hedged(*sides)
        sides[winner].end("won")
        assert await racing == ("won", winner)
        assert sides[winner].story == ["began"]
        assert sides[1 - winner].story == ["began", "cancelled", "closed"]

    run(main)


@pytest.mark.parametrize("loser", [0, 1])
def test_when_one_fails_the_other_decides(loser: int) -> None:
    async def main() -> None:
        sides = Side(), Side()
        racing = await hedged(*sides)
        sides[loser].end(ServerError("lost"))
        await turns()
        assert not racing.done()
        sides[1 - loser].end("won")
        assert await racing == ("won", 1 - loser)
        assert sides[1 - loser].story == ["began"]

    run(main)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), None])
def test_when_both_fail_the_firsts_error_tells_of_the_others(order: tuple[int, int] | None) -> None:
    async def main() -> None:
        sides = Side(), Side()
        racing = await hedged(*sides)
        errors = ServerError("first"), ValueError("second, with sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD")
        for index in order or (0, 1):
            sides[index].end(errors[index])
            if order:
                await turns()
        with pytest.raises(ServerError) as caught:
            await racing
        assert caught.value is errors[0]
        (note,) = caught.value.__notes__
        assert note.startswith("the hedge failed as well: ValueError: second, with ")
        assert "abcdefghijklmnop" not in note

    run(main)


def test_of_two_at_once_the_first_wins_and_the_other_is_discarded() -> None:
    async def main() -> None:
        first, second = Side(), Side()
        discarded: list[Any] = []
        racing = await hedged(first, second, discarded.append)
        second.end("two")
        first.end("one")
        assert await racing == ("one", 0)
        assert discarded == ["two"]
        first, second = Side(), Side()
        racing = await hedged(first, second)
        second.end("two")
        first.end("one")
        assert await racing == ("one", 0), "and nobody need discard it"

    run(main)


@pytest.mark.parametrize("wins", [0, 1])
def test_a_side_that_is_cancelled_from_within_has_failed(wins: int) -> None:
    async def main() -> None:
        sides = Side(), Side()
        racing = await hedged(*sides)
        sides[1 - wins].end(asyncio.CancelledError())
        await turns()
        sides[wins].end("won")
        assert await racing == ("won", wins)
        alone = Side()
        alone.end(asyncio.CancelledError())
        with pytest.raises(asyncio.CancelledError):
            await race(alone, alone, NEVER, Asked())
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(main)


ENDS = ["succeeds", "fails", "is cancelled"]


@pytest.mark.parametrize("earlier", ["first", "second", "both"])
@pytest.mark.parametrize("two", ENDS)
@pytest.mark.parametrize("one", ENDS)
def test_any_ends_in_any_order(one: str, two: str, earlier: str) -> None:
    outcomes = {"succeeds": "answer", "fails": ServerError("failed"), "is cancelled": asyncio.CancelledError()}

    async def main() -> None:
        sides = Side(), Side()
        discarded: list[Any] = []
        racing = await hedged(*sides, discarded.append)
        for index in {"first": (0, 1), "second": (1, 0), "both": (0, 1)}[earlier]:
            sides[index].end(outcomes[(one, two)[index]])
            if earlier != "both":
                await turns()
        succeed = [index for index, end in enumerate((one, two)) if end == "succeeds"]
        if earlier == "second":
            succeed.reverse()
        if succeed:
            assert await racing == ("answer", succeed[0])
        else:
            with pytest.raises((ServerError, asyncio.CancelledError)) as caught:
                await racing
            assert isinstance(caught.value, ServerError) is (one == "fails")
        assert discarded == (["answer"] if len(succeed) == 2 and earlier == "both" else [])

    run(main)


# -- losers that take their time ----------------------------------------------------------------------------------


def test_a_loser_that_succeeds_while_it_is_cancelled_is_discarded() -> None:
    async def main() -> None:
        first, second = Stubborn(), Side()
        discarded: list[Any] = []
        racing = await hedged(first, second, discarded.append)
        second.end("two")
        while "cancelled" not in first.story:
            await asyncio.sleep(0)
        first.end("one")
        assert await racing == ("two", 1)
        assert discarded == ["one"]

    run(main)


@pytest.mark.parametrize("late", ["late answer", ServerError("late"), asyncio.CancelledError()])
def test_a_stubborn_loser_ends_in_the_background(late: Any) -> None:
    async def main() -> None:
        first, second = Stubborn(), Side()
        discarded: list[Any] = []
        racing = await hedged(first, second, discarded.append)
        second.end("two")
        assert await racing == ("two", 1)
        assert first.story == ["began", "cancelled"]
        (left,) = hedge._LEFT
        assert not left.done()
        first.end(late)
        await asyncio.wait([left])
        await turns(2)
        assert discarded == (["late answer"] if late == "late answer" else [])

    run(main)


def test_a_result_that_cannot_be_discarded_is_reported_and_the_winner_stands() -> None:
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        first, second = Side(), Side()
        racing = await hedged(first, second, lambda result: 1 / result)
        second.end(0)
        first.end("one")
        assert await racing == ("one", 0)

    asyncio.run(main())
    (complaint,) = complaints
    assert isinstance(complaint["exception"], ZeroDivisionError)
    assert complaint["message"] == "a hedge's result could not be discarded"


# -- the caller leaves --------------------------------------------------------------------------------------------


async def cancelled(racing: asyncio.Task[Any]) -> None:
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    assert racing.cancelled()


def test_a_caller_that_leaves_takes_both_along() -> None:
    async def main() -> None:
        first, second = Side(), Side()
        await cancelled(await hedged(first, second))
        assert first.story == second.story == ["began", "cancelled", "closed"]
        alone = Side()
        racing = asyncio.create_task(race(alone, Side(), NEVER, Asked()))
        await alone.began.wait()
        await cancelled(racing)
        assert alone.story == ["began", "cancelled", "closed"]

    run(main)


def test_a_caller_that_leaves_waits_for_the_end_and_cancels_again() -> None:
    async def main() -> None:
        first, second = Stubborn(), Side()
        racing = await hedged(first, second)
        for times in (1, 2, 3):
            racing.cancel()
            await turns()
            assert not racing.done()
            assert first.story == ["began"] + ["cancelled"] * times
        first.end(ServerError("late"))
        with pytest.raises(asyncio.CancelledError):
            await racing
        assert second.story == ["began", "cancelled", "closed"]

    run(main)


def test_a_caller_that_leaves_while_the_loser_ends_takes_no_result() -> None:
    async def main() -> None:
        first, second = Stubborn(), Side()
        discarded: list[Any] = []
        racing = await hedged(first, second, discarded.append)
        second.end("two")
        while "cancelled" not in first.story:
            await asyncio.sleep(0)
        racing.cancel()
        await turns()
        assert not racing.done()
        assert first.story == ["began", "cancelled"], "once is enough"
        first.end("one")
        with pytest.raises(asyncio.CancelledError):
            await racing
        assert discarded == ["one", "two"]

    run(main)


def test_a_caller_that_leaves_at_the_moment_of_success_takes_no_result() -> None:
    async def main() -> None:
        first, second = Side(), Side()
        discarded: list[Any] = []
        racing = await hedged(first, second, discarded.append)
        first.end("one")
        await asyncio.sleep(0)  # first has ended, and the race does not know it yet
        await cancelled(racing)
        assert discarded == ["one"]
        assert second.story == ["began", "cancelled", "closed"]

    run(main)


def test_a_time_limit_around_it_is_a_time_limit() -> None:
    async def main() -> None:
        first, second = Side(), Side()

        async def limited() -> None:
            async with asyncio.timeout(None) as limit:
                both = asyncio.gather(first.began.wait(), second.began.wait())
                both.add_done_callback(lambda _both: limit.reschedule(0))
                await race(first, second, AT_ONCE, Asked())

        with pytest.raises(TimeoutError):
            await limited()
        assert first.story == second.story == ["began", "cancelled", "closed"]
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(main)


def test_a_time_limit_inside_is_the_sides_own() -> None:
    async def main() -> None:
        second = Side()

        async def first() -> None:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()

        with pytest.raises(TimeoutError):
            await race(first, second, NEVER, Asked())

        async def late() -> None:
            await second.began.wait()
            async with asyncio.timeout(0):
                await asyncio.Event().wait()

        racing = asyncio.create_task(race(late, second, AT_ONCE, Asked()))
        await second.began.wait()
        await turns()
        assert not racing.done()
        second.end("two")
        assert await racing == ("two", 1)

    run(main)


def test_an_error_of_may_hedge_stops_the_first() -> None:
    async def main() -> None:
        first, second = Side(), Side()
        with pytest.raises(ZeroDivisionError):
            await race(first, second, AT_ONCE, lambda: bool(1 / 0))
        assert (first.story, second.story) == (["began", "cancelled", "closed"], [])

    run(main)


def test_a_race_that_is_closed_from_outside_cancels_both() -> None:
    async def main() -> None:
        first, second = Side(), Side()
        racing = race(first, second, NEVER, Asked())
        waiting = racing.send(None)
        await first.began.wait()
        racing.close()
        assert waiting is not None
        while hedge._LEFT:
            await asyncio.sleep(0)
        assert first.story == ["began", "cancelled", "closed"]

    run(main)


# -- around it ----------------------------------------------------------------------------------------------------


def test_each_side_has_a_copy_of_the_callers_context() -> None:
    variable = contextvars.ContextVar("variable", default="none")

    async def main() -> None:
        variable.set("caller")
        seen = []
        rival = asyncio.Event()

        async def side(name: str, until: Awaitable[Any] | None) -> str:
            seen.append((name, variable.get()))
            variable.set(name)
            if until is not None:
                await until
            return variable.get()

        def second() -> Coroutine[Any, Any, str]:
            rival.set()
            return side("second", None)

        assert await race(lambda: side("first", asyncio.Event().wait()), second, AT_ONCE, Asked()) == ("second", 1)
        assert rival.is_set()
        assert seen == [("first", "caller"), ("second", "caller")]
        assert variable.get() == "caller"

    run(main)


def test_an_error_is_freed_with_its_last_reference() -> None:
    class Marker:
        pass

    async def main() -> None:
        held: list[weakref.ref[Marker]] = []

        async def first() -> None:
            marker = Marker()
            held.append(weakref.ref(marker))
            raise KeyError

        for after in (None, NEVER):
            gc.disable()
            try:
                with contextlib.suppress(KeyError):
                    await race(first, first, after, Asked())
                assert held.pop()() is None, "without the garbage collector"
            finally:
                gc.enable()

    run(main)


def test_the_losers_connection_is_closed_when_the_winner_is_there() -> None:
    async def main() -> None:
        closed = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            name = (await reader.readline()).decode().strip()
            if name == "quick":
                writer.write(b"answer\n")
            await reader.read()
            closed.append(name)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ended = []

        async def ask(name: str) -> str:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"{name}\n".encode())
                return (await reader.readline()).decode().strip()
            finally:
                writer.close()
                await writer.wait_closed()
                ended.append(name)

        assert await race(lambda: ask("silent"), lambda: ask("quick"), AT_ONCE, Asked()) == ("answer", 1)
        assert sorted(ended) == ["quick", "silent"]
        while len(closed) < 2:
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()
        await turns()

    run(main)


# -- how many -----------------------------------------------------------------------------------------------------


def granted(budget: HedgeBudget, asked: int) -> int:
    return sum(budget.try_hedge() for _ in range(asked))


def test_a_tenth_of_the_calls_is_hedged() -> None:
    budget = HedgeBudget(0.1)
    assert granted(budget, 100) == 5, "the burst"
    for calls, hedges in ((9, 0), (1, 1), (19, 1), (1, 1), (1000, 5)):
        for _ in range(calls):
            budget.deposit()
        assert granted(budget, 100) == hedges
    assert budget.saved == 0.0


def test_share_and_burst_can_be_chosen() -> None:
    all_calls = HedgeBudget(1.0, burst=1)
    for _ in range(5):
        all_calls.deposit()
        assert granted(all_calls, 2) == 1
    few = HedgeBudget(0.001, burst=2.5)
    assert (few.saved, granted(few, 9), few.saved) == (2.5, 2, 0.5)
    for _ in range(499):
        few.deposit()
    assert granted(few, 1) == 0
    few.deposit()
    assert granted(few, 2) == 1


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=40),
    st.sampled_from([0.001, 0.05, 0.1, 0.3, 1 / 3, 0.7, 1.0]),
    st.sampled_from([1.0, 1.5, 5.0, 20.0]),
)
def test_no_run_of_calls_has_more_than_its_share(story: list[tuple[int, int]], share: float, burst: float) -> None:
    budget = HedgeBudget(share, burst)
    made = []
    for calls, asked in story:
        for _ in range(calls):
            budget.deposit()
        made.append((calls, granted(budget, asked)))
    exact = Fraction(round(share * 10**9), 10**9)
    for first in range(len(made)):
        calls = hedges = 0
        for some, hedged_now in made[first:]:
            calls += some
            hedges += hedged_now
            assert hedges <= Fraction(burst) + exact * calls
    # And what is allowed is not withheld.
    saved = Fraction(burst)
    for (calls, asked), (_, hedges) in zip(story, made, strict=True):
        saved = min(Fraction(burst), saved + exact * calls)
        assert hedges == min(asked, math.floor(saved))
        saved -= hedges


def test_races_under_a_budget() -> None:
    async def main() -> None:
        budget = HedgeBudget(0.1, burst=2)

        refused = asyncio.Event()

        def may_hedge() -> bool:
            leave = budget.try_hedge()
            if not leave:
                refused.set()
            return leave

        async def slow() -> str:
            await refused.wait()
            return "slow"

        async def quick() -> str:
            return "quick"

        won = []
        for _ in range(50):
            refused.clear()
            budget.deposit()
            won.append((await race(slow, quick, AT_ONCE, may_hedge))[1])
        assert sum(won) == 2 + 4

    run(main)


def test_threads_share_one_budget() -> None:
    budget = HedgeBudget(0.5, burst=2000)
    assert granted(budget, 2000) == 2000

    def work() -> int:
        won = 0
        for _ in range(500):
            budget.deposit()
            won += budget.try_hedge()
        return won

    won = at_once(work)
    assert sum(won) + granted(budget, 9000) == 8 * 500 // 2


def test_a_forked_child_has_a_new_bucket_and_its_own_lock() -> None:
    fork_while_held(
        "budget._lock",
        before="""
            from llm_master.policy.hedge import HedgeBudget

            budget = HedgeBudget(0.5, burst=2)
            assert budget.try_hedge() and budget.try_hedge() and not budget.try_hedge()
        """,
        child="assert [budget.try_hedge() for _ in range(3)] == [True, True, False]",
        after="assert not budget.try_hedge()",
    )


def test_a_policy_is_a_time_and_a_share() -> None:
    assert HedgePolicy(after=2) == HedgePolicy(after=2.0, max_share=0.1)
    with pytest.raises(TypeError):
        HedgePolicy(2)  # type: ignore[call-arg]  # by name only is what is tried
    with pytest.raises(AttributeError):
        HedgePolicy(after=2).after = 3  # type: ignore[misc]  # frozen is what is tried


@pytest.mark.parametrize("odd", [0, -1, math.nan, math.inf, True, "3", None])
def test_a_wrong_time_is_refused(odd: Any) -> None:
    with pytest.raises(InvalidRequestError, match="after="):
        HedgePolicy(after=odd)


@pytest.mark.parametrize("odd", [0, -0.1, 1.1, math.nan, True, "0.1", None])
def test_a_wrong_share_is_refused(odd: Any) -> None:
    with pytest.raises(InvalidRequestError, match="max_share="):
        HedgePolicy(after=1, max_share=odd)
    with pytest.raises(InvalidRequestError, match="max_share="):
        HedgeBudget(odd)


@pytest.mark.parametrize("odd", [0, 0.99, math.nan, math.inf, True, "5", None])
def test_a_wrong_burst_is_refused(odd: Any) -> None:
    with pytest.raises(InvalidRequestError, match="burst="):
        HedgeBudget(0.1, burst=odd)
