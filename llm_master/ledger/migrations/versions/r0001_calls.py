"""
The calls, their attempts and their tags.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TOKENS = (
    *("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "cache_write_1h_tokens"),
    *("reasoning_tokens", "input_audio_tokens", "output_audio_tokens", "input_image_tokens", "output_image_tokens"),
    "web_searches",
)


def _columns(names: str, kind: sa.types.TypeEngine[Any]) -> list[sa.Column[Any]]:
    """Columns from their names; one that ends in ``?`` may be NULL."""
    return [sa.Column(name.rstrip("?"), kind, nullable=name.endswith("?")) for name in names.split()]


def _texts(names: str) -> list[sa.Column[Any]]:
    return _columns(names, sa.Text())


def _wholes(names: str) -> list[sa.Column[Any]]:
    return _columns(names, _WHOLE)


def upgrade() -> None:
    """Make the three tables."""
    op.create_table(
        "calls",
        sa.Column("seq", _WHOLE, sa.Identity(), primary_key=True),
        *_texts("id"),
        *_wholes("ts"),
        *_texts("kind"),
        *_wholes("streamed"),
        *_texts("request_id? model_asked model? provider? deployment? key_id? tags outcome"),
        *_texts("error? error_code? finish_reason?"),
        *_wholes(f"attempts fallback cached {' '.join(_TOKENS)} usage_estimated cost? cost_complete"),
        *_texts("price_source? price_as_of? service_tier?"),
        *_wholes("latency_us ttft_us? bytes_sent bytes_received"),
        *_texts("contents?"),
        sa.UniqueConstraint("id", name="calls_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "attempts",
        sa.Column("call_id", sa.Text(), primary_key=True),
        sa.Column("number", _WHOLE, primary_key=True, autoincrement=False),
        *_wholes("ts"),
        *_texts("provider model deployment? key_id? request_id? outcome"),
        *_wholes("status_code?"),
        *_texts("error? error_code?"),
        *_wholes(f"{' '.join(_TOKENS)} usage_estimated cost? cost_complete"),
        *_texts("price_source?"),
        *_wholes("latency_us ttft_us? waited_us"),
        *_texts("wait_reason?"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "call_tags",
        sa.Column("tag", sa.Text(), primary_key=True),
        sa.Column("call_id", sa.Text(), primary_key=True),
        *_wholes("ts"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Remove them, with all that they hold."""
    for table in ("call_tags", "attempts", "calls"):
        op.drop_table(table)
