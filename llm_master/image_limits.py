"""
How large images may be, in pixels, and how many a request may hold: what providers document, held against it before.

The bounds are data, ``catalogue/image_limits.json``; of several that fit a model the strictest holds. What is only an
address is counted, its pixels are for the provider to see.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from llm_master.catalogue.image_limits import ImageLimit, load_image_limits
from llm_master.errors import UnsupportedParameterError
from llm_master.image_header import dimensions_in_base64
from llm_master.model_facts import facts_of, plain

if TYPE_CHECKING:
    from llm_master.classes import Request

__all__ = ["check_images", "limits_of"]


def check_images(request: Request, *, own_server: bool) -> None:
    """
    Hold the images of a request against what its model takes.

    Args:
        own_server: whether the server is the user's own, where a name says little of what is behind it.

    Raises:
        UnsupportedParameterError: one has too many pixels, or there are too many; the message says which and what fits.
    """
    limits = limits_of(request.provider, request.model, own_server)
    if not limits:
        return
    images = list(_images(request.messages))
    who = f"{request.provider}/{request.model}"
    for limit in limits:
        most = _most(limit, request.provider, request.model)
        if most is not None and len(images) > most:
            raise _refusal(f"{who} takes {most} images in a request, and the messages hold {len(images)}; send fewer")
    for where, payload in images:
        size = dimensions_in_base64(payload) if payload is not None else None
        for limit in limits:
            if size is not None:
                _check_size(limit, size, len(images), f"{who}: {where} has {size[0]:,} x {size[1]:,} pixels")


def _check_size(limit: ImageLimit, size: tuple[int, int], count: int, said: str) -> None:
    side, beside = limit.side, ""
    if limit.many is not None and count > limit.many[0]:
        side, beside = limit.many[1], f" beside more than {limit.many[0]} images"
    if side is not None and max(size) > side:
        raise _refusal(f"{said}, and it takes {side:,} a side{beside}; scale it down")
    if limit.pixels is not None and size[0] * size[1] > limit.pixels:
        raise _refusal(f"{said}, and it takes {limit.pixels:,} in all; scale it down")


def _refusal(text: str) -> UnsupportedParameterError:
    # Another model may take it, so a fallback is asked.
    return UnsupportedParameterError(text, parameter="image_url")


def _most(limit: ImageLimit, provider: str, model: str) -> int | None:
    if limit.context is not None:
        context = facts_of(provider, model).facts.context
        if context is not None and context <= limit.context[0]:
            return limit.context[1]
    return limit.count


@cache
def limits_of(provider: str, model: str, own_server: bool = False) -> tuple[ImageLimit, ...]:
    """The limits that hold for a model at a provider."""
    name = plain(model)
    return tuple(
        limit
        for limit in load_image_limits()
        if (provider in limit.providers or ("*" in limit.providers and not own_server))
        and any(re.search(rf"(?<![a-z0-9]){re.escape(part)}", name) for part in limit.models)
    )


def _images(messages: list[dict[str, Any]]) -> Iterator[tuple[str, str | None]]:
    """Where each image stands, and its base64; None for one that is an address or a file id."""
    for at, message in enumerate(messages):
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            found = _image(part) if isinstance(part, dict) else None
            if found is not None:
                yield f"messages[{at}].content[{index}]", found[0]


def _image(part: dict[str, Any]) -> tuple[str | None] | None:
    """The base64 of a part that is an image (None for an address), in a tuple; None for any other part."""
    kind = part.get("type")
    if kind in ("image_url", "input_image"):
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        return (_payload(url),)
    if kind == "image":
        source = part.get("source")
        data = source.get("data") if isinstance(source, dict) else None
        return (data if isinstance(data, str) else None,)
    file = part.get("file") if kind == "file" else None
    url = file.get("file_data") if isinstance(file, dict) else None
    return (_payload(url),) if isinstance(url, str) and url[:11].lower() == "data:image/" else None


def _payload(url: Any) -> str | None:
    if not isinstance(url, str) or url[:5].lower() != "data:":
        return None
    return url.partition(",")[2]
