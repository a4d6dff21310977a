"""
The bytes of each attempt's bodies are those that crossed the socket.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from support.asking import HI, MODELS, client
from support.behaviours import ok, reset, status
from support.bodies import BEDROCK, CHAT, COHERE, GEMINI, MESSAGES, RESPONSES

from llm_master import BaseLLMProvider, LLMError, LLMResponse, StreamInterrupted, add_provider
from llm_master.base_provider import UnifiedProvider

FAMILIES = (CHAT, MESSAGES, RESPONSES, GEMINI, COHERE, BEDROCK)


class Counted:
    """A behaviour, and how many bytes of its body it has written by request; those of the last piece too."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply
        self.written: list[int] = []
        self.last = 0

    async def __call__(self, x: Any) -> None:
        number = len(self.written)
        self.written.append(0)
        chunk = x.chunk

        async def counted(piece: bytes) -> None:
            self.written[number] += len(piece)
            self.last = len(piece)
            await chunk(piece)

        x.chunk = counted
        await self.reply(x)


def counts_of(family, behaviour, *, stream):
    """
    What may be counted of a body.

    In two families an answer is whole before the marker at its end; that is read to keep the connection, and counted
    only where it came in the same piece.
    """
    written = behaviour.written[0]
    return {written, written - behaviour.last} if stream and family in (CHAT, MESSAGES) else {written}


async def whole(llm, model, *, stream=False, **options):
    answer = await llm.query(model, HI, stream=stream, **options)
    if stream:
        await answer.text()
        return answer.response
    return answer


def run(server, work, **options):
    async def main():
        async with client(server, **options) as llm:
            return await work(llm)

    return asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_bytes_of_a_good_answer(fault_server, family, stream):
    fault_server.default = behaviour = Counted(ok())
    response = run(fault_server, lambda llm: whole(llm, MODELS[family], stream=stream))
    (attempt,) = response.attempts
    assert attempt.bytes_sent == len(fault_server.requests[0].body) > 10
    assert attempt.bytes_received in counts_of(family, behaviour, stream=stream)
    assert attempt.bytes_received > 100


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_compressed_bytes_count_as_they_are_read(fault_server, stream):
    plain, packed = Counted(ok()), Counted(ok(gzip=True))
    fault_server.script([plain, packed])

    async def both(llm):
        return [await whole(llm, MODELS[CHAT], stream=stream) for _ in range(2)]

    first, second = run(fault_server, both)
    assert packed.written[0] != plain.written[0]
    for answer in (first, second):
        assert answer.attempts[0].bytes_received in counts_of(CHAT, plain, stream=stream)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_each_attempt_has_its_own(fault_server, stream):
    fault_server.script(
        [status(503, b"come back later"), dataclasses.replace(ok(), before=reset), good := Counted(ok())]
    )
    response = run(fault_server, lambda llm: whole(llm, MODELS[CHAT], stream=stream))
    bodies = [len(seen.body) for seen in fault_server.requests]
    assert [attempt.bytes_sent for attempt in response.attempts] == bodies
    *before, last = (attempt.bytes_received for attempt in response.attempts)
    assert before == [15, 0]
    assert last in counts_of(CHAT, good, stream=stream)


def test_a_stream_that_broke_off_has_what_came(fault_server):
    fault_server.default = half = Counted(ok(["one ", "two ", "three"], after=2, middle=reset))

    async def read(llm):
        with pytest.raises(StreamInterrupted) as caught:
            async for _ in await llm.query(MODELS[CHAT], HI, stream=True, max_attempts=1):
                pass
        return caught.value

    error = run(fault_server, read)
    assert 0 < error.attempts[-1].bytes_received <= half.written[0]
    assert error.attempts[-1].bytes_sent == len(fault_server.requests[0].body)


def test_a_call_that_failed_has_what_was_sent(fault_server):
    fault_server.default = status(400, b"no such parameter")

    async def failing(llm):
        with pytest.raises(LLMError) as caught:
            await llm.query(MODELS[CHAT], HI)
        return caught.value

    (attempt,) = run(fault_server, failing).attempts
    assert (attempt.bytes_sent, attempt.bytes_received) == (len(fault_server.requests[0].body), 17)


def test_embeddings_count_too(fault_server):
    body = b'{"model": "m", "data": [{"index": 0, "embedding": [0.5, 0.25]}], "usage": {"prompt_tokens": 3}}'
    fault_server.default = status(200, body, content_type="application/json")
    response = run(fault_server, lambda llm: llm.embed("openai/text-embedding-3-small", "a text"))
    (attempt,) = response.attempts
    assert attempt.bytes_sent == len(fault_server.requests[0].body)
    assert attempt.bytes_received == len(body)


def test_a_class_of_your_own_says_nothing_of_bytes(fault_server):
    class Mine(BaseLLMProvider):
        async def generate(self, messages, model, stream=False, **kwargs):
            return LLMResponse("fine", model)

    add_provider("bytes_of_mine", Mine)
    try:
        response = run(fault_server, lambda llm: llm.query("bytes_of_mine/m", HI))
    finally:
        UnifiedProvider.PROVIDER_CONFIGS.pop("bytes_of_mine", None)
    (attempt,) = response.attempts
    assert (attempt.bytes_sent, attempt.bytes_received) == (0, 0)
