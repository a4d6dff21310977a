"""
What a store of answers does around ``fork``, so that a child never sees it half changed or shares a connection.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

__all__ = ["Forked", "around_fork"]


class Forked(Protocol):
    """What has something to do when the process forks."""

    def before_fork(self) -> None:
        """Come to rest: nothing may change until ``after_fork``."""

    def after_fork(self, *, child: bool) -> None:
        """Go on, in the parent and in the child."""


_LIVE: weakref.WeakSet[Forked] = weakref.WeakSet()
# Held across the fork, so that of two threads that fork at once none waits for what the other has brought to rest.
_GATE = threading.RLock()
_RESTING: list[Forked] = []


def around_fork(store: Forked) -> None:
    """Have the two methods called around every fork, as long as the store lives."""
    with _GATE:
        _LIVE.add(store)


def _before() -> None:
    _GATE.acquire()
    for store in list(_LIVE):
        store.before_fork()
        _RESTING.append(store)


def _after(*, child: bool) -> None:
    while _RESTING:
        _RESTING.pop().after_fork(child=child)
    _GATE.release()


def _in_parent() -> None:
    _after(child=False)


def _in_child() -> None:
    _after(child=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
