"""
What an attempt used and cost in every family: whole, streamed, cut off, left, lost and refused.

USD are worked out from the list price of the family's model beside the tokens.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from support import faults
from support.asking import HI, MODELS, ask, client, other, run, serve
from support.behaviours import hold, ok, status
from support.bodies import ALL_FAMILIES, BEDROCK, CHAT, COHERE, GEMINI, MESSAGES, RESPONSES, Family
from support.fault_server import FaultServer

from llm_master import Attempt, Timeouts, Usage
from llm_master.policy.estimate import estimate_input, estimate_output

M = Decimal(1_000_000)
# USD for a million tokens read and written.
PRICES: dict[Family, tuple[str, str]] = {
    CHAT: ("0.15", "0.6"),
    MESSAGES: ("3", "15"),
    RESPONSES: ("0.25", "2.5"),
    GEMINI: ("0.3", "2.5"),
    COHERE: ("2.5", "10"),
    BEDROCK: ("0.06", "0.24"),
}
PIECES = ("one ", "two ", "three ", "four ")
# Who tells tokens before the answer is whole: the input, and Gemini the output as well, with every chunk.
TELL_INPUT = (MESSAGES, GEMINI)

every_family = pytest.mark.parametrize("family", ALL_FAMILIES)


def cost(family: Family, usage: Usage) -> Decimal:
    of_input, of_output = PRICES[family]
    return (usage.input_tokens * Decimal(of_input) + usage.output_tokens * Decimal(of_output)) / M


def check(attempt: Attempt, family: Family, usage: Usage, *, estimated: bool) -> None:
    assert attempt.usage == usage
    assert attempt.usage.estimated is estimated
    assert attempt.cost == cost(family, usage)
    details = attempt.cost_details
    assert details is not None
    assert (details.total, details.complete, details.estimated) == (attempt.cost, True, estimated)


def guessed(family: Family, text: str) -> Usage:
    """The usage of a stream that came as far as a text."""
    told = family in TELL_INPUT and bool(text)
    given = 11 if told else estimate_input(HI, {})
    found = Usage(given, 7 if told and family == GEMINI else estimate_output(text))
    found.estimated = True
    return found


@every_family
@pytest.mark.parametrize("manner", ["plain", "iterated"])
def test_a_whole_answer(family: Family, manner: Any, fault_server: FaultServer) -> None:
    serve(fault_server, family, [ok(PIECES, usage=Usage(11, 7))])
    told = run(fault_server, family, manner)
    (attempt,) = told.attempts
    check(attempt, family, Usage(11, 7), estimated=False)
    assert told.response is not None
    assert (told.response.usage, told.response.cost) == (Usage(11, 7), attempt.cost)
    assert told.response.cost_details == attempt.cost_details


@every_family
def test_a_stream_that_was_cut(family: Family, fault_server: FaultServer) -> None:
    serve(fault_server, family, [faults.cut_mid_stream(2, text=PIECES)])
    told = run(fault_server, family, "text")
    first, second = told.attempts
    assert first.outcome == "interrupted"
    check(first, family, guessed(family, "one two "), estimated=True)
    check(second, other(family), Usage(5, 3), estimated=False)
    response = told.response
    assert response is not None
    assert first.usage is not None
    assert response.usage == first.usage + Usage(5, 3)
    assert response.usage.estimated
    details = response.cost_details
    assert details is not None
    assert response.cost == details.total == (first.cost or 0) + (second.cost or 0)
    assert (details.complete, details.estimated) == (True, True)


@every_family
@pytest.mark.parametrize("pieces", [0, 1], ids=["before the first piece", "after one"])
def test_a_stream_that_was_left(family: Family, pieces: int, fault_server: FaultServer) -> None:
    serve(fault_server, family, [faults.stall_mid_stream(pieces, text=PIECES)])
    found: list[Attempt] = []

    async def main() -> None:
        async with client(fault_server) as llm:
            llm.on_event(lambda event: found.append(event.attempt) if event.attempt is not None else None)
            if not pieces:
                task = asyncio.ensure_future(ask(llm, fault_server, family, "iterated", fallback=False))
                while not fault_server.requests:
                    await asyncio.sleep(0.001)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                return
            stream = await llm.query(MODELS[family], HI, stream=True)
            async for _piece in stream:
                break
            await stream.aclose()

    asyncio.run(main())
    (attempt,) = found
    assert attempt.outcome == "cancelled"
    text = "one " if pieces else ""
    check(attempt, family, guessed(family, text), estimated=True)


@every_family
@pytest.mark.parametrize(
    "lost", [faults.truncated_json(), faults.reset_after_headers(), faults.html_200()], ids=["cut", "reset", "html"]
)
def test_an_answer_that_was_lost(family: Family, lost: Any, fault_server: FaultServer) -> None:
    serve(fault_server, family, [lost, ok("whole", usage=Usage(11, 7))])
    told = run(fault_server, family, "plain")
    first, second = told.attempts
    check(first, family, guessed(family, ""), estimated=True)
    check(second, family, Usage(11, 7), estimated=False)
    assert told.response is not None
    assert told.response.cost == (first.cost or 0) + (second.cost or 0)


@every_family
@pytest.mark.parametrize("manner", ["plain", "iterated"])
@pytest.mark.parametrize("code", [400, 503])
def test_a_refusal(family: Family, manner: Any, code: int, fault_server: FaultServer) -> None:
    serve(fault_server, family, [status(code)])
    told = run(fault_server, family, manner)
    refused = [attempt for attempt in told.attempts if attempt.outcome == "error"]
    assert refused
    for attempt in refused:
        assert (attempt.usage, attempt.cost) == (None, 0)
        details = attempt.cost_details
        assert details is not None
        assert details.total == 0
        assert (details.complete, details.source) == (True, "nothing billed")
    if told.response is not None:
        served = told.attempts[-1]
        check(served, other(family), Usage(5, 3), estimated=False)
        assert (told.response.usage, told.response.cost) == (Usage(5, 3), served.cost)
    assert (told.response is None) == (code == 400)


@every_family
def test_an_answer_that_never_came(family: Family, fault_server: FaultServer) -> None:
    serve(fault_server, family, [hold()])
    told = run(fault_server, family, "plain", timeouts=Timeouts(total=0.3))
    *silent, served = told.attempts
    assert silent
    for attempt in silent:
        check(attempt, family, guessed(family, ""), estimated=True)
    check(served, other(family), Usage(5, 3), estimated=False)
