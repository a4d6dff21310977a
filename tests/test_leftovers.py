"""
What a call leaves to the garbage collector: nothing. A circle of objects for each call cost a tenth of its CPU once.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from typing import Any

import pytest
from support.behaviours import ok
from support.fault_server import FaultServer

from llm_master import Limit, LLMConfig, LLMStream, ModelConfig, QueryLLM, RetryPolicy

FAST = RetryPolicy(max_attempts=3, base_delay=0.001, max_delay=0.002)
HI = [{"role": "user", "content": "Hi"}]
LARGE = 10**9
LIMITED: dict[str, Any] = {
    "registry": {"gpt-4o-mini": ModelConfig(rate_limit_rpm=LARGE, rate_limit_tpm=LARGE, max_concurrency=LARGE)},
    "limits": [Limit("tag:team", LARGE, LARGE, LARGE)],
}
CALLS = 4


def circles(server: FaultServer, arguments: dict[str, Any], client: dict[str, Any]) -> Counter[str]:
    """The kinds of our objects that only the garbage collector could free after some calls."""

    async def main() -> Counter[str]:
        config = LLMConfig(
            openai_api_key="sk-left-0123456789abcdef",
            anthropic_api_key="sk-ant-left-0123456789abcdef",
            base_urls={"openai": server.url + "/openai", "anthropic": server.url + "/anthropic"},
        )
        async with QueryLLM(config, retry=FAST, **client) as llm:

            async def call() -> None:
                found = await llm.query("gpt-4o-mini", HI, **arguments)
                if isinstance(found, LLMStream):
                    assert [text async for text in found]
                else:
                    assert found.content

            await call()  # what is made once stays
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                for _ in range(CALLS):
                    await call()
                gc.collect()
                return Counter(
                    type(each).__name__ for each in gc.garbage if type(each).__module__.startswith("llm_master")
                )
            finally:
                gc.set_debug(0)
                gc.enable()
                gc.garbage.clear()

    return asyncio.run(main())


@pytest.mark.parametrize("client", [{}, LIMITED], ids=["free", "limited"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"tags": "team", "temperature": 0.5},
        {"timeout": 3.0},
        {"stream": True},
        {"stream": True, "on_interrupt": "continue"},
    ],
    ids=["plain", "tagged", "timed", "streamed", "continued"],
)
def test_a_call_leaves_no_circle_of_objects(
    fault_server: FaultServer, arguments: dict[str, Any], client: dict[str, Any]
) -> None:
    fault_server.route("/openai", [ok()])
    assert circles(fault_server, arguments, client) == {}
