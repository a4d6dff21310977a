"""
Retries are a share of the calls and a few a second, never more, however the calls arrive.
"""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.held_fork import fork_while_held
from support.threads import at_once

from llm_master.errors import ConfigurationError
from llm_master.policy.budget import BudgetPolicy, RetryBudget, shared_budget

NO_FLOOR = BudgetPolicy(floor=0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.5

    def __call__(self) -> float:
        return self.now


def budget_at(policy: BudgetPolicy = NO_FLOOR) -> tuple[RetryBudget, Clock]:
    clock = Clock()
    return RetryBudget(policy, clock), clock


def granted(budget: RetryBudget, asked: int) -> int:
    return sum(budget.try_retry() for _ in range(asked))


@pytest.mark.parametrize("calls", [0, 4, 5, 14, 15, 1000])
def test_a_fifth_of_the_calls_is_retried(calls: int) -> None:
    budget, _ = budget_at()
    for _ in range(calls):
        budget.deposit()
    assert budget.saved == pytest.approx(calls / 5)
    assert granted(budget, calls + 1) == calls // 5


def test_the_ratio_can_be_chosen() -> None:
    budget, _ = budget_at(BudgetPolicy(ratio=0.5, floor=0))
    for _ in range(10):
        budget.deposit()
    assert granted(budget, 20) == 5
    none, _ = budget_at(BudgetPolicy(ratio=0.0, floor=0))
    none.deposit()
    assert granted(none, 5) == 0


def test_without_calls_any_second_has_ten() -> None:
    budget, clock = budget_at(BudgetPolicy())
    assert granted(budget, 100) == 10
    clock.now += 0.75
    assert granted(budget, 100) == 0
    clock.now += 0.25
    assert granted(budget, 4) == 4
    clock.now += 0.5
    assert granted(budget, 100) == 6
    clock.now += 0.5
    assert granted(budget, 100) == 4, "a rolling second, not a clock's second"


def test_the_floor_comes_first_and_saves_the_tokens() -> None:
    budget, _ = budget_at(BudgetPolicy())
    for _ in range(5):
        budget.deposit()
    assert granted(budget, 10) == 10
    assert budget.saved == pytest.approx(1.0)
    assert granted(budget, 10) == 1


def test_a_busy_time_saves_nothing_for_later() -> None:
    budget, clock = budget_at()
    for _ in range(50):
        budget.deposit()
    clock.now += 10.0
    assert budget.saved == pytest.approx(10.0)
    clock.now += 0.5
    assert budget.saved == 0.0
    assert granted(budget, 5) == 0
    budget.deposit()
    assert budget.saved == pytest.approx(0.2)


def test_the_oldest_tokens_are_taken_first() -> None:
    budget, clock = budget_at()
    for _ in range(2):
        for _ in range(10):
            budget.deposit()
        clock.now += 6.0
    # Two of 2 + 2 tokens are used; had they been the newer ones, nothing would be left when the older ones go.
    clock.now -= 6.0
    assert granted(budget, 2) == 2
    clock.now += 5.0
    assert budget.saved == pytest.approx(2.0)


def test_the_bucket_is_bounded() -> None:
    budget, clock = budget_at(BudgetPolicy(floor=0, capacity=30.0))
    for _ in range(8):
        for _ in range(100):
            budget.deposit()
        clock.now += 1.0
        assert budget.saved <= 30.0
    assert len(budget._cells) <= 11
    assert granted(budget, 1000) == 30
    for _ in range(1000):
        budget.deposit()
    assert granted(budget, 1000) == 30


def test_a_long_life_takes_no_more_room() -> None:
    budget, clock = budget_at(BudgetPolicy())
    for _ in range(5000):
        clock.now += 0.7
        budget.deposit()
        budget.try_retry()
    assert len(budget._cells) <= 11
    assert len(budget._floor) <= 10


# Times are sixteenths of a second, which floats hold exactly.
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 0, 0, 1, 3, 8, 16, 40, 200]), st.integers(0, 40), st.integers(0, 40)),
        max_size=25,
    ),
    st.sampled_from([0, 1, 10]),
    st.sampled_from([0.0, 0.2, 0.75]),
)
def test_no_stretch_of_time_has_more_than_its_share(
    story: list[tuple[int, int, int]], floor: int, ratio: float
) -> None:
    budget, clock = budget_at(BudgetPolicy(floor=floor, ratio=ratio, capacity=50.0))
    made: list[tuple[float, int, int]] = []
    for pause, calls, asked in story:
        clock.now += pause / 16
        for _ in range(calls):
            budget.deposit()
        made.append((clock.now, calls, granted(budget, asked)))
    for first, (begin, _, _) in enumerate(made):
        paid = sum(calls for moment, calls, _ in made[:first] if moment > begin - 11)
        retries = 0
        for end, calls, retried in made[first:]:
            paid += calls
            retries += retried
            assert retries <= ratio * paid + floor * (math.floor(end - begin) + 1) + 1e-6


@pytest.mark.parametrize("rate", [1, 10, 300])
def test_a_full_outage_makes_a_fifth_more_requests_and_ten_a_second(rate: int) -> None:
    budget, clock = budget_at(BudgetPolicy())
    chance = random.Random(7)
    seconds, calls, requests = 60, 0, 0
    start = clock.now
    while clock.now - start < seconds:
        clock.now += chance.expovariate(rate)
        budget.deposit()
        calls += 1
        requests += 1 + granted(budget, 5)  # every attempt fails and all of five retries are wanted
    assert requests <= 1.2 * calls + 10 * (seconds + 1)
    assert requests >= 0.8 * min(6 * calls, 1.2 * calls + 10 * seconds), "what is allowed is not withheld"


def test_threads_share_one_bucket() -> None:
    budget, _ = budget_at()

    def work() -> int:
        won = 0
        for _ in range(500):
            budget.deposit()
            won += budget.try_retry()
        return won

    won = at_once(work)
    assert sum(won) + budget.saved == pytest.approx(8 * 500 / 5)
    assert sum(won) + granted(budget, 1000) == 800


def test_a_forked_child_starts_with_an_empty_bucket_and_its_own_lock() -> None:
    fork_while_held(
        "budget._lock",
        before="""
            from llm_master.policy.budget import BudgetPolicy, RetryBudget

            budget = RetryBudget(BudgetPolicy(floor=1), lambda: 5.0)
            for _ in range(10):
                budget.deposit()
        """,
        child="assert [budget.try_retry() for _ in range(3)] == [True, False, False]",
        after="assert [budget.try_retry() for _ in range(4)] == [True, True, True, False]",
    )


def test_a_process_has_one_budget() -> None:
    assert shared_budget() is shared_budget()
    assert shared_budget().policy == BudgetPolicy(ratio=0.2, floor=10)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ratio": -0.1},
        {"ratio": math.nan},
        {"ratio": True},
        {"floor": -1},
        {"floor": 1.5},
        {"capacity": math.inf},
        {"capacity": "9"},
        {"memory": 0},
        {"memory": True},
    ],
)
def test_a_wrong_policy_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        BudgetPolicy(**wrong)
