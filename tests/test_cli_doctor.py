"""
``llm-master doctor``: it finds what is wrong, says so with its exit code, and sends no key.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import http_date, ok, silence, status
from support.command import COMMAND, run, start
from support.fault_server import FaultServer, refused_url
from support.valkey import Valkey

from llm_master.cli.doctor import _in_short
from llm_master.cli.reach import Finding

KEY = "sk-test-0123456789abcdef"

# A throwaway certificate and its key, for 127.0.0.1 until 2126; nobody trusts it and it protects nothing. Made with:
# openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj /CN=localhost \
#     -addext subjectAltName=IP:127.0.0.1
SELF_SIGNED = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgrGplhwKpvmKdRfZ8
7kHhHdJ+oFUQiqUpGJEPPWDwjBChRANCAATNseh/685T4pgh+rnOlJLxJynzgDzg
i8jxqUR1YUp1vuHXBUKA57emZ7S/p7Za9nZ++aFS5oQkc4A0qzud6/JL
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBkDCCATagAwIBAgIUZIGmprvo7cnIM596zbNER4YC2FwwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTA1MTg1NVoYDzIxMjYxMDI4
MDUxODU1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATNseh/685T4pgh+rnOlJLxJynzgDzgi8jxqUR1YUp1vuHXBUKA57em
Z7S/p7Za9nZ++aFS5oQkc4A0qzud6/JLo2QwYjAdBgNVHQ4EFgQU0uMRx4gCIdyU
xmgwFN88TcHBakMwHwYDVR0jBBgwFoAU0uMRx4gCIdyUxmgwFN88TcHBakMwDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0gAMEUC
ICtUBCVCZdK8jVP5hyoq74w2XM5JoTBjo6jFz5wDUVkRAiEA82b2sw1zP6xiltCw
V9sYIu3mhCC9h/w99iI31lhyo7Y=
-----END CERTIFICATE-----
"""


class Found(dict[str, tuple[str, str]]):
    """Check -> (state, detail), with the exit code and stderr."""

    code: int
    err: str


def examined(folder: Path, *arguments: str, **env: str) -> Found:
    """The doctor's findings; ``LOCAL_BASE_URL`` in the environment leaves the embedded model in peace."""
    done = run("doctor", "--json", *arguments, folder=folder, env=env)
    assert "Traceback" not in done.err
    found = Found({each["check"]: (each["state"], each["detail"]) for each in json.loads(done.out)})
    found.code, found.err = done.code, done.err
    return found


@pytest.fixture
def healthy(fault_server) -> dict[str, str]:
    """Two providers at the fault server: OpenAI with a key, and the place of the embedded model."""
    fault_server.route("/v1", [ok("Hello.")])
    fault_server.route("/", [status(404, b"", [("Date", http_date(0))])])
    base = f"{fault_server.url}/v1"
    return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": base, "LOCAL_BASE_URL": base}


def test_all_is_well(healthy, fault_server, tmp_path):
    found = examined(tmp_path, **healthy)
    assert (found.code, found.err) == (0, "")
    assert {check: state for check, (state, _) in found.items() if state != "off"} == {
        "version": "ok",
        "openai set-up": "ok",
        "openai DNS": "ok",
        "openai connection": "ok",
        "local set-up": "ok",
        "local DNS": "ok",
        "local connection": "ok",
        "clock": "ok",
        "embedded model": "ok",
    }
    assert found["anthropic set-up"] == ("off", "set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN")
    assert found["openai connection"][1] == f"127.0.0.1:{fault_server.port} answers"
    assert found["clock"][1].endswith("against 2 providers")


def test_no_key_is_sent_and_nothing_is_asked_of_a_provider(healthy, fault_server, tmp_path):
    del healthy["LOCAL_BASE_URL"]
    done = run("doctor", folder=tmp_path, env=healthy)
    assert [(seen.method, seen.path, seen.body) for seen in fault_server.requests] == [("HEAD", "/", b"")]
    sent = {name.lower(): value for name, value in fault_server.requests[0].headers}
    assert not {"authorization", "x-api-key", "cookie"} & sent.keys()
    assert KEY not in "".join(sent.values())
    assert KEY not in done.out + done.err


