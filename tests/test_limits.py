"""
The limits of one process: never exceeded in any 60 seconds, waited for in order, and nothing left behind.
"""

from __future__ import annotations

import asyncio
import gc
import math
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.limits_model import KEYS, Model, compare, made_limits, steps
from support.time_loop import START, TimeLoop

from llm_master.errors import ConfigurationError, InvalidRequestError, RateLimitError
from llm_master.policy.limits import Limit, MemoryLimiter, Reservation


class Clock:
    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def in_time(program: Callable[[MemoryLimiter, TimeLoop], Awaitable[Any]]) -> Any:
    """Run a coroutine in simulated time, with a limiter on the loop's clock; nothing may be left behind."""

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        limiter = MemoryLimiter(loop.time)
        result = await program(limiter, loop)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (limiter._lines, limiter._claimed, list(limiter._later)) == ({}, {}, [])
        assert [handle for handle in loop._scheduled if not handle.cancelled()] == []
        return result

    with asyncio.Runner(loop_factory=TimeLoop) as runner:
        return runner.run(main())


def got(reservation: Reservation | float) -> Reservation:
    assert isinstance(reservation, Reservation)
    return reservation


async def settled(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def check_sums(limiter: MemoryLimiter) -> None:
    for window in limiter._windows.values():
        assert window.request_sum == sum(window.requests)
        assert window.token_sum == sum(window.tokens)
        assert min(window.requests) >= 0
        assert min(window.tokens) >= 0
        assert window.inflight >= 0


# -- what a limit may be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rpm", "tpm", "max_concurrency"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1.5, True, "60"])
def test_a_limit_that_lets_nothing_through_is_refused_when_made(kind: str, value: Any) -> None:
    setting = "max_concurrency" if kind == "max_concurrency" else f"rate_limit_{kind}"
    with pytest.raises(ConfigurationError, match=rf"{setting}=.*'model:x'.*whole number of at least 1"):
        Limit("model:x", **{kind: value})


@pytest.mark.parametrize("tokens", [-1, math.nan, 2.0, True, None, "5"])
def test_an_estimate_that_is_no_count_is_refused(tokens: Any) -> None:
    with pytest.raises(InvalidRequestError, match="tokens="):
        MemoryLimiter().try_acquire((Limit("model:x", tpm=5),), tokens)


def test_a_call_larger_than_its_limit_fails_at_once_and_names_the_setting() -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        limits = (Limit("provider:y"), Limit("model:x", tpm=100))
        with pytest.raises(RateLimitError, match=r"'x' at y needs up to 101 tokens.*rate_limit_tpm") as caught:
            await limiter.acquire(limits, 101, provider="y", model="x")
        error = caught.value
        assert (error.provider, error.model, error.code) == ("y", "x", "reservation_too_large")
        assert (error.retryable, error.retry_after) == (False, None)
        assert loop.now == START
        limiter.settle(await limiter.acquire(limits, 100))

    in_time(program)


def test_no_limit_limits_nothing() -> None:
    limiter = MemoryLimiter(Clock())
    for limits in ((), (Limit("model:x"),)):
        for _ in range(200):
            got(limiter.try_acquire(limits, 10**9))


# -- arithmetic -------------------------------------------------------------------------------------------------------


def test_a_place_in_the_minute_comes_back_when_no_60_seconds_can_hold_both() -> None:
    clock = Clock(1000.99)
    limiter = MemoryLimiter(clock)
    limits = (Limit("model:x", rpm=1),)
    limiter.settle(got(limiter.try_acquire(limits, 0)))
    assert limiter.try_acquire(limits, 0) == pytest.approx(60.01)
    clock.now = 1060.999
    assert limiter.try_acquire(limits, 0) == pytest.approx(0.001)
    clock.now = 1061.0
    got(limiter.try_acquire(limits, 0))


def test_a_refused_call_leaves_nothing_under_its_other_limits() -> None:
    limiter = MemoryLimiter(Clock())
    roomy, full = Limit("provider:y", rpm=2, tpm=20, max_concurrency=2), Limit("model:x", max_concurrency=1)
    got(limiter.try_acquire((full,), 1))
    for limits in ((roomy, full), (full, roomy)):
        assert limiter.try_acquire(limits, 10) == math.inf
    got(limiter.try_acquire((roomy,), 10))
    got(limiter.try_acquire((roomy,), 10))


def test_settling_charges_or_refunds_the_second_of_the_reservation_once() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    limits = (Limit("model:x", tpm=100),)
    first = got(limiter.try_acquire(limits, 60))
    clock.now += 5
    assert limiter.try_acquire(limits, 41) == pytest.approx(1061 - clock.now)
    limiter.settle(first, tokens=10)
    limiter.settle(first, tokens=0)
    limiter.cancel(first)
    second = got(limiter.try_acquire(limits, 90))
    limiter.settle(second, tokens=150)
    assert limiter.try_acquire(limits, 1) == pytest.approx(1066 - clock.now)
    clock.now = 1066.0
    third = got(limiter.try_acquire(limits, 100))
    limiter.settle(third)
    assert limiter.try_acquire(limits, 1) == pytest.approx(61.0)
    check_sums(limiter)


def test_a_call_cancelled_before_sending_gives_everything_back() -> None:
    limiter = MemoryLimiter(Clock())
    limits = (Limit("model:x", rpm=1, tpm=5, max_concurrency=1), Limit("tag:a", rpm=1))
    for _ in range(3):
        limiter.cancel(got(limiter.try_acquire(limits, 5)))
    check_sums(limiter)


def test_a_key_named_by_two_limits_is_counted_once() -> None:
    limiter = MemoryLimiter(Clock())
    limits = (Limit("model:x", rpm=3), Limit("model:x", tpm=30))
    held = [got(limiter.try_acquire(limits, 10)) for _ in range(3)]
    assert limiter._windows["model:x"].inflight == 3
    for each in held:
        limiter.settle(each)
    assert limiter._windows["model:x"].inflight == 0
    check_sums(limiter)


def test_a_call_that_outlives_the_minute_changes_no_later_second() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    limits = (Limit("model:x", tpm=10, max_concurrency=2),)
    old = got(limiter.try_acquire(limits, 10))
    clock.now += 61
    got(limiter.try_acquire(limits, 10))
    limiter.settle(old, tokens=0)
    assert limiter._windows["model:x"].token_sum == 10
    assert limiter._windows["model:x"].inflight == 1
    check_sums(limiter)


@settings(max_examples=300, deadline=None)
@given(made_limits, steps)
def test_every_answer_is_that_of_the_plain_model(rules: dict[str, Limit], program: list[tuple[Any, ...]]) -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)

    def end(reservation: Reservation, tokens: int | None, undo: bool) -> None:
        for _ in range(2):  # ending twice changes nothing
            if undo:
                limiter.cancel(reservation)
            else:
                limiter.settle(reservation, tokens)

    def check(model: Model) -> None:
        check_sums(limiter)
        for key, window in limiter._windows.items():
            assert window.inflight == model.used(key, clock.now)[2]

    compare(rules, program, time=clock, take=limiter.try_acquire, end=end, check=check)


