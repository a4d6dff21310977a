"""
One call: its attempts on one target, then on the next, inside one deadline, with a record of each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp

from llm_master.classes import Attempt, LLMResponse, Request
from llm_master.errors import (
    APIConnectionError,
    APITimeoutError,
    DeadlineExceededError,
    ProviderError,
    ResponseError,
    StreamInterrupted,
)
from llm_master.events import FallbackEvent, RetryEvent, StreamEvent, UsageEvent
from llm_master.messages import normalise
from llm_master.params import check as check_params
from llm_master.params import check_model_name
from llm_master.policy.retry import RetryPolicy, falls_back, full_jitter
from llm_master.stream import LLMStream, OneAnswer, StreamSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from llm_master.policy.deadline import Timeouts
    from llm_master.target import Target
    from llm_master.transport import OpenStream

__all__ = ["Call", "LLMStream", "RetryPolicy", "Step", "check_model_name", "check_params", "normalise"]

logger = logging.getLogger("llm_master")

# Seconds that a stream whose answer is complete may still take to say so.
_GRACE = 2.0
_DRAINS: set[asyncio.Task[None]] = set()


class Step:
    """One target of a call and the parameters that it gets."""

    __slots__ = ("params", "target")

    def __init__(self, target: Any, params: dict[str, Any]) -> None:
        self.target = target
        self.params = params


class Call:
    """
    What one ``query`` knows of itself.

    Args:
        model_name: as asked.
        messages: normalised.
        timeouts, policy: the limits in force.
        fallback_on: kinds of refusal that may fall back although they usually do not.
    """

    __slots__ = (
        "attempts",
        "drop_params",
        "fallback_on",
        "headers",
        "messages",
        "model_name",
        "policy",
        "started",
        "story",
        "timeouts",
        "waited",
        "why",
    )

    def __init__(
        self,
        model_name: str,
        messages: list[dict[str, Any]],
        timeouts: Timeouts,
        policy: RetryPolicy,
        *,
        headers: dict[str, str] | None = None,
        drop_params: bool = False,
        fallback_on: Collection[str] = (),
    ) -> None:
        self.model_name = model_name
        self.messages = messages
        self.timeouts = timeouts
        self.policy = policy
        self.headers = headers
        self.drop_params = drop_params
        self.fallback_on = fallback_on
        self.attempts: list[Attempt] = []
        self.story: list[StreamEvent] = []
        self.waited = 0.0
        self.why: str | None = None
        self.started = monotonic()

    def remaining(self) -> float | None:
        """Seconds left of the deadline, None without one."""
        total = self.timeouts.total
        return None if total is None else total - (monotonic() - self.started)

    # -- whole answers ------------------------------------------------------------------------------------------

    async def run(self, steps: list[Step]) -> LLMResponse:
        """The whole answer of the first step that gives one."""
        response: LLMResponse = await self._chain(steps, self._send)
        response.attempts = tuple(self.attempts)
        response.latency = monotonic() - self.started
        return response

    async def _send(self, step: Step, limits: aiohttp.ClientTimeout, began: float) -> LLMResponse:
        target = step.target
        request = Request(
            target.provider,
            target.model,
            self.messages,
            step.params,
            drop_params=self.drop_params,
            headers=self.headers,
        )
        response: LLMResponse = await target.send(request, limits)
        now = monotonic()
        self.attempts.append(
            Attempt(
                target.provider,
                target.model,
                started=began - self.started,
                latency=now - began,
                waited=self.waited,
                wait_reason=self.why,
                status_code=200,
                key_id=target.key_id,
                request_id=response.request_id,
                usage=response.usage,
            )
        )
        if logger.isEnabledFor(logging.DEBUG):
            _log(self, self.attempts[-1])
        return response

    # -- streams ------------------------------------------------------------------------------------------------

    async def open(self, steps: list[Step]) -> StreamSource:
        """A source whose first piece of content is there; until then failing over is free."""
        source: StreamSource = await self._chain(steps, self._begin)
        if self.story:
            source.batch = [*self.story, *source.batch]
        return source

    async def _begin(self, step: Step, limits: aiohttp.ClientTimeout, began: float) -> StreamSource:
        target = step.target
        request = Request(
            target.provider,
            target.model,
            self.messages,
            step.params,
            stream=True,
            drop_params=self.drop_params,
            headers=self.headers,
        )
        first = self.timeouts.first_token
        seconds = min((t for t in (limits.total, first) if t is not None), default=None)
        if hasattr(target, "source"):
            return Recorded(self, step, began, await target.source(request, seconds))
        unlimited = aiohttp.ClientTimeout(total=None, sock_connect=limits.sock_connect)
        try:
            async with asyncio.timeout(seconds) as timer:
                stream, fold = await target.open(request, unlimited)
        except TimeoutError as error:
            if isinstance(error, ProviderError):
                raise
            raise self._silent(target, seconds) from None
        try:
            return await self._first_piece(step, request, stream, fold, began, timer.when())
        except BaseException:
            stream.close()
            raise

    async def _first_piece(  # noqa: PLR0917  # one private caller
        self, step: Step, request: Request, stream: OpenStream, fold: Any, began: float, until: float | None
    ) -> StreamSource:
        target = step.target
        kind = stream.headers.get("Content-Type", "").lower()
        stream.watch(None, until)
        if "json" in kind and "event-stream" not in kind:
            response = target.decode(await stream.rest(), request, stream.headers)
            stream.close()
            return Recorded(self, step, began, OneAnswer(response))
        if "html" in kind:
            from llm_master.classify import excerpt

            raise ResponseError(
                f"{target.provider} answered {target.model!r} with an HTML page: {excerpt(await stream.rest())};"
                " check the base URL",
                provider=target.provider,
                model=target.model,
                status_code=stream.status,
            )
        source = WireSource(self, step, stream, fold, began)
        while not await source.fill():
            pass
        deadline = None if self.timeouts.total is None else self.started + self.timeouts.total
        source.arm(self.timeouts.idle, deadline)
        return source

    def _silent(self, target: Target, seconds: float | None) -> APITimeoutError:
        return APITimeoutError(
            f"{target.provider} sent nothing for {target.model!r} in {seconds:.3g} s;"
            " raise timeout= or give a fallback_model=",
            provider=target.provider,
            model=target.model,
        )

    # -- attempts -----------------------------------------------------------------------------------------------

    async def _chain(self, steps: list[Step], make: Callable[..., Awaitable[Any]]) -> Any:
        last = len(steps) - 1
        for index, step in enumerate(steps):
            try:
                return await self._on_target(step, make, last - index)
            except ProviderError as error:
                if index == last or not falls_back(error, self.fallback_on):
                    raise self._final(error) from error.__cause__
                following = steps[index + 1].target.asked
                self.story.append(FallbackEvent(error, following))
                logger.debug("%s: going on with %s", error, following)
        raise AssertionError("a call has at least one step")

    async def _on_target(self, step: Step, make: Callable[..., Awaitable[Any]], more: int) -> Any:
        began = monotonic()
        try:
            return await make(step, self._limits(step.target, more), began)
        except ProviderError as error:
            self._failed(step.target, error, began)
            wait = self._wait(error, 1)
            if wait is None:
                raise
            first = error
        return await self._again(step, make, more, first, wait)

    async def _again(
        self, step: Step, make: Callable[..., Awaitable[Any]], more: int, first: ProviderError, wait: float
    ) -> Any:
        """The second and later attempts on a target, in tenacity's loop."""
        import tenacity

        waits = [wait]

        async def once() -> Any:
            began = monotonic()
            try:
                return await make(step, self._limits(step.target, more), began)
            except ProviderError as error:
                self._failed(step.target, error, began)
                raise

        def stop(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome is not None else None
            following = self._wait(error, state.attempt_number + 1) if isinstance(error, ProviderError) else None
            if following is not None:
                waits.append(following)
            return following is None

        async def sleep(seconds: float) -> None:
            await self._sleep(seconds, step.target, len(waits))

        self.story.append(RetryEvent(first, 2, wait))
        await sleep(wait)
        retrying = tenacity.AsyncRetrying(
            stop=stop,
            wait=lambda _state: waits[-1],
            retry=tenacity.retry_if_exception_type(ProviderError),
            before_sleep=lambda state: self.story.append(
                RetryEvent(state.outcome and state.outcome.exception(), state.attempt_number + 2, waits[-1])
            ),
            sleep=sleep,
            reraise=True,
        )
        return await retrying(once)

    async def _sleep(self, seconds: float, target: Any, attempt: int) -> None:
        self.waited, self.why = seconds, "retry"
        logger.debug("%s %s: attempt %d in %.3f s", target.provider, target.model, attempt + 1, seconds)
        await asyncio.sleep(seconds)

    def _limits(self, target: Any, more: int) -> aiohttp.ClientTimeout:
        """The time that this attempt gets: all that is left, or a share of it while other targets wait."""
        left = self.remaining()
        if left is not None:
            if left <= 0:
                raise self._over(target)
            left /= 2 if more else 1
        return aiohttp.ClientTimeout(total=left, sock_connect=self.timeouts.connect)

    def _wait(self, error: ProviderError, attempt: int) -> float | None:
        """Seconds before the next attempt on the same target, or None when there is none."""
        if not error.retryable or attempt >= self.policy.max_attempts:
            return None
        if isinstance(error, APITimeoutError) and error.status_code is None:
            return None  # a silent route stays silent: its time belongs to the next one
        asked = error.retry_after
        if asked is not None and asked > self.policy.max_retry_after:
            return None
        wait = full_jitter(self.policy, attempt) if asked is None else asked
        left = self.remaining()
        return None if left is not None and wait >= left else wait

    def _failed(self, target: Any, error: ProviderError, began: float) -> None:
        self.attempts.append(
            Attempt(
                target.provider,
                target.model,
                outcome="error",
                status_code=error.status_code,
                error=type(error).__name__,
                error_code=error.code,
                started=began - self.started,
                latency=monotonic() - began,
                waited=self.waited,
                wait_reason=self.why,
                key_id=target.key_id,
                request_id=error.request_id,
            )
        )
        self.waited, self.why = 0.0, None
        if logger.isEnabledFor(logging.DEBUG):
            _log(self, self.attempts[-1])

    def _over(self, target: Any) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"the deadline of {self.timeouts.total:g} s for {self.model_name!r} is over after"
            f" {len(self.attempts)} attempts ({target.provider} was next); raise timeout=",
            provider=target.provider,
            model=target.model,
        )

    def _final(self, error: ProviderError) -> ProviderError:
        error.attempts = tuple(self.attempts)
        return error


