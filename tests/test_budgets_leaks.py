"""
What a budget must get back or pay in the end, however a call and its store part: nothing held for ever, nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import random
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support import faults
from support.behaviours import hold, ok, reset, status
from support.budgets_model import KINDS, NOW, Kept, charges_of, kept
from support.fault_server import FaultServer
from support.valkey import Valkey

from llm_master import (
    BaseLLMProvider,
    Budget,
    BudgetExceededError,
    LLMConfig,
    LLMError,
    LLMResponse,
    ModelConfig,
    QueryLLM,
    RateLimitError,
    RetryPolicy,
    UnsupportedParameterError,
    Usage,
)
from llm_master.policy.limits_budget import Budgets, usd
from llm_master.policy.limits_rules import Reservation
from llm_master.spending import most_of

MOST = 1000

MODEL = "gpt-4o-mini"
HELLO = [{"role": "user", "content": "Hi"}]
# A model of one's own, served for nothing.
FREE = {"own": ModelConfig(provider="openai", input_price_per_million=0.0, output_price_per_million=0.0)}


def charge(amount: int, mark: str = "x") -> list[Any]:
    return charges_of((amount, 0), (MOST, 1), mark)[:1]


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@contextlib.contextmanager
def frozen(valkey: Valkey, store: Kept, patience: float = 0.15) -> Iterator[None]:
    """A store that does not answer for as long as this lasts."""
    inner = store.limiter._store
    inner._patience, inner._rest = patience, 0.05
    valkey.freeze()
    try:
        yield
    finally:
        valkey.thaw()
        inner._patience = 5.0


async def ends_with(store: Kept, expected: tuple[int, int]) -> None:
    """Call until the store has heard what it was not told."""
    for _ in range(200):
        await asyncio.sleep(0.02)
        with contextlib.suppress(RateLimitError):
            store.limiter.settle(await store.limiter.acquire((), 0, charges=charge(1)), 0, 0)
        await store.told()
        if store.spent(charge(0)[0]) == expected:
            break
    assert store.spent(charge(0)[0]) == expected


async def settled(store: Kept, amount: int) -> None:
    """Spend an amount, so that the store is warm."""
    store.limiter.settle(await store.limiter.acquire((), 0, charges=charge(1)), 0, amount)
    await store.told()


# -- a store that does not answer -------------------------------------------------------------------------------------


def test_a_call_cancelled_while_the_store_is_silent_takes_nothing(valkey: Valkey, tmp_path: Path) -> None:
    async def main() -> None:
        async with kept("valkey", tmp_path, valkey.url) as store:
            await settled(store, 1)
            with frozen(valkey, store):
                task = asyncio.ensure_future(store.limiter.acquire((), 0, charges=charge(300)))
                while not store.limiter._store.link().tasks:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.01)  # it is on its way
                task.cancel()
                assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
                # Given up by whoever waited for it, and done by the store when it wakes.
                while store.limiter._store.link().tasks:
                    await asyncio.sleep(0.01)
            await ends_with(store, (1, 0))

    asyncio.run(main())


def test_what_a_silent_store_may_have_taken_is_undone_after_an_hour_too(valkey: Valkey, tmp_path: Path) -> None:
    ahead = itertools.repeat(0.0)

    def clock() -> float:
        return time.monotonic() + next(ahead)

    async def main() -> None:
        nonlocal ahead
        async with kept("valkey", tmp_path, valkey.url, clock=clock) as store:
            await settled(store, 1)
            with frozen(valkey, store):
                with pytest.raises(RateLimitError, match="cannot be kept"):
                    await store.limiter.acquire((), 0, charges=charge(300))
                ahead = itertools.repeat(3600.0)
            await ends_with(store, (1, 0))

    asyncio.run(main())


def test_what_is_granted_while_the_loop_is_held_up_is_given_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with kept("sqlite", tmp_path, "") as store:
            await settled(store, 1)
            limiter = store.limiter
            with limiter._file.lock:
                limiter._timeout = -0.99  # waits for 0.01 s in all
                task = asyncio.ensure_future(limiter.acquire((), 0, charges=charge(300)))
                await asyncio.sleep(0)
            # The answer comes, and the time for it ends, while the loop can see neither.
            limiter._file.flush(10.0)
            time.sleep(0.02)
            (found,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(found, RateLimitError)
            await store.told()
            assert (store.spent(charge(0)[0]), limiter.held) == ((1, 0), {})
            limiter._timeout = 5.0

    asyncio.run(main())


# -- numbers that no store can hold -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_too_large_for_any_budget_stops_no_other(kind: str, valkey: Valkey, tmp_path: Path) -> None:
    async def main() -> None:
        async with kept(kind, tmp_path, valkey.url) as store:
            with pytest.raises(BudgetExceededError) as caught:
                await store.limiter.acquire((), 0, timeout=0, charges=charge(10**25))
            assert caught.value.code == "budget_exceeded"
            found = await store.limiter.acquire((), 0, timeout=0, charges=charge(MOST))
            assert isinstance(found, Reservation)
            store.limiter.settle(found, 0, 7)
            await store.told()
            assert store.spent(charge(0)[0]) == (7, 0)

    asyncio.run(main())


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_cost_that_nobody_can_believe_leaves_the_store_working(
    store: str, fault_server: FaultServer, tmp_path: Path
) -> None:
    told = {
        "id": "r",
        "results": [{"index": 0, "relevance_score": 0.5}],
        "meta": {"billed_units": {"search_units": 1e17}},
    }
    fault_server.route("/v2/rerank", [status(200, told)])
    where = "memory" if store == "memory" else f"sqlite:{tmp_path}/limits.sqlite3"

    async def main() -> Any:
        budgets = [Budget("tag:ranks", usd=1, unknown="allow"), Budget("tag:words", usd=1)]
        async with asked(fault_server, budgets, limits_store=where) as llm:
            found = await llm.rerank("cohere/rerank-v3.5", "q", ["a"], tags="ranks")
            assert found.cost > 10**9
            for _ in range(2):
                await llm.query(MODEL, "Hi", max_tokens=5, tags="words")
            with pytest.raises(BudgetExceededError):
                await llm.rerank("cohere/rerank-v3.5", "q", ["a"], tags="ranks")
            return spent(llm)

    assert asyncio.run(main()) == [(10**6, 0), (2 * Decimal("0.00000585"), 0)]


# -- what calls pay ---------------------------------------------------------------------------------------------------


def asked(server: FaultServer, budgets: Any = (), **options: Any) -> QueryLLM:
    urls = {"openai": server.url, "cohere": server.url}
    config = LLMConfig(openai_api_key="sk-leaks-0123456789", cohere_api_key="co-leaks-0123456789", base_urls=urls)
    return QueryLLM(config, **{"budgets": budgets, "limits_store": "memory", **options})


def spent(llm: QueryLLM) -> list[tuple[Any, Any]]:
    """What is spent and held of each budget of a client."""
    admission = llm._load_engine().admission
    budgets: Any = admission.budgets
    charges = budgets.charges(budgets.budgets, 0, 0)
    pairs = [admission.limiter.spent(charge) for charge in charges]
    return [
        tuple(usd(each) if charge.unit == "usd" else each for each in pair)
        for charge, pair in zip(charges, pairs, strict=True)
    ]


def test_a_stream_that_is_left_takes_the_tokens_that_came(fault_server: FaultServer) -> None:
    fault_server.default = faults.stall_mid_stream()

    async def main() -> None:
        async with asked(fault_server, [Budget("all", usd=1), Budget("all", tokens=10_000)]) as llm:
            stream = await llm.query(MODEL, "Hi", max_tokens=5000, stream=True)
            async for _ in stream:
                break
            await stream.aclose()
            (cost, _), (tokens, held) = spent(llm)
            assert 0 < cost < Decimal("0.0001")
            assert held == 0
            assert 0 < tokens < 100
            # The next one has room.
            await (await llm.query(MODEL, "Hi", max_tokens=5000, stream=True)).aclose()

    asyncio.run(main())


def test_what_stands_in_extra_body_counts_in_the_bound(fault_server: FaultServer) -> None:
    async def main() -> None:
        async with asked(fault_server) as llm:
            target = llm._pool("gpt-6.1-sol", None).places[0].target

            def most(**params: Any) -> Any:
                return most_of(target, HELLO, params)

            assert most(max_tokens=50, extra_body={"service_tier": "ultrafast"}) == most(
                max_tokens=50, service_tier="ultrafast"
            )
            assert most(max_tokens=50, service_tier="ultrafast").picodollars > most(max_tokens=50).picodollars
            assert most(extra_body={"n": 4}) == most(n=4)
            assert most(n=4).tokens > 3 * most().tokens

    asyncio.run(main())


def test_what_costs_nothing_needs_no_maximum_and_no_money(fault_server: FaultServer) -> None:
    async def main() -> None:
        async with asked(fault_server, [Budget("all", usd=1)], registry=FREE) as llm:
            response = await llm.query("own", "Hi", max_cost=0)
            assert (response.cost, spent(llm)) == (0, [(0, 0)])
            (budget, own) = llm.explain("own", "Hi", max_cost=0).first.budgets
            assert (budget.takes, own.takes) == (0, 0)
        async with asked(fault_server, [Budget("all", tokens=1000)], registry=FREE) as llm:
            with pytest.raises(BudgetExceededError, match="no output limit") as caught:
                await llm.query("own", "Hi")
            assert (caught.value.code, llm.explain("own", "Hi").first.budgets[0].takes) == ("cost_unknown", None)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_an_overdrawn_budget_stops_only_what_costs(kind: str, valkey: Valkey, tmp_path: Path) -> None:
    async def main() -> None:
        async with kept(kind, tmp_path, valkey.url) as store:
            await settled(store, MOST + 1)  # more than was held, as pictures and searches may take
            book = Budgets([charge(0)[0].budget], lambda: NOW)
            for amount, free in ((1, False), (0, False), (0, True)):
                charges = book.charges(book.budgets, 0, amount, free=free)
                if free:
                    store.limiter.settle(await store.limiter.acquire((), 0, timeout=0, charges=charges), 0, 0)
                else:
                    with pytest.raises(BudgetExceededError):
                        await store.limiter.acquire((), 0, timeout=0, charges=charges)
            await store.told()
            assert store.spent(charge(0)[0]) == (MOST + 1, 0)

    asyncio.run(main())


def test_a_spent_budget_leaves_what_is_free_as_a_fallback(fault_server: FaultServer) -> None:
    async def main() -> None:
        async with asked(fault_server, [Budget("all", usd=1)], registry=FREE) as llm:
            admission = llm._load_engine().admission
            budgets: Any = admission.budgets
            got = await admission.limiter.acquire((), 0, charges=budgets.charges(budgets.budgets, 0, 1))
            admission.limiter.settle(got, 0, 2 * 10**12)
            response = await llm.query(MODEL, "Hi", max_tokens=5, fallback_model="own")
            assert [each.error_code for each in response.attempts] == ["budget_exceeded", None]
            fault_server.route("/responses/input_tokens", [status(200, {"input_tokens": 5})])
            assert (await llm.count_tokens(f"openai/{MODEL}", "Hi")).tokens == 5
            assert spent(llm) == [(2, 0)]

    asyncio.run(main())


def test_a_usage_that_nobody_told_keeps_all_that_was_held(fault_server: FaultServer) -> None:
    fault_server.default = ok(usage=None)

    async def main() -> None:
        async with asked(fault_server, [Budget("all", tokens=1000)]) as llm:
            response = await llm.query(MODEL, "Hi", max_tokens=50)
            ((tokens, held),) = spent(llm)
            assert (response.usage, held) == (Usage(), 0)
            assert tokens == most_of(llm._pool(MODEL, None).places[0].target, HELLO, {"max_tokens": 50}).tokens

    asyncio.run(main())


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        (None, (0, 0)),
        ({"input_tokens": 3, "output_tokens": "many"}, (3, 0)),
        (Usage(None, 2), (0, 2)),  # type: ignore[arg-type]  # what a class of the user's own may do
        (Usage(4.0, -2), (4, 0)),  # type: ignore[arg-type]  # the same
        (Usage(5, 6, estimated=True), (5, 6)),
    ],
)
def test_no_usage_of_a_class_of_ones_own_leaves_anything_held(
    told: Any, counts: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(BaseLLMProvider):
        async def generate(self, messages: Any, model: str, stream: bool = False, **_: Any) -> LLMResponse:
            return LLMResponse("hi", model, usage=told)

    monkeypatch.setitem(QueryLLM.provider_map, "parrot", (None, Own))

    async def main() -> None:
        async with QueryLLM(budgets=[Budget("all", tokens=1000)], limits_store="memory") as llm:
            response = await llm.query("parrot-1", "Hi", max_tokens=50)
            assert (response.content, response.usage.estimated) == ("hi", getattr(told, "estimated", False))
            assert (response.usage.input_tokens, response.usage.output_tokens) == counts
            ((tokens, held),) = spent(llm)
            assert held == 0
            assert tokens == (sum(counts) or tokens) > 0

    asyncio.run(main())


def test_what_is_refused_before_it_is_sent_holds_nothing(fault_server: FaultServer) -> None:
    async def main() -> None:
        async with asked(fault_server, [Budget("all", usd=1)]) as llm:
            with pytest.raises(UnsupportedParameterError):
                await llm.query("gpt-6.1-sol", "Hi", max_tokens=50, top_k=3, max_cost=1)
            assert spent(llm) == [(0, 0)]
            response = await llm.query(
                "gpt-6.1-sol", "Hi", max_tokens=50, top_k=3, fallback_model=MODEL, fallback_config={"max_tokens": 5}
            )
            assert spent(llm) == [(response.cost, 0)]

    asyncio.run(main())


# -- all of it at once ------------------------------------------------------------------------------------------------

_FAULTS: tuple[Callable[[], Any], ...] = (
    *(ok, lambda: ok(["a", "b", "c"]), lambda: reset, lambda: status(500), lambda: status(429), lambda: status(400)),
    *(faults.html_200, faults.cut_mid_stream, faults.truncated_json, faults.malformed_chunk, hold),
    *(faults.missing_terminal_marker, faults.error_in_stream, faults.stall_mid_stream, faults.duplicate_usage),
)


async def _ask(llm: QueryLLM, chance: random.Random) -> None:
    how: dict[str, Any] = {"max_tokens": 50, "timeout": 0.3, "max_cost": chance.choice([None, "0.0001"])}
    how |= chance.choice([{}, {"hedge_after": 0.01}, {"fallback_model": "gpt-4o"}])
    if chance.random() < 0.4:
        await llm.query(MODEL, "Hi", **how)
        return
    stream = await llm.query(MODEL, "Hi", stream=True, on_interrupt=chance.choice([None, "restart"]), **how)
    manner = chance.choice(["read", "leave", "drop"])
    if manner == "read":
        await stream.text()
    elif manner == "leave":
        async for _ in stream:
            break
        await stream.aclose()


async def _one(llm: QueryLLM, chance: random.Random) -> Any:
    """What became of a call that may be cancelled on its way."""
    task = asyncio.ensure_future(_ask(llm, chance))
    if chance.random() < 0.25:
        await asyncio.sleep(0.03 * chance.random())
        task.cancel()
    (found,) = await asyncio.gather(task, return_exceptions=True)
    return found


async def _at_rest(llm: QueryLLM) -> list[tuple[Any, Any]]:
    """What is spent and held once nothing is under way; the losers of hedges may end in the background."""
    for _ in range(200):
        gc.collect()
        await llm._load_engine().admission.limiter.aclose()
        if not any(held for _, held in spent(llm)):
            break
        await asyncio.sleep(0.02)
    return spent(llm)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_nothing_stays_held_whatever_becomes_of_calls(store: str, fault_server: FaultServer, tmp_path: Path) -> None:
    chance = random.Random(store)
    fault_server.script([chance.choice(_FAULTS)() for _ in range(400)])
    where = "memory" if store == "memory" else f"sqlite:{tmp_path}/limits.sqlite3"
    budgets = [Budget("all", tokens=10**9), Budget(f"model:{MODEL}", usd="0.0015", per="total")]
    options = {"retry": RetryPolicy(max_attempts=2, base_delay=0.001, max_delay=0.002), "limits_store": where}

    async def main() -> None:
        async with asked(fault_server, budgets, **options) as llm:
            found: list[Any] = []
            for _ in range(4):
                found += await asyncio.gather(*(_one(llm, chance) for _ in range(20)))
            assert not [e for e in found if e is not None and not isinstance(e, (LLMError, asyncio.CancelledError))]
            (tokens, held), (money, owed) = await _at_rest(llm)
            assert (held, owed) == (0, 0)
            assert 0 < money <= Decimal("0.0015")
            assert tokens > 0

    asyncio.run(main())
