"""
A request for an image as a JSON body, or as a form where pictures are sent along.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from llm_master.classes import Request
from llm_master.dialect_images import ImagesDialect
from llm_master.drawing import Drawing, bytes_of
from llm_master.errors import InvalidRequestError
from llm_master.image_input import sniff_mime

__all__ = ["PATH", "encode", "readable", "where"]

PATH = "/images/generations"
_ENCODER = msgspec.json.Encoder()
_JSON = "application/json"


def encode(request: Request, dialect: ImagesDialect) -> bytes:
    """
    The body of a request; what was left out is added to ``request.dropped``.

    Raises:
        InvalidRequestError: the prompt or a picture cannot be used.
        UnsupportedParameterError: a parameter that the model cannot take, unless drop_params is set.
    """
    drawing = Drawing(request, dialect)
    own: ImagesDialect = drawing.dialect
    stream = request.stream
    if stream and not own.stream:
        drawing.refuse("stream", "", "call it without stream=True")
        request.dropped = tuple(dict.fromkeys((*request.dropped, "stream")))
        stream = False
    body: dict[str, Any] = {"model": drawing.model} if drawing.model else {}
    body["prompt"] = drawing.prompt
    files = {name: drawing.params.pop(name) for name in own.files if name in drawing.params}
    body.update(drawing.params)
    if stream:
        body["stream"] = True
    body.update(drawing.extra)
    if not drawing.images:
        if files:
            drawing.refuse(next(iter(files)), " without an image to change", "put the image into the message")
            request.dropped = tuple(dict.fromkeys((*request.dropped, *files)))
        return _json(body, drawing)
    for name in sorted(own.edit_drop & body.keys()):
        del body[name]
        drawing.refuse(name, " together with images", "leave it out")
        request.dropped = tuple(dict.fromkeys((*request.dropped, name)))
    if own.edits == "multipart" and all(image.startswith("data:") for image in drawing.images):
        return _form(body, files, drawing)
    if own.edits == "field":
        body[own.image_field] = drawing.images[0] if len(drawing.images) == 1 else drawing.images
        return _json(body, drawing)
    if own.edits == "multipart" and not own.urls:
        raise InvalidRequestError(f"{drawing.target} takes images as bytes, not as addresses; download them first")
    return _references(body, files, drawing)


def where(body: bytes, dialect: ImagesDialect, model: str) -> tuple[str, str]:
    """The path and the content type of a body that ``encode`` made."""
    if body.startswith(b"--"):
        boundary = body[2 : body.index(b"\r\n")].decode()
        return dialect.for_model(model).edit_path, f"multipart/form-data; boundary={boundary}"
    if body.startswith(_MARK):
        return dialect.for_model(model).edit_path, _JSON
    return PATH, _JSON


def readable(body: bytes) -> bytes:
    """A body that ``encode`` made as JSON for people: of a form its fields, a file by its type and size alone."""
    if not body.startswith(b"--"):
        return body
    fields: dict[str, Any] = {}
    for part in body.split(body[: body.index(b"\r\n")])[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        data = data.removesuffix(b"\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0].decode()
        kind = head.partition(b"Content-Type: ")[2].decode()
        value = f"{kind}, {len(data)} bytes" if kind else data.decode()
        if name.endswith("[]"):
            fields.setdefault(name, []).append(value)
        elif name in fields:
            # Some servers take a list as one name several times.
            fields[name] = [*(fields[name] if isinstance(fields[name], list) else (fields[name],)), value]
        else:
            fields[name] = value
    return _ENCODER.encode(fields)


# JSON may begin with white space: so a body with references is told from an ordinary one without being read.
_MARK = b" {"


def _json(body: dict[str, Any], drawing: Drawing) -> bytes:
    try:
        return _ENCODER.encode(body)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"{drawing.target}: the request cannot be written as JSON: {error}") from error


def _references(body: dict[str, Any], files: dict[str, Any], drawing: Drawing) -> bytes:
    own: ImagesDialect = drawing.dialect
    images = [_reference(image, own) for image in drawing.images]
    if len(images) == 1 and own.one != own.several:
        body[own.one] = images[0]
    else:
        body[own.several] = images
    for name, value in files.items():
        if isinstance(value, (bytes, bytearray, memoryview)):
            import base64

            value = f"data:{sniff_mime(bytes(value)) or 'image/png'};base64,{base64.b64encode(value).decode()}"  # noqa: PLW2901  # the same picture
        body[name] = _reference(str(value), own)
    return b" " + _json(body, drawing)


def _reference(url: str, own: ImagesDialect) -> dict[str, str]:
    return {key: url if value == "{}" else value for key, value in own.reference.items()}


# -- forms ------------------------------------------------------------------------------------------------------


def _form(body: dict[str, Any], files: dict[str, Any], drawing: Drawing) -> bytes:
    parts: list[tuple[str, str | None, bytes]] = [
        (f'form-data; name="{name}"', None, text.encode())
        for key, value in body.items()
        for name, text in _fields(key, value)
    ]
    field = drawing.dialect.image_field
    pictures = [bytes_of(image) for image in drawing.images]
    name = field if len(pictures) == 1 else f"{field}[]"
    parts += [_file(name, f"image{number}", data, mime) for number, (data, mime) in enumerate(pictures, 1)]
    for name, value in files.items():
        parts.append(_file(name, name, *_picture(name, value, drawing)))
    # It must stand in no part; made of all of them, so that the same request has the same bytes.
    digest = hashlib.sha256()
    for _, _, data in parts:
        digest.update(data)
    boundary = digest.hexdigest()[:40].encode()
    pieces = []
    for disposition, mime, data in parts:
        pieces.append(b"--" + boundary + b"\r\nContent-Disposition: " + disposition.encode() + b"\r\n")
        if mime is not None:
            pieces.append(b"Content-Type: " + mime.encode() + b"\r\n")
        pieces += (b"\r\n", data, b"\r\n")
    return b"".join([*pieces, b"--" + boundary + b"--\r\n"])


def _file(name: str, stem: str, data: bytes, mime: str) -> tuple[str, str, bytes]:
    suffix = mime.partition("/")[2].partition("+")[0]
    return f'form-data; name="{name}"; filename="{stem}.{suffix}"', mime, data


def _picture(name: str, value: Any, drawing: Drawing) -> tuple[bytes, str]:
    if isinstance(value, str) and value.startswith("data:image/"):
        try:
            return bytes_of(value)
        except ValueError as error:
            raise InvalidRequestError(f"{drawing.target}: {name} is not valid base64 ({error})") from None
    if isinstance(value, (bytes, bytearray, memoryview)):
        mime = sniff_mime(bytes(value))
        if mime is not None and mime.startswith("image/"):
            return bytes(value), mime
    raise InvalidRequestError(f"{drawing.target}: {name} must be the bytes of an image, or a data URI of one")


def _fields(name: str, value: Any) -> list[tuple[str, str]]:
    """The fields of a form for one value, nested as ``svg[model]``, with the words of JSON for truth and nothing."""
    if isinstance(value, dict):
        return [field for key, each in value.items() for field in _fields(f"{name}[{key}]", each)]
    if isinstance(value, (list, tuple)):
        return [field for each in value for field in _fields(f"{name}[]", each)]
    safe = name.replace("\r", "").replace("\n", "").replace('"', "%22")
    if isinstance(value, bool):
        return [(safe, "true" if value else "false")]
    return [(safe, str(value))]
