"""
An answer in the making: takes the turns of a chat answer, whole or in pieces, and becomes an LLMResponse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_master.classes import Image, LLMResponse, Request, Usage
from llm_master.events import ReasoningEvent, RefusalEvent, StreamEvent, UsageEvent
from llm_master.wire.openai_chat_calls import Calls
from llm_master.wire.openai_chat_media import Audio, add_thoughts, image_from, merge_details, parts_of
from llm_master.wire.openai_chat_messages import THINKING_PART
from llm_master.wire.openai_chat_plan import Plan
from llm_master.wire.openai_chat_shapes import Answer, Turn, tier_of
from llm_master.wire.openai_chat_tools import offered_names

if TYPE_CHECKING:
    from llm_master.wire.openai_chat_text import AnswerReader, ThinkSplitter

__all__ = ["Draft"]

_MOST_NOTES = 20


class Draft:
    """
    What is known of an answer so far.

    ``out`` of its methods is the list to which they append what a reader of the stream is told.

    Attributes:
        plain: whether text may be appended to ``texts`` as it comes.
        texts: the pieces of the content.
        calls: the tool calls.
        reason: the server's finish reason, None while there is none.
        over: whether the server said that nothing more comes.
        usage: tokens as last reported, None while there are none.
        notes: what was unusual.
    """

    __slots__ = (
        "_annotations",
        "_audio",
        "_details",
        "_head",
        "_high",
        "_images",
        "_plan",
        "_reader",
        "_reasonings",
        "_refusals",
        "_request",
        "_think",
        "_thoughts",
        "calls",
        "cost",
        "notes",
        "over",
        "plain",
        "reason",
        "texts",
        "usage",
    )

    def __init__(self, request: Request, plan: Plan) -> None:
        self._request = request
        self._plan = plan
        self.texts: list[str] = []
        self._reasonings: list[str] = []
        self._refusals: list[str] = []
        self._annotations: list[Any] = []
        self._details: list[Any] = []
        self._thoughts: list[dict[str, Any]] = []
        self._images: list[Image] = []
        self._audio: Audio | None = None
        self.calls = Calls(len(request.messages))
        self._head: Answer | None = None
        self._high = ""  # first half of a surrogate pair whose second half comes with the next piece
        self._think: ThinkSplitter | None = None
        self._reader: AnswerReader | None = None
        if not plan.plain_text:
            self._read_between_lines()
        self.plain = self._think is None and self._reader is None
        self.reason: str | None = None
        self.over = False
        self.usage: Usage | None = None
        self.cost: Any = None
        self.notes: list[str] = []

    def _read_between_lines(self) -> None:
        # Its patterns take milliseconds to compile, and most programs never need them.
        from llm_master.wire.openai_chat_text import AnswerReader, ThinkSplitter

        dialect = self._plan.dialect
        if dialect.think_tags:
            self._think = ThinkSplitter()
        names = offered_names(self._request, dialect)
        if names is not None:
            self._reader = AnswerReader(names)

    def note(self, text: str) -> None:
        """Remember something unusual; the first twenty are kept."""
        if len(self.notes) < _MOST_NOTES and text not in self.notes:
            self.notes.append(text)

    @property
    def empty(self) -> bool:
        """Whether nothing of an answer came yet."""
        return not (self.texts or self._reasonings or self._refusals or self.calls or self._images or self._audio)

    @property
    def untouched(self) -> bool:
        """Whether no chunk came at all."""
        return self._head is None

    def head(self, answer: Answer) -> None:
        """Take the fields around the choices; what is set stays until something else is said."""
        known = self._head
        if known is None:
            self._head = Answer(None, None, None, answer.id, answer.model, tier_of(answer), answer.citations)
            return
        known.id = known.id or answer.id
        known.model = known.model or answer.model
        known.service_tier = tier_of(answer) or known.service_tier
        known.citations = answer.citations or known.citations

    def bill(self, usage: Usage | None, cost: Any, out: list[str | StreamEvent]) -> None:
        """Take a usage report; it replaces an earlier one."""
        if cost is not None:
            self.cost = cost
        if usage is not None and usage != self.usage:
            self.usage = usage
            out.append(UsageEvent(usage))

    def add(self, turn: Turn, out: list[str | StreamEvent], *, whole: bool = False) -> None:
        """Take a delta, or with ``whole`` a message."""
        reasoning = turn.reasoning_content or turn.reasoning
        if reasoning:
            self._reason(reasoning, out)
        if turn.reasoning_details:
            if whole:
                self._details += turn.reasoning_details
            else:
                merge_details(self._details, turn.reasoning_details)
        if turn.refusal:
            self._refuse(turn.refusal, out)
        content = turn.content
        if isinstance(content, list):
            self._add_parts(content, out)
        elif content:
            self.add_text(content, out)
        if turn.tool_calls:
            self.calls.add(turn.tool_calls, out, whole=whole)
        elif turn.function_call:
            self.calls.add([{"function": turn.function_call}], out, whole=whole)
        self._add_media(turn, out)

    def _add_media(self, turn: Turn, out: list[str | StreamEvent]) -> None:
        if turn.audio is not None:
            self._add_audio(turn.audio, out)
        for entry in turn.images or ():
            self._add_image(entry)
        if turn.annotations:
            self._annotations += turn.annotations

    def add_text(self, text: str, out: list[str | StreamEvent]) -> None:
        """Take a piece of the content."""
        if self._high or not _is_clean(text):
            text = self._pair(text)
        if self._think is not None:
            reasoning, text = self._think.feed(text)
            if reasoning:
                self._reason(reasoning, out)
            if self._think.settled:
                self._think = None
        if self._reader is not None and text:
            text = self._reader.feed(text)
        self.plain = self._think is None and self._reader is None and not self._high
        if text:
            self.texts.append(text)
            out.append(text)

    def _pair(self, text: str) -> str:
        text = self._high + text
        self._high = ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _reason(self, text: str, out: list[str | StreamEvent]) -> None:
        self._reasonings.append(text)
        out.append(ReasoningEvent(text))

    def _refuse(self, text: str, out: list[str | StreamEvent]) -> None:
        self._refusals.append(text)
        out.append(RefusalEvent(text))

    def _add_parts(self, parts: list[Any], out: list[str | StreamEvent]) -> None:
        if self._plan.dialect.replay_reasoning == THINKING_PART:
            add_thoughts(self._thoughts, parts)
        for kind, piece in parts_of(parts):
            if kind == "text":
                self.add_text(piece, out)
            elif kind == "reasoning":
                self._reason(piece, out)
            elif kind == "refusal":
                self._refuse(piece, out)
            elif kind == "image":
                self._add_image(piece)
            else:
                self.note(f"a content part of type {kind!r} is only in raw")

    def _add_image(self, entry: Any) -> None:
        image = image_from(entry)
        if image is None:
            self.note("an image without address and bytes was skipped")
        else:
            self._images.append(image)

    def _add_audio(self, found: dict[str, Any], out: list[str | StreamEvent]) -> None:
        if self._audio is None:
            self._audio = Audio()
        self._audio.add(found)
        transcript = found.get("transcript")
        if isinstance(transcript, str) and transcript:
            self.add_text(transcript, out)

    def settle(self, out: list[str | StreamEvent], *, cut: bool) -> None:
        """
        Give out what was held back, as no more text comes.

        Args:
            cut: whether the answer was cut off, so that a tool call may be incomplete.
        """
        if self._high:
            self._high = ""
            self.add_text("\ufffd", out)
        if self._think is not None:
            reasoning, text = self._think.finish()
            self._think = None
            if reasoning:
                self._reason(reasoning, out)
            if text:
                self.add_text(text, out)
        if self._reader is not None:
            reader, self._reader = self._reader, None
            text, call = reader.finish(f"call_{len(self._request.messages)}_0")
            if text:
                self.add_text(text, out)
            if call is not None:
                self.calls.add([call.to_dict()], out, whole=True)
        self.plain = True
        self.calls.settle(out, cut=cut)

    def response(self, raw: Any) -> LLMResponse:
        """The answer as it stands."""
        head, request = self._head, self._request
        reason = self._finish_reason()
        reasoning = "".join(self._reasonings)
        audio = self._audio
        if audio is not None and audio.broken:
            self.note("audio that is not base64 was skipped")
        citations = self._annotations or (head.citations if head is not None else None) or []
        return LLMResponse(
            content="".join(self.texts),
            usage=self.usage or Usage(),
            finish_reason=reason,
            model=head.model if head is not None else None,
            provider=request.provider,
            tool_calls=self.calls.result(),
            reasoning=reasoning or None,
            refusal="".join(self._refusals) or None,
            citations=list(citations),
            images=list(self._images),
            audio_data=audio.data if audio is not None else None,
            request_id=head.id if head is not None else None,
            dropped=request.dropped,
            notes=tuple(self.notes),
            opaque=self._opaque(reasoning),
            reported_cost=self.cost,
            service_tier=head.service_tier if head is not None else None,
            raw_body=raw,
        )

    def _finish_reason(self) -> str:
        """Ours for the server's word; what the answer holds counts more than the word."""
        word = self.reason
        if word is None:
            # Without a word only the end of the stream says that the answer is whole.
            reason = "stop" if self.over else "error"
        else:
            known = self._plan.finish.get(word) or self._plan.finish.get(word.lower())
            if known is None:
                self.note(f"unknown finish reason {word!r} read as 'stop'")
            reason = known or "stop"
        if reason == "stop" and self.calls:
            return "tool_calls"
        if reason == "stop" and self._refusals:
            return "refusal"
        return "stop" if reason == "tool_calls" and not self.calls else reason

    def _opaque(self, reasoning: str) -> dict[str, Any] | None:
        dialect = self._plan.dialect
        payload: dict[str, Any] = {}
        if dialect.replay_reasoning is not None and reasoning:
            signed = any(thought["signature"] is not None for thought in self._thoughts)
            payload[dialect.replay_reasoning] = self._thoughts if signed else reasoning
        if dialect.replay_details is not None and self._details:
            payload[dialect.replay_details] = list(self._details)
        if not payload:
            return None
        request = self._request
        return {"family": "openai_chat", "provider": request.provider, "model": request.model, "payload": payload}


def _is_clean(text: str) -> bool:
    """Whether a text has no unpaired surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
