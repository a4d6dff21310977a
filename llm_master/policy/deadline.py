"""
How long a call may take: one deadline, and the limits inside it.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from llm_master.errors import InvalidRequestError

__all__ = ["Timeouts"]


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """
    Time limits of a call, in seconds; None means no limit.

    Attributes:
        total: the whole call: waits, retries, fallbacks and the stream.
        connect: DNS, TCP and TLS of one connection.
        first_token: from sending a streamed request to the first piece of its answer.
        idle: between two pieces of a stream.
    """

    total: float | None = 600.0
    connect: float | None = 10.0
    first_token: float | None = 300.0
    idle: float | None = 120.0

    def __post_init__(self) -> None:
        """Refuse zero, negative, NaN and values that are not numbers."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None:
                _check(name, value)

    @classmethod
    def of(cls, value: float | Timeouts | None, default: Timeouts) -> Timeouts:
        """A call's ``timeout=``: a number is the total, a ``Timeouts`` is taken whole, None is the default."""
        if value is None:
            return default
        if isinstance(value, Timeouts):
            return value
        _check("timeout", value)
        return msgspec.structs.replace(default, total=float(value))


def _check(name: str, value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise InvalidRequestError(f"{name}={value!r}: give a number of seconds above 0, or None for no limit")
