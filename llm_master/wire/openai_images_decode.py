"""
The body of a whole answer as an ``LLMResponse`` with images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from llm_master.bodies import ODD_USAGE, UNREADABLE, mended, no_answer, refused
from llm_master.classes import Image, LLMResponse, Request, Usage
from llm_master.dialect_images import ImagesDialect
from llm_master.drawing import NOTE, cost_of, has_more, image_of
from llm_master.errors import ContentPolicyError, ResponseError

__all__ = ["Item", "Tokens", "decode", "picture", "respond"]


class _Details(msgspec.Struct):
    image_tokens: int | None = None
    cached_tokens: int | None = None


class Tokens(msgspec.Struct):
    """Usage as it is reported."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None

    def normalised(self) -> Usage:
        """Tokens with the parts that are images; without details the whole output is the image."""
        given, made = max(self.input_tokens or 0, 0), max(self.output_tokens or 0, 0)
        of_input = self.input_tokens_details or _Details()
        of_output = self.output_tokens_details
        drawn = made if of_output is None or of_output.image_tokens is None else of_output.image_tokens
        return Usage(
            input_tokens=given,
            output_tokens=made,
            cached_tokens=min(max(of_input.cached_tokens or 0, 0), given),
            input_image_tokens=min(max(of_input.image_tokens or 0, 0), given),
            output_image_tokens=min(max(drawn, 0), made),
        )


class Item(msgspec.Struct):
    """One image of an answer."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None


class _Answer(msgspec.Struct):
    data: list[Item]
    model: str | None = None
    usage: Tokens | None = None
    output_format: str | None = None
    id: str | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def decode(
    body: bytes, request: Request, dialect: ImagesDialect, *, rules: Mapping[str, str] | None = None
) -> LLMResponse:
    """
    Read an answer.

    Args:
        rules: the row's ``error_codes``.

    Raises:
        ProviderError: the body is an error object; typed by what it says.
        ContentPolicyError: every image was withheld.
        ResponseError: the body is not JSON, or holds no images.
    """
    notes: tuple[str, ...] = ()
    try:
        answer = _ANSWER.decode(body)
    except UNREADABLE as error:
        answer, notes = mended(_ANSWER, body, error, Tokens, ("usage",)), (ODD_USAGE,)
        if answer is None:
            raise refused(body, request, rules, error, _error_in, what="no image") from error
    found = [image for item in answer.data if (image := picture(item, answer.output_format, request)) is not None]
    withheld = len(answer.data) - len(found)
    if withheld and not found:
        raise ContentPolicyError(
            f"{request.provider} withheld every image that {request.model!r} drew; change the prompt,"
            " or allow fallback_on={'content_policy'}",
            provider=request.provider,
            model=request.model,
            status_code=200,
        )
    if not found:
        raise no_answer(body, request, "no image")
    own = dialect.for_model(request.model)
    response = respond(request, found, answer.usage, body)
    if own.cost is not None:
        response.reported_cost = cost_of(msgspec.json.decode(body), own)
    response.model = answer.model
    response.request_id = answer.id
    response.notes = (*response.notes, *notes)
    if withheld:
        response.notes = (*response.notes, f"{withheld} of {len(answer.data)} images were withheld by the provider")
    return response


def picture(item: Item, form: str | None, request: Request) -> Image | None:
    """
    One image; None for one that holds nothing, as those that moderation withheld.

    Raises:
        ResponseError: its base64 cannot be read.
    """
    mime = {None: None, "svg": "image/svg+xml"}.get(form, f"image/{form}")
    given = item.b64_json or item.url
    if not given:
        return None
    try:
        image = image_of(given, mime)
    except ValueError as error:
        raise ResponseError(
            f"{request.provider} answered {request.model!r} with an image that cannot be read ({error}); try again",
            provider=request.provider,
            model=request.model,
            status_code=200,
        ) from error
    image.revised_prompt = item.revised_prompt or None
    return image


def respond(request: Request, images: list[Image], usage: Tokens | None, body: Any) -> LLMResponse:
    """The response of images; its content is the address of the first, or its bytes in base64."""
    first = images[0] if images else Image()
    content = first.url
    if content is None:
        import base64

        content = base64.b64encode(first.data or b"").decode()
    return LLMResponse(
        content=content,
        usage=usage.normalised() if usage is not None else Usage(),
        finish_reason="stop",
        images=images,
        dropped=request.dropped,
        notes=(NOTE,) if has_more(request.messages) else (),
        raw_body=body,
        billed={"images": len(images)},
    )


def _error_in(found: dict[str, Any]) -> tuple[dict[str, Any], Any] | None:
    return (found, None) if found.get("error") or (found.get("message") and "data" not in found) else None
