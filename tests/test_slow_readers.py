"""
Silence is the provider's: a caller who takes time between two pieces, or holds up the loop, does not end a stream.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from support.asking import MODELS, client
from support.behaviours import hold, ok
from support.bodies import BEDROCK, CHAT, MESSAGES, Family
from support.fault_server import FaultServer

from llm_master import LLMStream, StreamInterrupted, Timeouts

WORDS = [f"word{number} " for number in range(12)]
IDLE = Timeouts(total=60, first_token=20, idle=0.1)


async def begin(llm: object, family: Family) -> LLMStream:
    return await llm.query(MODELS[family], "Hi", stream=True, timeout=IDLE)  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("family", [CHAT, MESSAGES, BEDROCK])
@pytest.mark.parametrize("paced", [False, True], ids=["all at once", "one by one"])
def test_a_caller_may_take_longer_than_the_silence_allowed(
    family: Family, paced: bool, fault_server: FaultServer
) -> None:
    fault_server.default = ok(WORDS, each=hold(0.01) if paced else None)

    async def main() -> list[str]:
        found = []
        async with client(fault_server) as llm:
            async for text in await begin(llm, family):
                found.append(text)
                await asyncio.sleep(0.25 if len(found) in (1, 3) else 0)
        return found

    assert "".join(asyncio.run(main())) == "".join(WORDS)


@pytest.mark.parametrize("family", [CHAT, BEDROCK])
def test_a_loop_that_stood_still_reads_what_came_meanwhile(family: Family, fault_server: FaultServer) -> None:
    fault_server.default = ok(WORDS, each=hold(0.03))

    async def main() -> str:
        async with client(fault_server) as llm:
            stream = await begin(llm, family)
            asyncio.get_running_loop().call_later(0.05, time.sleep, 0.25)
            asyncio.get_running_loop().call_later(0.12, time.sleep, 0.25)
            return await stream.text()

    assert asyncio.run(main()) == "".join(WORDS)
    assert len(fault_server.requests) == 1, "nothing was asked again"


@pytest.mark.parametrize("family", [CHAT, BEDROCK])
def test_who_waits_for_a_silent_provider_is_told(family: Family, fault_server: FaultServer) -> None:
    fault_server.default = ok(WORDS, middle=hold())

    async def main() -> None:
        async with client(fault_server) as llm:
            async for _ in await begin(llm, family):
                await asyncio.sleep(0.15)

    with pytest.raises(StreamInterrupted, match=r"silent for 0\.1 s"):
        asyncio.run(main())
