"""
An answer as the vendors' own types: what their packages make of the same bytes, and what they make of others'.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from anthropic.types import Message
from openai.types.chat import ChatCompletion
from support import chat_scenarios as chat
from support.behaviours import status
from support.fault_server import FaultServer
from support.messages_requests import DIALECT

from llm_master import LLMResponse, ToolArgumentsError, ToolCall, Usage
from llm_master.classes import Image, Request
from llm_master.wire import anthropic_messages, openai_chat

GOLDEN = Path(__file__).parent / "wire" / "anthropic_messages"


def messages_request(name: str) -> Request:
    fields = json.loads((GOLDEN / f"{name}.request.json").read_text())
    fields.setdefault("params", {})
    return Request(**fields)


def messages_body(name: str) -> bytes:
    return (GOLDEN / f"{name}.response.json").read_bytes()


def is_message(name: str) -> bool:
    return json.loads(messages_body(name)).get("type") == "message"


NAMES = sorted(path.name.removesuffix(".response.json") for path in GOLDEN.glob("*.response.json"))
# A forced tool carries a schema's answer; that is text to the caller, so the message differs from the bytes there.
BY_TOOL = {name for name in NAMES if b'"name": "json_answer"' in messages_body(name) or "schema_tool" in name}
ANSWERS = [name for name in NAMES if is_message(name) and name not in BY_TOOL]


def sdk_message(server: FaultServer, body: bytes) -> Message:
    server.default = status(200, json.loads(body))
    with anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0) as client:
        return client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize("name", ANSWERS)
def test_a_message_is_what_the_anthropic_package_makes_of_the_same_bytes(name: str, fault_server: FaultServer) -> None:
    body = messages_body(name)
    ours = anthropic_messages.decode(body, messages_request(name), DIALECT).to_anthropic()
    assert isinstance(ours, Message)
    assert ours == sdk_message(fault_server, body)


def test_there_were_messages_to_compare() -> None:
    assert len(ANSWERS) > 20
    assert len(BY_TOOL) > 2


@pytest.mark.parametrize("name", sorted(BY_TOOL))
def test_the_answer_of_a_schemas_own_tool_is_text(name: str) -> None:
    response = anthropic_messages.decode(messages_body(name), messages_request(name), DIALECT)
    message = response.to_anthropic()
    assert "".join(block.text for block in message.content if block.type == "text") == response.content
    assert [block.id for block in message.content if block.type == "tool_use"] == [c.id for c in response.tool_calls]
    assert Message.model_validate(message.model_dump(mode="json")) == message


STREAMS = sorted(path.name.removesuffix(".sse") for path in GOLDEN.glob("*.sse"))
BOTH = [name for name in STREAMS if name in ANSWERS]


@pytest.mark.parametrize("name", BOTH)
def test_a_stream_gives_the_blocks_of_the_whole_answer(name: str) -> None:
    whole = anthropic_messages.decode(messages_body(name), messages_request(name), DIALECT)
    fold = anthropic_messages.Fold(messages_request(name), DIALECT)
    fold.feed((GOLDEN / f"{name}.sse").read_bytes())
    fold.end()
    streamed = fold.response()
    one, two = whole.to_anthropic(), streamed.to_anthropic()
    if (streamed.content, streamed.usage) != (whole.content, whole.usage):
        pytest.fail(f"{name}: the two files tell different answers")

    def told(message: Message) -> list[tuple[Any, ...]]:
        return [
            (b.type, *(getattr(b, field, None) for field in ("text", "thinking", "signature", "data", "id", "input")))
            for b in message.content
        ]

    joined = {"".join(b.text for b in m.content if b.type == "text") for m in (one, two)}
    assert len(joined) == 1
    assert [each for each in told(one) if each[0] != "text"] == [each for each in told(two) if each[0] != "text"]
    assert two.stop_reason == ("end_turn" if one.stop_reason == "stop_sequence" else one.stop_reason)
    assert (two.usage.input_tokens, two.usage.output_tokens) == (one.usage.input_tokens, one.usage.output_tokens)
    assert (two.usage.cache_read_input_tokens or 0) == (one.usage.cache_read_input_tokens or 0)
    assert (two.usage.cache_creation_input_tokens or 0) == (one.usage.cache_creation_input_tokens or 0)


FOREIGN = LLMResponse(
    content="It rains.",
    model_name="gpt-x",
    model="gpt-x-1",
    usage=Usage(100, 40, cached_tokens=30, cache_write_tokens=20, cache_write_1h_tokens=5, reasoning_tokens=15),
    finish_reason="tool_calls",
    reasoning="Let me look.",
    tool_calls=[ToolCall("call_1", "weather", {"city": "Oslo"})],
    request_id="req_1",
)


def test_an_answer_of_another_family_as_a_message() -> None:
    message = FOREIGN.to_anthropic()
    assert Message.model_validate(message.model_dump(mode="json")) == message
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    thinking, text, call = message.content
    assert (thinking.thinking, thinking.signature) == ("Let me look.", "")
    assert (text.text, call.id, call.name, call.input) == ("It rains.", "call_1", "weather", {"city": "Oslo"})
    assert (message.id, message.model, message.role, message.stop_reason) == (
        "req_1",
        "gpt-x-1",
        "assistant",
        "tool_use",
    )
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (50, 30, 20)
    assert (usage.cache_creation.ephemeral_1h_input_tokens, usage.cache_creation.ephemeral_5m_input_tokens) == (5, 15)
    assert (usage.output_tokens, usage.output_tokens_details.thinking_tokens) == (40, 15)


@pytest.mark.parametrize(
    ("ours", "chats", "messages"),
    [
        ("stop", "stop", "end_turn"),
        ("length", "length", "max_tokens"),
        ("tool_calls", "tool_calls", "tool_use"),
        ("content_filter", "content_filter", "refusal"),
        ("refusal", "stop", "refusal"),
        ("pause", "stop", "pause_turn"),
        ("context_window", "length", "model_context_window_exceeded"),
        ("error", "stop", None),
        (None, "stop", None),
    ],
)
def test_every_finish_reason_has_a_word_in_both(ours: str | None, chats: str, messages: str | None) -> None:
    response = LLMResponse("x", "m", finish_reason=ours)
    completion, message = response.to_openai(), response.to_anthropic()
    assert completion.choices[0].finish_reason == chats
    assert message.stop_reason == messages
    ChatCompletion.model_validate(completion.model_dump(mode="json"))
    Message.model_validate(message.model_dump(mode="json"))


def test_a_refusal_is_said_in_both() -> None:
    response = LLMResponse("", "m", finish_reason="refusal", refusal="I would rather not.")
    assert response.to_openai().choices[0].message.refusal == "I would rather not."
    assert response.to_openai().choices[0].message.content is None
    assert response.to_anthropic().content[0].text == "I would rather not."


def test_a_call_whose_arguments_are_no_object_has_no_block() -> None:
    response = LLMResponse("", "m", tool_calls=[ToolCall("c", "f", raw_arguments="[1")])
    with pytest.raises(ToolArgumentsError) as caught:
        response.to_anthropic()
    assert caught.value.raw_arguments == "[1"
    assert response.to_openai().choices[0].message.tool_calls[0].function.arguments == "[1"


def test_an_edited_answer_is_what_it_says_now() -> None:
    name = next(name for name in ANSWERS if "thinking" in name)
    response = anthropic_messages.decode(messages_body(name), messages_request(name), DIALECT)
    response.content = "Something else."
    texts = [block.text for block in response.to_anthropic().content if block.type == "text"]
    assert texts == ["Something else."]
    assert any(block.type == "thinking" and block.signature for block in response.to_anthropic().content)


# The chat format ------------------------------------------------------------------------------------------------------


def usual(name: str) -> bool:
    dialect = chat.dialect_of(name)
    return (
        chat.setting(name).get("sdk", True)
        and not dialect.think_tags
        and dialect.tools_via == "native"
        and not chat.request_of(name).stream
        and "response" in chat.expected(name)
        and "error" not in chat.expected(name)
    )


CHATS = [name for name in chat.NAMES if usual(name)]


@pytest.mark.parametrize("name", CHATS)
def test_a_completion_is_what_the_openai_package_makes_of_the_same_bytes(name: str, fault_server: FaultServer) -> None:
    body = chat.sent(name)
    assert body is not None
    response = openai_chat.decode(body, chat.request_of(name), chat.dialect_of(name))
    ours = response.to_openai()
    fault_server.default = status(200, json.loads(body))
    with openai.OpenAI(api_key="k", base_url=fault_server.url, max_retries=0) as client:
        theirs = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    assert isinstance(ours, ChatCompletion)
    assert (ours.id or None, ours.model) == (theirs.id or None, theirs.model or response.model_name)
    assert ours.system_fingerprint == theirs.system_fingerprint
    assert len(ours.choices) == len(theirs.choices)
    one, two = ours.choices[0].message, theirs.choices[0].message
    assert ((one.content or ""), one.refusal) == (response.content, two.refusal)
    assert [(c.id, c.function.name, c.function.arguments) for c in one.tool_calls or ()] == [
        (c.id, c.function.name, c.function.arguments) for c in two.tool_calls or ()
    ]
    assert ours.choices[0].logprobs == theirs.choices[0].logprobs
    if two.audio is not None:
        assert (one.audio.id, one.audio.data, one.audio.transcript) == (
            two.audio.id,
            two.audio.data,
            two.audio.transcript,
        )
    ChatCompletion.model_validate(ours.model_dump(mode="json"))


def test_there_were_completions_to_compare() -> None:
    assert len(CHATS) > 40


def test_all_that_the_chat_format_has_a_place_for() -> None:
    response = LLMResponse(
        content="See here.",
        model_name="m",
        usage=Usage(20, 10, 5, 3, 0, 4, 2, 1, 6, 0),
        reasoning="Hm.",
        citations=[
            {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 3}
        ],
        images=[Image(url="https://a.example/x.png"), Image(data=b"png", mime_type="image/png")],
        audio_data=b"sound",
        service_tier="priority",
    )
    completion = response.to_openai()
    message = completion.choices[0].message
    assert message.reasoning_content == "Hm."
    assert message.annotations[0].url_citation.url == "https://a.example"
    assert base64.b64decode(message.audio.data) == b"sound"
    assert message.audio.transcript == "See here."
    urls = [image["image_url"]["url"] for image in message.images]
    assert urls == ["https://a.example/x.png", "data:image/png;base64," + base64.b64encode(b"png").decode()]
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (20, 10, 30)
    given, written = usage.prompt_tokens_details, usage.completion_tokens_details
    assert (given.cached_tokens, given.cache_write_tokens, given.audio_tokens, given.image_tokens) == (5, 3, 2, 6)
    assert (written.reasoning_tokens, written.audio_tokens) == (4, 1)
    assert completion.service_tier == "priority"
    assert FOREIGN.to_openai().choices[0].message.tool_calls[0].function.name == "weather"


def test_further_answers_stay_as_they_came() -> None:
    choice = {"message": {"role": "assistant", "content": "one"}, "finish_reason": "stop", "index": 0}
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "choices": [choice, {**choice, "index": 1}],
    }
    body["choices"][1]["message"] = {"role": "assistant", "content": "two"}
    request = Request("openai", "m", [], {})
    completion = openai_chat.decode(json.dumps(body).encode(), request, chat.dialect_of(CHATS[0])).to_openai()
    assert [each.message.content for each in completion.choices] == ["one", "two"]
    assert completion.created == 5
