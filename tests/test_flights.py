"""
Single flight: equal requests at one time make one upstream call, and what happens to one caller is not the others'.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_scenarios import STREAMED, dialect_of, request_of, sent

from llm_master.classes import Attempt, LLMResponse, ToolCall, Usage
from llm_master.errors import (
    APITimeoutError,
    ConfigurationError,
    DeadlineExceededError,
    LLMError,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamInterrupted,
)
from llm_master.events import (
    EndEvent,
    ReasoningEvent,
    StreamEvent,
    TextEvent,
    ToolCallDeltaEvent,
    ToolCallEvent,
    UsageEvent,
)
from llm_master.flights import Flights, Replay
from llm_master.policy.cache import is_cacheable
from llm_master.stream import LLMStream, StreamSource
from llm_master.wire import openai_chat


def answer(text: str = "hi", **fields: Any) -> LLMResponse:
    return LLMResponse(
        text,
        "m",
        Usage(1, 2),
        2.5,
        tool_calls=[ToolCall("c", "f", {"x": [1]})],
        attempts=(Attempt("p", "m", usage=Usage(1, 2)),),
        reported_cost=Decimal("0.5"),
        **fields,
    )


async def settle() -> None:
    """Let everything happen that needs no news from outside."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(main: Callable[[Flights], Awaitable[Any]]) -> Any:
    """Run a coroutine with flights; at its end no task, and nothing under way, is left."""
    flights = Flights()

    async def whole() -> Any:
        result = await main(flights)
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        here = flights._here()
        assert (here.whole, here.opening, here.streams) == ({}, {}, {})
        return result

    return asyncio.run(whole())


class Upstream:
    """A provider that answers when it is told to, and counts."""

    def __init__(self) -> None:
        self.open: list[asyncio.Future[Any]] = []
        self.calls = 0

    async def __call__(self) -> Any:
        self.calls += 1
        future = asyncio.get_running_loop().create_future()
        self.open.append(future)
        try:
            return unpacked(await future)
        finally:
            self.open.remove(future)

    def give(self, result: Any) -> None:
        self.open[0].set_result([result])


def unpacked(box: list[Any]) -> Any:
    """What is in a box, or raised from it; nothing here holds an error then."""
    if isinstance(box[0], BaseException):
        raise box.pop()
    return box.pop()


# -- whole answers ----------------------------------------------------------------------------------------------------


def test_a_hundred_equal_requests_make_one_call() -> None:
    async def main(flights: Flights) -> None:
        upstream = Upstream()
        tasks = [asyncio.create_task(flights.whole("k", upstream)) for _ in range(100)]
        await settle()
        original = answer()
        upstream.give(original)
        found = await asyncio.gather(*tasks)
        assert upstream.calls == 1
        assert found[0] is original
        assert [each.cached for each in found] == [False] + [True] * 99
        assert sum(each.cost for each in found) == Decimal("0.5")
        for each in found[1:]:
            assert (each.content, each.usage, each.attempts, each.latency) == ("hi", Usage(1, 2), (), 0.0)
        changed = found[1]
        changed.tool_calls[0].arguments["x"].append(2)
        changed.usage.input_tokens = 9
        assert all(each.tool_calls[0].arguments == {"x": [1]} for each in (found[0], *found[2:]))
        assert all(each.usage.input_tokens == 1 for each in (found[0], *found[2:]))

    run(main)


def test_what_the_leader_does_with_its_answer_is_its_own() -> None:
    async def main(flights: Flights) -> None:
        upstream = Upstream()

        async def lead() -> None:
            response = await flights.whole("k", upstream)
            response.content = "changed"
            response.tool_calls.clear()

        tasks = [asyncio.create_task(lead()), asyncio.create_task(flights.whole("k", upstream))]
        await settle()
        upstream.give(answer())
        found = (await asyncio.gather(*tasks))[1]
        assert (found.content, len(found.tool_calls)) == ("hi", 1)

    run(main)


