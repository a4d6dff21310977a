"""
Sums of a chunk by each thing that a report may be grouped by, in a table of their own; in SQLite alone.

Sums by all of them at once, which stood there before, are nearly as many as the calls where names are many.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BOUNDS = ("calls", "first_ts", "last_ts")
_TABLES = ("usage_chunks", "usage_sums")


def _triggers(tables: tuple[str, ...]) -> None:
    """Whoever changes or removes a call throws away what its chunk has in these tables."""
    for event, chunks in (
        ("DELETE", "= (OLD.seq - 1) / 8192"),
        ("UPDATE", "IN ((OLD.seq - 1) / 8192, (NEW.seq - 1) / 8192)"),
    ):
        done = " ".join(f"DELETE FROM {table} WHERE chunk {chunks};" for table in tables)  # noqa: S608  # our names
        op.execute(f"CREATE TRIGGER usage_chunks_{event.lower()} AFTER {event} ON calls BEGIN {done} END")


def _drop() -> None:
    op.execute("DROP TRIGGER usage_chunks_update")
    op.execute("DROP TRIGGER usage_chunks_delete")
    op.drop_table("usage_chunks")


def _chunks(*more: sa.Column[bytes]) -> None:
    op.create_table(
        "usage_chunks",
        sa.Column("chunk", sa.Integer(), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _BOUNDS),
        *more,
    )


def upgrade() -> None:
    """Make the tables anew; whoever writes adds the chunks up again."""
    if op.get_context().dialect.name == "sqlite":
        _drop()
        _chunks()
        op.create_table(
            "usage_sums",
            sa.Column("chunk", sa.Integer(), primary_key=True, autoincrement=False),
            sa.Column("name", sa.Text(), primary_key=True),
            sa.Column("data", sa.LargeBinary(), nullable=False),
        )
        _triggers(_TABLES)


def downgrade() -> None:
    """Go back to the table of before, empty."""
    if op.get_context().dialect.name == "sqlite":
        _drop()
        op.drop_table("usage_sums")
        _chunks(*(sa.Column(name, sa.LargeBinary(), nullable=True) for name in ("plain", "tagged")))
        _triggers(_TABLES[:1])