# -- the line ---------------------------------------------------------------------------------------------------------


def test_callers_go_in_the_order_they_came() -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        gone: list[tuple[int, float]] = []

        async def call(number: int) -> None:
            held = await limiter.acquire((Limit("model:x", rpm=2),), 1)
            gone.append((number, loop.now))
            assert held.waited == pytest.approx(loop.now - START)
            assert held.wait_reason == (None if number < 2 else "model:x rpm" if number == 2 else held.wait_reason)
            limiter.settle(held)

        await asyncio.gather(*(call(number) for number in range(7)))
        assert [number for number, _ in gone] == list(range(7))
        expected = [START, START, 1061, 1061, 1122, 1122, 1183]
        assert [at for _, at in gone] == pytest.approx(expected, abs=0.01)

    in_time(program)


def test_a_small_call_does_not_pass_a_large_one_at_the_same_limit() -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        limits = (Limit("model:x", tpm=100),)
        order = []

        async def call(tokens: int) -> None:
            limiter.settle(await limiter.acquire(limits, tokens))
            order.append(tokens)

        await call(60)
        large = asyncio.create_task(call(80))
        await settled()
        small = asyncio.create_task(call(10))
        await settled()
        assert isinstance(limiter.try_acquire(limits, 1), float)
        assert order == [60]
        await asyncio.gather(large, small)
        assert order == [60, 80, 10]

    in_time(program)


def test_a_waiter_holds_up_only_who_shares_what_it_waits_for() -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        a, b, shared = Limit("model:a", rpm=1), Limit("model:b", rpm=9), Limit("provider:p", rpm=9)
        got(limiter.try_acquire((a, shared), 1))
        waiting = asyncio.create_task(limiter.acquire((a, shared), 1))
        await settled()
        got(limiter.try_acquire((b, shared), 1))
        assert isinstance(limiter.try_acquire((a,), 1), float)
        await waiting

    in_time(program)


