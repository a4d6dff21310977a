"""
Finding the row of a ledger that does not hold what its columns say.
"""

from __future__ import annotations

import msgspec

from llm_master.errors import LedgerError
from llm_master.ledger.reading_source import Open
from llm_master.ledger.rows import CallRow
from llm_master.ledger.summary import Malformed

__all__ = ["broken"]


def broken(ledger: Open, error: Malformed, where: str) -> LedgerError:
    """The error for the user: which row it is, as far as that can be told."""
    found = f"call {name}: " if (name := _first(ledger)) else ""
    return LedgerError(f"the ledger in {where} holds a row that cannot be read: {found}{error}; delete it there")


def _first(ledger: Open) -> str | None:
    """The id of the first call with a column of the wrong type; only SQLite's columns take any."""
    if ledger.dialect.typed:
        return None
    wrong = []
    for field in msgspec.structs.fields(CallRow):
        optional = field.type not in (int, str)
        kind = "integer" if field.type is int or field.type == int | None else "text"
        allowed = f"'{kind}', 'null'" if optional else f"'{kind}'"
        wrong.append(f"typeof({field.name}) NOT IN ({allowed})")
    condition = " OR ".join(wrong)
    rows = ledger.run(f"SELECT id FROM calls WHERE {condition} OR NOT json_valid(tags) ORDER BY seq LIMIT 1")  # noqa: S608
    return str(rows[0][0]) if rows else None
