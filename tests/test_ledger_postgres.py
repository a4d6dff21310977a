"""
Forwarding to a real PostgreSQL: every row once, whatever happens to the server, the process or the connection.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.ledgers import ask, children, count, made, program, until
from support.postgres import Postgres, rows

from llm_master import ConfigurationError
from llm_master.ledger.forward import Forwarder
from llm_master.ledger.marks import Marks
from llm_master.ledger.postgres import Database, address_of
from llm_master.ledger.rows import ATTEMPT_COLUMNS, CALL_COLUMNS, TAG_COLUMNS
from llm_master.ledger.schema import revisions
from llm_master.ledger.sqlite_file import open_file
from llm_master.ledger.store import ForwardingHealth, Ledger
from llm_master.redaction import Secret

Open = Callable[..., Ledger]
TABLES = {"calls": CALL_COLUMNS, "attempts": ATTEMPT_COLUMNS, "call_tags": TAG_COLUMNS}


@pytest.fixture
def opened(path: Path, url: str) -> Iterator[Open]:
    made_here: list[Ledger] = []

    def make(where: Path = path, postgres: str = url, *, batch: float = 20.0) -> Ledger:
        ledger = Ledger(where, postgres=postgres)
        assert ledger._forwarder is not None
        ledger._forwarder._pauses = (0.01, 0.05)
        ledger._forwarder._database._batch = batch
        made_here.append(ledger)
        return ledger

    yield make
    for ledger in made_here:
        ledger.close()


def forwarding(ledger: Ledger) -> ForwardingHealth:
    found = ledger.health().forwarding
    assert found is not None
    return found


def fill(ledger: Ledger, number: int) -> None:
    for each in range(number):
        ledger.add(made(attempts=each % 3, tags=["all", f"tag-{each % 2}"]))
    assert ledger.flush()


def same(path: Path, url: str) -> int:
    """Whether PostgreSQL has each row of the file once and nothing else; how many calls."""
    for table, columns in TABLES.items():
        question = f"SELECT {', '.join(columns)} FROM {table}"
        assert sorted(ask(path, question), key=repr) == sorted(rows(url, question), key=repr), table
    return count(path)


def arrived(ledger: Ledger, number: int) -> Callable[[], bool]:
    return lambda: forwarding(ledger).forwarded >= number and forwarding(ledger).behind == 0


def test_every_row_arrives_once(path: Path, url: str, opened: Open) -> None:
    ledger = opened()
    fill(ledger, 1200)
    until(arrived(ledger, 1200))
    assert same(path, url) == 1200
    fill(ledger, 1)
    ledger.close()
    assert same(path, url) == 1201
    assert forwarding(ledger).failure is None


def test_the_address_comes_from_a_variable(path: Path, url: str, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_DATABASE", url)
    ledger = opened(postgres="env:LEDGER_DATABASE")
    fill(ledger, 3)
    ledger.close()
    assert same(path, url) == 3


def test_no_password_is_shown(path: Path, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    address = "postgresql://ada:hunter2-secret@127.0.0.1:9/books?connect_timeout=2"
    ledger = opened(postgres=address)
    fill(ledger, 1)
    until(lambda: forwarding(ledger).failure)
    assert "wait in the file and go there when it works again" in caplog.text
    shown = [repr(ledger), repr(ledger.health()), repr(ledger._forwarder._database), caplog.text]
    assert [text for text in shown if "hunter2" in text] == []
    assert forwarding(ledger).target == "127.0.0.1:9/books"
    assert repr(ledger) == f"Ledger({str(path)!r}, mode='relaxed', on_failure='serve', postgres='***')"
    database = Database(Secret(address))
    assert database.words(ValueError(f"no route for\n{address} or hunter2-secret")) == (
        "ValueError: no route for [REDACTED] or [REDACTED]"
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("env:NOT_THERE_AT_ALL", "the variable 'NOT_THERE_AT_ALL', which names the ledger's PostgreSQL, is not set"),
        ("a hunter2 and no address", "no address that can be read"),
    ],
)
def test_an_address_that_cannot_be_used(given: str, words: str, path: Path) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        Ledger(path, postgres=given)
    assert "hunter2" not in str(caught.value)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg_pool", None)
    with pytest.raises(ConfigurationError, match=r'pip install "llm-master\[postgres\]"'):
        address_of("postgresql://127.0.0.1/x")


def test_what_a_text_of_postgresql_cannot_hold(path: Path, url: str, opened: Open) -> None:
    ledger = opened()
    ledger.add(made(model="a\0b", tags=["c\0d"]))
    ledger.close()
    assert rows(url, "SELECT model FROM calls") == [("a\ufffdb",)]
    assert rows(url, "SELECT tag FROM call_tags") == [("c\ufffdd",)]


# A server in trouble


def test_a_server_that_stops_and_starts_again(path: Path, url: str, opened: Open, postgres: Postgres) -> None:
    ledger = opened()
    fill(ledger, 100)
    until(arrived(ledger, 100))
    postgres.stop()
    try:
        fill(ledger, 100)  # nobody waits for the database
        until(lambda: forwarding(ledger).failure)
        assert (count(path), forwarding(ledger).behind, ledger.health().failure) == (200, 100, None)
    finally:
        postgres.start()
    until(arrived(ledger, 200))
    assert forwarding(ledger).failure is None
    assert same(path, url) == 200


def test_a_frozen_server_holds_up_nobody(path: Path, url: str, opened: Open, postgres: Postgres) -> None:
    ledger = opened(batch=0.1)
    fill(ledger, 10)
    until(arrived(ledger, 10))
    postgres.freeze()
    try:
        fill(ledger, 10)
        until(lambda: forwarding(ledger).failure)
        fill(ledger, 10)
        assert count(path) == 30
        ledger.close(timeout=0.1)  # nor does the end wait
        assert ledger._writer._thread is None
    finally:
        postgres.thaw()
    again = opened()
    again.start()
    until(arrived(again, 30))
    assert same(path, url) == 30


def test_a_table_that_is_locked(path: Path, url: str, opened: Open) -> None:
    ledger = opened(batch=0.2)
    fill(ledger, 1)
    until(arrived(ledger, 1))
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE calls")
        fill(ledger, 1)
        until(lambda: forwarding(ledger).failure)
        other.rollback()
    until(arrived(ledger, 2))
    assert same(path, url) == 2


def test_a_database_that_may_only_be_read_for_a_while(path: Path, url: str, opened: Open) -> None:
    name = url.rpartition("/")[2]
    ledger = opened()
    fill(ledger, 5)
    until(arrived(ledger, 5))
    ledger.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    fill(ledger, 5)
    until(lambda: forwarding(ledger).failure)
    assert "ReadOnlySqlTransaction" in str(forwarding(ledger).failure)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    until(arrived(ledger, 10))
    assert same(path, url) == 10


def test_a_database_of_a_newer_version_waits(path: Path, url: str, opened: Open) -> None:
    ledger = opened()
    fill(ledger, 1)
    ledger.close()
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    fill(ledger, 1)
    until(lambda: forwarding(ledger).failure)
    assert "has tables of version '9999'" in str(forwarding(ledger).failure)
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", [revisions("postgresql")[-1]])
    until(arrived(ledger, 2))
    assert same(path, url) == 2


def test_another_database_at_the_same_address_gets_everything(
    path: Path, url: str, opened: Open, postgres: Postgres
) -> None:
    ledger = opened()
    fill(ledger, 20)
    ledger.close()
    name = url.rpartition("/")[2]
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name}")
        connection.execute(f"CREATE DATABASE {name}")
    fill(ledger, 1)
    until(arrived(ledger, 20 + 21))
    assert same(path, url) == 21


def test_a_database_that_was_set_back_gets_everything_when_its_mark_is_forgotten(
    path: Path, url: str, opened: Open
) -> None:
    ledger = opened()
    fill(ledger, 20)
    until(arrived(ledger, 20))
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE calls, attempts, call_tags")
    fill(ledger, 1)
    until(arrived(ledger, 21))
    assert rows(url, "SELECT count(*) FROM calls") == [(1,)]
    ledger.forget(forwarding(ledger).target)
    until(arrived(ledger, 42))
    assert same(path, url) == 21


def test_a_row_that_the_database_refuses_holds_up_no_other(
    path: Path, url: str, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = opened()
    fill(ledger, 1)
    ledger.close()
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE attempts ADD CONSTRAINT theirs CHECK (call_id NOT LIKE 'bad%')")
    for number in range(40):
        ledger.add(made(f"{'bad' if number in (3, 17) else 'fine'}-{number}"))
    ledger.close()
    assert rows(url, "SELECT count(*), count(*) FILTER (WHERE id LIKE 'bad%') FROM calls") == [(39, 0)]
    found = forwarding(ledger)
    assert (found.forwarded, found.refused, found.failure, found.behind) == (39, 2, None, 0)
    assert "refuses a call of the ledger" in caplog.text
    pruned = ledger.prune(timedelta(0))
    # They are nowhere else.
    assert (pruned.calls, pruned.kept, pruned.held_back_by) == (39, 2, (found.target,))
    assert [id_ for (id_,) in ask(path, "SELECT id FROM calls ORDER BY seq")] == ["bad-3", "bad-17"]
    # What a row holds is nobody's business but the ledger's.
    assert "violates check constraint" in caplog.text
    assert "Failing row" not in caplog.text + str(ask(path, "SELECT error FROM forwarding_refused"))


def test_a_name_that_no_index_takes_holds_up_no_other(path: Path, url: str, opened: Open) -> None:
    ledger = opened()
    for fields in ({}, {"request_id": secrets.token_hex(5000)}, {"tags": [secrets.token_hex(5000)]}, {}):
        ledger.add(made(**fields))
    ledger.close()
    assert rows(url, "SELECT count(*) FROM calls") == [(2,)]
    found = forwarding(ledger)
    assert (found.forwarded, found.refused, found.failure, found.behind) == (2, 2, None, 0)


def test_what_has_not_arrived_is_not_pruned(path: Path, opened: Open) -> None:
    ledger = opened(postgres="postgresql://127.0.0.1:9/books")
    ledger.add(made())
    pruned = ledger.prune(timedelta(0))
    assert (pruned.calls, pruned.kept, pruned.held_back_by) == (0, 1, ("127.0.0.1:9/books",))


def test_a_bound_removes_nothing_that_a_new_database_waits_for(path: Path) -> None:
    with contextlib.closing(Ledger(path)) as alone:
        fill(alone, 600)
    # Both are new to the file, and the first row has it looked at.
    ledger = Ledger(path, postgres="postgresql://127.0.0.1:9/books", max_bytes=1)
    fill(ledger, 1)
    ledger.close()
    assert count(path) == 601


# Processes


KILLED = """
from llm_master.ledger import marks
import signal
real = marks.Marks.move
moves = 0
def move(self, mark, refused):
    global moves
    moves += 1
    if moves == 2:
        os.kill(os.getpid(), signal.SIGKILL)  # PostgreSQL has the second batch, and the mark does not know
    real(self, mark, refused)
