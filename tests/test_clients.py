"""
``provider.client`` of every family: the vendor's own package makes a real request, and it goes where ours would go.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import ok, reset, status
from support.fault_server import FaultServer, Seen

from llm_master import ConfigurationError, LLMConfig, QueryLLM, UnifiedProvider
from llm_master.base_provider import row_of
from llm_master.clients import close_client

KEY = "client-key-0123456789abcdef"
HI: list[Any] = [{"role": "user", "content": "Hi"}]
ELSEWHERE = "secret-of-the-environment-000"
# What the packages look for in the environment by themselves.
THEIRS = (
    *("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    *("GOOGLE_API_KEY", "GEMINI_API_KEY", "CO_API_KEY", "AWS_BEARER_TOKEN_BEDROCK", "AZURE_OPENAI_API_KEY"),
)

RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "m",
    "created_at": 1,
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello.", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
GEMINI = {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hello."}]}, "finishReason": "STOP"}]}
COHERE = {
    "id": "c",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
}
BEDROCK = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
    "metrics": {"latencyMs": 1},
}


async def chat(client: Any) -> str:
    answer = await client.chat.completions.create(model="client", messages=HI)
    return str(answer.choices[0].message.content)


async def messages(client: Any) -> str:
    answer = await client.messages.create(model="client", max_tokens=9, messages=HI)
    return str(answer.content[0].text)


async def responses(client: Any) -> str:
    return str((await client.responses.create(model="client", input="Hi")).output_text)


async def gemini(client: Any) -> str:
    return str((await client.aio.models.generate_content(model="client", contents="Hi")).text)


async def cohere(client: Any) -> str:
    return str((await client.chat(model="client", messages=HI)).message.content[0].text)


async def bedrock(client: Any) -> str:
    turn = [{"role": "user", "content": [{"text": "Hi"}]}]
    answer = await asyncio.to_thread(client.converse, modelId="client", messages=turn)
    return str(answer["output"]["message"]["content"][0]["text"])


ASK: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "openai_chat": (chat, ok("Hello.")),
    "anthropic_messages": (messages, status(200, MESSAGE)),
    "openai_responses": (responses, status(200, RESPONSE)),
    "gemini": (gemini, status(200, GEMINI)),
    "cohere": (cohere, status(200, COHERE)),
    "bedrock": (bedrock, status(200, BEDROCK)),
}
#: Every family of every live row that chats.
ROWS = [
    (name, family)
    for name in sorted(UnifiedProvider.PROVIDER_CONFIGS)
    if (row := row_of(name)).status == "live" and row.chats and row.supervisor is None
    for family in row.families
    if family in ASK
]


@pytest.fixture(autouse=True)
def a_full_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys of the packages' own variables, which must not travel to another server."""
    for name in THEIRS:
        monkeypatch.setenv(name, ELSEWHERE)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def config(name: str, server: FaultServer, **fields: Any) -> LLMConfig:
    if not fields:
        fields = {"base_urls": {name: base_of(name, server)}}
    return LLMConfig(**{row_of(name).api_key_attr or "": KEY}, **fields)


def base_of(name: str, server: FaultServer) -> str:
    """The row's own address on the server, with a value for each name in it."""
    from urllib.parse import urlsplit

    template = row_of(name).base_url or "http://x/v1"
    path = urlsplit(template.replace("{", "").replace("}", "")).path
    return server.url + path


def used(provider: UnifiedProvider, family: str) -> str:
    ask, _ = ASK[family]

    async def main() -> str:
        client = provider.client_for(family)
        try:
            return str(await ask(client))
        finally:
            await close_client(client)
            await provider.aclose()

    return asyncio.run(main())


def secrets(seen: Seen) -> dict[str, str]:
    names = ("authorization", "key", "token")
    return {n.lower(): v for n, v in seen.headers if any(part in n.lower() for part in names)}


@pytest.mark.parametrize(("name", "family"), ROWS)
def test_a_client_goes_where_our_own_request_goes(name: str, family: str, fault_server: FaultServer) -> None:
    fault_server.default = ASK[family][1]
    settings = config(name, fault_server)
    provider = UnifiedProvider(name, settings)
    target = provider.target("client", api=family)
    assert used(provider, family) == "Hello."
    (seen,) = fault_server.requests
    assert fault_server.url + seen.path == target.url
    ours = {header.lower(): str(value) for header, value in target.headers.items()}
    kept = {header: value for header, value in ours.items() if KEY in value or header in row_headers(name)}
    real = {header.lower(): value for header, value in seen.headers}
    assert {header: real.get(header) for header in kept} == kept
    assert all(ELSEWHERE not in value for value in real.values())
    assert secrets(seen) == {header: value for header, value in ours.items() if KEY in value}