class Recorded(StreamSource):
    """Another source, with the call's record added to its answer."""

    def __init__(self, call: Call, step: Step, began: float, inner: StreamSource) -> None:
        self._call, self._step, self._began, self._inner = call, step, began, inner
        self.batch = inner.batch

    async def advance(self) -> bool:
        """The inner source's next pieces."""
        more = await self._inner.advance()
        self.batch = self._inner.batch
        if not more and self.response is None:
            response = self._inner.response
            assert response is not None  # noqa: S101  # a source that ended has its answer
            _finish(self._call, self._step.target, response, self._began, None)
            self.response = response
        return more

    def abandon(self) -> None:
        """Stop the inner source."""
        self._inner.abandon()


class WireSource(StreamSource):
    """The pieces of one provider's stream."""

    def __init__(self, call: Call, step: Step, stream: OpenStream, fold: Any, began: float) -> None:
        self._call, self._step, self._stream, self._fold, self._began = call, step, stream, fold, began
        self._first: float | None = None
        self._until: float | None = None
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
            return True
        return bool(self._fold.done)

    async def _next(self) -> list[Any]:
        """The pieces of the next read; an ended stream that is not complete raises StreamInterrupted."""
        fold = self._fold
        data = await self._stream.read()
        pieces: list[Any] = fold.feed(data) if data else fold.end()
        if not data and not fold.done:
            if not fold.complete:
                target = self._step.target
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
        fold = self._fold
        if not fold.done:
            try:
                if fold.complete:
                    self._stream.watch(_GRACE, self._until)
                self.batch = await self._next()
            except ProviderError as error:
                if not fold.complete or not isinstance(error, APIConnectionError | APITimeoutError):
                    raise self._interrupted(error) from error
                # The answer is whole; only the marker that says so is missing.
                self.batch = fold.end()
                fold.done = True
            except BaseException:
                self.abandon()
                raise
            return True
        self.batch = ()
        self.response = self._end()
        return False

    def _end(self) -> LLMResponse:
        response: LLMResponse = self._fold.response()
        target = self._step.target
        target.complete(response, self._stream.headers)
        first = None if self._first is None else self._first - self._call.started
        _finish(self._call, target, response, self._began, first)
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
        call, target = self._call, self._step.target
        call._failed(target, error, self._began)  # noqa: SLF001  # the same module's other half
        call.attempts[-1].outcome = "interrupted"
        partial = self._fold.response()
        self._close()
        text = str(partial.content)
        found = StreamInterrupted(
            f"{target.provider} broke off the stream of {target.model!r} after {len(text)} characters: {error}",
            partial_text=text,
            partial=partial,
            provider=target.provider,
            model=target.model,
            status_code=error.status_code,
            code=error.code,
            retry_after=error.retry_after,
            request_id=error.request_id,
        )
        found.attempts = tuple(call.attempts)
        return found

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._stream.close()

    def abandon(self) -> None:
        """Close the provider's connection if the answer is not whole yet."""
        if self._closed:
            return
        call, target = self._call, self._step.target
        if self.response is None:
            now = monotonic()
            call.attempts.append(
                Attempt(
                    target.provider,
                    target.model,
                    outcome="cancelled",
                    status_code=200,
                    started=self._began - call.started,
                    latency=now - self._began,
                    key_id=target.key_id,
                )
            )
        with contextlib.suppress(RuntimeError):  # a closed loop has closed its sockets
            # A stream may be dropped by another thread or by the garbage collector.
            self._loop.call_soon_threadsafe(self._close) if _running() is not self._loop else self._close()


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _finish(call: Call, target: Any, response: LLMResponse, began: float, first: float | None) -> None:
    now = monotonic()
    call.attempts.append(
        Attempt(
            target.provider,
            target.model,
            started=began - call.started,
            latency=now - began,
            time_to_first_token=None if first is None else first - (began - call.started),
            waited=call.waited,
            wait_reason=call.why,
            status_code=200,
            key_id=target.key_id,
            request_id=response.request_id,
            usage=response.usage,
        )
    )
    response.attempts = tuple(call.attempts)
    response.latency = now - call.started
    response.time_to_first_token = first
    if logger.isEnabledFor(logging.DEBUG):
        _log(call, call.attempts[-1])


def _log(call: Call, attempt: Attempt) -> None:
    logger.debug(
        "%s -> %s %s: %s%s status=%s waited=%.3f s took=%.3f s request_id=%s",
        call.model_name,
        attempt.provider,
        attempt.model,
        attempt.outcome,
        f" ({attempt.error})" if attempt.error else "",
        attempt.status_code,
        attempt.waited,
        attempt.latency,
        attempt.request_id,
    )
