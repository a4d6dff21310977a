"""
A PostgreSQL that is slow, full or forbidden while calls are made: nobody waits for it, and every row gets there once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from support.behaviours import ok, status
from support.fault_server import FaultServer
from support.ledger_calls import SECRET, client, run
from support.ledgers import ask, count, made, until
from support.postgres import Postgres, rows

from llm_master import Ledger, LLMConfig, QueryLLM, Usage
from llm_master.cli.ledger_doctor import ledger_findings
from llm_master.ledger.migrations.tables import METADATA, belongs
from llm_master.ledger.postgres import Database
from llm_master.ledger.rows import ATTEMPT_COLUMNS, CALL_COLUMNS, TAG_COLUMNS
from llm_master.ledger.sqlite_file import open_file
from llm_master.policy.limits import MemoryLimiter
from llm_master.redaction import Secret
from llm_master.settings import Settings

TABLES = {"calls": CALL_COLUMNS, "attempts": ATTEMPT_COLUMNS, "call_tags": TAG_COLUMNS}


@pytest.fixture
def ledger(path: Path, url: str) -> Iterator[Ledger]:
    made_here = Ledger(path, mode="strict", postgres=url)
    hasten(made_here)
    yield made_here
    made_here.close()


def hasten(ledger: Ledger) -> None:
    assert ledger._forwarder is not None
    ledger._forwarder._pauses = (0.01, 0.05)


def run_sql(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for each in statements:
            connection.execute(each)  # type: ignore[call-overload]  # a test's own words


def state(ledger: Ledger) -> Any:
    return ledger.health().forwarding


def arrived(path: Path, url: str) -> None:
    """Wait until PostgreSQL has as many calls as the file; ``behind`` is of the forwarder's last look."""
    until(lambda: rows(url, "SELECT count(*) FROM calls") == [(count(path),)])
    until(lambda: rows(url, "SELECT count(*) FROM call_tags") == ask(path, "SELECT count(*) FROM call_tags"))


def same(path: Path, url: str) -> int:
    """Whether PostgreSQL has each row of the file once and nothing else; how many calls."""
    for table, columns in TABLES.items():
        question = f"SELECT {', '.join(columns)} FROM {table}"
        assert sorted(ask(path, question), key=repr) == sorted(rows(url, question), key=repr), table
    return count(path)


def calls(server: FaultServer, ledger: Ledger, number: int) -> None:
    """Make strict calls; each has its row in the file when it ends, whatever PostgreSQL does."""

    async def main() -> None:
        before = count(Path(ledger.path))
        async with client(server, ledger) as llm:
            for made_by_now in range(1, number + 1):
                await llm.query("gpt-4o-mini", f"Hi {SECRET}", tags=["a", "b"])
                assert count(Path(ledger.path)) == before + made_by_now

    run(main())


TRIGGER = """
CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what}; RETURN NEW; END $$;
CREATE TRIGGER trouble BEFORE INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION trouble();
"""
FULL = "RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not extend file: No space left on device'"


def test_a_full_database_loses_nothing(path: Path, url: str, ledger: Ledger, fault_server: FaultServer) -> None:
    fault_server.default = ok("whole", usage=Usage(11, 7))
    calls(fault_server, ledger, 1)
    until(lambda: state(ledger).forwarded == 1)
    run_sql(url, TRIGGER.format(what=FULL))
    calls(fault_server, ledger, 5)
    until(lambda: state(ledger).failure)
    assert "DiskFull: could not extend file: No space left on device" in state(ledger).failure
    until(lambda: (state(ledger).behind, ledger.health().failure, ledger.lost) == (5, None, 0))
    run_sql(url, "DROP TRIGGER trouble ON attempts")
    arrived(path, url)
    until(lambda: state(ledger).failure is None)
    assert (state(ledger).refused, same(path, url)) == (0, 6)
    assert rows(url, f"SELECT count(*) FROM calls WHERE calls::text LIKE '%{SECRET}%'") == [(0,)]


