"""
A recording as a caller gives it: bytes, a file, or the path of one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from llm_master.errors import InvalidRequestError

__all__ = ["MAX_AUDIO_BYTES", "Recording", "read_sound", "sound_mime"]

#: The largest recording that is read; most providers take less, which their data says.
MAX_AUDIO_BYTES = 100 * 1024 * 1024

_MAGIC = (
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"\x1a\x45\xdf\xa3", "audio/webm"),
    (b"FORM", "audio/aiff"),
    (b"#!AMR", "audio/amr"),
)
# A type and the ending by which servers know it.
_ENDINGS = {
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "audio/flac": ".flac",
    "audio/ogg": ".ogg",
    "audio/webm": ".webm",
    "audio/mp4": ".m4a",
    "audio/aac": ".aac",
    "audio/aiff": ".aiff",
    "audio/amr": ".amr",
}


class Recording(NamedTuple):
    """A recording: its bytes, the name of the file, its mime type."""

    data: bytes
    filename: str
    mime_type: str


def sound_mime(data: bytes) -> str | None:
    """The mime type that a recording's first bytes show, None when they show none."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "audio/wav"
    if data[4:8] == b"ftyp":
        return "audio/mp4"
    for magic, mime in _MAGIC:
        if data.startswith(magic):
            return mime
    # A frame begins with eleven set bits (twelve with AAC); layers II and III are MP2 and MP3, and FF FE is UTF-16.
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        if data[1] & 0xF6 == 0xF0:
            return "audio/aac"
        return "audio/mpeg" if data[1] & 0x06 in (0x02, 0x04) else None
    return None


def read_sound(audio: Any, most: int = MAX_AUDIO_BYTES) -> Recording:
    """
    A recording and what it is; this reads a file.

    Raises:
        InvalidRequestError: no recording, an empty or too large one, or one whose first bytes show no known format.
    """
    name = ""
    if isinstance(audio, (bytes, bytearray, memoryview)):
        data = bytes(audio)
    elif isinstance(audio, (str, os.PathLike)):
        data, name = _from_path(audio, most)
    elif hasattr(audio, "read"):
        data = audio.read(most + 1)
        name = os.path.basename(str(getattr(audio, "name", "") or ""))  # noqa: PTH119  # a name, maybe of no file
        if not isinstance(data, bytes):
            raise InvalidRequestError("the audio file is open as text; open it with 'rb'")
    else:
        raise InvalidRequestError(f"audio is a {type(audio).__name__}; give bytes, a path or a file opened with 'rb'")
    if not data:
        raise InvalidRequestError(f"the recording{f' {name}' if name else ''} is empty; give one with sound in it")
    if len(data) > most:
        raise InvalidRequestError(f"the recording is over {most // 2**20} MiB; compress it or send it in parts")
    mime = sound_mime(data)
    if mime is None:
        raise InvalidRequestError(
            f"the recording{f' {name}' if name else ''} begins like no known format of sound;"
            f" give one of {', '.join(ending[1:] for ending in _ENDINGS.values())}"
        )
    # Servers tell the format by the name's ending, so a name without one gets the right one.
    has_ending = os.path.splitext(name)[1]  # noqa: PTH122  # as above
    return Recording(data, name if has_ending else f"{name or 'audio'}{_ENDINGS[mime]}", mime)


def _from_path(path: str | os.PathLike[str], most: int) -> tuple[bytes, str]:
    text = os.fspath(path)
    if isinstance(text, str) and text.startswith(("http://", "https://", "data:")):
        raise InvalidRequestError("audio is an address; download it and give its bytes or a path")
    found = Path(text)
    try:
        with found.open("rb") as file:
            return file.read(most + 1), found.name  # one byte more shows that it is too large
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"the recording {found.name!r} cannot be read: {error.__class__.__name__}") from error
