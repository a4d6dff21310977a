"""
The faults of the matrix in the four further families: what each comes to is what it comes to in the first two.

Where a family cannot but differ, ``OWN`` holds its own row, or None where the fault cannot be, and says why.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from support.asking import HI, KEYS, MODELS, PROVIDERS, Told, ask, client, other, requests_of, run, serve
from support.behaviours import ok
from support.bodies import ALL_FAMILIES, BEDROCK, COHERE, RESPONSES, Family
from support.bodies_families import FORMS
from support.event_stream import event, frame
from support.exchange import Behaviour, Exchange
from support.fault_server import FaultServer
from support.matrix import FLOODS, LIMITS, MANNERS, MORE, ROWS, Manner, Row, Way, gate
from test_fault_matrix import check_billing, check_flood, check_outcome, check_record, make

from llm_master import StreamInterrupted, Timeouts

every_family = pytest.mark.parametrize("family", list(FORMS))
every_manner = pytest.mark.parametrize("manner", MANNERS)

# How a header of a 429 is read has nothing to do with the family, and "for ever" is "once" three times.
_LIMITS = ("429, seconds", "429, RetryInfo", "429, an hour", "429, quota", "429, no hint")
CHOSEN = [
    row
    for row in (*ROWS, *MORE)
    if (not row.name.startswith("429") or row.name in _LIMITS) and not row.name.endswith("for ever")
]
BY_NAME = {row.name: row for row in CHOSEN}


def _quota(code: int) -> Row:
    row = BY_NAME["429, quota"]
    return dataclasses.replace(
        row,
        plain=dataclasses.replace(row.plain, status=code),
        stream=dataclasses.replace(row.stream, status=code),
    )


def _nameless() -> Row:
    """Words alone do not tell that an error in a good answer was a rate limit."""
    return dataclasses.replace(
        BY_NAME["a rate limit in 200"], plain=BY_NAME["an error object in 200"].plain, stream=_error_in_200
    )


_error_in_200: Way = BY_NAME["an error object in 200"].stream
OWN: dict[tuple[str, Family], Row | None] = {
    # Their errors have no details in which the wait could stand.
    ("429, RetryInfo", COHERE): None,
    ("429, RetryInfo", BEDROCK): None,
    # The status that they have for it.
    ("429, quota", COHERE): _quota(402),
    ("429, quota", BEDROCK): _quota(400),
    ("a rate limit in 200", COHERE): _nameless(),
    ("a rate limit in 200", BEDROCK): _nameless(),
    # A short plain body is full before the time is over, and no longer one without end.
    ("a chunk without end", COHERE): None,
    # See test_a_binary_message_without_end.
    ("a chunk without end", BEDROCK): None,
    # A run that has not ended is one in the background, and says so.
    ("missing terminal marker", RESPONSES): dataclasses.replace(BY_NAME["missing terminal marker"], finish="pause"),
    # There is no byte order mark and no line end in binary messages; the row splits their bytes all the same.
}


def row_for(row: Row, family: Family) -> Row | None:
    return OWN.get((row.name, family), row)


_MADE: dict[str, dict[tuple[Manner, Family], Future[tuple[Told, FaultServer]]]] = {}


def made(row: Row, manner: Manner, family: Family) -> tuple[Told, FaultServer]:
    """What one call came to; the calls of a row are made together by the first test that asks."""
    if row.name not in _MADE:
        with ThreadPoolExecutor(6) as pool:
            _MADE[row.name] = {
                (how, kind): pool.submit(make, own, how, kind, fallback=True)
                for how, kind in itertools.product(MANNERS, FORMS)
                if (own := row_for(row, kind)) is not None
            }
    return _MADE[row.name][manner, family].result()


CASES = [(row, family) for row in CHOSEN for family in FORMS if row_for(row, family) is not None]


@pytest.mark.parametrize(("row", "family"), CASES, ids=lambda value: getattr(value, "name", value))
@every_manner
def test_a_fault_ends_as_its_row_says(row: Row, manner: Manner, family: Family) -> None:
    told, server = made(row, manner, family)
    own = row_for(row, family)
    assert own is not None
    way = own.way(manner)
    check_outcome(told, own, manner)
    check_record(told.attempts, way, family, manner)
    check_billing(told, way)
    check_requests(server, own, way, family)
    assert told.left == 0, "a task outlived its client"
    assert not any(key in str(told.error or "") for key in KEYS.values())


def check_requests(server: FaultServer, row: Row, way: Way, family: Family) -> None:
    first, second = requests_of(server, family), requests_of(server, other(family))
    assert len(first) == (0 if row.refused else way.failures + (way.end == "first"))
    assert len(second) == (way.end == "second")
    assert len(server.requests) == len(first) + len(second)
    assert len({(seen.path, seen.body) for seen in first}) <= 1, "each attempt sends the same"
    assert {Exchange.family_of(seen.path) for seen in first} <= {family}
    for number, (before, after) in enumerate(itertools.pairwise(first)):
        assert after.time - before.time + 0.002 >= (row.gaps[number] if number < len(row.gaps) else 0)
    if way.connection == "reused" and not row.refused:
        assert server.connections.total == 1


# -- what is told of one family only, or has two right outcomes --------------------------------------------------------


@every_family
@every_manner
@pytest.mark.parametrize("flood", [each for _, each in FLOODS], ids=[name for name, _ in FLOODS])
def test_a_flood_is_left(
    flood: Behaviour, manner: Manner, family: Family, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_master.incoming.MAX_BODY", 1_000_000)
    check_flood(flood, manner, family, fault_server)


def _damaged(data: bytes) -> Behaviour:
    """A stream of Bedrock's whose end is these bytes."""

    async def behave(x: Exchange) -> None:
        await x.send(x.head(200, [("Content-Type", "application/vnd.amazon.eventstream")]))
        await x.chunk(event("messageStart", {"role": "assistant"}))
        await x.chunk(event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hello "}}))
        await gate(x)
        await x.chunk(data)
        await x.end()

    return behave


_MESSAGE = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "there"}})
_FLIPPED = bytearray(_MESSAGE)
_FLIPPED[-8] ^= 1


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (bytes(_FLIPPED), "ResponseError"),
        (b"data: {}\n\ndata: {}\n\n", "ResponseError"),
        (_MESSAGE[: len(_MESSAGE) // 2], "StreamInterrupted"),
        (frame({":message-type": "error", ":error-code": "InternalFailure"}, b""), "ServerError"),
    ],
    ids=["a flipped bit", "lines of text", "half a message", "an error without a type"],
)
def test_binary_messages_that_are_damaged_interrupt(data: bytes, error: str, fault_server: FaultServer) -> None:
    serve(fault_server, BEDROCK, [_damaged(data)])
    told = run(fault_server, BEDROCK, "iterated")
    assert isinstance(told.error, StreamInterrupted)
    assert told.given == ["Hello "]
    assert told.error.partial_text == "Hello "
    assert [(attempt.outcome, attempt.error) for attempt in told.attempts] == [("interrupted", error)]


