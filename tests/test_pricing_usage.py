"""
The usage of every provider, read by its family from whole answers and from streams, and what it costs.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

import msgspec
import pytest
from support.behaviours import status
from support.conformance import LIVE, client
from support.fault_server import FaultServer
from support.provider_usages import (
    CHAT,
    MESSAGES,
    NO_CHAT,
    NOON,
    RESPONSES,
    ROWS,
    M,
    body_of,
    cached,
    chat,
    messages,
    responses,
    stream_of,
)

from llm_master import LLMConfig, QueryLLM, RetryPolicy, Usage
from llm_master.base_provider import row_of
from llm_master.classes import LLMResponse, Request
from llm_master.families import FAMILIES, dialect_of
from llm_master.pricing import cost_of


def read(provider: str, family: str, body: bytes, model: str, *, streamed: bool, piece: int = 0) -> LLMResponse:
    """The answer as its family reads it with the provider's own facts."""
    row = row_of(provider)
    request = Request(provider, model, [{"role": "user", "content": "Hi"}], {}, stream=streamed)
    module = importlib.import_module(FAMILIES[family][0])
    dialect = dialect_of(row, family)
    if not streamed:
        whole: LLMResponse = module.decode(body, request, dialect, rules={})
        return whole
    fold = module.Fold(request, dialect, rules={})
    size = piece or len(body)
    for at in range(0, len(body), size):
        fold.feed(body[at : at + size])
    fold.end()
    assert fold.complete
    folded: LLMResponse = fold.response()
    return folded


@pytest.mark.parametrize("how", ["whole", "streamed", "in pieces"])
@pytest.mark.parametrize(("provider", "index"), [(name, n) for name, rows in ROWS.items() for n in range(len(rows))])
def test_usage_and_cost(provider: str, index: int, how: str) -> None:
    family, model, usage, expected, money = ROWS[provider][index]
    streamed = how != "whole"
    body = stream_of(family, usage, model) if streamed else msgspec.json.encode(body_of(family, usage, model))
    found = read(provider, family, body, model, streamed=streamed, piece=7 if how == "in pieces" else 0)
    assert (found.content, found.finish_reason) == ("Hi", "stop")
    assert found.usage == expected
    if found.reported_cost is not None:
        assert found.reported_cost == money
        return
    counts = {"service_tier": found.service_tier, "geo": found.geo, "counted": found.billed}
    cost = cost_of(found.usage, model, provider=provider, at=NOON, **counts)  # type: ignore[arg-type]  # of three kinds
    assert (None if cost is None else cost.total) == money
    assert cost is None or cost.complete


def test_every_provider_is_here() -> None:
    assert set(ROWS) | NO_CHAT == set(LIVE)


# -- whole calls -----------------------------------------------------------------------------------------------------


def answered(
    server: FaultServer, provider: str, path: str, body: dict[str, Any], model: str, **how: Any
) -> LLMResponse:
    """The answer of one call to a provider on a loopback socket."""
    server.route(path, [status(200, body)])

    async def main() -> Any:
        async with client(provider, server) as llm:
            return await llm.query(f"{provider}/{model}", "Hi", **how)

    found: LLMResponse = asyncio.run(main())
    return found


def test_a_response_explains_its_cost(fault_server: FaultServer) -> None:
    body = body_of(MESSAGES, messages(100, 50, 700, 200, 80, inference_geo="us", speed="fast"), "claude-opus-5-5")
    found = answered(fault_server, "anthropic", "/base/v1/messages", body, "claude-opus-5-5")
    # 1.1 for the place, twice the price for the speed: 8 / 0.4 / 40, written 10, for an hour 16.
    expected = Decimal("1.1") * (100 * 8 + 700 * Decimal("0.4") + 120 * 10 + 80 * 16 + 50 * 40) / M
    assert found.cost == expected
    details = found.cost_details
    assert details is not None
    assert (details.total, details.complete, details.source) == (expected, True, "genai-prices 0.2.3")
    (attempt,) = found.attempts
    assert attempt.cost == expected
    assert attempt.cost_details == details


