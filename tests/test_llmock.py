"""
A third party's simulator of the providers, and its verdict on our conduct.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from llmock.chaos import ChaosSettings, StreamChaos
from llmock.pytest_plugin import LLMock

from llm_master import (
    APITimeoutError,
    BreakerPolicy,
    ContentPolicyError,
    ContextWindowError,
    LLMResponse,
    LLMStream,
    ProviderError,
    QueryLLM,
    QuotaExceededError,
    RateLimitError,
    RetryPolicy,
    StreamInterrupted,
    Timeouts,
    ToolArgumentsError,
)

MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5", "mistral": "mistral-small", "xai": "grok-4"}
FAMILIES = ["openai", "anthropic"]
# The verdict judges retries; a breaker that opens for all calls at once would hide them behind its own wait.
NEVER = BreakerPolicy(failures=1000, failure_rate=None)
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


def name_of(provider: str) -> str:
    return f"{provider}/{MODELS.get(provider, 'some-model')}"


def ask(provider: str, *, retry: RetryPolicy | None = None, **kwargs: Any) -> Any:
    async def main() -> Any:
        async with QueryLLM(retry=retry or RetryPolicy(base_delay=0.2)) as llm:
            result = await llm.query(name_of(provider), HI, **kwargs)
            if isinstance(result, LLMStream):
                return [text async for text in result], result.response
            return result

    return asyncio.run(main())


def whole(provider: str, prompts: tuple[str, ...] = ("What is the weather in Paris?",), **kwargs: Any) -> list[Any]:
    """Streams read by ``text()``, all at once: their responses, each with the same text as was returned."""

    async def one(llm: QueryLLM, prompt: str) -> LLMResponse:
        stream = await llm.query(name_of(provider), prompt, stream=True, **kwargs)
        text = await stream.text()
        assert text == stream.response.content
        return stream.response

    async def main() -> list[Any]:
        retry = RetryPolicy(base_delay=0.2, max_attempts=kwargs.pop("max_attempts", 3))
        async with QueryLLM(retry=retry, breaker=NEVER) as llm:
            return await asyncio.gather(*(one(llm, prompt) for prompt in prompts))

    return asyncio.run(main())


def findings(llmock: LLMock) -> list[str]:
    return [finding.code for finding in llmock.verdict().findings]


def assert_backed_off(llmock: LLMock, *answers: LLMResponse) -> None:
    """
    The strict verdict, where one call was tried more than twice.

    The simulator measures when attempts arrive, and a busy machine delays them by more than they wait: growing waits
    then look constant. So that one finding is judged by the waits themselves (``test_fault_matrix.py`` shows that
    no attempt arrives before its wait is over).
    """
    for answer in answers:
        waits = [attempt.waited for attempt in answer.attempts if attempt.wait_reason == "retry"]
        assert all(wait > 0 for wait in waits)
        assert all(later > earlier * 1.1 for earlier, later in itertools.pairwise(waits))
    assert [code for code in findings(llmock) if code != "no_backoff"] == [], llmock.verdict().render()


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
    ("twice", lambda mock: mock.fail(500, times=2)),
    *((f"{code}", lambda mock, code=code: mock.fail(code, times=1)) for code in (408, 409, 500, 502)),
    *((f"{code}", lambda mock, code=code: mock.fail(code, times=1, retry_after=0.1)) for code in (503, 504, 529)),
    ("the simulator's own wait", lambda mock: mock.fail(503, times=1)),
    ("late", lambda mock: mock.delay(0.05).fail(500, times=1)),
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
    assert_backed_off(llmock, response)


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


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", FAMILIES)
def test_a_full_outage_goes_to_the_fallback(provider: str, stream: bool, llmock: LLMock) -> None:
    llmock.outage(status=500, provider=provider)
    other = next(each for each in FAMILIES if each != provider)
    found = ask(provider, stream=stream, fallback_model=name_of(other))
    response = found[1] if stream else found
    assert response.content
    assert response.provider == other
    assert [attempt.outcome for attempt in response.attempts] == ["error"] * 3 + ["ok"]
    assert_backed_off(llmock, response)


@pytest.mark.parametrize("provider", FAMILIES)
def test_a_policy_refusal_is_raised_and_never_repeated(provider: str, llmock: LLMock) -> None:
    llmock.fail(400, code="content_policy_violation", message="Your request was refused by our content policy.")
    with pytest.raises(ContentPolicyError):
        ask(provider)
    assert len(llmock.requests) == 1
    llmock.assert_resilient(strict=True)


# -- quotas ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", FAMILIES)
def test_a_spent_quota_of_requests_is_waited_for(provider: str, llmock: LLMock) -> None:
    """Somebody else has used the minute's 60; one comes back each second, which is what ``Retry-After`` says."""
    llmock.limits(rpm=60)
    key = "Bearer llmock-test-key" if provider == "openai" else "llmock-test-key"
    while llmock._server.state.limiter.admit(provider, key, 1).allowed:
        pass
    response = ask(provider, timeout=20)
    assert response.content
    assert [attempt.status_code for attempt in response.attempts] == [429, 200]
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("provider", FAMILIES)
@pytest.mark.parametrize("quota", [{"rpm": 1}, {"tpm": 4000}])
def test_quotas_come_with_their_true_wait(quota: dict[str, int], provider: str, llmock: LLMock) -> None:
    """Nobody waits longer than the application allows. The verdict warns of it, since it sees no second attempt."""
    llmock.limits(**quota)
    ask(provider, max_tokens=3900)
    with pytest.raises(RateLimitError) as caught:
        ask(provider, max_tokens=3900, retry=RetryPolicy(max_retry_after=0.5))
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 0.5
    llmock.assert_resilient()
    assert findings(llmock) == ["gave_up"]


