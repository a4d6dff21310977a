"""
Callers who leave in the middle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["cancelled_once"]


async def cancelled_once(is_so: Callable[[], Any], task: asyncio.Future[Any]) -> None:
    """Cancel a task as soon as something is so; being cancelled must be its end."""
    while not is_so():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
