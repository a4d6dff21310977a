"""
The vendors' own packages as judges: the same bytes come to the same result, and the same question is sent.
"""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

import anthropic
import cohere
import httpx
import openai
import pytest
from google import genai
from google.genai import types
from support.behaviours import status
from support.fault_server import FaultServer

from llm_master import LLMConfig, QueryLLM
from llm_master.policy.limits import MemoryLimiter

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(64)
NAMES = ("openai", "anthropic", "cohere", "gemini")


def ours(server: FaultServer, method: str, *args: Any, **kwargs: Any) -> Any:
    async def main() -> Any:
        keys = {f"{name}_api_key": f"sk-{name}-0123456789" for name in NAMES}
        urls = {"openai": "/v1", "anthropic": "/v1", "cohere": "/v2", "gemini": "/v1beta"}
        config = LLMConfig(**keys, base_urls={name: server.url + path for name, path in urls.items()})
        async with QueryLLM(config, limiter=MemoryLimiter()) as llm:
            return await getattr(llm, method)(*args, **kwargs)

    return asyncio.run(main())


def theirs(server: FaultServer) -> openai.OpenAI:
    return openai.OpenAI(api_key="sk-test", base_url=server.url + "/v1", max_retries=0)


def google(server: FaultServer) -> genai.Client:
    return genai.Client(
        api_key="x",
        http_options=types.HttpOptions(base_url=server.url, api_version="v1beta", client_args={"trust_env": False}),
    )


def same_question(server: FaultServer) -> None:
    first, second = server.requests
    assert first.path == second.path
    assert first.json == second.json


PACKED = base64.b64encode(struct.pack("<3f", 0.5, -2.0, 1e-7)).decode()


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_openai_embeddings(encoding: str, fault_server: FaultServer) -> None:
    vector: Any = PACKED if encoding == "base64" else [0.5, -2.0, 0.25]
    data = [{"object": "embedding", "index": i, "embedding": vector} for i in (0, 1)]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    fault_server.default = status(200, {"object": "list", "data": data, "model": "m", "usage": usage})
    found = ours(fault_server, "embed", "openai/e", ["a", "b"], dimensions=3, encoding_format=encoding)
    with theirs(fault_server) as client:
        # Without encoding_format the package asks for base64 and unpacks it, as we do.
        kwargs: Any = {} if encoding == "base64" else {"encoding_format": encoding}
        judge = client.embeddings.create(model="e", input=["a", "b"], dimensions=3, **kwargs)
    assert found.embeddings == [pytest.approx(each.embedding) for each in judge.data]
    assert found.usage.input_tokens == judge.usage.prompt_tokens
    same_question(fault_server)


def test_openai_moderations(fault_server: FaultServer) -> None:
    categories = {"harassment/threatening": True, "self-harm": False, "illicit": None}
    scores = {"harassment/threatening": 0.9, "self-harm": 0.1}
    result = {"flagged": True, "categories": categories, "category_scores": scores}
    fault_server.default = status(200, {"id": "1", "model": "omni", "results": [result]})
    found = ours(fault_server, "moderate", ["a"])
    with theirs(fault_server) as client:
        judge = client.moderations.create(model="omni-moderation-latest", input=["a"]).results[0]
    assert found.flagged is judge.flagged
    assert found.categories["harassment/threatening"] is judge.categories.harassment_threatening
    assert found.scores["self-harm"] == judge.category_scores.self_harm
    same_question(fault_server)


