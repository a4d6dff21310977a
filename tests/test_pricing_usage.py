"""
What each provider reports, as it stands in its answers, in tokens as all families count them, and what that costs.

Tokens and USD are worked out by hand: the price of a million of plain input, cached input and output stands beside
each cost.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from support.behaviours import status
from support.conformance import LIVE, client
from support.fault_server import FaultServer

from llm_master import LLMConfig, QueryLLM, RetryPolicy, Usage
from llm_master.base_provider import row_of
from llm_master.classes import LLMResponse, Request
from llm_master.families import FAMILIES, dialect_of
from llm_master.pricing import cost_of

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
M = Decimal(1_000_000)
CHAT, MESSAGES, RESPONSES = "openai_chat", "anthropic_messages", "openai_responses"


def chat(given: int, made: int, total: int | None = None, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": total or given + made, **more}


def cached(tokens: int) -> dict[str, Any]:
    return {"prompt_tokens_details": {"cached_tokens": tokens}}


def thought(tokens: int) -> dict[str, Any]:
    return {"completion_tokens_details": {"reasoning_tokens": tokens}}


def messages(plain: int, made: int, read: int = 0, written: int = 0, long: int = 0, **more: Any) -> dict[str, Any]:
    split = {"ephemeral_5m_input_tokens": written - long, "ephemeral_1h_input_tokens": long}
    return {
        "input_tokens": plain,
        "output_tokens": made,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "cache_creation": split,
        **more,
    }


def responses(given: int, made: int, read: int = 0, reasoning: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": read, **more},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": given + made,
    }


PLAIN = Usage(1000, 200)
# provider -> (family, model, the usage in the answer, tokens, USD or None where no price is known).
ROWS: dict[str, list[tuple[str, str, Any, Usage, Decimal | None]]] = {
    "openai": [
        # 2 / 0.1 / 10
        (
            CHAT,
            "gpt-6.1-sol",
            chat(1000, 200, **cached(600), **thought(150)),
            Usage(1000, 200, 600, reasoning_tokens=150),
            (400 * 2 + 600 * Decimal("0.1") + 200 * 10) / M,
        ),
        # 2 / 0.1 / 10, written 2.5, kept for 12 hours 5
        (
            RESPONSES,
            "gpt-6.1-sol",
            responses(1000, 200, 500, 90, cache_write_tokens=300, cache_write_tokens_details={"ttl_12h_tokens": 100}),
            Usage(1000, 200, 500, 300, 100, 90),
            (200 * 2 + 500 * Decimal("0.1") + 200 * Decimal("2.5") + 100 * 5 + 200 * 10) / M,
        ),
    ],
    "anthropic": [
        # The plain part alone is told. 4 / 0.2 / 20, written 5, for an hour 8.
        (
            MESSAGES,
            "claude-opus-5-5",
            messages(100, 50, 700, 200, 80, output_tokens_details={"thinking_tokens": 30}),
            Usage(1000, 50, 700, 200, 80, 30),
            (100 * 4 + 700 * Decimal("0.2") + 120 * 5 + 80 * 8 + 50 * 20) / M,
        )
    ],
    "openrouter": [(CHAT, "openai/gpt-4o", chat(1000, 200, cost=0.00123), PLAIN, Decimal("0.00123"))],
    "groq": [
        (
            CHAT,
            "openai/gpt-oss-120b",
            chat(1000, 200, queue_time=0.1, **cached(400)),
            Usage(1000, 200, 400),
            (600 * Decimal("0.15") + 400 * Decimal("0.075") + 200 * Decimal("0.6")) / M,
        )
    ],
    "mistral": [
        (
            CHAT,
            "mistral-large-4",
            chat(1000, 200, **cached(400)),
            Usage(1000, 200, 400),
            (600 * Decimal("0.7") + 400 * Decimal("0.07") + 200 * Decimal("2.1")) / M,
        )
    ],
    "deepseek": [
        (
            CHAT,
            "deepseek-v4-pro",
            chat(1000, 200, prompt_cache_hit_tokens=900, prompt_cache_miss_tokens=100),
            Usage(1000, 200, 900),
            (100 * Decimal("0.66") + 900 * Decimal("0.022") + 200 * Decimal("1.98")) / M,
        ),
        (
            MESSAGES,
            "deepseek-v4-pro",
            messages(100, 200, 900),
            Usage(1000, 200, 900),
            (100 * Decimal("0.66") + 900 * Decimal("0.022") + 200 * Decimal("1.98")) / M,
        ),
    ],
    "xai": [
        # Reasoning stands outside of the completion, and inside of the total.
        (
            CHAT,
            "grok-4.7",
            chat(1000, 50, 1200, **cached(400), **thought(150)),
            Usage(1000, 200, 400, reasoning_tokens=150),
            (600 * 2 + 400 * Decimal("0.5") + 200 * 6) / M,
        ),
        # What it reports in ticks of 10**-10 USD counts.
        (
            RESPONSES,
            "grok-4.7",
            responses(1000, 200) | {"cost_in_usd_ticks": 37_756_000},
            PLAIN,
            Decimal("0.0037756"),
        ),
    ],
    "together": [
        (CHAT, "openai/gpt-oss-120b", chat(1000, 200), PLAIN, (1000 * Decimal("0.15") + 200 * Decimal("0.6")) / M)
    ],
    "fireworks": [
        (
            CHAT,
            "accounts/fireworks/models/gpt-oss-120b",
            chat(1000, 200, **cached(400)),
            Usage(1000, 200, 400),
            (600 * Decimal("0.15") + 400 * Decimal("0.015") + 200 * Decimal("0.6")) / M,
        )
    ],
    "cohere": [
        # billed_units count, tokens are what the model saw.
        (
            "cohere",
            "command-a-03-2025",
            {
                "billed_units": {"input_tokens": 1000, "output_tokens": 200},
                "tokens": {"input_tokens": 1066, "output_tokens": 203},
            },
            PLAIN,
            (1000 * Decimal("2.5") + 200 * 10) / M,
        )
    ],
    "moonshot": [
        (
            CHAT,
            "kimi-k3.1-pro",
            chat(1000, 200, cached_tokens=400),
            Usage(1000, 200, 400),
            (600 * 2 + 400 * Decimal("0.2") + 200 * 10) / M,
        )
    ],
    "dashscope": [(CHAT, "qwen3.8-max", chat(1000, 200, **cached(400)), Usage(1000, 200, 400), None)],
    "zai": [
        (
            CHAT,
            "glm-5.3",
            chat(1000, 200, **cached(400)),
            Usage(1000, 200, 400),
            (600 * Decimal("1.4") + 400 * Decimal("0.26") + 200 * Decimal("4.4")) / M,
        )
    ],
    "minimax": [
        (
            CHAT,
            "MiniMax-M3.1-Flash",
            chat(1000, 200, total_characters=0, **cached(400)),
            Usage(1000, 200, 400),
            (600 * Decimal("0.15") + 400 * Decimal("0.015") + 200 * Decimal("0.6")) / M,
        )
    ],
    "meta": [
        (
            CHAT,
            "muse-wonder-1.0",
            chat(1000, 200, **thought(100)),
            Usage(1000, 200, reasoning_tokens=100),
            (1000 * 4 + 200 * 20) / M,
        )
    ],
    "perplexity": [
        (
            RESPONSES,
            "perplexity/sonar",
            responses(1000, 200, cache_read_input_tokens=400)
            | {"cost": {"total_cost": 0.00325}, "tool_calls_details": {"search_web": {"invocation": 1}}},
            Usage(1000, 200, 400, web_searches=1),
            Decimal("0.00325"),
        ),
        # Without its own figure: 0.25 / 0.0625 / 2.5, and 2.5 for a thousand searches.
        (
            RESPONSES,
            "perplexity/sonar",
            responses(1000, 200, cache_read_input_tokens=400)
            | {"tool_calls_details": {"search_web": {"invocation": 2}}},
            Usage(1000, 200, 400, web_searches=2),
            (600 * Decimal("0.25") + 400 * Decimal("0.0625") + 200 * Decimal("2.5")) / M + Decimal("0.005"),
        ),
    ],
    "inception": [(CHAT, "mercury-2", chat(1000, 200), PLAIN, None)],
    "cerebras": [(CHAT, "gpt-oss-120b", chat(1000, 200), PLAIN, (1000 * Decimal("0.35") + 200 * Decimal("0.75")) / M)],
    "sambanova": [(CHAT, "gpt-oss-120b", chat(1000, 200, completion_tokens_per_sec=9.0), PLAIN, None)],
    "nvidia": [(CHAT, "meta/llama-3.3-70b-instruct", chat(1000, 200), PLAIN, None)],
    "nebius": [(CHAT, "openai/gpt-oss-120b", chat(1000, 200), PLAIN, None)],
    "huggingface": [(CHAT, "openai/gpt-oss-120b", chat(1000, 200), PLAIN, None)],
    "deepinfra": [(CHAT, "google/gemma-3-27b-it", chat(1000, 200, estimated_cost=1.5e-4), PLAIN, Decimal("0.00015"))],
    "novita": [
        (CHAT, "openai/gpt-oss-120b", chat(1000, 200), PLAIN, (1000 * Decimal("0.05") + 200 * Decimal("0.25")) / M)
    ],
    "scaleway": [(CHAT, "openai/gpt-oss-120b", chat(1000, 200), PLAIN, None)],
    "baseten": [
        (
            CHAT,
            "zai-org/GLM-5.3",
            chat(1000, 200, **cached(400)),
            Usage(1000, 200, 400),
            (600 * Decimal("1.4") + 400 * Decimal("0.14") + 200 * Decimal("4.4")) / M,
        )
    ],
    "wandb": [(CHAT, "zai-org/GLM-5.3", chat(1000, 200), PLAIN, None)],
    "ovhcloud": [(CHAT, "Qwen3.8-27B", chat(1000, 200), PLAIN, (1000 * Decimal("0.47") + 200 * Decimal("3.19")) / M)],
    "vercel": [(CHAT, "anthropic/claude-sonnet-4.5", chat(1000, 200), PLAIN, None)],
    "azure": [
        (
            CHAT,
            "gpt-4o",
            chat(1000, 200, **cached(400)),
            Usage(1000, 200, 400),
            (600 * Decimal("2.5") + 400 * Decimal("1.25") + 200 * 10) / M,
        )
    ],
    "foundry": [
        (
            MESSAGES,
            "claude-opus-5-5",
            messages(100, 200, 900),
            Usage(1000, 200, 900),
            (100 * 4 + 900 * Decimal("0.2") + 200 * 20) / M,
        )
    ],
    "bedrock": [
        # The plain part alone is told. 4.4 / 0.22 / 22 in the USA, written 5.5, for an hour 8.8.
        (
            "bedrock",
            "us.anthropic.claude-opus-5-5",
            {
                "inputTokens": 100,
                "outputTokens": 200,
                "totalTokens": 1200,
                "cacheReadInputTokens": 700,
                "cacheWriteInputTokens": 200,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 50}, {"ttl": "5m", "inputTokens": 150}],
            },
            Usage(1000, 200, 700, 200, 50),
            (
                100 * Decimal("4.4")
                + 700 * Decimal("0.22")
                + 150 * Decimal("5.5")
                + 50 * Decimal("8.8")
                + 200 * Decimal(22)
            )
            / M,
        )
    ],
    "vertex": [
        # Thoughts stand outside of the candidates.
        (
            "gemini",
            "gemini-4-argon",
            {
                "promptTokenCount": 1000,
                "candidatesTokenCount": 50,
                "thoughtsTokenCount": 150,
                "totalTokenCount": 1200,
                "trafficType": "ON_DEMAND",
            },
            Usage(1000, 200, reasoning_tokens=150),
            (1000 * 2 + 200 * 10) / M,
        )
    ],
    "gemini": [
        # Half of it by the tier flex, the cached part too: 1 / 0.05 / 5. What tools gave stands outside of the prompt.
        (
            "gemini",
            "gemini-4-argon",
            {
                "promptTokenCount": 900,
                "cachedContentTokenCount": 400,
                "toolUsePromptTokenCount": 100,
                "candidatesTokenCount": 50,
                "thoughtsTokenCount": 150,
                "totalTokenCount": 1200,
                "serviceTier": "flex",
            },
            Usage(1000, 200, 400, reasoning_tokens=150),
            (600 * 1 + 400 * Decimal("0.05") + 200 * 5) / M,
        )
    ],
    "gemini_openai": [
        (
            CHAT,
            "gemini-4-argon",
            chat(1000, 50, 1200, **thought(150)),
            Usage(1000, 200, reasoning_tokens=150),
            (1000 * 2 + 200 * 10) / M,
        )
    ],
    "cloudflare": [
        (
            CHAT,
            "@cf/openai/gpt-oss-120b",
            chat(1000, 200),
            PLAIN,
            (1000 * Decimal("0.35") + 200 * Decimal("0.75")) / M,
        )
    ],
    "cloudflare_gateway": [(CHAT, "openai/gpt-4o", chat(1000, 200), PLAIN, None)],
    "databricks": [
        (
            CHAT,
            "databricks-glm-5-3",
            chat(1000, 200, **cached(400)),
            Usage(1000, 200, 400),
            (600 * Decimal("1.4") + 400 * Decimal("0.26") + 200 * Decimal("4.4")) / M,
        )
    ],
    # Servers of one's own: what they cost nobody can tell.
    "ollama": [(CHAT, "llama3.1", chat(1000, 200), PLAIN, None)],
    "lmstudio": [(CHAT, "some-model", chat(1000, 200), PLAIN, None)],
    "vllm": [(CHAT, "some-model", chat(1000, 200, prompt_tokens_details=None), PLAIN, None)],
    "sglang": [(CHAT, "some-model", chat(1000, 200, **cached(400)), Usage(1000, 200, 400), None)],
    "llamacpp": [(CHAT, "some-model", chat(1000, 200), PLAIN, None)],
    "openai_compatible": [(CHAT, "gpt-4o", chat(1000, 200), PLAIN, None)],
    "local": [(CHAT, "smollm2-135m-instruct", chat(1000, 200), PLAIN, Decimal(0))],
}
# Providers that give no chat, whose answers are read further below.
_OTHERS = {"voyage", "bfl", "recraft", "replicate", "fal"}


def body_of(family: str, usage: Any, model: str) -> dict[str, Any]:
    """A short answer of a family with a usage as its provider writes it."""
    if family == MESSAGES:
        text = [{"type": "text", "text": "Hi"}]
        said = {"type": "message", "role": "assistant", "content": text, "stop_reason": "end_turn"}
        return {"id": "m", "model": model, **said, "usage": usage}
    if family == RESPONSES:
        text = [{"type": "output_text", "text": "Hi", "annotations": []}]
        item = {"type": "message", "role": "assistant", "status": "completed", "content": text}
        return {
            "id": "r",
            "object": "response",
            "status": "completed",
            "model": model,
            "output": [item],
            "usage": usage,
        }
    if family == "gemini":
        candidate = {"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model}
    if family == "cohere":
        message = {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}
        return {"id": "c", "finish_reason": "COMPLETE", "message": message, "usage": usage}
    if family == "bedrock":
        message = {"role": "assistant", "content": [{"text": "Hi"}]}
        return {"output": {"message": message}, "stopReason": "end_turn", "usage": usage}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def read(provider: str, family: str, body: dict[str, Any], model: str) -> LLMResponse:
    """The answer as its family reads it with the provider's own facts."""
    row = row_of(provider)
    request = Request(provider, model, [{"role": "user", "content": "Hi"}], {})
    module = importlib.import_module(FAMILIES[family][0])
    found: LLMResponse = module.decode(msgspec.json.encode(body), request, dialect_of(row, family), rules={})
    return found


@pytest.mark.parametrize(("provider", "index"), [(name, n) for name, rows in ROWS.items() for n in range(len(rows))])
def test_usage_and_cost(provider: str, index: int) -> None:
    family, model, usage, expected, money = ROWS[provider][index]
    found = read(provider, family, body_of(family, usage, model), model)
    assert found.usage == expected
    if found.reported_cost is not None:
        assert found.reported_cost == money
        return
    how = {"service_tier": found.service_tier, "geo": found.geo, "counted": found.billed}
    cost = cost_of(found.usage, model, provider=provider, at=NOON, **how)  # type: ignore[arg-type]  # of three kinds
    assert (None if cost is None else cost.total) == money
    assert cost is None or cost.complete


def test_every_provider_is_here() -> None:
    assert set(ROWS) | _OTHERS == set(LIVE)


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
