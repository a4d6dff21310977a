"""
The Messages API on the wire: golden files, any split of the bytes, and the official SDK as the reference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import pytest
from support.behaviours import status
from support.fault_server import FaultServer
from support.golden import Golden
from support.messages_requests import DIALECT

from llm_master.classes import LLMResponse
from llm_master.wire import anthropic_messages as family

FILES = Golden(Path(__file__).parent / "wire" / "anthropic_messages", family, DIALECT)
stream_of = FILES.stream


@pytest.mark.parametrize("name", FILES.names())
def test_encode_writes_the_golden_body(name: str) -> None:
    FILES.check_body(name)


@pytest.mark.parametrize("name", FILES.names())
def test_a_streamed_request_differs_by_its_flag_only(name: str) -> None:
    FILES.check_flag(name)


@pytest.mark.parametrize("name", FILES.names(".response.json"))
def test_decode_reads_the_golden_answer(name: str) -> None:
    FILES.check_answer(name)


@pytest.mark.parametrize("name", FILES.names(".sse"))
def test_fold_reads_the_golden_stream(name: str) -> None:
    stream = stream_of(name)
    fold = FILES.check_stream(name, stream)
    # Reason and usage end a stream, whether or not its own last event follows.
    assert fold.done == (b"message_stop" in stream or b'"usage"' in stream.rpartition(b"message_delta")[2])


@pytest.mark.parametrize("name", FILES.both)
def test_a_stream_folds_to_what_the_plain_answer_decodes_to(name: str) -> None:
    FILES.check_alike(name, stream_of(name))


@pytest.mark.parametrize("name", FILES.names(".sse"))
def test_any_split_of_the_bytes_gives_the_same_answer(name: str) -> None:
    FILES.check_splits(name, stream_of(name))


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


@pytest.mark.parametrize("name", FILES.names(".response.json"))
def test_the_sdk_reads_the_same_answer(name: str, fault_server: FaultServer) -> None:
    with sdk(fault_server, FILES.plain(name), "application/json") as client:
        theirs = client.messages.create(**ASK)
    ours = family.decode(FILES.plain(name), FILES.request(name), DIALECT)
    assert seen_by_us(ours, name) == seen_by_sdk(theirs, name)


@pytest.mark.parametrize("name", FILES.both)
def test_the_sdk_reads_the_same_stream(name: str, fault_server: FaultServer) -> None:
    with (
        sdk(fault_server, stream_of(name), "text/event-stream") as client,
        client.messages.stream(**ASK) as stream,
    ):
        text = "".join(stream.text_stream)
        theirs = stream.get_final_message()
    fold, pieces = FILES.folded(name, stream_of(name))
    assert seen_by_us(fold.response(), name) == seen_by_sdk(theirs, name)
    if "json_schema_tool" not in name:
        assert "".join(piece for piece in pieces if isinstance(piece, str)) == text


# The SDK's signature lacks what only older models or a beta take.
NOT_IN_SIGNATURE = {"temperature", "top_p", "top_k", "mcp_servers"}


@pytest.mark.parametrize("name", FILES.names())
def test_the_sdk_types_take_every_body(name: str) -> None:
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
    from pydantic import TypeAdapter

    body = FILES.expected(name)["body"]
    adapter = TypeAdapter(MessageCreateParamsNonStreaming)
    read = json.loads(json.dumps(adapter.dump_python(adapter.validate_python(body)), default=list))
    assert read == {field: value for field, value in body.items() if field not in NOT_IN_SIGNATURE}
