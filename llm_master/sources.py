"""
The pieces of a provider's stream, from its bytes to the caller's ``LLMStream``.
"""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from typing import TYPE_CHECKING, Any

from llm_master.classes import LLMResponse
from llm_master.errors import APIConnectionError, APITimeoutError, ProviderError, ResponseError, StreamInterrupted
from llm_master.events import MALFORMED, UsageEvent
from llm_master.stream import StreamSource
from llm_master.unexpected import FAILURES, cause_of, told

if TYPE_CHECKING:
    from llm_master.incoming import OpenStream
    from llm_master.record import Trial

__all__ = ["Recorded", "WireSource"]

# Seconds that a stream whose answer is complete may still take to say so.
_GRACE = 2.0
_DRAINS: set[asyncio.Task[None]] = set()


class Recorded(StreamSource):
    """Another source, with the call's record added to its answer."""

    def __init__(self, trial: Trial, inner: StreamSource) -> None:
        self._trial, self._inner = trial, inner
        self._given: list[str] = []
        self._first: float | None = None
        self.batch = inner.batch
        self._note()

    def _note(self) -> None:
        texts = [piece for piece in self.batch if isinstance(piece, str)]
        if texts and self._first is None:
            self._first = monotonic()
            self._trial.answered(self._first)
        self._given += texts

    async def advance(self) -> bool:
        """The inner source's next pieces; a failure after content is an interruption."""
        if self.response is not None:
            return False
        try:
            more = await self._inner.advance()
        except Exception as error:
            raise self._interrupted(error) from error
        except BaseException:
            self.abandon()
            raise
        self.batch = self._inner.batch
        self._note()
        if not more:
            response = self._inner.response
            assert response is not None  # noqa: S101  # a source that ended has its answer
            self._trial.finished(response, self._first)
            self.response = response
        return more

    def _interrupted(self, error: Exception) -> ProviderError:
        found = interruption(self._trial, error, "".join(self._given), None)
        self._inner.abandon()
        return found

    def abandon(self) -> None:
        """Stop the inner source."""
        if not self._trial.ended:
            self._trial.cancelled(LLMResponse(content="".join(self._given)))
        self._inner.abandon()


def interruption(
    trial: Trial, error: Exception, text: str, partial: Any, given: str | None = None
) -> StreamInterrupted:
    """Record that a stream broke off, and the error that says so; ``given`` is how much had come, in words."""
    target = trial.target
    found = StreamInterrupted(
        f"{target.provider} broke off the stream of {target.model!r} after"
        f" {given or f'{len(text)} characters'}: {error}",
        partial_text=text,
        partial=partial,
        provider=target.provider,
        model=target.model,
        status_code=getattr(error, "status_code", None),
        code=getattr(error, "code", None),
        retry_after=getattr(error, "retry_after", None),
        request_id=getattr(error, "request_id", None),
    )
    trial.failed(
        error if isinstance(error, ProviderError) else found,
        outcome="interrupted",
        usage=trial.used(partial if partial is not None else LLMResponse(content=text)),
    )
    found.attempts = tuple(trial.call.attempts)
    return found


class WireSource(StreamSource):
    """The pieces of one provider's stream."""

    def __init__(self, trial: Trial, stream: OpenStream, fold: Any) -> None:
        self._trial, self._target, self._stream, self._fold = trial, trial.target, stream, fold
        self._first: float | None = None
        self._until: float | None = None
        self._broken: ProviderError | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()

    def arm(self, idle: float | None, until: float | None) -> None:
        """Watch the stream from now on: seconds of silence allowed, loop time of its end."""
        self._until = until
        self._stream.watch(idle, until)

    async def fill(self) -> bool:
        """Read until there is content; True once there is, or once the answer is whole without any."""
        pieces = await self._next()
        self.batch = [*self.batch, *pieces] if pieces else self.batch
        if any(not isinstance(piece, UsageEvent) for piece in self.batch):
            self._first = monotonic()
            self._trial.answered(self._first)
            return True
        return bool(self._fold.done)

    async def _next(self) -> list[Any]:
        """The pieces of the next read; an ended stream that is not complete raises StreamInterrupted."""
        fold = self._fold
        fold.pending = ()
        data = await self._stream.read()
        try:
            pieces: list[Any] = fold.feed(data) if data else fold.end()
        except FAILURES as error:
            raise self._target.masked(told(error, self._target)) from cause_of(error)
        if not data and not fold.done:
            if not fold.complete:
                target = self._target
                fold.pending = pieces
                raise StreamInterrupted(
                    f"{target.provider} ended the stream of {target.model!r} before its answer was complete;"
                    " try again or give a fallback_model=",
                    provider=target.provider,
                    model=target.model,
                )
            fold.done = True
        return pieces

    async def advance(self) -> bool:
        """The next pieces; a failure here comes after content was given, so it is an interruption."""
        if self.response is not None:
            return False
        if self._broken is not None:
            self.batch = ()
            raise self._interrupted(self._broken) from self._broken
        fold = self._fold
        if self.strict and fold.notes and not fold.done:
            self._check_read()
        if not fold.done:
            try:
                if fold.complete:
                    self._stream.watch(_GRACE, self._until)
                self.batch = await self._next()
            except ProviderError as error:
                if fold.complete and isinstance(error, APIConnectionError | APITimeoutError):
                    # The answer is whole; only the marker that says so is missing.
                    self.batch = fold.end()
                    fold.done = True
                    return True
                self.batch = fold.pending
                if not self.batch:
                    raise self._interrupted(error) from error
                self._broken = error
            except BaseException:
                self.abandon()
                raise
            return True
        self.batch = ()
        self.response = self._end()
        return False

    def _check_read(self) -> None:
        """Stop reading an answer of which something is missing."""
        note = next((note for note in self._fold.notes if note.startswith(MALFORMED)), None)
        if note is not None:
            target = self._target
            raise self._interrupted(
                ResponseError(
                    f"{note}; try again or give a fallback_model=",
                    provider=target.provider,
                    model=target.model,
                    status_code=self._stream.status,
                )
            )

    def _end(self) -> LLMResponse:
        response: LLMResponse = self._fold.response()
        target = self._target
        target.complete(response, self._stream.headers)
        self._trial.finished(response, self._first)
        self._closed = True
        task = asyncio.get_running_loop().create_task(self._stream.drain())
        _DRAINS.add(task)
        task.add_done_callback(self._drained)
        return response

    def _drained(self, task: asyncio.Task[None]) -> None:
        # Also when the loop ended before the task began: the connection is closed here in any case.
        _DRAINS.discard(task)
        self._stream.close()

    def _interrupted(self, error: ProviderError) -> StreamInterrupted:
        partial: LLMResponse = self._fold.response()
        self._close()
        return interruption(self._trial, error, str(partial.content), partial)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._stream.close()

    def abandon(self) -> None:
        """Close the provider's connection if the answer is not whole yet."""
        if self._closed:
            return
        if not self._trial.ended:
            self._trial.cancelled(self._fold.response())
        with contextlib.suppress(RuntimeError):  # a closed loop has closed its sockets
            # A stream may be dropped by another thread or by the garbage collector.
            self._loop.call_soon_threadsafe(self._close) if _running() is not self._loop else self._close()


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
