"""
An answer in the making: takes whole answers or chunks, and becomes an ``LLMResponse``.
"""

from __future__ import annotations

import binascii
from typing import Any

import msgspec

from llm_master.classes import Image, LLMResponse, Request, ToolCall, Usage
from llm_master.dialect_gemini import GeminiDialect
from llm_master.events import ReasoningEvent, StreamEvent, ToolCallDeltaEvent, ToolCallEvent, UsageEvent
from llm_master.wire.gemini_citations import citations_of
from llm_master.wire.gemini_draft import SCHEMA_TOOL, rules_for
from llm_master.wire.gemini_opaque import opaque_of
from llm_master.wire.gemini_shapes import Answer, Blob, Candidate, Function, Part, UsageBody, parts_as_sent
from llm_master.wire.gemini_sound import as_wav
from llm_master.wire.gemini_tools import schema_tool_wanted
from llm_master.wire.gemini_usage import searches_of, tier_of, usage_of

__all__ = ["Gathered", "Piece"]

Piece = str | StreamEvent

_MOST_NOTES = 20
# finishReason -> ours; google-genai 3.4.0 and https://ai.google.dev/api/generate-content, read 2026-11-21.
_FINISH: dict[str, str] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "pause",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "IMAGE_OTHER": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
    "PUP_LIMITED_DISABLED": "content_filter",
    "MALFORMED_FUNCTION_CALL": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
    "MALFORMED_RESPONSE": "error",
    "LANGUAGE": "error",
    "NO_IMAGE": "error",
    "OTHER": "error",
}
_UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"
_STANDARD = str.maketrans("-_", "+/")
_READ = frozenset(
    ("text", "thought", "thoughtSignature", "functionCall", "inlineData", "fileData", "videoMetadata", "partMetadata")
)


class _Run:
    """Text without a signature, in the pieces in which it came; neighbours of one kind are one part."""

    __slots__ = ("pieces", "thought")

    def __init__(self, *, thought: bool) -> None:
        self.thought = thought
        self.pieces: list[str] = []