def test_openai_transcripts(fault_server: FaultServer) -> None:
    segment = {"id": 0, "seek": 0, "start": 0.0, "end": 1.5, "text": "Hi", "tokens": [1], "temperature": 0.0}
    segment |= {"avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.0}
    answer = {"text": "Hi", "language": "english", "duration": 1.5, "segments": [segment]}
    fault_server.default = status(200, {**answer, "words": [{"word": "Hi", "start": 0.0, "end": 1.0}]})
    wanted = {"response_format": "verbose_json", "timestamp_granularities": ["word"], "language": "en"}
    found = ours(fault_server, "transcribe", "openai/whisper-1", WAV, **wanted)
    with theirs(fault_server) as client:
        judge: Any = client.audio.transcriptions.create(model="whisper-1", file=("audio.wav", WAV), **wanted)  # type: ignore[call-overload]  # a dict
    assert (found.text, found.language, found.duration) == (judge.text, judge.language, judge.duration)
    assert [(s.text, s.start, s.end) for s in found.segments] == [(s.text, s.start, s.end) for s in judge.segments]
    assert [(w.word, w.start, w.end) for w in found.words] == [(w.word, w.start, w.end) for w in judge.words]
    from test_modalities import parts_of

    first, second = (parts_of(seen) for seen in fault_server.requests)
    assert {k: v for k, v in first.items() if k != "file"} == {k: v for k, v in second.items() if k != "file"}
    assert (first["file"][0], first["file"][2]) == (second["file"][0], second["file"][2])


def test_openai_speech(fault_server: FaultServer) -> None:
    fault_server.default = status(200, WAV, content_type="audio/wav")
    found = ours(fault_server, "speak", "openai/tts-1", "Hi", voice="alloy", format="wav", speed=1.5)
    with theirs(fault_server) as client:
        judge = client.audio.speech.create(model="tts-1", input="Hi", voice="alloy", response_format="wav", speed=1.5)
        assert found.audio == judge.read()
    same_question(fault_server)


def test_openai_counts(fault_server: FaultServer) -> None:
    fault_server.default = status(200, {"object": "response.input_tokens", "input_tokens": 8})
    found = ours(fault_server, "count_tokens", "gpt-4o", "Hi")
    with theirs(fault_server) as client:
        judge = client.responses.input_tokens.count(model="gpt-4o", input=fault_server.requests[0].json["input"])
    assert found.tokens == judge.input_tokens
    same_question(fault_server)


def test_anthropic_counts(fault_server: FaultServer) -> None:
    fault_server.default = status(200, {"input_tokens": 9})
    messages: Any = [{"role": "user", "content": "Hi"}]
    found = ours(fault_server, "count_tokens", "claude-sonnet-4-5", messages)
    sent = fault_server.requests[0].json
    with anthropic.Anthropic(api_key="sk-ant-test", base_url=fault_server.url, max_retries=0) as client:
        judge = client.messages.count_tokens(**sent)
    assert found.tokens == judge.input_tokens
    same_question(fault_server)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_cohere_embeddings(encoding: Any, fault_server: FaultServer) -> None:
    vector: Any = PACKED if encoding == "base64" else [0.5, -2.0, 0.25]
    meta = {"billed_units": {"input_tokens": 3.0}}
    fault_server.default = status(
        200, {"id": "1", "response_type": "embeddings_by_type", "embeddings": {encoding: [vector]}, "meta": meta}
    )
    found = ours(fault_server, "embed", "embed-v4.0", "a", dimensions=3, encoding_format=encoding, input_type="query")
    with httpx.Client() as http:
        judge = cohere.ClientV2(api_key="x", base_url=fault_server.url, httpx_client=http).embed(
            model="embed-v4.0", texts=["a"], input_type="search_query", output_dimension=3, embedding_types=[encoding]
        )
    packed = judge.embeddings.base64
    judged = judge.embeddings.float_ or [list(struct.unpack("<3f", base64.b64decode(each))) for each in packed or ()]
    assert found.embeddings == judged
    assert found.usage.input_tokens == judge.meta.billed_units.input_tokens  # type: ignore[union-attr]  # set above
    same_question(fault_server)


def test_cohere_ranks_and_counts(fault_server: FaultServer) -> None:
    results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
    fault_server.route("/v2/rerank", [status(200, {"id": "1", "results": results})])
    found = ours(fault_server, "rerank", "cohere/rerank-v3.5", "q", ["a", "b"], top_n=2)
    with httpx.Client() as http:
        client = cohere.ClientV2(api_key="x", base_url=fault_server.url, httpx_client=http)
        judge = client.rerank(model="rerank-v3.5", query="q", documents=["a", "b"], top_n=2)
    assert [(r.index, r.score) for r in found.results] == [(r.index, r.relevance_score) for r in judge.results]
    same_question(fault_server)

    fault_server.requests.clear()
    fault_server.route("/v1/tokenize", [status(200, {"tokens": [5, 6, 7], "token_strings": ["a", "b", "c"]})])
    counted = ours(fault_server, "count_tokens", "command-a-03-2025", "Hello there")
    with httpx.Client() as http:
        told = cohere.Client(api_key="x", base_url=fault_server.url, httpx_client=http).tokenize(
            text="Hello there", model="command-a-03-2025", offline=False
        )
    assert (counted.tokens, counted.source) == (len(told.tokens), "provider")
    same_question(fault_server)


def test_gemini_embeddings(fault_server: FaultServer) -> None:
    fault_server.default = status(200, {"embeddings": [{"values": [1.0, 2.0]}, {"values": [3.0, 4.0]}]})
    found = ours(fault_server, "embed", "gemini-embedding-001", ["a", "b"], dimensions=2, input_type="query")
    with google(fault_server) as client:
        judge = client.models.embed_content(
            model="gemini-embedding-001",
            contents=["a", "b"],
            config=types.EmbedContentConfig(task_type="RETRIEVAL_QUERY", output_dimensionality=2),
        )
    assert found.embeddings == [each.values for each in judge.embeddings or ()]
    first, second = fault_server.requests
    assert first.path == second.path
    for mine, other in zip(first.json["requests"], second.json["requests"], strict=True):
        assert mine["content"]["parts"] == other["content"]["parts"]
        assert {k: v for k, v in mine.items() if k != "content"} == {k: v for k, v in other.items() if k != "content"}


def test_gemini_counts(fault_server: FaultServer) -> None:
    fault_server.default = status(200, {"totalTokens": 7})
    found = ours(fault_server, "count_tokens", "gemini-2.5-flash", "Hi")
    with google(fault_server) as client:
        judge = client.models.count_tokens(model="gemini-2.5-flash", contents="Hi")
    assert found.tokens == judge.total_tokens
    first, second = fault_server.requests
    assert first.path == second.path
    # The package sends contents alone; system messages and tools can only be counted in a whole request.
    assert first.json["generateContentRequest"]["contents"] == second.json["contents"]
