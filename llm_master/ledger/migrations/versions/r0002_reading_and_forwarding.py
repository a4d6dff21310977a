"""
What reading by time, request and tag needs, and the marks of forwarding.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Many calls have no id of the provider's.
_KNOWN: dict[str, Any] = {
    "sqlite_where": sa.text("request_id IS NOT NULL"),
    "postgresql_where": sa.text("request_id IS NOT NULL"),
}


def upgrade() -> None:
    """Make the indexes and, by database, the tables of forwarding."""
    op.create_index("calls_ts", "calls", ["ts"])
    op.create_index("calls_request_id", "calls", ["request_id"], **_KNOWN)
    op.create_index("attempts_request_id", "attempts", ["request_id"], **_KNOWN)
    op.create_index("call_tags_call_id", "call_tags", ["call_id"])
    if op.get_context().dialect.name == "sqlite":
        op.create_table(
            "forwarding",
            sa.Column("target", sa.Text(), primary_key=True),
            sa.Column("identity", sa.Text(), nullable=True),
            sa.Column("mark", _WHOLE, nullable=False),
            sa.Column("holder", sa.Text(), nullable=True),
            sa.Column("expires", _WHOLE, nullable=False),
        )
        op.create_table(
            "forwarding_refused",
            sa.Column("target", sa.Text(), primary_key=True),
            sa.Column("seq", _WHOLE, primary_key=True, autoincrement=False),
            sa.Column("error", sa.Text(), nullable=False),
        )
    else:
        op.create_table("ledger_identity", sa.Column("id", sa.Text(), primary_key=True))
        op.execute("INSERT INTO ledger_identity (id) VALUES (gen_random_uuid()::text)")


def downgrade() -> None:
    """Remove them."""
    if op.get_context().dialect.name == "sqlite":
        op.drop_table("forwarding_refused")
        op.drop_table("forwarding")
    else:
        op.drop_table("ledger_identity")
    for index, table in (
        ("call_tags_call_id", "call_tags"),
        ("attempts_request_id", "attempts"),
        ("calls_request_id", "calls"),
        ("calls_ts", "calls"),
    ):
        op.drop_index(index, table)
