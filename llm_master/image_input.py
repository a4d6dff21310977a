"""
An image as a caller gives it (URL, data URI, bytes, file), made a part of a chat message.
"""

from __future__ import annotations

import binascii
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llm_master.errors import InvalidRequestError
from llm_master.redaction import shown

__all__ = [
    "MAX_IMAGE_BYTES",
    "SOURCES",
    "Files",
    "image_from_path",
    "image_part",
    "image_url",
    "sniff_mime",
    "typed_image",
]

#: The largest image that is taken from a file, from bytes or as a data URI; no provider takes more in a request.
MAX_IMAGE_BYTES = 20 * 1024 * 1024

#: Keys of a typed part under which an image may stand.
SOURCES = ("image", "url", "image_url", "path", "data")

_MIME_KEYS = ("mime_type", "media_type", "mimeType")
_FILE_HINT = "a file is given as pathlib.Path(...), in image_paths, or as {'type': 'image', 'path': ...}"


class Files(NamedTuple):
    """
    What is known about reading files.

    Args:
        read: gives the bytes of a path; None: files cannot be read here.
        limit: bytes that an image may have.
    """

    read: Callable[[str], bytes] | None
    limit: int


def sniff_mime(data: bytes) -> str | None:
    """The mime type that a file's first bytes show: an image format or PDF; None when they show none."""
    for magic, mime in _MAGIC:
        if data.startswith(magic):
            return mime
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return {b"avif": "image/avif", b"heic": "image/heic", b"mif1": "image/heif"}.get(data[8:12])
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    return "image/svg+xml" if head.startswith((b"<svg", b"<?xml")) and b"<svg" in head else None


_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
)


# Formats whose first bytes leave no doubt; servers refuse one that is sent under another name.
_SURE = ("image/png", "image/jpeg", "image/gif", "image/webp")


def typed_image(part: dict[str, Any], where: str, files: Files) -> dict[str, Any]:
    """
    The canonical form of a part of type ``image_url``, ``input_image`` or ``image``; the same object if it is that.

    Raises:
        InvalidRequestError: it holds no image or several, or one that cannot be used.
    """
    given = [key for key in SOURCES if part.get(key) is not None]
    if len(given) != 1:
        raise InvalidRequestError(f"{where} must hold one of {', '.join(SOURCES)}, not {given or 'none'}")
    value, inner, used = part[given[0]], {}, ["type", "detail", given[0]]
    if isinstance(value, Mapping) and given[0] in ("image_url", "image"):
        inner, value = dict(value), value.get("url")
    if given[0] == "data" and isinstance(value, str) and not value.startswith("data:"):
        value = _decoded("".join(value.split()), where, files)
    if given[0] == "path":
        url = image_from_path(value, f"{where}.path", files)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        url = _from_bytes(bytes(value), where, files, _stated_mime(part))
        used += _MIME_KEYS
    else:
        url = image_url(value, f"{where}.{given[0]}", files)
    if inner and part["type"] == "image_url" and url is inner.get("url") and "detail" not in part:
        return part
    return image_part({k: v for k, v in part.items() if k not in used}, url, part.get("detail"), inner)


def image_part(
    rest: dict[str, Any], url: str, detail: str | None = None, inner: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A part of type ``image_url`` with its detail and the other keys that it had (``rest``, ``inner``)."""
    image = {**(inner or {}), "url": url}
    if detail is not None:
        image.setdefault("detail", detail)
    return {"type": "image_url", "image_url": image, **rest}


def _stated_mime(part: dict[str, Any]) -> str | None:
    return next((part[key] for key in _MIME_KEYS if isinstance(part.get(key), str)), None)


def image_url(value: Any, where: str, files: Files) -> str:
    """
    The URL of an image given as http(s) URL, data URI, bytes or path object; a plain text is never taken for a file.

    Raises:
        InvalidRequestError: it is none of these, too large, unreadable or not an image; the message names it.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(value), where, files)
    if isinstance(value, os.PathLike):
        return image_from_path(value, where, files)
    if not isinstance(value, str):
        raise InvalidRequestError(f"{where} must be an image's URL, data URI, bytes or path, not {shown(value)}")
    scheme = value[:8].lower()
    if scheme.startswith("data:"):
        head, found, payload = value.partition(",")
        mime, _, encoding = head[5:].partition(";")
        if not found or not mime.lower().startswith("image/") or not encoding.lower().endswith("base64"):
            raise InvalidRequestError(f"{where} is not a data URI of an image; write data:image/png;base64,...")
        return _data_uri(value, payload, where, files)
    if not scheme.startswith(("https://", "http://")) or not value.isprintable() or " " in value:
        raise InvalidRequestError(f"{where} ({shown(value)}) is neither an http(s) URL nor a data URI; {_FILE_HINT}")
    return value


def _data_uri(value: str, payload: str, where: str, files: Files) -> str:
    """The same data URI; without line breaks, and with the type that its bytes show where it names another."""
    plain = "".join(payload.split())
    data = _decoded(plain, where, files)
    stated = value[5:].partition(";")[0].lower()
    seen = sniff_mime(data[:64])
    if seen == "application/pdf":
        raise InvalidRequestError(f"{where} is not an image: it looks like {seen}; give it as {{'type': 'file', ...}}")
    if seen in _SURE and seen != stated:
        return f"data:{seen};base64,{plain}"
    return value if plain == payload else f"{value[: len(value) - len(payload)]}{plain}"


def _decoded(payload: str, where: str, files: Files) -> bytes:
    # Measured before it is decoded: four characters hold three bytes.
    _check_size(len(payload) * 3 // 4, where, files)
    try:
        data = binascii.a2b_base64(payload, strict_mode=True)
    except ValueError as error:
        raise InvalidRequestError(f"{where} is not valid base64 ({error})") from None
    if not data:
        raise InvalidRequestError(f"{where} is an image without data")
    return data


def image_from_path(path: Any, where: str, files: Files) -> str:
    """
    The data URI of an image file.

    Raises:
        InvalidRequestError: the file is missing, unreadable, too large or not an image; the message names it.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(name := os.fspath(path), str) or not name:
        raise InvalidRequestError(f"{where} must be the path of an image file, not {shown(path)}")
    if files.read is None:
        raise InvalidRequestError(f"{where}: {name!r} cannot be read here; give the image's bytes")
    try:
        data = files.read(name)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequestError(f"{where}: the image file {name!r} cannot be read ({reason})") from error
    return _from_bytes(data, f"{where} ({name!r})", files)


def _from_bytes(data: bytes, where: str, files: Files, stated: str | None = None) -> str:
    _check_size(len(data), where, files)
    mime = sniff_mime(data) or stated
    if mime is None or not mime.startswith("image/"):
        found = f"looks like {mime}" if mime else "is empty" if not data else "has no known image format"
        raise InvalidRequestError(f"{where} is not an image: it {found}; known: PNG, JPEG, GIF, WebP, BMP, TIFF")
    return f"data:{mime};base64,{binascii.b2a_base64(data, newline=False).decode()}"


def _check_size(size: int, where: str, files: Files) -> None:
    if size > files.limit:
        raise InvalidRequestError(f"{where} has {size:,} bytes; an image may have {files.limit:,}: scale it down")
