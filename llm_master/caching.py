"""
Calls that look for a kept answer first, and share one upstream call with equal ones that run at the same time.
"""

from __future__ import annotations

import asyncio
import os
from time import monotonic
from typing import TYPE_CHECKING, Any

from llm_master.errors import ConfigurationError
from llm_master.flights import Flights, Replay
from llm_master.policy.cache import ResponseCache, cache_key, is_cacheable
from llm_master.resume import Resumption
from llm_master.settings_parts import CacheSettings
from llm_master.stream import LLMStream, StreamSource, Wrapped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    import aiohttp

    from llm_master.calls import Call
    from llm_master.chain import Step
    from llm_master.classes import LLMResponse

__all__ = ["Caching", "cache_of"]

# A call that waits for another's answer ends this many seconds after its deadline at the latest; its own attempt, if it
# makes one, ends by the deadline itself and with the better error.
_MARGIN = 0.05


def cache_of(given: Any, dotenv: Mapping[str, str]) -> ResponseCache | None:
    """
    The cache that a caller means.

    Args:
        given: None, ``"memory"``, ``CacheSettings`` or a ``ResponseCache``.
        dotenv: what the ``.env`` file holds, for the address of a shared one.

    Raises:
        ConfigurationError: it is none of these, or lacks what its kind needs.
    """
    if given is None or isinstance(given, ResponseCache):
        return given
    if given == "memory":
        given = CacheSettings(kind="memory")
    if not isinstance(given, CacheSettings):
        raise ConfigurationError(f"cache={given!r}: give 'memory', CacheSettings(kind=...) or a ResponseCache")
    return ResponseCache.of(given, {**dotenv, **os.environ})


class Caching:
    """
    The cache of one ``QueryLLM`` and its calls under way.

    Only an answer of the first model of a call is kept, never one of a fallback.
    """

    def __init__(self, cache: ResponseCache) -> None:
        self.cache = cache
        self._flights = Flights()

    @staticmethod
    def key(call: Call, steps: Sequence[Step], api: str | None) -> str | None:
        """The key of a call, None when it cannot be kept."""
        step = steps[0]
        targets = [place.target for place in step.pool.places]
        identity = [
            (target.provider, target.model, str(getattr(target, "url", None)), target.key_id or "")
            for target in targets
        ]
        fallbacks = [(other.pool.asked, other.params) for other in steps[1:]]
        more = [call.drop_params, api, fallbacks, sorted(call.fallback_on)]
        # The shape that a provider's settings ask for is no part of the parameters.
        presets = [target.presets for target in targets if getattr(target, "presets", None) is not None]
        more += [each.response_format for each in presets if each.response_format is not None]
        return cache_key(repr(sorted(identity)), call.messages, step.params, call.tags, headers=call.headers, more=more)

    async def whole(self, call: Call, steps: list[Step], limits: aiohttp.ClientTimeout, key: str) -> LLMResponse:
        """A kept answer, or that of one upstream call that equal ones share."""
        work = self._flights.whole(_flight(call, key), lambda: self._asked(call, steps, limits, key))
        return _told(await self._in_time(call, steps, work), call)

    async def _asked(self, call: Call, steps: list[Step], limits: aiohttp.ClientTimeout, key: str) -> LLMResponse:
        # Looked up inside the flight: a call that misses just before another's answer is kept would ask once more.
        found = await self.cache.get(key)
        if found is not None:
            return found
        response = await (call.run(steps, limits) if call.hedge_after is None else call.hedged(steps, limits))
        await self._keep(call, steps, key, response)
        return response

    async def _keep(self, call: Call, steps: list[Step], key: str, response: LLMResponse) -> None:
        """Keep an answer of the call's first model that fits the shape it was asked for in."""
        pool = steps[0].pool
        if response.model_name == pool.asked and is_cacheable(response) and call.fits(response):
            secrets = [text for place in pool.places for text in place.target.secrets]
            await self.cache.put(key, response, secrets=secrets)

    async def stream(self, call: Call, steps: list[Step], on_interrupt: str | None, key: str) -> LLMStream:
        """The same as a stream; a kept answer comes in the pieces of a live one's kinds."""
        work = self._flights.stream(_flight(call, key), lambda: self._opened(call, steps, key))
        return LLMStream(_Own(await self._in_time(call, steps, work), call), Resumption(call, steps, on_interrupt))

    async def _opened(self, call: Call, steps: list[Step], key: str) -> StreamSource:
        found = await self.cache.get(key)
        if found is not None:
            return Replay(found)
        return _Kept(await call.begin(steps), lambda response: self._keep(call, steps, key, response))

    @staticmethod
    async def _in_time(call: Call, steps: list[Step], work: Any) -> Any:
        left = call.remaining()
        try:
            async with asyncio.timeout(None if left is None else left + _MARGIN) as timer:
                return await work
        except TimeoutError:
            if timer.expired():
                raise call.over(steps[0].pool) from None
            raise

    async def aclose(self) -> None:
        """Release what the store holds in this loop."""
        await self.cache.aclose()


def _flight(call: Call, key: str) -> str:
    """Calls that may try more often than others do not take over their failures."""
    return f"{key}:{call.policy.max_attempts}"


def _told(response: LLMResponse, call: Call) -> LLMResponse:
    """An answer as this call's: its name and its time are not those of the call that made it."""
    if response.cached:
        response.model_name = call.model_name
        response.latency = monotonic() - call.started
    return response


class _Kept(Wrapped):
    """A source whose whole answer is handed to the cache."""

    def __init__(self, inner: StreamSource, keep: Callable[[LLMResponse], Awaitable[None]]) -> None:
        super().__init__(inner)
        self._keep = keep

    async def ended(self, response: LLMResponse) -> LLMResponse:
        """Keep it."""
        await self._keep(response)
        return response


class _Own(Wrapped):
    """A shared source as one call's own."""

    def __init__(self, inner: StreamSource, call: Call) -> None:
        super().__init__(inner)
        self._call = call
        self._first = monotonic() if inner.batch else None

    async def advance(self) -> bool:
        """The inner source's next pieces."""
        more = await super().advance()
        if self.batch and self._first is None:
            self._first = monotonic()
        return more

    async def ended(self, response: LLMResponse) -> LLMResponse:
        """Give it the name and the times of this call."""
        if response.cached and self._first is not None:
            response.time_to_first_token = self._first - self._call.started
        return _told(response, self._call)
