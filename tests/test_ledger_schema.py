"""
The ledger's tables: what Alembic's revisions say, what is rendered from them, and what running makes of it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import main as alembic_main
from alembic.runtime.migration import MigrationContext
from support.ledger_rows import call
from support.postgres import Postgres

from llm_master import LedgerError
from llm_master.ledger import migrations, rows, schema, sql
from llm_master.ledger.chunks import CHUNK
from llm_master.ledger.insert import insert, rows_of
from llm_master.ledger.migrations.render import DIALECTS, configuration, rendered, revisions
from llm_master.ledger.migrations.tables import METADATA, belongs
from llm_master.ledger.postgres import Database
from llm_master.ledger.sqlite_file import open_file, transaction
from llm_master.redaction import Secret

# The newest revision that changes tables; those after it are of the other database.
LAST_CHANGE = {"sqlite": "0004", "postgresql": "0002"}


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=sa.NullPool)


@contextlib.contextmanager
def database(dialect: str, path: Path, postgres: Postgres) -> Iterator[str]:
    """An empty database's address."""
    if dialect == "sqlite":
        yield f"sqlite:///{path}"
    else:
        with postgres.database() as url:
            yield url


def run_time(url: str) -> None:
    """Bring the tables up to date as running does it."""
    if url.startswith("sqlite"):
        open_file(url.removeprefix("sqlite:///")).close()
    else:
        target = Database(Secret(url))
        try:
            assert target.identity()
        finally:
            target.leave()


def differences(url: str) -> list[Any]:
    with engine_of(url).connect() as connection:
        dialect = connection.dialect.name

        def ours(item: Any, _name: str | None, kind: str, *_: Any) -> bool:
            return kind != "table" or belongs(item, dialect)

        # SQLite has no identity columns: AUTOINCREMENT, which is compared elsewhere, stands for one.
        defaults = dialect != "sqlite"
        options = {"include_object": ours, "compare_type": True, "compare_server_default": defaults}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), METADATA))


def alembic_upgrade(url: str, revision: str = "head") -> None:
    config = configuration()
    with engine_of(url).connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


def dump(url: str) -> list[Any]:
    """Everything that a database says of its own make."""
    with engine_of(url).connect() as connection:
        if url.startswith("sqlite"):
            made = connection.execute(sa.text("SELECT type, name, coalesce(sql, '') FROM sqlite_master"))
            return sorted((kind, name, " ".join(text.split())) for kind, name, text in made)
        columns = "SELECT table_name, column_name, data_type, is_nullable, is_identity FROM information_schema.columns"
        found = [*connection.execute(sa.text(f"{columns} WHERE table_schema = 'public'"))]
        found += [
            *connection.execute(sa.text("SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'"))
        ]
        return sorted(found, key=repr)


def test_the_files_are_what_the_revisions_say() -> None:
    folder = Path(sql.__file__).parent
    there = {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.glob("*/*.sql")}
    assert there == rendered(), "run `python -m llm_master.ledger.migrations.render`"
    assert [schema.revisions(dialect) for dialect in DIALECTS] == [tuple(revisions())] * 2


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_statement_is_whole(dialect: str) -> None:
    found = [each for revision in schema.revisions(dialect) for each in schema.statements(dialect, revision)]
    assert len(found) > 5
    assert [each for each in found if not sqlite3.complete_statement(f"{each};")] == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_running_makes_what_alembic_makes(dialect: str, tmp_path: Path, postgres: Postgres) -> None:
    with (
        database(dialect, tmp_path / "one", postgres) as ours,
        database(dialect, tmp_path / "two", postgres) as alembics,
    ):
        run_time(ours)
        alembic_upgrade(alembics)
        assert dump(ours) == dump(alembics)
        assert differences(ours) == []
        before = dump(ours)
        alembic_upgrade(ours)
        assert dump(ours) == before
        run_time(alembics)
        assert dump(alembics) == before


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_difference_is_seen(dialect: str, path: Path, postgres: Postgres) -> None:
    with database(dialect, path, postgres) as url:
        run_time(url)
        with engine_of(url).begin() as connection:
            connection.execute(sa.text("DROP INDEX calls_ts"))
            connection.execute(sa.text("ALTER TABLE attempts ADD COLUMN region TEXT"))
        assert sorted(str(each[0]) for each in differences(url)) == ["add_index", "remove_column"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("old", revisions()[:-1])
def test_an_older_ledger_is_brought_up_to_date_with_its_rows(
    dialect: str, old: str, path: Path, postgres: Postgres
) -> None:
    with database(dialect, path, postgres) as url:
        alembic_upgrade(url, old)
        values = {name: getattr(call(7), name) for name in rows.CALL_COLUMNS}
        names = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        with engine_of(url).begin() as connection:
            connection.execute(sa.text(f"INSERT INTO calls ({names}) VALUES ({marks})"), values)
        assert (differences(url) != []) == (old < LAST_CHANGE[dialect])
        run_time(url)
        assert differences(url) == []
        with engine_of(url).connect() as connection:
            assert connection.execute(sa.text(f"SELECT {names} FROM calls")).fetchall() == [tuple(values.values())]
            version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).fetchall()
        assert version == [(revisions()[-1],)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_revision_can_be_undone(dialect: str, path: Path, postgres: Postgres) -> None:
    with database(dialect, path, postgres) as url:
        run_time(url)
        config = configuration()
        with engine_of(url).connect() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "base")
            connection.commit()
            left = set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
        assert left == set()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tables_of_a_newer_version_are_left_alone(dialect: str, path: Path, postgres: Postgres) -> None:
    with database(dialect, path, postgres) as url:
        run_time(url)
        with engine_of(url).begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(LedgerError, match=r"has tables of version '9999' .* update LLM Master"):
            run_time(url)


