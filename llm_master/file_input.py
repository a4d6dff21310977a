"""
A file or a recording as a caller gives it (bytes, path, data URI, URL), made a part of a chat message.

A file is ``{"type": "file", "file": {"filename", "file_data"}}`` whose ``file_data`` is a data URI or an address, a
recording ``{"type": "input_audio", "input_audio": {"data", "format"}}`` whose ``data`` is base64, or one with ``url``,
an address, in place of ``data``.
"""

from __future__ import annotations

import binascii
import os
from collections.abc import Mapping
from typing import Any

from llm_master.errors import InvalidRequestError
from llm_master.image_input import Files, image_part, image_url, sniff_mime
from llm_master.media import mime_of_name
from llm_master.redaction import shown

__all__ = ["MAX_FILE_BYTES", "bare_part", "sniff_audio", "typed_audio", "typed_file"]

#: The largest file or recording that is taken as data; no provider takes a larger one in a request.
MAX_FILE_BYTES = 50 * 1024 * 1024

_FILE_SOURCES = ("file_data", "file_url", "data", "url", "path", "file")
_AUDIO_SOURCES = ("input_audio", "audio", "data", "path", "url")
_NAMES = ("filename", "name", "title")
_MIME_KEYS = ("mime_type", "media_type", "mimeType")
_ADDRESSES = ("https://", "http://", "gs://", "s3://")
_WORDS = {
    "mpeg": "mp3",
    "x-wav": "wav",
    "wave": "wav",
    "vnd.wave": "wav",
    "mp4": "m4a",
    "x-m4a": "m4a",
    "x-flac": "flac",
    "oga": "ogg",
}


def sniff_audio(data: bytes) -> str | None:
    """The format that a recording's first bytes show, in the word that ``input_audio`` has for it; None for none."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    if data[4:8] == b"ftyp" and data[8:11] == b"M4A":
        return "m4a"
    for magic, word in ((b"ID3", "mp3"), (b"fLaC", "flac"), (b"OggS", "ogg"), (b"\x1aE\xdf\xa3", "webm")):
        if data.startswith(magic):
            return word
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        return "aac"
    # An MPEG frame: eleven bits set, a version and a layer that exist.
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x18 != 0x08 and data[1] & 0x06:
        return "mp3"
    return None


def bare_part(value: Any, where: str, files: Files) -> dict[str, Any]:
    """
    The part for bytes or a path object that stand alone: their first bytes say whether it is an image, PDF or sound.

    Raises:
        InvalidRequestError: it cannot be read, is too large, or is of a kind that only a typed part can name.
    """
    data = value
    if isinstance(value, os.PathLike):
        data = _read(value, where, files)
    data = bytes(data)
    mime = sniff_mime(data)
    if mime is None and sniff_audio(data):
        return typed_audio({"type": "input_audio", "data": data}, where, files)
    name = os.fspath(value) if isinstance(value, os.PathLike) else None
    if mime == "application/pdf" or (mime is None and name is not None and _is_file_name(name)):
        part = {"type": "file", "data": data}
        return typed_file(part if name is None else {**part, "filename": os.path.basename(name)}, where, files)  # noqa: PTH119  # the path may be of another system's kind
    return image_part({}, image_url(value, where, files))


def _is_file_name(name: object) -> bool:
    mime = mime_of_name(name)
    return mime is not None and not mime.startswith(("image/", "audio/"))


def typed_file(part: dict[str, Any], where: str, files: Files) -> dict[str, Any]:
    """
    The canonical form of a part of type ``file`` or ``input_file``; the same object if it is that.

    Raises:
        InvalidRequestError: it holds no file or several, or one that cannot be used.
    """
    inner = dict(part["file"]) if isinstance(part.get("file"), Mapping) else {}
    flat = {key: value for key, value in part.items() if not (key == "file" and inner)}
    fields = {**flat, **inner}
    file_id = fields.get("file_id")
    given = [key for key in _FILE_SOURCES if fields.get(key) is not None]
    if file_id is None and len(given) != 1:
        raise InvalidRequestError(f"{where} must hold one of {', '.join(_FILE_SOURCES)}, not {given or 'none'}")
    used = {"type", "file", "file_id", *_FILE_SOURCES, *_NAMES, *_MIME_KEYS}
    rest = {key: value for key, value in flat.items() if key not in used}
    name = next((fields[key] for key in _NAMES if isinstance(fields.get(key), str) and fields[key]), None)
    if file_id is not None:
        if part["type"] == "file" and inner:
            return part
        return {"type": "file", "file": {**({"filename": name} if name else {}), "file_id": file_id}, **rest}
    value, key = fields[given[0]], given[0]
    path = value if key == "path" or isinstance(value, os.PathLike) else None
    if path is not None:
        value = _read(path, where, files)
        name = name or os.path.basename(os.fspath(path))  # noqa: PTH119  # as above
    url = _file_url(value, f"{where}.{key}", name, fields)
    if inner and part["type"] == "file" and inner.get("file_data") is url:
        return part
    own = {each: found for each, found in inner.items() if each not in used}
    return {"type": "file", "file": {"filename": name or _name_for(url), "file_data": url, **own}, **rest}


def _file_url(value: Any, where: str, name: str | None, fields: Mapping[str, Any]) -> str:
    if isinstance(value, str):
        if value[:5].lower() == "data:":
            head, comma, payload = value.partition(",")
            if not comma or not payload:
                raise InvalidRequestError(f"{where} is a data URI without data")
            if head.lower().endswith(";base64"):
                plain = "".join(payload.split())
                _decoded(plain, where)
                return value if plain == payload else f"{head},{plain}"
            return value
        if value.lower().startswith(_ADDRESSES):
            if not value.isprintable() or " " in value:
                raise InvalidRequestError(f"{where} ({shown(value)}) is no address; percent-encode its blanks")
            return value
        if where.endswith((".file", ".url", ".file_url")):
            raise InvalidRequestError(
                f"{where} ({shown(value)}) is neither an address nor a data URI; a file is given as pathlib.Path(...)"
                " or as {'type': 'file', 'path': ...}"
            )
        value = _decoded("".join(value.split()), where)
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise InvalidRequestError(f"{where} must be a file's bytes, path, data URI or address, not {shown(value)}")
    data = bytes(value)
    _check_size(len(data), where)
    mime = sniff_mime(data) or mime_of_name(name) or _stated(fields) or _as_text(data)
    if mime is None or not data:
        raise InvalidRequestError(
            f"{where} {'has an unknown type; give mime_type= or a filename' if data else 'is empty'}"
        )
    return f"data:{mime};base64,{binascii.b2a_base64(data, newline=False).decode()}"


def _as_text(data: bytes) -> str | None:
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return None if b"\0" in data else "text/plain"


def _stated(fields: Mapping[str, Any]) -> str | None:
    return next((fields[key].lower() for key in _MIME_KEYS if isinstance(fields.get(key), str)), None)


def _name_for(url: str) -> str:
    """A file's name where the caller gives none: some servers read its kind from it."""
    if url[:5].lower() != "data:":
        return url.partition("?")[0].partition("#")[0].rpartition("/")[2] or "file"
    kind = url[5:].partition(",")[0].partition(";")[0].rpartition("/")[2].lower()
    return f"file.{'txt' if kind == 'plain' else kind or 'txt'}"


