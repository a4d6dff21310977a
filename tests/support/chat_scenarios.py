"""
The golden files of the chat family, and all that a scenario brings as plain JSON.

A scenario is ``wire/openai_chat/NAME.request.json`` (dialect and request), ``NAME.response.json`` or ``NAME.sse`` (the
server's bytes), and ``NAME.expected.json``. ``python -m support.chat_scenarios NAME...``, in ``tests/``, writes the
expected files anew; read the difference before you keep it.
"""

from __future__ import annotations

import base64
import json
import pathlib
import sys
from typing import Any

import msgspec

from llm_master.classes import Image, LLMResponse, Request, ToolCall, Usage
from llm_master.errors import LLMError
from llm_master.events import StreamEvent, ToolCallEvent
from llm_master.rows import ChatDialect
from llm_master.wire import openai_chat

__all__ = [
    "NAMES",
    "STREAMED",
    "dialect_of",
    "expected",
    "folded",
    "observed",
    "request_of",
    "sent",
    "setting",
    "shown_response",
]

FOLDER = pathlib.Path(__file__).parent.parent / "wire" / "openai_chat"
NAMES = sorted(path.name.removesuffix(".request.json") for path in FOLDER.glob("*.request.json"))
STREAMED = [name for name in NAMES if (FOLDER / f"{name}.sse").exists()]


def setting(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.request.json").read_text())


def dialect_of(name: str) -> ChatDialect:
    return msgspec.convert(setting(name)["dialect"], ChatDialect)


def request_of(name: str) -> Request:
    return msgspec.convert(setting(name)["request"], Request)


def sent(name: str) -> bytes | None:
    """The server's bytes, None for a scenario that is about the request only."""
    for ending in ("sse", "response.json"):
        path = FOLDER / f"{name}.{ending}"
        if path.exists():
            return path.read_bytes()
    return None


# What a scenario brings, as plain JSON ------------------------------------------------------------------------------


def shown(value: Any) -> Any:
    """Any value of a response as JSON."""
    found = value
    if isinstance(value, bytes):
        found = {"base64": base64.b64encode(value).decode()}
    elif isinstance(value, ToolCall):
        found = {"id": value.id, "name": value.name, "arguments": value.raw_arguments, "extra": value.extra}
    elif isinstance(value, Usage):
        found = {field: getattr(value, field) for field in value.__struct_fields__ if getattr(value, field)}
    elif isinstance(value, Image):
        more = {"revised_prompt": value.revised_prompt} if value.revised_prompt else {}
        found = {"url": value.url, "data": shown(value.data), "mime_type": value.mime_type, **more}
    elif isinstance(value, msgspec.Struct):
        fields = {field: shown(getattr(value, field)) for field in value.__struct_fields__}
        found = {"event": value.type, **fields} if isinstance(value, StreamEvent) else fields
    elif isinstance(value, list | tuple):
        found = [shown(entry) for entry in value]
    elif not isinstance(value, dict | str | int | bool | None):
        found = str(value)
    return found


def shown_response(response: LLMResponse) -> dict[str, Any]:
    """The fields that are set."""
    plain = LLMResponse()
    fields = {
        field: shown(getattr(response, field))
        for field in response.__struct_fields__
        if field not in ("raw_body", "provider") and getattr(response, field) != getattr(plain, field)
    }
    return {"content": response.content, "finish_reason": response.finish_reason, **fields}


def shown_error(error: LLMError) -> dict[str, Any]:
    fields = {name: getattr(error, name, None) for name in ("code", "status_code", "parameter", "retryable")}
    return {"type": type(error).__name__, "message": str(error), **{k: v for k, v in fields.items() if v is not None}}


def folded(name: str, pieces: list[bytes]) -> dict[str, Any]:
    """What a stream brings when its bytes arrive in these pieces."""
    request = request_of(name)
    fold = openai_chat.Fold(request, dialect_of(name), rules=setting(name).get("rules"))
    events: list[str | StreamEvent] = []
    found: dict[str, Any] = {}
    try:
        for piece in pieces:
            events += fold.feed(piece)
        events += fold.end()
    except LLMError as error:
        found["error"] = shown_error(error)
    response = fold.response()
    assert response.notes == tuple(fold.notes)
    if "error" not in found:
        # Before an error in the same bytes, what was given out depends on how they were split.
        found["events"] = shown(events)
        assert "".join(event for event in events if isinstance(event, str)) == response.content
        given = [event.tool_call for event in events if isinstance(event, ToolCallEvent)]
        assert given == [call for call in response.tool_calls if call in given]
    raw = response.raw
    return {
        **found,
        "done": fold.done,
        "complete": fold.complete,
        "response": shown_response(response),
        **({"raw": raw} if raw is not None else {}),
    }


def observed(name: str) -> dict[str, Any]:
    """All that a scenario brings."""
    found: dict[str, Any] = {}
    request, dialect = request_of(name), dialect_of(name)
    try:
        found["body"] = json.loads(openai_chat.encode(request, dialect))
    except LLMError as error:
        return {"refused": shown_error(error)}
    if request.dropped:
        found["dropped"] = list(request.dropped)
    answer = sent(name)
    if answer is None:
        return found
    if request.stream:
        return {**found, **folded(name, [answer])}
    try:
        response = openai_chat.decode(answer, request, dialect, rules=setting(name).get("rules"))
    except LLMError as error:
        return {**found, "error": shown_error(error)}
    assert response.provider == request.provider
    assert response.dropped == request.dropped
    assert response.raw_body is answer
    return {**found, "response": {k: v for k, v in shown_response(response).items() if k != "dropped"}}


def expected(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.expected.json").read_text())


if __name__ == "__main__":
    for chosen in sys.argv[1:] or NAMES:
        text = json.dumps(observed(chosen), indent=1, ensure_ascii=False)
        (FOLDER / f"{chosen}.expected.json").write_text(text + "\n")
