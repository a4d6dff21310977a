"""
Google's tokens: found where every Google program finds them, renewed in time, and in no error.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from support.behaviours import status
from support.fault_server import FaultServer

from llm_master import AuthenticationError, ConfigurationError, LLMConfig, MissingKeyError, QueryLLM, RetryPolicy

TOKENS = ("ya29.first-0123456789", "ya29.second-0123456789")
ANSWER = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello."}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
}


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of whoever runs the tests, and no search of the network for some."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "acme")


@pytest.fixture
def token_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A token endpoint, and the file of a service account that names it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with FaultServer() as server:
        account = {
            "type": "service_account",
            "project_id": "acme",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": "robot@acme.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": server.url + "/token",
        }
        file = tmp_path / "account.json"
        file.write_text(json.dumps(account), encoding="utf-8")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        yield server


def granted(token: str, seconds: int) -> Any:
    return status(200, {"access_token": token, "expires_in": seconds, "token_type": "Bearer"})


def ask(server: FaultServer, times: int = 1) -> list[Any]:
    async def main() -> list[Any]:
        config = LLMConfig(base_urls={"vertex": server.url})
        async with QueryLLM(config, retry=RetryPolicy(max_attempts=1)) as llm:
            return [await llm.query("vertex/gemini-3-flash", "Hi") for _ in range(times)]

    return asyncio.run(main())


def test_a_service_account_gives_one_token_for_many_calls(fault_server: FaultServer, token_server: FaultServer) -> None:
    token_server.default = granted(TOKENS[0], 3600)
    fault_server.default = status(200, ANSWER)
    assert [found.content for found in ask(fault_server, 3)] == ["Hello."] * 3
    assert len(token_server.requests) == 1
    assert token_server.requests[0].path == "/token"
    assert {seen.header("authorization") for seen in fault_server.requests} == {f"Bearer {TOKENS[0]}"}


def test_a_token_at_its_end_is_renewed_before_it_is_used(fault_server: FaultServer, token_server: FaultServer) -> None:
    token_server.script([granted(TOKENS[0], 1), granted(TOKENS[1], 3600)])
    fault_server.default = status(200, ANSWER)
    ask(fault_server, 2)
    assert [seen.header("authorization") for seen in fault_server.requests] == [f"Bearer {TOKENS[1]}"] * 2
    assert len(token_server.requests) == 2


def test_a_token_that_is_echoed_is_masked(fault_server: FaultServer, token_server: FaultServer) -> None:
    token_server.default = granted(TOKENS[0], 3600)
    fault_server.default = status(401, {"error": {"code": 401, "message": f"bad {TOKENS[0]}"}})
    with pytest.raises(AuthenticationError) as caught:
        ask(fault_server)
    assert TOKENS[0] not in str(caught.value)
    assert TOKENS[0] not in str(caught.value.body)


def test_a_refusal_of_the_token_says_what_to_do(fault_server: FaultServer, token_server: FaultServer) -> None:
    token_server.default = status(400, {"error": "invalid_grant", "error_description": "no"})
    with pytest.raises(ConfigurationError, match="log in again"):
        ask(fault_server)
    assert fault_server.requests == []


def test_no_credentials_say_what_to_set(fault_server: FaultServer) -> None:
    with pytest.raises(MissingKeyError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        ask(fault_server)
    assert fault_server.requests == []


def test_a_token_of_ones_own_goes_first(
    fault_server: FaultServer, token_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERTEX_ACCESS_TOKEN", "ya29.own-0123456789")
    fault_server.default = status(200, ANSWER)
    ask(fault_server)
    assert fault_server.requests[0].header("authorization") == "Bearer ya29.own-0123456789"
    assert token_server.requests == []
