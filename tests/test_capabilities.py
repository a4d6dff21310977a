"""
What models take: the data, names that nobody knows yet, and that what is told of a model is what its encoder does.
"""

from __future__ import annotations

import datetime as dt
import importlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.capability_matrix import FOLDER, FUTURE, matrix

from llm_master import LLMConfig, QueryLLM
from llm_master.base_provider import UnifiedProvider, row_of
from llm_master.capabilities import PROBES, Capabilities, capabilities_of
from llm_master.catalogue import load_facts, load_models
from llm_master.classes import Request
from llm_master.errors import ConfigurationError, ModelNotFoundError, UnsupportedParameterError
from llm_master.families import FAMILIES, dialect_of
from llm_master.model_facts import ANY, facts_of, plain

FILES = load_facts()
ENTRIES = [
    (provider, name, facts, file) for file in FILES for provider, t in file.models.items() for name, facts in t.items()
]
MODELS = load_models()


def told(name: str, **options: Any) -> Capabilities:
    return QueryLLM(LLMConfig()).capabilities(name, **options)


# -- the data -------------------------------------------------------------------------------------------------------


def test_every_fact_has_a_source_and_the_day_it_was_checked():
    for file in FILES:
        for source in file.sources.values():
            assert source.source.strip()
            assert dt.date.fromisoformat(source.checked) <= dt.datetime.now(dt.UTC).date()
    for provider, name, facts, file in ENTRIES:
        assert facts.sources, (provider, name)
        assert set(facts.sources) <= file.sources.keys(), (provider, name)
    for file in FILES:
        used = {source for table in file.models.values() for facts in table.values() for source in facts.sources}
        assert file.sources.keys() == used


def test_the_facts_are_of_providers_that_exist_and_names_in_the_plain_form():
    for provider, name, facts, _ in ENTRIES:
        assert provider == ANY or provider in UnifiedProvider.PROVIDER_CONFIGS
        assert plain(name) == name
        for number in (facts.context, facts.max_output):
            assert number is None or number > 0
        if facts.retires_on is not None:
            dt.date.fromisoformat(facts.retires_on)
            assert provider != ANY, "a day of retirement is the provider's own"


def test_names_are_sorted_so_that_an_addition_has_one_place():
    for file in FILES:
        for table in file.models.values():
            assert list(table) == sorted(table)


@pytest.mark.parametrize(
    "name", ["moonshotai/Kimi-K3.1-Pro", "accounts/fireworks/models/kimi-k3p1-pro", "KIMI-K3.1-pro"]
)
def test_one_model_has_one_plain_name(name):
    assert plain(name) == "kimi-k3-1-pro"


@pytest.mark.parametrize(
    ("provider", "model", "certain"),
    [
        ("openai", "gpt-4o", True),
        ("openai", "gpt-4o-2024-08-06", True),
        ("openai", "gpt-4o-latest", True),
        ("openai", "gpt-4o-tuned-by-me", False),
        ("openai", "ft:gpt-4o:acme::x1", False),
        ("openai", "gpt-7", False),
        ("anthropic", "claude-opus-5", True),
        ("anthropic", "claude-opus-5-7", False),
        ("bedrock", "us.anthropic.claude-opus-5-5-v1:0", True),
        ("vllm", "gpt-4o", False),
        ("azure", "gpt-4o", False),
        ("openai_compatible", "gpt-4o", False),
        ("local", "smollm2-135m-instruct", True),
        ("groq", "openai/gpt-oss-120b", True),
    ],
)
def test_only_a_name_that_a_source_speaks_of_is_certain(provider, model, certain):
    assert facts_of(provider, model, own_server=row_of(provider).key_optional).certain is certain


def test_a_host_s_own_word_beats_the_maker_s():
    maker, host = facts_of("openai", "gpt-oss-120b").facts, facts_of("groq", "openai/gpt-oss-120b").facts
    assert (maker.max_output, host.max_output) == (131072, 65536)


def test_the_day_of_retirement_holds_at_its_provider_alone():
    assert facts_of("openai", "gpt-5").facts.retires_on == "2026-12-11"
    assert facts_of("azure", "gpt-5").facts.retires_on is None
    # What is like a retired name is another model.
    assert facts_of("openai", "gpt-5-next").facts.retires_on is None


def test_every_listed_model_gets_an_answer():
    llm = QueryLLM(LLMConfig())
    for provider, known in MODELS.items():
        for model in (*known.models, *known.retired):
            found = llm.capabilities(f"{provider}/{model}")
            assert (found.provider, found.model) == (provider, model)
            assert found.sources


# -- names that nobody knows yet ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "efforts", "sampling", "forced"),
    [
        ("gpt-7", ("low", "medium", "high", "xhigh"), "never", True),
        ("openai/o9", ("low", "medium", "high"), "never", True),
        ("claude-opus-7", ("low", "medium", "high", "xhigh", "max"), "never", False),
        ("gemini-5-pro", ("low", "medium", "high"), "always", True),
    ],
)
def test_a_model_to_come_gets_the_newest_cautious_profile(name, efforts, sampling, forced):
    found = told(name)
    assert (found.efforts, found.sampling, found.forced_tools) == (efforts, sampling, forced)
    assert found.reasoning
    assert found.always_on
    assert not found.prefill
    assert found.strict_schema
    assert found.images
    assert not found.known
    assert found.context >= 200_000
    assert found.retires_on is None
    assert not found.retired()


