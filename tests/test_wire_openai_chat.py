"""
The chat family against its golden files, and every split of a stream's bytes and of its text.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chat_scenarios import (
    NAMES,
    STREAMED,
    dialect_of,
    expected,
    folded,
    observed,
    request_of,
    sent,
    setting,
    shown_response,
)
from support.golden import check_any_split, check_given_is_kept

from llm_master.classes import LLMResponse, Request
from llm_master.errors import ResponseTooLargeError
from llm_master.rows import ChatDialect
from llm_master.wire import openai_chat


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_gives_what_is_expected(name: str) -> None:
    assert observed(name) == expected(name)


@pytest.mark.parametrize("name", NAMES)
def test_encoding_changes_nothing_that_was_given(name: str) -> None:
    check_given_is_kept(request_of(name), lambda request: openai_chat.encode(request, dialect_of(name)))


def test_every_field_of_the_dialect_has_a_scenario() -> None:
    used = {field for name in NAMES for field in setting(name)["dialect"]}
    assert used | {"media"} == set(ChatDialect.__struct_fields__)  # for media: tests/test_input.py


# Streams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_is_the_same_however_it_is_split(name: str) -> None:
    stream = sent(name)
    assert stream is not None
    check_any_split(lambda pieces: folded(name, pieces), stream)


def chunk(delta: dict[str, Any], finish: str | None = None, *, ascii: bool = True, **more: Any) -> bytes:
    value = {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return f"data: {json.dumps(value, ensure_ascii=ascii)}\n\n".encode()


def asked(**params: Any) -> Request:
    return Request("acme", "m", [{"role": "user", "content": "Hi"}], params, stream=True)


def test_text_is_given_out_as_it_comes() -> None:
    fold = openai_chat.Fold(asked(), ChatDialect())
    assert fold.feed(chunk({"role": "assistant", "content": ""})) == []
    assert fold.feed(chunk({"content": "Hel"}) + chunk({"content": "lo"})[:20]) == ["Hel"]
    assert fold.feed(chunk({"content": "lo"})[20:]) == ["lo"]
    assert fold.response().content == "Hello"


def test_nothing_more_is_needed_after_finish_reason_and_usage() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    fold = openai_chat.Fold(asked(), ChatDialect())
    fold.feed(chunk({"content": "Hi"}, usage=usage))
    assert (fold.complete, fold.done) == (False, False)
    fold.feed(chunk({}, "stop"))
    assert (fold.complete, fold.done) == (True, False)
    fold.feed(b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n')
    assert (fold.complete, fold.done) == (True, True)


def test_of_several_choices_only_the_end_marker_ends_the_stream() -> None:
    fold = openai_chat.Fold(asked(n=2), ChatDialect())
    fold.feed(chunk({"content": "Hi"}, "stop", usage={"prompt_tokens": 1}))
    assert (fold.complete, fold.done) == (True, False)
    fold.feed(b"data: [DONE]\n\n")
    assert (fold.complete, fold.done) == (True, True)


def test_sizes_are_limited() -> None:
    for start in (b"data: ", b"{"):
        fold = openai_chat.Fold(asked(), ChatDialect())
        fold.feed(start)
        with pytest.raises(ResponseTooLargeError, match=r"acme .*'m'"):
            fold.feed(bytes(64 * 1024 * 1024))


PIECES = st.lists(
    st.text(st.sampled_from('<think>/ \\"\n\u00e9\u20ac\U0001f600{}a:'), max_size=6), min_size=1, max_size=12
)
TEXTS = st.one_of(
    PIECES,
    PIECES.map(lambda pieces: ["<think>", *pieces]),
    st.tuples(PIECES, PIECES).map(lambda both: ["<thi", "nk>", *both[0], "</th", "ink>", *both[1]]),
)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def both_ways(pieces: list[str], request: Request, dialect: ChatDialect) -> LLMResponse:
    """The folded answer, after checking that the whole answer decodes to the same."""
    fold = openai_chat.Fold(request, dialect)
    events = [event for piece in pieces for event in fold.feed(chunk({"content": piece}, ascii=False))]
    events += fold.feed(chunk({}, "stop")) + fold.end()
    response = fold.response()
    whole = {"choices": [{"message": {"content": "".join(pieces)}, "finish_reason": "stop"}], "id": "c1", "model": "m"}
    assert shown_response(response) == shown_response(openai_chat.decode(json.dumps(whole).encode(), request, dialect))
    assert "".join(event for event in events if isinstance(event, str)) == response.content
    return response


@given(TEXTS)
def test_thinking_is_split_off_wherever_the_server_cuts_its_text(pieces: list[str]) -> None:
    response = both_ways(pieces, asked(), ChatDialect(think_tags=True))
    text = "".join(pieces)
    thought, tag, answer = text.lstrip().removeprefix("<think>").partition("</think>")
    if not text.lstrip().startswith("<think>"):
        assert (response.reasoning, response.content) == (None, text)
    elif not tag:
        assert ((response.reasoning or ""), response.content) == (thought.lstrip(), "")
    else:
        assert ((response.reasoning or ""), response.content) == (thought.lstrip(), answer.lstrip())


@given(st.text(), st.booleans(), st.lists(st.floats(0, 1), max_size=6))
def test_a_forced_answer_is_its_text_wherever_the_server_cuts_it(answer: str, ascii: bool, cuts: list[float]) -> None:
    text = json.dumps({"answer": answer}, ensure_ascii=ascii)
    edges = [0, *sorted(int(cut * len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    response = both_ways(pieces, asked(tools=[TOOL]), ChatDialect(tools_via="schema"))
    assert (response.content, response.tool_calls, response.finish_reason) == (answer, [], "stop")


@given(st.dictionaries(st.text(max_size=3), st.integers()), st.lists(st.floats(0, 1), max_size=6))
def test_a_forced_call_is_a_call_wherever_the_server_cuts_it(arguments: dict[str, int], cuts: list[float]) -> None:
    text = json.dumps({"name": "f", "arguments": arguments})
    edges = [0, *sorted(int(cut * len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    response = both_ways(pieces, asked(tools=[TOOL]), ChatDialect(tools_via="schema"))
    assert [(call.name, call.arguments) for call in response.tool_calls] == [("f", arguments)]
    assert (response.content, response.finish_reason) == ("", "tool_calls")
