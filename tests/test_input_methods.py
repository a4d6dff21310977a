"""
Files, bytes and addresses in messages, in every method that takes messages; and recordings at an address.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import ok, status
from support.fault_server import FaultServer

from llm_master import FetchError, FetchPolicy, InvalidRequestError, LLMConfig, QueryLLM, UnsupportedParameterError
from llm_master.arguments import with_files
from llm_master.base_provider import row_of
from llm_master.classes import Request
from llm_master.families import FAMILIES, dialect_of
from llm_master.media import FetchNeededError
from llm_master.messages import normalise
from llm_master.policy.estimate import estimate_input
from llm_master.policy.limits import MemoryLimiter

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))
WAV = b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(8)
MP3 = b"ID3\x04words"
PNG_URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
LOCAL = FetchPolicy(allow_http=True, private_hosts=frozenset({"127.0.0.1"}))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def served(data: bytes, kind: str) -> Any:
    async def behave(exchange: Any) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        await exchange.send(head + data)

    return behave


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as found:
        found.default = ok("A cat.")
        found.route("/talk.mp3", [served(MP3, "audio/mpeg")])
        found.route("/talk", [served(WAV, "application/octet-stream")])
        found.route("/page", [served(b"<html>", "text/html")])
        found.route("/cat.png", [served(PNG, "image/png")])
        yield found


def client(server: FaultServer, policy: FetchPolicy = LOCAL) -> QueryLLM:
    config = LLMConfig(
        openai_api_key="k",
        anthropic_api_key="k",
        mistral_api_key="k",
        gemini_api_key="k",
        base_urls={
            "openai": f"{server.url}/v1",
            "anthropic": f"{server.url}/v1",
            "mistral": f"{server.url}/v1",
            "gemini": f"{server.url}/v1beta",
        },
    )
    return QueryLLM(config, fetch=policy, limiter=MemoryLimiter())


def ask(server: FaultServer, method: str, *args: Any, policy: FetchPolicy = LOCAL, **kwargs: Any) -> Any:
    async def main() -> Any:
        async with client(server, policy) as llm:
            return await getattr(llm, method)(*args, **kwargs)

    return asyncio.run(main())


def asked(server: FaultServer) -> list[dict[str, Any]]:
    """The bodies of the requests to a model."""
    return [seen.json for seen in server.requests if seen.method == "POST"]


def hear(address: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": ["listen", {"type": "input_audio", "input_audio": address}]}]


# Every method reads them ----------------------------------------------------------------------------------------------


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    return path


def looks(cat: Path) -> list[Any]:
    return [cat, PNG, {"type": "image", "path": str(cat)}, {"type": "image", "image": PNG_URI}]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.mark.parametrize("form", range(4))
def test_run_tools_reads_what_query_reads(form: int, server: FaultServer, cat: Path) -> None:
    messages = [{"role": "user", "content": ["look", looks(cat)[form]]}]
    plain = ask(server, "query", "gpt-4o-mini", messages)
    run = ask(server, "run_tools", "gpt-4o-mini", messages, tools=[add])
    assert run.content == plain.content == "A cat."
    first, second = (body["messages"] for body in asked(server))
    assert first == second
    assert first[0]["content"][1] == {"type": "image_url", "image_url": {"url": PNG_URI}}


@pytest.mark.parametrize("form", range(4))
def test_count_tokens_reads_what_query_reads(form: int, server: FaultServer, cat: Path) -> None:
    server.route("/v1/messages/count_tokens", [status(200, {"input_tokens": 14})])
    messages = [{"role": "user", "content": ["look", looks(cat)[form]]}]
    server.default = ok("A cat.", family="anthropic_messages")
    ask(server, "query", "claude-sonnet-4-5", messages)
    assert ask(server, "count_tokens", "claude-sonnet-4-5", messages).tokens == 14
    first, second = (body["messages"] for body in asked(server))
    assert first == second
    assert first[0]["content"][1]["source"]["data"] == b64(PNG)


@pytest.mark.parametrize("method", ["query", "run_tools", "count_tokens"])
def test_a_file_that_is_not_there_is_named(method: str, server: FaultServer, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": ["look", tmp_path / "gone.png"]}]
    more: Any = {"tools": [add]} if method == "run_tools" else {}
    with pytest.raises(InvalidRequestError, match=r"gone\.png"):
        ask(server, method, "gpt-4o-mini", messages, **more)
    assert server.requests == []


def test_files_are_read_beside_the_event_loop(cat: Path) -> None:
    threads = []

    class Engine:
        """What ``with_files`` needs of one."""

        @staticmethod
        def normalise(messages: Any, **kwargs: Any) -> Any:
            threads.append(threading.current_thread())
            return normalise(messages, **kwargs)

    turns = asyncio.run(with_files(Engine, [{"role": "user", "content": [cat]}], None))
    assert turns[0]["content"][0]["image_url"]["url"] == PNG_URI
    assert threads != [threading.main_thread()]


def test_count_tokens_fetches_for_a_provider_that_does_not(server: FaultServer) -> None:
    server.route("/v1beta/models/gemini-2.0-flash:countTokens", [status(200, {"totalTokens": 6})])
    messages = [{"role": "user", "content": ["look", {"type": "image", "image": f"{server.url}/cat.png"}]}]
    assert ask(server, "count_tokens", "gemini-2.0-flash", messages).tokens == 6
    (body,) = asked(server)
    assert body["generateContentRequest"]["contents"][0]["parts"][1]["inlineData"]["data"] == b64(PNG)
    assert server.requests[0].path == "/cat.png"


# Recordings at an address ---------------------------------------------------------------------------------------------

WEB = "https://example.com/talk.mp3"


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"type": "input_audio", "input_audio": {"url": WEB}}, {"url": WEB}),
        ({"type": "input_audio", "input_audio": WEB}, {"url": WEB}),
        ({"type": "audio", "url": WEB, "format": "mp3"}, {"url": WEB, "format": "mp3"}),
        ({"type": "audio", "audio": WEB, "cache_control": {}}, {"url": WEB}),
        ({"type": "input_audio", "input_audio": {"data": WEB}}, {"url": WEB}),
    ],
)
def test_every_form_of_an_address_becomes_one_part(given: dict[str, Any], part: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": ["listen", given]}]
    made = normalise(messages)[0]["content"][1]
    assert (made["type"], made["input_audio"]) == ("input_audio", part)
    assert made.get("cache_control") == given.get("cache_control")
    again = normalise([{"role": "user", "content": ["listen", made]}])[0]["content"][1]
    assert again is made


SENT: dict[tuple[str, str, str], str | type[Exception]] = {
    ("openai", "gpt-4o-audio-preview", "openai_chat"): FetchNeededError,
    ("vllm", "voxtral", "openai_chat"): FetchNeededError,
    ("mistral", "voxtral-small-latest", "openai_chat"): f'"input_audio":"{WEB}"',
    ("gemini", "gemini-2.0-flash", "gemini"): FetchNeededError,
    ("gemini", "gemini-3.8-flash", "gemini"): f'"fileData":{{"mimeType":"audio/mp3","fileUri":"{WEB}"}}',
    ("bedrock", "mistral.voxtral-small-24b-2507", "bedrock"): FetchNeededError,
    ("anthropic", "claude-sonnet-4-5", "anthropic_messages"): UnsupportedParameterError,
    ("cohere", "command-a-vision-07-2025", "cohere"): UnsupportedParameterError,
    ("openai", "gpt-5.6", "openai_responses"): UnsupportedParameterError,
}


@pytest.mark.parametrize("place", SENT, ids=lambda place: "-".join(place[:2]))
def test_what_a_family_makes_of_a_recording_at_an_address(place: tuple[str, str, str]) -> None:
    provider, model, family = place
    request = Request(provider, model, hear({"url": WEB}), {})
    module: Any = importlib.import_module(FAMILIES[family][0])
    expected = SENT[place]
    if isinstance(expected, str):
        body = json.loads(module.encode(request, dialect_of(row_of(provider), family)))
        assert expected in json.dumps(body, separators=(",", ":"))
        return
    with pytest.raises(UnsupportedParameterError) as caught:
        module.encode(request, dialect_of(row_of(provider), family))
    assert isinstance(caught.value, FetchNeededError) is (expected is FetchNeededError)
    assert provider in str(caught.value)


@pytest.mark.parametrize(("path", "data", "form"), [("/talk.mp3", MP3, "mp3"), ("/talk", WAV, "wav")])
def test_a_recording_is_fetched_and_sent_as_data(path: str, data: bytes, form: str, server: FaultServer) -> None:
    messages = hear(f"{server.url}{path}")
    assert ask(server, "query", "openai/gpt-4o-audio-preview", messages).content == "A cat."
    assert messages == hear(f"{server.url}{path}")
    (body,) = asked(server)
    sent = body["messages"][0]["content"][1]
    assert sent == {"type": "input_audio", "input_audio": {"data": b64(data), "format": form}}


def test_a_provider_that_fetches_sound_gets_the_address(server: FaultServer) -> None:
    ask(server, "query", "voxtral-small-latest", hear(f"{server.url}/talk.mp3"))
    (seen,) = server.requests
    assert seen.json["messages"][0]["content"][1] == {"type": "input_audio", "input_audio": f"{server.url}/talk.mp3"}


@pytest.mark.parametrize(
    ("path", "policy", "says"),
    [
        ("/talk.mp3", FetchPolicy(), "only https"),
        ("/talk.mp3", FetchPolicy(allow_http=True), "loopback"),
        ("/talk.mp3", FetchPolicy(allow=False), "switched off"),
        ("/page", LOCAL, "holds 'text/html' and not an audio"),
        ("/cat.png", LOCAL, "not an audio"),
    ],
)
def test_the_rules_of_fetching_hold_for_sound(path: str, policy: FetchPolicy, says: str, server: FaultServer) -> None:
    with pytest.raises(FetchError, match=says):
        ask(server, "query", "openai/gpt-4o-audio-preview", hear(f"{server.url}{path}"), policy=policy)
    assert asked(server) == []


def test_a_recording_of_unknown_length_is_weighed_as_a_file() -> None:
    short = estimate_input(hear({"data": b64(WAV), "format": "wav"}), {})
    assert estimate_input(normalise(hear(WEB)), {}) > short + 500


def test_explain_shows_what_would_be_fetched() -> None:
    with QueryLLM(LLMConfig(openai_api_key="k")) as llm:
        shown = str(llm.explain("openai/gpt-4o-audio-preview", hear(WEB)))
    assert WEB in shown
