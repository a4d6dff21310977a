"""
Amazon's binary event stream: any split, any damage, and lengths that nobody should believe.
"""

from __future__ import annotations

import itertools
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.bedrock_requests import DIALECT, request, stream_of
from support.event_stream import event, frame

from llm_master.errors import ResponseError, ResponseTooLargeError
from llm_master.incoming import MessageEnds
from llm_master.wire import bedrock as family
from llm_master.wire.bedrock_frames import MAX_FRAME, Frame, FrameParser

MODEL = "amazon.nova-lite-v1:0"
ONE = event("messageStart", {"role": "assistant"})
TWO = event("messageStop", {"stopReason": "end_turn"})


def parser(**fields: int) -> FrameParser:
    return FrameParser("bedrock", MODEL, **fields)


def read(data: bytes) -> list[Frame]:
    return list(parser().feed(data))


def prelude(total: int, headers: int) -> bytes:
    start = struct.pack(">II", total, headers)
    return start + struct.pack(">I", zlib.crc32(start))


def sealed(message: bytes) -> bytes:
    return message + struct.pack(">I", zlib.crc32(message))


texts = st.text(st.characters(codec="utf-8"), max_size=20)
headers = st.dictionaries(texts.filter(lambda name: 0 < len(name.encode()) < 256), texts, max_size=4)


@settings(deadline=None)
@given(st.lists(st.tuples(headers, st.binary(max_size=60)), max_size=5), st.lists(st.integers(0, 600), max_size=8))
def test_messages_come_out_as_they_went_in(messages: list[tuple[dict[str, str], bytes]], cuts: list[int]) -> None:
    data = b"".join(frame(*message) for message in messages)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    one = parser()
    found = [each for start, end in itertools.pairwise(bounds) for each in one.feed(data[start:end])]
    assert [(each.headers, each.payload) for each in found] == messages
    assert one.waiting == 0


def test_what_is_left_of_a_message_is_known() -> None:
    one = parser()
    assert [each.headers[":event-type"] for each in one.feed(ONE + TWO[:-1])] == ["messageStart"]
    assert one.waiting == len(TWO) - 1
    assert [each.headers[":event-type"] for each in one.feed(TWO[-1:])] == ["messageStop"]


@settings(deadline=None, max_examples=200)
@given(st.integers(0, (len(ONE) + len(TWO)) * 8 - 1))
def test_one_flipped_bit_is_found(bit: int) -> None:
    data = bytearray(ONE + TWO)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ResponseError):
        read(bytes(data))


def test_what_came_before_the_damage_is_kept() -> None:
    data = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}}) + TWO[:-1] + b"\x00"
    fold = family.Fold(request(MODEL), DIALECT)
    with pytest.raises(ResponseError, match="damaged event stream") as caught:
        fold.feed(data)
    assert fold.pending == ["Hi"]
    assert (fold.response().content, fold.complete) == ("Hi", False)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<html><body>502 Bad Gateway</body></html>", "502 Bad Gateway"),
        (b'{"message": "The security token is invalid"}', "security token"),
        (b"data: {}\n\ndata: [DONE]\n\n", "something else than an event stream"),
        (bytes(64), "something else than an event stream"),
        (b"\xff" * 64, "something else than an event stream"),
    ],
)
def test_a_body_that_is_no_event_stream_is_shown(data: bytes, said: str) -> None:
    with pytest.raises(ResponseError, match=said) as caught:
        read(data)
    text = str(caught.value)
    assert "bedrock" in text
    assert repr(MODEL) in text
    assert text.isprintable()


def test_later_damage_shows_no_bytes() -> None:
    with pytest.raises(ResponseError) as caught:
        read(ONE + b"x" * 40)
    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize(
    ("total", "headers"), [(15, 0), (0, 0), (16, 1), (40, 25), (40, 0xFFFFFFFF), (200_000, 131_073)]
)
def test_impossible_lengths_are_refused_at_once(total: int, headers: int) -> None:
    with pytest.raises(ResponseError, match="impossible lengths"):
        read(prelude(total, headers))


def test_a_message_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(ResponseTooLargeError, match=MODEL) as caught:
        read(prelude(MAX_FRAME + 1, 0))
    assert not caught.value.retryable
    assert list(parser(most=16).feed(sealed(prelude(16, 0)))) == [Frame({}, b"")]
    with pytest.raises(ResponseTooLargeError):
        list(parser(most=15).feed(prelude(16, 0)))


@pytest.mark.parametrize(
    "headers",
    [
        b"\x05name",  # no type
        b"\x04name\x0a",  # an unknown type
        b"\x04name\x07\x00\x09ab",  # a text past the end
        b"\x04name\x07\x00",  # half a length
        b"\x04name\x04\x00",  # half a number
        b"\x01\xff\x07\x00\x00",  # a name that is no text
        b"\x01a\x07\x00\x01\xff",  # a value that is no text
        b"\x09abc",  # a name past the end
    ],
)
def test_headers_that_cannot_be_read_are_an_error(headers: bytes) -> None:
    message = sealed(prelude(16 + len(headers), len(headers)) + headers)
    with pytest.raises(ResponseError, match="headers that cannot be read"):
        read(message)


def test_headers_of_other_types_are_passed_over() -> None:
    rest = (
        b"\x01t\x08"
        + bytes(8)
        + b"\x01u\x09"
        + bytes(16)
        + b"\x01b\x02\x01"
        + b"\x01s\x03\x00\x01"
        + b"\x01i\x04"
        + bytes(4)
    )
    headers = rest + b"\x01x\x07\x00\x01y"
    message = sealed(prelude(16 + len(headers) + 2, len(headers)) + headers + b"{}")
    assert read(message) == [Frame({"x": "y"}, b"{}")]


def test_a_large_message_in_small_pieces_takes_linear_time() -> None:
    data = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "x" * 2_000_000}})
    fold = family.Fold(request(MODEL), DIALECT)
    pieces = [piece for at in range(0, len(data), 64) for piece in fold.feed(data[at : at + 64])]
    assert [len(piece) for piece in pieces if isinstance(piece, str)] == [2_000_000]


def test_the_buffer_is_given_back() -> None:
    one = parser()
    data = stream_of("plain_text")
    for _ in range(200):
        assert len(list(one.feed(data))) > 5
    assert one.waiting == 0
    assert len(one._buffer) == 0


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 400), max_size=12))
def test_the_end_of_a_message_is_seen_wherever_the_bytes_are_cut(payloads: list[bytes], cuts: list[int]) -> None:
    messages = [event("chunk", payload) for payload in payloads]
    whole = b"".join(messages)
    ends = {sum(map(len, messages[: number + 1])) for number in range(len(messages))}
    found = MessageEnds()
    at = 0
    for cut in [*sorted(cut for cut in cuts if cut < len(whole)), len(whole)]:
        assert found.end_in(whole[at:cut]) is any(at < end <= cut for end in ends)
        at = cut
