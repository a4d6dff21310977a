"""
Single flight: of equal requests at one time one is made, and its answer is everybody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from llm_master.classes import LLMResponse
from llm_master.errors import APITimeoutError, LLMError, StreamInterrupted
from llm_master.events import ReasoningEvent, RefusalEvent, StreamEvent, ToolCallDeltaEvent, ToolCallEvent, UsageEvent
from llm_master.policy.cache_entry import as_cached, copied
from llm_master.stream import StreamSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["Flights", "Replay"]

T = TypeVar("T")

# What is about the caller and not the request: it would not wait for a limit, or its own max_cost was too small.
_OWN = ("local_rate_limit", "max_cost")


class _Flight:
    """One request that is made: what its followers wait for."""

    __slots__ = ("done", "error", "followed", "result")

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.followed = False
        self.result: Any = None
        self.error: LLMError | None = None


class _Here:
    """What is under way in one event loop, by the requests' keys."""

    __slots__ = ("opening", "streams", "whole")

    def __init__(self) -> None:
        self.whole: dict[str, _Flight] = {}
        self.opening: dict[str, _Flight] = {}
        self.streams: dict[str, _Shared] = {}


class Flights:
    """
    The requests under way, in each event loop apart.

    A leader makes the request, equal ones follow it. When the leader is cancelled, runs out of its own time or will
    not wait for a limit, a follower takes its place; every other ``LLMError`` is the answer of all. Followers can be
    cancelled at any time. A key must name everything that may change the answer, the fallbacks among it.
    """

    def __init__(self) -> None:
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Here] = weakref.WeakKeyDictionary()

    def _here(self) -> _Here:
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is None:
            for ref in self._loops.keyrefs():
                # What a loop that was closed in mid-stream left holds the loop itself.
                if (other := ref()) is not None and other.is_closed():
                    self._loops.pop(other, None)
            here = self._loops[loop] = _Here()
        return here

    async def whole(self, key: str, make: Callable[[], Awaitable[LLMResponse]]) -> LLMResponse:
        """
        The answer that ``make`` gives, here or in the equal call that came first.

        A follower's answer is a copy with ``cached`` set, cost 0 and no attempts; its times are the caller's to set.

        Raises:
            LLMError: the leader's, for a follower a copy of it.
        """
        response, led = await _once(self._here().whole, key, make, copied)
        return response if led else as_cached(response)

    async def stream(self, key: str, open: Callable[[], Awaitable[StreamSource]]) -> StreamSource:
        """
        A source of its own for each caller, over one source that ``open`` gives.

        Each gets every piece from the first on, in the batches in which they came. The upstream source is read as fast
        as it comes and kept until its last reader has gone; that is one answer, whose size the transport bounds. It is
        abandoned at once when its last reader leaves. All answers are ``cached`` but one, that of the reader who came
        first of those still there at the end.

        Raises:
            LLMError: as ``whole``, while the stream is opened; later the sources raise it.
        """
        here = self._here()

        async def make() -> _Shared:
            shared = here.streams[key] = _Shared(await open(), here.streams, key)
            return shared

        while True:
            shared = here.streams.get(key) or (await _once(here.opening, key, make, _same))[0]
            if not shared.left:
                return _Reader(shared)


def _same(shared: _Shared) -> _Shared:
    return shared


async def _once(
    flights: dict[str, _Flight], key: str, make: Callable[[], Awaitable[T]], keep: Callable[[T], T]
) -> tuple[T, bool]:
    """The result and whether it was made here; what followers share is ``keep`` of the leader's."""
    while True:
        flight = flights.get(key)
        if flight is None:
            return await _lead(flights, key, make, keep), True
        flight.followed = True
        await flight.done.wait()
        if flight.error is not None:
            raise _again(flight.error)
        if flight.result is not None:
            return flight.result, False
        # There is no answer for all, so the first of the followers to wake leads now.


async def _lead(flights: dict[str, _Flight], key: str, make: Callable[[], Awaitable[T]], keep: Callable[[T], T]) -> T:
    flight = flights[key] = _Flight()
    try:
        result = await make()
        if flight.followed:
            # Now, because the leader's caller may change its own before a follower has looked.
            flight.result = keep(result)
    except LLMError as error:
        if flight.followed and not isinstance(error, APITimeoutError) and getattr(error, "code", None) not in _OWN:
            flight.error = _again(error)
        raise
    finally:
        del flights[key]
        flight.done.set()
    return result


def _again(error: LLMError, *, cached: bool = True) -> LLMError:
    """The same error for another caller: nothing that can change is shared, and it holds no frame of this one."""
    made = type(error).__new__(type(error), *error.args)  # its __init__ may want anything
    made.args = error.args
    made.__dict__.update(error.__dict__)
    made.__cause__ = error.__cause__
    if "attempts" in made.__dict__:
        made.__dict__["attempts"] = copy.deepcopy(error.__dict__["attempts"])
    if isinstance(made, StreamInterrupted) and isinstance(made.partial, LLMResponse):
        made.partial = as_cached(made.partial) if cached else copied(made.partial)
    return made


