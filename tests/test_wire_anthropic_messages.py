"""
The Messages API on the wire: golden files, any split of the bytes, and the official SDK as the reference.
"""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import anthropic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.behaviours import status
from support.fault_server import FaultServer
from support.messages_requests import DIALECT

from llm_master.classes import LLMResponse, Request, Usage
from llm_master.events import ReasoningEvent, RefusalEvent, StreamEvent, ToolCallDeltaEvent, ToolCallEvent, UsageEvent
from llm_master.wire import anthropic_messages as family

GOLDEN = Path(__file__).parent / "wire" / "anthropic_messages"


def scenarios(suffix: str = ".request.json") -> list[str]:
    return sorted(path.name.removesuffix(suffix) for path in GOLDEN.glob(f"*{suffix}"))


def request_of(name: str) -> Request:
    fields = json.loads((GOLDEN / f"{name}.request.json").read_text())
    fields.setdefault("params", {})
    return Request(**fields)


def expected_of(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.expected.json").read_text())


def plain_of(name: str) -> bytes:
    return (GOLDEN / f"{name}.response.json").read_bytes()


def stream_of(name: str) -> bytes:
    return (GOLDEN / f"{name}.sse").read_bytes()


def folded(name: str, *parts: bytes) -> tuple[family.Fold, list[str | StreamEvent]]:
    fold = family.Fold(request_of(name), DIALECT)
    pieces = [piece for part in parts for piece in fold.feed(part)]
    return fold, pieces + fold.end()


def seen_usage(usage: Usage) -> dict[str, int]:
    return {field: value for field in usage.__struct_fields__ if (value := getattr(usage, field))}


def seen_response(response: LLMResponse) -> dict[str, Any]:
    """What a golden file says of a response: everything that is not empty."""
    calls = [[call.id, call.name, call.raw_arguments] for call in response.tool_calls]
    seen = {
        "content": response.content,
        "finish_reason": response.finish_reason,
        "usage": seen_usage(response.usage),
        "model": response.model,
        "request_id": response.request_id,
        "reasoning": response.reasoning,
        "refusal": response.refusal,
        "tool_calls": calls,
        "citations": response.citations,
        "opaque": response.opaque,
        "notes": list(response.notes),
        "service_tier": response.service_tier,
    }
    return {field: value for field, value in seen.items() if value or field in ("content", "finish_reason")}


def seen_pieces(pieces: list[str | StreamEvent]) -> list[Any]:
    """Text as it is, events as ``[kind, ...]``; neighbouring pieces of a kind are kept apart."""
    seen: list[Any] = []
    for piece in pieces:
        if isinstance(piece, str):
            seen.append(piece)
        elif isinstance(piece, ReasoningEvent | RefusalEvent):
            seen.append([piece.type, piece.text])
        elif isinstance(piece, ToolCallDeltaEvent):
            seen.append([piece.type, piece.index, piece.id, piece.name, piece.arguments])
        elif isinstance(piece, ToolCallEvent):
            seen.append([piece.type, piece.tool_call.id, piece.tool_call.name, piece.tool_call.raw_arguments])
        else:
            assert isinstance(piece, UsageEvent)
            seen.append([piece.type, seen_usage(piece.usage)])
    return seen


# Golden files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", scenarios())
def test_encode_writes_the_golden_body(name: str) -> None:
    request, expected = request_of(name), expected_of(name)
    before = copy.deepcopy((request.messages, request.params))
    assert json.loads(family.encode(request, DIALECT)) == expected["body"]
    assert list(request.dropped) == expected["dropped"]
    assert (request.messages, request.params) == before
    # Once more, as a retry does: the same body, and nothing listed twice.
    assert json.loads(family.encode(request, DIALECT)) == expected["body"]
    assert list(request.dropped) == expected["dropped"]


@pytest.mark.parametrize("name", scenarios())
def test_a_streamed_request_differs_by_its_flag_only(name: str) -> None:
    request = request_of(name)
    request.stream = True
    assert json.loads(family.encode(request, DIALECT)) == {**expected_of(name)["body"], "stream": True}


@pytest.mark.parametrize("name", scenarios(".response.json"))
def test_decode_reads_the_golden_answer(name: str) -> None:
    response = family.decode(plain_of(name), request_of(name), DIALECT)
    assert seen_response(response) == expected_of(name)["response"]
    assert response.raw == json.loads(plain_of(name))
    assert response.provider == request_of(name).provider


@pytest.mark.parametrize("name", scenarios(".sse"))
def test_fold_reads_the_golden_stream(name: str) -> None:
    expected = expected_of(name)
    fold, pieces = folded(name, stream_of(name))
    assert seen_pieces(pieces) == expected["pieces"]
    assert seen_response(fold.response()) == expected["response"]
    assert fold.complete
    # Reason and usage end a stream, whether or not its own last event follows.
    stream = stream_of(name)
    assert fold.done == (b"message_stop" in stream or b'"usage"' in stream.rpartition(b"message_delta")[2])
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == expected["response"]["content"]


@pytest.mark.parametrize("name", sorted(set(scenarios(".sse")) & set(scenarios(".response.json"))))
def test_a_stream_folds_to_what_the_plain_answer_decodes_to(name: str) -> None:
    plain = family.decode(plain_of(name), request_of(name), DIALECT)
    fold, _ = folded(name, stream_of(name))
    plain.raw_body = None
    assert fold.response() == plain


@pytest.mark.parametrize("name", scenarios(".sse"))
def test_any_split_of_the_bytes_gives_the_same_answer(name: str) -> None:
    data = stream_of(name)
    whole, pieces = folded(name, data)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(0, len(data)), max_size=12))
    def check(cuts: list[int]) -> None:
        bounds = [0, *sorted(cuts), len(data)]
        parts = [data[start:end] for start, end in itertools.pairwise(bounds)]
        fold, split_pieces = folded(name, *parts)
        assert fold.response() == whole.response()
        assert seen_pieces(split_pieces) == seen_pieces(pieces)
        assert (fold.done, fold.complete, fold.notes) == (whole.done, whole.complete, whole.notes)

    check()
    byte_by_byte, _ = folded(name, *(data[at : at + 1] for at in range(len(data))))
    assert byte_by_byte.response() == whole.response()


