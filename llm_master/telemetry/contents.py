"""
Messages in the form of the OpenTelemetry conventions for generative AI, for those who ask for contents.

https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-input-messages.json
Data inside messages (pictures, files, sound) is left out; its size stands in its place.
"""

from __future__ import annotations

from typing import Any

from llm_master.any_json import written

__all__ = ["input_messages", "output_messages", "tool_definitions"]

_FINISH = {"tool_calls": "tool_call"}


def input_messages(messages: Any) -> str:
    """The messages of a call as JSON."""
    return written([{"role": each.get("role", "user"), "parts": _parts(each)} for each in messages], str)


def output_messages(response: Any) -> str | None:
    """The answer of a call as JSON, None for one that is no text."""
    content, calls = getattr(response, "content", None), getattr(response, "tool_calls", None) or ()
    if not isinstance(content, str):
        return None
    parts: list[dict[str, Any]] = []
    if response.reasoning:
        parts.append({"type": "reasoning", "content": response.reasoning})
    if content or response.refusal:
        parts.append({"type": "text", "content": content or response.refusal})
    parts += [_tool_call(call.to_dict()) for call in calls]
    reason = response.finish_reason or "stop"
    return written([{"role": "assistant", "parts": parts, "finish_reason": _FINISH.get(reason, reason)}], str)


def tool_definitions(tools: Any) -> str | None:
    """Names, descriptions and parameters of tools in the chat format as JSON, None without any."""
    found = [
        each["function"] for each in tools or () if isinstance(each, dict) and isinstance(each.get("function"), dict)
    ]
    return written([{"type": "function", **each} for each in found], str) if found else None


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        return [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": _plain(content)}]
    pieces = content if isinstance(content, list) else [] if content is None else [{"type": "text", "text": content}]
    parts = [_part(piece) for piece in pieces]
    return parts + [_tool_call(call) for call in message.get("tool_calls") or ()]


def _plain(content: Any) -> Any:
    return [_part(piece) for piece in content] if isinstance(content, list) else content


def _part(piece: Any) -> dict[str, Any]:
    if not isinstance(piece, dict):
        return {"type": "text", "content": str(piece)}
    kind = str(piece.get("type", "text"))
    if kind == "text":
        return {"type": "text", "content": piece.get("text", "")}
    modality = kind.partition("_")[0]
    inner = piece.get(kind)
    url = inner.get("url") if isinstance(inner, dict) else inner
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        return {"type": "uri", "modality": modality, "uri": url}
    return {"type": "omitted", "modality": modality, "bytes": len(repr(inner))}


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    return {
        "type": "tool_call",
        "id": call.get("id"),
        "name": function.get("name"),
        "arguments": function.get("arguments"),
    }
