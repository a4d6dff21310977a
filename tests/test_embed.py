"""
Vectors and token counts.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import os
import struct
from typing import Any

import pytest
from support.behaviours import status
from support.fault_server import FaultServer

from llm_master import (
    ConfigurationError,
    InvalidRequestError,
    LLMConfig,
    ModelConfig,
    ModelRegistry,
    QueryLLM,
    ResponseError,
    RetryPolicy,
    UnsupportedParameterError,
)


def body(*items: tuple[int | None, Any]) -> dict[str, Any]:
    data = [{"object": "embedding", "embedding": v, **({} if i is None else {"index": i})} for i, v in items]
    return {"object": "list", "data": data, "model": "emb-served", "usage": {"prompt_tokens": 9, "total_tokens": 9}}


def embed(server: FaultServer, *args: Any, **kwargs: Any) -> Any:
    async def main() -> Any:
        config = LLMConfig(openai_api_key="sk-embed-0000001", base_urls={"openai": server.url + "/v1"})
        async with QueryLLM(config, retry=RetryPolicy(base_delay=0.001)) as llm:
            return await llm.embed(*args, **kwargs)

    return asyncio.run(main())


def test_vectors_come_in_the_order_of_the_texts(fault_server: FaultServer) -> None:
    fault_server.route("/v1/embeddings", [status(200, body((1, [2.0]), (0, [1.0])))])
    found = embed(fault_server, "openai/text-embedding-3-small", ["a", "b"], dimensions=1)
    assert found.embeddings == [[1.0], [2.0]]
    assert (found.provider, found.model, found.model_name) == ("openai", "emb-served", "openai/text-embedding-3-small")
    assert found.usage.input_tokens == 9
    assert [a.outcome for a in found.attempts] == ["ok"]
    (seen,) = fault_server.requests
    assert seen.path == "/v1/embeddings"
    assert seen.json == {"model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 1}
    assert dict(seen.headers)["Authorization"] == "Bearer sk-embed-0000001"


def test_base64_vectors_and_one_text(fault_server: FaultServer) -> None:
    packed = base64.b64encode(struct.pack("<2f", 0.5, -2.0)).decode()
    fault_server.route("/v1/embeddings", [status(200, body((None, packed)))])
    found = embed(fault_server, "openai/emb", "a", encoding_format="base64")
    assert found.embeddings == [[0.5, -2.0]]


def test_a_price_of_the_registry_is_used(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ModelRegistry.CONFIGS, "openai/emb", ModelConfig(input_price_per_million=2.0))
    fault_server.route("/v1/embeddings", [status(200, body((0, [1.0])))])
    assert str(embed(fault_server, "openai/emb", "a").cost) == "0.000018"  # 9 tokens * 2 USD / 1e6


def test_it_is_retried(fault_server: FaultServer) -> None:
    fault_server.route("/v1/embeddings", [status(503, {"error": {"message": "busy"}}), status(200, body((0, [1.0])))])
    assert [a.status_code for a in embed(fault_server, "openai/emb", "a").attempts] == [503, 200]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (body((0, [1.0])), "1 vectors for 2 inputs"),
        (body((0, []), (1, [])), "no embedding"),
        (body((0, [1.0]), (1, [1.0, 2.0])), "no embedding"),
        ("<html>", "no embedding"),
        ({"error": {"message": "no"}}, "no"),
    ],
)
def test_a_wrong_answer_is_an_error(answer: Any, says: str, fault_server: FaultServer) -> None:
    fault_server.route("/v1/embeddings", [status(200, answer)])
    with pytest.raises(Exception, match=says) as caught:
        embed(fault_server, "openai/emb", ["a", "b"])
    assert getattr(caught.value, "provider", None) == "openai"
    if "vectors" in says:
        assert isinstance(caught.value, ResponseError)


@pytest.mark.parametrize("texts", [[], [""], [1], ""])
def test_no_text_is_refused_before_any_request(texts: Any, fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError):
        embed(fault_server, "openai/emb", texts)
    assert fault_server.requests == []


@pytest.mark.parametrize("dimensions", [0, -1, "3", 1.5, True])
def test_dimensions_are_a_whole_number(dimensions: Any, fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError, match=f"dimensions={dimensions!r} for 'openai/emb': give a whole number"):
        embed(fault_server, "openai/emb", "a", dimensions=dimensions)
    assert not fault_server.requests


@pytest.mark.parametrize(
    ("model", "parameter"),
    [
        ("openai/emb", "input_type"),
        ("azure/emb", "input_type"),
        ("mistral/mistral-embed", "input_type"),
        ("local", "input_type"),
        ("local", "dimensions"),
        ("llamacpp/emb", "dimensions"),
    ],
)
def test_what_a_server_does_not_know_is_refused_or_listed(model: str, parameter: str) -> None:
    given: dict[str, Any] = {parameter: {"input_type": "query", "dimensions": 8}[parameter]}
    with QueryLLM(LLMConfig()) as llm:
        with pytest.raises(UnsupportedParameterError, match=f"does not take {parameter}=.* drop_params=True"):
            llm.preview_request(model, "a", call="embed", **given)
        assert parameter not in llm.preview_request(model, "a", call="embed", drop_params=True, **given)


def test_a_provider_without_embeddings_says_who_has_them() -> None:
    llm = QueryLLM(LLMConfig(anthropic_api_key="sk-ant-0000000001"))

    async def main() -> None:
        with pytest.raises(ConfigurationError, match=r"anthropic serves no embeddings.* cohere, .* openai"):
            await llm.embed("claude-sonnet-4-5", "a")

    asyncio.run(main())


def test_the_embedded_models_process_is_gone_after_aclose(monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_master import UnifiedProvider, add_provider
    from llm_master.providers.local import LocalServer

    table = dict(UnifiedProvider.PROVIDER_CONFIGS)
    monkeypatch.setattr(UnifiedProvider, "PROVIDER_CONFIGS", table)

    async def main() -> tuple[int | None, int | None, int | None]:
        server = LocalServer.shared(None, None)
        async with QueryLLM(LLMConfig()) as llm:
            await llm.query("local", "Hi", max_tokens=1)
            first = server.pid
            add_provider("unrelated_embed_test", api_url="http://127.0.0.1:1/x")
            await llm.query("local", "Hi", max_tokens=1)
            second = server.pid
        return first, second, server.pid

    first, second, after = asyncio.run(main())
    assert first is not None
    assert second == first, "a change of the provider table must not stop it"
    assert after is None
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_client_that_is_dropped_holds_the_embedded_model_no_more() -> None:
    from llm_master.providers.local import LocalServer

    server = LocalServer.shared(None, None)
    before = len(server._users)
    client = QueryLLM(LLMConfig())
    client.explain("local", "Hi")
    assert len(server._users) == before + 1
    del client
    gc.collect()
    assert len(server._users) == before


def test_the_embedded_model_embeds_and_counts() -> None:
    async def main() -> None:
        async with QueryLLM(LLMConfig()) as llm:
            texts = [
                "a cat sleeps",
                "a dog sleeps",
                "a tax law",
                "a cat",
                "cat sleeps a",
                "the income tax law of the EU",
            ]
            alone = [(await llm.embed("local", text)).embeddings[0] for text in texts]
            together = (await llm.embed("local", texts)).embeddings
            at_once = await asyncio.gather(*(llm.embed("local", text) for text in texts))
            for one, two, three in zip(alone, together, at_once, strict=True):
                assert two == pytest.approx(one, abs=1e-3)
                assert three.embeddings[0] == pytest.approx(one, abs=1e-3)
            near, far = (sum(a * b for a, b in zip(alone[0], v, strict=True)) for v in (alone[1], alone[5]))
            assert near > far

            messages = [{"role": "user", "content": "Hello there, my friend."}]
            counted = await llm.count_tokens("local", messages)
            answered = await llm.query("local", messages, max_tokens=1)
            assert counted.source == "provider"
            assert counted.tokens == answered.usage.input_tokens

    asyncio.run(main())
