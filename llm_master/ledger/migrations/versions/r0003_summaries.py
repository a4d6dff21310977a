"""
Sums of full chunks of calls, so that a report over a million calls is quick; in SQLite alone.

A chunk is 8,192 numbers of ``calls.seq``. Whoever changes or removes a call throws its chunk's sums away.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TRIGGERS = (
    """CREATE TRIGGER usage_chunks_delete AFTER DELETE ON calls BEGIN
        DELETE FROM usage_chunks WHERE chunk = (OLD.seq - 1) / 8192; END""",
    """CREATE TRIGGER usage_chunks_update AFTER UPDATE ON calls BEGIN
        DELETE FROM usage_chunks WHERE chunk IN ((OLD.seq - 1) / 8192, (NEW.seq - 1) / 8192); END""",
)


def upgrade() -> None:
    """Make the table and what keeps it true."""
    if op.get_context().dialect.name == "sqlite":
        op.create_table(
            "usage_chunks",
            sa.Column("chunk", sa.Integer(), primary_key=True, autoincrement=False),
            *(sa.Column(name, sa.Integer(), nullable=False) for name in ("calls", "first_ts", "last_ts")),
            *(sa.Column(name, sa.LargeBinary(), nullable=True) for name in ("plain", "tagged")),
        )
        for trigger in _TRIGGERS:
            op.execute(" ".join(trigger.split()))


def downgrade() -> None:
    """Remove them."""
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TRIGGER usage_chunks_update")
        op.execute("DROP TRIGGER usage_chunks_delete")
        op.drop_table("usage_chunks")
