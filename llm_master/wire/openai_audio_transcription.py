"""
Transcripts as OpenAI-compatible servers give them: ``POST {base}/audio/transcriptions``, a form with a file.

Sources: the openai package 3.52.0, ``resources/audio/transcriptions.py`` and ``types/audio``;
https://console.groq.com/docs/speech-to-text; https://docs.mistral.ai/studio-api/audio/speech_to_text; read 2026-11-21.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from llm_master.answers import TranscriptionResponse, TranscriptSegment, TranscriptWord
from llm_master.classes import Request, Usage
from llm_master.classify import error_from_object
from llm_master.errors import UnsupportedParameterError
from llm_master.operations import Operation, provider_params, unreadable
from llm_master.sound import Recording
from llm_master.wire.openai_audio_multipart import form

__all__ = ["decode", "encode"]


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


class _Details(msgspec.Struct):
    audio_tokens: int | None = None


class _Used(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_token_details: _Details | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
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
    body = form(fields, ("file", recording.filename, recording.mime_type, recording.data), boundary)
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
    try:
        answer = _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise unreadable(body, "transcript", request) from error
    if answer.error is not None:
        raise error_from_object({"error": answer.error}, provider=request.provider, model=request.model)
    if answer.text is None:
        raise unreadable(body, "transcript", request)
    used = answer.usage or _Used()
    segments = answer.segments or []
    words = answer.words if answer.words is not None else [w for each in segments for w in each.words or ()]
    details = used.input_token_details or _Details()
    seconds = (answer.duration, used.seconds, used.prompt_audio_seconds)
    return TranscriptionResponse(
        text=answer.text,
        model=answer.model,
        language=answer.language,
        duration=next((each for each in seconds if each is not None), None),
        segments=[TranscriptSegment(s.text, s.start, s.end, s.speaker or s.speaker_id) for s in segments],
        words=[TranscriptWord(each.word or each.text or "", each.start, each.end) for each in words],
        usage=Usage(
            input_tokens=used.input_tokens or used.prompt_tokens or 0,
            output_tokens=used.output_tokens or used.completion_tokens or 0,
            input_audio_tokens=details.audio_tokens or 0,
        ),
        raw=msgspec.json.decode(body),
    )


def _plain(body: bytes, request: Request) -> str:
    try:
        text = body.decode()
        # Some servers send the text as a JSON string.
        return str(msgspec.json.decode(text, type=str)) if text.startswith('"') else text
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise unreadable(body, "transcript", request) from error
