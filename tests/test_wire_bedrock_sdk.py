"""
The official SDK as a second opinion on Converse: the same bytes, over a real socket, mean the same to it.
"""

from __future__ import annotations

import base64
import json
from contextlib import closing
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError
from botocore.validate import ParamValidator
from support.bedrock_requests import DIALECT, request, stream_of
from support.behaviours import status
from support.event_stream import event, exception, frame
from support.fault_server import FaultServer
from test_wire_bedrock import FILES

from llm_master.classes import LLMResponse
from llm_master.errors import ProviderError
from llm_master.wire import bedrock as family
from llm_master.wire.bedrock_frames import FrameParser

ASK: Any = {
    "modelId": "anthropic.claude-3-haiku-20240307-v1:0",
    "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
}
STREAM = "application/vnd.amazon.eventstream"
# Our schema tool's arguments are the answer's text; to the SDK they are a call like any other.
ANSWER_TOOL = "structured_answer"


def answering(server: FaultServer, body: bytes, content_type: str = "application/json", code: int = 200) -> None:
    server.script([status(code, body, content_type=content_type)])


def gathered(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """What the SDK's blocks say, in our words."""
    calls = [b["toolUse"] for b in blocks if "toolUse" in b and b["toolUse"].get("type") != "server_tool_use"]
    answers = [call["input"] for call in calls if call["name"] == ANSWER_TOOL]
    cited = [b["citationsContent"] for b in blocks if "citationsContent" in b]
    thoughts = [b["reasoningContent"] for b in blocks if "reasoningContent" in b]
    texts = [
        b.get("text") or "".join(part["text"] for part in b.get("citationsContent", {}).get("content", ()))
        for b in blocks
    ]
    return {
        "text": answers[0] if answers else "".join(texts),
        "calls": [(call["toolUseId"], call["name"], call["input"]) for call in calls if call["name"] != ANSWER_TOOL],
        "thoughts": [each["reasoningText"]["text"] for each in thoughts if "reasoningText" in each],
        "secrets": [
            each["redactedContent"] if "redactedContent" in each else each["reasoningText"].get("signature")
            for each in thoughts
        ],
        "citations": [citation for each in cited for citation in each["citations"]],
        "images": [b["image"]["source"]["bytes"] for b in blocks if "image" in b],
    }


def seen_by_us(response: LLMResponse, *, structured: bool) -> dict[str, Any]:
    payload = (response.opaque or {}).get("payload", [])
    thoughts = [block["reasoningContent"] for block in payload if "reasoningContent" in block]
    return {
        "text": json.loads(response.content) if structured else response.content,
        "calls": [(call.id, call.name, call.arguments) for call in response.tool_calls],
        "thoughts": [each["reasoningText"]["text"] for each in thoughts if "reasoningText" in each],
        "secrets": [
            base64.b64decode(each["redactedContent"])
            if "redactedContent" in each
            else each["reasoningText"].get("signature")
            for each in thoughts
        ],
        "citations": response.citations,
        "images": [image.data for image in response.images],
    }


def counted(usage: dict[str, int]) -> tuple[int, int, int, int]:
    read, written = usage.get("cacheReadInputTokens", 0), usage.get("cacheWriteInputTokens", 0)
    return usage["inputTokens"] + read + written, usage["outputTokens"], read, written


def counted_by_us(response: LLMResponse) -> tuple[int, int, int, int]:
    usage = response.usage
    return usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.cache_write_tokens


def is_structured(name: str) -> bool:
    return name in ("json_schema_tool", "json_schema_thinking")


@pytest.mark.parametrize("name", FILES.names(".response.json"))
def test_a_whole_answer_means_the_same_to_the_sdk(name: str, fault_server: FaultServer, amazon: Any) -> None:
    answering(fault_server, FILES.plain(name))
    theirs = amazon.converse(**ASK)
    ours = family.decode(FILES.plain(name), FILES.request(name), DIALECT)
    assert seen_by_us(ours, structured=is_structured(name)) == gathered(theirs["output"]["message"]["content"])
    assert counted_by_us(ours) == counted(theirs["usage"])
    assert ours.service_tier == theirs.get("serviceTier", {}).get("type")


def put_together(events: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The blocks and the usage of the SDK's events."""
    blocks: dict[int, dict[str, Any]] = {}
    usage: dict[str, Any] = {}
    for each in events:
        if "contentBlockStart" in each:
            start = each["contentBlockStart"]
            kind, fields = next(iter(start["start"].items()), (None, {}))
            if kind is not None:
                blocks[start["contentBlockIndex"]] = {
                    kind: {**fields, "input": ""} if kind == "toolUse" else dict(fields)
                }
        elif "contentBlockDelta" in each:
            delta = each["contentBlockDelta"]
            if "delta" in delta:
                add(blocks.setdefault(delta["contentBlockIndex"], {}), delta["delta"])
        elif "metadata" in each:
            usage = each["metadata"].get("usage") or usage
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
    return [block for _, block in sorted(blocks.items())], usage


def add(block: dict[str, Any], delta: dict[str, Any]) -> None:
    if "text" in delta:
        if "citationsContent" in block:
            block["citationsContent"]["content"][0]["text"] += delta["text"]
        else:
            block["text"] = block.get("text", "") + delta["text"]
    elif "toolUse" in delta:
        block["toolUse"]["input"] += delta["toolUse"]["input"]
    elif "citation" in delta:
        text = block.pop("text", "")
        block.setdefault("citationsContent", {"content": [{"text": text}], "citations": []})
        block["citationsContent"]["citations"].append(delta["citation"])
    elif "image" in delta:
        source = block["image"].setdefault("source", {"bytes": b""})
        source["bytes"] += delta["image"]["source"]["bytes"]
    elif "reasoningContent" in delta:
        said = delta["reasoningContent"]
        reasoning = block.setdefault("reasoningContent", {})
        if "redactedContent" in said:
            reasoning["redactedContent"] = reasoning.get("redactedContent", b"") + said["redactedContent"]
        for field in ("text", "signature"):
            if field in said:
                inner = reasoning.setdefault("reasoningText", {})
                inner[field] = inner.get(field, "") + said[field]


@pytest.mark.parametrize("name", FILES.names(".events.jsonl"))
def test_a_stream_means_the_same_to_the_sdk(name: str, fault_server: FaultServer, amazon: Any) -> None:
    if name == "odd_events":
        # The SDK gives events of a wrong shape on as they are.
        data = b"".join(event(kind, {}) for kind in ("brandNew", "messageStart")) + stream_of("plain_text")
        ours_name = "plain_text"
    else:
        data, ours_name = stream_of(name), name
    answering(fault_server, data, STREAM)
    with closing(amazon.converse_stream(**ASK)["stream"]) as events:
        blocks, usage = put_together(events)
    fold, pieces = FILES.folded(ours_name, data)
    assert seen_by_us(fold.response(), structured=is_structured(name)) == gathered(blocks)
    assert counted_by_us(fold.response()) == counted(usage)
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == fold.response().content


@pytest.mark.parametrize("name", FILES.names(".events.jsonl"))
def test_the_sdk_splits_the_stream_into_the_same_messages(name: str) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(stream_of(name))
    theirs = [(dict(each.headers.items()), each.payload) for each in buffer]
    assert [(each.headers, each.payload) for each in FrameParser("p", "m").feed(stream_of(name))] == theirs


def test_the_sdk_reads_headers_of_every_type_as_we_do() -> None:
    data = frame({"yes": True, "no": False, "number": 7, "bytes": b"\x00\xff", ":event-type": "x"}, b"{}")
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    theirs = next(iter(buffer)).headers
    (ours,) = FrameParser("p", "m").feed(data)
    assert ours.headers == {name: value for name, value in theirs.items() if isinstance(value, str)}
    assert (len(theirs), theirs["number"], theirs["bytes"]) == (5, 7, b"\x00\xff")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("throttlingException", 429),
        ("validationException", 400),
        ("internalServerException", 500),
        ("serviceUnavailableException", 503),
        ("modelStreamErrorException", 424),
    ],
)
def test_an_exception_in_a_stream_is_one_to_the_sdk_too(
    kind: str, code: int, fault_server: FaultServer, amazon: Any
) -> None:
    data = exception(kind, message="no")
    answering(fault_server, data, STREAM)
    with pytest.raises(EventStreamError) as theirs, closing(amazon.converse_stream(**ASK)["stream"]) as events:
        list(events)
    with pytest.raises(ProviderError) as ours:
        family.Fold(request("amazon.nova-lite-v1:0"), DIALECT).feed(data)
    assert ours.value.code == theirs.value.response["Error"]["Code"] == kind
    assert ours.value.status_code == code