def test_in_text_the_unused_providers_share_a_line(healthy, tmp_path):
    done = run("doctor", folder=tmp_path, env=healthy)
    lines = done.out.splitlines()
    assert done.code == 0
    assert [line.split()[0] for line in lines] == ["ok"] * 3 + ["off"] + ["ok"] * 6 + ["off"]
    assert lines[3].split(maxsplit=1)[1].startswith("ledger")
    assert "anthropic, openrouter" in lines[-1]
    assert "llm-master providers" in lines[-1]
    assert "set ANTHROPIC_API_KEY" in run("doctor", "--all", "--offline", folder=tmp_path, env=healthy).out


@pytest.mark.parametrize(("unused", "named"), [(0, None), (15, "p0, p1, "), (17, "p0, p1, ")])
def test_of_very_many_unused_providers_some_are_named(unused, named):
    used = Finding("openai set-up", "ok", "has a key")
    short = _in_short([used, *(Finding(f"p{n} set-up", "off", "set it up") for n in range(unused))])
    assert short[0] == used
    assert len(short) == (2 if unused else 1)
    if named is not None:
        assert short[1].detail.startswith(named)
        assert ("p14, and 2 more (" in short[1].detail) is (unused == 17)
        assert ("p14 (" in short[1].detail) is (unused == 15)


def test_a_port_where_nothing_listens(healthy, tmp_path):
    with refused_url() as dead:
        found = examined(tmp_path, **healthy | {"OPENAI_BASE_URL": f"{dead}/v1"})
    assert found.code == 1
    assert found["openai DNS"][0] == "ok"
    state, detail = found["openai connection"]
    assert state == "bad"
    assert "onnect" in detail
    assert detail.endswith(f"{dead.removeprefix('http://')}: check the address")


def test_a_host_without_an_address(healthy, tmp_path):
    found = examined(tmp_path, **healthy | {"OPENAI_BASE_URL": "https://api.nosuch.invalid/v1"})
    assert found.code == 1
    state, detail = found["openai DNS"]
    assert (state, detail.endswith("api.nosuch.invalid: check the network and the address")) == ("bad", True)
    assert "openai TLS" not in found


def test_a_server_that_says_nothing(healthy, fault_server, tmp_path):
    fault_server.route("/", [silence])
    found = examined(tmp_path, **healthy)
    assert found.code == 1
    assert found["openai connection"][0] == "bad"
    assert found["openai connection"][1].startswith("no answer in 5 s")
    assert found["clock"] == ("off", "no provider told the time to compare with")


@contextlib.contextmanager
def self_signed(folder: Path) -> Iterator[int]:
    """The port of a TLS server with a certificate of its own making."""
    pem = folder / "self-signed.pem"
    pem.write_text(SELF_SIGNED)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                client, _ = listener.accept()
                if over.is_set():
                    client.close()
                    return
                # A client that trusts nobody breaks the handshake off.
                with contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as secure:
                    secure.recv(65536)
                    secure.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            socket.create_connection(listener.getsockname()).close()
            thread.join()


def test_a_certificate_that_nobody_trusts(healthy, tmp_path):
    with self_signed(tmp_path) as port:
        address = {"OPENAI_BASE_URL": f"https://127.0.0.1:{port}/v1"}
        found = examined(tmp_path, **healthy | address)
        trusted = examined(tmp_path, **healthy | address | {"SSL_CERT_FILE": str(tmp_path / "self-signed.pem")})
    assert found.code == 1
    state, detail = found["openai TLS"]
    assert (state, "certificate verify failed" in detail, "SSL_CERT_FILE" in detail) == ("bad", True, True)
    assert (trusted.code, trusted["openai TLS"]) == (0, ("ok", f"127.0.0.1:{port} answers"))


