"""
One loopback provider: it speaks enough of OpenAI's chat API to answer every client of the benchmark, as cheaply as
Python can, so that what is measured is the client.

The bytes of each answer are built once. A request whose text holds ``together:N`` and that asks for a stream gets N
text chunks in one write; with ``apart:N`` each chunk is written on its own, two milliseconds after the one before,
so that even a slow client has read the last one. Each event is an HTTP chunk of its own, as providers send it.

    python benchmarks/provider.py --core 1      prints its port, then serves until stdin closes
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import re
import resource
import sys
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GAP = 0.002
WORDS = (
    "A rate limiter keeps a caller inside what a service allows. It counts the requests of the last minute, and holds "
    "back the next one until there is room. A token bucket does this with two numbers: how many tokens it holds and "
    "when it was last filled. Each request takes one; time puts them back at an even pace. A burst is served at once "
    "while the bucket is full, and then the pace settles."
)
ANSWER = WORDS
_MODEL = "gpt-4o-mini-2024-07-18"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')
_MODE = re.compile(rb"(together|apart):(\d+)")

# What api.openai.com sends beside the body, without its cookies: a jar is a matter of taste and would blur the ratios.
# The allowance is huge so that a client that obeys these headers is not slowed down by them.
_HEADERS = (
    "date: Mon, 06 Jan 2025 10:00:00 GMT\r\n"
    "access-control-expose-headers: X-Request-ID\r\n"
    "openai-organization: bench\r\n"
    "openai-processing-ms: 412\r\n"
    "openai-version: 2020-10-01\r\n"
    "x-ratelimit-limit-requests: 10000000\r\n"
    "x-ratelimit-limit-tokens: 10000000000\r\n"
    "x-ratelimit-remaining-requests: 9999999\r\n"
    "x-ratelimit-remaining-tokens: 9999999900\r\n"
    "x-ratelimit-reset-requests: 6ms\r\n"
    "x-ratelimit-reset-tokens: 0s\r\n"
    "x-request-id: req_0123456789abcdef0123456789abcdef\r\n"
    "strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n"
    "cf-cache-status: DYNAMIC\r\n"
    "x-content-type-options: nosniff\r\n"
    "server: cloudflare\r\n"
    "cf-ray: 8fd1c0ffee00abcd-FRA\r\n"
    'alt-svc: h3=":443"; ma=86400\r\n'
)
_USAGE = {
    "prompt_tokens": 58,
    "completion_tokens": 86,
    "total_tokens": 144,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def plain_answer() -> bytes:
    """The whole HTTP answer of a call that is not streamed."""
    message: dict[str, object] = {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []}
    body = _compact(
        {
            "id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012",
            "object": "chat.completion",
            "created": 1736157600,
            "model": _MODEL,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_0123456789",
        }
    )
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{_HEADERS}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _event(choices: list[dict[str, object]], usage: object = None) -> bytes:
    chunk = {
        "id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012",
        "object": "chat.completion.chunk",
        "created": 1736157600,
        "model": _MODEL,
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": choices,
        "usage": usage,
    }
    return b"data: " + _compact(chunk) + b"\n\n"


def _choice(delta: dict[str, object], reason: str | None = None) -> list[dict[str, object]]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _text_events() -> Iterator[bytes]:
    words = [f" {word}" for word in WORDS.split()]
    events = [_http_chunk(_event(_choice({"content": word}))) for word in words]
    while True:
        yield from events


@functools.cache
def stream_parts(count: int) -> tuple[bytes, ...]:
    """The HTTP answer of a streamed call with ``count`` text chunks, one part for each event."""
    kind = "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
    head = f"HTTP/1.1 200 OK\r\n{kind}{_HEADERS}\r\n"
    first = _http_chunk(_event(_choice({"role": "assistant", "content": "", "refusal": None})))
    stop = _http_chunk(_event(_choice({}, "stop")))
    usage = _http_chunk(_event([], _USAGE))
    done = _http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return (head.encode() + first, *islice(_text_events(), count), stop, usage, done)


@functools.cache
def stream_whole(count: int) -> bytes:
    """The same answer as one string of bytes."""
    return b"".join(stream_parts(count))


class Provider(asyncio.Protocol):
    """One connection: requests are answered in the order they come."""

    plain = plain_answer()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pending = b""
        self.timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        data = self.pending + data
        while (head := data.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(data, 0, head)
            end = head + 4 + (int(found[1]) if found else 0)
            if len(data) < end:
                break
            self._answer(data[:end])
            data = data[end:]
        self.pending = data

    def _answer(self, request: bytes) -> None:
        mode = _MODE.search(request) if _STREAM.search(request) else None
        if mode is None:
            self.transport.write(self.plain)
        elif mode[1] == b"together":
            self.transport.write(stream_whole(int(mode[2])))
        else:
            self._write_next(iter(stream_parts(int(mode[2]))))

    def _write_next(self, parts: Iterator[bytes]) -> None:
        part = next(parts, None)
        self.timer = None
        if part is not None:
            self.transport.write(part)
            self.timer = self.loop.call_later(GAP, self._write_next, parts)


def raise_file_limit() -> None:
    """Allow enough open sockets for 1,000 calls in flight."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def pin(core: int | None) -> None:
    """Keep this process on one core, where the system can do that (macOS cannot)."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


async def serve() -> None:
    """Serve on a free loopback port, print it, and stop when stdin closes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Provider(loop), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    closed = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: closed.set() if not os.read(0, 64) else None)
    await closed.wait()
    server.close()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description="The benchmark's loopback provider.")
    parser.add_argument("--core", type=int, default=None, help="pin the process to this core")
    pin(parser.parse_args().core)
    raise_file_limit()
    asyncio.run(serve())


if __name__ == "__main__":
    main()