@given(
    st.sampled_from(["gpt-", "claude-", "gemini-", "o", "grok-", "mistral-", "deepseek-", "qwen", "glm-", ""]),
    st.text("abcdefghijklmnopqrstuvwxyz0123456789.-_:/@", max_size=20),
    st.sampled_from(["openai", "anthropic", "gemini", "bedrock", "groq", "cohere", "vllm"]),
)
@settings(max_examples=60, deadline=None)
def test_no_name_is_an_error(beginning, rest, provider):
    found = capabilities_of(row_of(provider), beginning + rest)
    assert set(found.refused) <= PROBES.keys()


def test_an_unknown_provider_and_a_class_of_one_s_own_are_said():
    with pytest.raises(ModelNotFoundError, match="opnai"):
        told("opnai/gpt-4o")
    with pytest.raises(ConfigurationError, match="does not serve api='gemini'"):
        told("gpt-4o", api="gemini")


def test_a_family_can_be_forced_and_tools_may_go_elsewhere():
    assert told("gpt-6.1-sol").tools_family == "openai_responses"
    assert told("gpt-6.1-sol").family == "openai_chat"
    assert "max" in told("gpt-6.1-sol", api="responses").efforts
    assert "stop" in told("responses-gpt-4o").refused
    assert told("gpt-5-pro").family == "openai_responses"


def test_a_provider_without_chat_takes_nothing():
    found = told("voyage-4")
    assert set(found.refused) == PROBES.keys()
    assert not found.tools
    assert found.efforts == ()


def test_retirement_is_counted_from_its_day():
    found = told("gpt-5")
    assert [found.retired(dt.date(2026, 12, day)) for day in (10, 11, 12)] == [False, True, True]
    assert told("claude-3-5-sonnet-latest").retired()


# -- one answer -----------------------------------------------------------------------------------------------------

CASES = [
    (provider, family, model)
    for provider, row in ((name, row_of(name)) for name in UnifiedProvider.PROVIDER_CONFIGS)
    if row.chats and provider in MODELS
    for family in row.families
    for model in (*MODELS[provider].models[:4], *FUTURE.get(provider, ()))
]
VALUES = {
    "temperature": st.floats(0.05, 0.95),
    "top_p": st.floats(0.05, 0.9),
    "top_k": st.integers(1, 100),
    "presence_penalty": st.floats(0.1, 1.0),
    "frequency_penalty": st.floats(0.1, 1.0),
    "seed": st.integers(1, 1000),
    "n": st.integers(2, 3),
    "stop": st.lists(st.sampled_from(["END", "STOP", "###"]), min_size=1, max_size=3),
    "verbosity": st.sampled_from(["low", "high"]),
    "store": st.just(True),
    "user": st.sampled_from(["eve", "adam"]),
    "logprobs": st.just(True),
    "logit_bias": st.dictionaries(st.sampled_from(["1", "2"]), st.integers(1, 9), min_size=1),
}


def refused(provider: str, family: str, model: str, params: dict[str, Any]) -> bool:
    request = Request(provider, model, [{"role": "user", "content": "hi"}], params)
    try:
        importlib.import_module(FAMILIES[family][0]).encode(request, dialect_of(row_of(provider), family))
    except UnsupportedParameterError:
        return True
    return False


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_what_is_told_to_be_refused_is_refused_and_nothing_else(data):
    provider, family, model = data.draw(st.sampled_from(CASES))
    row = row_of(provider)
    found = capabilities_of(row, model, family=family, api=family)
    assert found.family == family
    name = data.draw(st.sampled_from(sorted(VALUES)))
    params = {name: data.draw(VALUES[name])}
    assert refused(provider, family, model, params) is (name in found.refused), (provider, family, model, params)


@pytest.mark.parametrize("provider", sorted({case[0] for case in CASES}))
def test_every_probe_says_of_every_family_what_the_encoder_does(provider):
    for each, family, model in CASES:
        if each != provider:
            continue
        found = capabilities_of(row_of(provider), model, family=family, api=family)
        really = {name for name, params in PROBES.items() if refused(provider, family, model, params)}
        assert set(found.refused) == really


@pytest.mark.parametrize(("provider", "family", "model"), CASES)
def test_each_effort_that_is_told_can_be_sent(provider, family, model):
    found = capabilities_of(row_of(provider), model, family=family, api=family)
    for effort in found.efforts or ():
        assert not refused(provider, family, model, {"reasoning_effort": effort}), effort
    if found.efforts == () and not found.reasoning:
        assert refused(provider, family, model, {"reasoning_effort": "high"})


# -- as it was when somebody last looked ----------------------------------------------------------------------------


def test_there_is_a_file_for_each_provider_with_models():
    assert {file.stem for file in FOLDER.glob("*.json")} == MODELS.keys()


@pytest.mark.parametrize("provider", sorted(MODELS))
def test_the_flags_are_those_that_were_seen(provider):
    # Differences that are meant: python tests/support/capability_matrix.py
    seen = json.loads((FOLDER / f"{provider}.json").read_text(encoding="utf-8"))
    now = json.loads(json.dumps(matrix(provider)))
    assert now == seen
