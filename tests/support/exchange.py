"""
One request and its answer on a raw socket: what arrived, and the verbs with which a behaviour answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from support.bodies import BEDROCK, CHAT, COHERE, GEMINI, MESSAGES, RESPONSES, Family

if TYPE_CHECKING:
    from support.fault_server import FaultServer

__all__ = ["Behaviour", "Connection", "Exchange", "Framing", "Headers", "Seen"]

Headers = Iterable[tuple[str, str]]
Framing = Literal["chunked", "close"]

# How the path of a family's requests ends; a longer end is looked for before a shorter one.
_ENDS: tuple[tuple[str, Family], ...] = (
    ("/chat/completions", CHAT),
    ("/messages", MESSAGES),
    (":rawPredict", MESSAGES),
    (":streamRawPredict", MESSAGES),
    ("/responses", RESPONSES),
    (":generateContent", GEMINI),
    (":streamGenerateContent", GEMINI),
    ("/converse", BEDROCK),
    ("/converse-stream", BEDROCK),
    ("/chat", COHERE),
)
_STREAMED = (":streamGenerateContent", "/converse-stream")
_MODEL = re.compile(r"/(?:models?|publishers/[^/]+/models)/([^:]+?)(?::\w+|/converse(?:-stream)?)$")

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}


@dataclasses.dataclass(eq=False)
class Seen:
    """
    One request as it arrived.

    Attributes:
        index: its place in ``server.requests``.
        path: the request target as sent, query included.
        headers: names and values in their order and case.
        time: ``time.monotonic()`` when it was complete.
        connection: number of its connection; equal numbers mean a reused connection.
        answered: set when the last byte of a whole answer was written.
        client_closed: set when the client closed or reset the connection, while or after it got its answer. It stays
            unset when the server was the one to reset.
        closed_at: ``time.monotonic()`` of that, else None.
        sent: bytes written for it so far, head included.
    """

    index: int
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    time: float
    connection: int
    answered: threading.Event = dataclasses.field(default_factory=threading.Event)
    client_closed: threading.Event = dataclasses.field(default_factory=threading.Event)
    closed_at: float | None = None
    sent: int = 0

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def closed_early(self) -> bool:
        """Whether the client closed the connection before the answer was complete."""
        return self.client_closed.is_set() and not self.answered.is_set()

    def header(self, name: str) -> str | None:
        """The first value of a header, looked up without regard to case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


