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

from llm_master.endpoint import translate
from llm_master.errors import ProviderError
from llm_master.incoming import OpenStream, read_all

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from llm_master.endpoint import Endpoint

__all__ = ["Answer", "Transport"]

_LARGE_BODY = 1024 * 1024


class Answer(msgspec.Struct):
    """A whole HTTP answer; ``body`` is decoded from its content encoding."""

    status: int
    headers: Any
    body: bytes


_ENDING: weakref.WeakSet[Transport] = weakref.WeakSet()
_GRAVEYARD: list[Any] = []
_CLOSING: set[asyncio.Task[None]] = set()


class Transport:
    """
    HTTP for all targets of one QueryLLM; safe in several event loops, threads and after fork.

    The session of a loop is opened on first use, and closed by ``aclose()`` or when its loop shuts down its async
    generators, as ``asyncio.run`` does.
    """

    def __init__(self) -> None:
        self._sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, Any]] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()
        _ENDING.add(self)

    async def session(self) -> aiohttp.ClientSession:
        """The running loop's session."""
        loop = asyncio.get_running_loop()
        found = self._sessions.get(loop)
        if found is not None and not found[0].closed:
            return found[0]
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, enable_cleanup_closed=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=256 * 1024,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        )
        holder: list[weakref.finalize[Any, Any]] = []
        keeper = _close_with_loop(session, holder)
        await keeper.__anext__()
        # The finalizer holds the session from outside, so that a transport dropped without aclose() takes it along in
        # good order, also from within a reference cycle.
        finalizer = weakref.finalize(self, _dispose, loop, session, keeper)
        finalizer.atexit = False
        holder.append(finalizer)
        with self._lock:
            self._sessions[loop] = (session, keeper)
        return session

    async def post(self, endpoint: Endpoint, body: bytes, timeout: aiohttp.ClientTimeout) -> Answer:
        """
        Send a body and read the whole answer, whatever its status.

        Raises:
            APIConnectionError: refused, reset, DNS or TLS.
            APITimeoutError: ``timeout`` is over.
            ResponseTooLargeError: the answer is over ``MAX_BODY``.
        """
        loop_session = self._sessions.get(asyncio.get_running_loop())
        session = loop_session[0] if loop_session is not None and not loop_session[0].closed else await self.session()
        try:
            response = await session.post(
                endpoint.url,
                data=BytesPayload(body) if len(body) < _LARGE_BODY else io.BytesIO(body),
                headers=endpoint.headers,
                timeout=timeout,
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
        session = await self.session()
        try:
            response = await session.post(
                endpoint.url,
                data=BytesPayload(body) if len(body) < _LARGE_BODY else io.BytesIO(body),
                headers=endpoint.headers,
                timeout=timeout,
                allow_redirects=False,
                proxy=endpoint.proxy,
            )
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
        if found is not None:
            await found[1].aclose()

    def _forget(self) -> None:
        # After fork the sockets belong to the parent: keep the objects alive and untouched, so that nothing of them
        # is closed or written from here.
        _GRAVEYARD.append(dict(self._sessions))
        self._sessions = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()


def _after_fork() -> None:
    for transport in list(_ENDING):
        transport._forget()  # noqa: SLF001  # same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


async def _close_with_loop(
    session: aiohttp.ClientSession, holder: list[weakref.finalize[Any, Any]]
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for finalizer in holder:
            finalizer.detach()
        await session.close()


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
