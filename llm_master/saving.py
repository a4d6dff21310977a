"""
Images on their way to a folder: downloaded where they are only addresses, and written without touching other files.
"""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from llm_master.blocking import run
from llm_master.errors import InvalidRequestError, ResponseError
from llm_master.fetch import fetch
from llm_master.fetch_rules import FetchError, FetchPolicy
from llm_master.image_input import sniff_mime
from llm_master.incoming import MAX_BODY

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from llm_master.pictures import Image

__all__ = ["picture", "save", "save_async", "suffix_of", "write_new"]

_SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/svg+xml": ".svg",
    "image/avif": ".avif",
    "image/bmp": ".bmp",
    "image/tiff": ".tiff",
    "application/pdf": ".pdf",
}


def save(
    images: Sequence[Image], folder: str | os.PathLike[str], *, stem: str = "image", timeout: float = 60.0
) -> list[Path]:
    """``save_async`` for code without an event loop; under a running one it stops that loop meanwhile."""
    return run(save_async(images, folder, stem=stem, timeout=timeout))


async def save_async(
    images: Sequence[Image], folder: str | os.PathLike[str], *, stem: str = "image", timeout: float = 60.0
) -> list[Path]:
    """
    Write images into a folder; see ``LLMResponse.save``.

    All are downloaded before the first is written, so that a failed download leaves no part of them.
    """
    if not images:
        raise InvalidRequestError("there is no image to save: response.images is empty")
    if not stem or stem != Path(stem).name:
        raise InvalidRequestError(f"stem={stem!r} must be the beginning of a file's name, without a folder")
    found = await asyncio.gather(*(picture(image, timeout) for image in images))
    return await asyncio.to_thread(_write, found, images, Path(folder), stem)


async def picture(image: Image, timeout: float = 60.0) -> bytes:
    """
    The bytes of an image, downloaded if need be; at most ``MAX_BODY`` of them, and no key goes along.

    Raises:
        InvalidRequestError: it has neither bytes nor an address.
        ResponseError: it cannot be downloaded, or lies where nothing is downloaded from.
    """
    if image.data is not None:
        return image.data
    if image.url is None:
        raise InvalidRequestError("an image has neither bytes nor an address; there is nothing to save")
    # An answer must not make us read this network's own servers. The provider's own address is as the user set it.
    policy = FetchPolicy(
        allow_private=image.trusted, allow_http=image.trusted, max_bytes=MAX_BODY, timeout=timeout, max_urls=1
    )
    try:
        return (await fetch(image.url, policy, what="image")).data
    except FetchError as error:
        why = str(error).replace(" for the model", "")
        raise ResponseError(
            f"an image of the answer is lost: {why}; such addresses die soon, save images right after they were made",
            retryable=False,
        ) from error


def suffix_of(data: bytes, mime: str | None) -> str:
    """The end of a file's name for an image: by its bytes, else by what was said of it."""
    return _SUFFIXES.get(sniff_mime(data) or "") or _SUFFIXES.get(mime or "") or ".bin"


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet; raises FileExistsError when it does."""
    with path.open("xb") as file:
        try:
            file.write(data)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _write(found: Sequence[bytes], images: Sequence[Image], folder: Path, stem: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    numbers = count(1)
    paths = []
    for data, image in zip(found, images, strict=True):
        suffix = suffix_of(data, image.mime_type)
        for number in numbers:
            path = folder / f"{stem}-{number}{suffix}"
            # The same number with another suffix is left alone too: image-1 is one picture.
            if any(folder.glob(f"{_literal(stem)}-{number}.*")):
                continue
            try:
                write_new(path, data)
            except FileExistsError:
                continue
            paths.append(path)
            break
    return paths


def _literal(text: str) -> str:
    import glob

    return glob.escape(text)
