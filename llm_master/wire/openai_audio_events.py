"""
Speech and transcripts that come piece by piece: the bytes of the body as they are, or server-sent events.

OpenAI and Mistral end their events with one that says ``done`` and what was used, Together and vLLM with ``[DONE]``; a
stream without such an end is cut. Bare bytes have no end of their own: they are whole when HTTP's framing says so.
Sources: the openai package 3.52.0, ``types/audio``; openai-client-base 0.12.0, ``SpeechAudioDeltaEvent``; mistralai
3.7.0, ``models/speechstream*`` and ``models/transcriptionstream*``;
https://docs.together.ai/docs/inference/text-to-speech/streaming; vLLM, ``TranscriptionStreamResponse``; all read
2026-11-21.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from llm_master.answers import SpeechResponse, TranscriptionResponse, TranscriptSegment
from llm_master.bodies import UNREADABLE
from llm_master.classes import Request, Usage
from llm_master.errors import ResponseError
from llm_master.sound import sound_mime
from llm_master.wire.sse_fold import EventFolding

__all__ = ["RawSound", "SpeechEvents", "TranscriptEvents", "used"]

# One event may hold seconds of sound.
_LONGEST_LINE = 64 * 1024 * 1024
# Where the events of one vendor or another hold their sound.
_SOUND = ("audio", "audio_data", "delta")


class _Details(msgspec.Struct):
    audio_tokens: int | None = None


class _Used(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_token_details: _Details | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def used(found: Any) -> Usage:
    """The tokens of an event's ``usage``, none where it counts something else."""
    try:
        counted = msgspec.convert(found, _Used)
    except msgspec.ValidationError:
        return Usage()
    details = counted.input_token_details or _Details()
    given = max(counted.input_tokens or counted.prompt_tokens or 0, 0)
    return Usage(
        input_tokens=given,
        output_tokens=max(counted.output_tokens or counted.completion_tokens or 0, 0),
        input_audio_tokens=min(max(details.audio_tokens or 0, 0), given),
    )


