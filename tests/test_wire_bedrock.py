"""
Converse on the wire: golden files, any split of the bytes, and no beginning of a stream taken for all of it.
"""

from __future__ import annotations

import itertools
import json

import pytest
from support.bedrock_requests import DIALECT, GOLDEN, stream_of
from support.event_stream import stream
from support.golden import Golden

from llm_master.classes import Request
from llm_master.wire import bedrock as family

FILES = Golden(GOLDEN, family, DIALECT, ".events.jsonl")


@pytest.mark.parametrize("name", FILES.names())
def test_encode_writes_the_golden_body(name: str) -> None:
    FILES.check_body(name)


@pytest.mark.parametrize("name", FILES.names(".response.json"))
def test_decode_reads_the_golden_answer(name: str) -> None:
    FILES.check_answer(name)


@pytest.mark.parametrize("name", FILES.names(".events.jsonl"))
def test_fold_reads_the_golden_stream(name: str) -> None:
    assert FILES.check_stream(name, stream_of(name)).done


@pytest.mark.parametrize("name", FILES.both)
def test_a_stream_folds_to_what_the_plain_answer_decodes_to(name: str) -> None:
    FILES.check_alike(name, stream_of(name))


@pytest.mark.parametrize("name", FILES.names(".events.jsonl"))
def test_any_split_of_the_bytes_gives_the_same_answer(name: str) -> None:
    FILES.check_splits(name, stream_of(name))


@pytest.mark.parametrize("name", FILES.names(".events.jsonl"))
def test_no_beginning_of_a_stream_counts_as_all_of_it(name: str) -> None:
    data = stream_of(name)
    whole = length_until(name, "messageStop")
    for cut in [*range(0, len(data), 23), whole - 1, whole]:
        fold, pieces = FILES.folded(name, data[:cut])
        assert fold.complete == (cut >= whole)
        assert (fold.response().finish_reason is not None) == (cut >= whole)
        assert not (fold.done and cut < whole)
        assert len(pieces) <= len(FILES.expected(name)["pieces"])
        assert fold.notes or cut in boundaries(name) or cut >= length_until(name, "metadata")


def length_until(name: str, kind: str) -> int:
    """Bytes of a stream up to the end of the first event of a kind."""
    events = [json.loads(line) for line in (GOLDEN / f"{name}.events.jsonl").read_text().splitlines()]
    at = next(number for number, event in enumerate(events) if kind in event)
    return len(stream(events[: at + 1]))


def boundaries(name: str) -> set[int]:
    """Where one message ends and the next begins."""
    sizes = [len(stream([json.loads(line)])) for line in (GOLDEN / f"{name}.events.jsonl").read_text().splitlines()]
    return set(itertools.accumulate(sizes, initial=0))


def test_raw_of_a_stream_holds_its_events_where_they_say_more() -> None:
    raw = FILES.folded("guardrail", stream_of("guardrail"))[0].response().raw
    assert [kind for event in raw for kind in event][-2:] == ["messageStop", "metadata"]
    assert raw[-1]["metadata"]["trace"]["guardrail"]
    assert FILES.folded("plain_text", stream_of("plain_text"))[0].response().raw is None


@pytest.mark.parametrize("name", ["thinking_tool_call", "redacted", "code_interpreter", "citations"])
def test_a_response_goes_back_as_it_is(name: str) -> None:
    request = FILES.request(name)
    response = family.decode(FILES.plain(name), request, DIALECT)
    results = [{"role": "tool", "tool_call_id": each.id, "content": "sunny"} for each in response.tool_calls]
    following = results or [{"role": "user", "content": "Go on"}]
    again = Request("bedrock", request.model, [*request.messages, response.message, *following], request.params)
    sent = json.loads(family.encode(again, DIALECT))["messages"][1]
    theirs = json.loads(FILES.plain(name))["output"]["message"]
    if name == "citations":
        theirs["content"] = [{"text": response.content}]
    assert sent == theirs


@pytest.mark.parametrize(
    ("model", "stream", "expected"),
    [
        ("amazon.nova-lite-v1:0", False, "/model/amazon.nova-lite-v1%3A0/converse"),
        ("us.anthropic.claude-opus-4-8", True, "/model/us.anthropic.claude-opus-4-8/converse-stream"),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0",
            True,
            (
                "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Ainference-profile"
                "%2Feu.amazon.nova-pro-v1%3A0/converse-stream"
            ),
        ),
        ("../../secret?x#y", False, "/model/..%2F..%2Fsecret%3Fx%23y/converse"),
    ],
)
def test_the_path_holds_the_model(model: str, stream: bool, expected: str) -> None:
    assert family.path(model, stream) == family.PATH(model, stream) == expected
