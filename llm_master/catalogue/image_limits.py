"""
How many images, and how large ones, models take, as data.
"""

from __future__ import annotations

import os

import msgspec

from llm_master.built import build

__all__ = ["ImageLimit", "load_image_limits"]

_FILE = f"{os.path.dirname(__file__)}/image_limits.json"  # noqa: PTH120  # as the package


class ImageLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What is documented of some models' images; None where nothing is.

    Attributes:
        providers: keys of rows, ``*`` for wherever the models are served.
        models: beginnings of words in names as ``model_facts.plain`` writes them; "" for all.
        side: pixels of the longer side at most.
        pixels: width times height at most.
        many: more images than the first number in a request -> each may have this many pixels a side.
        count: images of a request at most.
        context: for models that hold no more tokens than the first number, the second in place of ``count``.
        source, checked: where this is said and the day it was checked.
    """

    providers: tuple[str, ...]
    models: tuple[str, ...] = ("",)
    side: int | None = None
    pixels: int | None = None
    many: tuple[int, int] | None = None
    count: int | None = None
    context: tuple[int, int] | None = None
    source: str
    checked: str


def load_image_limits() -> tuple[ImageLimit, ...]:
    """The limits of images; read anew at each call."""
    build(ImageLimit)
    with open(_FILE, "rb") as file:  # noqa: PTH123  # as the package
        return msgspec.json.decode(file.read(), type=tuple[ImageLimit, ...])
