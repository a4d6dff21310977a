"""
What the calls beside chat bring: vectors, ranks, transcripts, speech, verdicts and counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from llm_master.classes import Attempt, Usage
from llm_master.late import pricing, whole_cost

if TYPE_CHECKING:
    import os
    from decimal import Decimal
    from pathlib import Path

    from llm_master.cost import Cost

__all__ = [
    "EmbeddingResponse",
    "ModerationResponse",
    "ModerationResult",
    "OperationResponse",
    "RankedDocument",
    "RerankResponse",
    "SpeechResponse",
    "TokenCount",
    "TranscriptSegment",
    "TranscriptWord",
    "TranscriptionResponse",
]


class OperationResponse(msgspec.Struct, kw_only=True):
    """
    What every answer beside chat holds.

    Attributes:
        model_name: the name as asked; ``model``: as served; ``provider``: its key.
        usage: tokens, all 0 where the provider bills something else.
        latency: seconds of the whole call.
        attempts: every request the call made, oldest first.
        request_id: the provider's id of the request.
        dropped: parameters left out because the provider does not take them (``drop_params=True``).
        notes: what was unusual but harmless.
        call_id: the call's own id, under which the ledger keeps it, None without a ledger.
        billed: what the provider bills besides tokens, by name (``audio_seconds``, ``characters``, ``search_units``).
        reported_cost: USD (a Decimal) that the provider itself reported for one request, else None.
    """

    model_name: str = ""
    model: str | None = None
    provider: str | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    latency: float = 0.0
    time_to_first_token: float | None = None
    attempts: tuple[Attempt, ...] = ()
    request_id: str | None = None
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pricer: Any = None
    call_id: str | None = None
    billed: dict[str, Any] | None = None
    reported_cost: Any = None
    service_tier: ClassVar[str | None] = None
    geo: ClassVar[str | None] = None

    @property
    def cost(self) -> Decimal | None:
        """
        USD of the whole call, its failed attempts included, by tokens, seconds, characters or searches; None when no
        price is known.
        """
        return whole_cost(self)

    @property
    def cost_details(self) -> Cost | None:
        """What ``cost`` is made of; None where ``cost`` is. See ``cost.Cost``."""
        return pricing().response_cost(self)  # type: ignore[no-any-return]  # loaded late


class EmbeddingResponse(OperationResponse):
    """Vectors of texts, in their order: ``embeddings`` holds one list of floats for each text."""

    embeddings: list[list[float]]


class RankedDocument(msgspec.Struct):
    """
    One document and how well it answers the query.

    ``index`` is its place in the list that was given, ``score`` the provider's figure: higher is better, mostly
    0 to 1.
    """

    index: int
    score: float
    document: str


class RerankResponse(OperationResponse):
    """Documents, the best first; ``search_units`` is what Cohere bills, None elsewhere."""

    results: list[RankedDocument]
    search_units: float | None = None


class TranscriptWord(msgspec.Struct):
    """A word and where it is, in seconds."""

    word: str
    start: float
    end: float


class TranscriptSegment(msgspec.Struct):
    """A piece of a transcript and where it is, in seconds; ``speaker`` where the provider tells speakers apart."""

    text: str
    start: float
    end: float
    speaker: str | None = None


class TranscriptionResponse(OperationResponse):
    """
    What was said in a recording.

    Attributes:
        text: the transcript, or subtitles for ``response_format`` ``srt`` and ``vtt``.
        language: as the provider found it, else None.
        duration: seconds of the recording, None where the provider does not say.
        segments, words: empty unless asked for and served.
        raw: the provider's own JSON, None for plain text.
    """

    text: str
    language: str | None = None
    duration: float | None = None
    segments: list[TranscriptSegment] = msgspec.field(default_factory=list)
    words: list[TranscriptWord] = msgspec.field(default_factory=list)
    raw: Any = None


class SpeechResponse(OperationResponse):
    """Spoken text: ``audio`` holds the bytes, ``mime_type`` what they are."""

    audio: bytes
    mime_type: str | None = None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the sound to a file, which is replaced if it exists, and give its path; raises OSError."""
        from pathlib import Path

        found = Path(path)
        found.write_bytes(self.audio)
        return found

    def __repr__(self) -> str:
        return (
            f"SpeechResponse({len(self.audio)} bytes of {self.mime_type}, model_name={self.model_name!r},"
            f" provider={self.provider!r})"
        )


class ModerationResult(msgspec.Struct):
    """
    What a provider thinks of one input.

    ``categories`` and ``scores`` have the provider's own names; ``flagged`` is whether any category applies.
    """

    flagged: bool
    categories: dict[str, bool]
    scores: dict[str, float]

    @property
    def flagged_categories(self) -> tuple[str, ...]:
        """The names of the categories that apply."""
        return tuple(name for name, applies in self.categories.items() if applies)


class ModerationResponse(OperationResponse):
    """One result for each input; ``flagged``, ``categories`` and ``scores`` are those of all of them together."""

    results: list[ModerationResult]

    @property
    def flagged(self) -> bool:
        """Whether any input is flagged."""
        return any(result.flagged for result in self.results)

    @property
    def categories(self) -> dict[str, bool]:
        """By category, whether it applies to any input."""
        found: dict[str, bool] = {}
        for result in self.results:
            for name, applies in result.categories.items():
                found[name] = found.get(name, False) or applies
        return found

    @property
    def scores(self) -> dict[str, float]:
        """By category, the highest score of all inputs."""
        found: dict[str, float] = {}
        for result in self.results:
            for name, score in result.scores.items():
                found[name] = max(found.get(name, score), score)
        return found


class TokenCount(msgspec.Struct, frozen=True):
    """
    How many tokens an input has for a model.

    ``source`` says who counted: ``provider`` (its own endpoint), ``tokenizer`` (the model's, on this machine, with what
    the chat format is known to add; what a host puts before the messages is not in it) or ``estimate`` (by the
    characters, on the high side). ``note`` is the name of the tokenizer's encoding, or why it is an estimate.
    """

    tokens: int
    source: Literal["provider", "tokenizer", "estimate"]
    model: str
    note: str | None = None
