"""
Content parts of the chat format as content blocks of Converse.

A block is an object with one key that names its kind. The service takes media as bytes or from S3 and fetches nothing
from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from llm_master.draft import is_blank
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.media import FetchNeededError, check_data, data_of, is_address
from llm_master.wire.bedrock_draft import Draft

__all__ = ["SERVER_TOOL", "Block", "blocks_of", "cache_point", "kind_of"]

Block = dict[str, Any]

#: The type of a call of the service's own tool.
SERVER_TOOL = "server_tool_use"

# Kinds of block that a caller may give natively, as {"type": KIND, KIND: {...}}.
_NATIVE = (
    *("image", "document", "video", "audio", "guardContent", "searchResult", "cachePoint"),
    *("toolUse", "toolResult", "reasoningContent", "citationsContent"),
)
_MEDIA = ("image", "document", "video", "audio")
# Media type or file extension -> the word of the API.
_FORMATS: dict[str, dict[str, str]] = {
    "image": {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "gif": "gif", "webp": "webp"},
    "document": {
        "pdf": "pdf",
        "x-pdf": "pdf",
        "csv": "csv",
        "doc": "doc",
        "msword": "doc",
        "docx": "docx",
        "vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
        "xls": "xls",
        "vnd.ms-excel": "xls",
        "xlsx": "xlsx",
        "vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
        "html": "html",
        "htm": "html",
        "txt": "txt",
        "plain": "txt",
        "md": "md",
        "markdown": "md",
    },
    "video": {
        **{word: word for word in ("mkv", "mov", "mp4", "webm", "flv", "mpeg", "mpg", "wmv", "three_gp")},
        "x-matroska": "mkv",
        "quicktime": "mov",
        "x-flv": "flv",
        "x-ms-wmv": "wmv",
        "3gpp": "three_gp",
    },
    "audio": {
        **{word: word for word in ("mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "m4a", "pcm", "webm")},
        "mpeg": "mp3",
        "x-wav": "wav",
    },
}
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9()\[\]\- ]+")


def kind_of(block: Block) -> str:
    """The kind of a block, "" of an empty one."""
    return next(iter(block), "")


def cache_point(mark: Any, draft: Draft, *, tools: bool = False) -> Block | None:
    """The block for a ``cache_control`` mark; None where the model has no cache, which is noted."""
    dialect = draft.dialect
    if not (dialect.cache_tools if tools else dialect.cache):
        draft.drop("cache_control")
        return None
    point: dict[str, Any] = {"type": "default"}
    ttl = mark.get("ttl") if isinstance(mark, dict) else None
    if ttl is not None and (ttl != "1h" or dialect.cache_hour):
        point["ttl"] = ttl
    elif ttl is not None:
        draft.drop("cache_control.ttl")
    return {"cachePoint": point}


def blocks_of(content: Any, draft: Draft, names: set[str], *, name: str | None = None) -> list[Block]:
    """
    The blocks of a message's content; empty texts are left out.

    Args:
        content: a text, None, or a list of parts.
        draft: takes note of what has no equivalent.
        names: the names of documents so far, which must differ.
        name: the speaker, put before the first text as ``name: ``.

    Raises:
        InvalidRequestError: a part that cannot be read.
        UnsupportedParameterError: a part of a kind that the model cannot take.
    """
    if isinstance(content, str):
        return [] if is_blank(content) else [{"text": f"{name}: {content}" if name else content}]
    if content is not None and not isinstance(content, list):
        raise InvalidRequestError(
            f"{draft.target}: a message's content is {type(content).__name__}; give a text or a list of parts"
        )
    blocks: list[Block] = []
    for part in content or ():
        blocks.extend(_part(part, draft, names))
    if name and blocks:
        first = blocks[0].get("text")
        blocks[:1] = [{"text": f"{name}: {first}"}] if first else [{"text": f"{name}:"}, blocks[0]]
    return blocks


def _part(part: Any, draft: Draft, names: set[str]) -> Iterable[Block]:
    if isinstance(part, str):
        part = {"type": "text", "text": part}
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise InvalidRequestError(f"{draft.target}: a content part without a type; give a text or a typed part")
    kind = part["type"]
    draft.request.show(kind)
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise InvalidRequestError(f"{draft.target}: a {kind} part without a text")
        block: Block | None = None if is_blank(text) else {"text": text}
    elif kind in _PARTS:
        block = _PARTS[kind](part, draft, names)
    elif kind in _NATIVE and isinstance(part.get(kind), dict):
        block = {kind: part[kind]}
        if kind == "document":
            names.add(part[kind].get("name", ""))
    else:
        raise InvalidRequestError(
            f"{draft.target}: no content part of type {kind!r}; give text, image_url, file, input_audio or video_url"
        )
    if block is not None:
        _check_media(kind_of(block), draft)
        yield block
    if part.get("cache_control") and (point := cache_point(part["cache_control"], draft)) is not None:
        yield point


def _check_media(kind: str, draft: Draft) -> None:
    if kind in _MEDIA and kind not in draft.dialect.takes:
        known = ", ".join(each for each in _MEDIA if each in draft.dialect.takes)
        instead = f"it takes {known}" if known else "give text"
        raise UnsupportedParameterError(
            f"{draft.target} takes no {kind}; {instead}, or use a model that does",
            parameter=kind,
        )


def _image(part: dict[str, Any], draft: Draft, _names: set[str]) -> Block:
    image = part.get("image_url")
    image = {"url": image} if isinstance(image, str) else image
    if not isinstance(image, dict) or not isinstance(image.get("url"), str):
        raise InvalidRequestError(f"{draft.target}: an image part without a url; give a data: URL")
    # "auto" is the absence of a wish, so nothing is lost with it.
    if image.get("detail") not in (None, "auto"):
        draft.drop("detail")
    source, media_type = _source(image["url"], "image", draft)
    return {"image": {"format": _format("image", media_type, image["url"], draft), "source": source}}


def _video(part: dict[str, Any], draft: Draft, _names: set[str]) -> Block:
    video = part.get(part["type"])
    url = video.get("url") if isinstance(video, dict) else video
    if not isinstance(url, str):
        raise InvalidRequestError(f"{draft.target}: a video part without a url; give a data: or s3:// URL")
    source, media_type = _source(url, "video", draft)
    return {"video": {"format": _format("video", media_type, url, draft), "source": source}}


def _audio(part: dict[str, Any], draft: Draft, _names: set[str]) -> Block:
    audio = part.get("input_audio")
    if isinstance(audio, dict) and isinstance(audio.get("url"), str):
        source, media_type = _source(audio["url"], "audio", draft)
        stated = f"audio/{audio['format']}" if audio.get("format") else media_type
        return {"audio": {"format": _format("audio", stated, audio["url"], draft), "source": source}}
    if not isinstance(audio, dict) or not audio.get("data"):
        raise InvalidRequestError(f"{draft.target}: an input_audio part without data and format")
    form = _format("audio", str(audio.get("format")), "", draft)
    return {"audio": {"format": form, "source": {"bytes": audio["data"]}}}


def _file(part: dict[str, Any], draft: Draft, names: set[str]) -> Block:
    file = part.get("file")
    url = (file.get("file_data") or file.get("file_id")) if isinstance(file, dict) else None
    if not isinstance(file, dict) or not isinstance(url, str):
        raise InvalidRequestError(
            f"{draft.target}: a file needs file_data as a data: URL, or a file_id that is an s3:// URL"
        )
    given = str(file.get("filename") or "")
    source, media_type = _source(url, "file", draft)
    for kind in ("image", "video"):
        if media_type.startswith(f"{kind}/"):
            return {kind: {"format": _format(kind, media_type, url, draft), "source": source}}
    form = _format("document", media_type, given or url, draft)
    return {"document": {"format": form, "name": _name(given, names), "source": source}}


def _name(filename: str, names: set[str]) -> str:
    """A name that the API accepts: certain characters only, single blanks, and no two alike."""
    stem = filename.rpartition(".")[0] or filename
    base = " ".join(_NOT_IN_NAMES.sub(" ", stem).split())[:180] or "document"
    name, count = base, 1
    while name in names:
        count += 1
        name = f"{base} {count}"
    names.add(name)
    return name


def _format(kind: str, media_type: str, name: str, draft: Draft) -> str:
    words = _FORMATS[kind]
    extension = name.rpartition(".")[2].lower() if "." in name and not name.startswith("data:") else ""
    found = words.get(media_type.rpartition("/")[2]) or words.get(extension)
    # Any text is one to the model.
    if found is None and kind == "document" and media_type.startswith("text/"):
        found = "txt"
    if found is None:
        raise InvalidRequestError(
            f"{draft.target} reads no {kind} of type {media_type or extension or 'unknown'!r};"
            f" it reads {', '.join(dict.fromkeys(words.values()))}"
        )
    return found


def _source(url: str, what: str, draft: Draft) -> tuple[dict[str, Any], str]:
    """The source that a URL names, and its media type as far as it is known."""
    if url.startswith("s3://"):
        return {"s3Location": {"uri": url}}, ""
    if is_address(url):
        raise FetchNeededError(draft.target, what, url)
    if url[:5].lower() != "data:":
        raise InvalidRequestError(
            f"{draft.target} fetches nothing: the {what} must be a data: or s3:// URL, not {url[:40]!r};"
            " read it into a data: URL"
        )
    media_type, data = data_of(url, what, who=draft.target)
    media_type = media_type or "text/plain"
    kind = "image" if media_type.startswith("image/") else what
    check_data(draft.dialect.media, "bedrock", kind, media_type, data, who=draft.target)
    return {"bytes": data}, media_type


_PARTS: dict[str, Callable[[dict[str, Any], Draft, set[str]], Block]] = {
    "image_url": _image,
    "input_image": _image,
    "file": _file,
    "input_file": _file,
    "input_audio": _audio,
    "video_url": _video,
    "input_video": _video,
}
