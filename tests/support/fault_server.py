"""
A provider on a loopback socket that can answer well, badly or not at all, and remembers how its clients behaved.

It runs on a thread and an event loop of its own, so clients may be synchronous, asynchronous on any loop, or live in
other processes. What it does is said in raw bytes; no HTTP framework tidies them up::

    with FaultServer() as server:
        server.script([status(503), ok("fine")])    # first request, second request; the last one repeats
        ...                                          # a client calls server.url + "/v1/chat/completions"
        assert len(server.requests) == 2
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Self

from support.behaviours import ok
from support.exchange import Behaviour, Connection, Seen

__all__ = ["FaultServer", "Seen", "refused_url"]

PATIENCE = 10.0


class Connections:
    """Numbers of connections: ``open`` now, ``total`` ever."""

    def __init__(self) -> None:
        self.open = 0
        self.total = 0

    def opened(self) -> int:
        """Count a new one and give its number."""
        self.open += 1
        self.total += 1
        return self.total


class Gate:
    """Where behaviours wait for the test; used on the server's loop only."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._passes = 0
        self._open = False
        self._changed = changed

    @property
    def held(self) -> int:
        """How many behaviours stand still."""
        return len(self._waiting)

    async def hold(self) -> None:
        """Wait for a pass."""
        if self._open:
            return
        if self._passes:
            self._passes -= 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._changed()
        try:
            await place
        finally:
            if place in self._waiting:
                self._waiting.remove(place)

    async def release(self, count: int | None) -> None:
        """Give passes, the longest wait first, or, with None, open the gate for good."""
        self._open = self._open or count is None
        for _ in range(self.held if count is None else count):
            while self._waiting and self._waiting[0].done():
                self._waiting.popleft()
            if self._waiting:
                self._waiting.popleft().set_result(None)
            else:
                self._passes += 1


class _Script:
    def __init__(self, behaviours: Sequence[Behaviour]) -> None:
        self._behaviours = list(behaviours)
        self._next = 0

    def take(self) -> Behaviour:
        """The next behaviour; the last one repeats."""
        behaviour = self._behaviours[min(self._next, len(self._behaviours) - 1)]
        self._next += 1
        return behaviour


class FaultServer:
    """
    The server; use it as a context manager.

    Attributes:
        url, port: ``http://127.0.0.1:PORT``.
        requests: everything that arrived, in order.
        connections: how many are open, and how many there were.
        default: the behaviour of requests for which nothing else is set.
    """

    gate: Gate

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.connections = Connections()
        self.default: Behaviour = ok()
        self._script: _Script | None = None
        self._routes: dict[str, _Script] = {}
        self._live: set[Connection] = set()
        self._errors: list[Exception] = []
        self._change = threading.Condition()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault-server")

    # What a test sets -------------------------------------------------------------------------------------------------

    def script(self, behaviours: Sequence[Behaviour]) -> None:
        """From now on the n-th request without a route gets the n-th behaviour; the last one repeats."""
        self._script = _Script(behaviours)

    def route(self, prefix: str, behaviours: Sequence[Behaviour]) -> str:
        """The same for paths with a prefix (the longest one wins); returns the URL of the prefix."""
        self._routes[prefix] = _Script(behaviours)
        return self.url + prefix

    def release(self, count: int | None = None) -> None:
        """Let ``count`` holds go on, those to come included; with None all of them, from now on."""
        self._on_loop(self.gate.release(count))

    def down(self) -> None:
        """Refuse new connections and reset the open ones; the port stays ours."""
        self._on_loop(self._go_down())

    def up(self) -> None:
        """Accept connections again."""
        self._on_loop(self._go_up())

    # What a test waits for; inside a coroutine: await asyncio.to_thread(server.wait_closed, 0) ------------------------

    def wait_requests(self, count: int, timeout: float = PATIENCE) -> list[Seen]:
        """Block until ``count`` requests have arrived."""
        self._wait(lambda: len(self.requests) >= count, f"{count} requests", timeout)
        return self.requests[:count]

    def wait_closed(self, index: int = 0, timeout: float = PATIENCE) -> Seen:
        """Block until the client has closed the connection of a request."""
        self._wait(lambda: self._closed(index), f"the client to close the connection of request {index}", timeout)
        return self.requests[index]

    def wait_held(self, count: int = 1, timeout: float = PATIENCE) -> None:
        """Block until ``count`` behaviours stand still and wait for ``release``."""
        self._wait(lambda: self.gate.held >= count, f"{count} behaviours on hold", timeout)

    def wait_no_connections(self, timeout: float = PATIENCE) -> None:
        """Block until no connection is open."""
        self._wait(lambda: self.connections.open == 0, "the last connection to close", timeout)

    def _closed(self, index: int) -> bool:
        try:
            return self.requests[index].client_closed.is_set()
        except IndexError:
            return False

    def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        with self._change:
            if not self._change.wait_for(condition, timeout):
                raise AssertionError(
                    f"waited {timeout:g} s in vain for {what}; saw {len(self.requests)} requests, "
                    f"{self.connections.open} of {self.connections.total} connections are open"
                )

    # What connections use ---------------------------------------------------------------------------------------------

    def record(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes, connection: int) -> Seen:
        """Note a request."""
        seen = Seen(len(self.requests), method, path, headers, body, time.monotonic(), connection)
        self.requests.append(seen)
        self.changed()
        return seen

    def behaviour_for(self, seen: Seen) -> Behaviour:
        """Choose who answers."""
        prefix = max((p for p in self._routes if seen.path.startswith(p)), key=len, default=None)
        script = self._script if prefix is None else self._routes[prefix]
        return self.default if script is None else script.take()

    def track(self, connection: Connection) -> None:
        """Note an open connection."""
        self._live.add(connection)

    def untrack(self, connection: Connection) -> None:
        """Note a closed one."""
        self._live.discard(connection)
        self.connections.open -= 1
        self.changed()

    def changed(self) -> None:
        """Wake whoever waits for something."""
        with self._change:
            self._change.notify_all()

    def failed(self, error: Exception) -> None:
        """Keep a behaviour's own mistake for the end of the test."""
        self._errors.append(error)

    # Life -------------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Open the port."""
        self._socket = _bound_socket(0)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread.start()
        self._started.wait()
        return self

    def stop(self) -> None:
        """Reset what is open and end the thread; then raise what went wrong in a behaviour."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        if self._errors:
            raise self._errors.pop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._errors.clear()
        self.stop()

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.gate = Gate(self.changed)
        self._listener: asyncio.Server | None = None
        await self._go_up()
        self._started.set()
        await self._stop.wait()
        await self._go_down()
        self._socket.close()

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _go_up(self) -> None:
        if self._listener is None:
            self._listener = await self._loop.create_server(lambda: Connection(self), sock=self._socket, backlog=4096)

    async def _go_down(self) -> None:
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        # A bound socket that does not listen refuses connections and keeps the port from others.
        self._socket = _bound_socket(self.port)
        # A connection that was accepted a moment ago reports itself on the next turn of the loop.
        await asyncio.sleep(0)
        gone = [connection.over for connection in self._live]
        for connection in list(self._live):
            connection.reset()
        await asyncio.gather(*gone)


def _bound_socket(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


@contextlib.contextmanager
def refused_url() -> Iterator[str]:
    """A URL whose port refuses connections as long as the context lasts."""
    with _bound_socket(0) as sock:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
