"""
The wait until an ended call is written down.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from llm_master.errors import LLMError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llm_master.books import Wait

__all__ = ["settled"]


async def settled(waits: Sequence[Wait], response: Any = None) -> None:
    """
    Wait until books have kept a call.

    What they could not keep becomes a note on the answer: it is paid for and not taken from the caller.
    """
    for kept in waits:
        try:
            error = await (asyncio.wrap_future(kept) if isinstance(kept, Future) else kept)
        except LLMError as raised:
            error = raised
        if isinstance(error, LLMError):
            # The ledger itself warns once a minute; a line a call would fill a disk that is full already.
            logging.getLogger("llm_master").debug("%s", error)
            if response is not None:
                response.notes = (*response.notes, str(error))
