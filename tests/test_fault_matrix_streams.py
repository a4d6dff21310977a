"""
Streams that break after content was given: what ``text()``, ``events()`` and ``on_interrupt=`` make of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from support import faults
from support.asking import FAST, HI, MODELS, PROVIDERS, ask, client, other, requests_of, run, serve
from support.behaviours import Reply, close, ok, rate_limited, reset, silence, status
from support.bodies import FAMILIES, Event, Family, after_content, dumps, error_json
from support.exchange import Behaviour, Exchange
from support.fault_server import FaultServer
from support.matrix import AMPLE, LIMITS, PRIMARY, gate, gated

from llm_master import (
    DiscardEvent,
    EndEvent,
    FallbackEvent,
    InvalidRequestError,
    LLMStream,
    RetryEvent,
    StreamEvent,
    StreamInterrupted,
    TextEvent,
    Timeouts,
    Usage,
)

both_families = pytest.mark.parametrize("family", FAMILIES)
WHOLE = "Hello from the other side."
# Cut before its spaces, so that what is left of it begins with one and no piece ends with one.
PIECES = ("Hello", " from", " the", " other", " side.")
SECOND = "Hello from the second."

BREAKS: list[tuple[str, Behaviour]] = [
    ("reset", ok(PIECES, middle=gated(reset))),
    ("cut", ok(PIECES, middle=gated(close))),
    ("stall", ok(PIECES, middle=silence)),
    ("error", faults.error_in_stream(after=2, middle=gate, text=PIECES)),
    ("no marker", faults.missing_terminal_marker(middle=gate, text=PIECES)),
    ("half a chunk", faults.truncated_json(after=2, middle=gate, text=PIECES)),
]
every_break = pytest.mark.parametrize("broken", [each for _, each in BREAKS], ids=[name for name, _ in BREAKS])


def follow(server: FaultServer, family: Family, script: list[Behaviour], second: list[Behaviour]) -> None:
    serve(server, family, script)
    server.route(f"/{PROVIDERS[other(family)]}", second)


def watch(server: FaultServer, family: Family, **options: Any) -> list[StreamEvent]:
    """Every event of one call with a fallback."""

    async def main() -> list[StreamEvent]:
        async with client(server, timeouts=LIMITS) as llm:
            stream = await llm.query(
                MODELS[family], HI, stream=True, **({"fallback_model": MODELS[other(family)]} | options)
            )
            server.release()
            return [event async for event in stream.events()]

    return asyncio.run(main())


def kept(events: list[StreamEvent]) -> str:
    """The text that a consumer holds in the end who does what the events say."""
    text = ""
    for event in events:
        if isinstance(event, DiscardEvent):
            text = ""
        elif isinstance(event, TextEvent):
            text += event.text
    return text


def said(message: Any) -> str:
    """The text of a message in either family."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


async def go_on(x: Exchange) -> None:
    """Say what is missing after the partial text that the request holds."""
    given = next((said(each) for each in reversed(x.body["messages"]) if each["role"] == "assistant"), "")
    await ok(WHOLE.removeprefix(given), usage=Usage(20, 4))(x)


# -- text() ------------------------------------------------------------------------------------------------------------


@both_families
@every_break
def test_text_starts_again_on_the_same_target_where_there_is_no_other(
    broken: Behaviour, family: Family, fault_server: FaultServer
) -> None:
    serve(fault_server, family, [broken, PRIMARY])
    told = run(fault_server, family, "text", fallback=False)
    assert told.error is None
    assert told.text == PRIMARY.answer.text
    assert [attempt.outcome for attempt in told.attempts] == ["interrupted", "ok"]
    one, two = requests_of(fault_server, family)
    assert one.body == two.body
    assert told.response is not None
    broken_off, whole = (attempt.usage for attempt in told.attempts)
    assert whole == Usage(11, 7)
    assert broken_off is not None
    assert broken_off.estimated
    assert told.response.usage == broken_off + whole