@pytest.mark.parametrize(
    ("ahead", "state", "code"), [(7200, "bad", 1), (-7200, "bad", 1), (150, "warn", 0), (20, "ok", 0)]
)
def test_a_clock_that_is_wrong(healthy, fault_server, tmp_path, ahead, state, code):  # noqa: PLR0917  # fixtures
    async def tell_the_time(x):
        await status(200, b"", [("Date", http_date(ahead))])(x)

    fault_server.route("/", [tell_the_time])
    fault_server.route("/v1", [ok("Hello.")])
    found = examined(tmp_path, **healthy)
    # The date has whole seconds, and the machine may pause between the two readings.
    seconds, _, words = found["clock"][1].partition(" ")
    assert abs(int(seconds) + ahead) <= 15
    assert (found["clock"][0], found.code) == (state, code)
    assert words.startswith("s against 2 providers")
    assert ("set the clock" in found["clock"][1]) is (state != "ok")


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 99:99:99 GMT"])
def test_a_date_that_is_none(healthy, fault_server, tmp_path, date):
    fault_server.route("/", [status(200, b"", [("Date", date)])])
    found = examined(tmp_path, **healthy)
    assert (found.code, found["clock"][0]) == (0, "off")


@pytest.mark.parametrize(
    ("env", "check", "words"),
    [
        ({"OPENAI_API_KEY": "   "}, "openai set-up", "the key of openai is empty"),
        ({"OPENAI_BASE_URL": "host/v1"}, "openai set-up", "write https://host/v1"),
        ({"GROQ_BASE_URL": "http://127.0.0.1:9/v1"}, "groq set-up", "set GROQ_API_KEY"),
    ],
)
def test_a_set_up_that_cannot_work(tmp_path, env, check, words):
    found = examined(tmp_path, "--offline", **env)
    assert found.code == 1
    assert found[check][0] == "bad"
    assert words in found[check][1]


def test_offline_looks_at_the_set_up_only(healthy, fault_server, tmp_path):
    found = examined(tmp_path, "--offline", **healthy)
    assert found.code == 0
    assert fault_server.requests == []
    assert {check.rpartition(" ")[2] for check in found} == {"version", "set-up", "ledger"}


def test_missing_keys_are_no_fault(tmp_path):
    found = examined(tmp_path, "--offline")
    assert found.code == 0
    assert found["openai set-up"] == ("off", "set OPENAI_API_KEY")
    assert found["ollama set-up"] == ("off", "expected at http://127.0.0.1:11434/v1, without a key")


def test_a_proxy_is_used_as_the_calls_use_it(healthy, fault_server, tmp_path):
    fault_server.route("http://", [status(200, b"")])
    env = healthy | {"OPENAI_BASE_URL": "http://api.nosuch.invalid/v1", "http_proxy": fault_server.url}
    found = examined(tmp_path, **env)
    assert found["openai connection"] == ("ok", "api.nosuch.invalid:80 answers through the proxy")
    assert "http://api.nosuch.invalid/" in {seen.path for seen in fault_server.requests}
    assert found.code == 0


def test_the_embedded_model_is_asked_for_real(tmp_path):
    found = examined(tmp_path)
    assert found.code == 0
    assert found["local set-up"] == ("ok", "installed")
    assert found["embedded model"][0] == "ok"
    assert found["embedded model"][1].startswith("answered in ")


def test_an_embedded_model_that_does_not_answer(healthy, fault_server, tmp_path):
    fault_server.route("/v1", [status(400)])
    found = examined(tmp_path, **healthy)
    assert found.code == 1
    assert found["embedded model"][0] == "bad"
    assert found["embedded model"][1].startswith("local refused")


def test_an_embedded_model_that_is_not_installed_is_no_fault(tmp_path):
    program = "import sys; sys.modules['xllamacpp'] = None\nfrom llm_master.cli.main import main\nsys.exit(main())"
    done = run("doctor", "--json", folder=tmp_path, command=(COMMAND[0], "-c", program))
    found = {each["check"]: each for each in json.loads(done.out)}
    assert done.code == 0
    assert found["embedded model"]["state"] == "off"
    assert 'pip install "llm-master[local]"' in found["embedded model"]["detail"]


def test_all_reaches_for_providers_that_are_not_set_up(fault_server: FaultServer, tmp_path):
    # Through a proxy that answers everything, so that the test reaches nobody.
    env = {"http_proxy": fault_server.url, "https_proxy": fault_server.url, "LOCAL_BASE_URL": f"{fault_server.url}/v1"}
    fault_server.default = status(502, b"")
    found = examined(tmp_path, "--all", **env)
    asked = {seen.path for seen in fault_server.requests if seen.method == "CONNECT"}
    assert {"api.openai.com:443", "api.anthropic.com:443"} <= asked
    assert found["openai TLS"][0] == "bad"