def test_a_step_that_fails_leaves_the_database_as_it_was(postgres: Postgres, path: Path) -> None:
    with postgres.database() as url:
        alembic_upgrade(url, "0001")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE ledger_identity (other text)")
        before = dump(url)
        with pytest.raises(psycopg.errors.DuplicateTable):
            run_time(url)
        assert dump(url) == before
    alembic_upgrade(f"sqlite:///{path}", "0001")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE forwarding (other text)")
    before = dump(f"sqlite:///{path}")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        open_file(str(path))
    assert dump(f"sqlite:///{path}") == before


def test_the_rows_have_the_columns_of_the_tables() -> None:
    tables = {name: tuple(column.name for column in table.columns) for name, table in METADATA.tables.items()}
    assert tables["calls"] == ("seq", *rows.CALL_COLUMNS)
    assert tables["attempts"] == rows.ATTEMPT_COLUMNS
    assert tables["call_tags"] == rows.TAG_COLUMNS
    for struct, name in ((rows.CallRow, "calls"), (rows.AttemptRow, "attempts")):
        for field in struct.__struct_fields__:
            column = METADATA.tables[name].columns[field]
            annotation = struct.__annotations__[field]
            assert ("str" in annotation) == isinstance(column.type, sa.Text), field
            assert ("None" in annotation) == column.nullable, field


def test_a_changed_or_removed_call_throws_its_sums_away(path: Path) -> None:
    with contextlib.closing(open_file(str(path))) as connection:
        for change in ("UPDATE calls SET cost = 1 WHERE seq = ?", "DELETE FROM calls WHERE seq = ?"):
            with transaction(connection):
                connection.execute("DELETE FROM calls")
                connection.execute("DELETE FROM usage_chunks")
                connection.execute("DELETE FROM usage_sums")
                insert(connection, [rows_of(call(number), []) for number in range(3)])
                first = connection.execute("SELECT min(seq) FROM calls").fetchone()[0]
                connection.execute("UPDATE calls SET seq = seq - ? + ?", (first, CHUNK))
                for chunk in range(3):
                    connection.execute("INSERT INTO usage_chunks VALUES (?, 0, 0, 0)", (chunk,))
                    connection.execute("INSERT INTO usage_sums VALUES (?, 'total', x'')", (chunk,))
                connection.execute(change, (CHUNK,))
                left = [
                    connection.execute(f"SELECT chunk FROM {table} ORDER BY chunk").fetchall()
                    for table in ("usage_chunks", "usage_sums")
                ]
            # The number CHUNK is the last of the first chunk.
            assert left == [[(1,), (2,)]] * 2


def test_alembics_own_command_finds_nothing_to_do(path: Path) -> None:
    open_file(str(path)).close()
    before = path.read_bytes()
    program = ["-c", str(Path(migrations.__file__).parent / "alembic.ini")]
    told = [*program, "-x", f"database=sqlite:///{path}"]
    alembic_main([*told, "upgrade", "head"])
    assert path.read_bytes() == before
    with pytest.raises(SystemExit, match="name the ledger's database: -x database="):
        alembic_main([*program, "upgrade", "head"])


def test_running_needs_neither_alembic_nor_sqlalchemy(path: Path) -> None:
    program = (
        "import sys\nsys.modules['alembic'] = sys.modules['sqlalchemy'] = None\n"
        "from llm_master.ledger.sqlite_file import open_file\nopen_file(sys.argv[1]).close()"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert differences(f"sqlite:///{path}") == []
