"""
Reports over the ledger of ``benchmarks/usage_rows.py``, in its short form: every figure equals plain SQL to the last
digit, from SQLite and from a real PostgreSQL. No time is measured here.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.command import ROOT, Done, run
from support.postgres import Postgres

from llm_master.cli.figures import flat
from llm_master.errors import ConfigurationError, InvalidRequestError, LedgerError
from llm_master.ledger.chunks import CHUNK
from llm_master.ledger.postgres import Database
from llm_master.ledger.reading import BY, Reader
from llm_master.ledger.reading_source import Open
from llm_master.ledger.rows import ATTEMPT_COLUMNS, CALL_COLUMNS, TAG_COLUMNS
from llm_master.ledger.summary import KINDS
from llm_master.redaction import Secret

ROWS = 9_000
TABLES = {"calls": CALL_COLUMNS, "attempts": ATTEMPT_COLUMNS, "call_tags": TAG_COLUMNS}

# What a group is called, in SQLite's own words.
LABELS = {
    "model": "coalesce(c.model, c.model_asked)",
    "asked": "c.model_asked",
    "provider": "c.provider",
    "key": "c.key_id",
    "deployment": "c.deployment",
    "kind": "c.kind",
    "day": "date(c.ts / 1000000, 'unixepoch')",
    "tag": "t.tag",
}
FIGURES = {
    "calls": "count(*)",
    "errors": "sum(c.outcome IN ('error', 'interrupted'))",
    "cancelled": "sum(c.outcome = 'cancelled')",
    "fallbacks": "sum(c.fallback)",
    "cached": "sum(c.cached)",
    "requests": "sum(c.attempts)",
    **{name: f"sum(c.{name})" for name in KINDS},
    "estimated": "sum(c.usage_estimated)",
    "cost": "sum(c.cost)",
    "unpriced": "sum(c.cost IS NULL)",
    "incomplete": "sum(c.cost IS NOT NULL AND NOT c.cost_complete)",
    "bytes_sent": "sum(c.bytes_sent)",
    "bytes_received": "sum(c.bytes_received)",
}
SELECTIONS: tuple[dict[str, str], ...] = (
    {},
    {"since": "2026-09-03T07:31"},
    {"since": "2026-08-20", "until": "2026-10-11T11:11:11"},
    {"model": "openai-*"},
    {"provider": "g*", "tag": "team-0?", "since": "2026-08-21"},
)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark's ledger."""
    folder = tmp_path_factory.mktemp("ledger")
    benchmark("--rows", str(ROWS), "--rounds", "0", "--keep", str(folder / "usage.sqlite3"))
    return folder / "usage.sqlite3"


