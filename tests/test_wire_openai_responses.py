"""
The Responses family against its golden files: every split of a stream's bytes, and no beginning taken for all of it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_scenarios import shown_response
from support.golden import check_any_split, check_given_is_kept
from support.responses_scenarios import (
    DIALECTS,
    NAMES,
    PLAIN,
    STREAMED,
    asked,
    dialect_of,
    expected,
    fold_of,
    folded,
    observed,
    request_of,
    setting,
    stream_of,
    texts_of,
)

from llm_master.dialect_responses import ResponsesDialect
from llm_master.errors import LLMError, RateLimitError, ResponseTooLargeError
from llm_master.events import ReasoningEvent, ToolCallDeltaEvent, ToolCallEvent, UsageEvent
from llm_master.wire import openai_responses as family

ENDS = (b'"type":"response.completed"', b'"type":"response.incomplete"')
# The end of stream_odd_lines is no JSON of the strict kind, which counts only with its blank line.
ENDED = [
    name
    for name in STREAMED
    if expected(name).get("complete", "response" in expected(name)) and name != "stream_odd_lines"
]


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_gives_what_is_expected(name: str) -> None:
    assert observed(name) == expected(name)


@pytest.mark.parametrize("name", NAMES)
def test_encoding_changes_nothing_that_was_given(name: str) -> None:
    check_given_is_kept(request_of(name), lambda request: family.encode(request, dialect_of(name)))


@pytest.mark.parametrize("name", [name for name in NAMES if "stream_options" not in setting(name)["request"]["params"]])
def test_a_streamed_request_differs_by_its_flag_only(name: str) -> None:
    if "body" in expected(name):
        body = json.loads(family.encode(request_of(name, stream=True), dialect_of(name)))
        assert body == {**expected(name)["body"], "stream": True}
    else:
        with pytest.raises(LLMError):
            family.encode(request_of(name, stream=True), dialect_of(name))


def test_every_field_of_the_dialect_has_a_scenario() -> None:
    given = [setting(name)["dialect"] for name in NAMES]
    used = {field for each in given if isinstance(each, dict) for field in each}
    for dialect in {each for each in given if isinstance(each, str)}:
        plain, mine = ResponsesDialect(), DIALECTS[dialect]
        used |= {field for field in mine.__struct_fields__ if getattr(mine, field) != getattr(plain, field)}
        used |= {field for override in mine.per_model.values() for field in override}
    routing = {"only", "tools_while_reasoning", "only_tools"}  # the wire does not read them
    assert used | routing | {"media"} == set(ResponsesDialect.__struct_fields__)


def test_there_are_scenarios() -> None:
    assert (len(NAMES) > 170, len(PLAIN) > 55, len(STREAMED) > 75, len(ENDED) > 55) == (True, True, True, True)


# Streams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_is_the_same_however_it_is_split(name: str) -> None:
    stream = stream_of(name)
    check_any_split(lambda pieces: folded(name, pieces), stream)


@pytest.mark.parametrize("name", ENDED)
def test_no_beginning_of_a_stream_counts_as_all_of_it(name: str) -> None:
    stream = stream_of(name)
    start = max(stream.find(end) for end in ENDS)
    # The event counts once its JSON is whole, whether or not its blank line came; a plain body once it is whole.
    line = max(stream.find(b"\n", start), stream.find(b"\r", start)) if stream[:1] != b"{" else len(stream)
    whole = len(stream[:line].rstrip())
    for cut in {*range(0, len(stream), 97), *range(whole - 4, min(whole + 4, len(stream) + 1))}:
        fold = fold_of(name)
        try:
            fold.feed(stream[:cut])
            fold.end()
        except LLMError:
            assert stream[:1] == b"{"  # a body that is no stream and no JSON either
        assert (fold.complete, fold.done) == (cut >= whole, cut >= whole)
        assert (fold.response().finish_reason != "error") == (cut >= whole)
        assert (fold.response().opaque is None) >= (cut < whole)


@pytest.mark.parametrize(
    "name", ["failed", "stream_failed_late", "stream_error_event", "stream_cut", "stream_done_only"]
)
def test_a_stream_without_a_good_end_is_never_complete(name: str) -> None:
    stream = stream_of(name)
    for cut in range(0, len(stream) + 1, 31):
        fold = fold_of(name)
        try:
            fold.feed(stream[:cut])
            fold.end()
        except LLMError:
            pass
        assert (fold.complete, fold.done) == (False, False)


def event(kind: str, **fields: Any) -> bytes:
    return f"data: {json.dumps({'type': kind, **fields})}\n\n".encode()


def delta(text: str, **fields: Any) -> bytes:
    return event("response.output_text.delta", output_index=0, content_index=0, item_id="m", delta=text, **fields)


def test_text_is_given_out_as_it_comes() -> None:
    fold = family.Fold(asked(), ResponsesDialect())
    assert fold.feed(event("response.created", response={"id": "r"})) == []
    assert fold.feed(delta("Hel") + delta("lo")[:30]) == ["Hel"]
    assert fold.feed(delta("lo")[30:]) == ["lo"]
    response = fold.response()
    assert (response.content, response.finish_reason, response.request_id) == ("Hello", "error", "r")


def test_nothing_after_the_end_counts() -> None:
    fold = family.Fold(asked(), ResponsesDialect())
    end = event("response.completed", response={"status": "completed", "usage": {"input_tokens": 1}})
    pieces = fold.feed(delta("Hi") + end + delta("more") + event("error", message="late") + b"data: {")
    assert [type(piece) for piece in pieces] == [str, UsageEvent]
    assert (fold.end(), fold.complete, fold.response().content, fold.notes) == ([], True, "Hi", [])


def test_what_came_before_an_error_is_pending() -> None:
    fold = family.Fold(asked(), ResponsesDialect())
    with pytest.raises(RateLimitError):
        fold.feed(delta("Hel") + delta("lo") + event("error", code="rate_limit_exceeded", message="slow"))
    assert (list(fold.pending), fold.complete) == (["Hel", "lo"], False)
    fold = family.Fold(asked(), ResponsesDialect())
    fold.feed(delta("a"))
    failed = event("response.failed", response={"status": "failed", "error": {"code": "rate_limit_exceeded"}})
    assert fold.feed(failed[:-2]) == []
    with pytest.raises(RateLimitError):
        fold.end()
    assert list(fold.pending) == []


def test_a_call_is_told_by_name_pieces_and_whole() -> None:
    fold = family.Fold(asked(), ResponsesDialect())
    item = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": ""}
    pieces = fold.feed(event("response.output_item.added", output_index=0, item=item))
    for piece in ('{"a"', ":1}"):
        pieces += fold.feed(event("response.function_call_arguments.delta", output_index=0, item_id="fc", delta=piece))
    assert pieces == [ToolCallDeltaEvent(0, "c", "f"), *(ToolCallDeltaEvent(0, arguments=x) for x in ('{"a"', ":1}"))]
    (done,) = fold.feed(event("response.output_item.done", output_index=0, item={**item, "arguments": '{"a":1}'}))
    assert isinstance(done, ToolCallEvent)
    assert (done.tool_call.id, done.tool_call.arguments) == ("c", {"a": 1})


def test_of_an_answer_that_was_cut_off_only_whole_calls_are_given_out() -> None:
    assert [each["event"] for each in expected("length_in_call")["events"] if isinstance(each, dict)] == [
        *["tool_call_delta"] * 4,
        "usage",
    ]
    assert expected("length_in_call")["response"]["tool_calls"][0]["arguments"] == '{"city": "Par'


def test_the_order_of_the_end_counts() -> None:
    opaque = expected("stream_reordered_end")["response"]["opaque"]["payload"]
    assert [item["type"] for item in opaque] == ["reasoning", "function_call", "message"]


def test_sizes_are_limited() -> None:
    for start in (b"data: ", b"{"):
        fold = family.Fold(asked(), ResponsesDialect())
        fold.feed(start)
        with pytest.raises(ResponseTooLargeError, match=r"acme .*'m'"):
            fold.feed(bytes(64 * 1024 * 1024))


# Any answer, streamed as any server may do it -----------------------------------------------------------------------

WORDS = st.text(st.sampled_from('a "\\\n\u00e9\u20ac\U0001f600{}'), min_size=1, max_size=9)
MESSAGE = st.lists(st.tuples(st.sampled_from(["output_text", "refusal"]), WORDS), min_size=1, max_size=3)
REASONING = st.tuples(st.sampled_from(["summary", "content"]), st.lists(WORDS, min_size=1, max_size=2))
CALL = st.dictionaries(WORDS, st.integers(), max_size=2)
ITEMS = st.lists(
    st.one_of(
        st.tuples(st.just("message"), MESSAGE),
        st.tuples(st.just("reasoning"), REASONING),
        st.tuples(st.just("function_call"), CALL),
    ),
    max_size=4,
)


def item_of(kind: str, value: Any, number: int) -> dict[str, Any]:
    if kind == "message":
        parts = [{"type": part, "refusal" if part == "refusal" else "text": text} for part, text in value]
        return {"type": kind, "id": f"msg_{number}", "role": "assistant", "content": parts}
    if kind == "reasoning":
        field, texts = value
        name = "summary_text" if field == "summary" else "reasoning_text"
        parts = [{"type": name, "text": text} for text in texts]
        return {"type": kind, "id": f"rs_{number}", "summary": [], field: parts}
    arguments = json.dumps(value)
    return {"type": kind, "id": f"fc_{number}", "call_id": f"call_{number}", "name": "f", "arguments": arguments}


def pieces_of(item: dict[str, Any]) -> list[tuple[str, dict[str, Any], str]]:
    """Event, the place it names and text of everything in an item that is streamed."""
    if item["type"] == "function_call":
        return [("response.function_call_arguments.delta", {}, item["arguments"])]
    names = {"reasoning_text": "reasoning_text", "summary_text": "reasoning_summary_text"}
    found = []
    for field, place in (("content", "content_index"), ("summary", "summary_index")):
        for at, part in enumerate(item.get(field, ())):
            kind = names.get(part["type"], part["type"])
            found.append((f"response.{kind}.delta", {place: at}, part.get("text") or part.get("refusal")))
    return found


@given(ITEMS, st.sampled_from(["numbered", "same number", "no numbers"]), st.booleans(), st.booleans(), st.data())
@settings(deadline=None)
def test_any_stream_folds_to_what_the_whole_answer_says(
    plan: list[tuple[str, Any]], numbers: str, closed: bool, repeated: bool, data: st.DataObject
) -> None:
    items = [item_of(kind, value, number) for number, (kind, value) in enumerate(plan)]
    answer = {"id": "r", "model": "m", "status": "completed", "output": items, "usage": {"input_tokens": 3}}
    stream: list[bytes] = []
    for number, item in enumerate(items):
        at = {} if numbers == "no numbers" else {"output_index": number if numbers == "numbered" else 0}
        head = {name: value for name, value in item.items() if name not in ("content", "summary", "arguments")}
        stream.append(event("response.output_item.added", item=head, **at))
        for kind, place, text in pieces_of(item):
            cut = data.draw(st.integers(0, len(text)))
            stream += [event(kind, item_id=item["id"], delta=part, **at, **place) for part in (text[:cut], text[cut:])]
        if closed:
            stream.append(event("response.output_item.done", item=item, **at))
    stream.append(event("response.completed", response=answer if repeated else {**answer, "output": []}))
    request, dialect = asked(), ResponsesDialect(reasoning_items="plain")
    fold = family.Fold(request, dialect)
    events = [piece for part in stream for piece in fold.feed(part)] + fold.end()
    whole, found = family.decode(json.dumps(answer).encode(), request, dialect), fold.response()
    assert texts_of(events) == (found.content, found.reasoning or "", found.refusal or "")
    assert [each.tool_call for each in events if isinstance(each, ToolCallEvent)] == found.tool_calls
    shown_whole, shown_found = shown_response(whole), shown_response(found)
    if not (closed or repeated):
        # Nothing said the items in whole: what was put together need not have every field of the original.
        for shown in (shown_whole, shown_found):
            shown.pop("opaque", None)
    assert shown_found == shown_whole


def test_reasoning_is_given_out_once() -> None:
    item = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Short."}]}
    full = {**item, "content": [{"type": "reasoning_text", "text": "Long."}]}
    fold = family.Fold(asked(), ResponsesDialect())
    fold.feed(event("response.reasoning_text.delta", output_index=0, item_id="rs", content_index=0, delta="Long."))
    pieces = fold.feed(event("response.output_item.done", output_index=0, item=full))
    fold.feed(event("response.completed", response={"status": "completed"}))
    assert [piece for piece in pieces if isinstance(piece, ReasoningEvent)] == []
    assert fold.response().reasoning == "Long."
