"""
Threads that do the same at the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["at_once"]

T = TypeVar("T")


def at_once(work: Callable[[], T], count: int = 8) -> list[T]:
    """What some work gives in each of several threads that begin it together; raises what one of them raised."""
    start = threading.Barrier(count)

    def begin() -> T:
        start.wait()
        return work()

    with ThreadPoolExecutor(count) as pool:
        begun = [pool.submit(begin) for _ in range(count)]
        return [each.result() for each in begun]