marks.Marks.move = move
ledger = Ledger(argv[0], postgres=argv[1])
for number in range(1500):
    ledger.add(made(tags=["all"]))
assert ledger.flush()
ledger.close(30)
"""


def test_a_forwarder_that_is_killed_after_the_commit(path: Path, url: str, opened: Open) -> None:
    done = program(KILLED, path, url, check=False)
    assert done.returncode == -9
    there = rows(url, "SELECT count(*) FROM calls")[0][0]
    [(mark, holder)] = ask(path, "SELECT mark, holder FROM forwarding")
    assert 0 < mark < there <= count(path)
    assert holder is not None
    ledger = opened()
    ledger.start()
    # The holder is dead, which the next one sees without waiting for its lease.
    until(lambda: forwarding(ledger).behind == 0)
    assert same(path, url) == count(path)
    assert forwarding(ledger).forwarded == count(path) - mark


def test_many_hosts_forward_into_one_database(tmp_path: Path, url: str) -> None:
    code = """
ledger = Ledger(f"{argv[1]}/{argv[0]}.sqlite3", postgres=argv[2])
for number in range(200):
    ledger.add(made(tags=[f"host-{argv[0]}"]))
ledger.close(30)
print(ledger.health().forwarding.forwarded, ledger.health().forwarding.failure)
"""
    # The database is empty: each of them wants to make the tables.
    assert children(code, 4, tmp_path, url) == ["200 None\n"] * 4
    found = rows(url, "SELECT tag, count(DISTINCT call_id) FROM call_tags GROUP BY tag ORDER BY tag")
    assert found == [(f"host-{number}", 200) for number in range(4)]
    assert rows(url, "SELECT count(*) FROM calls") == [(800,)]


def test_several_processes_of_one_file_forward_it_once(path: Path, url: str, opened: Open) -> None:
    code = """
