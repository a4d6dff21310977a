"""
Opening and closing of what holds connections, with an event loop and without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from llm_master.events import CallEvent
    from llm_master.policy.balance import DeploymentHealth

__all__ = ["Closing", "Watched"]


class Closing:
    """Something with ``aclose``, usable in ``async with`` and ``with``."""

    async def aclose(self) -> None:
        """Let go of everything that is held."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """The same as ``aclose`` for code without an event loop."""
        from llm_master.blocking import run

        run(self.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Watched:
    """What can be seen of a client from outside while it works."""

    _engine: Any
    _listeners: list[Callable[[CallEvent], Any]]

    def on_event(self, callback: Callable[[CallEvent], Any]) -> Callable[[], None]:
        """
        Have every ``CallEvent`` of this client's calls told to a function, as it happens.

        The function is called in the event loop of the call and must be quick. Calling what is returned ends it.
        """
        self._listeners.append(callback)

        def stop() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return stop

    def health(self) -> dict[str, tuple[DeploymentHealth, ...]]:
        """By model name, for those asked for so far: calls in flight, latency and breaker of each deployment."""
        return {} if self._engine is None else self._engine.admission.health()
