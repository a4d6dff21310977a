"""The benchmark's short form runs, compares what it says it compares, and judges its limits."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
CLIENTS = {"bare", "openai", "ours"}
ROUNDS = 2


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "result.json"
    before = {file: file.stat().st_mtime_ns for file in BENCHMARKS.glob("*.md")}
    done = run("--quick", "--rounds", str(ROUNDS), "--json", str(path))
    assert done.returncode == 0, done.stderr
    assert {file: file.stat().st_mtime_ns for file in BENCHMARKS.glob("*.md")} == before, "--quick wrote a document"
    return done.stdout, json.loads(path.read_text())


def test_every_measure_has_a_positive_value_of_every_client_in_every_round(quick):
    samples = quick[1]["samples"]
    assert set(samples) == {
        "call@1",
        "call@32",
        "wall@32",
        "chunk together",
        "chunk apart",
        "import",
        "import cpu",
        "memory",
        "memory added",
    }
    for metric in ("call@1", "call@32", "wall@32", "chunk together", "chunk apart", "memory"):
        assert set(samples[metric]) == CLIENTS, metric
        for name, values in samples[metric].items():
            assert len(values) == ROUNDS, (metric, name)
    for metric in ("call@1", "call@32", "wall@32", "memory"):
        assert all(value > 0 for values in samples[metric].values() for value in values), metric


def test_a_call_of_ours_is_cheaper_than_one_of_the_sdk_it_replaces(quick):
    # The true ratios are about 1/9 and 1/30; the better of two rounds leaves room for a machine that does other work.
    samples = quick[1]["samples"]
    for metric in ("call@1", "call@32", "chunk together"):
        assert min(samples[metric]["ours"]) < min(samples[metric]["openai"]) / 2, metric
    assert min(samples["import cpu"]["ours"]) < min(samples["import cpu"]["openai"]) / 2
    assert max(samples["memory"]["ours"]) < min(samples["memory"]["openai"])


def test_making_a_client_loads_no_heavy_package(quick):
    assert quick[1]["heavy"] == []


def test_the_table_shows_each_client_with_its_ratios(quick):
    lines = [line for line in quick[0].splitlines() if "LLM Master" in line and "|" in line]
    assert len(lines) == 10 - 1  # every measure but the call at 1,000 in flight
    assert all(line.rstrip(" |").endswith("1.00x") for line in lines)


def test_each_limit_is_judged_by_its_own_bound(quick):
    limits = quick[1]["limits"]
    assert {limit["title"] for limit in limits} >= {
        "a call, 32 in flight, to bare aiohttp + msgspec",
        "a call, 32 in flight, to the openai SDK",
        "a streamed chunk, all at once, to the openai SDK",
        "import llm_master + QueryLLM(), over bare Python",
        "memory after the first call",
    }
    for limit in limits:
        assert limit["lowest"] <= limit["value"] <= limit["highest"]
        assert limit["reached"] == (limit["value"] <= limit["bound"])
        out_of_reach = limit["bare"] is not None and limit["bare"] > limit["bound"]
        assert limit["judged"] == (limit["reached"] or not out_of_reach)
    verdicts = re.findall(r"\| (reached|NOT reached|bare has [\d.]+x) +\|", quick[0])
    assert [verdict == "reached" for verdict in verdicts] == [limit["reached"] for limit in limits]


def test_an_unknown_peer_is_named_with_those_that_exist():
    done = run("--peers", "bare,nobody")
    assert done.returncode == 2
    assert "unknown peer nobody; there are bare, openai, any-llm, litellm, tensorzero, ours, limited" in done.stderr


@pytest.mark.parametrize("mode", ["together", "apart"])
def test_the_provider_streams_as_many_chunks_as_asked_and_an_official_decoder_reads_them(mode):
    from openai import OpenAI

    command = [sys.executable, str(BENCHMARKS / "provider.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as provider:
        port = provider.stdout.readline().strip()
        with OpenAI(api_key="sk-bench", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0) as client:
            messages = [{"role": "user", "content": f"{mode}:7"}]
            with client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True) as stream:
                chunks = list(stream)
            whole = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
        provider.stdin.close()
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text.split()) == 7
    assert whole.choices[0].message.content.startswith(text.strip())
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 86
    assert provider.returncode == 0
