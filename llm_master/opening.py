"""
How the answer to a streamed request begins: as an event stream, or as one body that is none.
"""

from __future__ import annotations

import re

from llm_master.bodies import unreadable
from llm_master.classes import Request
from llm_master.errors import ResponseTooLargeError

__all__ = ["Opening"]

_MOST_WHOLE = 64 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_SHOWN = 1200
_EVENT_LINE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:")


class Opening:
    """
    Tells an event stream from a body that is no stream, and keeps what it began with.

    Attributes:
        over: whether nothing more needs a look; what comes is an event stream.
        whole: the pieces of a body that is no event stream, None for a stream.
    """

    __slots__ = ("_head", "_request", "_size", "_start", "over", "whole")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._start: bytes | None = b""  # the first bytes, until they show what this is
        self._head = b""  # what an event stream began with, to be shown when it turns out to be none
        self._size = 0
        self.over = False
        self.whole: list[bytes] | None = None

    def take(self, data: bytes) -> bytes:
        """
        The bytes for the parser of events; to be asked until it is over.

        Raises:
            ResponseTooLargeError: a body that is no stream is over its limit.
        """
        if self.whole is not None:
            self._keep(data)
            return b""
        if self._start is None:
            self._head = (self._head + data)[:_SHOWN]
            self.over = len(self._head) == _SHOWN
            return data
        seen = self._start + data
        text = seen.removeprefix(_BOM).lstrip()
        if not text or (len(text) < len(_BOM) and _BOM.startswith(text)):
            self._start = seen
            return b""
        self._start = None
        if text[:1] in (b"{", b"["):
            self.whole = []
            self._keep(seen)
            return b""
        self._head = seen[:_SHOWN]
        return seen

    def _keep(self, data: bytes) -> None:
        assert self.whole is not None  # noqa: S101  # the callers made it
        self.whole.append(data)
        self._size += len(data)
        if self._size > _MOST_WHOLE:
            request = self._request
            raise ResponseTooLargeError(
                f"{request.provider} answered {request.model!r} with more than {_MOST_WHOLE} bytes;"
                " ask for a shorter answer",
                provider=request.provider,
                model=request.model,
            )

    def check(self) -> None:
        """
        Look at what a stream without any event began with: a page of HTML is no stream that broke off.

        Raises:
            ResponseError: it was no event stream.
        """
        if self._head and not _EVENT_LINE.match(self._head):
            raise unreadable(self._head, self._request)
