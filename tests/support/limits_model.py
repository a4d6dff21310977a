"""
The limits written the slow and plain way, and random programs to compare a limiter with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from llm_master.policy.limits import Limit

KEYS = ("model:a", "model:b", "provider:p")
figures = st.one_of(st.none(), st.integers(1, 4))
made_limits = st.fixed_dictionaries(
    {key: st.builds(Limit, st.just(key), figures, st.one_of(st.none(), st.integers(5, 20)), figures) for key in KEYS}
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.floats(0, 70)),
        st.tuples(st.just("take"), st.sets(st.sampled_from(KEYS), min_size=1), st.integers(0, 5)),
        st.tuples(st.just("settle"), st.integers(0, 9), st.one_of(st.none(), st.integers(0, 9))),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
    ),
    max_size=60,
)


class Model:
    """The same rules, written the slow and plain way: every call ever made, and sums over all of them."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def used(self, key: str, now: float) -> tuple[int, int, int]:
        mine = [call for call in self.calls if key in call["keys"]]
        counted = [call for call in mine if math.floor(call["at"]) + 61 > now and not call["undone"]]
        return len(counted), sum(call["tokens"] for call in counted), sum(call["open"] for call in mine)

    def fits(self, limits: list[Limit], tokens: int, now: float) -> bool:
        for limit in limits:
            requests, used, open_calls = self.used(limit.key, now)
            if limit.rpm is not None and requests >= limit.rpm:
                return False
            if limit.tpm is not None and used + tokens > limit.tpm:
                return False
            if limit.max_concurrency is not None and open_calls >= limit.max_concurrency:
                return False
        return True


def compare(
    rules: dict[str, Limit],
    program: list[tuple[Any, ...]],
    *,
    time: Any,
    take: Callable[[list[Limit], int], Any],
    end: Callable[[Any, int | None, bool], None],
    check: Callable[[Model], None],
    coarse: float = 0.0,
) -> None:
    """
    Run a program on a limiter and on the model: each answer must be the same.

    ``take`` returns seconds to wait as a float, or anything else as the reservation, which ``end`` ends: with tokens,
    or undone. ``coarse`` is how many seconds the named waits may be rounded up.
    """
    model, held = Model(), []
    for name, *arguments in program:
        if name == "pass":
            time.now += arguments[0]
        elif name == "take":
            keys, tokens = arguments
            limits = [rules[key] for key in sorted(keys)]
            answer = take(limits, tokens)
            assert (not isinstance(answer, float)) == model.fits(limits, tokens, time.now)
            if not isinstance(answer, float):
                call = {"at": time.now, "keys": keys, "tokens": tokens, "open": True, "undone": False}
                model.calls.append(call)
                held.append((answer, call))
            elif answer < math.inf:
                # The moment named is the first at which time alone makes room.
                places = [limit for limit in limits if limit.max_concurrency is not None]
                free = all(model.used(limit.key, 0)[2] < limit.max_concurrency for limit in places)
                assert not model.fits(limits, tokens, time.now + answer - coarse - 1e-6)
                assert not free or model.fits(limits, tokens, time.now + answer + 1e-6)
        elif held:
            reservation, call = held[arguments[0] % len(held)]
            undo = name == "cancel"
            real = None if undo else arguments[1]
            if call["open"]:
                call |= {"open": False, "undone": undo}
                call["tokens"] = 0 if undo else call["tokens"] if real is None else real
                end(reservation, real, undo)
        check(model)
