"""
The limits shared through a real Valkey: the answers of the limiter in memory, for any number of processes, and no call
held up by a store that is frozen, restarted or gone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from support.leaving import cancelled_once
from support.limits_model import Model, compare, made_limits, steps
from support.valkey import Valkey, client, namespace

from llm_master.errors import ConfigurationError, InvalidRequestError, RateLimitError
from llm_master.policy.limits import Limit
from llm_master.policy.limits_lua import SCRIPT
from llm_master.policy.limits_redis import RedisLimiter

SEEN = 10_000.25


class Clock:
    def __init__(self, now: float = SEEN) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def told(limiter: RedisLimiter) -> None:
    """Wait until this loop has told the store everything."""
    link = limiter._store.link()
    while link.tasks:
        await asyncio.wait(link.tasks)
        await asyncio.sleep(0)


def with_limiter(
    url: str, program: Callable[[RedisLimiter], Awaitable[Any]], *, clean: bool = True, **options: Any
) -> Any:
    """Run a coroutine with a limiter in a namespace of its own; nothing may be left behind, here or in the store."""
    options = {"namespace": namespace(), "timeout": 5.0} | options

    async def main() -> Any:
        limiter = RedisLimiter(url, **options)
        try:
            result = await program(limiter)
            if clean:
                await told(limiter)
                assert (limiter._lines, list(limiter._store._outbox), limiter.failures) == ({}, [], 0)
        finally:
            await limiter.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    result = asyncio.run(main())
    if clean:
        with client(url) as redis:
            keys = list(redis.scan_iter(f"{{{options['namespace']}}}:*", count=1000))
            assert all(0 < redis.pttl(key) <= 70_000 or options.get("at") for key in keys)
            assert [key for key in keys if ":p:" in key and redis.zcard(key)] == []
    return result


def window(url: str, name: str, key: str) -> dict[str, int]:
    with client(url) as redis:
        found = redis.hgetall(f"{{{name}}}:w:{key}")
    return {field: int(float(value)) for field, value in found.items()}


# -- the script -------------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(made_limits, steps)
def test_every_answer_is_that_of_the_plain_model(
    shared_valkey: Valkey, rules: dict[str, Limit], program: list[tuple[Any, ...]]
) -> None:
    clock, tag, names = Clock(), namespace(), itertools.count()
    redis = connection(shared_valkey.url)

    def run(keys: list[str], *arguments: Any) -> Any:
        pairs = [f"{{{tag}}}:{kind}:{key}" for key in keys for kind in ("w", "p")]
        return redis(keys=pairs, args=[arguments[0], clock.now, *arguments[1:]])

    def take(limits: list[Limit], tokens: int) -> Any:
        name, keys = next(names), [limit.key for limit in limits]
        figures = [figure for limit in limits for figure in (limit.rpm, limit.tpm, limit.max_concurrency)]
        granted, *rest = run(
            keys, "reserve", name, tokens, 10**9, *("" if figure is None else figure for figure in figures)
        )
        return (name, keys, rest[0], tokens) if granted else math.inf if rest[0] < 0 else rest[0] / 1000.0

    def end(held: Any, tokens: int | None, undo: bool) -> None:
        name, keys, cell, estimate = held
        real = 0 if undo else estimate if tokens is None else tokens
        run(keys, "settle", name, cell, -int(undo), real - estimate)

    def check(model: Model) -> None:
        for key in rules:
            found = window(shared_valkey.url, tag, key) if model.calls and model.calls[-1]["at"] == clock.now else {}
            sums = [sum(v for f, v in found.items() if f[0] == c and f[1:].isdigit()) for c in "rt"]
            assert sums == [found.get("R", 0), found.get("T", 0)]
            assert min(found.values(), default=0) >= 0

    compare(rules, program, time=clock, take=take, end=end, check=check, coarse=0.001)


_CONNECTIONS: dict[str, Any] = {}


def connection(url: str) -> Any:
    """The script on a blocking connection, one for all examples."""
    if url not in _CONNECTIONS:
        _CONNECTIONS[url] = client(url)
    return _CONNECTIONS[url].register_script(SCRIPT)


@pytest.fixture(scope="module", autouse=True)
def _close_connections() -> Iterator[None]:
    yield
    while _CONNECTIONS:
        _CONNECTIONS.popitem()[1].close()


def test_a_server_clock_that_is_set_back_admits_nothing_more_and_blocks_for_a_minute_at_most(
    shared_valkey: Valkey,
) -> None:
    clock = Clock(5000.0)
    limits = (Limit("model:x", rpm=3, tpm=30),)

    async def program(limiter: RedisLimiter) -> None:
        for _ in range(3):
            limiter.settle(await limiter.acquire(limits, 10))
        for now, wait in ((4990.0, 71.0), (1000.0, 61.0), (1060.5, 0.5)):
            clock.now = now
            with pytest.raises(RateLimitError) as caught:
                await limiter.acquire(limits, 10, timeout=0)
            assert caught.value.retry_after == pytest.approx(wait)
        clock.now = 1061.0
        limiter.settle(await limiter.acquire(limits, 30, timeout=0))

    with_limiter(shared_valkey.url, program, at=clock)


def test_a_place_is_kept_while_its_call_lasts_and_given_back_when_its_process_dies(shared_valkey: Valkey) -> None:
    clock, name = Clock(), namespace()
    limits = (Limit("model:x", max_concurrency=1),)

    async def program(limiter: RedisLimiter) -> None:
        other = RedisLimiter(shared_valkey.url, namespace=name, timeout=5.0, at=clock)
        held = await limiter.acquire(limits, 1)
        for _ in range(3):
            clock.now += 50
            with pytest.raises(RateLimitError, match="1 calls at a time"):
                await other.acquire(limits, 1, timeout=0)
            limiter._store._prolong(limiter._store.link())
            await told(limiter)
        clock.now += 61
        taken = await other.acquire(limits, 1, timeout=0)
        limiter._store._prolong(limiter._store.link())  # its lease has run out: it does not come back
        await told(limiter)
        other.settle(taken)
        await told(other)
        other.settle(await other.acquire(limits, 1, timeout=0))
        await told(other)
        limiter.settle(held)
        await other.aclose()

    with_limiter(shared_valkey.url, program, at=clock, namespace=name)


def test_a_call_that_outlives_the_minute_changes_no_later_second(shared_valkey: Valkey) -> None:
    clock, name = Clock(), namespace()
    limits = (Limit("model:x", tpm=10, max_concurrency=2),)

    async def program(limiter: RedisLimiter) -> None:
        old = await limiter.acquire(limits, 10)
        clock.now += 61
        new = await limiter.acquire(limits, 10)
        limiter.cancel(old)
        await told(limiter)
        assert window(shared_valkey.url, name, "model:x") | {"cell": 0, "n": 0} == {
            "cell": 0,
            "R": 1,
            "T": 10,
            "n": 0,
            f"r{new.cell % 61}": 1,
            f"t{new.cell % 61}": 10,
        }
        limiter.settle(new)

    with_limiter(shared_valkey.url, program, at=clock, namespace=name)


def test_a_provider_that_says_stop_stops_every_process(shared_valkey: Valkey) -> None:
    name = namespace()
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "12s"}

    async def program(limiter: RedisLimiter) -> None:
        clock = Clock()
        first = RedisLimiter(shared_valkey.url, namespace=name, timeout=5.0, at=clock)
        second = RedisLimiter(shared_valkey.url, namespace=name, timeout=5.0, at=clock)
        limits = (Limit("provider:y", rpm=100),)
        first.settle(await first.acquire(limits, 1))
        first.observe(["provider:y"], headers)
        first.observe(["provider:y"], headers | {"x-ratelimit-reset-requests": "1s"})
        await told(first)
        with pytest.raises(RateLimitError, match="the provider allows nothing more under provider:y") as caught:
            await second.acquire(limits, 1, timeout=11)
        assert caught.value.retry_after == pytest.approx(12.0)
        clock.now += 12
        second.settle(await second.acquire(limits, 1, timeout=0))
        for each in (first, second):
            await each.aclose()

    with_limiter(shared_valkey.url, program, namespace=name)


# -- one process ------------------------------------------------------------------------------------------------------


def test_errors_are_those_of_the_limiter_in_memory(shared_valkey: Valkey) -> None:
    name = namespace()

    async def program(limiter: RedisLimiter) -> None:
        limits = (Limit("provider:y"), Limit("model:x", rpm=2, tpm=100), Limit("model:x", rpm=1))
        assert await limiter.acquire((), 5) is not None
        with pytest.raises(InvalidRequestError, match="tokens="):
            await limiter.acquire(limits, -1)
        with pytest.raises(RateLimitError, match=r"'x' at y needs up to 101 tokens.*rate_limit_tpm"):
            await limiter.acquire(limits, 101, provider="y", model="x")
        limiter.settle(await limiter.acquire(limits, 5))
        for timeout in (0, 30, math.nan):
            with pytest.raises(RateLimitError, match=r"model:x allows 1 requests.*raise rate_limit_rpm") as caught:
                await limiter.acquire(limits, 5, timeout=timeout, provider="y", model="x")
            error = caught.value
            assert (error.provider, error.model, error.code, error.retryable) == ("y", "x", "local_rate_limit", False)
            assert 59 < error.retry_after <= 61

    with_limiter(shared_valkey.url, program, namespace=name)
    found = window(shared_valkey.url, name, "model:x")
    assert [value for field, value in found.items() if field[0] in "rR"] == [1, 1]


def test_what_a_call_gives_back_goes_to_the_next_in_order(shared_valkey: Valkey) -> None:
    async def program(limiter: RedisLimiter) -> None:
        limits = (Limit("model:x", tpm=100, max_concurrency=1), Limit("provider:y", rpm=1000))
        order: list[int] = []

        async def call(number: int) -> None:
            held = await limiter.acquire(limits, 80, timeout=60)
            order.append(number)
            assert (held.note, held.wait_reason in ("model:x tpm", "model:x line")) == (None, True)
            assert held.waited > 0.0
            limiter.settle(held, tokens=1)

        first = await limiter.acquire(limits, 80)
        tasks = [asyncio.create_task(call(number)) for number in range(8)]
        while len(limiter._lines.get("model:x", ())) < 8:
            await asyncio.sleep(0)
        limiter.settle(first, tokens=1)
        await asyncio.gather(*tasks)
        assert order == list(range(8))

    # Whoever waits for another process looks again after an endless pause here: only the end of a call wakes it.
    with_limiter(shared_valkey.url, program, rand=lambda: 1e9)


def test_a_waiter_holds_up_only_who_shares_what_it_waits_for(shared_valkey: Valkey) -> None:
    async def program(limiter: RedisLimiter) -> None:
        a, b, both = Limit("model:a", tpm=10), Limit("model:b", rpm=9), Limit("provider:p", rpm=9)
        held = await limiter.acquire((a, both), 5)
        large = asyncio.create_task(limiter.acquire((a, both), 10))
        while "model:a" not in limiter._lines:
            await asyncio.sleep(0)
        limiter.settle(await limiter.acquire((b, both), 1, timeout=0))
        with pytest.raises(RateLimitError, match="other calls wait first under model:a"):
            await limiter.acquire((a,), 1, timeout=0)
        small = asyncio.create_task(limiter.acquire((a,), 5))
        while len(limiter._lines["model:a"]) < 2:
            await asyncio.sleep(0)
        large.cancel()
        limiter.settle(await small)
        limiter.settle(held)

    with_limiter(shared_valkey.url, program)


def test_a_call_cancelled_while_it_asks_gives_back_what_it_gets(shared_valkey: Valkey) -> None:
    name = namespace()

    async def program(limiter: RedisLimiter) -> None:
        limits = (Limit("model:x", rpm=5, tpm=50, max_concurrency=5),)
        limiter.settle(await limiter.acquire(limits, 3))
        await told(limiter)
        task = asyncio.create_task(limiter.acquire(limits, 10))
        await cancelled_once(lambda: limiter._store.link().tasks, task)
        await told(limiter)
        undone = await limiter.acquire(limits, 10)
        limiter.cancel(undone)
        limiter.cancel(undone)

    with_limiter(shared_valkey.url, program, namespace=name)
    found = window(shared_valkey.url, name, "model:x")
    assert (found["R"], found["T"], found["n"]) == (1, 3, 0)


def test_threads_with_loops_of_their_own_share_one_limiter(shared_valkey: Valkey) -> None:
    limiter = RedisLimiter(shared_valkey.url, namespace=namespace(), timeout=5.0)
    guard, running, most, ended = threading.Lock(), [0], [0], [0]
    limits = (Limit("model:x", max_concurrency=2),)

    async def call() -> None:
        held = await limiter.acquire(limits, 1, timeout=60)
        with guard:
            running[0] += 1
            most[0] = max(most[0], running[0])
        await asyncio.sleep(0)
        with guard:
            running[0] -= 1
            ended[0] += 1
        limiter.settle(held)

    async def many() -> None:
        await asyncio.gather(*(call() for _ in range(20)))
        await told(limiter)
        await limiter.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (ended, running, limiter.failures) == ([60], [0], 0)
    assert most[0] <= 2


def test_what_is_settled_where_no_loop_runs_is_told_with_the_next_command(shared_valkey: Valkey) -> None:
    name = namespace()

    async def program(limiter: RedisLimiter) -> None:
        limits = (Limit("model:x", tpm=50, max_concurrency=1),)
        held = await limiter.acquire(limits, 40)
        thread = threading.Thread(target=limiter.settle, args=(held, 10))
        thread.start()
        thread.join()
        assert len(limiter._store._outbox) == 1
        other = await limiter.acquire((Limit("model:y"),), 1)
        await told(limiter)
        limiter.settle(await limiter.acquire(limits, 40, timeout=0))
        limiter.settle(other)

    with_limiter(shared_valkey.url, program, namespace=name)
    assert window(shared_valkey.url, name, "model:x")["T"] == 50


FORKED = """
import asyncio, gc, os, signal, sys, threading, warnings
from llm_master.policy.limits import Limit
from llm_master.policy.limits_redis import RedisLimiter
warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
limiter = RedisLimiter(sys.argv[1], namespace=sys.argv[2], timeout=5.0)
limits = (Limit("model:x", rpm=5, max_concurrency=3),)
locked, end = threading.Event(), threading.Event()