def test_other_requests_and_later_ones_make_calls_of_their_own() -> None:
    async def main(flights: Flights) -> None:
        one, two = Upstream(), Upstream()
        tasks = [asyncio.create_task(flights.whole("a", one)), asyncio.create_task(flights.whole("b", two))]
        await settle()
        one.give(answer("one"))
        two.give(answer("two"))
        assert [each.content for each in await asyncio.gather(*tasks)] == ["one", "two"]
        later = asyncio.create_task(flights.whole("a", one))
        await settle()
        one.give(answer("later"))
        assert ((await later).content, (await later).cached, one.calls) == ("later", False, 2)

    run(main)


def test_each_loop_makes_its_own() -> None:
    flights, together = Flights(), threading.Barrier(3)
    found: list[bool] = []

    async def work() -> None:
        async def make() -> LLMResponse:
            await asyncio.to_thread(together.wait, 60)  # all three are under way at once
            return answer()

        found.append((await flights.whole("k", make)).cached)

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [False] * 3
    gc.collect()
    assert len(flights._loops) == 0


def test_a_cancelled_leader_is_followed_by_one_other() -> None:
    async def main(flights: Flights) -> None:
        upstream = Upstream()
        tasks = [asyncio.create_task(flights.whole("k", upstream)) for _ in range(100)]
        await settle()
        for task in (tasks[0], tasks[1]):
            task.cancel()
            await settle()
        assert (upstream.calls, len(upstream.open)) == (3, 1)
        upstream.give(answer())
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in found[:2]] == [asyncio.CancelledError] * 2
        assert [each.cached for each in found[2:]] == [False] + [True] * 97
        assert upstream.calls == 3

    run(main)


