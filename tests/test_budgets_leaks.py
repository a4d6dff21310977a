"""
What a budget must get back or pay in the end, however a call and its store part: nothing held for ever, nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.budgets_model import KINDS, Kept, charges_of, kept
from support.valkey import Valkey

from llm_master import BudgetExceededError, RateLimitError
from llm_master.policy.limits_rules import Reservation

MOST = 1000


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
    store.limiter.settle(await store.limiter.acquire((), 0, charges=charge(amount)), 0, amount)
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
