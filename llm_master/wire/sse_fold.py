"""
What every fold of server-sent events has: payloads as they come, and the end of the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_master.classes import Request
from llm_master.folding import Folding
from llm_master.wire.sse import MAX_EVENT, SSEParser

__all__ = ["EventFolding"]


class EventFolding(Folding):
    """
    A stream of server-sent events on its way to one answer.

    Args:
        request, rules: as in ``Folding``.
        longest: bytes that an event may have.
    """

    __slots__ = ("_sse",)

    def __init__(self, request: Request, rules: Mapping[str, str] | None, longest: int = MAX_EVENT) -> None:
        super().__init__(request, rules)
        self._sse = SSEParser(longest, provider=request.provider, model=request.model)

    def feed(self, data: bytes) -> list[Any]:
        """
        The pieces that these bytes bring: of an answer in text ``str`` for the text, events for the rest.

        Raises:
            ProviderError: the stream holds an error, typed by what it says, or a piece that cannot be read.
            ResponseTooLargeError: an event is over the limit.
        """
        return self._fold(self._sse.feed(data))

    def end(self) -> list[Any]:
        """The pieces that were still waiting when the stream ended."""
        pieces = self._fold(self._sse.flush())
        if self._sse.truncated:
            self._note("the stream ended inside an event")
        return pieces

    def _fold(self, payloads: list[bytes]) -> list[Any]:
        raise NotImplementedError
