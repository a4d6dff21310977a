"""
Images in messages: every form a caller may give, the part it becomes, and what is no image.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from llm_master.errors import InvalidRequestError
from llm_master.image_input import MAX_IMAGE_BYTES, sniff_mime
from llm_master.messages import normalise

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))
PNG_URI = "data:image/png;base64," + base64.b64encode(PNG).decode()
URL = "https://example.com/cat.png"

FILES = {
    "cat.png": PNG,
    "cat": b"\xff\xd8\xff\xe0jpeg",
    "note.txt": b"only words",
    "paper.pdf": b"%PDF-1.7 ...",
    "empty.png": b"",
}


def _read(path: str) -> bytes:
    return FILES[path]


def _content(message: dict[str, Any], **options: Any) -> Any:
    return normalise([{"role": "user", **message}], **options)[0]["content"]


def _image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


PARTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "image_url, object": ({"type": "image_url", "image_url": {"url": URL}}, _image(URL)),
    "image_url, bare": ({"type": "image_url", "image_url": URL}, _image(URL)),
    "image_url, detail beside it": (
        {"type": "image_url", "image_url": URL, "detail": "low"},
        _image(URL, detail="low"),
    ),
    "image_url, other fields": (
        {"type": "image_url", "image_url": {"url": URL, "own": 1}, "detail": "low", "cache_control": {"type": "x"}},
        {**_image(URL, own=1, detail="low"), "cache_control": {"type": "x"}},
    ),
    "image_url, bytes": (
        {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
        _image(PNG_URI, detail="high"),
    ),
    "data URI": ({"type": "image_url", "image_url": PNG_URI}, _image(PNG_URI)),
    "scheme in capitals": ({"type": "image_url", "image_url": "HTTPS://H/x"}, _image("HTTPS://H/x")),
    "input_image": ({"type": "input_image", "image_url": URL, "detail": "low"}, _image(URL, detail="low")),
    "image, URL": ({"type": "image", "image": URL}, _image(URL)),
    "image, url": ({"type": "image", "url": URL}, _image(URL)),
    "image, url object": ({"type": "image", "image": {"url": URL, "detail": "low"}}, _image(URL, detail="low")),
    "image, data URI": ({"type": "image", "image": PNG_URI}, _image(PNG_URI)),
    "image, bytes": ({"type": "image", "image": PNG, "own": 1}, {**_image(PNG_URI), "own": 1}),
    "image, bytearray": ({"type": "image", "image": bytearray(PNG)}, _image(PNG_URI)),
    "image, path object": ({"type": "image", "image": Path("cat.png")}, _image(PNG_URI)),
    "image, path": ({"type": "image", "path": "cat.png", "detail": "low"}, _image(PNG_URI, detail="low")),
    "image, base64": ({"type": "image", "data": PNG_URI.partition(",")[2], "mimeType": "image/png"}, _image(PNG_URI)),
    "image, data as bytes": ({"type": "image", "data": PNG, "media_type": "image/png"}, _image(PNG_URI)),
    "image, data as URI": ({"type": "image", "data": PNG_URI}, _image(PNG_URI)),
    "image without a type": ({"image": URL}, _image(URL)),
    "path without a type": ({"path": Path("cat.png")}, _image(PNG_URI)),
    "bytes alone": (PNG, _image(PNG_URI)),
    "memoryview alone": (memoryview(PNG), _image(PNG_URI)),
    "path object alone": (Path("cat.png"), _image(PNG_URI)),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("key", ["content", "parts"])
def test_an_image_becomes_a_part(name: str, key: str) -> None:
    given, part = PARTS[name]
    result = _content({key: ["look:", given]}, read_file=_read)
    assert result == [{"type": "text", "text": "look:"}, part]


def test_the_bytes_say_what_an_image_is_not_its_name_nor_its_label() -> None:
    jpeg = "data:image/jpeg;base64," + base64.b64encode(FILES["cat"]).decode()
    assert _content({"content": [{"path": "cat"}]}, read_file=_read) == [_image(jpeg)]
    assert _content({"content": [{"type": "image", "data": FILES["cat"], "mime_type": "image/png"}]}) == [_image(jpeg)]
    new = _content({"content": [{"type": "image", "data": b"new format", "mime_type": "image/x-new"}]})
    assert new[0]["image_url"]["url"].startswith("data:image/x-new;base64,")


@pytest.mark.parametrize(
    ("head", "data", "sent"),
    [
        ("data:image/png;base64,", FILES["cat"], "data:image/jpeg;base64,"),
        ("data:image/jpg;base64,", FILES["cat"], "data:image/jpeg;base64,"),
        ("DATA:Image/GIF;charset=x;base64,", PNG, "data:image/png;base64,"),
        ("data:image/png;charset=x;base64,", PNG, "data:image/png;charset=x;base64,"),
        ("data:image/heif;base64,", b"\0\0\0\x18ftypheic", "data:image/heif;base64,"),
        ("data:image/x-new;base64,", b"new format", "data:image/x-new;base64,"),
    ],
)
def test_a_data_uri_is_sent_under_the_name_of_its_bytes(head: str, data: bytes, sent: str) -> None:
    text = base64.b64encode(data).decode()
    for given in (head + text, head + base64.encodebytes(data).decode(), f"{head}\r\n {text}\n"):
        assert _content({"content": [{"type": "image_url", "image_url": {"url": given}}]}) == [_image(sent + text)]


@pytest.mark.parametrize(
    "place", [lambda fields: fields, lambda fields: {"content": fields}], ids=["message", "content"]
)
def test_text_with_images_and_paths(place: Any) -> None:
    fields = {"text": "look", "images": [URL, PNG, Path("cat.png"), {"type": "image_url", "image_url": URL}],
              "image_paths": ["cat.png", Path("cat.png")],
              "image_details": ["low", None, "high", "low", "auto", None]}  # fmt: skip
    assert _content(place(fields), read_file=_read) == [
        {"type": "text", "text": "look"},
        _image(URL, detail="low"),
        _image(PNG_URI),
        _image(PNG_URI, detail="high"),
        _image(URL, detail="low"),
        _image(PNG_URI, detail="auto"),
        _image(PNG_URI),
    ]


def test_shorter_still() -> None:
    image = _image(URL, detail="low")
    text = {"type": "text", "text": "look"}
    assert _content({"content": "look", "images": URL, "image_details": "low"}) == [text, image]
    assert _content({"parts": ["look"], "images": [URL], "image_details": "low"}) == [text, image]
    assert _content({"images": [URL]}) == [_image(URL)]
    assert _content({"image_paths": "cat.png"}, read_file=_read) == [_image(PNG_URI)]


def test_what_an_assistant_drew_is_not_shorthand() -> None:
    message = {"role": "assistant", "content": "here", "images": [_image(URL)]}
    assert normalise([message]) == [message]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a plain text": ({"type": "image", "image": "cat.png"}, r"\[0\]\.image \('cat\.png'\) is neither.*Path"),
    "a file URL": ({"type": "image_url", "image_url": "file:///etc/passwd"}, "neither an http"),
    "another scheme": ({"type": "image_url", "image_url": "ftp://h/x.png"}, "neither an http"),
    "a URL with a space": ({"type": "image_url", "image_url": "https://h/a b"}, "neither an http"),
    "a URL with a line break": ({"type": "image_url", "image_url": "https://h/a\nb"}, "neither an http"),
    "no URL": ({"type": "image_url"}, "must hold one of image, url, image_url, path, data, not none"),
    "an empty object": ({"type": "image_url", "image_url": {}}, "must be an image's URL.*not None"),
    "two images": ({"type": "image", "url": URL, "data": PNG}, r"must hold one of.*\['url', 'data'\]"),
    "a number": ({"type": "image", "image": 5}, "must be an image's URL, data URI, bytes or path, not 5"),
    "not an image": ({"type": "image_url", "image_url": "data:application/pdf;base64,AAAA"}, "not a data URI of"),
    "not base64": ({"type": "image_url", "image_url": "data:image/svg+xml,<svg/>"}, "not a data URI of an image"),
    "no comma": ({"type": "image_url", "image_url": "data:image/png;base64"}, "not a data URI of an image"),
    "no mime type": ({"type": "image_url", "image_url": "data:;base64,AAAA"}, "not a data URI of an image"),
    "bad base64": ({"type": "image_url", "image_url": "data:image/png;base64,AA*A"}, "not valid base64"),
    "cut base64": ({"type": "image_url", "image_url": "data:image/png;base64,AAA"}, "not valid base64"),
    "foreign letters": ({"type": "image_url", "image_url": "data:image/png;base64,ÄÄÄÄ"}, "not valid base64"),
    "no data": ({"type": "image_url", "image_url": "data:image/png;base64,"}, "without data"),
    "bad data": ({"type": "image", "data": "!!!!"}, "not valid base64"),
    "words as bytes": ({"type": "image", "image": b"only words"}, "is not an image: it has no known image format"),
    "a PDF": ({"type": "image", "image": b"%PDF-1.7"}, "is not an image: it looks like application/pdf"),
    "no bytes": ({"type": "image", "image": b""}, "is not an image: it is empty"),
    "a text file": ({"path": "note.txt"}, r"\('note\.txt'\) is not an image"),
    "an empty file": ({"path": "empty.png"}, r"\('empty\.png'\) is not an image: it is empty"),
    "an empty path": ({"type": "image", "path": ""}, r"\.path must be the path of an image file"),
    "a path that is a number": ({"type": "image", "path": 5}, r"\.path must be the path of an image file, not 5"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_refused_and_named(name: str) -> None:
    part, says = BAD[name]
    with pytest.raises(InvalidRequestError, match=says) as caught:
        _content({"content": [part]}, read_file=_read)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"images": ["cat.png"]}, r"messages\[0\]\.images\[0\] \('cat\.png'\) is neither"),
        ({"images": [URL, 5]}, r"messages\[0\]\.images\[1\] must be"),
        ({"image_paths": [5]}, r"messages\[0\]\.image_paths\[0\] must be the path"),
        ({"images": [URL], "image_details": ["low", "high"]}, "image_details must be one word, or as many"),
        ({"images": [URL], "image_details": 5}, "image_details must be one word"),
    ],
)
def test_a_wrong_image_beside_a_text_is_named(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        _content({"text": "look", **fields}, read_file=_read)


# -- files ----------------------------------------------------------------------------------------------------------


def test_a_real_file_is_read_and_only_where_one_was_given(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    opened = []

    def read(name: str) -> bytes:
        opened.append(name)
        return Path(name).read_bytes()

    assert _content({"text": str(path), "image_paths": [str(path)]}, read_file=read) == [
        {"type": "text", "text": str(path)},
        _image(PNG_URI),
    ]
    assert opened == [str(path)]
    for plain in ({"content": str(path)}, {"content": [str(path), {"type": "text", "text": URL}]}):
        _content(plain, read_file=read)
    assert len(opened) == 1


@pytest.mark.parametrize("name", ["gone.png", "", "a\0b"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name) if name else str(tmp_path)
    with pytest.raises(
        InvalidRequestError, match=r"image_paths\[0\]: the image file .* cannot be read \(.+\)"
    ) as caught:
        _content({"text": "a", "image_paths": [path]}, read_file=lambda each: Path(each).read_bytes())
    assert isinstance(caught.value.__cause__, OSError | ValueError)
    assert repr(path) in str(caught.value)


def test_without_a_reader_no_file_is_read() -> None:
    with pytest.raises(InvalidRequestError, match=r"'cat\.png' cannot be read here; give the image's bytes"):
        _content({"image_paths": ["cat.png"]})


def test_an_error_of_the_reader_itself_is_not_hidden() -> None:
    def read(_: str) -> bytes:
        raise LookupError("later")

    with pytest.raises(LookupError, match="later"):
        _content({"image_paths": ["cat.png"]}, read_file=read)


# -- size -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{"content": [PNG]}, {"images": [PNG_URI]}, {"image_paths": ["cat.png"]}])
def test_an_image_over_the_limit_is_refused(fields: dict[str, Any]) -> None:
    assert _content(fields, read_file=_read, max_image_bytes=len(PNG)) == [_image(PNG_URI)]
    with pytest.raises(InvalidRequestError, match=r"an image may have 47: scale it down"):
        _content(fields, read_file=_read, max_image_bytes=len(PNG) - 1)


def test_the_limit_is_20_mib() -> None:
    assert MAX_IMAGE_BYTES == 20 * 1024 * 1024
    with pytest.raises(InvalidRequestError, match=r"20,971,521 bytes"):
        _content({"content": [PNG.ljust(MAX_IMAGE_BYTES + 1, b"\0")]})


# -- formats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xdb", "image/jpeg"),
        (b"GIF87a..", "image/gif"),
        (b"GIF89a..", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        (b"BM\x00\x00", "image/bmp"),
        (b"II*\x00", "image/tiff"),
        (b"MM\x00*", "image/tiff"),
        (b"\x00\x00\x00\x20ftypavif", "image/avif"),
        (b"\x00\x00\x00\x20ftypheic", "image/heic"),
        (b"\x00\x00\x00\x20ftypmp42", None),
        (b"<svg xmlns='x'/>", "image/svg+xml"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?><svg/>", "image/svg+xml"),
        (b"<?xml version='1.0'?><html/>", None),
        (b"%PDF-1.7", "application/pdf"),
        (b"\x89PNG", None),
        (b"hello", None),
        (b"", None),
    ],
)
def test_a_format_is_told_by_its_first_bytes(data: bytes, mime: str | None) -> None:
    assert sniff_mime(data) == mime
