"""
The official SDK as a second opinion on Cohere's chat API: the same bytes, over a real socket, mean the same to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import pytest
from support.behaviours import status
from support.cohere_requests import DIALECT
from support.fault_server import FaultServer
from test_wire_cohere import FILES, stream_of

from llm_master.classes import LLMResponse
from llm_master.wire import cohere as family

ASK: Any = {"model": "command-a-03-2025", "messages": [{"role": "user", "content": "Hi"}]}
STREAMED = FILES.both
# Our schema tool's arguments are the answer's text; to the SDK they are a call like any other.
ANSWER_TOOL = "structured_answer"


@pytest.fixture
def sdk(fault_server: FaultServer) -> Iterator[cohere.ClientV2]:
    # Its own client, so that its sockets are closed before the test ends.
    with httpx.Client() as http:
        yield cohere.ClientV2(api_key="k", base_url=fault_server.url, httpx_client=http)


def answering(server: FaultServer, body: bytes, content_type: str = "application/json") -> None:
    server.script([status(200, body, content_type=content_type)])


def seen_by_us(response: LLMResponse) -> dict[str, Any]:
    return {
        "id": response.request_id,
        "text": response.content,
        "reasoning": response.reasoning,
        "calls": [(call.id, call.name, call.raw_arguments) for call in response.tool_calls],
        "citations": response.citations,
        "tokens": (response.usage.input_tokens, response.usage.output_tokens),
        "cached": response.usage.cached_tokens,
    }


def paid(usage: Any) -> tuple[int, int]:
    units = usage.billed_units or usage.tokens
    return int(units.input_tokens), int(units.output_tokens)


def seen_by_sdk(answer: cohere.V2ChatResponse) -> dict[str, Any]:
    message = answer.message
    items = message.content or []
    thoughts = [item.thinking for item in items if item.type == "thinking"]
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    answers = [arguments for _, name, arguments in calls if name == ANSWER_TOOL]
    return {
        "id": answer.id,
        "text": answers[0] if answers else "".join(item.text for item in items if item.type == "text"),
        "reasoning": "\n\n".join([*thoughts, *([message.tool_plan] if message.tool_plan else [])]) or None,
        "calls": [call for call in calls if call[1] != ANSWER_TOOL],
        "citations": [citation.dict(exclude_none=True) for citation in message.citations or ()],
        "tokens": paid(answer.usage),
        "cached": int(answer.usage.cached_tokens or 0),
    }


@pytest.mark.parametrize("name", FILES.names(".response.json"))
def test_a_whole_answer_means_the_same_to_the_sdk(name: str, fault_server: FaultServer, sdk: cohere.ClientV2) -> None:
    answering(fault_server, FILES.plain(name))
    theirs = sdk.chat(**ASK)
    ours = family.decode(FILES.plain(name), FILES.request(name), DIALECT)
    assert seen_by_us(ours) == seen_by_sdk(theirs)


def told_by_sdk(events: Any) -> dict[str, Any]:
    """What a reader of the SDK's events puts together."""
    told: dict[str, Any] = {
        "id": None,
        "text": "",
        "thoughts": {},
        "plan": "",
        "calls": {},
        "citations": [],
        "end": None,
    }
    for event in events:
        if event.type == "message-start":
            # The SDK takes the closing [DONE] for one without an id.
            told["id"] = event.id or told["id"]
        elif event.type == "content-delta" and event.delta is not None:
            content = event.delta.message.content
            told["text"] += content.text or ""
            if content.thinking:
                told["thoughts"][event.index] = told["thoughts"].get(event.index, "") + content.thinking
        elif event.type == "tool-plan-delta":
            told["plan"] += event.delta.message.tool_plan
        elif event.type == "tool-call-start":
            call = event.delta.message.tool_calls
            told["calls"][event.index] = [call.id, call.function.name, call.function.arguments]
        elif event.type == "tool-call-delta":
            told["calls"][event.index][2] += event.delta.message.tool_calls.function.arguments
        elif event.type == "citation-start":
            told["citations"].append(event.delta.message.citations.dict(exclude_none=True))
        elif event.type == "message-end":
            told["end"] = event.delta
    return told


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_means_the_same_to_the_sdk(name: str, fault_server: FaultServer, sdk: cohere.ClientV2) -> None:
    answering(fault_server, stream_of(name), "text/event-stream")
    told = told_by_sdk(sdk.chat_stream(**ASK))
    fold, pieces = FILES.folded(name, stream_of(name))
    calls = [tuple(call) for call in told["calls"].values()]
    answers = [call[2] for call in calls if call[1] == ANSWER_TOOL]
    thoughts = [*told["thoughts"].values(), *([told["plan"]] if told["plan"] else [])]
    assert seen_by_us(fold.response()) == {
        "id": told["id"],
        "text": answers[0] if answers else told["text"],
        "reasoning": "\n\n".join(thoughts) or None,
        "calls": [call for call in calls if call[1] != ANSWER_TOOL],
        "citations": told["citations"],
        "tokens": paid(told["end"].usage),
        "cached": int(told["end"].usage.cached_tokens or 0),
    }
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == (answers[0] if answers else told["text"])


# Not in the SDK's signature: what the caller adds by hand.
BY_HAND = {"native_parameters": {"new_field"}}


@pytest.mark.parametrize("name", FILES.names())
def test_the_sdk_sends_the_same_body(name: str, fault_server: FaultServer, sdk: cohere.ClientV2) -> None:
    body = FILES.expected(name)["body"]
    given = {field: value for field, value in body.items() if field not in BY_HAND.get(name, set())}
    given.pop("stream")
    answering(fault_server, b'{"id": "1", "finish_reason": "COMPLETE", "message": {}}')
    sdk.chat(**given)
    sent = json.loads(fault_server.requests[-1].body)
    assert sent == {**given, "stream": False}


def test_the_sdk_had_something_to_say() -> None:
    assert (len(FILES.names(".response.json")) > 30, len(STREAMED) > 12) == (True, True)
