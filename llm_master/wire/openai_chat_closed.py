"""
Messages for servers that take no field which they do not define, and parts without an object around their content.

Known from Mistral; source: the mistralai package 3.7.0, ``client/models`` (audiochunk, documenturlchunk, filechunk,
thinkchunk, toolmessage).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_master.errors import UnsupportedParameterError
from llm_master.rows import ChatDialect

__all__ = ["closed", "flat_part", "thinking_parts"]


def closed(
    made: dict[str, Any], position: int, dialect: ChatDialect, left_out: list[str], *, who: str
) -> dict[str, Any]:
    """
    A message with the fields that the server knows.

    Args:
        left_out: the list to which the others are added, unless they say nothing.
        who: provider and model, for errors.

    Raises:
        UnsupportedParameterError: nothing of a part is known to the server.
    """
    where = f"messages[{position}]"
    refusal = made.get("refusal")
    if refusal and not made.get("content"):
        # A refusal is what was said; without it the turn would be empty.
        made = {**made, "content": refusal, "refusal": None}
    kept: dict[str, Any] = _known(made, dialect.only_fields.get("message"), where, left_out)
    calls, content = kept.get("tool_calls"), kept.get("content")
    if isinstance(calls, list):
        known = dialect.only_fields.get("call")
        kept["tool_calls"] = [
            _known(call, known, f"{where}.tool_calls[{at}]", left_out) for at, call in enumerate(calls)
        ]
    if isinstance(content, list):
        known = dialect.only_fields.get("part")
        for part in content:
            if known is not None and isinstance(part, Mapping) and known.isdisjoint(part.keys() - {"type"}):
                raise UnsupportedParameterError(
                    f"{who} takes no {part.get('type')!r} part; say it in another way, or use a model that does",
                    parameter="messages",
                )
        kept["content"] = [_known(part, known, f"{where}.content[{at}]", left_out) for at, part in enumerate(content)]
    return kept


def _known(found: Any, known: frozenset[str] | None, where: str, left_out: list[str]) -> Any:
    if known is None or not isinstance(found, Mapping) or found.keys() <= known:
        return found
    left_out += [f"{where}.{name}" for name, value in found.items() if name not in known and value]
    return {name: value for name, value in found.items() if name in known}


def flat_part(part: Any) -> Any:
    """A part with sound or a file as such a server writes it: base64 alone, ``document_url``, ``file_id``."""
    if not isinstance(part, Mapping):
        return part
    sound, file = part.get("input_audio"), part.get("file")
    if isinstance(sound, Mapping) and isinstance(sound.get("data") or sound.get("url"), str):
        return {**part, "input_audio": sound.get("data") or sound["url"]}
    if part.get("type") != "file" or not isinstance(file, Mapping):
        return part
    rest = {name: value for name, value in part.items() if name not in ("type", "file")}
    if file.get("file_id") is not None:
        return {"type": "file", "file_id": file["file_id"], **rest}
    url = file.get("file_data") or file.get("file_url")
    name = file.get("filename")
    named = {} if name is None else {"document_name": name}
    return {"type": "document_url", "document_url": url, **named, **rest}


def thinking_parts(thought: Any) -> list[dict[str, Any]]:
    """The parts of content that give reasoning back: a text, or texts with their signatures."""
    if isinstance(thought, str):
        return [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}]
    parts = []
    for block in thought:
        part = {"type": "thinking", "thinking": [{"type": "text", "text": block["text"]}]}
        if block.get("signature") is not None:
            part["signature"] = block["signature"]
        parts.append(part)
    return parts
