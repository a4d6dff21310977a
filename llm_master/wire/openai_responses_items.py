"""
The items of an answer, sorted by what they say.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from llm_master.classes import Image, ToolCall

__all__ = ["Gathered", "bytes_of", "call_of", "gather"]

# Calls of the provider's own tools that the client has to carry out -> the field with what is to be done.
_CLIENT_CALLS = {
    "computer_call": ("action", "actions"),
    "local_shell_call": ("action",),
    "shell_call": ("action",),
    "apply_patch_call": ("operation",),
    "tool_search_call": ("arguments",),
}
# Items that need no word: they are carried out at the provider, and given back with the turn.
_SILENT = frozenset(
    (
        "additional_tools",
        "apply_patch_call_output",
        "compaction",
        "computer_call_output",
        "configuration_update",
        "custom_tool_call_output",
        "fetch_url_results",
        "file_search_call",
        "function_call_output",
        "local_shell_call_output",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
        "program",
        "program_output",
        "shell_call_output",
        "tool_search_call",
        "tool_search_output",
        "shell_call",
        "web_search_call",
    )
)
_MIME = {"svg": "image/svg+xml", "jpg": "image/jpeg"}


class Gathered:
    """
    What the items of an answer say, by kind.

    ``items`` are all of them, ``searches`` the web searches among them, ``notes`` what has no field of its own.
    """

    __slots__ = ("audio", "calls", "citations", "images", "items", "notes", "refusals", "searches", "texts", "thoughts")

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self.refusals: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[ToolCall] = []
        self.citations: list[Any] = []
        self.images: list[Image] = []
        self.audio: bytes | None = None
        self.searches = 0
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Remember something unusual once."""
        if text not in self.notes:
            self.notes.append(text)


def gather(items: Iterable[Any]) -> Gathered:
    """The items of an answer, sorted; entries that are no items are left out."""
    gathered = Gathered()
    for item in items:
        if not isinstance(item, dict):
            continue
        gathered.items.append(item)
        kind = item.get("type") or "message"
        call = call_of(item)
        if call is not None:
            gathered.calls.append(call)
        elif (take := _TAKERS.get(kind)) is not None:
            take(item, gathered)
        elif kind not in _SILENT:
            gathered.note(f"an item of type {str(kind)[:60]!r} is only in raw")
        if kind == "web_search_call":
            gathered.searches += _is_search(item)
    return gathered


def call_of(item: Mapping[str, Any]) -> ToolCall | None:
    """The tool call that an item is, None when it is none or is carried out at the provider."""
    kind = item.get("type")
    if kind == "function_call":
        return ToolCall(_id(item), _text(item.get("name")), raw_arguments=_json(item.get("arguments")))
    if kind == "custom_tool_call":
        name, given = _text(item.get("name")), _text(item.get("input"))
        extra = {"type": "custom", "custom": {"name": name, "input": given}}
        return ToolCall(_id(item), name, raw_arguments=given, extra=extra)
    fields = _CLIENT_CALLS.get(str(kind))
    if fields is None or _is_remote(item):
        return None
    asked = next((item[field] for field in fields if item.get(field) is not None), None)
    return ToolCall(_id(item), str(kind).removesuffix("_call"), raw_arguments=_json(asked), extra={"type": kind})


def _is_remote(item: Mapping[str, Any]) -> bool:
    if item.get("type") == "tool_search_call":
        return item.get("execution") != "client"
    environment = item.get("environment")
    return isinstance(environment, Mapping) and environment.get("type") == "container_reference"


def _id(item: Mapping[str, Any]) -> str:
    return _text(item.get("call_id") or item.get("id"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _json(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def _message(item: dict[str, Any], gathered: Gathered) -> None:
    content = item.get("content")
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            gathered.texts.append(part)
        elif isinstance(part, dict):
            _content_part(part, gathered)


def _content_part(part: dict[str, Any], gathered: Gathered) -> None:
    kind = part.get("type")
    if kind in ("output_text", "text", None):
        if part.get("text"):
            gathered.texts.append(_text(part["text"]))
        annotations = part.get("annotations")
        if isinstance(annotations, list):
            gathered.citations += annotations
    elif kind == "refusal":
        gathered.refusals.append(_text(part.get("refusal")))
    elif kind == "reasoning_text":
        gathered.thoughts.append(_text(part.get("text")))
    elif kind == "output_audio":
        gathered.texts.append(_text(part.get("transcript")))
        gathered.audio = bytes_of(part.get("data")) or gathered.audio
    else:
        gathered.note(f"a content part of type {str(kind)[:60]!r} is only in raw")


def _reasoning(item: dict[str, Any], gathered: Gathered) -> None:
    # A summary repeats in short what the content says; the longer of the two is the reasoning.
    for field in ("content", "summary"):
        parts = item.get(field)
        found = [text for part in parts if (text := _part_text(part))] if isinstance(parts, list) else []
        if found:
            gathered.thoughts += found
            return


def _part_text(part: Any) -> str:
    return _text(part.get("text")) if isinstance(part, dict) else _text(part)


def _image_call(item: dict[str, Any], gathered: Gathered) -> None:
    data = bytes_of(item.get("result"))
    if data:
        kind = _text(item.get("output_format")) or "png"
        gathered.images.append(Image(data=data, mime_type=_MIME.get(kind, f"image/{kind}")))
        return
    error = item.get("error")
    reason = error.get("message") if isinstance(error, dict) else item.get("status")
    gathered.note(f"an image was not made: {str(reason)[:200]}")


def _code_call(item: dict[str, Any], gathered: Gathered) -> None:
    outputs = item.get("outputs")
    for output in outputs if isinstance(outputs, list) else ():
        if isinstance(output, dict) and output.get("type") == "image" and isinstance(output.get("url"), str):
            gathered.images.append(_image_at(output["url"]))


def _image_at(url: str) -> Image:
    head, comma, text = url.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64") and (data := bytes_of(text)):
        return Image(data=data, mime_type=head[5:].partition(";")[0] or None)
    return Image(url=url)


def bytes_of(text: Any) -> bytes | None:
    """The bytes of base64 text, None when it is none."""
    if not isinstance(text, str) or not text:
        return None
    try:
        return binascii.a2b_base64(text)
    except ValueError:
        return None


def _search_results(item: dict[str, Any], gathered: Gathered) -> None:
    results = item.get("results")
    if isinstance(results, list):
        gathered.citations += results


def _approval(item: dict[str, Any], gathered: Gathered) -> None:
    gathered.note(
        f"the call of {str(item.get('name'))[:60]!r} at {str(item.get('server_label'))[:60]!r} waits for approval:"
        f" answer with a part {{'type': 'mcp_approval_response', 'approval_request_id': {str(item.get('id'))[:80]!r},"
        " 'approve': ...} in the next user message"
    )


def _is_search(item: dict[str, Any]) -> bool:
    action = item.get("action")
    kind = action.get("type") if isinstance(action, dict) else None
    return item.get("status") != "failed" and kind in (None, "search")


_TAKERS: dict[str, Callable[[dict[str, Any], Gathered], None]] = {
    "message": _message,
    "reasoning": _reasoning,
    "image_generation_call": _image_call,
    "code_interpreter_call": _code_call,
    "search_results": _search_results,
    "mcp_approval_request": _approval,
}
