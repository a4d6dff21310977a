"""
The events of a stream, as the Responses API names them.

Events that are not named here say nothing that another one does not say in whole: they are skipped, and so is every
future one. Source: the event types of openai 3.52.0, seen 2026-11-21; ``response.reasoning.delta`` and
``response.reasoning_summary.delta`` are sent by compatible servers.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.bodies import as_object
from llm_master.wire.openai_responses_answer import whole_text

__all__ = ["DELTAS", "ENDS", "HEADS", "WHOLES", "Event", "read_event", "read_odd"]

_NOTHING = msgspec.Raw(b"")

# Event -> kind of part, the event's field with its place, its field with the text, and the type of the item.
DELTAS: dict[str, tuple[str, str, str]] = {
    "response.output_text.delta": ("text", "content_index", "message"),
    "response.refusal.delta": ("refusal", "content_index", "message"),
    "response.reasoning_text.delta": ("reasoning", "content_index", "reasoning"),
    "response.reasoning.delta": ("reasoning", "content_index", "reasoning"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index", "reasoning"),
    "response.reasoning_summary.delta": ("summary", "summary_index", "reasoning"),
    "response.function_call_arguments.delta": ("arguments", "", "function_call"),
    "response.custom_tool_call_input.delta": ("input", "", "custom_tool_call"),
}
WHOLES: dict[str, tuple[str, str, str, str]] = {
    "response.output_text.done": ("text", "content_index", "text", "message"),
    "response.refusal.done": ("refusal", "content_index", "refusal", "message"),
    "response.reasoning_text.done": ("reasoning", "content_index", "text", "reasoning"),
    "response.reasoning_summary_text.done": ("summary", "summary_index", "text", "reasoning"),
    "response.function_call_arguments.done": ("arguments", "", "arguments", "function_call"),
    "response.custom_tool_call_input.done": ("input", "", "input", "custom_tool_call"),
}
ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
HEADS = ("response.created", "response.queued", "response.in_progress")


class Event(msgspec.Struct, gc=False):
    """The fields of an event that are read here."""

    type: str = ""
    delta: Any = None
    output_index: Any = None
    content_index: Any = None
    summary_index: Any = None
    item_id: Any = None
    item: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    input: Any = None
    annotation: Any = None
    response: msgspec.Raw = _NOTHING
    error: Any = None
    code: Any = None
    message: Any = None
    param: Any = None
    sequence_number: Any = None


read_event = msgspec.json.Decoder(Event).decode


def read_odd(payload: bytes) -> Event:
    """
    An event whose JSON is unusual: not quite JSON, of unexpected types, or an error in a list.

    Raises:
        ValueError: it is no JSON object.
    """
    found = as_object(payload)
    if isinstance(found, list) and found and isinstance(found[0], dict):
        found = {"error": found[0].get("error", found[0])}
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004  # the caller asks for JSON objects, whatever else it is
    event = Event()
    for name in Event.__struct_fields__:
        if found.get(name) is not None:
            # A piece may end between the halves of a pair.
            setattr(event, name, found[name] if name == "delta" else whole_text(found[name]))
    event.type = str(event.type)
    if "response" in found:
        import json

        event.response = msgspec.Raw(json.dumps(found["response"]).encode("ascii"))
    return event
