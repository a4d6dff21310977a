"""
Content parts of the chat format as parts of a Gemini turn.

Data travels inline; an address is passed on as ``fileData`` where the server fetches it itself.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

from llm_master.errors import InvalidRequestError
from llm_master.media import FetchNeededError, check_data, data_of, is_address
from llm_master.wire.gemini_draft import Draft, camel, camel_keys

__all__ = ["Part", "mime_of", "parts_of"]

Part = dict[str, Any]

_MIMES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "aac": "audio/aac",
    "m4a": "audio/m4a",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mpeg": "video/mpeg",
}
_SYNONYMS = {"image/jpg": "image/jpeg", "application/x-pdf": "application/pdf", "audio/x-wav": "audio/wav"}
_DETAILS = {"low": "MEDIA_RESOLUTION_LOW", "medium": "MEDIA_RESOLUTION_MEDIUM", "high": "MEDIA_RESOLUTION_HIGH"}
_VIDEO_SITES = ("https://www.youtube.com/", "https://youtube.com/", "https://youtu.be/")
# Fields of a typed part that the API knows beside the data.
_SETTINGS = ("videoMetadata", "mediaResolution", "mediaProcessing", "partMetadata")


def mime_of(part: Part) -> str | None:
    """The mime type of a media part, None for any other."""
    data = part.get("inlineData") or part.get("fileData")
    return str(data.get("mimeType", "")) if isinstance(data, dict) else None


def parts_of(content: Any, draft: Draft, *, name: str | None = None) -> list[Part]:
    """
    The parts of a message's content; empty texts, which the API rejects, are left out.

    Args:
        content: a text, None, or a list of parts.
        draft: takes note of what has no equivalent.
        name: the speaker, put before the first text as ``name: ``.

    Raises:
        InvalidRequestError: a part that cannot be read, or is of a kind that the API cannot take.
        UnsupportedParameterError: an address that this server or model does not fetch.
    """
    if content is None:
        return []
    if isinstance(content, str):
        if not content:
            return []
        return [{"text": f"{name}: {content}" if name else content}]
    if not isinstance(content, list):
        raise InvalidRequestError(
            f"{draft.target}: a message's content is {type(content).__name__}; give a text or a list of parts"
        )
    parts = [made for part in content if (made := _part(part, draft)) is not None]
    return _named(parts, name) if name else parts


def _named(parts: list[Part], name: str) -> list[Part]:
    for position, part in enumerate(parts):
        if "text" in part:
            parts[position] = {**part, "text": f"{name}: {part['text']}"}
            return parts
    return [{"text": f"{name}:"}, *parts] if parts else parts


def _part(part: Any, draft: Draft) -> Part | None:
    if isinstance(part, str):
        return {"text": part} if part else None
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise InvalidRequestError(f"{draft.target}: a content part without a type; give a text or a typed part")
    kind = part["type"]
    if part.get("cache_control"):
        # The API caches by itself, or by a cachedContent that is made beforehand.
        draft.drop("cache_control")
    if kind == "text":
        text = part.get("text")
        if not isinstance(text, str):
            raise InvalidRequestError(f"{draft.target}: a text part without a text")
        return {"text": text} if text else None
    draft.request.show(kind)
    translate = _PARTS.get(kind)
    if translate is None:
        raise InvalidRequestError(
            f"{draft.target} takes no content part of type {kind!r}; it takes text, {', '.join(_PARTS)}"
        )
    made = translate(part, draft)
    return {**made, **_settings(part)} if made is not None else None


def _settings(part: dict[str, Any]) -> Part:
    return {
        spelled: camel_keys(value)
        for key, value in part.items()
        if (spelled := camel(key)) in _SETTINGS and value is not None
    }


def _refusal(part: dict[str, Any], _draft: Draft) -> Part | None:
    text = part.get("refusal")
    return {"text": text} if isinstance(text, str) and text else None


def _image(part: dict[str, Any], draft: Draft) -> Part:
    if part.get("file_id"):
        return _uploaded(part["file_id"], None, draft)
    image = part.get("image_url")
    if isinstance(image, str):
        image = {"url": image, "detail": part.get("detail")}
    if not isinstance(image, dict) or not isinstance(image.get("url"), str) or not image["url"]:
        raise InvalidRequestError(f"{draft.target}: an image_url part without a url")
    made = _from_url(image["url"], "image", image.get("mime_type") or image.get("format"), draft)
    detail = image.get("detail")
    # "auto" is the absence of a wish, so nothing is lost with it.
    if detail in (None, "auto"):
        return made
    if detail in _DETAILS and draft.rules.part_resolution:
        return {**made, "mediaResolution": {"level": _DETAILS[detail]}}
    draft.drop("detail")
    return made


def _video(part: dict[str, Any], draft: Draft) -> Part:
    video = part.get(part["type"])
    if isinstance(video, str):
        video = {"url": video}
    if not isinstance(video, dict) or not isinstance(video.get("url"), str):
        raise InvalidRequestError(f"{draft.target}: a {part['type']} part without a url")
    return _from_url(video["url"], "video", video.get("mime_type") or video.get("format"), draft)


def _audio(part: dict[str, Any], draft: Draft) -> Part:
    audio = part.get("input_audio")
    if isinstance(audio, dict) and isinstance(audio.get("url"), str):
        mime = _MIMES.get(str(audio.get("format"))) or _guess(audio["url"])
        if mime is None and is_address(audio["url"]):
            raise FetchNeededError(draft.target, "audio", audio["url"])
        return _from_url(audio["url"], "audio", mime, draft)
    if not isinstance(audio, dict) or not isinstance(audio.get("data"), str) or not audio["data"]:
        raise InvalidRequestError(f"{draft.target}: an input_audio part without data")
    if audio["data"][:5].lower() == "data:":
        return _inline(audio["data"], "audio", draft)
    word = str(audio.get("format") or "wav")
    mime = word if "/" in word else _MIMES.get(word, f"audio/{word}")
    return {"inlineData": {"mimeType": mime, "data": audio["data"]}}


def _file(part: dict[str, Any], draft: Draft) -> Part:
    file = part.get("file") if part["type"] == "file" else part
    if not isinstance(file, dict):
        raise InvalidRequestError(f"{draft.target}: a file part without a file")
    mime = file.get("mime_type") or file.get("format") or _guess(str(file.get("filename") or ""))
    if file.get("file_id"):
        return _uploaded(file["file_id"], mime, draft)
    url = file.get("file_data") or file.get("file_url")
    if not isinstance(url, str) or ":" not in url[:10]:
        raise InvalidRequestError(
            f"{draft.target}: file {file.get('filename') or ''!r} needs file_data as a data: URL, or a file_id"
        )
    return _from_url(url, "file", mime, draft)


def _from_url(url: str, what: str, mime: str | None, draft: Draft) -> Part:
    scheme = url[:8].lower()
    if scheme.startswith("data:"):
        return _inline(url, what, draft)
    if not scheme.startswith(("https://", "http://", "gs://")):
        raise InvalidRequestError(
            f"{draft.target}: {what} {url[:40]!r} is no data:, http(s) or gs: URL; read the file into a data: URL"
        )
    files = draft.dialect.files
    stored = bool(files) and url.startswith("/".join(files.split("/", 3)[:3]) + "/")
    if not (stored or draft.rules.urls or scheme.startswith("gs://") or url.startswith(_VIDEO_SITES)):
        raise FetchNeededError(draft.target, what, url)
    found = mime or _guess(url)
    if found is None and not stored:
        found = {"image": "image/jpeg", "video": "video/mp4"}.get(what, "application/pdf")
    return {"fileData": {"mimeType": found, "fileUri": url} if found else {"fileUri": url}}


def _uploaded(file_id: Any, mime: str | None, draft: Draft) -> Part:
    if not isinstance(file_id, str):
        raise InvalidRequestError(f"{draft.target}: a file_id is a text, not {file_id!r}")
    if "://" in file_id:
        return _from_url(file_id, "file", mime, draft)
    if not draft.dialect.files:
        raise InvalidRequestError(f"{draft.target} keeps no uploaded files; give {file_id!r} as a gs:// or data: URL")
    uri = draft.dialect.files + (file_id if file_id.startswith("files/") else f"files/{file_id}")
    return {"fileData": {"mimeType": mime, "fileUri": uri} if mime else {"fileUri": uri}}


def _inline(url: str, what: str, draft: Draft) -> Part:
    mime, data = data_of(url, what, who=draft.target)
    mime = _SYNONYMS.get(mime, mime) or "text/plain"
    kind = "image" if mime.startswith("image/") else what
    check_data(draft.dialect.media, "gemini", kind, mime, data, who=draft.target)
    return {"inlineData": {"mimeType": mime, "data": data}}


def _guess(name: str) -> str | None:
    path = name.partition("?")[0].partition("#")[0]
    return _MIMES.get(posixpath.splitext(path)[1][1:].lower())


_PARTS: dict[str, Callable[[dict[str, Any], Draft], Part | None]] = {
    "image_url": _image,
    "input_image": _image,
    "input_audio": _audio,
    "video_url": _video,
    "input_video": _video,
    "file": _file,
    "input_file": _file,
    "refusal": _refusal,
}
