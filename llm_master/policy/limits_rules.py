"""
What the limiters share: a limit, a reservation, why one has to wait, and what a provider's headers add to it.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from llm_master.errors import ConfigurationError, InvalidRequestError, RateLimitError

__all__ = [
    "CELLS",
    "Limit",
    "Reservation",
    "Shortage",
    "after_fork",
    "check_fits",
    "check_tokens",
    "refusal",
]

# Any 60 seconds, however they lie, touch at most 61 whole-second cells.
CELLS = 61

_SETTINGS = {"rpm": "rate_limit_rpm", "tpm": "rate_limit_tpm", "max_concurrency": "max_concurrency"}


class Limit(msgspec.Struct, frozen=True):
    """
    What may be used under one key in any 60 seconds; None means no limit.

    Attributes:
        key: what is limited: ``"model:gpt-4o"``, ``"provider:openai"``, ``"tag:team-a"``.
        rpm: requests in any 60 seconds.
        tpm: tokens in any 60 seconds, input and output together.
        max_concurrency: calls at one time.
        fail_open: whether calls go on while a shared store of limits does not answer; else they fail.

    Raises:
        ConfigurationError: a limit is not a whole number of at least 1.
    """

    key: str
    rpm: int | None = None
    tpm: int | None = None
    max_concurrency: int | None = None
    fail_open: bool = True

    def __post_init__(self) -> None:
        """Refuse zero, negative, NaN and values that are not whole numbers."""
        for kind, setting in _SETTINGS.items():
            value: Any = getattr(self, kind)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigurationError(
                    f"{setting}={value!r} of {self.key!r} lets no call through;"
                    " give a whole number of at least 1, or None for no limit"
                )


class Reservation(msgspec.Struct, eq=False):
    """
    What one call holds of its limits until it is settled or cancelled.

    Attributes:
        handle: the limiter's own reference to what is held.
        cell: the second that the request and its tokens are counted in.
        tokens: tokens held; the estimate until it is settled.
        waited: seconds that the call stood in line.
        wait_reason: the limit it waited for, ``"model:gpt-4o tpm"``, else None.
        note: why the limits could not be kept (a shared store that does not answer), else None.
        open: False once it is settled or cancelled; doing either again changes nothing.
        charges: what it holds of budgets; purses: the limiter's own reference to them.
        bill: what the call itself notes of it, see ``spending.py``.
    """

    handle: Any
    cell: int
    tokens: int
    waited: float = 0.0
    wait_reason: str | None = None
    note: str | None = None
    open: bool = True
    charges: tuple[Any, ...] = ()
    purses: tuple[Any, ...] = ()
    bill: Any = None


class Shortage(msgspec.Struct, eq=False):
    """
    Why a reservation cannot be made now.

    Attributes:
        seconds: the earliest moment from now that time alone can make it possible; inf when only a call's end can.
        limit: the limit that takes longest, or a ``Charge`` on a budget.
        kind: ``rpm``, ``tpm``, ``max_concurrency``, ``provider`` (its headers say stop) or ``line`` (others first);
            of a budget ``budget`` (nothing helps in this window) or ``held`` (by calls under way).
        certain: whether nothing but time helps.
        used: what is used of the budget and not held, None when that is not known.
    """

    seconds: float
    limit: Any
    kind: str
    certain: bool
    used: int | None = None

    def is_beyond(self, left: float) -> bool:
        """Whether nothing but more time than these seconds can help."""
        return self.certain and (self.seconds > left or self.seconds == math.inf)

    @property
    def reason(self) -> str:
        """The limit in a few words."""
        return f"{self.limit.key} {self.kind}"


def check_tokens(tokens: Any) -> None:
    """
    Refuse an estimate that is no count.

    Raises:
        InvalidRequestError: it is not a whole number of at least 0.
    """
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0:
        raise InvalidRequestError(f"tokens={tokens!r}: a reservation takes a whole number of at least 0")


def check_fits(limit: Limit, tokens: int, provider: str | None, model: str | None) -> None:
    """
    Refuse what no amount of waiting can make fit.

    Raises:
        RateLimitError: the call alone needs more tokens than the limit allows in a minute.
    """
    if limit.tpm is not None and tokens > limit.tpm:
        raise RateLimitError(
            f"{_call(provider, model)} needs up to {tokens} tokens, but {limit.key} allows {limit.tpm} in a minute, so"
            " waiting cannot help; lower max_tokens, raise rate_limit_tpm or give a fallback_model=",
            provider=provider,
            model=model,
            code="reservation_too_large",
            retryable=False,
        )


def refusal(
    shortage: Shortage, provider: str | None, model: str | None, timeout: float | None, waited: float = 0.0
) -> RateLimitError:
    """The error of a call that cannot wait as long as its limits ask for; only another target may do better."""
    limit, kind, seconds = shortage.limit, shortage.kind, shortage.seconds
    if not isinstance(limit, Limit):
        error: RateLimitError = limit.refusal(kind, shortage.used, provider, model)
        return error
    known = math.isfinite(seconds)
    if kind == "provider":
        what, setting = f"the provider allows nothing more under {limit.key} for now", "give a fallback_model="
    elif kind == "line":
        what, setting = f"other calls wait first under {limit.key}", "raise its limit"
    else:
        counted = {"rpm": "requests in a minute", "tpm": "tokens in a minute", "max_concurrency": "calls at a time"}
        what = f"{limit.key} allows {getattr(limit, kind)} {counted[kind]} and there is no room"
        setting = f"raise {_SETTINGS[kind]}"
    when = f"try again in {seconds:.3g} s" if known else "try again when another call has ended"
    stood = "" if not waited else f" after {waited:.3g} s in line"
    patience = "" if timeout is None else f" or allow more than {max(timeout, 0.0):.3g} s of waiting"
    return RateLimitError(
        f"{_call(provider, model)} is over a limit{stood}: {what}; {when}, {setting}{patience}",
        provider=provider,
        model=model,
        code="local_rate_limit",
        retryable=False,
        retry_after=seconds if known else None,
    )


def _call(provider: str | None, model: str | None) -> str:
    return "the call" if model is None else f"the call of {model!r}" + (f" at {provider}" if provider else "")


class Forked(Protocol):
    """What has something to put right in a forked child."""

    def reset_after_fork(self) -> None:
        """Drop what belongs to the parent: held locks, waiters, open calls, sockets."""


_LIVE: weakref.WeakSet[Forked] = weakref.WeakSet()


def after_fork(limiter: Forked) -> None:
    """Have ``reset_after_fork`` called in every child process, as long as the limiter lives."""
    _LIVE.add(limiter)


def _reset_all() -> None:
    for limiter in list(_LIVE):
        limiter.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)


def merged(limits: Sequence[Limit]) -> Sequence[Limit]:
    """The limits with each key once, the tighter of two figures kept."""
    found: dict[str, Limit] = {}
    for limit in limits:
        other = found.get(limit.key)
        found[limit.key] = limit if other is None else _tighter(limit, other)
    return limits if len(found) == len(limits) else tuple(found.values())


def _tighter(one: Limit, two: Limit) -> Limit:
    def least(kind: str) -> int | None:
        return min((v for v in (getattr(one, kind), getattr(two, kind)) if v is not None), default=None)

    return Limit(one.key, least("rpm"), least("tpm"), least("max_concurrency"), one.fail_open and two.fail_open)
