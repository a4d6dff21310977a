"""
The golden files of the Responses family, and all that a scenario brings as plain JSON.

A scenario is ``wire/openai_responses/NAME.request.json`` (dialect and request), ``NAME.response.json`` and ``NAME.sse``
(the server's bytes, whole and streamed; either may be missing), and ``NAME.expected.json``. A dialect is given in full
or by its name in ``dialects.json``. ``python -m support.responses_scenarios NAME...``, in ``tests/``, writes the
expected files anew; read the difference before you keep it.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import msgspec

from llm_master.classes import LLMResponse, Request
from llm_master.dialect_responses import ResponsesDialect
from llm_master.errors import LLMError
from llm_master.events import ReasoningEvent, RefusalEvent, StreamEvent, ToolCallEvent
from llm_master.wire import openai_responses as family
from support.chat_scenarios import shown, shown_error, shown_response

__all__ = [
    "DIALECTS",
    "NAMES",
    "PLAIN",
    "STREAMED",
    "asked",
    "dialect_of",
    "expected",
    "fold_of",
    "folded",
    "observed",
    "plain_of",
    "request_of",
    "setting",
    "stream_of",
    "texts_of",
]

FOLDER = pathlib.Path(__file__).parent.parent / "wire" / "openai_responses"
DIALECTS: dict[str, ResponsesDialect] = {
    name: msgspec.convert(row["responses"], ResponsesDialect)
    for name, row in json.loads((FOLDER / "dialects.json").read_text()).items()
}


def _names(suffix: str) -> list[str]:
    return sorted(path.name.removesuffix(suffix) for path in FOLDER.glob(f"*{suffix}"))


NAMES, PLAIN, STREAMED = _names(".request.json"), _names(".response.json"), _names(".sse")


def setting(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.request.json").read_text())


def dialect_of(name: str) -> ResponsesDialect:
    given = setting(name)["dialect"]
    return DIALECTS[given] if isinstance(given, str) else msgspec.convert(given, ResponsesDialect)


def request_of(name: str, *, stream: bool = False) -> Request:
    request = msgspec.convert(setting(name)["request"], Request)
    request.stream = stream
    return request


def plain_of(name: str) -> bytes:
    return (FOLDER / f"{name}.response.json").read_bytes()


def stream_of(name: str) -> bytes:
    return (FOLDER / f"{name}.sse").read_bytes()


def expected(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.expected.json").read_text())


def asked(*messages: Any, model: str = "m", provider: str = "acme", **params: Any) -> Request:
    """A request to an unknown server."""
    given = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
    return Request(provider, model, given or [{"role": "user", "content": "Hi"}], params)


def fold_of(name: str) -> family.Fold:
    return family.Fold(request_of(name, stream=True), dialect_of(name), rules=setting(name).get("rules"))


def texts_of(events: list[str | StreamEvent]) -> tuple[str, str, str]:
    """Text, reasoning and refusal that events give out."""
    said = "".join(event for event in events if isinstance(event, str))
    thought = "".join(event.text for event in events if isinstance(event, ReasoningEvent))
    return said, thought, "".join(event.text for event in events if isinstance(event, RefusalEvent))


def folded(name: str, pieces: list[bytes]) -> dict[str, Any]:
    """What a stream brings when its bytes arrive in these pieces."""
    fold = fold_of(name)
    events: list[str | StreamEvent] = []
    found: dict[str, Any] = {}
    try:
        for piece in pieces:
            events += fold.feed(piece)
        events += fold.end()
    except LLMError as error:
        found["error"] = shown_error(error)
    response = fold.response()
    if "error" not in found:
        # Before an error in the same bytes, what was given out depends on how they were split.
        found["events"] = shown(events)
        assert texts_of(events) == (response.content, response.reasoning or "", response.refusal or "")
        given = [event.tool_call for event in events if isinstance(event, ToolCallEvent)]
        assert all(call in response.tool_calls for call in given)
    return {**found, "complete": fold.complete, "done": fold.done, "response": shown_response(response)}


def observed(name: str) -> dict[str, Any]:
    """All that a scenario brings; the response of both ways once, as they must agree."""
    request, dialect = request_of(name), dialect_of(name)
    try:
        found: dict[str, Any] = {"body": json.loads(family.encode(request, dialect))}
    except LLMError as error:
        return {"refused": shown_error(error)}
    if request.dropped:
        found["dropped"] = list(request.dropped)
    if name in PLAIN:
        found.update(_decoded(name, request, dialect))
    if name in STREAMED:
        streamed = folded(name, [stream_of(name)])
        if "response" in found:
            assert streamed.pop("response") == found["response"]
            assert (streamed.pop("complete"), streamed.pop("done")) == (True, True)
        elif name in PLAIN:
            assert (streamed["error"], streamed["complete"]) == (found["error"], False)
            return found
        found.update(streamed)
    return found


def _decoded(name: str, request: Request, dialect: ResponsesDialect) -> dict[str, Any]:
    try:
        response = family.decode(plain_of(name), request, dialect, rules=setting(name).get("rules"))
    except LLMError as error:
        return {"error": shown_error(error)}
    assert (response.provider, response.dropped) == (request.provider, request.dropped)
    assert response.raw_body == plain_of(name)
    return {"response": _without_dropped(response)}


def _without_dropped(response: LLMResponse) -> dict[str, Any]:
    return {field: value for field, value in shown_response(response).items() if field != "dropped"}


if __name__ == "__main__":
    for chosen in sys.argv[1:] or NAMES:
        text = json.dumps(observed(chosen), indent=1, ensure_ascii=False)
        (FOLDER / f"{chosen}.expected.json").write_text(text + "\n")
