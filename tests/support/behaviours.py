"""
What a fault server does with a request: answers and HTTP errors. The ways to fail half-way are in ``faults.py``.

Everything here and there is a ``Behaviour``: an async function of one ``Exchange``. A ``Reply`` is one made of data,
whose parts can be replaced (``dataclasses.replace(ok(), before=reset)``), and in whose gaps other behaviours run. A
test may write its own.

The wire family is chosen by the request's path, JSON or a stream by its ``stream`` flag or by the path too. Keywords
called ``answer`` are the fields of ``bodies.Answer``.
"""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any

from support.bodies import (
    BEDROCK,
    CHAT,
    Answer,
    Event,
    Family,
    after_content,
    answer_events,
    answer_json,
    dumps,
    error_json,
    render,
)
from support.bodies_families import error_headers, exhausted
from support.exchange import Behaviour, Exchange, Framing, Headers

__all__ = [
    "Reply",
    "close",
    "content_type_of",
    "hold",
    "http_date",
    "ok",
    "quota_429",
    "rate_limited",
    "redirect",
    "reset",
    "silence",
    "status",
]

Edit = Callable[[Family, list[Event]], Iterable[Event]]
EditJson = Callable[[Family, Any], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """
    A good answer and what is done to it on its way.

    The bytes go out in this order: ``before``, head, ``after_head``, body up to its middle, ``middle``, the rest,
    ``at_end``, the end of the body, ``afterwards``. Each of the five is a behaviour or None; when one of them closes
    the connection, nothing follows.

    Attributes:
        answer: what is said.
        family, stream: by default as the request asks.
        status, headers: of the head; ``content_type`` replaces the right one.
        edit: changes the stream's events; ``edit_json`` the plain answer (it may return bytes).
        after: the middle of a stream is after so many pieces of content; that of a plain body is its half.
        piece_size: write the body in pieces of so many bytes; by default a piece is an event, or half a plain body.
        each: runs after every piece; ``slow_head`` treats the head so too, a byte a piece.
        newline, bom: line ends of a stream and whether it starts with a byte order mark.
        framing: how the body ends; by default chunked for a stream, a length for JSON.
        gzip: compress the body, event by event.
    """

    answer: Answer = dataclasses.field(default_factory=Answer)
    family: Family | None = None
    stream: bool | None = None
    status: int = 200
    headers: Headers = ()
    content_type: str | None = None
    edit: Edit | None = None
    edit_json: EditJson | None = None
    after: int = 2
    piece_size: int | None = None
    each: Behaviour | None = None
    slow_head: bool = False
    newline: str = "\n"
    bom: bool = False
    framing: Framing | None = None
    gzip: bool = False
    before: Behaviour | None = None
    after_head: Behaviour | None = None
    middle: Behaviour | None = None
    at_end: Behaviour | None = None
    afterwards: Behaviour | None = None

    async def __call__(self, x: Exchange) -> None:
        family = self.family or x.family
        if family is None:
            await status(404, error_json(CHAT, 404, message=f"no such path: {x.seen.path}", code="unknown_url"))(x)
            return
        stream = x.wants_stream if self.stream is None else self.stream
        pieces, middle = self._pieces(x, family, stream=stream)
        for step in (
            self.before,
            self._head(family, stream=stream, length=sum(map(len, pieces))),
            self.after_head,
            self._body(pieces[:middle]),
            self.middle,
            self._body(pieces[middle:]),
            self.at_end,
            _end,
            self.afterwards,
        ):
            if step is not None:
                await step(x)
            if x.over:
                return

    def _pieces(self, x: Exchange, family: Family, *, stream: bool) -> tuple[list[bytes], int]:
        answer = dataclasses.replace(self.answer, model=x.model or self.answer.model)
        parts = self._stream_parts(family, answer) if stream else self._plain_parts(family, answer)
        if self.gzip:
            parts = _compressed(parts)
        if self.piece_size is None:
            return list(parts[0]) + list(parts[1]), len(parts[0])
        first, second = (_sliced(b"".join(part), self.piece_size) for part in parts)
        return first + second, len(first)

    def _stream_parts(self, family: Family, answer: Answer) -> tuple[list[bytes], list[bytes]]:
        events = answer_events(family, answer)
        if self.edit is not None:
            events = list(self.edit(family, events))
        middle = after_content(events, self.after)
        rendered = [render(event, self.newline) for event in events]
        if self.bom and family != BEDROCK:
            rendered[0] = b"\xef\xbb\xbf" + rendered[0]
        return rendered[:middle], rendered[middle:]

    def _plain_parts(self, family: Family, answer: Answer) -> tuple[list[bytes], list[bytes]]:
        value: Any = answer_json(family, answer)
        if self.edit_json is not None:
            value = self.edit_json(family, value)
        body = value if isinstance(value, bytes) else dumps(value).encode("utf-8", "surrogateescape")
        middle = len(body) // 2
        return [body[:middle]], [body[middle:]]

    def _head(self, family: Family, *, stream: bool, length: int) -> Behaviour:
        usual = content_type_of(family, stream=stream)
        headers = [("Content-Type", self.content_type or usual), *self.headers]
        if self.gzip:
            headers.append(("Content-Encoding", "gzip"))
        framing: int | Framing = self.framing or ("chunked" if stream else length)

        async def write(x: Exchange) -> None:
            head = x.head(self.status, headers, framing=framing)
            for piece in _sliced(head, 1 if self.slow_head else len(head)):
                await x.send(piece)
                if self.slow_head and self.each is not None:
                    await self.each(x)

        return write

    def _body(self, pieces: list[bytes]) -> Behaviour:
        async def write(x: Exchange) -> None:
            for piece in pieces:
                await x.chunk(piece)
                if self.each is not None:
                    await self.each(x)

        return write


def content_type_of(family: Family, *, stream: bool) -> str:
    """The right content type of an answer."""
    if not stream:
        return "application/json"
    return "application/vnd.amazon.eventstream" if family == BEDROCK else "text/event-stream; charset=utf-8"


async def _end(x: Exchange) -> None:
    await x.end()


def _sliced(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _compressed(parts: tuple[list[bytes], list[bytes]]) -> tuple[list[bytes], list[bytes]]:
    packer = zlib.compressobj(wbits=31)
    first, second = ([packer.compress(p) + packer.flush(zlib.Z_SYNC_FLUSH) for p in part] for part in parts)
    return first, [*second, packer.flush()]


# Behaviours for the gaps of a reply, or alone -------------------------------------------------------------------------


async def close(x: Exchange) -> None:
    """Close the connection politely (FIN)."""
    x.close()


async def reset(x: Exchange) -> None:
    """Reset the connection (RST)."""
    x.reset()


async def silence(x: Exchange) -> None:
    """Say nothing until the client goes away."""
    await x.silence()


def hold(delay: float | None = None) -> Behaviour:
    """Stand still until the test calls ``server.release()``, or for ``delay`` seconds."""

    async def behave(x: Exchange) -> None:
        await x.hold(delay)

    return behave


# Whole answers --------------------------------------------------------------------------------------------------------


def ok(text: str | Iterable[str] | None = "Hello from the other side.", **fields: Any) -> Reply:
    """
    A good answer.

    Args:
        text: the text, or the pieces in which a stream gives it.
        fields: those of ``Answer`` (usage, tool_calls, reasoning, finish ...) and of ``Reply``.
    """
    answer = {name: fields.pop(name) for name in _ANSWER_FIELDS & fields.keys()}
    return Reply(answer=Answer.of(text, **answer), **fields)


_ANSWER_FIELDS = {field.name for field in dataclasses.fields(Answer)}


def status(
    code: int, body: Any = None, headers: Headers = (), *, content_type: str | None = None, **error: Any
) -> Behaviour:
    """
    An HTTP status with a body.

    Args:
        code: the status.
        body: bytes and text go as they are, anything else as JSON; by default the family's error of that status,
            with ``message``, ``type`` and ``code`` taken from ``error`` (here ``error_code`` for ``code``).
        headers: further headers.
        content_type: by default JSON, or plain text for bytes and text.
    """
    if "error_code" in error:
        error["code"] = error.pop("error_code")

    async def behave(x: Exchange) -> None:
        value = error_json(x.family or CHAT, code, **error) if body is None else body
        kind = content_type or ("text/plain" if isinstance(value, (str, bytes)) else "application/json")
        text = value if isinstance(value, (str, bytes)) else dumps(value)
        data = text.encode() if isinstance(text, str) else text
        usual = error_headers(x.family, code) if body is None else []
        await x.respond(code, data, [("Content-Type", kind), *usual, *headers])

    return behave


def http_date(seconds: float) -> str:
    """The HTTP date so many seconds from now."""
    return formatdate(time.time() + seconds, usegmt=True)


def rate_limited(
    retry_after: str | None = "2",
    *,
    ms: str | None = None,
    date_in: float | None = None,
    reset_in: str | None = None,
    retry_info: str | None = None,
    headers: Headers = (),
) -> Behaviour:
    """
    A 429 that a retry may cure.

    Args:
        retry_after: the header's text as it is (``2``, ``NaN``, ``-1``, ``1e9``, a date), or None for no header.
        ms: the text of ``retry-after-ms``.
        date_in: ``retry-after`` as the HTTP date so many seconds after the answer.
        reset_in: the text of ``x-ratelimit-reset-requests`` (``1s``, ``6m0s``), with none remaining.
        retry_info: the delay in a Google ``RetryInfo`` in the body (``45.8379s``).
    """

    async def behave(x: Exchange) -> None:
        told = list(headers)
        when = http_date(date_in) if date_in is not None else retry_after
        if when is not None:
            told.append(("Retry-After", when))
        if ms is not None:
            told.append(("retry-after-ms", ms))
        if reset_in is not None:
            told += [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", reset_in)]
        body = error_json(x.family or CHAT, 429)
        if retry_info is not None:
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            body["error"]["details"] = [{"@type": kind, "retryDelay": retry_info}]
        await status(429, body, [*error_headers(x.family, 429), *told])(x)

    return behave


def quota_429(retry_after: str | None = None) -> Behaviour:
    """A 429, or what the family has instead, that says the money is gone: no retry cures it."""

    async def behave(x: Exchange) -> None:
        code, body, headers = exhausted(x.family or CHAT)
        await status(code, body, [*headers, *([("Retry-After", retry_after)] if retry_after else [])])(x)

    return behave


def redirect(location: str, code: int = 307) -> Behaviour:
    """A redirect; what follows it must not carry the key to another origin."""
    return status(code, b"", [("Location", location)])
