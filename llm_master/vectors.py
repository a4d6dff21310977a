"""
Vectors as providers write them.
"""

from __future__ import annotations

import base64
import sys
from array import array

__all__ = ["unpacked", "unpacked_int8"]


def unpacked(text: str) -> list[float]:
    """The numbers of base64 of little-endian 32-bit floats; ValueError for a wrong length or alphabet."""
    found = array("f", base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        found.byteswap()
    return list(found)


def unpacked_int8(text: str) -> list[float]:
    """The numbers of base64 of signed bytes, -128 to 127; ValueError for a wrong alphabet."""
    return [float(number) for number in array("b", base64.b64decode(text, validate=True))]
