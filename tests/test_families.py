"""
The further API families through ``QueryLLM``: which calls go there, at which address, streamed and not.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from support.behaviours import ok, status
from support.fault_server import FaultServer

from llm_master import ConfigurationError, LLMConfig, QueryLLM, RateLimitError, RetryPolicy, ServerError

HI = "Say hello."
TOOL = {
    "type": "function",
    "function": {"name": "clock", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}},
}


def client(server: FaultServer) -> QueryLLM:
    names = ("openai", "gemini", "cohere", "bedrock")
    keys = {f"{name}_api_key": f"sk-family-{name}-01" for name in names}
    config = LLMConfig(**keys, base_urls={name: f"{server.url}/{name}" for name in names})  # type: ignore[arg-type]
    return QueryLLM(config, retry=RetryPolicy(max_attempts=1))


def ask(server: FaultServer, model: str, **kwargs: Any) -> Any:
    async def main() -> Any:
        async with client(server) as llm:
            found = await llm.query(model, HI, **kwargs)
            if kwargs.get("stream"):
                return [text async for text in found], found.response
            return found

    return asyncio.run(main())


def sse(*events: dict[str, Any], named: bool = False) -> Any:
    lines = [(f"event: {each['type']}\n" if named else "") + f"data: {json.dumps(each)}\n\n" for each in events]
    return status(200, "".join(lines), content_type="text/event-stream")


def response_of(output: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
    return {
        "id": "r1",
        "object": "response",
        "status": "completed",
        "model": "m",
        "output": output,
        "usage": usage,
    } | fields


CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "clock", "arguments": '{"zone": "CET"}'}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hello.", "annotations": []}],
}


def test_reasoning_with_tools_goes_to_responses_by_itself(fault_server: FaultServer) -> None:
    fault_server.script([status(200, response_of([CALL])), status(200, response_of([MESSAGE]))])

    async def main() -> Any:
        async with client(fault_server) as llm:
            first = await llm.query("gpt-6-sol", HI, tools=[TOOL], reasoning_effort="high")
            turns = [{"role": "user", "content": HI}, first.message]
            turns.append({"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "noon"})
            return first, await llm.query("gpt-6-sol", turns, tools=[TOOL], reasoning_effort="high")

    first, second = asyncio.run(main())
    assert [(call.name, call.arguments) for call in first.tool_calls] == [("clock", {"zone": "CET"})]
    assert (second.content, second.usage.input_tokens) == ("Hello.", 9)
    assert [seen.path for seen in fault_server.requests] == ["/openai/responses"] * 2
    sent = fault_server.requests[1].json
    assert sent["reasoning"]["effort"] == "high"
    assert [item.get("type") for item in sent["input"]][-2:] == ["function_call", "function_call_output"]


def test_other_calls_of_the_same_row_stay_in_chat(fault_server: FaultServer) -> None:
    ask(fault_server, "gpt-4o-mini", tools=[TOOL])
    ask(fault_server, "gpt-6-sol")
    assert [seen.path for seen in fault_server.requests] == ["/openai/chat/completions"] * 2


@pytest.mark.parametrize("how", [{"api": "responses"}, {"prefix": "responses-"}], ids=["api", "prefix"])
@pytest.mark.parametrize("stream", [False, True])
def test_responses_can_be_forced(how: dict[str, str], stream: bool, fault_server: FaultServer) -> None:
    whole = response_of([MESSAGE])
    fault_server.default = (
        sse(
            {"type": "response.created", "response": response_of([], status="in_progress", usage=None)},
            {"type": "response.output_item.added", "output_index": 0, "item": MESSAGE | {"content": []}},
            {
                "type": "response.output_text.delta",
                "item_id": "msg_1",
                "output_index": 0,
                "content_index": 0,
                "delta": "Hel",
            },
            {
                "type": "response.output_text.delta",
                "item_id": "msg_1",
                "output_index": 0,
                "content_index": 0,
                "delta": "lo.",
            },
            {"type": "response.completed", "response": whole},
            named=True,
        )
        if stream
        else status(200, whole)
    )
    kwargs: dict[str, Any] = {"api": how["api"]} if "api" in how else {}
    found = ask(fault_server, how.get("prefix", "") + "gpt-4o-mini", stream=stream, **kwargs)
    response = found[1] if stream else found
    assert response.content == "Hello."
    if stream:
        assert found[0] == ["Hel", "lo."]
    assert fault_server.requests[0].path == "/openai/responses"
    assert fault_server.requests[0].json["store"] is False


def test_gemini_native_streams_from_its_own_address(fault_server: FaultServer) -> None:
    def piece(text: str, **fields: Any) -> dict[str, Any]:
        return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0} | fields]}

    usage = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}
    fault_server.default = sse(piece("Hel"), piece("lo.", finishReason="STOP") | {"usageMetadata": usage})
    texts, response = ask(fault_server, "gemini/gemini-3.8-flash", api="gemini", stream=True, max_tokens=50)
    assert (texts, response.content, response.usage.output_tokens) == (["Hel", "lo."], "Hello.", 4)
    (seen,) = fault_server.requests
    assert seen.path == "/gemini/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse"
    assert seen.header("x-goog-api-key") == "sk-family-gemini-01"
    assert seen.header("authorization") is None


def test_cohere_native(fault_server: FaultServer) -> None:
    fault_server.default = sse(
        {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hello."}}}},
        {"type": "content-end", "index": 0},
        {
            "type": "message-end",
            "delta": {"finish_reason": "COMPLETE", "usage": {"billed_units": {"input_tokens": 9, "output_tokens": 4}}},
        },
        named=True,
    )
    texts, response = ask(fault_server, "cohere/command-a-03-2025", api="cohere", stream=True)
    assert (texts, response.finish_reason, response.usage.input_tokens) == (["Hello."], "stop", 9)
    assert fault_server.requests[0].path.endswith("/v2/chat")


def test_bedrock_converse(fault_server: FaultServer) -> None:
    fault_server.default = status(
        200,
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13},
        },
    )
    response = ask(fault_server, "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", api="converse", max_tokens=50)
    assert response.content == "Hello."
    (seen,) = fault_server.requests
    assert seen.path.endswith("/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse")
    assert seen.header("authorization") == "Bearer sk-family-bedrock-01"
    assert seen.json["inferenceConfig"]["maxTokens"] == 50


@pytest.mark.parametrize(
    ("model", "api", "answer", "kind"),
    [
        ("gpt-4o-mini", "responses", (429, {"error": {"message": "slow down"}}), RateLimitError),
        ("gemini/gemini-3.8-flash", "gemini", (503, {"error": {"code": 503, "status": "UNAVAILABLE"}}), ServerError),
        ("cohere/command-r", "cohere", (429, {"message": "too many"}), RateLimitError),
        ("bedrock/amazon.nova-lite-v1:0", "bedrock", (429, {"message": "Too many requests"}), RateLimitError),
    ],
)
def test_their_errors_are_typed(
    model: str, api: str, answer: tuple[int, Any], kind: type[Exception], fault_server: FaultServer
) -> None:
    fault_server.default = status(*answer)
    with pytest.raises(kind):
        ask(fault_server, model, api=api)


def test_a_family_that_a_row_lacks_is_named_with_those_it_has(fault_server: FaultServer) -> None:
    with pytest.raises(
        ConfigurationError, match="gemini does not serve api='responses'; it serves gemini, openai_chat"
    ):
        ask(fault_server, "gemini/gemini-3.8-flash", api="responses")
    fault_server.default = ok("chat")
    assert ask(fault_server, "gemini/gemini-3.8-flash", api="chat").content == "chat"


FIRST_CALLS = """
import gc, sys, threading
import msgspec
from llm_master.families import dialect_of
from llm_master.base_provider import row_of

PAIRS = [("gemini", "gemini"), ("bedrock", "bedrock"), ("cohere", "cohere"), ("openai", "openai_responses")]
sys.setswitchinterval(1e-6)
gc.set_threshold(5)
ready = threading.Barrier(24)

def first(number):
    ready.wait()
    name, family = PAIRS[number % 4]
    dialect = dialect_of(row_of(name), family)
    if family == "gemini":
        dialect.model("gemini-3-flash")

threads = [threading.Thread(target=first, args=(number,)) for number in range(24)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("all done")
"""


def test_the_first_calls_may_come_from_many_threads_at_once() -> None:
    # msgspec alone crashed the process in two of five such beginnings.
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", FIRST_CALLS], capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stdout) == (0, "all done\n"), done.stderr[-500:]
