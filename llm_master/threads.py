"""
Functions of the user that block, run on a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["on_a_thread"]


async def on_a_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """
    What a blocking function gives, run on a thread so that it does not stop the event loop.

    Raises:
        RuntimeError: it raised StopIteration, as an exhausted ``next()`` does. No future holds that exception: who
            waits for ``asyncio.to_thread`` then waits for ever.
    """

    def run() -> Any:
        try:
            return function(*args, **kwargs)
        except StopIteration as error:
            raise RuntimeError(f"{getattr(function, '__name__', 'the function')} raised StopIteration") from error

    return await asyncio.to_thread(run)
