"""
Metrics for Prometheus, as its own parser reads what a scrape would see.
"""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.asking import HI, KEYS, MODELS, with_client
from support.asking import answered as ask
from support.behaviours import hold, ok, status
from support.bodies import CHAT, MESSAGES, Usage

from llm_master import ConfigurationError, LLMError, ModelConfig
from llm_master.telemetry import Prometheus, instrument

MODEL = MODELS[CHAT]
SECRET = "the-secret-words-of-a-user"
PRICES = {MODEL: ModelConfig(input_price_per_million=1.0, output_price_per_million=10.0)}


@pytest.fixture
def registry():
    return CollectorRegistry()


def run(server, work, telemetry, **options):
    return with_client(server, work, telemetry=telemetry, registry=PRICES, **options)


def scraped(registry):
    """By name and labels, the value of every sample."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def of(registry, name, *labels):
    """By the values of some labels, what a metric stands at."""
    found = {}
    for (sample, pairs), value in scraped(registry).items():
        if sample == f"llm_master_{name}":
            key = tuple(dict(pairs)[label] for label in labels)
            found[key] = found.get(key, 0) + value
    return found


def test_calls_attempts_tokens_and_cost_are_counted(fault_server, registry):
    fault_server.script(
        [status(500), ok(usage=Usage(11, 7, cached_tokens=4, reasoning_tokens=2)), status(400, b"no"), ok()]
    )

    async def work(llm):
        first = await ask(llm)
        with pytest.raises(LLMError):
            await ask(llm)
        second = await ask(llm, stream=True)
        return first, second

    first, second = run(fault_server, work, Prometheus(registry))
    assert of(registry, "calls_total", "provider", "model", "kind", "outcome") == {
        ("openai", "gpt-4o-mini", "chat", "ok"): 2,
        ("openai", "gpt-4o-mini", "chat", "error"): 1,
    }
    assert of(registry, "attempts_total", "outcome", "error") == {
        ("ok", ""): 2,
        ("error", "ServerError"): 1,
        ("error", "BadRequestError"): 1,
    }
    used = first.usage + second.usage
    assert of(registry, "tokens_total", "type") == {("input",): used.input_tokens, ("output",): used.output_tokens}
    assert of(registry, "token_parts_total", "part") == {("cached",): 4, ("reasoning",): 2}
    assert of(registry, "cost_usd_total", "provider") == {("openai",): pytest.approx(float(first.cost + second.cost))}
    assert of(registry, "call_seconds_count", "outcome") == {("ok",): 2, ("error",): 1}
    assert of(registry, "time_to_first_token_seconds_count", "model") == {("gpt-4o-mini",): 1}
    assert of(registry, "calls_in_progress", "kind") == {("chat",): 0}
    assert of(registry, "unpriced_attempts_total") == {}


def test_histograms_hold_the_seconds_of_calls(fault_server, registry):
    response = run(fault_server, lambda llm: ask(llm, stream=True), Prometheus(registry))
    (seconds,) = of(registry, "call_seconds_sum").values()
    assert response.latency <= seconds < response.latency + 5
    assert of(registry, "time_to_first_token_seconds_sum") == {(): pytest.approx(response.time_to_first_token)}
    buckets = of(registry, "call_seconds_bucket", "le")
    assert buckets["+Inf",] == 1
    assert "0.05" in {edge for (edge,) in buckets}


def test_a_call_belongs_to_the_target_that_served_it(fault_server, registry):
    fault_server.script([status(500)] * 3 + [ok()])
    run(fault_server, lambda llm: ask(llm, fallback_model=MODELS[MESSAGES]), Prometheus(registry))
    assert of(registry, "calls_total", "provider", "outcome") == {("anthropic", "ok"): 1}
    assert of(registry, "attempts_total", "provider", "outcome") == {("openai", "error"): 3, ("anthropic", "ok"): 1}


def test_a_price_that_is_not_known_is_counted_as_that(fault_server, registry):
    run(fault_server, lambda llm: llm.query("openai/no-such-model-9", HI), Prometheus(registry))
    assert of(registry, "cost_usd_total") == {}
    assert of(registry, "unpriced_attempts_total", "model") == {("no-such-model-9",): 1}


def test_calls_that_run_are_seen(fault_server, registry):
    fault_server.default = hold()

    async def work(llm):
        tasks = [asyncio.create_task(ask(llm)) for _ in range(3)]
        await asyncio.to_thread(fault_server.wait_held, 3)
        running = of(registry, "calls_in_progress", "kind")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return running

    assert run(fault_server, work, Prometheus(registry)) == {("chat",): 3}
    assert of(registry, "calls_in_progress", "kind") == {("chat",): 0}
    assert of(registry, "calls_total", "outcome") == {("cancelled",): 3}


def test_labels_are_bounded(fault_server, registry):
    async def work(llm):
        for number in range(6):
            await llm.query(f"openai/model-{number}", HI)
        await llm.query("openai/model-1", HI)

    run(fault_server, work, Prometheus(registry, max_models=3))
    assert of(registry, "calls_total", "provider", "model") == {
        ("openai", "model-0"): 1,
        ("openai", "model-1"): 2,
        ("openai", "model-2"): 1,
        ("other", "other"): 3,
    }


def test_no_content_no_key_and_no_tag_is_a_label(fault_server, registry):
    fault_server.script([ok(SECRET), status(400, SECRET.encode())])

    async def work(llm):
        await ask(llm, SECRET, tags=(SECRET,))
        with pytest.raises(LLMError):
            await ask(llm, SECRET)

    run(fault_server, work, Prometheus(registry))
    text = generate_latest(registry).decode()
    assert SECRET not in text
    assert KEYS[CHAT] not in text


def test_clients_share_the_metrics_of_a_registry(fault_server, registry):
    for _ in range(2):
        run(fault_server, ask, Prometheus(registry))
    assert of(registry, "calls_total", "model") == {("gpt-4o-mini",): 2}
    other = CollectorRegistry()
    run(fault_server, ask, Prometheus(other))
    assert of(other, "calls_total", "model") == {("gpt-4o-mini",): 1}


def test_the_global_registry_is_the_usual_one(fault_server):
    from prometheus_client import REGISTRY

    async def work(llm):
        stop = instrument(llm, ["prometheus"])
        await ask(llm)
        stop()
        await ask(llm)

    before = REGISTRY.get_sample_value("llm_master_calls_in_progress", {"kind": "chat"}) or 0
    counted = {"provider": "openai", "model": "gpt-4o-mini", "kind": "chat", "outcome": "ok"}
    earlier = REGISTRY.get_sample_value("llm_master_calls_total", counted) or 0
    run(fault_server, work, None)
    assert REGISTRY.get_sample_value("llm_master_calls_total", counted) == earlier + 1
    assert REGISTRY.get_sample_value("llm_master_calls_in_progress", {"kind": "chat"}) == before


@pytest.mark.parametrize("most", [0, -1, 2.5, True, None])
def test_a_bound_must_be_a_count(registry, most):
    with pytest.raises(ConfigurationError, match="max_models"):
        Prometheus(registry, max_models=most)


def test_other_operations_are_other_kinds(fault_server, registry):
    body = b'{"model": "m", "data": [{"index": 0, "embedding": [0.5, 0.25]}], "usage": {"prompt_tokens": 3}}'
    fault_server.default = status(200, body, content_type="application/json")
    run(fault_server, lambda llm: llm.embed("openai/text-embedding-3-small", "a text"), Prometheus(registry))
    assert of(registry, "calls_total", "kind") == {("embed",): 1}
    assert of(registry, "tokens_total", "type") == {("input",): 3, ("output",): 0}
