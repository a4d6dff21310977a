"""
What each provider reports, as it stands in its answers, in tokens as all families count them, and what that costs.

Tokens and USD are worked out by hand: the price of a million of plain input, cached input and output stands beside
each cost. The bodies are those of ``wire.md`` and of the vendors' own references.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from llm_master import Usage
from support.event_stream import stream

__all__ = ["CHAT", "MESSAGES", "NOON", "NO_CHAT", "PLAIN", "RESPONSES", "ROWS", "M", "body_of", "cached", "chat"]
__all__ += ["messages", "responses", "stream_of"]

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


def part_cached(model: str, plain: str, read: str, made: str, **more: Any) -> tuple[str, str, Any, Usage, Decimal]:
    """The row of a chat of 1000 tokens, 400 of them cached, and 200 made, by the prices of a million of each."""
    cost = (600 * Decimal(plain) + 400 * Decimal(read) + 200 * Decimal(made)) / M
    return CHAT, model, chat(1000, 200, **more, **cached(400)), Usage(1000, 200, 400), cost


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
        # Sound: 2.5 / 10 for text, 32 / 64 for sound.
        (
            CHAT,
            "gpt-audio",
            chat(
                1000,
                200,
                prompt_tokens_details={"audio_tokens": 900, "text_tokens": 100},
                completion_tokens_details={"audio_tokens": 150, "text_tokens": 50},
            ),
            Usage(1000, 200, input_audio_tokens=900, output_audio_tokens=150),
            (100 * Decimal("2.5") + 900 * 32 + 50 * 10 + 150 * 64) / M,
        ),
        # 4 / 15 over 272,000; written 5.
        (
            CHAT,
            "gpt-6.1-sol",
            chat(300_000, 200, prompt_tokens_details={"cached_tokens": 200_000, "cache_write_tokens": 50_000}),
            Usage(300_000, 200, 200_000, 50_000),
            (50_000 * 4 + 200_000 * Decimal("0.2") + 50_000 * 5 + 200 * 15) / M,
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
        # Three searches of the web at 0.01 each, and what they found was read: 2 / 10.
        (
            MESSAGES,
            "claude-sonnet-5-5",
            messages(4000, 200, server_tool_use={"web_search_requests": 3, "web_fetch_requests": 1}),
            Usage(4000, 200, web_searches=3),
            (4000 * 2 + 200 * 10) / M + Decimal("0.03"),
        ),
        # A batch in the USA: half of 4 / 20, and a tenth more.
        (
            MESSAGES,
            "claude-opus-5-5",
            messages(1000, 200, service_tier="batch", inference_geo="us"),
            PLAIN,
            Decimal("1.1") * (1000 * 4 + 200 * 20) / 2 / M,
        ),
        # The plain part alone is told. 4 / 0.2 / 20, written 5, for an hour 8.
        (
            MESSAGES,
            "claude-opus-5-5",
            messages(100, 50, 700, 200, 80, output_tokens_details={"thinking_tokens": 30}),
            Usage(1000, 50, 700, 200, 80, 30),
            (100 * 4 + 700 * Decimal("0.2") + 120 * 5 + 80 * 8 + 50 * 20) / M,
        ),
    ],
    "openrouter": [
        (CHAT, "openai/gpt-4o", chat(1000, 200, cost=0.00123), PLAIN, Decimal("0.00123")),
        (CHAT, "deepseek/deepseek-r1:free", chat(1000, 200, cost=0), PLAIN, Decimal(0)),
        # With a key of one's own there: the fee, and what the maker bills.
        (
            CHAT,
            "openai/gpt-4o",
            chat(1000, 200, cost=0.0002, is_byok=True, cost_details={"upstream_inference_cost": 0.0045}),
            PLAIN,
            Decimal("0.0047"),
        ),
        (
            RESPONSES,
            "openai/gpt-4o",
            responses(1000, 200)
            | {"cost": 0.0002, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.0045}},
            PLAIN,
            Decimal("0.0047"),
        ),
        # Not told: 2.5 / 1.25 / 10.
        part_cached("openai/gpt-4o", "2.5", "1.25", "10"),
    ],
    "groq": [part_cached("openai/gpt-oss-120b", "0.15", "0.075", "0.6", queue_time=0.1)],
    "mistral": [part_cached("mistral-large-4", "0.7", "0.07", "2.1")],
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
        (
            CHAT,
            "grok-4.7",
            chat(1000, 50, 1200, cost_in_usd_ticks=37_756_000, num_sources_used=2, **thought(150)),
            Usage(1000, 200, reasoning_tokens=150),
            Decimal("0.0037756"),
        ),
        # 200,000 and more: 4 / 12, cached 1.
        (
            CHAT,
            "grok-4.7",
            chat(200_000, 200, **cached(100_000)),
            Usage(200_000, 200, 100_000),
            (100_000 * 4 + 100_000 * 1 + 200 * 12) / M,
        ),
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
    "fireworks": [part_cached("accounts/fireworks/models/gpt-oss-120b", "0.15", "0.015", "0.6")],
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
        ),
        # What was cached has no price of its own: 2.5 / 10.
        (
            "cohere",
            "command-a-03-2025",
            {
                "billed_units": {"input_tokens": 1000, "output_tokens": 200},
                "tokens": {"input_tokens": 1066, "output_tokens": 203},
                "cached_tokens": 400,
            },
            Usage(1000, 200, 400),
            (1000 * Decimal("2.5") + 200 * 10) / M,
        ),
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
    "zai": [part_cached("glm-5.3", "1.4", "0.26", "4.4")],
    "minimax": [part_cached("MiniMax-M3.1-Flash", "0.15", "0.015", "0.6", total_characters=0)],
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
    "baseten": [part_cached("zai-org/GLM-5.3", "1.4", "0.14", "4.4")],
    "wandb": [(CHAT, "zai-org/GLM-5.3", chat(1000, 200), PLAIN, None)],
    "ovhcloud": [(CHAT, "Qwen3.8-27B", chat(1000, 200), PLAIN, (1000 * Decimal("0.47") + 200 * Decimal("3.19")) / M)],
    "vercel": [(CHAT, "anthropic/claude-sonnet-4.5", chat(1000, 200), PLAIN, None)],
    "azure": [part_cached("gpt-4o", "2.5", "1.25", "10")],
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
        ),
        # Text 0.3, sound 1; a picture out is 30, its caption 2.5.
        (
            "gemini",
            "gemini-2.5-flash",
            {
                "promptTokenCount": 1000,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 100},
                    {"modality": "AUDIO", "tokenCount": 900},
                ],
                "candidatesTokenCount": 200,
                "totalTokenCount": 1200,
            },
            Usage(1000, 200, input_audio_tokens=900),
            (100 * Decimal("0.3") + 900 * 1 + 200 * Decimal("2.5")) / M,
        ),
        (
            "gemini",
            "gemini-2.5-flash-image",
            {
                "promptTokenCount": 300,
                "candidatesTokenCount": 1390,
                "candidatesTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 100},
                    {"modality": "IMAGE", "tokenCount": 1290},
                ],
                "totalTokenCount": 1690,
            },
            Usage(300, 1390, output_image_tokens=1290),
            (300 * Decimal("0.3") + 100 * Decimal("2.5") + 1290 * 30) / M,
        ),
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
    "databricks": [part_cached("databricks-glm-5-3", "1.4", "0.26", "4.4")],
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
NO_CHAT = {"voyage", "bfl", "recraft", "replicate", "fal"}


def body_of(family: str, usage: Any, model: str) -> dict[str, Any]:
    """A short answer of a family with a usage as its provider writes it."""
    if family == MESSAGES:
        text = [{"type": "text", "text": "Hi"}]
        said = {"type": "message", "role": "assistant", "content": text, "stop_reason": "end_turn"}
        return {"id": "m", "model": model, **said, "usage": usage}
    if family == RESPONSES:
        text = [{"type": "output_text", "text": "Hi", "annotations": []}]
        item: dict[str, Any] = {"type": "message", "role": "assistant", "status": "completed", "content": text}
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


def stream_of(family: str, usage: Any, model: str) -> bytes:
    """The same answer as a stream."""
    if family == "bedrock":
        return stream(_events_of_bedrock(usage))
    events = {
        CHAT: _events_of_chat,
        MESSAGES: _events_of_messages,
        RESPONSES: _events_of_responses,
        "gemini": _events_of_gemini,
        "cohere": _events_of_cohere,
    }[family]
    return b"".join(b"data: %s\n\n" % _bytes(event) for event in events(usage, model))


def _bytes(event: Any) -> bytes:
    return event.encode() if isinstance(event, str) else json.dumps(event).encode()


def _events_of_chat(usage: Any, model: str) -> Iterator[Any]:
    shell = {"id": "c", "object": "chat.completion.chunk", "model": model}
    for delta, finish in (({"role": "assistant", "content": "H"}, None), ({"content": "i"}, None), ({}, "stop")):
        yield {**shell, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None}
    yield {**shell, "choices": [], "usage": usage}
    yield "[DONE]"


def _events_of_messages(usage: Any, model: str) -> Iterator[Any]:
    # The input is told at the beginning, with a first token of the output; the end tells the whole output once more.
    message = body_of(MESSAGES, {**usage, "output_tokens": 1, "output_tokens_details": None}, model)
    yield {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
    yield {"type": "content_block_stop", "index": 0}
    last = {name: value for name, value in usage.items() if name in ("output_tokens", "output_tokens_details")}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": last}
    yield {"type": "message_stop"}


def _events_of_responses(usage: Any, model: str) -> Iterator[Any]:
    whole = body_of(RESPONSES, usage, model)
    yield {"type": "response.created", "response": {**whole, "status": "in_progress", "output": [], "usage": None}}
    item = {**whole["output"][0], "id": "m", "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
    at = {"item_id": "m", "output_index": 0, "content_index": 0}
    yield {"type": "response.output_text.delta", **at, "delta": "Hi"}
    yield {"type": "response.completed", "response": whole}


def _events_of_gemini(usage: Any, model: str) -> Iterator[Any]:
    # Every chunk tells the whole of what was used so far.
    whole = body_of("gemini", usage, model)
    first = {**usage, "candidatesTokenCount": 1, "thoughtsTokenCount": None, "totalTokenCount": None}
    part = {"content": {"role": "model", "parts": [{"text": "H"}]}}
    yield {"candidates": [part], "usageMetadata": first, "modelVersion": model}
    end = {"content": {"role": "model", "parts": [{"text": "i"}]}, "finishReason": "STOP"}
    yield {**whole, "candidates": [end]}


def _events_of_cohere(usage: Any, _model: str) -> Iterator[Any]:
    message: dict[str, Any] = {"role": "assistant", "content": []}
    yield {"type": "message-start", "id": "c", "delta": {"message": message}}
    content = {"type": "text", "text": ""}
    yield {"type": "content-start", "index": 0, "delta": {"message": {"content": content}}}
    yield {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hi"}}}}
    yield {"type": "content-end", "index": 0}
    yield {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}


def _events_of_bedrock(usage: Any) -> Iterator[dict[str, Any]]:
    yield {"messageStart": {"role": "assistant"}}
    yield {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hi"}}}
    yield {"contentBlockStop": {"contentBlockIndex": 0}}
    yield {"messageStop": {"stopReason": "end_turn"}}
    yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 5}}}
