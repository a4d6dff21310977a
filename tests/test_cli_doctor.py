"""
``llm-master doctor``: it finds what is wrong, says so with its exit code, and sends no key.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.behaviours import http_date, ok, silence, status
from support.command import COMMAND, run
from support.fault_server import FaultServer, refused_url

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
    assert [line.split()[0] for line in lines] == ["ok"] * 9 + ["off"]
    assert "anthropic, openrouter" in lines[-1]
    assert "llm-master providers" in lines[-1]
    assert "set ANTHROPIC_API_KEY" in run("doctor", "--all", "--offline", folder=tmp_path, env=healthy).out


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
    assert {check.rpartition(" ")[2] for check in found} == {"version", "set-up"}


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
