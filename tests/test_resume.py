"""
What becomes of a stream that breaks off after it gave content, and of a call with two targets at once.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from support import faults
from support.behaviours import hold, ok, status
from support.fault_server import FaultServer

from llm_master import (
    DiscardEvent,
    EndEvent,
    HedgePolicy,
    InvalidRequestError,
    LLMConfig,
    QueryLLM,
    RetryPolicy,
    ServerError,
    StreamInterrupted,
    TextEvent,
)

FAST = RetryPolicy(max_attempts=2, base_delay=0.001, max_delay=0.002)
PIECES = ["The quick ", "brown fox ", "jumps over ", "the lazy dog."]
WHOLE = "".join(PIECES)
GIVEN = "The quick brown fox "
CUT = {
    "cut": faults.cut_mid_stream,
    "reset": faults.reset_mid_body,
    "no end": faults.missing_terminal_marker,
    "error": faults.error_in_stream,
}


def config(server: FaultServer) -> LLMConfig:
    return LLMConfig(
        openai_api_key="sk-resume-0123456789",
        anthropic_api_key="sk-ant-resume-0123456789",
        base_urls={"openai": server.url + "/openai", "anthropic": server.url + "/anthropic"},
    )


def run(server: FaultServer, use: Any, **options: Any) -> Any:
    async def main() -> Any:
        async with QueryLLM(config(server), retry=options.pop("retry", FAST), **options) as llm:
            return await use(llm)

    return asyncio.run(asyncio.wait_for(main(), 30))


def broken(way: str) -> Any:
    # An error in the same bytes as the first content would be no interruption: nothing was given out yet.
    return CUT[way](text=PIECES, each=hold(0.02))


@pytest.mark.parametrize("way", ["cut", "reset", "error"])
def test_plain_iteration_raises_with_the_partial_text(way: str, fault_server: FaultServer) -> None:
    fault_server.route("/openai", [broken(way)])

    async def use(llm: QueryLLM) -> Any:
        stream = await llm.query("gpt-4o", "Hi", stream=True, fallback_model="claude-sonnet-4-5")
        seen: list[str] = []

        async def read() -> None:
            async for text in stream:
                seen.append(text)  # noqa: PERF401  # what came before the error counts too

        with pytest.raises(StreamInterrupted) as caught:
            await read()
        return "".join(seen), caught.value

    seen, error = run(fault_server, use)
    assert seen == error.partial_text == GIVEN
    assert [(a.outcome, a.provider) for a in error.attempts] == [("interrupted", "openai")]
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("way", list(CUT))
def test_text_brings_the_whole_answer_from_the_next_target(way: str, fault_server: FaultServer) -> None:
    fault_server.route("/openai", [broken(way)])
    fault_server.route("/anthropic", [ok("All of it.")])

    async def use(llm: QueryLLM) -> Any:
        stream = await llm.query("gpt-4o", "Hi", stream=True, fallback_model="claude-sonnet-4-5")
        return await stream.text(), stream.response

    text, response = run(fault_server, use)
    assert text == response.content == "All of it."
    assert [(a.provider, a.outcome) for a in response.attempts] == [("openai", "interrupted"), ("anthropic", "ok")]


@pytest.mark.parametrize("way", list(CUT))
def test_text_tries_the_only_target_once_more(way: str, fault_server: FaultServer) -> None:
    fault_server.route("/openai", [broken(way), ok(PIECES)])

    async def use(llm: QueryLLM) -> Any:
        stream = await llm.query("gpt-4o", "Hi", stream=True)
        return await stream.text(), stream.response

    text, response = run(fault_server, use)
    assert text == response.content == WHOLE
    assert [a.outcome for a in response.attempts] == ["interrupted", "ok"]


def test_a_target_that_always_breaks_off_is_given_up(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [broken("cut")])

    async def use(llm: QueryLLM) -> Any:
        stream = await llm.query("gpt-4o", "Hi", stream=True)
        with pytest.raises(StreamInterrupted) as caught:
            await stream.text()
        return caught.value

    error = run(fault_server, use, retry=RetryPolicy(max_attempts=3, base_delay=0.001))
    assert [a.outcome for a in error.attempts] == ["interrupted"] * 3
    assert error.partial_text == GIVEN


def test_when_the_next_target_fails_too_the_error_holds_text_and_every_attempt(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [broken("cut")])
    fault_server.route("/anthropic", [status(500)])

    async def use(llm: QueryLLM) -> Any:
        stream = await llm.query("gpt-4o", "Hi", stream=True, fallback_model="claude-sonnet-4-5")
        with pytest.raises(StreamInterrupted) as caught:
            await stream.text()
        return caught.value

    error = run(fault_server, use)
    assert error.partial_text == GIVEN
    assert [a.outcome for a in error.attempts] == ["interrupted", "error", "error"]
    assert isinstance(error.__cause__, ServerError)


def test_events_tell_to_discard(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [broken("cut")])
    fault_server.route("/anthropic", [ok(["All ", "of it."])])

    async def use(llm: QueryLLM) -> Any:
        stream = await llm.query("gpt-4o", "Hi", stream=True, fallback_model="claude-sonnet-4-5")
        return [event async for event in stream.events()]

    events = run(fault_server, use)
    at = next(n for n, event in enumerate(events) if isinstance(event, DiscardEvent))
    assert "".join(event.text for event in events[:at] if isinstance(event, TextEvent)) == GIVEN
    assert "".join(event.text for event in events[at:] if isinstance(event, TextEvent)) == "All of it."
    assert isinstance(events[-1], EndEvent)
    assert events[-1].response.content == "All of it."


def test_restart_gives_another_whole_answer(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [broken("cut")])
    fault_server.route("/anthropic", [ok("All of it.")])

    async def use(llm: QueryLLM) -> Any:
        stream = await llm.query(
            "gpt-4o", "Hi", stream=True, fallback_model="claude-sonnet-4-5", on_interrupt="restart"
        )
        return [text async for text in stream], stream.response

    texts, response = run(fault_server, use)
    assert "".join(texts) == GIVEN + "All of it."
    assert response.content == "All of it."


@pytest.mark.parametrize(
    "second", [["jumps over ", "the lazy dog."], PIECES, ["quick brown fox jumps ", "over the lazy dog."]]
)
@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-sonnet-5-5"])
def test_continue_goes_on_from_the_partial_text(model: str, second: list[str], fault_server: FaultServer) -> None:
    fault_server.route("/openai", [broken("cut")])
    fault_server.route("/anthropic", [ok(second)])

    async def use(llm: QueryLLM) -> Any:
        stream = await llm.query("gpt-4o", "Tell me.", stream=True, fallback_model=model, on_interrupt="continue")
        return [text async for text in stream], stream.response

    texts, response = run(fault_server, use)
    assert "".join(texts) == response.content == WHOLE
    sent = fault_server.requests[1].json["messages"]
    assert sent[0]["content"] == "Tell me."
    assert (sent[1]["role"], sent[1]["content"]) == ("assistant", GIVEN.rstrip()) or sent[1]["content"] == GIVEN
    # The older model takes a prefill; the newer one refuses a last turn of the assistant.
    assert (sent[-1]["role"] == "assistant") is (model == "claude-sonnet-4-5")
    assert any("continued" in note for note in response.notes)


def test_continue_survives_a_second_cut(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [broken("cut")])
    fault_server.route(
        "/anthropic", [faults.cut_mid_stream(after=1, text=["jumps over ", "the lazy dog."]), ok(PIECES)]
    )

    async def use(llm: QueryLLM) -> Any:
        stream = await llm.query(
            "gpt-4o", "Hi", stream=True, fallback_model="claude-sonnet-5-5", on_interrupt="continue"
        )
        return [text async for text in stream], stream.response

    texts, response = run(fault_server, use)
    assert "".join(texts) == response.content == WHOLE
    assert [a.outcome for a in response.attempts] == ["interrupted", "interrupted", "ok"]


def test_the_deadline_covers_the_restart(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [broken("cut")])
    fault_server.route("/anthropic", [faults.slow_first_token()])

    async def use(llm: QueryLLM) -> Any:
        stream = await llm.query("gpt-4o", "Hi", stream=True, fallback_model="claude-sonnet-4-5", timeout=0.5)
        with pytest.raises(StreamInterrupted) as caught:
            await stream.text()
        return caught.value

    error = run(fault_server, use)
    assert isinstance(error.__cause__, TimeoutError)
    fault_server.release()


def test_an_unknown_way_to_go_on_is_refused(fault_server: FaultServer) -> None:
    async def use(llm: QueryLLM) -> None:
        with pytest.raises(InvalidRequestError, match="on_interrupt='retry'"):
            await llm.query("gpt-4o", "Hi", stream=True, on_interrupt="retry")  # type: ignore[call-overload]

    run(fault_server, use)
    assert not fault_server.requests


# -- hedging -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_slow_target_is_overtaken_and_its_connection_closed(stream: bool, fault_server: FaultServer) -> None:
    fault_server.route("/openai", [faults.slow_first_token()])
    fault_server.route("/anthropic", [ok("the quicker one")])

    async def use(llm: QueryLLM) -> Any:
        found = await llm.query(
            "gpt-4o", "Hi", stream=stream, fallback_model="claude-sonnet-4-5", hedge_after=0.05, timeout=20
        )
        text = await found.text() if stream else found.content
        slow = next(seen for seen in fault_server.requests if seen.path.startswith("/openai"))
        await asyncio.to_thread(fault_server.wait_closed, slow.index)
        async with asyncio.timeout(10):
            # This one and the one that waits for it stay; the end of a stream may still be read for its connection.
            while len(asyncio.all_tasks()) > 2:
                await asyncio.sleep(0.01)
        return text, (found.response if stream else found)

    text, response = run(fault_server, use)
    assert text == "the quicker one"
    assert sorted((a.provider, a.outcome) for a in response.attempts) == [("anthropic", "ok"), ("openai", "cancelled")]


def test_a_quick_target_is_not_hedged(fault_server: FaultServer) -> None:
    async def use(llm: QueryLLM) -> Any:
        return await llm.query("gpt-4o", "Hi", fallback_model="claude-sonnet-4-5")

    response = run(fault_server, use, hedge=HedgePolicy(after=20.0))
    assert [a.provider for a in response.attempts] == ["openai"]
    assert len(fault_server.requests) == 1


def test_only_a_share_of_the_calls_is_hedged(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [faults.slow_first_token(delay=0.5)])
    fault_server.route("/anthropic", [ok("the quicker one")])

    async def use(llm: QueryLLM) -> Any:
        calls = (llm.query("gpt-4o", "Hi", fallback_model="claude-sonnet-4-5") for _ in range(60))
        return await asyncio.gather(*calls)

    answers = run(fault_server, use, hedge=HedgePolicy(after=0.01, max_share=0.05))
    assert len(answers) == 60
    # On a busy machine the slow target may still be the first to answer; that the other was asked is what counts.
    hedged = [seen for seen in fault_server.requests if seen.path.startswith("/anthropic")]
    assert 1 <= len(hedged) <= 0.05 * 60 + 10


def test_a_hedged_call_that_is_cancelled_leaves_nothing(fault_server: FaultServer) -> None:
    fault_server.script([faults.slow_first_token()])

    async def use(llm: QueryLLM) -> Any:
        task = asyncio.create_task(llm.query("gpt-4o", "Hi", fallback_model="claude-sonnet-4-5", hedge_after=0.01))
        await asyncio.to_thread(fault_server.wait_held, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(fault_server.wait_no_connections)
        gc.collect()
        return {name: [place.inflight for place in places] for name, places in llm.health().items()}

    assert run(fault_server, use) == {"gpt-4o": [0], "claude-sonnet-4-5": [0]}
