"""
Transcripts as OpenAI-compatible servers give them: ``POST {base}/audio/transcriptions``, a form with a file.

Sources: the openai package 3.52.0, ``resources/audio/transcriptions.py`` and ``types/audio``;
https://console.groq.com/docs/speech-to-text; https://docs.mistral.ai/studio-api/audio/speech_to_text; read 2026-11-21.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from llm_master.answers import TranscriptionResponse, TranscriptSegment, TranscriptWord
from llm_master.classes import Request
from llm_master.classify import error_from_object
from llm_master.errors import UnsupportedParameterError
from llm_master.operations import Operation, provider_params, read_body, unreadable
from llm_master.sound import Recording
from llm_master.wire.openai_audio_events import TranscriptEvents, used
from llm_master.wire.openai_audio_multipart import form

__all__ = ["decode", "encode", "fold"]


class _Word(msgspec.Struct):
    start: float
    end: float
    word: str | None = None
    text: str | None = None


class _Segment(msgspec.Struct):
    start: float
    end: float
    text: str
    speaker: str | None = None
    speaker_id: str | None = None
    words: list[_Word] | None = None


class _Used(msgspec.Struct):
    seconds: float | None = None
    prompt_audio_seconds: float | None = None


class _Answer(msgspec.Struct):
    text: str | None = None
    model: str | None = None
    language: str | None = None
    duration: float | None = None
    segments: list[_Segment] | None = None
    words: list[_Word] | None = None
    usage: _Used | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Answer)


def encode(recording: Recording, request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """
    The form and the header that says where its parts end.

    Raises:
        UnsupportedParameterError: the recording is larger than the provider takes, or a parameter is unknown to it.
    """
    most = operation.bytes
    if most is not None and len(recording.data) > most:
        raise UnsupportedParameterError(
            f"{request.provider} takes recordings up to {most // 2**20} MiB for {request.model!r}, this one has"
            f" {len(recording.data) / 2**20:.1f} MiB; compress it or send it in parts",
            parameter="audio",
        )
    boundary = secrets.token_hex(16)
    fields = {"model": request.model, **provider_params(operation, request)}
    file = ("file", recording.filename, recording.mime_type, recording.data)
    body = form(fields, file, boundary, brackets=operation.brackets)
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def decode(body: bytes, headers: Any, recording: Recording, request: Request) -> TranscriptionResponse:  # noqa: ARG001  # as all
    """
    The transcript; an answer that is no JSON is the text itself (``response_format`` text, srt, vtt).

    Raises:
        ProviderError: the answer is an error or cannot be read.
    """
    kind = headers.get("Content-Type", "").lower()
    wanted = request.params.get("response_format")
    if "json" not in kind or wanted in ("text", "srt", "vtt"):
        if "html" in kind or (wanted not in ("text", "srt", "vtt") and "text/" not in kind):
            raise unreadable(body, "transcript", request)
        return TranscriptionResponse(text=_plain(body, request))
    answer, notes = read_body(_decoder, body, "transcript", request, (_Used, ("usage",)))
    if answer.error is not None:
        raise error_from_object({"error": answer.error}, provider=request.provider, model=request.model)
    if answer.text is None:
        raise unreadable(body, "transcript", request)
    billed = answer.usage or _Used()
    segments = answer.segments or []
    words = answer.words if answer.words is not None else [w for each in segments for w in each.words or ()]
    # Beside how long the recording is, the usage says for how many seconds it is billed
    # (https://www.rubydoc.info/gems/openai/OpenAI/Models/Audio/TranscriptionVerbose/Usage, read 2026-11-21).
    counted = billed.seconds if billed.seconds is not None else billed.prompt_audio_seconds
    raw = msgspec.json.decode(body)
    duration = answer.duration if answer.duration is not None else counted
    paid = counted if counted is not None else duration
    return TranscriptionResponse(
        text=answer.text,
        model=answer.model,
        language=answer.language,
        duration=duration,
        segments=[TranscriptSegment(s.text, s.start, s.end, s.speaker or s.speaker_id) for s in segments],
        words=[TranscriptWord(each.word or each.text or "", each.start, each.end) for each in words],
        usage=used(raw.get("usage")),
        notes=notes,
        raw=raw,
        billed=None if paid is None else {"audio_seconds": paid},
    )


def fold(
    kind: str,
    request: Request,
    *,
    framed: bool = True,  # noqa: ARG001  # as that of speech
    rules: Mapping[str, str] | None = None,
) -> TranscriptEvents | None:
    """What reads an answer of a content type piece by piece, None for one that is whole."""
    return TranscriptEvents(request, rules=rules) if "event-stream" in kind else None


def _plain(body: bytes, request: Request) -> str:
    try:
        text = body.decode()
        # Some servers send the text as a JSON string.
        return str(msgspec.json.decode(text, type=str)) if text.startswith('"') else text
    except (ValueError, RecursionError) as error:
        raise unreadable(body, "transcript", request) from error
