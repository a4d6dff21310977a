"""
Images, files and recordings in messages: one part for every form, and what each family makes of it.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import ok
from support.fault_server import FaultServer

from llm_master import FetchError, FetchPolicy, LLMConfig, QueryLLM
from llm_master.base_provider import row_of
from llm_master.classes import Request
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.families import FAMILIES, dialect_of
from llm_master.file_input import MAX_FILE_BYTES, sniff_audio
from llm_master.media import FetchNeededError, MediaRule
from llm_master.messages import normalise


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(40))
PDF = b"%PDF-1.7 words"
WAV = b"RIFF\x00\x00\x00\x00WAVEfmt "
MP3 = b"ID3\x04words"
PDF_URI = f"data:application/pdf;base64,{b64(PDF)}"
FILES = {"a/paper.pdf": PDF, "note.txt": b"words", "talk.wav": WAV, "cat.png": PNG, "data.bin": b"\x00\xff\xfe"}


def part_of(given: Any) -> dict[str, Any]:
    return normalise([{"role": "user", "content": ["look:", given]}], read_file=FILES.__getitem__)[0]["content"][1]


def file_part(name: str, data: str, **rest: Any) -> dict[str, Any]:
    return {"type": "file", "file": {"filename": name, "file_data": data}, **rest}


def sound(data: bytes, form: str) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": b64(data), "format": form}}


def block(kind: str, **source: Any) -> dict[str, Any]:
    """A block of the Messages API."""
    return {"type": kind, "source": source}


WEB = "https://example.com/a/paper.pdf?x=1"
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(PNG)}"}}
PARTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "canonical": (file_part("a.pdf", PDF_URI), file_part("a.pdf", PDF_URI)),
    "path object alone": (Path("a/paper.pdf"), file_part("paper.pdf", PDF_URI)),
    "bytes alone": (PDF, file_part("file.pdf", PDF_URI)),
    "text file alone": (Path("note.txt"), file_part("note.txt", f"data:text/plain;base64,{b64(b'words')}")),
    "path": ({"type": "file", "path": "a/paper.pdf"}, file_part("paper.pdf", PDF_URI)),
    "bytes": ({"type": "file", "file": PDF, "filename": "b.pdf"}, file_part("b.pdf", PDF_URI)),
    "base64": ({"type": "file", "data": b64(PDF), "mime_type": "x/y", "own": 1}, file_part("file.pdf", PDF_URI, own=1)),
    "stated": (
        {"type": "file", "data": b"\x00\xff\xfe", "mime_type": "application/x-own"},
        file_part("file.x-own", "data:application/x-own;base64,AP/+"),
    ),
    "inner bytes": ({"type": "file", "file": {"file_data": PDF, "filename": "c"}}, file_part("c", PDF_URI)),
    "address": ({"type": "file", "url": WEB}, file_part("paper.pdf", WEB)),
    "input_file": ({"type": "input_file", "file_url": WEB}, file_part("paper.pdf", WEB)),
    "input_file, data": (
        {"type": "input_file", "filename": "d.pdf", "file_data": PDF_URI},
        file_part("d.pdf", PDF_URI),
    ),
    "file id": ({"type": "input_file", "file_id": "f-1"}, {"type": "file", "file": {"file_id": "f-1"}}),
    "storage": ({"type": "file", "url": "gs://b/x.pdf"}, file_part("x.pdf", "gs://b/x.pdf")),
    "base64 with line breaks": (
        {"type": "file", "file_data": f"data:application/pdf;base64,{b64(PDF)[:4]}\n{b64(PDF)[4:]}"},
        file_part("file.pdf", PDF_URI),
    ),
    "block, image": (block("image", type="base64", media_type="image/png", data=b64(PNG)), PICTURE),
    "block, image, label wrong": (block("image", type="base64", media_type="image/gif", data=b64(PNG)), PICTURE),
    "block, image, address": (
        {**block("image", type="url", url="https://h/x.png"), "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "https://h/x.png"}, "cache_control": {"type": "ephemeral"}},
    ),
    "block, image, file id": (block("image", type="file", file_id="f"), block("image", type="file", file_id="f")),
    "block, document": (
        {**block("document", type="base64", media_type="application/pdf", data=b64(PDF)), "title": "e.pdf"},
        file_part("e.pdf", PDF_URI),
    ),
    "block, words": (
        block("document", type="text", media_type="text/plain", data="words"),
        file_part("file.txt", f"data:text/plain;base64,{b64(b'words')}"),
    ),
    "block, document, address": (block("document", type="url", url=WEB), file_part("paper.pdf", WEB)),
    "block, unnamed address": (
        block("document", type="url", url="https://h/x"),
        block("document", type="url", url="https://h/x"),
    ),
    "block, cited": (
        {**block("document", type="url", url=WEB), "citations": {"enabled": True}},
        {**block("document", type="url", url=WEB), "citations": {"enabled": True}},
    ),
    "sound alone": (WAV, sound(WAV, "wav")),
    "sound, path object": (Path("talk.wav"), sound(WAV, "wav")),
    "sound, path": ({"type": "audio", "path": "talk.wav"}, sound(WAV, "wav")),
    "sound, bytes": ({"type": "input_audio", "input_audio": MP3}, sound(MP3, "mp3")),
    "sound, label wrong": ({"type": "audio", "data": b64(MP3), "format": "wav"}, sound(MP3, "mp3")),
    "sound, URI": ({"type": "audio", "audio": f"data:audio/mpeg;base64,{b64(b'raw')}"}, sound(b"raw", "mp3")),
    "sound, canonical": (sound(WAV, "wav"), sound(WAV, "wav")),
}


@pytest.mark.parametrize("name", PARTS)
def test_every_form_becomes_one_part(name: str) -> None:
    given, part = PARTS[name]
    before = copy.deepcopy(given)
    assert part_of(given) == part
    assert given == before


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"type": "file"}, "must hold one of"),
        ({"type": "file", "url": WEB, "path": "a/paper.pdf"}, "must hold one of"),
        ({"type": "file", "file": "a/paper.pdf"}, "pathlib.Path"),
        ({"type": "file", "url": "file:///etc/passwd"}, "neither an address nor a data URI"),
        ({"type": "file", "path": "gone.pdf"}, "gone"),
        ({"type": "file", "data": b""}, "is empty"),
        ({"type": "file", "path": "data.bin"}, "unknown type"),
        ({"type": "file", "file_data": "data:application/pdf;base64,A"}, "not valid base64"),
        ({"type": "file", "file_data": "data:application/pdf;base64,"}, "without data"),
        ({"type": "audio", "url": "https://example.com/a b.wav"}, "percent-encode its blanks"),
        ({"type": "audio", "url": "file:///etc/passwd"}, "not valid base64"),
        ({"type": "audio", "data": b"??"}, "no known audio format"),
        ({"type": "input_audio", "input_audio": {}}, "bytes, path or base64"),
        ({"type": "audio"}, "must hold one of"),
    ],
)
def test_what_cannot_be_used_is_named(given: dict[str, Any], says: str) -> None:
    def read(path: str) -> bytes:
        if path not in FILES:
            raise OSError(2, f"{path} is gone")
        return FILES[path]

    with pytest.raises(InvalidRequestError, match=says) as caught:
        normalise([{"role": "user", "content": [given]}], read_file=read)
    assert "messages[0].content[0]" in str(caught.value)


def test_a_file_over_the_bound_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(InvalidRequestError, match="split it"):
        part_of({"type": "file", "data": "A" * (MAX_FILE_BYTES * 4 // 3 + 8)})


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (WAV, "wav"),
        (MP3, "mp3"),
        (b"\xff\xfb\x90\x00", "mp3"),
        (b"\xff\xf1\x50", "aac"),
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
        (b"\x00\x00\x00\x20ftypM4A ", "m4a"),
        (b"\x1aE\xdf\xa3", "webm"),
        (b"\xff\xd8\xff\xe0", None),
        (b"RIFF\x00\x00\x00\x00WEBP", None),
        (b"", None),
    ],
)
def test_a_recording_is_told_by_its_first_bytes(data: bytes, word: str | None) -> None:
    assert sniff_audio(data) == word


# Families -------------------------------------------------------------------------------------------------------------

MODELS = {
    "openai_chat": ("openai", "gpt-4o"),
    "openai_responses": ("openai", "gpt-4o"),
    "anthropic_messages": ("anthropic", "claude-sonnet-4-5"),
    "gemini": ("gemini", "gemini-2.5-flash"),
    "cohere": ("cohere", "command-a-vision-07-2025"),
    "bedrock": ("bedrock", "us.amazon.nova-2-lite-v1:0"),
}
PNG_URI = f"data:image/png;base64,{b64(PNG)}"
GIF_URI = f"data:image/gif;base64,{b64(b'GIF89a')}"
KINDS: dict[str, dict[str, Any]] = {
    "image": {"type": "image_url", "image_url": {"url": PNG_URI}},
    "image address": {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
    "bmp": {"type": "image_url", "image_url": {"url": "data:image/bmp;base64,Qk0="}},
    "gif": {"type": "image_url", "image_url": {"url": GIF_URI}},
    "large image": {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 28_000_004}},
    "pdf": file_part("a.pdf", PDF_URI),
    "pdf address": file_part("a.pdf", "https://example.com/a.pdf"),
    "text address": file_part("a.txt", "https://example.com/a.txt"),
    "zip": file_part("a.zip", "data:application/zip;base64,UEsDBA=="),
    "wav": sound(WAV, "wav"),
    "flac": sound(b"fLaC", "flac"),
}
# What is sent, or the words of the refusal; FETCH: this client fetches it.
FETCH = "does not fetch"
NO_FILES, NO_AUDIO = "takes no files", "takes no audio"
TABLE: dict[str, dict[str, Any]] = {
    "openai_chat": {
        "image": PNG_URI, "image address": "https://example.com/cat.png", "bmp": "image/bmp", "gif": GIF_URI,
        "pdf": PDF_URI, "pdf address": FETCH, "text address": FETCH, "wav": b64(WAV), "flac": "audio/flac",
    },
    "openai_responses": {
        "image": PNG_URI, "image address": "https://example.com/cat.png", "bmp": "image/bmp", "gif": GIF_URI,
        "pdf": PDF_URI, "pdf address": '"file_url":"https://example.com/a.pdf"',
        "text address": '"file_url":"https://example.com/a.txt"', "wav": NO_AUDIO, "flac": NO_AUDIO,
    },
    "anthropic_messages": {
        "image": b64(PNG), "image address": '"type":"url","url":"https://example.com/cat.png"', "bmp": "image/bmp",
        "gif": b64(b"GIF89a"), "large image": "takes 10,485,760", "pdf": '"type":"document"',
        "pdf address": '"type":"url","url":"https://example.com/a.pdf"', "text address": FETCH,
        "zip": "application/zip", "wav": NO_AUDIO, "flac": NO_AUDIO,
    },
    "gemini": {
        "image": '"mimeType":"image/png"', "image address": '"fileUri":"https://example.com/cat.png"',
        "bmp": "image/bmp", "gif": "image/gif", "pdf": '"mimeType":"application/pdf"',
        "pdf address": '"fileUri":"https://example.com/a.pdf"', "wav": '"mimeType":"audio/wav"',
        "flac": '"mimeType":"audio/flac"',
    },
    "cohere": {
        "image": PNG_URI, "image address": "https://example.com/cat.png", "bmp": "image/bmp", "gif": GIF_URI,
        "large image": "takes 20,971,520", "pdf": NO_FILES, "pdf address": NO_FILES, "text address": NO_FILES,
        "zip": NO_FILES, "wav": NO_AUDIO, "flac": NO_AUDIO,
    },
    "bedrock": {
        "image": '"format":"png"', "image address": FETCH, "bmp": "image/bmp", "gif": '"format":"gif"',
        "large image": "takes 3,932,160", "pdf": '"format":"pdf"', "pdf address": FETCH, "text address": FETCH,
        "zip": "application/zip", "wav": "takes no audio", "flac": "takes no audio",
    },
}  # fmt: skip
CASES = [(family, kind) for family, kinds in TABLE.items() for kind in kinds]


def test_the_table_knows_every_family() -> None:
    drawing = {"openai_images", "polling"}  # they take a prompt
    assert TABLE.keys() == MODELS.keys() == FAMILIES.keys() - drawing


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_what_a_family_makes_of_each_kind(family: str, kind: str) -> None:
    provider, model = MODELS[family]
    row = row_of(provider)
    content = [{"type": "text", "text": "look"}, KINDS[kind]]
    request = Request(provider, model, [{"role": "user", "content": content}], {})
    expected = TABLE[family][kind]
    module: Any = importlib.import_module(FAMILIES[family][0])
    sent = outcome(lambda: module.encode(request, dialect_of(row, family)))
    if isinstance(sent, InvalidRequestError):
        assert provider in str(sent)
        assert len(str(sent)) < 300
    assert isinstance(sent, FetchNeededError) is (expected is FETCH)
    assert expected in str(sent)


def outcome(encode: Callable[[], bytes]) -> str | InvalidRequestError:
    """The body as compact JSON, or the refusal."""
    try:
        return json.dumps(json.loads(encode()), separators=(",", ":"))
    except InvalidRequestError as error:
        return error


# Fetched for the provider ---------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[FaultServer]:
    async def picture(exchange: Any) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {len(PNG)}\r\n\r\n".encode()
        await exchange.send(head + PNG)

    with FaultServer() as found:
        found.default = ok("A cat.")
        found.route("/pictures/", [picture])
        yield found


def client(server: FaultServer, **policy: Any) -> QueryLLM:
    given = {"allow_http": True, "private_hosts": frozenset({"127.0.0.1"}), **policy}
    config = LLMConfig(base_urls={"ollama": f"{server.url}/v1"})
    return QueryLLM(config, fetch=FetchPolicy(**given))


def look(server: FaultServer, count: int = 1, path: str = "/pictures/") -> list[dict[str, Any]]:
    images = [{"type": "image_url", "image_url": f"{server.url}{path}{each}.png"} for each in range(count)]
    return [{"role": "user", "content": ["look", *images]}]


@pytest.mark.parametrize("stream", [False, True])
def test_an_address_that_a_provider_does_not_fetch_is_sent_as_data(server: FaultServer, stream: bool) -> None:
    messages = look(server, 3)
    messages[0]["content"].append(messages[0]["content"][1])
    before = copy.deepcopy(messages)

    async def main() -> str:
        async with client(server) as llm:
            if not stream:
                return (await llm.query("ollama/llava", messages)).content
            return await (await llm.query("ollama/llava", messages, stream=True)).text()

    assert asyncio.run(main()) == "A cat."
    assert messages == before
    fetched, asked = server.requests[:3], server.requests[3]
    assert sorted(each.path for each in fetched) == [f"/pictures/{each}.png" for each in range(3)]
    assert all(each.header("Authorization") is None for each in fetched)
    parts = asked.json["messages"][0]["content"]
    assert [part["image_url"]["url"] for part in parts[1:]] == [PNG_URI] * 4


@pytest.mark.parametrize(
    ("policy", "count", "says"),
    [
        ({"private_hosts": frozenset()}, 1, "loopback"),
        ({"allow_http": False}, 1, "only https"),
        ({"allow": False}, 1, "switched off"),
        ({"max_urls": 2}, 3, "max_urls"),
        ({"max_bytes": 10}, 1, "larger than 10 bytes"),
        ({"max_total_bytes": 100}, 3, "larger than 100 bytes together"),
    ],
)
def test_what_must_not_be_fetched_ends_the_call_before_any_request(
    server: FaultServer, policy: dict[str, Any], count: int, says: str
) -> None:
    async def main() -> None:
        async with client(server, **policy) as llm:
            await llm.query("ollama/llava", look(server, count))

    with pytest.raises(FetchError, match=says):
        asyncio.run(main())
    assert not [each for each in server.requests if each.path.startswith("/v1")]


def test_a_fetch_ends_with_the_time_of_the_call(server: FaultServer) -> None:
    async def silent(exchange: Any) -> None:
        await exchange.silence()

    server.route("/slow/", [silent])

    async def main() -> None:
        async with client(server) as llm:
            await llm.query("ollama/llava", look(server, 2, "/slow/"), timeout=0.05)

    with pytest.raises(FetchError, match="in the time of the call"):
        asyncio.run(main())


@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-flash", "openai/gpt-5.6"])
def test_blocks_of_one_family_are_read_by_all(model: str) -> None:
    llm = QueryLLM(LLMConfig(openai_api_key="k", anthropic_api_key="k", gemini_api_key="k"))
    content = [
        block("image", type="base64", media_type="image/png", data=b64(PNG)),
        block("document", type="base64", media_type="application/pdf", data=b64(PDF)),
    ]
    api = "responses" if "5.6" in model else None
    body = json.dumps(llm.preview_request(model, [{"role": "user", "content": content}], api=api))
    assert b64(PNG) in body
    assert b64(PDF) in body
    assert ('"source"' in body) is model.startswith("claude")
    wrong = block("image", type="base64", media_type="image/bmp", data=b64(b"BM words"))
    with pytest.raises(InvalidRequestError, match="takes no image of type 'image/bmp'"):
        llm.preview_request(model, [{"role": "user", "content": [wrong]}], api=api)


def test_a_body_that_drips_ends_with_the_time_of_the_call(server: FaultServer) -> None:
    async def dripping(exchange: Any) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n")
        for byte in PNG:
            await exchange.send(bytes((byte,)))
        await exchange.silence()

    server.route("/drops/", [dripping])

    async def main() -> None:
        async with client(server) as llm:
            await llm.query("ollama/llava", look(server, 1, "/drops/"), timeout=0.1)

    with pytest.raises(FetchError, match="in the time of the call"):
        asyncio.run(main())


def test_a_provider_that_fetches_by_itself_gets_the_address(server: FaultServer) -> None:
    config = LLMConfig(base_urls={"openai": f"{server.url}/v1"}, openai_api_key="sk-test-0123456789")

    async def main() -> None:
        async with QueryLLM(config) as llm:
            await llm.query("gpt-4o-mini", look(server))

    asyncio.run(main())
    assert [each.path for each in server.requests] == ["/v1/chat/completions"]
    assert server.requests[0].json["messages"][0]["content"][1]["image_url"]["url"] == f"{server.url}/pictures/0.png"


def test_a_rule_is_read_from_a_row() -> None:
    rule = row_of("ollama").chat.media["image"]
    assert rule == MediaRule(urls=())
    assert issubclass(FetchNeededError, UnsupportedParameterError)
