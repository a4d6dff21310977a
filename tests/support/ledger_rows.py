"""
Ledgers full of rows of a test's own making.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import msgspec

from llm_master.ledger.chunks import CHUNK, Sealer
from llm_master.ledger.insert import insert
from llm_master.ledger.rows import AttemptRow, CallRow, rows_of, tags_text
from llm_master.ledger.sqlite_file import open_file, transaction

__all__ = ["CHUNK", "DAY", "START", "call", "fill", "opened", "seal"]

DAY = 86_400_000_000
#: 2026-11-01 00:00 UTC.
START = 1_793_491_200_000_000


def call(number: int, **fields: object) -> CallRow:
    """A call with an id made of its number."""
    tags = tags_text(fields.pop("tags", ()))
    known = {
        "id": f"{number:032x}",
        "ts": START + number * 1_000_000,
        "kind": "chat",
        "model_asked": "gpt-4o",
        "model": "gpt-4o-2024-08-06",
        "provider": "openai",
        "outcome": "ok",
        "attempts": 1,
        "cost": 0,
        "cost_complete": 1,
        "latency_us": 1000,
    }
    return msgspec.convert(known | fields | {"tags": tags}, CallRow)


def opened(path: Path) -> sqlite3.Connection:
    """A ledger's file, made when there is none, as its writer has it."""
    return open_file(str(path))


def fill(path: Path, calls: Iterable[CallRow], attempts: Iterable[AttemptRow] = ()) -> None:
    """Write rows."""
    by_call: dict[str, list[AttemptRow]] = {}
    for each in attempts:
        by_call.setdefault(each.call_id, []).append(each)
    connection = opened(path)
    with transaction(connection):
        insert(connection, [rows_of(each, by_call.get(each.id, [])) for each in calls])
    connection.close()


def seal(path: Path) -> int:
    """Add up every full chunk; how many have a summary now."""
    connection = opened(path)
    sealer = Sealer(connection)
    while sealer.step(None):
        pass
    [(count,)] = connection.execute("SELECT count(DISTINCT chunk) FROM usage_sums")
    connection.close()
    return count
