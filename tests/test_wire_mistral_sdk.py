"""
Mistral's package as a second opinion: the same bytes mean the same to it, and it sends the bodies that we send.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest
from mistralai.client import Mistral
from mistralai.client.errors import MistralError
from mistralai.client.models import ChatCompletionRequest, ChatCompletionStreamRequest
from support.behaviours import status
from support.chat_scenarios import NAMES, dialect_of, expected, request_of, sent, setting
from support.fault_server import FaultServer

from llm_master import (
    AuthenticationError,
    BadRequestError,
    InvalidRequestError,
    LLMConfig,
    NotFoundError,
    ProviderError,
    QueryLLM,
    RateLimitError,
    ServerError,
    UnsupportedParameterError,
)
from llm_master.base_provider import row_of
from llm_master.classes import LLMResponse, Request
from llm_master.policy.limits import MemoryLimiter
from llm_master.wire import openai_chat

ROW = row_of("mistral")
OURS = [name for name in NAMES if setting(name)["request"]["provider"] == "mistral" and dialect_of(name) == ROW.chat]
ANSWERED = [name for name in OURS if sent(name) is not None and "error" not in expected(name)]
PLAIN = [name for name in ANSWERED if not request_of(name).stream]
STREAMED = [name for name in ANSWERED if request_of(name).stream]
BY_SDK: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def sdk(fault_server: FaultServer) -> Iterator[Mistral]:
    # Its own client, so that its sockets are closed before the test ends.
    # The other one is given, too: the package would close its own when it is collected, in a loop of its own, in the
    # middle of any other test.
    with httpx2.Client() as http:
        yield Mistral(api_key="k", server_url=fault_server.url, client=http, async_client=httpx2.AsyncClient())


def client(server: FaultServer) -> QueryLLM:
    config = LLMConfig(mistral_api_key="k", base_urls={"mistral": f"{server.url}/v1"})
    return QueryLLM(config, limiter=MemoryLimiter())


def ask(server: FaultServer, method: str, *args: Any, **kwargs: Any) -> Any:
    async def main() -> Any:
        async with client(server) as llm:
            return await getattr(llm, method)(*args, **kwargs)

    return asyncio.run(main())


# Answers --------------------------------------------------------------------------------------------------------------


def text_of(content: Any) -> str:
    """The text of the SDK's content: a text, or its parts of text."""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content or () if part.type == "text")


def thoughts_of(content: Any) -> str:
    blocks = [] if isinstance(content, str) else [part for part in content or () if part.type == "thinking"]
    return "".join(piece.text for block in blocks for piece in block.thinking if piece.type == "text")


def arguments_of(call: Any) -> Any:
    given = call.function.arguments
    return json.loads(given) if isinstance(given, str) else given


def calls_of(calls: Any) -> list[tuple[str, Any]]:
    return [(call.function.name, arguments_of(call)) for call in calls or ()]


def ids_of(calls: Any) -> list[str]:
    """The ids that the server gave; the SDK's word for none is a text."""
    return [call.id for call in calls or () if call.id != "null"]


def tokens_of(usage: Any) -> tuple[int, int, int, str | None]:
    details = usage.additional_properties.get("prompt_tokens_details") or {}
    tier = usage.service_tier
    return usage.prompt_tokens, usage.completion_tokens, details.get("cached_tokens", 0), tier or None


def tokens_by_us(ours: LLMResponse) -> tuple[int, int, int, str | None]:
    usage = ours.usage
    return usage.input_tokens, usage.output_tokens, usage.cached_tokens, ours.service_tier


def finished(word: str, ours: LLMResponse) -> str:
    """Our word for the SDK's finish reason."""
    return {"model_length": "length", "stop": "tool_calls" if ours.tool_calls else "stop"}.get(word, word)


