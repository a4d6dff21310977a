"""
``llm.explain`` says what ``llm.query`` does: address, headers and body are those that arrive in a real call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.behaviours import ok, status
from support.command import PICTURE
from support.fault_server import FaultServer

from llm_master import (
    BaseLLMProvider,
    ConfigurationError,
    Explanation,
    InvalidRequestError,
    Limit,
    LLMConfig,
    LLMError,
    LLMStream,
    ModelConfig,
    ModelNotFoundError,
    QueryLLM,
    RetryPolicy,
    UnifiedProvider,
    UnsupportedParameterError,
)
from llm_master.base_provider import row_of
from llm_master.explanation import Change
from llm_master.model_facts import facts_of
from llm_master.policy.limits import MemoryLimiter
from llm_master.settings_parts import Deployment

KEY = "explain-key-0123456789abcdef"
HI = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi there"}]
NAMES = sorted(UnifiedProvider.PROVIDER_CONFIGS)
LIVE = [name for name in NAMES if row_of(name).status == "live" and row_of(name).chats]
FAMILIES = [(name, family) for name in LIVE for family in row_of(name).families]

pytestmark = pytest.mark.usefixtures("nothing_set")


def asked_of(name: str) -> str:
    return name if row_of(name).supervisor else f"{name}/some-model"


def keyed(*names: str, **fields: Any) -> LLMConfig:
    return LLMConfig(**{row_of(name).api_key_attr or "": KEY for name in names}, **fields)


def client(*names: str, **options: Any) -> QueryLLM:
    options.setdefault("limiter", MemoryLimiter())
    return QueryLLM(keyed(*(names or ("openai", "anthropic"))), **options)


# Every row ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("name", "family"), FAMILIES)
def test_every_row_and_family_is_explained_with_a_key_alone(name: str, family: str) -> None:
    found = client(name).explain(asked_of(name), HI, api=family, stream=True)
    plan = found.first
    assert (plan.provider, plan.family) == (name, family)
    assert "Hi there" in json.dumps(plan.body)
    assert found.steps[0].candidates[0].chosen
    assert found.steps[0].rule == f"explicit prefix {name!r}"
    if row_of(name).supervisor is None:
        assert plan.url is not None
        assert plan.url.startswith("http")
        assert plan.stream_url is not None
        assert "missing-" not in plan.url
    text = str(found) + json.dumps(found.to_dict())
    assert KEY not in text
    assert "missing-" not in text
    needs_place = any(place.default is None for place in row_of(name).placeholders.values())
    no_address = row_of(name).base_url is None and row_of(name).supervisor is None
    assert found.sendable is not (needs_place or no_address)
    assert bool(found.findings) >= (not found.sendable)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", LIVE)
def test_a_missing_key_is_a_finding(name: str) -> None:
    row = row_of(name)
    llm = QueryLLM(LLMConfig())
    found = llm.explain(asked_of(name), HI)
    body = llm.preview_request(asked_of(name), HI)
    assert body == found.body
    assert "Hi there" in json.dumps(body)
    if row.key_optional:
        return
    said = " ".join(found.findings)
    signed = "each request is signed" in said
    assert any(variable in said for variable in row.key_variables) or signed
    assert "missing-" not in str(found)
    assert signed or not found.sendable


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", [name for name in NAMES if row_of(name).status != "live"])
def test_a_retired_provider_is_a_finding(name: str) -> None:
    llm = client(name)
    found = llm.explain(f"{name}/some-model", HI)
    assert not found.sendable
    assert found.body is None
    assert row_of(name).status in found.findings[0]
    with pytest.raises(ConfigurationError, match="retired"):
        llm.preview_request(f"{name}/some-model", HI)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "name",
    [name for name in NAMES if row_of(name).status == "live" and not {"chat", "images"} & set(row_of(name).serves)],
)
def test_a_provider_that_does_not_chat_says_so(name: str) -> None:
    llm = client(name)
    assert not llm.explain(f"{name}/some-model", HI).sendable
    with pytest.raises(LLMError, match="chat"):
        llm.preview_request(f"{name}/some-model", HI)


# The real call --------------------------------------------------------------------------------------------------------

ASKED = [
    ("openai/gpt-4o-mini", None),
    ("openai/gpt-5.5", "responses"),
    ("openai/o3", None),
    ("anthropic/claude-sonnet-5-5", None),
    ("anthropic/claude-3-haiku-20240307", None),
    ("mistral/mistral-large-latest", None),
    ("groq/llama-3.3-70b-versatile", None),
    ("deepseek/deepseek-chat", "messages"),
    ("gemini/gemini-2.5-flash", "gemini"),
    ("gemini/gemini-2.5-flash", "chat"),
    ("cohere/command-a-03-2025", "cohere"),
    ("bedrock/anthropic.claude-3-haiku-20240307-v1:0", "converse"),
    ("openrouter/x-ai/grok-4.7", None),
]
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}},
}
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0, 0.5, 1]),
        "max_tokens": st.integers(1, 500),
        "stop": st.sampled_from(["END", ["a", "b"]]),
        "seed": st.integers(0, 9),
        "top_p": st.sampled_from([0.3, 1]),
        "user": st.just("someone"),
        "reasoning_effort": st.sampled_from(["low", "high"]),
        "tools": st.just([TOOL]),
        "response_format": st.just({"type": "json_object"}),
        "extra_headers": st.just({"X-Team": "a", "X-Own-Token": "hush-hush-0000"}),
    },
)


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer() as found:
        found.default = status(400)
        yield found


async def made(llm: QueryLLM, *args: Any, **kwargs: Any) -> None:
    """The call itself; that its answer is an error is of no interest."""
    with contextlib.suppress(LLMError):
        answer = await llm.query(*args, **kwargs)
        if isinstance(answer, LLMStream):
            await answer.text()


def arrived(seen: Any) -> dict[str, str]:
    """Headers that the caller decides about."""
    return {name.lower(): value for name, value in seen.headers if name.lower() not in ("host", "content-length")}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.sampled_from(ASKED), params=PARAMS, stream=st.booleans())
def test_what_is_explained_is_what_arrives(
    server: FaultServer, asked: tuple[str, str | None], params: dict[str, Any], stream: bool
) -> None:
    model, api = asked
    name = model.partition("/")[0]
    config = keyed(name, base_urls={name: server.url + "/base/v1"})
    before = len(server.requests)

    async def main() -> Explanation:
        async with QueryLLM(config, retry=RetryPolicy(max_attempts=1), limiter=MemoryLimiter()) as llm:
            kwargs = {**params, "api": api, "stream": stream, "drop_params": True}
            found = llm.explain(model, HI, **kwargs)
            assert len(server.requests) == before
            await made(llm, model, HI, **kwargs)
            return found

    found = asyncio.run(main())
    requests = server.requests[before:]
    if not found.sendable:
        assert requests == []
        return
    (seen,) = requests
    assert found.url == server.url + seen.path
    assert found.body == msgspec.json.decode(seen.body)
    real = arrived(seen)
    assert {header.lower() for header in found.headers} == real.keys()
    for header, value in found.headers.items():
        if value.endswith("***"):
            assert real[header.lower()].startswith(value.removesuffix("***"))
            assert real[header.lower()].endswith((KEY, "hush-hush-0000"))
        else:
            assert real[header.lower()] == value
    told = str(found) + json.dumps(found.to_dict())
    assert KEY not in told
    assert "hush-hush-0000" not in told


def test_the_property_above_reaches_every_family() -> None:
    llm = QueryLLM(LLMConfig())
    found = {llm.explain(model, HI, api=api).first.family for model, api in ASKED}
    assert found == {"openai_chat", "openai_responses", "anthropic_messages", "gemini", "cohere", "bedrock"}


# Why there ------------------------------------------------------------------------------------------------------------


def told(llm: QueryLLM, name: str) -> list[tuple[str, bool, str, str]]:
    candidates = llm.explain(name, "Hi").steps[0].candidates
    return [(each.provider, each.chosen, each.rule, each.key) for each in candidates]


def test_a_substring_of_a_row_chooses() -> None:
    llm = client()
    assert told(llm, "gpt-4o-mini") == [("openai", True, "table substring", "gpt")]
    assert llm.explain("gpt-4o-mini", "Hi").steps[0].rule == "table substring 'gpt'"


def test_an_explicit_prefix_beats_the_substring_and_says_so() -> None:
    step = client("openrouter").explain("openrouter/gpt-4o", "Hi").steps[0]
    assert [(each.provider, each.chosen) for each in step.candidates[:2]] == [("openrouter", True), ("openai", False)]
    assert "the explicit prefix 'openrouter' comes first" in step.candidates[1].why


def test_a_substring_that_is_vetoed_or_beaten_says_by_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QueryLLM.provider_map, "distill", ("groq", UnifiedProvider))
    step = client("groq").explain("deepseek-r1-distill-gpt", "Hi").steps[0]
    why = {each.provider: each.why for each in step.candidates}
    assert (step.provider, step.rule) == ("groq", "provider_map 'distill'")
    assert "which is not its model" in why["deepseek"]
    assert "the substring 'distill' comes first" in why["openai"]
    inside = client().explain("gpt-xclaudex", "Hi").steps[0].candidates
    assert "inside a word" in {each.provider: each.why for each in inside}["anthropic"]


def test_the_registry_comes_before_every_rule() -> None:
    llm = client(registry={"gpt-mine": ModelConfig(provider="anthropic", model="claude-sonnet-5-5")})
    step = llm.explain("gpt-mine", "Hi").steps[0]
    assert (step.provider, step.model, step.rule) == ("anthropic", "claude-sonnet-5-5", "registry 'gpt-mine'")
    assert ("openai", False) in [(each.provider, each.chosen) for each in step.candidates]
    prices = client(registry={"gpt-4o": ModelConfig(input_price_per_million=1.0)}).explain("gpt-4o", "Hi").steps[0]
    assert [(each.rule, each.chosen) for each in prices.candidates] == [("table substring", True), ("registry", False)]


def test_an_entry_of_the_users_map_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QueryLLM.provider_map, "gpt-4o-mini", ("anthropic", UnifiedProvider))
    step = client().explain("gpt-4o-mini", "Hi").steps[0]
    assert (step.provider, step.rule) == ("anthropic", "provider_map 'gpt-4o-mini'")
    assert [(each.provider, each.chosen) for each in step.candidates] == [("anthropic", True), ("openai", False)]


def test_a_provider_for_names_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PROVIDER", "groq")
    monkeypatch.setenv("LLM_DEFAULT_MODEL", "some-new-thing")
    llm = client("groq")
    found = llm.explain("nobody-knows-it", "Hi")
    assert (found.first.provider, found.first.model) == ("groq", "nobody-knows-it")
    assert [each.rule for each in found.steps[0].candidates if each.chosen] == ["LLM_PROVIDER"]
    lost = llm.explain("gpt-4o", "Hi").steps[0].candidates
    assert [(each.provider, each.chosen) for each in lost] == [("groq", True), ("openai", False)]
    assert "but LLM_PROVIDER comes first" in lost[1].why
    assert llm.preview_request(messages="Hi")["model"] == "some-new-thing"


def test_moderation_is_said_and_not_asked() -> None:
    found = client().explain("gpt-4o", "Hi", moderation=True)
    assert found.sendable
    assert found.findings[0].startswith("moderation: one request")


def test_the_responses_prefix_is_said() -> None:
    found = client().explain("responses-gpt-4o", "Hi")
    assert found.first.family == "openai_responses"
    assert found.steps[0].rule.endswith("api responses")
    assert found.steps[0].candidates[0].chosen


@pytest.mark.parametrize("name", ["nothing-of-the-kind", "opnai/gpt-4o", ""])
def test_what_query_refuses_by_name_is_refused(name: str) -> None:
    async def main(llm: QueryLLM) -> LLMError:
        with pytest.raises(LLMError) as caught:
            await llm.query(name, "Hi")
        return caught.value

    llm = client()
    with pytest.raises((ModelNotFoundError, InvalidRequestError)) as caught:
        llm.explain(name, "Hi")
    assert str(caught.value) == str(asyncio.run(main(llm)))


# Parameters -----------------------------------------------------------------------------------------------------------


def changes(model: str, **params: Any) -> dict[str | None, Change]:
    provider = model.partition("/")[0]
    return {each.given: each for each in client(provider).explain(model, "Hi", **params).first.changes}


def test_what_became_of_each_parameter() -> None:
    chat = changes("openai/gpt-4o", temperature=0.5, max_tokens=9)
    assert chat["temperature"].how == "same"
    assert (chat["max_tokens"].how, chat["max_tokens"].sent) == ("renamed", ("max_completion_tokens",))
    messages = changes("anthropic/claude-3-haiku-20240307", stop="END", seed=1, user="me", drop_params=True)
    assert (messages["stop"].how, messages["stop"].sent) == ("renamed", ("stop_sequences",))
    assert (messages["user"].how, messages["user"].sent) == ("moved", ("metadata.user_id",))
    assert (messages["seed"].how, messages["seed"].sent) == ("dropped", ())
    assert (messages[None].how, messages[None].sent) == ("added", ("max_tokens",))
    gemini = changes("gemini/gemini-2.5-flash", max_tokens=5, n=1, api="gemini")
    assert (gemini["max_tokens"].how, gemini["max_tokens"].sent) == ("moved", ("generationConfig.maxOutputTokens",))


def test_a_clamped_value_is_changed_and_listed() -> None:
    found = client().explain("claude-3-haiku-20240307", "Hi", temperature=1.5, drop_params=True)
    assert found.body["temperature"] == 1
    assert found.dropped == ("temperature",)
    assert Change(given="temperature", sent=("temperature",), how="changed") in found.first.changes
    assert "changed: temperature -> temperature" in str(found)


def test_a_choice_of_tools_is_found_although_it_cannot_stand_alone() -> None:
    found = changes("anthropic/claude-3-haiku-20240307", tools=[TOOL], tool_choice="required")
    assert found["tool_choice"].how in ("changed", "moved")
    assert found["tools"].how == "changed"


def test_a_parameter_that_the_model_cannot_take_is_a_finding() -> None:
    llm = client()
    found = llm.explain("claude-3-haiku-20240307", "Hi", seed=1)
    assert found.body is None
    assert not found.sendable
    assert "does not take seed" in found.findings[0] or "seed" in found.findings[0]
    with pytest.raises(UnsupportedParameterError, match="seed"):
        llm.preview_request("claude-3-haiku-20240307", "Hi", seed=1)
    saved = llm.explain("claude-3-haiku-20240307", "Hi", seed=1, fallback_model="gpt-4o")
    assert saved.sendable
    assert [step.sendable for step in saved.steps] == [False, True]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"temperature": float("nan")},
        {"api_key": "x"},
        {"on_interrupt": "never"},
        {"cache": True},
        {"limit_wait": -1},
        {"timeout": 0},
        {"fallback_config": {"temperature": 1}},
        {"max_attempts": 0},
        {"tags": [""]},
    ],
)
def test_bad_input_is_refused_as_by_query(kwargs: dict[str, Any]) -> None:
    llm = client()
    with pytest.raises(InvalidRequestError) as caught:
        llm.explain("gpt-4o", "Hi", **kwargs)

    async def main() -> None:
        with pytest.raises(InvalidRequestError) as same:
            await llm.query("gpt-4o", "Hi", **kwargs)
        assert str(same.value) == str(caught.value)

    asyncio.run(main())


# Money, limits, health ------------------------------------------------------------------------------------------------


def test_the_cost_is_bounded_by_the_estimate_and_the_limit_of_the_answer() -> None:
    prices = ModelConfig(input_price_per_million=2.0, output_price_per_million=10.0)
    found = client(registry={"gpt-4o": prices}).explain("gpt-4o", "Hi", max_tokens=100, n=3)
    plan = found.first
    assert plan.output_tokens == 300
    assert found.cost_bound == (plan.input_tokens * Decimal(2) + 300 * Decimal(10)) / 1_000_000
    assert found.to_dict()["cost_bound"] == f"{found.cost_bound.normalize():f}"


def test_what_a_bound_lacks_is_said() -> None:
    priced = ModelConfig(input_price_per_million=1.0, output_price_per_million=1.0)
    llm = client("openai", "groq", registry={"groq/no-limit-known": priced})
    unlimited = llm.explain("groq/no-limit-known", "Hi")
    assert unlimited.first.output_tokens is None
    assert unlimited.cost_bound is None
    assert any("max_tokens" in finding for finding in unlimited.findings)
    unpriced = llm.explain("groq/no-such-model", "Hi", max_tokens=5)
    assert unpriced.cost_bound is None
    assert any("no price is known" in finding for finding in unpriced.findings)
    assert llm.explain("gpt-4o", "Hi", max_tokens=5, fallback_model="groq/no-such-model").cost_bound is None
    free = llm.explain("local", "Hi", max_tokens=5)
    assert free.cost_bound == 0


def test_without_a_limit_the_models_own_bounds_the_cost() -> None:
    found = client().explain("gpt-4o", "Hi")
    most = facts_of("openai", "gpt-4o").facts.max_output
    assert most is not None
    assert found.first.output_tokens == most
    limited = client().explain("gpt-4o", "Hi", max_tokens=most)
    assert found.cost_bound == limited.cost_bound is not None


def test_a_limit_above_the_models_own_is_lowered_and_said() -> None:
    most = facts_of("openai", "gpt-4o").facts.max_output
    assert most is not None
    found = client().explain("gpt-4o", "Hi", max_tokens=most + 1, drop_params=True)
    assert found.body["max_completion_tokens"] == most
    assert found.dropped == (f"max_tokens={most + 1}->{most}",)
    assert Change(given="max_tokens", sent=("max_completion_tokens",), how="changed") in found.first.changes
    refused = client().explain("gpt-4o", "Hi", max_tokens=most + 1)
    assert not refused.sendable
    assert str(most) in refused.findings[0]


def test_a_marked_cache_is_bounded_by_the_price_of_writing_it() -> None:
    part = {"type": "text", "text": "Hi " * 2000}
    plain = client().explain("claude-sonnet-4-5", [{"role": "user", "content": [part]}], max_tokens=5)
    marked = {**part, "cache_control": {"type": "ephemeral"}}
    found = client().explain("claude-sonnet-4-5", [{"role": "user", "content": [marked]}], max_tokens=5)
    assert plain.cost_bound is not None
    assert found.cost_bound is not None
    assert found.cost_bound > plain.cost_bound


def test_limits_and_what_is_used_of_them(fault_server: FaultServer) -> None:
    fault_server.default = ok("fine")
    config = keyed("openai", base_urls={"openai": fault_server.url + "/v1"})
    llm = QueryLLM(
        config,
        limiter=MemoryLimiter(),
        limits=[Limit("provider:openai", rpm=5), Limit("tag:team", max_concurrency=2)],
        registry={"gpt-4o": ModelConfig(rate_limit_rpm=9, rate_limit_tpm=9000)},
    )

    async def main() -> Explanation:
        await llm.query("gpt-4o", "Hi", max_tokens=10)
        await llm.query("gpt-4o", "Hi", max_tokens=10)
        found = llm.explain("gpt-4o", "Hi", tags="team")
        await llm.aclose()
        return found

    found = asyncio.run(main())
    by_key = {limit.key: limit for limit in found.first.limits}
    assert (by_key["model:gpt-4o"].rpm, by_key["model:gpt-4o"].requests) == (9, 2)
    assert (by_key["model:gpt-4o"].tpm, by_key["model:gpt-4o"].tokens) == (9000, 36)
    assert (by_key["provider:openai"].rpm, by_key["provider:openai"].requests) == (5, 2)
    assert (by_key["tag:team"].max_concurrency, by_key["tag:team"].inflight) == (2, 0)
    assert "limit provider:openai: 2 of 5 requests a minute used" in str(found)
    assert len(fault_server.requests) == 2


def test_a_broken_deployment_shows_its_breaker(fault_server: FaultServer) -> None:
    fault_server.default = status(401)
    config = keyed("openai", base_urls={"openai": fault_server.url + "/v1"})

    async def main() -> Explanation:
        async with QueryLLM(config, retry=RetryPolicy(max_attempts=1), limiter=MemoryLimiter()) as llm:
            await made(llm, "gpt-4o", "Hi")
            return llm.explain("gpt-4o", "Hi")

    found = asyncio.run(main())
    assert (found.first.health.breaker.state, found.first.health.breaker.kind) == ("open", "auth")
    assert "breaker open" in str(found)


def test_times_and_attempts() -> None:
    found = client().explain("gpt-4o", "Hi", timeout=7, max_attempts=2)
    assert (found.timeouts["total"], found.attempts) == (7, 2)
    assert "total 7 s" in str(found)


def test_nobody_is_told_of_a_call_and_nothing_is_counted() -> None:
    llm = client(limits=[Limit("provider:openai", rpm=1)])
    events: list[Any] = []
    llm.on_event(events.append)
    for _ in range(3):
        found = llm.explain("gpt-4o", "Hi", hedge_after=1)
    assert events == []
    assert found.first.limits[0].requests == 0


# Deployments, fallbacks, code of one's own ----------------------------------------------------------------------------


def test_deployments_and_fallbacks_with_their_own_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECOND_KEY", "second-key-000000")
    places = [
        Deployment(name="a", weight=3),
        Deployment(name="b", base_url="https://b.example/v1", api_key_env="SECOND_KEY", rate_limit_rpm=4),
    ]
    llm = client(deployments={"gpt-4o": places})
    found = llm.explain(
        "gpt-4o", "Hi", temperature=0.2, fallback_model=["claude-sonnet-4-5"], fallback_config={"max_tokens": 7}
    )
    one, two = found.steps[0].deployments
    assert (one.name, one.weight, two.name, two.weight) == ("a", 3, "b", 1)
    assert two.url == "https://b.example/v1/chat/completions"
    assert "deployment:b" in [limit.key for limit in two.limits]
    assert [step.params for step in found.steps] == [{"temperature": 0.2}, {"max_tokens": 7}]
    assert found.steps[1].deployments[0].body["max_tokens"] == 7
    assert "temperature" not in found.steps[1].deployments[0].body
    assert "second-key-000000" not in str(found) + json.dumps(found.to_dict())


def test_a_variable_that_a_deployment_names_may_be_missing() -> None:
    llm = client("anthropic", deployments={"gpt-4o": [Deployment(name="b", api_key_env="NOT_SET_KEY")]})
    found = llm.explain("gpt-4o", "Hi")
    assert not found.sendable
    assert any("NOT_SET_KEY" in finding for finding in found.findings)
    assert found.headers["Authorization"] == "Bearer {NOT_SET_KEY}"
    assert found.body["model"] == "gpt-4o"


def test_fallbacks_of_a_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "llm_master.toml"
    path.write_text('[models."gpt-4o"]\nfallbacks = ["claude-sonnet-4-5"]\n')
    llm = QueryLLM.from_file(path, LLMConfig())
    found = llm.explain("gpt-4o", "Hi")
    assert [(step.model_name, step.fallback) for step in found.steps] == [
        ("gpt-4o", False),
        ("claude-sonnet-4-5", True),
    ]
    assert found.steps[1].params == {}


def test_a_provider_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(BaseLLMProvider):
        pass

    monkeypatch.setitem(QueryLLM.provider_map, "mine-", (None, Mine))
    llm = client()
    found = llm.explain("mine-1", "Hi", anything=object())
    assert found.sendable
    assert (found.steps[0].provider, found.first.family, found.body) == ("Mine", None, None)
    json.dumps(found.to_dict())
    with pytest.raises(ConfigurationError, match="code of your own"):
        llm.preview_request("mine-1", "Hi")


# What is shown --------------------------------------------------------------------------------------------------------


def test_secrets_of_the_caller_are_masked_too() -> None:
    config = keyed("openai", api_urls={"openai": "https://h.example/v1/chat/completions?api_key=pass-word-1"})
    headers = {"Authorization": "Bearer other-secret-1", "Cookie": "session-secret", "X-Trace": "t-1"}
    found = QueryLLM(config).explain("gpt-4o", "Hi", extra_headers=headers)
    shown = str(found) + json.dumps(found.to_dict())
    for secret in (KEY, "other-secret-1", "session-secret", "pass-word-1"):
        assert secret not in shown
    assert found.headers["Authorization"] == "Bearer ***"
    assert found.headers["Cookie"] == "***"
    assert found.headers["X-Trace"] == "t-1"


def test_a_long_value_is_cut_in_the_text_alone(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PICTURE)
    llm = client()
    found = llm.explain("gpt-4o", [{"role": "user", "text": "x" * 999, "images": [tmp_path / "p.png"]}])
    content = found.body["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]
    assert content[0]["text"] == "x" * 999
    assert "x" * 999 not in str(found)
    assert "(999 characters)" in str(found)


def test_tools_and_types_are_shaped_as_for_a_call() -> None:
    def weather(city: str) -> str:
        """Weather of a city."""
        return city

    body = client().preview_request("gpt-4o", "Hi", tools=[weather])
    assert body["tools"][0]["function"]["name"] == "weather"
