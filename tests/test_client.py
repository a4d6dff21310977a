"""
``provider.client``: the vendor's own SDK client, ready configured.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.behaviours import ok
from support.fault_server import FaultServer

from llm_master import (
    AnthropicProvider,
    ConfigurationError,
    LLMConfig,
    LLMResponse,
    MissingKeyError,
    OpenAIProvider,
    QueryLLM,
    UnifiedProvider,
)

HI: list[Any] = [{"role": "user", "content": "Hi"}]


def config(server: FaultServer) -> LLMConfig:
    return LLMConfig(
        openai_api_key="sk-client-000001",
        anthropic_api_key="sk-ant-client-000001",
        base_urls={"openai": server.url + "/v1", "anthropic": server.url + "/v1"},
    )


def test_the_openai_client(fault_server: FaultServer) -> None:
    async def main() -> None:
        provider = OpenAIProvider(config(fault_server))
        answer = await provider.client.chat.completions.create(model="gpt-4o", messages=HI)
        assert answer.choices[0].message.content == "Hello from the other side."
        assert provider.client is provider.client
        assert provider.client.max_retries == 0
        await provider.aclose()

    asyncio.run(main())
    assert dict(fault_server.requests[0].headers)["authorization"] == "Bearer sk-client-000001"


def test_the_anthropic_client(fault_server: FaultServer) -> None:
    async def main() -> None:
        provider = AnthropicProvider(config(fault_server))
        answer = await provider.client.messages.create(model="claude-sonnet-5-5", max_tokens=9, messages=HI)
        assert answer.content[0].text == "Hello from the other side."
        await provider.aclose()

    asyncio.run(main())
    assert fault_server.requests[0].path == "/v1/messages"


def test_one_attempt_without_the_engine(fault_server: FaultServer) -> None:
    fault_server.default = ok("alone")

    async def main() -> LLMResponse:
        provider = UnifiedProvider("openai", config(fault_server))
        response = await provider.generate(HI, "gpt-4o", temperature=0.1)
        await provider.aclose()
        return response

    assert asyncio.run(main()).content == "alone"
    assert fault_server.requests[0].json["temperature"] == 0.1


def test_the_answer_as_the_sdks_own_type(fault_server: FaultServer) -> None:
    with QueryLLM(config(fault_server)) as llm:
        theirs = llm.query_sync("gpt-4o", HI).to_openai()
    assert theirs.choices[0].message.content == "Hello from the other side."
    assert theirs.usage.total_tokens == 18
    assert theirs.model == "gpt-4o"


def test_what_is_missing_is_said() -> None:
    with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
        _ = OpenAIProvider(LLMConfig()).client
    with pytest.raises(ConfigurationError, match="did you mean"):
        UnifiedProvider("opnai", LLMConfig())
