"""
Many calls of many processes at once against one budget: not one picodollar more than it is ever spent.

Run it with ``python tools/budget_run.py``; ``--store`` names a SQLite file or a Valkey, without it both are tried, each
new. Every process makes its calls at the same time, about half of which the budget can pay. It prints one line a store
and ends with status 1 when the budget was passed, when what the callers saw is not what the store has, or when the
budget was left unused although callers were refused.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from redis import Redis

from llm_master import Budget, LLMConfig, ProviderError, QueryLLM
from llm_master.policy.limits_budget import Budgets, picodollars, usd
from llm_master.policy.limits_sqlite import SqliteLimiter

TESTS = Path(__file__).resolve().parent.parent / "tests"
MODEL, TOKENS = "gpt-4o-mini", 20
KEY = "tag:budget-run"


async def child(url: str, store: str, amount: str, calls: int) -> dict[str, Any]:
    """The calls of one process: how many there were of each outcome, and what those that were answered cost."""
    config = LLMConfig(openai_api_key="sk-budget-0123456789", base_urls={"openai": url})
    outcomes: Counter[str] = Counter()
    cost = Decimal(0)
    async with QueryLLM(config, budgets=[Budget(KEY, usd=amount)], limits_store=store, ledger="off") as llm:

        async def one() -> None:
            nonlocal cost
            try:
                response = await llm.query(MODEL, "Hi", max_tokens=TOKENS, tags=KEY.partition(":")[2], timeout=300)
            except ProviderError as error:
                outcomes[str(error.code)] += 1
            else:
                outcomes["ok"] += 1
                cost += response.cost or 0

        await asyncio.gather(*(one() for _ in range(calls)))
    return {"outcomes": outcomes, "cost": str(cost)}


def brood(url: str, store: str, amount: str, processes: int, calls: int) -> None:
    """All processes of a run, as children of this one, which has loaded what they need and has no thread yet."""
    for name in ("engine", "pricing", "policy.limits_sqlite", "policy.limits_redis"):
        importlib.import_module(f"llm_master.{name}")
    pids = []
    for _ in range(processes):
        pid = os.fork()
        if not pid:
            report = asyncio.run(child(url, store, amount, calls))
            os.write(1, json.dumps(report).encode() + b"\n")  # one write, so that lines do not mix
            os._exit(0)
        pids.append(pid)
    if any(os.waitpid(pid, 0)[1] for pid in pids):
        raise SystemExit("a process did not end well")


def spent_of(store: str, amount: str) -> tuple[int, int]:
    """What the store says is spent, and still held."""
    budgets = Budgets([Budget(KEY, usd=amount)])
    (charge,) = budgets.charges(budgets.budgets, 0, 0)
    if store.startswith("sqlite:"):
        return SqliteLimiter(store.partition(":")[2]).spent(charge) or (0, 0)
    with Redis.from_url(store, decode_responses=True) as redis:
        used, held = (int(each or 0) for each in redis.hmget(f"{{llmm}}:u:{charge.key}", ["used", "open"]))
    return used - held, held


def run(url: str, store: str, processes: int, calls: int) -> dict[str, Any]:
    """All processes; what came of it."""
    price = cost_of_one(url)
    amount = price * processes * calls / 2
    command = [sys.executable, "-W", "error", __file__, "--brood", url, "--store", store, "--amount", str(amount)]
    command += ["--processes", str(processes), "--calls", str(calls)]
    began = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=900, check=True)  # noqa: S603  # itself
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    seconds = time.monotonic() - began
    outcomes: Counter[str] = Counter()
    for report in reports:
        outcomes.update(report["outcomes"])
    spent, held = spent_of(store, str(amount))
    seen = picodollars(sum((Decimal(report["cost"]) for report in reports), Decimal(0)))
    cap = picodollars(amount)
    return {
        "store": store.partition(":")[0],
        "calls": processes * calls,
        "outcomes": dict(outcomes),
        "budget": cap,
        "spent": spent,
        "held": held,
        "seen": seen,
        "overrun": max(0, spent - cap, seen - cap),
        "used": round(spent / cap, 4),
        "seconds": round(seconds, 2),
    }


def cost_of_one(url: str) -> Decimal:
    """USD of one call, as a call without a budget says."""
    config = LLMConfig(openai_api_key="sk-budget-0123456789", base_urls={"openai": url})
    return Decimal(QueryLLM(config, ledger="off").query_sync(MODEL, "Hi", max_tokens=TOKENS).cost)


def is_well(found: dict[str, Any]) -> bool:
    """Whether the budget was kept, the callers saw what was spent, and only what did not fit was refused."""
    known = found["outcomes"].keys() <= {"ok", "budget_exceeded"}
    return bool(
        known
        and found["overrun"] == found["held"] == 0
        and found["seen"] == found["spent"]
        and sum(found["outcomes"].values()) == found["calls"]
    )


def main() -> int:
    """Run it on the stores that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--calls", type=int, default=500, help="of each process")
    parser.add_argument("--store", action="append", help="sqlite:PATH or redis://...; it must be new")
    parser.add_argument("--brood", help=argparse.SUPPRESS)
    parser.add_argument("--amount", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.brood:
        brood(given.brood, given.store[0], given.amount, given.processes, given.calls)
        return 0
    sys.path.insert(0, str(TESTS))
    # From a folder of its own, which a type checker does not know.
    FaultServer: Any = importlib.import_module("support.fault_server").FaultServer  # noqa: N806
    Valkey: Any = importlib.import_module("support.valkey").Valkey  # noqa: N806

    os.environ.pop("LLM_MASTER_REDIS_URL", None)
    well = True
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(FaultServer())
        stores = given.store or [
            f"sqlite:{stack.enter_context(tempfile.TemporaryDirectory())}/limits.sqlite3",
            stack.enter_context(Valkey()).url,
        ]
        for store in stores:
            found = run(server.url, store, given.processes, given.calls)
            print(json.dumps({**found, "budget_usd": str(usd(found["budget"]))}), flush=True)
            well = well and is_well(found)
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
