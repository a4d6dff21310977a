"""
The ledger's tables as they are after the newest revision, the same in SQLite and PostgreSQL.

A table with ``info={"only": dialect}`` is in that database alone.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

__all__ = ["METADATA", "belongs"]

METADATA = sa.MetaData()

# 64 bits in both: picodollars and microseconds need them.
_WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_TOKENS = (
    *("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
    *("reasoning_tokens", "input_audio_tokens", "output_audio_tokens", "input_image_tokens", "output_image_tokens"),
    "web_searches",
)


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=null)


def _whole(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, _WHOLE, nullable=null)


CALLS = sa.Table(
    "calls",
    METADATA,
    # Only the order of arrival in this database.
    sa.Column("seq", _WHOLE, sa.Identity(), primary_key=True),
    _text("id"),
    _whole("ts"),
    _text("kind"),
    _whole("streamed"),
    _text("request_id", null=True),
    _text("model_asked"),
    *(_text(name, null=True) for name in ("model", "provider", "deployment", "key_id")),
    _text("tags"),
    _text("outcome"),
    *(_text(name, null=True) for name in ("error", "error_code", "finish_reason")),
    *(_whole(name) for name in ("attempts", "fallback", "cached", *_TOKENS, "usage_estimated")),
    _whole("cost", null=True),
    _whole("cost_complete"),
    *(_text(name, null=True) for name in ("price_source", "price_as_of", "service_tier")),
    _whole("latency_us"),
    _whole("ttft_us", null=True),
    _whole("bytes_sent"),
    _whole("bytes_received"),
    _text("contents", null=True),
    sa.UniqueConstraint("id", name="calls_id"),
    sa.Index("calls_ts", "ts"),
    sa.Index(
        "calls_request_id",
        "request_id",
        sqlite_where=sa.text("request_id IS NOT NULL"),
        postgresql_where=sa.text("request_id IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

ATTEMPTS = sa.Table(
    "attempts",
    METADATA,
    sa.Column("call_id", sa.Text(), primary_key=True),
    sa.Column("number", _WHOLE, primary_key=True, autoincrement=False),
    _whole("ts"),
    _text("provider"),
    _text("model"),
    *(_text(name, null=True) for name in ("deployment", "key_id", "request_id")),
    _text("outcome"),
    _whole("status_code", null=True),
    _text("error", null=True),
    _text("error_code", null=True),
    *(_whole(name) for name in (*_TOKENS, "usage_estimated")),
    _whole("cost", null=True),
    _whole("cost_complete"),
    _text("price_source", null=True),
    _whole("latency_us"),
    _whole("ttft_us", null=True),
    _whole("waited_us"),
    _text("wait_reason", null=True),
    sa.Index(
        "attempts_request_id",
        "request_id",
        sqlite_where=sa.text("request_id IS NOT NULL"),
        postgresql_where=sa.text("request_id IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

CALL_TAGS = sa.Table(
    "call_tags",
    METADATA,
    sa.Column("tag", sa.Text(), primary_key=True),
    sa.Column("call_id", sa.Text(), primary_key=True),
    _whole("ts"),
    sa.Index("call_tags_call_id", "call_id"),
    sqlite_with_rowid=False,
)

# How far the calls of this file have been brought into a PostgreSQL database, and who does it at the moment.
FORWARDING = sa.Table(
    "forwarding",
    METADATA,
    sa.Column("target", sa.Text(), primary_key=True),
    _text("identity", null=True),
    _whole("mark"),
    _text("holder", null=True),
    _whole("expires"),
    info={"only": "sqlite"},
)

# Calls that a PostgreSQL database will not take, whatever is tried.
REFUSED = sa.Table(
    "forwarding_refused",
    METADATA,
    sa.Column("target", sa.Text(), primary_key=True),
    sa.Column("seq", _WHOLE, primary_key=True, autoincrement=False),
    _text("error"),
    info={"only": "sqlite"},
)

# Full chunks of calls and their sums, kept true by triggers that Alembic does not compare.
USAGE_CHUNKS = sa.Table(
    "usage_chunks",
    METADATA,
    sa.Column("chunk", sa.Integer(), primary_key=True, autoincrement=False),
    *(sa.Column(name, sa.Integer(), nullable=False) for name in ("calls", "first_ts", "last_ts")),
    info={"only": "sqlite"},
)

USAGE_SUMS = sa.Table(
    "usage_sums",
    METADATA,
    sa.Column("chunk", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text(), primary_key=True),
    sa.Column("data", sa.LargeBinary(), nullable=False),
    info={"only": "sqlite"},
)

# Tells one PostgreSQL database from another that took its place at the same address.
IDENTITY = sa.Table(
    "ledger_identity", METADATA, sa.Column("id", sa.Text(), primary_key=True), info={"only": "postgresql"}
)


def belongs(table: sa.Table, dialect: str) -> bool:
    """Whether a table is in databases of a dialect."""
    return bool(table.info.get("only", dialect) == dialect)
