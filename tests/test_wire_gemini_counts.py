"""
What an answer of the gemini family costs and where it comes from: tokens, searches, tiers, citations.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gemini_scenarios import DIALECT, chunk, request

from llm_master.classes import Usage
from llm_master.events import UsageEvent
from llm_master.wire import gemini
from llm_master.wire.gemini_citations import citations_of
from llm_master.wire.gemini_shapes import UsageBody
from llm_master.wire.gemini_usage import searches_of, tier_of, usage_of

MODEL = "gemini-2.5-flash"


def counted(**more: Any) -> Usage:
    """The usage of a whole answer."""
    candidate = {"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
    body = json.dumps({"candidates": [candidate], **more}).encode()
    return gemini.decode(body, request(MODEL), DIALECT).usage


@pytest.mark.parametrize(
    ("counts", "given", "output", "reasoning"),
    [
        ({"prompt_token_count": 10, "candidates_token_count": 5, "total_token_count": 15}, 10, 5, 0),
        # Thoughts and what tools gave are beside the other counts ...
        (
            {"prompt_token_count": 10, "candidates_token_count": 5, "thoughts_token_count": 7, "total_token_count": 22},
            10,
            12,
            7,
        ),
        (
            {
                "prompt_token_count": 10,
                "candidates_token_count": 5,
                "thoughts_token_count": 7,
                "tool_use_prompt_token_count": 3,
                "total_token_count": 25,
            },
            13,
            12,
            7,
        ),
        # ... unless the total says that they are within.
        (
            {"prompt_token_count": 10, "candidates_token_count": 9, "thoughts_token_count": 7, "total_token_count": 19},
            10,
            9,
            7,
        ),
        (
            {
                "prompt_token_count": 10,
                "candidates_token_count": 5,
                "thoughts_token_count": 7,
                "tool_use_prompt_token_count": 3,
                "total_token_count": 22,
            },
            10,
            12,
            7,
        ),
        (
            {
                "prompt_token_count": 10,
                "candidates_token_count": 9,
                "thoughts_token_count": 7,
                "tool_use_prompt_token_count": 3,
                "total_token_count": 22,
            },
            13,
            9,
            7,
        ),
        # Without a total, or with one that fits nothing, the documentation holds.
        ({"prompt_token_count": 10, "candidates_token_count": 5, "thoughts_token_count": 7}, 10, 12, 7),
        ({"prompt_token_count": 10, "thoughts_token_count": 7, "total_token_count": 99}, 10, 7, 7),
        ({"prompt_token_count": -1, "candidates_token_count": None}, 0, 0, 0),
    ],
)
def test_what_is_counted_once(counts: dict[str, Any], given: int, output: int, reasoning: int) -> None:
    found = usage_of(UsageBody(**counts))
    assert (found.input_tokens, found.output_tokens, found.reasoning_tokens) == (given, output, reasoning)


@given(st.builds(UsageBody, *[st.none() | st.integers(-5, 50)] * 6))
def test_parts_never_exceed_the_whole(body: UsageBody) -> None:
    found = usage_of(body)
    assert 0 <= found.cached_tokens <= found.input_tokens
    assert 0 <= found.reasoning_tokens <= found.output_tokens


def test_searches() -> None:
    web: dict[str, Any] = {"webSearchQueries": ["a", "a", " ", "b"], "groundingChunks": [{"web": {"uri": "u"}}]}
    assert searches_of(web, per_prompt=False) == 2
    assert searches_of(web, per_prompt=True) == 1
    assert searches_of({**web, "groundingChunks": [{"maps": {}}]}, per_prompt=True) == 0
    assert searches_of({"webSearchQueries": None}, per_prompt=True) == 0


@pytest.mark.parametrize(
    ("body", "tier"),
    [
        (UsageBody(), None),
        (UsageBody(traffic_type="ON_DEMAND"), "standard"),
        (UsageBody(traffic_type="ON_DEMAND_FLEX"), "flex"),
        (UsageBody(traffic_type="NEW"), "new"),
        (UsageBody(traffic_type="ON_DEMAND", service_tier="PRIORITY"), "priority"),
    ],
)
def test_tiers(body: UsageBody, tier: str | None) -> None:
    assert tier_of(body) == tier


def test_counts_of_a_later_chunk_replace_and_never_vanish() -> None:
    fold = gemini.Fold(request(MODEL), DIALECT)
    pieces = fold.feed(chunk({"text": "a"}, usageMetadata={"promptTokenCount": 9, "cachedContentTokenCount": 4}))
    pieces += fold.feed(chunk({"text": "b"}, usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 2}))
    pieces += fold.feed(chunk(finish="STOP", usageMetadata={"promptTokenCount": 9, "candidatesTokenCount": 2}))
    told = [piece.usage for piece in pieces if isinstance(piece, UsageEvent)]
    assert told == [Usage(9, 0, 4), Usage(9, 2, 4)]
    assert fold.response().usage == Usage(9, 2, 4)


def test_usage_may_be_missing() -> None:
    assert counted() == counted(usageMetadata=None) == counted(usageMetadata={}) == Usage()
    fold = gemini.Fold(request(MODEL), DIALECT)
    assert fold.feed(chunk({"text": "a"}, usageMetadata={"trafficType": "ON_DEMAND"})) == ["a"]


# Citations ----------------------------------------------------------------------------------------------------------


@given(st.text(alphabet="aé猫🐈 ", min_size=1, max_size=12), st.integers(0, 60), st.integers(0, 60))
def test_bytes_become_characters(text: str, start: int, end: int) -> None:
    source = {"startIndex": start, "endIndex": end, "uri": "u"}
    ((found,),) = [[each["url_citation"] for each in citations_of(text, None, {"citationSources": [source]})]]
    size = len(text.encode())
    if not start < end <= size:
        assert "start_index" not in found
        return
    assert text[: found["start_index"]] == text.encode()[:start].decode("utf-8", "ignore")
    assert 0 <= found["start_index"] <= found["end_index"] <= len(text)


def test_grounding_of_any_shape() -> None:
    chunks = [{"web": {"uri": "u", "title": "t"}}, {"new": {}}, "x"]
    supports = [
        {"segment": {"text": "gone"}, "groundingChunkIndices": [0]},
        {"segment": {"endIndex": 1, "text": "c"}, "groundingChunkIndices": [0]},
        {"segment": {"startIndex": 99, "endIndex": 120, "text": "b c"}, "groundingChunkIndices": [0, 1, 7, "x"]},
        {"groundingChunkIndices": None},
        "x",
    ]
    found = citations_of("a b c", {"groundingChunks": chunks, "groundingSupports": supports}, None)
    assert [each["url_citation"] for each in found] == [
        {"url": "u", "title": "t", "cited_text": "gone"},
        {"url": "u", "title": "t", "cited_text": "c", "start_index": 4, "end_index": 5},
        {"url": "u", "title": "t", "cited_text": "b c", "start_index": 2, "end_index": 5},
    ]
    assert citations_of("a", {"groundingChunks": None}, {"citations": [None]}) == []