def test_a_refusal_in_a_good_answer_is_billed(fault_server: FaultServer) -> None:
    body = {**body_of(MESSAGES, messages(1000, 3), "claude-opus-5-5"), "content": [], "stop_reason": "refusal"}
    body["stop_details"] = {"type": "refusal", "category": "cyber"}
    found = answered(fault_server, "anthropic", "/base/v1/messages", body, "claude-opus-5-5")
    assert found.finish_reason == "refusal"
    # 4 / 20
    assert found.cost == (1000 * 4 + 3 * 20) / M


def test_what_the_provider_reports_wins_and_says_so(fault_server: FaultServer) -> None:
    body = body_of(CHAT, chat(1000, 200, cost=0.5), "openai/gpt-4o")
    found = answered(fault_server, "openrouter", "/base/v1/chat/completions", body, "openai/gpt-4o")
    assert found.cost == Decimal("0.5")
    details = found.cost_details
    assert details is not None
    assert (details.total, details.input, details.source) == (Decimal("0.5"), None, "reported by openrouter")
    assert details.as_of == datetime.now(UTC).date().isoformat()


def test_tools_of_the_provider_are_counted(fault_server: FaultServer) -> None:
    body = body_of(RESPONSES, responses(1000, 200), "gpt-6.1-sol")
    body["output"] = [
        {"type": "file_search_call", "id": "f", "status": "completed", "queries": [], "results": None},
        {"type": "code_interpreter_call", "id": "c1", "status": "completed", "container_id": "k", "code": "1"},
        {"type": "code_interpreter_call", "id": "c2", "status": "completed", "container_id": "k", "code": "2"},
        {"type": "web_search_call", "id": "w", "status": "completed", "action": {"type": "search", "query": "x"}},
        *body["output"],
    ]
    found = answered(fault_server, "openai", "/base/v1/responses", body, "gpt-6.1-sol", api="responses")
    assert found.billed == {"file_searches": 1, "containers": 1}
    assert found.usage.web_searches == 1
    details = found.cost_details
    assert details is not None
    assert details.items == Decimal("0.0025") + Decimal("0.03") + Decimal("0.01")
    assert (details.total, details.complete) == ((1000 * 2 + 200 * 10) / M + details.items, True)


def test_an_image_beside_an_answer_is_not_forgotten(fault_server: FaultServer) -> None:
    body = body_of(RESPONSES, responses(1000, 200), "gpt-6.1-sol")
    image = {"type": "image_generation_call", "id": "i", "status": "completed", "result": "iVBORw0KGgo="}
    body["output"] = [image, *body["output"]]
    found = answered(fault_server, "openai", "/base/v1/responses", body, "gpt-6.1-sol", api="responses")
    details = found.cost_details
    assert details is not None
    assert (details.complete, details.missing) == (False, ("drawn images",))


@pytest.mark.parametrize(
    ("provider", "model", "body", "expected"),
    [
        ("recraft", "recraftv4_1", {"data": [{"url": "https://x/1.webp"}] * 2}, "0.07"),
        ("recraft", "recraftv3", {"data": [{"url": "https://x/1.webp"}], "credits": 41}, "0.041"),
        (
            "openai",
            "gpt-image-2",
            {
                "data": [{"b64_json": "iVBORw0KGgo="}],
                "usage": {"input_tokens": 50, "input_tokens_details": {"image_tokens": 0}, "output_tokens": 1000},
            },
            "0.03025",  # 50 at 5 and 1,000 at 30
        ),
        ("openai", "gpt-image-2", {"data": [{"b64_json": "iVBORw0KGgo="}]}, None),
    ],
)
def test_images(
    provider: str, model: str, body: dict[str, Any], expected: str | None, fault_server: FaultServer
) -> None:
    found = answered(fault_server, provider, "/base/v1/images/generations", body, model)
    assert found.cost == (None if expected is None else Decimal(expected))
    assert (found.cost_details is None) == (expected is None)


