"""
What ``explain`` tells of counts of tokens, of options that are no parameters, of budgets and of what a call can cost.
"""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from support.behaviours import status
from support.fault_server import FaultServer

from llm_master import (
    Budget,
    BudgetExceededError,
    ConfigurationError,
    Explanation,
    InvalidRequestError,
    LLMConfig,
    LLMError,
    MissingKeyError,
    QueryLLM,
    RetryPolicy,
    UnsupportedParameterError,
)
from llm_master.base_provider import row_of
from llm_master.policy.limits import MemoryLimiter

KEY = "count-key-0123456789abcdef"
HELLO = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello."}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}

pytestmark = pytest.mark.usefixtures("nothing_set")


def client(name: str, server: FaultServer | None = None, **options: Any) -> QueryLLM:
    config = LLMConfig(
        **{row_of(name).api_key_attr or "": KEY}, base_urls={} if server is None else {name: server.url + "/base/v1"}
    )
    return QueryLLM(config, retry=RetryPolicy(max_attempts=1), limiter=MemoryLimiter(), **options)


def both(llm: QueryLLM, call: str, model: str, first: Any, **kwargs: Any) -> Explanation:
    """The explanation, and then the call, of whose answer nothing is wanted."""

    async def main() -> Explanation:
        async with llm:
            found = llm.explain(model, first, call=call, **kwargs)
            with contextlib.suppress(LLMError):
                await getattr(llm, call)(model, first, **kwargs)
            return found

    return asyncio.run(main())


# Counts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"tools": [TOOL]}], ids=["plain", "tools"])
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "vertex", "cohere", "vllm", "llamacpp"])
def test_a_count_is_shown_as_it_is_asked_for(
    provider: str, params: dict[str, Any], fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    fault_server.default = status(400)
    model = f"{provider}/gemini-2.5-flash" if provider in ("gemini", "vertex") else f"{provider}/some-model"
    found = both(client(provider, fault_server), "count_tokens", model, HELLO, extra_headers={"X-Team": "a"}, **params)
    (seen,) = fault_server.requests
    assert found.sendable
    assert found.url == fault_server.url + seen.path
    assert found.body == seen.json
    assert seen.header("X-Team") == found.headers["X-Team"] == "a"
    assert KEY not in str(found)
    assert found.cost_bound == 0
    assert any("and is counted" in each for each in found.findings) is (provider == "llamacpp")


def test_what_this_machine_counts_sends_nothing_and_needs_no_key() -> None:
    llm = QueryLLM(LLMConfig())
    found = llm.explain("mistral-small-latest", "Hi", call="count_tokens")
    assert found.sendable
    assert (found.url, found.body, found.cost_bound) == (None, None, 0)
    assert found.first.family == "estimate"
    assert "no endpoint that counts" in found.findings[0]
    assert "POST" not in str(found)
    with pytest.raises(ConfigurationError, match="no endpoint that counts"):
        llm.preview_request("mistral-small-latest", "Hi", call="count_tokens")
    by_words = llm.explain("groq/openai/gpt-oss-120b", "Hi", call="count_tokens")
    assert by_words.first.family == "tokenizer"

    async def main() -> None:
        async with llm:
            counted = await llm.count_tokens("mistral-small-latest", "Hi")
            assert counted.source == "estimate"
            assert counted.tokens == found.first.input_tokens
            assert (await llm.count_tokens("azure/my-deployment", "Hi")).tokens > 0, "an address is not needed either"
            with pytest.raises(MissingKeyError, match="ANTHROPIC_API_KEY"):
                await llm.count_tokens("claude-sonnet-4-5", "Hi")

    asyncio.run(main())


class Counting:
    """Code of the user's own that counts."""

    async def chat(self, messages: Any, model: Any = None) -> str:
        """An answer."""
        return "Hello."

    async def count_tokens(self, messages: Any, model: Any = None) -> int:
        """As many tokens as messages."""
        return len(messages)


def test_code_of_the_users_own_counts_and_serves_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueryLLM, "provider_map", {"own-model": (None, Counting)})
    llm = QueryLLM(LLMConfig())
    found = llm.explain("own-model", "Hi", call="count_tokens")
    assert found.sendable
    assert "code of your own makes the request" in found.findings[0]
    assert "POST" not in str(found)
    assert llm.count_tokens_sync("own-model", "Hi").tokens == 1
    refused = llm.explain("own-model", "Hi", call="embed")
    assert not refused.sendable
    with pytest.raises(ConfigurationError) as caught:
        llm.embed_sync("own-model", "Hi")
    assert refused.findings == (str(caught.value),)


