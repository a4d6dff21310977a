"""
What a call may take at most is known before it is sent, from its messages and parameters alone.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_master.messages import normalise
from llm_master.policy.estimate import DEFAULT_OUTPUT, IMAGE, estimate_input, estimate_output, estimate_tokens

HI = [{"role": "user", "content": "Hi"}]


def user(content: Any) -> list[dict[str, Any]]:
    return normalise([{"role": "user", "content": content}], read_file=None)


def more(messages: list[dict[str, Any]], params: dict[str, Any] | None = None) -> int:
    """Tokens beyond those of an empty message."""
    return estimate_input(messages, params or {}) - estimate_input([{"role": "user", "content": ""}], {})


# -- text ---------------------------------------------------------------------------------------------------------

# Counted with the tokenizers cl100k_base, o200k_base, Claude's older one and DeepSeek's; the largest of the four.
COUNTED = [
    ("Answer in one word, please. What is the capital of France? Do not explain anything.", 19),
    ("Die Verhandlungen dauerten länger als erwartet, weil mehrere Änderungen verlangt wurden.", 28),
    ("Переговоры продолжались дольше, чем ожидалось.", 24),
    ("谈判持续的时间比预期的要长因为管理层要求修改合同。", 26),
    ("交渉は予想よりも長く続いた。", 19),
    ("def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n", 23),
    ('{"id": 17, "name": "Ada", "tags": ["x", "y"], "active": true}', 26),
    ("3.14159, 2.71828, 1.41421, 0.57721, 1.61803", 28),
]


@pytest.mark.parametrize(("text", "tokens"), COUNTED)
def test_a_text_is_not_estimated_too_low_and_not_far_too_high(text: str, tokens: int) -> None:
    assert 0.8 * tokens <= estimate_output(text) <= 2 * tokens
    assert estimate_input([{"role": "user", "content": text}], {}) >= tokens + 4, "with what the message itself costs"


@pytest.mark.parametrize(
    ("text", "tenths"),
    [
        ("a", 3),
        (" ", 3),
        ("\n", 3),
        ("7", 6),
        (",", 6),
        ("\t", 6),
        ("é", 10),
        ("я", 10),
        ("谈", 14),
        ("ก", 14),
        ("🎉", 18),
    ],
)
def test_the_weight_of_a_character_is_that_documented(text: str, tenths: int) -> None:
    assert estimate_output(text * 1000) == tenths * 100
    assert estimate_output(text) == math.ceil(tenths / 10)


def test_an_empty_answer_is_nothing() -> None:
    assert estimate_output("") == 0
    assert estimate_output(None) == 0  # type: ignore[arg-type]  # an answer that never began
    assert estimate_output("\ud800" * 10) == 14


@given(st.text(), st.text())
def test_more_text_is_never_less(text: str, other: str) -> None:
    both = estimate_output(text + other)
    assert max(estimate_output(text), estimate_output(other)) <= both <= estimate_output(text) + estimate_output(other)
    assert more([{"role": "user", "content": text}]) == pytest.approx(estimate_output(text), abs=1)


# -- messages -----------------------------------------------------------------------------------------------------


def test_each_message_costs_something_of_its_own() -> None:
    empty = {"role": "user", "content": ""}
    assert [estimate_input([empty] * count, {}) for count in (0, 1, 2, 10)] == [5, 10, 15, 55]


def test_parts_count_as_their_text() -> None:
    text = "What do you see here? " * 20
    plain = more(user(text))
    assert plain <= more(user([{"type": "text", "text": text}])) <= plain + 6
    assert 2 * plain - 1 <= more(user([text, text])) <= 2 * plain + 8


def test_every_text_of_a_turn_counts() -> None:
    long = "word " * 200
    call = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": f'{{"q": "{long}"}}'}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": long, "name": "Ada"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": long},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": long}]},
        {"role": "assistant", "content": "ok", "reasoning_content": long},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "find", "input": {"q": long, "n": 3}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": long}]}],
        },
        {"role": "assistant", "content": "ok", "opaque": {"payload": [{"type": "thinking", "thinking": long}]}},
        {"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": long}}]},
    ]
    for message in turns:
        assert 300 <= more([message]) <= 345, message


IMAGE_DATA = "data:image/png;base64," + "iVBORw0KGgo" * 40_000
SOUND = "UklGRg" * 40_000


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}, IMAGE),
        ({"type": "image_url", "image_url": {"url": IMAGE_DATA, "detail": "high"}}, IMAGE),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE_DATA}}, IMAGE),
        ({"type": "input_audio", "input_audio": {"data": SOUND, "format": "mp3"}}, 961),
        ({"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}}, 185),
        ({"type": "input_audio", "input_audio": {"data": SOUND, "format": 7}}, 961),
        ({"type": "input_audio", "input_audio": {"data": SOUND, "format": ["mp3"]}}, 961),
        ({"type": "input_audio", "input_audio": None}, 1),
        ({"type": "file", "file": {"file_id": "file-1"}}, 2000),
        ({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64," + SOUND}}, 2400),
        ({"type": "file", "file": {"file_data": "data:text/plain;base64," + SOUND}}, 72_007),
        ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": SOUND}}, 2400),
        ({"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}}, 2000),
    ],
)
def test_media_count_flat_or_by_length_and_never_as_text(part: dict[str, Any], tokens: int) -> None:
    found = more([{"role": "user", "content": [part]}])
    assert found == tokens + 2, "two for the list"
    assert more([{"role": "user", "content": [part, part]}]) == 2 * tokens + 2


def test_the_flat_figures_are_those_documented() -> None:
    assert (DEFAULT_OUTPUT, IMAGE) == (1024, 1600)


def test_numbers_and_entries_count_a_little() -> None:
    def of(value: Any) -> int:
        return more([{"role": "assistant", "content": [{"type": "tool_use", "input": value}]}])

    empty = of(None)
    assert [of(value) - empty for value in (7, 7.5, True, {}, [], [7, 7], {"a": {"b": 7}})] == [2, 2, 0, 2, 0, 4, 6]
    assert of({"type": ["image_url"], "text": "word " * 100}) > 150, "a type that is none"


def test_data_in_an_unknown_part_is_no_text_either() -> None:
    assert more([{"role": "user", "content": [{"type": "scan", "scan": {"data": IMAGE_DATA}}]}]) < 20
    assert more([{"role": "user", "content": [{"type": "scan", "text": "data: " + "word " * 100}]}]) > 150
    assert more([{"role": "user", "content": [{"type": "text", "text": "x;base64," + "word " * 100}]}]) > 150
    result = {"type": "tool_result", "content": [{"type": "image", "source": {"data": IMAGE_DATA}}]}
    assert IMAGE <= more([{"role": "user", "content": [result]}]) <= IMAGE + 10


# -- schemas ------------------------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {f"field_{n}": {"type": "string", "description": "谈判"} for n in range(50)}}


def test_tools_and_the_schema_of_the_answer_are_input() -> None:
    import msgspec

    tool = {"type": "function", "function": {"name": "find", "parameters": SCHEMA}}
    weight = estimate_output(msgspec.json.encode(tool).decode())
    assert weight > 700
    assert more(HI, {"tools": [tool]}) == pytest.approx(350 + weight, abs=4)
    assert more(HI, {"functions": [tool]}) == pytest.approx(350 + weight, abs=4)
    assert more(HI, {"response_format": tool}) == pytest.approx(weight, abs=4)
    assert more(HI, {"tools": [tool] * 3}) == pytest.approx(350 + 3 * weight, abs=6)
    assert more(HI, {"tools": [], "response_format": None, "temperature": 0.5}) == more(HI)


def test_a_schema_that_is_no_json_counts_flat() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert more(HI, {"response_format": int}) == more(HI) + 300
    assert more(HI, {"tools": [print, {"a": "\ud800"}]}) == more(HI) + 350 + 600
    assert more(HI, {"tools": circle}) == more(HI) + 350 + 300


# -- the output ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "output"),
    [
        ({}, DEFAULT_OUTPUT),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 8}, 8),
        ({"max_output_tokens": 9}, 9),
        ({"max_tokens": 7, "max_output_tokens": 9}, 9),
        ({"max_tokens": 7, "n": 3}, 21),
        ({"max_tokens": 1, "n": 1}, 1),
        ({"thinking_budget": 100, "thinking": {"budget_tokens": 50}}, 100 + DEFAULT_OUTPUT),
        ({"n": 3}, 3 * DEFAULT_OUTPUT),
        ({"max_tokens": 0, "temperature": 1}, DEFAULT_OUTPUT),
        # Thinking below the maximum is a part of it, else it comes on top of the answer.
        ({"max_tokens": 5000, "thinking_budget": 4999}, 5000),
        ({"max_tokens": 5000, "thinking_budget": 5000}, 10_000),
        ({"max_tokens": 500, "thinking_budget": 8000, "n": 2}, 17_000),
        ({"thinking_budget": 8000}, 8000 + DEFAULT_OUTPUT),
        ({"thinking_budget": 10}, 10 + DEFAULT_OUTPUT),
        ({"thinking": {"type": "enabled", "budget_tokens": 8000}}, 8000 + DEFAULT_OUTPUT),
        ({"thinking": {"type": "adaptive"}, "max_tokens": 7}, 7),
        ({"thinking_budget": 0}, DEFAULT_OUTPUT),
        ({"thinking_budget": -1, "max_tokens": 7}, 7),
        ({"extra_body": {"max_tokens": 7, "thinking_budget": 8}}, 15),
        ({"max_tokens": 6, "extra_body": {"max_tokens": 7}}, 7),
    ],
)
def test_the_most_output_there_can_be(params: dict[str, Any], output: int) -> None:
    assert estimate_tokens(HI, params) == estimate_input(HI, params) + output


@pytest.mark.parametrize("odd", [None, True, False, "7", 7.5, math.nan, math.inf, -7, 0, [7], {"a": 7}])
@pytest.mark.parametrize(
    "name", ["max_tokens", "max_completion_tokens", "n", "thinking_budget", "thinking", "extra_body"]
)
def test_a_value_that_is_no_count_is_ignored(name: str, odd: Any) -> None:
    assert estimate_tokens(HI, {name: odd}) == estimate_tokens(HI, {})


@pytest.mark.parametrize("odd", [None, True, "7", 700.5, math.nan, math.inf, -7])
def test_a_room_that_is_no_count_is_none(odd: Any) -> None:
    assert estimate_tokens(HI, {}, room=odd) == estimate_tokens(HI, {})


# -- room ---------------------------------------------------------------------------------------------------------

LONG = user("word " * 2000)
LONG_INPUT = estimate_input(LONG, {})


@pytest.mark.parametrize(
    ("params", "room", "tokens"),
    [
        ({}, 10**9, LONG_INPUT + DEFAULT_OUTPUT),
        ({}, LONG_INPUT + DEFAULT_OUTPUT, LONG_INPUT + DEFAULT_OUTPUT),
        ({}, LONG_INPUT + 10, LONG_INPUT + 10),
        ({"n": 5}, LONG_INPUT + 2000, LONG_INPUT + 2000),
        ({"n": 5}, 10**9, LONG_INPUT + 5 * DEFAULT_OUTPUT),
        # What is asked for is not cut, but the input may be half of its estimate.
        ({"max_tokens": 500}, LONG_INPUT + 500, LONG_INPUT + 500),
        ({"max_tokens": 500}, LONG_INPUT, LONG_INPUT),
        ({"max_tokens": 500}, LONG_INPUT // 2 + 500, LONG_INPUT // 2 + 500),
        ({"max_tokens": 500}, LONG_INPUT // 2 + 499, LONG_INPUT + 500),
        ({}, LONG_INPUT // 2, LONG_INPUT // 2),
        ({}, LONG_INPUT // 2 - 1, LONG_INPUT),
        ({}, 0, LONG_INPUT),
    ],
)
def test_what_may_fit_asks_for_no_more_than_there_is(params: dict[str, Any], room: int, tokens: int) -> None:
    assert estimate_tokens(LONG, params, room=room) == tokens


# -- anything -----------------------------------------------------------------------------------------------------

ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "type", "text", "data", "source", "file", "tool_calls", "max_tokens", "n"]
            )
            | st.text(max_size=5),
            inner | st.sampled_from(["user", "text", "image_url", "input_audio", "document"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(
    ODD,
    st.dictionaries(st.sampled_from(["max_tokens", "n", "tools", "response_format", "thinking", "extra_body"]), ODD),
    ODD,
)
def test_whatever_is_given_brings_a_count(messages: Any, params: dict[str, Any], room: Any) -> None:
    whole, given_in = estimate_tokens(messages, params, room=room), estimate_input(messages, params)
    assert type(whole) is type(given_in) is int
    assert 0 <= given_in // 2 <= whole


def test_a_structure_that_holds_itself_comes_to_an_end() -> None:
    narrow: dict[str, Any] = {"type": "scan"}
    narrow["scan"] = [narrow, "word"]
    assert estimate_input([{"role": "user", "content": [narrow]}], {}) > 1000
    wide: list[Any] = []
    wide += [wide] * 1000
    assert estimate_input([{"role": "user", "content": wide}], {}) >= 10
