"""
Budgets that several processes share: restarts, kills, forks, stores that do not answer, and never a picodollar too
much.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import budget_run
import pytest
from hypothesis import HealthCheck, given, settings
from support.budgets_model import NOW, charges_of, kept
from support.fault_server import FaultServer
from support.limits_model import Model, compare, made_limits, steps
from support.valkey import Valkey, client

from llm_master import Budget, BudgetExceededError, Limit, LLMConfig, QueryLLM, RateLimitError
from llm_master.policy import limits_sqlite_sql as sql
from llm_master.policy.limits_budget import Budgets
from llm_master.policy.limits_redis import RedisLimiter
from llm_master.policy.limits_rules import Shortage
from llm_master.policy.limits_sqlite import SqliteLimiter

MOST = 1000


def charge(amount: int, mark: str = "x") -> list[Any]:
    return charges_of((amount, 0), (MOST, 1), mark)[:1]


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "folder" / "limits.sqlite3")


def rows(path: str, query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


# -- many processes ---------------------------------------------------------------------------------------------------


def test_eight_processes_never_pass_one_budget(fault_server: FaultServer, valkey: Valkey, file: str) -> None:
    for store in (f"sqlite:{file}", valkey.url):
        found = budget_run.run(fault_server.url, store, 8, 60)
        assert budget_run.is_well(found), found
        assert found["overrun"] == 0
        # Half of the calls can be paid; what is left at the end is less than one more call may cost.
        assert 230 <= found["outcomes"]["ok"] <= 240
        assert found["used"] > 0.95


@pytest.mark.parametrize(
    "wrong",
    [
        {"overrun": 1},
        {"held": 1},
        {"seen": 6},
        {"outcomes": {"ok": 1}},
        {"outcomes": {"ok": 1, "limits_unavailable": 1}},
    ],
)
def test_the_run_itself_would_notice(wrong: dict[str, Any]) -> None:
    good = {"outcomes": {"ok": 1, "budget_exceeded": 1}, "overrun": 0, "held": 0, "seen": 5, "spent": 5, "calls": 2}
    assert budget_run.is_well(good)
    assert not budget_run.is_well(good | wrong)


def test_a_restart_forgets_nothing(fault_server: FaultServer, file: str) -> None:
    config = LLMConfig(openai_api_key="sk-budgets-0123456789", base_urls={"openai": fault_server.url})
    program = (
        "import sys; from llm_master import *\n"
        "config = LLMConfig(openai_api_key='sk-budgets-0123456789', base_urls={'openai': sys.argv[1]})\n"
        "llm = QueryLLM(config, budgets=[Budget('all', usd='0.0001')], limits_store=sys.argv[2])\n"
        # Not closed: the end of the process writes what is still to be written.
        "print(llm.query_sync('gpt-4o-mini', 'Hi', max_tokens=20).cost)\n"
    )
    command = [sys.executable, "-c", program, fault_server.url, f"sqlite:{file}"]
    costs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    llm = QueryLLM(config, budgets=[Budget("all", usd="0.0001")], limits_store=f"sqlite:{file}")
    plan = llm.explain("gpt-4o-mini", "Hi", max_tokens=20)
    (budget,) = plan.first.budgets
    assert (budget.left, budget.held) == (Decimal("0.0001") - sum(map(Decimal, costs)), 0)


HOLDER = """
import asyncio, sys
sys.path.insert(0, "tests")
from support.budgets_model import charges_of
from llm_master.policy.limits_sqlite import SqliteLimiter

