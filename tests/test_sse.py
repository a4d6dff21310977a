"""
The event-stream parser: the grammar, every split of the bytes, the limits.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_master.errors import ResponseTooLargeError
from llm_master.wire.sse import SSEParser


def parse(*pieces: bytes, max_line: int = 1 << 20) -> list[bytes]:
    parser = SSEParser(max_line)
    found = [payload for piece in pieces for payload in parser.feed(piece)]
    return found + parser.flush()


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"data: 1\n\ndata: 2\n\n", [b"1", b"2"]),
        (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [b"1", b"2"]),
        (b"data: 1\r\rdata: 2\r\r", [b"1", b"2"]),
        (b"data: 1\r\n\ndata: 2\n\r\n", [b"1", b"2"]),
        (b"\xef\xbb\xbfdata: 1\n\n", [b"1"]),
        (b"data:1\n\ndata:  2\n\n", [b"1", b" 2"]),
        (b": keep-alive\n\ndata: 1\n\n: OPENROUTER PROCESSING\n\ndata: 2\n\n", [b"1", b"2"]),
        (b"event: a\ndata: 1\n\nevent: b\ndata: 2\n\n", [b"1", b"2"]),
        (b"id: 7\nretry: 10\ndata: 1\nevent: b\n\n", [b"1"]),
        (b"data: [1,\ndata: 2]\n\n", [b"[1,\n2]"]),
        (b"data\ndata: 1\n\n", [b"\n1"]),
        (b"data:\n\ndata: \n\n", [b"", b""]),
        (b"event: ping\n\ndata: 1\n\n", [b"1"]),
        (b"\n\n\ndata: 1\n\n\n\ndata: 2\n\n", [b"1", b"2"]),
        (b"dat: 1\n\ndatax: 2\n\n", []),
        (b"", []),
    ],
)
def test_the_grammar(stream: bytes, payloads: list[bytes]) -> None:
    assert parse(stream) == payloads
    assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == payloads


LINES = st.sampled_from(
    [
        b"data: {}",
        b'data:{"a":"\xe2\x82\xac\xf0\x9f\x98\x80"}',
        b"data: [DONE]",
        b"data",
        b"data:",
        b"data: x: y",
        b": note",
        b"event: e",
        b"id: 1",
        b"",
        b"",
        b"",
        b"\xef\xbb\xbfdata: late",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.builds(
    lambda bom, lines, tail: bom + b"".join(line + end for line, end in lines) + tail,
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(LINES, ENDS), max_size=12),
    st.sampled_from([b"", b"data: {}", b'data: {"a', b"da"]),
)


def reference(stream: bytes) -> list[bytes]:
    """The grammar's own algorithm, line by line over the whole stream."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found: list[bytes] = []
    data: list[bytes] = []
    for line in text.split(b"\n")[:-1]:
        if not line and data:
            found.append(b"\n".join(data))
            data = []
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
    return found


@given(STREAMS, st.lists(st.integers(0, 200), max_size=8))
def test_any_split_gives_the_payloads_of_the_grammar(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parser = SSEParser()
    fed = [payload for a, b in itertools.pairwise(edges) for payload in parser.feed(stream[a:b])]
    assert fed == reference(stream)
    assert fed + parser.flush() == parse(stream)


def test_last_event_names_the_last_event_only() -> None:
    parser = SSEParser()
    parser.feed(b"event: a\ndata: 1\n\n")
    assert parser.last_event == "a"
    parser.feed(b"event:b\nid: 3\ndata: 1\n\n")
    assert parser.last_event == "b"
    parser.feed(b"event: c\n\n")
    assert parser.last_event == "b"
    parser.feed(b"data: 1\n\n")
    assert parser.last_event is None


def test_payloads_come_out_as_soon_as_their_blank_line_is_there() -> None:
    parser = SSEParser()
    assert parser.feed(b"data: 1\n") == []
    assert parser.feed(b"\ndata: 2\n\nda") == [b"1", b"2"]
    assert parser.feed(b"ta: 3\r") == []
    assert parser.feed(b"\r") == [b"3"]
    assert parser.feed(b"\ndata: 4\n\n") == [b"4"]


@pytest.mark.parametrize(
    ("tail", "payloads", "truncated"),
    [
        (b'data: {"a":1}', [b'{"a":1}'], False),
        (b'data: {"a":1}\n', [b'{"a":1}'], False),
        (b"data: [DONE]", [b"[DONE]"], False),
        (b'data: {"a":', [], True),
        (b'data: {"a":"\xf0\x9f', [], True),
        (b": bye", [], False),
        (b"", [], False),
        (b"data: ", [], False),
    ],
)
def test_flush_takes_a_last_line_only_when_it_is_whole(tail: bytes, payloads: list[bytes], truncated: bool) -> None:
    parser = SSEParser()
    assert parser.feed(b"data: 0\n\n" + tail) == [b"0"]
    assert parser.flush() == payloads
    assert parser.truncated is truncated
    assert parser.flush() == []


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("lead", [b"", b"data: 0\n\n", b": x\n\n"])
@pytest.mark.parametrize("shape", [b"data: %s", b"event: e\ndata: %s", b"data:%s", b"data: 0\ndata: %s"])
def test_the_limit_holds_however_the_bytes_come(size: int, lead: bytes, shape: bytes) -> None:
    room = 64 - len(shape % b"")
    for fits, length in ((True, room), (False, room + 1)):
        event = shape % (b"1" * length)
        assert len(event) == (64 if fits else 65)
        stream = lead + event + b"\n\n"
        pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
        if fits:
            assert parse(*pieces, max_line=64)[-1].endswith(b"1" * length)
        else:
            with pytest.raises(ResponseTooLargeError, match="more than 64 bytes"):
                parse(*pieces, max_line=64)


def test_the_limit_stops_a_line_that_never_ends() -> None:
    parser = SSEParser(1000, provider="acme", model="m1")
    for _ in range(10):
        assert parser.feed(b"x" * 100) == []
    with pytest.raises(ResponseTooLargeError, match=r"^acme streamed .* 'm1'; ask") as caught:
        parser.feed(b"x")
    assert (caught.value.provider, caught.value.model, caught.value.retryable) == ("acme", "m1", False)
