"""
A Redis or Valkey that keeps limits: its connections, one command at a time within a short time, and what it is told
without anybody waiting.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from llm_master.errors import ConfigurationError
from llm_master.policy.limits_lua import SCRIPT, SHA
from llm_master.policy.limits_rules import CELLS
from llm_master.policy.limits_shared import UnansweredError

__all__ = ["Link", "Store", "UnansweredError"]

logger = logging.getLogger("llm_master")

# A command takes a fraction of a millisecond, so few connections carry all that a process can ask. More would be opened
# at once by the first calls of a process, and their handshakes alone could take longer than a command may.
_CONNECTIONS = 4
_OUTBOX = 10_000
# The name, second and two changes that a settlement without charges on budgets tells.
_PLAIN = 4

# A forked child must not close its parent's connections: the parent's event loop watches them through a shared epoll.
_INHERITED: list[Any] = []


class Link:
    """What one event loop has of the store: its own connections, tasks under way, and the places its calls hold."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.gate = asyncio.Semaphore(_CONNECTIONS)
        self.first = asyncio.Lock()  # held by the first command, which opens a connection for those behind it
        self.warm = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self.posting: asyncio.Task[None] | None = None
        self.places: dict[str, list[str]] = {}
        self.timer: asyncio.TimerHandle | None = None


class Store:
    """
    The script's caller, for any number of event loops and threads.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: seconds that a command may take, connecting included; patience: one that is about budgets.
        rest: seconds before a store that failed is asked again, by one command first.
        lease: seconds that a place is held without being prolonged.
        at: gives the time instead of the server: seconds, or a key that counts it; for tests.
        clock: monotonic seconds.
        settled: called with the keys of each reservation that the store was told the end of.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        patience: float,
        rest: float,
        lease: float,
        at: Callable[[], float | str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        settled: Callable[[list[str]], None],
    ) -> None:
        self.clock = clock
        self._url, self._timeout, self._rest, self._settled = url, timeout, rest, settled
        self._patience = patience
        self._lease, self._at = lease, at
        self.failures = 0
        self._begin()

    def _begin(self) -> None:
        self._links: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Link] = weakref.WeakKeyDictionary()
        self._down_until = -math.inf
        self.why = ""
        # What is told to the store without waiting for it: since when, keys, operation and arguments.
        self._outbox: deque[tuple[float, list[str], str, tuple[Any, ...]]] = deque(maxlen=_OUTBOX)

    def reset_after_fork(self) -> None:
        """In a forked child: connections and what is to be told are the parent's."""
        _INHERITED.extend(self._links.values())
        self._begin()

    @property
    def resting(self) -> float:
        """Seconds for which the store is left alone after a failure; 0 when it is asked."""
        return max(0.0, self._down_until - self.clock())

    def link(self) -> Link:
        """The running loop's link, made when there is none."""
        loop = asyncio.get_running_loop()
        link = self._links.get(loop)
        if link is None:
            link = self._links[loop] = Link(self._client())
        return link

    def _client(self) -> Any:
        try:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ModuleNotFoundError as error:
            raise ConfigurationError("shared limits need the redis extra: pip install 'llm-master[redis]'") from error
        return Redis.from_url(self._url, decode_responses=True, retry=Retry(NoBackoff(), 0))

    # -- asking -------------------------------------------------------------------------------------------------

    async def run(self, link: Link, keys: list[str], operation: str, *arguments: Any) -> Any:
        """
        The script's reply.

        Raises:
            UnansweredError: there is none within the timeout, or the store is left alone after a failure.
        """
        if self.resting:
            raise UnansweredError(sent=False)
        async with link.gate if link.warm else link.first:
            if self.resting:
                raise UnansweredError(sent=False)
            if self._down_until > -math.inf:
                self._down_until = self.clock() + self._rest  # this call tries; the others go on without the store
            task = asyncio.get_running_loop().create_task(
                _call(link.client, keys, (operation, "" if self._at is None else self._at(), *arguments))
            )
            link.tasks.add(task)
            task.add_done_callback(link.tasks.discard)
            try:
                await self._wait_for(task, self._seconds(keys))
            except asyncio.CancelledError:
                self._leave(task, keys, operation, arguments)
                raise
            return self._answer(task, link)

    def _seconds(self, keys: list[str]) -> float:
        return self._patience if nothing_of(keys) else self._timeout

    async def _wait_for(self, task: asyncio.Task[Any], seconds: float) -> None:
        await asyncio.wait({task}, timeout=seconds)
        for _ in range(3):
            # A reply that has arrived counts, however late a busy loop comes to read it.
            if not task.done():
                await asyncio.sleep(0)

    def _answer(self, task: asyncio.Task[Any], link: Link) -> Any:
        if not task.done():
            task.cancel()
            self._failed("the store did not answer in time")
        elif task.cancelled():
            self._failed("the store's connection was closed")
        elif (error := task.exception()) is not None:
            # Not its text: that may hold the store's address and more.
            self._failed(f"the store failed ({type(error).__name__})")
        else:
            self._down_until = -math.inf
            link.warm = True
            if self._outbox:
                self._start_posting()
            return task.result()
        raise UnansweredError(sent=True)

    def _failed(self, why: str) -> None:
        self.failures += 1
        self.why = why
        self._down_until = self.clock() + self._rest
        logger.warning("shared limits: %s; asking again in %g s", why, self._rest)

    def _leave(self, task: asyncio.Task[Any], keys: list[str], operation: str, arguments: tuple[Any, ...]) -> None:
        """Let a cancelled call's command end by itself, and give back what it may yet reserve."""
        timer = asyncio.get_running_loop().call_later(self._seconds(keys), task.cancel)

        def ended(done: asyncio.Task[Any]) -> None:
            timer.cancel()
            if operation != "reserve":
                return
            if done.cancelled() or done.exception() is not None:
                if nothing_of(keys):
                    self.post(keys, "undo", arguments[0])  # the store may yet do it
                return
            granted, cell, *_ = done.result()
            if granted:
                self.post(keys, "settle", arguments[0], cell, -1, -arguments[1], *nothing_of(keys))

        task.add_done_callback(ended)

    # -- telling ------------------------------------------------------------------------------------------------

    def post(self, keys: list[str], operation: str, *arguments: Any) -> None:
        """Tell the store something without waiting: by a task of the running loop, else with the next command."""
        self._outbox.append((self.clock(), keys, operation, arguments))
        self._start_posting()

    def _start_posting(self, link: Link | None = None) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        link = link or self._links.get(loop)
        if link is not None and link.posting is None:
            link.posting = task = loop.create_task(self._empty_outbox(link))
            link.tasks.add(task)
            task.add_done_callback(link.tasks.discard)

    async def _empty_outbox(self, link: Link) -> None:
        try:
            while self._outbox:
                since, keys, operation, arguments = self._outbox.popleft()
                late = self.clock() - since > max(CELLS, self._lease)
                if late and len(arguments) <= _PLAIN and operation != "undo":
                    continue  # its second is over and its place given back; what a budget gets back counts still
                try:
                    await self.run(link, keys, operation, *arguments)
                except UnansweredError as failure:
                    if failure.sent and operation == "settle":
                        arguments = _without_refund(*arguments)
                    self._outbox.appendleft((since, keys, operation, arguments))
                    return
                if operation == "settle":
                    self._settled(keys)
        finally:
            link.posting = None

    def hold(self, link: Link, name: str, keys: list[str]) -> None:
        """Prolong a call's places, again and again, until ``link.places`` holds them no more."""
        link.places[name] = keys
        self._prolong_later(link)

    def _prolong_later(self, link: Link) -> None:
        if link.timer is None:
            link.timer = asyncio.get_running_loop().call_later(self._lease / 3.0, self._prolong, link)

    def _prolong(self, link: Link) -> None:
        link.timer = None
        for name, keys in list(link.places.items()):
            self.post(keys, "prolong", name, self._lease)
        if link.places:
            self._prolong_later(link)

    async def aclose(self) -> None:
        """Tell the store what it was not told yet, within one timeout, and close this loop's connections."""
        link = self._links.pop(asyncio.get_running_loop(), None)
        if link is None:
            return
        if link.timer is not None:
            link.timer.cancel()
        seconds = max((self._seconds(keys) for _, keys, *_ in self._outbox), default=self._timeout)
        if self._outbox:
            self._start_posting(link)
        if link.tasks:
            await asyncio.wait(link.tasks, timeout=seconds)
        for task in list(link.tasks):
            task.cancel()
        await asyncio.gather(*link.tasks, return_exceptions=True)
        await link.client.aclose()


