"""
Answers that no decoder takes: bytes that are no UTF-8, and JSON that is nested without end.

Whatever a server sends, the caller gets an error of ours in one line, and never one of a JSON reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.behaviours import status
from support.fault_server import FaultServer

from llm_master import (
    LLMConfig,
    LLMError,
    LLMResponse,
    LLMStream,
    QueryLLM,
    ResponseError,
    RetryPolicy,
    StructuredOutputError,
    ToolArgumentsError,
    ToolCall,
)
from llm_master.policy.limits import MemoryLimiter

PROVIDERS = ("openai", "anthropic", "gemini", "cohere", "voyage")
DEEP = b'{"x":' + b"[" * 50_000
BAD = {"no UTF-8": b'{"model":"\xff","results":[],"embeddings":[]}', "nested without end": DEEP}
CHATS = ("openai/gpt-4o", "openai/responses-gpt-4o", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash")
CHATS += ("cohere/command-a-03-2025",)

Ask = Callable[[QueryLLM], Awaitable[Any]]
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(28)
ASKED: dict[str, Ask] = {
    **{name: lambda llm, name=name: llm.query(name, "Hi") for name in CHATS},
    "openai/gpt-image-1": lambda llm: llm.query("openai/gpt-image-1", "a cat"),
    **{
        name: lambda llm, name=name: llm.embed(name, ["Hi"])
        for name in ("openai/text-embedding-3-small", "cohere/embed-v4.0", "gemini/gemini-embedding-001")
    },
    "cohere/rerank-v3.5": lambda llm: llm.rerank("cohere/rerank-v3.5", "Hi", ["a"]),
    "voyage/rerank-2.5": lambda llm: llm.rerank("voyage/rerank-2.5", "Hi", ["a"]),
    "openai/omni-moderation-latest": lambda llm: llm.moderate("Hi", model_name="openai/omni-moderation-latest"),
    "openai/gpt-4o-transcribe": lambda llm: llm.transcribe("openai/gpt-4o-transcribe", WAV, response_format="json"),
    "gemini/gemini-2.5-pro": lambda llm: llm.count_tokens("gemini/gemini-2.5-pro", "Hi"),
    "anthropic/claude-opus-4-5": lambda llm: llm.count_tokens("anthropic/claude-opus-4-5", "Hi"),
}


def run(server: FaultServer, work: Ask) -> Any:
    async def main() -> Any:
        config = LLMConfig(
            **{f"{name}_api_key": f"sk-{name}-0123456789" for name in PROVIDERS},
            base_urls={name: f"{server.url}/{name}" for name in PROVIDERS},
        )
        async with QueryLLM(config, retry=RetryPolicy(max_attempts=1), limiter=MemoryLimiter()) as llm:
            return await asyncio.wait_for(work(llm), 30)

    return asyncio.run(main())


def check(error: LLMError, name: str) -> None:
    text = str(error)
    assert isinstance(error, ResponseError)
    assert name.partition("/")[0] in text
    assert name.partition("/")[2].removeprefix("responses-") in text
    assert "\n" not in text
    assert len(text) < 700


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("name", ASKED)
def test_a_body_that_nobody_can_read_is_an_error_of_ours(name: str, body: bytes, fault_server: FaultServer) -> None:
    fault_server.default = status(200, body, content_type="application/json")
    with pytest.raises(LLMError) as caught:
        run(fault_server, ASKED[name])
    check(caught.value, name)
    assert fault_server.requests


@pytest.mark.parametrize("name", CHATS)
def test_an_event_that_is_nested_without_end_is_an_error_of_ours(name: str, fault_server: FaultServer) -> None:
    fault_server.default = status(200, b"data: " + DEEP + b"\n\n", content_type="text/event-stream")

    async def read(llm: QueryLLM) -> str:
        stream = await llm.query(name, "Hi", stream=True)
        assert isinstance(stream, LLMStream)
        return await stream.text()

    with pytest.raises(LLMError) as caught:
        run(fault_server, read)
    assert name.partition("/")[0] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ['{"x":' + "[" * 50_000, '{"x":"\ud800"}'])
def test_arguments_of_a_tool_that_nobody_can_read(text: str) -> None:
    call = ToolCall("1", "now", raw_arguments=text)
    with pytest.raises(ToolArgumentsError) as caught:
        _ = call.arguments
    assert caught.value.raw_arguments == text
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("wanted", [{"type": "object"}, dict[str, Any]])
def test_an_answer_in_no_shape_that_nobody_can_read(wanted: Any, fault_server: FaultServer) -> None:
    answer = {"choices": [{"message": {"content": DEEP.decode()}, "finish_reason": "stop"}], "model": "gpt-4o"}
    fault_server.default = status(200, answer)
    with pytest.raises(StructuredOutputError) as caught:
        run(fault_server, lambda llm: llm.query("openai/gpt-4o", "Hi", response_format=wanted))
    assert isinstance(caught.value.response, LLMResponse)
    assert "\n" not in str(caught.value)