ledger = Ledger(argv[1], postgres=argv[2])
for number in range(200):
    ledger.add(made(tags=["all"]))
ledger.close(30)
print(ledger.health().forwarding.forwarded)
"""
    sent = sum(int(text) for text in children(code, 3, path, url))
    ledger = opened()
    ledger.start()
    until(lambda: forwarding(ledger).behind == 0)
    assert same(path, url) == 600
    # Nobody has sent what another one did.
    assert sent + forwarding(ledger).forwarded == 600


def test_a_child_leaves_its_parents_connection_alone(path: Path, url: str) -> None:
    code = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
ledger = Ledger(argv[0], postgres=argv[1])
ledger.add(made())
ledger.flush()
while ledger.health().forwarding.forwarded < 1:
    pass
pid = os.fork()
if not pid:
    ledger.add(made())
    ledger.close(30)
    sys.exit(0 if ledger.health().forwarding.failure is None else 1)
status = os.waitpid(pid, 0)[1]
ledger.add(made())
ledger.close(30)
print(status, ledger.health().forwarding.failure, ledger.lost)
"""
    done = program(code, path, url)
    assert (done.stdout, done.stderr) == ("0 None 0\n", "")
    assert same(path, url) == 3


@contextlib.contextmanager
def marks(path: Path, **options: Any) -> Iterator[Marks]:
    found = Marks(str(path), "host:5432/books", **options)
    try:
        yield found
    finally:
        found.close()


