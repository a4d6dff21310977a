"""
Content parts of the chat format as parts of input items.

A part that is in this API's own form already passes unchanged. No part is ever changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llm_master.dialect_responses import ResponsesDialect
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.media import check_data, check_url, is_address
from llm_master.refusals import Refusals

__all__ = ["Part", "is_item", "mark_last", "part_of", "text_of"]

Part = dict[str, Any]

_FAMILY = "openai_responses"
_TEXTS = ("text", "input_text", "output_text")
# Part types -> the kind of input that the server must take, as ``ResponsesDialect.inputs`` names it.
_KINDS = {
    "image_url": "image",
    "input_image": "image",
    "image": "image",
    "file": "file",
    "input_file": "file",
    "document": "file",
    "input_audio": "audio",
    "audio": "audio",
    "video_url": "video",
    "input_video": "video",
    "video": "video",
}
_INSTEAD = {
    "image": "describe it in words",
    "file": "send its text",
    "audio": "send a transcript",
    "video": "send a transcript or single images",
}
# Types of input items that are no content: what a client answers to the provider's own tools, and references.
_ITEMS = frozenset(
    (
        "additional_tools",
        "compaction",
        "compaction_trigger",
        "configuration_update",
        "item_reference",
        "mcp_approval_response",
        "reasoning",
        "tool_search_output",
    )
)


def is_item(part: Any) -> bool:
    """Whether a part stands for an input item of its own, such as the result of a computer call."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    return isinstance(kind, str) and (kind in _ITEMS or kind.endswith(("_call", "_call_output")))


def text_of(content: Any) -> str:
    """The text of a content, its text parts joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (
        part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, str) or _texts(part)
    )
    return "".join(text for text in texts if isinstance(text, str))


def _texts(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in _TEXTS


def part_of(part: Any, dialect: ResponsesDialect, refusals: Refusals) -> Part:
    """
    One content part.

    Raises:
        InvalidRequestError: a part that cannot be read.
        UnsupportedParameterError: a kind of input that the model does not take.
    """
    if isinstance(part, str):
        return {"type": "input_text", "text": part}
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise InvalidRequestError(f"{refusals.who}: a content part without a type; give a text or a typed part")
    kind = part["type"]
    refusals.show(kind)
    needed = _KINDS.get(kind)
    if needed is not None and needed not in dialect.inputs:
        raise UnsupportedParameterError(
            f"{refusals.who} takes no {needed} ({kind!r} part); {_INSTEAD[needed]}, or use a model that does",
            parameter=kind,
        )
    mark = part.get("cache_control")
    if kind in _TEXTS:
        made: Part = {**_without(part, "cache_control"), "type": "input_text"}
    else:
        translate = _TRANSLATORS.get(kind)
        made = _without(part, "cache_control") if translate is None else translate(part, refusals)
        if translate is not None:
            _check(made, dialect, refusals)
    return mark_of(made, mark, dialect, refusals) if mark else made


def _check(made: Part, dialect: ResponsesDialect, refusals: Refusals) -> None:
    """Hold the image or file of a part against what the server takes."""
    what = "image" if made["type"] == "input_image" else "file"
    url = made.get("image_url") or made.get("file_url") or made.get("file_data")
    if not isinstance(url, str):
        return
    if is_address(url):
        check_url(dialect.media, _FAMILY, what, url, who=refusals.who)
    elif url[:5].lower() == "data:":
        head, _, data = url[5:].partition(",")
        check_data(dialect.media, _FAMILY, what, head.partition(";")[0].strip().lower(), data, who=refusals.who)


def mark_of(part: Part, mark: Any, dialect: ResponsesDialect, refusals: Refusals) -> Part:
    """The part with a cache mark in the server's own form; a mark that it does not know is listed as dropped."""
    if dialect.cache_marks == "keep":
        return {**part, "cache_control": mark}
    if dialect.cache_marks == "breakpoint":
        made: dict[str, str] = {"mode": "explicit"}
        if isinstance(mark, Mapping) and mark.get("ttl") == "1h":
            made["ttl"] = "12h"  # the only life here that is not shorter
        return {**part, "prompt_cache_breakpoint": made}
    refusals.note("cache_control")
    return part


