"""
The rows of the ledger: one of a call, one of each of its attempts.

Times are whole microseconds; ``ts`` counts from the UNIX epoch, UTC. Money is whole picodollars (1 USD = 10**12), so
that sums are exact in every database. Truth is 0 or 1. ``None`` is "not known", never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from llm_master.classes import Usage
from llm_master.money import EXACT

__all__ = [
    "ATTEMPT_COLUMNS",
    "CALL_COLUMNS",
    "PICO",
    "TAG_COLUMNS",
    "TOKENS",
    "AttemptRow",
    "CallRow",
    "Make",
    "Rows",
    "picodollars",
    "rows_of",
    "tags_of",
    "tags_text",
    "usd",
]

PICO = 10**12
TOKENS: tuple[str, ...] = tuple(name for name in Usage.__struct_fields__ if name != "estimated")


class CallRow(msgspec.Struct, kw_only=True):
    """
    One call, in the order of the columns of ``calls``.

    ``id`` is 32 hex digits (``books.new_uid``). ``request_id`` is the provider's. ``tags`` is a JSON array of names
    (``tags_text``). ``cost`` is of the whole call, what failed attempts cost included. ``fallback`` is 1 when another
    model than the one asked for served. ``contents`` is None unless the user asked to keep contents.
    """

    id: str
    ts: int
    kind: str
    streamed: int = 0
    request_id: str | None = None
    model_asked: str
    model: str | None = None
    provider: str | None = None
    deployment: str | None = None
    key_id: str | None = None
    tags: str = "[]"
    outcome: str
    error: str | None = None
    error_code: str | None = None
    finish_reason: str | None = None
    attempts: int = 0
    fallback: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    web_searches: int = 0
    usage_estimated: int = 0
    cost: int | None = None
    cost_complete: int = 0
    price_source: str | None = None
    price_as_of: str | None = None
    service_tier: str | None = None
    latency_us: int = 0
    ttft_us: int | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    contents: str | None = None


class AttemptRow(msgspec.Struct, kw_only=True):
    """
    One attempt of a call, in the order of the columns of ``attempts``; ``number`` counts from 1.

    ``waited_us`` is how long it stood still before it was made, and ``wait_reason`` why.
    """

    call_id: str
    number: int
    ts: int
    provider: str
    model: str
    deployment: str | None = None
    key_id: str | None = None
    request_id: str | None = None
    outcome: str
    status_code: int | None = None
    error: str | None = None
    error_code: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    web_searches: int = 0
    usage_estimated: int = 0
    cost: int | None = None
    cost_complete: int = 0
    price_source: str | None = None
    latency_us: int = 0
    ttft_us: int | None = None
    waited_us: int = 0
    wait_reason: str | None = None


# One call as the database takes it: its row, those of its attempts and those of its tags.
Rows = tuple[tuple[Any, ...], list[tuple[Any, ...]], list[tuple[Any, ...]]]
# What the ledger is given: the rows are built where they are written, not where the call ends.
Make = Callable[[], Rows]

CALL_COLUMNS: tuple[str, ...] = CallRow.__struct_fields__
ATTEMPT_COLUMNS: tuple[str, ...] = AttemptRow.__struct_fields__
TAG_COLUMNS: tuple[str, ...] = ("tag", "call_id", "ts")


def tags_text(names: Iterable[str]) -> str:
    """The column ``tags``: the names as a JSON array, each once, in their order."""
    return msgspec.json.encode(list(dict.fromkeys(names))).decode()


def tags_of(text: str) -> list[str]:
    """The names in the column ``tags``."""
    return [] if text == "[]" else list(dict.fromkeys(msgspec.json.decode(text, type=list[str])))


def rows_of(call: CallRow, attempts: Sequence[AttemptRow]) -> Rows:
    """A call's rows as the database takes them, for ``Ledger.add``."""
    plain = msgspec.structs.astuple
    tags = [(tag, call.id, call.ts) for tag in tags_of(call.tags)] if call.tags != "[]" else []
    return plain(call), [plain(attempt) for attempt in attempts], tags


def picodollars(amount: Decimal | None) -> int | None:
    """USD as whole picodollars, rounded half to even; None stays None."""
    return None if amount is None else int(EXACT.to_integral_value(EXACT.scaleb(amount, 12)))


def usd(amount: int | None) -> Decimal | None:
    """Picodollars as exact USD; None stays None."""
    return None if amount is None else EXACT.scaleb(Decimal(amount), -12)
