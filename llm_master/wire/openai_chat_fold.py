"""
A streamed answer: bytes in, pieces of text and events out, the whole answer at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_master.bodies import as_object, unreadable
from llm_master.classes import LLMResponse, Request
from llm_master.classify import excerpt
from llm_master.events import MALFORMED, StreamEvent
from llm_master.opening import Opening
from llm_master.rows import ChatDialect
from llm_master.wire.openai_chat_decode import failed_choice, hidden_error, no_choices
from llm_master.wire.openai_chat_draft import Draft
from llm_master.wire.openai_chat_plan import plan_for
from llm_master.wire.openai_chat_shapes import Answer, Choice, Turn, decode_shape, read_shape
from llm_master.wire.openai_chat_usage import bill_of
from llm_master.wire.sse import SSEParser

__all__ = ["Fold"]

_DONE = b"[DONE]"


class Fold:
    """
    Folds one stream.

    A server that answers a streamed request with one JSON body is understood too: its body is read at ``end``.

    Args:
        request: the request that is answered.
        dialect: how the server speaks.
        rules: the row's ``error_codes``.

    Attributes:
        done: the end marker was seen, or the finish reason and the usage: nothing more is needed.
        complete: the answer is whole, though a marker or the usage may be missing.
        notes: what was unusual but harmless.
        pending: what ``feed`` or ``end`` had found when it raised.
    """

    __slots__ = (
        "_cut",
        "_draft",
        "_hot",
        "_kept",
        "_opening",
        "_parser",
        "_plan",
        "_request",
        "_rules",
        "_several",
        "complete",
        "done",
        "pending",
    )

    def __init__(self, request: Request, dialect: ChatDialect, *, rules: Mapping[str, str] | None = None) -> None:
        self._request = request
        self._rules = rules
        self._plan = plan_for(dialect, request.model)
        self._draft = Draft(request, self._plan)
        self._parser = SSEParser(provider=request.provider, model=request.model)
        count = request.params.get("n")
        self._several = isinstance(count, int) and count > 1
        # Chunks are kept for ``raw`` only where they hold what a response has no field for.
        self._kept: list[bytes] | None = [] if self._several or request.params.get("logprobs") else None
        self._hot = False  # whether a chunk of text needs no second look; the first chunk always gets one
        self._opening = Opening(request)
        self._cut = False  # whether the answer ended before its end, so that a tool call may be incomplete
        self.complete = False
        self.done = False
        self.pending: Sequence[str | StreamEvent] = ()

    @property
    def notes(self) -> list[str]:
        """What was unusual but harmless, such as a malformed chunk that was skipped."""
        return self._draft.notes

    def feed(self, data: bytes) -> list[str | StreamEvent]:
        """
        What these bytes bring: ``str`` for text, events for the rest.

        Raises:
            ProviderError: the stream holds an error, typed by what it says.
            ResponseTooLargeError: a line, or a body that is no stream, is over its limit.
        """
        opening = self._opening
        if not opening.over:
            data = opening.take(data)
        out: list[str | StreamEvent] = []
        self.pending = out
        texts = self._draft.texts
        marker = self._plan.marker
        for payload in self._parser.feed(data):
            try:
                chunk = decode_shape(payload)
            except (ValueError, RecursionError):
                self._odd(payload, out)
                continue
            choices = chunk.choices
            if self._hot and choices and chunk.usage is None and not chunk.error and len(choices) == 1:
                choice = choices[0]
                turn = choice.delta
                # Nothing but text, the case of nearly every chunk: a turn equal to one made of its text alone.
                if (
                    turn is not None
                    and choice.finish_reason is None
                    and not choice.index
                    and not choice.error
                    and (text := turn.content).__class__ is str
                    and turn == Turn(text)
                    and (marker is None or marker not in payload)
                ):
                    if text:
                        texts.append(text)
                        out.append(text)
                    continue
            self._take(chunk, payload, out)
        return out

    def end(self) -> list[str | StreamEvent]:
        """
        What was still held back when the bytes have ended.

        Raises:
            ProviderError: the rest holds an error.
            ResponseError: what came was no answer at all.
        """
        out: list[str | StreamEvent] = []
        self.pending = out
        whole = self._opening.whole
        if whole is not None:
            self._end_whole(b"".join(whole), out)
        else:
            for payload in self._parser.flush():
                self._odd(payload, out)
            if self._parser.truncated:
                self._draft.note("the stream ended inside a chunk")
            if self._draft.untouched and not self.done:
                self._opening.check()
        self._draft.settle(out, cut=self._cut or not self.complete)
        self.done = self.done or self.complete
        return out

    def response(self) -> LLMResponse:
        """The answer as far as it came."""
        raw: Any = None
        if self._opening.whole is not None:
            raw = b"".join(self._opening.whole)
        elif self._kept is not None:
            raw = [as_object(payload) for payload in self._kept]
        return self._draft.response(raw)

    def _take(self, chunk: Answer, payload: bytes, out: list[str | StreamEvent]) -> None:
        """Take a chunk of any kind."""
        draft = self._draft
        if self._kept is not None:
            self._kept.append(payload)
        if chunk.error or (not chunk.choices and chunk.usage is None):
            failure = hidden_error(payload, self._request, self._rules)
            if failure is not None:
                raise failure
        draft.head(chunk)
        # What a stream began with is shown only when no chunk comes.
        self._opening.over = self._opening.whole is None
        for choice in chunk.choices or ():
            # Of several answers the first is the content; servers with one answer may number it as they like.
            if not self._several or not choice.index:
                self._choose(choice, out)
                break
        usage, cost = bill_of(chunk, payload, self._plan)
        draft.bill(usage, cost, out)
        if usage is not None and self.complete and not self._several:
            self.done = True
        self._hot = draft.plain and self._kept is None

    def _choose(self, choice: Choice, out: list[str | StreamEvent]) -> None:
        draft, plan = self._draft, self._plan
        turn = choice.delta or choice.message
        if turn is not None:
            draft.add(turn, out, whole=choice.delta is None)
        failure = failed_choice(choice, self._request, plan, self._rules)
        if failure is not None:
            raise failure
        word = choice.finish_reason
        if word:
            draft.reason = draft.reason or word
            self._cut = plan.finish.get(word.lower(), "stop") not in ("stop", "tool_calls")
            draft.settle(out, cut=self._cut)
            self.complete = True

    def _odd(self, payload: bytes, out: list[str | StreamEvent]) -> None:
        """Take a payload that is not a chunk of the usual shape."""
        text = payload.strip()
        if text == _DONE:
            draft = self._draft
            draft.over = True
            draft.settle(out, cut=self._cut)
            self.complete = self.complete or not draft.empty
            self.done = True
            return
        if not text:
            return
        try:
            chunk = read_shape(text)
        except ValueError:
            repaired = text.decode("utf-8", "replace").encode()
            try:
                chunk = read_shape(repaired)
            except ValueError:
                self._draft.note(f"{MALFORMED}: {excerpt(text)}")
                return
            self._draft.note("bytes that are no UTF-8 were replaced")
            text = repaired
        self._take(chunk, text, out)

    def _end_whole(self, body: bytes, out: list[str | StreamEvent]) -> None:
        try:
            answer = read_shape(body)
        except ValueError as error:
            raise unreadable(body, self._request) from error
        if not answer.choices:
            raise hidden_error(body, self._request, self._rules) or no_choices(body, self._request)
        self._take(answer, body, out)
        if self._draft.reason is None and self._draft.calls:
            self._draft.reason = "tool_calls"
        self.complete = True