# A settings file ------------------------------------------------------------------------------------------------------

TEAM = """
[providers.anthropic]
api_key_env = "TEAM_CLAUDE_KEY"
[models.team-chat]
rate_limit_rpm = 100
fallbacks = ["claude-sonnet-4-5", "local"]
[[models.team-chat.deployments]]
name = "east"
provider = "openai"
model = "gpt-4.1"
base_url = "{east}/v1"
api_key_env = "EAST_KEY"
rate_limit_tpm = 5000
[[models.team-chat.deployments]]
name = "west"
provider = "groq"
model = "llama-3.3-70b-versatile"
[limits."provider:groq"]
max_concurrency = 7
[limits."tag:night"]
rpm = 1
tpm = 2000
"""
KEYS = {"EAST_KEY": "sk-east-0123456789", "GROQ_API_KEY": "gsk_west0123456789", "TEAM_CLAUDE_KEY": "sk-ant-team-012345"}


@pytest.fixture
def team(tmp_path: Path, fault_server: FaultServer) -> str:
    """A settings file whose east is the fault server."""
    (tmp_path / "team.toml").write_text(TEAM.format(east=fault_server.url))
    return "team.toml"


def test_each_deployment_with_its_address_key_and_limits(team, tmp_path, fault_server):
    found = examined(tmp_path, "--settings", team, "--offline", **KEYS)
    assert (found.code, found.err) == (0, "")
    rows = {check: finding for check, finding in found.items() if not check.endswith("set-up")}
    del rows["version"], rows["ledger"]
    assert rows == {
        "settings": ("ok", "team.toml: no mistakes; models: 1, with deployments of their own: 2"),
        "team-chat [east]": (
            "ok",
            (
                f"openai gpt-4.1 at 127.0.0.1:{fault_server.port}; key from EAST_KEY;"
                " limits: model:team-chat 100 rpm, deployment:east 5000 tpm"
            ),
        ),
        "team-chat [west]": (
            "ok",
            (
                "groq llama-3.3-70b-versatile at api.groq.com; key from GROQ_API_KEY;"
                " limits: model:team-chat 100 rpm, provider:groq 7 at a time"
            ),
        ),
        "claude-sonnet-4-5 (fallback)": (
            "ok",
            "anthropic claude-sonnet-4-5 at api.anthropic.com; key from TEAM_CLAUDE_KEY; no limits",
        ),
        "local (fallback)": ("ok", rows["local (fallback)"][1]),
        "calls with tag:night": ("ok", "1 rpm and 2000 tpm"),
    }
    assert rows["local (fallback)"][1].endswith(", started on first use; no limits")
    assert fault_server.requests == []


def test_a_key_that_is_not_set_is_named_and_does_not_hide_the_others(team, tmp_path):
    found = examined(tmp_path, "--settings", team, "--offline", GROQ_API_KEY=KEYS["GROQ_API_KEY"])
    assert found.code == 1
    assert found["team-chat [east]"] == ("bad", "openai needs a key: set EAST_KEY (environment or .env)")
    assert found["team-chat [west]"][0] == "ok"
    assert found["claude-sonnet-4-5 (fallback)"][0] == "bad"
    assert "TEAM_CLAUDE_KEY" in found["claude-sonnet-4-5 (fallback)"][1]


def test_a_fallback_that_is_a_model_of_the_file_stands_once(tmp_path):
    (tmp_path / "a.toml").write_text(
        '[models.a]\nprovider = "local"\nmodel = "local"\nfallbacks = ["b", "local"]\n'
        '[models.b]\nprovider = "local"\nmodel = "local"\nfallbacks = ["a", "local"]\n'
    )
    found = examined(tmp_path, "--settings", "a.toml", "--offline")
    assert [check for check in found if not check.endswith("set-up")] == [
        *("version", "settings", "a", "b", "local (fallback)", "ledger")
    ]