def test_two_busy_limits_in_turn_cannot_pass_a_waiter_for_ever() -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        a, b = Limit("model:a", max_concurrency=1), Limit("tag:b", max_concurrency=1)
        on_a, on_b = got(limiter.try_acquire((a,), 1)), got(limiter.try_acquire((b,), 1))
        both = asyncio.create_task(limiter.acquire((a, b), 1))
        await settled()
        limiter.settle(on_a)
        on_a = got(limiter.try_acquire((a,), 1))  # only b is exhausted for the waiter: a may be used meanwhile
        limiter.settle(on_b)
        await settled()
        assert isinstance(limiter.try_acquire((b,), 1), float)  # each has had room once: now it holds both
        limiter.settle(on_a)
        limiter.settle(await both)

    in_time(program)


def test_what_a_call_does_not_use_goes_to_the_next_at_once() -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        limits = (Limit("model:x", tpm=100),)
        first = await limiter.acquire(limits, 100)
        waiting = asyncio.create_task(limiter.acquire(limits, 90, timeout=2))
        await settled()
        limiter.settle(first, tokens=10)
        limiter.settle(await waiting)
        assert loop.now == START

    in_time(program)


@pytest.mark.parametrize("kind", ["rpm", "tpm", "provider"])
def test_a_wait_that_only_time_can_end_fails_at_once_when_it_is_too_long(kind: str) -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        limits = (Limit("model:x", rpm=1 if kind == "rpm" else None, tpm=5 if kind == "tpm" else None),)
        limiter.settle(await limiter.acquire(limits, 5))
        if kind == "provider":
            limiter.observe(["model:x"], {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "60.75"})
        with pytest.raises(RateLimitError) as caught:
            await limiter.acquire(limits, 5, timeout=60.5, provider="y", model="x")
        assert loop.now == START
        assert caught.value.retry_after == pytest.approx(60.75)
        limiter.settle(await limiter.acquire(limits, 5, timeout=61))
        assert loop.now == pytest.approx(1061, abs=0.01)

    in_time(program)


def test_a_wait_that_another_call_may_end_lasts_to_the_deadline() -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        limits = (Limit("model:x", tpm=5, max_concurrency=2),)
        held = [await limiter.acquire(limits, 5)]
        with pytest.raises(RateLimitError, match=r"5 tokens in a minute.*rate_limit_tpm"):
            await limiter.acquire(limits, 5, timeout=7)
        assert loop.now == pytest.approx(START + 7)
        held.append(await limiter.acquire(limits, 0))
        with pytest.raises(RateLimitError, match=r"2 calls at a time.*raise max_concurrency.*7 s of waiting") as caught:
            await limiter.acquire(limits, 0, timeout=7, provider="y", model="x")
        assert caught.value.retry_after is None
        assert loop.now == pytest.approx(START + 14)
        for each in held:
            limiter.settle(each)

    in_time(program)


def test_hope_that_ends_while_waiting_is_told_at_once() -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        limits = (Limit("model:x", tpm=5),)
        held = await limiter.acquire(limits, 5)
        waiting = [asyncio.create_task(limiter.acquire(limits, 5, timeout=7)) for _ in range(2)]
        await asyncio.sleep(1)
        limiter.settle(held)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [RateLimitError] * 2
        assert loop.now == pytest.approx(START + 1)

    in_time(program)


@pytest.mark.parametrize("timeout", [0, -1, math.nan])
def test_a_call_that_does_not_wait_is_told_how_long_it_would(timeout: float) -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        limits = (Limit("tag:team-a", rpm=60),)
        for _ in range(60):
            limiter.settle(await limiter.acquire(limits, 5, timeout=timeout))
        with pytest.raises(RateLimitError) as caught:
            await limiter.acquire(limits, 5, timeout=timeout, provider="y", model="x")
        error = caught.value
        assert str(error).startswith("the call of 'x' at y is over a limit: tag:team-a allows 60 requests in a minute")
        assert "try again in 60.8 s, raise rate_limit_rpm" in str(error)
        assert (error.provider, error.model, error.code, error.retryable) == ("y", "x", "local_rate_limit", False)
        assert error.retry_after == pytest.approx(60.75)
        assert loop.now == START

    in_time(program)


