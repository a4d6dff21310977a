"""
Each fault sends the bytes, and shows the conduct, that its name says; in both families, streamed and not.
"""

from __future__ import annotations

import gzip
import http.client
import json
import time
import zlib
from typing import Any

import pytest
from support import faults
from support.behaviours import hold, ok
from support.bodies import CHAT, FAMILIES, MESSAGES, Family
from support.client import TEXT, events, is_last, post, raw, read_all, read_to, read_until_reset, text_of
from support.exchange import Behaviour
from support.fault_server import FaultServer
from support.floods import gzip_bomb, huge_body, huge_line

both_families = pytest.mark.parametrize("family", FAMILIES)
streamed_or_not = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
HEAD_END = b"\r\n\r\n"
STOP = {CHAT: "stop", MESSAGES: "end_turn"}


def finish_of(family: Family, body: bytes, *, stream: bool) -> Any:
    """The finish reason, or None."""
    if not stream:
        value = json.loads(body)
        return value["choices"][0]["finish_reason"] if family == CHAT else value["stop_reason"]
    for event in events(body):
        if family == CHAT and isinstance(event, dict) and event["choices"] and event["choices"][0]["finish_reason"]:
            return event["choices"][0]["finish_reason"]
        if family == MESSAGES and event["type"] == "message_delta":
            return event["delta"]["stop_reason"]
    return None


# The connection


@both_families
@streamed_or_not
def test_reset_and_close_before_headers(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.reset_before_headers, faults.close_before_headers])
    with raw(fault_server, family, stream=stream) as sock:
        assert read_until_reset(sock) == b""
    with raw(fault_server, family, stream=stream) as sock:
        assert read_all(sock) == b""
    assert fault_server.wait_closed(1).closed_early
    assert not fault_server.requests[0].client_closed.is_set()


@both_families
@streamed_or_not
def test_reset_after_headers(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.reset_after_headers()])
    with raw(fault_server, family, stream=stream) as sock:
        got = read_until_reset(sock)
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert got.endswith(HEAD_END)


@both_families
@streamed_or_not
def test_reset_and_cut_mid_body(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.reset_mid_body(after=1), faults.cut_mid_stream(after=1)])
    with raw(fault_server, family, stream=stream) as sock:
        torn = read_until_reset(sock)
    with raw(fault_server, family, stream=stream) as sock:
        cut = read_all(sock)
    assert torn == cut
    head, _, body = cut.partition(HEAD_END)
    if stream:
        assert b'"Hello "' in body
        assert b'"from "' not in body
        assert not body.endswith(b"0\r\n\r\n")
    else:
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        assert len(body) == length // 2


@both_families
def test_a_cut_of_a_body_that_ends_with_the_connection_looks_clean(fault_server: FaultServer, family: Family) -> None:
    fault_server.script([faults.cut_mid_stream(framing="close"), ok(framing="close")])
    _, headers, body = post(fault_server, family, stream=True)
    assert headers["connection"] == "close"
    assert text_of(family, body, stream=True) == "Hello from "
    assert text_of(family, post(fault_server, family, stream=True)[2], stream=True) == TEXT


@both_families
@streamed_or_not
def test_accept_and_silent(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.accept_and_silent])
    with raw(fault_server, family, stream=stream):
        fault_server.wait_requests(1)
    seen = fault_server.wait_closed(0)
    assert (seen.sent, seen.closed_early) == (0, True)


@both_families
@streamed_or_not
def test_closed_when_idle(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.close_when_idle(wait=True), faults.close_when_idle()])
    with raw(fault_server, family, stream=stream) as sock:
        fault_server.wait_held()
        assert fault_server.requests[0].answered.is_set()
        sock.sendall(b"POST /a/second/request HTTP/1.1\r\n\r\n")
        fault_server.release()
        whole = read_all(sock)
    assert whole.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" not in whole.lower()
    with raw(fault_server, family, stream=stream) as sock:
        assert read_all(sock) == whole
    assert [seen.sent for seen in fault_server.requests] == [len(whole), 0, len(whole)]


@both_families
def test_interim_responses_and_no_http_at_all(fault_server: FaultServer, family: Family) -> None:
    fault_server.script([faults.interim_responses(), faults.not_http])
    with raw(fault_server, family) as sock:
        heads = [read_to(sock, HEAD_END).split()[1] for _ in range(3)]
    assert heads == [b"100", b"103", b"200"]
    with pytest.raises(http.client.BadStatusLine, match="220 mail"):
        post(fault_server, family)


# Time


@both_families
@streamed_or_not
def test_slow_first_token(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.slow_first_token()])
    with raw(fault_server, family, stream=stream) as sock:
        fault_server.wait_held()
        sent = fault_server.requests[0].sent
        assert sent == (len(read_to(sock, HEAD_END)) if stream else 0)
        fault_server.release()
        assert b"side." in read_to(sock, b"0\r\n\r\n" if stream else b"}}")


