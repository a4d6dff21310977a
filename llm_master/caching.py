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
from llm_master.stream import LLMStream, StreamSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        return cache_key(repr(sorted(identity)), call.messages, step.params, call.tags, headers=call.headers, more=more)

    async def whole(self, call: Call, steps: list[Step], limits: aiohttp.ClientTimeout, key: str) -> LLMResponse:
        """A kept answer, or that of one upstream call that equal ones share."""
        found = await self.cache.get(key, model_name=call.model_name)
        if found is None:
            found = await self._in_time(
                call, steps, self._flights.whole(key, lambda: self._asked(call, steps, limits, key))
            )
        if found.cached:
            found.latency = monotonic() - call.started
        return found

    async def _asked(self, call: Call, steps: list[Step], limits: aiohttp.ClientTimeout, key: str) -> LLMResponse:
        response = await (call.run(steps, limits) if call.hedge_after is None else call.hedged(steps, limits))
        if response.model_name == steps[0].pool.asked and is_cacheable(response):
            await self.cache.put(key, response)
        return response

    async def stream(self, call: Call, steps: list[Step], on_interrupt: str | None, key: str) -> LLMStream:
        """The same as a stream; a kept answer comes in the pieces of a live one's kinds."""
        found = await self.cache.get(key, model_name=call.model_name)
        source: StreamSource
        if found is not None:
            found.latency = monotonic() - call.started
            source = Replay(found)
        else:
            source = await self._in_time(call, steps, self._flights.stream(key, lambda: self._opened(call, steps, key)))
        return LLMStream(source, Resumption(call, steps, on_interrupt))

    async def _opened(self, call: Call, steps: list[Step], key: str) -> StreamSource:
        return _Kept(await call.begin(steps), self.cache, key, steps[0].pool.asked)

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


class _Kept(StreamSource):
    """A source whose whole answer goes into the cache."""

    def __init__(self, inner: StreamSource, cache: ResponseCache, key: str, asked: str) -> None:
        self._inner, self._cache, self._key, self._asked = inner, cache, key, asked
        self.batch = inner.batch

    async def advance(self) -> bool:
        """The inner source's next pieces."""
        more = await self._inner.advance()
        self.batch = self._inner.batch
        response = self._inner.response
        if not more and self.response is None and response is not None:
            if response.model_name == self._asked and is_cacheable(response):
                await self._cache.put(self._key, response)
            self.response = response
        return more

    def abandon(self) -> None:
        """Stop the inner source."""
        self._inner.abandon()