def benchmark(*arguments: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / "usage_rows.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_benchmark_prints_a_table() -> None:
    lines = benchmark("--rows", "300", "--rounds", "1", "--only", "usage --by key").splitlines()
    assert lines[0].startswith("300 calls: ")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == ["command", "wall s", "first run", "CPU s", "to plain SQL"]
    assert [row[0] for row in cells[2:]] == [
        "`plain SQL, GROUP BY model`",
        "`llm-master --version`",
        "`llm-master usage --by key`",
    ]
    assert cells[2][-1] == "1.00x"
    assert all(float(cell.removesuffix("x")) > 0 for row in cells[2:] for cell in row[1:])


@pytest.fixture(scope="module")
def bare(ledger: Path) -> Path:
    """The same without anything kept of full chunks."""
    path = ledger.with_name("bare.sqlite3")
    path.write_bytes(ledger.read_bytes())
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM usage_sums")
    return path


@pytest.fixture(scope="module")
def server(ledger: Path) -> Iterator[str]:
    """The address of a PostgreSQL that has the same rows."""
    with Postgres() as running, running.database() as url:
        target = Database(Secret(url))
        assert target.identity()
        target.leave()
        with contextlib.closing(sqlite3.connect(ledger)) as plain, psycopg.connect(url) as connection:
            for table, names in TABLES.items():
                columns = ", ".join(names)
                with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:  # type: ignore[arg-type]
                    for row in plain.execute(f"SELECT {columns} FROM {table} ORDER BY ts"):
                        copy.write_row(row)
        yield url


def by_sql(path: Path, by: str) -> dict[str | None, dict[str, Any]]:
    """The rows of a report as SQL has them, percentiles by the place that nearest rank says."""
    tags = "LEFT JOIN call_tags t ON t.call_id = c.id" if by == "tag" else ""
    found: dict[str | None, dict[str, Any]] = {}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        sums = ", ".join(FIGURES.values())
        for label, *row in connection.execute(f"SELECT {LABELS[by]}, {sums} FROM calls c {tags} GROUP BY 1"):
            figures = dict(zip(FIGURES, row, strict=True))
            cost = figures.pop("cost")
            found[label] = figures | {"cost_usd": None if cost is None else f"{Decimal(cost).scaleb(-12):f}"}
        for name, column in (("latency_us", "latency_us"), ("first_token_us", "ttft_us")):
            for percent in (50, 95, 99):
                ranked = connection.execute(
                    f"SELECT label, value FROM (SELECT {LABELS[by]} AS label, c.{column} AS value,"
                    f" row_number() OVER (PARTITION BY {LABELS[by]} ORDER BY c.{column}) AS place,"
                    f" count(*) OVER (PARTITION BY {LABELS[by]}) AS size"
                    f" FROM calls c {tags} WHERE c.{column} IS NOT NULL) WHERE place = ({percent} * size + 99) / 100"
                )
                values = dict(ranked.fetchall())
                for label, figures in found.items():
                    figures[f"{name}_p{percent}"] = values.get(label)
    return found


def command(place: str | Path, tmp_path: Path, *arguments: str) -> Done:
    done = run(*arguments, folder=tmp_path, env={"LLM_MASTER_LEDGER": str(place)})
    assert (done.code, done.err) == (0, "")
    return done


@pytest.mark.parametrize("by", BY)
def test_every_figure_equals_sql(ledger: Path, by: str) -> None:
    expected = by_sql(ledger, by)
    assert len(expected) > 1
    report = Reader(ledger).report(by)
    assert report.summarised == ROWS // CHUNK * CHUNK
    assert len(report.rows) == len(expected)
    for each in report.rows:
        row = flat(each)
        label = row.pop(by)
        assert row.pop("error_rate") == each.errors / each.calls
        assert row.pop("fallback_rate") == each.fallbacks / each.calls
        assert row == expected[label], label


def test_json_equals_sql(ledger: Path, tmp_path: Path) -> None:
    expected = by_sql(ledger, "tag")
    found = json.loads(command(ledger, tmp_path, "usage", "--by", "tag", "--json").out)["rows"]
    rates = ("tag", "error_rate", "fallback_rate")
    assert {row["tag"]: {name: row[name] for name in row if name not in rates} for row in found} == expected


def test_csv_has_the_figures_of_json(ledger: Path, tmp_path: Path) -> None:
    plain = json.loads(command(ledger, tmp_path, "usage", "--by", "tag", "--by", "key", "--json").out)["rows"]
    rows = list(csv.DictReader(io.StringIO(command(ledger, tmp_path, "usage", "--by", "tag,key", "--csv").out)))
    assert rows == [{name: "" if value is None else str(value) for name, value in row.items()} for row in plain]


@pytest.mark.parametrize("chosen", SELECTIONS, ids=lambda chosen: "-".join(chosen) or "all")
def test_what_is_kept_and_the_calls_say_the_same(ledger: Path, bare: Path, chosen: dict[str, str]) -> None:
    # Days that begin at a quarter to and at half past.
    zone = "Asia/Kathmandu" if chosen else "Australia/Lord_Howe"
    kept, slow = Reader(ledger, timezone=zone), Reader(bare, timezone=zone)
    for by in (["day"], ["model", "day"], ["tag", "key"]):
        one, other = (each.report(by, each.selection(**chosen)) for each in (kept, slow))
        assert (one.total, one.rows, one.first, one.last) == (other.total, other.rows, other.first, other.last)
        assert one.summarised > other.summarised == 0


@pytest.mark.parametrize("chosen", SELECTIONS, ids=lambda chosen: "-".join(chosen) or "all")
def test_postgresql_says_what_sqlite_says(ledger: Path, server: str, chosen: dict[str, str]) -> None:
    zone = "utc" if chosen else "America/St_Johns"
    one, other = Reader(ledger, timezone=zone), Reader(server, timezone=zone)
    for by in ["tag", "day"], *([] if chosen else ([name] for name in BY)):
        plain, remote = (each.report(by, each.selection(**chosen)) for each in (one, other))
        assert plain.total.calls > 0
        assert (plain.total, plain.rows) == (remote.total, remote.rows)
        assert (plain.first, plain.last) == (remote.first, remote.last)


def test_postgresql_is_read_in_pages(ledger: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec

    from llm_master.ledger import reading_source

    expected = Reader(ledger).report(["tag"])
    small = msgspec.structs.replace(reading_source.POSTGRESQL, page=3000)
    monkeypatch.setattr(reading_source._OpenPostgres, "dialect", small)
    found = Reader(server).report(["tag"])
    assert (found.total, found.rows) == (expected.total, expected.rows)


def test_postgresql_is_read_in_one_state(server: str) -> None:
    def counted(state: Open) -> list[int]:
        found = []
        for number in range(2):
            [(calls,)] = state.run("SELECT count(*) FROM call_tags")
            found.append(calls)
            with psycopg.connect(server) as other:
                other.execute("INSERT INTO call_tags (tag, call_id, ts) VALUES ('later', %s, 0)", [str(number)])
        return found

    before, after = Reader(server)._source.read(counted)
    assert before == after
    with psycopg.connect(server) as connection:
        assert connection.execute("DELETE FROM call_tags WHERE tag = 'later'").rowcount == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("usage", "--by", "model", "--by", "day", "--json"),
        ("usage", "--by", "tag", "--csv"),
        ("logs", "-n", "50", "--errors", "--tag", "team-*", "--model", "openai-MODEL-*"),
        ("logs", "req_00000000000003e8"),
    ],
    ids=" ".join,
)
def test_the_commands_print_the_same_from_both(
    ledger: Path, server: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    plain, remote = (command(place, tmp_path, *arguments).out for place in (ledger, server))
    assert plain == remote
    assert len(plain.splitlines()) > 5


def test_single_calls_are_the_same_in_both(ledger: Path, server: str) -> None:
    one, other = Reader(ledger), Reader(server)
    for row in one.calls(30):
        for name in (row.id, row.request_id):
            assert name is None or one.call(name) == other.call(name)
    for name in ("req_0000000000000", "ffffffff", "0000000", one.calls(900)[-1].id[:6]):
        said = []
        for reader in (one, other):
            with pytest.raises(InvalidRequestError) as caught:
                reader.call(name)
            said.append(str(caught.value).replace(reader.place, "HERE"))
        assert said[0] == said[1]


@pytest.fixture(scope="module")
def strange(server: str) -> str:
    """The address of the same rows for somebody who has to say a password, and may read nothing."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE ROLE stranger LOGIN PASSWORD 'right-password'")
        [(rules,)] = connection.execute("SHOW hba_file").fetchall()
        known = Path(rules).read_text()
        Path(rules).write_text(f"host all stranger 127.0.0.1/32 scram-sha-256\n{known}")
        connection.execute("SELECT pg_reload_conf()")
        [(wrong,)] = connection.execute("SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL").fetchall()
        assert wrong == 0
    return server.replace("postgres:a-password@", "stranger:right-password@")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("right-password", "wrong-password"), 'authentication failed for user "stranger"; check that the server runs'),
        ((), "permission denied for table calls; let this user SELECT from calls, attempts and call_tags"),
        (("/test_", "/missing_"), "does not exist; check that the server runs, and host, port, database"),
        ((r":\d+/", ":1/"), "refused"),
        (("127.0.0.1", "host.invalid"), "host.invalid"),
    ],
    ids=["wrong password", "no rights", "no database", "no server", "no host"],
)
def test_a_server_that_does_not_let_us_in(strange: str, tmp_path: Path, change: tuple[str, str], said: str) -> None:
    address = re.sub(*change, strange) if change else strange
    done = run("usage", "--ledger", address, folder=tmp_path)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("error: the ledger in postgresql://")
    assert said in done.err
    for secret in ("right-password", "wrong-password", "stranger:"):
        assert secret not in done.err
    with pytest.raises(LedgerError) as caught:
        Reader(address).calls()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "password", ["top/secret", "top@sec/ret", "top?secret", "top#secret", "12/secret", "top%zzsecret"]
)
def test_a_password_that_nobody_escaped_is_not_shown(password: str) -> None:
    reader = Reader(f"postgresql://somebody:{password}@127.0.0.1:1/ledger")
    with pytest.raises((ConfigurationError, LedgerError)) as caught:
        reader.usage()
    for piece in ("top", "sec", "ret"):
        assert piece not in str(caught.value).replace("postgresql://USER:PASSWORD", "")
        assert piece not in reader.place.replace("ledger's", "")


def test_a_database_that_holds_no_ledger(server: str, tmp_path: Path) -> None:
    name = server.rpartition("/")[2]
    done = run("logs", "--ledger", server.replace(name, "postgres"), folder=tmp_path)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "holds no ledger: " in done.err
