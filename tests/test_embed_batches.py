"""
Many texts: as few requests as the provider allows, a few at a time, in order, each retried alone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.behaviours import status
from support.exchange import Behaviour, Exchange
from support.fault_server import FaultServer

from llm_master import InvalidRequestError, Limit, LLMConfig, ProviderError, QueryLLM, ResponseError, RetryPolicy
from llm_master.operation_calls import AT_ONCE, batches
from llm_master.policy.estimate import estimate_output
from llm_master.policy.limits import MemoryLimiter

KEYS = {f"{name}_api_key": f"sk-{name}-0123456789" for name in ("openai", "cohere", "voyage", "mistral")}


def client(server: FaultServer, **options: Any) -> QueryLLM:
    urls = {"openai": "/v1", "cohere": "/v2", "voyage": "/voyage", "mistral": "/mistral", "gemini": "/v1beta"}
    config = LLMConfig(
        **KEYS, gemini_api_key="AIzaTest0123456789", base_urls={name: server.url + path for name, path in urls.items()}
    )
    return QueryLLM(config, retry=RetryPolicy(base_delay=0.001), limiter=MemoryLimiter(), **options)


def embed(server: FaultServer, *args: Any, **kwargs: Any) -> Any:
    async def main() -> Any:
        async with client(server) as llm:
            return await llm.embed(*args, **kwargs)

    return asyncio.run(main())


def length_of(text: str) -> list[float]:
    return [float(text.removeprefix("t"))]


def answering(fail: set[str] = frozenset(), width: int = 1) -> Behaviour:  # type: ignore[assignment]  # a frozen default
    """Vectors of the texts' own numbers, backwards; the first request that holds a text of ``fail`` gets a 503."""
    failed: set[str] = set()

    async def behave(x: Exchange) -> None:
        texts = json.loads(x.seen.body)["input"]
        bad = set(texts) & fail - failed
        if bad:
            failed.update(bad)
            await status(503, {"error": {"message": "busy"}})(x)
            return
        data = [{"index": i, "embedding": length_of(text) * width} for i, text in enumerate(texts)][::-1]
        body = {"data": data, "model": "m", "usage": {"prompt_tokens": len(texts), "total_tokens": len(texts)}}
        await status(200, body)(x)

    return behave


def test_texts_are_split_joined_and_added_up(fault_server: FaultServer) -> None:
    fault_server.route("/v1/embeddings", [answering()])
    texts = [f"t{n}" for n in range(4500)]
    found = embed(fault_server, "text-embedding-3-small", texts)
    assert found.embeddings == [[float(n)] for n in range(4500)]
    assert found.usage.input_tokens == 4500
    assert sorted(len(seen.json["input"]) for seen in fault_server.requests) == [404, 2048, 2048]
    assert [a.outcome for a in found.attempts] == ["ok"] * 3
    assert found.cost == 4500 * Decimal("0.00000002"), "nobody knows a price of what served it: that of what was asked"
    assert found.cost_details is not None
    assert not found.cost_details.complete
    assert (found.model_name, found.provider, found.model) == ("text-embedding-3-small", "openai", "m")


def test_a_price_of_the_registry_is_added_up(fault_server: FaultServer) -> None:
    from llm_master import ModelConfig

    fault_server.route("/v1/embeddings", [answering()])

    async def main() -> Any:
        async with client(fault_server, registry={"openai/e": ModelConfig(input_price_per_million=2.0)}) as llm:
            return await llm.embed("openai/e", [f"t{n}" for n in range(2049)])

    assert str(asyncio.run(main()).cost) == "0.004098"


def test_one_batch_that_fails_is_retried_alone(fault_server: FaultServer) -> None:
    fault_server.route("/v1/embeddings", [answering(fail={"t2050"})])
    found = embed(fault_server, "openai/e", [f"t{n}" for n in range(4097)])
    assert found.embeddings == [[float(n)] for n in range(4097)]
    assert sorted(a.status_code for a in found.attempts) == [200, 200, 200, 503]
    firsts = sorted(seen.json["input"][0] for seen in fault_server.requests)
    assert firsts == ["t0", "t2048", "t2048", "t4096"]


def test_no_more_than_a_few_requests_are_under_way(fault_server: FaultServer) -> None:
    held = answering()

    async def hold(x: Exchange) -> None:
        await x.hold()
        await held(x)

    fault_server.route("/mistral/embeddings", [hold])
    fault_server.route("/v2/embed", [hold])

    async def main() -> None:
        async with client(fault_server) as llm:
            work = asyncio.ensure_future(llm.embed("openai/e", [f"t{n}" for n in range(7 * 2048)]))
            await asyncio.to_thread(fault_server.wait_held, AT_ONCE)
            assert len(fault_server.requests) == AT_ONCE
            fault_server.release()
            assert len((await work).embeddings) == 7 * 2048

    fault_server.route("/v1/embeddings", [hold])
    asyncio.run(main())
    assert len(fault_server.requests) == 7