def test_one_at_a_time_forwards_until_its_lease_is_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_file(str(path)).close()
    now = [1000.0]
    with marks(path, clock=lambda: now[0]) as one, marks(path, clock=lambda: now[0]) as two:
        assert one.behind() == 0
        assert (one.claim(), two.claim(), one.claim()) == (True, False, True)
        now[0] += 29.0
        assert two.claim() is False
        now[0] += 1.0
        assert (two.claim(), one.claim()) == (True, False)
        two.release()
        assert one.claim() is True
        # The clock was set back: a lease that ends in an hour was never given.
        now[0] -= 3600.0
        assert two.claim() is True
        # The process is no more.
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE forwarding SET holder = replace(holder, ' ' || ?, ' 999999999')", (own_pid(),))
        connection.close()
        assert one.claim() is True
        # A number means nothing on another machine.
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE forwarding SET holder = 'elsewhere/ 999999999 token'")
        connection.close()
        assert one.claim() is False


def own_pid() -> int:
    import os

    return os.getpid()


def test_a_mark_never_goes_back(path: Path) -> None:
    open_file(str(path)).close()
    with marks(path) as one, marks(path) as two:
        one.behind()
        one.claim()
        one.move(7, {})
        one.move(5, {3: "DataError"})
        two.move(9, {})  # it has no claim
        assert ask(path, "SELECT mark FROM forwarding") == [(7,)]
        assert ask(path, "SELECT seq, error FROM forwarding_refused") == [(3, "DataError")]
        one.meets("first")
        assert ask(path, "SELECT mark, identity FROM forwarding") == [(0, "first")]
        one.move(7, {})
        one.meets("first")
        assert ask(path, "SELECT mark FROM forwarding") == [(7,)]
        one.meets("second")
        assert ask(path, "SELECT mark, (SELECT count(*) FROM forwarding_refused) FROM forwarding") == [(0, 0)]


def test_a_batch_ends_where_contents_are_large(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_master.ledger.marks._BYTES", 10_000)
    ledger = Ledger(path)
    for _ in range(10):
        ledger.add(made(contents="x" * 3000))
    ledger.close()
    sizes = []
    with marks(path) as here:
        here.behind()
        here.claim()
        while (found := here.next())[0]:
            sizes.append(len(found[0]))
            here.move(found[0][-1], {})
    assert sizes == [4, 4, 2]


def test_pauses_grow_and_differ(path: Path) -> None:
    chances = iter([0.0, 1.0] * 10)
    forwarder = Forwarder(str(path), Database(Secret("host=x")), chance=lambda: next(chances), pauses=(1.0, 10.0))
    found = []
    for failures in (1, 2, 3, 50):
        forwarder._failures = failures
        found.append((forwarder._pause(), forwarder._pause()))
    assert found == [(1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (5.0, 10.0)]


def test_an_idle_connection_is_given_back(path: Path, url: str, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_master.ledger.forward._IDLE", 0.0)
    monkeypatch.setattr("llm_master.ledger.forward._POLL", 0.01)
    before = set(threading.enumerate())
    ledger = opened()
    fill(ledger, 1)
    mine = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'llm-master' AND datname = current_database()"
    )
    until(arrived(ledger, 1))
    until(lambda: rows(url, mine) == [(0,)])
    names = {thread.name for thread in set(threading.enumerate()) - before}
    assert [name for name in names if "worker" in name or "scheduler" in name] == []
    fill(ledger, 1)
    until(arrived(ledger, 2))
    assert same(path, url) == 2