def test_a_count_without_its_key_says_which() -> None:
    found = QueryLLM(LLMConfig()).explain("claude-sonnet-4-5", "Hi", call="count_tokens")
    assert not found.sendable
    assert "ANTHROPIC_API_KEY" in found.findings[0]
    assert found.body["messages"][0]["role"] == "user"


def test_a_picture_that_would_be_fetched_for_a_count_is_told() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png?signature=hush"}}
    messages = [{"role": "user", "content": [part]}]
    found = client("vllm").explain("vllm/m", messages, call="count_tokens")
    assert found.body["messages"][0]["content"][0]["image_url"]["url"] == part["image_url"]["url"]
    file = {"type": "file", "file": {"file_data": "https://example.org/a.docx?signature=hush", "filename": "a.docx"}}
    messages = [{"role": "user", "content": [file, part]}]
    fetched = client("gemini").explain("gemini/gemini-2.5-flash", messages, call="count_tokens")
    assert fetched.sendable


# Options --------------------------------------------------------------------------------------------------------------

EVERY: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "embed": ("openai/e", "a", {}),
    "rerank": ("cohere/r", "q", {"documents": ["d"]}),
    "speak": ("openai/tts-1", "a", {"voice": "alloy"}),
    "transcribe": ("openai/whisper-1", b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(64), {}),
    "count_tokens": ("openai/gpt-4o", "a", {}),
}


@pytest.mark.parametrize(
    "option", [{"cache": True}, {"hedge_after": 1.0}, {"api": "chat"}, {"moderation": True}, {"repairs": 1}]
)
@pytest.mark.parametrize("call", EVERY)
def test_an_option_of_query_alone_is_refused_and_not_sent(
    call: str, option: dict[str, Any], fault_server: FaultServer
) -> None:
    model, first, more = EVERY[call]
    llm = client(model.partition("/")[0], fault_server)

    async def main() -> None:
        async with llm:
            with pytest.raises(InvalidRequestError, match=rf"{next(iter(option))}= is an option of query\(\) alone"):
                await getattr(llm, call)(model, first, **more, **option)
            with pytest.raises(InvalidRequestError, match=r"is an option of query\(\) alone"):
                llm.explain(model, first, call=call, **more, **option)

    asyncio.run(main())
    assert fault_server.requests == []


def test_the_options_of_every_call_are_no_parameters(fault_server: FaultServer) -> None:
    fault_server.route("/base/v1/embeddings", [status(200, {"data": [{"embedding": [1.0]}]})])
    llm = client("openai", fault_server)
    found = llm.embed_sync(
        "openai/e", "a", timeout=9, max_attempts=1, tags="t", limit_wait=1, drop_params=False, fallback_on=()
    )
    assert found.embeddings == [[1.0]]
    assert fault_server.requests[0].json == {"model": "e", "input": ["a"]}


def test_a_parameter_that_is_not_known_is_dropped_if_that_is_asked(fault_server: FaultServer) -> None:
    answer = {"embeddings": [{"values": [1.0]}]}
    fault_server.route("/base/v1/v1beta/models/e:batchEmbedContents", [status(200, answer)])
    llm = client("gemini", fault_server)
    given = {"encoding_format": "float", "dimensions": 1}
    with pytest.raises(UnsupportedParameterError, match="encoding_format"):
        llm.embed_sync("gemini/e", "a", **given)
    shown = llm.explain("gemini/e", "a", call="embed", drop_params=True, **given)
    found = llm.embed_sync("gemini/e", "a", drop_params=True, **given)
    assert found.dropped == shown.dropped == ("encoding_format",)
    assert shown.body == fault_server.requests[0].json
    assert [each.how for each in shown.first.changes if each.given == "encoding_format"] == ["dropped"]
    always = client("gemini", fault_server, drop_params=True)
    assert always.explain("gemini/e", "a", call="embed", **given).sendable
    assert always.embed_sync("gemini/e", "a", **given).dropped == ("encoding_format",)