def test_an_address_of_the_file_is_reached_for_once_and_without_a_key(healthy, fault_server, tmp_path):
    text = "[models.m]\n" + 2 * (
        f'[[models.m.deployments]]\nprovider = "openai"\nmodel = "x"\nbase_url = "{fault_server.url}/v1"\n'
        'api_key_env = "EAST_KEY"\n'
    )
    (tmp_path / "two.toml").write_text(text)
    place = f"127.0.0.1:{fault_server.port}"
    with refused_url() as dead:
        found = examined(tmp_path, "--settings", "two.toml", EAST_KEY=KEY, LOCAL_BASE_URL=f"{dead}/v1")
    assert found[f"{place} connection"] == ("ok", f"{place} answers")
    asked = [seen for seen in fault_server.requests if seen.method == "HEAD"]
    assert [seen.path for seen in asked] == ["/"]
    assert "sk-" not in str([list(seen.headers) for seen in fault_server.requests])
    # What the environment has reached for already is not asked again.
    fault_server.requests.clear()
    found = examined(tmp_path, "--settings", "two.toml", EAST_KEY=KEY, **healthy)
    assert f"{place} connection" not in found
    assert found["openai connection"][0] == "ok"
    assert len([seen for seen in fault_server.requests if seen.method == "HEAD"]) == 2


def test_an_address_of_the_file_where_nothing_listens(healthy, tmp_path):
    with refused_url() as dead:
        (tmp_path / "b.toml").write_text(
            f'[models.m]\n[[models.m.deployments]]\nprovider = "openai"\nmodel = "x"\nbase_url = "{dead}/v1"\n'
        )
        found = examined(tmp_path, "--settings", "b.toml", **healthy)
    place = dead.removeprefix("http://")
    assert found.code == 1
    assert found[f"{place} connection"][0] == "bad"
    assert found[f"{place} connection"][1].endswith(f"{place}: check the address")


def test_mistakes_of_the_file_stand_with_their_lines_and_the_rest_is_examined(tmp_path):
    (tmp_path / "a.toml").write_text("[timeouts]\ntotl = 3\n[retry]\nmax_attempts = 0\n")
    done = run("doctor", "--settings", "a.toml", "--offline", "--json", folder=tmp_path)
    found = [(each["state"], each["detail"]) for each in json.loads(done.out) if each["check"] == "settings"]
    assert done.code == 1
    assert found == [
        ("bad", "a.toml:2: unknown setting 'totl' in [timeouts]; did you mean 'total'?"),
        ("bad", "a.toml:4: max_attempts = 0 is not accepted: give a whole number of at least 1"),
    ]
    found = examined(tmp_path, "--settings", "nosuch.toml", "--offline")
    assert found.code == 1
    assert found["settings"] == ("bad", "the settings file nosuch.toml cannot be read: No such file or directory")
    assert found["version"][0] == "ok"


# Stores ---------------------------------------------------------------------------------------------------------------

SHARED = """
[limits]
redis_url_env = "TEAM_REDIS"
[limits."tag:night"]
rpm = 1
[cache]
kind = "redis"
redis_url_env = "CACHE_REDIS"
"""
SECRET = "hunter-2-hunter"


@pytest.fixture(scope="module")
def store() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


def stores(folder: Path, env: dict[str, str], *arguments: str) -> Found:
    (folder / "shared.toml").write_text(SHARED)
    return examined(folder, "--settings", "shared.toml", *arguments, **env)


def test_a_store_that_answers(healthy, store, tmp_path):
    found = stores(tmp_path, healthy | {"TEAM_REDIS": store.url, "CACHE_REDIS": f"{store.url}?db=1"})
    assert found.code == 0
    for check in ("shared limits store", "cache store"):
        state, detail = found[check]
        assert state == "ok"
        assert re.fullmatch(rf"127\.0\.0\.1:{store.port} answered in \d+ ms", detail)


def test_a_store_that_says_nothing_is_not_waited_for(healthy, tmp_path):
    with Valkey() as frozen:
        frozen.freeze()
        found = stores(tmp_path, healthy | {"TEAM_REDIS": frozen.url, "CACHE_REDIS": frozen.url})
    assert found.code == 1
    assert found["shared limits store"] == (
        "bad",
        f"127.0.0.1:{frozen.port} did not answer in 100 ms; check that it runs and is near",
    )