def test_a_call_behind_others_is_told_so() -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        limits = (Limit("model:x", tpm=10),)
        limiter.settle(await limiter.acquire(limits, 5))
        waiting = asyncio.create_task(limiter.acquire(limits, 10))
        await settled()
        with pytest.raises(RateLimitError, match="other calls wait first under model:x") as caught:
            await limiter.acquire(limits, 1, timeout=0)
        assert caught.value.retry_after == pytest.approx(60.75)
        with pytest.raises(RateLimitError):
            await limiter.acquire(limits, 1, timeout=20)
        assert loop.now == START
        await waiting

    in_time(program)


def test_a_cancelled_waiter_makes_room_for_the_next() -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        limits = (Limit("model:x", tpm=10),)
        limiter.settle(await limiter.acquire(limits, 5))
        large = asyncio.create_task(limiter.acquire(limits, 10))
        small = asyncio.create_task(limiter.acquire(limits, 5))
        await settled()
        assert not small.done()
        large.cancel()
        limiter.settle(await small)
        assert (loop.now, large.cancelled()) == (START, True)

    in_time(program)


def test_a_waiter_cancelled_as_its_turn_comes_gives_it_to_the_next() -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        limits = (Limit("model:x", rpm=2, max_concurrency=1),)
        held = await limiter.acquire(limits, 5)
        first = asyncio.create_task(limiter.acquire(limits, 5))
        second = asyncio.create_task(limiter.acquire(limits, 5))
        await settled()
        limiter.settle(held)
        first.cancel()
        limiter.settle(await second)
        assert (loop.now, first.cancelled()) == (START, True)
        check_sums(limiter)

    in_time(program)


