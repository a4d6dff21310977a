"""
The wire family ``polling``: a job that is taken with one request and asked after with others.

``encode`` writes the job, ``job_of`` reads where to ask after it, ``status_of`` what an answer says of it, and
``decode`` its result. Nothing here is streamed. Sources: docs.bfl.ai (quick_start/generating_images and
api-reference/utility/get-result), replicate.com/docs/reference/http and topics/predictions/lifecycle,
fal.ai/docs/model-apis/model-endpoints/queue, read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from llm_master.bodies import UNREADABLE
from llm_master.classes import Image, LLMResponse, Request, Usage
from llm_master.classify import excerpt
from llm_master.dialect_images import PollingDialect
from llm_master.drawing import NOTE, Drawing, cost_of, has_more, image_of, look_up
from llm_master.errors import InvalidRequestError, ResponseError

__all__ = ["PATH", "Job", "Status", "decode", "encode", "job_of", "path_of", "status_of", "takes_prefill"]

PATH = ""
_ENCODER = msgspec.json.Encoder()
_MEGAPIXEL = 1024 * 1024
_ID_FIELDS = ("id", "request_id")


class Job(msgspec.Struct):
    """A job that was taken: where to ask after it, fetch its result and cancel it; ``answer`` is what was said."""

    id: str | None
    poll: str
    result: str | None
    cancel: str | None
    answer: dict[str, Any]


class Status(msgspec.Struct):
    """What an answer says of a job: the service's word, what it means, progress from 0 to 1, why it failed."""

    word: str
    state: str
    progress: float | None = None
    detail: str = ""


def takes_prefill(dialect: PollingDialect, model: str) -> bool:  # noqa: ARG001  # every family has this signature
    """Whether the model goes on with an assistant's turn that stands last; no image is begun by the caller."""
    return False


def path_of(model: str, dialect: PollingDialect) -> str:
    """
    The path of jobs for a model.

    Raises:
        InvalidRequestError: the name would leave its place in the path.
    """
    own = dialect.for_model(model)
    name = own.names.get(model.lower(), model)
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise InvalidRequestError(f"{model!r} is no model's name: it would be another path of the service")
    if own.versioned is not None and ":" in name:
        return own.versioned
    return own.path.replace("{model}", quote(name, safe="/"))


def encode(request: Request, dialect: PollingDialect) -> bytes:
    """
    The JSON body of a job; what was left out is added to ``request.dropped``.

    Raises:
        InvalidRequestError: the prompt or a picture cannot be used.
        UnsupportedParameterError: a parameter that the model cannot take, unless drop_params is set.
    """
    drawing = Drawing(request, dialect)
    own: PollingDialect = drawing.dialect
    fields: dict[str, Any] = {"prompt": drawing.prompt, **drawing.params}
    images = [image.partition(",")[2] if own.bare and image.startswith("data:") else image for image in drawing.images]
    if images and own.image_list is not None:
        fields[own.image_list] = images
    elif len(images) > len(own.image_fields):
        raise InvalidRequestError(
            f"{drawing.target}: it is not known in which field this model takes {len(images)} images;"
            " give them as its own parameter instead"
        )
    else:
        fields.update(zip(own.image_fields, images, strict=False))
    body = fields
    if own.inside:
        body = {name: fields.pop(name) for name in own.outside if name in fields}
        body[own.inside] = fields
    if own.versioned is not None and ":" in drawing.model:
        body["version"] = drawing.model.partition(":")[2]
    body.update(drawing.extra)
    try:
        return _ENCODER.encode(body)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"{drawing.target}: the request cannot be written as JSON: {error}") from error


def job_of(body: bytes, request: Request, dialect: PollingDialect) -> Job:
    """
    The job that an answer tells of.

    Raises:
        ResponseError: it names no address to ask at; nothing can be known of the job, which is not sent again.
    """
    answer = _object(body)
    poll = look_up(answer, dialect.poll) if answer is not None else None
    if answer is None or not isinstance(poll, str):
        raise ResponseError(
            f"{request.provider} took the job for {request.model!r} and did not say where to ask for it:"
            f" {excerpt(body)}; check the base URL",
            provider=request.provider,
            model=request.model,
            retryable=False,
        )
    found = next((str(answer[name]) for name in _ID_FIELDS if answer.get(name)), None)
    return Job(found, poll, _address(answer, dialect.result), _address(answer, dialect.cancel), answer)


def _address(answer: dict[str, Any], path: str | None) -> str | None:
    found = look_up(answer, path) if path is not None else None
    return found if isinstance(found, str) else None


def status_of(answer: Mapping[str, Any], dialect: PollingDialect) -> Status:
    """What a decoded answer says; a status that the service does not document is waited upon."""
    word = str(answer.get("status") or "")
    state: str = dialect.statuses.get(word, "waiting")
    said = [text for path in dialect.details if (text := _text(look_up(answer, path)))]
    detail = "; ".join(dict.fromkeys(said))
    if state == "done" and answer.get("error"):
        state = "failed"
    if state == "failed" and any(sign in detail.lower() for sign in dialect.signs):
        state = "moderated"
    progress = look_up(answer, dialect.progress) if dialect.progress is not None else None
    if not isinstance(progress, (int, float)) or isinstance(progress, bool):
        progress = None
    return Status(word, state, progress, detail)


def _text(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def decode(body: bytes, request: Request, dialect: PollingDialect, job: Job | None = None) -> LLMResponse:
    """
    The result of a job.

    Raises:
        ResponseError: it holds no image.
    """
    answer = _object(body)
    found: Any = None
    if answer is not None:
        found = next((each for path in dialect.found if (each := look_up(answer, path))), None)
    try:
        images = [_image(each) for each in (found if isinstance(found, list) else [found])]
    except (ValueError, TypeError) as error:
        raise ResponseError(
            f"{request.provider} finished the job for {request.model!r} without an image that can be read:"
            f" {excerpt(body)}; look at the job, or give a fallback_model=",
            provider=request.provider,
            model=request.model,
            request_id=job.id if job is not None else None,
            retryable=False,
        ) from error
    response = LLMResponse(
        content=images[0].url or "",
        usage=Usage(),
        images=images,
        dropped=request.dropped,
        notes=(NOTE,) if has_more(request.messages) else (),
        raw_body=body,
        billed={"images": len(images), "megapixels": _megapixels(found if isinstance(found, list) else [found])},
    )
    if not response.content:
        import base64

        response.content = base64.b64encode(images[0].data or b"").decode()
    response.reported_cost = cost_of(job.answer, dialect) if job is not None else None
    if response.reported_cost is None:
        response.reported_cost = cost_of(answer, dialect)
    response.request_id = job.id if job is not None else None
    return response


def _megapixels(pictures: list[Any]) -> int | None:
    """Megapixels of 1024x1024, each picture rounded up, as they are billed; None where a size is not told."""
    found = 0
    for each in pictures:
        width, height = (each.get("width"), each.get("height")) if isinstance(each, dict) else (None, None)
        if not isinstance(width, int) or not isinstance(height, int) or width <= 0 or height <= 0:
            return None
        found -= -width * height // _MEGAPIXEL
    return found


def _image(value: Any) -> Image:
    if isinstance(value, dict):
        mime = value.get("content_type") or value.get("mime_type")
        return image_of(str(value.get("url") or value.get("uri") or ""), mime if isinstance(mime, str) else None)
    if not isinstance(value, str) or not value.startswith(("https://", "http://", "data:")):
        raise ValueError(f"no image: {value!r}")
    return image_of(value)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(body)
    except UNREADABLE:
        return None
    return found if isinstance(found, dict) else None