@pytest.mark.parametrize(
    "error",
    [
        APITimeoutError("slow", provider="p"),
        DeadlineExceededError("over"),
        RateLimitError("no room", code="local_rate_limit"),
        ZeroDivisionError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_the_leaders_own_trouble_makes_a_follower_try(error: Exception) -> None:
    async def main(flights: Flights) -> None:
        upstream = Upstream()
        tasks = [asyncio.create_task(flights.whole("k", upstream)) for _ in range(5)]
        await settle()
        upstream.give(error)
        await settle()
        assert (upstream.calls, len(upstream.open)) == (2, 1)
        upstream.give(answer())
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert found[0] is error
        assert [each.cached for each in found[1:]] == [False, True, True, True]

    run(main)


class Odd(ProviderError):
    def __init__(self, first: str, second: Any) -> None:
        super().__init__(first, provider="p")
        self.second = second


def caused() -> ServerError:
    error = ServerError("bad", provider="p", model="m", status_code=503, retry_after=2.0, request_id="r")
    error.attempts = (Attempt("p", "m", usage=Usage(1, 1)),)
    error.__cause__ = ValueError("why")
    return error


@pytest.mark.parametrize(
    "error",
    [
        caused(),
        Odd("odd", {"a": 1}),
        RateLimitError("fast", code="rate_limit_exceeded"),
        ConfigurationError("no address"),
        StreamInterrupted("cut", partial_text="par", partial=answer("par"), provider="p"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_other_error_is_for_all(error: LLMError) -> None:
    async def main(flights: Flights) -> None:
        upstream = Upstream()
        tasks = [asyncio.create_task(flights.whole("k", upstream)) for _ in range(4)]
        await settle()
        upstream.give(error)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert upstream.calls == 1
        assert found[0] is error
        assert len({id(each) for each in found}) == 4
        for each in found[1:]:
            assert (type(each), str(each), each.__cause__) == (type(error), str(error), error.__cause__)
            assert vars(each).keys() == vars(error).keys()
            same = {name for name in vars(each) if name != "partial"}
            assert {name: vars(each)[name] for name in same} == {name: vars(error)[name] for name in same}
        first, second = found[1:3]
        if getattr(error, "attempts", ()):
            first.attempts[0].outcome = first.attempts[0].usage.input_tokens = 77
            assert (second.attempts[0].outcome, error.attempts[0].usage.input_tokens) == ("ok", 1)
        if isinstance(error, StreamInterrupted):
            partial = second.partial
            assert (partial.content, partial.cached, partial.cost, partial.attempts) == ("par", True, 0, ())
            first.partial.tool_calls.clear()
            assert len(partial.tool_calls) == len(error.partial.tool_calls) == 1
        assert first.__traceback__ is not None
        depth = len(list(frames(second)))
        with contextlib.suppress(LLMError):
            raise first
        assert len(list(frames(second))) == depth

    run(main)


def frames(error: BaseException) -> Iterator[Any]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def test_a_follower_that_goes_takes_nobody_with_it() -> None:
    async def main(flights: Flights) -> None:
        upstream = Upstream()

        async def impatient() -> LLMResponse:
            async with asyncio.timeout(0):
                return await flights.whole("k", upstream)

        leader = asyncio.create_task(flights.whole("k", upstream))
        await settle()
        cancelled = asyncio.create_task(flights.whole("k", upstream))
        late = asyncio.create_task(impatient())
        stays = asyncio.create_task(flights.whole("k", upstream))
        await settle()
        cancelled.cancel()
        found = await asyncio.gather(cancelled, late, return_exceptions=True)
        assert [type(each) for each in found] == [asyncio.CancelledError, TimeoutError]
        assert (leader.done(), stays.done(), upstream.calls) == (False, False, 1)
        upstream.give(answer())
        assert [(await leader).cached, (await stays).cached, upstream.calls] == [False, True, 1]

    run(main)


steps = st.lists(
    st.one_of(
        st.just(("call",)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("end"), st.sampled_from(["answer", "error", "timeout", "bug"])),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_every_caller_has_one_outcome_and_never_two_calls_run(program: list[tuple[Any, ...]]) -> None:
    outcomes = {"answer": answer(), "error": ServerError("bad"), "timeout": APITimeoutError("slow"), "bug": KeyError(1)}

    async def main(flights: Flights) -> None:
        upstream, tasks = Upstream(), []
        cancelled: set[Any] = set()
        shared = 0  # callers that an outcome was for
        for name, *arguments in program:
            waiting = [task for task in tasks if not task.done()]
            if name == "call":
                tasks.append(asyncio.create_task(flights.whole("k", upstream)))
            elif name == "cancel" and waiting:
                cancelled.add(waiting[arguments[0] % len(waiting)])
                waiting[arguments[0] % len(waiting)].cancel()
            elif name == "end" and waiting:
                upstream.give(outcomes[arguments[0]])
                shared += len(waiting) if arguments[0] in ("answer", "error") else 1
            await settle()
            left = [task for task in tasks if not task.done()]
            assert len(upstream.open) == (1 if left else 0)
            assert len(tasks) - len(left) == shared + len(cancelled)
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        answers = [each for each in found if isinstance(each, LLMResponse)]
        assert sum(not each.cached for each in answers) <= upstream.calls

    run(main)


# -- streams ----------------------------------------------------------------------------------------------------------


class Source(StreamSource):
    """An upstream stream whose pieces come when a test says so."""

    def __init__(self, first: Any = ()) -> None:
        self.batch = first
        self.abandoned = 0
        self.reads = 0
        self._news: asyncio.Queue[Any] = asyncio.Queue()

    def give(self, *news: Any) -> None:
        for each in news:
            self._news.put_nowait(each)

    async def advance(self) -> bool:
        self.reads += 1
        news = unpacked([await self._news.get()])
        if isinstance(news, LLMResponse):
            self.batch, self.response = (), news
            return False
        self.batch = news
        return True

    def abandon(self) -> None:
        self.abandoned += 1


class Opener:
    """Gives one source a call, or raises."""

    def __init__(self, *sources: Any) -> None:
        self.left = list(sources)
        self.calls = 0

    async def __call__(self) -> Any:
        self.calls += 1
        await asyncio.sleep(0)
        return unpacked([self.left.pop(0)])


async def pieces(source: StreamSource) -> list[Any]:
    """Every batch of a source to its end, which it is left at."""
    found = [list(source.batch)] if source.batch else []
    try:
        while await source.advance():
            found.append(list(source.batch))
    finally:
        source.abandon()
    return found


def test_a_hundred_equal_streams_make_one_call() -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a", "b"])
        opens = Opener(source)
        readers = await asyncio.gather(*(flights.stream("k", opens) for _ in range(100)))
        tasks = [asyncio.create_task(pieces(reader)) for reader in readers]
        source.give(["c"], [ReasoningEvent("hm"), "d"], answer("abcd"))
        expected = [["a", "b"], ["c"], [ReasoningEvent("hm"), "d"]]
        assert await asyncio.gather(*tasks) == [expected] * 100
        assert (opens.calls, source.reads) == (1, 3)
        responses = [reader.response for reader in readers]
        assert [each.cached for each in responses] == [False] + [True] * 99
        assert sum(each.cost for each in responses) == Decimal("0.5")
        assert [len(each.attempts) for each in responses] == [1] + [0] * 99
        assert len({id(each) for each in responses}) == 100
        responses[0].tool_calls.clear()
        responses[1].usage.input_tokens = 9
        assert (len(responses[2].tool_calls), responses[2].usage.input_tokens) == (1, 1)

    run(main)


def begun(reader: StreamSource) -> list[Any]:
    return [list(reader.batch)] if reader.batch else []


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", ReasoningEvent("r")]), max_size=3), max_size=6),
    st.lists(st.one_of(st.sampled_from(["give", "join"]), st.integers(0, 3)), max_size=30),
    st.booleans(),
)
def test_every_reader_gets_every_batch_whenever_it_comes_and_however_it_reads(
    batches: list[list[Any]], program: list[Any], whole: bool
) -> None:
    async def main(flights: Flights) -> None:
        source, rest = Source(batches[0] if batches else ()), list(batches[1:])
        readers = [await flights.stream("k", Opener(source))]
        found = [begun(readers[0])]
        for step in program:
            if step == "give" and rest:
                source.give(rest.pop(0))
            elif step == "join":
                readers.append(await flights.stream("k", Opener()))
                found.append(begun(readers[-1]))
            elif isinstance(step, int) and step < len(readers):
                here = sum(map(bool, batches[: len(batches) - len(rest)]))
                if len(found[step]) < here:
                    assert await readers[step].advance()
                    found[step].append(list(readers[step].batch))
            await settle()
        source.give(*rest, answer() if whole else ServerError("cut"))
        for reader, before in zip(readers, found, strict=True):
            with contextlib.nullcontext() if whole else pytest.raises(ServerError):
                while await reader.advance():
                    before.append(list(reader.batch))
            assert before == [batch for batch in batches if batch]

    run(main)


def test_leaving_early_stops_nobody_but_the_last() -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a"])
        first, second, third = [await flights.stream("k", Opener(source)) for _ in range(3)]
        first.abandon()
        first.abandon()
        assert source.abandoned == 0
        source.give(["b"])
        assert await second.advance()
        second.abandon()
        assert source.abandoned == 0
        source.give(["c"])
        assert [await third.advance(), list(third.batch)] == [True, ["b"]]
        third.abandon()
        assert source.abandoned == 1, "at once"
        with pytest.raises(LLMError, match="left before its end"):
            await third.advance()
        again = Source(["x"])
        fresh = await flights.stream("k", Opener(again))
        await settle()
        assert (list(fresh.batch), source.abandoned >= 1, again.abandoned) == (["x"], True, 0)
        again.give(answer("x"))
        assert await pieces(fresh) == [["x"]]
        assert fresh.response.cached is False

    run(main)


class Wire(StreamSource):
    """Lines from a real connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def advance(self) -> bool:
        line = await self._reader.readline()
        if not line:
            raise ServerError("cut")
        if line == b"end\n":
            self.response = answer("whole")
            return False
        self.batch = [line.decode().strip()]
        return True

    def abandon(self) -> None:
        self._writer.close()


def test_the_connection_is_closed_when_the_last_reader_leaves() -> None:
    async def main(flights: Flights) -> None:
        closed, connections = asyncio.Event(), []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            writer.write(b"one\ntwo\n")
            assert await reader.read() == b""
            closed.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)

        async def opens() -> StreamSource:
            return Wire(*await asyncio.open_connection(*server.sockets[0].getsockname()))

        streams = [LLMStream(await flights.stream("k", opens)) for _ in range(5)]
        for stream in streams:
            texts = [text async for _, text in atake(stream, 2)]
            assert texts == ["one", "two"]
            assert closed.is_set() is False
            if stream is not streams[-1]:
                await stream.aclose()
        await streams[-1].aclose()
        await asyncio.wait_for(closed.wait(), 60)
        assert len(connections) == 1
        server.close()
        await server.wait_closed()

    run(main)


async def atake(stream: LLMStream, count: int) -> Any:
    """The first texts of a stream that is not left after them."""
    source = stream._source
    for number in range(count):
        if number or not source.batch:
            await source.advance()
        yield number, source.batch[0]


def test_an_error_reaches_every_reader_after_what_it_has() -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a"])
        readers = [await flights.stream("k", Opener(source)) for _ in range(3)]
        error = StreamInterrupted("cut", partial_text="ab", partial=answer("ab"), provider="p")
        error.attempts = (Attempt("p", "m"),)
        source.give(["b"], error)
        await settle()
        found = []
        for reader in readers:
            assert list(reader.batch) == ["a"]
            assert [await reader.advance(), list(reader.batch)] == [True, ["b"]]
            with pytest.raises(StreamInterrupted) as caught:
                await reader.advance()
            found.append(caught.value)
        assert len({id(each) for each in (error, *found)}) == 4
        assert {(str(each), each.partial_text, each.provider, each.attempts) for each in map(hashable, found)} == {
            ("cut", "ab", "p", "('p', 'm')")
        }
        assert [(each.partial.cached, each.partial.cost) for each in found] == [
            (False, Decimal("0.5")),
            (True, 0),
            (True, 0),
        ]
        assert source.abandoned >= 1
        assert flights._here().streams == {}

    run(main)


def hashable(error: StreamInterrupted) -> Any:
    made = StreamInterrupted(str(error), partial_text=error.partial_text, provider=error.provider)
    made.attempts = str(*((each.provider, each.model) for each in error.attempts))
    return made


def test_an_error_that_is_not_ours_is_handed_on_as_it_is() -> None:
    async def main(flights: Flights) -> None:
        source, error = Source(), KeyError("a generator's own")
        readers = [await flights.stream("k", Opener(source)) for _ in range(2)]
        source.give(error)
        for reader in readers:
            with pytest.raises(KeyError) as caught:
                await pieces(reader)
            assert caught.value is error
            names = [frame.f_code.co_name for frame in frames(error)]
            assert ("unpacked" in names, "_read" in names) == (True, False)

    run(main)


def test_the_answer_that_cost_is_the_first_readers_or_the_next_ones() -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a"])
        readers = [await flights.stream("k", Opener(source)) for _ in range(4)]
        readers[0].abandon()
        source.give(answer())
        await settle()
        readers[1].abandon()
        assert [await reader.advance() for reader in readers[2:]] == [False, False]
        assert [reader.response.cached for reader in readers[2:]] == [True, True]
        source = Source(["a"])
        readers = [await flights.stream("k", Opener(source)) for _ in range(4)]
        readers[0].abandon()
        readers[2].abandon()
        source.give(answer())
        assert await readers[1].advance() is False
        readers[1].response.tool_calls.clear()
        assert await readers[3].advance() is False
        assert len(readers[3].response.tool_calls) == 1
        assert [readers[number].response.cached for number in (1, 3)] == [False, True]

    run(main)


@pytest.mark.parametrize("trouble", ["cancel", APITimeoutError("slow"), ZeroDivisionError()], ids=str)
def test_an_opening_that_is_the_leaders_own_trouble_is_tried_again(trouble: Any) -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a"])
        opens = Opener(*([] if trouble == "cancel" else [trouble]), source)
        tasks = [asyncio.create_task(flights.stream("k", opens)) for _ in range(5)]
        await asyncio.sleep(0)
        assert opens.calls == 1
        if trouble == "cancel":
            tasks[0].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError) or found[0] is trouble
        assert (opens.calls, [list(reader.batch) for reader in found[1:]]) == (2, [["a"]] * 4)
        for reader in found[1:]:
            assert source.abandoned == 0
            reader.abandon()
        assert source.abandoned == 1

    run(main)


def test_an_opening_that_fails_fails_for_all() -> None:
    async def main(flights: Flights) -> None:
        opens = Opener(ServerError("bad"), Source())
        found = await asyncio.gather(*(flights.stream("k", opens) for _ in range(5)), return_exceptions=True)
        assert opens.calls == 1
        assert [(type(each), str(each)) for each in found] == [(ServerError, "bad")] * 5
        assert len({id(each) for each in found}) == 5

    run(main)


def test_a_leader_that_leaves_as_soon_as_it_is_open_leaves_the_others_an_answer() -> None:
    async def main(flights: Flights) -> None:
        sources = [Source(["a"]), Source(["b"])]
        opens = Opener(*sources)

        async def lead() -> None:
            (await flights.stream("k", opens)).abandon()

        leader = asyncio.create_task(lead())
        followers = [asyncio.create_task(flights.stream("k", opens)) for _ in range(2)]
        readers = await asyncio.gather(*followers)
        await leader
        assert ([list(reader.batch) for reader in readers], opens.calls) == ([["b"]] * 2, 2)
        sources[1].give(answer())
        assert [await pieces(reader) for reader in readers] == [[["b"]]] * 2
        assert [reader.response.cached for reader in readers] == [False, True]

    run(main)


def test_an_older_stream_takes_a_newer_one_of_its_key_not_along() -> None:
    async def main(flights: Flights) -> None:
        one, two = Source(["a"]), Source(["b"])
        older = await flights.stream("k", Opener(one))
        one.give(answer("a"))
        await settle()
        newer = await flights.stream("k", Opener(two))
        assert await pieces(older) == [["a"]]
        joined = await flights.stream("k", Opener())
        assert (list(joined.batch), two.abandoned) == (["b"], 0)
        two.give(answer("b"))
        assert [await pieces(newer), await pieces(joined)] == [[["b"]]] * 2

    run(main)


def test_what_a_reader_does_with_its_events_is_its_own() -> None:
    async def main(flights: Flights) -> None:
        source = Source([ToolCallEvent(ToolCall("c", "f", {"x": [1]})), UsageEvent(Usage(1, 2))])
        readers = [await flights.stream("k", Opener(source)) for _ in range(3)]
        for reader in readers:
            call, usage = reader.batch
            assert (call.tool_call.arguments, usage.usage) == ({"x": [1]}, Usage(1, 2))
            call.tool_call.arguments["x"].append(2)
            usage.usage.input_tokens = 9
            reader.abandon()

    run(main)


def test_a_reader_that_is_dropped_has_left() -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a"])
        readers = [await flights.stream("k", Opener(source)) for _ in range(2)]
        del readers[0]
        assert source.abandoned == 0
        del readers[0]
        assert source.abandoned == 1

    run(main)


def test_a_reader_may_leave_in_another_thread() -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a"])
        reader = await flights.stream("k", Opener(source))
        thread = threading.Thread(target=reader.abandon)
        thread.start()
        thread.join()
        assert source.abandoned == 0, "a source belongs to its loop"
        await settle()
        assert source.abandoned >= 1

    run(main)


def test_a_reader_that_is_left_while_it_waits_does_not_hang() -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a"])
        reader, other = [await flights.stream("k", Opener(source)) for _ in range(2)]
        waiting = asyncio.create_task(reader.advance())
        await settle()
        reader.abandon()
        with pytest.raises(LLMError, match="left before its end"):
            await waiting
        waiting = asyncio.create_task(other.advance())
        await settle()
        other.abandon()
        with pytest.raises(LLMError, match="left before its end"):
            await waiting

    run(main)


def test_a_cancelled_reader_has_left() -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a"])
        reader = await flights.stream("k", Opener(source))
        waiting = asyncio.create_task(reader.advance())
        await settle()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert source.abandoned >= 1

    run(main)


def test_a_reading_task_that_somebody_cancels_is_an_interruption() -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a"])
        readers = [await flights.stream("k", Opener(source)) for _ in range(2)]
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        for reader in readers:
            with pytest.raises(StreamInterrupted, match="stopped before its end"):
                await pieces(reader)
        assert source.abandoned >= 1

    run(main)


def test_a_source_that_ends_without_an_answer_is_an_interruption() -> None:
    class Broken(Source):
        async def advance(self) -> bool:
            return False

    async def main(flights: Flights) -> None:
        with pytest.raises(StreamInterrupted):
            await pieces(await flights.stream("k", Opener(Broken())))

    run(main)


def test_a_loop_that_ends_ends_its_streams() -> None:
    flights, kept = Flights(), [Source(["a"])]

    async def main() -> None:
        kept.append(await flights.stream("k", Opener(*kept)))

    asyncio.run(main())
    assert kept[0].abandoned >= 1
    assert next(iter(flights._loops.values())).streams == {}
    kept[1].abandon()
    kept.clear()
    gc.collect()
    assert len(flights._loops) == 0


def test_a_loop_that_is_closed_with_a_stream_open_is_forgotten() -> None:
    flights = Flights()

    async def begin() -> StreamSource:
        return await flights.stream("k", Opener(Source(["a"])))

    loop = asyncio.new_event_loop()
    reader = loop.run_until_complete(begin())
    tasks = asyncio.all_tasks(loop)
    loop.close()
    reader.abandon()
    assert asyncio.run(with_one(flights)) == 1
    for task in tasks:
        task._log_destroy_pending = False  # closing a loop like this is a mistake that asyncio tells too
    assert len(tasks) == 1


async def with_one(flights: Flights) -> int:
    await flights.whole("k", Opener(answer()))
    return len(flights._loops)


def test_the_source_is_read_to_its_end_whatever_its_reader_does() -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a"])
        reader = await flights.stream("k", Opener(source))
        source.give(*([str(number)] for number in range(50)), answer())
        await asyncio.gather(*(settle() for _ in range(5)))
        while source.response is None:
            await asyncio.sleep(0)
        assert list(reader.batch) == ["a"]
        assert len(await pieces(reader)) == 51

    run(main)


@pytest.mark.parametrize("outcome", [answer, caused])
def test_a_reader_at_its_end_holds_nothing_of_what_it_shared(outcome: Callable[[], Any]) -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a"])
        readers = [await flights.stream("k", Opener(source)) for _ in range(2)]
        source.give(outcome())
        for reader in readers:
            with contextlib.suppress(ServerError):
                assert await reader.advance() is False
        source = weakref.ref(source)
        await settle()
        gc.collect()
        assert source() is None
        assert len(readers) == 2

    run(main)


def test_a_stream_over_a_reader_is_as_any_other() -> None:
    async def main(flights: Flights) -> None:
        source = Source(["a"])
        streams = [LLMStream(await flights.stream("k", Opener(source))) for _ in range(3)]
        source.give(["b", ReasoningEvent("r")], [UsageEvent(Usage(1, 2))], answer("ab"))
        assert await streams[0].text() == "ab"
        assert [text async for text in streams[1]] == ["a", "b"]
        events = [event async for event in streams[2].events()]
        assert events[:-1] == [TextEvent("a"), TextEvent("b"), ReasoningEvent("r"), UsageEvent(Usage(1, 2))]
        assert events[-1] == EndEvent(streams[2].response)
        assert [stream.response.cached for stream in streams] == [False, True, True]

    run(main)


# -- nothing is left --------------------------------------------------------------------------------------------------


class Bug(Exception):
    """One that can be referred to weakly."""


async def call_whole(flights: Flights, outcome: Callable[[], Any]) -> list[Any]:
    """Weak references to all that comes of three equal calls."""
    upstream = Upstream()
    tasks = [asyncio.create_task(flights.whole("k", upstream)) for _ in range(3)]
    await settle()
    while upstream.open:
        if outcome is asyncio.CancelledError:
            next(task for task in tasks if not task.done()).cancel()
        else:
            upstream.give(outcome())
        await settle()
    return list(map(weakref.ref, await asyncio.gather(*tasks, return_exceptions=True)))


async def read_streams(flights: Flights, outcome: Callable[[], Any]) -> list[Any]:
    """Weak references to all that takes part in three equal streams."""
    source = Source(["a"])
    readers = [await flights.stream("k", Opener(source)) for _ in range(3)]
    if outcome is not asyncio.CancelledError:
        source.give(["b"], outcome())
    for reader in readers:
        if outcome is asyncio.CancelledError:
            reader.abandon()
        else:
            with contextlib.suppress(LLMError, Bug):
                await pieces(reader)
    return list(map(weakref.ref, (source, *readers)))


@pytest.mark.parametrize("use", [call_whole, read_streams])
@pytest.mark.parametrize("outcome", [answer, caused, lambda: APITimeoutError("slow"), Bug, asyncio.CancelledError])
def test_nothing_is_left_for_the_garbage_collector(use: Any, outcome: Callable[[], Any]) -> None:
    async def main(flights: Flights) -> list[Any]:
        gc.collect()
        gc.disable()
        try:
            alive = await use(flights, outcome)
            await settle()
            assert len(alive) in (3, 4)
            return [type(found) for ref in alive if (found := ref()) is not None]
        finally:
            gc.enable()

    assert run(main) == []


# -- replay -----------------------------------------------------------------------------------------------------------


def told(found: list[str | StreamEvent]) -> tuple[Any, ...]:
    """What a stream says, however it was cut into pieces; the last usage is the one that counts."""
    kinds = list(dict.fromkeys("text" if isinstance(piece, str) else piece.type for piece in found))
    deltas: dict[int, tuple[str, str, str]] = {}
    for piece in found:
        if isinstance(piece, ToolCallDeltaEvent):
            before = deltas.get(piece.index, ("", "", ""))
            deltas[piece.index] = (piece.id or before[0], piece.name or before[1], before[2] + piece.arguments)
    return (
        kinds,
        "".join(piece for piece in found if isinstance(piece, str)),
        "".join(piece.text for piece in found if isinstance(piece, ReasoningEvent)),
        deltas,
        [piece.tool_call for piece in found if isinstance(piece, ToolCallEvent)],
        [piece.usage for piece in found if isinstance(piece, UsageEvent)][-1:],
    )


@pytest.mark.parametrize("name", STREAMED)
def test_a_replay_tells_what_the_live_stream_told(name: str) -> None:
    fold = openai_chat.Fold(request_of(name), dialect_of(name))
    try:
        live = fold.feed(sent(name) or b"") + fold.end()
    except ProviderError:
        assert "error" in name or name == "stream_html"
        return
    response = fold.response()
    if is_cacheable(response):
        assert told(list(Replay(response).batch)) == told(live)
    else:
        assert response.finish_reason != "stop" or name == "stream_only_done"


def test_a_replay_gives_the_answer_that_was_kept() -> None:
    async def main() -> None:
        kept = answer("text", reasoning="why", cached=True)
        stream = LLMStream(Replay(kept))
        events = [event async for event in stream.events()]
        assert [event.type for event in events] == ["reasoning", "text", "tool_call_delta", "tool_call", "usage", "end"]
        assert stream.response is kept
        assert kept.latency == 2.5
        events[3].tool_call.arguments["x"].append(2)
        events[4].usage.input_tokens = 9
        assert (kept.tool_calls[0].arguments, kept.usage) == ({"x": [1]}, Usage(1, 2))
        live = answer("text")
        stream = LLMStream(Replay(live))
        assert await stream.text() == "text"
        assert (stream.response.cached, stream.response.cost, live.cached) == (True, 0, False)
        refused = LLMStream(Replay(LLMResponse("", refusal="no")))
        assert [event.type async for event in refused.events()] == ["refusal", "end"]

    asyncio.run(main())