class RawSound:
    """
    The bytes of a body as they are.

    Attributes:
        done, complete: the body has ended as its framing said it would.
        notes: what was unusual.
        pending: what ``feed`` or ``end`` had found when it raised; nothing here.
    """

    def __init__(self, request: Request, kind: str, *, framed: bool = True) -> None:
        self.done = self.complete = False
        self.notes: list[str] = []
        self.pending: Sequence[bytes] = ()
        self._request, self._kind, self._framed = request, kind, framed
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The bytes themselves."""
        self._parts.append(data)
        return [data]

    def end(self) -> list[bytes]:
        """Nothing more; raises ResponseError when there was nothing at all."""
        if not self._parts:
            raise _silence(self._request)
        self.complete = True
        if not self._framed:
            self.notes.append(
                f"{self._request.provider} gave no length of the sound: whether its end was cut off cannot be told"
            )
        return []

    def response(self) -> SpeechResponse:
        """The sound so far."""
        audio = b"".join(self._parts)
        mime = sound_mime(audio) or (self._kind if self._kind.startswith("audio/") else None)
        return SpeechResponse(audio=audio, mime_type=mime, notes=tuple(self.notes))


class _Events(EventFolding):
    """
    What both kinds of events have in common.

    Attributes:
        done, complete: the event that ends the answer has come; what follows is ignored.
    """

    def __init__(self, request: Request, *, rules: Mapping[str, str] | None = None) -> None:
        super().__init__(request, rules, _LONGEST_LINE)
        self._usage = Usage()

    def _fold(self, payloads: list[bytes]) -> list[Any]:
        pieces: list[Any] = []
        self.pending = pieces
        for payload in payloads:
            if self.done:
                break
            if payload.strip() == b"[DONE]":
                self._finish({})
                continue
            try:
                event = msgspec.json.decode(payload)
            except UNREADABLE:
                event = None
            if not isinstance(event, dict) or event.get("error") or event.get("type") == "error":
                self._odd(payload)
            else:
                self._take(event, pieces)
        return pieces

    def _take(self, event: dict[str, Any], pieces: list[Any]) -> None:
        raise NotImplementedError

    def _finish(self, event: dict[str, Any]) -> None:
        """Take the event that ends the answer."""
        if isinstance(event.get("usage"), dict):
            self._usage = used(event["usage"])
        self.complete = self.done = True


class SpeechEvents(_Events):
    """Sound in events."""

    def __init__(self, request: Request, *, rules: Mapping[str, str] | None = None) -> None:
        super().__init__(request, rules=rules)
        self._parts: list[bytes] = []

    def _take(self, event: dict[str, Any], pieces: list[Any]) -> None:
        kind = str(event.get("type", ""))
        if kind.endswith("audio.done"):
            self._finish(event)
        elif kind.endswith((".audio.delta", ".audio_output.delta")):
            text = next((event[name] for name in _SOUND if isinstance(event.get(name), str)), "")
            try:
                data = binascii.a2b_base64(text, strict_mode=True)
            except ValueError as error:
                raise ResponseError(
                    f"{self._request.provider} answered {self._request.model!r} with sound that is no base64"
                    f" ({error}); try again",
                    provider=self._request.provider,
                    model=self._request.model,
                    status_code=200,
                ) from error
            if data:
                self._parts.append(data)
                pieces.append(data)

    def _finish(self, event: dict[str, Any]) -> None:
        super()._finish(event)
        if not self._parts:
            raise _silence(self._request)

    def response(self) -> SpeechResponse:
        """The sound so far."""
        audio = b"".join(self._parts)
        return SpeechResponse(audio=audio, mime_type=sound_mime(audio), usage=self._usage, notes=tuple(self.notes))


class TranscriptEvents(_Events):
    """A transcript in events."""

    def __init__(self, request: Request, *, rules: Mapping[str, str] | None = None) -> None:
        super().__init__(request, rules=rules)
        self._texts: list[str] = []
        self._segments: list[TranscriptSegment] = []
        self._last: dict[str, Any] = {}
        self._language: str | None = None

    def _take(self, event: dict[str, Any], pieces: list[Any]) -> None:
        kind = str(event.get("type", ""))
        if kind.endswith("text.delta"):
            self._say(event.get("delta", event.get("text")), pieces)
        elif kind in ("transcript.text.done", "transcription.done"):
            self._last = event
            if isinstance(event.get("text"), str) and not self._texts:
                self._say(event["text"], pieces)
            self._finish(event)
        elif kind in ("transcript.text.segment", "transcription.segment"):
            self._segments.append(_segment(event))
        elif kind == "transcription.language":
            self._language = str(event.get("audio_language"))
        elif event.get("object") == "transcription.chunk":
            for choice in event.get("choices") or ():
                self._say((choice.get("delta") or {}).get("content"), pieces)
            if isinstance(event.get("usage"), dict):
                self._usage = used(event["usage"])

    def _say(self, text: Any, pieces: list[Any]) -> None:
        if isinstance(text, str) and text:
            self._texts.append(text)
            pieces.append(text)

    def response(self) -> TranscriptionResponse:
        """The transcript so far; the whole text of the last event stands above its pieces."""
        last = self._last
        whole = last.get("text")
        listed = [_segment(each) for each in last.get("segments") or () if isinstance(each, dict)]
        seconds = (last.get("usage") or {}).get("prompt_audio_seconds")
        return TranscriptionResponse(
            text=whole if isinstance(whole, str) else "".join(self._texts),
            model=last.get("model") if isinstance(last.get("model"), str) else None,
            language=_language(last) or self._language,
            duration=float(seconds) if isinstance(seconds, (int, float)) else None,
            segments=listed or list(self._segments),
            usage=self._usage,
            notes=tuple(self.notes),
            raw=last or None,
        )


def _language(event: dict[str, Any]) -> str | None:
    """The one language of a transcript; several of them are in ``raw``."""
    if isinstance(event.get("language"), str):
        return str(event["language"])
    several = event.get("languages")
    if isinstance(several, list) and len(several) == 1 and isinstance(several[0], dict):
        code = several[0].get("code")
        return code if isinstance(code, str) else None
    return None


def _segment(event: dict[str, Any]) -> TranscriptSegment:
    speaker = event.get("speaker") or event.get("speaker_id")
    return TranscriptSegment(
        str(event.get("text", "")),
        float(event.get("start") or 0),
        float(event.get("end") or 0),
        str(speaker) if speaker else None,
    )


def _silence(request: Request) -> ResponseError:
    return ResponseError(
        f"{request.provider} answered {request.model!r} with no sound at all; try again or give a fallback_model=",
        provider=request.provider,
        model=request.model,
        status_code=200,
    )
