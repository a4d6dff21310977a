"""
Pixels and numbers of input images: read from the first bytes, and held against what providers document.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import re
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.behaviours import ok
from support.fault_server import FaultServer

from llm_master import FetchPolicy, InvalidRequestError, LLMConfig, QueryLLM
from llm_master.base_provider import UnifiedProvider
from llm_master.catalogue.image_limits import load_image_limits
from llm_master.image_header import dimensions, dimensions_in_base64
from llm_master.image_limits import limits_of
from llm_master.policy.limits import MemoryLimiter

# Images of a size, written down from the formats' own specifications ------------------------------------------------


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0) + bytes(40)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + bytes(20)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg(width: int, height: int, before: bytes = b"", frame: int = 0xC0) -> bytes:
    sizes = struct.pack(">BHHB", 8, height, width, 3) + bytes(9)
    tables = segment(0xDB, bytes(65)) + segment(0xC4, bytes(29))
    return b"\xff\xd8" + segment(0xE0, b"JFIF\0" + bytes(9)) + before + tables + segment(frame, sizes) + b"\xff\xda"


def with_preview(width: int, height: int) -> bytes:
    """A photograph whose first segments hold a smaller JPEG, a colour profile and bytes that fill."""
    profile = b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes(60_000)) for _ in range(3))
    return jpeg(width, height, segment(0xE1, b"Exif\0\0" + jpeg(160, 120)) + profile + b"\xff\xff", frame=0xC2)


def webp(kind: bytes, content: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I4s4sI", len(content) + 12, b"WEBP", kind, len(content)) + content + bytes(10)


def webp_lossy(width: int, height: int) -> bytes:
    return webp(b"VP8 ", b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width | 0x4000, height))


def webp_lossless(width: int, height: int) -> bytes:
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14 | 1 << 28))


def webp_extended(width: int, height: int) -> bytes:
    return webp(b"VP8X", bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"))


FORMATS: dict[str, Callable[[int, int], bytes]] = {
    "png": png,
    "gif": gif,
    "jpeg": jpeg,
    "jpeg with a preview": with_preview,
    "webp lossy": webp_lossy,
    "webp lossless": webp_lossless,
    "webp extended": webp_extended,
}
sides = st.integers(1, 0x3FFF)


@pytest.mark.parametrize("name", FORMATS)
@given(width=sides, height=sides)
def test_the_size_of_each_format(name: str, width: int, height: int) -> None:
    data = FORMATS[name](width, height)
    assert dimensions(data) == (width, height)
    assert dimensions_in_base64(base64.b64encode(data).decode()) == (width, height)


@given(st.sampled_from(sorted(FORMATS)), sides, sides, st.data())
def test_what_is_cut_off_has_its_size_or_none(name: str, width: int, height: int, data: st.DataObject) -> None:
    whole = FORMATS[name](width, height)
    cut = data.draw(st.integers(0, min(len(whole), 400)))
    assert dimensions(whole[:cut]) in ((width, height), None)


@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 "]), st.binary())
def test_any_bytes_are_read_without_an_error(head: bytes, rest: bytes) -> None:
    found = dimensions(head + rest)
    assert found is None or all(isinstance(side, int) and side >= 0 for side in found)
    dimensions_in_base64((head + rest).decode("latin-1"))


def test_a_jpeg_whose_segments_have_no_length_ends() -> None:
    assert dimensions(b"\xff\xd8" + b"\xff\xe0\x00\x00" * 1000) is None


class Watched(bytes):
    """Bytes that count the looks at them."""

    looks = 0

    def __getitem__(self, key: Any) -> Any:
        self.looks += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("unit", [b"\xff", b"\xff\x01", b"\xff\xe0\x00\x02"], ids=["filling", "marker", "segment"])
def test_a_jpeg_of_markers_alone_keeps_nobody_busy(unit: bytes) -> None:
    endless = Watched(b"\xff\xd8" + unit * 200_000)
    assert dimensions(endless) is None
    assert endless.looks < 20_000


def test_a_photograph_with_many_segments_has_its_size() -> None:
    assert dimensions(jpeg(4000, 3000, segment(0xE1, bytes(500)) * 3000)) == (4000, 3000)
    assert dimensions(jpeg(4000, 3000, b"\xff" * 200)) == (4000, 3000)
    assert dimensions(jpeg(4000, 0)) == (4000, 0), "the number of lines stands behind the first scan"


# The limits ---------------------------------------------------------------------------------------------------------


def test_every_limit_has_a_source_and_names_providers_that_exist() -> None:
    limits = load_image_limits()
    assert len(limits) >= 5
    for limit in limits:
        assert limit.source.startswith("https://")
        assert dt.date.fromisoformat(limit.checked) <= dt.date(2026, 11, 21)
        assert set(limit.providers) <= {"*", *UnifiedProvider.PROVIDER_CONFIGS}
        assert any(value is not None for value in (limit.side, limit.pixels, limit.count, limit.many))


@pytest.mark.parametrize(
    ("provider", "model", "sides"),
    [
        ("anthropic", "claude-sonnet-4-5", [8000]),
        ("openrouter", "anthropic/claude-opus-5", [8000]),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", [8000, 8000]),
        ("bedrock", "amazon.nova-pro-v1:0", [8000]),
        ("openai", "gpt-4o", []),
        ("gemini", "gemini-2.5-flash", []),
    ],
)
def test_which_limits_hold(provider: str, model: str, sides: list[int]) -> None:
    assert [limit.side for limit in limits_of(provider, model)] == sides
    # What a model is called on a server of one's own says nothing.
    assert limits_of("vllm", "claude-like", own_server=True) == ()


def client(server: FaultServer, **more: Any) -> QueryLLM:
    keys = {f"{name}_api_key": "k" for name in ("anthropic", "groq", "cohere", "openai")}
    urls = {"anthropic": "/v1", "groq": "/v1", "cohere": "/v2", "openai": "/v1"}
    config = LLMConfig(**keys, base_urls={name: server.url + path for name, path in urls.items()})  # type: ignore[arg-type]  # keys
    return QueryLLM(config, limiter=MemoryLimiter(), **more)


def ask(server: FaultServer, model: str, images: list[Any]) -> Any:
    async def main() -> Any:
        async with client(server) as llm:
            return await llm.query(model, [{"role": "user", "content": ["look", *images]}])

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("model", "images", "says"),
    [
        (
            "claude-sonnet-4-5",
            [png(8001, 10)],
            "messages[0].content[1] has 8,001 x 10 pixels, and it takes 8,000 a side",
        ),
        ("claude-sonnet-4-5", [png(1, 1), jpeg(10, 9000)], "messages[0].content[2] has 10 x 9,000 pixels"),
        ("claude-sonnet-4-5", [png(2001, 5)] * 21, "it takes 2,000 a side beside more than 20 images"),
        ("claude-haiku-4-5", [png(1, 1)] * 101, "takes 100 images in a request, and the messages hold 101"),
        ("groq/llava", [png(8000, 5000)], "it takes 33,177,600 in all; scale it down"),
        ("command-a-vision-07-2025", [png(1, 1)] * 21, "takes 20 images in a request, and the messages hold 21"),
    ],
)
def test_what_is_too_large_is_refused_before_the_request(
    model: str, images: list[Any], says: str, fault_server: FaultServer
) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(says)) as caught:
        ask(fault_server, model, images)
    assert model.rpartition("/")[2] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert fault_server.requests == []


@pytest.mark.parametrize(
    ("model", "images"),
    [
        ("claude-sonnet-4-5", [png(8000, 8000), webp_lossy(7999, 1), gif(8000, 8000)]),
        ("claude-sonnet-4-5", [png(2000, 2000)] * 21),
        ("claude-sonnet-4-5", [{"type": "image", "image": "https://example.com/large.png"}]),
        ("claude-sonnet-4-5", [b"\xff\xd8\xff\xe0 cut off"]),
        ("groq/llava", [png(8000, 4147)]),
        ("gpt-4o", [png(16_383, 16_383)]),
    ],
)
def test_what_fits_or_cannot_be_read_is_sent(model: str, images: list[Any], fault_server: FaultServer) -> None:
    fault_server.default = ok("Seen.")
    assert ask(fault_server, model, images).content == "Seen."
    assert len(fault_server.requests) == 1


def test_a_native_block_and_a_file_are_looked_at_too(fault_server: FaultServer) -> None:
    data = base64.b64encode(png(9000, 1)).decode()
    block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    broken = {**block, "source": {**block["source"], "data": base64.encodebytes(png(9000, 1)).decode()}}
    for part in (block, broken, {"type": "file", "data": png(9000, 1), "filename": "a.png"}):
        with pytest.raises(InvalidRequestError, match="9,000 x 1 pixels"):
            ask(fault_server, "claude-sonnet-4-5", [part])
    assert fault_server.requests == []


def test_a_fallback_that_takes_it_is_asked(fault_server: FaultServer) -> None:
    fault_server.default = ok("Seen.")

    async def main() -> Any:
        async with client(fault_server) as llm:
            content = ["look", png(9000, 1)]
            return await llm.query("claude-sonnet-4-5", [{"role": "user", "content": content}], fallback_model="gpt-4o")

    assert asyncio.run(main()).provider == "openai"
    assert [seen.path for seen in fault_server.requests] == ["/v1/chat/completions"]


def test_what_is_fetched_is_looked_at_too(fault_server: FaultServer) -> None:
    large = png(9000, 1)

    async def picture(exchange: Any) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {len(large)}\r\n\r\n".encode()
        await exchange.send(head + large)

    fault_server.route("/large.png", [picture])

    async def main() -> None:
        policy = FetchPolicy(allow_http=True, private_hosts=frozenset({"127.0.0.1"}))
        config = LLMConfig(bedrock_api_key="k", base_urls={"bedrock": fault_server.url})
        async with QueryLLM(config, fetch=policy) as llm:
            part = {"type": "image", "image": f"{fault_server.url}/large.png"}
            await llm.query("bedrock/amazon.nova-pro-v1:0", [{"role": "user", "content": ["look", part]}])

    with pytest.raises(InvalidRequestError, match="9,000 x 1 pixels, and it takes 8,000 a side"):
        asyncio.run(main())
    assert [seen.path for seen in fault_server.requests] == ["/large.png"]
