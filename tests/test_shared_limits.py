"""
Clients in several processes that keep one limit through a Valkey, and what they do without it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from support.fault_server import FaultServer
from support.valkey import Valkey

from llm_master import Limit, LLMConfig, QueryLLM, RateLimitError

PROGRAM = """
import asyncio, functools, json, sys
from llm_master import Limit, LLMConfig, QueryLLM, RateLimitError
from llm_master.policy import limits_redis

# While four processes start, a store may take longer than the tenth of a second after which calls go on without it.
limits_redis.RedisLimiter = functools.partial(limits_redis.RedisLimiter, timeout=30.0)

async def main():
    config = LLMConfig(openai_api_key="sk-shared-0123456789", base_urls={"openai": sys.argv[1]})
    outcomes = []
    async with QueryLLM(config, limits=[Limit("provider:openai", rpm=20)], redis_url=sys.argv[2]) as llm:
        async def one():
            try:
                await llm.query("gpt-4o-mini", "Hi", limit_wait=0)
                outcomes.append("ok")
            except RateLimitError as error:
                outcomes.append(error.code)
        await asyncio.gather(*(one() for _ in range(15)))
    print(json.dumps(outcomes))

asyncio.run(main())
"""


def client(server: FaultServer, store: Valkey, **limit: Any) -> QueryLLM:
    config = LLMConfig(openai_api_key="sk-shared-0123456789", base_urls={"openai": server.url})
    return QueryLLM(config, limits=[Limit("provider:openai", rpm=1000, **limit)], redis_url=store.url)


def test_four_processes_together_keep_one_limit(fault_server: FaultServer, valkey: Valkey) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, fault_server.url, valkey.url], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    outcomes = [outcome for child in children for outcome in json.loads(child.communicate(timeout=60)[0])]
    assert len(outcomes) == 60
    assert outcomes.count("ok") == len(fault_server.requests) == 20
    assert outcomes.count("local_rate_limit") == 40


def test_a_frozen_store_lets_calls_go_on_and_says_so(fault_server: FaultServer) -> None:
    async def main(store: Valkey) -> Any:
        async with client(fault_server, store) as llm:
            before = await llm.query("gpt-4o-mini", "Hi")
            store.freeze()
            try:
                return before, await llm.query("gpt-4o-mini", "Hi")
            finally:
                store.thaw()

    with Valkey() as store:
        before, after = asyncio.run(main(store))
    assert before.notes == ()
    assert any("went on without its shared limits" in note for note in after.notes)


def test_a_limit_that_fails_closed_stops_the_call(fault_server: FaultServer) -> None:
    async def main(store: Valkey) -> Any:
        async with client(fault_server, store, fail_open=False) as llm:
            store.freeze()
            try:
                with pytest.raises(RateLimitError, match="shared limit provider:openai cannot be kept") as caught:
                    await llm.query("gpt-4o-mini", "Hi")
            finally:
                store.thaw()
            return caught.value

    with Valkey() as store:
        error = asyncio.run(main(store))
    assert error.code == "limits_unavailable"
    assert [attempt.outcome for attempt in error.attempts] == ["skipped"]
    assert fault_server.requests == []


def test_the_variable_names_the_store(
    fault_server: FaultServer, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_MASTER_REDIS_URL", valkey.url)
    config = LLMConfig(openai_api_key="sk-shared-0123456789", base_urls={"openai": fault_server.url})

    async def one() -> Any:
        async with QueryLLM(config, limits=[Limit("tag:shared", rpm=1)]) as llm:
            return await llm.query("gpt-4o-mini", "Hi", tags="shared", limit_wait=0)

    assert asyncio.run(one()).content
    with pytest.raises(RateLimitError, match="tag:shared"):
        asyncio.run(one())
