"""
Whether a deployment is worth a request: a circuit breaker that opens on failures and closes after one good probe.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from llm_master.errors import ConfigurationError

__all__ = ["Breaker", "BreakerHealth", "BreakerPolicy"]

logger = logging.getLogger("llm_master")

_LONGEST = 86_400.0
# Nobody knows when a probe under way will end; who is refused because of it looks again after this many seconds.
_LOOK_AGAIN = 0.5


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """
    When a deployment is left alone, and for how long.

    Attributes:
        failures: failures in a row that open it.
        failure_rate: share of failures, above 0 and at most 1, that opens it; None looks at ``failures`` only.
        window: calls that the share is taken over, the latest ones.
        window_seconds: seconds after which a call no longer counts in the share.
        min_calls: calls that must count before there is a share.
        cooldown: seconds without a request after the first opening; each further one doubles them.
        max_cooldown: seconds that a cool-down chosen here never exceeds; one that the provider asks for may be longer.
        steady: seconds that it must have been closed for the next opening to count as the first again.
        probe_timeout: seconds after which a probe that never reported back is given up and another may go.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    failures: int = 5
    failure_rate: float | None = 0.5
    window: int = 100
    window_seconds: float = 60.0
    min_calls: int = 20
    cooldown: float = 1.0
    max_cooldown: float = 10.0
    steady: float = 60.0
    probe_timeout: float = 600.0

    def __post_init__(self) -> None:
        """Refuse counts below one, times that are not times and figures that contradict each other."""
        for name in ("failures", "window", "min_calls"):
            count: Any = getattr(self, name)
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ConfigurationError(f"breaker {name}={count!r}: give a whole number of at least 1")
        for name in ("window_seconds", "cooldown", "max_cooldown", "steady", "probe_timeout"):
            if not _is_above_zero(getattr(self, name)):
                raise ConfigurationError(f"breaker {name}={getattr(self, name)!r}: give a number of seconds above 0")
        rate = self.failure_rate
        if rate is not None and not (_is_above_zero(rate) and rate <= 1):
            raise ConfigurationError(f"breaker failure_rate={rate!r}: give a share above 0 and at most 1, or None")
        for least, most in (("min_calls", "window"), ("cooldown", "max_cooldown")):
            one, other = getattr(self, least), getattr(self, most)
            if one > other:
                raise ConfigurationError(f"breaker {least}={one!r} is more than {most}={other!r}; raise {most}")