async def endless_message(x: Exchange) -> None:
    """A message that grows by a byte every 10 ms and never ends."""
    whole = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "a" * 4000}})
    await x.chunk(whole[:100])
    for at in range(100, 3000):
        await x.hold(0.01)
        await x.chunk(whole[at : at + 1])


@pytest.mark.parametrize("manner", MANNERS[1:])
def test_a_binary_message_without_end(manner: Manner, fault_server: FaultServer) -> None:
    """Its bytes are no sign of life, as those of an endless line are none; silence ends it long before the deadline."""
    serve(fault_server, BEDROCK, [ok("Hello from the first.", middle=endless_message)])
    limits = Timeouts(total=20, first_token=0.3, idle=0.3)
    told = run(fault_server, BEDROCK, manner, timeouts=limits, closed=1, fallback=False, max_attempts=1)
    assert told.attempts[0].error == "APITimeoutError"
    assert len(requests_of(fault_server, BEDROCK)) == 1
    assert isinstance(told.error, StreamInterrupted)
    assert "silent for 0.3 s" in str(told.error)
    assert "Hello from the first.".startswith(told.error.partial_text)
    assert told.left == 0


async def slow_messages(x: Exchange) -> None:
    """Whole messages, each in two pieces and each well within the limit, over a time that is longer than it."""
    for _ in range(8):
        whole = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "."}})
        await x.chunk(whole[:7])
        await x.hold(0.06)
        await x.chunk(whole[7:])


def test_binary_messages_that_come_slowly(fault_server: FaultServer) -> None:
    """Every message that ends is a sign of life."""
    serve(fault_server, BEDROCK, [ok("Hello from the first.", middle=slow_messages)])
    told = run(fault_server, BEDROCK, "iterated", timeouts=Timeouts(total=20, first_token=20, idle=0.4))
    assert told.error is None
    assert told.response is not None
    assert told.response.content.count(".") == 9


@every_family
def test_an_error_names_who_and_is_of_one_line(family: Family, fault_server: FaultServer) -> None:
    """Of every row that no retry cures, asked without a fallback."""
    rows = [
        own
        for row in CHOSEN
        if row.plain.end == "second" and row.timeouts is not LIMITS and not row.refused
        if (own := row_for(row, family)) is not None
    ]
    assert len(rows) > 10

    async def main() -> None:
        for row in rows:
            async with client(fault_server) as llm:
                serve(fault_server, family, row.script)
                told = await ask(llm, fault_server, family, "plain", fallback=False)
            assert told.error is not None, row.name
            text = str(told.error)
            assert type(told.error).__name__ in row.plain.errors(family)
            assert PROVIDERS[family] in text
            assert MODELS[family].partition("/")[2] in text
            assert "\n" not in text
            assert KEYS[family] not in text + repr(told.error.__dict__)

    asyncio.run(main())


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(ALL_FAMILIES, 2)))
def test_any_family_stands_in_for_any_other(first: Family, second: Family, fault_server: FaultServer) -> None:
    """A stream that an error ends goes on as another family's, and nothing of the first is left in the text."""
    fault_server.route(f"/{PROVIDERS[first]}/", [ok("It breaks", middle=_cut)])
    fault_server.route(f"/{PROVIDERS[second]}/", [ok("It is whole.")])

    async def main() -> None:
        urls = {name: f"{fault_server.url}/{name}" for name in PROVIDERS.values()}
        async with client(fault_server, base_urls=urls) as llm:
            options: dict[str, Any] = {"max_attempts": 1, "fallback_model": MODELS[second]}
            stream: Any = await llm.query(MODELS[first], HI, stream=True, **options)
            fault_server.release()
            assert await stream.text() == "It is whole."
            told = [(attempt.provider, attempt.outcome) for attempt in stream.response.attempts]
            assert told == [(PROVIDERS[first], "interrupted"), (PROVIDERS[second], "ok")]

    asyncio.run(main())


async def _cut(x: Exchange) -> None:
    await gate(x)
    x.close()
