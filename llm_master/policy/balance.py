"""
Which deployment of a model gets the next call: by weight and speed, and the less busy one of two.
"""

from __future__ import annotations

import math
import os
import random
import time
import weakref
from collections.abc import Callable, Collection, Sequence
from itertools import count
from typing import Any, Protocol

import msgspec

from llm_master.errors import ConfigurationError

__all__ = ["Balancer", "DeploymentHealth", "Gate", "Lease", "Member"]

# A measured latency counts half after this many seconds without a new one.
_HALF_LIFE = 10.0
# Of a measured latency, at least this share goes into the average.
_LEAST_SHARE = 0.1
# Seconds after which it is more than that.
_NEWS = -_HALF_LIFE * math.log2(1.0 - _LEAST_SHARE)
_LEAST_LATENCY = 0.001
# However slow a deployment is, it gets this part of its share, so that its recovery is seen.
_SLOWEST = 100.0
# Another call took the last way in between looking and entering: look again after this many seconds.
_SOON = 0.01


class Gate(Protocol):
    """What a deployment's circuit breaker must be able to do."""

    def cooling(self) -> float | None:
        """Seconds to wait before ``try_enter`` is worth a try; 0 when a probe is due, None when closed."""

    def try_enter(self) -> int:
        """A ticket, or 0 when the deployment takes no call now."""

    def answered(self, ticket: int) -> None:
        """The answer began to arrive."""

    def success(self, ticket: int) -> None:
        """The deployment did its part."""

    def fail(self, ticket: int, kind: str, cooldown: float | None = None) -> None:
        """The deployment failed."""

    def leave(self, ticket: int) -> None:
        """The call says nothing of the deployment."""

    def health(self) -> Any:
        """What it knows at one moment."""