class Gathered:
    """
    What is known of an answer so far.

    ``out`` of its methods is the list to which they append what a reader of the stream is told.

    Attributes:
        reason: the server's finish reason, None while there is none.
        notes: what was unusual.
    """

    __slots__ = (
        "_audio",
        "_calls",
        "_grounding",
        "_head",
        "_held",
        "_images",
        "_message",
        "_mime",
        "_per_prompt",
        "_recited",
        "_request",
        "_runs",
        "_schema",
        "_structured",
        "_token",
        "_told",
        "_usage",
        "notes",
        "reason",
    )

    def __init__(self, request: Request, dialect: GeminiDialect) -> None:
        rules = rules_for(dialect, request.model)
        self._request = request
        self._schema = bool(request.params) and schema_tool_wanted(request, rules)
        self._per_prompt = rules.searches_per_prompt
        self._head = Answer()
        self._usage: UsageBody | None = None
        self._told = Usage()
        self._runs: list[_Run | Function | dict[str, Any]] = []
        self._calls: list[ToolCall] = []
        self._structured: str | None = None
        # Text that may turn out to be a mere preface of the structured answer.
        self._held: list[str] = []
        self._images: list[Image] = []
        self._audio: list[bytes] = []
        self._mime = ""
        self._grounding: dict[str, Any] | None = None
        self._recited: dict[str, Any] | None = None
        self._token: str | None = None
        self._message: str | None = None
        self.reason: str | None = None
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Remember something unusual; the first twenty are kept."""
        if len(self.notes) < _MOST_NOTES and text not in self.notes:
            self.notes.append(text)

    def take(self, answer: Answer, payload: bytes, out: list[Piece], *, whole: bool = False) -> None:
        """
        Take an answer or a chunk of one; of several candidates the first is the answer.

        Args:
            payload: the JSON that was read.
            whole: whether the first candidate counts however it is numbered.
        """
        if self._head.model_version is None or self._head.response_id is None:
            self._head.response_id = self._head.response_id or answer.response_id
            self._head.model_version = self._head.model_version or answer.model_version
        for position, candidate in enumerate(answer.candidates or ()):
            if whole or not candidate.index:
                self._candidate(candidate, payload, position, out)
                break
        if answer.usage_metadata is not None:
            self._count(answer.usage_metadata, out)

    def _count(self, body: UsageBody, out: list[Piece]) -> None:
        known = self._usage
        if known is None:
            self._usage = body
        elif body == known:
            return
        else:
            known.update(body)
        now = self.usage
        if now != self._told:
            self._told = now
            out.append(UsageEvent(now))

    @property
    def usage(self) -> Usage:
        """Tokens as last reported."""
        found = searches_of(self._grounding, per_prompt=self._per_prompt) if self._grounding else 0
        return usage_of(self._usage, found) if self._usage is not None else Usage(web_searches=found)

    def _candidate(self, candidate: Candidate, payload: bytes, position: int, out: list[Piece]) -> None:
        content = candidate.content
        sent: list[dict[str, Any]] | None = None
        for index, part in enumerate((content.parts if content is not None else None) or ()):
            text = part.text
            if text is not None and part == Part(text, part.thought):
                # Nothing but text, the case of nearly every part.
                if text:
                    self._say(text, out, thought=bool(part.thought))
                continue
            call = part.function_call
            if call is not None and call.id is None and call.partial_args is None and part.thought_signature is None:
                self._call(call, out)
                continue
            if sent is None:
                sent = parts_as_sent(payload, position)
            self._special(part, sent[index], out)
        if candidate.grounding_metadata is not None or candidate.citation_metadata is not None:
            self._grounding = candidate.grounding_metadata or self._grounding
            self._recited = candidate.citation_metadata or self._recited
        if candidate.continuation_token is not None:
            self._token = candidate.continuation_token
        if candidate.finish_reason is not None and candidate.finish_reason != _UNSPECIFIED:
            self.reason = candidate.finish_reason
            self._message = candidate.finish_message

    def _say(self, text: str, out: list[Piece], *, thought: bool) -> None:
        last = self._runs[-1] if self._runs else None
        if not isinstance(last, _Run) or last.thought is not thought:
            last = _Run(thought=thought)
            self._runs.append(last)
        last.pieces.append(text)
        if thought or self._schema:
            self._tell(text, out, thought=thought)
        else:
            out.append(text)

    def _tell(self, text: str, out: list[Piece], *, thought: bool) -> None:
        if thought:
            out.append(ReasoningEvent(text))
        else:
            (self._held if self._schema else out).append(text)

    def _call(self, function: Function, out: list[Piece], sent: dict[str, Any] | None = None) -> None:
        arguments = function.arguments
        if self._schema and function.name == SCHEMA_TOOL:
            if self._structured is None:
                self._structured = arguments
                out.append(arguments)
            return
        position = len(self._calls)
        call_id = function.id or f"call_{len(self._request.messages)}_{position}"
        call = ToolCall(call_id, function.name, raw_arguments=arguments)
        self._calls.append(call)
        self._runs.append(function if sent is None else sent)
        out.append(ToolCallDeltaEvent(position, call_id, function.name, arguments))
        out.append(ToolCallEvent(call))

    def _special(self, part: Part, sent: dict[str, Any], out: list[Piece]) -> None:
        """A part that must be given back as it came."""
        if part.function_call is not None:
            if part.function_call.partial_args is not None:
                self.note("a tool call came in pieces, which are not put together")
            self._call(part.function_call, out, sent)
            return
        blob = part.inline_data
        if blob is not None and part.thought_signature is None and (part.thought or _is_sound(blob)):
            # Neither is wanted back: what a model drew while it thought is a draft of the picture that follows.
            if not part.thought:
                self._media(blob)
            return
        self._runs.append(sent)
        if part.text:
            self._tell(part.text, out, thought=bool(part.thought))
        if blob is not None and not part.thought:
            self._media(blob)
        elif part.file_data is not None and isinstance(uri := part.file_data.get("fileUri"), str):
            self._images.append(Image(url=uri, mime_type=part.file_data.get("mimeType")))
        for kind in sent.keys() - _READ:
            self.note(f"a part of kind {kind!r} is kept in opaque['payload'] only")

    def _media(self, blob: Blob) -> None:
        try:
            data = binascii.a2b_base64(blob.data.translate(_STANDARD), strict_mode=True)
        except ValueError:
            self.note(f"{blob.mime_type or 'data'} that is not base64 was skipped")
            return
        if _is_sound(blob):
            self._audio.append(data)
            self._mime = self._mime or blob.mime_type
        elif blob.mime_type.startswith("image/"):
            self._images.append(Image(data=data, mime_type=blob.mime_type))
        else:
            self.note(f"data of type {blob.mime_type!r} is kept in opaque['payload'] only")

    def settle(self, out: list[Piece]) -> None:
        """Give out what was held back, as no more comes."""
        if self._held and self._structured is None:
            out.extend(self._held)
        self._held = []

    def _texts(self, *, thought: bool) -> str:
        pieces: list[str] = []
        for run in self._runs:
            if isinstance(run, _Run):
                if run.thought is thought:
                    pieces += run.pieces
            elif isinstance(run, dict) and bool(run.get("thought")) is thought and isinstance(run.get("text"), str):
                pieces.append(run["text"])
        return "".join(pieces)

    def _payload(self) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        for run in self._runs:
            if isinstance(run, _Run):
                text = {"text": "".join(run.pieces)}
                parts.append({**text, "thought": True} if run.thought else text)
            elif isinstance(run, Function):
                parts.append({"functionCall": {"name": run.name, "args": msgspec.json.decode(run.arguments)}})
            else:
                parts.append(run)
        return parts

    def _finish(self) -> str | None:
        """Ours for the server's word; a call ends with STOP too."""
        if self.reason is None:
            return None
        finish = _FINISH.get(self.reason)
        if finish is None:
            self.note(f"unknown finishReason {self.reason[:80]!r} read as 'stop'")
            finish = "stop"
        elif finish in ("content_filter", "error"):
            self.note(f"finishReason {self.reason}" + (f": {self._message[:300]}" if self._message else ""))
        return "tool_calls" if finish == "stop" and self._calls else finish

    def response(self, raw: Any = None) -> LLMResponse:
        """The answer as it stands; its finish reason is None while it has no end."""
        request = self._request
        finish = self._finish()
        content = self._texts(thought=False) if self._structured is None else self._structured
        return LLMResponse(
            content=content,
            model_name=request.model,
            usage=self.usage,
            finish_reason=finish,
            model=self._head.model_version,
            provider=request.provider,
            tool_calls=list(self._calls),
            reasoning=self._texts(thought=True) or None,
            citations=citations_of(content, self._grounding, self._recited),
            images=list(self._images),
            audio_data=as_wav(b"".join(self._audio), self._mime, request) if self._audio else None,
            request_id=self._head.response_id,
            dropped=request.dropped,
            notes=tuple(self.notes),
            opaque=opaque_of(self._payload(), request, self._token if finish in ("pause", "length") else None),
            service_tier=tier_of(self._usage) if self._usage is not None else None,
            raw_body=raw,
        )


def _is_sound(blob: Blob) -> bool:
    return blob.mime_type.startswith("audio/")
