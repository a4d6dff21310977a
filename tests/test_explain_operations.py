"""
``llm.explain`` of what is no question, of what is signed, and of what would be fetched: what is shown is what arrives.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.behaviours import status
from support.command import PICTURE
from support.fault_server import FaultServer

from llm_master import (
    Explanation,
    FetchPolicy,
    InvalidRequestError,
    LLMConfig,
    LLMError,
    ModelNotFoundError,
    OperationStream,
    QueryLLM,
    RetryPolicy,
    UnsupportedParameterError,
)
from llm_master.base_provider import row_of
from llm_master.catalogue import load_operations
from llm_master.policy.limits import MemoryLimiter
from llm_master.wire.openai_images import readable

KEY = "explain-key-0123456789abcdef"
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(64)
FIRST: dict[str, Any] = {
    "embed": ["a", "b"],
    "rerank": "which?",
    "moderate": "hm",
    "speak": "Hello.",
    "transcribe": WAV,
}
MORE: dict[str, dict[str, Any]] = {"rerank": {"documents": ["one", "two"]}, "speak": {"voice": "alloy"}}
METHODS = {"embed": "embed", "rerank": "rerank", "speak": "speak", "transcribe": "transcribe", "moderate": "moderate"}
#: A model where only some names are served.
MODELS = {("bedrock", "embed"): "cohere.embed-v4:0"}
SERVED = [
    (provider, name) for provider, facts in sorted(load_operations().items()) for name in facts if name in METHODS
]
DRAWN = [("openai", "gpt-image-2"), ("azure", "gpt-image-1"), ("recraft", "recraftv4_1"), ("xai", "grok-imagine-image")]
JOBS = [("bfl", "flux-pro-1.1"), ("replicate", "owner/name"), ("fal", "fal-ai/flux/dev")]

pytestmark = pytest.mark.usefixtures("nothing_set")


def client(name: str, server: FaultServer | None = None, *, keyed: bool = True, **options: Any) -> QueryLLM:
    keys: dict[str, Any] = {row_of(name).api_key_attr or "": KEY} if keyed else {}
    config = LLMConfig(**keys, base_urls={} if server is None else {name: server.url + "/base/v1"})
    return QueryLLM(config, retry=RetryPolicy(max_attempts=1), limiter=MemoryLimiter(), **options)


def shown_is_sent(server: FaultServer, found: Explanation, *, secrets: tuple[str, ...] = (KEY,)) -> Any:
    """Hold the one request that arrived against its explanation."""
    (seen,) = server.requests
    assert found.url == server.url + seen.path
    body = readable(seen.body) if seen.body.startswith(b"--") else seen.body
    assert found.body == msgspec.json.decode(body)
    real = {name.lower(): value for name, value in seen.headers if name.lower() not in ("host", "content-length")}
    assert {header.lower() for header in found.headers} == real.keys()
    for header, value in found.headers.items():
        got = real[header.lower()]
        if "***" in value:
            assert got.startswith(value.partition("***")[0])
        else:
            assert got.partition("; boundary=")[0] == value
    told = str(found) + json.dumps(found.to_dict())
    assert not [secret for secret in secrets if secret in told]
    return seen


def both(llm: QueryLLM, call: str, model: str, first: Any, **kwargs: Any) -> Explanation:
    """The explanation, and then the call itself, of whose answer nothing is wanted."""

    async def main() -> Explanation:
        async with llm:
            found = llm.explain(model, first, call=call, **kwargs)
            with contextlib.suppress(LLMError):
                method = getattr(llm, call)
                answer = await (
                    method(first, model_name=model, **kwargs) if call == "moderate" else method(model, first, **kwargs)
                )
                if isinstance(answer, OperationStream):
                    await answer.whole()
            return found

    return asyncio.run(main())


# Beside chat ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "name"), [pair for pair in SERVED if pair[0] != "local"])
def test_what_is_explained_is_what_arrives(provider: str, name: str, fault_server: FaultServer) -> None:
    fault_server.default = status(400)
    model = f"{provider}/{MODELS.get((provider, name), 'some-model')}"
    first = "a" if (provider, name) == ("vertex", "embed") else FIRST[name]
    found = both(client(provider, fault_server), name, model, first, **MORE.get(name, {}))
    assert found.sendable
    assert found.first.family is not None
    shown_is_sent(fault_server, found)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("provider", "name"), SERVED)
def test_every_row_is_explained_without_key_or_address(provider: str, name: str) -> None:
    model = "local" if provider == "local" else f"{provider}/{MODELS.get((provider, name), 'some-model')}"
    llm = client(provider, keyed=False)
    found = llm.explain(model, FIRST[name], call=name, **MORE.get(name, {}))
    assert found.body is not None
    assert llm.preview_request(model, FIRST[name], call=name, **MORE.get(name, {})) == found.body
    told = str(found) + json.dumps(found.to_dict())
    assert "missing-" not in told
    if found.sendable:
        assert row_of(provider).key_optional or "each request is signed" in told or row_of(provider).supervisor
    else:
        assert found.findings


PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "dimensions": st.integers(1, 999),
        "input_type": st.sampled_from(["query", "document"]),
        "encoding_format": st.sampled_from(["float", "base64"]),
        "user": st.just("someone"),
        "extra_headers": st.just({"X-Team": "a", "X-Own-Token": "hush-hush-0000"}),
    },
)
EMBEDDERS = ["openai/e", "voyage/e", "cohere/e", "gemini/e", "mistral/e", "nvidia/e", "perplexity/pplx-e"]
EMBEDDERS += ["bedrock/amazon.titan-embed-text-v2:0", "bedrock/cohere.embed-v4:0"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=st.sampled_from(EMBEDDERS), params=PARAMS)
def test_any_parameters_of_vectors(fault_server: FaultServer, model: str, params: dict[str, Any]) -> None:
    fault_server.default = status(400)
    fault_server.requests.clear()
    found = both(client(model.partition("/")[0], fault_server), "embed", model, "a", **params)
    if found.sendable:
        shown_is_sent(fault_server, found, secrets=(KEY, "hush-hush-0000"))
    else:
        assert fault_server.requests == []
        assert found.findings


def test_the_property_above_sees_both_ends() -> None:
    refused = client("gemini").explain("gemini/e", "a", call="embed", encoding_format="float")
    assert not refused.sendable
    assert "encoding_format" in refused.findings[0]
    with pytest.raises(UnsupportedParameterError):
        client("gemini").preview_request("gemini/e", "a", call="embed", encoding_format="float")
    assert client("gemini").explain("gemini/e", "a", call="embed", dimensions=3).sendable


def test_what_became_of_a_parameter_is_told() -> None:
    found = client("cohere").explain("cohere/embed-v4.0", "a", call="embed", dimensions=8, input_type="query")
    changes = {each.given: (each.how, each.sent) for each in found.first.changes}
    assert changes["dimensions"] == ("renamed", ("output_dimension",))
    assert changes["input_type"] == ("changed", ("input_type",))
    added = client("nvidia").explain("nvidia/e", "a", call="embed").first.changes
    assert [(each.given, each.sent) for each in added] == [(None, ("input_type",))]


def test_many_texts_are_several_requests_and_the_first_is_shown() -> None:
    found = client("cohere").explain("cohere/embed-v4.0", ["a"] * 200, call="embed")
    assert len(found.body["texts"]) == 96
    assert "200 texts go to cohere in 3 requests; the first is shown" in found.findings


@pytest.mark.parametrize("call", ["speak", "transcribe"])
def test_a_streamed_call_shows_what_asks_for_the_stream(call: str, fault_server: FaultServer) -> None:
    fault_server.default = status(400)
    found = both(
        client("mistral", fault_server), call, "mistral/voxtral", FIRST[call], stream=True, **MORE.get(call, {})
    )
    assert found.stream
    assert found.body["stream"] in (True, "true")
    shown_is_sent(fault_server, found)
    refused = client("groq").explain("groq/whisper-large-v3", WAV, call="transcribe", stream=True)
    assert not refused.sendable
    assert "as a whole" in refused.findings[0]


def test_a_recording_is_told_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    path.write_bytes(WAV)
    found = client("openai").explain(
        "openai/whisper-1", path, call="transcribe", timestamp_granularities=["word", "segment"]
    )
    assert found.body == {
        "model": "whisper-1",
        "timestamp_granularities[]": ["word", "segment"],
        "file": f"audio/wav, {len(WAV)} bytes",
    }
    assert found.headers["Content-Type"] == "multipart/form-data"
    assert any("no bound" in finding for finding in found.findings)


def test_vectors_have_a_bound_of_their_cost() -> None:
    found = client("openai").explain("text-embedding-3-small", "a " * 500, call="embed")
    assert found.cost_bound is not None
    assert found.first.output_tokens == 0


def test_fallbacks_are_explained_with_their_own_parameters() -> None:
    llm = client("openai", keyed=True)
    found = llm.explain(
        "openai/tts-1", "Hi", call="speak", voice="alloy", format="wav",
        fallback_model="groq/orpheus", fallback_config={"voice": "autumn", "response_format": "mp3"},
    )  # fmt: skip
    bodies = [step.deployments[0].body for step in found.steps]
    assert [(body["voice"], body["response_format"]) for body in bodies] == [("alloy", "wav"), ("autumn", "mp3")]


@pytest.mark.parametrize(
    ("call", "args", "kwargs", "match"),
    [
        ("draw", ("m", "x"), {}, "give query or embed, rerank"),
        ("speak", ("openai/tts-1", "Hi"), {}, "voice"),
        ("embed", (None, "Hi"), {}, "needs the name of a model"),
        ("embed", ("openai/e", []), {}, "not empty"),
        ("rerank", ("cohere/r", "q"), {"documents": "one text"}, "is one text"),
        ("transcribe", ("openai/w", b"nothing known"), {}, "no known format"),
    ],
)
def test_bad_input_is_refused_as_by_the_call(call: str, args: Any, kwargs: Any, match: str) -> None:
    with pytest.raises(InvalidRequestError, match=match):
        client("openai").explain(*args, call=call, **kwargs)


def test_a_provider_without_the_operation_and_an_unknown_model() -> None:
    found = client("anthropic").explain("anthropic/claude-sonnet-5-5", "a", call="embed")
    assert not found.sendable
    assert "serves no embeddings" in found.findings[0]
    with pytest.raises(ModelNotFoundError):
        client("openai").explain("nothing-of-the-kind", "a", call="embed")


# Images ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "model"), [*DRAWN, *JOBS])
def test_a_drawing_is_explained_as_it_is_sent(provider: str, model: str, fault_server: FaultServer) -> None:
    fault_server.default = status(400)
    llm = client(provider, fault_server)

    async def main() -> Explanation:
        async with llm:
            found = llm.explain(f"{provider}/{model}", "a red cube")
            with contextlib.suppress(LLMError):
                await llm.query(f"{provider}/{model}", "a red cube")
            return found

    shown_is_sent(fault_server, asyncio.run(main()))


# Signed ---------------------------------------------------------------------------------------------------------------

CLAUDE = "bedrock/anthropic.claude-3-haiku-20240307-v1:0"
SECRETS = ("secret-key-0123456789", "session-token-0123456789")


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("call", ["query", "embed"])
def test_the_headers_of_a_signature_are_shown_masked(
    call: str, token: bool, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS[0])
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", SECRETS[1])
    fault_server.default = status(400)
    model = CLAUDE if call == "query" else "bedrock/amazon.titan-embed-text-v2:0"
    found = both(client("bedrock", fault_server, keyed=False), call, model, "Hi")
    seen = shown_is_sent(fault_server, found, secrets=("AKIDEXAMPLE", *SECRETS))
    assert ("X-Amz-Security-Token" in found.headers) is token
    shown, sent = found.headers["Authorization"], seen.header("Authorization") or ""
    assert shown.startswith("AWS4-HMAC-SHA256 Credential=***")
    assert shown.endswith("Signature=***")
    signed = shown.partition("SignedHeaders=")[2].partition(",")[0]
    assert f"SignedHeaders={signed}," in sent
    assert {"content-type", "host", "x-amz-date"} <= set(signed.split(";"))


@pytest.mark.usefixtures("no_network")
def test_a_signature_that_needs_credentials_says_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    found = client("bedrock", keyed=False).explain(CLAUDE, "Hi")
    (said,) = [finding for finding in found.findings if "signed" in finding]
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said
    assert "AWS_BEARER_TOKEN_BEDROCK" in said
    assert "Authorization" not in found.headers
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AKIDFILE\naws_secret_access_key = file-secret\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    from_file = client("bedrock", keyed=False).explain(CLAUDE, "Hi")
    assert "Credential=***" in from_file.headers["Authorization"]
    assert "file-secret" not in str(from_file)


@pytest.mark.usefixtures("no_network")
def test_a_token_of_google_is_named_before_it_is_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    found = client("vertex", keyed=False).explain("vertex/gemini-2.5-flash", "Hi")
    assert found.headers["Authorization"] == "Bearer ***"
    assert any("VERTEX_ACCESS_TOKEN is not set" in finding for finding in found.findings)


# Fetched --------------------------------------------------------------------------------------------------------------


def looking_at(*urls: str) -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}]


@pytest.mark.parametrize(
    ("model", "by_itself"), [("gemini/gemini-2.5-flash", True), (CLAUDE, False), ("ollama/llava", False)]
)
def test_what_would_be_fetched_is_told_and_the_rest_is_what_arrives(
    model: str, by_itself: bool, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    name = model.partition("/")[0]
    fault_server.default = status(400)
    fault_server.route("/one.png", [status(200, PICTURE, content_type="image/png")])
    fault_server.route("/two.png", [status(200, PICTURE, content_type="image/png")])
    one, two = fault_server.url + "/one.png?signature=hush-hush-0000", fault_server.url + "/two.png"
    policy = FetchPolicy(allow_http=True, allow_private=True)
    llm = client(name, fault_server, fetch=policy)
    messages = looking_at(one, two)

    async def main() -> Explanation:
        async with llm:
            found = llm.explain(model, messages)
            assert fault_server.requests == []
            with contextlib.suppress(LLMError):
                await llm.query(model, messages)
            return found

    found = asyncio.run(main())
    assert found.sendable
    sent = fault_server.requests.pop()
    fetched = {seen.path.partition("?")[0] for seen in fault_server.requests}
    if by_itself:
        assert fetched == set()
        assert found.body == sent.json
        return
    assert fetched == {"/one.png", "/two.png"}
    data = base64.b64encode(PICTURE).decode()
    text = json.dumps(found.body)
    for url in (one, two):
        text = text.replace(f"{{fetched from {url.partition('?')[0]}}}", data)
        assert any(f"{url.partition('?')[0]} would be fetched" in finding for finding in found.findings)
    assert json.loads(text) == sent.json
    assert "hush-hush-0000" not in str(found) + json.dumps(found.to_dict())


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("http://example.org/a.png", "only https"),
        ("https://127.0.0.1/a.png", "loopback"),
        ("https://169.254.169.254/latest", "link-local"),
        ("https://user:pw@example.org/a.png", "user name"),
    ],
)
def test_what_must_not_be_fetched_is_refused_in_the_same_words(url: str, match: str) -> None:
    found = client("ollama").explain("ollama/llava", looking_at(url))
    assert not found.sendable
    assert match in found.findings[0]
    with pytest.raises(InvalidRequestError, match=match):
        client("ollama").preview_request("ollama/llava", looking_at(url))


@pytest.mark.usefixtures("no_network")
def test_more_addresses_than_are_fetched_are_refused() -> None:
    llm = client("ollama", fetch=FetchPolicy(max_urls=1))
    assert llm.explain("ollama/llava", looking_at("https://a.example/1.png")).sendable
    found = llm.explain("ollama/llava", looking_at("https://a.example/1.png", "https://a.example/2.png"))
    assert "too many addresses" in found.findings[0]