@both_families
@streamed_or_not
def test_one_byte_for_each_release(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.one_byte_a_second(None)])
    step = len(b"1\r\nx\r\n") if stream else 1
    with raw(fault_server, family, stream=stream) as sock:
        head = len(read_to(sock, HEAD_END))
        for count in (1, 2, 3):
            fault_server.wait_held()
            assert fault_server.requests[0].sent == head + count * step
            assert len(sock.recv(100)) == step
            fault_server.release(1)
        fault_server.release()
        assert len(read_to(sock, b"0\r\n\r\n" if stream else b"}}")) > 100


@both_families
def test_slow_headers(fault_server: FaultServer, family: Family) -> None:
    fault_server.script([faults.slow_headers()])
    with raw(fault_server, family) as sock:
        fault_server.wait_held()
        assert sock.recv(100) == b"H"
        fault_server.release(3)
        assert read_to(sock, b"TTP") == b"TTP"
        fault_server.wait_held()
        assert fault_server.requests[0].sent == 4
        fault_server.release()
        assert read_to(sock, HEAD_END).startswith(b"/1.1 200 OK")


@both_families
@streamed_or_not
def test_stall_mid_stream(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.stall_mid_stream()])
    with raw(fault_server, family, stream=stream) as sock:
        fault_server.wait_held()
        first = sock.recv(65_536)
        assert first.count(b"from ") == (1 if stream else first.count(b"Hello"))
        assert not fault_server.requests[0].answered.is_set()
        fault_server.release()
        read_to(sock, b"0\r\n\r\n" if stream else b"}}")
    assert fault_server.requests[0].answered.wait(10)


def test_a_wait_may_be_a_time(fault_server: FaultServer) -> None:
    fault_server.script([ok(before=hold(0.05))])
    before = time.monotonic()
    post(fault_server)
    # A lower bound, so that a loaded machine cannot break it.
    assert time.monotonic() - before >= 0.05


# A stream's grammar


@both_families
@streamed_or_not
def test_missing_terminal_marker(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.missing_terminal_marker()])
    body = post(fault_server, family, stream=stream)[2]
    assert text_of(family, body, stream=stream) == TEXT
    assert finish_of(family, body, stream=stream) is None
    assert not stream or not any(is_last(family, event) for event in events(body))


@both_families
def test_finish_without_done(fault_server: FaultServer, family: Family) -> None:
    fault_server.script([faults.finish_without_done(), faults.finish_without_done(keep_open=True)])
    body = post(fault_server, family, stream=True)[2]
    assert finish_of(family, body, stream=True) == STOP[family]
    assert not any(is_last(family, event) for event in events(body))
    assert events(body)[-1]["usage"]
    with raw(fault_server, family, stream=True) as sock:
        assert fault_server.wait_requests(2)[1].answered.wait(10)
        assert not sock.recv(65_536).endswith(b"0\r\n\r\n")
    assert not fault_server.wait_closed(1).closed_early


@both_families
@streamed_or_not
def test_malformed_chunk(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.malformed_chunk()])
    body = post(fault_server, family, stream=stream)[2]
    if stream:
        found = events(body)
        broken = [at for at, event in enumerate(found) if isinstance(event, str) and event != "[DONE]"]
        assert broken == [2 if family == CHAT else 3]
        assert is_last(family, found[-1])
        assert b"side." in body
    else:
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)


@both_families
@streamed_or_not
def test_error_in_stream(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.error_in_stream(code=529), faults.error_in_stream(error={"error": "odd"})])
    code, _, body = post(fault_server, family, stream=stream)
    last = events(body)[-1] if stream else json.loads(body)
    assert (code, "error" in last) == (200, True)
    assert (b'"Hello "' in body, b'"other "' in body) == (stream, False)
    assert (b"event: error\n" in body) == (stream and family == MESSAGES)
    assert b'{"error":"odd"}' in post(fault_server, family, stream=stream)[2]


@both_families
def test_harmless_oddities_of_a_stream(fault_server: FaultServer, family: Family) -> None:
    fault_server.script([faults.duplicate_usage(), faults.keep_alive_noise()])
    twice, noisy = (post(fault_server, family, stream=True)[2] for _ in range(2))
    assert sum(isinstance(event, dict) and "usage" in event for event in events(twice)) == 2
    assert noisy.startswith(b": OPENROUTER PROCESSING\n\n")
    assert (b"event: ping\n" in noisy, b'"choices":[]' in noisy) == (family == MESSAGES, family == CHAT)
    for body in (twice, noisy):
        assert text_of(family, body, stream=True) == TEXT
        assert is_last(family, events(body)[-1])