def row_headers(name: str) -> set[str]:
    return {header.lower() for header in row_of(name).headers} - {"accept"}


def test_every_family_has_its_package() -> None:
    assert {family for _, family in ROWS} == ASK.keys()
    assert len(ROWS) > 50


@pytest.mark.parametrize("family", sorted(ASK))
def test_a_client_makes_one_request(family: str, fault_server: FaultServer) -> None:
    fault_server.default = status(503)
    name = next(name for name, each in ROWS if each == family)
    with pytest.raises(Exception, match=r"(?i)503|unavailable|error"):
        used(UnifiedProvider(name, config(name, fault_server)), family)
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("family", sorted(ASK))
def test_a_broken_connection_is_not_tried_again(family: str, fault_server: FaultServer) -> None:
    fault_server.default = reset
    name = next(name for name, each in ROWS if each == family)
    with pytest.raises(Exception, match=r"(?i)connect|read|reset|error|^$"):
        used(UnifiedProvider(name, config(name, fault_server)), family)
    assert len(fault_server.requests) == 1


def test_an_address_of_one_azure_deployment(fault_server: FaultServer) -> None:
    import openai

    fault_server.default = ok("Hello.")
    address = f"{fault_server.url}/openai/deployments/mine/chat/completions?api-version=2024-10-21"
    provider = UnifiedProvider("azure", config("azure", fault_server, api_urls={"azure": address}))
    assert isinstance(provider.client_for("chat"), openai.AsyncAzureOpenAI)
    assert used(provider, "openai_chat") == "Hello."
    (seen,) = fault_server.requests
    assert fault_server.url + seen.path == address
    assert secrets(seen) == {"api-key": KEY}


def test_vertex_puts_project_and_location_into_the_address(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.default = status(200, GEMINI)
    base = f"{fault_server.url}/v1/projects/my-project/locations/europe-west4"
    provider = UnifiedProvider("vertex", config("vertex", fault_server, base_urls={"vertex": base}))
    target = provider.target("client", api="gemini")
    if not str(target.url).startswith(base + "/publishers"):
        pytest.fail(f"the row makes {target.url} of {base}")
    assert used(provider, "gemini") == "Hello."
    (seen,) = fault_server.requests
    assert fault_server.url + seen.path == f"{base}/publishers/google/models/client:generateContent"
    assert secrets(seen) == {"authorization": f"Bearer {KEY}"}


def test_the_client_is_made_once_and_client_for_each_time(fault_server: FaultServer) -> None:
    provider = UnifiedProvider("openai", config("openai", fault_server))
    assert provider.client is provider.client
    assert provider.client_for() is not provider.client
    assert type(provider.client_for()) is type(provider.client)


def test_the_provider_of_a_model_has_it(fault_server: FaultServer) -> None:
    fault_server.default = ok("Hello.")

    async def main() -> str:
        async with QueryLLM(config("anthropic", fault_server)) as llm:
            return await messages(llm._get_provider("claude-sonnet-4-5").client)

    assert asyncio.run(main()) == "Hello."


def test_a_missing_package_is_named(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, family, module, package in (
        ("gemini", "gemini", "google.genai", "google-genai"),
        ("cohere", "cohere", "cohere", "cohere"),
        ("bedrock", "bedrock", "boto3", "boto3"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(ConfigurationError, match=rf"{name}.*pip install {package}") as caught:
                UnifiedProvider(name, config(name, fault_server)).client_for(family)
        assert KEY not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_address_that_a_package_cannot_reach_is_refused() -> None:
    odd = LLMConfig(openai_api_key=KEY, api_urls={"openai": "https://h.example/ask?api_key=hush-hush-1"})
    odd.api_urls = {"openai": "https://h.example/ask"}
    with pytest.raises(ConfigurationError, match="OPENAI_BASE_URL"):
        _ = UnifiedProvider("openai", odd).client
    with pytest.raises(ConfigurationError, match="local"):
        _ = UnifiedProvider("local", LLMConfig()).client


def test_a_server_without_a_key_gets_none(fault_server: FaultServer) -> None:
    fault_server.default = ok("Hello.")
    base = {"base_urls": {"ollama": fault_server.url + "/v1"}}
    provider = UnifiedProvider("ollama", LLMConfig(**base))
    assert used(provider, "openai_chat") == "Hello."
    assert secrets(fault_server.requests[0]) == {}