def test_what_a_call_beside_chat_may_cost_is_bounded(fault_server: FaultServer) -> None:
    fault_server.route("/base/v1/embeddings", [status(200, {"data": [{"embedding": [1.0]}]})])
    llm = client("openai", fault_server)
    with pytest.raises(BudgetExceededError, match="max_cost"):
        llm.embed_sync("text-embedding-3-small", "a " * 5000, max_cost="0.00001")
    with pytest.raises(BudgetExceededError, match="no price bounds it"):
        llm.speak_sync("openai/tts-1", "a", voice="alloy", max_cost=1)
    assert fault_server.requests == []
    assert llm.embed_sync("text-embedding-3-small", "a", max_cost="0.01").embeddings == [[1.0]]


# Money ----------------------------------------------------------------------------------------------------------------


def test_budgets_of_a_call_without_an_answer_hold_its_input_alone() -> None:
    llm = client("openai", budgets=[Budget("all", usd=1, per="day")])
    (of_vectors,) = llm.explain("text-embedding-3-small", "a", call="embed").first.budgets
    assert of_vectors.takes is not None
    assert of_vectors.takes < Decimal("0.000001"), "a thousand tokens of an answer would be more"
    (of_count,) = llm.explain("openai/gpt-4o", "a", call="count_tokens").first.budgets
    assert of_count.takes == 0
    found = llm.explain("text-embedding-3-small", "a", call="embed", max_cost="0.5")
    assert [each.key for each in found.first.budgets] == ["all", "max_cost"]
    assert "budget max_cost: $0.5 of $0.5 a call left" in str(found)


@pytest.mark.parametrize(
    ("model", "kwargs", "bound", "said"),
    [
        ("recraft/recraftv4_1", {"n": 3}, Decimal("0.105"), ""),
        ("bfl/flux-pro-1.1", {}, Decimal("0.04"), ""),
        ("fal/fal-ai/flux/dev", {"n": 2}, None, "is billed by megapixels"),
        ("openai/gpt-image-1", {}, None, "is billed by tokens"),
        ("recraft/no-such-model", {}, None, "no price is known"),
    ],
)
def test_images_have_a_bound_where_they_are_billed_by_the_piece(
    model: str, kwargs: dict[str, Any], bound: Decimal | None, said: str
) -> None:
    found = client(model.partition("/")[0]).explain(model, "a cube", **kwargs)
    assert found.sendable
    assert found.cost_bound == bound
    assert any(said in finding for finding in found.findings) or not said


def test_speech_has_a_bound_where_it_is_billed_by_characters() -> None:
    llm = client("openai")
    assert llm.explain("tts-1", "x" * 1000, call="speak", voice="alloy").cost_bound == Decimal("0.015")
    by_tokens = llm.explain("gpt-4o-mini-tts", "x", call="speak", voice="alloy")
    assert by_tokens.cost_bound is None
    assert "is billed by tokens" in by_tokens.findings[0]


def test_a_dearer_tier_is_in_the_bound() -> None:
    llm = client("openai")
    plain = llm.explain("gpt-4o", "Hi", max_tokens=9).cost_bound
    dear = llm.explain("gpt-4o", "Hi", max_tokens=9, service_tier="priority").cost_bound
    assert plain is not None
    assert dear is not None
    assert dear > plain


def test_every_number_of_the_bound_can_be_written_as_json() -> None:
    found = client("recraft").explain("recraft/recraftv4_1", "a cube", n=2)
    assert msgspec.json.decode(msgspec.json.encode(found.to_dict()))["cost_bound"] == "0.07"
