"""
One call: a whole answer or a stream, from the first target that gives it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import aiohttp

from llm_master.answers import OperationResponse
from llm_master.chain import Chain, Step, first_limits
from llm_master.classes import LLMResponse, Request
from llm_master.errors import (
    APITimeoutError,
    LLMError,
    ProviderError,
    ResponseError,
    StructuredOutputError,
    UnsupportedParameterError,
)
from llm_master.events import UsageEvent
from llm_master.messages import normalise
from llm_master.params import check as check_params
from llm_master.params import check_model_name
from llm_master.pieces import OperationStream
from llm_master.policy.retry import RetryPolicy
from llm_master.record import usage_of
from llm_master.resume import Resumption
from llm_master.settling import settled
from llm_master.sources import Recorded, WireSource
from llm_master.stream import LLMStream, OneAnswer, StreamSource
from llm_master.structured import correction, fulfil

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from llm_master.events import CallEvent
    from llm_master.incoming import OpenStream
    from llm_master.policy.hedge import HedgeBudget
    from llm_master.record import Trial
    from llm_master.schemas import Wanted
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

_NUMBERS = count(1)
# An answer that was cut off or refused does not get better by being asked for again.
_REPAIRABLE = ("stop", "tool_calls", None)


class Call(Chain):
    """
    What one ``query`` knows of itself.

    Attributes:
        messages: normalised.
        headers: the caller's extra ones.
        drop_params: leave out what a model cannot take.
        hedge_after: seconds without an answer after which a second target is asked too, None for never.
        hedges: how many calls may be hedged.
        wanted: the shape of the answer, None for any.
    """

    __slots__ = ("drop_params", "headers", "hedge_after", "hedges", "messages", "wanted")

    def prepare(
        self, messages: list[dict[str, Any]], headers: dict[str, str] | None = None, *, drop_params: bool = False
    ) -> None:
        """Set what the requests hold; part of making a call."""
        self.messages = messages
        self.headers = headers
        self.drop_params = drop_params
        self.hedge_after: float | None = None
        self.hedges: HedgeBudget | None = None
        self.wanted: Wanted | None = None

    def fits(self, response: LLMResponse) -> bool:
        """Whether an answer has the shape that was asked for, if one was."""
        if self.wanted is None or (response.tool_calls and not response.content):
            return True
        try:
            self.wanted.parse(response.content)
        except ValueError:
            return False
        return True

    def watched(self, listeners: Sequence[Callable[[CallEvent], Any]]) -> None:
        """Tell these listeners what happens from now on; ``observed`` tells the beginning."""
        self.listeners = listeners
        self.id = next(_NUMBERS)

    def _request(self, target: Any, step: Step, *, stream: bool = False) -> Request:
        return Request(
            target.provider,
            target.model,
            self.messages,
            step.params,
            stream=stream,
            drop_params=self.drop_params,
            headers=self.headers,
        )

    # -- whole answers ------------------------------------------------------------------------------------------

    async def run(self, steps: list[Step], limits: aiohttp.ClientTimeout) -> LLMResponse:
        """
        The whole answer of the first step that gives one.

        The first attempt, nearly always the only one, is made right here: each coroutine between the caller and the
        socket is paid for at every turn of the event loop.

        Args:
            limits: the time of the first attempt when there is no other target.
        """
        step = steps[0]
        self.admission.budget.deposit()
        trial = self.admission.at_once(self, step)
        if trial is None:
            found: LLMResponse = await self.walk(steps, self._send)
            return found
        self.last = trial.lease.member.name
        target = trial.target.for_call(step.params)
        alone = len(steps) == 1 and len(step.pool.places) == 1
        request = trial.request = self._request(target, step)
        try:
            response: LLMResponse = await target.send(request, limits if alone else self.share(step, more=True))
        except ProviderError as error:
            trial.failed(error)
            return await self.walk(steps, self._send, error)  # type: ignore[no-any-return]  # _send's
        except UnsupportedParameterError as error:
            trial.dropped(error)
            return await self.walk(steps, self._send, error)  # type: ignore[no-any-return]  # _send's
        except BaseException as error:
            trial.dropped(error)
            raise
        trial.finished(response)
        return response

    async def _send(self, step: Step, trial: Trial, limits: aiohttp.ClientTimeout) -> LLMResponse:
        target = trial.target.for_call(step.params)
        request = trial.request = self._request(target, step)
        response: LLMResponse = await target.send(request, limits)
        trial.finished(response)
        return response

    def again(self, messages: list[dict[str, Any]]) -> Call:
        """A part of this call with messages of its own, in the same record and deadline."""
        twin = self._twin()
        twin.messages = messages
        return twin

    # -- streams ------------------------------------------------------------------------------------------------

    async def stream(self, steps: list[Step], on_interrupt: str | None = None) -> LLMStream:
        """The stream of the first step that begins to answer."""
        return LLMStream(await self.begin(steps), Resumption(self, steps, on_interrupt))

    async def begin(self, steps: list[Step]) -> StreamSource:
        """The source of ``stream``."""
        self.admission.budget.deposit()
        if self.hedge_after is None:
            return await self.open(steps)
        return await self._hedged(steps, _opened)  # type: ignore[no-any-return]  # open's

    async def open(self, steps: Sequence[Step], exclude: Sequence[str] = (), tries: int = 0) -> StreamSource:
        """
        A source whose first piece of content is there; until then failing over is free.

        Args:
            exclude: deployments of the first step that have failed already.
            tries: attempts that were made on the first step already.
        """
        self.story = []
        source: StreamSource = await self.walk(steps, self._begin, exclude=exclude, tries=tries)
        if self.story:
            source.batch = [*self.story, *source.batch]
        return source

    async def _begin(self, step: Step, trial: Trial, limits: aiohttp.ClientTimeout) -> StreamSource:
        target = trial.target.for_call(step.params)
        request = trial.request = self._request(target, step, stream=True)
        if hasattr(target, "source"):
            return Recorded(trial, await target.source(request, self._first_seconds(limits)))
        stream, fold, times = await self.opening(trial, limits, partial(target.open, request))
        try:
            return await self._first_piece(trial, request, stream, fold, times)
        except BaseException:
            stream.close()
            raise

    def _first_seconds(self, limits: aiohttp.ClientTimeout) -> float | None:
        """Seconds that an attempt may take to its first piece, None for no limit."""
        return min((t for t in (limits.total, self.timeouts.first_token) if t is not None), default=None)

    async def opening(
        self,
        trial: Trial,
        limits: aiohttp.ClientTimeout,
        work: Callable[[aiohttp.ClientTimeout], Awaitable[tuple[OpenStream, Any]]],
    ) -> tuple[OpenStream, Any, tuple[float | None, float | None]]:
        """
        What ``work`` opens within the time for a first piece.

        Returns:
            The stream and what reads it, loop time by which its first piece must be there, and seconds that the
            attempt may take.
        """
        seconds = self._first_seconds(limits)
        unlimited = aiohttp.ClientTimeout(total=None, sock_connect=limits.sock_connect)
        try:
            async with asyncio.timeout(seconds) as timer:
                stream, fold = await work(unlimited)
        except TimeoutError as error:
            if isinstance(error, ProviderError):
                raise
            raise self._silent(trial.target, seconds) from None
        trial.stream = stream
        return stream, fold, (timer.when(), limits.total)

    def arm(self, source: WireSource, share: float | None) -> None:
        """Watch a stream whose first piece is there; ``share``: seconds that the attempt may take."""
        # A stream that falls silent must leave time for the targets behind it, even where only the deadline watches.
        idle = min((each for each in (self.timeouts.idle, share) if each is not None), default=None)
        left = self.remaining()
        # Counted from the loop's own clock, which need not be the monotonic one.
        source.arm(idle, None if left is None else asyncio.get_running_loop().time() + left)

    async def _first_piece(
        self, trial: Trial, request: Request, stream: OpenStream, fold: Any, times: tuple[float | None, float | None]
    ) -> StreamSource:
        """The source; ``times``: loop time by which its first piece must be there, and seconds the attempt may take."""
        target = trial.target.for_call(request.params)
        until, share = times
        kind = stream.headers.get("Content-Type", "").lower()
        stream.watch(None, until)
        if "json" in kind and "event-stream" not in kind:
            response = target.decode(await stream.rest(), request, stream.headers)
            stream.close()
            return Recorded(trial, OneAnswer(response))
        if "html" in kind:
            from llm_master.classify import excerpt

            raise ResponseError(
                f"{target.provider} answered {target.model!r} with an HTML page: {excerpt(await stream.rest())};"
                " check the base URL",
                provider=target.provider,
                model=target.model,
                status_code=stream.status,
            )
        source = WireSource(trial, stream, fold)
        while not await source.fill():
            pass
        if fold.done and all(isinstance(piece, UsageEvent) for piece in source.batch):
            partial = fold.response()
            if not fold.complete or partial.finish_reason == "error":
                target.check_said(partial)
        self.arm(source, share)
        return source

    def _silent(self, target: Target, seconds: float | None) -> APITimeoutError:
        return APITimeoutError(
            f"{target.provider} sent nothing for {target.model!r} in {seconds:.3g} s;"
            " raise timeout= or give a fallback_model=",
            provider=target.provider,
            model=target.model,
        )

    # -- two targets at once ------------------------------------------------------------------------------------

    async def hedged(self, steps: list[Step], limits: aiohttp.ClientTimeout) -> LLMResponse:
        """As ``run``, with a second target when the first has not answered after ``hedge_after`` seconds."""
        return await self._hedged(steps, lambda call, own: call.run(own, limits))  # type: ignore[no-any-return]  # run's

    async def _hedged(self, steps: list[Step], make: Callable[[Call, list[Step]], Coroutine[Any, Any, Any]]) -> Any:
        from llm_master.policy.hedge import race

        twin = self._twin()
        hedges = self.hedges
        if hedges is not None:
            hedges.deposit()
        offset = 0

        async def second() -> Any:
            # Behind the target that the first is at by now; when that is the last one, the same once more.
            nonlocal offset
            offset = min(self.at + 1, len(steps) - 1)
            other = steps[offset:]
            self.tell("hedge", wait=self.hedge_after, target=other[0].pool.asked)
            return await make(twin, other)

        try:
            found, winner = await race(
                lambda: make(self, steps), second, self.hedge_after, hedges.try_hedge if hedges else bool, _discard
            )
        except ProviderError as error:
            # The one that failed first knows nothing of what the other did after it.
            error.attempts = tuple(self.attempts)
            raise
        if winner == 1:
            self.last, self.at, self.tries = twin.last, twin.at + offset, twin.tries
        if isinstance(found, LLMResponse):
            # The one that was left may be billed too.
            found.attempts = attempts = tuple(self.attempts)
            found.usage = usage_of(attempts)
        return found

    def _twin(self) -> Call:
        """The same call once more, with the same record and a state of its own."""
        twin = Call(
            self.model_name,
            self.admission,
            self.timeouts,
            self.policy,
            own_time=self.own_time,
            fallback_on=self.fallback_on,
            limits=self.limits,
            limit_wait=self.limit_wait,
        )
        twin.prepare(self.messages, self.headers, drop_params=self.drop_params)
        twin.spending = self.spending
        twin.attempts, twin.listeners, twin.id, twin.tags = self.attempts, self.listeners, self.id, self.tags
        twin.started, twin.kind = self.started, self.kind
        return twin

    # -- in a shape ---------------------------------------------------------------------------------------------

    async def shaped(
        self, work: Coroutine[Any, Any, LLMResponse], steps: list[Step], wanted: Wanted, *, lenient: bool, repairs: int
    ) -> LLMResponse:
        """
        The answer of ``work`` with its value in ``parsed``; one that does not fit is asked for again.

        All attempts count in one record and one deadline.

        Args:
            lenient: note what does not fit instead of raising.
            repairs: how often the model is shown what is wrong with its answer.

        Raises:
            StructuredOutputError: no answer fits.
        """
        response = await work
        conversation = self.messages
        for left in range(repairs, -1, -1):
            try:
                return fulfil(response, wanted, lenient=lenient and not left)
            except StructuredOutputError as error:
                if not left or response.finish_reason not in _REPAIRABLE:
                    raise
                conversation = [*conversation, *correction(error)]
                self.tell("repair", error=error, target=steps[0].pool.asked)
            again = self._twin()
            again.messages = conversation
            response = await again.run(steps, self.share(steps[0], more=False))
        raise AssertionError("a range from repairs to 0 is never empty")

    # -- observed -----------------------------------------------------------------------------------------------

    async def observed(self, work: Coroutine[Any, Any, Any], steps: Sequence[Step] = ()) -> Any:
        """The same work, with its one end told to the listeners and kept by the books; a stream tells its own."""
        try:
            if self.listeners:
                with self.heard(steps):
                    found = await work
            else:
                found = await work
        except LLMError as error:
            waits = self.end("error", error=error)
            if waits is not None:
                await settled(waits)
            raise
        except BaseException as error:
            self.end("cancelled", error=error)
            raise
        if found.__class__ not in (LLMStream, OperationStream):
            waits = self.end("ok", response=found if isinstance(found, LLMResponse | OperationResponse) else None)
            if waits is not None:
                await settled(waits, found)
        return found


async def _opened(call: Call, steps: list[Step]) -> StreamSource:
    return await call.open(steps)


def _discard(found: Any) -> None:
    """Close what the slower of two targets brought."""
    if isinstance(found, StreamSource):
        found.abandon()
