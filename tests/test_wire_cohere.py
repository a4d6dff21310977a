"""
Cohere's chat API on the wire: golden files, any split of the bytes, and no beginning of a stream taken for all of it.
"""

from __future__ import annotations

import json

import pytest
from support.cohere_requests import DIALECT, GOLDEN
from support.golden import Golden

from llm_master.classes import Request
from llm_master.wire import cohere as family

FILES = Golden(GOLDEN, family, DIALECT)
stream_of = FILES.stream


@pytest.mark.parametrize("name", FILES.names())
def test_encode_writes_the_golden_body(name: str) -> None:
    FILES.check_body(name)


@pytest.mark.parametrize("name", FILES.names())
def test_a_streamed_request_differs_by_its_flag_only(name: str) -> None:
    FILES.check_flag(name)


@pytest.mark.parametrize("name", FILES.names(".response.json"))
def test_decode_reads_the_golden_answer(name: str) -> None:
    assert FILES.check_answer(name).model is None


@pytest.mark.parametrize("name", FILES.names(".sse"))
def test_fold_reads_the_golden_stream(name: str) -> None:
    assert FILES.check_stream(name, stream_of(name)).done


@pytest.mark.parametrize("name", FILES.both)
def test_a_stream_folds_to_what_the_plain_answer_decodes_to(name: str) -> None:
    FILES.check_alike(name, stream_of(name))


@pytest.mark.parametrize("name", FILES.names(".sse"))
def test_any_split_of_the_bytes_gives_the_same_answer(name: str) -> None:
    FILES.check_splits(name, stream_of(name))


@pytest.mark.parametrize("name", FILES.names(".sse"))
def test_no_beginning_of_a_stream_counts_as_all_of_it(name: str) -> None:
    data = stream_of(name)
    at = data.index(b'"type": "message-end"')
    # The event counts once its JSON is whole, whether or not its blank line came.
    whole = data.index(b"\r" if b"\r\n" in data else b"\n", at)
    for cut in [*range(0, len(data), 7), *range(whole - 3, whole + 4)]:
        fold, pieces = FILES.folded(name, data[:cut])
        assert (fold.complete, fold.done) == (cut >= whole, cut >= whole)
        assert (fold.response().finish_reason is not None) == (cut >= whole)
        assert len(pieces) <= len(FILES.expected(name)["pieces"])


def test_raw_of_a_stream_holds_its_events_where_they_say_more() -> None:
    fold, _ = FILES.folded("logprobs", stream_of("logprobs"))
    raw = fold.response().raw
    assert [event["logprobs"]["token_ids"] for event in raw if "logprobs" in event] == [[5]]
    assert FILES.folded("plain_text", stream_of("plain_text"))[0].response().raw is None


def test_a_response_goes_back_as_it_is() -> None:
    request = FILES.request("thinking_tool_call")
    response = family.decode(FILES.plain("thinking_tool_call"), request, DIALECT)
    result = {"role": "tool", "tool_call_id": response.tool_calls[0].id, "content": "sunny"}
    again = Request("cohere", request.model, [*request.messages, response.message, result], request.params)
    sent = json.loads(family.encode(again, DIALECT))["messages"][1]
    theirs = json.loads(FILES.plain("thinking_tool_call"))["message"]
    assert sent == {"role": "assistant", "content": theirs["content"], "tool_calls": theirs["tool_calls"]}