def test_a_store_that_refuses_and_no_secret_of_it(healthy, store, tmp_path):
    with refused_url() as dead:
        place = dead.removeprefix("http://")
        env = {
            "TEAM_REDIS": f"redis://user:{SECRET}@{place}/0",
            "CACHE_REDIS": f"redis://user:{SECRET}@127.0.0.1:{store.port}/0?password={SECRET}",
        }
        found = stores(tmp_path, healthy | env)
    assert found.code == 1
    assert found["shared limits store"] == (
        "bad",
        f"{place} failed (ConnectionError); check that it runs, and the address in TEAM_REDIS",
    )
    state, detail = found["cache store"]
    assert state == "bad"
    assert re.fullmatch(
        rf"127\.0\.0\.1:{store.port} failed \(\w+Error\); check that it runs, and the address in CACHE_REDIS", detail
    )
    assert SECRET not in str(found) + found.err


@pytest.mark.parametrize("url", [f"http://u:{SECRET}@h/0", f"{SECRET}", f"redis://u:{SECRET}@h:99999/0", "unix://"])
def test_an_address_of_a_store_that_is_none(tmp_path, url):
    found = stores(tmp_path, {"TEAM_REDIS": url}, "--offline")
    assert found.code == 1
    assert found["shared limits store"] == (
        "bad",
        "the address in TEAM_REDIS cannot be read; write redis://HOST:PORT/0, rediss://HOST:PORT/0 or unix:///PATH",
    )
    assert found["cache store"] == ("bad", "CACHE_REDIS is not set; set it to the address of a Redis or Valkey")
    assert SECRET not in str(found) + found.err


def test_offline_looks_at_the_address_of_a_store_only(tmp_path):
    env = {"TEAM_REDIS": f"rediss://u:{SECRET}@redis.example.com", "CACHE_REDIS": "unix:///run/valkey.sock?db=1"}
    found = stores(tmp_path, env, "--offline")
    assert found.code == 0
    assert found["shared limits store"] == ("ok", "redis.example.com:6379, from TEAM_REDIS")
    assert found["cache store"] == ("ok", "/run/valkey.sock, from CACHE_REDIS")


def test_the_store_that_every_client_uses_is_looked_at_without_a_file(healthy, store, tmp_path):
    found = examined(tmp_path, **healthy | {"LLM_MASTER_REDIS_URL": store.url})
    assert found["shared limits store"][0] == "ok"
    assert "shared limits store" not in examined(tmp_path, "--offline")


# Running processes ----------------------------------------------------------------------------------------------------

WORKER = """
import asyncio, os, sys
from llm_master import BreakerPolicy, Deployment, LLMConfig, LLMError, QueryLLM, RetryPolicy
url = sys.argv[1]
config = LLMConfig(openai_api_key="sk-worker-0123456789", base_urls={"openai": url + "/openai"})
east = Deployment(name="east", provider="openai", model="m", base_url=url + "/east")
west = Deployment(name="west", provider="openai", model="m", base_url=url + "/west")

async def main():
    policy = BreakerPolicy(failures=1, failure_rate=None, cooldown=600, max_cooldown=600)
    deployments = {"team": [east, west]}
    async with QueryLLM(config, breaker=policy, deployments=deployments, retry=RetryPolicy(max_attempts=1)) as llm:
        slow = asyncio.create_task(llm.query("gpt-4o", "Hi"))
        while llm.health().get("team", [None])[0] is None or llm.health()["team"][0].breaker.state == "closed":
            await llm.query("team", "Hi")
        path = f"{os.environ['LLM_MASTER_STATE_DIR']}/{os.getpid()}.json"
        while not os.path.exists(path):
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        slow.cancel()

asyncio.run(main())
"""


