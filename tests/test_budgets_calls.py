"""
Calls under budgets: what each attempt holds and comes to, what is refused before it is sent, and what then serves.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support import faults
from support.behaviours import hold, ok, reset, status
from support.fault_server import FaultServer, refused_url

from llm_master import (
    Budget,
    BudgetExceededError,
    CacheSettings,
    ConfigurationError,
    Deployment,
    InvalidRequestError,
    LLMConfig,
    ModelConfig,
    ProviderError,
    QueryLLM,
    RetryPolicy,
)
from llm_master.policy.limits_budget import picodollars, usd
from llm_master.policy.limits_sqlite import SqliteLimiter
from llm_master.spending import most_of

KEY = "sk-budgets-0123456789abcdef"
FAST = RetryPolicy(max_attempts=3, base_delay=0.001, max_delay=0.002)
MODEL = "gpt-4o-mini"


def client(server: FaultServer | str, budgets: Any = (), **options: Any) -> QueryLLM:
    url = server if isinstance(server, str) else server.url
    config = LLMConfig(openai_api_key=KEY, base_urls={"openai": url + "/openai"})
    return QueryLLM(config, **{"budgets": budgets, "limits_store": "memory", "retry": FAST, **options})


def spent(llm: QueryLLM) -> list[tuple[Any, Any]]:
    """What is spent and held of each budget of a client."""
    admission = llm._engine.admission
    charges = admission.budgets.charges(admission.budgets.budgets, 0, 0)
    found = [admission.limiter.spent(charge) for charge in charges]
    return [
        tuple(usd(each) if charge.unit == "usd" else each for each in pair)
        for charge, pair in zip(charges, found, strict=True)
    ]


def most(llm: QueryLLM, text: str = "Hi", **params: Any) -> Decimal:
    """The most that a call can cost, as it is held."""
    found = most_of(llm._pool(MODEL, None).places[0].target, [{"role": "user", "content": text}], params)
    assert found.picodollars is not None
    return usd(found.picodollars)


# -- what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_call_is_counted_with_what_it_cost(fault_server: FaultServer, tmp_path: Path, store: str) -> None:
    budgets = [Budget("all", usd=1), Budget("tag:a", tokens=1000, per="month"), Budget("tag:b", usd=1)]
    where = "memory" if store == "memory" else f"sqlite:{tmp_path}/limits.sqlite3"

    async def main() -> Any:
        async with client(fault_server, budgets, limits_store=where) as llm:
            first = await llm.query(MODEL, "Hi", max_tokens=50, tags=["a", "c"])
            stream = await llm.query(MODEL, "Hi", max_tokens=50, stream=True)
            async for _ in stream:
                pass
            await llm._engine.admission.limiter.aclose()
            return first, stream.response, spent(llm)

    first, second, found = asyncio.run(main())
    assert first.cost is not None
    assert first.cost > 0
    assert found == [(first.cost + second.cost, 0), (first.usage.total_tokens, 0), (0, 0)]


@pytest.mark.parametrize(
    "key", ["all", f"model:{MODEL}", "provider:openai", "tag:team", "deployment:east", "key:ID", "tag:other"]
)
def test_what_a_budget_may_be_under(fault_server: FaultServer, key: str) -> None:
    async def main() -> Any:
        deployments = {MODEL: [Deployment(name="east", model="gpt-4o")]}
        async with client(fault_server, deployments=deployments) as llm:
            first = await llm.query(MODEL, "Hi", max_tokens=5, tags="team")
        under = key.replace("ID", first.attempts[0].key_id)
        async with client(fault_server, [Budget(under, tokens=1)], deployments=deployments) as llm:
            await llm.query(MODEL, "Hi", max_tokens=5, tags="team")

    if key == "tag:other":
        asyncio.run(main())
    else:
        with pytest.raises(BudgetExceededError, match="1 tokens per day"):
            asyncio.run(main())
        assert len(fault_server.requests) == 1


def test_calls_in_parallel_never_hold_more_than_there_is(fault_server: FaultServer) -> None:
    async def main() -> tuple[Any, int, Any]:
        async with client(fault_server, [Budget("all", usd="0.0004")]) as llm:
            highest = 0

            async def one() -> str:
                nonlocal highest
                try:
                    await llm.query(MODEL, "Hi", max_tokens=100)
                except BudgetExceededError as error:
                    return str(error.code)
                finally:
                    ((used, held),) = spent(llm)
                    highest = max(highest, picodollars(used + held))
                return "ok"

            return await asyncio.gather(*(one() for _ in range(100))), highest, spent(llm)

    outcomes, highest, found = asyncio.run(main())
    price = Decimal("0.00000585")
    assert set(outcomes) == {"ok", "budget_exceeded"}
    assert found == [(outcomes.count("ok") * price, 0)]
    assert Decimal("0.0003") - price < found[0][0] <= Decimal("0.0004")
    assert highest <= picodollars("0.0004")
    assert len(fault_server.requests) == outcomes.count("ok")


def held_after(server: FaultServer | str, ask: Callable[[QueryLLM], Any], **options: Any) -> tuple[Decimal, Decimal]:
    """What is spent when a call has ended, and the most that its one attempt could cost."""

    async def main() -> tuple[Decimal, Decimal]:
        async with client(server, [Budget("all", usd=1)], **options) as llm:
            await asyncio.gather(ask(llm), return_exceptions=True)
            ((used, held),) = spent(llm)
            assert held == 0
            return used, most(llm, max_tokens=50)

    return asyncio.run(main())


@pytest.mark.parametrize("code", [400, 401, 404, 429, 500, 503])
def test_a_refusal_costs_nothing(fault_server: FaultServer, code: int) -> None:
    fault_server.default = status(code)
    used, _ = held_after(fault_server, lambda llm: llm.query(MODEL, "Hi", max_tokens=50))
    assert used == 0
    assert fault_server.requests


def test_what_never_reached_the_provider_costs_nothing() -> None:
    with refused_url() as url:
        used, _ = held_after(url, lambda llm: llm.query(MODEL, "Hi", max_tokens=50))
    assert used == 0


@pytest.mark.parametrize("fault", [reset, faults.reset_after_headers(), faults.html_200()])
def test_what_may_have_been_billed_counts_with_all_that_it_held(fault_server: FaultServer, fault: Any) -> None:
    fault_server.default = fault
    used, one = held_after(fault_server, lambda llm: llm.query(MODEL, "Hi", max_tokens=50, max_attempts=1))
    assert used == one > 0


def test_each_attempt_of_a_call_is_held_and_counted(fault_server: FaultServer) -> None:
    fault_server.script([reset, status(500), ok()])

    async def main() -> None:
        async with client(fault_server, [Budget("all", usd=1)]) as llm:
            await llm.query(MODEL, "Hi", max_tokens=50)
            assert spent(llm) == [(most(llm, max_tokens=50) + Decimal("0.00000585"), 0)]

    asyncio.run(main())


def test_a_stream_that_is_left_costs_what_came(fault_server: FaultServer) -> None:
    async def leave(llm: QueryLLM) -> None:
        stream = await llm.query(MODEL, "Hi", max_tokens=50, stream=True)
        async for _ in stream:
            break
        await stream.aclose()

    fault_server.default = faults.stall_mid_stream()
    used, one = held_after(fault_server, leave)
    assert 0 < used < one / 2


def test_a_call_that_is_cancelled_costs_all_that_it_held(fault_server: FaultServer) -> None:
    fault_server.default = hold()

    async def cancel(llm: QueryLLM) -> None:
        task = asyncio.ensure_future(llm.query(MODEL, "Hi", max_tokens=50))
        await asyncio.to_thread(fault_server.wait_held)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    used, one = held_after(fault_server, cancel)
    fault_server.release()
    assert used == one > 0


def test_both_targets_of_a_hedge_are_held(fault_server: FaultServer) -> None:
    fault_server.script([hold(0.3), ok()])

    async def main() -> None:
        async with client(fault_server, [Budget("all", usd=1)]) as llm:
            await llm.query(MODEL, "Hi", max_tokens=50, hedge_after=0.02)
            ((used, held),) = spent(llm)
            # The slower one was cancelled: it may have been billed whole.
            assert (used, held) == (most(llm, max_tokens=50) + Decimal("0.00000585"), 0)

    asyncio.run(main())


def test_a_kept_answer_costs_nothing(fault_server: FaultServer) -> None:
    async def main() -> None:
        cache = CacheSettings(kind="memory")
        async with client(fault_server, [Budget("all", usd=1)], cache=cache) as llm:
            first = await llm.query(MODEL, "Hi", max_tokens=50)
            again = await llm.query(MODEL, "Hi", max_tokens=50, max_cost="0.000001")
            assert again.cached
            assert spent(llm) == [(first.cost, 0)]

    asyncio.run(main())


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_cheaper_fallback_serves_what_the_budget_has_no_room_for(fault_server: FaultServer) -> None:
    async def main() -> Any:
        async with client(fault_server, [Budget("all", usd="0.001")]) as llm:
            return await llm.query(
                "gpt-4o", "Hi", max_tokens=1000, fallback_model=MODEL, fallback_config={"max_tokens": 100}
            )

    response = asyncio.run(main())
    assert response.model_name == MODEL
    assert [(each.outcome, each.error_code) for each in response.attempts] == [
        ("skipped", "budget_exceeded"),
        ("ok", None),
    ]


def test_a_spent_budget_fails_at_once_and_sends_nothing(fault_server: FaultServer) -> None:
    async def main() -> BudgetExceededError:
        async with client(fault_server, [Budget("tag:a", usd="0.00001")]) as llm:
            with pytest.raises(BudgetExceededError, match=r"of the budget of 'tag:a', 0\.00001 USD per day") as caught:
                await llm.query(MODEL, "Hi", max_tokens=50, tags="a", timeout=3600)
            await llm.query(MODEL, "Hi", max_tokens=50)
            return caught.value

    error = asyncio.run(main())
    assert error.left == Decimal("0.00001")
    assert error.renews is not None
    assert error.renews > dt.datetime.now(dt.UTC)
    assert [each.outcome for each in error.attempts] == ["skipped"]
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize(
    ("model", "params", "text"),
    [
        ("gpt-999-nova", {"max_tokens": 5}, "no price bounds it; give ModelConfig"),
        ("own", {}, "no output limit and its own is not known; give max_tokens="),
    ],
)
def test_what_has_no_bound_is_refused_or_let_go(
    fault_server: FaultServer, model: str, params: dict[str, int], text: str
) -> None:
    price = ModelConfig(provider="openai", input_price_per_million=1.0, output_price_per_million=2.0)

    async def main(**more: Any) -> Any:
        async with client(fault_server, [Budget("all", usd=1, **more)], registry={"own": price}) as llm:
            await llm.query(model, "Hi", **params)
            return spent(llm)

    with pytest.raises(BudgetExceededError, match=text) as caught:
        asyncio.run(main())
    assert caught.value.code == "cost_unknown"
    assert fault_server.requests == []
    ((used, held),) = asyncio.run(main(unknown="allow"))
    assert held == 0
    assert used == (0 if model != "own" else Decimal("0.000025"))


def test_a_model_of_your_own_price_needs_only_its_maximum(fault_server: FaultServer) -> None:
    price = ModelConfig(provider="openai", input_price_per_million=1.0, output_price_per_million=2.0)

    async def main() -> Any:
        async with client(fault_server, [Budget("all", usd=1)], registry={"own": price}) as llm:
            response = await llm.query("own", "Hi", extra_body={"max_completion_tokens": 5})
            return response, spent(llm)

    response, found = asyncio.run(main())
    assert found == [(response.cost, 0)] == [(Decimal("0.000025"), 0)]


# -- max_cost ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0.001, "0.001", Decimal("0.001"), 1])
def test_max_cost_bounds_a_call(fault_server: FaultServer, amount: Any) -> None:
    async def main() -> Any:
        async with client(fault_server) as llm:
            return await llm.query(MODEL, "Hi", max_tokens=50, max_cost=amount)

    assert asyncio.run(main()).content


@pytest.mark.parametrize("amount", [-1, "much", float("nan"), True])
def test_a_max_cost_that_is_none_is_refused(fault_server: FaultServer, amount: Any) -> None:
    with pytest.raises(InvalidRequestError, match="no amount of USD"):
        client(fault_server).query_sync(MODEL, "Hi", max_cost=amount)


def test_what_might_cost_more_is_not_sent(fault_server: FaultServer) -> None:
    with pytest.raises(BudgetExceededError, match=r"may take up to .* USD of max_cost=0.00001 USD") as caught:
        client(fault_server).query_sync(MODEL, "Hi", max_tokens=50, max_cost=0.00001)
    assert (caught.value.code, caught.value.key, caught.value.renews) == ("max_cost", "max_cost", None)
    assert fault_server.requests == []


def test_all_attempts_of_a_call_share_its_max_cost(fault_server: FaultServer) -> None:
    fault_server.default = reset

    async def main() -> tuple[Decimal, ProviderError]:
        async with client(fault_server) as llm:
            await asyncio.gather(llm.query(MODEL, "x", max_attempts=1), return_exceptions=True)
            one = most(llm, max_tokens=50)
            with pytest.raises(ProviderError) as caught:
                await llm.query(MODEL, "Hi", max_tokens=50, max_cost=one * Decimal("1.5"))
            return one, caught.value

    _, error = asyncio.run(main())
    # The first may have been billed whole, so that there is no room for a second; what it said is the better reason.
    assert [(each.outcome, each.error_code) for each in error.attempts] == [("error", None), ("skipped", "max_cost")]
    assert len(fault_server.requests) == 2


def test_a_call_does_not_share_another_calls_lack_of_money(fault_server: FaultServer) -> None:
    async def main() -> list[Any]:
        async with client(fault_server, cache="memory") as llm:
            calls = [llm.query(MODEL, "Hi", max_tokens=50, max_cost=each) for each in ("0.000001", None, "0.01")]
            return await asyncio.gather(*calls, return_exceptions=True)

    poor, *rich = asyncio.run(main())
    assert isinstance(poor, BudgetExceededError)
    assert [each.content for each in rich] == ["Hello from the other side."] * 2


# -- what else there is -----------------------------------------------------------------------------------------------


def test_a_new_day_renews_a_budget(fault_server: FaultServer) -> None:
    clock = [dt.datetime(2026, 11, 30, 23, 59, 59, tzinfo=dt.UTC).timestamp()]

    async def main() -> None:
        budgets = [Budget("all", usd="0.00006"), Budget("all", usd="0.00009", per="month")]
        async with client(fault_server, budgets) as llm:
            llm._load_engine().admission.budgets.clock = lambda: clock[0]
            await llm.query(MODEL, "Hi", max_tokens=50)
            with pytest.raises(BudgetExceededError, match="renews at 2026-12-01 00:00 UTC"):
                await llm.query(MODEL, "Hi " * 40, max_tokens=50)
            clock[0] += 1
            assert spent(llm) == [(0, 0), (0, 0)]
            await llm.query(MODEL, "Hi", max_tokens=50)
            clock[0] -= 1  # the clock is set back: what was spent on that day still counts
            assert spent(llm) == [(Decimal("0.00000585"), 0), (Decimal("0.00000585"), 0)]

    asyncio.run(main())


def test_a_call_that_waits_past_midnight_is_paid_by_the_new_day(fault_server: FaultServer) -> None:
    fault_server.script([hold(), ok()])
    clock = [dt.datetime(2026, 11, 21, 23, 59, 59, tzinfo=dt.UTC).timestamp()]

    async def main() -> Any:
        async with client(fault_server, [Budget("all", usd="0.0001")]) as llm:
            llm._load_engine().admission.budgets.clock = lambda: clock[0]
            first = asyncio.ensure_future(llm.query(MODEL, "Hi", max_tokens=50, max_attempts=1))
            await asyncio.to_thread(fault_server.wait_held)
            second = asyncio.ensure_future(llm.query(MODEL, "Hi", max_tokens=50))
            await asyncio.sleep(0.02)
            assert not second.done()
            clock[0] += 1
            first.cancel()  # all that it held is spent, yesterday
            await asyncio.gather(first, return_exceptions=True)
            response = await asyncio.wait_for(second, 10)
            fault_server.release()
            return response, spent(llm)

    response, found = asyncio.run(main())
    assert found == [(response.cost, 0)]


def test_vectors_count_and_counting_tokens_is_free(fault_server: FaultServer) -> None:
    fault_server.route("/openai/embeddings", [vectors()])

    async def main() -> None:
        async with client(fault_server, [Budget("all", usd=1)]) as llm:
            found = await llm.embed("text-embedding-3-small", ["one", "two"])
            assert found.cost
            assert spent(llm) == [(found.cost, 0)]
            with pytest.raises(BudgetExceededError, match="no price bounds it"):
                await llm.speak("gpt-4o-mini-tts", "Hello", voice="alloy")

    asyncio.run(main())


def vectors() -> Any:
    body = {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": index, "embedding": [0.5, 1.0]} for index in range(2)],
        "usage": {"prompt_tokens": 20, "total_tokens": 20},
    }
    return status(200, body)


def test_explain_shows_the_budgets(fault_server: FaultServer) -> None:
    async def main() -> tuple[Any, Any]:
        budgets = [Budget("all", usd=1), Budget("tag:a", tokens=1000, per="total")]
        async with client(fault_server, budgets) as llm:
            await llm.query(MODEL, "Hi", max_tokens=50, tags="a")
            plan = llm.explain(MODEL, "Hi", max_tokens=50, tags="a", max_cost="0.5")
            assert len(fault_server.requests) == 1
            return plan, most(llm, max_tokens=50)

    plan, one = asyncio.run(main())
    money, tokens, own = plan.first.budgets
    assert (money.key, money.left, money.held, money.takes) == ("all", 1 - Decimal("0.00000585"), 0, one)
    assert (tokens.key, tokens.unit, tokens.most, tokens.left, tokens.renews) == ("tag:a", "tokens", 1000, 982, None)
    assert (own.key, own.most, own.per) == ("max_cost", Decimal("0.5"), "call")
    assert "budget all: $0.99999415 of $1 a day left; this takes at most $" in str(plan)
    assert plan.to_dict()["steps"][0]["deployments"][0]["budgets"][0]["left"] == "0.99999415"


# -- where it is set --------------------------------------------------------------------------------------------------

FILE = """
[[budgets]]
key = "all"
usd = 0.5

