"""
What every kind of telemetry is: a listener of ``on_event`` that knows each call from its beginning to its end.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from llm_master.pricing import load_aside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from llm_master.classes import Attempt
    from llm_master.events import CallEvent

__all__ = ["Switch", "Watcher"]

State = TypeVar("State")


class Watcher(Generic[State]):
    """
    Keeps something of its own for each call that runs.

    The client enters ``around`` before a call begins, tells every event, and the last one when the call has ended; for
    a stream that is when it was read to its end or left.
    """

    def __init__(self) -> None:
        self._calls: dict[int, State] = {}
        load_aside()  # calls are priced where they end, on the event loop

    @contextmanager
    def around(self, call: Any, steps: Sequence[Any]) -> Iterator[None]:
        """
        What the work of a call is done in, up to its answer or the beginning of its stream.

        Args:
            call: its ``Record``; steps: its models, the first one first.
        """
        state = self.begin(call, steps)
        self._calls[call.id] = state
        with self.inside(state):
            yield

    def __call__(self, event: CallEvent) -> None:
        """Take in an event of a call that was seen from its beginning."""
        if event.name == "end":
            state = self._calls.pop(event.call, None)
            if state is not None:
                self.ended(state, event)
            return
        state = self._calls.get(event.call)
        if state is None:
            return
        if event.attempt is not None:
            self.attempted(state, event.attempt, event)
        else:
            self.happened(state, event)

    def begin(self, call: Any, steps: Sequence[Any]) -> State:
        """What is kept of a call."""
        raise NotImplementedError

    def inside(self, state: State) -> AbstractContextManager[Any]:
        """What the work is done in."""
        raise NotImplementedError

    def attempted(self, state: State, attempt: Attempt, event: CallEvent) -> None:
        """An attempt has ended."""
        raise NotImplementedError

    def happened(self, state: State, event: CallEvent) -> None:
        """A retry, a wait, a fallback, or whatever else happens on the way."""

    def ended(self, state: State, event: CallEvent) -> None:
        """The call has ended."""
        raise NotImplementedError


class Switch:
    """A listener that can be ended without cutting off the calls that run: they are still told to their end."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self._running: set[int] = set()
        self._remove: Callable[[], None] | None = None

    @contextmanager
    def around(self, call: Any, steps: Sequence[Any]) -> Iterator[None]:
        """As the listener's own, if it has one."""
        if self._remove is not None:
            yield
            return
        self._running.add(call.id)
        around = getattr(self._listener, "around", None)
        with nullcontext() if around is None else around(call, steps):
            yield

    def __call__(self, event: CallEvent) -> None:
        """Hand on the events of calls that began before the end."""
        if event.call not in self._running:
            return
        if event.name == "end":
            self._running.discard(event.call)
        self._listener(event)
        if self._remove is not None and not self._running:
            self._remove()

    def end(self, remove: Callable[[], None]) -> None:
        """Begin nothing any more; ``remove`` is called once no call runs."""
        self._remove = remove
        if not self._running:
            remove()
