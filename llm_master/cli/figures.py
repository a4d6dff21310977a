"""
Numbers, times and names of the ledger as the command line shows them.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_master.ledger.reading import Reader, UsageRow

__all__ = [
    "columns",
    "fit",
    "flat",
    "harmless",
    "left",
    "money",
    "monies",
    "reader",
    "rows_of_text",
    "seconds",
    "size",
    "styled",
    "when",
    "width",
]

#: What a column says where the ledger has nothing.
NOTHING = "-"


def reader(ledger: str | None, timezone: str) -> Reader:
    """The ledger that the options name."""
    from llm_master.ledger.reading import Reader

    return Reader(ledger or None, timezone=timezone)


def harmless(text: str) -> str:
    """A name on one line: whatever a terminal would obey or that would break a column is shown as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def money(amount: Decimal | None) -> str:
    """Exact USD; "unknown" where no price is known."""
    if amount is None:
        return "unknown"
    text = f"{amount:f}"
    whole, _, part = text.partition(".")
    return f"${whole}.{part.rstrip('0').ljust(2, '0')}"


def monies(amounts: Sequence[Decimal | None], marks: Sequence[str]) -> list[str]:
    """Exact USD one below the other: points and marks stand in a line, and thousands are set apart."""
    texts = [money(each) for each in amounts]
    part = max((len(text.partition(".")[2]) for text in texts), default=0)
    tail = max(map(len, marks), default=0)
    return [
        text + " " * tail
        if amount is None
        else f"${int(amount):,}.{text.partition('.')[2].ljust(part, '0')}{mark.ljust(tail)}"
        for amount, text, mark in zip(amounts, texts, marks, strict=True)
    ]


def seconds(micros: int | None) -> str:
    """Microseconds as seconds, rounded to what a reader can use."""
    if micros is None:
        return NOTHING
    return f"{micros / 1_000_000:.3f}" if micros < 10_000_000 else f"{micros / 1_000_000:.1f}"


def when(where: Reader, ts: int) -> str:
    """A moment in the report's time zone."""
    from llm_master.errors import LedgerError

    try:
        return f"{where.zone.shown(ts):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError) as error:
        raise LedgerError(f"the ledger in {where.place} holds a time that no calendar has: ts {ts}") from error


def width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size((80, 24)).columns


def styled(text: str, code: str) -> str:
    """A text in a colour of the terminal, where there is one and colours are wanted."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"


def size(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, room: int) -> str:
    """A text in so many columns, its end cut off."""
    if size(text) <= room:
        return text
    while text and size(text) >= room:
        text = text[:-1]
    return text + "…" if room > 0 else ""


def left(text: str, room: int) -> str:
    """A text in exactly so many columns, at their left."""
    text = fit(text, room)
    return text + " " * (room - size(text))


def columns(rows: Sequence[Sequence[str]], most: int) -> list[int]:
    """The width of each column; ``most`` is what the first may take."""
    widths = [max(map(size, column)) for column in zip(*rows, strict=True)]
    return [min(widths[0], most), *widths[1:]]


def rows_of_text(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    return [
        "  ".join(
            [left(row[0], widths[0]), *(cell.rjust(wide) for cell, wide in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def flat(row: UsageRow) -> dict[str, object]:
    """A row of usage as JSON and CSV have it; money is a string of exact USD, latencies are microseconds."""
    usage = {f"{name}": getattr(row.usage, name) for name in row.usage.__struct_fields__ if name != "estimated"}
    found: dict[str, object] = {
        **row.group,
        "calls": row.calls,
        "errors": row.errors,
        "error_rate": row.error_rate,
        "cancelled": row.cancelled,
        "fallbacks": row.fallbacks,
        "fallback_rate": row.fallback_rate,
        "cached": row.cached,
        "requests": row.requests,
        **usage,
        "estimated": row.estimated,
        "cost_usd": None if row.cost is None else f"{row.cost:f}",
        "unpriced": row.unpriced,
        "incomplete": row.incomplete,
        "bytes_sent": row.bytes_sent,
        "bytes_received": row.bytes_received,
    }
    for name, percentiles in (("latency_us", row.latency), ("first_token_us", row.first_token)):
        for rank in ("p50", "p95", "p99"):
            found[f"{name}_{rank}"] = None if percentiles is None else getattr(percentiles, rank)
    return found
