"""
Answers of a shape that no reader expected: whatever a provider sends, the caller gets an answer or a typed error.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from support.behaviours import ok, status
from support.bodies import (
    BEDROCK,
    CHAT,
    COHERE,
    GEMINI,
    MESSAGES,
    RESPONSES,
    Answer,
    answer_events,
    answer_json,
    render,
)
from support.fault_server import FaultServer

from llm_master import LLMConfig, LLMError, ProviderError, QueryLLM, ResponseError, ToolCall, Usage
from llm_master.policy.limits import MemoryLimiter

MODELS: dict[str, tuple[str, Any]] = {
    "chat": ("openai/gpt-4o-mini", CHAT),
    "responses": ("responses-gpt-4o-mini", RESPONSES),
    "messages": ("claude-sonnet-5-5", MESSAGES),
    "gemini": ("gemini-2.5-flash", GEMINI),
    "cohere": ("cohere/command-a-03-2025", COHERE),
    "bedrock": ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", BEDROCK),
}
PROVIDERS = ("openai", "anthropic", "gemini", "cohere", "bedrock", "groq")
SAID = Answer(
    text="Hello to you.",
    reasoning="I think.",
    tool_calls=(ToolCall("call_1", "look", raw_arguments='{"at": 1}'),),
    usage=Usage(5, 6),
)
JUNK: list[Any] = [
    None,
    0,
    -1,
    1.5,
    "",
    "x",
    [],
    {},
    [None],
    [{}],
    {"a": 1},
    True,
    10**30,
    [[]],
    [1, "a"],
    {"type": "x"},
]


def client(server: FaultServer) -> QueryLLM:
    keys: dict[str, Any] = {f"{name}_api_key": f"sk-{name}-0123456789abcdef" for name in PROVIDERS}
    config = LLMConfig(**keys, base_urls=dict.fromkeys(PROVIDERS, server.url))
    return QueryLLM(config, limiter=MemoryLimiter(), ledger="off")


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if above:
        yield above
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(each, (*above, key))


def spoiled(value: Any, chance: random.Random) -> Any:
    """A copy with something else in one place."""
    made = copy.deepcopy(value)
    *above, last = chance.choice(list(places(made)))
    at = made
    for key in above:
        at = at[key]
    at[last] = copy.deepcopy(chance.choice(JUNK))
    return made


async def used(llm: QueryLLM, model: str, *, stream: bool) -> None:
    """Ask, and look at everything that an answer has."""
    found = await llm.query(model, "Hi", stream=stream, max_attempts=1)
    if stream:
        async for _ in found.events():
            pass
        found = found.response
    assert isinstance(repr(found) + json.dumps(found.message) + str(found.cost), str)
    found.to_openai()
    found.to_anthropic()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("family", MODELS)
def test_whatever_stands_in_an_answer_no_error_is_untyped(family: str, stream: bool, fault_server: FaultServer) -> None:
    chance = random.Random(f"{family} {stream}")
    model, form = MODELS[family]
    whole, events = answer_json(form, SAID), list(answer_events(form, SAID))
    kind = "application/vnd.amazon.eventstream" if family == "bedrock" else "text/event-stream"

    async def main() -> int:
        refused = 0
        for _ in range(30):
            body: Any = spoiled(whole, chance)
            if stream:
                at = chance.choice([n for n, event in enumerate(events) if event.data.startswith("{")])
                data = json.dumps(spoiled(json.loads(events[at].data), chance))
                made = [*events[:at], dataclasses.replace(events[at], data=data), *events[at + 1 :]]
                body = b"".join(map(render, made))
            fault_server.script([status(200, body, content_type=kind if stream else "application/json")])
            async with client(fault_server) as llm:
                try:
                    await used(llm, model, stream=stream)
                except LLMError:
                    refused += 1
        return refused

    # Most of an answer can be read without the rest.
    assert asyncio.run(main()) < 28


BROKEN: list[tuple[str, Any]] = [
    ("bedrock", {"output": {"message": {"content": [{"text": 5}]}}, "stopReason": "end_turn", "usage": {}}),
    ("responses", {"id": "a", "status": "completed", "output": [{"type": {"a": 1}}]}),
]


@pytest.mark.parametrize(("family", "body"), BROKEN)
def test_such_an_answer_falls_back_and_keeps_its_cause(family: str, body: Any, fault_server: FaultServer) -> None:
    async def main(**more: Any) -> Any:
        async with client(fault_server) as llm:
            return await llm.query(MODELS[family][0], "Hi", max_attempts=1, **more)

    fault_server.script([status(200, body), ok("fine")])
    found = asyncio.run(main(fallback_model="groq/llama-3.3-70b-versatile"))
    assert (found.content, [a.outcome for a in found.attempts]) == ("fine", ["error", "ok"])
    fault_server.script([status(200, body)])
    with pytest.raises(ResponseError, match="something of an unexpected shape") as caught:
        asyncio.run(main())
    assert isinstance(caught.value.__cause__, (TypeError, AttributeError))
    assert caught.value.provider == MODELS[family][0].partition("/")[0].replace("responses-gpt-4o-mini", "openai")


def test_a_stream_that_turns_strange_is_a_typed_error(fault_server: FaultServer) -> None:
    events = [
        {"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": {"a": 1}, "text": " there"}},
    ]
    body = "".join(f"event: x\ndata: {json.dumps(event)}\n\n" for event in events).encode()
    fault_server.script([status(200, body, content_type="text/event-stream")])

    async def main() -> None:
        async with client(fault_server) as llm:
            await (await llm.query("claude-sonnet-5-5", "Hi", stream=True, max_attempts=1)).text()

    with pytest.raises(ProviderError, match="unexpected shape"):
        asyncio.run(main())


def test_an_empty_block_of_bedrock_is_left_alone(fault_server: FaultServer) -> None:
    message = {"role": "assistant", "content": [{}, {"text": "Hello"}]}
    fault_server.script([status(200, {"output": {"message": message}, "stopReason": "end_turn", "usage": {}})])

    async def main() -> Any:
        async with client(fault_server) as llm:
            return await llm.query(MODELS["bedrock"][0], "Hi")

    found = asyncio.run(main())
    assert (found.content, found.message) == ("Hello", {"role": "assistant", "content": "Hello"})