async def main():
    limiter = SqliteLimiter(sys.argv[1], lease=float(sys.argv[2]))
    await limiter.acquire((), 0, charges=charges_of((700, 0), (1000, 1), "x")[:1])
    print("held", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_what_a_killed_process_held_is_spent(file: str) -> None:
    command = [sys.executable, "-c", HOLDER, file, "0.6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        async def main() -> None:
            limiter = SqliteLimiter(file, lease=0.6)
            waiter = asyncio.ensure_future(limiter.acquire((), 0, charges=charge(500)))
            # It prolongs its lease as long as it lives.
            await asyncio.sleep(1.0)
            assert not waiter.done()
            holder.send_signal(signal.SIGKILL)
            with pytest.raises(BudgetExceededError) as caught:
                await asyncio.wait_for(waiter, 20)
            assert caught.value.code == "budget_exceeded"
            limiter.settle(await limiter.acquire((), 0, charges=charge(300)))
            await limiter.aclose()
            assert limiter.spent(charge(0)[0]) == (1000, 0)

        asyncio.run(main())


def test_a_forked_child_counts_and_leaves_the_parents_calls_alone(file: str) -> None:
    async def main() -> None:
        limiter = SqliteLimiter(file)
        got = await limiter.acquire((), 0, charges=charge(500))
        pid = os.fork()
        if not pid:
            code = 1
            with contextlib.suppress(BaseException):
                code = await _in_child(limiter, got)
            os._exit(code)
        # The loop is shared by the two for as long as the child lives.
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        limiter.settle(got, 0, 200)
        await limiter.aclose()
        assert limiter.spent(charge(0)[0]) == (300, 0)

    asyncio.run(main())


async def _in_child(limiter: SqliteLimiter, parents: Any) -> int:
    def work() -> int:
        async def inner() -> int:
            limiter.settle(parents, 0, 0)  # not the child's: nothing happens
            limiter.settle(await limiter.acquire((), 0, charges=charge(100)))
            try:
                await limiter.acquire((), 0, timeout=0, charges=charge(401))
            except BudgetExceededError as error:
                await limiter.aclose()
                return 0 if error.code == "local_rate_limit" else 3
            return 2

        return asyncio.run(inner())

    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_loops_in_several_threads_share_a_limiter(file: str) -> None:
    limiter = SqliteLimiter(file)
    granted = []

    def work() -> None:
        async def main() -> None:
            for _ in range(30):
                with contextlib.suppress(BudgetExceededError):
                    got = await limiter.acquire((), 0, charges=charge(50))
                    await asyncio.sleep(0)
                    limiter.settle(got, 0, 15)
                    granted.append(15)

        asyncio.run(main())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(limiter.aclose())
    assert limiter.spent(charge(0)[0]) == (sum(granted), 0)
    assert MOST - 50 < sum(granted) <= MOST


# -- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_is_the_users_own(file: str) -> None:
    async def main() -> None:
        limiter = SqliteLimiter(file)
        limiter.settle(await limiter.acquire((), 0, charges=charge(1)))
        await limiter.aclose()

    asyncio.run(main())
    assert Path(file).stat().st_mode & 0o777 == 0o600
    assert Path(file).parent.stat().st_mode & 0o777 == 0o700
    assert rows(file, "PRAGMA journal_mode") == [("wal",)]
    assert rows(file, "SELECT * FROM holds_1") == []


def test_a_locked_file_stops_calls_under_budgets_and_lets_others_go(file: str) -> None:
    async def main() -> None:
        limiter = SqliteLimiter(file, timeout=0.1, rest=0.05)
        got = await limiter.acquire((), 0, charges=charge(500))
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(RateLimitError, match=r"budget tag:x-a usd/day/.* cannot be kept .*locked") as caught:
                await limiter.acquire((), 0, charges=charge(1))
            assert caught.value.code == "limits_unavailable"
            free = await limiter.acquire((Limit("model:x", rpm=1),), 0)
            assert "went on without its shared limits" in (free.note or "")
            with pytest.raises(RateLimitError, match="shared limit model:x"):
                await limiter.acquire((Limit("model:x", rpm=1, fail_open=False),), 0)
            limiter.settle(free)
            limiter.settle(got, 0, 200)  # what a call came to is not lost
            await asyncio.sleep(0.15)
            assert limiter.failures >= 1
            other.execute("ROLLBACK")
        for _ in range(200):
            if limiter.spent(charge(0)[0]) == (200, 0):
                break
            await asyncio.sleep(0.02)
        assert limiter.spent(charge(0)[0]) == (200, 0)
        limiter.settle(await limiter.acquire((), 0, charges=charge(800)))
        await limiter.aclose()

    asyncio.run(main())


def test_a_file_that_cannot_be_one_stops_calls_under_budgets(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"this is no database" * 100)

    async def main(path: Path) -> str:
        limiter = SqliteLimiter(str(path), timeout=0.1)
        with pytest.raises(RateLimitError, match="cannot be kept") as caught:
            await limiter.acquire((), 0, charges=charge(1))
        await limiter.aclose()
        return str(caught.value)

    assert "not a database" in asyncio.run(main(broken))
    assert "cannot be kept" in asyncio.run(main(broken / "below"))
    assert broken.read_bytes() == b"this is no database" * 100


def test_windows_that_ended_long_ago_are_dropped(file: str) -> None:
    clock = [NOW]

    async def main() -> None:
        limiter = SqliteLimiter(file, wall=lambda: clock[0])
        for mark in ("old", "new"):
            limiter.settle(await limiter.acquire((), 0, charges=charge(1, mark)))
            clock[0] += 64 * 86400
        await limiter.aclose()

    asyncio.run(main())
    assert [key.partition(" ")[0] for (key,) in rows(file, "SELECT key FROM budgets_1")] == ["tag:new-a"]


def test_a_limiter_that_is_dropped_ends_its_thread(file: str) -> None:
    async def main() -> None:
        limiter = SqliteLimiter(file)
        limiter.settle(await limiter.acquire((), 0, charges=charge(1)))
        await limiter.aclose()

    def running() -> int:
        return sum(thread.name == "llm-master-limits" for thread in threading.enumerate())

    before = running()
    asyncio.run(main())
    gc.collect()
    for _ in range(200):
        if running() <= before:
            break
        time.sleep(0.01)  # the thread needs its turn
    assert running() <= before


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made_limits, steps)
def test_limits_in_a_file_are_those_of_the_plain_model(rules: dict[str, Limit], program: list[tuple[Any, ...]]) -> None:
    class Clock:
        now = 10_000.25

    clock = Clock()
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        sql.prepare(db)
        names = iter(range(10**6))

        def take(limits: list[Limit], tokens: int) -> Any:
            # A limit of nothing is no row of the file; its calls are counted in no window.
            name = str(next(names))
            found = sql.reserve(db, sql.Wish(name, limits, tokens, clock.now, clock.now + 10**9))
            if isinstance(found, Shortage):
                return found.seconds
            return name, [limit.key for limit in limits], found, tokens

        def end(held: Any, tokens: int | None, undo: bool) -> None:
            name, keys, cell, estimate = held
            real = 0 if undo else estimate if tokens is None else tokens
            sql.settle(db, name, cell, [(key, -int(undo), real - estimate) for key in keys], ())

        def check(_: Model) -> None:
            assert db.execute("SELECT count(*) FROM uses_1 WHERE requests < 0 OR tokens < 0").fetchone() == (0,)

        compare(rules, program, time=clock, take=take, end=end, check=check)


def test_a_clock_that_is_set_back_blocks_for_a_minute_at_most() -> None:
    limit = Limit("model:x", rpm=2)
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        sql.prepare(db)

        def take(now: float) -> Any:
            return sql.reserve(db, sql.Wish(f"{now}", [limit], 0, now, now + 60))

        assert take(90_000.0) == 90_000
        assert take(90_000.5) == 90_000
        found = take(5000.0)
        assert isinstance(found, Shortage)
        assert found.seconds == 61.0
        assert take(5061.0) == 5061


def test_a_providers_stop_holds_for_all_processes(file: str) -> None:
    async def main() -> None:
        one, two = SqliteLimiter(file), SqliteLimiter(file)
        one.observe(["model:x"], {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"})
        await one.aclose()
        with pytest.raises(RateLimitError, match="the provider allows nothing more under model:x"):
            await two.acquire((Limit("model:x"),), 0, timeout=1)
        await two.aclose()

    asyncio.run(main())


# -- a Valkey ---------------------------------------------------------------------------------------------------------


def test_a_frozen_store_stops_calls_under_budgets(valkey: Valkey, tmp_path: Path) -> None:
    async def main() -> None:
        async with kept("valkey", tmp_path, valkey.url) as store:
            limiter = store.limiter
            limiter._store._patience, limiter._store._rest = 0.15, 0.05
            got = await limiter.acquire((), 0, charges=charge(300))
            valkey.freeze()
            try:
                with pytest.raises(RateLimitError, match=r"the budget .* cannot be kept .*check the store") as caught:
                    await limiter.acquire((), 0, charges=charge(300))
                assert caught.value.code == "limits_unavailable"
                limiter.settle(got, 0, 100)
            finally:
                valkey.thaw()
            # What the store was asked and could not answer it may have done: that is undone, and the end is told.
            limiter._store._patience = 5.0
            for _ in range(200):
                await asyncio.sleep(0.02)
                with contextlib.suppress(RateLimitError):
                    limiter.settle(await limiter.acquire((), 0, charges=charge(1)), 0, 0)
                await store.told()
                if store.spent(charge(0)[0]) == (100, 0):
                    break
            assert store.spent(charge(0)[0]) == (100, 0)

    asyncio.run(main())


def test_a_frozen_store_stops_the_call_itself(fault_server: FaultServer) -> None:
    async def main(store: Valkey) -> None:
        config = LLMConfig(openai_api_key="sk-budgets-0123456789", base_urls={"openai": fault_server.url})
        async with QueryLLM(config, budgets=[Budget("all", usd=1)], limits_store=store.url) as llm:
            llm._load_engine().admission.limiter._store._patience = 0.2
            store.freeze()
            try:
                with pytest.raises(RateLimitError, match="cannot be kept"):
                    await llm.query("gpt-4o-mini", "Hi", max_tokens=5)
            finally:
                store.thaw()

    with Valkey() as store:
        asyncio.run(main(store))
    assert fault_server.requests == []


def test_a_lease_that_is_over_leaves_what_it_held_spent(valkey: Valkey, tmp_path: Path) -> None:
    async def main() -> None:
        async with kept("valkey", tmp_path, valkey.url, at=lambda: clock[0]) as store:
            limiter = store.limiter
            got = await limiter.acquire((), 0, charges=charge(700))
            with pytest.raises(BudgetExceededError, match="other calls hold it"):
                await limiter.acquire((), 0, timeout=0, charges=charge(500))
            clock[0] += 61.0
            with pytest.raises(BudgetExceededError) as caught:
                await limiter.acquire((), 0, charges=charge(500))
            assert caught.value.code == "budget_exceeded"
            assert store.spent(charge(0)[0]) == (700, 0)
            limiter.settle(got, 0, 100)  # it lived after all, and says what it came to
            await store.told()
            assert store.spent(charge(0)[0]) == (100, 0)

    clock = [NOW]
    asyncio.run(main())


def test_a_window_is_kept_for_two_days_after_its_end(valkey: Valkey, tmp_path: Path) -> None:
    async def main() -> dict[str, int]:
        async with kept("valkey", tmp_path, valkey.url) as store:
            book = Budgets([Budget("tag:day", usd=1), Budget("tag:ever", usd=1, per="total")])
            charges = book.charges(book.budgets, 0, 5)
            store.limiter.settle(await store.limiter.acquire((), 0, charges=charges))
            await store.told()
            with contextlib.suppress(BudgetExceededError):
                await store.limiter.acquire((), 0, timeout=0, charges=book.charges(book.budgets, 0, 2 * 10**12))
            with client(valkey.url) as redis:
                return {key.partition(":u:")[2].partition(" ")[0]: redis.pttl(key) for key in redis.keys("*:u:*")}

    left = asyncio.run(main())
    assert left["tag:ever"] == -1
    assert 2 * 86_400_000 - 5000 < left["tag:day"] <= 3 * 86_400_000


def test_a_settlement_that_is_told_twice_counts_once(valkey: Valkey, tmp_path: Path) -> None:
    async def main() -> None:
        async with kept("valkey", tmp_path, valkey.url) as store:
            limiter = store.limiter
            got = await limiter.acquire((), 0, charges=charge(500))
            hold = got.handle
            for _ in range(2):
                limiter._store.post(hold.keys, "settle", hold.name, got.cell, 0, 0, "200")
                await store.told()
            limiter._store.post(hold.keys, "undo", hold.name)
            await store.told()
            assert store.spent(charge(0)[0]) == (200, 0)

    asyncio.run(main())


def test_the_page_states_the_defaults_of_the_code() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "budgets.md").read_text(encoding="utf-8")
    in_file, in_store = (
        {name: each.default for name, each in inspect.signature(kind).parameters.items()}
        for kind in (SqliteLimiter, RedisLimiter)
    )
    text = " ".join(page.split())
    assert f"a Redis or Valkey after {in_store['patience']:g} s, a file that others hold locked" in text
    assert f"hold locked after {in_file['timeout']:g} s" in text
    assert f"nobody waits for it longer than {in_file['lease']:g} s" in text
    assert in_file["lease"] == in_store["lease"]


def test_the_store_knows_no_key_and_no_text(fault_server: FaultServer, file: str) -> None:
    config = LLMConfig(openai_api_key="sk-budgets-0123456789", base_urls={"openai": fault_server.url})

    async def main() -> None:
        async with QueryLLM(config, budgets=[Budget("all", usd=1)], limits_store=f"sqlite:{file}") as llm:
            await llm.query("gpt-4o-mini", "a secret plan", max_tokens=5)

    asyncio.run(main())
    data = b"".join(path.read_bytes() for path in Path(file).parent.iterdir())
    assert b"all usd/day" in data
    assert b"secret plan" not in data
    assert b"sk-budgets" not in data
