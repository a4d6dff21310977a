"""
Answers and requests of a shape that nobody expected: the caller gets an answer or a typed error, and nothing else.
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
from support.pictures import DATA_URI

from llm_master import InvalidRequestError, LLMConfig, LLMError, ProviderError, QueryLLM, ResponseError, ToolCall, Usage
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


def client_of_nobody() -> QueryLLM:
    return QueryLLM(
        LLMConfig(bedrock_api_key="k-0123456789", base_urls={"bedrock": "http://127.0.0.1:1"}), ledger="off"
    )


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


def history(family: str) -> dict[str, Any]:
    """Messages and parameters that say a bit of everything."""
    # Cohere's model that calls tools sees nothing.
    picture = [{"type": "image_url", "image_url": {"url": DATA_URI}}] if family != "cohere" else []
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    thought = [{"type": "thinking", "thinking": "Hm.", "signature": "s"}]
    opaque = {"family": family, "provider": "anthropic", "model": "claude-sonnet-5-5", "payload": thought}
    schema = {"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]}
    return {
        "messages": [
            {"role": "system", "content": "Be short."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "Hi"}, *picture],
            },
            {"role": "assistant", "content": "x", "tool_calls": [call], "opaque": opaque},
            {"role": "tool", "tool_call_id": "c1", "content": "seen"},
            {"role": "user", "content": "And now?"},
        ],
        "params": {
            "tools": [{"type": "function", "function": {"name": "look", "parameters": schema}}],
            "tool_choice": {"type": "function", "function": {"name": "look"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}},
            "reasoning_effort": "low",
            "stop": ["END"],
        },
    }


@pytest.mark.parametrize("family", MODELS)
def test_whatever_is_asked_is_sent_or_refused_by_a_typed_error(family: str) -> None:
    chance = random.Random(family)
    whole = history("anthropic_messages" if family == "messages" else family)
    sent = 0
    with client_of_nobody() as llm:
        for _ in range(100):
            asked = spoiled(whole, chance)
            params = asked["params"] if isinstance(asked["params"], dict) else {}
            given = {name: value for name, value in params.items() if chance.random() < 0.5}
            try:
                llm.preview_request(MODELS[family][0], asked["messages"], drop_params=True, **given)
                sent += 1
            except LLMError:
                continue
    assert sent > 10


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"tools": [{"type": {}, "function": {"name": "f"}}]}, r"tools\[0\]="),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": -1}}]}, "unexpected shape"),
        ({"response_format": {"type": {}}}, "cannot be read as a type"),
        ({"reasoning_effort": ["low"]}, "unexpected shape"),
    ],
)
def test_such_a_request_is_refused_before_it_is_sent(params: Any, says: str, fault_server: FaultServer) -> None:
    with client(fault_server) as llm, pytest.raises(InvalidRequestError, match=says):
        llm.query_sync("claude-sonnet-5-5", "Hi", **params)
    assert not fault_server.requests


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