def mark_last(parts: list[Part], mark: Any, dialect: ResponsesDialect, refusals: Refusals) -> list[Part]:
    """The parts with a cache mark on the last of them."""
    return [*parts[:-1], mark_of(parts[-1], mark, dialect, refusals)] if parts else parts


def _without(part: Mapping[str, Any], *names: str) -> Part:
    return {field: value for field, value in part.items() if field not in names}


def _image(part: Mapping[str, Any], refusals: Refusals) -> Part:
    source = part.get("source")
    if isinstance(source, Mapping):
        found = _from_source(source, "image_url", refusals)
    else:
        image = part.get("image_url")
        # An image is a string here and an object in chat completions.
        inner = image if isinstance(image, Mapping) else {"url": image}
        found = {"image_url": inner.get("url"), "detail": inner.get("detail") or part.get("detail")}
        if part.get("file_id"):
            found = {"file_id": part["file_id"], "detail": found["detail"]}
        elif not isinstance(found["image_url"], str) or not found["image_url"]:
            raise InvalidRequestError(f"{refusals.who}: an image part without a url or file_id")
    rest = _without(part, "type", "image_url", "file_id", "detail", "source", "cache_control")
    return {"type": "input_image", **rest, **found, "detail": found.get("detail") or "auto"}


def _file(part: Mapping[str, Any], refusals: Refusals) -> Part:
    source = part.get("source")
    if isinstance(source, Mapping):
        if isinstance(source.get("data"), str) and source.get("type") == "text":
            return {"type": "input_text", "text": source["data"]}
        found = _from_source(source, "file_data", refusals)
        title = {"filename": part["title"]} if part.get("title") else {}
    else:
        given = part.get("file")
        inner = given if isinstance(given, Mapping) else part
        names = ("file_id", "file_data", "file_url", "filename", "detail")
        found = {name: inner[name] for name in names if inner.get(name) is not None}
        title = {}
    data = found.get("file_data")
    if isinstance(data, str) and data[:8].lower().startswith(("https://", "http://")):
        found["file_url"] = found.pop("file_data")
    elif data is not None:
        found.setdefault("filename", _name_for(data))
    if not found.keys() & {"file_id", "file_data", "file_url"}:
        raise InvalidRequestError(
            f"{refusals.who}: a file part needs file_id, file_url, or file_data as a data: URL with a filename"
        )
    rest = _without(part, "type", "file", "source", "title", "cache_control", *found)
    return {"type": "input_file", **rest, **found, **title}


def _name_for(data: Any) -> str:
    """A file's name by its data URL: the API reads the kind of a file from it."""
    media = data[5:].partition(";")[0] if isinstance(data, str) and data[:5].lower() == "data:" else ""
    kind = media.rpartition("/")[2].lower()
    return f"file.{'txt' if kind == 'plain' else kind or 'pdf'}"


def _from_source(source: Mapping[str, Any], field: str, refusals: Refusals) -> Part:
    """The fields for a source in the form of the Messages API."""
    kind = source.get("type")
    if kind == "base64" and isinstance(source.get("data"), str):
        return {field: f"data:{source.get('media_type')};base64,{source['data']}"}
    if kind == "url" and isinstance(source.get("url"), str):
        return {"image_url" if field == "image_url" else "file_url": source["url"]}
    if kind == "file" and source.get("file_id"):
        return {"file_id": source["file_id"]}
    raise InvalidRequestError(f"{refusals.who}: a source of type {kind!r} is not known; give base64, url or file")


_TRANSLATORS: dict[str, Callable[[Mapping[str, Any], Refusals], Part]] = {
    "image_url": _image,
    "input_image": _image,
    "image": _image,
    "file": _file,
    "input_file": _file,
    "document": _file,
}
