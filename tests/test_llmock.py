"""
A third party's simulator of the providers, and its verdict on our conduct.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from llmock.pytest_plugin import LLMock

from llm_master import (
    ContextWindowError,
    LLMResponse,
    LLMStream,
    ProviderError,
    QueryLLM,
    RateLimitError,
    RetryPolicy,
    StreamInterrupted,
    Timeouts,
)

MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5", "mistral": "mistral-small", "xai": "grok-4"}
FAMILIES = ["openai", "anthropic"]
HI = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


@pytest.fixture(autouse=True)
def _addresses(llmock: LLMock, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's and Anthropic's variables come from the simulator; the others have the same form."""
    for name in ("mistral", "xai", "groq", "together"):
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", llmock.base_url(name))
        monkeypatch.setenv(f"{name.upper()}_API_KEY", "llmock-test-key")


def ask(provider: str, *, retry: RetryPolicy | None = None, **kwargs: Any) -> Any:
    async def main() -> Any:
        async with QueryLLM(retry=retry or RetryPolicy(base_delay=0.2)) as llm:
            result = await llm.query(f"{provider}/{MODELS.get(provider, 'some-model')}", HI, **kwargs)
            if isinstance(result, LLMStream):
                return [text async for text in result], result.response
            return result

    return asyncio.run(main())


@pytest.mark.parametrize("provider", [*FAMILIES, "mistral", "xai", "groq", "together"])
def test_plain_and_streamed(provider: str, llmock: LLMock) -> None:
    llmock.reply("It is sunny in Paris.", times=2)
    plain: LLMResponse = ask(provider)
    pieces, streamed = ask(provider, stream=True)
    assert plain.content == streamed.content == "".join(pieces) == "It is sunny in Paris."
    # Of these two the simulator streams usage only when asked by stream_options, which the real ones do not need.
    counted = (plain,) if provider in {"mistral", "groq"} else (plain, streamed)
    for response in counted:
        assert response.usage.input_tokens > 0
        assert response.usage.output_tokens > 0
    assert plain.finish_reason == streamed.finish_reason == "stop"
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", FAMILIES)
def test_tool_calls(provider: str, stream: bool, llmock: LLMock) -> None:
    llmock.call_tool("get_weather", {"city": "Paris"})
    found = ask(provider, stream=stream, tools=TOOLS)
    response = found[1] if stream else found
    assert [(call.name, call.arguments) for call in response.tool_calls] == [("get_weather", {"city": "Paris"})]
    assert response.finish_reason == "tool_calls"
    llmock.assert_resilient(strict=True)


FAULTS: list[tuple[str, Callable[[LLMock], Any]]] = [
    ("rate limit", lambda mock: mock.rate_limit(times=1, retry_after=0.2)),
    ("twice", lambda mock: mock.fail(503, times=2)),
    *((f"{code}", lambda mock, code=code: mock.fail(code, times=1)) for code in (408, 500, 502, 503, 504)),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", FAMILIES)
@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=[name for name, _ in FAULTS])
def test_a_passing_fault_is_cured_with_good_conduct(
    provider: str, stream: bool, name: str, fault: Callable[[LLMock], Any], llmock: LLMock
) -> None:
    fault(llmock)
    found = ask(provider, stream=stream)
    response = found[1] if stream else found
    assert response.content
    assert len(response.attempts) == (3 if name == "twice" else 2)
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("provider", FAMILIES)
@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_what_no_retry_cures_is_raised_at_once(provider: str, code: int, llmock: LLMock) -> None:
    llmock.fail(code)
    with pytest.raises(ProviderError) as caught:
        ask(provider)
    assert caught.value.status_code == code
    assert len(llmock.requests) == 1
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("provider", FAMILIES)
def test_a_full_outage_is_bounded(provider: str, llmock: LLMock) -> None:
    llmock.outage()
    with pytest.raises(ProviderError) as caught:
        ask(provider)
    assert len(llmock.requests) == len(caught.value.attempts) == RetryPolicy().max_attempts
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("provider", FAMILIES)
def test_the_context_is_too_long(provider: str, llmock: LLMock) -> None:
    llmock.context_overflow()
    with pytest.raises(ContextWindowError):
        ask(provider)
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("provider", FAMILIES)
def test_quotas_come_with_their_true_wait(provider: str, llmock: LLMock) -> None:
    llmock.limits(rpm=1)
    ask(provider)
    with pytest.raises(RateLimitError) as caught:
        ask(provider, retry=RetryPolicy(max_retry_after=0.5))
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 0.5


@pytest.mark.parametrize("provider", FAMILIES)
@pytest.mark.parametrize("way", ["disconnect", "truncate"])
def test_a_broken_stream_is_never_an_answer(provider: str, way: str, llmock: LLMock) -> None:
    getattr(llmock, way)(after_chunks=4)
    with pytest.raises(StreamInterrupted) as caught:
        ask(provider, stream=True)
    assert caught.value.partial_text
    # The application asks again, as the verdict wants of it.
    assert ask(provider, stream=True)[1].finish_reason == "stop"
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("provider", FAMILIES)
def test_a_stalled_stream_is_given_up(provider: str, llmock: LLMock) -> None:
    llmock.stall(after_chunks=4, seconds=30)
    with pytest.raises(StreamInterrupted, match="silent"):
        ask(provider, stream=True, timeout=Timeouts(idle=0.2))
    llmock.reset()