@both_families
def test_line_ends_marks_pieces_and_compression(fault_server: FaultServer, family: Family) -> None:
    fault_server.script([ok("é😀"), ok("é😀", newline="\r\n", bom=True, piece_size=1), ok("é😀", gzip=True)])
    plain = post(fault_server, family, stream=True)[2]
    with raw(fault_server, family, stream=True) as sock:
        odd = read_to(sock, b"0\r\n\r\n").partition(HEAD_END)[2]
    assert odd.startswith(b"1\r\n\xef\r\n1\r\n\xbb\r\n1\r\n\xbf\r\n")
    joined = b"".join(odd[at + 3 : at + 4] for at in range(0, len(odd) - 5, 6))
    assert joined == b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n")
    _, headers, packed = post(fault_server, family, stream=True)
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed) == plain


@both_families
def test_a_compressed_stream_can_be_read_as_it_comes(fault_server: FaultServer, family: Family) -> None:
    fault_server.script([faults.cut_mid_stream(gzip=True, framing="close")])
    packed = post(fault_server, family, stream=True)[2]
    assert text_of(family, zlib.decompressobj(wbits=31).decompress(packed), stream=True) == "Hello from "


# A body's content


@both_families
@streamed_or_not
def test_pages_types_and_error_objects(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.html_200(), faults.wrong_content_type(), faults.error_object_200(message="no")])
    answers = [post(fault_server, family, stream=stream) for _ in range(3)]
    assert [(code, headers["content-type"]) for code, headers, _ in answers] == [
        (200, "text/html; charset=utf-8"),
        (200, "application/octet-stream"),
        (200, "application/json"),
    ]
    assert answers[0][2].startswith(b"<!DOCTYPE html>")
    assert text_of(family, answers[1][2], stream=stream) == TEXT
    assert json.loads(answers[2][2])["error"]["message"] == "no"


@both_families
def test_a_stream_and_a_plain_answer_confused(fault_server: FaultServer, family: Family) -> None:
    fault_server.script([ok(stream=False), ok(stream=True)])
    assert text_of(family, post(fault_server, family, stream=True)[2], stream=False) == TEXT
    assert text_of(family, post(fault_server, family, stream=False)[2], stream=True) == TEXT


@both_families
@streamed_or_not
def test_truncated_json(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.truncated_json(after=1)])
    body = post(fault_server, family, stream=stream)[2]
    broken = events(body)[-1] if stream else body.decode()
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken)
    assert broken.startswith("{")


@both_families
@streamed_or_not
def test_empty_answers(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.null_content(), faults.empty_choices()])
    null, empty = (post(fault_server, family, stream=stream)[2] for _ in range(2))
    assert finish_of(family, null, stream=stream) == STOP[family]
    assert (b'"content":null' in null) == (family == CHAT)
    assert (b'"choices":[]' in empty, b'"content":[]' in empty) == (family == CHAT, family == MESSAGES)
    assert b"stop" not in empty.replace(b"message_stop", b"").replace(b'"stop_reason":null,"stop_sequence":null', b"")
    for body in (null, empty):
        assert b"text" not in body


@both_families
@streamed_or_not
def test_invalid_utf8(fault_server: FaultServer, family: Family, stream: bool) -> None:
    fault_server.script([faults.invalid_utf8()])
    body = post(fault_server, family, stream=stream)[2]
    assert b"\xff\xfe bytes" in body
    with pytest.raises(UnicodeDecodeError):
        body.decode()


@both_families
@streamed_or_not
@pytest.mark.parametrize("flood", [huge_body(1_000_000), huge_line(1_000_000), gzip_bomb(1_000_000)])
def test_floods(fault_server: FaultServer, family: Family, stream: bool, flood: Behaviour) -> None:
    fault_server.script([flood])
    _, headers, body = post(fault_server, family, stream=stream)
    if headers["content-encoding"] == "gzip":
        assert len(body) < 20_000
        body = gzip.decompress(body)
    assert len(body) >= 1_000_000
    assert set(text_of(family, body, stream=stream)) == {"a"}
    assert not stream or is_last(family, events(body)[-1])


def test_more_of_floods(fault_server: FaultServer) -> None:
    fault_server.script([huge_body(1_000_000, declared=True), huge_line(1_000_000), gzip_bomb(100_000_000)])
    _, headers, body = post(fault_server)
    assert int(headers["content-length"]) == len(body) >= 1_000_000
    assert max(map(len, post(fault_server, stream=True)[2].splitlines())) >= 1_000_000
    packed = post(fault_server)[2]
    assert len(packed) < 200_000
    unpacker = zlib.decompressobj(wbits=31)
    assert len(unpacker.decompress(packed, 90_000_000)) == 90_000_000
    assert not unpacker.eof


def test_a_client_may_leave_a_flood(fault_server: FaultServer) -> None:
    fault_server.script([huge_body(2**40)])
    with raw(fault_server) as sock:
        assert sock.recv(1000)
    assert fault_server.wait_closed(0).closed_early