class Connection(asyncio.Protocol):
    """A client's connection: reads requests one after the other and lets a behaviour answer each."""

    def __init__(self, server: FaultServer) -> None:
        self.server = server
        self.number = server.connections.opened()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.seen: list[Seen] = []
        self.closing = False
        self._buffer = bytearray()
        self._requests: asyncio.Queue[Seen] = asyncio.Queue()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # Every await of send() then waits until the kernel has the bytes, so that a reset comes after them.
        transport.set_write_buffer_limits(high=0)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.track(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        # Taken at once: a client that leaves right after its request is recorded too.
        try:
            while seen := self._take_request():
                self.seen.append(seen)
                self._requests.put_nowait(seen)
        except ValueError as error:
            self._fail(error)

    def eof_received(self) -> bool:
        self._client_gone()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closing:
            self._client_gone()
        self._task.cancel()
        self._task.add_done_callback(self._gone)

    def _gone(self, _: object) -> None:
        self.server.untrack(self)
        self.over.set_result(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _client_gone(self) -> None:
        now = time.monotonic()
        for seen in self.seen:
            if seen.closed_at is None:
                seen.closed_at = now
                seen.client_closed.set()
        self.server.changed()

    async def write(self, data: bytes) -> None:
        self.transport.write(data)
        # One turn of the loop for each write: else a flood would starve it, and not hear that its client has left.
        await asyncio.sleep(0)
        await self._writable.wait()

    def finish(self) -> None:
        """Send FIN and wait for the client's, so that its conduct is still seen."""
        if self.transport.can_write_eof() and not self.transport.is_closing():
            # A client that has reset the connection a moment ago has been heard, or will be.
            with contextlib.suppress(OSError):
                self.transport.write_eof()

    def reset(self) -> None:
        """Send RST."""
        self.closing = True
        sock = self.transport.get_extra_info("socket")
        if sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def _serve(self) -> None:
        try:
            while True:
                exchange = Exchange(self, await self._requests.get())
                await self.server.behaviour_for(exchange.seen)(exchange)
                if exchange.over:
                    return
        except Exception as error:  # noqa: BLE001  # a mistake in a behaviour belongs to the test, raised at exit
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.server.failed(error)
        self.reset()

    def _take_request(self) -> Seen | None:
        """Take a request from the buffer, or leave it when it is not complete."""
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return None
        lines = self._buffer[:head_end].decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        known = {name.lower(): value for name, value in headers}
        start = head_end + 4
        if known.get("transfer-encoding", "").lower() == "chunked":
            body, end = _chunked_body(self._buffer, start)
        else:
            end = start + int(known.get("content-length", "0"))
            body = bytes(self._buffer[start:end])
        if end > len(self._buffer):
            return None
        del self._buffer[:end]
        return self.server.record(method, path, headers, body, self.number)


def _chunked_body(data: bytearray, at: int) -> tuple[bytes, int]:
    """The body that starts at a place and where it ends; an end beyond the data means that more must come."""
    incomplete = (b"", len(data) + 1)
    body = bytearray()
    while (line_end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line_end].split(b";")[0], 16)
        at = line_end + 2
        if size == 0:
            break
        body += data[at : at + size]
        at += size + 2
    else:
        return incomplete
    while (line_end := data.find(b"\r\n", at)) >= 0:
        if line_end == at:
            return bytes(body), at + 2
        at = line_end + 2
    return incomplete


class Exchange:
    """
    The verbs of a behaviour.

    A behaviour is an async function of one exchange. It is cancelled when the client goes away. When it returns, the
    connection waits for the next request, unless the behaviour closed it.
    """

    def __init__(self, connection: Connection, seen: Seen) -> None:
        self.connection = connection
        self.server = connection.server
        self.seen = seen
        self.over = False
        self._framing: int | Framing = "chunked"

    @functools.cached_property
    def body(self) -> dict[str, Any]:
        """The request's JSON object, or ``{}``."""
        try:
            body = self.seen.json
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    @property
    def wants_stream(self) -> bool:
        """Whether the request asks for a stream, in its body or by its path."""
        return self.body.get("stream") is True or self._path.endswith(_STREAMED)

    @property
    def model(self) -> str | None:
        """The model that is asked for, in the body or in the path, or None."""
        named = self.body.get("model")
        found = _MODEL.search(self._path)
        return str(named) if named is not None else unquote(found[1]) if found else None

    @property
    def _path(self) -> str:
        return self.seen.path.partition("?")[0]

    @property
    def family(self) -> Family | None:
        """The wire family by the path, or None when the path is of none."""
        return self.family_of(self.seen.path)

    @staticmethod
    def family_of(path: str) -> Family | None:
        """The wire family of a request target."""
        bare = path.partition("?")[0]
        return next((family for end, family in _ENDS if bare.endswith(end)), None)

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Write raw bytes; ``last`` notes that the answer is whole with them."""
        self.seen.sent += len(data)
        if last:
            self.seen.answered.set()
        if data:
            await self.connection.write(data)

    def head(self, status: int = 200, headers: Headers = (), *, framing: int | Framing = "chunked") -> bytes:
        """
        The bytes of status line and headers.

        ``framing`` says how the body ends: a number is its length, ``chunked`` its chunks, ``close`` the connection's
        end; ``chunk`` and ``end`` then do accordingly.
        """
        self._framing = framing
        ends: dict[int | str, tuple[str, str]] = {
            "chunked": ("Transfer-Encoding", "chunked"),
            "close": ("Connection", "close"),
        }
        reason = _REASONS.get(status, "Unknown")
        all_headers = (*headers, ends.get(framing, ("Content-Length", str(framing))))
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in all_headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def chunk(self, data: bytes) -> None:
        """Write a piece of the body, framed as the head said."""
        if data:
            await self.send(b"%x\r\n%b\r\n" % (len(data), data) if self._framing == "chunked" else data)

    async def end(self) -> None:
        """Write what ends the body."""
        await self.send(b"0\r\n\r\n" if self._framing == "chunked" else b"", last=True)
        if self._framing == "close":
            self.close()

    async def respond(self, status: int, body: bytes, headers: Headers = ()) -> None:
        """Write a whole answer with its length."""
        await self.send(self.head(status, headers, framing=len(body)) + body, last=True)

    async def hold(self, delay: float | None = None) -> None:
        """Wait ``delay`` seconds, or, with None, until the test calls ``server.release()``."""
        if delay is None:
            await self.server.gate.hold()
        else:
            await asyncio.sleep(delay)

    async def silence(self) -> None:
        """Wait until the client goes away."""
        await asyncio.Event().wait()

    def close(self) -> None:
        """Close the sending half (FIN)."""
        self.over = True
        self.connection.finish()

    def reset(self) -> None:
        """Reset the connection (RST)."""
        self.over = True
        self.connection.reset()


Behaviour = Callable[[Exchange], Awaitable[None]]
