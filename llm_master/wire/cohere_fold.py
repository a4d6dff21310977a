"""
A streamed answer, folded event by event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from llm_master.bodies import ODD_USAGE, UNREADABLE, mended
from llm_master.classes import LLMResponse, Request, ToolCall
from llm_master.dialect_cohere import CohereDialect
from llm_master.events import ReasoningEvent, ToolCallDeltaEvent, ToolCallEvent, UsageEvent
from llm_master.folding import Piece
from llm_master.wire.cohere_answer import Gathered, WireUsage, failure, respond
from llm_master.wire.cohere_draft import SCHEMA_TOOL, schema_tool_wanted
from llm_master.wire.sse_fold import EventFolding

__all__ = ["Fold"]


class _Content(msgspec.Struct, gc=False):
    text: str | None = None
    thinking: str | None = None


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Turn(msgspec.Struct):
    # At the start of a message these are empty lists, in a delta the one that is meant.
    content: _Content | list[Any] | None = None
    tool_calls: _Call | list[Any] | None = None
    tool_plan: str | None = None
    citations: Any = None


class _Delta(msgspec.Struct):
    message: _Turn | None = None
    finish_reason: str | None = None
    usage: WireUsage | None = None
    error: str | None = None


class _Event(msgspec.Struct):
    type: str
    id: str | None = None
    index: int | None = None
    delta: _Delta | None = None


_EVENT = msgspec.json.Decoder(_Event)


class _Open:
    """A tool call on its way."""

    __slots__ = ("answer", "closed", "id", "index", "name", "pieces")

    def __init__(self, index: int, id: str, name: str, *, answer: bool) -> None:
        self.index = index
        self.id = id
        self.name = name
        self.answer = answer  # whether its arguments are the answer's text
        self.pieces: list[str] = []
        self.closed = False

    def call(self) -> ToolCall:
        return ToolCall(self.id, self.name, raw_arguments="".join(self.pieces) or "{}")


class Fold(EventFolding):
    """
    Folds the bytes of one event stream into one answer.

    Attributes:
        done: the stream's own end was seen; what follows is ignored.
        complete: the answer has its end.
    """

    __slots__ = (
        "_at",
        "_calls",
        "_gathered",
        "_held",
        "_id",
        "_kept",
        "_reason",
        "_schema",
        "_thought",
        "_thoughts",
        "_usage",
    )

    def __init__(self, request: Request, dialect: CohereDialect, *, rules: Mapping[str, str] | None = None) -> None:
        super().__init__(request, rules)
        self._schema = bool(request.params) and schema_tool_wanted(request, dialect)
        # Events are kept for ``raw`` only where they hold what a response has no field for.
        self._kept: list[bytes] | None = [] if request.params.get("logprobs") else None
        self._gathered = Gathered()
        self._calls: list[_Open] = []
        self._at: dict[int, _Open] = {}  # the event's index -> the latest call of that index
        self._id: str | None = None
        self._reason: str | None = None
        self._usage = WireUsage()
        self._thoughts: list[list[str]] = []  # the pieces of each thought
        self._thought: int | None = None  # the content's index of the last one
        self._held: list[str] = []  # text that may turn out to be a mere preface of the structured answer

    def _fold(self, payloads: list[bytes]) -> list[Piece]:
        pieces: list[Piece] = []
        self.pending = pieces
        for payload in payloads:
            if self.done:
                break
            event = self._read(payload)
            if event is None:
                continue
            if self._kept is not None:
                self._kept.append(payload.decode("utf-8", "replace").encode())
            take = _TAKE.get(event.type)
            if take is not None:
                take(self, event, pieces)
            elif event.type == "error":
                self._odd(payload, self._id)
        return pieces

    def _read(self, payload: bytes) -> _Event | None:
        try:
            return _EVENT.decode(payload)
        except UNREADABLE as error:
            whole: _Event | None = mended(_EVENT, payload, error, WireUsage, ("delta", "usage"))
            if whole is not None:
                self._note(ODD_USAGE)
                return whole
            repaired = payload.decode("utf-8", "replace").encode()
        if repaired != payload:
            try:
                event = _EVENT.decode(repaired)
            except UNREADABLE:
                pass
            else:
                self._note("bytes that are no UTF-8 were replaced")
                return event
        self._odd(payload, self._id)
        return None

    def _start(self, event: _Event, pieces: list[Piece]) -> None:  # noqa: ARG002  # one signature for all events
        self._id = event.id or self._id

    def _content(self, event: _Event, pieces: list[Piece]) -> None:
        turn = event.delta.message if event.delta is not None else None
        content = turn.content if turn is not None else None
        if not isinstance(content, _Content):
            return
        if content.thinking:
            self._think(event.index or 0, content.thinking, pieces)
        if content.text:
            self._gathered.texts.append(content.text)
            (self._held if self._schema else pieces).append(content.text)

    def _think(self, index: int, text: str, pieces: list[Piece]) -> None:
        if index != self._thought:
            self._thought = index
            self._thoughts.append([])
        apart = not self._thoughts[-1] and len(self._thoughts) > 1
        self._thoughts[-1].append(text)
        pieces.append(ReasoningEvent(f"\n\n{text}" if apart else text))

    def _plan(self, event: _Event, pieces: list[Piece]) -> None:
        delta = event.delta
        text = delta.message.tool_plan if delta is not None and delta.message is not None else None
        if text:
            apart = not self._gathered.plan and bool(self._thoughts)
            self._gathered.plan += text
            pieces.append(ReasoningEvent(f"\n\n{text}" if apart else text))

    def _call(self, event: _Event, pieces: list[Piece]) -> None:
        turn = event.delta.message if event.delta is not None else None
        found = turn.tool_calls if turn is not None else None
        if not isinstance(found, _Call):
            return
        index, function = event.index or 0, found.function or _Function()
        open_ = self._at.get(index)
        if open_ is None or event.type == "tool-call-start":
            answer = self._schema and function.name == SCHEMA_TOOL
            ordinal = sum(not each.answer for each in self._calls)
            open_ = _Open(ordinal, found.id or f"call_{ordinal}", function.name or "", answer=answer)
            self._calls.append(open_)
            self._at[index] = open_
            if not answer:
                pieces.append(ToolCallDeltaEvent(ordinal, open_.id, open_.name))
        if function.arguments:
            open_.pieces.append(function.arguments)
            if open_.answer:
                pieces.append(function.arguments)
            else:
                pieces.append(ToolCallDeltaEvent(open_.index, arguments=function.arguments))

    def _call_end(self, event: _Event, pieces: list[Piece]) -> None:
        open_ = self._at.get(event.index or 0)
        if open_ is not None:
            self._close(open_, pieces)

    def _close(self, open_: _Open, pieces: list[Piece]) -> None:
        if open_.closed:
            return
        open_.closed = True
        if not open_.answer:
            pieces.append(ToolCallEvent(open_.call()))
        elif not open_.pieces:
            open_.pieces.append("{}")
            pieces.append("{}")

    def _citation(self, event: _Event, pieces: list[Piece]) -> None:  # noqa: ARG002  # one signature for all events
        turn = event.delta.message if event.delta is not None else None
        found = turn.citations if turn is not None else None
        if found:
            self._gathered.citations.extend(found if isinstance(found, list) else [found])

    def _end(self, event: _Event, pieces: list[Piece]) -> None:
        delta = event.delta or _Delta()
        if delta.usage is not None:
            self._usage = delta.usage
            pieces.append(UsageEvent(self._usage.normalised()))
        failed = failure(delta.finish_reason, delta.error, self._request, self._rules, id=self._id)
        if failed is not None:
            raise failed
        self._reason = delta.finish_reason
        self.complete = self._reason is not None
        for open_ in self._calls:
            self._close(open_, pieces)
        if self._held and not any(open_.answer for open_ in self._calls):
            pieces.extend(self._held)
        self._held = []
        self.done = True

    def response(self) -> LLMResponse:
        """The answer so far; its finish reason is None while it has no end."""
        known = self._gathered
        gathered = Gathered()
        gathered.texts, gathered.plan = list(known.texts), known.plan
        gathered.thoughts = ["".join(thought) for thought in self._thoughts]
        gathered.citations = list(known.citations)
        for open_ in self._calls:
            if open_.answer:
                gathered.structured = "".join(open_.pieces)
            elif open_.closed or self.complete:
                gathered.calls.append(open_.call())
        return respond(
            self._request,
            gathered,
            id=self._id,
            usage=self._usage,
            reason=self._reason or ("null" if self.done else None),
            notes=tuple(self.notes),
            raw_body=None if self._kept is None else [msgspec.json.decode(payload) for payload in self._kept],
        )


_TAKE: dict[str, Callable[[Fold, _Event, list[Piece]], None]] = {
    "message-start": Fold._start,  # noqa: SLF001  # a table of the class's own methods
    "content-start": Fold._content,  # noqa: SLF001  # same
    "content-delta": Fold._content,  # noqa: SLF001  # same
    "tool-plan-delta": Fold._plan,  # noqa: SLF001  # same
    "tool-call-start": Fold._call,  # noqa: SLF001  # same
    "tool-call-delta": Fold._call,  # noqa: SLF001  # same
    "tool-call-end": Fold._call_end,  # noqa: SLF001  # same
    "citation-start": Fold._citation,  # noqa: SLF001  # same
    "message-end": Fold._end,  # noqa: SLF001  # same
}
