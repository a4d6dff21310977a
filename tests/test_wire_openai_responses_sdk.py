"""
The official SDK as a second opinion on the Responses API: the same bytes, over a real socket, mean the same to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest
from openai.types.responses import response_create_params as params
from support.behaviours import status
from support.fault_server import FaultServer
from support.responses_scenarios import (
    NAMES,
    PLAIN,
    STREAMED,
    dialect_of,
    expected,
    fold_of,
    plain_of,
    request_of,
    setting,
    stream_of,
)

from llm_master.classes import LLMResponse
from llm_master.wire import openai_responses as family


def comparable(names: list[str], *, failed: bool = False) -> list[str]:
    """The scenarios that the SDK claims to understand: what OpenAI itself sends."""
    return [name for name in names if setting(name).get("sdk", True) and ("error" in expected(name)) == failed]


# Of the shape of whole answers the SDK checks nothing.
LOOSE = {"surrogate", "loose_shapes", "status_unknown", "usage_odd"}
ANSWERED = [name for name in comparable(PLAIN) if name not in LOOSE]
STREAMS = comparable(STREAMED)
FAILED = comparable(STREAMED, failed=True)
ENCODED = [name for name in NAMES if "body" in expected(name) and setting(name)["dialect"] == "openai"]
# Not in the SDK's signature: what the caller adds by hand.
BY_HAND = {"every_parameter": {"new_field"}}


@pytest.fixture(scope="module")
def provider() -> Iterator[tuple[FaultServer, openai.OpenAI]]:
    with FaultServer() as server, openai.OpenAI(api_key="k", base_url=server.url, max_retries=0) as client:
        yield server, client


def answering(server: FaultServer, body: bytes, content_type: str = "application/json") -> None:
    server.script([status(200, body, content_type=content_type)])


def seen_by_us(response: LLMResponse) -> dict[str, Any]:
    usage = response.usage
    return {
        "id": response.request_id,
        "model": response.model,
        "tier": response.service_tier,
        "text": response.content,
        "refusal": response.refusal or "",
        "reasoning": response.reasoning or "",
        "calls": [
            (call.id, call.name, call.arguments if call.name == "computer" else call.raw_arguments)
            for call in response.tool_calls
        ],
        "citations": response.citations,
        "images": len(response.images),
        "tokens": (usage.input_tokens, usage.output_tokens),
        "parts": (usage.cached_tokens, usage.cache_write_tokens, min(usage.reasoning_tokens, usage.output_tokens)),
    }


def seen_by_sdk(answer: Any) -> dict[str, Any]:
    """What a reader of the SDK's objects puts together."""
    seen: dict[str, Any] = {"refusal": "", "thoughts": [], "calls": [], "citations": [], "images": 0}
    for item in answer.output:
        if item.type == "message":
            for part in item.content:
                seen["refusal"] += part.refusal if part.type == "refusal" else ""
                notes = part.annotations if part.type == "output_text" else ()
                seen["citations"] += [note.model_dump(exclude_none=True) for note in notes]
        elif item.type == "reasoning":
            seen["thoughts"] += [part.text for part in item.content or item.summary]
        elif item.type == "function_call":
            seen["calls"].append((item.call_id, item.name, item.arguments))
        elif item.type == "custom_tool_call":
            seen["calls"].append((item.call_id, item.name, item.input))
        elif item.type == "computer_call":
            seen["calls"].append((item.call_id, "computer", item.action.model_dump(exclude_none=True)))
        elif item.type == "image_generation_call":
            seen["images"] += item.result is not None
        elif item.type == "code_interpreter_call":
            seen["images"] += sum(output.type == "image" for output in item.outputs or ())
    usage = answer.usage
    inside, outside = (usage.input_tokens_details, usage.output_tokens_details) if usage else (None, None)
    return {
        "id": answer.id,
        "model": answer.model,
        "tier": answer.service_tier,
        "text": answer.output_text,
        "refusal": seen["refusal"],
        "reasoning": "\n\n".join(seen["thoughts"]),
        "calls": seen["calls"],
        "citations": seen["citations"],
        "images": seen["images"],
        "tokens": (usage.input_tokens, usage.output_tokens) if usage else (0, 0),
        "parts": (inside.cached_tokens, inside.cache_write_tokens, outside.reasoning_tokens) if inside else (0, 0, 0),
    }


def compare(ours: LLMResponse, theirs: Any, name: str) -> None:
    mine, other = seen_by_us(ours), seen_by_sdk(theirs)
    if name == "usage_reasoning_outside":  # the SDK does not add what xAI leaves out
        assert mine["tokens"][1] == other["tokens"][1] + theirs.usage.output_tokens_details.reasoning_tokens
        for field in ("tokens", "parts"):
            mine.pop(field), other.pop(field)
    assert mine == other
    if ours.finish_reason == "length":
        assert theirs.status == "incomplete"
    elif ours.finish_reason in ("stop", "tool_calls", "refusal"):
        assert theirs.status == "completed"


@pytest.mark.parametrize("name", ANSWERED)
def test_a_whole_answer_means_the_same_to_the_sdk(provider: tuple[FaultServer, openai.OpenAI], name: str) -> None:
    server, client = provider
    answering(server, plain_of(name))
    theirs = client.responses.create(model="m", input="Hi")
    compare(family.decode(plain_of(name), request_of(name), dialect_of(name)), theirs, name)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_means_the_same_to_the_sdks_accumulator(
    provider: tuple[FaultServer, openai.OpenAI], name: str
) -> None:
    server, client = provider
    answering(server, stream_of(name), "text/event-stream")
    said = ""
    with client.responses.stream(model="m", input="Hi") as stream:
        for event in stream:
            said += event.delta if event.type == "response.output_text.delta" else ""
            if event.type in ("response.completed", "response.incomplete"):
                theirs = event.response
    fold = fold_of(name)
    pieces = fold.feed(stream_of(name)) + fold.end()
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == said
    compare(fold.response(), theirs, name)


@pytest.mark.parametrize("name", FAILED)
def test_an_error_in_a_stream_is_one_to_the_sdk_too(provider: tuple[FaultServer, openai.OpenAI], name: str) -> None:
    server, client = provider
    answering(server, stream_of(name), "text/event-stream")
    kinds: list[str] = []
    try:
        with client.responses.create(model="m", input="Hi", stream=True) as stream:
            kinds += [event.type for event in stream]
    except openai.APIError:
        kinds.append("error")
    assert kinds[-1] in ("response.failed", "error")


@pytest.mark.parametrize("name", ENCODED)
def test_the_sdk_sends_the_same_body(provider: tuple[FaultServer, openai.OpenAI], name: str) -> None:
    server, client = provider
    body = expected(name)["body"]
    answering(server, plain_of("plain"))
    client.responses.create(**{field: value for field, value in body.items() if field not in BY_HAND.get(name, ())})
    sent = json.loads(server.requests[-1].body)
    assert sent == {field: value for field, value in body.items() if field not in BY_HAND.get(name, ())}


PARAMS = pydantic.TypeAdapter(params.ResponseCreateParamsNonStreaming)


@pytest.mark.parametrize("name", ENCODED)
def test_a_body_has_the_sdks_types(name: str) -> None:
    checked = PARAMS.validate_python(expected(name)["body"])
    # What the types call an Iterable is checked as it is read.
    assert json.loads(json.dumps(checked, default=list)).keys() <= expected(name)["body"].keys()


def test_the_sdk_had_something_to_say() -> None:
    assert (len(ANSWERED) > 30, len(STREAMS) > 30, len(FAILED) > 6, len(ENCODED) > 60) == (True,) * 4
