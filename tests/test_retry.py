"""
How long is waited before the next attempt.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_master import (
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
    ContextWindowError,
    DeadlineExceededError,
    InvalidRequestError,
    QuotaExceededError,
    RetryPolicy,
    ServerError,
    Timeouts,
)
from llm_master.policy.retry import falls_back, full_jitter

POLICY = RetryPolicy(base_delay=0.5, max_delay=8.0)


@given(st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_a_wait_stays_in_its_range(attempt: int, chance: float) -> None:
    longest = min(8.0, 0.5 * 2 ** (attempt - 1))
    wait = full_jitter(POLICY, attempt, 0.0, lambda: chance)
    assert longest / 8 <= wait <= longest
    assert wait == pytest.approx(max(chance, 1 / 8) * longest)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=4))
def test_waits_grow_until_their_range_ends(chances: list[float]) -> None:
    waits: list[float] = []
    for attempt, chance in enumerate(chances, start=1):
        waits.append(full_jitter(POLICY, attempt, waits[-1] if waits else 0.0, lambda chance=chance: chance))
    assert all(after >= before * 1.5 for before, after in pairwise(waits))


@pytest.mark.parametrize(
    ("error", "listed", "expected"),
    [
        (ServerError(), (), True),
        (QuotaExceededError(), (), True),
        (AuthenticationError(), (), True),
        (ContextWindowError(), (), True),
        (BadRequestError(), (), False),
        (BadRequestError(), {"content_policy"}, False),
        (ContentPolicyError(), (), False),
        (ContentPolicyError(), {"content_policy"}, True),
        (DeadlineExceededError(), (), False),
    ],
)
def test_what_another_target_may_cure(error: Exception, listed: set[str], expected: bool) -> None:
    assert falls_back(error, listed) is expected


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"max_attempts": True}, {"base_delay": -1}, {"max_delay": math.nan}]
)
def test_a_wrong_policy_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "3"])
@pytest.mark.parametrize("name", ["total", "connect", "first_token", "idle"])
def test_a_wrong_time_limit_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidRequestError, match=name):
        Timeouts(**{name: value})


def test_a_number_is_the_total() -> None:
    default = Timeouts(total=100, idle=7)
    assert Timeouts.of(None, default) is default
    assert Timeouts.of(5, default) == Timeouts(total=5.0, idle=7)
    whole = Timeouts(total=None)
    assert Timeouts.of(whole, default) is whole
