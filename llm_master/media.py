"""
What a server takes besides text, as data: kinds, mime types, bytes, and whether it fetches an address by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from llm_master.errors import InvalidRequestError, UnsupportedParameterError

__all__ = ["FAMILY_MEDIA", "FetchNeededError", "MediaRule", "check_data", "check_url", "data_of", "is_address"]
__all__ += ["mime_of_name"]


class MediaRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What is taken of one kind of input: ``image``, ``file``, ``audio`` or ``video``.

    Attributes:
        mimes: mime types that are taken, ``text/*`` for all of a sort; (): whatever it is, the server decides.
        max_bytes: the largest one as data, in bytes before base64; None: no bound is known.
        urls: mime types that the server fetches from an http(s) address itself, ``*`` for all; (): it fetches none, so
            the client does.
    """

    mimes: tuple[str, ...] = ()
    max_bytes: int | None = None
    urls: tuple[str, ...] = ()


_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_ALL = ("*",)

#: What each family takes where a dialect's ``media`` says nothing of a kind. Documented at: platform.claude.com
#: vision and pdf-support; ai.google.dev image-understanding; docs.cohere.com image-inputs; docs.aws.amazon.com
#: API_runtime_Message (read 2026-11-21); developers.openai.com pdf-files (``file_url`` is of the Responses API only).
#: Not verified: the bounds of Claude's and Cohere's images, Gemini's types of images. A bound that is too high leaves
#: the refusal to the provider.
FAMILY_MEDIA: dict[str, dict[str, MediaRule]] = {
    "openai_chat": {"image": MediaRule(urls=_ALL), "video": MediaRule(urls=_ALL)},
    "openai_responses": {
        "image": MediaRule(urls=_ALL),
        "file": MediaRule(urls=_ALL),
        "video": MediaRule(urls=_ALL),
    },
    "anthropic_messages": {
        "image": MediaRule(mimes=_IMAGES, max_bytes=10 * 1024 * 1024, urls=_ALL),
        "file": MediaRule(
            mimes=("application/pdf", "text/*", *_IMAGES), max_bytes=32 * 1024 * 1024, urls=("application/pdf",)
        ),
    },
    "gemini": {
        "image": MediaRule(mimes=("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")),
        "file": MediaRule(max_bytes=50 * 1024 * 1024),
    },
    "cohere": {"image": MediaRule(mimes=_IMAGES, max_bytes=20 * 1024 * 1024, urls=_ALL)},
    "bedrock": {"image": MediaRule(mimes=_IMAGES, max_bytes=3_932_160)},
}


class FetchNeededError(UnsupportedParameterError):
    """
    The messages hold an address that the server does not fetch.

    Attributes:
        url: the address; what: the kind of thing behind it.
    """

    def __init__(self, who: str, what: str, url: str) -> None:
        article = "an" if what[0] in "aei" else "a"
        super().__init__(
            f"{who} does not fetch {article} {what} by its address; give the {what} as a data: URL, bytes or path",
            parameter=what,
        )
        self.url = url
        self.what = what


_SUFFIXES = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "htm": "text/html",
    "json": "application/json",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
}


def mime_of_name(*names: object) -> str | None:
    """The mime type that the first of some file names or addresses with a known ending shows."""
    for name in names:
        if isinstance(name, str):
            found = _SUFFIXES.get(name.partition("?")[0].partition("#")[0].rpartition(".")[2].lower())
            if found is not None:
                return found
    return None


def is_address(url: str) -> bool:
    """Whether a text is an http(s) address."""
    return url[:8].lower().startswith(("https://", "http://"))


def data_of(url: str, what: str, *, who: str) -> tuple[str, str]:
    """
    The mime type that a ``data:`` URL names, "" for none, and its data in base64.

    Raises:
        InvalidRequestError: it has no data.
    """
    head, comma, data = url[5:].partition(",")
    mime, *options = [field.strip().lower() for field in head.split(";")]
    if not comma or not data:
        raise InvalidRequestError(f"{who}: the data: URL of the {what} has no data")
    if "base64" not in options or "%" in data:
        import base64
        from urllib.parse import unquote_to_bytes

        raw = unquote_to_bytes(data)
        data = raw.decode("ascii", "replace") if "base64" in options else base64.b64encode(raw).decode()
    return mime, data


_NOTHING_KNOWN = MediaRule()


def _among(mime: str, words: tuple[str, ...]) -> bool:
    return mime in words or "*" in words or f"{mime.partition('/')[0]}/*" in words


def _rule(given: Mapping[str, MediaRule], family: str, what: str) -> MediaRule:
    return given.get(what) or FAMILY_MEDIA[family].get(what) or _NOTHING_KNOWN


def check_url(
    given: Mapping[str, MediaRule], family: str, what: str, url: str, *, who: str, mime: str | None = None
) -> None:
    """
    Hold an http(s) address against what the server fetches.

    Args:
        given: the dialect's own rules, before those of the family.
        mime: what is known of the thing behind it.

    Raises:
        FetchNeededError: the server does not fetch it.
    """
    urls = _rule(given, family, what).urls
    if not (_among(mime, urls) if mime is not None else urls):
        raise FetchNeededError(who, what, url)


def check_data(given: Mapping[str, MediaRule], family: str, what: str, mime: str, payload: str, *, who: str) -> None:
    """
    Hold data against what the server takes; ``payload`` is its base64.

    Raises:
        InvalidRequestError: its type is not taken, or it is too large; the message names what is taken.
    """
    rule = _rule(given, family, what)
    if rule.mimes and not _among(mime, rule.mimes):
        raise InvalidRequestError(
            f"{who} takes no {what} of type {mime!r}; it takes {', '.join(rule.mimes)}: convert it"
        )
    size = len(payload) * 3 // 4
    if rule.max_bytes is not None and size > rule.max_bytes + 2:
        raise InvalidRequestError(
            f"{who}: the {what} has {size:,} bytes, and it takes {rule.max_bytes:,}; make it smaller"
        )
