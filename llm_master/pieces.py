"""
Speech or a transcript while it comes.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from llm_master.errors import LLMError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from typing import Self

    from llm_master.stream import StreamSource

__all__ = ["OperationStream"]

Piece = TypeVar("Piece", bytes, str)
Answer = TypeVar("Answer")


class OperationStream(Generic[Piece, Answer]):
    """
    An answer piece by piece: ``async for piece in stream`` gives the bytes of speech, or the text of a transcript.

    When it has ended, ``stream.response`` is the whole ``SpeechResponse`` or ``TranscriptionResponse``;
    ``await stream.whole()`` reads to the end and gives it. Leaving the loop early closes the provider's connection at
    once. It can be read once, and is never begun again by itself once a piece was given.

    Args:
        source: where the pieces come from; the first one is there.
        call: whose answer it is.

    Raises while read:
        StreamInterrupted: it ended before the answer did; ``error.partial`` is the answer so far.
    """

    __slots__ = ("_call", "_source", "_started")

    def __init__(self, source: StreamSource, call: Any) -> None:
        self._source = source
        self._call = call
        self._started = False

    @property
    def response(self) -> Answer:
        """The whole answer; raises LLMError while the stream has not ended."""
        response: Any = self._source.response
        if response is None:
            raise LLMError("the stream has not ended yet: read it to its end, then take stream.response")
        return response  # type: ignore[no-any-return]  # a source gives the answer of its operation

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self._pieces()

    def _begin(self) -> Any:
        if self._started:
            raise LLMError("a stream can be read once; keep what it gave, or take stream.response")
        self._started = True
        return self._source

    async def _pieces(self) -> AsyncGenerator[Piece, None]:
        source = self._begin()
        try:
            while True:
                for piece in source.batch:
                    yield piece
                if not await self._advance():
                    break
        finally:
            self._over()

    async def batches(self) -> AsyncGenerator[list[Piece], None]:
        """The pieces as lists of those that arrived together, for callers to whom each step is dear."""
        source = self._begin()
        try:
            while True:
                if source.batch:
                    yield list(source.batch)
                if not await self._advance():
                    break
        finally:
            self._over()

    async def _advance(self) -> bool:
        """Put the next pieces into the source's batch; at the end, what keeps the call does so before it shows."""
        source = self._source
        try:
            more = await source.advance()
        except LLMError as error:
            await self._ended("error", error=error)
            raise
        if not more:
            await self._ended("ok", response=source.response)
        return more

    async def _ended(self, outcome: str, **what: Any) -> None:
        waits = self._call.end(outcome, **what)
        if waits is not None:
            from llm_master.settling import settled

            await settled(waits, what.get("response"))

    async def whole(self) -> Answer:
        """Read to the end, and the whole answer; raises as reading does."""
        if self._source.response is None:
            async for _ in self.batches():
                pass
        return self.response

    def _over(self) -> None:
        """The reader is done, with the answer or without."""
        self._source.abandon()
        self._call.end("cancelled" if self._source.response is None else "ok", response=self._source.response)

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