@pytest.mark.parametrize(
    ("size", "expected"),
    [({"width": 1024, "height": 1024}, "0.025"), ({"width": 1536, "height": 1024}, "0.05"), ({}, None)],
)
def test_images_by_the_megapixel(size: dict[str, int], expected: str | None, fault_server: FaultServer) -> None:
    base = f"{fault_server.url}/base/v1/fal-ai/flux/requests/j"
    job = {"request_id": "j", "status_url": f"{base}/status", "response_url": base, "cancel_url": f"{base}/cancel"}
    fault_server.route("/base/v1/fal-ai/flux/dev", [status(200, job)])
    fault_server.route("/base/v1/fal-ai/flux/requests/j/status", [status(200, {"status": "COMPLETED"})])
    image = {"url": "https://fal.media/x.png", "content_type": "image/png", **size}
    found = answered(fault_server, "fal", "/base/v1/fal-ai/flux/requests/j", {"images": [image]}, "fal-ai/flux/dev")
    assert found.cost == (None if expected is None else Decimal(expected))


def vectors(usage: dict[str, Any], *, coded: bool = False) -> dict[str, Any]:
    vector: Any = base64.b64encode(b"\x01\x7f").decode() if coded else [0.5, 0.25]
    return {"object": "list", "data": [{"index": 0, "embedding": vector}], "model": "m", "usage": usage}


TOKENS = {"prompt_tokens": 8, "total_tokens": 8}


@pytest.mark.parametrize(
    ("model", "usage", "expected", "source"),
    [
        ("openrouter/openai/text-embedding-3-small", {"cost": 1.6e-07}, "0.00000016", "reported by openrouter"),
        ("openrouter/openai/text-embedding-3-small", {}, None, None),
        ("openrouter/openai/text-embedding-3-small", {"cost": {"total": 1}}, None, None),
        ("perplexity/pplx-embed-v1-4b", {"cost": {"total_cost": 2.4e-07}}, "0.00000024", "reported by perplexity"),
        ("perplexity/pplx-embed-v1-4b", {"cost": 5}, "0.00000024", "genai-prices 0.2.3"),  # 0.03
        # Who documents no such thing is not believed: 0.02.
        ("openai/text-embedding-3-small", {"cost": 5}, "0.00000016", "genai-prices 0.2.3"),
    ],
)
def test_what_is_reported_of_vectors(
    model: str, usage: dict[str, Any], expected: str | None, source: str | None, fault_server: FaultServer
) -> None:
    provider = model.partition("/")[0]
    body = vectors({**TOKENS, **usage}, coded=provider == "perplexity")
    fault_server.route("/base/v1/embeddings", [status(200, body)])

    async def main() -> Any:
        async with client(provider, fault_server) as llm:
            return await llm.embed(model, ["one"])

    found = asyncio.run(main())
    assert found.cost == (None if expected is None else Decimal(expected))
    assert (None if found.cost_details is None else found.cost_details.source) == source
    (attempt,) = found.attempts
    assert attempt.cost == found.cost


