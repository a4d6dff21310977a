"""
The deployments behind one model name: where each is, its circuit breaker, and the limits that its requests count in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_master.policy.balance import Balancer, Member
from llm_master.policy.breaker import Breaker, BreakerPolicy
from llm_master.policy.limits_rules import Limit, merged
from llm_master.retry_after import provider_stop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llm_master.settings_parts import Fallback

__all__ = ["Place", "Pool", "limit_of"]


_MOST_UNDER = 1024
# In these words a limiter is told of a stop.
_REMAINING, _RESET = "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"


class Place:
    """
    One deployment of a model.

    Args:
        target: what sends its requests.
        name: its name among several, None for the only one.
        limits: those that every request to it counts in.
        observe: hands ratelimit headers to the limiter: ``observe(keys, headers)``.
    """

    __slots__ = ("_observe", "_under", "_watch", "limits", "name", "room", "target")

    def __init__(
        self, target: Any, name: str | None, limits: Sequence[Limit], observe: Callable[[Any, Any], None]
    ) -> None:
        self.target = target
        self.name = name
        self._watch = Limit(f"at:{target.provider}/{name or target.model}/{target.key_id or '-'}")
        self._observe = observe
        # The headers count from the start where calls have limits anyway; elsewhere from
        # the first header that says stop, so that a call without limits pays nothing.
        self.limits: tuple[Limit, ...] = (*merged(limits), self._watch) if limits else ()
        self.room = room_of(self.limits)
        # With the limits of tags, by the identity of these, which calls share.
        self._under: dict[int, tuple[tuple[Limit, ...], tuple[Limit, ...], int | None]] = {}
        if hasattr(target, "heed"):
            target.heed = self.heed

    def under(self, more: tuple[Limit, ...]) -> tuple[tuple[Limit, ...], int | None]:
        """This place's limits together with a call's own, and the room of the tightest."""
        found = self._under.get(id(more))
        if found is None or found[0] is not more:
            if len(self._under) >= _MOST_UNDER:
                self._under.clear()
            limits = self.limits + more
            found = self._under[id(more)] = more, limits, room_of(limits)
        return found[1], found[2]

    def heed(self, headers: Mapping[str, str]) -> None:
        """Look at the headers of a good answer; a provider that allows nothing more is left alone until it does."""
        seconds = provider_stop(headers, partial=True)
        if seconds > 0.0:
            if not self.limits:
                self.limits = (self._watch,)
                self._under.clear()
            self._observe((self._watch.key,), {_REMAINING: "0", _RESET: f"{seconds:.6f}s"})


def room_of(limits: Sequence[Limit]) -> int | None:
    """Tokens a minute of the tightest limit, None when none of them counts tokens."""
    room: int | None = None
    for limit in limits:
        tpm = limit.tpm
        if tpm is not None and (room is None or tpm < room):
            room = tpm
    return room


def limit_of(key: str, config: Any) -> tuple[Limit, ...]:
    """The limit that a model's or deployment's own settings make, if they set one."""
    figures = (config.rate_limit_rpm, config.rate_limit_tpm, config.max_concurrency)
    return (Limit(key, *figures),) if any(figure is not None for figure in figures) else ()


class Pool:
    """
    What a model name means to a call.

    Args:
        asked: the name.
        places: its deployments, with their weights.
        fallbacks: where the settings file sends its calls when it fails.
    """

    __slots__ = ("asked", "balancer", "fallbacks", "model", "places", "provider")

    def __init__(
        self,
        asked: str,
        places: Sequence[tuple[Place, float]],
        fallbacks: Sequence[Fallback] = (),
        breaker: BreakerPolicy | None = None,
    ) -> None:
        self.asked = asked
        self.places = tuple(place for place, _ in places)
        self.fallbacks = tuple(fallbacks)
        self.balancer = Balancer(
            [Member(place.name or asked, place, weight=weight, breaker=Breaker(breaker)) for place, weight in places]
        )
        self.provider: str = self.places[0].target.provider
        self.model: str = self.places[0].target.model

    @property
    def supervised(self) -> bool:
        """Whether a deployment holds a server of ours."""
        return any(place.target.supervised for place in self.places)

    async def released(self) -> None:
        """Let go of what the deployments hold."""
        for place in self.places:
            await place.target.released()
