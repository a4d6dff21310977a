"""
Golden files of one API family: what a request, an answer and a stream come to, as plain JSON.

A scenario is ``NAME.request.json``, ``NAME.response.json`` and a stream, of which any answer may be missing, and
``NAME.expected.json``.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_master.classes import LLMResponse, Request, Usage
from llm_master.errors import LLMError
from llm_master.events import ReasoningEvent, RefusalEvent, StreamEvent, ToolCallDeltaEvent, ToolCallEvent, UsageEvent

__all__ = ["Golden", "check_any_split", "check_given_is_kept"]


def seen_usage(usage: Usage) -> dict[str, int]:
    """The counts that are not 0."""
    return {field: value for field in usage.__struct_fields__ if (value := getattr(usage, field))}


def seen_response(response: LLMResponse) -> dict[str, Any]:
    """What a golden file says of a response: everything that is not empty."""
    seen = {
        "content": response.content,
        "finish_reason": response.finish_reason,
        "usage": seen_usage(response.usage),
        "model": response.model,
        "request_id": response.request_id,
        "reasoning": response.reasoning,
        "refusal": response.refusal,
        "tool_calls": [[call.id, call.name, call.raw_arguments] for call in response.tool_calls],
        "citations": response.citations,
        "opaque": response.opaque,
        "notes": list(response.notes),
        "service_tier": response.service_tier,
        "images": [[image.mime_type, (image.data or b"").decode("latin-1")] for image in response.images],
        "audio": (response.audio_data or b"").decode("latin-1"),
    }
    return {field: value for field, value in seen.items() if value or field in ("content", "finish_reason")}


def seen_pieces(pieces: list[str | StreamEvent]) -> list[Any]:
    """Text as it is, events as ``[kind, ...]``; neighbouring pieces of a kind are kept apart."""
    seen: list[Any] = []
    for piece in pieces:
        if isinstance(piece, str):
            seen.append(piece)
        elif isinstance(piece, ReasoningEvent | RefusalEvent):
            seen.append([piece.type, piece.text])
        elif isinstance(piece, ToolCallDeltaEvent):
            seen.append([piece.type, piece.index, piece.id, piece.name, piece.arguments])
        elif isinstance(piece, ToolCallEvent):
            seen.append([piece.type, piece.tool_call.id, piece.tool_call.name, piece.tool_call.raw_arguments])
        else:
            assert isinstance(piece, UsageEvent)
            seen.append([piece.type, seen_usage(piece.usage)])
    return seen


def check_given_is_kept(request: Request, encode: Callable[[Request], bytes]) -> None:
    """Encoding a request again, as a retry does, gives the same, and changes nothing that was given."""
    messages, params = request.messages, request.params
    before = copy.deepcopy((messages, params))
    first: Any = None
    for _ in range(2):
        try:
            found: Any = (encode(request), request.dropped)
        except LLMError as error:
            found = str(error)
        assert first in (None, found)
        first = found
        assert (request.messages, request.params) == before
        assert request.messages is messages
        assert request.params is params


def check_any_split(folded: Callable[[list[bytes]], Any], data: bytes) -> None:
    """A stream comes to the same however its bytes are split, down to single ones."""
    whole = folded([data])

    @settings(max_examples=12, deadline=None)
    @given(st.lists(st.floats(0, 1), max_size=8))
    def check(cuts: list[float]) -> None:
        edges = [0, *sorted(int(cut * len(data)) for cut in cuts), len(data)]
        assert folded([data[a:b] for a, b in itertools.pairwise(edges)]) == whole

    check()
    assert folded([data[at : at + 1] for at in range(len(data))]) == whole


class Golden:
    """
    The scenarios of a folder.

    Args:
        family: the module of the wire.
        streamed: how the names of files with a stream end.
    """

    def __init__(self, folder: Path, family: Any, dialect: Any, streamed: str = ".sse") -> None:
        self._folder, self._family, self._dialect, self._streamed = folder, family, dialect, streamed

    def names(self, suffix: str = ".request.json") -> list[str]:
        """The scenarios that have a file with this ending."""
        return sorted(path.name.removesuffix(suffix) for path in self._folder.glob(f"*{suffix}"))

    @property
    def both(self) -> list[str]:
        """The scenarios with a whole answer and a stream."""
        return sorted(set(self.names(self._streamed)) & set(self.names(".response.json")))

    def request(self, name: str) -> Request:
        """The request of a scenario."""
        return Request(**{"params": {}, **json.loads((self._folder / f"{name}.request.json").read_text())})

    def expected(self, name: str) -> Any:
        """What a scenario must come to."""
        return json.loads((self._folder / f"{name}.expected.json").read_text())

    def plain(self, name: str) -> bytes:
        """The whole answer."""
        return (self._folder / f"{name}.response.json").read_bytes()

    def stream(self, name: str) -> bytes:
        """The bytes of a stream that is kept as it is."""
        return (self._folder / f"{name}{self._streamed}").read_bytes()

    def folded(self, name: str, *parts: bytes) -> tuple[Any, list[str | StreamEvent]]:
        """A fold that was given these bytes, and the pieces that it gave out."""
        fold = self._family.Fold(self.request(name), self._dialect)
        pieces = [piece for part in parts for piece in fold.feed(part)]
        return fold, pieces + fold.end()

    def check_body(self, name: str) -> None:
        """The body is the golden one, and nothing that was given is changed."""
        request, expected = self.request(name), self.expected(name)
        before = copy.deepcopy((request.messages, request.params))
        assert json.loads(self._family.encode(request, self._dialect)) == expected["body"]
        assert list(request.dropped) == expected["dropped"]
        assert (request.messages, request.params) == before
        # Once more, as a retry does: the same body, and nothing listed twice.
        assert json.loads(self._family.encode(request, self._dialect)) == expected["body"]
        assert list(request.dropped) == expected["dropped"]

    def check_flag(self, name: str) -> None:
        """A streamed request differs by its flag only."""
        request = self.request(name)
        request.stream = True
        body = json.loads(self._family.encode(request, self._dialect))
        assert body == {**self.expected(name)["body"], "stream": True}

    def check_answer(self, name: str) -> LLMResponse:
        """The whole answer is read as the golden one; it is given back."""
        response: LLMResponse = self._family.decode(self.plain(name), self.request(name), self._dialect)
        assert seen_response(response) == self.expected(name)["response"]
        assert response.raw == json.loads(self.plain(name))
        assert response.provider == self.request(name).provider
        return response

    def check_stream(self, name: str, data: bytes) -> Any:
        """The stream is folded into the golden pieces and answer; the fold is given back."""
        expected = self.expected(name)
        fold, pieces = self.folded(name, data)
        assert seen_pieces(pieces) == expected["pieces"]
        assert seen_response(fold.response()) == expected["response"]
        assert fold.complete
        assert "".join(piece for piece in pieces if isinstance(piece, str)) == expected["response"]["content"]
        reasoning = "".join(piece.text for piece in pieces if isinstance(piece, ReasoningEvent))
        assert reasoning == expected["response"].get("reasoning", "")
        return fold

    def check_alike(self, name: str, data: bytes) -> None:
        """A stream folds to what the plain answer decodes to."""
        plain = self._family.decode(self.plain(name), self.request(name), self._dialect)
        streamed = self.folded(name, data)[0].response()
        plain.raw_body = streamed.raw_body = None
        assert streamed == plain

    def check_splits(self, name: str, data: bytes) -> None:
        """Any split of the bytes gives the same answer."""
        whole, pieces = self.folded(name, data)

        @settings(max_examples=40, deadline=None)
        @given(st.lists(st.integers(0, len(data)), max_size=12))
        def check(cuts: list[int]) -> None:
            bounds = [0, *sorted(cuts), len(data)]
            parts = [data[start:end] for start, end in itertools.pairwise(bounds)]
            fold, split_pieces = self.folded(name, *parts)
            assert fold.response() == whole.response()
            assert seen_pieces(split_pieces) == seen_pieces(pieces)
            assert (fold.done, fold.complete, fold.notes) == (whole.done, whole.complete, whole.notes)

        check()
        byte_by_byte, _ = self.folded(name, *(data[at : at + 1] for at in range(len(data))))
        assert byte_by_byte.response() == whole.response()
