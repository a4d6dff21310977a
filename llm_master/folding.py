"""
What every fold of a stream has: where it stands, what was unusual, and payloads that are no event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from llm_master.bodies import UNREADABLE
from llm_master.classes import Request
from llm_master.classify import error_from_object, excerpt
from llm_master.events import MALFORMED, StreamEvent

__all__ = ["Folding", "Piece"]

Piece: TypeAlias = str | StreamEvent

_MOST_NOTES = 10


class Folding:
    """
    A stream on its way to one answer.

    Args:
        request: the request that is answered.
        rules: the row's ``error_codes``.

    Attributes:
        done: nothing more is needed; what follows is ignored.
        complete: the answer has its end, although something of the stream may be missing.
        notes: what was skipped, the first few only.
        pending: what ``feed`` or ``end`` had found when it raised.
    """

    __slots__ = ("_request", "_rules", "complete", "done", "notes", "pending")

    def __init__(self, request: Request, rules: Mapping[str, str] | None) -> None:
        self.done = False
        self.complete = False
        self.notes: list[str] = []
        self.pending: Sequence[Piece] = ()
        self._request = request
        self._rules = rules

    def _note(self, text: str) -> None:
        if len(self.notes) < _MOST_NOTES:
            self.notes.append(text)

    def _odd(self, payload: bytes, request_id: str | None = None) -> None:
        """Take a payload that is no event of the usual shape; an error object is raised."""
        if payload == b"[DONE]" or not payload.strip():
            return
        try:
            found = msgspec.json.decode(payload)
        except UNREADABLE:
            self._note(f"{MALFORMED}: {excerpt(payload)}")
            return
        if isinstance(found, dict) and (
            isinstance(found.get("message"), str) or found.get("error") or found.get("type") == "error"
        ):
            raise error_from_object(
                {key: value for key, value in found.items() if (key, value) != ("type", "error")},
                provider=self._request.provider,
                model=self._request.model,
                rules=self._rules,
                request_id=request_id,
            )
        self._note(f"a chunk of an unexpected shape was skipped: {excerpt(payload)}")