def _is_above_zero(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


class BreakerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a breaker knows at one moment.

    Attributes:
        state: ``closed``, ``open`` or ``half_open``.
        retry_in: seconds until a probe may go; 0 when one may go now, is under way, or the breaker is closed.
        probing: whether a probe is under way.
        kind: the kind of the failure that opened it last, None when it never opened.
        streak: failures in a row.
        calls: calls that count in the share of failures; ``failed``: those of them that failed.
        openings: openings since it last was steady.
    """

    state: str
    retry_in: float
    probing: bool
    kind: str | None
    streak: int
    calls: int
    failed: int
    openings: int


class Breaker:
    """
    The circuit breaker of one deployment.

    A caller asks ``try_enter``, makes its request, and says with the ticket it got how that went: ``success``, ``fail``
    or, when it was cancelled, ``leave``. A ticket belongs to one closed period or to one probe: what a call from
    before an opening reports later neither closes nor reopens anything, nor frees another call's probe.

    It is for any number of threads, never waits, and may be called from a finalizer and in a forked child.

    Args:
        policy: when it opens and for how long.
        clock: monotonic seconds, at least 0.

    Attributes:
        on_change: called with the breaker after it opened (also again, or for longer) or closed, in the thread that
            reported the cause and with no lock held; what it raises is logged. None for nobody.
    """

    __slots__ = (
        "__weakref__",
        "_calls",
        "_clock",
        "_closed_at",
        "_issued",
        "_kind",
        "_lock",
        "_openings",
        "_pass",
        "_probe",
        "_probe_began",
        "_streak",
        "_until",
        "on_change",
        "policy",
    )

    def __init__(self, policy: BreakerPolicy | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.policy = policy if policy is not None else BreakerPolicy()
        self._clock = clock
        self.on_change: Callable[[Breaker], Any] | None = None
        # Re-entrant: a finalizer may leave while its own thread is inside.
        self._lock = threading.RLock()
        # The closed path reads this one field and takes no lock: the ticket of everybody, or 0 when not closed.
        self._pass = 1
        self._issued = 1
        self._probe = 0
        self._probe_began = 0.0
        self._until = 0.0
        self._closed_at = -math.inf
        self._openings = 0
        self._kind: str | None = None
        self._streak = 0
        # The moments of the latest calls, negative for those that failed; appending is atomic.
        self._calls: deque[float] = deque(maxlen=self.policy.window)
        _LIVE.add(self)

    def reset_after_fork(self) -> None:
        """In a forked child: the parent's lock and probe are not ours."""
        self._lock = threading.RLock()
        self._probe = 0

    # -- a call -------------------------------------------------------------------------------------------------

    def try_enter(self) -> int:
        """
        Ask to make a request.

        Returns:
            A ticket, to be handed back; or 0 (false): the deployment is cooling or another call probes it.
        """
        return self._pass or self._try_probe()

    def answered(self, ticket: int) -> None:
        """
        Say that an answer began to arrive, so that a probe need not stream to its end before others may follow.

        It closes a half-open breaker on probation: until a first whole success a single failure reopens it.
        """
        if ticket != self._pass:
            self._close(ticket, self.policy.failures - 1)

    def success(self, ticket: int) -> None:
        """Say that the deployment did its part; a probe's success closes the breaker."""
        if ticket == self._pass:
            self._streak = 0
            self._calls.append(self._clock())
        else:
            self._close(ticket, 0)

    def fail(self, ticket: int, kind: str, cooldown: float | None = None) -> None:
        """
        Say that the deployment failed; what counts as a failure is the caller's choice.

        Args:
            ticket: from ``try_enter``.
            kind: a word for ``health``: ``"server"``, ``"rate"``, ``"quota"``, ``"auth"``.
            cooldown: seconds that the provider asked for, or that a spent quota or a refused key deserves: it opens at
                once, for that long and at most a day. None, NaN and what is not above 0 leave it to the policy.
        """
        asked = min(cooldown, _LONGEST) if cooldown is not None and cooldown > 0.0 else 0.0
        with self._lock:
            before = (self._openings, self._until)
            now = self._clock()
            if ticket and ticket == self._pass:
                self._streak += 1
                self._calls.append(-now)
                if asked or self._streak >= self.policy.failures or self._is_rate_reached(now):
                    self._open(now, kind, asked)
            elif ticket and ticket == self._probe:
                self._open(now, kind, asked)
            elif asked and self._pass:
                # An old call, but what the provider asks for now holds from now.
                self._open(now, kind, asked)
            elif asked and now + asked > self._until:
                self._until, self._kind = now + asked, kind
            changed = before != (self._openings, self._until)
        if changed:
            self._tell()

    def leave(self, ticket: int) -> None:
        """Say that a call ended without telling anything of the deployment (cancelled); another may probe."""
        if ticket == self._pass:
            return
        with self._lock:
            if ticket == self._probe:
                self._probe = 0

    # -- what it knows ------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """``closed``, ``open``, or ``half_open``: the cool-down is over and a probe may go or is under way."""
        if self._pass:
            return "closed"
        return "open" if self._clock() < self._until else "half_open"

    @property
    def opens_until(self) -> float | None:
        """The clock's second at which the cool-down ends or ended; None when closed."""
        return None if self._pass else self._until

    def cooling(self) -> float | None:
        """Seconds to wait before ``try_enter`` is worth a try; 0 when a probe is due, None when closed."""
        if self._pass:
            return None
        now = self._clock()
        if now < self._until:
            return self._until - now
        return _LOOK_AGAIN if self._is_probing(now) else 0.0

    def health(self) -> BreakerHealth:
        """Everything at one moment."""
        with self._lock:
            now = self._clock()
            calls, failed = self._counted(now)
            return BreakerHealth(
                state=self.state,
                retry_in=0.0 if self._pass else max(0.0, self._until - now),
                probing=self._is_probing(now),
                kind=self._kind,
                streak=self._streak,
                calls=calls,
                failed=failed,
                openings=self._openings,
            )

    # -- changes of state ---------------------------------------------------------------------------------------

    def _try_probe(self) -> int:
        with self._lock:
            now = self._clock()
            if self._pass or now < self._until or self._is_probing(now):
                return self._pass
            self._issued += 1
            self._probe = self._issued
            self._probe_began = now
            return self._probe

    def _is_probing(self, now: float) -> bool:
        return self._probe != 0 and now - self._probe_began < self.policy.probe_timeout

    def _open(self, now: float, kind: str, asked: float) -> None:
        policy = self.policy
        # A probe that fails goes on with the same outage.
        if self._pass and now - self._closed_at >= policy.steady:
            self._openings = 0
        self._openings += 1
        own = min(policy.max_cooldown, policy.cooldown * 2.0 ** min(self._openings - 1, 30))
        # While a probe was out, an older call may have brought a later moment.
        self._until = max(self._until, now + (asked or own))
        self._kind = kind
        self._pass = self._probe = 0

    def _close(self, ticket: int, streak: int) -> None:
        with self._lock:
            if not ticket or ticket != self._probe:
                return
            self._closed_at = self._clock()
            self._streak = streak
            self._calls.clear()
            self._probe = 0
            self._until = 0.0
            # The probe's ticket becomes everybody's, so that a failure of it later still counts.
            self._pass = ticket
        self._tell()

    def _tell(self) -> None:
        if self.on_change is None:
            return
        try:
            self.on_change(self)
        except Exception:  # a hook that fails must not turn a call's answer into an error
            logger.exception("the on_change hook of a circuit breaker failed")

    def _is_rate_reached(self, now: float) -> bool:
        rate = self.policy.failure_rate
        if rate is None:
            return False
        calls, failed = self._counted(now)
        return calls >= self.policy.min_calls and failed >= rate * calls

    def _counted(self, now: float) -> tuple[int, int]:
        """Calls that count in the share of failures, and those of them that failed."""
        since = now - self.policy.window_seconds
        recent = [moment for moment in self._calls.copy() if abs(moment) > since]
        return len(recent), sum(1 for moment in recent if math.copysign(1.0, moment) < 0)


_LIVE: weakref.WeakSet[Breaker] = weakref.WeakSet()


def _reset_all() -> None:
    for breaker in list(_LIVE):
        breaker.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