calls = st.lists(
    st.tuples(
        st.floats(0, 90),  # arrives
        st.integers(1, 10),  # estimate
        st.integers(0, 10),  # share of it really used, in tenths
        st.floats(0, 80),  # takes
        st.one_of(st.none(), st.floats(0, 100)),  # waits at most
        st.one_of(st.none(), st.floats(0, 100)),  # is cancelled
        st.sampled_from([KEYS[:1], KEYS[1:2], (KEYS[0], KEYS[2]), (KEYS[1], KEYS[2])]),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(calls)
def test_no_60_seconds_hold_more_than_a_limit_and_every_call_ends(plan: list[tuple[Any, ...]]) -> None:
    rules = {KEYS[0]: Limit(KEYS[0], 3, 20, 2), KEYS[1]: Limit(KEYS[1], 5, 15), KEYS[2]: Limit(KEYS[2], 6, 30, 3)}

    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        sent: list[tuple[float, int, tuple[str, ...], int]] = []
        open_calls = dict.fromkeys(KEYS, 0)
        arrived: list[int] = []

        async def call(number: int) -> None:
            after, estimate, share, takes, patience, _, keys = plan[number]
            await asyncio.sleep(after)
            arrived.append(number)
            held = await limiter.acquire([rules[key] for key in keys], estimate, timeout=patience)
            real = estimate * share // 10
            sent.append((loop.now, real, keys, number))
            for key in keys:
                open_calls[key] += 1
                assert open_calls[key] <= (rules[key].max_concurrency or math.inf)
            try:
                await asyncio.sleep(takes)
            finally:
                for key in keys:
                    open_calls[key] -= 1
                limiter.settle(held, real)
            check_sums(limiter)

        tasks = [asyncio.create_task(call(number)) for number in range(len(plan))]
        for task, (*_, cancelled, _) in zip(tasks, plan, strict=True):
            if cancelled is not None:
                loop.call_later(cancelled, task.cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(1000)
        assert all(isinstance(result, None | RateLimitError | asyncio.CancelledError) for result in results), results
        assert all(window.inflight == 0 for window in limiter._windows.values())
        for key, rule in rules.items():
            mine = [(at, tokens) for at, tokens, keys, _ in sent if key in keys]
            for begin, _ in mine:
                within = [tokens for at, tokens in mine if begin <= at <= begin + 60]
                assert len(within) <= (rule.rpm or math.inf)
                assert sum(within) <= (rule.tpm or math.inf)
        for keys in {entry[2] for entry in sent}:
            # Who was let go in one moment may wake in any order, so times are compared, not the list's order.
            mine_at = {number: at for at, _, theirs, number in sent if theirs == keys}
            times = [mine_at[number] for number in arrived if number in mine_at]
            assert times == sorted(times)

    in_time(program)


def test_thousands_wait_and_all_go() -> None:
    async def program(limiter: MemoryLimiter, loop: TimeLoop) -> None:
        limits = (Limit("model:x", rpm=1000, max_concurrency=50), Limit("provider:y", max_concurrency=40))
        order = []

        async def call(number: int) -> None:
            held = await limiter.acquire(limits, 5)
            order.append(number)
            await asyncio.sleep(0.01)
            limiter.settle(held)

        await asyncio.gather(*(call(number) for number in range(3000)))
        assert order == list(range(3000))
        assert 1122 < loop.now < 1124

    in_time(program)


# -- a provider's headers ---------------------------------------------------------------------------------------------

OPENAI = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
TOKENS = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")
ANTHROPIC = tuple(f"anthropic-ratelimit-output-tokens-{word}" for word in ("limit", "remaining", "reset"))
NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("names", "values", "seconds"),
    [
        (OPENAI, ("60", "0", "12s"), 12.0),
        (OPENAI, (None, "0", "1m12.5s"), 72.5),
        (TOKENS, ("150000", "0", "17ms"), 0.017),
        (TOKENS, ("150000", "0", "3"), 3.0),
        (ANTHROPIC, ("8000", "0", "2023-11-14T22:13:32Z"), 12.0),
        (ANTHROPIC, ("8000", "0", "2023-11-14T23:13:32+01:00"), 12.0),
        (ANTHROPIC, ("8000", "0", "2023-11-14T22:13:32"), 12.0),
        # something remains, or nothing usable is said
        (OPENAI, ("60", "1", "12s"), None),
        (OPENAI, ("60", "-1", "12s"), None),
        (OPENAI, ("-1", "0", "12s"), None),
        (OPENAI, ("0", "0", "12s"), None),
        (OPENAI, ("many", "0", "12s"), None),
        (OPENAI, ("60", "none", "12s"), None),
        (OPENAI, ("60", "0", None), None),
        (OPENAI, ("60", "0", "soon"), None),
        (OPENAI, ("60", "0", "12 bananas"), None),
        (OPENAI, ("60", "0", "-12s"), None),
        (OPENAI, ("60", "0", "nan"), None),
        (OPENAI, ("60", "0", "25h"), None),
        (ANTHROPIC, ("8000", "0", "2023-11-14T22:13:00Z"), None),
        (ANTHROPIC, ("8000", "0", "2023-99-14T22:13:32Z"), None),
    ],
)
def test_a_provider_with_nothing_left_stops_calls_until_its_reset(
    names: tuple[str, ...], values: tuple[str | None, ...], seconds: float | None
) -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    limits = (Limit("provider:y", rpm=1000),)
    headers = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    limiter.observe(["provider:y", "model:x"], headers, NOW)
    answer = limiter.try_acquire(limits, 1)
    if seconds is None:
        assert isinstance(answer, Reservation)
    else:
        assert answer == pytest.approx(seconds)
        limiter.observe(["provider:y"], {OPENAI[1]: "900", OPENAI[2]: "1s"}, NOW)
        limiter.observe(["provider:y"], {OPENAI[1]: "0", OPENAI[2]: "1ms"}, NOW)
        assert limiter.try_acquire(limits, 1) == pytest.approx(seconds)
        assert limiter.try_acquire((Limit("model:x"),), 1) == pytest.approx(seconds)
        clock.now += seconds + 1e-6
        got(limiter.try_acquire((*limits, Limit("model:x")), 1))


def test_headers_never_loosen_what_the_user_set() -> None:
    limiter = MemoryLimiter(Clock())
    limits = (Limit("model:x", rpm=1),)
    got(limiter.try_acquire(limits, 1))
    limiter.observe(["model:x"], {OPENAI[0]: "5000", OPENAI[1]: "4999", OPENAI[2]: "0s"}, NOW)
    assert limiter.try_acquire(limits, 1) == pytest.approx(60.75)


# -- threads, loops, processes, memory --------------------------------------------------------------------------------


def test_threads_together_take_no_more_than_there_is() -> None:
    limiter = MemoryLimiter(Clock())
    limits = (Limit("model:x", rpm=1000, tpm=10_000), Limit("tag:a", max_concurrency=6))
    taken: list[int] = []

    def work() -> None:
        for number in range(2000):
            answer = limiter.try_acquire(limits, 5)
            if isinstance(answer, Reservation):
                assert limiter._windows["tag:a"].inflight <= 6
                if number % 3:
                    limiter.settle(answer, 7)
                    taken.append(7)
                else:
                    limiter.cancel(answer)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    window = limiter._windows["model:x"]
    assert (window.request_sum, window.token_sum, window.inflight) == (len(taken), sum(taken), 0)
    assert len(taken) == 1000
    check_sums(limiter)


def test_a_waiter_is_woken_in_its_own_loop_by_a_call_of_another() -> None:
    limiter = MemoryLimiter()
    limits = (Limit("model:x", max_concurrency=3),)
    guard, running, most, ended = threading.Lock(), [0], [0], [0]

    async def call() -> None:
        held = await limiter.acquire(limits, 1, timeout=60)
        with guard:
            running[0] += 1
            most[0] = max(most[0], running[0])
        await settled(3)
        with guard:
            running[0] -= 1
            ended[0] += 1
        limiter.settle(held)

    async def many() -> None:
        await asyncio.gather(*(call() for _ in range(100)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (ended, most, running) == ([400], [3], [0])
    assert (limiter._lines, limiter._claimed) == ({}, {})


def test_a_loop_that_was_closed_with_waiters_holds_nobody_up() -> None:
    limiter = MemoryLimiter()
    limits = (Limit("model:x", max_concurrency=1),)
    held = got(limiter.try_acquire(limits, 1))
    loop = asyncio.new_event_loop()
    waiting = limiter.acquire(limits, 1)
    task = loop.create_task(waiting)
    loop.run_until_complete(settled())
    loop.close()
    limiter.settle(held)
    limiter.settle(got(limiter.try_acquire(limits, 1)))
    task._log_destroy_pending = False
    del task, waiting
    gc.collect()
    assert limiter._lines == {}
    got(limiter.try_acquire(limits, 1))


def test_settling_while_the_lock_is_held_is_done_when_it_is_let_go() -> None:
    # A finalizer may run at any allocation, also inside the limiter, in the very thread that holds its lock.
    clock = Clock()
    inside: list[Callable[[], None]] = []

    def interrupted() -> float:
        while inside:
            inside.pop()()
        return clock()

    limiter = MemoryLimiter(interrupted)
    limits = (Limit("model:x", rpm=3, max_concurrency=2),)
    first, second = got(limiter.try_acquire(limits, 1)), got(limiter.try_acquire(limits, 1))
    inside += [lambda: limiter.settle(first), lambda: limiter.cancel(second)]
    assert limiter.try_acquire(limits, 1) == math.inf
    assert limiter._windows["model:x"].inflight == 0
    got(limiter.try_acquire(limits, 1))
    got(limiter.try_acquire(limits, 1))
    check_sums(limiter)


FORKED = """
import os, signal
from llm_master.policy.limits import Limit, MemoryLimiter, Reservation
limiter = MemoryLimiter(lambda: 1000.0)
limits = (Limit("model:x", rpm=3, max_concurrency=1),)
held = limiter.try_acquire(limits, 1)
limiter._lock.acquire()
child = os.fork()
if not child:
    signal.alarm(20)
    limiter.settle(held)
    mine = limiter.try_acquire(limits, 1)
    assert isinstance(mine, Reservation)
    assert limiter.try_acquire(limits, 1) == float("inf")
    limiter.settle(mine)
    assert isinstance(limiter.try_acquire(limits, 1), Reservation)
    assert limiter.try_acquire(limits, 1) == 61.0
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
limiter._lock.release()
assert limiter._windows["model:x"].inflight == 1
"""


def test_a_forked_child_has_its_own_lock_and_places() -> None:
    command = [sys.executable, "-W", "error", "-c", FORKED]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_idle_keys_are_forgotten_and_busy_ones_are_not() -> None:
    clock = Clock()
    limiter = MemoryLimiter(clock)
    held = got(limiter.try_acquire((Limit("tag:held", max_concurrency=1),), 1))
    limiter.observe(["tag:stopped"], {OPENAI[1]: "0", OPENAI[2]: "23h"})
    most = 0
    for number in range(20_000):
        clock.now += 1
        limiter.settle(got(limiter.try_acquire((Limit(f"tag:{number}", rpm=1),), 1)))
        most = max(most, len(limiter._windows))
    assert most <= 300
    assert limiter.try_acquire((Limit("tag:held", max_concurrency=1),), 1) == math.inf
    assert isinstance(limiter.try_acquire((Limit("tag:stopped"),), 1), float)
    limiter.settle(held)
