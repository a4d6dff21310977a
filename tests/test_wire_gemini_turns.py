"""
Messages that become contents: what is refused, what is repaired, what is given back, and that nothing gets lost.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.family_requests import result, user
from support.gemini_scenarios import DIALECT, HI, body, call, dropping, refused, request

from llm_master.dialect_gemini import GeminiDialect
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.wire import gemini
from llm_master.wire.gemini_turns import NO_SIGNATURE

NEW, OLD, OLDEST = "gemini-3.8-flash", "gemini-2.5-flash", "gemini-2.0-flash"
ASKED: list[dict[str, Any]] = [
    *HI,
    {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b", "then")]},
]


def contents(messages: list[Any], model: str = OLD, **params: Any) -> list[Any]:
    found: list[Any] = body(model, messages, **params)["contents"]
    return found


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "needs a user message"),
        ([{"role": "system", "content": "S"}], "needs a user message"),
        ([{"role": "user", "content": ""}], "needs a user message"),
        ([{"role": "critic", "content": "?"}], "no role 'critic'"),
        ([{"role": "user", "content": 7}], "content is int"),
        (user({"text": "no type"}), "without a type"),
        (user({"type": "text"}), "without a text"),
        (user({"type": "image", "source": {}}), "no content part of type 'image'"),
        (user({"type": "image_url", "image_url": {}}), "without a url"),
        (user({"type": "image_url", "image_url": {"url": "/etc/passwd"}}), "read the file into a data: URL"),
        (user({"type": "image_url", "image_url": {"url": "data:image/png;base64"}}), "no data"),
        (user({"type": "input_audio", "input_audio": {}}), "without data"),
        (user({"type": "video_url", "video_url": {}}), "without a url"),
        (user({"type": "file"}), "without a file"),
        (user({"type": "file", "file": {"filename": "x"}}), "file_data"),
        (user({"type": "file", "file": {"file_id": 7}}), "a file_id is a text"),
        ([{"role": "system", "content": [{"type": "file", "file": {"file_id": "files/a"}}]}, *HI], "takes text only"),
        ([*HI, {"role": "assistant", "tool_calls": [call("a", arguments="{not json")]}, result("a")], "'now' are not"),
        ([*HI, {"role": "assistant", "tool_calls": [call("a", arguments="[1]")]}, result("a")], "not a JSON object"),
        ([*HI, {"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}, result("a")], "no function call"),
        ([*HI, result("zzz")], "'zzz' answers no tool call"),
        ([*ASKED, result("a")], "'b' has no results"),
        (ASKED, "'a' has no results"),
        ([*ASKED, result("a"), result("b"), result("a")], "'a' has 2 results"),
        ([*ASKED, result("a"), result("b"), {"role": "assistant", "content": "C"}, result("a")], "the turn before it"),
        ([*ASKED, {"role": "assistant", "content": "C"}, *HI], "'a' has no results"),
        ([*ASKED[1:], result("a"), result("b")], "a user message before the first tool call"),
    ],
)
def test_messages_that_cannot_be_sent(messages: list[Any], said: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        body(OLD, messages)
    text = str(caught.value)
    assert said in text
    assert "gemini" in text
    assert repr(OLD) in text


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"type": "refusal", "refusal": "No."}, {"text": "No."}),
        (
            {"type": "image_url", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        ),
        (
            {"type": "video_url", "video_url": "data:video/mp4;base64,AAAA"},
            {"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "data:audio/x-wav;base64,AAAA"}},
            {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "amr"}},
            {"inlineData": {"mimeType": "audio/amr", "data": "AAAA"}},
        ),
        (
            {"type": "file", "file": {"file_url": "https://example.org/x"}},
            {"fileData": {"mimeType": "application/pdf", "fileUri": "https://example.org/x"}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:;base64,QQ%3D%3D"}},
            {"inlineData": {"mimeType": "text/plain", "data": "QQ=="}},
        ),
    ],
)
def test_parts_in_their_other_spellings(part: dict[str, Any], found: dict[str, Any]) -> None:
    assert contents(user("x", part))[0]["parts"][1] == found


def test_arguments_may_be_a_dict() -> None:
    messages = [*HI, {"role": "assistant", "tool_calls": [call("a", arguments={"zone": "UTC"})]}, result("a")]
    assert contents(messages)[1]["parts"][0]["functionCall"]["args"] == {"zone": "UTC"}


def test_an_address_that_nobody_fetches() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    with pytest.raises(UnsupportedParameterError, match="give the image as a data: URL") as caught:
        body(OLDEST, user(part))
    assert caught.value.parameter == "image"
    # Videos of a known site and files of Google's own are no matter of fetching.
    for url in ("https://youtu.be/x", "gs://b/c.png", "https://generativelanguage.googleapis.com/v1/files/a"):
        (found,) = contents(user({"type": "image_url", "image_url": {"url": url}}), OLDEST)
        assert found["parts"][0]["fileData"]["fileUri"] == url


def test_files_where_there_is_no_store() -> None:
    part = {"type": "file", "file": {"file_id": "files/abc"}}
    with pytest.raises(InvalidRequestError, match="keeps no uploaded files"):
        body(NEW, user(part), dialect=GeminiDialect(files=""))


def test_results_follow_their_calls_in_their_order() -> None:
    messages = [*ASKED, result("b", "2"), {"role": "user", "content": "And?"}, result("a", "1")]
    found = contents(messages)
    assert [each["role"] for each in found] == ["user", "model", "user", "user"]
    assert found[2]["parts"] == [
        {"functionResponse": {"name": "now", "response": {"result": "1"}}},
        {"functionResponse": {"name": "then", "response": {"result": "2"}}},
    ]
    assert found[3]["parts"] == [{"text": "And?"}]


def test_results_without_an_id() -> None:
    messages = [*ASKED, {"role": "function", "name": "then", "content": "2"}, {"role": "tool", "content": "1"}]
    assert [part["functionResponse"]["name"] for part in contents(messages)[2]["parts"]] == ["now", "then"]
    legacy = {"role": "assistant", "content": "x", "function_call": {"name": "now", "arguments": " "}}
    found = contents([*HI, legacy, {"role": "function", "name": "now", "content": None}])
    assert found[1]["parts"] == [{"text": "x"}, {"functionCall": {"name": "now", "args": {}}}]
    assert found[2]["parts"] == [{"functionResponse": {"name": "now", "response": {"result": ""}}}]


def test_ids_that_come_again_mean_the_latest_call() -> None:
    turn = [{"role": "assistant", "content": None, "tool_calls": [call("0", "now")]}, result("0", "1")]
    again = [{"role": "assistant", "content": None, "tool_calls": [call("0", "then")]}, result("0", "2")]
    found = contents([*HI, *turn, *again])
    assert [each["parts"][0]["functionResponse"]["name"] for each in found[2::2]] == ["now", "then"]


@pytest.mark.parametrize(
    ("text", "response"),
    [
        ("noon", {"result": "noon"}),
        ('{"a": 1.50}', {"a": 1.5}),
        (' {"a": {}}', {"a": {}}),
        ("[1]", {"result": "[1]"}),
        ("{broken", {"result": "{broken"}),
        ('{"$ref": "#/a"}', {"result": '{"$ref": "#/a"}'}),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], {"result": "ab"}),
    ],
)
def test_what_a_tool_gives_is_an_object(text: Any, response: Any) -> None:
    messages = [*HI, {"role": "assistant", "tool_calls": [call("a")]}, result("a", text)]
    assert contents(messages)[2]["parts"][0]["functionResponse"]["response"] == response


def test_numbers_of_arguments_keep_their_digits() -> None:
    arguments = '{"n": 12345678901234567890123, "x": 1.10}'
    sent = gemini.encode(
        request(OLD, [*HI, {"role": "assistant", "tool_calls": [call("a", arguments=arguments)]}, result("a")]), DIALECT
    )
    assert arguments.encode() in sent


def test_only_the_first_call_of_a_turn_is_signed() -> None:
    found = contents([*ASKED, result("a"), result("b")], NEW)[1]["parts"]
    assert [part.get("thoughtSignature") for part in found] == [NO_SIGNATURE, None]


@pytest.mark.parametrize("field", ["images", "audio", "weight"])
def test_fields_of_a_message_that_have_no_place(field: str) -> None:
    asked = request(OLD, [{"role": "user", "content": "Hi", field: [1]}])
    gemini.encode(asked, DIALECT)
    assert asked.dropped == (f"messages.{field}",)


def test_caching_marks_are_noted_once() -> None:
    mark = {"type": "ephemeral"}
    asked = request(
        OLD,
        [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": mark}], "cache_control": mark}],
    )
    gemini.encode(asked, DIALECT)
    assert asked.dropped == ("cache_control",)


def test_names_of_speakers() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert contents([{"role": "user", "content": "Hi", "name": "Ann"}])[0]["parts"] == [{"text": "Ann: Hi"}]
    assert contents(user(image, name="Ann"))[0]["parts"][0] == {"text": "Ann:"}
    assert contents(user("", "x", name="Ann"))[0]["parts"] == [{"text": "Ann: x"}]


def test_a_system_prompt_where_there_is_no_place_for_it() -> None:
    messages = [{"role": "system", "content": "S"}, {"role": "assistant", "content": "A"}, *HI]
    found = body("gemma-3-27b-it", messages)
    assert "systemInstruction" not in found
    assert found["contents"][0] == {"role": "user", "parts": [{"text": "S"}]}
    assert [each["role"] for each in found["contents"]] == ["user", "model", "user"]


def test_the_assistants_turn_at_the_end() -> None:
    messages = [*HI, {"role": "assistant", "content": "Well"}]
    assert contents(messages)[-1] == {"role": "model", "parts": [{"text": "Well"}]}
    assert "end the messages with the user's" in refused(NEW, "prefill", messages)
    assert dropping(NEW, messages) == (body(NEW), ("prefill",))
    with pytest.raises(InvalidRequestError, match="needs a user message"):
        dropping(NEW, messages[1:])


# Nothing gets lost --------------------------------------------------------------------------------------------------

TEXTS = st.text(min_size=1, max_size=6)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": draw(TEXTS)}]
    for number in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["user", "assistant", "system", "tools"]))
        if kind != "tools":
            messages.append({"role": kind, "content": draw(TEXTS)})
            continue
        ids = [f"{number}-{each}" for each in range(draw(st.integers(1, 3)))]
        messages.append(
            {"role": "assistant", "content": draw(st.none() | TEXTS), "tool_calls": [call(each) for each in ids]}
        )
        messages += [result(each, draw(TEXTS)) for each in draw(st.permutations(ids))]
    messages.append({"role": "user", "content": draw(TEXTS)})
    return messages


def told(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What a conversation says, in its order; results in that of their calls."""
    order: list[tuple[str, str]] = []
    results = {m["tool_call_id"]: m["content"] for m in messages if m["role"] == "tool"}
    for message in messages:
        if message["role"] in ("user", "assistant") and message["content"]:
            order.append(("model" if message["role"] == "assistant" else "user", message["content"]))
        calls = message.get("tool_calls", ())
        order += [("call", "now")] * len(calls)
        order += [("result", results[each["id"]]) for each in calls]
    return order


def said(part: dict[str, Any], role: str) -> tuple[str, str]:
    if "functionCall" in part:
        return "call", part["functionCall"]["name"]
    if "functionResponse" in part:
        return "result", part["functionResponse"]["response"]["result"]
    return role, part["text"]


@given(conversations())
def test_everything_is_sent_in_its_order_and_every_call_has_its_result(messages: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(messages)
    sent = body(NEW, messages)
    assert messages == before
    found = sent["contents"]
    assert [said(part, each["role"]) for each in found for part in each["parts"]] == told(messages)
    system = [part["text"] for part in sent.get("systemInstruction", {}).get("parts", ())]
    assert system == [m["content"] for m in messages if m["role"] == "system"]
    for one, after in itertools.pairwise(found):
        calls = [part for part in one["parts"] if "functionCall" in part]
        assert [part for part in after["parts"] if "functionResponse" in part] == after["parts"][: len(calls)]
        # Two contents of one side in a row only where the first one is of results.
        assert one["role"] != after["role"] or "functionResponse" in one["parts"][0]
    assert found[0]["role"] == found[-1]["role"] == "user"
