"""
Deployments of Azure that draw, speak, listen and embed: by the v1 address, and by the older one of each deployment.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import openai
import pytest
from support.behaviours import status
from support.fault_server import FaultServer
from support.pictures import PNG, PNG64
from support.sound_pieces import bare

from llm_master import ConfigurationError, InvalidRequestError, LLMConfig, NotFoundError, QueryLLM, RetryPolicy
from llm_master.policy.limits import MemoryLimiter

KEY = "azure-key-0123456789"
VERSION = "2025-04-01-preview"
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(64)
OLD = "/openai/deployments/{model}/chat/completions?api-version=" + VERSION
DRAWN = {"created": 1, "data": [{"b64_json": PNG64}], "usage": {"input_tokens": 5, "output_tokens": 9}}
BLUE = [{"role": "user", "content": [{"type": "text", "text": "make it blue"}, {"type": "image", "data": PNG}]}]


def client(server: FaultServer, address: str | None = None) -> QueryLLM:
    """A client of the v1 address, or of an older one."""
    base = {"base_urls": {"azure": server.url}} if address is None else {"api_urls": {"azure": server.url + address}}
    config = LLMConfig(azure_api_key=KEY, **base)  # type: ignore[arg-type]  # one of the two
    return QueryLLM(config, retry=RetryPolicy(max_attempts=1), limiter=MemoryLimiter())


def ask(llm: QueryLLM, method: str, *args: Any, **kwargs: Any) -> Any:
    async def main() -> Any:
        async with llm:
            return await getattr(llm, method)(*args, **kwargs)

    return asyncio.run(main())


def package(server: FaultServer, *, old: bool) -> openai.OpenAI:
    if old:
        return openai.AzureOpenAI(api_key=KEY, azure_endpoint=server.url, api_version=VERSION, max_retries=0)
    return openai.OpenAI(api_key=KEY, base_url=server.url + "/openai/v1", max_retries=0)


@pytest.mark.parametrize("old", [False, True], ids=["v1", "older"])
def test_a_drawing_is_that_of_the_package(old: bool, fault_server: FaultServer) -> None:
    fault_server.default = status(200, DRAWN)
    found = ask(client(fault_server, OLD if old else None), "query", "azure/gpt-image-1", "a cube", size="1024x1024")
    with package(fault_server, old=old) as judge:
        theirs = judge.images.generate(model="gpt-image-1", prompt="a cube", size="1024x1024")
    assert theirs.data is not None
    assert theirs.data[0].b64_json is not None
    assert [image.data for image in found.images] == [base64.b64decode(theirs.data[0].b64_json)]
    one, two = fault_server.requests
    assert (one.path, one.json) == (two.path, two.json)
    assert one.header("api-key") == KEY
    assert one.header("Authorization") is None


@pytest.mark.parametrize("old", [False, True], ids=["v1", "older"])
def test_a_changed_picture_goes_to_the_edits(old: bool, fault_server: FaultServer) -> None:
    fault_server.default = status(200, DRAWN)
    ask(client(fault_server, OLD if old else None), "query", "azure/gpt-image-1", BLUE)
    with package(fault_server, old=old) as judge:
        judge.images.edit(model="gpt-image-1", prompt="make it blue", image=("image1.png", PNG, "image/png"))
    one, two = fault_server.requests
    if old:
        # The package sends a form to no deployment's path; the documented one is asked here.
        assert one.path == f"/openai/deployments/gpt-image-1/images/edits?api-version={VERSION}"
    else:
        assert one.path == two.path == "/openai/v1/images/edits"
    assert (one.header("Content-Type") or "").startswith("multipart/form-data; boundary=")
    assert PNG in one.body


def test_a_deployment_of_any_name_draws_when_it_is_told_to(fault_server: FaultServer) -> None:
    fault_server.default = status(200, DRAWN)
    ask(client(fault_server), "query", "azure/my-pencil", "a cube", api="images")
    (seen,) = fault_server.requests
    assert (seen.path, seen.json) == ("/openai/v1/images/generations", {"model": "my-pencil", "prompt": "a cube"})


def test_an_address_of_the_images_themselves_is_used_as_it_is(fault_server: FaultServer) -> None:
    fault_server.default = status(200, DRAWN)
    address = f"/openai/deployments/pencil/images/generations?api-version={VERSION}"
    ask(client(fault_server, address), "query", "azure/gpt-image-1", "a cube")
    ask(client(fault_server, address), "query", "azure/gpt-image-1", BLUE)
    assert [seen.path for seen in fault_server.requests] == [address, address.replace("generations", "edits")]
    with pytest.raises(ConfigurationError, match="give a base URL"):
        ask(client(fault_server, "/draw"), "query", "azure/gpt-image-1", BLUE)


def test_a_refused_drawing_is_typed(fault_server: FaultServer) -> None:
    error = {"error": {"code": "contentFilter", "message": "Your task failed as a result of our safety system."}}
    fault_server.default = status(400, error)
    from llm_master import ContentPolicyError

    with pytest.raises(ContentPolicyError, match="safety"):
        ask(client(fault_server), "query", "azure/gpt-image-1", "something")


@pytest.mark.parametrize("old", [False, True], ids=["v1", "older"])
def test_speech_is_that_of_the_package(old: bool, fault_server: FaultServer) -> None:
    fault_server.default = bare([b"ID3\x04", b"sound"])
    found = ask(client(fault_server, OLD if old else None), "speak", "azure/gpt-4o-mini-tts", "Hi.", voice="alloy")
    with package(fault_server, old=old) as judge:
        theirs = judge.audio.speech.create(model="gpt-4o-mini-tts", input="Hi.", voice="alloy").read()
    assert found.audio == theirs == b"ID3\x04sound"
    one, two = fault_server.requests
    assert (one.path, one.json) == (two.path, two.json)


@pytest.mark.parametrize("old", [False, True], ids=["v1", "older"])
def test_transcripts_go_to_the_deployment(old: bool, fault_server: FaultServer) -> None:
    from test_modalities import parts_of

    fault_server.default = status(200, {"text": "Hi."})
    found = ask(client(fault_server, OLD if old else None), "transcribe", "azure/whisper", WAV, language="en")
    with package(fault_server, old=old) as judge:
        theirs = judge.audio.transcriptions.create(model="whisper", file=("audio.wav", WAV), language="en")
    assert found.text == theirs.text == "Hi."
    one, two = fault_server.requests
    forms = [parts_of(seen) for seen in (one, two)]
    assert [form.pop("file")[2] for form in forms] == [WAV, WAV]
    assert forms[0] == forms[1]
    if old:
        assert one.path == f"/openai/deployments/whisper/audio/transcriptions?api-version={VERSION}"
    else:
        assert one.path == two.path


@pytest.mark.parametrize("old", [False, True], ids=["v1", "older"])
def test_embeddings_go_to_the_deployment(old: bool, fault_server: FaultServer) -> None:
    fault_server.default = status(200, {"data": [{"index": 0, "embedding": [1.0]}], "model": "m"})
    assert ask(client(fault_server, OLD if old else None), "embed", "azure/ada", "a").embeddings == [[1.0]]
    (seen,) = fault_server.requests
    wanted = f"/openai/deployments/ada/embeddings?api-version={VERSION}" if old else "/openai/v1/embeddings"
    assert seen.path == wanted


def test_an_address_of_the_speech_itself_is_used_as_it_is(fault_server: FaultServer) -> None:
    fault_server.default = bare([b"ID3\x04"])
    address = f"/openai/deployments/voice/audio/speech?api-version={VERSION}"
    assert ask(client(fault_server, address), "speak", "azure/tts", "Hi.", voice="alloy").audio == b"ID3\x04"
    assert fault_server.requests[0].path == address


def test_a_recording_is_held_to_azures_size(fault_server: FaultServer) -> None:
    from llm_master import UnsupportedParameterError

    with pytest.raises((UnsupportedParameterError, InvalidRequestError), match="25 MiB"):
        ask(client(fault_server), "transcribe", "azure/whisper", WAV + bytes(26_214_400))
    assert fault_server.requests == []


# Imagen ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["gemini", "vertex"])
def test_imagen_is_said_to_be_gone(provider: str, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTEX_ACCESS_TOKEN", "ya29-0123456789")
    message = "models/imagen-4.0-generate-001 is no longer available"
    fault_server.default = status(404, {"error": {"code": 404, "message": message, "status": "NOT_FOUND"}})
    config = LLMConfig(gemini_api_key=KEY, base_urls={provider: fault_server.url + "/v1beta"})
    llm = QueryLLM(config, retry=RetryPolicy(max_attempts=1), limiter=MemoryLimiter())
    with pytest.raises(NotFoundError, match=r"retired .*on 2026-08-17; it names gemini-nano-banana-2\.1 instead"):
        ask(llm, "query", f"{provider}/imagen-4.0-generate-001", "a cube")
    said = llm.explain(f"{provider}/imagen-4.0-generate-001", "a cube").findings
    assert any("2026-08-17" in finding for finding in said)
