"""
The answers of the four further families are well-formed: the vendors' own packages read from them what was put in.
"""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import cohere
import httpx
import openai
import pytest
from botocore.exceptions import ClientError, EventStreamError
from google import genai
from google.genai import errors, types
from support import faults
from support.behaviours import ok, status
from support.bodies import (
    ALL_FAMILIES,
    BEDROCK,
    COHERE,
    GEMINI,
    RESPONSES,
    Answer,
    Family,
    after_content,
    answer_events,
    render,
)
from support.bodies_families import FORMS
from support.fault_server import FaultServer

from llm_master.classes import ToolCall, Usage

CALLS = (ToolCall("call_1", "weather", {"city": "Zürich", "days": 3}), ToolCall("call_2", "clock", {}))
USAGE = Usage(100, 40, cached_tokens=30, reasoning_tokens=8)
TEXT = "Grüezi 😀"
HI = [{"role": "user", "content": "hi"}]

streamed_or_not = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
every_family = pytest.mark.parametrize("family", list(FORMS))


def read(calls: list[tuple[str, str, Any]], **fields: Any) -> dict[str, Any]:
    return {
        "calls": [(ref, name, json.loads(args) if isinstance(args, str) else args) for ref, name, args in calls]
    } | (fields)


def ask_openai(server: FaultServer, *, stream: bool) -> dict[str, Any]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0) as client:
        if stream:
            with client.responses.stream(model="m-1", input="hi") as events:
                answer = events.get_final_response()
        else:
            answer = client.responses.create(model="m-1", input="hi")
    items: dict[str, list[Any]] = {"reasoning": [], "message": [], "function_call": []}
    for item in answer.output:
        items[item.type].append(item)
    usage: Any = answer.usage
    return read(
        [(call.call_id, call.name, call.arguments) for call in items["function_call"]],
        model=answer.model,
        finish=answer.status,
        text=answer.output_text,
        reasoning="".join(part.text for item in items["reasoning"] for part in item.summary),
        tokens=(usage.input_tokens, usage.output_tokens, usage.input_tokens_details.cached_tokens),
    )


def ask_google(server: FaultServer, *, stream: bool) -> dict[str, Any]:
    options = types.HttpOptions(base_url=server.url, api_version="v1beta")
    with closing(genai.Client(api_key="k", http_options=options)) as client:
        if stream:
            chunks = list(client.models.generate_content_stream(model="m-1", contents="hi"))
        else:
            chunks = [client.models.generate_content(model="m-1", contents="hi")]
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]  # type: ignore[index,union-attr]
    usage: Any = chunks[-1].usage_metadata
    calls = [part.function_call for part in parts if part.function_call]
    finish: Any = chunks[-1].candidates[0].finish_reason  # type: ignore[index]
    return read(
        [(call.id, call.name, call.args or {}) for call in calls],
        model=chunks[-1].model_version,
        finish=finish.value,
        text="".join(part.text for part in parts if part.text and not part.thought),
        reasoning="".join(part.text for part in parts if part.thought),
        tokens=(
            usage.prompt_token_count,
            usage.candidates_token_count + usage.thoughts_token_count,
            usage.cached_content_token_count,
        ),
    )


def ask_cohere(server: FaultServer, *, stream: bool) -> dict[str, Any]:
    with httpx.Client() as http:
        client = cohere.ClientV2(api_key="k", base_url=server.url, httpx_client=http)
        if not stream:
            answer: Any = client.chat(model="m-1", messages=HI)
            content = answer.message.content or []
            return read(
                [(call.id, call.function.name, call.function.arguments) for call in answer.message.tool_calls or ()],
                finish=answer.finish_reason,
                text="".join(item.text for item in content if item.type == "text"),
                reasoning="".join(item.thinking for item in content if item.type == "thinking"),
                tokens=(int(answer.usage.tokens.input_tokens), int(answer.usage.tokens.output_tokens)),
            )
        found: dict[str, Any] = {"text": "", "reasoning": ""}
        calls: list[list[str]] = []
        for event in client.chat_stream(model="m-1", messages=HI):
            delta: Any = getattr(event, "delta", None)
            if event.type == "content-delta":
                found["text"] += delta.message.content.text or ""
                found["reasoning"] += delta.message.content.thinking or ""
            elif event.type == "tool-call-start":
                call = delta.message.tool_calls
                calls.append([call.id, call.function.name, call.function.arguments])
            elif event.type == "tool-call-delta":
                calls[-1][2] += delta.message.tool_calls.function.arguments
            elif event.type == "message-end":
                found["finish"] = delta.finish_reason
                found["tokens"] = (int(delta.usage.tokens.input_tokens), int(delta.usage.tokens.output_tokens))
        return read([(ref, name, args) for ref, name, args in calls], **found)