def test_running_processes_tell_of_their_breakers(fault_server, tmp_path):
    fault_server.route("/east", [status(500)])
    fault_server.route("/west", [ok("from the west")])
    fault_server.route("/openai", [silence])
    (tmp_path / "worker.py").write_text(WORKER)
    env = {"LLM_MASTER_STATE_DIR": str(tmp_path / "state")}
    command = (COMMAND[0], "-W", "error", str(tmp_path / "worker.py"))
    with start(fault_server.url, folder=tmp_path, env=env, command=command, stdin=subprocess.PIPE) as worker:
        assert worker.stdout.readline() == b"ready\n"
        name = f"process {worker.pid} (worker.py)"
        found = examined(tmp_path, "--offline", **env)
        assert found.code == 0, "a breaker that is open is no mistake of set-up"
        rows = {check: finding for check, finding in found.items() if check.startswith("process")}
        assert set(rows) == {f"{name} team [east]", f"{name} team [west]", f"{name} gpt-4o"}
        state, detail = rows[f"{name} team [east]"]
        left = re.fullmatch(r"open \(last failure: server\); next probe in (\d+\.\d) s; 0 calls in flight", detail)
        assert state == "warn"
        assert 400 < float(left[1]) <= 600
        assert rows[f"{name} team [west]"][0] == "ok"
        assert rows[f"{name} team [west]"][1].startswith("closed; 0 calls in flight")
        assert rows[f"{name} gpt-4o"] == ("ok", "closed; 1 call in flight")
        worker.kill()
        worker.wait()
    assert [path.name for path in (tmp_path / "state").iterdir()] == [f"{worker.pid}.json"]
    assert examined(tmp_path, "--offline", **env)["circuit breakers"][0] == "off"
    assert list((tmp_path / "state").iterdir()) == [], "what the dead left is gone"


def left_by_a_process(folder: Path, **changes: Any) -> dict[str, str]:
    """The environment with a state directory in which this very process has left a file."""
    (folder / "state").mkdir()
    state = {
        "format": "llm-master state 1",
        "pid": os.getpid(),
        "program": "worker.py",
        "host": os.uname().nodename,
        "born": None,
        "written": time.time(),
        "breakers": [],
    }
    (folder / "state" / f"{os.getpid()}.json").write_text(json.dumps(state | changes))
    return {"LLM_MASTER_STATE_DIR": str(folder / "state")}


@pytest.mark.parametrize(
    ("breaker", "age", "state", "words"),
    [
        (
            {"state": "open", "kind": "auth", "until": -5, "inflight": 2},
            0,
            "warn",
            "half open (last failure: auth); the next call is",
        ),
        (
            {"state": "half_open", "kind": "rate", "probing": True},
            0,
            "warn",
            "half open (last failure: rate); a probe is under way",
        ),
        ({"state": "closed", "kind": "quota"}, 0, "ok", "closed (last opened by: quota); 0 calls in flight"),
        ({"state": "closed", "inflight": 3}, 75, "ok", "closed; 3 calls in flight, as of 7"),
    ],
)
def test_what_a_process_knew(tmp_path, breaker, age, state, words):
    now = time.time()
    breaker = {"model": "m", **breaker, "until": now + breaker.get("until", 0)}
    env = left_by_a_process(tmp_path, breakers=[breaker], written=now - age)
    found = examined(tmp_path, "--offline", **env)
    assert found[f"process {os.getpid()} (worker.py) m"][0] == state
    assert found[f"process {os.getpid()} (worker.py) m"][1].startswith(words)


def test_names_of_another_process_reach_the_terminal_without_controls(tmp_path):
    env = left_by_a_process(tmp_path, program="\x1b[31m", breakers=[{"model": "a\nb\x1b]0;", "state": "closed"}])
    done = run("doctor", "--offline", folder=tmp_path, env=env)
    assert (done.code, "\x1b" in done.out) == (0, False)
    assert "a\\nb\\x1b]0;" in done.out


def test_a_state_directory_that_others_may_write_to(tmp_path):
    env = left_by_a_process(tmp_path)
    (tmp_path / "state").chmod(0o777)
    found = examined(tmp_path, "--offline", **env)
    assert found.code == 1
    assert found["circuit breakers"][0] == "bad"
    assert "everybody may write to it" in found["circuit breakers"][1]


def test_without_the_variable_there_is_nothing_about_processes(tmp_path):
    assert "circuit breakers" not in examined(tmp_path, "--offline")
    assert examined(tmp_path, "--offline", LLM_MASTER_STATE_DIR=str(tmp_path / "x"))["circuit breakers"][0] == "off"
    assert list(tmp_path.iterdir()) == []
