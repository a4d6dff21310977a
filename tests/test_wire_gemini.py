"""
The gemini family against its golden files, every split and every cut of a stream's bytes, and the addresses.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gemini_scenarios import (
    ANSWERED,
    DIALECT,
    NAMES,
    STREAMED,
    chunk,
    dialect_of,
    expected,
    folded,
    observed,
    plain_of,
    request,
    request_of,
    stream_of,
)
from support.golden import check_any_split, check_given_is_kept

from llm_master.errors import InvalidRequestError, LLMError
from llm_master.wire import gemini

BOTH = sorted(set(ANSWERED) & set(STREAMED))
# Their parts are cut otherwise in the stream, so that what is to be given back differs.
CUT_OTHERWISE = {"signed_text", "json_schema"}


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_gives_what_is_expected(name: str) -> None:
    assert observed(name) == expected(name)


@pytest.mark.parametrize("name", NAMES)
def test_encoding_changes_nothing_that_was_given(name: str) -> None:
    check_given_is_kept(request_of(name), lambda request: gemini.encode(request, dialect_of(name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_streamed_request_has_the_same_body(name: str) -> None:
    request = request_of(name)
    request.stream = True
    try:
        body = gemini.encode(request, dialect_of(name))
    except LLMError:
        assert "refused" in expected(name)
        return
    request.stream = False
    assert gemini.encode(request, dialect_of(name)) == body


@pytest.mark.parametrize("name", [name for name in BOTH if "error" not in expected(name)["plain"]])
def test_a_stream_folds_to_what_the_plain_answer_decodes_to(name: str) -> None:
    plain = gemini.decode(plain_of(name), request_of(name), dialect_of(name))
    fold = gemini.Fold(request_of(name), dialect_of(name))
    fold.feed(stream_of(name))
    fold.end()
    if not fold.complete:
        assert plain.finish_reason == "error"
        return
    streamed = fold.response()
    plain.raw_body = streamed.raw_body = None
    if name in CUT_OTHERWISE:
        assert plain.opaque != streamed.opaque
        plain.opaque = streamed.opaque = None
    assert streamed == plain


def test_what_was_told_to_be_cut_otherwise_is_compared() -> None:
    assert set(BOTH) >= CUT_OTHERWISE


# Streams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_is_the_same_however_it_is_split(name: str) -> None:
    stream = stream_of(name)
    check_any_split(lambda pieces: folded(name, pieces), stream)


@pytest.mark.parametrize("name", STREAMED)
def test_no_beginning_of_a_stream_is_complete_before_its_finish_was_seen(name: str) -> None:
    stream = stream_of(name)
    finish = stream.find(b'"finishReason"')
    ended = stream.find(b"\n", finish) if finish >= 0 else len(stream)
    # Each position of the last chunk, where the answer becomes whole, and some of the others.
    for length in {*range(0, len(stream), 37), *range(max(finish - 9, 0), min(ended + 3, len(stream)))}:
        fold = gemini.Fold(request_of(name), dialect_of(name))
        try:
            fold.feed(stream[:length])
            fold.end()
        except LLMError:
            assert "error" in expected(name)["stream"]
            continue
        seen = finish >= 0 and length >= ended - 1
        assert fold.complete is fold.done
        if not seen:
            # A chunk whose JSON is whole counts without the line's end that follows it.
            assert not fold.complete
            assert fold.response().finish_reason is None


@given(st.lists(st.text(max_size=5), max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
def test_texts_and_thoughts_come_out_as_they_went_in(texts: list[str], thoughts: list[bool]) -> None:
    fold = gemini.Fold(request("gemini-2.5-flash"), DIALECT)
    parts = [{"text": text, **({"thought": True} if thought else {})} for text, thought in zip(texts, thoughts)]  # noqa: B905  # there are more flags than texts
    pieces = [piece for part in parts for piece in fold.feed(chunk(part))]
    fold.feed(chunk(finish="STOP"))
    fold.end()
    response = fold.response()
    said = "".join(part["text"] for part in parts if "thought" not in part)
    assert response.content == said == "".join(piece for piece in pieces if isinstance(piece, str))
    assert (response.reasoning or "") == "".join(part["text"] for part in parts if "thought" in part)


def test_text_is_given_out_as_it_comes() -> None:
    fold = gemini.Fold(request("gemini-2.5-flash"), DIALECT)
    assert fold.feed(chunk({"text": "Hel"}) + chunk({"text": "lo"})[:30]) == ["Hel"]
    assert fold.feed(chunk({"text": "lo"})[30:]) == ["lo"]
    assert (fold.complete, fold.done) == (False, False)
    assert fold.feed(chunk({"text": "!"}, finish="STOP")) == ["!"]
    assert (fold.complete, fold.done) == (True, False)
    assert fold.end() == []
    assert (fold.complete, fold.done) == (True, True)
    assert fold.response().content == "Hello!"


# Addresses ----------------------------------------------------------------------------------------------------------

VERTEX = "/publishers/{publisher}/models/{model}:{verb}"


@pytest.mark.parametrize(
    ("model", "stream", "template", "found"),
    [
        ("gemini-3.8-flash", False, gemini.PATH, "/models/gemini-3.8-flash:generateContent"),
        ("gemini-3.8-flash", True, gemini.PATH, "/models/gemini-3.8-flash:streamGenerateContent?alt=sse"),
        ("models/gemma-3", False, gemini.PATH, "/models/gemma-3:generateContent"),
        ("tunedModels/mine", False, gemini.PATH, "/tunedModels/mine:generateContent"),
        ("a b?c#d", False, gemini.PATH, "/models/a%20b%3Fc%23d:generateContent"),
        ("gemini-2.5-pro", True, VERTEX, "/publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        ("google/gemini-2.5-pro", False, VERTEX, "/publishers/google/models/gemini-2.5-pro:generateContent"),
        ("acme/x", False, VERTEX, "/publishers/acme/models/x:generateContent"),
        ("endpoints/123", False, VERTEX, "/endpoints/123:generateContent"),
        ("publishers/other/models/x@1", False, VERTEX, "/publishers/other/models/x@1:generateContent"),
    ],
)
def test_addresses(model: str, stream: bool, template: str, found: str) -> None:
    assert gemini.path(model, stream, template) == found


@pytest.mark.parametrize("model", ["", "../x", "a/../../b", "a//b", "./x"])
def test_a_name_that_leads_elsewhere_is_refused(model: str) -> None:
    with pytest.raises(InvalidRequestError, match="is no model's name"):
        gemini.path(model)
