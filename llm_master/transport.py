"""
The one place that opens a socket: aiohttp sessions, one an event loop, and what their failures mean.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
import weakref
import zlib
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from llm_master.errors import (
    APIConnectionError,
    APITimeoutError,
    ConfigurationError,
    ProviderError,
    ResponseError,
    ResponseTooLargeError,
)
from llm_master.redaction import redact

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

__all__ = ["MAX_BODY", "Answer", "Endpoint", "OpenStream", "Transport", "check_header"]

#: Bytes of a decoded answer that are read at most.
MAX_BODY = 64 * 1024 * 1024
_LARGE_BODY = 1024 * 1024
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Endpoint:
    """
    Where requests of one target go, prepared once.

    Args:
        url: the full address.
        headers: every header of the request, the key among them as a ``Secret``.
        provider, model: for messages of errors.
        secrets: the keys in the headers, masked wherever a server echoes them.

    Raises:
        ConfigurationError: a header holds a control character; nothing is sent.
    """

    __slots__ = ("headers", "model", "provider", "proxy", "secrets", "url")

    def __init__(
        self, url: str, headers: Mapping[str, str], *, provider: str, model: str, secrets: tuple[str, ...] = ()
    ) -> None:
        for name, value in headers.items():
            check_header(name, value)
        self.url = URL(url, encoded=True)
        self.headers: CIMultiDict[str] = CIMultiDict(headers)
        self.provider = provider
        self.model = model
        self.secrets = secrets
        self.proxy = _proxy_for(self.url)

    def with_headers(self, extra: Mapping[str, str]) -> Endpoint:
        """The same endpoint with a caller's extra headers, which replace equal ones."""
        for name, value in extra.items():
            check_header(name, value)
        copy = Endpoint.__new__(Endpoint)
        copy.url, copy.provider, copy.model = self.url, self.provider, self.model
        copy.secrets, copy.proxy = self.secrets, self.proxy
        copy.headers = CIMultiDict(self.headers)
        copy.headers.update(extra)
        return copy

    def __repr__(self) -> str:
        return f"Endpoint({self.provider}, {redact(str(self.url))})"


def check_header(name: str, value: str) -> None:
    """Refuse control characters in a header, so that no request can be split; raises ConfigurationError."""
    if not name or not name.isascii() or any(c <= " " or c in {":", "\x7f"} for c in name):
        raise ConfigurationError(f"header name {name!r} holds a character that HTTP does not allow; correct it")
    if any((c < " " and c != "\t") or c == "\x7f" for c in value):
        raise ConfigurationError(f"the value of header {name!r} holds a control character (CR, LF ...); correct it")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"the value of header {name!r} holds a character outside latin-1; correct it"
        ) from error.with_traceback(None)


def _proxy_for(url: URL) -> str | None:
    """The proxy that the environment names for an address, resolved once; never for loopback."""
    host = url.host or ""
    if host in _LOOPBACK or host.startswith("127.") or proxy_bypass(host):
        return None
    return getproxies().get(url.scheme)


class Answer(msgspec.Struct):
    """A whole HTTP answer; ``body`` is decoded from its content encoding."""

    status: int
    headers: Any
    body: bytes


class _Inflater:
    """Decodes gzip or deflate and stops at a limit, so that a small body cannot fill the memory."""

    def __init__(self, encoding: str, endpoint: Endpoint) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise ResponseError(
                f"{endpoint.provider} answered {endpoint.model!r} with content encoding {encoding[:40]!r},"
                " which was not asked for; check the proxy or base URL in between",
                provider=endpoint.provider,
                model=endpoint.model,
                retryable=False,
            )
        self._endpoint = endpoint
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS if encoding == "deflate" else zlib.MAX_WBITS | 16)

    def feed(self, data: bytes, room: int) -> bytes:
        try:
            out = self._decoder.decompress(data, room + 1)
        except zlib.error as error:
            raise ResponseError(
                f"{self._endpoint.provider} answered {self._endpoint.model!r} with a broken compressed body; try again",
                provider=self._endpoint.provider,
                model=self._endpoint.model,
            ) from error
        if len(out) > room or self._decoder.unconsumed_tail:
            raise _too_large(self._endpoint)
        return out


def _too_large(endpoint: Endpoint) -> ResponseTooLargeError:
    return ResponseTooLargeError(
        f"{endpoint.provider} answered {endpoint.model!r} with more than {MAX_BODY} bytes; ask for less",
        provider=endpoint.provider,
        model=endpoint.model,
    )