def test_a_refused_batch_ends_the_others(fault_server: FaultServer) -> None:
    async def behave(x: Exchange) -> None:
        if "t0" in json.loads(x.seen.body)["input"]:
            await status(400, {"error": {"message": "no such dimension"}})(x)
        else:
            await x.hold()

    fault_server.route("/v1/embeddings", [behave])
    with pytest.raises(ProviderError, match="no such dimension") as caught:
        embed(fault_server, "openai/e", [f"t{n}" for n in range(5000)])
    assert {a.outcome for a in caught.value.attempts} <= {"error", "cancelled"}
    for seen in fault_server.requests[1:]:
        fault_server.wait_closed(seen.index)


def test_a_fallback_does_all_texts_anew(fault_server: FaultServer) -> None:
    async def half(x: Exchange) -> None:
        if "t0" in json.loads(x.seen.body)["input"]:
            await answering(width=3)(x)
        else:
            await status(500, {"error": {"message": "down"}})(x)

    fault_server.route("/v1/embeddings", [half])
    fault_server.route("/mistral/embeddings", [answering(width=2)])
    told: list[Any] = []

    async def main() -> Any:
        async with client(fault_server) as llm:
            llm.on_event(told.append)
            return await llm.embed("openai/e", [f"t{n}" for n in range(3000)], fallback_model="mistral-embed")

    found = asyncio.run(main())
    assert found.provider == "mistral"
    assert {len(vector) for vector in found.embeddings} == {2}
    assert [event.target for event in told if event.name == "fallback"] == ["mistral-embed"]
    assert [event.outcome for event in told if event.name == "end"] == ["ok"]


def test_vectors_of_two_models_are_never_mixed(fault_server: FaultServer) -> None:
    from llm_master import Deployment

    fault_server.route("/one/embeddings", [answering(width=1)])
    fault_server.route("/two/embeddings", [answering(width=2)])
    places = [
        Deployment(provider="openai", model="a", base_url=fault_server.url + "/one"),
        Deployment(provider="openai", model="b", base_url=fault_server.url + "/two"),
    ]

    async def main() -> None:
        async with client(fault_server, deployments={"e": places}) as llm:
            for _ in range(20):
                await llm.embed("e", [f"t{n}" for n in range(8 * 2048)])

    with pytest.raises(ResponseError, match="different lengths"):
        asyncio.run(main())


def test_limits_of_tokens_count_the_texts(fault_server: FaultServer) -> None:
    fault_server.route("/v1/embeddings", [answering()])

    async def main() -> None:
        async with client(fault_server, limits=[Limit("model:openai/e", tpm=100)]) as llm:
            await llm.embed("openai/e", "t1", limit_wait=0)
            await llm.embed("openai/e", "t" + "1" * 2000, limit_wait=0)

    with pytest.raises(ProviderError) as caught:
        asyncio.run(main())
    assert caught.value.code in ("reservation_too_large", "local_rate_limit")
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("texts", [[], "", ["a", ""], ["a", 3], None, 3, {"a": 1}])
def test_no_text_is_refused_before_any_request(texts: Any, fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError):
        embed(fault_server, "openai/e", texts)
    assert fault_server.requests == []


def test_base64_that_is_none_is_an_error(fault_server: FaultServer) -> None:
    fault_server.route("/v1/embeddings", [status(200, {"data": [{"embedding": "AAA=*"}]})])
    with pytest.raises(ResponseError, match="no base64"):
        embed(fault_server, "openai/e", "a", encoding_format="base64", max_attempts=1)


@pytest.mark.parametrize("indexes", [(0, 0), (0, 2), (1, 2)])
def test_indexes_that_are_not_those_of_the_texts_are_an_error(
    indexes: tuple[int, int], fault_server: FaultServer
) -> None:
    data = [{"index": index, "embedding": [1.0]} for index in indexes]
    fault_server.route("/v1/embeddings", [status(200, {"data": data})])
    with pytest.raises(ResponseError, match="2 vectors for 2 inputs"):
        embed(fault_server, "openai/e", ["a", "b"], max_attempts=1)


@given(
    st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=60),
    st.none() | st.integers(1, 20),
    st.none() | st.integers(1, 60),
)
def test_batches_hold_every_text_in_order_within_the_limits(
    texts: list[str], inputs: int | None, tokens: int | None
) -> None:
    found = batches(texts, inputs, tokens)
    assert [text for batch in found for text in batch] == texts
    assert all(found)
    assert all(inputs is None or len(batch) <= inputs for batch in found)
    for batch in found:
        assert tokens is None or len(batch) == 1 or sum(map(estimate_output, batch)) <= tokens
    for one, two in itertools.pairwise(found):
        # No batch ends early: the next text would not have gone in.
        over = tokens is not None and sum(map(estimate_output, [*one, two[0]])) > tokens
        assert over or (inputs is not None and len(one) == inputs)


