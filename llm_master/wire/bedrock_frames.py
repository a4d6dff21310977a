"""
Amazon's binary event stream (``application/vnd.amazon.eventstream``), read incrementally: bytes in, messages out.

A message is a prelude (total length, length of the headers, CRC32 of both), the headers, the payload, and a CRC32 of
all before it; numbers are big-endian. Source: https://smithy.io/2.0/aws/amazon-eventstream.html and botocore 1.44.5,
read 2026-11-21.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NoReturn

import msgspec

from llm_master.classify import excerpt
from llm_master.errors import ResponseError, ResponseTooLargeError

__all__ = ["MAX_FRAME", "Frame", "FrameParser"]

#: Bytes of one message that are kept at most: what the vendor's own client takes.
MAX_FRAME = 24 * 1024 * 1024

_MAX_HEADERS = 128 * 1024
_MOST_KNOWN = 16
_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_LEAST = _PRELUDE.size + _CRC.size
# Type of a header's value -> its bytes; None: two bytes of length come first.
_SIZES: dict[int, int | None] = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 6: None, 7: None, 8: 8, 9: 16}
_TEXT = 7


class Frame(msgspec.Struct, gc=False):
    """
    One message.

    Attributes:
        headers: those that are text, by name; the others say nothing that is needed.
        payload: usually JSON.
    """

    headers: dict[str, str]
    payload: bytes


class FrameParser:
    """
    Splits an event stream into messages, however its bytes arrive.

    Args:
        provider, model: who is named in errors.
        most: bytes that a message may have.
    """

    __slots__ = ("_at", "_buffer", "_first", "_known", "_most", "_wanted", "_who")

    def __init__(self, provider: str, model: str, *, most: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._wanted = _PRELUDE.size  # bytes from _at that are needed for the next step
        self._most = most
        self._who = (provider, model)
        self._first = True
        self._known: dict[bytes, dict[str, str]] = {}  # headers that came before: those of one kind of event are alike

    @property
    def waiting(self) -> int:
        """Bytes of a message that has not ended yet."""
        return len(self._buffer) - self._at

    def feed(self, data: bytes) -> Iterator[Frame]:
        """
        The messages that these bytes complete, oldest first; to be read to its end.

        Raises:
            ResponseError: the bytes are no event stream, or were damaged on their way (CRC32).
            ResponseTooLargeError: a message is longer than ``most``.
        """
        buffer = self._buffer
        buffer += data
        try:
            while len(buffer) - self._at >= self._wanted:
                if self._wanted == _PRELUDE.size:
                    self._wanted = self._total()
                    continue
                end = self._at + self._wanted
                frame = self._read(bytes(memoryview(buffer)[self._at : end]))
                self._at, self._wanted, self._first = end, _PRELUDE.size, False
                yield frame
        finally:
            del buffer[: self._at]
            self._at = 0

    def _total(self) -> int:
        """The length of the message whose prelude is there."""
        total, headers, crc = _PRELUDE.unpack_from(self._buffer, self._at)
        if zlib.crc32(memoryview(self._buffer)[self._at : self._at + 8]) != crc:
            what = (
                "something else than an event stream" if self._first else "a damaged event stream (CRC32 of a prelude)"
            )
            self._refuse(what)
        if total > self._most:
            provider, model = self._who
            raise ResponseTooLargeError(
                f"{provider} streamed a message of {total} bytes for {model!r}, more than {self._most};"
                " ask for a shorter answer",
                provider=provider,
                model=model,
            )
        if headers > _MAX_HEADERS or total < _LEAST + headers:
            self._refuse("an event stream with impossible lengths")
        return int(total)

    def _read(self, message: bytes) -> Frame:
        (crc,) = _CRC.unpack_from(message, len(message) - _CRC.size)
        if zlib.crc32(memoryview(message)[: -_CRC.size]) != crc:
            self._refuse("a damaged event stream (CRC32 of a message)")
        end = _PRELUDE.size + _PRELUDE.unpack_from(message)[1]
        raw = message[_PRELUDE.size : end]
        headers = self._known.get(raw)
        if headers is None:
            try:
                headers = _headers(raw)
            except (IndexError, KeyError, ValueError, struct.error):
                self._refuse("an event stream with headers that cannot be read")
            if len(self._known) < _MOST_KNOWN:
                self._known[raw] = headers
        return Frame(headers, message[end : -_CRC.size])

    def _refuse(self, what: str) -> NoReturn:
        provider, model = self._who
        shown = excerpt(bytes(self._buffer[self._at : self._at + 1200])) if self._first else ""
        raise ResponseError(
            f"{provider} answered {model!r} with {what}{f': {shown}' if shown.isprintable() and shown else ''};"
            " try again or check the base URL",
            provider=provider,
            model=model,
            body=shown or None,
        )


def _headers(raw: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(raw):
        size = raw[at]
        name = raw[at + 1 : at + 1 + size].decode()
        at += 1 + size
        kind = raw[at]
        at += 1
        length = _SIZES[kind]
        if length is None:
            (length,) = struct.unpack_from(">H", raw, at)
            at += 2
        if at + length > len(raw):
            raise ValueError("a header goes past its end")
        if kind == _TEXT:
            found[name] = raw[at : at + length].decode()
        at += length
    return found
