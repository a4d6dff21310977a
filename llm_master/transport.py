"""
The one place that opens a socket: aiohttp sessions, one an event loop.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from aiohttp.payload import BytesPayload

from llm_master.alarms import Alarms
from llm_master.endpoint import COMMON_HEADERS, translate
from llm_master.errors import ProviderError
from llm_master.incoming import OpenStream, read_all

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

    from llm_master.endpoint import Endpoint
    from llm_master.fetch_rules import FetchPolicy

__all__ = ["Answer", "Transport"]

_LARGE_BODY = 1024 * 1024
_MOST_UNTIMED = 64


class Answer(msgspec.Struct):
    """A whole HTTP answer; ``body`` is decoded from its content encoding."""

    status: int
    headers: Any
    body: bytes


class _Held:
    """A loop's session, open until its ``keeper`` is closed."""

    __slots__ = ("alarms", "finalizer", "is_open", "keeper", "limits", "loop", "session")

    def __init__(self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession) -> None:
        self.loop = weakref.ref(loop)
        self.session = session
        self.alarms = Alarms(loop)
        self.limits: dict[float | None, aiohttp.ClientTimeout] = {}
        self.is_open = True
        self.keeper: AsyncGenerator[None, None] | None = None
        self.finalizer: weakref.finalize[Any, Any] | None = None

    def untimed(self, connect: float | None) -> aiohttp.ClientTimeout:
        """The limits of a request whose whole time is watched from outside: seconds to connect."""
        found = self.limits.get(connect)
        if found is None:
            if len(self.limits) >= _MOST_UNTIMED:
                self.limits.clear()
            found = self.limits[connect] = aiohttp.ClientTimeout(total=None, sock_connect=connect)
        return found

    def post(self, endpoint: Endpoint, body: bytes, limits: aiohttp.ClientTimeout) -> Awaitable[aiohttp.ClientResponse]:
        """Send a body; gives the answer once its headers are there."""
        return self.session.post(
            endpoint.url,
            data=BytesPayload(body) if len(body) < _LARGE_BODY else io.BytesIO(body),
            headers=endpoint.headers,
            timeout=limits,
            allow_redirects=False,
            proxy=endpoint.proxy,
        )


_ENDING: weakref.WeakSet[Transport] = weakref.WeakSet()
_GRAVEYARD: list[Any] = []
_CLOSING: set[asyncio.Task[None]] = set()


