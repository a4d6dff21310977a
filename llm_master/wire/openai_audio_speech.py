"""
Speech as OpenAI-compatible servers give it: ``POST {base}/audio/speech``; the answer is the sound itself, events with
pieces of it, or JSON with it in base64 (Mistral).

Sources: the openai package 3.52.0, ``types/audio/speech_create_params.py``; mistralai 3.7.0, ``speech.py``; read
2026-11-21.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from llm_master.answers import SpeechResponse
from llm_master.classes import Request
from llm_master.classify import error_from_object
from llm_master.operations import Operation, provider_params, unreadable
from llm_master.sound import sound_mime
from llm_master.wire.openai_audio_events import RawSound, SpeechEvents, used

__all__ = ["decode", "encode", "fold"]


def encode(text: str, request: Request, operation: Operation) -> tuple[bytes, dict[str, str]]:
    """The JSON body, and that the answer is no JSON."""
    body = {"model": request.model, "input": text, **provider_params(operation, request)}
    return msgspec.json.encode(body), {"Accept": "*/*"}


def decode(body: bytes, headers: Any, text: str, request: Request) -> SpeechResponse:  # noqa: ARG001  # as all
    """
    The sound; its bytes tell what it is before the header does.

    Raises:
        ProviderError: the answer is an error, a page or empty.
    """
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if "event-stream" in kind:
        return _joined(body, request)
    if "json" in kind:
        return _from_json(body, request)
    if not body or kind.startswith("text/"):
        raise unreadable(body, "sound", request)
    return SpeechResponse(audio=body, mime_type=sound_mime(body) or (kind if kind.startswith("audio/") else None))


def fold(
    kind: str, request: Request, *, framed: bool = True, rules: Mapping[str, str] | None = None
) -> RawSound | SpeechEvents | None:
    """
    What reads an answer of a content type piece by piece, None for one that is whole.

    Args:
        framed: whether HTTP says where the answer ends.
    """
    if "event-stream" in kind:
        return SpeechEvents(request, rules=rules)
    return None if "json" in kind or kind.startswith("text/") else RawSound(request, kind, framed=framed)


def _joined(body: bytes, request: Request) -> SpeechResponse:
    """Events that came all at once, as ``stream_format="sse"`` has them."""
    events = SpeechEvents(request)
    events.feed(body)
    events.end()
    if not events.complete:
        raise unreadable(body, "whole sound", request)
    return events.response()


def _from_json(body: bytes, request: Request) -> SpeechResponse:
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
        audio = binascii.a2b_base64(answer.get("audio_data") or "", strict_mode=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise unreadable(body, "sound", request) from error
    if answer.get("error") is not None:
        raise error_from_object(answer, provider=request.provider, model=request.model)
    if not audio:
        raise unreadable(body, "sound", request)
    return SpeechResponse(audio=audio, mime_type=sound_mime(audio), usage=used(answer.get("usage")))