def typed_audio(part: dict[str, Any], where: str, files: Files) -> dict[str, Any]:
    """
    The canonical form of a part of type ``input_audio`` or ``audio``; the same object if it is that.

    Raises:
        InvalidRequestError: it holds no recording, or one that cannot be used.
    """
    given = [key for key in _AUDIO_SOURCES if part.get(key) is not None]
    if len(given) != 1:
        raise InvalidRequestError(f"{where} must hold one of {', '.join(_AUDIO_SOURCES)}, not {given or 'none'}")
    key, value, inner = given[0], part[given[0]], {}
    if isinstance(value, Mapping):
        inner, value = dict(value), value.get("data") or value.get("url")
    place = f"{where}.{key}"
    word = inner.get("format") or part.get("format") or (_stated(part) or "").rpartition("/")[2] or None
    if key == "path" or isinstance(value, os.PathLike):
        value = _read(value, where, files)
    if isinstance(value, str):
        if value.lower().startswith(_ADDRESSES):
            return _audio_at(value, part, inner, place)
        if value[:5].lower() == "data:":
            head, _, value = value.partition(",")
            word = word or head[5:].partition(";")[0].rpartition("/")[2]
        elif inner and isinstance(word, str) and value:
            _decoded(value, place)
            return part if part["type"] == "input_audio" else {**part, "type": "input_audio"}
        value = _decoded(value, place)
    if not isinstance(value, (bytes, bytearray, memoryview)) or not value:
        raise InvalidRequestError(f"{place} must be a recording's bytes, path or base64, not {shown(value)}")
    data = bytes(value)
    _check_size(len(data), place)
    found = sniff_audio(data) or (word and _WORDS.get(str(word).lower(), str(word).lower()))
    if not found:
        raise InvalidRequestError(f"{place} has no known audio format; give format='wav' or the like")
    used = {"type", "format", *_AUDIO_SOURCES, *_MIME_KEYS}
    audio = {"data": binascii.b2a_base64(data, newline=False).decode(), "format": found}
    return {"type": "input_audio", "input_audio": audio, **{k: v for k, v in part.items() if k not in used}}


def _audio_at(url: str, part: dict[str, Any], inner: dict[str, Any], place: str) -> dict[str, Any]:
    """A recording that stands at an address; its format is known where the caller says it."""
    if not url.isprintable() or " " in url:
        raise InvalidRequestError(f"{place} ({shown(url)}) is no address; percent-encode its blanks")
    if part["type"] == "input_audio" and inner.get("url") is url and "data" not in inner:
        return part
    word = inner.get("format") or part.get("format")
    used = {"type", "format", *_AUDIO_SOURCES, *_MIME_KEYS}
    audio = {"url": url, **({"format": word} if word else {})}
    return {"type": "input_audio", "input_audio": audio, **{k: v for k, v in part.items() if k not in used}}


def _read(path: Any, where: str, files: Files) -> bytes:
    if not isinstance(path, (str, os.PathLike)) or not isinstance(name := os.fspath(path), str) or not name:
        raise InvalidRequestError(f"{where} must be the path of a file, not {shown(path)}")
    if files.read is None:
        raise InvalidRequestError(f"{where}: {name!r} cannot be read here; give its bytes")
    try:
        return files.read(name)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequestError(f"{where}: the file {name!r} cannot be read ({reason})") from error


def _decoded(payload: str, where: str) -> bytes:
    _check_size(len(payload) * 3 // 4 - 2, where)
    try:
        return binascii.a2b_base64(payload, strict_mode=True)
    except ValueError as error:
        raise InvalidRequestError(f"{where} is not valid base64 ({error})") from None


def _check_size(size: int, where: str) -> None:
    if size > MAX_FILE_BYTES:
        raise InvalidRequestError(f"{where} has {size:,} bytes; a file may have {MAX_FILE_BYTES:,}: split it")