@both_families
def test_text_gives_up_in_the_end(family: Family, fault_server: FaultServer) -> None:
    serve(fault_server, family, [ok(PIECES, middle=gated(close))])
    told = run(fault_server, family, "text", fallback=False)
    assert isinstance(told.error, StreamInterrupted)
    assert told.error.partial_text
    assert WHOLE.startswith(told.error.partial_text)
    assert {attempt.outcome for attempt in told.attempts} == {"interrupted"}
    assert len(fault_server.requests) == len(told.attempts) <= 3


@both_families
def test_streams_that_break_and_requests_that_fail_are_counted_together(
    family: Family, fault_server: FaultServer
) -> None:
    """``max_attempts`` is what one target is asked at most, however it fails."""
    broken = ok(PIECES, middle=gated(close))
    serve(fault_server, family, [broken, status(503), broken, status(503), broken, PRIMARY])
    told = run(fault_server, family, "text", fallback=False)
    assert told.error is not None
    assert [attempt.outcome for attempt in told.attempts] == ["interrupted", "error", "interrupted"]
    assert len(fault_server.requests) == 3


@both_families
def test_each_wait_is_longer_than_the_one_before(family: Family, fault_server: FaultServer) -> None:
    """Else it is no back-off, whether requests fail or streams break."""
    broken = ok(PIECES, middle=gated(close))
    for script in ([status(500), status(500), status(500)], [broken, broken, broken]):
        serve(fault_server, family, [*script, PRIMARY])
        told = run(fault_server, family, "text", fallback=False, max_attempts=4)
        assert told.error is None
        first, second, third = (attempt.waited for attempt in told.attempts[1:])
        assert 0 < first < second <= third <= FAST.max_delay
        assert {attempt.wait_reason for attempt in told.attempts[1:]} == {"retry"}


@both_families
def test_text_has_time_for_the_fallback_when_only_the_deadline_watches(
    family: Family, fault_server: FaultServer
) -> None:
    serve(fault_server, family, [ok(PIECES, middle=silence)])
    told = run(fault_server, family, "text", timeouts=Timeouts(total=1.0), closed=1)
    assert told.error is None
    assert told.text == SECOND
    assert [attempt.outcome for attempt in told.attempts] == ["interrupted", "ok"]


@both_families
def test_text_falls_back_twice(family: Family, fault_server: FaultServer) -> None:
    broken = ok(PIECES, middle=gated(close))
    follow(fault_server, family, [broken, status(503), status(503), PRIMARY], [broken])
    names = [MODELS[other(family)], MODELS[family]]
    told = run(fault_server, family, "text", timeouts=AMPLE, fallback=False, fallback_model=names)
    assert told.text == PRIMARY.answer.text
    assert [attempt.outcome for attempt in told.attempts] == ["interrupted", "interrupted", "error", "error", "ok"]
    assert told.left == 0


# -- events() ----------------------------------------------------------------------------------------------------------


@both_families
@every_break
def test_events_tell_to_discard_and_go_on(broken: Behaviour, family: Family, fault_server: FaultServer) -> None:
    serve(fault_server, family, [broken])
    events = watch(fault_server, family)
    kinds = [event.type for event in events if not event.type.startswith("usage")]
    assert kinds.count("discard") == kinds.count("end") == 1
    assert kinds.index("text") < kinds.index("discard")
    assert kinds[-1] == "end"
    assert kept(events) == SECOND
    discard = next(event for event in events if isinstance(event, DiscardEvent))
    assert PROVIDERS[family] in discard.reason
    end = events[-1]
    assert isinstance(end, EndEvent)
    assert end.response.content == SECOND
    assert [attempt.outcome for attempt in end.response.attempts] == ["interrupted", "ok"]