def lock():
    with limiter._lock:
        locked.set()
        end.wait()

async def call():
    gc.collect()
    held = await limiter.acquire(limits, 1, timeout=0)
    limiter.settle(held)
    assert held.note is None and limiter.failures == 0
    await limiter.aclose()

async def hold():
    return await limiter.acquire(limits, 1, timeout=0), await limiter.acquire(limits, 10, timeout=0)

with asyncio.Runner() as runner:
    first, second = runner.run(hold())
    limiter.settle(second, 4)
    thread = threading.Thread(target=lock)
    thread.start()
    locked.wait()
    child = os.fork()
    if not child:
        signal.alarm(20)
        asyncio.run(call())
        limiter.settle(first, 0)
        first = second = None
        asyncio.run(call())
        os._exit(0)
    end.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    limiter.settle(first)
    runner.run(call())
"""


def test_a_forked_child_has_connections_of_its_own(shared_valkey: Valkey) -> None:
    name = namespace()
    command = [sys.executable, "-W", "error", "-c", FORKED, shared_valkey.url, name]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    found = window(shared_valkey.url, name, "model:x")
    assert (found["R"], found["T"], found["n"]) == (5, 1 + 4 + 1 + 1 + 1, 0)


# -- many processes ---------------------------------------------------------------------------------------------------

WORKER = """
import asyncio, json, random, sys
from llm_master.policy.limits import Limit
from llm_master.policy.limits_redis import RedisLimiter