# Other forms ----------------------------------------------------------------------------------------------------------


def test_cohere_needs_a_type_of_input_and_96_texts_at_most(fault_server: FaultServer) -> None:
    async def behave(x: Exchange) -> None:
        texts = json.loads(x.seen.body)["texts"]
        vectors = {"float": [length_of(text) for text in texts]}
        await status(200, {"id": "1", "embeddings": vectors, "meta": {"billed_units": {"input_tokens": len(texts)}}})(x)

    fault_server.route("/v2/embed", [behave])
    texts = [f"t{n}" for n in range(200)]
    found = embed(fault_server, "embed-v4.0", texts, dimensions=256, input_type="query")
    assert found.embeddings == [length_of(text) for text in texts]
    assert found.usage.input_tokens == 200
    assert found.cost is not None
    assert len(fault_server.requests) == 3
    sent = next(seen.json for seen in fault_server.requests if seen.json["texts"][0] == "t0")
    assert sent == {
        "model": "embed-v4.0",
        "texts": texts[:96],
        "input_type": "search_query",
        "output_dimension": 256,
        "embedding_types": ["float"],
    }
    embed(fault_server, "embed-v4.0", "t1")
    assert fault_server.requests[-1].json["input_type"] == "search_document"
    with pytest.raises(InvalidRequestError, match="input_type='question' is not known to cohere"):
        embed(fault_server, "embed-v4.0", "t1", input_type="question")
    with pytest.raises(InvalidRequestError, match="read as 'float' or 'base64'"):
        embed(fault_server, "embed-v4.0", "t1", embedding_types=["int8"])


def test_gemini_takes_a_request_for_each_text(fault_server: FaultServer) -> None:
    answer = {"embeddings": [{"values": [1, 2]}, {"values": [3, 4]}], "usageMetadata": {"promptTokenCount": 5}}
    fault_server.route("/v1beta/models/gemini-embedding-001:batchEmbedContents", [status(200, answer)])
    found = embed(fault_server, "gemini-embedding-001", ["a", "b"], dimensions=2, input_type="document")
    assert found.embeddings == [[1.0, 2.0], [3.0, 4.0]]
    assert found.usage.input_tokens == 5
    one = {
        "model": "models/gemini-embedding-001",
        "taskType": "RETRIEVAL_DOCUMENT",
        "outputDimensionality": 2,
    }
    assert fault_server.requests[0].json == {
        "requests": [{**one, "content": {"parts": [{"text": text}]}} for text in ("a", "b")]
    }
    assert fault_server.requests[0].header("x-goog-api-key") == "AIzaTest0123456789"
    with pytest.raises(InvalidRequestError, match="gemini does not take encoding_format="):
        embed(fault_server, "gemini-embedding-001", "a", encoding_format="base64")


def test_vertex_predicts(fault_server: FaultServer) -> None:
    statistics = {"token_count": 4, "truncated": True}
    answer = {"predictions": [{"embeddings": {"values": [1, 2], "statistics": statistics}}]}
    fault_server.route("/", [status(200, answer)])

    async def main() -> Any:
        config = LLMConfig(vertex_api_key="ya29-test0123456789", base_urls={"vertex": fault_server.url + "/p"})
        async with QueryLLM(config) as llm:
            return await llm.embed("vertex/text-embedding-005", "a", dimensions=2, input_type="query")

    found = asyncio.run(main())
    assert found.embeddings == [[1.0, 2.0]]
    assert found.usage.input_tokens == 4
    assert found.notes == ("vertex cut 1 of 1 texts that were too long",)
    assert fault_server.requests[0].path.endswith("/publishers/google/models/text-embedding-005:predict")
    assert fault_server.requests[0].json == {
        "instances": [{"content": "a", "task_type": "RETRIEVAL_QUERY"}],
        "parameters": {"outputDimensionality": 2},
    }


@pytest.mark.parametrize("model", ["voyage-4", "mistral-embed"])
def test_dimensions_have_their_name_at_each_provider(model: str, fault_server: FaultServer) -> None:
    fault_server.default = answering()
    embed(fault_server, model, "t1", dimensions=8)
    assert fault_server.requests[0].json == {"model": model, "input": ["t1"], "output_dimension": 8}


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ("embed-v4.0", {"embeddings": {"float": [[1.0]]}}),
        ("embed-v4.0", {"embeddings": {"base64": ["*", "*"]}}),
        ("embed-v4.0", {"embeddings": []}),
        ("gemini-embedding-001", {"embeddings": [{"values": [1.0]}]}),
        ("gemini-embedding-001", {"vectors": 1}),
    ],
)
def test_a_wrong_answer_is_an_error(model: str, answer: Any, fault_server: FaultServer) -> None:
    fault_server.default = status(200, answer)
    with pytest.raises(ResponseError, match=r"is no embedding|1 vectors for 2 inputs"):
        embed(fault_server, model, ["a", "b"], max_attempts=1)
