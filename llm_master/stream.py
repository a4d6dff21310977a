"""
An answer while it comes.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from llm_master.errors import LLMError, StreamInterrupted
from llm_master.events import DiscardEvent, EndEvent, StreamEvent, TextEvent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from typing import Self

    from llm_master.classes import LLMResponse

__all__ = ["LLMStream", "StreamSource", "Wrapped"]


class StreamSource:
    """
    Where a stream's pieces come from.

    ``batch`` holds pieces not given out yet: ``str`` for text, events for the rest. ``response`` is the whole answer
    once the source ended, None before. With ``strict`` a chunk that cannot be read is an interruption, else it is
    skipped.
    """

    batch: Sequence[str | StreamEvent] = ()
    response: LLMResponse | None = None
    strict = False

    async def advance(self) -> bool:
        """Put the next pieces into ``batch``; False when the answer is whole and nothing more comes."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Stop at once and close the provider's connection; may be called at any time, also twice."""


class Wrapped(StreamSource):
    """
    Another source, with something done at its end.

    Args:
        inner: the other one.
    """

    def __init__(self, inner: StreamSource) -> None:
        self._inner = inner
        self.batch = inner.batch

    async def advance(self) -> bool:
        """The inner source's next pieces."""
        if self.response is not None:
            return False
        more = await self._inner.advance()
        self.batch = self._inner.batch
        response = self._inner.response
        if not more and response is not None:
            self.response = await self.ended(response)
        return more

    async def ended(self, response: LLMResponse) -> LLMResponse:
        """What the whole answer becomes."""
        return response

    def abandon(self) -> None:
        """Stop the inner source."""
        self._inner.abandon()