def test_spent_money_is_not_asked_for_twice(llmock: LLMock) -> None:
    """No wait brings it back, so the one attempt that the verdict warns of is right."""
    llmock.fail(429, code="insufficient_quota", message="You exceeded your current quota, check your plan.")
    with pytest.raises(QuotaExceededError):
        ask("openai")
    assert len(llmock.requests) == 1
    llmock.assert_resilient()
    assert findings(llmock) == ["gave_up"]


@pytest.mark.parametrize("provider", FAMILIES)
def test_a_small_context_window_is_told(provider: str, llmock: LLMock) -> None:
    llmock.limits(context_window=50)
    with pytest.raises(ContextWindowError):
        whole(provider, ("word " * 400,))
    assert len(llmock.requests) == 1
    llmock.assert_resilient(strict=True)


# -- tools -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_broken_arguments_of_a_tool_are_kept_and_told(stream: bool, llmock: LLMock) -> None:
    llmock.call_tool("get_weather", {"city": "Paris"}).break_tool_call("malformed_arguments")
    found = ask("openai", stream=stream, tools=TOOLS)
    (call,) = (found[1] if stream else found).tool_calls
    with pytest.raises(ToolArgumentsError) as caught:
        _ = call.arguments
    assert caught.value.raw_arguments == call.raw_arguments != ""
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", FAMILIES)
def test_a_tool_that_was_never_offered_is_handed_over_as_it_is(provider: str, stream: bool, llmock: LLMock) -> None:
    llmock.call_tool("get_weather", {"city": "Paris"}).break_tool_call("unknown_tool")
    found = ask(provider, stream=stream, tools=TOOLS)
    (call,) = (found[1] if stream else found).tool_calls
    assert call.name != "get_weather"
    assert isinstance(call.arguments, dict)
    llmock.assert_resilient(strict=True)


# -- streams -----------------------------------------------------------------------------------------------------------

SAID = "It is sunny in Paris and it will stay so until the weekend."
LIMITS = Timeouts(total=20, first_token=0.5, idle=0.5)


@pytest.mark.parametrize("provider", FAMILIES)
@pytest.mark.parametrize("way", ["disconnect", "truncate"])
def test_a_broken_stream_is_never_an_answer(provider: str, way: str, llmock: LLMock) -> None:
    # Paced, so that the first words are there before the break.
    getattr(llmock.pace(20), way)(after_chunks=4)
    with pytest.raises(StreamInterrupted) as caught:
        ask(provider, stream=True)
    assert caught.value.partial_text
    # The application asks again, as the verdict wants of it.
    assert ask(provider, stream=True)[1].finish_reason == "stop"
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("provider", FAMILIES)
@pytest.mark.parametrize("after_chunks", [0, 2, 5])
@pytest.mark.parametrize("way", ["disconnect", "truncate", "corrupt"])
def test_text_brings_the_whole_answer_whatever_breaks(
    way: str, after_chunks: int, provider: str, llmock: LLMock
) -> None:
    getattr(llmock.pace(20).reply(SAID, times=2), way)(after_chunks=after_chunks)
    (response,) = whole(provider)
    assert response.content == SAID
    assert response.finish_reason == "stop"
    assert response.attempts[-1].outcome == "ok"
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("provider", FAMILIES)
@pytest.mark.parametrize("way", ["disconnect", "truncate"])
def test_a_stream_that_always_breaks_is_given_up(way: str, provider: str, llmock: LLMock) -> None:
    getattr(llmock.pace(20), way)(after_chunks=4, times=None)
    with pytest.raises(StreamInterrupted) as caught:
        whole(provider)
    assert caught.value.partial_text
    assert len(llmock.requests) == len(caught.value.attempts) == RetryPolicy().max_attempts
    # The verdict cannot see the error that was raised after the last attempt, only that no other one followed.
    left = [code for code in findings(llmock) if code != "no_backoff"]  # see assert_backed_off
    assert left == (["truncated_stream_accepted"] if way == "truncate" else [])


