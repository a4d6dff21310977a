"""
Cohere's chat API on the wire: golden files, any split of the bytes, and no beginning of a stream taken for all of it.
"""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cohere_requests import DIALECT, GOLDEN

from llm_master.classes import LLMResponse, Request, Usage
from llm_master.events import ReasoningEvent, StreamEvent, ToolCallDeltaEvent, ToolCallEvent, UsageEvent
from llm_master.wire import cohere as family


def scenarios(suffix: str = ".request.json") -> list[str]:
    return sorted(path.name.removesuffix(suffix) for path in GOLDEN.glob(f"*{suffix}"))


def request_of(name: str) -> Request:
    return Request(**json.loads((GOLDEN / f"{name}.request.json").read_text()))


def expected_of(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.expected.json").read_text())


def plain_of(name: str) -> bytes:
    return (GOLDEN / f"{name}.response.json").read_bytes()


def stream_of(name: str) -> bytes:
    return (GOLDEN / f"{name}.sse").read_bytes()


def folded(name: str, *parts: bytes) -> tuple[family.Fold, list[str | StreamEvent]]:
    fold = family.Fold(request_of(name), DIALECT)
    pieces = [piece for part in parts for piece in fold.feed(part)]
    return fold, pieces + fold.end()


def seen_usage(usage: Usage) -> dict[str, int]:
    return {field: value for field in usage.__struct_fields__ if (value := getattr(usage, field))}


def seen_response(response: LLMResponse) -> dict[str, Any]:
    """What a golden file says of a response: everything that is not empty."""
    seen = {
        "content": response.content,
        "finish_reason": response.finish_reason,
        "usage": seen_usage(response.usage),
        "request_id": response.request_id,
        "reasoning": response.reasoning,
        "tool_calls": [[call.id, call.name, call.raw_arguments] for call in response.tool_calls],
        "citations": response.citations,
        "opaque": response.opaque,
        "notes": list(response.notes),
    }
    return {field: value for field, value in seen.items() if value or field in ("content", "finish_reason")}


def seen_pieces(pieces: list[str | StreamEvent]) -> list[Any]:
    """Text as it is, events as ``[kind, ...]``; neighbouring pieces of a kind are kept apart."""
    seen: list[Any] = []
    for piece in pieces:
        if isinstance(piece, str):
            seen.append(piece)
        elif isinstance(piece, ReasoningEvent):
            seen.append([piece.type, piece.text])
        elif isinstance(piece, ToolCallDeltaEvent):
            seen.append([piece.type, piece.index, piece.id, piece.name, piece.arguments])
        elif isinstance(piece, ToolCallEvent):
            seen.append([piece.type, piece.tool_call.id, piece.tool_call.name, piece.tool_call.raw_arguments])
        else:
            assert isinstance(piece, UsageEvent)
            seen.append([piece.type, seen_usage(piece.usage)])
    return seen


@pytest.mark.parametrize("name", scenarios())
def test_encode_writes_the_golden_body(name: str) -> None:
    request, expected = request_of(name), expected_of(name)
    before = copy.deepcopy((request.messages, request.params))
    assert json.loads(family.encode(request, DIALECT)) == expected["body"]
    assert list(request.dropped) == expected["dropped"]
    assert (request.messages, request.params) == before
    # Once more, as a retry does: the same body, and nothing listed twice.
    assert json.loads(family.encode(request, DIALECT)) == expected["body"]
    assert list(request.dropped) == expected["dropped"]


@pytest.mark.parametrize("name", scenarios())
def test_a_streamed_request_differs_by_its_flag_only(name: str) -> None:
    request = request_of(name)
    request.stream = True
    assert json.loads(family.encode(request, DIALECT)) == {**expected_of(name)["body"], "stream": True}


@pytest.mark.parametrize("name", scenarios(".response.json"))
def test_decode_reads_the_golden_answer(name: str) -> None:
    response = family.decode(plain_of(name), request_of(name), DIALECT)
    assert seen_response(response) == expected_of(name)["response"]
    assert response.raw == json.loads(plain_of(name))
    assert (response.provider, response.model) == ("cohere", None)


@pytest.mark.parametrize("name", scenarios(".sse"))
def test_fold_reads_the_golden_stream(name: str) -> None:
    expected = expected_of(name)
    fold, pieces = folded(name, stream_of(name))
    assert seen_pieces(pieces) == expected["pieces"]
    assert seen_response(fold.response()) == expected["response"]
    assert (fold.complete, fold.done) == (True, True)
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == expected["response"]["content"]
    reasoning = "".join(piece.text for piece in pieces if isinstance(piece, ReasoningEvent))
    assert reasoning == expected["response"].get("reasoning", "")


@pytest.mark.parametrize("name", sorted(set(scenarios(".sse")) & set(scenarios(".response.json"))))
def test_a_stream_folds_to_what_the_plain_answer_decodes_to(name: str) -> None:
    plain = family.decode(plain_of(name), request_of(name), DIALECT)
    fold, _ = folded(name, stream_of(name))
    streamed = fold.response()
    plain.raw_body = streamed.raw_body = None
    assert streamed == plain


@pytest.mark.parametrize("name", scenarios(".sse"))
def test_any_split_of_the_bytes_gives_the_same_answer(name: str) -> None:
    data = stream_of(name)
    whole, pieces = folded(name, data)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(0, len(data)), max_size=12))
    def check(cuts: list[int]) -> None:
        bounds = [0, *sorted(cuts), len(data)]
        parts = [data[start:end] for start, end in itertools.pairwise(bounds)]
        fold, split_pieces = folded(name, *parts)
        assert fold.response() == whole.response()
        assert seen_pieces(split_pieces) == seen_pieces(pieces)
        assert (fold.done, fold.complete, fold.notes) == (whole.done, whole.complete, whole.notes)

    check()
    byte_by_byte, _ = folded(name, *(data[at : at + 1] for at in range(len(data))))
    assert byte_by_byte.response() == whole.response()


@pytest.mark.parametrize("name", scenarios(".sse"))
def test_no_beginning_of_a_stream_counts_as_all_of_it(name: str) -> None:
    data = stream_of(name)
    at = data.index(b'"type": "message-end"')
    # The event counts once its JSON is whole, whether or not its blank line came.
    whole = data.index(b"\r" if b"\r\n" in data else b"\n", at)
    for cut in [*range(0, len(data), 7), *range(whole - 3, whole + 4)]:
        fold, pieces = folded(name, data[:cut])
        assert (fold.complete, fold.done) == (cut >= whole, cut >= whole)
        assert (fold.response().finish_reason is not None) == (cut >= whole)
        assert len(pieces) <= len(expected_of(name)["pieces"])


def test_raw_of_a_stream_holds_its_events_where_they_say_more() -> None:
    fold, _ = folded("logprobs", stream_of("logprobs"))
    raw = fold.response().raw
    assert [event["logprobs"]["token_ids"] for event in raw if "logprobs" in event] == [[5]]
    assert folded("plain_text", stream_of("plain_text"))[0].response().raw is None


def test_a_response_goes_back_as_it_is() -> None:
    request = request_of("thinking_tool_call")
    response = family.decode(plain_of("thinking_tool_call"), request, DIALECT)
    result = {"role": "tool", "tool_call_id": response.tool_calls[0].id, "content": "sunny"}
    again = Request("cohere", request.model, [*request.messages, response.message, result], request.params)
    sent = json.loads(family.encode(again, DIALECT))["messages"][1]
    theirs = json.loads(plain_of("thinking_tool_call"))["message"]
    assert sent == {"role": "assistant", "content": theirs["content"], "tool_calls": theirs["tool_calls"]}
