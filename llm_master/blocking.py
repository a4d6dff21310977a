"""
The async call for code that is not async: one background event loop a process.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator
    from typing import Self

    from llm_master.classes import LLMResponse

__all__ = ["SyncPieces", "SyncStream", "run"]

T = TypeVar("T")


class _Portal:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve, name="llm-master", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def stop(self) -> None:
        """End the loop, with its sessions closed."""
        if self.pid != os.getpid() or not self.thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self.loop.shutdown_asyncgens(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


_LOCK = threading.Lock()
_PORTAL: _Portal | None = None


def _portal() -> _Portal:
    global _PORTAL  # noqa: PLW0603  # one background loop a process is the point
    with _LOCK:
        if _PORTAL is None or _PORTAL.pid != os.getpid():
            import atexit

            # After fork the parent's thread does not exist here: the old loop is left alone.
            _PORTAL = _Portal()
            atexit.register(_PORTAL.stop)
        return _PORTAL


def _reset_lock() -> None:
    global _LOCK  # noqa: PLW0603  # it may be held by a thread that fork did not copy
    _LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_lock)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and wait for its result; an interrupt cancels it."""
    future = asyncio.run_coroutine_threadsafe(coroutine, _portal().loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class SyncPieces:
    """
    An answer piece by piece as an ordinary iterator: ``for piece in stream``.

    ``response`` is the whole answer once it ended; leaving the loop early closes the provider's connection.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def response(self) -> Any:
        """The whole answer; raises LLMError while the stream has not ended."""
        return self._stream.response

    def __iter__(self) -> Iterator[Any]:
        pieces = self._stream.batches()
        try:
            while (batch := run(_next(pieces))) is not None:
                yield from batch
        finally:
            run(pieces.aclose())

    def close(self) -> None:
        """Stop reading and close the provider's connection."""
        run(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class SyncStream(SyncPieces):
    """A streamed answer in text: as ``SyncPieces``, and ``text()`` for all of it."""

    if TYPE_CHECKING:

        @property
        def response(self) -> LLMResponse:
            """As of ``SyncPieces``."""

        def __iter__(self) -> Iterator[str]: ...

    def text(self) -> str:
        """Read the stream to its end and return the whole text."""
        return str(run(self._stream.text()))


async def _next(pieces: AsyncGenerator[list[Any], None]) -> list[Any] | None:
    return await anext(pieces, None)
