"""
The official SDK as a second opinion: the same bytes, over a real socket, mean the same to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from support.chat_scenarios import NAMES, dialect_of, expected, request_of, sent, setting
from support.exchange import Behaviour, Exchange
from support.fault_server import FaultServer

from llm_master.classes import LLMResponse, Request
from llm_master.rows import ChatDialect
from llm_master.wire import openai_chat


def comparable(name: str) -> bool:
    """Whether the SDK claims to understand the scenario: it knows no thinking tags, no schema tools, no odd types."""
    dialect = dialect_of(name)
    return setting(name).get("sdk", True) and not dialect.think_tags and dialect.tools_via == "native"


ANSWERED = [
    name for name in NAMES if comparable(name) and "response" in expected(name) and "error" not in expected(name)
]
PLAIN = [name for name in ANSWERED if not request_of(name).stream]
STREAMED = [name for name in ANSWERED if request_of(name).stream]
FAILED = [name for name in NAMES if comparable(name) and request_of(name).stream and "error" in expected(name)]


def answer_with(body: bytes, *, stream: bool) -> Behaviour:
    async def behave(x: Exchange) -> None:
        await x.respond(200, body, [("Content-Type", "text/event-stream" if stream else "application/json")])

    return behave


@pytest.fixture(scope="module")
def provider() -> Iterator[tuple[FaultServer, openai.OpenAI]]:
    with (
        FaultServer() as server,
        openai.OpenAI(api_key="test", base_url=server.url, max_retries=0) as client,
    ):
        yield server, client


def ask(provider: tuple[FaultServer, openai.OpenAI], name: str) -> tuple[Any, Request, ChatDialect, bytes]:
    """What the SDK makes of a scenario's bytes."""
    server, client = provider
    request, dialect, answer = request_of(name), dialect_of(name), sent(name)
    assert answer is not None
    url = server.route(f"/{name}", [answer_with(answer, stream=request.stream)])
    found = client.with_options(base_url=url).chat.completions.create(
        model=request.model, messages=request.messages, stream=request.stream
    )
    return found, request, dialect, answer


def calls_of(response: LLMResponse) -> list[tuple[str, str, str]]:
    return [(call.id, call.name, call.raw_arguments) for call in response.tool_calls]


def agrees(ours: LLMResponse, theirs: str | None) -> bool:
    """Finish reasons; ours also look at what the answer holds."""
    return ours.finish_reason == theirs or (ours.finish_reason, theirs) in {
        ("tool_calls", "stop"),
        ("refusal", "stop"),
        ("stop", "tool_calls"),
        ("stop", None),
        ("error", None),
    }


def check_usage(ours: LLMResponse, theirs: Any) -> None:
    usage = ours.usage
    if theirs is None:
        assert (usage.input_tokens, usage.output_tokens) == (0, 0)
        return
    assert (usage.input_tokens, usage.output_tokens) == (theirs.prompt_tokens, theirs.completion_tokens)
    details = theirs.prompt_tokens_details
    if details is not None and (details.cached_tokens or 0) <= theirs.prompt_tokens:
        assert usage.cached_tokens == (details.cached_tokens or 0)
    parts = theirs.completion_tokens_details
    if parts is not None:
        assert usage.reasoning_tokens == (parts.reasoning_tokens or 0)


@pytest.mark.parametrize("name", PLAIN)
def test_a_whole_answer_means_the_same_to_the_sdk(provider: tuple[FaultServer, openai.OpenAI], name: str) -> None:
    theirs, request, dialect, answer = ask(provider, name)
    ours = openai_chat.decode(answer, request, dialect)
    message = theirs.choices[0].message
    assert ours.content == (message.content or "")
    assert ours.refusal == message.refusal
    assert calls_of(ours) == [
        (call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()
    ]
    assert agrees(ours, theirs.choices[0].finish_reason)
    assert (ours.request_id, ours.model, ours.service_tier) == (theirs.id, theirs.model, theirs.service_tier)
    check_usage(ours, theirs.usage)


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_means_the_same_to_the_sdk(provider: tuple[FaultServer, openai.OpenAI], name: str) -> None:
    stream, request, dialect, answer = ask(provider, name)
    text, refusal, finish, usage = "", "", None, None
    calls: dict[int, list[str]] = {}
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices or ():
            text += choice.delta.content or ""
            refusal += choice.delta.refusal or ""
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or ():
                known = calls.setdefault(call.index, ["", "", ""])
                pieces = (call.id, call.function.name, call.function.arguments)
                for place, piece in enumerate(pieces):
                    known[place] += piece or ""
    fold = openai_chat.Fold(request, dialect)
    fold.feed(answer)
    fold.end()
    ours = fold.response()
    assert (ours.content, ours.refusal) == (text, refusal or None)
    assert calls_of(ours) == [tuple(call) for call in calls.values()]
    assert agrees(ours, finish)
    if dialect.usage_path is None:
        check_usage(ours, usage)


@pytest.mark.parametrize("name", FAILED)
def test_an_error_in_a_stream_is_one_to_the_sdk_too(provider: tuple[FaultServer, openai.OpenAI], name: str) -> None:
    stream, *_ = ask(provider, name)
    with pytest.raises(openai.APIError):
        list(stream)


def test_the_sdk_had_something_to_say() -> None:
    assert (len(PLAIN) > 40, len(STREAMED) > 20, len(FAILED) > 2) == (True, True, True)
