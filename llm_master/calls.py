"""
One call: its attempts on one target, then on the next, inside one deadline, with a record of each.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp

from llm_master.classes import EmbeddingResponse, LLMResponse, Request, TokenCount
from llm_master.errors import (
    APITimeoutError,
    DeadlineExceededError,
    LLMError,
    ProviderError,
    ResponseError,
    UnsupportedParameterError,
)
from llm_master.events import FallbackEvent, RetryEvent
from llm_master.messages import normalise
from llm_master.params import check as check_params
from llm_master.params import check_model_name
from llm_master.policy.retry import RetryPolicy, falls_back, full_jitter
from llm_master.record import Record, logger
from llm_master.sources import Recorded, WireSource
from llm_master.stream import LLMStream, OneAnswer, StreamSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from llm_master.incoming import OpenStream
    from llm_master.policy.deadline import Timeouts
    from llm_master.target import Target

__all__ = [
    "Call",
    "LLMStream",
    "RetryPolicy",
    "Step",
    "check_model_name",
    "check_params",
    "first_limits",
    "normalise",
]


def first_limits(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    """The time of an attempt that has the whole deadline for itself."""
    return aiohttp.ClientTimeout(total=timeouts.total, sock_connect=timeouts.connect)


class Step:
    """One target of a call and the parameters that it gets."""

    __slots__ = ("params", "target")

    def __init__(self, target: Any, params: dict[str, Any]) -> None:
        self.target = target
        self.params = params


class Call(Record):
    """
    What one ``query`` knows of itself.

    Args:
        model_name: as asked.
        messages: normalised.
        timeouts, policy: the limits in force.
        fallback_on: kinds of refusal that may fall back although they usually do not.
    """

    __slots__ = ("drop_params", "fallback_on", "headers", "messages", "policy", "timeouts")

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
        # Record's fields are set here and not by its __init__: this runs once a call.
        self.model_name = model_name
        self.attempts = []
        self.story = []
        self.waited = 0.0
        self.why = None
        self.messages = messages
        self.timeouts = timeouts
        self.policy = policy
        self.headers = headers
        self.drop_params = drop_params
        self.fallback_on = fallback_on
        self.started = monotonic()

    def remaining(self) -> float | None:
        """Seconds left of the deadline, None without one."""
        total = self.timeouts.total
        return None if total is None else total - (monotonic() - self.started)

    # -- whole answers ------------------------------------------------------------------------------------------

    async def run(self, steps: list[Step], limits: aiohttp.ClientTimeout) -> LLMResponse:
        """
        The whole answer of the first step that gives one.

        The first attempt, nearly always the only one, is made right here: each coroutine between the caller and the
        socket is paid for at every turn of the event loop.

        Args:
            limits: the time of the first attempt when there is no other step.
        """
        step = steps[0]
        target = step.target
        request = Request(
            target.provider,
            target.model,
            self.messages,
            step.params,
            drop_params=self.drop_params,
            headers=self.headers,
        )
        try:
            response: LLMResponse = await target.send(
                request, limits if len(steps) == 1 else self._limits(target, len(steps) - 1)
            )
        except (ProviderError, UnsupportedParameterError) as error:
            found: LLMResponse = await self._chain(steps, self._send, error)
            return found
        self.finished(target, response, self.started, None)
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
        self.finished(target, response, began, None)
        return response

    async def embed(self, steps: list[Step], texts: list[str]) -> EmbeddingResponse:
        """The vectors of the first step that gives them."""

        async def make(step: Step, limits: aiohttp.ClientTimeout, began: float) -> EmbeddingResponse:
            target = step.target
            request = Request(target.provider, target.model, [], step.params, headers=self.headers)
            response: EmbeddingResponse = await target.embed(texts, request, limits)
            self.finished(target, response, began, None)
            return response

        response: EmbeddingResponse = await self._chain(steps, make)
        return response

    async def count(self, steps: list[Step]) -> TokenCount:
        """The tokens of the messages."""

        async def make(step: Step, limits: aiohttp.ClientTimeout, began: float) -> TokenCount:  # noqa: ARG001  # as _send
            target = step.target
            request = Request(target.provider, target.model, self.messages, {}, headers=self.headers)
            return TokenCount(await target.count(request, limits), "provider", target.model)

        found: TokenCount = await self._chain(steps, make)
        return found

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
            return Recorded(self, target, began, await target.source(request, seconds))
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
            return Recorded(self, target, began, OneAnswer(response))
        if "html" in kind:
            from llm_master.classify import excerpt

            raise ResponseError(
                f"{target.provider} answered {target.model!r} with an HTML page: {excerpt(await stream.rest())};"
                " check the base URL",
                provider=target.provider,
                model=target.model,
                status_code=stream.status,
            )
        source = WireSource(self, target, stream, fold, began)
        while not await source.fill():
            pass
        left = self.remaining()
        # Counted from the loop's own clock, which need not be the monotonic one.
        source.arm(self.timeouts.idle, None if left is None else asyncio.get_running_loop().time() + left)
        return source

    def _silent(self, target: Target, seconds: float | None) -> APITimeoutError:
        return APITimeoutError(
            f"{target.provider} sent nothing for {target.model!r} in {seconds:.3g} s;"
            " raise timeout= or give a fallback_model=",
            provider=target.provider,
            model=target.model,
        )

    # -- attempts -----------------------------------------------------------------------------------------------

    async def _chain(
        self, steps: list[Step], make: Callable[..., Awaitable[Any]], failed: LLMError | None = None
    ) -> Any:
        """Step after step until one succeeds; ``failed`` is the error of the first step's first attempt, if made."""
        last = len(steps) - 1
        for index, step in enumerate(steps):
            error: LLMError
            try:
                return await self._on_target(step, make, last - index, failed)
            except ProviderError as given_up:
                if index == last or not falls_back(given_up, self.fallback_on):
                    raise self._final(given_up) from given_up.__cause__
                error = given_up
            except UnsupportedParameterError as refused:
                # Nothing was sent: this target cannot take the parameters, the next one gets its own.
                if index == last:
                    raise
                self.failed(step.target, refused, monotonic())
                error = refused
            failed = None
            following = steps[index + 1].target.asked
            self.story.append(FallbackEvent(error, following))
            logger.debug("%s: going on with %s", error, following)
        raise AssertionError("a call has at least one step")

    async def _on_target(
        self, step: Step, make: Callable[..., Awaitable[Any]], more: int, failed: LLMError | None
    ) -> Any:
        began = self.started if failed is not None else monotonic()
        try:
            if failed is not None:
                raise failed
            return await make(step, self._limits(step.target, more), began)
        except ProviderError as error:
            self.failed(step.target, error, began)
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
                self.failed(step.target, error, began)
                raise

        def stop(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome is not None else None
            following = (
                self._wait(error, state.attempt_number + 1, waits[-1]) if isinstance(error, ProviderError) else None
            )
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

    def _wait(self, error: ProviderError, attempt: int, previous: float = 0.0) -> float | None:
        """Seconds before the next attempt on the same target, or None when there is none."""
        if not error.retryable or attempt >= self.policy.max_attempts:
            return None
        if isinstance(error, APITimeoutError) and error.status_code is None:
            return None  # a silent route stays silent: its time belongs to the next one
        asked = error.retry_after
        if asked is not None and asked > self.policy.max_retry_after:
            return None
        wait = full_jitter(self.policy, attempt, previous) if asked is None else asked
        left = self.remaining()
        return None if left is not None and wait >= left else wait

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
