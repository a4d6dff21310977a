"""
A form with a file as ``multipart/form-data`` (RFC 7578).
"""

from __future__ import annotations

from typing import Any

from llm_master.errors import InvalidRequestError

__all__ = ["form"]


def form(fields: dict[str, Any], file: tuple[str, str, str, bytes], boundary: str, *, brackets: bool = True) -> bytes:
    """
    The body.

    Args:
        fields: by name: texts, numbers, booleans, or lists of them, which become ``name[]`` several times.
        brackets: whether they do; else the name alone stands there several times.
        file: name of the field, name of the file, mime type, bytes.
        boundary: a text that is nowhere in the file.

    Raises:
        InvalidRequestError: a field that a form cannot hold.
    """
    parts: list[bytes] = []
    for name, value in fields.items():
        several = isinstance(value, (list, tuple))
        for each in value if several else (value,):
            head = f'Content-Disposition: form-data; name="{_quoted(name)}{"[]" if several and brackets else ""}"'
            parts += (f"--{boundary}\r\n{head}\r\n\r\n".encode(), _text(name, each).encode(), b"\r\n")
    field, name, mime, data = file
    head = (
        f'Content-Disposition: form-data; name="{_quoted(field)}"; filename="{_quoted(name)}"\r\nContent-Type: {mime}'
    )
    parts += (f"--{boundary}\r\n{head}\r\n\r\n".encode(), data, f"\r\n--{boundary}--\r\n".encode())
    return b"".join(parts)


def _quoted(text: str) -> str:
    # A line end or a quote in a name would begin another header.
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise InvalidRequestError(f"{name}= is a {type(value).__name__}; a form holds texts, numbers and lists of them")