class LLMStream:
    """
    A streamed answer: ``async for text in stream``.

    ``stream.events()`` gives typed events instead, ``await stream.text()`` the whole text. When it has ended,
    ``stream.response`` is the full ``LLMResponse``. Leaving the loop early closes the provider's connection at once.
    It can be read once.

    Args:
        source: where its pieces come from.
        resumption: how it goes on when it breaks off, None to raise always.

    Raises while read:
        StreamInterrupted: the stream ended before its answer did; the error holds the partial text.
        ProviderError: the provider reported an error.
    """

    __slots__ = ("_lenient", "_resumption", "_source", "_started", "_wanted")

    def __init__(self, source: StreamSource, resumption: Any = None) -> None:
        self._source = source
        self._resumption = resumption
        self._started = False
        self._wanted: Any = None
        self._lenient = False

    def wants(self, wanted: Any, *, lenient: bool) -> None:
        """Have the answer's value put into ``response.parsed`` when it is whole."""
        self._wanted, self._lenient = wanted, lenient

    @property
    def response(self) -> LLMResponse:
        """The whole answer; raises LLMError while the stream has not ended."""
        response = self._source.response
        if response is None:
            raise LLMError("the stream has not ended yet: read it to its end, then take stream.response")
        if self._wanted is not None:
            from llm_master.structured import fulfil

            wanted, self._wanted = self._wanted, None
            fulfil(response, wanted, lenient=self._lenient)
        return response

    def __aiter__(self) -> AsyncIterator[str]:
        self._begin()
        return self._texts()

    def _begin(self) -> None:
        if self._started:
            raise LLMError("a stream can be read once; keep what it gave, or take stream.response")
        self._started = True

    async def _resumed(self, cut: StreamInterrupted, mode: str | None) -> None:
        """Put another source in the place of a broken one; raises where there is none."""
        resumption = self._resumption
        if resumption is not None:
            try:
                if mode is None:
                    raise cut
                self._source = await resumption.go_on(cut, mode)
            except LLMError as error:
                await _kept(resumption.call, "error", error=error)
                raise
        else:
            raise cut

    def _over(self) -> None:
        """The reader is done, with the answer or without."""
        source, resumption = self._source, self._resumption
        source.abandon()
        if resumption is not None:
            call = resumption.call
            if call.listeners or call.books:
                call.end("cancelled" if source.response is None else "ok", response=source.response)

    async def _whole(self) -> None:
        """The answer is there: what keeps it does so before it is shown."""
        resumption = self._resumption
        if resumption is not None and resumption.call.books:
            await _kept(resumption.call, "ok", response=self._source.response)

    @property
    def _mode(self) -> str | None:
        return None if self._resumption is None else self._resumption.mode

    async def _texts(self) -> AsyncGenerator[str, None]:
        try:
            while True:
                for piece in self._source.batch:
                    if piece.__class__ is str:
                        yield piece
                try:
                    if not await self._source.advance():
                        break
                except StreamInterrupted as cut:
                    await self._resumed(cut, self._mode)
            await self._whole()
        finally:
            self._over()

    async def batches(self) -> AsyncGenerator[list[str], None]:
        """The text as lists of the pieces that arrived together, for callers to whom each step is dear."""
        self._begin()
        try:
            while True:
                texts = [piece for piece in self._source.batch if isinstance(piece, str)]
                if texts:
                    yield texts
                try:
                    if not await self._source.advance():
                        break
                except StreamInterrupted as cut:
                    await self._resumed(cut, self._mode)
            await self._whole()
        finally:
            self._over()

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """
        Every event as a typed object, an ``EndEvent`` with the response last.

        A stream that breaks off begins again on the next target; a ``DiscardEvent`` says when what came before is void.
        """
        self._begin()
        try:
            while True:
                for piece in self._source.batch:
                    yield TextEvent(piece) if isinstance(piece, str) else piece
                try:
                    if not await self._source.advance():
                        break
                except StreamInterrupted as cut:
                    await self._resumed(cut, self._mode or "restart")
            await self._whole()
            yield EndEvent(self.response)
        finally:
            self._over()

    async def objects(self) -> AsyncGenerator[Any, None]:
        """
        The JSON value of the answer while it comes: each time more of it is certain, all that is known by then.

        What is still open is left out, an open string is as long as it has come. The last one is
        ``response.parsed`` where a ``response_format`` was given.
        """
        from llm_master.schemas import complete_json

        wanted = self._wanted
        text, last = "", None
        async for event in self.events():
            if isinstance(event, DiscardEvent):
                text = ""
            elif isinstance(event, TextEvent):
                text += event.text
                value = complete_json(text)
                if wanted is not None:
                    value = wanted.inside(value)
                if value is not None and value != last:
                    last = value
                    yield value
        parsed = self.response.parsed
        if parsed is not None:
            yield parsed

    async def text(self) -> str:
        """
        Read the stream to its end and return the whole text.

        Nothing was shown yet, so a stream that breaks off begins again on the next target; so does one with a
        chunk that cannot be read, as long as there is a target left to ask.
        """
        if self._source.response is None:
            self._begin()
            try:
                while True:
                    self._source.strict = self._resumption is not None and self._resumption.has_more
                    try:
                        if not await self._source.advance():
                            break
                    except StreamInterrupted as cut:
                        await self._resumed(cut, self._mode or "restart")
                await self._whole()
            finally:
                self._over()
        return self.response.content

    async def aclose(self) -> None:
        """Stop reading and close the provider's connection."""
        self._started = True
        self._over()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # an interpreter that is going down may have lost anything
            self._over()


async def _kept(call: Any, outcome: str, **what: Any) -> None:
    """The end of a streamed call, and the wait until it is written down where that is asked for."""
    waits = call.end(outcome, **what)
    if waits is not None:
        from llm_master.settling import settled

        await settled(waits, what.get("response"))


class OneAnswer(StreamSource):
    """A stream over an answer that is there as a whole (a cached one, or a server that did not stream)."""

    def __init__(self, response: LLMResponse) -> None:
        self.batch = [response.content] if response.content else []
        self._whole = response

    async def advance(self) -> bool:
        """Nothing more comes."""
        self.batch = ()
        self.response = self._whole
        return False


class Generated(StreamSource):
    """A stream over a custom provider's own async iterator of text."""

    def __init__(self, pieces: AsyncIterator[Any], finish: Any) -> None:
        self._pieces = pieces
        self._finish = finish
        self._texts: list[str] = []

    async def advance(self) -> bool:
        """The next piece of text."""
        try:
            piece = str(await anext(self._pieces))
        except StopAsyncIteration:
            self.batch = ()
            self.response = self._finish("".join(self._texts))
            return False
        self._texts.append(piece)
        self.batch = [piece]
        return True

    def abandon(self) -> None:
        """Nothing to close here: the generator's own clean-up runs when it is dropped."""
