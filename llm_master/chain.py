"""
Attempt after attempt: again here, on another deployment, or on the next model, inside one deadline.
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp

from llm_master.admission import SKIPS
from llm_master.errors import (
    APITimeoutError,
    DeadlineExceededError,
    LLMError,
    ProviderError,
    UnsupportedParameterError,
)
from llm_master.events import FallbackEvent, RetryEvent
from llm_master.policy.retry import falls_back, full_jitter
from llm_master.record import Record, Trial, logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from llm_master.admission import Admission
    from llm_master.events import StreamEvent
    from llm_master.policy.deadline import Timeouts
    from llm_master.policy.limits_rules import Limit
    from llm_master.policy.retry import RetryPolicy
    from llm_master.pools import Pool

    Make = Callable[["Step", Trial, aiohttp.ClientTimeout], Awaitable[Any]]

__all__ = ["Chain", "Step", "first_limits"]

# A timeout after fewer seconds than this, in a call that brought its own limits, says nothing of a deployment.
_PATIENT = 5.0


def first_limits(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    """The time of an attempt that has the whole deadline for itself."""
    return aiohttp.ClientTimeout(total=timeouts.total, sock_connect=timeouts.connect)


class Step:
    """One model of a call, with its deployments, and the parameters that it gets."""

    __slots__ = ("params", "pool")

    def __init__(self, pool: Pool, params: dict[str, Any]) -> None:
        self.pool = pool
        self.params = params


class Chain(Record):
    """
    The attempts of one call and what decides about the next one.

    Args:
        model_name: as asked.
        admission: what each attempt passes before its request.
        timeouts, policy: the limits in force.
        own_time: whether the timeouts were given with this call.
        fallback_on: kinds of refusal that may fall back although they usually do not.
        limits: those of the caller's tags.
        limit_wait: seconds that an attempt may wait for room under limits; None is as long as the deadline allows.
    """

    __slots__ = (
        "admission",
        "at",
        "fallback_on",
        "last",
        "limit_wait",
        "limits",
        "own_time",
        "policy",
        "previous",
        "spending",
        "timeouts",
        "tries",
        "waited",
        "why",
    )

    def __init__(
        self,
        model_name: str,
        admission: Admission,
        timeouts: Timeouts,
        policy: RetryPolicy,
        *,
        own_time: bool = False,
        fallback_on: Collection[str] = (),
        limits: tuple[Limit, ...] = (),
        limit_wait: float | None = None,
    ) -> None:
        self.model_name = model_name
        self.attempts = []
        self.story: list[StreamEvent] = []
        self.listeners = ()
        self.books = ()
        self.kind = "chat"
        self.streamed = False
        self.uid = None
        self.tags = ()
        self.id = 0
        self.ended = False
        self.admission = admission
        self.timeouts = timeouts
        self.policy = policy
        self.own_time = own_time
        self.fallback_on = fallback_on
        self.limits = limits
        self.limit_wait = limit_wait
        self.spending: Any = None  # what it may cost, when that is bounded
        # The deployment of the latest attempt. Not the attempt, which holds this call: a circle would leave every call
        # to the garbage collector.
        self.last: str | None = None
        self.at = 0  # the step that is tried
        self.tries = 0  # attempts on it
        self.previous = 0.0  # the latest wait between two of them
        self.waited = 0.0  # before the next attempt; why: for what
        self.why: str | None = None
        self.started = monotonic()

    # -- time ---------------------------------------------------------------------------------------------------

    def remaining(self) -> float | None:
        """Seconds left of the deadline, None without one."""
        total = self.timeouts.total
        return None if total is None else total - (monotonic() - self.started)

    def patience(self, *, more: bool) -> float:
        """Seconds that an attempt may stand in line, fewer while other targets wait."""
        left = self.remaining()
        longest = math.inf if left is None else left / 2 if more else left
        return longest if self.limit_wait is None else min(longest, self.limit_wait)

    def cooling_patience(self) -> float:
        """Seconds that a call without another target waits for one that is left alone."""
        left = self.remaining()
        return self.policy.max_retry_after if left is None else min(left, self.policy.max_retry_after)

    def is_hasty(self, seconds: float) -> bool:
        """Whether a timeout after so many seconds comes from the caller's own short limits."""
        return self.own_time and seconds < _PATIENT

    def share(self, step: Step, *, more: bool) -> aiohttp.ClientTimeout:
        """The time that an attempt gets: all that is left, or a half of it while other targets wait."""
        left = self.remaining()
        if left is not None:
            if left <= 0:
                raise self.over(step.pool)
            left /= 2 if more else 1
        return aiohttp.ClientTimeout(total=left, sock_connect=self.timeouts.connect)

    def over(self, pool: Pool) -> DeadlineExceededError:
        """The error of a call whose time is used up."""
        return DeadlineExceededError(
            f"the deadline of {self.timeouts.total:g} s for {self.model_name!r} is over after"
            f" {len(self.attempts)} attempts ({pool.provider} was next); raise timeout=",
            provider=pool.provider,
            model=pool.model,
            attempts=tuple(self.attempts),
        )

    # -- steps --------------------------------------------------------------------------------------------------

    async def walk(
        self,
        steps: Sequence[Step],
        make: Make,
        failed: ProviderError | UnsupportedParameterError | None = None,
        exclude: Collection[str] = (),
        tries: int = 0,
        *,
        more: bool = False,
    ) -> Any:
        """
        Step after step until one succeeds.

        Args:
            make: one attempt; it finishes the trial that it is given.
            failed: the error of the first step's first attempt, if that was made already.
            exclude: deployments of the first step that have failed already.
            tries: attempts that were made on the first step already, ``failed`` not among them.
            more: whether the caller has steps behind these, for which time must be left.
        """
        last = len(steps) - 1
        for index, step in enumerate(steps):
            error: LLMError
            self.at = index
            self.tries = tries + 1
            if not tries:
                self.previous = 0.0
            try:
                return await self._on_pool(step, make, failed, set(exclude), more=more or index < last)
            except ProviderError as given_up:
                if index == last or not falls_back(given_up, self.fallback_on):
                    given_up.attempts = tuple(self.attempts)
                    raise
                error = given_up
            except UnsupportedParameterError as refused:
                # Nothing was sent: this target cannot take the parameters, the next one gets its own.
                if index == last:
                    raise
                self.skipped(step.pool.places[0], refused, monotonic())
                error = refused
            failed, exclude, tries = None, (), 0
            following = steps[index + 1].pool.asked
            self.story.append(FallbackEvent(error, following))
            logger.debug("%s: going on with %s", error, following)
            self.tell("fallback", error=error, target=following)
        raise AssertionError("a call has at least one step")

    async def _on_pool(
        self,
        step: Step,
        make: Make,
        failed: ProviderError | UnsupportedParameterError | None,
        exclude: set[str],
        *,
        more: bool,
    ) -> Any:
        try:
            if failed is not None:
                raise failed
            return await self._attempt(step, make, exclude, more=more)
        except ProviderError as error:
            wait = self.next_wait(error, step.pool, exclude)
            if wait is None:
                raise
            first = error
        return await self._again(step, make, exclude, first, wait, more=more)

    async def _attempt(self, step: Step, make: Make, exclude: Collection[str], *, more: bool) -> Any:
        """One attempt, from its wait for admission to its end in the record."""
        more = more or len(step.pool.places) > len(exclude) + 1
        trial = await self.admission.enter(self, step, exclude, more=more)
        if self.why is not None:
            trial.waited += self.waited
            trial.why = trial.why or self.why
            self.waited, self.why = 0.0, None
        try:
            limits = self.share(step, more=more)
            self.last = trial.lease.member.name
            return await make(step, trial, limits)
        except DeadlineExceededError as error:
            trial.dropped(error)
            raise
        except ProviderError as error:
            trial.failed(error)
            raise
        except BaseException as error:
            trial.dropped(error)
            raise

    async def _again(
        self, step: Step, make: Make, exclude: set[str], first: ProviderError, wait: float, *, more: bool
    ) -> Any:
        """The second and later attempts on a pool, in tenacity's loop."""
        import tenacity

        errors = [first]
        waits: list[float | None] = [wait]

        async def once() -> Any:
            self.tries += 1
            return await self._attempt(step, make, exclude, more=more)

        def decide(state: tenacity.RetryCallState) -> float:
            # Asked for before ``stop``, which then tells whether there is a next attempt at all.
            error = state.outcome.exception() if state.outcome is not None else None
            if not isinstance(error, ProviderError) or error.code in SKIPS:
                waits.append(None)
            else:
                errors.append(error)
                waits.append(self.next_wait(error, step.pool, exclude))
            return waits[-1] or 0.0

        retrying = tenacity.AsyncRetrying(
            stop=lambda _state: waits[-1] is None,
            wait=decide,
            retry=tenacity.retry_if_exception_type(ProviderError),
            sleep=lambda seconds: self.pause(errors[-1], float(seconds), step.pool),
            reraise=True,
        )
        await self.pause(first, wait, step.pool)
        try:
            return await retrying(once)
        except ProviderError as error:
            if error.code not in SKIPS:
                raise
            # A retry that never went out: what the target itself said is the better reason.
            raise errors[-1] from error

    async def pause(self, error: ProviderError, seconds: float, pool: Pool) -> None:
        """Wait before the next attempt on a pool, and tell so."""
        self.story.append(RetryEvent(error, self.tries + 1, seconds))
        logger.debug("%s: attempt %d in %.3f s", error, self.tries + 1, seconds)
        self.tell("retry", error=error, wait=seconds, target=pool.asked)
        self.waited, self.why = seconds, "retry"
        if seconds > 0.0:
            await asyncio.sleep(seconds)

    def next_wait(self, error: ProviderError, pool: Pool, exclude: set[str]) -> float | None:
        """
        Seconds before the next attempt on the same pool, or None when there is none.

        Another deployment is tried at once, and by errors that this one would only repeat; ``exclude`` is brought up to
        date.
        """
        here = self.last
        if error.code in SKIPS or here is None or isinstance(error, DeadlineExceededError):
            return None
        others = [
            member
            for member in pool.balancer.members
            if member.name not in exclude and member.name != here and not (member.breaker and member.breaker.cooling())
        ]
        if (
            others
            and falls_back(error, self.fallback_on)
            and self.tries < max(self.policy.max_attempts, len(pool.places))
        ):
            wait: float | None = 0.0
            exclude.add(here)
        else:
            wait = self._wait_here(error)
            exclude.clear()
        left = self.remaining()
        if wait is None or (left is not None and wait >= left):
            return None
        return wait if self.admission.budget.try_retry() else None

    def _wait_here(self, error: ProviderError) -> float | None:
        """Seconds before the same target is tried again, None when it is not."""
        if not error.retryable or self.tries >= self.policy.max_attempts:
            return None
        if isinstance(error, APITimeoutError) and error.status_code is None:
            return None  # a silent route stays silent: its time belongs to the next one
        asked = error.retry_after
        if asked is not None and asked > self.policy.max_retry_after:
            return None
        if asked:
            return asked  # a moment that is past already asks for nothing
        self.previous = full_jitter(self.policy, self.tries, self.previous)
        return self.previous
