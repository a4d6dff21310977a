"""
Whether, and how long from now, a failed attempt is made again.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.errors import (
    BadRequestError,
    ContentPolicyError,
    ContextWindowError,
    DeadlineExceededError,
    InvalidRequestError,
    ProviderError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["RetryPolicy", "falls_back", "full_jitter"]


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """
    How often one target is tried, and how long is waited between.

    Attributes:
        max_attempts: requests to one target at most, the first included.
        base_delay: seconds; attempt n waits a random time up to ``base_delay * 2**(n-1)``.
        max_delay: seconds that a wait chosen here never exceeds; a provider's own Retry-After may be longer.
        max_retry_after: seconds of Retry-After that are waited for; more than that goes to the fallback at once.
    """

    max_attempts: int = 3
    base_delay: float = 0.5
    max_delay: float = 30.0
    max_retry_after: float = 120.0

    def __post_init__(self) -> None:
        """Refuse counts below one and times that are not times."""
        if isinstance(self.max_attempts, bool) or self.max_attempts < 1:
            raise InvalidRequestError(f"max_attempts={self.max_attempts!r}: give a whole number of at least 1")
        for name in ("base_delay", "max_delay", "max_retry_after"):
            value: Any = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise InvalidRequestError(f"{name}={value!r}: give a number of seconds of at least 0")


def full_jitter(
    policy: RetryPolicy, attempt: int, previous: float = 0.0, rand: Callable[[], float] = random.random
) -> float:
    """
    Seconds to wait after failed attempt number ``attempt`` (1 is the first), spread over the whole range.

    Pure full jitter may wait almost nothing, and less the second time than the first: then it is no back-off. So a
    wait is at least an eighth of its range and half as long again as the one before, where the range allows.
    """
    longest = min(policy.max_delay, policy.base_delay * 2.0 ** min(attempt - 1, 30))
    return float(max(rand() * longest, longest / 8, min(longest, previous * 1.5)))


def falls_back(error: ProviderError, fallback_on: Collection[str] = ()) -> bool:
    """
    Whether another target may do better.

    A refused content and a malformed request fail there as well: the first only falls back where the caller lists
    ``content_policy``, the second never. A used-up deadline leaves no time.
    """
    if isinstance(error, DeadlineExceededError):
        return False
    if isinstance(error, ContentPolicyError):
        return "content_policy" in fallback_on
    if isinstance(error, ContextWindowError):
        return True
    return not isinstance(error, BadRequestError)
