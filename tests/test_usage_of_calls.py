"""
What a call has used and cost: its answer, and the attempts that were cut off, cancelled or refused before it.
"""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal
from typing import Any

import pytest
from support import faults
from support.behaviours import hold, ok, reset, status
from support.fault_server import FaultServer
from support.leaving import cancelled_once

from llm_master import (
    BaseLLMProvider,
    LLMConfig,
    LLMResponse,
    ModelConfig,
    ProviderError,
    QueryLLM,
    RetryPolicy,
    StreamInterrupted,
    Usage,
)
from llm_master.books import new_uid
from llm_master.policy.estimate import estimate_input, estimate_output
from llm_master.policy.limits import MemoryLimiter

FAST = RetryPolicy(max_attempts=2, base_delay=0.001, max_delay=0.002)
HI = "Hi"
TURNS = [{"role": "user", "content": HI}]
# One dollar for a million tokens in, ten for a million out: a token is a millionth, or a hundred-thousandth.
PRICED = ModelConfig(input_price_per_million=1.0, output_price_per_million=10.0)
PRICES = {"gpt-4o-mini": PRICED, "gpt-4.1": PRICED}


class Kept:
    """A book that keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, str, Any, Any]] = []

    def check(self) -> None:
        """Every call may be made."""

    def note(self, call: Any, outcome: str, response: Any, error: Any) -> None:
        self.calls.append((call, outcome, response, error))


@pytest.fixture
def book() -> Kept:
    return Kept()


@pytest.fixture
def llm(fault_server: FaultServer, book: Kept) -> QueryLLM:
    client = QueryLLM(
        LLMConfig(openai_api_key="sk-used-0123456789", base_urls={"openai": fault_server.url}),
        registry=PRICES,
        retry=FAST,
        limiter=MemoryLimiter(),
    )
    client._options["books"] = (book,)
    return client


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


def estimated(text: str) -> Usage:
    found = Usage(estimate_input(TURNS, {}), estimate_output(text))
    found.estimated = True
    return found


def cost(usage: Usage) -> Decimal:
    return (usage.input_tokens + 10 * usage.output_tokens) / Decimal(1_000_000)


def test_a_cut_stream_counts_as_far_as_it_came(llm: QueryLLM, fault_server: FaultServer) -> None:
    pieces = ("one ", "two ", "three ", "four ")
    fault_server.script([faults.cut_mid_stream(2, text=pieces), ok("whole", usage=Usage(11, 7))])

    async def main() -> LLMResponse:
        stream = await llm.query("gpt-4o-mini", HI, stream=True)
        assert await stream.text() == "whole"
        return stream.response

    response = run(main())
    first, second = response.attempts
    assert first.usage == estimated("one two ")
    assert second.usage == Usage(11, 7)
    assert response.usage == first.usage + second.usage
    assert response.usage.estimated
    assert (first.cost, second.cost) == (cost(first.usage), Decimal("0.000081"))
    assert response.cost == first.cost + second.cost


def test_a_stream_that_is_left_counts_as_far_as_it_came(llm: QueryLLM, fault_server: FaultServer, book: Kept) -> None:
    fault_server.script([faults.stall_mid_stream(2, text=("one ", "two ", "three"))])

    async def main() -> None:
        stream = await llm.query("gpt-4o-mini", HI, stream=True)
        given = ""
        async for text in stream:
            given += text
            if given == "one two ":
                break
        await stream.aclose()

    run(main())
    ((call, outcome, response, _error),) = book.calls
    assert (outcome, response) == ("cancelled", None)
    (attempt,) = call.attempts
    assert (attempt.outcome, attempt.usage) == ("cancelled", estimated("one two "))
    assert attempt.cost == cost(attempt.usage)


def test_a_cancelled_call_counts_its_input(llm: QueryLLM, fault_server: FaultServer, book: Kept) -> None:
    fault_server.script([hold()])

    async def main() -> None:
        task = asyncio.ensure_future(llm.query("gpt-4o-mini", HI))
        await cancelled_once(lambda: fault_server.requests, task)

    run(main())
    ((call, outcome, response, error),) = book.calls
    assert (outcome, response, type(error)) == ("cancelled", None, asyncio.CancelledError)
    assert [attempt.usage for attempt in call.attempts] == [estimated("")]


@pytest.mark.parametrize("refusal", [status(503), status(429), status(400)], ids=["503", "429", "400"])
def test_a_refusal_costs_nothing(refusal: Any, llm: QueryLLM, fault_server: FaultServer, book: Kept) -> None:
    fault_server.script([refusal, refusal])
    with pytest.raises(ProviderError) as caught:
        run(llm.query("gpt-4o-mini", HI))
    assert {attempt.usage for attempt in caught.value.attempts} == {None}
    assert {attempt.cost for attempt in caught.value.attempts} == {0}
    ((_call, outcome, response, error),) = book.calls
    assert (outcome, response, error) == ("error", None, caught.value)


def test_nothing_is_billed_where_nothing_could_be_sent(book: Kept) -> None:
    llm = QueryLLM(
        LLMConfig(openai_api_key="sk-used-0123456789", base_urls={"openai": "http://127.0.0.1:9"}), retry=FAST
    )
    llm._options["books"] = (book,)
    with pytest.raises(ProviderError) as caught:
        run(llm.query("gpt-4o-mini", HI))
    assert [attempt.usage for attempt in caught.value.attempts] == [None, None]


@pytest.mark.parametrize(
    "lost", [faults.truncated_json(), faults.reset_after_headers(), faults.html_200()], ids=["cut", "reset", "html"]
)
def test_an_answer_that_was_lost_counts_its_input(lost: Any, llm: QueryLLM, fault_server: FaultServer) -> None:
    fault_server.script([lost, ok("whole", usage=Usage(11, 7))])
    response = run(llm.query("gpt-4o-mini", HI))
    assert [attempt.usage for attempt in response.attempts] == [estimated(""), Usage(11, 7)]
    assert response.cost == cost(estimated("")) + cost(Usage(11, 7))


@pytest.mark.parametrize("kind", ["embed", "transcribe", "speak", "rerank"])
def test_what_is_no_chat_and_was_lost_may_have_been_paid(kind: str, fault_server: FaultServer) -> None:
    for path in ("/embeddings", "/audio/transcriptions", "/audio/speech", "/v2/rerank"):
        fault_server.route(path, [reset])
    asked: dict[str, Any] = {
        "embed": lambda llm: llm.embed("openai/text-embedding-3-small", HI),
        "transcribe": lambda llm: llm.transcribe("openai/whisper-1", b"RIFF0000WAVEfmt "),
        "speak": lambda llm: llm.speak("openai/tts-1", HI, voice="alloy"),
        "rerank": lambda llm: llm.rerank("cohere/rerank-v3.5", HI, [HI]),
    }
    urls = {"openai": fault_server.url, "cohere": fault_server.url}
    config = LLMConfig(openai_api_key="sk-used-0123456789", cohere_api_key="co-used-0123456789", base_urls=urls)

    async def main() -> Any:
        async with QueryLLM(config, retry=RetryPolicy(max_attempts=1)) as llm:
            with llm.track("job") as job, pytest.raises(ProviderError) as caught:
                await asked[kind](llm)
            return job, caught.value.attempts

    job, (attempt,) = run(main())
    assert attempt.usage.estimated
    assert job.attempts == 1
    if kind == "embed":
        assert attempt.usage.input_tokens > 0
        assert job.total_cost == attempt.cost > 0
    else:
        # Seconds, characters and searches are not known: that is not nothing.
        assert (attempt.usage.total_tokens, attempt.cost, attempt.cost_details) == (0, None, None)
        assert (job.total_cost, job.complete) == (None, False)


def test_vectors_cost_what_was_lost_before_them_too(fault_server: FaultServer) -> None:
    told = {"model": "m", "data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 20}}
    fault_server.route("/embeddings", [reset, status(200, told)])
    config = LLMConfig(openai_api_key="sk-used-0123456789", base_urls={"openai": fault_server.url})

    async def main() -> Any:
        async with QueryLLM(config, retry=FAST) as llm:
            with llm.track("job") as job:
                return await llm.embed("openai/text-embedding-3-small", HI), job

    found, job = run(main())
    first, second = found.attempts
    assert (first.outcome, second.cost) == ("error", Decimal("0.0000004"))
    assert found.cost == found.cost_details.total == job.total_cost == first.cost + second.cost > second.cost


def test_a_silent_target_may_have_been_paid(llm: QueryLLM, fault_server: FaultServer) -> None:
    fault_server.script([hold(), ok("from the other", usage=Usage(5, 3))])
    response = run(llm.query("gpt-4o-mini", HI, fallback_model="gpt-4.1", timeout=1.0))
    assert [(each.model, each.usage) for each in response.attempts] == [
        ("gpt-4o-mini", estimated("")),
        ("gpt-4.1", Usage(5, 3)),
    ]
    assert response.usage == estimated("") + Usage(5, 3)


def test_an_answer_asked_for_again_counts_twice(llm: QueryLLM, fault_server: FaultServer) -> None:
    fault_server.script([ok("no number", usage=Usage(10, 2)), ok('{"number": 7}', usage=Usage(30, 4))])
    shape = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
    response = run(llm.query("gpt-4o-mini", HI, response_format=shape, repairs=1))
    assert response.parsed == {"number": 7}
    assert response.usage == Usage(40, 6)
    assert response.cost == Decimal("0.0001")


def test_one_price_unknown_leaves_the_other_part(llm: QueryLLM, fault_server: FaultServer) -> None:
    llm._registry = {**PRICES, "openai/some-new-model": ModelConfig()}
    fault_server.script([hold(), ok("whole", usage=Usage(11, 7))])
    response = run(llm.query("openai/some-new-model", HI, fallback_model="gpt-4.1", timeout=1.0))
    first, second = response.attempts
    assert (first.cost, second.cost) == (None, Decimal("0.000081"))
    assert response.cost == Decimal("0.000081")


def test_a_class_of_the_users_own_is_priced_by_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    class Parrot(BaseLLMProvider):
        def __init__(self, config: Any = None) -> None:
            """Needs nothing."""

        async def generate(self, messages: Any, model: str, stream: bool = False, **kwargs: Any) -> LLMResponse:
            return LLMResponse(content="hello", model_name=model, usage=Usage(1_000_000, 100_000))

    monkeypatch.setitem(QueryLLM.provider_map, "parrot", (None, Parrot))
    llm = QueryLLM(LLMConfig(), registry={"parrot-1": PRICED})
    assert run(llm.query("parrot-1", HI)).cost == 2
    assert run(llm.query("parrot-2", HI)).cost is None


def test_a_stream_that_breaks_off_tells_the_book_once(llm: QueryLLM, fault_server: FaultServer, book: Kept) -> None:
    fault_server.script([faults.cut_mid_stream(2, text=("one ", "two ", "three"))])

    async def main() -> None:
        stream = await llm.query("gpt-4o-mini", HI, stream=True)
        with pytest.raises(StreamInterrupted):
            async for _text in stream:
                pass

    run(main())
    ((call, outcome, _response, error),) = book.calls
    assert (outcome, type(error), call.streamed, call.kind) == ("error", StreamInterrupted, True, "chat")


def test_a_book_that_fails_takes_no_answer_away(
    llm: QueryLLM, fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Kept):
        def note(self, call: Any, outcome: str, response: Any, error: Any) -> None:
            raise OSError("the paper is gone")

    llm._options["books"] = (Broken(),)
    fault_server.script([ok("whole")])
    assert run(llm.query("gpt-4o-mini", HI)).content == "whole"
    assert "could not be written down" in caplog.text


def test_names_of_calls_are_in_the_order_of_time_and_differ() -> None:
    names = [new_uid() for _ in range(10_000)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", name) for name in names)
    assert [name[:12] for name in names] == sorted(name[:12] for name in names)


def test_sums_of_usage_say_when_a_part_was_estimated() -> None:
    assert Usage(1, 2) + Usage(3, 4) == Usage(4, 6)
    assert not (Usage(1, 2) + Usage(3, 4)).estimated
    assert (Usage(1, 2) + estimated("x")).estimated is True
