"""
The plainest clients there are: one request on a bare socket, and what came back.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from support.bodies import CHAT, MESSAGES, Family
from support.fault_server import FaultServer

__all__ = ["PATHS", "TEXT", "events", "is_last", "post", "raw", "read_all", "read_to", "read_until_reset", "text_of"]

PATHS = {CHAT: "/v1/chat/completions", MESSAGES: "/v1/messages"}
TEXT = "Hello from the other side."


def post(server: FaultServer, family: Family = CHAT, *, stream: bool = False, path: str | None = None) -> Any:
    """One request on a connection of its own; status, headers and whole body."""
    host = server.url.removeprefix("http://")
    with closing(http.client.HTTPConnection(host, timeout=10)) as client:
        client.request("POST", path or PATHS[family], json.dumps({"model": "m-1", "stream": stream}))
        answer = client.getresponse()
        return answer.status, answer.headers, answer.read()


@contextmanager
def raw(server: FaultServer, family: Family = CHAT, *, stream: bool = False) -> Iterator[socket.socket]:
    """A socket on which one request was sent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        body = json.dumps({"model": "m-1", "stream": stream})
        sock.sendall(f"POST {PATHS[family]} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        yield sock


def read_to(sock: socket.socket, mark: bytes) -> bytes:
    data = b""
    while not data.endswith(mark):
        piece = sock.recv(1)
        assert piece, f"the end came before {mark!r}, after {data!r}"
        data += piece
    return data


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65_536):
        data += piece
    return data


def read_until_reset(sock: socket.socket) -> bytes:
    data = b""
    try:
        while piece := sock.recv(65_536):
            data += piece
    except ConnectionResetError:
        return data
    raise AssertionError(f"a polite end after {data!r}")


def events(body: bytes) -> list[Any]:
    """The stream's data lines in order: parsed, or as text where they are not JSON."""
    found: list[Any] = []
    for line in body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").splitlines():
        if line.startswith("data: "):
            try:
                found.append(json.loads(line[6:]))
            except ValueError:
                found.append(line[6:])
    return found


def text_of(family: Family, body: bytes, *, stream: bool) -> str:
    """The text of a good answer, read in the plainest way."""
    if not stream:
        value = json.loads(body)
        if family == CHAT:
            return str(value["choices"][0]["message"]["content"])
        return "".join(block["text"] for block in value["content"])
    pieces = []
    for event in events(body):
        if family == CHAT and isinstance(event, dict) and event.get("choices"):
            pieces.append(event["choices"][0]["delta"].get("content") or "")
        elif family == MESSAGES and isinstance(event, dict) and event["type"] == "content_block_delta":
            pieces.append(event["delta"]["text"])
    return "".join(pieces)


def is_last(family: Family, event: Any) -> bool:
    return bool(event == "[DONE]" if family == CHAT else isinstance(event, dict) and event["type"] == "message_stop")