def ask_amazon(client: Any, *, stream: bool) -> dict[str, Any]:
    ask = {"modelId": "m-1", "messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    if not stream:
        answer = client.converse(**ask)
        blocks = answer["output"]["message"]["content"]
        finish, usage = answer["stopReason"], answer["usage"]
        thoughts = [b["reasoningContent"]["reasoningText"]["text"] for b in blocks if "reasoningContent" in b]
        calls = [(c["toolUseId"], c["name"], c["input"]) for c in (b["toolUse"] for b in blocks if "toolUse" in b)]
        text = "".join(b.get("text", "") for b in blocks)
    else:
        open_: dict[int, list[str]] = {}
        text, thoughts, finish, usage = "", [], None, {}
        with closing(client.converse_stream(**ask)["stream"]) as opened:
            events = list(opened)
        for event in events:
            ((kind, said),) = event.items()
            if kind == "contentBlockStart":
                tool = said["start"]["toolUse"]
                open_[said["contentBlockIndex"]] = [tool["toolUseId"], tool["name"], ""]
            elif kind == "contentBlockDelta":
                delta = said["delta"]
                text += delta.get("text", "")
                thoughts.append(delta.get("reasoningContent", {}).get("text", ""))
                if "toolUse" in delta:
                    open_[said["contentBlockIndex"]][2] += delta["toolUse"]["input"]
            elif kind == "messageStop":
                finish = said["stopReason"]
            elif kind == "metadata":
                usage = said["usage"]
        calls = [(ref, name, args) for ref, name, args in open_.values()]
    cached = usage["cacheReadInputTokens"]
    return read(
        calls,
        finish=finish,
        text=text,
        reasoning="".join(thoughts),
        tokens=(usage["inputTokens"] + cached, usage["outputTokens"], cached),
    )


def ask(family: Family, server: FaultServer, amazon: Any, *, stream: bool) -> dict[str, Any]:
    """What the vendor's package makes of the answer."""
    if family == RESPONSES:
        return ask_openai(server, stream=stream)
    if family == GEMINI:
        return ask_google(server, stream=stream)
    return ask_cohere(server, stream=stream) if family == COHERE else ask_amazon(amazon, stream=stream)


FINISHED: dict[Family, tuple[str, str]] = {
    RESPONSES: ("completed", "incomplete"),
    GEMINI: ("STOP", "MAX_TOKENS"),
    COHERE: ("TOOL_CALL", "MAX_TOKENS"),
    BEDROCK: ("tool_use", "max_tokens"),
}


@every_family
@streamed_or_not
def test_the_vendors_package_reads_all_of_an_answer(
    family: Family, stream: bool, fault_server: FaultServer, amazon: Any
) -> None:
    fault_server.script([ok(("Grüezi", " 😀"), reasoning="hm", tool_calls=CALLS, usage=USAGE)])
    found = ask(family, fault_server, amazon, stream=stream)
    assert (found["text"], found["reasoning"]) == (TEXT, "hm")
    assert found["calls"] == [(call.id, call.name, call.arguments) for call in CALLS]
    assert found["finish"] == FINISHED[family][0]
    assert found["tokens"] == (100, 40, 30)[: len(found["tokens"])]
    assert found.get("model", "m-1") == "m-1", "the model is the one that the request asks for"


@every_family
@streamed_or_not
def test_a_long_answer_says_so(family: Family, stream: bool, fault_server: FaultServer, amazon: Any) -> None:
    fault_server.script([ok("Well", finish="length")])
    if family == RESPONSES and stream:
        # The package's helper waits for a response that has completed.
        with openai.OpenAI(base_url=fault_server.url + "/v1", api_key="k", max_retries=0) as client:
            *_, last = client.responses.create(model="m-1", input="hi", stream=True)
        assert last.type == "response.incomplete"
        return
    found = ask(family, fault_server, amazon, stream=stream)
    assert (found["text"], found["finish"]) == ("Well", FINISHED[family][1])


@pytest.mark.parametrize("family", [RESPONSES, COHERE, BEDROCK])
def test_noise_in_a_stream_is_harmless(family: Family, fault_server: FaultServer, amazon: Any) -> None:
    """Not asked of Google's package: its reader expects candidates in every piece."""
    fault_server.script([faults.keep_alive_noise()])
    found = ask(family, fault_server, amazon, stream=True)
    assert (found["text"], found["calls"]) == ("Hello from the other side.", [])


def test_errors_are_the_vendors_own(fault_server: FaultServer, amazon: Any) -> None:
    fault_server.script([status(429)])
    with pytest.raises(openai.RateLimitError) as of_openai:
        ask_openai(fault_server, stream=False)
    assert of_openai.value.code == "rate_limit_exceeded"
    with pytest.raises(errors.ClientError) as of_google:
        ask_google(fault_server, stream=False)
    assert (of_google.value.code, of_google.value.status) == (429, "RESOURCE_EXHAUSTED")
    with pytest.raises(cohere.TooManyRequestsError):
        ask_cohere(fault_server, stream=False)
    with pytest.raises(ClientError) as of_amazon:
        ask_amazon(amazon, stream=False)
    assert of_amazon.value.response["Error"]["Code"] == "ThrottlingException"


def test_an_error_in_the_stream_is_the_vendors_own(fault_server: FaultServer, amazon: Any) -> None:
    fault_server.script([faults.error_in_stream(after=1)])
    with openai.OpenAI(base_url=fault_server.url, api_key="k", max_retries=0) as client:
        *_, last = client.responses.create(model="m-1", input="hi", stream=True)
    assert (last.type, last.message) == ("error", "The server had an error.")
    with pytest.raises(errors.ServerError):
        ask_google(fault_server, stream=True)
    with pytest.raises(EventStreamError, match="internalServerException"):
        ask_amazon(amazon, stream=True)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_places_in_a_stream(family: Family) -> None:
    events = answer_events(family, Answer.of(("a", "b")))
    first = [event.kind for event in events].index("delta")
    assert [after_content(events, count) for count in range(4)] == [first, first + 1, first + 2, first + 2]
    assert all(render(event) for event in events)
