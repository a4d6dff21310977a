"""
A streamed answer, folded event by event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llm_master.bodies import UNREADABLE
from llm_master.classes import LLMResponse, Request, ToolCall
from llm_master.classify import error_from_object
from llm_master.events import ReasoningEvent, RefusalEvent, ToolCallDeltaEvent, ToolCallEvent, UsageEvent
from llm_master.folding import Piece
from llm_master.rows import MessagesDialect
from llm_master.wire.anthropic_answer import Gathered, WireUsage, refusal_of, respond
from llm_master.wire.anthropic_draft import SCHEMA_TOOL, schema_tool_wanted
from llm_master.wire.anthropic_events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Error,
    Head,
    JSONDelta,
    MessageDelta,
    MessageStart,
    MessageStop,
    SignatureDelta,
    Stop,
    TextDelta,
    ThinkingDelta,
    read_events,
)
from llm_master.wire.anthropic_opaque import opaque_of
from llm_master.wire.anthropic_rules import rules_for
from llm_master.wire.sse_fold import EventFolding

__all__ = ["Fold"]

# The kind of a block whose arguments are the answer's text.
_ANSWER = "answer"


class _Open:
    """A block on its way: what it started with, and the pieces of its text, thinking or arguments."""

    __slots__ = ("block", "closed", "kind", "ordinal", "pieces")

    def __init__(self, block: dict[str, Any]) -> None:
        self.block = block
        self.kind: str = block.get("type") or "text"
        self.pieces: list[str] = []
        self.ordinal = -1
        self.closed = False

    def text(self) -> str:
        return "".join(self.pieces)

    def arguments(self) -> str:
        text = self.text()
        if text and not text.isspace():
            return text
        # Some servers give the whole input at the start instead.
        return msgspec.json.encode(self.block.get("input") or {}).decode()

    def call(self) -> ToolCall:
        return ToolCall(self.block.get("id") or "", self.block.get("name") or "", raw_arguments=self.arguments())

    def whole(self) -> dict[str, Any]:
        """The block as a plain answer would have it."""
        if self.kind in ("text", "thinking"):
            return {**self.block, self.kind: self.text()}
        if "input" in self.block or self.pieces:
            try:
                return {**self.block, "input": msgspec.json.decode(self.arguments())}
            except UNREADABLE:
                return self.block
        return self.block


class Fold(EventFolding):
    """
    Folds the bytes of one event stream into one answer.

    Attributes:
        done: the stream's own end was seen; what follows is ignored.
        complete: the answer has its end, although the stream may lack its marker.
    """

    __slots__ = (
        "_blocks",
        "_calls",
        "_head",
        "_held",
        "_schema",
        "_stop",
        "_text",
        "_text_index",
        "_thought",
        "_usage",
    )

    def __init__(self, request: Request, dialect: MessagesDialect, *, rules: Mapping[str, str] | None = None) -> None:
        super().__init__(request, rules)
        self._schema = bool(request.params) and schema_tool_wanted(request, rules_for(dialect, request.model))
        self._head = Head()
        self._usage = WireUsage()
        self._stop = Stop()
        self._blocks: dict[int, _Open] = {}
        self._calls = 0
        self._thought = False
        # Text that may turn out to be a mere preface of the structured answer.
        self._held: list[str] = []
        self._text: list[str] = []
        self._text_index = -1

    def end(self) -> list[Piece]:
        """The pieces that were still waiting when the stream ended."""
        pieces = self._fold(self._sse.flush())
        if self.complete and not self.done:
            self._finish(pieces)
        return pieces

    def _fold(self, payloads: list[bytes]) -> list[Piece]:
        pieces: list[Piece] = []
        self.pending = pieces
        if not payloads or self.done:
            return pieces
        for event in read_events(payloads, self._note):
            if event.__class__ is BlockDelta:
                delta = event.delta
                if delta.__class__ is TextDelta and event.index == self._text_index:
                    text = delta.text
                    if text:
                        self._text.append(text)
                        pieces.append(text)
                    continue
                self._delta(event, pieces)
            elif self._event(event, pieces):
                break
        return pieces

    def _delta(self, event: BlockDelta, pieces: list[Piece]) -> None:
        delta = event.delta
        open_ = self._blocks.get(event.index)
        if open_ is None:
            kind = "thinking" if isinstance(delta, ThinkingDelta | SignatureDelta) else "text"
            open_ = self._start(event.index, {"type": kind}, pieces)
        if isinstance(delta, TextDelta):
            self._say(open_, delta.text, pieces)
        elif isinstance(delta, ThinkingDelta):
            self._think(open_, delta.thinking, pieces)
        elif isinstance(delta, JSONDelta):
            if delta.partial_json:
                open_.pieces.append(delta.partial_json)
                if open_.kind == _ANSWER:
                    pieces.append(delta.partial_json)
                elif open_.ordinal >= 0:
                    pieces.append(ToolCallDeltaEvent(open_.ordinal, arguments=delta.partial_json))
        elif isinstance(delta, SignatureDelta):
            open_.block["signature"] = delta.signature
        else:
            open_.block["citations"] = [*(open_.block.get("citations") or ()), delta.citation]

    def _say(self, open_: _Open, text: str, pieces: list[Piece]) -> None:
        if text:
            open_.pieces.append(text)
            (self._held if self._schema else pieces).append(text)

    def _think(self, open_: _Open, text: str, pieces: list[Piece]) -> None:
        if text:
            apart = not open_.pieces and self._thought
            open_.pieces.append(text)
            self._thought = True
            pieces.append(ReasoningEvent(f"\n\n{text}" if apart else text))

    def _event(self, event: Any, pieces: list[Piece]) -> bool:
        """Take in an event that is no delta; True when the stream has ended."""
        if isinstance(event, BlockStart):
            self._start(event.index, event.content_block, pieces)
        elif isinstance(event, BlockStop):
            open_ = self._blocks.get(event.index)
            if open_ is not None:
                self._close(open_, pieces)
        elif isinstance(event, MessageStart):
            self._head = event.message
            self._count(event.message.usage, pieces)
        elif isinstance(event, MessageDelta):
            self._near_end(event, pieces)
        elif isinstance(event, MessageStop):
            self._finish(pieces)
            self.done = True
        elif isinstance(event, Error):
            request = self._request
            raise error_from_object(
                {"error": event.error},
                provider=request.provider,
                model=request.model,
                request_id=event.request_id or self._head.id,
                rules=self._rules,
            )
        return self.done

    def _near_end(self, event: MessageDelta, pieces: list[Piece]) -> None:
        self._count(event.usage, pieces)
        if event.delta is None or not event.delta.stop_reason:
            return
        self._stop = event.delta
        self.complete = True
        if event.delta.stop_reason == "refusal":
            pieces.append(RefusalEvent(refusal_of(event.delta.stop_details, self._gather().content)))
        if event.usage is not None:
            # Reason and usage are all that was missing: a server that forgets the last event is not waited for.
            self._finish(pieces)
            self.done = True

    def _start(self, index: int, block: dict[str, Any], pieces: list[Piece]) -> _Open:
        open_ = self._blocks[index] = _Open(block)
        if open_.kind == "text":
            if not self._schema:
                self._text, self._text_index = open_.pieces, index
            self._say(open_, block.get("text") or "", pieces)
        elif open_.kind == "thinking":
            self._think(open_, block.get("thinking") or "", pieces)
        elif open_.kind == "tool_use":
            if self._schema and block.get("name") == SCHEMA_TOOL:
                open_.kind = _ANSWER
            else:
                open_.ordinal = self._calls
                self._calls += 1
                pieces.append(ToolCallDeltaEvent(open_.ordinal, block.get("id") or "", block.get("name") or ""))
        return open_

    def _close(self, open_: _Open, pieces: list[Piece]) -> None:
        if open_.closed:
            return
        open_.closed = True
        if open_.kind == _ANSWER and not open_.pieces:
            open_.pieces.append(open_.arguments())
            pieces.append(open_.pieces[0])
        elif open_.ordinal >= 0:
            pieces.append(ToolCallEvent(open_.call()))

    def _finish(self, pieces: list[Piece]) -> None:
        for open_ in self._blocks.values():
            self._close(open_, pieces)
        if self._held and not any(open_.kind == _ANSWER for open_ in self._blocks.values()):
            pieces.extend(self._held)
        self._held = []

    def _count(self, usage: WireUsage | None, pieces: list[Piece]) -> None:
        if usage is not None:
            self._usage.update(usage)
            pieces.append(UsageEvent(self._usage.normalised()))

    def _gather(self) -> Gathered:
        gathered = Gathered()
        for open_ in self._blocks.values():
            if open_.kind == "text":
                gathered.texts.append(open_.text())
                gathered.citations.extend(open_.block.get("citations") or ())
            elif open_.kind == "thinking":
                gathered.thoughts.append(open_.text())
            elif open_.kind == _ANSWER:
                gathered.structured = open_.text()
            elif open_.ordinal >= 0 and (open_.closed or self.complete):
                gathered.calls.append(open_.call())
        gathered.thoughts = [thought for thought in gathered.thoughts if thought]
        return gathered

    def response(self) -> LLMResponse:
        """The answer so far; its finish reason is None while it has no end."""
        blocks = [open_.whole() for open_ in self._blocks.values() if open_.kind != _ANSWER]
        return respond(
            self._request,
            self._gather(),
            id=self._head.id,
            model=self._head.model,
            usage=self._usage,
            stop_reason=self._stop.stop_reason or ("null" if self.done else None),
            stop_details=self._stop.stop_details,
            opaque=opaque_of(blocks, self._request),
            notes=tuple(self.notes),
        )
