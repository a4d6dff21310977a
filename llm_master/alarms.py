"""
Timeouts of a loop's calls, looked at together once a second.

A timer of its own for each call would be made, sorted in and cancelled for nothing in nearly every case, which is a
twentieth of what a call costs.
"""

from __future__ import annotations

import asyncio
import math

__all__ = ["Alarm", "Alarms"]

# A timeout this short, in seconds, has a timer of its own; a longer one may come up to a second late.
_EXACT = 5.0


class Alarm:
    """
    A timeout of the running task: when it rings, the task is cancelled where it waits.

    It ends with ``left()``, whatever happens, as ``asyncio.timeout`` ends with its block.
    """

    __slots__ = ("_cancelling", "_line", "_rang", "_task", "_timer")

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call must be awaited in a task; use asyncio.run()")
        self._task = task
        self._cancelling = task.cancelling()
        self._rang = False
        self._line: set[Alarm] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def ring(self) -> None:
        """Time is up."""
        self._rang = True
        self._task.cancel()

    def left(self) -> bool:
        """End it; whether the cancellation that ends the block, if one does, is this alarm's and nobody else's."""
        if self._line is not None:
            self._line.discard(self)
        elif self._timer is not None:
            self._timer.cancel()
        return self._rang and self._task.uncancel() <= self._cancelling


class Alarms:
    """
    The alarms of one event loop.

    Args:
        loop: used by its own thread only.
    """

    __slots__ = ("_due", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # By the second of the loop's clock in which they ring.
        self._due: dict[int, set[Alarm]] = {}

    def after(self, seconds: float | None) -> Alarm:
        """
        An alarm for the running task.

        Args:
            seconds: from now; over 5 it rings with a whole second of the loop's clock. None never rings.
        """
        alarm = Alarm()
        if seconds is None or seconds == math.inf:
            return alarm
        now = self._loop.time()
        if seconds <= _EXACT:
            alarm._timer = self._loop.call_at(now + seconds, alarm.ring)  # noqa: SLF001  # one thing in two classes
            return alarm
        second = math.ceil(now + seconds)
        line = self._due.get(second)
        if line is None:
            line = self._due[second] = set()
            self._loop.call_at(second, self._ring, second)
        line.add(alarm)
        alarm._line = line  # noqa: SLF001  # as above
        return alarm

    def _ring(self, second: int) -> None:
        for alarm in self._due.pop(second):
            alarm.ring()
