"""
Speech as OpenAI-compatible servers give it: ``POST {base}/audio/speech``; the answer is the sound itself.

Source: the openai package 3.52.0, ``types/audio/speech_create_params.py``, read 2026-11-21.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.answers import SpeechResponse
from llm_master.classes import Request
from llm_master.classify import error_from_object
from llm_master.operations import Operation, provider_params, unreadable
from llm_master.sound import sound_mime

__all__ = ["decode", "encode"]


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
    if "json" in kind:
        try:
            answer = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise unreadable(body, "sound", request) from error
        if answer.get("error") is not None:
            raise error_from_object(answer, provider=request.provider, model=request.model)
        raise unreadable(body, "sound", request)
    if not body or kind.startswith("text/"):
        raise unreadable(body, "sound", request)
    return SpeechResponse(audio=body, mime_type=sound_mime(body) or (kind if kind.startswith("audio/") else None))
