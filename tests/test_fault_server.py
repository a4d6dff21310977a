"""
The fault server itself: its record, its scripts, its statuses, and that it leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import closing
from email.utils import parsedate_to_datetime

import pytest
from support import faults
from support.behaviours import ok, quota_429, rate_limited, redirect, silence, status
from support.bodies import CHAT, FAMILIES, MESSAGES, Family
from support.client import PATHS, TEXT, events, is_last, post, raw, read_to, read_until_reset, text_of
from support.exchange import Exchange
from support.fault_server import FaultServer, refused_url

both_families = pytest.mark.parametrize("family", FAMILIES)
streamed_or_not = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@both_families
@streamed_or_not
def test_a_good_answer(fault_server: FaultServer, family: Family, stream: bool) -> None:
    code, headers, body = post(fault_server, family, stream=stream)
    assert (code, text_of(family, body, stream=stream)) == (200, TEXT)
    assert headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    assert b'"model":"m-1"' in body
    if stream:
        assert is_last(family, events(body)[-1])


def test_the_record_keeps_order_case_and_repetition(fault_server: FaultServer) -> None:
    with socket.create_connection(("127.0.0.1", fault_server.port), timeout=10) as sock:
        head = b"POST /v1/chat/completions?a=b HTTP/1.1\r\nX-Odd:  one \r\nhost: h\r\nx-odd: two\r\n"
        sock.sendall(head + b'Transfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4;x=y\r\n":1}\r\n0\r\nTrailer: t\r\n\r\n')
        read_to(sock, b"\r\n\r\n")
    (seen,) = fault_server.wait_requests(1)
    assert (seen.method, seen.path, seen.json) == ("POST", "/v1/chat/completions?a=b", {"a": 1})
    names = [("X-Odd", "one"), ("host", "h"), ("x-odd", "two"), ("Transfer-Encoding", "chunked")]
    assert seen.headers == names
    assert (seen.header("X-ODD"), seen.header("none")) == ("one", None)


def test_requests_in_crumbs_and_in_one_piece(fault_server: FaultServer) -> None:
    chunked = b"POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nT: t\r\n\r\n"
    counted = b"POST /v1/messages HTTP/1.1\r\nContent-Length: 3\r\n\r\n{ }"
    with socket.create_connection(("127.0.0.1", fault_server.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(chunked + counted)):
            sock.sendall((chunked + counted)[at : at + 1])
        sock.sendall(chunked + counted)
        for _ in range(4):
            read_to(sock, b'"standard"}}')
    assert [seen.body for seen in fault_server.requests] == [b"{}", b"{ }"] * 2


def test_a_client_that_leaves_at_once_is_recorded(fault_server: FaultServer) -> None:
    for _ in range(20):
        with raw(fault_server):
            pass
    assert len(fault_server.wait_requests(20)) == 20
    assert fault_server.wait_closed(19).closed_at


def test_bytes_that_are_no_request_fail_the_test() -> None:
    server = FaultServer().start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(b"HELO\r\n\r\n")
        assert read_until_reset(sock) == b""
    with pytest.raises(ValueError, match="unpack"):
        server.stop()


def test_connections_are_numbered_and_counted(fault_server: FaultServer) -> None:
    host = fault_server.url.removeprefix("http://")
    with closing(http.client.HTTPConnection(host, timeout=10)) as client:
        for _ in range(2):
            client.request("POST", PATHS[CHAT], "{}")
            client.getresponse().read()
        post(fault_server)
        assert fault_server.connections.total == 2
    fault_server.wait_no_connections()
    assert [seen.connection for seen in fault_server.requests] == [1, 1, 2]
    assert [seen.index for seen in fault_server.requests] == [0, 1, 2]
    assert fault_server.requests[0].time <= fault_server.requests[2].time


def test_scripts_routes_and_default(fault_server: FaultServer) -> None:
    fault_server.default = status(418, b"tea")
    assert post(fault_server)[0] == 418
    fault_server.script([status(500), status(502)])
    assert [post(fault_server)[0] for _ in range(3)] == [500, 502, 502]
    base = fault_server.route("/a/", [ok("a"), status(404)])
    fault_server.route("/a/b/", [ok("b")])
    assert base == fault_server.url + "/a/"
    paths = ["/a/v1/chat/completions", "/a/b/v1/messages", "/a/v1/chat/completions", "/v1/messages"]
    assert [post(fault_server, path=path)[0] for path in paths] == [200, 200, 404, 502]


def test_an_unknown_path_is_not_found(fault_server: FaultServer) -> None:
    code, _, body = post(fault_server, path="/v2/talk")
    assert (code, json.loads(body)["error"]["code"]) == (404, "unknown_url")
    fault_server.script([ok(family=MESSAGES)])
    assert text_of(MESSAGES, post(fault_server, path="/v2/talk")[2], stream=False) == TEXT


def test_flapping(fault_server: FaultServer) -> None:
    fault_server.script(faults.flapping(2))
    assert [post(fault_server)[0] for _ in range(4)] == [503, 503, 200, 200]


def test_refused() -> None:
    with refused_url() as url, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10)


def test_down_and_up_again(fault_server: FaultServer) -> None:
    fault_server.default = silence
    with raw(fault_server) as sock:
        fault_server.wait_requests(1)
        fault_server.down()
        read_until_reset(sock)
    with pytest.raises(ConnectionRefusedError):
        post(fault_server)
    assert not fault_server.requests[0].client_closed.is_set()
    fault_server.up()
    fault_server.default = ok()
    assert post(fault_server)[0] == 200


@pytest.mark.parametrize("abort", [False, True], ids=["FIN", "RST"])
def test_a_client_that_leaves_early_is_noticed(fault_server: FaultServer, abort: bool) -> None:
    fault_server.script([faults.stall_mid_stream()])
    with raw(fault_server, stream=True) as sock:
        fault_server.wait_held()
        if abort:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    seen = fault_server.wait_closed(0)
    assert seen.closed_early
    assert seen.closed_at is not None
    assert seen.closed_at >= seen.time
    fault_server.wait_no_connections()
    assert fault_server.gate.held == 0


def test_a_client_that_leaves_afterwards_is_noticed(fault_server: FaultServer) -> None:
    post(fault_server, stream=True)
    seen = fault_server.wait_closed(-1)
    assert seen.answered.is_set()
    assert not seen.closed_early


def test_waiting_in_vain_says_what_was_seen(fault_server: FaultServer) -> None:
    post(fault_server)
    with pytest.raises(AssertionError, match=r"in vain for 2 requests; saw 1 requests, \d of 1 connections"):
        fault_server.wait_requests(2, timeout=0)
    with pytest.raises(AssertionError, match="connection of request 5"):
        fault_server.wait_closed(5, timeout=0)


def test_a_mistake_in_a_behaviour_fails_the_test() -> None:
    async def wrong(x: Exchange) -> None:
        raise ValueError(x.seen.path)

    server = FaultServer().start()
    server.script([wrong])
    with pytest.raises(ConnectionResetError):
        post(server, MESSAGES)
    with pytest.raises(ValueError, match="/v1/messages"):
        server.stop()


def test_nothing_is_left_at_the_end() -> None:
    with FaultServer() as server:
        server.script([silence, faults.stall_mid_stream(), ok()])
        with raw(server) as silent, raw(server, stream=True) as stalled:
            server.wait_requests(2)
            server.wait_held()
            server.stop()
            assert read_until_reset(silent) == b""
            assert b'"Hello "' in read_until_reset(stalled)
            assert server.connections.open == 0
            assert not [thread for thread in threading.enumerate() if thread.name == "fault-server"]
            with pytest.raises(ConnectionRefusedError):
                post(server)


def test_many_clients_at_once_from_several_loops(fault_server: FaultServer) -> None:
    async def one(stream: bool) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", fault_server.port)
        body = json.dumps({"stream": stream}).encode()
        writer.write(b"POST /v1/messages HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        data = await reader.readuntil(b'message_stop"}\n\n' if stream else b"}}")
        writer.close()
        await writer.wait_closed()
        return data

    async def many() -> list[bytes]:
        return await asyncio.gather(*(one(bool(n % 2)) for n in range(100)))

    results: list[list[bytes]] = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(many()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(result) for result in results] == [100, 100]
    assert fault_server.connections.total == len(fault_server.requests) == 200
    fault_server.wait_no_connections()


def test_a_client_in_another_process(fault_server: FaultServer) -> None:
    program = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], b'{}').status)"
    done = subprocess.run(
        [sys.executable, "-c", program, fault_server.url + PATHS[CHAT]], capture_output=True, check=True, text=True
    )
    assert done.stdout == "200\n"
    assert fault_server.wait_closed(0).header("user-agent") is not None


# Statuses


@both_families
@pytest.mark.parametrize("code", [400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529])
def test_error_statuses(fault_server: FaultServer, family: Family, code: int) -> None:
    fault_server.script([status(code), ok()])
    got, headers, body = post(fault_server, family)
    error = json.loads(body)["error"]
    assert (got, headers["content-type"]) == (code, "application/json")
    assert error["message"]
    assert ("code" in error) == (family == CHAT)
    assert post(fault_server, family)[0] == 200


def test_a_status_with_words_of_its_own(fault_server: FaultServer) -> None:
    fault_server.script([status(400, message="m", type="t", error_code="c"), status(400, {"detail": 1}, [("X", "y")])])
    assert json.loads(post(fault_server)[2]) == {"error": {"message": "m", "type": "t", "param": None, "code": "c"}}
    _, headers, body = post(fault_server)
    assert (headers["x"], body) == ("y", b'{"detail":1}')


@both_families
@pytest.mark.parametrize("text", ["2", "NaN", "-1", "1e9", None])
def test_retry_after_in_every_form(fault_server: FaultServer, family: Family, text: str | None) -> None:
    fault_server.script([rate_limited(text), rate_limited(None, ms="250", reset_in="6m0s", retry_info="45.8s")])
    code, headers, _ = post(fault_server, family)
    assert (code, headers["retry-after"]) == (429, text)
    _, headers, body = post(fault_server, family)
    assert (headers["retry-after"], headers["retry-after-ms"]) == (None, "250")
    assert headers["x-ratelimit-reset-requests"] == "6m0s"
    assert json.loads(body)["error"]["details"][0]["retryDelay"] == "45.8s"


def test_retry_after_as_a_date(fault_server: FaultServer) -> None:
    fault_server.script([rate_limited(date_in=3600)])
    when = parsedate_to_datetime(post(fault_server)[1]["retry-after"]).timestamp()
    assert 3500 < when - time.time() <= 3600


def test_quota_and_redirect(fault_server: FaultServer) -> None:
    fault_server.script([quota_429(), quota_429("60"), redirect("http://127.0.0.2:1/x", 308)])
    assert json.loads(post(fault_server, CHAT)[2])["error"]["code"] == "insufficient_quota"
    code, headers, body = post(fault_server, MESSAGES)
    assert (code, headers["retry-after"]) == (429, "60")
    assert "spend limit" in json.loads(body)["error"]["message"]
    code, headers, _ = post(fault_server)
    assert (code, headers["location"]) == (308, "http://127.0.0.2:1/x")