@pytest.mark.parametrize("name", PLAIN)
def test_a_whole_answer_means_the_same_to_the_sdk(name: str, fault_server: FaultServer, sdk: Mistral) -> None:
    body = sent(name)
    fault_server.default = status(200, body, content_type="application/json")
    theirs = sdk.chat.complete(**BY_SDK)
    ours = openai_chat.decode(body or b"", request_of(name), ROW.chat)
    choice = theirs.choices[0]
    message = choice.message
    assert message is not None
    assert ours.content == text_of(message.content)
    assert (ours.reasoning or "") == thoughts_of(message.content)
    assert [(call.name, call.arguments) for call in ours.tool_calls] == calls_of(message.tool_calls)
    assert [call.id for call in ours.tool_calls][: len(ids_of(message.tool_calls))] == ids_of(message.tool_calls)
    assert ours.finish_reason == finished(choice.finish_reason, ours)
    assert (ours.request_id, ours.model) == (theirs.id, theirs.model)
    assert tokens_by_us(ours) == tokens_of(theirs.usage)


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_means_the_same_to_the_sdk(name: str, fault_server: FaultServer, sdk: Mistral) -> None:
    body = sent(name) or b""
    fault_server.default = status(200, body, content_type="text/event-stream")
    text, thoughts, finish, usage = "", "", None, None
    calls: list[Any] = []
    with sdk.chat.stream(**BY_SDK) as events:
        for event in events:
            usage = event.data.usage or usage
            for choice in event.data.choices:
                text += text_of(choice.delta.content)
                thoughts += thoughts_of(choice.delta.content)
                calls += choice.delta.tool_calls or []
                finish = choice.finish_reason or finish
    fold = openai_chat.Fold(request_of(name), ROW.chat)
    fold.feed(body)
    fold.end()
    ours = fold.response()
    assert (ours.content, ours.reasoning or "") == (text, thoughts)
    assert [(call.name, call.arguments) for call in ours.tool_calls] == calls_of(calls)
    assert [call.id for call in ours.tool_calls] == ids_of(calls)
    assert ours.finish_reason == finished(str(finish), ours)
    assert tokens_by_us(ours) == tokens_of(usage)


def test_an_error_in_place_of_the_end_is_one_to_us(fault_server: FaultServer, sdk: Mistral) -> None:
    """The SDK hands its reader ``finish_reason: error``; a stream of ours never looks complete."""
    name = "stream_mistral_error_finish"
    body = sent(name) or b""
    fault_server.default = status(200, body, content_type="text/event-stream")
    with sdk.chat.stream(**BY_SDK) as events:
        reasons = [choice.finish_reason for event in events for choice in event.data.choices]
    assert reasons[-1] == "error"
    fold = openai_chat.Fold(request_of(name), ROW.chat)
    with pytest.raises(ProviderError, match="mistral"):
        fold.feed(body)


# Requests -------------------------------------------------------------------------------------------------------------

# What a caller gives that Mistral's API has no word for: what stands in the body although the SDK knows it not.
NOT_THEIRS = {
    "custom_tool": "custom tools",
    "extra_body": "extra_body is sent as given",
    "images": "a video",
    "json_schema_strict_only": "tools of another provider",
    "names_in_text": "role function",
    "schema_tools_builtin": "tools of another provider",
    "tools_empty": "an unknown parameter",
}


def lost(ours: Any, theirs: Any, where: str = "") -> Iterator[str]:
    """What a body holds that the SDK's own model of it does not."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            yield from lost(value, theirs[name], f"{where}.{name}") if name in theirs else (f"{where}.{name}",)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(mine, other, f"{where}[{index}]")
    elif ours != theirs:
        yield where


def body_for_mistral(name: str) -> dict[str, Any] | None:
    """Any scenario's request, as it would go to Mistral; None where it is refused."""
    request: Request = msgspec.structs.replace(request_of(name), provider="mistral", drop_params=True)
    try:
        found: dict[str, Any] = json.loads(openai_chat.encode(request, ROW.chat))
    except InvalidRequestError:
        return None
    return found


SENT = [name for name in NAMES if name not in NOT_THEIRS and body_for_mistral(name) is not None]


@pytest.mark.parametrize("name", SENT)
def test_the_sdk_s_own_model_of_a_request_takes_ours(name: str) -> None:
    body = body_for_mistral(name) or {}
    model = ChatCompletionStreamRequest if body.get("stream") else ChatCompletionRequest
    assert list(lost(body, model.model_validate(body).model_dump(by_alias=True, mode="json"))) == []


