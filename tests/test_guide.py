"""
The guide's steps for adding a provider, as a user would follow them.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from openai import OpenAI
from support.behaviours import ok, status
from support.fault_server import FaultServer

from llm_master import (
    BaseLLMProvider,
    ConfigurationError,
    LLMConfig,
    LLMResponse,
    LLMStream,
    ModelConfig,
    ModelNotFoundError,
    ModelRegistry,
    ProviderError,
    QueryLLM,
    UnifiedProvider,
    Usage,
    add_provider,
)

PROMPT = [{"role": "user", "content": "Your prompt here"}]

pytestmark = pytest.mark.usefixtures("provider_tables")


def extract_prompt(messages: list[dict[str, Any]]) -> str:
    return str(messages[-1]["content"])


async def _generate_recraft_image(self: Any, messages: Any, model: str, **kwargs: Any) -> LLMResponse:
    # Extract prompt from messages or kwargs
    prompt = kwargs.pop("prompt", None) or extract_prompt(messages)
    style = kwargs.pop("style", "digital_illustration")
    loop = asyncio.get_event_loop()
    # Call the OpenAI client's images.generate method
    response = await loop.run_in_executor(
        None, lambda: self.client.images.generate(prompt=prompt, style=style, **kwargs)
    )
    # Return formatted response
    return LLMResponse(
        content=response.data[0].url, model_name=model, usage=Usage(input_tokens=0, output_tokens=0), latency=0.0
    )


def add_recraft(server: FaultServer) -> None:
    UnifiedProvider.PROVIDER_CONFIGS["recraft_guide"] = {
        "client_class": OpenAI,
        "base_url": server.url + "/v1",
        "api_key_attr": "recraft_api_key",
        "supports_caching": False,
        "generate_map": {"recraft-image-gen": "_generate_recraft_image"},
    }
    UnifiedProvider._generate_recraft_image = _generate_recraft_image  # type: ignore[attr-defined]
    QueryLLM.provider_map["recraft"] = ("recraft_guide", UnifiedProvider)


def test_a_row_with_the_sync_client_and_a_generator(fault_server: FaultServer) -> None:
    add_recraft(fault_server)
    fault_server.route(
        "/v1/images/generations", [status(200, {"created": 1, "data": [{"url": "https://x.test/i.png"}]})]
    )

    async def main() -> LLMResponse:
        async with QueryLLM(LLMConfig(recraft_api_key="rk-guide-0001")) as llm:
            return await llm.query(
                model_name="recraft-image-gen", prompt="race car on a track", style="digital_illustration"
            )

    response = asyncio.run(main())
    assert response.content == "https://x.test/i.png"
    assert (response.model_name, response.provider) == ("recraft-image-gen", "recraft_guide")
    (seen,) = fault_server.requests
    assert seen.json == {"prompt": "race car on a track", "style": "digital_illustration"}
    assert ("authorization", "Bearer rk-guide-0001") in [(name.lower(), value) for name, value in seen.headers]
    assert [a.outcome for a in response.attempts] == ["ok"]


def test_a_generator_that_cannot_stream_is_refused_before_any_request(fault_server: FaultServer) -> None:
    add_recraft(fault_server)

    async def main() -> None:
        async with QueryLLM(LLMConfig(recraft_api_key="rk-guide-0001")) as llm:
            with pytest.raises(ProviderError, match=r"cannot stream 'recraft-image-gen'"):
                await llm.query("recraft-image-gen", prompt="x", stream=True)

    asyncio.run(main())
    assert fault_server.requests == []


def test_a_generator_named_but_missing(fault_server: FaultServer) -> None:
    UnifiedProvider.PROVIDER_CONFIGS["nogen"] = {
        "base_url": fault_server.url,
        "generate_map": {"nogen-model": "_generate_nothing"},
    }
    QueryLLM.provider_map["nogen"] = ("nogen", UnifiedProvider)
    with pytest.raises(ConfigurationError, match="_generate_nothing"):
        QueryLLM(LLMConfig()).query_sync("nogen-model", PROMPT)


@dataclass
class GuideConfig(LLMConfig):
    # ... existing API keys
    new_provider_api_key: str | None = None

    @classmethod
    def from_env(cls) -> GuideConfig:  # type: ignore[override]
        return cls(new_provider_api_key=os.getenv("NEW_PROVIDER_API_KEY"))

    def validate(self) -> dict[str, bool]:
        return {"new_provider": bool(self.new_provider_api_key)}


def test_the_guides_first_five_steps(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW_PROVIDER_API_KEY", "np-key-12345")
    UnifiedProvider.PROVIDER_CONFIGS["new_provider"] = {
        "client_class": OpenAI,
        "base_url": fault_server.url + "/v1",
        "api_key_attr": "new_provider_api_key",
        "supports_caching": False,
        "generate_map": {"model-name": "_generate_custom_function"},
    }
    ModelRegistry.CONFIGS["new-provider-model-name"] = ModelConfig(
        input_price_per_million=2.00,
        output_price_per_million=8.00,
        cached_input_price_per_million=None,
        rate_limit_rpm=100,
    )
    QueryLLM.provider_map["new-provider"] = ("new_provider", UnifiedProvider)
    fault_server.default = ok("from the new provider", usage=Usage(1000, 500))

    async def main() -> tuple[LLMResponse, LLMResponse]:
        async with QueryLLM() as environment, QueryLLM(GuideConfig.from_env()) as field:
            return (
                await environment.query(model_name="new-provider-model-name", messages=PROMPT),
                await field.query(model_name="new-provider-model-name", messages=PROMPT),
            )

    for response in asyncio.run(main()):
        assert response.content == "from the new provider"
        assert str(response.cost) == "0.006"  # 1000 * 2 / 1e6 + 500 * 8 / 1e6
    assert GuideConfig.from_env().validate() == {"new_provider": True}
    for seen in fault_server.requests:
        assert dict(seen.headers)["Authorization"] == "Bearer np-key-12345"
        assert seen.path == "/v1/chat/completions"


class BFLProvider(BaseLLMProvider):
    """Provider for Black Forest Labs (BFL) image generation API"""

    base = ""

    def __init__(self, config: Any = None) -> None:
        self.config = config or LLMConfig.from_env()
        api_key = self.config.bfl_api_key
        if not api_key:
            raise ConfigurationError("Missing BFL API key")
        self.api_key = api_key
        self.base_url = self.base + "/v1"

    async def generate(self, messages: Any, model: str, stream: bool = False, **kwargs: Any) -> LLMResponse:
        """Generate an image using the BFL API"""
        if stream:
            raise ProviderError("Streaming is not supported for BFL image generation")
        prompt = kwargs.get("prompt")
        if not prompt and messages:
            for msg in reversed(messages):
                if msg.get("role") == "user" and msg.get("content"):
                    prompt = msg["content"]
                    break
        width = kwargs.get("width", 1024)
        height = kwargs.get("height", 768)
        start_time = time.time()
        headers = {"accept": "application/json", "x-key": self.api_key, "Content-Type": "application/json"}
        try:
            loop = asyncio.get_event_loop()
            with ThreadPoolExecutor() as executor:
                request_data = await loop.run_in_executor(
                    executor,
                    lambda: requests.post(
                        f"{self.base_url}/{model}",
                        headers=headers,
                        json={"prompt": prompt, "width": width, "height": height},
                        timeout=10,
                    ).json(),
                )
            request_id = request_data["id"]
            while True:
                with ThreadPoolExecutor() as executor:
                    poll_result = await loop.run_in_executor(
                        executor,
                        lambda: requests.get(
                            f"{self.base_url}/get_result", headers=headers, params={"id": request_id}, timeout=10
                        ).json(),
                    )
                if poll_result.get("status") == "Ready":
                    return LLMResponse(
                        content=poll_result["result"]["sample"],
                        model_name=model,
                        usage=Usage(input_tokens=0, output_tokens=0),
                        latency=time.time() - start_time,
                    )
                await asyncio.sleep(0)
        except Exception as e:
            raise ProviderError(f"BFL image generation failed: {e!s}") from e


def test_a_class_of_its_own_with_blocking_requests(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BFLProvider, "base", fault_server.url)
    QueryLLM.provider_map["flux"] = (None, BFLProvider)
    fault_server.route("/v1/flux-pro-1.1", [status(200, {"id": "job-1"})])
    fault_server.route(
        "/v1/get_result",
        [
            status(200, {"id": "job-1", "status": "Pending"}),
            status(200, {"id": "job-1", "status": "Ready", "result": {"sample": "https://x.test/cat.jpg"}}),
        ],
    )

    async def main() -> LLMResponse:
        async with QueryLLM(LLMConfig(bfl_api_key="bfl-guide-key")) as llm:
            with pytest.raises(ProviderError, match="Streaming is not supported"):
                await llm.query("flux-pro-1.1", PROMPT, stream=True)
            return await llm.query(
                model_name="flux-pro-1.1",
                messages=[{"role": "user", "content": "A cat running with a fish in a market"}],
                width=1024,
                height=768,
            )

    response = asyncio.run(main())
    assert response.content == "https://x.test/cat.jpg"
    submitted, *polls = fault_server.requests
    assert submitted.json == {"prompt": "A cat running with a fish in a market", "width": 1024, "height": 768}
    assert len(polls) == 2


def test_a_class_without_its_key_says_so() -> None:
    QueryLLM.provider_map["flux"] = (None, BFLProvider)
    with pytest.raises(ConfigurationError, match="Missing BFL API key"):
        QueryLLM(LLMConfig()).query_sync("flux-pro-1.1", prompt="x")


def test_a_blocking_provider_does_not_stop_the_loop(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BFLProvider, "base", fault_server.url)
    QueryLLM.provider_map["flux"] = (None, BFLProvider)
    fault_server.route("/v1/flux", [status(200, {"id": "j"})])
    fault_server.route("/v1/get_result", [status(200, {"status": "Ready", "result": {"sample": "u"}})])

    async def main() -> list[Any]:
        async with QueryLLM(LLMConfig(bfl_api_key="bfl-guide-key")) as llm:
            return await asyncio.gather(*(llm.query("flux-pro-1.1", prompt=str(n)) for n in range(4)))

    assert [r.content for r in asyncio.run(main())] == ["u"] * 4
    assert sorted(s.json["prompt"] for s in fault_server.requests if s.method == "POST") == ["0", "1", "2", "3"]


def test_a_minimal_class_with_text_that_streams() -> None:
    class Echo(BaseLLMProvider):
        async def generate(self, messages: Any, model: str, stream: bool = False, **kwargs: Any) -> Any:
            words = messages[-1]["content"].split()
            if not stream:
                return " ".join(words)

            async def pieces() -> Any:
                for word in words:
                    yield word + " "

            return pieces()

    QueryLLM.provider_map["echo-"] = (None, Echo)

    async def main() -> tuple[LLMResponse, list[str], LLMResponse]:
        async with QueryLLM(LLMConfig()) as llm:
            plain = await llm.query("echo-1", "one two")
            stream = await llm.query("echo-1", "one two", stream=True)
            assert isinstance(stream, LLMStream)
            return plain, [text async for text in stream], stream.response

    plain, pieces, streamed = asyncio.run(main())
    assert plain.content == "one two"
    assert pieces == ["one ", "two "]
    assert (streamed.content, streamed.provider, streamed.model_name) == ("one two ", "Echo", "echo-1")


def test_any_exception_of_a_class_is_typed_and_falls_back(fault_server: FaultServer) -> None:
    class Broken(BaseLLMProvider):
        async def generate(self, messages: Any, model: str, **kwargs: Any) -> LLMResponse:
            raise KeyError("id")

    QueryLLM.provider_map["broken-"] = (None, Broken)
    fault_server.default = ok("saved")

    async def main() -> LLMResponse:
        config = LLMConfig(openai_api_key="sk-guide-00001", base_urls={"openai": fault_server.url})
        async with QueryLLM(config) as llm:
            with pytest.raises(ProviderError, match=r"Broken failed for 'broken-1': KeyError") as caught:
                await llm.query("broken-1", "hello")
            assert isinstance(caught.value.__cause__, KeyError)
            return await llm.query("broken-1", "hello", fallback_model="gpt-4o-mini")

    response = asyncio.run(main())
    assert response.content == "saved"
    assert [(a.provider, a.outcome) for a in response.attempts] == [("Broken", "error"), ("openai", "ok")]


def test_an_unmatched_name_is_raised_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ModelNotFoundError, match=r"^Unsupported model: your-model-name"):
        QueryLLM(LLMConfig()).query_sync("your-model-name", PROMPT)
    assert "Error getting provider: Unsupported model: your-model-name" in caplog.text


def test_add_provider_with_settings_and_payload(fault_server: FaultServer) -> None:
    add_provider(
        "SELLTIME_GUIDE",
        api_url=fault_server.url + "/llm_api/chat/completions",
        api_key="st-0001",
        custom_payload="value",
    )
    response = QueryLLM(LLMConfig()).query_sync("selltime_guide/model-1", PROMPT, temperature=0.5)
    assert response.provider == "selltime_guide"
    (seen,) = fault_server.requests
    assert seen.path == "/llm_api/chat/completions"
    assert seen.json == {"model": "model-1", "messages": PROMPT, "temperature": 0.5, "custom_payload": "value"}
    assert dict(seen.headers)["Authorization"] == "Bearer st-0001"


def test_add_provider_from_the_environment(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    add_provider("LATER_GUIDE")
    llm = QueryLLM(LLMConfig())
    with pytest.raises(ValueError, match="LATER_GUIDE_BASE_URL"):
        llm.query_sync("later_guide:m", PROMPT)
    monkeypatch.setenv("LATER_GUIDE_API_URL", fault_server.url + "/x/chat/completions")
    with pytest.raises(ValueError, match="LATER_GUIDE_API_KEY"):
        llm.query_sync("later_guide:m", PROMPT)
    monkeypatch.setenv("LATER_GUIDE_API_KEY", "XYZ-from-env")
    assert llm.query_sync("Later_Guide:m", PROMPT).content
    assert fault_server.requests[0].path == "/x/chat/completions"
    assert dict(fault_server.requests[0].headers)["Authorization"] == "Bearer XYZ-from-env"


@pytest.mark.parametrize("name", ["openai", "OPENAI", "open_ai", "Claude", "SELLTIME_TWICE"])
def test_a_taken_name_is_refused(name: str) -> None:
    add_provider("selltime_twice", api_url="http://127.0.0.1:1/x") if "TWICE" in name else None
    with pytest.raises(ValueError, match="taken"):
        add_provider(name, api_url="http://127.0.0.1:1/x")


def test_add_provider_with_a_class() -> None:
    class Mine(BaseLLMProvider):
        def __init__(self, greeting: str) -> None:
            self.greeting = greeting

        async def generate(self, messages: Any, model: str, stream: bool = False, **kwargs: Any) -> LLMResponse:
            return LLMResponse(content=f"{self.greeting} {model}", model_name=model, usage=Usage(), latency=0.0)

    add_provider("MINE_GUIDE", llm_api_impl=Mine, greeting="hello from")
    assert QueryLLM(LLMConfig()).query_sync("mine_guide/m1", PROMPT).content == "hello from m1"