def test_what_is_reported_of_many_vectors_is_added(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # 512 texts at most go into a request of Perplexity; the second one tells no cost, and 8 tokens at 0.03 are billed.
    many = vectors({**TOKENS, "cost": {"total_cost": 0.000123456789}}, coded=True)
    many["data"] = [{**many["data"][0], "index": index} for index in range(512)]
    fault_server.route("/base/v1/embeddings", [status(200, many), status(200, vectors(TOKENS, coded=True))])
    monkeypatch.setattr("llm_master.operation_calls.AT_ONCE", 1)

    async def main() -> Any:
        async with client("perplexity", fault_server) as llm:
            return await llm.embed("perplexity/pplx-embed-v1-4b", ["x"] * 513)

    with localcontext(prec=3):
        found = asyncio.run(main())
        total = found.cost
    assert total == Decimal("0.000123456789") + Decimal("0.00000024")
    assert found.cost_details.total == total


def test_a_kept_answer_costs_nothing(fault_server: FaultServer) -> None:
    fault_server.route("/base/v1/chat/completions", [status(200, body_of(CHAT, chat(1000, 200), "gpt-4o"))])

    async def main() -> Any:
        config = LLMConfig(openai_api_key="k", base_urls={"openai": fault_server.url + "/base/v1"})
        async with QueryLLM(config, retry=RetryPolicy(max_attempts=1), cache="memory") as llm:
            return await llm.query("openai/gpt-4o", "Hi"), await llm.query("openai/gpt-4o", "Hi")

    first, second = asyncio.run(main())
    assert first.cost == (1000 * Decimal("2.5") + 200 * 10) / M
    assert second.cached
    assert second.cost == 0
    assert (second.cost_details.total, second.cost_details.source) == (0, "cache")


def test_speech_is_billed_by_its_characters(fault_server: FaultServer) -> None:
    fault_server.route("/base/v1/audio/speech", [status(200, b"ID3sound", content_type="audio/mpeg")])

    async def main() -> Any:
        async with client("openai", fault_server) as llm:
            return await llm.speak("openai/tts-1", "x" * 2000, voice="alloy")

    found = asyncio.run(main())
    assert found.cost == Decimal("0.03")
    assert found.cost_details.items == Decimal("0.03")


def test_a_usage_object_cannot_make_a_negative_cost(fault_server: FaultServer) -> None:
    body = json.loads(json.dumps(body_of(CHAT, chat(100, 10, **cached(900)), "gpt-4o")))
    found = answered(fault_server, "openai", "/base/v1/chat/completions", body, "gpt-4o")
    assert found.cost is not None
    assert found.cost > 0


# A family -> a provider and model that speak it, a usage, and the fields of it that are changed.
_WHOLE: dict[str, tuple[str, str, dict[str, Any], tuple[str, ...]]] = {
    CHAT: ("openai", "gpt-4o-mini", chat(100, 20), ("prompt_tokens", "completion_tokens", "prompt_tokens_details")),
    MESSAGES: ("anthropic", "claude-opus-5-5", messages(100, 20), ("output_tokens", "cache_creation", "service_tier")),
    RESPONSES: ("openai", "gpt-6.1-sol", responses(100, 20), ("input_tokens", "output_tokens_details")),
    "gemini": (
        "gemini",
        "gemini-4-argon",
        {"promptTokenCount": 100, "candidatesTokenCount": 20},
        ("promptTokenCount", "promptTokensDetails", "trafficType"),
    ),
    "cohere": (
        "cohere",
        "command-a-03-2025",
        {"billed_units": {"input_tokens": 100, "output_tokens": 20}},
        ("billed_units", "cached_tokens"),
    ),
    "bedrock": (
        "bedrock",
        "us.anthropic.claude-opus-5-5",
        {"inputTokens": 100, "outputTokens": 20},
        ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheDetails"),
    ),
}
_ODD = (12.5, "many", True, -7, [1], {"a": 1}, 10**20, None)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("family", _WHOLE)
def test_no_answer_is_lost_for_an_odd_usage(family: str, streamed: bool) -> None:
    provider, model, usage, names = _WHOLE[family]
    for name in names:
        for odd in _ODD:
            told = {**usage, name: odd}
            body = stream_of(family, told, model) if streamed else json.dumps(body_of(family, told, model)).encode()
            found = read(provider, family, body, model, streamed=streamed)
            used = found.usage
            assert (found.content, found.finish_reason) == ("Hi", "stop"), (name, odd)
            assert min(getattr(used, field) for field in used.__struct_fields__) >= 0, (name, odd)
            assert used.cached_tokens + used.cache_write_tokens <= used.input_tokens, (name, odd)
            assert used.reasoning_tokens <= used.output_tokens, (name, odd)
            assert used.cache_write_1h_tokens <= used.cache_write_tokens, (name, odd)


@pytest.mark.parametrize("odd", [7, "none", {"input_tokens": "x"}, {"input_tokens": -3, "prompt_tokens": 1.5}])
def test_no_picture_vector_transcript_or_verdict_is_lost_for_an_odd_usage(odd: Any, fault_server: FaultServer) -> None:
    picture = {"data": [{"b64_json": "iVBORw0KGgo="}], "usage": odd}
    found = answered(fault_server, "openai", "/base/v1/images/generations", picture, "gpt-image-2")
    assert len(found.images) == 1
    fault_server.route("/base/v1/embeddings", [status(200, vectors(odd))])
    fault_server.route("/base/v1/audio/transcriptions", [status(200, {"text": "a", "usage": odd})])
    fault_server.route("/base/v1/moderations", [status(200, {"results": [{"categories": {}}], "usage": odd})])

    async def main() -> Any:
        async with client("openai", fault_server) as llm:
            return (
                await llm.embed("openai/text-embedding-3-small", "a"),
                await llm.transcribe("openai/whisper-1", b"RIFF0000WAVEfmt "),
                await llm.moderate("a", model_name="openai/omni-moderation-latest"),
            )

    embedded, heard, judged = asyncio.run(main())
    assert embedded.embeddings == [[0.5, 0.25]]
    assert heard.text == "a"
    assert not judged.results[0].flagged
    for each in (found, embedded, heard, judged):
        assert each.usage.total_tokens == 0
        assert each.usage.estimated is bool(each.notes)
    for each in (found, embedded, heard):
        assert each.cost is None


def test_what_can_be_read_of_an_odd_usage_counts_and_it_is_noted() -> None:
    usage = messages(100, 20, server_tool_use="none", service_tier=7)
    usage["cache_read_input_tokens"] = "30"
    for streamed in (False, True):
        body = stream_of(MESSAGES, usage, "m") if streamed else json.dumps(body_of(MESSAGES, usage, "m")).encode()
        found = read("anthropic", MESSAGES, body, "m", streamed=streamed)
        assert (found.usage.input_tokens, found.usage.cached_tokens, found.usage.output_tokens) == (130, 30, 20)
        assert any(note.startswith("a usage of an unexpected shape") for note in found.notes)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("family", [CHAT, RESPONSES])
def test_reasoning_is_outside_where_the_total_says_so(family: str, streamed: bool) -> None:
    """Of Grok at other hosts (https://github.com/BerriAI/litellm/pull/39426, read 2026-11-21)."""
    make = chat if family == CHAT else responses
    part = {"completion_tokens_details" if family == CHAT else "output_tokens_details": {"reasoning_tokens": 30}}
    for total, expected in ((170, Usage(100, 70, reasoning_tokens=30)), (140, Usage(100, 40, reasoning_tokens=30))):
        usage = {**make(100, 40), **part, "total_tokens": total}
        body = stream_of(family, usage, "m") if streamed else json.dumps(body_of(family, usage, "m")).encode()
        assert read("openai", family, body, "m", streamed=streamed).usage == expected


def test_a_nought_at_the_end_of_a_stream_takes_no_input_back() -> None:
    body = stream_of(MESSAGES, messages(100, 20, 300, 50), "m")
    end = b'"usage": {'
    head, mark, tail = body.rpartition(end)
    assert mark
    noughts = b'"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, '
    found = read("anthropic", MESSAGES, head + mark + noughts + tail, "m", streamed=True).usage
    assert (found.input_tokens, found.cached_tokens, found.cache_write_tokens, found.output_tokens) == (
        450,
        300,
        50,
        20,
    )