# The official SDK as the reference ------------------------------------------------------------------------------------


def seen_by_sdk(message: anthropic.types.Message, name: str) -> dict[str, Any]:
    usage, blocks = message.usage, message.content
    schema = "json_schema_tool" in name
    calls = [[b.id, b.name, b.input] for b in blocks if b.type == "tool_use" and b.name != "structured_answer"]
    answers = [b.input for b in blocks if b.type == "tool_use" and b.name == "structured_answer"]
    details = usage.output_tokens_details
    return {
        "text": "".join(b.text for b in blocks if b.type == "text") if not (schema and answers) else answers[0],
        "calls": calls,
        "thinking": [b.thinking for b in blocks if b.type == "thinking"],
        "signatures": [b.signature for b in blocks if b.type == "thinking"],
        "input": usage.input_tokens + (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0),
        "cached": usage.cache_read_input_tokens or 0,
        "output": usage.output_tokens,
        "reasoning": details.thinking_tokens if details else 0,
        "citations": [c.model_dump() for b in blocks if b.type == "text" for c in b.citations or []],
        "id": message.id,
        "model": message.model,
    }


def seen_by_us(response: LLMResponse, name: str) -> dict[str, Any]:
    payload = (response.opaque or {}).get("payload", [])
    content = response.content
    return {
        "text": json.loads(content) if "json_schema_tool" in name and content.startswith("{") else content,
        "calls": [[call.id, call.name, call.arguments] for call in response.tool_calls],
        "thinking": [block["thinking"] for block in payload if block["type"] == "thinking"],
        "signatures": [block["signature"] for block in payload if block["type"] == "thinking"],
        "input": response.usage.input_tokens,
        "cached": response.usage.cached_tokens,
        "output": response.usage.output_tokens,
        "reasoning": response.usage.reasoning_tokens,
        "citations": response.citations,
        "id": response.request_id,
        "model": response.model,
    }


ASK: Any = {"model": "claude-opus-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}


def sdk(server: FaultServer, body: bytes, content_type: str) -> anthropic.Anthropic:
    server.script([status(200, body, content_type=content_type)])
    return anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0)


@pytest.mark.parametrize("name", scenarios(".response.json"))
def test_the_sdk_reads_the_same_answer(name: str, fault_server: FaultServer) -> None:
    with sdk(fault_server, plain_of(name), "application/json") as client:
        theirs = client.messages.create(**ASK)
    ours = family.decode(plain_of(name), request_of(name), DIALECT)
    assert seen_by_us(ours, name) == seen_by_sdk(theirs, name)


@pytest.mark.parametrize("name", sorted(set(scenarios(".sse")) & set(scenarios(".response.json"))))
def test_the_sdk_reads_the_same_stream(name: str, fault_server: FaultServer) -> None:
    with (
        sdk(fault_server, stream_of(name), "text/event-stream") as client,
        client.messages.stream(**ASK) as stream,
    ):
        text = "".join(stream.text_stream)
        theirs = stream.get_final_message()
    fold, pieces = folded(name, stream_of(name))
    assert seen_by_us(fold.response(), name) == seen_by_sdk(theirs, name)
    if "json_schema_tool" not in name:
        assert "".join(piece for piece in pieces if isinstance(piece, str)) == text


# The SDK's signature lacks what only older models or a beta take.
NOT_IN_SIGNATURE = {"temperature", "top_p", "top_k", "mcp_servers"}


@pytest.mark.parametrize("name", scenarios())
def test_the_sdk_types_take_every_body(name: str) -> None:
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
    from pydantic import TypeAdapter

    body = expected_of(name)["body"]
    adapter = TypeAdapter(MessageCreateParamsNonStreaming)
    read = json.loads(json.dumps(adapter.dump_python(adapter.validate_python(body)), default=list))
    assert read == {field: value for field, value in body.items() if field not in NOT_IN_SIGNATURE}