def test_a_forbidden_table_loses_nothing(path: Path, url: str, postgres: Postgres, fault_server: FaultServer) -> None:
    fault_server.default = ok("whole")
    name = url.rpartition("/")[2]
    database = Database(Secret(url))
    assert database.identity()  # the tables are made by who may
    database.leave()
    everything = "ON ALL TABLES IN SCHEMA public TO"
    run_sql(url, f"CREATE ROLE {name} LOGIN PASSWORD 'hunter2'", f"GRANT SELECT {everything} {name}")
    guest = url.replace("postgres:a-password", f"{name}:hunter2")
    ledger = Ledger(path, mode="strict", postgres=guest)
    hasten(ledger)
    calls(fault_server, ledger, 3)
    until(lambda: state(ledger).failure)
    assert "InsufficientPrivilege: permission denied for table calls" in state(ledger).failure
    assert "hunter2" not in state(ledger).failure
    # What forbids all rows refuses none of them.
    until(lambda: (state(ledger).behind, state(ledger).refused) == (3, 0))
    run_sql(url, f"GRANT INSERT {everything} {name}")
    arrived(path, url)
    ledger.close()
    assert same(path, url) == 3
    run_sql(url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_a_slow_database_holds_up_no_call(path: Path, url: str, ledger: Ledger, fault_server: FaultServer) -> None:
    fault_server.default = ok("whole")
    calls(fault_server, ledger, 1)
    until(lambda: state(ledger).forwarded == 1)
    # It waits until it is let go, in the middle of a transaction.
    run_sql(url, TRIGGER.format(what="PERFORM pg_advisory_xact_lock_shared(42)"))
    with psycopg.connect(url) as holder:
        holder.execute("SELECT pg_advisory_lock(42)")
        calls(fault_server, ledger, 1)
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        until(lambda: rows(url, waits) == [(1,)])
        calls(fault_server, ledger, 5)
        assert (count(path), state(ledger).forwarded, state(ledger).failure) == (7, 1, None)
    arrived(path, url)
    assert same(path, url) == 7


def test_the_settings_name_the_variable_of_the_address(
    tmp_path: Path, url: str, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.default = ok("whole")
    file, path = tmp_path / "llm_master.toml", tmp_path / "usage.sqlite3"
    file.write_text(f'[ledger]\npath = "{path}"\npostgres_url_env = "BOOKS"')
    monkeypatch.setenv("BOOKS", url)

    async def main() -> None:
        config = LLMConfig(openai_api_key="sk-ledger-0123456789", base_urls={"openai": fault_server.url})
        async with QueryLLM.from_file(file, config, limiter=MemoryLimiter()) as llm:
            for _ in range(3):
                await llm.query("gpt-4o-mini", "Hi")

    run(main())
    until(lambda: rows(url, "SELECT 1 FROM pg_tables WHERE tablename = 'calls'"))
    until(lambda: rows(url, "SELECT count(*) FROM calls") == [(3,)])
    Ledger(path).close()
    findings = asyncio.run(ledger_findings(Settings.read(file), {}))
    target = url.partition("@")[2]
    assert [(each.check, each.state) for each in findings] == [("ledger", "ok"), (f"ledger to {target}", "ok")]
    until(lambda: "0 calls wait" in asyncio.run(ledger_findings(Settings.read(file), {}))[1].detail)


def test_both_databases_have_the_same_tables(path: Path, url: str) -> None:
    """Names, order, types and nulls of every column, of the metadata and of what running makes."""
    open_file(str(path)).close()
    database = Database(Secret(url))
    assert database.identity()
    database.leave()
    addresses = (f"sqlite:///{path}", url.replace("postgresql://", "postgresql+psycopg://", 1))
    found: list[dict[str, list[tuple[str, str, bool]]]] = []
    for address in addresses:
        engine = sa.create_engine(address, poolclass=sa.NullPool)
        shown = sa.inspect(engine)
        found.append(
            {
                table: [
                    (each["name"], "text" if isinstance(each["type"], sa.String) else "whole", bool(each["nullable"]))
                    for each in shown.get_columns(table)
                ]
                for table in TABLES
            }
        )
        there = set(shown.get_table_names()) - {"alembic_version", "sqlite_sequence"}
        assert there == {name for name, table in METADATA.tables.items() if belongs(table, engine.dialect.name)}
    declared = {
        table: [
            (each.name, "text" if isinstance(each.type, sa.String) else "whole", bool(each.nullable))
            for each in METADATA.tables[table].columns
        ]
        for table in TABLES
    }
    assert found[0] == found[1] == declared


def test_calls_go_on_and_arrive_when_the_server_dies_and_comes_back(
    path: Path, url: str, ledger: Ledger, postgres: Postgres, fault_server: FaultServer
) -> None:
    fault_server.script([ok("whole"), status(503), ok("whole"), ok("whole"), ok("whole")])
    calls(fault_server, ledger, 1)
    until(lambda: state(ledger).forwarded == 1)
    postgres.stop()
    try:
        ledger.commit(made()).result(10)
        until(lambda: state(ledger).failure)
        with pytest.raises(Exception, match="503"):
            calls(fault_server, ledger, 1)
        calls(fault_server, ledger, 2)
    finally:
        postgres.start()
    postgres.freeze()
    try:
        calls(fault_server, ledger, 1)
    finally:
        postgres.thaw()
    arrived(path, url)
    assert same(path, url) == 6