def test_an_http_error_is_one_to_the_sdk_too(fault_server: FaultServer, amazon: Any) -> None:
    answering(fault_server, b'{"message": "The provided model identifier is invalid."}', code=400)
    with pytest.raises(ClientError, match="model identifier"):
        amazon.converse(**ASK)


# Requests ---------------------------------------------------------------------------------------------------------


def with_bytes(value: Any, shape: Any) -> Any:
    """A body as the SDK takes it: base64 where the service's model has bytes."""
    if shape.type_name == "structure" and isinstance(value, dict) and not getattr(shape, "is_document_type", False):
        members = shape.members
        return {key: with_bytes(each, members[key]) if key in members else each for key, each in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [with_bytes(each, shape.member) for each in value]
    return base64.b64decode(value) if shape.type_name == "blob" and isinstance(value, str) else value


@pytest.mark.parametrize("name", FILES.names())
@pytest.mark.parametrize("operation", ["Converse", "ConverseStream"])
def test_the_sdks_model_of_the_service_takes_every_body(name: str, operation: str, amazon: Any) -> None:
    shape = amazon.meta.service_model.operation_model(operation).input_shape
    body = with_bytes({"modelId": FILES.request(name).model, **FILES.expected(name)["body"]}, shape)
    report = ParamValidator().validate(body, shape)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize("name", FILES.names())
def test_the_sdk_sends_the_same_body_to_the_same_path(name: str, fault_server: FaultServer, amazon: Any) -> None:
    shape = amazon.meta.service_model.operation_model("Converse").input_shape
    expected, model = FILES.expected(name)["body"], FILES.request(name).model
    answering(fault_server, FILES.plain("plain_text"))
    amazon.converse(**with_bytes({"modelId": model, **expected}, shape))
    seen = fault_server.requests[-1]
    assert json.loads(seen.body) == expected
    assert seen.path == family.path(model, False)


def test_the_sdk_had_something_to_say() -> None:
    assert (len(FILES.names(".response.json")) > 45, len(FILES.names(".events.jsonl")) > 18) == (True, True)
