"""
The less usual parts of a turn: lists as content, images, audio, reasoning details.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from typing import Any

from llm_master.classes import Image

__all__ = ["Audio", "add_thoughts", "image_from", "merge_details", "parts_of"]


class Audio:
    """Spoken answers, base64 in one or many pieces."""

    __slots__ = ("broken", "data")

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.broken = False

    def add(self, found: dict[str, Any]) -> None:
        """Take an ``audio`` object."""
        piece = found.get("data")
        if isinstance(piece, str) and piece:
            data = _bytes(piece)
            if data is None:
                self.broken = True
            else:
                self.data = (self.data or b"") + data


def image_from(entry: Any) -> Image | None:
    """The image of ``{"image_url": {"url": ...}}``, ``{"url": ...}``, ``{"b64_json": ...}`` or an address."""
    if isinstance(entry, dict):
        inner = entry.get("image_url", entry)
        if isinstance(inner, dict):
            inner = inner.get("url") or inner.get("b64_json") or entry.get("b64_json")
        entry = inner
    if not isinstance(entry, str) or not entry:
        return None
    if entry.startswith("data:"):
        kind, _, text = entry[5:].partition(",")
        mime, *flags = kind.split(";")
        data = _bytes(text) if "base64" in flags else None
        return Image(data=data, mime_type=mime or None) if data is not None else Image(url=entry)
    if "://" in entry:
        return Image(url=entry)
    data = _bytes(entry)
    return Image(data=data) if data is not None else Image(url=entry)


def _bytes(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text)
    except ValueError:
        return None


def parts_of(parts: list[Any]) -> Iterator[tuple[str, Any]]:
    """
    Kind and value of each part of a list content: ``text``, ``reasoning``, ``refusal``, ``image``, or its own type.

    Known from Mistral (``thinking``), Databricks (``reasoning`` with ``summary``) and servers that echo the parts of
    requests.
    """
    for part in parts:
        if isinstance(part, str):
            yield "text", part
        elif isinstance(part, dict):
            kind = str(part.get("type"))
            if kind in ("text", "output_text"):
                yield "text", _texts(part.get("text"))
            elif kind in ("thinking", "reasoning"):
                yield "reasoning", _texts(part.get("thinking") or part.get("summary") or part.get("text"))
            elif kind == "refusal":
                yield "refusal", _texts(part.get("refusal"))
            elif kind == "image_url":
                yield "image", part
            else:
                yield kind, part


def _texts(found: Any) -> str:
    if isinstance(found, list):
        return "".join(_texts(part.get("text") if isinstance(part, dict) else part) for part in found)
    return found if isinstance(found, str) else ""


def add_thoughts(thoughts: list[dict[str, Any]], parts: list[Any]) -> None:
    """Append the reasoning of content to what is given back later; a signature is the end of what it signs."""
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "thinking":
            continue
        text, signature = _texts(part.get("thinking")), part.get("signature")
        if not thoughts or thoughts[-1]["signature"] is not None:
            thoughts.append({"text": "", "signature": None})
        thoughts[-1]["text"] += text
        if isinstance(signature, str) and signature:
            thoughts[-1]["signature"] = signature


def merge_details(details: list[Any], pieces: list[Any]) -> None:
    """
    Append OpenRouter's reasoning details; text that continues the last entry is joined to it.

    Source: https://openrouter.ai/docs/use-cases/reasoning-tokens (the sequence is to be given back unchanged).
    """
    for piece in pieces:
        last: Any = details[-1] if details else None
        field = _continued(last, piece)
        if field is None:
            details.append(dict(piece) if isinstance(piece, dict) else piece)
        else:
            joined = last[field] + piece[field]
            last.update({name: value for name, value in piece.items() if value is not None}, **{field: joined})


def _continued(last: Any, piece: Any) -> str | None:
    """The text field of ``last`` that ``piece`` goes on with, None when it is an entry of its own."""
    if not isinstance(last, dict) or not isinstance(piece, dict):
        return None
    if last.get("type") != piece.get("type") or last.get("index") != piece.get("index"):
        return None
    if piece.get("id") not in (None, last.get("id")):
        return None
    for field in ("text", "summary"):
        if isinstance(piece.get(field), str) and isinstance(last.get(field), str):
            return field
    return None