@pytest.mark.parametrize("name", OURS)
def test_the_sdk_sends_the_same_body(name: str, fault_server: FaultServer, sdk: Mistral) -> None:
    if "refused" in expected(name):
        return
    body = expected(name)["body"]
    fault_server.default = status(200, sent("mistral_plain"), content_type="application/json")
    given = {field: value for field, value in body.items() if field != "stream"}
    if body.get("stream"):
        fault_server.default = status(200, sent("stream_mistral_plain"), content_type="text/event-stream")
        with sdk.chat.stream(**given) as events:
            assert list(events)
    else:
        assert sdk.chat.complete(**given).choices
    (seen,) = fault_server.requests
    assert seen.path.partition("#")[0] == "/v1/chat/completions"
    # Its defaults: it says that it does not stream, and that a turn is no prefix.
    theirs = without_defaults(seen.json)
    assert theirs == without_defaults({"stream": False, **body})


def without_defaults(body: dict[str, Any]) -> dict[str, Any]:
    if not body.get("stream"):
        body = {name: value for name, value in body.items() if name != "stream"}
    turns = []
    for given in body["messages"]:
        turn = {name: value for name, value in given.items() if (name, value) != ("prefix", False)}
        if turn.get("tool_calls"):
            turn["tool_calls"] = [
                {name: value for name, value in call.items() if (name, value) != ("index", 0)}
                for call in turn["tool_calls"]
            ]
        turns.append(turn)
    tools = {}
    if body.get("tools"):
        tools["tools"] = [
            {**tool, "function": {k: v for k, v in tool["function"].items() if (k, v) != ("strict", False)}}
            for tool in body["tools"]
        ]
    return {**body, "messages": turns, **tools}


@pytest.mark.parametrize("name", ["mistral_signed_thinking", "mistral_tool_calls", "mistral_plain"])
def test_a_turn_goes_back_as_the_sdk_would_give_it_back(name: str, fault_server: FaultServer, sdk: Mistral) -> None:
    """The message of an answer, appended to the conversation by a user of the SDK and by one of ours."""
    fault_server.default = status(200, sent(name), content_type="application/json")
    answered = [{"role": "tool", "tool_call_id": each, "content": "18 C"} for each in ("D681PevKs", "aB3dE6gH9")]
    results = answered if name == "mistral_tool_calls" else [{"role": "user", "content": "Go on"}]

    theirs = sdk.chat.complete(**BY_SDK).choices[0].message
    assert theirs is not None
    sdk.chat.complete(model="m", messages=[*BY_SDK["messages"], theirs, *results])

    ours = ask(fault_server, "query", "mistral/m", BY_SDK["messages"])
    ask(fault_server, "query", "mistral/m", [*BY_SDK["messages"], ours.message, *results])
    _, second, _, fourth = fault_server.requests
    assert told(fourth.json["messages"]) == told(second.json["messages"])


def told(turns: Any) -> list[dict[str, Any]]:
    """What turns say, whether a text stands alone or in parts, and arguments as text or as an object."""
    found = []
    for turn in turns:
        content = turn.get("content")
        parts: Any = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        texts = "".join(part["text"] for part in parts if part["type"] == "text")
        thoughts = [
            ("".join(piece["text"] for piece in part["thinking"]), part.get("signature"))
            for part in parts
            if part["type"] == "thinking"
        ]
        calls = [
            (call["id"], call["function"]["name"], _object(call["function"]["arguments"]))
            for call in turn.get("tool_calls") or ()
        ]
        found.append({"role": turn["role"], "text": texts, "thoughts": thoughts, "calls": calls})
    return found


def _object(arguments: Any) -> Any:
    return json.loads(arguments) if isinstance(arguments, str) else arguments


def test_what_only_others_know_is_refused_or_listed(fault_server: FaultServer) -> None:
    with pytest.raises(UnsupportedParameterError, match=r"mistral/mistral-large-latest does not take verbosity"):
        ask(fault_server, "query", "mistral-large-latest", "Hi", verbosity="low")
    assert fault_server.requests == []
    fault_server.default = status(200, sent("mistral_plain"), content_type="application/json")
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": None, "refusal": "I cannot."},
        {"role": "user", "content": "Why?"},
    ]
    found = ask(fault_server, "query", "mistral-large-latest", messages)
    assert found.dropped == ("messages[0].content[0].cache_control",)
    (seen,) = fault_server.requests
    assert seen.json["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "I cannot."},
        {"role": "user", "content": "Why?"},
    ]


# Errors ---------------------------------------------------------------------------------------------------------------

