"""
Calls share out over deployments by weight, speed and load; every place is given back.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.threads import at_once

from llm_master.errors import ConfigurationError
from llm_master.policy.balance import Balancer, Lease, Member
from llm_master.policy.breaker import Breaker, BreakerPolicy

ONE_FAILURE = BreakerPolicy(failures=1, failure_rate=None, cooldown=1.0, max_cooldown=1.0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def balancer_of(*weights: float, breakers: bool = False, seed: int = 1) -> tuple[Balancer, Clock]:
    clock = Clock()
    members = [
        Member(f"d{index}", weight=weight, breaker=Breaker(ONE_FAILURE, clock) if breakers else None)
        for index, weight in enumerate(weights)
    ]
    return Balancer(members, clock, random.Random(seed).random), clock


def lease_of(found: Lease | float) -> Lease:
    assert isinstance(found, Lease)
    return found


def take(balancer: Balancer, *excluded: str) -> Lease:
    return lease_of(balancer.choose(excluded))


def counts(balancer: Balancer) -> list[int]:
    return [member.inflight for member in balancer.members]


def shares(weights: list[float], seconds: list[float], concurrency: int, calls: int = 8000) -> list[float]:
    """What part of the calls each deployment gets when so many are always under way."""
    balancer, clock = balancer_of(*weights)
    chance = random.Random(2)
    got = dict.fromkeys((member.name for member in balancer.members), 0)
    ends: list[tuple[float, int, Lease, float]] = []
    for number in range(calls):
        if len(ends) >= concurrency:
            clock.now, _, ended, took = heapq.heappop(ends)
            ended.success(took)
        lease = take(balancer)
        got[lease.member.name] += 1
        took = seconds[int(lease.member.name[1:])] * chance.uniform(0.5, 1.5)
        heapq.heappush(ends, (clock.now + took, number, lease, took))
    assert sum(counts(balancer)) == len(ends)
    return [count / calls for count in got.values()]


# -- who gets how much -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 2, 5, 30, 400])
@pytest.mark.parametrize(
    ("weights", "expected"),
    [([3, 1], [0.75, 0.25]), ([1, 1], [0.5, 0.5]), ([2, 1, 1], [0.5, 0.25, 0.25]), ([1] * 5, [0.2] * 5)],
)
def test_equally_fast_deployments_share_by_weight(
    weights: list[float], expected: list[float], concurrency: int
) -> None:
    assert shares(weights, [1.0] * len(weights), concurrency) == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("concurrency", [1, 2, 5, 30, 400])
def test_a_slow_deployment_gets_less_and_never_nothing(concurrency: int) -> None:
    slow = shares([1, 1], [1.0, 10.0], concurrency)[1]
    assert 0.02 < slow < 0.2
    slowest = shares([1] * 5, [1.0] * 4 + [100.0], concurrency)[4]
    assert 0 < slowest < 0.06


def test_a_heavy_one_at_half_the_speed_gets_its_weight_by_its_speed() -> None:
    # 3/2 to 1/1; what is known of the speed fades, which pulls a little towards 3 to 1.
    assert shares([3, 1], [2.0, 1.0], 100) == pytest.approx([0.6, 0.4], abs=0.03)


def test_weights_hold_before_anything_is_measured() -> None:
    balancer, _ = balancer_of(3, 1)
    got = [0, 0]
    for _ in range(8000):
        lease = take(balancer)
        got[int(lease.member.name[1:])] += 1
        lease.leave()
    assert got[0] / 8000 == pytest.approx(0.75, abs=0.02)


def test_a_hanging_deployment_gets_nothing_more_after_a_few_calls() -> None:
    balancer, clock = balancer_of(1, 1)
    hanging = []
    for _ in range(2000):
        clock.now += 0.1
        lease = take(balancer)
        if lease.member.name == "d0":
            hanging.append(lease)
        else:
            lease.success(0.05)
    assert len(hanging) == 2


def test_a_cold_deployment_is_tried() -> None:
    balancer, _ = balancer_of(1, 1)
    take(balancer, "d1").success(5.0)
    take(balancer, "d1").success(5.0)
    found = {take(balancer).member.name for _ in range(20)}
    assert found == {"d0", "d1"}


def test_what_was_slow_is_tried_again_as_time_goes_by() -> None:
    balancer, clock = balancer_of(1, 1)
    take(balancer, "d1").success(0.1)
    take(balancer, "d0").success(9.0)

    def part_of_slow() -> float:
        got = 0
        for _ in range(2000):
            lease = take(balancer)
            got += lease.member.name == "d1"
            lease.leave()
        return got / 2000

    assert part_of_slow() < 0.03
    clock.now += 100.0
    assert part_of_slow() > 0.4


def test_an_old_latency_gives_way_to_a_new_one() -> None:
    member = Member("d")
    member.measure(8.0, 0.0)
    member.measure(2.0, 0.0)
    assert member.latency == pytest.approx(7.4), "a tenth at least"
    member.measure(1.0, 10.0)
    assert member.latency == pytest.approx(4.2), "half after ten seconds"
    for useless in (math.nan, math.inf, -1.0):
        member.measure(useless, 20.0)
    assert member.latency == pytest.approx(4.2)


def test_a_quick_failure_does_not_make_it_look_fast_and_a_slow_one_does_not_hide() -> None:
    balancer, clock = balancer_of(1)
    (member,) = balancer.members
    take(balancer).fail("server")
    assert member.latency is None
    take(balancer).success(2.0)
    take(balancer).fail("server")
    assert member.latency == 2.0
    lease = take(balancer)
    clock.now += 10.0
    lease.fail("timeout")
    assert member.latency == pytest.approx(6.0)


def test_an_ended_call_measures_nothing() -> None:
    balancer, _ = balancer_of(1)
    lease = take(balancer)
    lease.leave()
    lease.answered(7.0)
    assert balancer.members[0].latency is None


def test_the_slowest_keeps_a_hundredth_of_its_share() -> None:
    member = Member("d")
    assert member.slowness(0.5, 0.0) == 1.0
    member.measure(2.0, 0.0)
    assert (member.slowness(0.5, 0.0), member.slowness(0.5, 10.0)) == (4.0, 2.5)
    member.measure(1e9, 0.0)
    assert member.slowness(0.5, 0.0) == 100.0


def test_a_busy_one_is_compared_with_another_and_never_with_itself() -> None:
    balancer, _ = balancer_of(1000, 1, 1)
    busy = [take(balancer, "d1", "d2") for _ in range(5000)]
    assert {take(balancer).member.name for _ in range(4)} == {"d1", "d2"}
    assert len(busy) == balancer.members[0].inflight


def test_the_first_token_of_a_probe_lets_others_in() -> None:
    balancer, clock = balancer_of(1, breakers=True)
    take(balancer).fail("server")
    clock.now = 1.0
    probe = take(balancer)
    assert balancer.choose() == 0.5
    probe.answered(0.2)
    take(balancer).success(0.2)
    assert counts(balancer) == [1]


def test_a_stream_is_measured_by_its_first_token_only() -> None:
    balancer, clock = balancer_of(1)
    (member,) = balancer.members
    for end in ("success", "fail"):
        lease = take(balancer)
        lease.answered(0.5)
        lease.answered(0.9)
        assert (member.latency, member.inflight) == (0.5, 1)
        clock.now += 60.0
        lease.success(60.0) if end == "success" else lease.fail("interrupted")
        lease.answered(7.0)
        assert (member.latency, member.inflight) == (0.5, 0)


# -- who is left out ---------------------------------------------------------------------------------------------


def test_excluded_deployments_are_left_out() -> None:
    balancer, _ = balancer_of(5, 1, 1)
    assert {take(balancer, "d0").member.name for _ in range(50)} == {"d1", "d2"}
    assert {take(balancer, "d0", "d2").member.name for _ in range(5)} == {"d1"}
    assert balancer.choose({"d0", "d1", "d2"}) == math.inf


def test_an_open_breaker_leaves_it_out_until_its_probe_is_due() -> None:
    balancer, clock = balancer_of(100, 1, breakers=True)
    take(balancer, "d1").fail("server")
    for _ in range(20):
        lease = take(balancer)
        assert lease.member.name == "d1"
        lease.success(0.1)
    clock.now = 1.0
    probe = take(balancer)
    assert probe.member.name == "d0"
    assert {take(balancer).member.name for _ in range(5)} == {"d1"}
    probe.success(0.1)
    assert "d0" in {take(balancer).member.name for _ in range(5)}


def test_a_due_probe_gets_the_next_call_however_light_it_weighs() -> None:
    balancer, clock = balancer_of(1, 1e6, breakers=True)
    take(balancer, "d1").fail("server")
    clock.now = 1.0
    assert take(balancer).member.name == "d0"


def test_all_cooling_gives_the_time_of_the_first() -> None:
    balancer, clock = balancer_of(1, 1, 1, breakers=True)
    for index, seconds in enumerate((30.0, 7.0, 12.0)):
        take(balancer, *(f"d{other}" for other in range(3) if other != index)).fail("rate", seconds)
    clock.now = 2.0
    assert balancer.choose() == 5.0
    assert balancer.choose({"d1"}) == 10.0
    clock.now = 7.0
    probe = take(balancer)
    assert probe.member.name == "d1"
    assert balancer.choose() == 0.5, "nobody knows when a probe ends"
    probe.leave()
    assert take(balancer).member.name == "d1"


def test_the_loser_of_a_race_for_a_probe_goes_elsewhere() -> None:
    class Taken(Breaker):
        """Another thread takes the probe in between looking and entering."""

        def cooling(self) -> float | None:
            found = super().cooling()
            if found == 0.0:
                self.try_enter()
            return found

    clock = Clock()
    breaker = Taken(ONE_FAILURE, clock)
    balancer = Balancer([Member("d0", breaker=breaker), Member("d1")], clock)
    breaker.fail(breaker.try_enter(), "server")
    clock.now = 1.0
    assert take(balancer).member.name == "d1"
    assert breaker.cooling() == 0.5
    breaker.reset_after_fork()
    assert balancer.choose({"d1"}) == 0.5


# -- every place is given back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["success", "fail", "leave", "drop"])
def test_a_place_is_given_back_once(end: str) -> None:
    balancer, _ = balancer_of(1)
    other = take(balancer)
    lease = take(balancer)
    assert counts(balancer) == [2]
    if end == "drop":
        del lease
    else:
        for _ in range(2):
            lease.fail("server") if end == "fail" else getattr(lease, end)()
    assert counts(balancer) == [1]
    other.leave()
    assert counts(balancer) == [0]


def test_a_second_end_says_nothing_to_the_breaker() -> None:
    balancer, _ = balancer_of(1, breakers=True)
    lease = take(balancer)
    lease.success(0.1)
    lease.fail("server")
    assert balancer.members[0].breaker.state == "closed"


def test_a_cancelled_task_gives_back_place_and_probe() -> None:
    balancer, clock = balancer_of(1, breakers=True)
    take(balancer).fail("server")
    clock.now = 1.0

    async def call() -> None:
        lease = take(balancer)  # dropped with the frame: not even a finally is needed
        await asyncio.Event().wait()
        lease.success()

    async def main() -> None:
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        assert counts(balancer) == [1]
        assert balancer.choose() == 0.5
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert counts(balancer) == [0]
    assert take(balancer).member.name == "d0"


def end(lease: Lease, how: str, number: int) -> bool:
    """End a call in one of the ways there are; whether it goes on nevertheless."""
    if how == "token":
        lease.answered(number / 10)
    elif how == "ok":
        lease.success(number / 10)
    elif how == "leave":
        lease.leave()
    else:
        lease.fail("server", number / 10 if how == "cool" else None)
    return how == "token"


def checked_choice(balancer: Balancer, excluded: set[str]) -> list[Lease]:
    waits = {
        member.name: member.breaker.cooling()
        for member in balancer.members
        if member.breaker is not None and member.name not in excluded
    }
    free = {name for name, wait in waits.items() if not wait}
    found = balancer.choose(excluded)
    if isinstance(found, Lease):
        assert found.member.name in free
        return [found]
    assert free == set()
    assert found == min((wait for wait in waits.values() if wait), default=math.inf)
    return []


@given(
    st.lists(st.sampled_from([0.1, 1.0, 3.0]), min_size=1, max_size=4),
    st.lists(
        st.tuples(st.sampled_from(["call", "call", "ok", "token", "fail", "cool", "leave", "wait"]), st.integers(0, 99))
    ),
    st.integers(0, 9),
)
def test_whatever_happens_the_counts_are_right_and_a_way_is_found(
    weights: list[float], story: list[tuple[str, int]], seed: int
) -> None:
    balancer, clock = balancer_of(*weights, breakers=True, seed=seed)
    held: list[Lease] = []
    for what, number in story:
        if what == "wait":
            clock.now += number / 20
        elif what == "call":
            excluded = {f"d{number % 5}"} if number % 2 else set()
            held += checked_choice(balancer, excluded)
        elif held:
            lease = held.pop(number % len(held))
            if end(lease, what, number):
                held.append(lease)
        expected = [sum(lease.member is member for lease in held) for member in balancer.members]
        assert counts(balancer) == expected
    for lease in held:
        lease.leave()
    assert counts(balancer) == [0] * len(weights)
    wait = balancer.choose()
    if not isinstance(wait, Lease):
        clock.now += wait + 1e-9
        assert isinstance(balancer.choose(), Lease), "what it said to wait for is there"


def test_threads_leave_nothing_behind() -> None:
    balancer, _ = balancer_of(3, 1, 1)

    def work() -> None:
        for number in range(1000):
            end(take(balancer), ("ok", "leave", "fail")[number % 3], number)

    at_once(work)
    assert counts(balancer) == [0, 0, 0]


FORKED = """
import os
from llm_master.policy.balance import Balancer, Member
from llm_master.policy.breaker import Breaker, BreakerPolicy

