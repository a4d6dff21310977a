"""
Turns of a Gemini model that come back in the history: signatures on their parts, edits, other models, tokens.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from support.family_requests import result
from support.gemini_scenarios import DIALECT, HI, body, call, chunk, refused, request

from llm_master.classes import LLMResponse
from llm_master.errors import InvalidRequestError
from llm_master.wire import gemini
from llm_master.wire.gemini_turns import NO_SIGNATURE

NEW = "gemini-3.8-flash"


def contents(messages: list[Any], model: str) -> list[Any]:
    found: list[Any] = body(model, messages)["contents"]
    return found


SIGNED = [
    {"text": "Let me", "thought": True},
    {"text": "I look."},
    {"functionCall": {"id": "x1", "name": "now", "args": {"zone": "UTC"}}, "thoughtSignature": "c2lnMQ=="},
    {"functionCall": {"id": "x2", "name": "then", "args": {}}},
]


def answered(*parts: Any, model: str = NEW, finish: str = "STOP", **params: Any) -> LLMResponse:
    fold = gemini.Fold(request(model, **params), DIALECT)
    for part in parts:
        fold.feed(chunk(part))
    fold.feed(chunk(finish=finish))
    fold.end()
    return fold.response()


def test_a_turn_is_given_back_part_by_part() -> None:
    message = answered(*SIGNED).message
    found = contents([*HI, message, result("x1", "1"), result("x2", "2")], NEW)
    assert found[1] == {"role": "model", "parts": SIGNED}
    assert [part["functionResponse"]["id"] for part in found[2]["parts"]] == ["x1", "x2"]


@pytest.mark.parametrize("provider", ["gemini", "other"])
@pytest.mark.parametrize("model", [NEW, "gemini-4-argon"])
def test_what_another_made_is_not_given_back(provider: str, model: str) -> None:
    message = answered(*SIGNED).message
    asked = request(model, [*HI, message, result("x1", "1"), result("x2", "2")])
    asked.provider = provider
    sent = gemini.encode(asked, DIALECT)
    own = (provider, model) == ("gemini", NEW)
    assert (b"c2lnMQ==" in sent) is own
    assert (NO_SIGNATURE.encode() in sent) is not own
    assert (b'"thought"' in sent) is own
    # The words and the calls themselves are never lost.
    assert b"I look." in sent
    assert sent.count(b'"functionCall"') == sent.count(b'"functionResponse"') == 2


def edit(message: dict[str, Any], *path: Any, value: Any) -> dict[str, Any]:
    message = copy.deepcopy(message)
    target: Any = message
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return message


@pytest.mark.parametrize(
    ("path", "value", "signed"),
    [
        (("content",), "I look!", True),
        (("tool_calls", 0, "function", "arguments"), '{"zone":"CET"}', False),
        (("tool_calls", 0, "function", "name"), "when", False),
        (("tool_calls", 0, "function", "arguments"), '{ "zone" : "UTC" }', True),
        (("tool_calls", 1, "function", "arguments"), "{broken", None),
    ],
)
def test_an_edited_turn_keeps_the_signature_of_what_is_left(path: Any, value: Any, signed: bool | None) -> None:
    message = edit(answered(*SIGNED).message, *path, value=value)
    messages = [*HI, message, result("x1", "1"), result("x2", "2")]
    if signed is None:
        with pytest.raises(InvalidRequestError, match="not a JSON object"):
            contents(messages, NEW)
        return
    first = next(part for part in contents(messages, NEW)[1]["parts"] if "functionCall" in part)
    assert first["thoughtSignature"] == ("c2lnMQ==" if signed else NO_SIGNATURE)


def test_a_call_under_another_id_is_not_given_back() -> None:
    message = edit(answered(*SIGNED).message, "tool_calls", 0, "id", value="mine")
    found = contents([*HI, message, result("mine"), result("x2")], NEW)
    calls = [part for part in found[1]["parts"] if "functionCall" in part]
    assert [part["functionCall"].get("id") for part in calls] == [None, "x2"]
    assert calls[0]["thoughtSignature"] == NO_SIGNATURE
    assert [part["functionResponse"].get("id") for part in found[2]["parts"]] == [None, "x2"]


def test_a_removed_call_is_not_given_back() -> None:
    message = edit(answered(*SIGNED).message, "tool_calls", value=[call("x2", "then")])
    found = contents([*HI, message, result("x2")], NEW)
    assert [part["functionCall"]["name"] for part in found[1]["parts"] if "functionCall" in part] == ["then"]


def test_plain_turns_carry_nothing() -> None:
    assert answered({"text": "Hi"}).opaque is None
    assert answered({"text": "x", "thought": True}, {"functionCall": {"name": "now"}}).opaque is None
    assert answered({"text": "Hi"}, {"thoughtSignature": "AAAA"}).opaque is None
    assert "opaque" not in answered({"text": "Hi"}).message


def test_pictures_are_given_back_and_sound_is_not() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}, "thoughtSignature": "c2ln"}
    sound = {"inlineData": {"mimeType": "audio/L16", "data": "AAAA"}}
    message = answered(image, sound, model="gemini-3-pro-image").message
    found = contents([*HI, message, {"role": "user", "content": "In red"}], "gemini-3-pro-image")
    assert found[1] == {"role": "model", "parts": [image]}
    # To another model the turn has nothing to say.
    assert [each["role"] for each in contents([*HI, message, {"role": "user", "content": "In red"}], NEW)] == ["user"]


def test_an_unfinished_answer_goes_on_by_its_token() -> None:
    fold = gemini.Fold(request("gemini-4-argon"), DIALECT)
    piece = json.loads(chunk({"text": "1 2"}, finish="CONTINUATION")[6:])
    piece["candidates"][0]["continuationToken"] = "dG9r"
    fold.feed(b"data: " + json.dumps(piece).encode() + b"\n\n")
    fold.end()
    first = fold.response()
    assert first.finish_reason == "pause"
    found = body("gemini-4-argon", [*HI, first.message])
    assert found == {**body("gemini-4-argon"), "continuationToken": "dG9r"}
    # It stands for the end of the messages only, and for this model.
    ended = [*HI, first.message, {"role": "assistant", "content": " 3"}, {"role": "user", "content": "Thanks"}]
    assert "continuationToken" not in body("gemini-4-argon", ended)
    assert contents([*HI, first.message, *HI], "gemini-4-argon")[1]["parts"] == [{"text": "1 2"}]
    refused(NEW, "prefill", [*HI, first.message])
