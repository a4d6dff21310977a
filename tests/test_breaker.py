"""
A circuit breaker opens on failures, lets one probe through at a time, and gives a recovered deployment its calls back.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.held_fork import fork_while_held
from support.threads import at_once

from llm_master.errors import ConfigurationError
from llm_master.policy.breaker import Breaker, BreakerPolicy

POLICY = BreakerPolicy(failures=3, failure_rate=None, cooldown=1.0, max_cooldown=8.0, steady=60.0)
ONLY_RATE = BreakerPolicy(failures=1000, failure_rate=0.5, window=10, min_calls=4, window_seconds=60.0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def breaker_at(policy: BreakerPolicy = POLICY) -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(policy, clock), clock


def trip(breaker: Breaker) -> None:
    for _ in range(breaker.policy.failures):
        breaker.fail(breaker.try_enter(), "server")
    assert breaker.state == "open"


def opened(policy: BreakerPolicy = POLICY) -> tuple[Breaker, Clock]:
    breaker, clock = breaker_at(policy)
    trip(breaker)
    return breaker, clock


# -- opening -----------------------------------------------------------------------------------------------------


def test_failures_in_a_row_open_it() -> None:
    breaker, clock = breaker_at()
    for ok in (False, False, True, False, False):
        ticket = breaker.try_enter()
        assert ticket
        breaker.success(ticket) if ok else breaker.fail(ticket, "server")
    assert (breaker.state, breaker.opens_until, breaker.cooling()) == ("closed", None, None)
    clock.now = 5.0
    breaker.fail(breaker.try_enter(), "timeout")
    assert (breaker.state, breaker.opens_until, breaker.cooling()) == ("open", 6.0, 1.0)
    assert breaker.try_enter() == 0


def test_a_share_of_failures_opens_it_once_enough_calls_count() -> None:
    breaker, _ = breaker_at(ONLY_RATE)
    for ok in (False, True, False):
        breaker.success(breaker.try_enter()) if ok else breaker.fail(breaker.try_enter(), "server")
    assert breaker.state == "closed"
    breaker.success(breaker.try_enter())
    assert breaker.state == "closed", "only a failure opens"
    breaker.fail(breaker.try_enter(), "server")
    assert breaker.state == "open"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 1.0, 7.0, 30.0])), max_size=60))
def test_the_share_is_that_of_the_latest_calls_of_the_last_minute(story: list[tuple[bool, float]]) -> None:
    breaker, clock = breaker_at(ONLY_RATE)
    window: deque[tuple[float, bool]] = deque(maxlen=10)
    for ok, pause in story:
        clock.now += pause
        window.append((clock.now, ok))
        ticket = breaker.try_enter()
        if ok:
            breaker.success(ticket)
        else:
            breaker.fail(ticket, "server")
        recent = [well for moment, well in window if moment > clock.now - 60.0]
        failed = recent.count(False)
        assert (breaker.health().calls, breaker.health().failed) == (len(recent), failed)
        expected = not ok and len(recent) >= 4 and failed * 2 >= len(recent)
        assert (breaker.state == "open") is expected
        if expected:
            return


def test_a_new_closed_period_begins_without_the_old_failures() -> None:
    breaker, clock = breaker_at(ONLY_RATE)
    for _ in range(4):
        breaker.fail(breaker.try_enter(), "server")
    assert breaker.state == "open"
    clock.now += 1.0
    breaker.success(breaker.try_enter())
    breaker.fail(breaker.try_enter(), "server")
    assert breaker.state == "closed"
    assert (breaker.health().calls, breaker.health().failed) == (1, 1)


# -- the cool-down -----------------------------------------------------------------------------------------------


def test_the_cool_down_doubles_with_each_failed_probe_up_to_its_bound() -> None:
    breaker, clock = opened()
    waits = []
    for _ in range(6):
        wait = breaker.cooling()
        assert wait is not None
        waits.append(wait)
        clock.now += wait - 0.001
        assert breaker.try_enter() == 0
        clock.now += 0.002
        assert (breaker.state, breaker.cooling()) == ("half_open", 0.0)
        breaker.fail(breaker.try_enter(), "server")
    assert waits == pytest.approx([1.0, 2.0, 4.0, 8.0, 8.0, 8.0])
    assert breaker.health().openings == 7


@pytest.mark.parametrize(("closed_for", "expected"), [(59.0, 2.0), (60.0, 1.0)])
def test_only_a_steady_time_makes_the_next_opening_the_first_again(closed_for: float, expected: float) -> None:
    breaker, clock = opened()
    clock.now += 1.0
    breaker.success(breaker.try_enter())
    clock.now += closed_for
    trip(breaker)
    assert breaker.cooling() == pytest.approx(expected)


def test_an_outage_longer_than_the_steady_time_still_counts_as_one() -> None:
    breaker, clock = opened()
    clock.now += 1000.0
    breaker.fail(breaker.try_enter(), "server")
    assert breaker.cooling() == 2.0


def test_a_cool_down_that_is_given_opens_at_once_for_exactly_that_long() -> None:
    breaker, clock = breaker_at()
    breaker.fail(breaker.try_enter(), "quota", 300.0)
    assert (breaker.state, breaker.opens_until) == ("open", 300.0)
    assert breaker.health().kind == "quota"
    clock.now = 300.0
    breaker.fail(breaker.try_enter(), "rate", 0.25)
    assert breaker.cooling() == 0.25


@pytest.mark.parametrize("useless", [None, 0.0, -3.0, math.nan, -math.inf])
def test_a_useless_cool_down_leaves_it_to_the_policy(useless: float | None) -> None:
    breaker, _ = breaker_at()
    breaker.fail(breaker.try_enter(), "rate", useless)
    assert breaker.state == "closed"


@pytest.mark.parametrize("absurd", [1e9, math.inf])
def test_no_cool_down_is_longer_than_a_day(absurd: float) -> None:
    breaker, _ = breaker_at()
    breaker.fail(breaker.try_enter(), "auth", absurd)
    assert breaker.cooling() == 86_400.0


def test_what_the_provider_asks_of_a_late_call_counts_from_then() -> None:
    breaker, clock = breaker_at()
    late, later, latest = breaker.try_enter(), breaker.try_enter(), breaker.try_enter()
    trip(breaker)
    clock.now = 0.5
    breaker.fail(late, "rate", 20.0)
    assert breaker.opens_until == 20.5
    breaker.fail(later, "rate", 3.0)
    assert breaker.opens_until == 20.5, "never shortened"
    clock.now = 21.0
    breaker.success(breaker.try_enter())
    assert breaker.state == "closed"
    breaker.fail(latest, "rate", 5.0)
    assert breaker.opens_until == 26.0


# -- the probe ---------------------------------------------------------------------------------------------------


def test_one_probe_at_a_time_and_its_success_closes() -> None:
    breaker, clock = opened()
    clock.now = 1.0
    probe = breaker.try_enter()
    assert probe
    assert [breaker.try_enter() for _ in range(3)] == [0, 0, 0]
    assert breaker.cooling() == 0.5
    assert (breaker.health().state, breaker.health().probing) == ("half_open", True)
    breaker.success(probe)
    assert (breaker.state, breaker.cooling(), breaker.health().probing) == ("closed", None, False)
    assert breaker.try_enter()
    assert breaker.try_enter()


def test_a_cancelled_probe_frees_its_place() -> None:
    breaker, clock = opened()
    clock.now = 1.0
    first = breaker.try_enter()
    breaker.leave(first)
    assert (breaker.state, breaker.cooling()) == ("half_open", 0.0)
    second = breaker.try_enter()
    assert second not in (0, first)
    breaker.leave(first)
    assert breaker.try_enter() == 0, "leaving twice does not free another call's place"
    breaker.success(second)
    assert breaker.state == "closed"


def test_a_probe_that_never_reports_is_given_up() -> None:
    breaker, clock = opened()
    clock.now = 1.0
    lost = breaker.try_enter()
    clock.now = 600.5
    assert breaker.try_enter() == 0
    clock.now = 601.0
    following = breaker.try_enter()
    assert following
    breaker.success(lost)
    breaker.fail(lost, "server")
    assert (breaker.state, breaker.health().probing) == ("half_open", True)
    breaker.success(following)
    assert breaker.state == "closed"


def test_calls_from_before_the_opening_change_nothing() -> None:
    breaker, clock = breaker_at()
    old = breaker.try_enter()
    trip(breaker)
    breaker.success(old)
    breaker.answered(old)
    breaker.fail(old, "server")
    assert (breaker.state, breaker.opens_until) == ("open", 1.0)
    clock.now = 1.0
    breaker.success(old)
    assert breaker.state == "half_open"
    probe = breaker.try_enter()
    for _ in range(2):
        breaker.leave(old)
        breaker.fail(old, "server")
        breaker.success(old)
        breaker.answered(old)
        assert (breaker.state, breaker.try_enter()) == ("half_open", 0)
    breaker.success(probe)
    for _ in range(9):
        breaker.fail(old, "server")
    assert (breaker.state, breaker.health().streak) == ("closed", 0)


def test_a_refused_call_has_no_say() -> None:
    breaker, clock = opened()
    clock.now = 1.0
    for report in (breaker.success, breaker.answered, breaker.leave):
        report(0)
    breaker.fail(0, "server")
    assert (breaker.state, breaker.cooling()) == ("half_open", 0.0)
    breaker.success(breaker.try_enter())
    for report in (breaker.success, breaker.answered, breaker.leave):
        report(0)
    assert breaker.state == "closed"


def test_the_first_token_of_a_probe_closes_on_probation() -> None:
    breaker, clock = opened()
    clock.now = 1.0
    probe = breaker.try_enter()
    breaker.answered(probe)
    assert breaker.state == "closed"
    breaker.fail(probe, "interrupted")
    assert (breaker.state, breaker.cooling()) == ("open", 2.0)
    clock.now = 3.0
    probe = breaker.try_enter()
    breaker.answered(probe)
    breaker.success(probe)
    breaker.fail(breaker.try_enter(), "server")
    assert breaker.state == "closed", "a whole success ends the probation"


def test_a_first_token_counts_nothing_while_closed() -> None:
    breaker, _ = breaker_at()
    for _ in range(3):
        ticket = breaker.try_enter()
        breaker.answered(ticket)
        breaker.fail(ticket, "interrupted")
    assert breaker.state == "open"


def checked_entry(breaker: Breaker, probe: int) -> int:
    state, wait = breaker.state, breaker.cooling()
    ticket = breaker.try_enter()
    assert bool(ticket) is (wait in (None, 0.0))
    assert not ticket or state == "closed" or (state == "half_open" and not probe)
    return ticket


def report(breaker: Breaker, ticket: int, what: str, number: int) -> None:
    if what == "ok":
        breaker.success(ticket)
    elif what == "answered":
        breaker.answered(ticket)
    elif what == "leave":
        breaker.leave(ticket)
    else:
        breaker.fail(ticket, "server", number / 10 if what == "cool" else None)


@given(
    st.lists(
        st.tuples(st.sampled_from(["enter", "ok", "answered", "fail", "cool", "leave", "wait"]), st.integers(0, 50))
    )
)
def test_whatever_happens_at_most_one_probe_is_out_and_a_way_back_stays(story: list[tuple[str, int]]) -> None:
    breaker, clock = breaker_at(BreakerPolicy(failures=2, max_cooldown=4.0, min_calls=3, window=5))
    calls: list[int] = []
    probe = 0
    for what, number in story:
        before = breaker.state
        if what == "wait":
            clock.now += number / 10
            continue
        if what == "enter":
            ticket = checked_entry(breaker, probe)
            calls += [ticket] if ticket else []
            if before != "closed":
                probe = ticket or probe
            continue
        if not calls:
            continue
        ticket = calls.pop(number % len(calls))
        report(breaker, ticket, what, number)
        if breaker.state == "closed":
            assert before == "closed" or (ticket == probe and what in ("ok", "answered"))
        if ticket == probe or breaker.state == "closed":
            probe = 0
    breaker.leave(probe)
    clock.now += 5.0
    ticket = breaker.try_enter()
    assert ticket
    breaker.success(ticket)
    assert breaker.state == "closed"


def test_a_recovered_deployment_has_its_calls_back_within_seconds() -> None:
    breaker, clock = breaker_at(BreakerPolicy())
    refused, requests = 0, 0
    while clock.now < 3600.0:
        clock.now += 0.1
        ticket = breaker.try_enter()
        if ticket:
            requests += 1
            breaker.fail(ticket, "server")
        else:
            refused += 1
    assert requests <= 5 + 3600 / 10 + 4
    assert refused > 35_000
    ended = clock.now
    while breaker.state != "closed":
        clock.now += 0.1
        ticket = breaker.try_enter()
        if ticket:
            breaker.success(ticket)
    assert clock.now - ended <= 10.2


# -- threads, finalizers, forks ----------------------------------------------------------------------------------


def test_of_many_threads_one_gets_the_probe() -> None:
    breaker, clock = opened()
    for _ in range(50):
        clock.now += 10.0
        tickets = at_once(breaker.try_enter)
        assert sorted(map(bool, tickets)) == [False] * 7 + [True]
        breaker.fail(max(tickets), "server")


def test_the_closed_path_takes_no_lock() -> None:
    breaker, _ = breaker_at()
    with breaker._lock:
        done = threading.Event()

        def call() -> None:
            ticket = breaker.try_enter()
            breaker.answered(ticket)
            breaker.success(ticket)
            breaker.leave(ticket)
            done.set()

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        assert done.wait(20.0)
        thread.join()


def test_a_finalizer_may_leave_while_its_thread_is_inside() -> None:
    held: list[int] = []

    class Inside(Clock):
        def __call__(self) -> float:
            # The clock is read under the lock, just as a garbage collection may run there.
            while held:
                breaker.leave(held.pop())
            return self.now

    clock = Inside()
    breaker = Breaker(POLICY, clock)
    trip(breaker)
    clock.now = 1.0
    held.append(breaker.try_enter())
    assert breaker.try_enter()


def test_a_forked_child_has_its_own_lock_and_probe() -> None:
    fork_while_held(
        "breaker._lock",
        before="""
            from llm_master.policy.breaker import Breaker, BreakerPolicy

            now = [0.0]
            breaker = Breaker(BreakerPolicy(failures=1), lambda: now[0])
            breaker.fail(breaker.try_enter(), "server")
            now[0] = 5.0
            probe = breaker.try_enter()
            assert probe and not breaker.try_enter()
        """,
        child="""
            mine = breaker.try_enter()
            assert mine and mine != probe
            breaker.success(mine)
            assert breaker.state == "closed"
        """,
        after='assert breaker.state == "half_open" and not breaker.try_enter()',
    )


# -- set-up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"failures": 0},
        {"failures": True},
        {"failures": 2.0},
        {"window": 0},
        {"min_calls": 0},
        {"min_calls": 200},
        {"failure_rate": 0.0},
        {"failure_rate": 1.1},
        {"failure_rate": math.nan},
        {"cooldown": 0.0},
        {"cooldown": 11.0},
        {"max_cooldown": math.inf},
        {"window_seconds": -1.0},
        {"steady": "60"},
        {"probe_timeout": True},
    ],
)
def test_a_wrong_policy_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        BreakerPolicy(**wrong)


def test_health_tells_everything() -> None:
    breaker, clock = breaker_at(BreakerPolicy(failures=2))
    breaker.success(breaker.try_enter())
    breaker.fail(breaker.try_enter(), "timeout")
    health = breaker.health()
    assert (health.state, health.retry_in, health.probing, health.kind) == ("closed", 0.0, False, None)
    assert (health.streak, health.calls, health.failed, health.openings) == (1, 2, 1, 0)
    breaker.fail(breaker.try_enter(), "server")
    clock.now = 0.25
    health = breaker.health()
    assert (health.state, health.retry_in, health.kind, health.openings) == ("open", 0.75, "server", 1)