[[budgets]]
key = "provider:OpenAI"
tokens = 100_000
per = "month"
timezone = "Europe/Berlin"
unknown = "allow"
"""


def test_the_settings_file_names_budgets_and_a_reload_changes_them(fault_server: FaultServer, tmp_path: Path) -> None:
    path = tmp_path / "llm_master.toml"
    path.write_text(FILE)
    config = LLMConfig(openai_api_key=KEY, base_urls={"openai": fault_server.url})

    async def main() -> None:
        llm = QueryLLM.from_file(path, config, budgets=[Budget("all", usd=2)], limits_store="memory")
        async with llm:
            own, given = sorted(llm._load_engine().admission.budgets.budgets, key=lambda each: each.key, reverse=True)
            assert own == Budget(
                "provider:openai", tokens=100_000, per="month", timezone="Europe/Berlin", unknown="allow"
            )
            assert given == Budget("all", usd=2)
            first = await llm.query(MODEL, "Hi", max_tokens=5)
            path.write_text(FILE.replace("100_000", str(first.usage.total_tokens)))
            llm.reload()
            with pytest.raises(BudgetExceededError, match="of which 0 tokens is left"):
                await llm.query(MODEL, "Hi", max_tokens=5)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[[budgets]]\nkey = "all"', 1, "bounds nothing"),
        ("[[budgets]]\nusd = 5", 1, "lacks its key"),
        ('[[budgets]]\nkey = "all"\nusd = -5', 3, "give USD, a number above 0"),
        ('[[budgets]]\nkey = "all"\nusd = 5\nper = "week"', 4, 'give one of "hour", "day"'),
        ('[[budgets]]\nkey = "tags:x"\nusd = 5', 1, "cannot have a budget"),
        ('[[budgets]]\nkey = "provider:opnai"\nusd = 5', 2, "did you mean 'openai'"),
        ('[[budgets]]\nkey = "all"\nusd = 5\nusd_per_day = 5', 4, "unknown setting"),
        ('[[budgets]]\nkey = "all"\nusd = 5\n[[budgets]]\nkey = "all"\nusd = 6', 4, "two budgets of usd per day"),
        ('[budgets]\nkey = "all"', 1, "write [[budgets]] above each"),
        ('[[budgets]]\nkey = "all"\nusd = 5\ntimezone = "Mars"', 1, "timezone='Mars'"),
    ],
)
def test_a_wrong_budget_of_a_file_is_named_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = tmp_path / "llm_master.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        QueryLLM.from_file(path, LLMConfig())
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert words in str(caught.value)


def test_where_budgets_are_kept(fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_MASTER_REDIS_URL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def limiter(**options: Any) -> Any:
        return client(fault_server, limits_store=None, **options)._load_engine().admission.limiter

    one = limiter(budgets=[Budget("all", usd=1)])
    assert isinstance(one, SqliteLimiter)
    assert one.path == str(tmp_path / "state" / "llm_master" / "limits.sqlite3")
    assert limiter(budgets=[Budget("all", usd=2)]) is one
    assert type(limiter()).__name__ == "MemoryLimiter"
    monkeypatch.setenv("LLM_MASTER_LIMITS", f"sqlite:{tmp_path}/other.db")
    assert limiter().path == f"{tmp_path}/other.db"
    monkeypatch.setenv("LLM_MASTER_LIMITS", "redis://127.0.0.1:1/0")
    assert type(limiter()).__name__ == "RedisLimiter"
    assert type(limiter(redis_url="redis://127.0.0.1:1/0")).__name__ == "RedisLimiter"
    monkeypatch.setenv("LLM_MASTER_LIMITS", "postgres://user:secret-0123@host/db")
    with pytest.raises(ConfigurationError, match="names no store of limits") as caught:
        limiter()
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="give one of them"):
        client(fault_server, limits_store="memory", redis_url="redis://x")._load_engine()


def test_a_call_without_budgets_loads_nothing_of_them(fault_server: FaultServer) -> None:
    program = (
        "import sys; from llm_master import LLMConfig, QueryLLM\n"
        f"config = LLMConfig(openai_api_key={KEY!r}, base_urls={{'openai': {fault_server.url!r}}})\n"
        "llm = QueryLLM(config, ledger='off')\n"
        f"llm.query_sync({MODEL!r}, 'Hi', max_tokens=5)\n"
        "names = ('policy.limits_budget', 'policy.limits_sqlite', 'policy.limits_shared', 'spending')\n"
        "print([name for name in names if f'llm_master.{name}' in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
