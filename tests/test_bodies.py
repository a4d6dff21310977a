"""
The answers that tests build are well-formed: the vendors' own packages read from them what was put in.
"""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest
from support import faults
from support.behaviours import Reply, ok, status
from support.bodies import CHAT, FAMILIES, MESSAGES, Answer, Family, after_content, answer_events, error_json
from support.client import TEXT
from support.fault_server import FaultServer

from llm_master.classes import ToolCall, Usage

CALLS = (
    ToolCall("call_1", "weather", {"city": "Zürich", "days": 3}),
    ToolCall("call_2", "clock", {}),
)
USAGE = Usage(100, 40, cached_tokens=30, cache_write_tokens=20, cache_write_1h_tokens=5, reasoning_tokens=8)

streamed_or_not = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


def ask_openai(server: FaultServer, *, stream: bool) -> Any:
    """What the openai package makes of the answer: a whole completion."""
    with openai.OpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0) as client:
        request: dict[str, Any] = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}
        if not stream:
            return client.chat.completions.create(**request)
        with client.chat.completions.stream(**request) as events:
            return events.get_final_completion()


def openai_finish_reason(server: FaultServer, *, stream: bool) -> Any:
    """The finish reason alone: the package's helper for streams makes an error of ``length``."""
    with openai.OpenAI(base_url=server.url + "/v1", api_key="k", max_retries=0) as client:
        got: Any = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=stream)
        if not stream:
            return got.choices[0].finish_reason
        return [chunk.choices[0].finish_reason for chunk in got if chunk.choices][-1]


def ask_anthropic(server: FaultServer, *, stream: bool) -> Any:
    """What the anthropic package makes of the answer: a whole message."""
    with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as client:
        request: dict[str, Any] = {"model": "m-1", "max_tokens": 99, "messages": [{"role": "user", "content": "hi"}]}
        if not stream:
            return client.messages.create(**request)
        with client.messages.stream(**request) as events:
            return events.get_final_message()


@streamed_or_not
def test_openai_reads_all_of_an_answer(fault_server: FaultServer, stream: bool) -> None:
    fault_server.script([ok(("Grüezi", " 😀"), reasoning="hm", tool_calls=CALLS, usage=USAGE)])
    answer = ask_openai(fault_server, stream=stream)
    (choice,) = answer.choices
    assert (answer.model, choice.finish_reason) == ("m-1", "tool_calls")
    assert choice.message.content == "Grüezi 😀"
    assert choice.message.reasoning_content == "hm"
    got = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]
    assert got == [(call.id, call.name, call.arguments) for call in CALLS]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (100, 40, 140)
    assert answer.usage.prompt_tokens_details.cached_tokens == 30
    assert answer.usage.completion_tokens_details.reasoning_tokens == 8


@streamed_or_not
def test_anthropic_reads_all_of_an_answer(fault_server: FaultServer, stream: bool) -> None:
    fault_server.script([ok(("Grüezi", " 😀"), reasoning="hm", tool_calls=CALLS, usage=USAGE)])
    answer = ask_anthropic(fault_server, stream=stream)
    thought, text, *calls = answer.content
    assert (answer.model, answer.stop_reason) == ("m-1", "tool_use")
    assert (thought.thinking, thought.signature, text.text) == ("hm", "c2lnbmF0dXJl", "Grüezi 😀")
    assert [(call.id, call.name, call.input) for call in calls] == [(c.id, c.name, c.arguments) for c in CALLS]
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (50, 30, 20)
    assert usage.output_tokens == 40
    assert usage.cache_creation.ephemeral_1h_input_tokens == 5


@streamed_or_not
def test_finish_reasons_and_refusals(fault_server: FaultServer, stream: bool) -> None:
    fault_server.script([ok(finish="length"), ok(None, refusal="I will not.")] * 2)
    long, refused = (openai_finish_reason(fault_server, stream=stream) for _ in range(2))
    assert (long, refused) == ("length", "stop")
    assert ask_anthropic(fault_server, stream=stream).stop_reason == "max_tokens"
    assert ask_anthropic(fault_server, stream=stream).stop_reason == "refusal"


@pytest.mark.parametrize(
    "answer",
    [faults.keep_alive_noise(), faults.interim_responses(), ok(gzip=True), ok(newline="\r\n", piece_size=1)],
)
def test_harmless_variants_read_the_same(fault_server: FaultServer, answer: Reply) -> None:
    fault_server.script([answer])
    assert ask_openai(fault_server, stream=True).choices[0].message.content == TEXT
    assert ask_anthropic(fault_server, stream=True).content[0].text == TEXT


@pytest.mark.parametrize(
    ("code", "name"),
    [(401, "AuthenticationError"), (404, "NotFoundError"), (429, "RateLimitError"), (503, "InternalServerError")],
)
def test_errors_are_the_vendors_own(fault_server: FaultServer, code: int, name: str) -> None:
    fault_server.script([status(code)])
    with pytest.raises(getattr(openai, name)) as chat:
        ask_openai(fault_server, stream=False)
    with pytest.raises(getattr(anthropic, name)) as messages:
        ask_anthropic(fault_server, stream=False)
    assert chat.value.body["message"] == error_json(CHAT, code)["error"]["message"]
    assert messages.value.body == error_json(MESSAGES, code)


@pytest.mark.parametrize("family", FAMILIES)
def test_places_in_a_stream(family: Family) -> None:
    events = answer_events(family, Answer.of(("a", "b")))
    kinds = [event.kind for event in events]
    first = kinds.index("delta")
    assert [after_content(events, count) for count in range(4)] == [first, first + 1, first + 2, first + 2]
    assert after_content(answer_events(family, Answer(text=None)), 2) == 1


def test_how_a_text_is_cut() -> None:
    assert Answer(text="one two  three").text_pieces == ("one ", "two ", " ", "three")
    assert Answer.of(["x", "y"]).text == "xy"
    assert Answer(text=None).text_pieces == Answer(text="").text_pieces == ()