@both_families
def test_there_is_nothing_to_discard_before_the_first_content(family: Family, fault_server: FaultServer) -> None:
    serve(fault_server, family, [status(503)])
    events = watch(fault_server, family)
    assert [type(event) for event in events[:3]] == [RetryEvent, RetryEvent, FallbackEvent]
    assert not any(isinstance(event, DiscardEvent) for event in events)
    assert kept(events) == SECOND


# -- on_interrupt= -----------------------------------------------------------------------------------------------------


@both_families
@pytest.mark.parametrize("options", [{}, {"on_interrupt": None}], ids=["default", "none"])
def test_an_iteration_raises_with_what_it_gave(
    options: dict[str, Any], family: Family, fault_server: FaultServer
) -> None:
    serve(fault_server, family, [ok(PIECES, middle=gated(close))])
    told = run(fault_server, family, "iterated", **options)
    assert isinstance(told.error, StreamInterrupted)
    assert told.error.partial_text == "".join(told.given) == "Hello from"
    assert len(fault_server.requests) == 1


@both_families
@every_break
@pytest.mark.parametrize("answer", [go_on, ok(WHOLE, usage=Usage(20, 4))], ids=["goes on", "begins again"])
def test_the_next_target_goes_on_and_nothing_is_repeated(
    answer: Behaviour, broken: Behaviour, family: Family, fault_server: FaultServer
) -> None:
    follow(fault_server, family, [broken], [answer])
    told = run(fault_server, family, "iterated", on_interrupt="continue")
    assert told.error is None
    assert told.text == WHOLE
    assert told.response is not None
    assert told.response.content == WHOLE
    assert told.response.finish_reason == "stop"
    assert [(attempt.provider, attempt.outcome) for attempt in told.attempts] == [
        (PROVIDERS[family], "interrupted"),
        (PROVIDERS[other(family)], "ok"),
    ]
    assert told.attempts[-1].usage == Usage(20, 4)
    (second,) = requests_of(fault_server, other(family))
    given = next(each for each in reversed(second.json["messages"]) if each["role"] == "assistant")
    assert said(given), "the next target is told what was said"
    assert WHOLE.startswith(said(given))
    assert second.json["messages"][0]["content"] in (HI[0]["content"], [{"type": "text", "text": HI[0]["content"]}])


@both_families
def test_a_partial_text_that_ends_with_a_space_fits_to_its_end(family: Family, fault_server: FaultServer) -> None:
    """Anthropic refuses a prefill that ends with white space, so the model's own first space may come again."""
    broken = ok(("Hello ", "from ", "the ", "other side."), middle=gated(close))
    follow(fault_server, family, [broken], [go_on])
    told = run(fault_server, family, "iterated", on_interrupt="continue")
    assert told.text == WHOLE
    (second,) = requests_of(fault_server, other(family))
    last = second.json["messages"][-1]
    assert last["role"] != "assistant" or said(last) == said(last).rstrip()


@both_families
def test_two_targets_break_and_the_third_one_ends_it(family: Family, fault_server: FaultServer) -> None:
    first = ok(PIECES, after=1, middle=gated(close))
    second = ok(PIECES[1:], after=1, middle=gated(close))
    third = ok(PIECES[2:])
    follow(fault_server, family, [first, third], [second])
    names = [MODELS[other(family)], MODELS[family]]
    told = run(
        fault_server, family, "iterated", timeouts=AMPLE, fallback=False, fallback_model=names, on_interrupt="continue"
    )
    assert told.error is None
    assert told.text == WHOLE
    assert told.response is not None
    assert told.response.content == WHOLE
    assert [attempt.outcome for attempt in told.attempts] == ["interrupted", "interrupted", "ok"]


@both_families
@every_break
def test_an_iteration_may_start_again(broken: Behaviour, family: Family, fault_server: FaultServer) -> None:
    serve(fault_server, family, [broken])
    told = run(fault_server, family, "iterated", on_interrupt="restart")
    assert told.error is None
    assert told.text is not None
    assert told.text.endswith(SECOND)
    assert WHOLE.startswith(told.text.removesuffix(SECOND))
    assert told.response is not None
    assert told.response.content == SECOND
    assert [attempt.outcome for attempt in told.attempts] == ["interrupted", "ok"]