class _Shared:
    """One upstream source, read by a task of its own into batches that stay until the last reader has gone."""

    __slots__ = (
        "_entered",
        "_key",
        "_loop",
        "_owner",
        "_readers",
        "_source",
        "_streams",
        "_task",
        "_waiters",
        "batches",
        "error",
        "left",
        "response",
    )

    def __init__(self, source: StreamSource, streams: dict[str, _Shared], key: str) -> None:
        self._source, self._streams, self._key = source, streams, key
        self._loop = asyncio.get_running_loop()
        self._readers: set[int] = set()
        self._entered = self._owner = 0
        self._waiters: list[asyncio.Future[None]] = []
        self.batches: list[Sequence[str | StreamEvent]] = []
        self.response: LLMResponse | None = None
        self.error: Exception | None = None
        self.left = False
        self._add(source.batch)
        self._task: asyncio.Task[None] | None = self._loop.create_task(self._read())
        # Not in the task itself, which may be cancelled before it has begun.
        self._task.add_done_callback(self._ended)

    def _add(self, batch: Sequence[str | StreamEvent]) -> None:
        if batch:
            self.batches.append(tuple(batch))

    async def _read(self) -> None:
        source = self._source
        try:
            while await source.advance():
                self._add(source.batch)
                self._wake()
        except Exception as error:  # noqa: BLE001  # each reader raises it
            # Without this frame, which holds all that this object does.
            self.error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        else:
            self.response = source.response
        self._owner = min(self._readers, default=1)
        self._wake()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()
        if self.response is None and self.error is None and not self.left:
            self.error = StreamInterrupted("the task that read this stream was stopped before its end; ask again")
        self._task = None
        self._close()

    def _close(self) -> None:
        if self._streams.get(self._key) is self:
            del self._streams[self._key]
        self._source.abandon()
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def news(self) -> None:
        """Wait until something has changed."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def enter(self) -> int:
        """A reader more; its number."""
        self._entered += 1
        self._readers.add(self._entered)
        return self._entered

    def leave(self, number: int) -> None:
        """A reader less, from whatever thread; the upstream source ends with the last one."""
        if _running() is self._loop:
            self._leave(number)
        else:
            with contextlib.suppress(RuntimeError):  # a closed loop has ended the task, and so the source
                self._loop.call_soon_threadsafe(self._leave, number)

    def _leave(self, number: int) -> None:
        self._readers.discard(number)
        if self._readers:
            self._wake()  # the one that left may be waiting in another task
            return
        self.left = True
        self.error = None  # a reader's frame that it holds may hold this
        if self._task is not None:
            self._task.cancel()
        self._close()

    def answer(self, number: int) -> LLMResponse:
        """A reader's own copy of the answer."""
        assert self.response is not None  # noqa: S101  # asked for once it is there
        return copied(self.response) if number == self._owner else as_cached(self.response)

    def failure(self, number: int) -> Exception:
        """A reader's own copy of the error; what is no ``LLMError`` cannot be copied."""
        error = self.error
        assert error is not None  # noqa: S101  # as answer
        return _again(error, cached=number != self._owner) if isinstance(error, LLMError) else error


class _Reader(StreamSource):
    """One caller's way through a shared source."""

    def __init__(self, shared: _Shared) -> None:
        self._number = shared.enter()
        self._shared: _Shared | None = shared
        self._at = 0
        if shared.batches:
            self._take(shared)

    def _take(self, shared: _Shared) -> None:
        self.batch = [_own(piece) for piece in shared.batches[self._at]]
        self._at += 1

    async def advance(self) -> bool:
        """The next batch, once it is there."""
        while self.response is None:
            shared = self._shared
            if shared is None:
                raise LLMError("this stream was left before its end; ask again")
            if self._at < len(shared.batches):
                self._take(shared)
                return True
            if shared.response is not None:
                self.response = shared.answer(self._number)
                self.batch = ()
                self.abandon()
            elif shared.error is not None:
                raise self._failure(shared)
            else:
                await self._news(shared)
        return False

    async def _news(self, shared: _Shared) -> None:
        try:
            await shared.news()
        except BaseException:
            self.abandon()
            raise

    def _failure(self, shared: _Shared) -> Exception:
        error = shared.failure(self._number)
        self.abandon()
        return error

    def abandon(self) -> None:
        """Stop reading; the others go on."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.leave(self._number)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # half built, or an interpreter that is going down
            self.abandon()


def _own(piece: str | StreamEvent) -> str | StreamEvent:
    """A piece whose parts may be changed by its reader."""
    if isinstance(piece, ToolCallEvent):
        return ToolCallEvent(copy.deepcopy(piece.tool_call))
    if isinstance(piece, UsageEvent):
        return UsageEvent(msgspec.structs.replace(piece.usage))
    return piece


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Replay(StreamSource):
    """
    A stream over an answer that was kept, in the order of a live one.

    Args:
        response: given as the stream's own at its end; of one that is not ``cached`` a copy that is.
    """

    def __init__(self, response: LLMResponse) -> None:
        self._whole = response = response if response.cached else as_cached(response)
        pieces: list[str | StreamEvent] = []
        if response.reasoning:
            pieces.append(ReasoningEvent(response.reasoning))
        if response.content:
            pieces.append(response.content)
        if response.refusal:
            pieces.append(RefusalEvent(response.refusal))
        calls = copy.deepcopy(response.tool_calls)
        pieces += [
            ToolCallDeltaEvent(number, call.id, call.name, call.raw_arguments) for number, call in enumerate(calls)
        ]
        pieces += [ToolCallEvent(call) for call in calls]
        if response.usage != type(response.usage)():
            pieces.append(UsageEvent(msgspec.structs.replace(response.usage)))
        self.batch = pieces

    async def advance(self) -> bool:
        """Nothing more comes."""
        self.batch = ()
        self.response = self._whole
        return False
