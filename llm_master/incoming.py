"""
What comes back from a provider: bytes, bounded in size and time.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING

import aiohttp

from llm_master.endpoint import translate
from llm_master.errors import APITimeoutError, ProviderError, ResponseError, ResponseTooLargeError

if TYPE_CHECKING:
    from llm_master.endpoint import Endpoint

__all__ = ["MAX_BODY", "MessageEnds", "OpenStream", "read_all"]

#: Bytes of a decoded answer that are read at most.
MAX_BODY = 64 * 1024 * 1024


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


class MessageEnds:
    """
    Where the messages of Amazon's binary event stream end: each begins with its length, in four bytes.

    Bytes that never end a message are no sign of life. Whether a message is sound is not looked at here.
    """

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0  # bytes of the message that are still to come

    def end_in(self, data: bytes) -> bool:
        """Whether a message ends in these bytes, the next of the stream."""
        ended = False
        at = 0
        while at < len(data):
            if not self._left:
                piece = data[at : at + 4 - len(self._head)]
                self._head += piece
                at += len(piece)
                if len(self._head) == 4:
                    self._left = max(int.from_bytes(self._head, "big") - 4, 1)
                    self._head = b""
                continue
            step = min(self._left, len(data) - at)
            at += step
            self._left -= step
            ended = ended or not self._left
        return ended


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
        "_alive",
        "_content",
        "_endpoint",
        "_inflater",
        "_limits",
        "_lines",
        "_loop",
        "_messages",
        "_response",
        "_seen",
        "_timer",
        "_waiting",
        "bytes_received",
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
        self.bytes_received = 0  # bytes, decoded
        # Silence is counted from the moment at which somebody waits; whether there was a sign of life since.
        self._seen = self._loop.time()
        self._alive = True
        self._waiting = False
        self._timer: asyncio.Handle | None = None
        self._limits: tuple[float | None, float | None] = (None, None)
        self._messages: MessageEnds | None = None
        if "vnd.amazon.eventstream" in response.headers.get("Content-Type", ""):
            self._messages = MessageEnds()
        self._lines = True
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
        self._alive = True
        self._arm()

    def binary(self) -> None:
        """Take every byte for a sign of life: this answer does not come in lines."""
        self._lines = False

    def _arm(self) -> None:
        idle, until = self._limits
        times = [t for t in (until, None if idle is None else self._seen + idle) if t is not None]
        if times:
            self._timer = self._loop.call_at(min(times), self._check)

    def _check(self) -> None:
        # When the loop stood still, what came meanwhile is handed to the reader first.
        self._timer = self._loop.call_soon(self._judge)

    def _judge(self) -> None:
        idle, until = self._limits
        now = self._loop.time()
        if not self._waiting:
            # The provider is not silent while nobody reads what it said.
            self._seen = now
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

    @property
    def framed(self) -> bool:
        """Whether HTTP says where the answer ends; else it ends with the connection, cut off or not."""
        headers = self.headers
        return "Content-Length" in headers or "chunked" in headers.get("Transfer-Encoding", "").lower()

    async def read(self) -> bytes:
        """
        The next bytes, decoded; ``b""`` at the end.

        Raises:
            APIConnectionError: the connection broke.
            APITimeoutError: a limit of ``watch`` is over.
            ResponseTooLargeError: more than ``MAX_BODY`` bytes came.
        """
        while True:
            if self._alive:
                self._seen = self._loop.time()
                self._alive = False
            self._waiting = True
            try:
                data = await self._content.readany()
            except ProviderError:
                raise
            except (aiohttp.ClientError, OSError, EOFError, RuntimeError) as error:
                raise translate(error, self._endpoint, "while streaming") from error.with_traceback(None)
            finally:
                self._waiting = False
            if not data:
                return data
            if self._messages is None and (b"\n" in data or not self._lines):
                # Bytes that never end a line are no sign of life where an answer comes in lines.
                self._alive = True
            if self._inflater is not None and not (data := self._inflater.feed(data, MAX_BODY - self.bytes_received)):
                continue
            if self._messages is not None and self._messages.end_in(data):
                self._alive = True
            self.bytes_received += len(data)
            if self.bytes_received > MAX_BODY:
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
            except (aiohttp.ClientError, OSError, RuntimeError, ProviderError):
                pass  # the answer is whole; only the connection's reuse is lost
        self.close()


async def read_all(response: aiohttp.ClientResponse, endpoint: Endpoint) -> bytes:
    """The whole body, decoded; more than ``MAX_BODY`` bytes raise ResponseTooLargeError."""
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