@pytest.mark.parametrize("provider", FAMILIES)
def test_a_chunk_that_cannot_be_read_is_noted(provider: str, llmock: LLMock) -> None:
    """An iteration has given what came before it, so it goes on; of this the verdict warns."""
    llmock.pace(20).reply(SAID).corrupt(after_chunks=4)
    pieces, response = ask(provider, stream=True)
    assert "".join(pieces) == response.content
    assert any("malformed" in note for note in response.notes)
    llmock.assert_resilient()
    assert findings(llmock) == ["malformed_chunk_ignored"]


@pytest.mark.parametrize("provider", FAMILIES)
def test_a_stalled_stream_is_given_up(provider: str, llmock: LLMock) -> None:
    llmock.pace(20).stall(after_chunks=4, seconds=30)
    with pytest.raises(StreamInterrupted, match="silent"):
        ask(provider, stream=True, timeout=LIMITS)
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("provider", FAMILIES)
@pytest.mark.parametrize("after_chunks", [0, 4])
def test_text_does_not_sit_through_a_stall(after_chunks: int, provider: str, llmock: LLMock) -> None:
    other = next(each for each in FAMILIES if each != provider)
    llmock.pace(20).reply(SAID, times=2).stall(after_chunks=after_chunks, seconds=30)
    (response,) = whole(provider, timeout=LIMITS, fallback_model=name_of(other))
    assert response.content == SAID
    assert response.provider == other
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", FAMILIES)
def test_a_late_answer_is_waited_for_as_long_as_allowed(provider: str, stream: bool, llmock: LLMock) -> None:
    llmock.delay(0.1).slow_first_token(0.1)
    found = ask(provider, stream=stream, timeout=LIMITS)
    assert (found[1] if stream else found).content
    llmock.delay(1)
    with pytest.raises(APITimeoutError):
        ask(provider, stream=stream, timeout=Timeouts(total=0.3, first_token=0.2))
    assert len(llmock.requests) <= 2, "a silent route is not asked again"
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("provider", FAMILIES)
def test_a_slow_first_token_goes_to_the_fallback(provider: str, llmock: LLMock) -> None:
    other = next(each for each in FAMILIES if each != provider)
    llmock.slow_first_token(30, provider=provider)
    (response,) = whole(provider, timeout=LIMITS, fallback_model=name_of(other))
    assert response.provider == other
    llmock.assert_resilient(strict=True)


# -- chaos -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", FAMILIES)
def test_chaos_is_survived_with_good_conduct(provider: str, stream: bool, llmock: LLMock) -> None:
    """
    A quarter of them fails; each question is another, so that the verdict can tell them apart.

    Few enough for the retry budget: ten a second, and one for every five calls.
    """
    state = llmock._server.state
    state.chaos = ChaosSettings(error_rates=dict.fromkeys((500, 502), 0.05 if stream else 0.12))
    state.stream_chaos = StreamChaos(fault_rates=(("disconnect", 0.08), ("truncate", 0.08)), chunk_delay_ms=5)
    # Long enough for every stream to be broken before its finish reason.
    llmock.reply(SAID, times=None)
    prompts = tuple(f"Question {number}" for number in range(10))

    async def main() -> list[LLMResponse]:
        async with QueryLLM(retry=RetryPolicy(base_delay=0.2, max_attempts=10), breaker=NEVER) as llm:
            return await asyncio.gather(*(llm.query(name_of(provider), prompt) for prompt in prompts))

    answers = whole(provider, prompts, max_attempts=10) if stream else asyncio.run(main())
    assert all(answer.content and answer.finish_reason == "stop" for answer in answers)
    assert [answer.attempts[-1].outcome for answer in answers] == ["ok"] * len(prompts)
    assert_backed_off(llmock, *answers)