breaker = Breaker(BreakerPolicy(failures=1))
balancer = Balancer([Member("d0", breaker=breaker)])
held = balancer.choose()
child = os.fork()
if not child:
    assert balancer.members[0].inflight == 0
    mine = balancer.choose()
    held.fail("server")
    assert (balancer.members[0].inflight, breaker.state) == (1, "closed")
    mine.success(0.1)
    assert balancer.members[0].inflight == 0
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert balancer.members[0].inflight == 1
held.success(0.1)
assert balancer.members[0].inflight == 0
"""


def test_a_forked_child_has_none_of_its_parents_calls() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKED], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- set-up and sight --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, True, "3"])
def test_a_wrong_weight_is_refused(weight: Any) -> None:
    with pytest.raises(ConfigurationError, match="'east'"):
        Member("east", weight=weight)


def test_deployments_have_names_of_their_own() -> None:
    with pytest.raises(ConfigurationError, match="two deployments are named 'east'"):
        Balancer([Member("east"), Member("west"), Member("east")])
    with pytest.raises(ConfigurationError, match="at least one"):
        Balancer([])


def test_health_tells_of_every_deployment() -> None:
    balancer, _ = balancer_of(3, 1, breakers=True)
    take(balancer, "d1").success(0.5)
    lease = take(balancer, "d1")
    take(balancer, "d0").fail("quota", 60.0)
    first, second = balancer.health()
    assert (first.name, first.weight, first.inflight, first.latency) == ("d0", 3.0, 1, 0.5)
    assert (first.breaker.state, second.breaker.state, second.breaker.retry_in) == ("closed", "open", 60.0)
    assert (second.inflight, second.latency) == (0, None)
    lease.leave()
    assert Balancer([Member("alone")]).health()[0].breaker is None