class Transport:
    """
    HTTP for all targets of one QueryLLM; safe in several event loops, threads and after fork.

    The session of a loop is opened on first use, and closed by ``aclose()`` or when its loop shuts down its async
    generators, as ``asyncio.run`` does.
    """

    def __init__(self, fetching: FetchPolicy | None = None) -> None:
        #: What may be fetched for a provider that does not fetch by itself; None: the usual ``FetchPolicy``.
        self.fetching = fetching
        self._sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Held] = weakref.WeakKeyDictionary()
        # The one asked for last: looking into the dictionary at every call is ten times dearer.
        self._latest: _Held | None = None
        self._lock = threading.Lock()
        _ENDING.add(self)

    async def _hold(self) -> _Held:
        """The running loop's session and what belongs to it."""
        loop = asyncio.get_running_loop()
        found = self._sessions.get(loop)
        if found is not None and found.is_open:
            self._latest = found
            return found
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, enable_cleanup_closed=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=256 * 1024,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            headers=COMMON_HEADERS,
        )
        held = _Held(loop, session)
        keeper = held.keeper = _close_with_loop(held)
        await keeper.__anext__()
        # The finalizer holds the session from outside, so that a transport dropped without aclose() takes it along in
        # good order, also from within a reference cycle.
        finalizer = weakref.finalize(self, _dispose, loop, session, keeper)
        finalizer.atexit = False
        held.finalizer = finalizer
        with self._lock:
            self._sessions[loop] = self._latest = held
        return held

    async def post(self, endpoint: Endpoint, body: bytes, timeout: aiohttp.ClientTimeout) -> Answer:
        """
        Send a body and read the whole answer, whatever its status.

        Raises:
            APIConnectionError: refused, reset, DNS or TLS.
            APITimeoutError: ``timeout`` is over.
            ResponseTooLargeError: the answer is over ``MAX_BODY``.
        """
        held = self._latest
        if held is None or not held.is_open or held.loop() is not asyncio.get_running_loop():
            held = await self._hold()
        alarm = held.alarms.after(timeout.total)
        is_over = False
        try:
            try:
                # The usual limits are there already: a call less where every call passes.
                limits = held.limits.get(timeout.sock_connect) or held.untimed(timeout.sock_connect)
                response = await held.post(endpoint, body, limits)
                try:
                    data = await read_all(response, endpoint)
                except BaseException:
                    response.close()
                    raise
            finally:
                is_over = alarm.left()
        except ProviderError:
            raise
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise translate(error, endpoint, "") from error.with_traceback(None)
        except asyncio.CancelledError:
            if not is_over:
                raise
            raise translate(TimeoutError(), endpoint, "") from None
        return Answer(response.status, response.headers, data)

    async def ask(self, method: str, endpoint: Endpoint, timeout: aiohttp.ClientTimeout) -> Answer:
        """A request without a body, ``GET`` or another, and its whole answer; raises as ``post``."""
        held = await self._hold()
        try:
            async with asyncio.timeout(timeout.total):
                response = await held.session.request(
                    method,
                    endpoint.url,
                    headers=endpoint.headers,
                    timeout=held.untimed(timeout.sock_connect),
                    allow_redirects=False,
                    proxy=endpoint.proxy,
                )
                try:
                    data = await read_all(response, endpoint)
                except BaseException:
                    response.close()
                    raise
        except ProviderError:
            raise
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise translate(error, endpoint, "") from error.with_traceback(None)
        return Answer(response.status, response.headers, data)

    async def open(self, endpoint: Endpoint, body: bytes, timeout: aiohttp.ClientTimeout) -> OpenStream:
        """Send a body and wait for the answer's headers; raises as ``post``."""
        held = await self._hold()
        try:
            response = await held.post(endpoint, body, timeout)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise translate(error, endpoint, "") from error.with_traceback(None)
        try:
            return OpenStream(response, endpoint)
        except BaseException:
            response.close()
            raise

    async def aclose(self) -> None:
        """Close the running loop's session; sessions of other loops close with their loops."""
        with self._lock:
            found = self._sessions.pop(asyncio.get_running_loop(), None)
        if found is not None and found.keeper is not None:
            await found.keeper.aclose()

    def _forget(self) -> None:
        # After fork the sockets belong to the parent: keep the objects alive and untouched, so that nothing of them
        # is closed or written from here.
        _GRAVEYARD.append(list(self._sessions.values()))
        self._latest = None
        self._sessions = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()


def _after_fork() -> None:
    for transport in list(_ENDING):
        transport._forget()  # noqa: SLF001  # same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


async def _close_with_loop(held: _Held) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        held.is_open = False
        if held.finalizer is not None:
            held.finalizer.detach()
        await held.session.close()


def _dispose(
    loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession, keeper: AsyncGenerator[None, None]
) -> None:
    """Close the session of a transport that is no more; from any thread."""
    if loop.is_running():
        loop.call_soon_threadsafe(lambda: _CLOSING.add(loop.create_task(_finish(keeper))))
    elif not loop.is_closed() and session.connector is not None:
        session.connector.close()  # drops its sockets at once; nothing of this loop runs to wait for more


async def _finish(keeper: AsyncGenerator[None, None]) -> None:
    try:
        await keeper.aclose()
    finally:
        task = asyncio.current_task()
        if task is not None:
            _CLOSING.discard(task)
