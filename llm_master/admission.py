"""
The way in for every attempt: a deployment that is well, and room under every limit.
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import TYPE_CHECKING, Any

from llm_master.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BudgetExceededError,
    InvalidRequestError,
    LLMError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    ResponseError,
    ServerError,
    StreamInterrupted,
)
from llm_master.policy.balance import Lease
from llm_master.policy.breaker import Breaker
from llm_master.policy.estimate import estimate_tokens
from llm_master.policy.limits import MemoryLimiter
from llm_master.policy.limits_rules import Reservation
from llm_master.pools import room_of
from llm_master.record import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from llm_master.policy.balance import DeploymentHealth
    from llm_master.policy.budget import RetryBudget
    from llm_master.policy.limits_budget import Budget, Budgets
    from llm_master.policy.limits_rules import Limit
    from llm_master.pools import Place, Pool

__all__ = ["COOLING", "SKIPS", "Admission"]

#: The ``code`` of an error that was raised without asking a target that is left alone.
COOLING = "cooling"
#: Codes of the errors of attempts that were never sent.
SKIPS = frozenset(
    (
        *(COOLING, "local_rate_limit", "reservation_too_large", "limits_unavailable"),
        *("budget_exceeded", "max_cost", "cost_unknown"),
    )
)
# Seconds for which a key that was refused, or whose quota is used up, is not tried.
_AUTH_REST = 30.0
_QUOTA_REST = 120.0
_MOST_TAGGED = 1024

#: What a breaker counts, the word for it, and the class of the error that a call gets while the target cools.
_KINDS: tuple[tuple[type[ProviderError], str], ...] = (
    (QuotaExceededError, "quota"),
    (AuthenticationError, "auth"),
    (RateLimitError, "rate"),
    (OverloadedError, "overloaded"),
    (ServerError, "server"),
    (APITimeoutError, "timeout"),
    (APIConnectionError, "connection"),
    (ResponseError, "answer"),
    (StreamInterrupted, "interrupted"),
)
_CLASSES = {kind: error for error, kind in _KINDS if error is not StreamInterrupted}
_WHY = {
    "quota": "its quota is used up",
    "auth": "it refused the key",
    "rate": "it asked for fewer requests",
    "overloaded": "it is overloaded",
    "timeout": "it did not answer in time",
    "connection": "it could not be reached",
    "answer": "its answers could not be read",
    "interrupted": "its streams broke off",
}
# Waiting does not bring money or another key; such a target is not waited for.
_HOPELESS = frozenset({"quota", "auth"})


class Admission:
    """
    What all calls of one ``QueryLLM`` pass before each request.

    Args:
        limiter: keeps the limits, in this process or shared.
        budget: how much may be retried.
        limits: those under ``tag:NAME``, by key.
        budgets: what may be spent.

    Attributes:
        pools: those in use.
        budgets: None without any.
        on_change: the ``on_change`` of the breakers of pools that join from now on.
    """

    on_change: Callable[[Any], Any] | None = None

    def __init__(
        self, limiter: Any, budget: RetryBudget, limits: Iterable[Limit] = (), budgets: Sequence[Budget] = ()
    ) -> None:
        self.limiter = limiter
        self.budget = budget
        self.budgets: Budgets | None = None
        if budgets:
            from llm_master.policy.limits_budget import Budgets

            self.budgets = Budgets(budgets)
        self._tags = {limit.key: limit for limit in limits if limit.key.startswith("tag:")}
        # The names and limits of tags seen lately: an application has few, and gives the same ones every time.
        self._tagged: dict[Any, tuple[tuple[str, ...], tuple[Limit, ...]]] = {}
        self._at_once = isinstance(limiter, MemoryLimiter)
        # Keys that were refused: until when, and why. A model that is first asked for later heeds them too.
        self._keys: dict[tuple[str, str], tuple[float, str]] = {}
        self.pools: list[Pool] = []

    def join(self, pool: Pool) -> None:
        """Take in a new pool."""
        self.pools.append(pool)
        for member in pool.balancer.members:
            if self.on_change is not None and isinstance(member.breaker, Breaker):
                member.breaker.on_change = self.on_change
            target = member.target.target
            until, kind = self._keys.get((target.provider, target.key_id or ""), (0.0, ""))
            left = until - monotonic()
            if left > 0.0 and member.breaker is not None:
                member.breaker.fail(0, kind, left)

    def leave(self, pools: Collection[Pool]) -> None:
        """Forget pools that are used no more."""
        self.pools = [pool for pool in self.pools if pool not in pools]

    def health(self) -> dict[str, tuple[DeploymentHealth, ...]]:
        """By model name, what is known of each deployment."""
        return {pool.asked: pool.balancer.health() for pool in self.pools}

    def tagged(self, tags: Any) -> tuple[tuple[str, ...], tuple[Limit, ...]]:
        """
        The names of a caller's tags, each once, and their limits.

        Raises:
            InvalidRequestError: a tag is no text, or empty.
        """
        found = self._tagged.get(tags) if tags.__class__ is str else None
        if found is None:
            names = _tag_names(tags)
            found = self._tagged.get(names)
            if found is None:
                limits = (self._tags.get(f"tag:{name}") for name in names)
                found = names, tuple(limit for limit in limits if limit is not None)
            if len(self._tagged) >= _MOST_TAGGED:
                self._tagged.clear()
            self._tagged[tags if tags.__class__ is str else names] = found
        return found

    def spending(self, max_cost: Any) -> Any:
        """
        What a call may spend; ``max_cost`` is its own bound in USD, None for none.

        Raises:
            InvalidRequestError: it is no amount of USD.
        """
        from llm_master.policy.limits_budget import Budgets, picodollars
        from llm_master.spending import Spending

        own = None if max_cost is None else picodollars(max_cost, "ROUND_FLOOR")
        return Spending(self.budgets or Budgets(()), own)

    # -- in -----------------------------------------------------------------------------------------------------

    def at_once(self, call: Any, step: Any) -> Trial | None:
        """A call's first attempt if nothing stands in its way, else None; never waits and never fails."""
        if call.spending is not None:
            return None
        lease = step.pool.balancer.choose()
        if lease.__class__ is not Lease:
            return None
        place = lease.member.target
        limits, room = place.under(call.limits) if call.limits else (place.limits, place.room)
        if not limits:
            return Trial(call, step, lease, None, call.started)
        if self._at_once:
            try:
                tokens = 0 if room is None else estimate_tokens(call.messages, step.params, room=room)
                got = self.limiter.try_acquire(limits, tokens)
            except LLMError:
                pass
            else:
                if got.__class__ is Reservation:
                    return Trial(call, step, lease, got, call.started)
        lease.leave()
        return None

    async def enter(self, call: Any, step: Any, exclude: Collection[str], *, more: bool) -> Trial:
        """
        An attempt's place at a deployment and its room under every limit, waited for within the call's time.

        Args:
            exclude: deployments that have failed this call.
            more: whether other targets wait; then a cooling one is not waited for, and a limit only for a share.

        Raises:
            ProviderError: nothing is free in time; the error says when it may be. It is recorded as skipped.
        """
        pool: Pool = step.pool
        began = monotonic()
        full: dict[str, RateLimitError] = {}
        why: str | None = None
        while True:
            lease = pool.balancer.choose({*exclude, *full})
            if isinstance(lease, Lease):
                got = await self._reserve(call, step, lease, 0.0, full)
                if got is not None:
                    return self._trial((call, step, began), lease, got, why)
                continue
            if full:
                name, refusal = min(full.items(), key=lambda each: _seconds(each[1]))
                room, place = await self._stand(call, step, name, refusal, began, more=more)
                if place is not None:
                    return self._trial((call, step, began), place, room, why)
                full.clear()
                continue
            why = COOLING
            await self._cool(call, pool, exclude, lease, began, more=more)

    @staticmethod
    def _tokens(call: Any, step: Any, limits: Sequence[Limit]) -> int:
        room = room_of(limits)
        return 0 if room is None else estimate_tokens(call.messages, step.params, room=room)

    @staticmethod
    def _trial(waiting: tuple[Any, Any, float], lease: Lease, got: Reservation | bool, why: str | None) -> Trial:
        call, step, began = waiting
        now = monotonic()
        reservation = got if isinstance(got, Reservation) else None
        if reservation is not None and reservation.wait_reason is not None:
            why = reservation.wait_reason
        return Trial(call, step, lease, reservation, now, waited=now - began if why else 0.0, why=why)

    async def _reserve(
        self, call: Any, step: Any, lease: Lease, timeout: float, full: dict[str, RateLimitError]
    ) -> Reservation | bool | None:
        """Room for a leased place: a reservation, or True where nothing is limited; None when there is none now."""
        place: Place = lease.member.target
        try:
            found = await self._room(call, step, place, timeout)
        except RateLimitError as error:
            lease.leave()
            full[lease.member.name] = error
            return None
        except BaseException:
            lease.leave()
            raise
        return found

    async def _stand(
        self, call: Any, step: Any, name: str, refusal: RateLimitError, began: float, *, more: bool
    ) -> tuple[Any, Lease | None]:
        """Stand in line for the place that has room first."""
        pool: Pool = step.pool
        place = next(member.target for member in pool.balancer.members if member.name == name)
        patience = call.patience(more=more) - (monotonic() - began)
        if refusal.code != "local_rate_limit" or patience <= 0.0 or _seconds(refusal) > patience:
            raise self._refused(call, place, refusal, began)
        call.tell("wait", error=refusal, wait=refusal.retry_after, target=pool.asked)
        try:
            found = await self._room(call, step, place, None if math.isinf(patience) else patience)
        except RateLimitError as error:
            raise self._refused(call, place, error, began) from None
        lease = pool.balancer.choose({member.name for member in pool.balancer.members if member.name != name})
        if isinstance(lease, Lease):
            return found, lease
        if isinstance(found, Reservation):
            self.cancel(found)
        return None, None

    async def _room(self, call: Any, step: Any, place: Place, timeout: float | None) -> Reservation | bool:
        """Room under limits and budgets; True where there are none. Raises RateLimitError."""
        limits = place.limits + call.limits
        spending = call.spending
        if spending is None and not limits:
            return True
        how = {
            "tokens": self._tokens(call, step, limits),
            "timeout": timeout,
            "provider": place.target.provider,
            "model": place.target.model,
        }
        found: Reservation | bool
        if spending is None:
            found = await self.limiter.acquire(limits, **how)
        else:
            found = await spending.reserve(self.limiter, limits, call, step, place, **how)
        return found

    async def _cool(
        self, call: Any, pool: Pool, exclude: Collection[str], seconds: float, began: float, *, more: bool
    ) -> None:
        """Wait for the first place that may be free again, or say when that is."""
        members = [member for member in pool.balancer.members if member.name not in exclude]
        soonest = min(members, key=lambda member: (member.breaker and member.breaker.cooling()) or 0.0, default=None)
        kind = soonest.breaker.health().kind if soonest is not None and soonest.breaker is not None else None
        patience = 0.0 if more or kind in _HOPELESS else call.cooling_patience() - (monotonic() - began)
        if seconds > patience:
            place = soonest.target if soonest is not None else pool.places[0]
            raise self._refused(call, place, _resting(place, seconds, kind or "server"), began)
        call.tell("wait", wait=seconds, target=pool.asked)
        await asyncio.sleep(seconds)

    @staticmethod
    def _refused(call: Any, place: Place, error: ProviderError, began: float) -> ProviderError:
        call.skipped(place, error, began)
        return error

    # -- out ----------------------------------------------------------------------------------------------------

    def settle(self, reservation: Reservation, tokens: int | None, attempt: Any, *, billed: bool = True) -> None:
        """
        End a reservation with what an attempt used.

        Args:
            tokens: that count under limits, None for those held.
            attempt: as it was noted.
            billed: whether the provider may charge for it although it told no usage.
        """
        if reservation.bill is None:
            self.limiter.settle(reservation, tokens)
        else:
            reservation.bill.settle(self.limiter, reservation, tokens, attempt, billed=billed)

    def cancel(self, reservation: Reservation) -> None:
        """Undo the reservation of an attempt that was never made."""
        if reservation.bill is not None:
            reservation.bill.give_back(0)
        self.limiter.cancel(reservation)

    def judge(self, trial: Trial, error: LLMError, *, hasty: bool) -> None:
        """
        Tell a deployment's breaker what an error says of it.

        Args:
            hasty: whether the caller's own patience was so short that a timeout says nothing.
        """
        lease = trial.lease
        kind = next((word for base, word in _KINDS if isinstance(error, base)), None)
        asked = getattr(error, "retry_after", None)
        if kind == "quota":
            self._rest_key(trial, kind, asked if asked is not None and asked > _QUOTA_REST else _QUOTA_REST)
        elif isinstance(error, PermissionDeniedError):
            lease.fail("auth", _AUTH_REST)
        elif kind == "auth":
            self._rest_key(trial, kind, _AUTH_REST)
        elif kind is None or (kind == "timeout" and hasty):
            # A refusal of the request itself shows that the deployment works.
            lease.leave()
        else:
            lease.fail(kind, asked)

    def _rest_key(self, trial: Trial, kind: str, seconds: float) -> None:
        """A key that was refused for one model is refused for all of them."""
        target = trial.target
        trial.lease.fail(kind, seconds)
        if target.key_id is None:
            return
        self._keys[(target.provider, target.key_id)] = (monotonic() + seconds, kind)
        for pool in self.pools:
            for member in pool.balancer.members:
                other = member.target.target
                if other.provider == target.provider and other.key_id == target.key_id and member.breaker is not None:
                    member.breaker.fail(0, kind, seconds)


