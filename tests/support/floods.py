"""
Answers that are too big: a body, a line, and a small body that becomes big when it is unpacked.

All of them are well-formed to the end, so a client that has no limit takes them for good answers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from support.behaviours import content_type_of
from support.bodies import BEDROCK, CHAT, Answer, after_content, answer_events, answer_json, dumps, render
from support.exchange import Behaviour, Exchange

__all__ = ["gzip_bomb", "huge_body", "huge_line"]

_UNIT = 65_536
_MARK = "@"
# What a message of an event stream begins with: its own length, here 20 MiB, and that of its headers.
_LONG_MESSAGE = struct.pack(">II", 20 * 2**20, 0)


def huge_body(size: int, *, declared: bool = False) -> Behaviour:
    """
    An answer of at least ``size`` bytes: a long text in one JSON body, or a stream of very many events.

    Args:
        size: bytes.
        declared: whether the head tells the length; otherwise the body comes in chunks.
    """
    return _flood(size, declared=declared)


def huge_line(size: int) -> Behaviour:
    """A stream with one event of at least ``size`` bytes; a plain answer as big."""
    return _flood(size, one_line=True)


def gzip_bomb(size: int) -> Behaviour:
    """An answer as ``huge_body``, compressed a thousandfold, whether the client asked for compression or not."""
    return _flood(size, packed=True)


def _flood(size: int, *, one_line: bool = False, packed: bool = False, declared: bool = False) -> Behaviour:
    async def behave(x: Exchange) -> None:
        first, unit, last = _parts(x, one_line=one_line)
        count = -(-size // len(unit))
        headers = [("Content-Type", content_type_of(x.family or CHAT, stream=x.wants_stream))]
        if packed:
            headers.append(("Content-Encoding", "gzip"))
        length = len(first) + count * len(unit) + len(last)
        await x.send(x.head(200, headers, framing=length if declared else "chunked"))
        for piece in _packed(first, unit, count, last) if packed else _plain(first, unit, count, last):
            await x.chunk(piece)
        await x.end()

    return behave


def _parts(x: Exchange, *, one_line: bool) -> tuple[bytes, bytes, bytes]:
    """What comes before, what is repeated, and what comes after."""
    family = x.family or CHAT
    filler = "a" * _UNIT
    if x.wants_stream and not one_line:
        events = answer_events(family, Answer(text=filler))
        at = after_content(events, 0)
        return b"".join(map(render, events[:at])), render(events[at]), b"".join(map(render, events[at + 1 :]))
    if x.wants_stream and family == BEDROCK:
        return _LONG_MESSAGE + struct.pack(">I", zlib.crc32(_LONG_MESSAGE)), filler.encode(), b""
    if x.wants_stream:
        whole = b"".join(map(render, answer_events(family, Answer(text=_MARK))))
    else:
        whole = dumps(answer_json(family, Answer(text=_MARK))).encode()
    first, _, last = whole.partition(_MARK.encode())
    return first, filler.encode(), last


def _plain(first: bytes, unit: bytes, count: int, last: bytes) -> Iterator[bytes]:
    yield first
    for _ in range(count):
        yield unit
    yield last


def _packed(first: bytes, unit: bytes, count: int, last: bytes) -> Iterator[bytes]:
    """Gzip: after a full flush the same input gives the same output, so the unit is packed once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    yield b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    yield packer.compress(first) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = packer.compress(unit) + packer.flush(zlib.Z_FULL_FLUSH)
    check = zlib.crc32(first)
    for _ in range(count):
        check = zlib.crc32(unit, check)
        yield packed
    yield packer.compress(last) + packer.flush()
    size = len(first) + count * len(unit) + len(last)
    yield struct.pack("<II", zlib.crc32(last, check), size % 2**32)
