"""
The steps from an empty database to the tables of today, and from an older ledger's tables.

The steps are the files of ``ledger/sql``, rendered from Alembic's revisions; running them needs neither Alembic nor
SQLAlchemy. They keep Alembic's own table up to date, so that ``alembic upgrade`` finds nothing left to do.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from llm_master.errors import LedgerError

__all__ = ["VERSION_TABLE", "missing", "revisions", "statements"]

VERSION_TABLE = "alembic_version"
_FILES = Path(__file__).parent / "sql"


@cache
def revisions(dialect: str) -> tuple[str, ...]:
    """Every revision that is known, oldest first."""
    return tuple(sorted(path.stem for path in (_FILES / dialect).glob("*.sql")))


def statements(dialect: str, revision: str) -> list[str]:
    """The statements that lead to a revision from the one before, the new version's stamp included."""
    text = (_FILES / dialect / f"{revision}.sql").read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    return [part.strip() for part in code.split(";\n") if part.strip()]


def missing(dialect: str, version: str | None, where: str) -> list[str]:
    """
    The revisions that a database lacks, oldest first.

    Args:
        dialect: ``sqlite`` or ``postgresql``.
        version: what the database says of itself; None when it is new.
        where: the database, for the error.

    Raises:
        LedgerError: a newer LLM Master, or another program, made the tables.
    """
    known = revisions(dialect)
    if version is None:
        return list(known)
    if version not in known:
        raise LedgerError(
            f"the ledger in {where} has tables of version {version!r} and this LLM Master knows them up to"
            f" {known[-1]!r}; update LLM Master, or name another place"
        )
    return list(known[known.index(version) + 1 :])
