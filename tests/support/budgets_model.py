"""
Budgets written the plain way, random programs to compare a limiter with it, and the limiters of every store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from llm_master.errors import BudgetExceededError
from llm_master.policy.limits import MemoryLimiter
from llm_master.policy.limits_budget import Budget, Budgets, Charge, usd
from llm_master.policy.limits_redis import RedisLimiter
from llm_master.policy.limits_sqlite import SqliteLimiter
from support.valkey import client, namespace

KINDS = ("memory", "sqlite", "valkey")
NOW = 1_800_000_000.0

programs = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 60), st.integers(0, 60), st.booleans()),
        st.tuples(st.just("settle"), st.integers(0, 9), st.one_of(st.none(), st.integers(0, 90))),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
    ),
    max_size=25,
)
caps = st.tuples(st.integers(1, 200), st.integers(1, 200))


def charges_of(amounts: tuple[int, int], most: tuple[int, int], mark: str) -> list[Charge]:
    """A charge on a budget of picodollars and one on a budget of tokens."""
    budgets = [Budget(f"tag:{mark}-a", usd=usd(most[0])), Budget(f"tag:{mark}-b", tokens=most[1], per="total")]
    book = Budgets(budgets, lambda: NOW)
    return [book.charges([each], *reversed(amounts))[0] for each in budgets]


class Model:
    """What is spent and held of the two budgets."""

    def __init__(self, most: tuple[int, int]) -> None:
        self.most, self.spent, self.held = most, [0, 0], [0, 0]

    def answer(self, amounts: dict[int, int]) -> str:
        """What a call gets that takes these amounts."""
        lacking = {i: a for i, a in amounts.items() if self.spent[i] + self.held[i] + a > self.most[i]}
        if not lacking:
            for i, amount in amounts.items():
                self.held[i] += amount
            return "taken"
        broke = any(not self.held[i] or self.spent[i] + a > self.most[i] for i, a in lacking.items())
        return "budget_exceeded" if broke else "local_rate_limit"

    def end(self, amounts: dict[int, int], finals: dict[int, int]) -> None:
        """A call ends."""
        for i, amount in amounts.items():
            self.held[i] -= amount
            self.spent[i] += finals[i]


class Kept:
    """A limiter with what a test must know of its store."""

    def __init__(self, limiter: Any, url: str | None = None, name: str = "") -> None:
        self.limiter, self._url, self._name = limiter, url, name

    async def told(self) -> None:
        """Wait until the store knows all that it was told."""
        if isinstance(self.limiter, RedisLimiter):
            link = self.limiter._store.link()
            while link.tasks:
                await asyncio.wait(link.tasks)
                await asyncio.sleep(0)
        elif isinstance(self.limiter, SqliteLimiter):
            assert await asyncio.to_thread(self.limiter._file.flush, 10.0)

    def spent(self, charge: Charge) -> tuple[int, int]:
        """What the store says is spent, and held."""
        if self._url is None:
            found = self.limiter.spent(charge)
            assert found is not None
            return int(found[0]), int(found[1])
        with client(self._url) as redis:
            used, held = redis.hmget(f"{{{self._name}}}:u:{charge.key}", ["used", "open"])
        return int(used or 0) - int(held or 0), int(held or 0)


@asynccontextmanager
async def kept(kind: str, folder: Path, url: str, **options: Any) -> AsyncIterator[Kept]:
    """The limiter of a kind of store."""
    name = namespace()
    if kind == "memory":
        found = Kept(MemoryLimiter(**options))
    elif kind == "sqlite":
        found = Kept(SqliteLimiter(str(folder / "limits.sqlite3"), **options))
    else:
        found = Kept(RedisLimiter(url, namespace=name, timeout=5.0, patience=5.0, **options), url, name)
    try:
        yield found
    finally:
        await found.limiter.aclose()


async def compare(store: Kept, most: tuple[int, int], program: list[tuple[Any, ...]], mark: str) -> None:
    """Run a program on a limiter and on the model: each answer and each sum must be the same."""
    model = Model(most)
    held: list[Any] = []
    for name, *arguments in program:
        if name == "take":
            first, second, both = arguments
            amounts = {0: first, 1: second} if both else {0: first}
            charges = charges_of((first, second), most, mark)[: len(amounts)]
            try:
                got = await store.limiter.acquire((), 0, timeout=0, charges=charges)
            except BudgetExceededError as error:
                answer = str(error.code)
            else:
                answer = "taken"
                held.append((got, amounts))
            assert answer == model.answer(amounts)
        elif held:
            got, amounts = held.pop(arguments[0] % len(held))
            if name == "cancel":
                store.limiter.cancel(got)
                model.end(amounts, dict.fromkeys(amounts, 0))
            else:
                real = arguments[1]
                store.limiter.settle(got, real, real)
                model.end(amounts, {i: amount if real is None else real for i, amount in amounts.items()})
        await store.told()
        for i, charge in enumerate(charges_of((0, 0), most, mark)):
            assert store.spent(charge) == (model.spent[i], model.held[i])