def _tag_names(tags: Any) -> tuple[str, ...]:
    """
    A call's tags, each once.

    Raises:
        InvalidRequestError: a tag is no text, or empty.
    """
    names = tuple(tags) if hasattr(tags, "__iter__") and not isinstance(tags, str) else (tags,)
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise InvalidRequestError(f"tags={tags!r}: give names, such as tags=['team-a']")
    return names if len(names) == 1 else tuple(dict.fromkeys(names))


def _seconds(error: RateLimitError) -> float:
    """Seconds until there may be room; when only another call's end can make it, that may be at once."""
    if isinstance(error, BudgetExceededError) and error.code != "local_rate_limit":
        return math.inf
    return error.retry_after if error.retry_after is not None else 0.0


def _resting(place: Place, seconds: float, kind: str) -> ProviderError:
    """The error of a call whose only target is left alone."""
    target = place.target
    why = _WHY.get(kind, "it failed repeatedly")
    when = f"the next request may go in {seconds:.3g} s" if math.isfinite(seconds) else "no deployment is left to try"
    return _CLASSES.get(kind, ServerError)(
        f"{target.provider} is left alone for {target.model!r} because {why}; {when}: wait, or give a fallback_model=",
        provider=target.provider,
        model=target.model,
        code=COOLING,
        retryable=False,
        retry_after=seconds if math.isfinite(seconds) else None,
    )
