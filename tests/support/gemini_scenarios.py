"""
The golden files of the gemini family, and all that a scenario brings as plain JSON.

A scenario is ``wire/gemini/NAME.request.json`` (dialect and request), ``NAME.response.json`` (a whole answer) and
``NAME.sse`` (a streamed one), of which either may be missing, and ``NAME.expected.json``. ``python -m
support.gemini_scenarios NAME...``, in ``tests/``, writes the expected files anew; read the difference before you keep
it.
"""

from __future__ import annotations

import base64
import json
import pathlib
import sys
from typing import Any

import msgspec

from llm_master.classes import Image, LLMResponse, Request, ToolCall, Usage
from llm_master.dialect_gemini import GeminiDialect
from llm_master.errors import LLMError
from llm_master.events import StreamEvent, ToolCallEvent
from llm_master.wire import gemini
from support.family_requests import HI, Requests, call

__all__ = [
    "ANSWERED",
    "DIALECT",
    "HI",
    "NAMES",
    "STREAMED",
    "TOOL",
    "body",
    "call",
    "chunk",
    "dialect_of",
    "dropping",
    "expected",
    "folded",
    "observed",
    "plain_of",
    "refused",
    "request",
    "request_of",
    "stream_of",
]

FOLDER = pathlib.Path(__file__).parent.parent / "wire" / "gemini"
NAMES = sorted(path.name.removesuffix(".request.json") for path in FOLDER.glob("*.request.json"))
ANSWERED = [name for name in NAMES if (FOLDER / f"{name}.response.json").exists()]
STREAMED = [name for name in NAMES if (FOLDER / f"{name}.sse").exists()]


def dialect_of(name: str) -> GeminiDialect:
    return msgspec.convert(_setting(name).get("dialect", {}), GeminiDialect)


def request_of(name: str) -> Request:
    return msgspec.convert({"params": {}, **_setting(name)["request"]}, Request)


def _setting(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.request.json").read_text())


def plain_of(name: str) -> bytes:
    return (FOLDER / f"{name}.response.json").read_bytes()


def stream_of(name: str) -> bytes:
    return (FOLDER / f"{name}.sse").read_bytes()


def expected(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.expected.json").read_text())


# What a scenario brings, as plain JSON ------------------------------------------------------------------------------


def shown(value: Any) -> Any:
    """Any value of a response as JSON."""
    found = value
    if isinstance(value, bytes):
        found = {"base64": base64.b64encode(value).decode()}
    elif isinstance(value, ToolCall):
        found = {"id": value.id, "name": value.name, "arguments": value.raw_arguments}
    elif isinstance(value, Usage):
        found = {field: getattr(value, field) for field in value.__struct_fields__ if getattr(value, field)}
    elif isinstance(value, Image):
        more = {"revised_prompt": value.revised_prompt} if value.revised_prompt else {}
        found = {"url": value.url, "data": shown(value.data), "mime_type": value.mime_type, **more}
    elif isinstance(value, StreamEvent):
        found = {"event": value.type, **{field: shown(getattr(value, field)) for field in value.__struct_fields__}}
    elif isinstance(value, msgspec.Struct):
        found = {field: shown(getattr(value, field)) for field in value.__struct_fields__}
    elif isinstance(value, list | tuple):
        found = [shown(entry) for entry in value]
    return found


def shown_response(response: LLMResponse) -> dict[str, Any]:
    """The fields that are set."""
    plain = LLMResponse()
    fields = {
        field: shown(getattr(response, field))
        for field in response.__struct_fields__
        if field not in ("raw_body", "provider", "model_name", "dropped")
        and getattr(response, field) != getattr(plain, field)
    }
    return {"content": response.content, "finish_reason": response.finish_reason, **fields}


def shown_error(error: LLMError) -> dict[str, Any]:
    fields = {
        name: getattr(error, name, None)
        for name in ("code", "status_code", "parameter", "retryable", "retry_after", "request_id")
    }
    return {"type": type(error).__name__, "message": str(error), **{k: v for k, v in fields.items() if v is not None}}


def folded(name: str, pieces: list[bytes]) -> dict[str, Any]:
    """What a stream brings when its bytes arrive in these pieces."""
    fold = gemini.Fold(request_of(name), dialect_of(name), rules=_setting(name).get("rules"))
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
        assert [event.tool_call for event in events if isinstance(event, ToolCallEvent)] == response.tool_calls
    raw = {"raw": response.raw} if response.raw is not None else {}
    return {**found, "done": fold.done, "complete": fold.complete, "response": shown_response(response), **raw}


def decoded(name: str) -> dict[str, Any]:
    """What a whole answer brings."""
    request, answer = request_of(name), plain_of(name)
    try:
        response = gemini.decode(answer, request, dialect_of(name), rules=_setting(name).get("rules"))
    except LLMError as error:
        return {"error": shown_error(error)}
    assert response.provider == request.provider
    assert response.raw_body is answer
    return {"response": shown_response(response)}


def observed(name: str) -> dict[str, Any]:
    """All that a scenario brings."""
    found: dict[str, Any] = {}
    request = request_of(name)
    try:
        found["body"] = json.loads(gemini.encode(request, dialect_of(name)))
    except LLMError as error:
        return {"refused": shown_error(error)}
    if request.dropped:
        found["dropped"] = list(request.dropped)
    if name in ANSWERED:
        found["plain"] = decoded(name)
    if name in STREAMED:
        found["stream"] = folded(name, [stream_of(name)])
    return found


# Requests as single tests write them --------------------------------------------------------------------------------

DIALECT = GeminiDialect()
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "now", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}},
}
_MADE = Requests("gemini", gemini.encode, DIALECT)
request, body, dropping, refused = _MADE.request, _MADE.body, _MADE.dropping, _MADE.refused


def chunk(*parts: Any, finish: str | None = None, **more: Any) -> bytes:
    """A chunk of a stream as its event."""
    candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return f"data: {json.dumps({'candidates': [candidate], 'responseId': 'r1', **more})}\r\n\r\n".encode()


if __name__ == "__main__":
    for chosen in sys.argv[1:] or NAMES:
        text = json.dumps(observed(chosen), indent=1, ensure_ascii=False)
        (FOLDER / f"{chosen}.expected.json").write_text(text + "\n")
