"""
A streamed answer, folded event by event.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from llm_master.bodies import ODD_USAGE, UNREADABLE, mended
from llm_master.classes import LLMResponse, Request, ToolCall
from llm_master.classify import excerpt
from llm_master.dialect_bedrock import BedrockDialect
from llm_master.events import MALFORMED, ReasoningEvent, ToolCallDeltaEvent, ToolCallEvent, UsageEvent
from llm_master.folding import Folding, Piece
from llm_master.wire.bedrock_answer import End, WireUsage, failure, respond
from llm_master.wire.bedrock_blocks import SERVER_TOOL
from llm_master.wire.bedrock_draft import SCHEMA_TOOL, schema_tool_wanted
from llm_master.wire.bedrock_frames import Frame, FrameParser

__all__ = ["Fold"]

_KEEPING = frozenset(("guardrailConfig", "additionalModelResponseFieldPaths"))


class _Input(msgspec.Struct, gc=False):
    input: str | None = None


class _Thought(msgspec.Struct, rename="camel", gc=False):
    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class _Delta(msgspec.Struct, rename="camel"):
    text: str | None = None
    tool_use: _Input | None = None
    tool_result: list[Any] | None = None
    reasoning_content: _Thought | None = None
    citation: Any = None
    image: dict[str, Any] | None = None


class _BlockEvent(msgspec.Struct, rename="camel"):
    """A block begins, grows or ends."""

    content_block_index: int = 0
    start: dict[str, Any] | None = None
    delta: _Delta | None = None


_BLOCK = msgspec.json.Decoder(_BlockEvent)
_END = msgspec.json.Decoder(End)


class _Open:
    """A block on its way: how it started, and the pieces of its text, thinking or arguments."""

    __slots__ = (
        "answer",
        "citations",
        "closed",
        "kind",
        "ordinal",
        "pieces",
        "raw",
        "results",
        "signature",
        "start",
    )

    def __init__(self, kind: str, start: dict[str, Any]) -> None:
        self.kind = kind
        self.start = start
        self.pieces: list[str] = []
        self.citations: list[Any] = []
        self.results: list[Any] = []
        self.raw: list[bytes] = []
        self.signature = ""
        self.ordinal = -1  # the number of the caller's call that this is
        self.answer = False  # whether its arguments are the answer's text
        self.closed = False

    def text(self) -> str:
        return "".join(self.pieces)

    def arguments(self) -> str:
        text = self.text()
        return text if text and not text.isspace() else "{}"

    def call(self) -> ToolCall:
        start = self.start
        return ToolCall(start.get("toolUseId") or "", start.get("name") or "", raw_arguments=self.arguments())

    def whole(self) -> dict[str, Any]:
        """The block as a plain answer would have it; arguments that broke stay text."""
        if self.kind == "toolUse":
            try:
                given = msgspec.json.decode(self.arguments())
            except UNREADABLE:
                given = self.arguments()
            return {"toolUse": {**self.start, "input": given}}
        if self.kind == "reasoningContent":
            return {"reasoningContent": self._reasoning()}
        if self.kind == "toolResult":
            return {"toolResult": {**self.start, "content": self.results}}
        if self.kind == "image":
            data = binascii.b2a_base64(b"".join(self.raw), newline=False).decode()
            return {"image": {**self.start, "source": {"bytes": data}}}
        if self.citations:
            return {"citationsContent": {"content": [{"text": self.text()}], "citations": self.citations}}
        return {"text": self.text()}

    def _reasoning(self) -> dict[str, Any]:
        if self.raw:
            return {"redactedContent": binascii.b2a_base64(b"".join(self.raw), newline=False).decode()}
        signature = {"signature": self.signature} if self.signature else {}
        return {"reasoningText": {"text": self.text(), **signature}}


class Fold(Folding):
    """
    Folds the bytes of one event stream into one answer.

    Attributes:
        done: the stop reason and the usage were seen; what follows is ignored.
        complete: the answer has its end, although the usage may be missing.
    """

    __slots__ = (
        "_blocks",
        "_calls",
        "_end",
        "_frames",
        "_held",
        "_kept",
        "_schema",
        "_text",
        "_text_index",
        "_thought",
    )

    def __init__(self, request: Request, dialect: BedrockDialect, *, rules: Mapping[str, str] | None = None) -> None:
        super().__init__(request, rules)
        self._frames = FrameParser(request.provider, request.model)
        # Events are kept for ``raw`` only where they hold what a response has no field for.
        self._kept: list[tuple[str, bytes]] | None = [] if not _KEEPING.isdisjoint(request.params) else None
        self._schema = bool(request.params) and schema_tool_wanted(request, dialect)
        self._end = End()
        self._blocks: dict[int, _Open] = {}
        self._calls = 0
        self._thought = False
        self._held: list[str] = []  # text that may turn out to be a mere preface of the structured answer
        self._text: list[str] = []
        self._text_index = -1

    def feed(self, data: bytes) -> list[Piece]:
        """
        The pieces that these bytes bring: ``str`` for text, events for the rest.

        Raises:
            ProviderError: the stream holds an exception; typed by its name.
            ResponseError: the bytes are no event stream, or were damaged.
            ResponseTooLargeError: a message is over the limit.
        """
        pieces: list[Piece] = []
        self.pending = pieces
        if not self.done:
            for frame in self._frames.feed(data):
                self._take(frame, pieces)
        return pieces

    def end(self) -> list[Piece]:
        """The pieces that were still waiting when the stream ended."""
        pieces: list[Piece] = []
        self.pending = pieces
        if self._frames.waiting and not self.done:
            self._note("the stream ended inside a message")
        return pieces

    def _take(self, frame: Frame, pieces: list[Piece]) -> None:
        if self.done:
            return
        headers = frame.headers
        if headers.get(":message-type", "event") != "event":
            raise self._failure(frame)
        kind = headers.get(":event-type", "")
        if kind.startswith("contentBlock"):
            try:
                event = _BLOCK.decode(frame.payload)
            except UNREADABLE:
                self._note(f"{MALFORMED} ({kind}): {excerpt(frame.payload)}")
                return
            self._block(kind, event, pieces)
        elif kind in ("messageStop", "metadata"):
            try:
                end = _END.decode(frame.payload)
            except UNREADABLE as error:
                end = mended(_END, frame.payload, error, WireUsage, ("usage",))
                self._note(ODD_USAGE if end is not None else f"{MALFORMED} ({kind}): {excerpt(frame.payload)}")
                if end is None:
                    return
            self._close_message(end, pieces)
        if self._kept is not None:
            self._kept.append((kind, frame.payload))

    def _failure(self, frame: Frame) -> Exception:
        headers = frame.headers
        code = headers.get(":exception-type") or headers.get(":error-code") or "unknown"
        try:
            body = msgspec.json.decode(frame.payload)
        except UNREADABLE:
            body = {"message": headers.get(":error-message") or excerpt(frame.payload)}
        return failure(code, body, self._request, self._rules)

    def _block(self, kind: str, event: _BlockEvent, pieces: list[Piece]) -> None:
        index, delta = event.content_block_index, event.delta
        if delta is not None:
            if index == self._text_index and delta.text is not None:
                if delta.text:
                    self._text.append(delta.text)
                    pieces.append(delta.text)
                return
            self._delta(index, delta, pieces)
        elif event.start is not None:
            self._start(index, event.start, pieces)
        elif kind == "contentBlockStop" and (open_ := self._blocks.get(index)) is not None:
            self._close(open_, pieces)

    def _start(self, index: int, start: dict[str, Any], pieces: list[Piece]) -> None:
        # The start of a text holds nothing; the block is made with its first delta.
        kind = next((name for name in ("toolUse", "toolResult", "image") if isinstance(start.get(name), dict)), None)
        if kind is None:
            return
        open_ = self._blocks[index] = _Open(kind, start[kind])
        # Calls of the service's own tools are no one's to answer.
        if kind == "toolUse" and open_.start.get("type") != SERVER_TOOL:
            if self._schema and open_.start.get("name") == SCHEMA_TOOL:
                open_.answer = True
                return
            open_.ordinal = self._calls
            self._calls += 1
            call_id, name = open_.start.get("toolUseId") or "", open_.start.get("name") or ""
            pieces.append(ToolCallDeltaEvent(open_.ordinal, call_id, name))

    def _delta(self, index: int, delta: _Delta, pieces: list[Piece]) -> None:
        for field, kind, take in _DELTAS:
            value = getattr(delta, field)
            if value is None:
                continue
            open_ = self._blocks.get(index)
            if open_ is None:
                open_ = self._blocks[index] = _Open(kind, {})
            take(self, index, open_, value, pieces)

    def _say(self, index: int, open_: _Open, text: str, pieces: list[Piece]) -> None:
        if not self._schema and open_.kind == "text":
            self._text, self._text_index = open_.pieces, index
        if text:
            open_.pieces.append(text)
            (self._held if self._schema else pieces).append(text)

    def _argue(self, _index: int, open_: _Open, given: _Input, pieces: list[Piece]) -> None:
        if given.input:
            open_.pieces.append(given.input)
            if open_.answer:
                pieces.append(given.input)
            elif open_.ordinal >= 0:
                pieces.append(ToolCallDeltaEvent(open_.ordinal, arguments=given.input))

    def _think(self, _index: int, open_: _Open, thought: _Thought, pieces: list[Piece]) -> None:
        if thought.signature:
            open_.signature += thought.signature
        if thought.redacted_content:
            self._bytes(open_, thought.redacted_content)
        if thought.text:
            apart = not open_.pieces and self._thought
            open_.pieces.append(thought.text)
            self._thought = True
            pieces.append(ReasoningEvent(f"\n\n{thought.text}" if apart else thought.text))

    def _bytes(self, open_: _Open, given: Any) -> None:
        # Each piece is base64 of its own.
        try:
            open_.raw.append(binascii.a2b_base64(given))
        except (ValueError, TypeError):
            self._note(f"bytes that are no base64 were skipped: {excerpt(str(given))}")

    def _cite(self, _index: int, open_: _Open, citation: Any, _pieces: list[Piece]) -> None:
        open_.citations.append(citation)

    def _result(self, _index: int, open_: _Open, results: list[Any], _pieces: list[Piece]) -> None:
        open_.results.extend(results)

    def _draw(self, _index: int, open_: _Open, image: dict[str, Any], _pieces: list[Piece]) -> None:
        source = image.get("source")
        if isinstance(source, dict) and source.get("bytes"):
            self._bytes(open_, source["bytes"])
        elif image.get("error"):
            open_.start = {**open_.start, "error": image["error"]}

    def _close(self, open_: _Open, pieces: list[Piece]) -> None:
        if open_.closed:
            return
        open_.closed = True
        if open_.answer and not open_.pieces:
            open_.pieces.append("{}")
            pieces.append("{}")
        elif open_.ordinal >= 0:
            pieces.append(ToolCallEvent(open_.call()))

    def _close_message(self, end: End, pieces: list[Piece]) -> None:
        if end.stop_reason:
            self._end.stop_reason = end.stop_reason
            self.complete = True
            for open_ in self._blocks.values():
                self._close(open_, pieces)
            if self._held and not any(open_.answer for open_ in self._blocks.values()):
                pieces.extend(self._held)
            self._held = []
        if end.usage is not None:
            self._end.usage = end.usage
            pieces.append(UsageEvent(end.usage.normalised()))
        self._end.service_tier = end.service_tier or self._end.service_tier
        self._end.trace = end.trace or self._end.trace
        # The usage comes last.
        self.done = self.complete and self._end.usage is not None

    def response(self) -> LLMResponse:
        """The answer so far; its finish reason is None while it has no end."""
        # A call counts once it is closed or the answer complete.
        blocks = [
            open_.whole()
            for _, open_ in sorted(self._blocks.items())
            if open_.ordinal < 0 or open_.closed or self.complete
        ]
        kept = self._kept
        raw = None if kept is None else [{kind: msgspec.json.decode(payload)} for kind, payload in kept]
        return respond(self._request, blocks, self._end, schema=self._schema, notes=self.notes, raw_body=raw)


# Field of a delta, the kind of block that it makes where none was started, and who takes it.
_Take = Callable[[Fold, int, _Open, Any, list[Piece]], None]
_DELTAS: tuple[tuple[str, str, _Take], ...] = (
    ("text", "text", Fold._say),  # noqa: SLF001  # a table of the class's own methods
    ("tool_use", "toolUse", Fold._argue),  # noqa: SLF001  # same
    ("reasoning_content", "reasoningContent", Fold._think),  # noqa: SLF001  # same
    ("citation", "text", Fold._cite),  # noqa: SLF001  # same
    ("tool_result", "toolResult", Fold._result),  # noqa: SLF001  # same
    ("image", "image", Fold._draw),  # noqa: SLF001  # same
)
