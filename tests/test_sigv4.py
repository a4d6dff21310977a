"""
Requests signed for AWS: what the vendor's own client would send, and what an independent check accepts.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import boto3
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from support.behaviours import status
from support.fault_server import FaultServer
from yarl import URL

from llm_master import LLMConfig, PermissionDeniedError, QueryLLM, RetryPolicy
from llm_master.base_provider import row_of
from llm_master.errors import ConfigurationError, MissingKeyError
from llm_master.sigv4 import SigV4Signer, from_config, region_of
from llm_master.wire import bedrock as family

KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "FwoGZXIvYXdzEXAMPLE=="
MODEL = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0"
JSON = {"Content-Type": "application/json"}


def signer(**fields: Any) -> SigV4Signer:
    return SigV4Signer("eu-west-1", **{"access_key": KEY, "secret_key": SECRET, **fields})


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of whoever runs the tests, and no search of the network for some."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


# A second implementation of the signature, from its description
# (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).


def expected_signature(method: str, url: str, headers: dict[str, str], body: bytes, authorization: str) -> str:
    fields = dict(part.strip().split("=", 1) for part in authorization.partition(" ")[2].split(","))
    _, date, region, service, _ = fields["Credential"].split("/")
    parts = urlsplit(url)
    lower = {name.lower(): value for name, value in headers.items()} | {"host": parts.netloc}
    names = fields["SignedHeaders"].split(";")
    canonical = [
        method,
        quote(parts.path, safe="/~-._"),
        parts.query,
        *(f"{name}:{lower[name].strip()}" for name in names),
        "",
        fields["SignedHeaders"],
        hashlib.sha256(body).hexdigest(),
    ]
    scope = f"{date}/{region}/{service}/aws4_request"
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    to_sign = "\n".join(["AWS4-HMAC-SHA256", lower["x-amz-date"], scope, digest])
    key = f"AWS4{SECRET}".encode()
    for word in (date, region, service, "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    return hmac.new(key, to_sign.encode(), "sha256").hexdigest()


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("body", [b"", b'{"messages":[]}', "Zürich".encode()])
def test_a_signature_is_what_its_description_says(body: bytes, token: str | None) -> None:
    url = "https://bedrock-runtime.eu-west-1.amazonaws.com" + family.path(MODEL, True)
    added = signer(session_token=token).sign("POST", url, JSON, body)
    authorization = added["Authorization"]
    assert authorization.startswith(f"AWS4-HMAC-SHA256 Credential={KEY}/")
    assert "/eu-west-1/bedrock/aws4_request" in authorization
    assert authorization.endswith(expected_signature("POST", url, {**JSON, **added}, body, authorization))
    assert added.get("X-Amz-Security-Token") == token
    assert {"content-type", "host", "x-amz-date"} <= set(
        authorization.split("SignedHeaders=")[1].split(",")[0].split(";")
    )
    assert not {name.lower() for name in added} & {"content-type", "host", "content-length"}


def test_another_body_has_another_signature() -> None:
    url = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/x/converse"
    one, two = (signer().sign("POST", url, JSON, body)["Authorization"] for body in (b"{}", b"{ }"))
    assert one.rpartition("=")[2] != two.rpartition("=")[2]


def test_the_vendors_client_signs_alike(fault_server: FaultServer) -> None:
    fault_server.script([status(200, b'{"output": {"message": {"role": "assistant", "content": []}}}')])
    client = boto3.client(
        "bedrock-runtime",
        region_name="eu-west-1",
        endpoint_url=fault_server.url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 0}),
    )
    client.converse(modelId=MODEL, messages=[{"role": "user", "content": [{"text": "Hi"}]}])
    client.close()
    seen = fault_server.requests[-1]
    headers = dict(seen.headers)
    url = fault_server.url + family.path(MODEL, False)
    assert seen.path == family.path(MODEL, False)
    theirs = next(value for name, value in headers.items() if name.lower() == "authorization")
    # Their signature is what our second implementation expects, and so is ours.
    assert theirs.endswith(expected_signature("POST", url, headers, seen.body, theirs))
    added = signer().sign("POST", url, JSON, seen.body)
    assert added["Authorization"].endswith(
        expected_signature("POST", url, {**JSON, **added}, seen.body, added["Authorization"])
    )


def test_what_is_signed_is_what_arrives(fault_server: FaultServer) -> None:
    fault_server.script([status(200, b"{}")])
    url, body = fault_server.url + family.path(MODEL, False), json.dumps({"messages": ["ü"]}).encode()
    signed = signer()

    async def send() -> None:
        if not signed.fresh:
            await asyncio.to_thread(signed.refresh)
        headers = {**JSON, "User-Agent": "x", **signed.sign("POST", url, JSON, body)}
        async with (
            aiohttp.ClientSession() as session,
            session.post(URL(url, encoded=True), data=body, headers=headers) as answer,
        ):
            assert answer.status == 200

    asyncio.run(send())
    seen = fault_server.requests[-1]
    headers = dict(seen.headers)
    authorization = headers["Authorization"]
    assert authorization.endswith(expected_signature("POST", url, headers, seen.body, authorization))


# Credentials ------------------------------------------------------------------------------------------------------


def test_given_credentials_wait_for_nothing() -> None:
    found = signer(session_token=TOKEN)
    assert found.fresh
    assert (found.access_key, found.secrets) == (KEY, (SECRET, TOKEN))
    assert SECRET not in repr(found)


def test_credentials_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    found = SigV4Signer("us-east-1")
    assert (found.fresh, found.access_key, found.secrets) == (False, None, ())
    found.refresh()
    assert (found.fresh, found.access_key, found.secrets) == (True, KEY, (SECRET,))


def test_credentials_of_a_profile(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(f"[work]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n")
    found = SigV4Signer("us-east-1", profile="work")
    assert f"Credential={KEY}/" in found.sign("POST", "https://x/y", JSON, b"")["Authorization"]
    assert found.access_key == KEY


def test_no_credentials_say_what_to_set() -> None:
    with pytest.raises(MissingKeyError, match="AWS_BEARER_TOKEN_BEDROCK"):
        SigV4Signer("us-east-1").sign("POST", "https://x/y", {}, b"")


def test_an_unknown_profile_is_a_mistake_of_set_up() -> None:
    with pytest.raises(ConfigurationError, match="nobody") as caught:
        SigV4Signer("us-east-1", profile="nobody").refresh()
    assert "AWS_PROFILE" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"), [("access_key", "AWS_SECRET_ACCESS_KEY"), ("secret_key", "AWS_ACCESS_KEY_ID")]
)
def test_half_a_credential_is_a_mistake_of_set_up(given: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        SigV4Signer("us-east-1", **{given: "x"})


def test_a_region_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="AWS_REGION"):
        SigV4Signer("")


def test_credentials_that_run_out_are_asked_for_again() -> None:
    asked: list[str] = []

    def again() -> dict[str, str]:
        asked.append("again")
        later = datetime.now(UTC) + timedelta(hours=1)
        return {"access_key": "AKIDNEW", "secret_key": SECRET, "token": TOKEN, "expiry_time": later.isoformat()}

    found = signer()
    found._credentials = RefreshableCredentials(KEY, SECRET, TOKEN, datetime.now(UTC), again, "test")
    assert (found.fresh, found.access_key, found.secrets) == (False, None, ())
    found.refresh()
    assert (found.fresh, found.access_key, asked) == (True, "AKIDNEW", ["again"])


def test_credentials_that_cannot_be_renewed_are_told() -> None:
    found = signer()
    found._credentials = RefreshableCredentials(KEY, SECRET, TOKEN, datetime.now(UTC), dict, "test")
    with pytest.raises(ConfigurationError, match="log in again"):
        found.refresh()


def test_without_the_extra_the_error_says_how_to_install_it() -> None:
    program = (
        "import sys\n"
        "sys.modules['botocore'] = None\n"
        "from llm_master.sigv4 import SigV4Signer\n"
        "from llm_master.errors import ConfigurationError\n"
        "try:\n"
        "    SigV4Signer('us-east-1', access_key='a', secret_key='b')\n"
        "except ConfigurationError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'llm-master[bedrock]'" in done.stdout
    assert "AWS_BEARER_TOKEN_BEDROCK" in done.stdout


def test_importing_it_loads_nothing_heavy() -> None:
    program = "import sys, llm_master.sigv4\nprint([m for m in sys.modules if m.startswith('botocore')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://bedrock-runtime.us-east-1.amazonaws.com", "us-east-1"),
        ("https://bedrock-runtime.us-gov-west-1.amazonaws.com/model/x", "us-gov-west-1"),
        ("https://bedrock-runtime-fips.ca-central-1.amazonaws.com", "ca-central-1"),
        ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("https://vpce-0a1-b2.bedrock-runtime.eu-west-3.vpce.amazonaws.com", "eu-west-3"),
        ("https://bedrock-mantle.ap-southeast-2.api.aws/v1", "ap-southeast-2"),
        ("http://127.0.0.1:8000/bedrock.us-east-1.", None),
        ("https://notbedrock.us-east-1.example.com", None),
        ("", None),
    ],
)
def test_the_region_stands_in_the_address(url: str, region: str | None) -> None:
    assert region_of(url) == region


# Through a client -------------------------------------------------------------------------------------------------

ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
}
ASKED = "bedrock/" + MODEL


def ask(server: FaultServer, *, stream: bool = False) -> Any:
    async def main() -> Any:
        config = LLMConfig(base_urls={"bedrock": server.url})
        async with QueryLLM(config, retry=RetryPolicy(max_attempts=2, base_delay=0.001)) as llm:
            found = await llm.query(ASKED, "Hi", stream=stream)
            return [text async for text in found] if stream else found

    return asyncio.run(main())


@pytest.fixture
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_SESSION_TOKEN", TOKEN)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")


@pytest.mark.usefixtures("_keys")
def test_each_attempt_of_a_call_is_signed_anew(fault_server: FaultServer) -> None:
    fault_server.script([status(503, {"message": "busy"}), status(200, ANSWER)])
    found = ask(fault_server)
    assert (found.content, found.usage.input_tokens) == ("Hello.", 3)
    assert len(fault_server.requests) == 2
    for seen in fault_server.requests:
        headers = dict(seen.headers)
        authorization = headers["Authorization"]
        assert "/eu-west-1/bedrock/aws4_request" in authorization
        assert headers["X-Amz-Security-Token"] == TOKEN
        url = fault_server.url + family.path(MODEL, False)
        assert authorization.endswith(expected_signature("POST", url, headers, seen.body, authorization))


@pytest.mark.usefixtures("_keys")
def test_a_streamed_call_is_signed_for_its_own_address(fault_server: FaultServer) -> None:
    fault_server.default = status(403, {"message": f"{SECRET} {TOKEN} is not authorized"})
    with pytest.raises(PermissionDeniedError) as caught:
        ask(fault_server, stream=True)
    seen = fault_server.requests[0]
    headers = dict(seen.headers)
    assert seen.path == family.path(MODEL, True)
    url = fault_server.url + seen.path
    assert headers["Authorization"].endswith(
        expected_signature("POST", url, headers, seen.body, headers["Authorization"])
    )
    assert SECRET not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_without_any_credentials_nothing_is_sent(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with pytest.raises(MissingKeyError, match="AWS_BEARER_TOKEN_BEDROCK"):
        ask(fault_server)
    assert fault_server.requests == []


@pytest.mark.usefixtures("_keys")
def test_a_bearer_key_goes_before_a_signature(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-0123456789")
    fault_server.default = status(200, ANSWER)
    ask(fault_server)
    assert dict(fault_server.requests[0].headers)["Authorization"] == "Bearer bedrock-api-key-0123456789"


@pytest.mark.parametrize(
    ("api", "service"), [("bedrock", "bedrock"), ("openai_chat", "bedrock"), ("anthropic_messages", "bedrock-mantle")]
)
@pytest.mark.usefixtures("_keys")
def test_the_service_that_is_signed_for(api: str, service: str) -> None:
    row = row_of("bedrock")
    found = from_config(row, api, "https://proxy.example/x", LLMConfig())
    assert repr(found) == f"SigV4Signer('eu-west-1', service={service!r})"
