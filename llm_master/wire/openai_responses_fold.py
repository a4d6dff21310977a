"""
A streamed answer: bytes in, pieces of text and events out, the whole answer at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_master.classes import LLMResponse, Request
from llm_master.classify import excerpt
from llm_master.dialect_responses import ResponsesDialect
from llm_master.events import ReasoningEvent, RefusalEvent, StreamEvent, ToolCallEvent, UsageEvent
from llm_master.opening import Opening
from llm_master.wire.openai_responses_answer import (
    Answer,
    failure,
    read_answer,
    refused,
    respond,
)
from llm_master.wire.openai_responses_decode import decode, hidden_error
from llm_master.wire.openai_responses_events import DELTAS, ENDS, HEADS, WHOLES, Event, read_event, read_odd
from llm_master.wire.openai_responses_items import bytes_of, gather
from llm_master.wire.openai_responses_plan import plan_for
from llm_master.wire.openai_responses_slots import Draft, is_whole
from llm_master.wire.sse import SSEParser

__all__ = ["Fold"]

Piece = str | StreamEvent

_MOST_NOTES = 20
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
        done: the terminal event was seen; what follows is ignored.
        complete: the same, as nothing else shows that an answer is whole.
        notes: what was unusual but harmless.
        pending: what ``feed`` or ``end`` had found when it raised.
    """

    __slots__ = (
        "_answer",
        "_audio",
        "_dialect",
        "_draft",
        "_head",
        "_last",
        "_opening",
        "_parser",
        "_plan",
        "_raw",
        "_request",
        "_rules",
        "complete",
        "done",
        "notes",
        "pending",
    )

    def __init__(self, request: Request, dialect: ResponsesDialect, rules: Mapping[str, str] | None = None) -> None:
        self._request = request
        self._dialect = dialect
        self._rules = rules
        self._plan = plan_for(dialect, request.model)
        self._parser = SSEParser(provider=request.provider, model=request.model)
        self.notes: list[str] = []
        self._draft = Draft(self._note)
        self._head = Answer()
        self._raw: bytes | None = None
        self._audio = b""
        self._last: int | None = -1  # number of the last event, None where the server does not count
        self._opening = Opening(request)
        self._answer: LLMResponse | None = None
        self.complete = False
        self.done = False
        self.pending: Sequence[Piece] = ()

    def _note(self, text: str) -> None:
        if len(self.notes) < _MOST_NOTES and text not in self.notes:
            self.notes.append(text)

    def feed(self, data: bytes) -> list[Piece]:
        """
        What these bytes bring: ``str`` for text, events for the rest.

        Raises:
            ProviderError: the stream holds an error, or the model's run failed; typed by what it says.
            ResponseTooLargeError: an event, or a body that is no stream, is over its limit.
        """
        out: list[Piece] = []
        self.pending = out
        if not self._opening.over:
            data = self._opening.take(data)
        for payload in self._parser.feed(data):
            if self.done:
                break
            self._take(payload, out)
        return out

    def end(self) -> list[Piece]:
        """
        What was still held back when the bytes have ended.

        Raises:
            ProviderError: the rest holds an error.
            ResponseError: what came was no answer at all.
        """
        out: list[Piece] = []
        self.pending = out
        whole = self._opening.whole
        if whole is not None:
            self._end_whole(b"".join(whole), out)
            return out
        for payload in self._parser.flush():
            if not self.done:
                self._take(payload, out)
        if self._parser.truncated and not self.done:
            self._note("the stream ended inside an event")
        if not self.done and self._draft.untouched:
            self._opening.check()
        return out

    def response(self) -> LLMResponse:
        """The answer as far as it came."""
        if self._answer is not None:
            return self._answer
        draft = self._draft
        gathered = gather(draft.items())
        # What was given out cannot be taken back, so it is the answer.
        gathered.texts = draft.texts
        gathered.thoughts = ["".join(draft.thoughts)] if draft.thoughts else gathered.thoughts
        gathered.audio = self._audio or gathered.audio
        answer = respond(
            self._head,
            gathered,
            self._request,
            self._plan,
            complete=self.complete,
            raw_body=self._raw,
            notes=tuple(self.notes),
        )
        if self.done:
            self._answer = answer
        return answer

    def _take(self, payload: bytes, out: list[Piece]) -> None:
        try:
            event = read_event(payload)
        except (ValueError, RecursionError):
            found = self._odd(payload)
            if found is None:
                return
            event = found
        if self._last is not None:
            self._count(event.sequence_number)
        kind = event.type
        grown = DELTAS.get(kind)
        if grown is not None:
            if isinstance(event.delta, str):
                part, place, item = grown
                slot = self._draft.slot(event.output_index, event.item_id, item)
                self._draft.grow(slot, part, getattr(event, place) if place else 0, event.delta, out)
        elif not self._take_whole(event, kind, out):
            self._take_rest(event, kind, payload, out)

    def _take_whole(self, event: Event, kind: str, out: list[Piece]) -> bool:
        """Take an event that says in whole what came in pieces; False when it is none."""
        draft = self._draft
        filled = WHOLES.get(kind)
        if filled is not None:
            part, place, field, item = filled
            slot = draft.slot(event.output_index, event.item_id, item)
            draft.fill(slot, part, getattr(event, place) if place else 0, getattr(event, field), out)
        elif kind == "response.output_item.added":
            if isinstance(event.item, dict):
                draft.begin(event.output_index, event.item, out)
        elif kind == "response.output_item.done":
            if isinstance(event.item, dict):
                draft.close(event.output_index, event.item, out)
        elif kind == "response.output_text.annotation.added":
            if event.annotation is not None:
                draft.slot(event.output_index, event.item_id, "message").annotations.append(event.annotation)
        else:
            return False
        return True

    def _take_rest(self, event: Event, kind: str, payload: bytes, out: list[Piece]) -> None:
        if kind in ENDS:
            self._end_stream(event, kind, out)
        elif kind in HEADS:
            self._take_head(event)
        elif kind == "error" or (not kind and event.error):
            self._refuse(event)
        elif kind == "response.audio.delta":
            self._audio += bytes_of(event.delta) or b""
        elif kind == "response.audio.transcript.delta" and isinstance(event.delta, str):
            self._draft.grow(self._draft.slot(0, None, "message"), "text", 0, event.delta, out)
        elif kind == "response.image_generation_call.partial_image":
            self._note("partial images are not given out, only the whole ones")
        elif not kind:
            failed = hidden_error(payload, self._request, self._rules)
            if failed is not None:
                raise failed
            self._note(f"an event without a type was skipped: {excerpt(payload)}")

    def _odd(self, payload: bytes) -> Event | None:
        """An event of unusual JSON, None when it is none at all."""
        text = payload.strip()
        if text == _DONE:
            self._note("the stream ended without response.completed")
        elif text:
            try:
                return read_odd(text)
            except (ValueError, RecursionError):
                self._note(f"a malformed event was skipped: {excerpt(text)}")
        return None

    def _count(self, number: Any) -> None:
        """Notice events that are missing; servers that do not count are not held to it."""
        last = self._last
        if not isinstance(number, int) or last is None or number <= last:
            self._last = None
            return
        if number > last + 1 and last >= 0:
            self._note("events of the stream are missing; its end says what they said")
        self._last = number

    def _take_head(self, event: Event) -> None:
        answer = self._answer_in(event)
        if answer is not None:
            head = self._head
            head.id = answer.id or head.id
            head.model = answer.model or head.model
            head.service_tier = answer.service_tier or head.service_tier

    def _answer_in(self, event: Event) -> Answer | None:
        raw = bytes(event.response)
        if not raw or raw == b"null":
            return None
        try:
            return read_answer(raw)
        except (ValueError, RecursionError):
            self._note("the answer at the end of the stream is malformed")
            return None

    def _end_stream(self, event: Event, kind: str, out: list[Piece]) -> None:
        answer = self._answer_in(event) or Answer()
        head = self._head
        for field in ("id", "model", "service_tier"):
            if getattr(answer, field) is None:
                setattr(answer, field, getattr(head, field))
        if answer.status in (None, "in_progress", "queued"):
            answer.status = kind.rpartition(".")[2]
        failed = failure(answer, self._request, self._rules)
        if failed is not None:
            raise failed
        self._head = answer
        self._raw = bytes(event.response) or None
        output = answer.output if isinstance(answer.output, list) else None
        self._draft.finish(output, out, cut=answer.status == "incomplete")
        self.done = self.complete = True
        if isinstance(answer.usage, dict):
            out.append(UsageEvent(self.response().usage))

    def _refuse(self, event: Event) -> None:
        found = event.error if isinstance(event.error, dict) else {}
        flat = {"code": event.code, "message": event.message or event.error, "param": event.param}
        error = {**flat, **{name: value for name, value in found.items() if value is not None}}
        if not isinstance(error["message"], str):
            error["message"] = "an error without a message"
        request_id = self._head.id if isinstance(self._head.id, str) else None
        raise refused(error, self._request, self._rules, request_id)

    def _end_whole(self, body: bytes, out: list[Piece]) -> None:
        answer = self._answer = decode(body, self._request, self._dialect, self._rules)
        if answer.reasoning:
            out.append(ReasoningEvent(answer.reasoning))
        if answer.content:
            out.append(answer.content)
        if answer.refusal:
            out.append(RefusalEvent(answer.refusal))
        cut = answer.finish_reason not in ("tool_calls", "pause")
        out.extend(ToolCallEvent(call) for call in answer.tool_calls if not cut or is_whole(call))
        out.append(UsageEvent(answer.usage))
        self.notes.extend(answer.notes)
        self.done = self.complete = True