@pytest.mark.parametrize("way", ["", "resume", "never"])
def test_an_unknown_way_is_refused_before_any_request(way: str, fault_server: FaultServer) -> None:
    told = run(fault_server, FAMILIES[0], "iterated", on_interrupt=way)
    assert isinstance(told.error, InvalidRequestError)
    assert "continue" in str(told.error)
    assert "restart" in str(told.error)
    assert fault_server.requests == []


# -- what was given ----------------------------------------------------------------------------------------------------


def in_one_packet(reply: Reply) -> Reply:
    """The same with everything after the first content in one write, an error at its end."""

    def edit(family: Family, events: list[Event]) -> list[Event]:
        at = after_content(events, 1)
        rest = [event for event in events[at:] if event.kind == "delta"]
        failure = Event("error", dumps(error_json(family, 500)), "error" if family == "anthropic_messages" else None)
        lines = [(f"event: {event.name}\n" if event.name else "") + f"data: {event.data}" for event in [*rest, failure]]
        joined = "\n\n".join(lines).removeprefix(f"event: {rest[0].name}\n").removeprefix("data: ")
        return [*events[:at], dataclasses.replace(rest[0], kind="error", data=joined)]

    return dataclasses.replace(reply, edit=edit, after=1, middle=gate)


@both_families
def test_text_in_the_packet_of_an_error_is_given_or_not_part_of_the_partial_text(
    family: Family, fault_server: FaultServer
) -> None:
    """Else an application that shows what it got, and asks for the rest of ``partial_text``, has a hole in its text."""
    serve(fault_server, family, [in_one_packet(ok(PIECES))])
    told = run(fault_server, family, "iterated")
    assert isinstance(told.error, StreamInterrupted)
    assert told.error.partial_text == "".join(told.given)
    assert WHOLE.startswith(told.error.partial_text)


@both_families
def test_no_text_is_missing_when_the_next_target_goes_on_after_such_a_packet(
    family: Family, fault_server: FaultServer
) -> None:
    follow(fault_server, family, [in_one_packet(ok(PIECES))], [go_on])
    told = run(fault_server, family, "iterated", on_interrupt="continue")
    assert told.text == WHOLE


# -- leaving -----------------------------------------------------------------------------------------------------------


@both_families
@pytest.mark.parametrize("way", ["continue", "restart"])
def test_leaving_the_second_target_closes_it(way: str, family: Family, fault_server: FaultServer) -> None:
    follow(fault_server, family, [ok(PIECES, middle=gated(close))], [ok(PIECES, middle=silence)])

    async def main() -> None:
        async with client(fault_server, timeouts=AMPLE) as llm:
            stream = await llm.query(
                MODELS[family], HI, stream=True, fallback_model=MODELS[other(family)], on_interrupt=way
            )
            assert isinstance(stream, LLMStream)
            fault_server.release()

            async def read() -> None:
                async for _ in stream:
                    pass

            task = asyncio.create_task(read())
            await asyncio.to_thread(fault_server.wait_requests, 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(fault_server.wait_closed, 0)
            await asyncio.to_thread(fault_server.wait_closed, 1)

    asyncio.run(main())
    fault_server.wait_no_connections()


@both_families
def test_cancelling_between_two_attempts_asks_nobody_else(family: Family, fault_server: FaultServer) -> None:
    serve(fault_server, family, [rate_limited("20")])

    async def main() -> None:
        async with client(fault_server, timeouts=AMPLE) as llm:
            task = asyncio.create_task(ask(llm, fault_server, family, "text"))
            (seen,) = await asyncio.to_thread(fault_server.wait_requests, 1)
            await asyncio.to_thread(seen.answered.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert len(fault_server.requests) == 1
    fault_server.wait_no_connections()
