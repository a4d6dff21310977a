"""
Ranking of documents, in the shapes in which providers answer.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from support.behaviours import status
from support.fault_server import FaultServer

from llm_master import InvalidRequestError, LLMConfig, QueryLLM, ResponseError, RetryPolicy
from llm_master.policy.limits import MemoryLimiter

DOCUMENTS = ["the weather", "machine learning", "a law"]
NAMES = ("cohere", "voyage", "together", "fireworks", "novita", "vllm", "jina", "nvidia")


def rerank(server: FaultServer, *args: Any, **kwargs: Any) -> Any:
    async def main() -> Any:
        keys = {f"{name}_api_key": f"sk-{name}-0123456789" for name in NAMES if name not in ("vllm", "jina")}
        config = LLMConfig(**keys, base_urls={name: f"{server.url}/{name}" for name in NAMES})
        async with QueryLLM(config, retry=RetryPolicy(base_delay=0.001), limiter=MemoryLimiter()) as llm:
            return await llm.rerank(*args, **kwargs)

    return asyncio.run(main())


RESULTS = [{"index": 1, "relevance_score": 0.9}, {"index": 2, "relevance_score": 0.2}]
COHERE = {"id": "1", "results": RESULTS, "meta": {"billed_units": {"search_units": 1}, "warnings": ["new model soon"]}}
WITH_TEXT = {"results": [{**each, "document": {"text": "x"}} for each in RESULTS[::-1]], "usage": {"total_tokens": 7}}
AS_DATA = {"object": "list", "data": [{**each, "document": "x"} for each in RESULTS], "usage": {"total_tokens": 7}}


@pytest.mark.parametrize(
    ("model", "answer", "sent"),
    [
        ("cohere/rerank-v3.5", COHERE, {"top_n": 2}),
        ("voyage/rerank-2.5", AS_DATA, {"top_k": 2}),
        ("together/Salesforce/Llama-Rank-V1", WITH_TEXT, {"top_n": 2}),
        ("fireworks/qwen3-reranker-8b", AS_DATA, {"top_n": 2, "return_documents": False}),
        ("novita/baai/bge-reranker-v2-m3", WITH_TEXT, {"top_n": 2}),
        ("vllm/bge-reranker", WITH_TEXT, {"top_n": 2}),
    ],
)
def test_each_provider_ranks(model: str, answer: Any, sent: dict[str, Any], fault_server: FaultServer) -> None:
    provider, _, name = model.partition("/")
    fault_server.route(f"/{provider}", [status(503, {"message": "busy"}), status(200, answer)])
    found = rerank(fault_server, model, "what is it?", DOCUMENTS, top_n=2)
    assert [(each.index, each.score, each.document) for each in found.results] == [
        (1, 0.9, "machine learning"),
        (2, 0.2, "a law"),
    ]
    assert fault_server.requests[1].path.endswith("/v2/rerank" if provider == "cohere" else "/rerank")
    assert fault_server.requests[1].json == {"model": name, "query": "what is it?", "documents": DOCUMENTS, **sent}
    assert [a.status_code for a in found.attempts] == [503, 200]
    assert (found.provider, found.model_name) == (provider, model)
    assert found.usage.input_tokens == (0 if provider == "cohere" else 7)
    assert found.search_units == (1 if provider == "cohere" else None)
    assert found.notes == (("new model soon",) if provider == "cohere" else ())
    if provider == "cohere":
        assert found.cost == Decimal("0.002"), "one search of 2 USD for a thousand"


@pytest.mark.parametrize(
    ("provider", "odd"),
    [
        ("voyage", {"usage": {"total_tokens": "many"}}),
        ("voyage", {"usage": 7}),
        ("cohere", {"meta": {"billed_units": {"search_units": "one"}}}),
        ("cohere", {"meta": {"billed_units": [1]}}),
    ],
)
def test_no_ranking_is_lost_for_an_odd_usage(provider: str, odd: Any, fault_server: FaultServer) -> None:
    fault_server.route(f"/{provider}", [status(200, {"data" if provider == "voyage" else "results": RESULTS, **odd})])
    found = rerank(fault_server, f"{provider}/rerank-v3.5", "q", DOCUMENTS)
    assert [each.index for each in found.results] == [1, 2]
    assert found.notes == ("a usage of an unexpected shape was read as far as it could be",)
    assert (found.usage.estimated, found.attempts[0].usage.estimated) == (True, True)
    assert found.cost is None


def test_a_server_of_ones_own_ranks_as_most_do(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_master import UnifiedProvider

    table = {**UnifiedProvider.PROVIDER_CONFIGS, "jina": {"base_url": "https://api.jina.ai/v1", "key_optional": True}}
    monkeypatch.setattr(UnifiedProvider, "PROVIDER_CONFIGS", table)
    fault_server.route("/jina/rerank", [status(200, WITH_TEXT)])
    found = rerank(fault_server, "jina/jina-reranker-v3", "q", DOCUMENTS, return_documents=False)
    assert found.results[0].document == "machine learning"
    assert fault_server.requests[0].json["return_documents"] is False


@pytest.mark.parametrize(
    "answer",
    [
        {"results": [{"index": 3, "relevance_score": 1}]},
        {"results": [{"index": -1, "relevance_score": 1}]},
        {"results": [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 0.5}]},
        {"ranks": []},
        {"results": [{"index": 0}]},
    ],
)
def test_a_wrong_ranking_is_an_error(answer: Any, fault_server: FaultServer) -> None:
    fault_server.route("/cohere", [status(200, answer)])
    with pytest.raises(ResponseError, match=r"is no ranking|other documents than the 3"):
        rerank(fault_server, "cohere/rerank-v3.5", "q", DOCUMENTS, max_attempts=1)


@pytest.mark.parametrize(
    ("query", "documents", "top_n"),
    [
        ("", DOCUMENTS, None),
        (3, DOCUMENTS, None),
        ("q", [], None),
        ("q", "one text", None),
        ("q", ["a", ""], None),
        ("q", ["a", {"text": "b"}], None),
        ("q", DOCUMENTS, 0),
        ("q", DOCUMENTS, 1.5),
        ("q", DOCUMENTS, True),
    ],
)
def test_bad_input_is_refused_before_any_request(
    query: Any, documents: Any, top_n: Any, fault_server: FaultServer
) -> None:
    with pytest.raises(InvalidRequestError):
        rerank(fault_server, "cohere/rerank-v3.5", query, documents, top_n=top_n)
    assert fault_server.requests == []


# NVIDIA ---------------------------------------------------------------------------------------------------------------

NEMO = "nvidia/nvidia/llama-3.2-nv-rerankqa-1b-v2"


def test_nvidia_ranks_by_logits(fault_server: FaultServer) -> None:
    ranks = [{"index": 2, "logit": -3.5}, {"index": 1, "logit": 6.8}, {"index": 0, "logit": -9.25}]
    fault_server.route("/nvidia", [status(200, {"rankings": ranks, "usage": {"total_tokens": 11}})])
    found = rerank(fault_server, NEMO, "what is it?", DOCUMENTS, top_n=2, truncate="END")
    assert [(each.index, each.score, each.document) for each in found.results] == [
        (1, 6.8, "machine learning"),
        (2, -3.5, "a law"),
    ]
    assert found.usage.input_tokens == 11
    (seen,) = fault_server.requests
    assert seen.path == "/nvidia/ranking", "as a NIM of one's own has it"
    assert seen.json == {
        "model": "nvidia/llama-3.2-nv-rerankqa-1b-v2",
        "query": {"text": "what is it?"},
        "passages": [{"text": each} for each in DOCUMENTS],
        "truncate": "END",
    }
    assert len(rerank(fault_server, NEMO, "q", DOCUMENTS).results) == 3


def test_nvidias_own_service_ranks_on_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVIDIA_BASE_URL", raising=False)
    llm = QueryLLM(LLMConfig(nvidia_api_key="nvapi-0123456789"))
    for name in ("llama-3.2-nv-rerankqa-1b-v2", "llama-3_2-nv-rerankqa-1b-v2"):
        found = llm.explain(f"nvidia/nvidia/{name}", "q", call="rerank", documents=["a"])
        host = "https://ai.api.nvidia.com/v1/retrieval"
        assert found.url == f"{host}/nvidia/llama-3_2-nv-rerankqa-1b-v2/reranking"
        assert found.body["model"] == "nvidia/llama-3.2-nv-rerankqa-1b-v2"
        assert found.headers["Authorization"] == "Bearer ***"


@pytest.mark.parametrize(
    "answer",
    [{"results": []}, {"rankings": [{"index": 3, "logit": 1.0}]}, {"rankings": [{"index": 0, "logit": 1}] * 2}],
)
def test_an_answer_of_nvidia_that_cannot_be(answer: Any, fault_server: FaultServer) -> None:
    fault_server.default = status(200, answer)
    with pytest.raises(ResponseError, match="nvidia"):
        rerank(fault_server, NEMO, "q", DOCUMENTS)
