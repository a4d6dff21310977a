"""
The ledger of a settings file: where calls are written down, and how surely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_master import settings_rules as rules
from llm_master.settings_parts import LedgerSettings
from llm_master.settings_rules import Rule

if TYPE_CHECKING:
    from llm_master.settings_rules import Reader

__all__ = ["LEDGER", "read_ledger"]

# Whoever means megabytes and forgets their zeros would lose all calls but the newest.
_LEAST_BYTES = 1_000_000


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError
    if value.strip().lower() == "off":
        raise ValueError('write mode = "off" to keep no ledger')
    if "://" in value:
        raise ValueError(
            "the ledger is a file; the address of a PostgreSQL that gets its rows too goes into an environment"
            " variable, whose name is postgres_url_env"
        )
    return value


def _bytes(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < _LEAST_BYTES:
        raise ValueError
    return value


LEDGER = {
    "mode": rules.choice("relaxed", "strict", "off"),
    # An address with a password may stand here by mistake.
    "path": Rule(_path, 'give a file such as "~/usage.sqlite3"', secret=True),
    "on_failure": rules.choice("serve", "refuse"),
    "contents": rules.FLAG,
    "max_bytes": Rule(_bytes, f"give bytes, a whole number of at least {_LEAST_BYTES}"),
    "postgres_url_env": rules.VARIABLE,
}


def read_ledger(reader: Reader, table: dict[str, Any]) -> LedgerSettings:
    """What ``[ledger]`` says; what is wrong the reader notes."""
    place = ("ledger",)
    found = reader.table(place, table, LEDGER)
    if not table:
        reader.wrong(place, "[ledger] sets nothing; give it a setting or remove it")
    if found.get("mode") == "off":
        for name in found.keys() - {"mode"}:
            reader.wrong((*place, name), f'{name} has no effect with mode = "off"; remove one of them')
    return LedgerSettings(**found)