url, name, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rand = random.Random(seed)
# Each command of any process takes a quarter of a second: 61 seconds are 244 commands on a machine of any speed.
limiter = RedisLimiter(url, namespace=name, timeout=30.0, lease=1e6, at=lambda: "{" + name + "}:time")
model = Limit("model:x", rpm=100, tpm=1200, fail_open=False)
team, provider = Limit("tag:a", rpm=40, max_concurrency=20), Limit("provider:y", rpm=200, tpm=640)
events, left = [], [count]

async def work():
    while left[0] > 0:
        left[0] -= 1
        limits = rand.choice(((model, provider), (model, provider), (model, team, provider)))
        estimate = rand.randint(1, 20)
        held = await limiter.acquire(limits, estimate)
        fate = rand.random()
        if fate < 0.02:
            limiter.cancel(held)
            continue
        await asyncio.sleep(0)
        at = held.handle.at
        limiter.settle(held, None if fate < 0.04 else rand.randint(1, estimate))
        events.append((at, held.tokens, [limit.key for limit in limits]))

async def main():
    await asyncio.gather(*(work() for _ in range(20)))
    link = limiter._store.link()
    while link.tasks:
        await asyncio.wait(link.tasks)
    await limiter.aclose()

asyncio.run(main())
json.dump({"events": events, "failures": limiter.failures}, sys.stdout)
"""


def most_in_60_seconds(events: list[tuple[float, int]]) -> tuple[int, int]:
    """The most requests and the most tokens that any 60 seconds hold, both ends included."""
    events, first, requests, tokens, most = sorted(events), 0, 0, 0, (0, 0)
    for at, size in events:
        requests, tokens = requests + 1, tokens + size
        while events[first][0] < at - 60.0:
            requests, tokens, first = requests - 1, tokens - events[first][1], first + 1
        most = (max(most[0], requests), max(most[1], tokens))
    return most


def test_the_measure_itself_sees_too_many() -> None:
    assert most_in_60_seconds([(0.0, 5), (60.0, 5), (60.001, 7)]) == (2, 12)


def test_four_processes_together_never_exceed_a_limit_in_any_60_seconds(shared_valkey: Valkey) -> None:
    name = namespace()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, shared_valkey.url, name, str(seed), "1000"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    reports = [json.loads(worker.communicate(timeout=120)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert [report["failures"] for report in reports] == [0] * 4
    events = [event for report in reports for event in report["events"]]
    assert 3_840 < len(events) <= 4_000
    most = {
        key: most_in_60_seconds([(at, tokens) for at, tokens, keys in events if key in keys])
        for key in ("model:x", "tag:a", "provider:y")
    }
    assert 95 < most["model:x"][0] <= 100  # used to the full, and never over
    assert most["model:x"][1] <= 1200
    assert 35 < most["tag:a"][0] <= 40
    assert most["provider:y"][0] <= 200
    assert 610 < most["provider:y"][1] <= 640
    with client(shared_valkey.url) as redis:
        assert redis.zcard(f"{{{name}}}:p:tag:a") == 0


# -- a store in trouble -----------------------------------------------------------------------------------------------

OPEN, CLOSED = (Limit("model:x", rpm=1000),), (Limit("model:x", rpm=1000), Limit("tag:a", rpm=1000, fail_open=False))


def test_a_frozen_store_costs_a_call_one_timeout_and_most_calls_none(valkey: Valkey) -> None:
    clock = Clock()

    async def program(limiter: RedisLimiter) -> None:
        limiter.settle(await limiter.acquire(OPEN, 1))
        await told(limiter)
        valkey.freeze()
        first = await limiter.acquire(OPEN, 1)
        assert first.note == "went on without its shared limits: the store did not answer in time"
        assert limiter.failures == 1
        limiter.settle(first, 5)
        for _ in range(50):
            limiter.settle(await limiter.acquire(OPEN, 1))
            with pytest.raises(RateLimitError, match=r"tag:a cannot be kept.*fail_open=True") as caught:
                await limiter.acquire(CLOSED, 1, provider="y", model="x")
        error = caught.value
        assert (error.provider, error.model, error.code, error.retryable) == ("y", "x", "limits_unavailable", False)
        assert error.retry_after == pytest.approx(1.0)
        assert limiter.failures == 1
        clock.now += 1.1
        held = await asyncio.gather(*(limiter.acquire(OPEN, 1) for _ in range(30)))
        assert all(each.note for each in held)
        assert limiter.failures == 2  # one call asked, the others did not wait for it
        valkey.thaw()
        assert (await limiter.acquire(OPEN, 1)).note is not None
        clock.now += 1.1
        assert (await limiter.acquire(OPEN, 1)).note is None
        assert limiter.failures == 2

    with_limiter(valkey.url, program, timeout=0.1, clock=clock, clean=False)


def test_many_calls_at_once_meet_a_frozen_store_together(valkey: Valkey) -> None:
    async def program(limiter: RedisLimiter) -> None:
        limiter.settle(await limiter.acquire(OPEN, 1))
        await told(limiter)
        valkey.freeze()
        held = await asyncio.gather(*(limiter.acquire(OPEN, 1) for _ in range(500)))
        assert all(each.note for each in held)
        assert 1 <= limiter.failures <= 16  # those under way when it froze; who stood behind them did not ask

    with_limiter(valkey.url, program, timeout=0.1, clock=Clock(), clean=False)


def test_a_waiter_goes_on_when_the_store_freezes(valkey: Valkey) -> None:
    async def program(limiter: RedisLimiter) -> None:
        limits = (Limit("model:x", max_concurrency=1),)
        await limiter.acquire(limits, 1)
        waiting = [asyncio.create_task(limiter.acquire(limits, 1)) for _ in range(3)]
        while len(limiter._lines.get("model:x", ())) < 3:
            await asyncio.sleep(0)
        await told(limiter)
        valkey.freeze()
        held = await asyncio.gather(*waiting)
        assert all(each.note for each in held)
        assert limiter.failures == 1

    with_limiter(valkey.url, program, timeout=0.1, clock=Clock(), clean=False)


def test_a_refund_that_may_have_been_made_is_not_made_twice(valkey: Valkey) -> None:
    clock, name = Clock(), namespace()

    async def program(limiter: RedisLimiter) -> None:
        held = [await limiter.acquire(OPEN, 10) for _ in range(2)]
        valkey.freeze()
        limiter.settle(held[0], tokens=4)
        await told(limiter)
        assert limiter.failures == 1
        limiter.settle(held[1], tokens=13)  # never sent: still owed in full
        valkey.thaw()
        clock.now += 1.1
        await limiter.acquire(OPEN, 0)
        await told(limiter)

    with_limiter(valkey.url, program, timeout=0.1, clock=clock, namespace=name, clean=False)
    assert window(valkey.url, name, "model:x")["T"] in (4 + 13, 10 + 13)


def test_a_restart_in_the_middle_is_not_noticed(valkey: Valkey) -> None:
    async def program(limiter: RedisLimiter) -> None:
        limits = (Limit("model:x", rpm=1000, max_concurrency=5),)
        for number in range(30):
            if number in (10, 20):
                await told(limiter)
                valkey.stop()
                valkey.start()
            if number == 25:
                with client(valkey.url) as redis:
                    redis.script_flush()
            held = await limiter.acquire(limits, 1)
            assert held.note is None
            limiter.settle(held)
        assert limiter.failures == 0

    with_limiter(valkey.url, program)


def test_a_store_that_is_gone_costs_no_wait_and_is_found_again() -> None:
    clock = Clock()
    server = Valkey()

    async def program(limiter: RedisLimiter) -> None:
        first = await limiter.acquire(OPEN, 1)
        assert first.note == "went on without its shared limits: the store failed (ConnectionError)"
        with server:
            clock.now += 1.1
            held = await limiter.acquire(OPEN, 1)
            assert held.note is None
            await told(limiter)
        limiter.settle(held)
        await told(limiter)
        assert limiter.failures == 2
        assert (await limiter.acquire(OPEN, 1)).note is not None

    with_limiter(server.url, program, timeout=5.0, clock=clock, clean=False)


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost", "memcached://x"])
def test_an_address_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis://"):
        RedisLimiter(url)


def test_without_the_redis_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    limiter = RedisLimiter("redis://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"llm-master\[redis\]"):
        asyncio.run(limiter.acquire(OPEN, 1))
