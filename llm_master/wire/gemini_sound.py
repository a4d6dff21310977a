"""
Speech as the caller asked for it: the API gives bare samples, ``audio={"format": "wav"}`` asks for a file.
"""

from __future__ import annotations

import re
import struct

from llm_master.classes import Request

__all__ = ["as_wav"]

_RATE = re.compile(r"rate=(\d+)")
_BARE = ("audio/l16", "audio/pcm")


def as_wav(data: bytes, mime: str, request: Request) -> bytes:
    """
    The sound, with the head of a WAV file where the request wants one and the API gave bare 16-bit samples.

    Args:
        mime: the type that the API names, ``audio/L16;codec=pcm;rate=24000``.
    """
    audio = request.params.get("audio")
    if not isinstance(audio, dict) or audio.get("format") != "wav" or not mime.lower().startswith(_BARE):
        return data
    found = _RATE.search(mime)
    rate = int(found[1]) if found else 24_000
    head = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVEfmt ", 16, 1, 1, rate, rate * 2, 2, 16, b"data", len(data)
    )
    return head + data
