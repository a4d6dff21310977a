"""
Prices where it is easy to be wrong by a cent: impossible numbers, odd moments, thresholds, names, keys of one's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
import time
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import faults
from support.behaviours import hold, ok, status
from support.fault_server import FaultServer

from llm_master import (
    InvalidRequestError,
    Ledger,
    Limit,
    LLMConfig,
    ModelConfig,
    ModelRegistry,
    QueryLLM,
    RetryPolicy,
    Usage,
)
from llm_master.policy.limits_sqlite import SqliteLimiter
from llm_master.pricing import cost_of, upper_bound

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
M = Decimal(1_000_000)
NAN, INFINITE = float("nan"), float("inf")
# The first and the last moment of the calendar, in no zone and in UTC.
ENDS = [each.replace(tzinfo=zone) for each in (datetime.max, datetime.min) for zone in (None, UTC)]  # noqa: DTZ901  # as said


# -- impossible numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [NAN, INFINITE, -INFINITE, 1.5, None, "12", 10**10, 10**400, Decimal(3)])
@pytest.mark.parametrize(
    ("field", "left"),
    [
        # 1,000 at 2.5, 600 of them read from the cache at 1.25, and 100 at 10: what is left without the wrong part.
        ("input_tokens", Decimal(100 * 10) / M),
        ("output_tokens", (400 * Decimal("2.5") + 600 * Decimal("1.25")) / M),
        ("cached_tokens", (1_000 * Decimal("2.5") + 100 * 10) / M),
        ("reasoning_tokens", (400 * Decimal("2.5") + 600 * Decimal("1.25") + 100 * 10) / M),
    ],
)
def test_what_is_no_count_has_no_price(field: str, left: Decimal, wrong: Any) -> None:
    usage = Usage(1_000, 100, 600)
    setattr(usage, field, wrong)
    found = cost_of(usage, "gpt-4o", provider="openai", at=NOON)
    assert found is not None
    assert (found.total, found.complete) == (left, False)
    assert found.missing[0] == "a usage that is no count of tokens"
    assert getattr(usage, field) is wrong


@pytest.mark.parametrize("wrong", [NAN, INFINITE, -1, -(10**30), 10**18, 10**400, 1e300, None, True, "many", [3]])
def test_what_is_no_count_of_pieces_has_no_price(wrong: Any) -> None:
    found = cost_of(Usage(1_000, 0), "gpt-6.1-sol", counted={"file_searches": wrong}, at=NOON)
    assert found is not None
    assert (found.total, found.items, found.missing) == (Decimal("0.002"), 0, ("file searches",))
    usage = Usage(1_000, 0)
    given: Any = "many" if wrong is None else wrong
    usage.web_searches = given
    found = cost_of(usage, "gpt-6.1-sol", at=NOON)
    assert found is not None
    assert (found.total, found.missing) == (Decimal("0.002"), ("web searches",))


def test_the_largest_usage_that_can_be_has_an_exact_price() -> None:
    usage = Usage(5 * 10**9, 10**9)
    found = cost_of(usage, "gpt-6.1-sol", provider="openai", at=NOON)
    assert found is not None
    assert found.total == 10**9 * Decimal(5 * 4 + 15) / M  # over the threshold
    assert str(found.total) == "35000"


@pytest.mark.parametrize("wrong", [1e300, 10**30, "1e999999"])
def test_an_absurd_price_counts_as_none(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ModelConfig(input_price_per_million=wrong, output_price_per_million=1.0)
    monkeypatch.setitem(ModelRegistry.CONFIGS, "dear", own)
    assert cost_of(Usage(1_000, 10), "dear", provider="openai") is None


# -- moments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [NAN, INFINITE, -INFINITE, 1e30, -1e30, "2026-11-18", *ENDS])
@pytest.mark.parametrize("model", ["gpt-5.6-sol", "deepseek-v4-pro"])
def test_a_time_that_no_calendar_has_is_refused(model: str, wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="is no time of a request; give a datetime, UNIX seconds or None"):
        cost_of(Usage(1_000, 0), model, at=wrong)
    with pytest.raises(InvalidRequestError, match="is no time of a request"):
        upper_bound(model, provider="openai", input_tokens=1, output_tokens=1, at=wrong)


def test_prices_before_the_first_and_after_the_last_change() -> None:
    for at, million in ((datetime(1970, 1, 2, tzinfo=UTC), 5), (datetime(9000, 1, 1, tzinfo=UTC), 4)):
        found = cost_of(Usage(1_000, 0), "gpt-5.6-sol", at=at)
        assert found is not None
        assert found.total == 1_000 * Decimal(million) / M


def test_the_last_moment_of_a_day_is_of_that_day() -> None:
    # One microsecond before 21 August 2026, and the first moment of it.
    for at, million in (("2026-08-20T23:59:59.999999", 5), ("2026-08-21", 4)):
        found = cost_of(Usage(1_000, 0), "gpt-5.6-sol", at=datetime.fromisoformat(at))
        assert found is not None
        assert found.total == 1_000 * Decimal(million) / M


@pytest.mark.parametrize(
    ("moment", "million"),
    [
        # A Friday, whose peaks are 01:00 to 04:00 and 06:00 to 10:00 UTC: the afternoon of it in Beijing.
        ("2026-11-20T00:59:59.999999", "0.66"),
        ("2026-11-20T01:00:00", "1.32"),
        ("2026-11-20T03:59:59.999999", "1.32"),
        ("2026-11-20T04:00:00", "0.66"),
        ("2026-11-20T05:59:59.999999", "0.66"),
        ("2026-11-20T06:00:00", "1.32"),
        ("2026-11-20T09:59:59.999999", "1.32"),
        ("2026-11-20T10:00:00", "0.66"),
        ("2026-11-21T01:00:00", "0.66"),  # Saturday
        ("2026-11-22T09:00:00", "0.66"),  # Sunday
        ("2026-09-30T09:00:00", "1.32"),  # the day before the holidays, and the last of them
        ("2026-10-07T09:59:59", "0.66"),
    ],
)
def test_the_edges_of_the_peak(moment: str, million: str) -> None:
    usage = Usage(1_000, 0)
    found = cost_of(usage, "deepseek-v4-pro", at=datetime.fromisoformat(moment))
    assert found is not None
    assert (found.total, found.complete) == (1_000 * Decimal(million) / M, True)


# -- thresholds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "provider", "last"),
    [
        ("gpt-6.1-sol", "openai", 272_000),
        ("gpt-5.5", "openai", 272_000),
        ("gemini-3.1-pro-preview", "gemini", 200_000),
        ("gemini-2.5-pro", "gemini", 200_000),
        ("claude-sonnet-4-5", "anthropic", 200_000),
        ("claude-haiku-5-5", "anthropic", 100_000),
        ("grok-4.7", "xai", 199_999),
    ],
)
def test_the_whole_input_decides_whatever_it_is_made_of(model: str, provider: str, last: int) -> None:
    # Read from a cache, or written to it for long: all of it is input, and one token more is dearer.
    made_of: tuple[dict[str, Any], ...] = (
        {},
        {"cached_tokens": last},
        {"cache_write_tokens": last, "cache_write_1h_tokens": last},
        {"cached_tokens": last // 2, "cache_write_tokens": last // 3, "cache_write_1h_tokens": last // 7},
    )
    for parts in made_of:
        at_most, over = (cost_of(Usage(last + more, 0, **parts), model, provider=provider, at=NOON) for more in (0, 1))
        assert at_most is not None
        assert over is not None
        one = cost_of(Usage(1, 0), model, provider=provider, at=NOON)
        assert one is not None
        assert over.total > at_most.total + 100 * one.total, parts
    # Output alone crosses nothing.
    small, large = (cost_of(Usage(10, made), model, provider=provider, at=NOON) for made in (last, last + 1_000))
    assert small is not None
    assert large is not None
    assert large.output is not None
    assert small.output is not None
    assert large.output / (last + 1_000) == small.output / last


def test_sonnet_4_5_over_its_threshold() -> None:
    # 3 / 15 up to 200,000, 6 / 22.5 over it: reads 0.3 and 0.6, writes 3.75 and 7.5, for an hour 6 and 12.
    usage = Usage(200_001, 1_000, cached_tokens=100_000, cache_write_tokens=50_000, cache_write_1h_tokens=20_000)
    found = cost_of(usage, "claude-sonnet-4-5", at=NOON)
    assert found is not None
    plain, read, short, long = 50_001 * 6, 100_000 * Decimal("0.6"), 30_000 * Decimal("7.5"), 20_000 * 12
    assert found.input == (plain + read + short + long) / M
    assert found.output == 1_000 * Decimal("22.5") / M


def test_everything_at_once() -> None:
    # OpenAI over 272,000 in the tier flex at its European address: x 2 and x 1.5, a half, 1.1.
    usage = Usage(300_000, 1_000, cached_tokens=100_000, cache_write_tokens=60_000, cache_write_1h_tokens=10_000)
    found = cost_of(
        usage,
        "gpt-6.1-sol",
        provider="openai",
        at=NOON,
        service_tier="flex",
        host="eu.api.openai.com",
    )
    assert found is not None
    plain, read = 140_000 * Decimal(2), 100_000 * Decimal("0.1")
    short, long = 50_000 * Decimal("2.5"), 10_000 * Decimal("2.5") * 2  # long writes: 2.5 times the input
    assert found.input == Decimal("1.1") * (plain + read + short + long) / M
    assert found.output == Decimal("1.1") * 1_000 * Decimal("7.5") / M
    # Anthropic: a batch, in the USA, of cache writes of both kinds and three searches, which cost the same anywhere.
    usage = Usage(10_000, 100, 1_000, 6_000, 2_000, web_searches=3)
    found = cost_of(usage, "claude-opus-5-5", at=NOON, service_tier="batch", geo="us")
    assert found is not None
    tokens = 3_000 * 4 + 1_000 * Decimal("0.2") + 4_000 * 5 + 2_000 * 8 + 100 * 20
    assert found.total == Decimal("1.1") * tokens / 2 / M + Decimal("0.03")


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "provider", "same_as"),
    [
        (f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{name}", "bedrock", name)
        for name in ("us.anthropic.claude-opus-5-5", "global.anthropic.claude-opus-5-5", "us.amazon.nova-pro-v1:0")
    ]
    + [
        (
            "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/anthropic.claude-sonnet-4-5-20250929-v1:0",
            "bedrock",
            "anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        ("projects/p/locations/global/publishers/google/models/gemini-4-argon", "vertex", "gemini-4-argon"),
        ("gemini-4-argon-001", "gemini", "gemini-4-argon"),
        ("gpt-4o-2024-08-06", "azure", "gpt-4o"),
        ("OpenAI/GPT-4o", "openrouter", "openai/gpt-4o"),
        ("claude-opus-5-5-20261001", "anthropic", "claude-opus-5-5"),
    ],
)
def test_names_that_mean_a_model(name: str, provider: str, same_as: str) -> None:
    usage = Usage(1_000, 200, cached_tokens=100)
    found, same = (cost_of(usage, each, provider=provider, at=NOON) for each in (name, same_as))
    assert found is not None
    assert found == same


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5", "bedrock"),
        ("arn:aws:bedrock:us-east-1:123456789012:provisioned-model/a1b2c3d4e5", "bedrock"),
        ("arn:aws:bedrock:us-east-1:123456789012:custom-model-deployment/anthropic.claude-opus-5-5", "bedrock"),
        ("gpt-4o-prod", "azure"),
        ("gpt-4o-2024-08-06.ft-0123456789abcdef", "azure"),
        ("my-deployment", "azure"),
        ("ft:gpt-4.1-2025-04-14:acme::b1", "openai"),
        ("ft:my-own", "openai"),
        ("gemini-4-argon-1-ultra", "gemini"),
        ("openrouter/auto", "openrouter"),
        ("x" * 10_000, "openai"),
        ("gpt-4o\n", "nobody"),
    ],
)
def test_names_without_a_price(name: str, provider: str) -> None:
    assert cost_of(Usage(1_000, 10), name, provider=provider, at=NOON) is None


@pytest.mark.parametrize(
    ("name", "million"),
    [
        ("ft:gpt-4o-2024-08-06:acme::b1", ("3.75", "15")),
        ("ft:gpt-4o-mini-2024-07-18:acme:tag:b1", ("0.3", "1.2")),
        ("ft:gpt-3.5-turbo-0125:acme::b1", ("3", "6")),
    ],
)
def test_fine_tunes(name: str, million: tuple[str, str]) -> None:
    found = cost_of(Usage(1_000, 100), name, provider="openai", at=NOON)
    assert found is not None
    assert found.total == (1_000 * Decimal(million[0]) + 100 * Decimal(million[1])) / M


def test_models_that_are_gone_keep_the_price_that_they_had() -> None:
    for name, million in (("claude-2.1", (8, 24)), ("gpt-4-32k", (60, 120)), ("claude-3-opus-20240229", (15, 75))):
        found = cost_of(Usage(1_000, 100), name, at=datetime(2024, 6, 1, tzinfo=UTC))
        assert found is not None
        assert found.total == (1_000 * Decimal(million[0]) + 100 * Decimal(million[1])) / M


def test_routes_that_have_prices_of_their_own() -> None:
    # gpt-4o:extended: 6 / 18; the 2.5 flash preview: 0.15 and, thinking, 3.5.
    for name, million in (
        ("openai/gpt-4o:extended", (6, 18)),
        ("google/gemini-2.5-flash-preview:thinking", ("0.15", "3.5")),
    ):
        found = cost_of(Usage(1_000, 100), name, provider="openrouter", at=NOON)
        assert found is not None
        assert found.total == (1_000 * Decimal(million[0]) + 100 * Decimal(million[1])) / M
        assert found.complete


# -- nothing to pay --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "provider", "source"),
    [
        ("smollm2-135m-instruct", "local", "free"),
        ("qwen/qwen3-coder:free", "openrouter", "llm_master catalogue"),
        ("gemma-4-31b-it", "gemini", "llm_master catalogue"),
        ("omni-moderation-latest", "openai", "llm_master catalogue"),
    ],
)
@pytest.mark.parametrize("usage", [Usage(1_000, 100), Usage()], ids=["told", "untold"])
def test_what_is_free_costs_0_and_says_why(name: str, provider: str, source: str, usage: Usage) -> None:
    found = cost_of(usage, name, provider=provider, at=NOON)
    assert found is not None
    assert found.total == 0
    assert (found.complete, found.missing, found.source) == (True, (), source)


def test_an_own_price_of_0_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ModelConfig(input_price_per_million=0.0, output_price_per_million=0.0)
    monkeypatch.setitem(ModelRegistry.CONFIGS, "gift", own)
    for usage in (Usage(1_000, 100, 200, 300, 100, 50), Usage()):
        found = cost_of(usage, "gift", provider="openai")
        assert found is not None
        assert found.total == 0
        assert (found.complete, found.source) == (True, "own price")
    half = ModelConfig(input_price_per_million=0.0)
    monkeypatch.setitem(ModelRegistry.CONFIGS, "half a gift", half)
    assert cost_of(Usage(1_000, 100), "half a gift", provider="openai") is None


# -- whole calls -----------------------------------------------------------------------------------------------------


def chat(usage: dict[str, Any], model: str = "gpt-4o", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage, **more}


def sse(events: list[Any]) -> Any:
    """A stream of these events."""
    lines = [b"data: " + (event.encode() if isinstance(event, str) else msgspec.json.encode(event)) for event in events]
    return status(200, b"".join(line + b"\n\n" for line in lines), content_type="text/event-stream")


def client(server: FaultServer, provider: str, **options: Any) -> QueryLLM:
    key: dict[str, Any] = {f"{provider}_api_key": "k"}
    config = LLMConfig(base_urls={provider: server.url}, **key)
    return QueryLLM(config, retry=RetryPolicy(max_attempts=2, base_delay=0.001, max_delay=0.002), **options)


def upstream(cost: float | None) -> dict[str, Any]:
    return {"cost_details": {"upstream_inference_cost": cost}}


REPORTED, COMPUTED = "reported by openrouter", "genai-prices 0.2.3"
ROUTED = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}


@pytest.mark.parametrize(
    ("usage", "expected", "source"),
    [
        ({"cost": 0.5}, "0.5", REPORTED),
        # A free model: 0, because the router says so.
        ({"cost": 0}, "0", REPORTED),
        (
            {"cost": 0.5, "is_byok": False, **upstream(0.5)},
            "0.5",
            "reported by openrouter",
        ),
        # With a key of one's own the router charges its fee, and the provider behind it the rest.
        (
            {"cost": 0.025, "is_byok": True, **upstream(0.5)},
            "0.525",
            "reported by openrouter",
        ),
        (
            {"cost": 0, "is_byok": True, **upstream(1e-06)},
            "0.000001",
            "reported by openrouter",
        ),
        # Not told: the fee is not the cost, which is computed: 2.5 and 10.
        ({"cost": 0.025, "is_byok": True}, "0.0045", COMPUTED),
        (
            {"cost": 0.025, "is_byok": True, **upstream(None)},
            "0.0045",
            "genai-prices 0.2.3",
        ),
        ({"cost": -1}, "0.0045", COMPUTED),
        ({"cost": "NaN"}, "0.0045", COMPUTED),
        ({"cost": 1e30}, "0.0045", COMPUTED),
    ],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_a_router_reports(
    usage: dict[str, Any], expected: str, source: str, streamed: bool, fault_server: FaultServer
) -> None:
    body = chat({**ROUTED, **usage}, "openai/gpt-4o")
    if streamed:
        text = {"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
        chunks = [
            {**body, "object": "chat.completion.chunk", "choices": [text], "usage": None},
            {**body, "object": "chat.completion.chunk", "choices": []},
        ]
        fault_server.script([sse([*chunks, "[DONE]"])])
    else:
        fault_server.script([status(200, body)])

    async def main() -> Any:
        async with client(fault_server, "openrouter") as llm:
            if not streamed:
                return await llm.query("openrouter/openai/gpt-4o", "Hi")
            pieces = await llm.query("openrouter/openai/gpt-4o", "Hi", stream=True)
            assert await pieces.text() == "Hi"
            return pieces.response

    found = asyncio.run(main())
    assert found.cost == Decimal(expected)
    assert (found.cost_details.total, found.cost_details.source) == (Decimal(expected), source)


def test_a_callers_context_rounds_no_sum(fault_server: FaultServer) -> None:
    # 1.234567 a million: an attempt of which the input is estimated, and one of 123,457 tokens.
    own = {"gpt-4o-mini": ModelConfig(input_price_per_million=1.234567, output_price_per_million=0.0)}
    fault_server.script([faults.truncated_json(), ok("whole", usage=Usage(123_457, 0))])

    async def main() -> Any:
        async with client(fault_server, "openai", registry=own) as llm:
            return await llm.query("gpt-4o-mini", "Hi")

    with localcontext(prec=3):
        found = asyncio.run(main())
        first, second = found.attempts
        total, details = found.cost, found.cost_details.total
        one, two = first.cost, second.cost
    assert (one, two) == (first.usage.input_tokens * Decimal("1.234567") / M, Decimal("0.152415938119"))
    assert total == details == one + two


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_prices_are_of_the_moment_of_the_request(streamed: bool, fault_server: FaultServer) -> None:
    # Both attempts take 20 ms and more; the first one is lost.
    fault_server.script([dataclasses.replace(reply, before=hold(0.02)) for reply in (faults.truncated_json(), ok())])

    async def main() -> Any:
        async with client(fault_server, "openai") as llm:
            if not streamed:
                return await llm.query("openai/gpt-4o", "Hi")
            pieces = await llm.query("openai/gpt-4o", "Hi", stream=True)
            await pieces.text()
            return pieces.response

    found = asyncio.run(main())
    end = time.time()
    for attempt in found.attempts:
        assert attempt.pricer.at <= end - attempt.latency


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_is_reported_in_units_is_not_rounded(streamed: bool, fault_server: FaultServer) -> None:
    # xAI counts ticks of a ten-thousandth of a millionth of a dollar.
    message = {"type": "message", "role": "assistant", "status": "completed"}
    item = {**message, "content": [{"type": "output_text", "text": "Hi", "annotations": []}]}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2, "cost_in_usd_ticks": 123_456_789_123}
    body = {
        "id": "r",
        "object": "response",
        "status": "completed",
        "model": "grok-4.7",
        "output": [item],
        "usage": usage,
    }
    last = {"type": "response.completed", "response": body}
    fault_server.route("/responses", [sse([last]) if streamed else status(200, body)])

    async def main() -> Any:
        async with client(fault_server, "xai") as llm:
            if not streamed:
                return await llm.query("xai/grok-4.7", "Hi", api="responses")
            pieces = await llm.query("xai/grok-4.7", "Hi", api="responses", stream=True)
            assert await pieces.text() == "Hi"
            return pieces.response

    with localcontext(prec=3):
        found = asyncio.run(main())
    assert found.cost == Decimal("12.3456789123")


@pytest.mark.parametrize(
    ("usage", "row"),
    [
        # tokens in, picodollars and whether that is all of it
        ({"prompt_tokens": 10, "completion_tokens": 1}, (10, 35_000_000, 1)),
        ({"prompt_tokens": 10**18, "completion_tokens": 1}, (10**12, 10_000_000, 0)),
        ({"prompt_tokens": 10**25, "completion_tokens": 1}, (10**12, 10_000_000, 0)),
        ({"prompt_tokens": 1e300, "completion_tokens": 1}, (10**12, 10_000_000, 0)),
        ({"prompt_tokens": -5, "completion_tokens": -1}, (0, None, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 1, "cost": 9e17}, (10, 35_000_000, 1)),
    ],
)
def test_what_a_server_makes_up_loses_no_row(
    usage: dict[str, Any], row: tuple[Any, ...], fault_server: FaultServer, tmp_path: Path
) -> None:
    fault_server.script([status(200, chat(usage, "openai/gpt-4o"))])
    path = tmp_path / "ledger.sqlite3"

    async def main() -> None:
        limiter = SqliteLimiter(str(tmp_path / "limits.sqlite3"))
        options = {"limits": [Limit("provider:openrouter", tpm=1_000)], "limiter": limiter, "ledger": Ledger(path)}
        async with client(fault_server, "openrouter", **options) as llm:
            await llm.query("openrouter/openai/gpt-4o", "Hi", max_tokens=10)

    asyncio.run(main())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT input_tokens, cost, cost_complete FROM calls").fetchall() == [row]


@pytest.mark.parametrize(
    ("header", "said", "tier", "expected"),
    [
        # 2 and 10 a million; flex half of it, priority 1.8 times.
        ("flex", {}, "flex", "0.002"),
        ("priority", {}, "priority", "0.0072"),
        ("standard", {}, "standard", "0.004"),
        (None, {}, None, "0.004"),
        # What the body says comes first, by whatever name.
        ("standard", {"serviceTier": "flex"}, "flex", "0.002"),
        (None, {"serviceTier": "SERVICE_TIER_PRIORITY"}, "priority", "0.0072"),
        (None, {"serviceTier": "SERVICE_TIER_UNSPECIFIED"}, None, "0.004"),
    ],
)
def test_gemini_says_its_tier_in_a_header(
    header: str | None, said: dict[str, Any], tier: str | None, expected: str, fault_server: FaultServer
) -> None:
    usage = {"promptTokenCount": 1000, "candidatesTokenCount": 200, "totalTokenCount": 1200, **said}
    candidate = {"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
    body = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-4-argon"}
    headers = [] if header is None else [("x-gemini-service-tier", header)]
    fault_server.script([status(200, body, headers=headers)])

    async def main() -> Any:
        async with client(fault_server, "gemini") as llm:
            return await llm.query("gemini/gemini-4-argon", "Hi")

    found = asyncio.run(main())
    assert found.service_tier == tier
    found.pricer.at = NOON.timestamp()
    assert (found.cost, found.cost_details.complete) == (Decimal(expected), True)


@pytest.mark.parametrize(
    ("told", "params", "factor"),
    [
        ({}, {}, 1),
        # Nothing was told: it counts as it was asked for, which is 2 for the tier priority and a half for flex.
        ({}, {"service_tier": "priority"}, 2),
        ({}, {"service_tier": "flex"}, Decimal("0.5")),
        # What was told counts: it was served as any other.
        ({"service_tier": "default"}, {"service_tier": "priority"}, 1),
        ({"service_tier": "priority"}, {}, 2),
    ],
)
def test_a_stream_that_was_left_has_the_price_of_its_tier(
    told: dict[str, Any], params: dict[str, Any], factor: Decimal | int, fault_server: FaultServer
) -> None:
    delta = {"index": 0, "delta": {"role": "assistant", "content": "one "}, "finish_reason": None}
    chunk = {"id": "c", "object": "chat.completion.chunk", "model": "gpt-6.1-sol", "choices": [delta], **told}
    fault_server.script([sse([chunk] * 3)])
    kept: list[Any] = []

    async def main() -> None:
        async with client(fault_server, "openai") as llm:
            llm.on_event(lambda event: kept.append(event.attempt) if event.attempt is not None else None)
            pieces = await llm.query("openai/gpt-6.1-sol", "Hi", stream=True, api="chat", **params)
            async for _text in pieces:
                break
            await pieces.aclose()

    asyncio.run(main())
    (attempt,) = kept
    assert attempt.outcome == "cancelled"
    usage = attempt.usage
    attempt.pricer.at = NOON.timestamp()
    assert usage.estimated
    assert attempt.cost == factor * (usage.input_tokens * 2 + usage.output_tokens * 10) / M
    assert attempt.cost_details.estimated
