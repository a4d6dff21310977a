"""
Answers kept in Redis or Valkey, for any number of processes and hosts.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import time
import urllib.parse
import weakref
from collections.abc import Callable
from typing import Any

from llm_master.errors import ConfigurationError
from llm_master.policy.cache_forks import around_fork
from llm_master.policy.cache_outage import Outage

__all__ = ["RedisStore"]

# A command takes a fraction of a millisecond, so few connections carry all that a process can ask. More would be opened
# at once by the first calls of a process, and their handshakes alone could take longer than a command may.
_CONNECTIONS = 4
_LONGEST = 10 * 365 * 86_400.0  # seconds; what lives longer is kept without a time

# A forked child must not close its parent's connections: the parent's event loop watches them through a shared epoll.
_INHERITED: list[Any] = []


class _Link:
    """What one event loop has of the store: its own connections and the commands under way."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.gate = asyncio.Semaphore(_CONNECTIONS)
        self.first = asyncio.Lock()  # held by the first command, which opens a connection for those behind it
        self.warm = False
        self.tasks: set[asyncio.Task[Any]] = set()


class RedisStore:
    """
    A store that any number of processes share; it bounds its own memory (``maxmemory``, ``maxmemory-policy``).

    A store that is slow, gone or refuses is a miss: a command gets ``timeout`` seconds, and a store that failed is
    left alone for ``rest`` seconds, so that no call waits longer. Each event loop has connections of its own.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        namespace: what all keys begin with.
        timeout: seconds that a command may take, connecting included.
        rest: seconds before a store that failed is asked again, by one call first.
        clock: monotonic seconds.

    Raises:
        ConfigurationError: the URL is none of these, or the ``redis`` extra is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "llmm",
        timeout: float = 0.1,
        rest: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not url.startswith(("redis://", "rediss://", "unix://")) or not _has_good_port(url):
            raise ConfigurationError(
                "a shared cache needs an address such as redis://host:6379/0, rediss:// or unix://"
            )
        if importlib.util.find_spec("redis") is None:
            raise ConfigurationError("a cache in Redis needs the redis extra: pip install 'llm-master[redis]'")
        self._url, self._namespace, self._timeout = url, namespace, timeout
        self._outage = Outage("Redis", rest, clock)
        self._begin()
        around_fork(self)

    def _begin(self) -> None:
        self._links: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Link] = weakref.WeakKeyDictionary()

    @property
    def failures(self) -> int:
        """How often the store did not answer or failed."""
        return self._outage.failures

    async def get(self, key: str) -> bytes | None:
        """The value, None when there is none that is still valid or the store does not answer."""
        found = await self._ask("get", "GET", self._name(key))
        return found if isinstance(found, bytes) else None

    async def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """Keep a value for ``ttl`` seconds, None for as long as the store keeps it."""
        if ttl is not None and not ttl > 0.0:
            return
        lasting = ttl is None or ttl > _LONGEST
        until = () if lasting else ("PX", max(1, math.ceil((ttl or 0.0) * 1000.0)))
        await self._ask("put", "SET", self._name(key), value, *until)

    async def aclose(self) -> None:
        """Close this loop's connections; a later call opens new ones."""
        link = self._links.pop(asyncio.get_running_loop(), None)
        if link is None:
            return
        for task in list(link.tasks):
            task.cancel()
        await asyncio.gather(*link.tasks, return_exceptions=True)
        await link.client.aclose()

    def _name(self, key: str) -> str:
        return f"{self._namespace}:answer:{key}"

    def _link(self) -> _Link:
        loop = asyncio.get_running_loop()
        link = self._links.get(loop)
        if link is None:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            for ref in self._links.keyrefs():
                # Connections that nobody closed hold their loop.
                if (other := ref()) is not None and other.is_closed():
                    self._links.pop(other, None)
            link = self._links[loop] = _Link(Redis.from_url(self._url, retry=Retry(NoBackoff(), 0)))
        return link

    async def _ask(self, kind: str, *command: Any) -> Any:
        """The store's reply; None when there is none, whatever the reason."""
        try:
            link = self._link()
        except ValueError:
            self._outage.failed("ask", "its address has options that it cannot have")
            return None
        async with link.gate if link.warm else link.first:
            # An outage is one for reading and writing alike.
            if not self._outage.enter("ask"):
                return None
            task = asyncio.get_running_loop().create_task(_call(link.client, command))
            link.tasks.add(task)
            task.add_done_callback(link.tasks.discard)
            try:
                await asyncio.wait({task}, timeout=self._timeout)
                for _ in range(3):
                    # A reply that has arrived counts, however late a busy loop comes to read it.
                    if not task.done():
                        await asyncio.sleep(0)
            finally:
                task.cancel()
            return self._answer(kind, task, link)

    def _answer(self, kind: str, task: asyncio.Task[Any], link: _Link) -> Any:
        from redis.exceptions import ResponseError

        if not task.done():
            self._outage.failed("ask", "the store did not answer in time")
        elif task.cancelled():
            self._outage.failed("ask", "the connection was closed")
        elif (error := task.exception()) is None:
            link.warm = True
            self._outage.worked("ask")
            self._outage.worked(kind)
            return task.result()
        elif isinstance(error, ResponseError):
            # It answered, so the next command may do better: a full store takes no value but gives those it has.
            self._outage.worked("ask")
            self._outage.failed(kind, f"the store refuses to {kind} an answer ({type(error).__name__})")
        else:
            # Not its text: that may hold the store's address and more.
            self._outage.failed("ask", f"the store failed ({type(error).__name__})")
        return None

    def before_fork(self) -> None:
        """Nothing here can be half changed."""

    def after_fork(self, *, child: bool) -> None:
        """Leave the parent's connections alone in a child."""
        if child:
            _INHERITED.extend(self._links.values())
            self._begin()


def _has_good_port(url: str) -> bool:
    try:
        return urllib.parse.urlsplit(url).port != 0
    except ValueError:
        return False


async def _call(client: Any, command: tuple[Any, ...]) -> Any:
    from redis.exceptions import ConnectionError as LostError

    try:
        return await client.execute_command(*command)
    except LostError:
        # The connections may be from before a restart of the store; a new one tells.
        await client.connection_pool.disconnect(inuse_connections=False)
        return await client.execute_command(*command)