async def _call(client: Any, keys: list[str], arguments: tuple[Any, ...]) -> Any:
    from redis.exceptions import ConnectionError as LostError

    try:
        return await _once(client, keys, arguments)
    except LostError:
        # The connections may be from before a restart of the store; a new one tells.
        await client.connection_pool.disconnect(inuse_connections=False)
        if arguments[0] == "settle":
            arguments = (*arguments[:2], *_without_refund(*arguments[2:]))
        return await _once(client, keys, arguments)


async def _once(client: Any, keys: list[str], arguments: tuple[Any, ...]) -> Any:
    from redis.exceptions import NoScriptError

    try:
        return await client.evalsha(SHA, len(keys), *keys, *arguments)
    except NoScriptError:  # the store is new or was restarted
        return await client.eval(SCRIPT, len(keys), *keys, *arguments)


def _without_refund(name: str, cell: int, _: int, tokens: int, *finals: str) -> tuple[Any, ...]:
    """A settlement that may have been made already: to charge twice is safe, to refund twice is not."""
    return name, cell, 0, max(0, tokens), *finals  # those of budgets are only taken once


def nothing_of(keys: list[str]) -> list[str]:
    """What the budgets among the keys get of a request that was never sent."""
    return ["0" for key in keys[::2] if key.partition("}")[2].startswith(":u:")]
