"""
Amazon's binary event stream, written: what a server of Bedrock puts on the wire.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["event", "exception", "frame", "stream"]


def frame(headers: Mapping[str, Any], payload: bytes) -> bytes:
    """One message; a header is a text, bytes, a bool or a whole number."""
    written = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(written) + len(payload), len(written))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    message = prelude + written + payload
    return message + struct.pack(">I", zlib.crc32(message))


def _header(name: str, value: Any) -> bytes:
    start = struct.pack(">B", len(name.encode())) + name.encode()
    if isinstance(value, bool):
        return start + (b"\x00" if value else b"\x01")
    if isinstance(value, int):
        return start + b"\x05" + struct.pack(">q", value)
    kind, data = (b"\x06", value) if isinstance(value, bytes) else (b"\x07", value.encode())
    return start + kind + struct.pack(">H", len(data)) + data


def event(kind: str, payload: Any) -> bytes:
    """An event of a name, its payload as JSON."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode())


def exception(kind: str, **fields: Any) -> bytes:
    """An exception in the stream."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps(fields).encode())


def stream(events: Iterable[Mapping[str, Any]]) -> bytes:
    """The messages of events given as ``{name: payload}``, one each."""
    return b"".join(event(kind, payload) for each in events for kind, payload in each.items())