class DeploymentHealth(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is known of one deployment at one moment.

    Attributes:
        name: the deployment's name; ``weight``: its share beside the weights of the others.
        inflight: calls under way.
        latency: seconds to an answer or its first token, an average that forgets; None when none was measured.
        breaker: the health of its circuit breaker, None without one.
    """

    name: str
    weight: float
    inflight: int
    latency: float | None
    breaker: Any = None


class Member:
    """
    One deployment among those of a model.

    Args:
        name: unique among them; the caller excludes by it.
        target: what the caller sends to; never looked at here.
        weight: above 0, its share of the calls beside the weights of the others.
        breaker: its circuit breaker, None when it is always taken for well.

    Raises:
        ConfigurationError: the weight is not a number above 0.
    """

    __slots__ = ("_measured_at", "_open", "breaker", "latency", "name", "target", "weight")

    def __init__(self, name: str, target: Any = None, *, weight: float = 1.0, breaker: Gate | None = None) -> None:
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or weight <= 0:
            raise ConfigurationError(f"weight={weight!r} of deployment {name!r}: give a number above 0")
        self.name = name
        self.target = target
        self.weight = float(weight)
        self.breaker = breaker
        self.latency: float | None = None
        self._measured_at = 0.0
        # The numbers of the leases: a set changes atomically and gives nothing back twice, so there is no lock that a
        # finalizer or a forked child could be caught in.
        self._open: set[int] = set()

    @property
    def inflight(self) -> int:
        """Calls under way."""
        return len(self._open)

    def measure(self, seconds: float, now: float) -> None:
        """Take a latency into the average; the longer ago the last one was, the more the new one counts."""
        if not 0.0 <= seconds < math.inf:
            return
        seconds = max(seconds, _LEAST_LATENCY)
        known, passed = self.latency, now - self._measured_at
        if known is None:
            self.latency = seconds
        else:
            share = 1.0 - 0.5 ** (passed / _HALF_LIFE) if passed > _NEWS else _LEAST_SHARE
            self.latency = known + share * (seconds - known)
        self._measured_at = now

    def slowness(self, best: float, now: float) -> float:
        """How many times slower than the best it is taken for, from 1 to 100; without news it returns to 1."""
        if self.latency is None or self.latency <= best:
            return 1.0
        news: float = 0.5 ** (max(0.0, now - self._measured_at) / _HALF_LIFE)
        return min(_SLOWEST, 1.0 + (self.latency / best - 1.0) * news)


class Lease:
    """
    One call's place at a deployment, until ``success``, ``fail`` or ``leave``; ending it twice changes nothing.

    A lease that is dropped leaves by itself.

    Attributes:
        member: the deployment; ``member.target`` is what to send to.
    """

    __slots__ = ("_clock", "_measured", "_number", "_started", "_ticket", "member")

    def __init__(self, member: Member, ticket: int, number: int, clock: Callable[[], float]) -> None:
        self.member = member
        self._ticket = ticket
        self._number = number
        self._clock = clock
        self._started = clock()
        self._measured = False
        member._open.add(number)  # noqa: SLF001  # a member's leases are kept by its leases

    def answered(self, seconds: float) -> None:
        """
        Say that the answer began to arrive; the call goes on.

        Args:
            seconds: from the request to its first token.
        """
        if self._number in self.member._open:  # noqa: SLF001  # as in __init__
            self._measure(seconds)
            if self.member.breaker is not None:
                self.member.breaker.answered(self._ticket)

    def success(self, seconds: float | None = None) -> None:
        """
        End the call: the deployment did its part, be it with an answer that refuses the request.

        Args:
            seconds: from the request to the answer; None when ``answered`` told or when a quick refusal says nothing
                of the speed.
        """
        member = self.member
        try:
            member._open.remove(self._number)  # noqa: SLF001  # ``_end``, here where every call passes
        except KeyError:
            return
        if seconds is not None and not self._measured:
            member.measure(seconds, self._clock())
        breaker = member.breaker
        if breaker is not None:
            breaker.success(self._ticket)

    def fail(self, kind: str, cooldown: float | None = None) -> None:
        """
        End the call: the deployment failed.

        Args:
            kind: a word for its health.
            cooldown: seconds that the provider asked for, or that a spent quota or a refused key deserves.
        """
        if self._end():
            known, passed = self.member.latency, self._clock() - self._started
            # A failure may show how slow a deployment is, but never makes it look fast.
            if known is not None and passed > known:
                self._measure(passed)
            if self.member.breaker is not None:
                self.member.breaker.fail(self._ticket, kind, cooldown)

    def leave(self) -> None:
        """End the call without a word on the deployment: it was cancelled, or never sent."""
        if self._end() and self.member.breaker is not None:
            self.member.breaker.leave(self._ticket)

    def _measure(self, seconds: float) -> None:
        if not self._measured:
            self._measured = True
            self.member.measure(seconds, self._clock())

    def _end(self) -> bool:
        """Give the place back; False when that was done before, or by a fork."""
        try:
            self.member._open.remove(self._number)  # noqa: SLF001  # as in __init__
        except KeyError:
            return False
        return True

    def __del__(self) -> None:
        if self._number in self.member._open:  # noqa: SLF001  # as in __init__
            self.leave()


class Balancer:
    """
    The deployments of one model name.

    Each call draws a deployment by weight and speed, then a second one, and takes the second when that is less busy by
    more than a call for its weight. So calls share out by weight where all are equally fast, and a slow or hanging
    deployment gets less. A deployment whose breaker waits for a probe gets the next call.

    It is for any number of threads and never waits.

    Args:
        members: at least one, each with a name of its own.
        clock: monotonic seconds.
        rand: numbers from 0 to below 1.

    Raises:
        ConfigurationError: there is no member, or two have the same name.
    """

    __slots__ = ("__weakref__", "_clock", "_numbers", "_rand", "members")

    def __init__(
        self,
        members: Sequence[Member],
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        names = [member.name for member in members]
        if not names:
            raise ConfigurationError("a model needs at least one deployment")
        twin = next((name for name in names if names.count(name) > 1), None)
        if twin is not None:
            raise ConfigurationError(f"two deployments are named {twin!r}; rename one")
        self.members = tuple(members)
        self._clock = clock
        self._rand = rand
        self._numbers = count()
        _LIVE.add(self)

    def reset_after_fork(self) -> None:
        """In a forked child: the parent's calls are not ours."""
        for member in self.members:
            member._open = set()  # noqa: SLF001  # one thing in two classes

    def choose(self, exclude: Collection[str] = ()) -> Lease | float:
        """
        Give a call its deployment.

        Args:
            exclude: names that are left out, such as those that have failed this call.

        Returns:
            A lease, to be ended in any case; or the seconds after which the first deployment may be free again, inf
            when all are excluded.
        """
        if not exclude and len(self.members) == 1:
            # The usual case: a closed breaker gives its ticket at once. What it says otherwise is read below.
            member = self.members[0]
            breaker = member.breaker
            ticket = breaker.try_enter() if breaker is not None else 1
            if ticket:
                return Lease(member, ticket, next(self._numbers), self._clock)
        return self._search(exclude)

    def _search(self, exclude: Collection[str]) -> Lease | float:
        soonest = math.inf
        ready: list[Member] = []
        due: list[Member] = []
        for member in self.members:
            if exclude and member.name in exclude:
                continue
            wait = member.breaker.cooling() if member.breaker is not None else None
            if wait is None:
                ready.append(member)
            elif wait <= 0.0:
                due.append(member)
            elif wait < soonest:
                soonest = wait
        for group in (due, ready):
            while group:
                member = self._pick(group) if len(group) > 1 else group[0]
                breaker = member.breaker
                ticket = breaker.try_enter() if breaker is not None else 1
                if ticket:
                    return Lease(member, ticket, next(self._numbers), self._clock)
                group.remove(member)
                soonest = min(soonest, max((breaker and breaker.cooling()) or 0.0, _SOON))
        return soonest

    def health(self) -> tuple[DeploymentHealth, ...]:
        """Every deployment, in the order they were given."""
        return tuple(
            DeploymentHealth(
                name=member.name,
                weight=member.weight,
                inflight=member.inflight,
                latency=member.latency,
                breaker=member.breaker.health() if member.breaker is not None else None,
            )
            for member in self.members
        )

    def _pick(self, group: list[Member]) -> Member:
        """One of at least two."""
        now = self._clock()
        best = min((member.latency for member in group if member.latency is not None), default=_LEAST_LATENCY)
        shares = [member.weight / member.slowness(best, now) for member in group]
        first = self._draw(shares)
        if len(group) > 2:
            share, shares[first] = shares[first], 0.0
            second = self._draw(shares)
            shares[first] = share
        else:
            second = 1 - first
        one, other = group[first], group[second]
        # A call's tolerance on either side: a compare without it skews small numbers of calls against the weights.
        busier = (one.inflight - 1) * other.weight >= (other.inflight + 1) * one.weight
        return other if busier else one

    def _draw(self, shares: list[float]) -> int:
        left = self._rand() * math.fsum(shares)
        last = 0
        for index, share in enumerate(shares):
            if share > 0.0:
                last = index
                left -= share
                if left < 0.0:
                    break
        return last


_LIVE: weakref.WeakSet[Balancer] = weakref.WeakSet()


def _reset_all() -> None:
    for balancer in list(_LIVE):
        balancer.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
