"""
Well-formed answers of OpenAI's Responses API, plain and as stream events, and its errors.

Written from the vendor's reference of ``/v1/responses`` and of its stream events; shares no code with the package.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Usage
from support.bodies import CHAT, Answer, Event, dumps, error_json, halves

__all__ = ["error", "error_event", "error_headers", "events", "incomplete", "noise", "plain", "speechless"]

_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


def usage_json(usage: Usage) -> dict[str, Any]:
    """Tokens: details are parts of the totals."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _shell(answer: Answer) -> dict[str, Any]:
    return {
        "id": answer.id,
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": answer.model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "store": False,
        "usage": None,
    }


def _items(answer: Answer) -> list[dict[str, Any]]:
    """The items of the output, whole."""
    items: list[dict[str, Any]] = []
    if answer.reasoning is not None:
        summary = [{"type": "summary_text", "text": answer.reasoning}]
        items.append({"id": "rs_1", "type": "reasoning", "summary": summary, "encrypted_content": "ZW5jcnlwdGVk"})
    content: list[dict[str, Any]] = []
    if answer.text:
        content.append({"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []})
    if answer.refusal:
        content.append({"type": "refusal", "refusal": answer.refusal})
    if content:
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
        items.append(message)
    for number, call in enumerate(answer.tool_calls, 1):
        named = {"call_id": call.id, "name": call.name, "arguments": call.raw_arguments}
        items.append({"id": f"fc_{number}", "type": "function_call", "status": "completed", **named})
    return items


def plain(answer: Answer) -> dict[str, Any]:
    """A ``response`` that has ended."""
    reason = _REASONS.get(answer.finish_reason)
    return _shell(answer) | {
        "status": "incomplete" if reason else "failed" if answer.finish_reason == "error" else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "error": {"code": "server_error", "message": "It failed."} if answer.finish_reason == "error" else None,
        "output": _items(answer),
        "usage": usage_json(answer.usage) if answer.usage is not None else None,
    }


def events(answer: Answer) -> list[Event]:
    """``response.created``, each item opened, grown and closed, and the whole response as the end."""
    found: list[Event] = []

    def event(kind: str, name: str, /, **fields: Any) -> None:
        found.append(Event(kind, dumps({"type": name, "sequence_number": len(found)} | fields), name))

    event("start", "response.created", response=_shell(answer))
    event("start", "response.in_progress", response=_shell(answer))
    for index, item in enumerate(_items(answer)):
        started = {"status": "in_progress"} if "status" in item else {}
        opened = item | started
        for field, nothing in (("content", []), ("summary", []), ("arguments", "")):
            if field in item:
                opened = opened | {field: nothing}
        event("open", "response.output_item.added", output_index=index, item=opened)
        place = {"item_id": item["id"], "output_index": index}
        for kind, name, fields in _growth(item, answer):
            event(kind, f"response.{name}", **place, **fields)
        event("close", "response.output_item.done", output_index=index, item=item)
    whole = plain(answer)
    event("finish", f"response.{whole['status']}", response=whole)
    return found


def _growth(item: dict[str, Any], answer: Answer) -> list[tuple[str, str, dict[str, Any]]]:
    """What comes between the start of an item and its end: kind, name and fields of each event."""
    if item["type"] == "function_call":
        name = "function_call_arguments"
        deltas = [("delta", f"{name}.delta", {"delta": part}) for part in halves(item["arguments"])]
        return [*deltas, ("close", f"{name}.done", {"name": item["name"], "arguments": item["arguments"]})]
    if item["type"] == "reasoning":
        place = {"summary_index": 0}
        (part,) = item["summary"]
        return [
            ("open", "reasoning_summary_part.added", place | {"part": part | {"text": ""}}),
            ("delta", "reasoning_summary_text.delta", place | {"delta": part["text"]}),
            ("close", "reasoning_summary_text.done", place | {"text": part["text"]}),
            ("close", "reasoning_summary_part.done", place | {"part": part}),
        ]
    steps: list[tuple[str, str, dict[str, Any]]] = []
    for number, part in enumerate(item["content"]):
        place = {"content_index": number}
        field = "text" if part["type"] == "output_text" else "refusal"
        more = {"logprobs": []} if field == "text" else {}
        pieces = answer.text_pieces if field == "text" else (part["refusal"],)
        steps.append(("open", "content_part.added", place | {"part": part | {field: ""}}))
        steps += [("delta", f"{part['type']}.delta", place | {"delta": piece} | more) for piece in pieces]
        steps.append(("close", f"{part['type']}.done", place | {field: part[field]} | more))
        steps.append(("close", "content_part.done", place | {"part": part}))
    return steps


# When it fails --------------------------------------------------------------------------------------------------------


def error(status: int, message: str | None, type: str | None, code: str | None) -> dict[str, Any]:
    """The error body, that of all of OpenAI's routes."""
    return error_json(CHAT, status, message=message, type=type, code=code)


def error_headers(status: int) -> list[tuple[str, str]]:
    """Headers that an error has."""
    return [("x-request-id", "req_fault")]


def error_event(status: int) -> Event:
    """An ``error`` event: its fields stand beside its type."""
    inner = error(status, None, None, None)["error"]
    code = inner["code"] or inner["type"]
    fields = {"code": code, "message": inner["message"], "param": None, "sequence_number": 99}
    return Event("error", dumps({"type": "error"} | fields), "error")


def incomplete(body: dict[str, Any]) -> dict[str, Any]:
    """The plain answer as a run that has not ended."""
    return body | {"status": "in_progress"}


def speechless(body: dict[str, Any]) -> dict[str, Any]:
    """The plain answer without anything in it."""
    return body | {"output": [], "status": None}


def noise() -> list[Event]:
    """What may stand between two events and means nothing."""
    return [Event("comment", "keep-alive"), Event("noise", '{"type":"keepalive"}', "keepalive")]
