"""
A streamed answer, folded chunk by chunk.

Every chunk has the shape of an answer with a piece of the text. The stream has no end marker of its own: the finish
reason says that the answer is whole, and further chunks may still follow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from llm_master.bodies import ODD_USAGE, UNREADABLE, mended
from llm_master.classes import LLMResponse, Request
from llm_master.classify import excerpt
from llm_master.dialect_gemini import GeminiDialect
from llm_master.wire.gemini_answer import Gathered, Piece
from llm_master.wire.gemini_decode import failure_in, hidden_error
from llm_master.wire.gemini_shapes import ANSWER, Answer, UsageBody, read_answer
from llm_master.wire.sse import SSEParser

__all__ = ["Fold"]

_DONE = b"[DONE]"


class Fold:
    """
    Folds the bytes of one event stream into one answer.

    Attributes:
        done: a proxy's end marker was seen, or the stream ended whole; what follows is ignored.
        complete: the finish reason was seen.
        notes: what was unusual but harmless.
        pending: what ``feed`` or ``end`` had found when it raised.
    """

    __slots__ = ("_found", "_gathered", "_kept", "_request", "_rules", "_sse", "done", "pending")

    def __init__(self, request: Request, dialect: GeminiDialect, *, rules: Mapping[str, str] | None = None) -> None:
        self.done = False
        self.pending: Sequence[Piece] = ()
        self._request = request
        self._rules = rules
        self._sse = SSEParser(provider=request.provider, model=request.model)
        self._gathered = Gathered(request, dialect)
        self._found = False
        # Chunks are kept for ``raw`` only where they hold what a response has no field for.
        several = any((request.params.get(name) or 1) != 1 for name in ("n", "candidate_count", "candidateCount"))
        self._kept: list[bytes] | None = [] if several or request.params.get("logprobs") else None

    @property
    def complete(self) -> bool:
        """Whether the answer has its end."""
        return self._gathered.reason is not None

    @property
    def notes(self) -> list[str]:
        """What was unusual but harmless, such as a malformed chunk that was skipped."""
        return self._gathered.notes

    def feed(self, data: bytes) -> list[Piece]:
        """
        The pieces that these bytes bring: ``str`` for text, events for the rest.

        Raises:
            ContentPolicyError: the prompt was blocked.
            ProviderError: the stream holds an error; typed by what it says.
            ResponseTooLargeError: an event is over the limit.
        """
        out: list[Piece] = []
        self.pending = out
        self._fold(self._sse.feed(data), out)
        return out

    def end(self) -> list[Piece]:
        """The pieces that were still waiting when the stream ended; raises as ``feed``."""
        out: list[Piece] = []
        self.pending = out
        self._fold(self._sse.flush(), out)
        if self._sse.truncated:
            self._gathered.note("the stream ended inside a chunk")
        if self.complete:
            self._gathered.settle(out)
            self.done = True
        return out

    def _fold(self, payloads: list[bytes], out: list[Piece]) -> None:
        for payload in payloads:
            if self.done:
                return
            try:
                answer = read_answer(payload)
            except UNREADABLE as error:
                whole = mended(ANSWER, payload, error, UsageBody, ("usageMetadata",))
                if whole is None:
                    self._odd(payload, out)
                    continue
                answer = whole
                self._gathered.note(ODD_USAGE)
            self._take(answer, payload, out)

    def _take(self, answer: Answer, payload: bytes, out: list[Piece]) -> None:
        failure = failure_in(answer, self._request, self._rules, found=self._found)
        if failure is not None:
            raise failure
        self._found = self._found or bool(answer.candidates)
        if self._kept is not None:
            self._kept.append(payload)
        self._gathered.take(answer, payload, out)

    def _odd(self, payload: bytes, out: list[Piece]) -> None:
        """Take a payload that is not a chunk of the usual shape."""
        text = payload.strip()
        if not text:
            return
        if text == _DONE:
            if self.complete:
                self._gathered.settle(out)
            self.done = True
            return
        try:
            found: Any = msgspec.json.decode(text)
        except UNREADABLE:
            self._gathered.note(f"a malformed chunk was skipped: {excerpt(text)}")
            return
        failure = hidden_error(found, self._request, self._rules)
        if failure is not None:
            raise failure
        self._gathered.note(f"a chunk of an unexpected shape was skipped: {excerpt(text)}")

    def response(self) -> LLMResponse:
        """The answer so far; its finish reason is None while it has no end."""
        raw = None if self._kept is None else [msgspec.json.decode(payload) for payload in self._kept]
        response = self._gathered.response(raw)
        if self.done and response.finish_reason is None:
            response.finish_reason = "error"
        return response
