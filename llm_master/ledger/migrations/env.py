"""
Alembic's door: it runs this file for every command.

    alembic -c llm_master/ledger/migrations/alembic.ini -x database=env:NAME upgrade head

``database`` is an address as SQLAlchemy writes it (``sqlite:////path``, ``postgresql+psycopg://...``), or the name of a
variable that holds it. Programs hand over a ``connection`` or, to render SQL, a ``dialect`` in the configuration's
attributes.
"""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa
from alembic import context

from llm_master.ledger.migrations.tables import METADATA, belongs

__all__: list[str] = []


def _address() -> str:
    given = context.get_x_argument(as_dictionary=True).get("database", "")
    address = os.environ.get(given[4:], "") if given.startswith("env:") else given
    if not address:
        raise SystemExit("name the ledger's database: -x database=sqlite:////path or -x database=env:NAME")
    return address.replace("postgresql://", "postgresql+psycopg://", 1)


def _run(**target: Any) -> None:
    def ours(item: Any, _name: str | None, kind: str, *_rest: Any) -> bool:
        return kind != "table" or belongs(item, context.get_context().dialect.name)

    # No BEGIN and COMMIT in what is rendered: who runs it puts all of it into one transaction.
    context.configure(
        target_metadata=METADATA, include_object=ours, transactional_ddl=not context.is_offline_mode(), **target
    )
    with context.begin_transaction():
        context.run_migrations()


def _main() -> None:
    attributes = context.config.attributes
    if context.is_offline_mode():
        dialect = attributes.get("dialect")
        _run(dialect_name=dialect) if dialect else _run(url=_address())
    elif "connection" in attributes:
        _run(connection=attributes["connection"])
    else:
        engine = sa.create_engine(_address(), poolclass=sa.NullPool)
        with engine.connect() as connection:
            _run(connection=connection)


# The name that Alembic gives it: who merely imports the package's modules runs no migration.
if __name__ == "env_py":
    _main()