EXTRA: dict[str, Any] = {"type": "extra_forbidden", "loc": ["body", "user"], "msg": "Extra inputs are not permitted"}
HOT: dict[str, Any] = {
    "type": "less_than_equal",
    "loc": ["body", "temperature"],
    "msg": "Input should be less than or equal to 1.5",
}
UNKNOWN = {"object": "error", "message": "Invalid model: m", "type": "invalid_model", "param": None, "code": "1500"}
REFUSED: dict[str, tuple[int, Any, type[ProviderError], str]] = {
    "key": (401, {"message": "Unauthorized", "request_id": "r-1"}, AuthenticationError, "Unauthorized"),
    "field": (422, {"detail": [EXTRA]}, BadRequestError, EXTRA["msg"]),
    "value": (422, {"object": "error", "message": {"detail": [HOT]}}, BadRequestError, HOT["msg"]),
    "rate": (429, {"message": "Requests rate limit exceeded"}, RateLimitError, "Requests rate limit exceeded"),
    "model": (400, UNKNOWN, NotFoundError, "Invalid model: m"),
    "server": (500, {"object": "error", "message": "Internal error", "code": "3000"}, ServerError, "Internal error"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_error_is_one_to_both(what: str, fault_server: FaultServer, sdk: Mistral) -> None:
    code, body, kind, words = REFUSED[what]
    fault_server.default = status(code, body)
    with pytest.raises(MistralError) as theirs:
        sdk.chat.complete(**BY_SDK)
    with pytest.raises(kind) as ours:
        ask(fault_server, "query", "mistral/m", "Hi", max_attempts=1)
    assert ours.value.status_code == theirs.value.status_code == code
    assert words in theirs.value.body
    assert words in str(ours.value)
    assert "\n" not in str(ours.value)


# Beside chat ----------------------------------------------------------------------------------------------------------


def test_embeddings(fault_server: FaultServer, sdk: Mistral) -> None:
    data = [{"object": "embedding", "index": at, "embedding": [0.5, -2.0, at]} for at in (1, 0)]
    usage = {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4}
    answer = {"id": "e-1", "object": "list", "data": data, "model": "codestral-embed", "usage": usage}
    fault_server.default = status(200, answer)
    found = ask(fault_server, "embed", "mistral/codestral-embed", ["a", "b"], dimensions=3, encoding_format="float")
    judge = sdk.embeddings.create(
        model="codestral-embed", inputs=["a", "b"], output_dimension=3, encoding_format="float"
    )
    assert found.embeddings == [each.embedding for each in sorted(judge.data, key=lambda each: each.index or 0)]
    assert found.usage.input_tokens == judge.usage.prompt_tokens
    first, second = fault_server.requests
    assert (first.path, first.json) == (second.path, second.json)


def test_moderations(fault_server: FaultServer, sdk: Mistral) -> None:
    scores = {"sexual": 0.9, "pii": 0.1}
    verdicts = [{"categories": {"sexual": flagged}, "category_scores": scores} for flagged in (True, False)]
    fault_server.default = status(200, {"id": "m-1", "model": "mistral-moderation-latest", "results": verdicts})
    found = ask(fault_server, "moderate", ["a", "b"], model_name="mistral/mistral-moderation-latest")
    judge = sdk.classifiers.moderate(model="mistral-moderation-latest", inputs=["a", "b"])
    for ours, theirs in zip(found.results, judge.results, strict=True):
        assert (ours.categories, ours.scores) == (theirs.categories, theirs.category_scores)
        assert ours.flagged is any((theirs.categories or {}).values())
    first, second = fault_server.requests
    assert (first.path, first.json) == (second.path, second.json)


@pytest.mark.parametrize(
    "part", [{"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}, {"type": "unheard_of", "x": 1}]
)
@pytest.mark.parametrize("drop", [False, True])
def test_a_part_that_nothing_would_be_left_of_is_refused(part: Any, drop: bool, fault_server: FaultServer) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]
    with pytest.raises(UnsupportedParameterError, match=f"mistral/mistral-large-latest takes no '{part['type']}' part"):
        ask(fault_server, "query", "mistral-large-latest", messages, drop_params=drop)
    assert not fault_server.requests


def test_the_sdk_had_something_to_say() -> None:
    assert (len(PLAIN) >= 6, len(STREAMED) >= 3, len(SENT) > 150) == (True, True, True)
    assert NOT_THEIRS.keys() <= set(NAMES)
    assert row_of("mistral").checked
