"""
Width and height of an image, read from its first bytes; nothing is decoded.

Sources: PNG (W3C, section 11.2.2), GIF89a (section 18), JPEG (ITU T.81, annex B), WebP (RFC 9649).
"""

from __future__ import annotations

import binascii

__all__ = ["dimensions", "dimensions_in_base64"]

# Characters that hold the head of nearly every image; 65,536 bytes.
_HEAD = 87_384
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xDA)))
# Markers and filling bytes before a frame that are read; a photograph has some hundreds at most, and whoever sends
# millions of them wants this process to be busy.
_MOST_MARKERS = 4096


def dimensions(data: bytes) -> tuple[int, int] | None:
    """Pixels of a PNG, JPEG, GIF or WebP; None when the bytes do not tell."""
    found = None
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) >= 24:
        found = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    elif data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        found = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        found = _webp(data)
    elif data[:3] == b"\xff\xd8\xff":
        found = _jpeg(data)
    return found


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """The frame's size: it stands behind segments of any length, such as a preview that is a JPEG itself."""
    at = 2
    for _ in range(_MOST_MARKERS):
        if at + 4 > len(data) or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1  # a byte that fills
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _FRAMES:
            if at + 9 > len(data):
                return None
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        else:
            at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
    return None


def dimensions_in_base64(payload: str) -> tuple[int, int] | None:
    """As ``dimensions``, of base64; the whole of it is read only where the size stands late."""
    try:
        found = dimensions(binascii.a2b_base64(payload[:_HEAD]))
        late = found is None and len(payload) > _HEAD and payload.startswith("/9j/")  # a JPEG
        return dimensions(binascii.a2b_base64(payload)) if late else found
    except ValueError:
        return None
