"""
Every fault, in both families, plain and streamed, with one fallback: what the call comes to, and how it behaves.

The faults and what is expected of them stand in ``support/matrix.py``.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from support import faults
from support.asking import (
    HI,
    KEYS,
    MODELS,
    PROVIDERS,
    Told,
    ask,
    client,
    key_id,
    other,
    requests_of,
    run,
    serve,
    tasks_left,
)
from support.behaviours import close, ok, quota_429, rate_limited, reset, silence, status
from support.bodies import FAMILIES, Family
from support.exchange import Behaviour, Exchange
from support.fault_server import FaultServer, refused_url
from support.matrix import FALLBACK, FLOODS, LIMITS, MANNERS, MORE, ROWS, Manner, Row, Way, gate, gated

from llm_master import Attempt, ProviderError, StreamInterrupted, Timeouts, Usage

both_families = pytest.mark.parametrize("family", FAMILIES)
every_manner = pytest.mark.parametrize("manner", MANNERS)
# A timer may fire this much early, and two clocks are read one after the other.
EARLY = 0.002
# Without a fallback nothing has to be left of the time.
SHORT = Timeouts(total=0.3, first_token=0.15, idle=0.15)
WHOLE = "Hello from the other side."


@pytest.fixture
def dead_url() -> Iterator[str]:
    with refused_url() as url:
        yield url


# What became of a row's calls, by row and whether they had a fallback. They are made by the first test that asks, all
# at once, each with a server, a thread and a loop of its own: most of their time is spent waiting.
_MADE: dict[tuple[str, bool], dict[tuple[Manner, Family], Future[tuple[Told, FaultServer]]]] = {}


def made(row: Row, manner: Manner, family: Family, *, fallback: bool = True) -> tuple[Told, FaultServer]:
    """What one call came to, and the server that it met, which has stopped by now."""
    if (row.name, fallback) not in _MADE:
        manners = MANNERS if fallback else MANNERS[:2]
        with ThreadPoolExecutor(6) as pool:
            _MADE[row.name, fallback] = {
                (how, kind): pool.submit(make, row, how, kind, fallback=fallback)
                for how, kind in itertools.product(manners, FAMILIES)
            }
    return _MADE[row.name, fallback][manner, family].result()


def make(row: Row, manner: Manner, family: Family, *, fallback: bool) -> tuple[Told, FaultServer]:
    way = row.way(manner)
    with FaultServer() as server, refused_url() as dead:
        serve(server, family, row.script)
        told = run(
            server,
            family,
            manner,
            timeouts=row.timeouts if fallback or row.timeouts is not LIMITS else SHORT,
            closed=way.failures if way.connection == "closed" else 0,
            base_urls={PROVIDERS[family]: dead} if row.refused else None,
            fallback=fallback,
            temperature=0.25,
        )
        server.wait_no_connections()
    return told, server


# -- outcome and conduct ---------------------------------------------------------------------------------------------


@both_families
@every_manner
@pytest.mark.parametrize("row", [*ROWS, *MORE], ids=lambda row: row.name)
def test_a_fault_ends_as_its_row_says(row: Row, manner: Manner, family: Family) -> None:
    told, server = made(row, manner, family)
    way = row.way(manner)
    check_outcome(told, row, manner)
    check_record(told.attempts, way, family, manner)
    check_billing(told, way)
    check_requests(server, told, row, way, family)
    assert told.left == 0, "a task outlived its client"


def check_outcome(told: Told, row: Row, manner: Manner) -> None:
    way = row.way(manner)
    if way.end == "interrupted":
        assert isinstance(told.error, StreamInterrupted), told.text
        assert told.error.partial_text == "".join(told.given), "the partial text is what the caller got"
        assert told.error.partial_text
        assert told.error.partial is not None
        assert told.error.partial.content == told.error.partial_text
    else:
        assert told.error is None
        assert told.response is not None
        assert told.text == told.response.content == row.answer(manner)
        expected = row.finish if way.end == "first" else "stop"
        assert told.response.finish_reason == expected


def check_record(attempts: tuple[Attempt, ...], way: Way, family: Family, manner: Manner) -> None:
    """Each attempt: who, with which key, how it ended, and how long was waited before it and why."""
    failed = attempts[: way.failures]
    assert len(attempts) == way.failures + (way.end != "interrupted")
    for number, attempt in enumerate(failed):
        late = manner != "plain" and (way.end == "interrupted" or number == way.failures - 1)
        assert attempt.outcome in ({"error", "interrupted"} if late else {"error"})
        assert attempt.status_code in way.statuses
        assert attempt.error in way.errors(family)
    if way.end == "interrupted":
        assert attempts[-1].outcome == "interrupted"
    else:
        last = attempts[-1]
        assert (last.outcome, last.status_code, last.error, last.error_code) == ("ok", 200, None, None)
    for number, attempt in enumerate(attempts):
        who = other(family) if way.end == "second" and number == way.failures else family
        assert (attempt.provider, attempt.key_id) == (PROVIDERS[who], key_id(who))
        again = number > 0 and attempts[number - 1].provider == attempt.provider
        assert attempt.wait_reason == ("retry" if again else None)
        assert (attempt.waited > 0) == again
    for before, after in itertools.pairwise(attempts):
        assert after.started + EARLY >= before.started + before.latency + after.waited


def check_billing(told: Told, way: Way) -> None:
    """The tokens of the call are those of its attempts; what a failure used is marked as estimated."""
    used = [attempt.usage for attempt in told.attempts if attempt.usage is not None]
    for attempt in told.attempts:
        if attempt.outcome == "ok":
            assert told.response is not None
            assert attempt.usage == (Usage(5, 3) if way.end == "second" else Usage(11, 7))
            assert told.response.usage == sum(used[1:], used[0])
        else:
            assert attempt.usage is None or (attempt.usage.estimated and attempt.usage.input_tokens > 0)
            if attempt.outcome == "error" and attempt.status_code is not None and attempt.status_code >= 400:
                assert attempt.usage is None, "a refusal bills nothing"


def check_requests(server: FaultServer, told: Told, row: Row, way: Way, family: Family) -> None:
    """As many as there were attempts, the same each time, never sooner than the server asked and the record says."""
    first, second = requests_of(server, family), requests_of(server, other(family))
    assert len(server.requests) == len(first) + len(second)
    assert len(second) == (way.end == "second")
    assert len(first) == (0 if row.refused else way.failures + (way.end == "first"))
    assert len({seen.body for seen in first}) <= 1
    for number, (before, after) in enumerate(itertools.pairwise(first)):
        waited = told.attempts[number + 1].waited
        assert after.time - before.time + EARLY >= waited
        asked = row.gaps[number] if number < len(row.gaps) else 0
        assert after.time - before.time + EARLY >= asked
        # The wait begins when the answer has been read, a moment later than the server wrote it.
        assert waited >= asked / 2
    for seen in first:
        assert seen.json["temperature"] == 0.25
    for seen in second:
        assert "temperature" not in seen.json, "a fallback gets its own parameters only"
        assert seen.json["messages"] == HI
    if way.connection == "reused" and not row.refused:
        assert server.connections.total == 1


@both_families
@pytest.mark.parametrize("manner", ["plain", "iterated"])
@pytest.mark.parametrize("row", [row for row in ROWS if row.plain.end == "second"], ids=lambda row: row.name)
def test_without_a_fallback_the_error_says_it_all(row: Row, manner: Manner, family: Family) -> None:
    told, server = made(row, manner, family, fallback=False)
    way = row.way(manner)
    error = told.error
    assert isinstance(error, ProviderError)
    assert len(error.attempts) == way.failures
    expected = ("StreamInterrupted",) if way.end == "interrupted" else way.errors(family)
    assert type(error).__name__ in expected
    assert (error.provider, error.model) == (PROVIDERS[family], MODELS[family].partition("/")[2])
    text = str(error)
    assert PROVIDERS[family] in text
    assert repr(error.model) in text
    assert "\n" not in text
    assert len(text) < 800
    assert KEYS[family] not in repr(error.__dict__) + text
    assert requests_of(server, other(family)) == []
    assert told.left == 0


# -- the headline ------------------------------------------------------------------------------------------------------

SIXTEEN: list[tuple[str, list[Behaviour]]] = [
    ("a rate limit with its wait", [rate_limited("0.2"), ok(WHOLE)]),
    ("a rate limit for an hour", [rate_limited("3600")]),
    ("no money left", [quota_429()]),
    ("one server error", [status(500), ok(WHOLE)]),
    ("an outage", [status(503)]),
    ("overloaded", [status(529)]),
    ("a port that refuses", []),
    ("a reset before the answer", [reset]),
    ("accepted and silent", [silence]),
    ("no first token", [faults.slow_first_token()]),
    ("a stream that stalls", [ok(WHOLE, middle=silence)]),
    ("a stream that is cut", [ok(WHOLE, middle=gated(close))]),
    ("a stream without its end", [faults.missing_terminal_marker(middle=gate)]),
    ("an error in the stream", [faults.error_in_stream(after=2, middle=gate)]),
    ("a page of HTML with 200", [faults.html_200()]),
    ("an answer with no choices", [faults.empty_choices()]),
]


@both_families
@every_manner
def test_sixteen_classic_faults_end_in_the_whole_answer_or_a_clear_error(
    manner: Manner, family: Family, fault_server: FaultServer, dead_url: str
) -> None:
    """All sixteen at once, each with a client of its own: with a fallback nothing is lost and nothing hangs."""
    assert len(SIXTEEN) == 16

    async def one(number: int, script: list[Behaviour]) -> Told:
        prefix = f"/fault{number}"
        serve(fault_server, family, script or [ok(WHOLE)], prefix)
        urls = {} if script else {PROVIDERS[family]: dead_url}
        async with client(fault_server, prefix, timeouts=LIMITS, base_urls=urls) as llm:
            return await ask(llm, fault_server, family, manner)

    async def main() -> list[Told]:
        told = await asyncio.gather(*(one(number, script) for number, (_, script) in enumerate(SIXTEEN)))
        assert await tasks_left() == 0
        return told

    all_told = asyncio.run(main())
    failures = {}
    for (name, _), told in zip(SIXTEEN, all_told, strict=True):
        if told.error is not None:
            clear = (
                manner == "iterated"
                and isinstance(told.error, StreamInterrupted)
                and told.error.partial_text == "".join(told.given) != ""
                and WHOLE.startswith(told.error.partial_text)
            )
        else:
            clear = told.text in (WHOLE, FALLBACK.answer.text)
        if not (clear and told.attempts):
            failures[name] = told
    assert failures == {}
    fault_server.wait_no_connections()


# -- where two outcomes are right --------------------------------------------------------------------------------------


@both_families
@every_manner
def test_a_malformed_chunk_costs_no_text(manner: Manner, family: Family, fault_server: FaultServer) -> None:
    serve(fault_server, family, [faults.malformed_chunk(middle=gate, after=1)])
    told = run(fault_server, family, manner)
    assert told.response is not None, told.error
    if manner == "iterated":
        # The stream went on correctly: the chunk is skipped, and noted.
        assert len(fault_server.requests) == 1
        assert told.text == WHOLE
        assert any("malformed" in note for note in told.response.notes)
    else:
        assert told.text in (WHOLE, FALLBACK.answer.text)
    assert told.attempts[-1].outcome == "ok"


def check_flood(flood: Behaviour, manner: Manner, family: Family, server: FaultServer) -> None:
    """An iteration has been given text by then, or has not: that is up to the size of the packets."""
    serve(server, family, [flood])
    told = run(server, family, manner, closed=1)
    assert len(requests_of(server, family)) == 1
    assert (told.attempts[0].error, told.attempts[0].outcome == "interrupted") in {
        ("ResponseTooLargeError", False),
        ("ResponseTooLargeError", manner != "plain"),
    }
    if told.error is None:
        assert told.text == FALLBACK.answer.text
        assert len(told.attempts) == 2
    else:
        assert manner == "iterated"
        assert isinstance(told.error, StreamInterrupted)
        assert told.error.partial_text == "".join(told.given) != ""
        assert len(told.error.partial_text) <= 1_000_000
    assert told.left == 0
    server.wait_no_connections()


@both_families
@every_manner
@pytest.mark.parametrize("flood", [each for _, each in FLOODS], ids=[name for name, _ in FLOODS])
def test_a_flood_is_left(
    flood: Behaviour, manner: Manner, family: Family, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_master.incoming.MAX_BODY", 1_000_000)
    check_flood(flood, manner, family, fault_server)


@both_families
@every_manner
def test_bytes_that_are_no_utf8_cost_no_text(manner: Manner, family: Family, fault_server: FaultServer) -> None:
    serve(fault_server, family, [faults.invalid_utf8(middle=gate)])
    told = run(fault_server, family, manner)
    if told.error is None:
        assert told.text in ("bad \ufffd\ufffd bytes", FALLBACK.answer.text)
    else:
        assert manner == "iterated"
        assert isinstance(told.error, StreamInterrupted)
        assert told.error.partial_text == "bad "


@both_families
@pytest.mark.parametrize("manner", MANNERS)
def test_when_both_requests_of_a_hedge_fail_the_error_tells_of_both(
    manner: Manner, family: Family, fault_server: FaultServer
) -> None:
    async def fail_later(x: Exchange) -> None:
        await x.hold()
        await status(500)(x)

    serve(fault_server, family, [fail_later])

    async def main() -> Told:
        failed = asyncio.Event()
        async with client(fault_server) as llm:
            llm.on_event(lambda event: failed.set() if event.name == "attempt" else None)
            task = asyncio.create_task(
                ask(llm, fault_server, family, manner, fallback=False, hedge_after=0.01, max_attempts=1, timeout=30)
            )
            await asyncio.to_thread(fault_server.wait_held, 2)
            fault_server.release(1)
            await failed.wait()
            fault_server.release()
            return await task

    told = asyncio.run(main())
    assert type(told.error).__name__ == "ServerError"
    assert len(fault_server.requests) == 2
    assert [attempt.outcome for attempt in told.attempts] == ["error", "error"]


# -- up again ---------------------------------------------------------------------------------------------------------


@both_families
def test_a_port_that_comes_back_gets_its_calls_back(family: Family, fault_server: FaultServer) -> None:
    """Refused, then up: the first target answers again without anybody's help."""
    with FaultServer() as first:
        first.down()
        serve(fault_server, family, [ok("never asked")])

        async def main() -> tuple[Told, Told]:
            async with client(fault_server, base_urls={PROVIDERS[family]: first.url}, timeouts=LIMITS) as llm:
                before = await ask(llm, fault_server, family, "plain")
                first.up()
                while True:
                    # A breaker may keep the first target out for a moment; each call is answered meanwhile.
                    after = await ask(llm, fault_server, family, "plain")
                    if after.attempts[-1].provider == PROVIDERS[family]:
                        return before, after
                    assert after.text == FALLBACK.answer.text
                    await asyncio.sleep(0.02)

        before, after = asyncio.run(asyncio.wait_for(main(), 20))
        assert before.text == FALLBACK.answer.text
        assert before.attempts[0].error == "APIConnectionError"
        assert after.text == WHOLE
        assert len(first.requests) == 1
