"""
Budgets: what they may be, the windows they renew in, and sums that are the same in every store, to the last picodollar.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import math
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.budgets_model import KINDS, NOW, Kept, caps, charges_of, compare, kept, programs
from support.valkey import Valkey

from llm_master import Budget, BudgetExceededError, ConfigurationError, InvalidRequestError, Limit, RateLimitError
from llm_master.policy.limits_budget import PICODOLLARS, Budgets, picodollars, shown, usd

MARKS = itertools.count()


# -- what a budget may be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "team-a", "tag:", "tag: ", "user:x", 5, None])
def test_a_key_that_is_none_is_refused(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="name 'all' or 'tag:NAME'"):
        Budget(key, usd=1)


@pytest.mark.parametrize("amount", [0, -1, math.nan, math.inf, "much", True, "1e-13", 4_000_001, Decimal("NaN")])
def test_an_amount_that_keeps_nothing_is_refused(amount: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"usd=.* of the budget of 'all'"):
        Budget("all", usd=amount)


@pytest.mark.parametrize("count", [0, -5, 1.5, True, "100", 5 * 10**18])
def test_a_number_of_tokens_that_is_none_is_refused(count: Any) -> None:
    with pytest.raises(ConfigurationError, match="tokens="):
        Budget("all", tokens=count)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [({"per": "week"}, "per='week'"), ({"unknown": "maybe"}, "unknown='maybe'"), ({"timezone": "Mars/Base"}, "Mars")],
)
def test_a_word_that_is_none_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        Budget("all", usd=1, **wrong)


def test_a_budget_of_nothing_and_two_of_the_same_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="bounds nothing; give usd= or tokens="):
        Budget("all")
    twice = [Budget("all", usd=1), Budget("all", usd=2, tokens=5)]
    with pytest.raises(ConfigurationError, match="'all' has two budgets of usd per day"):
        Budgets(twice)
    with pytest.raises(ConfigurationError, match="give Budget"):
        Budgets(["all"])  # type: ignore[list-item]  # what a caller may do
    Budgets([Budget("all", usd=1), Budget("all", usd=2, per="month"), Budget("all", tokens=5)])


@pytest.mark.parametrize("given", [0.1, "0.1", Decimal("0.1"), "0.10", " 0.1 "])
def test_usd_is_the_number_that_was_written(given: Any) -> None:
    assert Budget("all", usd=given).usd == Decimal("0.1")
    assert Budget("all", usd=given).caps() == (("usd", 10**11),)


@given(st.decimals(0, 10**6, places=12))
def test_picodollars_are_exact(amount: Decimal) -> None:
    assert picodollars(amount) == int(amount * PICODOLLARS)
    assert usd(picodollars(amount)) == amount
    assert "E" not in str(usd(picodollars(amount)).normalize().__format__("f"))


def test_a_fraction_of_a_picodollar_costs_a_whole_one() -> None:
    assert picodollars(Decimal("1e-13")) == 1
    assert str(usd(10 * PICODOLLARS)) == "10"
    assert shown("usd", 1234) == "0 USD"
    assert shown("tokens", 1234) == "1234 tokens"
    for wrong in (-1, "x", None, True, "1e40"):
        with pytest.raises(InvalidRequestError, match="no amount of USD"):
            picodollars(wrong)


# -- windows ----------------------------------------------------------------------------------------------------------


def at(text: str, zone: str = "UTC") -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("per", "now", "name", "begins", "ends"),
    [
        ("day", "2026-11-21T23:59:59.999", "2026-11-21", "2026-11-21", "2026-11-22"),
        ("day", "2026-11-22T00:00:00", "2026-11-22", "2026-11-22", "2026-11-23"),
        ("day", "2028-02-29T12:00:00", "2028-02-29", "2028-02-29", "2028-03-01"),
        ("month", "2026-12-31T23:59:59", "2026-12", "2026-12-01", "2027-01-01"),
        ("month", "2027-01-01T00:00:00", "2027-01", "2027-01-01", "2027-02-01"),
        ("month", "2028-02-29T00:00:00", "2028-02", "2028-02-01", "2028-03-01"),
        ("hour", "2026-11-21T12:59:59", "2026-11-21T12:00Z", "2026-11-21T12:00", "2026-11-21T13:00"),
    ],
)
def test_a_window_is_that_of_the_calendar(per: Any, now: str, name: str, begins: str, ends: str) -> None:
    span = Budget("all", usd=1, per=per).span(at(now))
    assert (span.name, span.starts, span.ends) == (name, at(begins), at(ends))


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29T12:00", 23), ("2026-10-25T12:00", 25), ("2026-07-01T00:30", 24)]
)
def test_a_day_of_a_timezone_is_as_long_as_it_is_there(day: str, hours: int) -> None:
    zone = "Europe/Berlin"
    span = Budget("all", usd=1, timezone=zone).span(at(day, zone))
    assert span.ends is not None
    assert span.ends - span.starts == hours * 3600
    assert dt.datetime.fromtimestamp(span.starts, ZoneInfo(zone)).hour == 0
    assert span.name == f"{day[:10]}[{zone}]"


def test_an_hour_that_comes_twice_is_two() -> None:
    budget = Budget("all", usd=1, per="hour", timezone="Europe/Berlin")
    first, second = (budget.span(at(f"2026-10-25T0{hour}:30")) for hour in (0, 1))
    assert first.ends == second.starts
    assert first.name != second.name


def test_timezones_may_be_given_as_objects() -> None:
    assert Budget("all", usd=1, timezone=dt.UTC) == Budget("all", usd=1)
    assert Budget("all", usd=1, timezone=ZoneInfo("Asia/Tokyo")).zone == "Asia/Tokyo"


@given(st.floats(0, 4e9), st.sampled_from(["hour", "day", "month"]), st.sampled_from(["UTC", "Asia/Kolkata"]))
def test_every_moment_lies_in_one_window(now: float, per: Any, zone: str) -> None:
    budget = Budget("all", usd=1, per=per, timezone=zone)
    span = budget.span(now)
    assert span.ends is not None
    assert span.starts <= now < span.ends
    assert budget.span(span.starts) == span
    assert budget.span(span.ends).starts == span.ends


def test_total_has_one_window_for_ever() -> None:
    budget = Budget("all", usd=1, per="total")
    assert budget.span(0.0) == budget.span(9e9)
    assert budget.span(0.0).ends is None


def test_a_clock_that_is_set_back_counts_in_the_window_it_shows() -> None:
    clock = [at("2026-11-22T00:00:01")]
    book = Budgets([Budget("all", usd=1)], lambda: clock[0])
    (today,) = book.charges(book.budgets, 0, 1)
    clock[0] = at("2026-11-21T23:59:59")
    (yesterday,) = book.charges(book.budgets, 0, 1)
    assert (today.span.name, yesterday.span.name) == ("2026-11-22", "2026-11-21")
    assert not book.is_over([today])
    clock[0] = at("2026-11-22T00:00:00")
    assert book.is_over([yesterday])


# -- sums, the same in every store ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_that_of_the_plain_model(kind: str, tmp_path: Path, shared_valkey: Valkey) -> None:
    with asyncio.Runner() as runner:
        entered = kept(kind, tmp_path, shared_valkey.url)
        store = runner.run(entered.__aenter__())

        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
        @given(caps, programs)
        @example((10, 10), [("take", 6, 0, False), ("take", 6, 0, False), ("settle", 0, 9), ("take", 1, 0, False)] * 2)
        def check(most: tuple[int, int], program: list[tuple[Any, ...]]) -> None:
            runner.run(compare(store, most, program, f"{kind}-{next(MARKS)}"))

        check()
        runner.run(entered.__aexit__(None, None, None))


def in_store(kind: str, folder: Path, url: str, program: Any, **options: Any) -> Any:
    async def main() -> Any:
        async with kept(kind, folder, url, **options) as store:
            return await program(store)

    return asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_limits_and_budgets_are_taken_together_or_not_at_all(kind: str, tmp_path: Path, shared_valkey: Valkey) -> None:
    async def program(store: Kept) -> None:
        limiter = store.limiter
        (first, second) = charges_of((60, 10), (100, 100), "both")
        rare, busy = Limit("model:rare", rpm=1), Limit("model:busy", rpm=5, tpm=100, max_concurrency=5)
        got = await limiter.acquire((rare, busy), 10, timeout=0, charges=[first, second])
        # No request left under one limit: neither the other limit nor a budget gives anything.
        with pytest.raises(RateLimitError, match="model:rare allows 1 requests"):
            await limiter.acquire((busy, rare), 10, timeout=0, charges=[second])
        # No money left: no limit gives anything.
        limiter.settle(got, 10, 60)
        await store.told()
        for _ in range(9):
            with pytest.raises(BudgetExceededError):
                await limiter.acquire((busy,), 90, timeout=0, charges=[second, first])
        await store.told()
        assert (store.spent(first), store.spent(second)) == ((60, 0), (10, 0))
        for _ in range(4):
            limiter.settle(await limiter.acquire((busy,), 20, timeout=0), 0, 0)

    in_store(kind, tmp_path, shared_valkey.url, program)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_exact_beyond_what_a_float_holds(kind: str, tmp_path: Path, shared_valkey: Valkey) -> None:
    most = 3_000_000 * PICODOLLARS + 1

    async def program(store: Kept) -> None:
        def charge(amount: int) -> list[Any]:
            return charges_of((amount, 0), (most, 1), "large")[:1]

        limiter = store.limiter
        limiter.settle(await limiter.acquire((), 0, timeout=0, charges=charge(most - 1)))
        await store.told()
        with pytest.raises(BudgetExceededError, match="tag:large-a") as caught:
            await limiter.acquire((), 0, timeout=0, charges=charge(2))
        assert caught.value.left == Decimal("1e-12")
        limiter.settle(await limiter.acquire((), 0, timeout=0, charges=charge(1)))
        await store.told()
        assert store.spent(charge(0)[0]) == (most, 0)

    in_store(kind, tmp_path, shared_valkey.url, program)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_waits_for_what_others_hold_and_never_for_what_is_spent(
    kind: str, tmp_path: Path, shared_valkey: Valkey
) -> None:
    async def program(store: Kept) -> None:
        limiter = store.limiter

        def charge(amount: int) -> list[Any]:
            return charges_of((amount, 0), (100, 1), "wait")[:1]

        first = await limiter.acquire((), 0, charges=charge(80))
        second = asyncio.ensure_future(limiter.acquire((), 0, charges=charge(60)))
        # Calls wait in order from when the store has refused them; one that is on its way there can be overtaken.
        while not limiter._lines:
            await asyncio.sleep(0.001)
        third = asyncio.ensure_future(limiter.acquire((), 0, charges=charge(60)))
        await asyncio.sleep(0.02)
        assert not second.done()
        limiter.settle(first, 0, 30)
        got = await asyncio.wait_for(second, 5)
        assert got.waited > 0
        assert got.wait_reason.startswith("tag:wait-a usd/day/")
        limiter.settle(got, 0, 50)
        # 80 are spent now, so that nothing but tomorrow helps the third; it does not wait for that.
        with pytest.raises(BudgetExceededError) as caught:
            await asyncio.wait_for(third, 5)
        error = caught.value
        assert (error.code, error.retryable, error.key, error.unit) == ("budget_exceeded", False, "tag:wait-a", "usd")
        assert error.left == usd(20)
        assert error.renews == dt.datetime(2027, 1, 16, tzinfo=dt.UTC)
        with pytest.raises(BudgetExceededError):
            await limiter.acquire((), 0, charges=charge(101))

    in_store(kind, tmp_path, shared_valkey.url, program)


@pytest.mark.parametrize("kind", KINDS)
def test_who_leaves_the_line_or_comes_too_late_takes_nothing(kind: str, tmp_path: Path, shared_valkey: Valkey) -> None:
    async def program(store: Kept) -> None:
        limiter = store.limiter

        def charge(amount: int) -> list[Any]:
            return charges_of((amount, 0), (100, 1), "leave")[:1]

        got = await limiter.acquire((), 0, charges=charge(60))
        with pytest.raises(BudgetExceededError, match="other calls hold it for now") as caught:
            await limiter.acquire((), 0, timeout=0.01, charges=charge(60))
        assert caught.value.code == "local_rate_limit"
        leaver = asyncio.ensure_future(limiter.acquire((), 0, charges=charge(60)))
        await asyncio.sleep(0.01)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        for _ in range(20):
            hasty = asyncio.ensure_future(limiter.acquire((), 0, charges=charge(1)))
            await asyncio.sleep(0)
            hasty.cancel()
            await asyncio.gather(hasty, return_exceptions=True)
        limiter.settle(got, 0, 60)
        limiter.settle(got, 0, 60)
        limiter.cancel(got)
        await store.told()
        await store.told()
        assert store.spent(charge(0)[0]) == (60, 0)

    in_store(kind, tmp_path, shared_valkey.url, program)


def test_the_error_says_what_is_left_and_when_it_renews() -> None:
    (charge,) = charges_of((2 * 10**11, 0), (5 * 10**11, 1), "x")[:1]
    error = charge.refusal("budget", 4 * 10**11, "openai", "gpt-4o")
    assert str(error) == (
        "the call of 'gpt-4o' at openai may take up to 0.2 USD of the budget of 'tag:x-a', 0.5 USD per day, of which"
        " 0.1 USD is left; it renews at 2027-01-16 00:00 UTC: lower max_tokens, raise the budget or give a cheaper"
        " fallback_model="
    )
    again = pickle.loads(pickle.dumps(error))
    assert (again.left, again.renews, again.key) == (Decimal("0.1"), error.renews, "tag:x-a")
    assert NOW < error.renews.timestamp() < NOW + 86400
