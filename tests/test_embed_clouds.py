"""
Vectors of Bedrock, NVIDIA and Perplexity, whose requests or numbers are written in another way than OpenAI's.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st
from support.behaviours import status
from support.exchange import Exchange
from support.fault_server import FaultServer

from llm_master import (
    ConfigurationError,
    InvalidRequestError,
    LLMConfig,
    QueryLLM,
    ResponseError,
    RetryPolicy,
    UnsupportedParameterError,
)
from llm_master.policy.limits import MemoryLimiter
from llm_master.vectors import unpacked_int8

KEY = "cloud-key-0123456789"
TITAN = "amazon.titan-embed-text-v2:0"
NOVA = "amazon.nova-2-multimodal-embeddings-v1:0"
COHERE = "cohere.embed-v4:0"
BASES = {"bedrock": "", "nvidia": "/nv/v1", "perplexity": "/pplx/v1"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def embed(server: FaultServer, model: str, texts: Any, *, signed: bool = False, **options: Any) -> Any:
    keys: dict[str, Any] = {f"{name}_api_key": KEY for name in BASES if not (signed and name == "bedrock")}
    config = LLMConfig(**keys, base_urls={name: server.url + path for name, path in BASES.items()})

    async def main() -> Any:
        async with QueryLLM(config, retry=RetryPolicy(max_attempts=1), limiter=MemoryLimiter()) as llm:
            return await llm.embed(model, texts, **options)

    return asyncio.run(main())


async def by_text(x: Exchange) -> None:
    """A vector that tells which text it is of."""
    text = x.seen.json["inputText"]
    body = {"embedding": [float(ord(text)), 0.5], "inputTextTokenCount": 3}
    await x.respond(200, json.dumps(body).encode(), [("Content-Type", "application/json")])


# Bedrock --------------------------------------------------------------------------------------------------------------


def test_titan_takes_one_text_a_request_and_keeps_their_order(fault_server: FaultServer) -> None:
    fault_server.default = by_text
    found = embed(fault_server, f"bedrock/{TITAN}", ["a", "b", "c"], dimensions=256, normalize=False)
    assert found.embeddings == [[97.0, 0.5], [98.0, 0.5], [99.0, 0.5]]
    assert found.usage.input_tokens == 9
    assert len(fault_server.requests) == 3
    for seen in fault_server.requests:
        assert seen.path == "/model/amazon.titan-embed-text-v2%3A0/invoke"
        assert {**seen.json, "inputText": "?"} == {"inputText": "?", "dimensions": 256, "normalize": False}
        assert seen.header("Authorization") == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {"embeddingPurpose": "GENERIC_INDEX"}),
        (
            {"input_type": "query", "dimensions": 384},
            {"embeddingPurpose": "GENERIC_RETRIEVAL", "embeddingDimension": 384},
        ),
        ({"input_type": "CLUSTERING"}, {"embeddingPurpose": "CLUSTERING"}),
    ],
)
def test_nova_on_bedrock(given: dict[str, Any], sent: dict[str, Any], fault_server: FaultServer) -> None:
    answer = {"embeddings": [{"embeddingType": "TEXT", "embedding": [0.5, 1.0]}]}
    fault_server.default = status(200, answer, [("X-Amzn-Bedrock-Input-Token-Count", "4")])
    found = embed(fault_server, f"bedrock/{NOVA}", ["a", "b"], **given)
    assert found.embeddings == [[0.5, 1.0]] * 2
    assert found.usage.input_tokens == 8
    assert sorted(seen.json["singleEmbeddingParams"]["text"]["value"] for seen in fault_server.requests) == ["a", "b"]
    for seen in fault_server.requests:
        assert seen.path == "/model/amazon.nova-2-multimodal-embeddings-v1%3A0/invoke"
        assert seen.json["taskType"] == "SINGLE_EMBEDDING"
        params = seen.json["singleEmbeddingParams"]
        assert params.pop("text")["truncationMode"] == "NONE"
        assert params == sent


@pytest.mark.parametrize("by_type", [True, False], ids=["by-type", "list"])
def test_cohere_on_bedrock(by_type: bool, fault_server: FaultServer) -> None:
    vectors = [[0.5, 1.0], [2.0, 3.0]]
    answer = {"id": "1", "embeddings": {"float": vectors} if by_type else vectors, "texts": ["a", "b"]}
    fault_server.default = status(200, answer, [("X-Amzn-Bedrock-Input-Token-Count", "4")])
    found = embed(fault_server, f"bedrock/{COHERE}", ["a", "b"], input_type="query", dimensions=512)
    assert (found.embeddings, found.usage.input_tokens) == (vectors, 4)
    (seen,) = fault_server.requests
    assert seen.json == {
        "texts": ["a", "b"],
        "input_type": "search_query",
        "output_dimension": 512,
        "embedding_types": ["float"],
    }


@pytest.mark.parametrize(
    ("model", "parameter"),
    [
        ("amazon.titan-embed-text-v1", "dimensions"),
        ("cohere.embed-english-v3", "dimensions"),
        (TITAN, "input_type"),
    ],
)
def test_what_a_model_of_bedrock_does_not_take(model: str, parameter: str, fault_server: FaultServer) -> None:
    value: Any = {"dimensions": 256, "input_type": "query"}[parameter]
    with pytest.raises(UnsupportedParameterError, match=parameter):
        embed(fault_server, f"bedrock/{model}", "a", **{parameter: value})
    assert fault_server.requests == []


def test_a_model_of_an_unknown_form_is_refused(fault_server: FaultServer) -> None:
    with pytest.raises(ConfigurationError, match=r"titan-embed, cohere\.embed, nova.* only, not for 'twelvelabs"):
        embed(fault_server, "bedrock/twelvelabs.marengo-embed-2-7-v1:0", "a")
    assert fault_server.requests == []


@pytest.mark.parametrize(
    ("model", "answer", "match"),
    [
        (TITAN, {"message": "no"}, "no embedding"),
        (NOVA, {"message": "no"}, "no embedding"),
        (NOVA, {"embeddings": []}, "0 vectors"),
        (TITAN, {"embedding": []}, "gave 0 vectors"),
        (COHERE, {"embeddings": {"float": [[1.0], [2.0]]}}, "gave 2 vectors for 1"),
        (COHERE, {"embeddings": "?"}, "no embedding"),
    ],
)
def test_a_wrong_answer_is_refused(model: str, answer: Any, match: str, fault_server: FaultServer) -> None:
    fault_server.default = status(200, answer)
    with pytest.raises(ResponseError, match=match):
        embed(fault_server, f"bedrock/{model}", "a")


@pytest.mark.parametrize("model", [TITAN, COHERE, "arn:aws:bedrock:us-east-1:1:inference-profile/us.cohere.embed-v4:0"])
def test_boto3_asks_the_same_and_signs_what_we_sign(
    model: str, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-0123456789abcdef")
    answer = {"embedding": [0.5], "inputTextTokenCount": 1, "embeddings": {"float": [[0.5]]}}
    fault_server.default = status(200, answer)
    found = embed(fault_server, f"bedrock/{model}", "a", signed=True)
    ours = fault_server.requests[0]
    package = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=fault_server.url,
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )
    body = package.invoke_model(modelId=model, body=ours.body, contentType="application/json")["body"].read()
    theirs = fault_server.requests[1]
    assert (ours.path, ours.json) == (theirs.path, theirs.json)
    read = json.loads(body)
    assert found.embeddings == ([read["embedding"]] if model == TITAN else read["embeddings"]["float"])
    told = [seen.header("Authorization") or "" for seen in (ours, theirs)]
    scopes = [line.partition("Credential=")[2].partition(",")[0].partition("/")[2] for line in told]
    assert [scope.split("/")[1:] for scope in scopes] == [["us-east-1", "bedrock", "aws4_request"]] * 2
    assert "AKIDEXAMPLE" in told[0]


# NVIDIA ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given_type", "sent"), [(None, "passage"), ("query", "query"), ("document", "passage")])
def test_nvidia_is_told_what_a_text_is(given_type: str | None, sent: str, fault_server: FaultServer) -> None:
    fault_server.default = status(200, {"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 2}})
    options: dict[str, Any] = {} if given_type is None else {"input_type": given_type}
    found = embed(fault_server, "nvidia/nvidia/nv-embedqa-e5-v5", "a", truncate="END", **options)
    assert (found.embeddings, found.usage.input_tokens) == ([[1.0]], 2)
    (seen,) = fault_server.requests
    assert seen.path == "/nv/v1/embeddings"
    wanted = {"model": "nvidia/nv-embedqa-e5-v5", "input": ["a"], "input_type": sent, "truncate": "END"}
    assert seen.json == wanted


# Perplexity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [None, "float", "base64", "base64_int8"])
def test_perplexity_writes_signed_bytes(encoding: str | None, fault_server: FaultServer) -> None:
    packed = base64.b64encode(bytes([1, 255, 128, 127])).decode()
    fault_server.default = status(200, {"data": [{"index": 0, "embedding": packed}], "usage": {"prompt_tokens": 2}})
    options: dict[str, Any] = {} if encoding is None else {"encoding_format": encoding}
    found = embed(fault_server, "perplexity/pplx-embed-v1-4b", "a", dimensions=4, **options)
    assert found.embeddings == [[1.0, -1.0, -128.0, 127.0]]
    (seen,) = fault_server.requests
    assert seen.path == "/pplx/v1/embeddings"
    wanted = {"model": "pplx-embed-v1-4b", "input": ["a"], "dimensions": 4}
    assert seen.json == wanted | ({} if encoding is None else {"encoding_format": "base64_int8"})


def test_packed_bits_of_perplexity_are_no_vectors(fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError, match="encoding_format='base64_binary' is not known"):
        embed(fault_server, "perplexity/pplx-embed-v1-4b", "a", encoding_format="base64_binary")
    fault_server.default = status(200, {"data": [{"index": 0, "embedding": "%%"}]})
    with pytest.raises(ResponseError, match="no base64 of signed bytes"):
        embed(fault_server, "perplexity/pplx-embed-v1-4b", "a")


@given(st.lists(st.integers(-128, 127), max_size=40))
def test_signed_bytes_are_read_back(numbers: list[int]) -> None:
    packed = base64.b64encode(bytes(number & 0xFF for number in numbers)).decode()
    assert unpacked_int8(packed) == numbers