class OpenStream:
    """
    A streamed answer whose headers have arrived.

    One timer watches it: the first piece, the silence between two pieces, and the deadline. The reader is woken with
    a typed error when one of them is over, so that reading itself costs nothing extra.
    """

    __slots__ = (
        "_content",
        "_endpoint",
        "_inflater",
        "_limits",
        "_loop",
        "_read",
        "_response",
        "_seen",
        "_timer",
        "headers",
        "status",
    )

    def __init__(self, response: aiohttp.ClientResponse, endpoint: Endpoint) -> None:
        self._response = response
        self._content = response.content
        self._endpoint = endpoint
        self.status = response.status
        self.headers = response.headers
        self._loop = asyncio.get_running_loop()
        self._read = 0
        self._seen = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._limits: tuple[float | None, float | None] = (None, None)
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        self._inflater = None if encoding in ("", "identity") else _Inflater(encoding, endpoint)

    def watch(self, idle: float | None, until: float | None) -> None:
        """
        Set the limits that hold from now on.

        Args:
            idle: seconds of silence allowed.
            until: loop time at which the stream must have ended, or its first piece be there.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._limits = (idle, until)
        self._seen = self._loop.time()
        self._arm()

    def _arm(self) -> None:
        idle, until = self._limits
        times = [t for t in (until, None if idle is None else self._seen + idle) if t is not None]
        if times:
            self._timer = self._loop.call_at(min(times), self._check)

    def _check(self) -> None:
        idle, until = self._limits
        now = self._loop.time()
        if until is not None and now >= until:
            self._content.set_exception(self._late("its time was over"))
        elif idle is not None and now >= self._seen + idle:
            self._content.set_exception(self._late(f"it was silent for {idle:g} s"))
        else:
            self._arm()

    def _late(self, why: str) -> APITimeoutError:
        endpoint = self._endpoint
        return APITimeoutError(
            f"{endpoint.provider} stopped while streaming {endpoint.model!r}: {why};"
            " raise timeout= or give a fallback_model=",
            provider=endpoint.provider,
            model=endpoint.model,
        )

    async def read(self) -> bytes:
        """
        The next bytes, decoded; ``b""`` at the end.

        Raises:
            APIConnectionError: the connection broke.
            APITimeoutError: a limit of ``watch`` is over.
            ResponseTooLargeError: more than ``MAX_BODY`` bytes came.
        """
        while True:
            try:
                data = await self._content.readany()
            except ProviderError:
                raise
            except (aiohttp.ClientError, OSError, EOFError) as error:
                raise translate(error, self._endpoint, "while streaming") from error.with_traceback(None)
            if not data:
                return data
            self._seen = self._loop.time()
            if self._inflater is not None:
                data = self._inflater.feed(data, MAX_BODY - self._read)
                if not data:
                    continue
            self._read += len(data)
            if self._read > MAX_BODY:
                raise _too_large(self._endpoint)
            return data

    async def rest(self) -> bytes:
        """All that is still to come."""
        parts = []
        while data := await self.read():
            parts.append(data)
        return b"".join(parts)

    def close(self) -> None:
        """Let go of the connection: back to the pool when the answer was read to its end, else closed at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._content.at_eof():
            self._response.release()
        else:
            self._response.close()

    async def drain(self, seconds: float = 0.25) -> None:
        """Read the end of a finished answer so that its connection can be used again, then close."""
        if not self._content.at_eof():
            self.watch(seconds, self._loop.time() + seconds)
            try:
                while not self._content.at_eof() and await self._content.readany():
                    pass
            except (aiohttp.ClientError, OSError, ProviderError):
                pass  # the answer is whole; only the connection's reuse is lost
        self.close()


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
            # Each of these headers is set by the endpoint.
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept", "Content-Type"),
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
                data=body if len(body) < _LARGE_BODY else io.BytesIO(body),
                headers=endpoint.headers,
                timeout=timeout,
                allow_redirects=False,
                proxy=endpoint.proxy,
            )
            try:
                data = await _read_all(response, endpoint)
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
                data=body if len(body) < _LARGE_BODY else io.BytesIO(body),
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


async def _read_all(response: aiohttp.ClientResponse, endpoint: Endpoint) -> bytes:
    content = response.content
    encoding = response.headers.get("Content-Encoding")
    if encoding is not None and encoding.lower() != "identity":
        inflater = _Inflater(encoding.lower(), endpoint)
        parts, size = [], 0
        while data := await content.readany():
            out = inflater.feed(data, MAX_BODY - size)
            size += len(out)
            parts.append(out)
        return b"".join(parts)
    data = await content.readany()
    if content.at_eof():
        return data
    parts, size = [data], len(data)
    while data := await content.readany():
        size += len(data)
        if size > MAX_BODY:
            raise _too_large(endpoint)
        parts.append(data)
    return b"".join(parts)


_Kind = tuple[tuple[type[BaseException], ...], type[ProviderError], str, bool | None]

# First match wins. Fields of the text: provider, model, host, what (the error), doing (" while streaming").
_FAILURES: tuple[_Kind, ...] = (
    (
        (aiohttp.ConnectionTimeoutError,),
        APITimeoutError,
        (
            "{provider} did not accept a connection for {model!r} at {host} in time;"
            " check the network or give a fallback_model="
        ),
        None,
    ),
    (
        (TimeoutError,),
        APITimeoutError,
        "{provider} did not answer {model!r} in time{doing}; raise timeout= or give a fallback_model=",
        None,
    ),
    (
        (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError),
        APIConnectionError,
        (
            "TLS with {provider} ({host}) failed for {model!r}: {what};"
            " check the clock, the CA certificates (SSL_CERT_FILE) or the proxy"
        ),
        False,
    ),
    (
        (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError),
        APIConnectionError,
        "{provider} broke off its answer for {model!r}{doing}: {what}; try again or give a fallback_model=",
        None,
    ),
    (
        (aiohttp.InvalidURL,),
        APIConnectionError,
        "the address of {provider} for {model!r} cannot be used: {what}; correct its base URL",
        False,
    ),
    (
        (aiohttp.ClientResponseError,),
        ResponseError,
        "{provider} ({host}) sent something that is not HTTP for {model!r}: {what}; check the base URL",
        None,
    ),
    (
        (BaseException,),
        APIConnectionError,
        (
            "cannot reach {provider} at {host} for {model!r}{doing}: {what};"
            " check the network and the base URL, or give a fallback_model="
        ),
        None,
    ),
)


def translate(error: BaseException, endpoint: Endpoint, when: str) -> ProviderError:
    """The typed error for a failure below HTTP."""
    what = redact(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, *endpoint.secrets)
    _, cls, text, retryable = next(kind for kind in _FAILURES if isinstance(error, kind[0]))
    return cls(
        text.format(
            provider=endpoint.provider,
            model=endpoint.model,
            host=endpoint.url.host,
            what=what,
            doing=f" {when}" if when else "",
        ),
        provider=endpoint.provider,
        model=endpoint.model,
        retryable=retryable,
    )
