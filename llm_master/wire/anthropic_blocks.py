"""
Content parts of the chat format as blocks of the Messages API.

A native block passes unchanged. No block is ever changed in place: the caller's parts are shared with the body.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from llm_master.draft import is_blank
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.media import check_data, check_url, data_of, is_address, mime_of_name
from llm_master.wire.anthropic_draft import Draft

__all__ = ["Block", "blocks_of", "mark_cache"]

Block = dict[str, Any]

_UNSENDABLE = {
    "input_audio": "audio",
    "audio": "audio",
    "video_url": "video",
    "input_video": "video",
    "video": "video",
}
_FAMILY = "anthropic_messages"
_PLAIN = {"type": "text", "media_type": "text/plain"}
_MEDIA_TYPES = {"image/jpg": "image/jpeg", "application/x-pdf": "application/pdf"}


def mark_cache(blocks: list[Block], cache_control: Any) -> bool:
    """Put a cache mark on the last block that can carry one; False when there is none."""
    for position in range(len(blocks) - 1, -1, -1):
        if blocks[position].get("type") not in ("thinking", "redacted_thinking"):
            blocks[position] = {**blocks[position], "cache_control": cache_control}
            return True
    return False


def blocks_of(content: Any, draft: Draft, *, name: str | None = None) -> list[Block]:
    """
    The blocks of a message's content; empty texts are left out.

    Args:
        content: a text, None, or a list of parts.
        draft: takes note of what has no equivalent.
        name: the speaker, put before the first text as ``name: ``.

    Raises:
        InvalidRequestError: a part that cannot be read, or is of a kind that the API cannot take.
    """
    if content is None:
        return []
    if isinstance(content, str):
        if is_blank(content):
            return []
        return [{"type": "text", "text": f"{name}: {content}" if name else content}]
    if not isinstance(content, list):
        raise InvalidRequestError(
            f"{draft.target}: a message's content is {type(content).__name__}; give a text or a list of parts"
        )
    blocks: list[Block] = []
    for part in content:
        _append(part, blocks, draft)
    return _named(blocks, name) if name else blocks


def _append(part: Any, blocks: list[Block], draft: Draft) -> None:
    if isinstance(part, str):
        part = {"type": "text", "text": part}
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise InvalidRequestError(f"{draft.target}: a content part without a type; give a text or a typed part")
    kind = part["type"]
    if kind == "text":
        text = part.get("text")
        if not isinstance(text, str):
            raise InvalidRequestError(f"{draft.target}: a text part without a text")
        if not is_blank(text):
            blocks.append(part)
        elif part.get("cache_control") and not mark_cache(blocks, part["cache_control"]):
            draft.drop("cache_control")
        return
    draft.request.show(kind)
    if kind in _UNSENDABLE:
        raise UnsupportedParameterError(
            f"{draft.target} takes no {_UNSENDABLE[kind]} ({kind!r} part); send a transcript, or use a model that does",
            parameter=kind,
        )
    translate = _PARTS.get(kind)
    if translate is None:
        blocks.append(part)
        return
    block = translate(part, draft)
    if block is not None:
        cache_control = part.get("cache_control")
        blocks.append({**block, "cache_control": cache_control} if cache_control else block)


def _named(blocks: list[Block], name: str) -> list[Block]:
    for position, block in enumerate(blocks):
        if block["type"] == "text":
            blocks[position] = {**block, "text": f"{name}: {block['text']}"}
            return blocks
    return [{"type": "text", "text": f"{name}:"}, *blocks] if blocks else blocks


def _refusal(part: dict[str, Any], _draft: Draft) -> Block | None:
    text = part.get("refusal")
    return {"type": "text", "text": text} if isinstance(text, str) and not is_blank(text) else None


def _image(part: dict[str, Any], draft: Draft) -> Block:
    image = part.get("image_url")
    if isinstance(image, str):
        image = {"url": image}
    if not isinstance(image, dict) or not isinstance(image.get("url"), str) or not image["url"]:
        raise InvalidRequestError(f"{draft.target}: an image_url part without a url")
    url = image["url"]
    # "auto" is the absence of a wish, so nothing is lost with it.
    if image.get("detail") not in (None, "auto"):
        draft.drop("detail")
    if url[:5].lower() == "data:":
        media_type, data = _data_of(url, "image", draft)
        check_data(draft.dialect.media, _FAMILY, "image", media_type, data, who=draft.target)
        return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
    if is_address(url):
        check_url(draft.dialect.media, _FAMILY, "image", url, who=draft.target)
        return {"type": "image", "source": {"type": "url", "url": url}}
    raise InvalidRequestError(
        f"{draft.target}: an image must be a data: or http(s) URL, not {url[:40]!r}; read the file into a data: URL"
    )


def _file(part: dict[str, Any], draft: Draft) -> Block:
    file = part.get("file")
    if not isinstance(file, dict):
        raise InvalidRequestError(f"{draft.target}: a file part without a file")
    title = {"title": file["filename"]} if file.get("filename") else {}
    if file.get("file_id"):
        return {"type": "document", "source": {"type": "file", "file_id": file["file_id"]}, **title}
    url = file.get("file_data") or file.get("file_url")
    if isinstance(url, str) and is_address(url):
        # Of the files behind an address the API reads PDF only; what else it is shows when it is fetched.
        mime = mime_of_name(file.get("filename"), url) or "application/octet-stream"
        check_url(draft.dialect.media, _FAMILY, "file", url, who=draft.target, mime=mime)
        return {"type": "document", "source": {"type": "url", "url": url}, **title}
    if not isinstance(url, str) or url[:5].lower() != "data:":
        raise InvalidRequestError(
            f"{draft.target}: file {file.get('filename') or ''!r} needs file_data as a data: URL, or a file_id"
        )
    media_type, data = _data_of(url, "file", draft)
    what = "image" if media_type.startswith("image/") else "file"
    check_data(draft.dialect.media, _FAMILY, what, media_type, data, who=draft.target)
    if media_type.startswith("image/"):
        return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
    if media_type == "application/pdf":
        return {"type": "document", "source": {"type": "base64", "media_type": media_type, "data": data}, **title}
    if media_type.startswith("text/"):
        return {"type": "document", "source": {**_PLAIN, "data": _unpack(data, draft)}, **title}
    raise InvalidRequestError(
        f"{draft.target} reads PDF, text and image files, not {media_type!r} ({file.get('filename') or 'no name'})"
    )


def _unpack(data: str, draft: Draft) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError as error:
        raise InvalidRequestError(f"{draft.target}: the text of a file cannot be read: {error}") from error


def _data_of(url: str, what: str, draft: Draft) -> tuple[str, str]:
    media_type, data = data_of(url, what, who=draft.target)
    media_type = media_type or "text/plain"
    return _MEDIA_TYPES.get(media_type, media_type), data


def _input_image(part: dict[str, Any], draft: Draft) -> Block:
    if part.get("file_id"):
        return {"type": "image", "source": {"type": "file", "file_id": part["file_id"]}}
    return _image(part, draft)


_PARTS: dict[str, Callable[[dict[str, Any], Draft], Block | None]] = {
    "image_url": _input_image,
    "input_image": _input_image,
    "file": _file,
    "refusal": _refusal,
}
