"""An event loop in simulated time."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

#: Seconds at which such a loop begins.
START = 1000.25


class TimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while there is work and jumps to the next timer when there is none."""

    def __init__(self, start: float = START) -> None:
        self.now = start
        super().__init__(selectors.DefaultSelector())
        select = self._selector.select

        def jump(timeout: float | None) -> Any:
            assert timeout is not None, "everything waits and no timer is set: a hang"
            self.now += timeout
            return select(0)

        self._selector.select = jump

    def time(self) -> float:
        return self.now
