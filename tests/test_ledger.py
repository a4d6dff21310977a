"""
The ledger in one process: rows, groups, levels of durability, and what is removed.
"""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ledgers import ask, count, made, program, until

from llm_master import ConfigurationError
from llm_master.books import new_uid
from llm_master.ledger import insert, rows, writer
from llm_master.ledger.retention import Pruned
from llm_master.ledger.sqlite_file import open_file, transaction
from llm_master.ledger.store import Ledger

Open = Callable[..., Ledger]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "usage.sqlite3"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    made_here: list[Ledger] = []

    def make(where: Path = path, **options: Any) -> Ledger:
        ledger = Ledger(where, **options)
        made_here.append(ledger)
        return ledger

    yield make
    for ledger in made_here:
        ledger.close()


# Rows


@given(st.integers(0, 2**43), st.integers(0, 2**43))
def test_an_id_is_a_uuid_of_version_7_and_sorts_by_time(one: int, two: int) -> None:
    first, second = new_uid((one + 0.25) / 1000), new_uid((two + 0.75) / 1000)
    assert (uuid.UUID(first).version, uuid.UUID(first).variant, first) == (7, uuid.RFC_4122, uuid.UUID(first).hex)
    assert int(first[:12], 16) == one
    assert (first < second) == (one < two) or one == two


def test_ids_differ() -> None:
    assert len({new_uid(5) for _ in range(10_000)}) == 10_000


def test_ids_neither_follow_nor_touch_the_programs_own_chance() -> None:
    def drawn() -> tuple[str, float]:
        random.seed(7)
        return new_uid(5), random.random()

    (one, number), (two, again) = drawn(), drawn()
    assert (one != two, number) == (True, again)
    children = []
    for _ in range(2):
        read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests beside the fork
            child = os.fork()
        if not child:
            os.write(write, new_uid(5).encode())
            os._exit(0)
        os.waitpid(child, 0)
        children.append(os.read(read, 100).decode())
        os.close(read)
        os.close(write)
    assert len({*children, new_uid(5)}) == 3


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(10**28, 10**40))
def test_money_goes_both_ways_without_a_rest(amount: int) -> None:
    assert rows.picodollars(rows.usd(amount)) == amount


def test_money_that_is_not_known_stays_unknown() -> None:
    assert (rows.picodollars(None), rows.usd(None)) == (None, None)
    assert rows.usd(1) == Decimal("0.000000000001")
    assert [rows.picodollars(Decimal(text)) for text in ("0.0000000000005", "0.0000000000015")] == [0, 2]
    assert rows.picodollars(Decimal("0.00000000000050000000000000000000000000000001")) == 1


def test_money_does_not_follow_the_programs_own_precision() -> None:
    with localcontext(prec=3, rounding=ROUND_DOWN):
        assert rows.usd(123_456_789_012_345) == Decimal("123.456789012345")
        assert rows.picodollars(Decimal("123.4567890123456")) == 123_456_789_012_346


@given(st.lists(st.text(max_size=5)))
def test_tags_come_back_once_each(names: list[str]) -> None:
    assert rows.tags_of(rows.tags_text(names)) == list(dict.fromkeys(names))


@given(st.integers(0, 5000), st.integers(1, 900))
def test_groups_of_rows_make_up_their_number(number: int, most: int) -> None:
    sizes = list(insert._sizes(number, most))
    assert sum(sizes) == number
    assert all(size <= most and size & (size - 1) == 0 for size in sizes)


# Writing


def test_a_row_comes_into_the_file_by_itself(path: Path, opened: Open) -> None:
    ledger = opened()
    make = made(attempts=2, tags=["b", "a"], cost=123, ttft_us=None)
    ledger.add(make)
    until(lambda: count(path))
    call, attempts, tags = make()
    assert ask(path, f"SELECT {', '.join(rows.CALL_COLUMNS)} FROM calls") == [call]
    found = ask(path, f"SELECT {', '.join(rows.ATTEMPT_COLUMNS)} FROM attempts ORDER BY number")
    assert found == attempts
    assert ask(path, "SELECT tag, call_id, ts FROM call_tags ORDER BY tag DESC") == tags
    assert [tag for tag, *_ in tags] == ["b", "a"]
    # Gathering leaves enough of the 100 ms for the writing.
    assert ledger._writer.gather <= 0.05


def test_a_committed_row_can_be_read_by_others(path: Path, opened: Open) -> None:
    ledger = opened(mode="strict")
    for number in range(5):
        ledger.commit(made()).result(10)
        assert count(path) == number + 1


def test_what_is_queued_is_one_transaction(path: Path, opened: Open) -> None:
    ledger = opened(mode="strict")
    ledger.commit(made()).result(10)
    ran: list[str] = []
    with ledger._writer._gate:  # the writer waits here, and everything else queues up
        ledger._writer._connection.set_trace_callback(ran.append)
        futures = [ledger.commit(made()) for _ in range(100)]
        assert not any(future.done() for future in futures[1:])
    for future in futures:
        future.result(10)
    assert count(path) == 101
    # The first may have been taken before the others were there.
    assert 1 <= ran.count("COMMIT") <= 2


@pytest.mark.parametrize(("mode", "level"), [("relaxed", 1), ("strict", 2)])
def test_the_level_of_durability(mode: Any, level: int, opened: Open) -> None:
    ledger = opened(mode=mode)
    ledger.commit(made()).result(10)
    with ledger._writer._gate:
        connection = ledger._writer._connection
        assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_ledgers_of_a_path_share_their_writer_and_the_stricter_mode(path: Path, opened: Open) -> None:
    before = set(threading.enumerate())
    one, two = opened(), opened(path.parent / "." / path.name, mode="strict")
    one.commit(made()).result(10)
    with one._writer._gate:
        assert one._writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    two.add(made())
    assert one.flush()
    assert (count(path), one.health().written) == (2, 2)
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["llm-master-ledger"]


def test_a_closed_ledger_opens_again(path: Path, opened: Open) -> None:
    ledger = opened()
    for number in range(3):
        ledger.add(made())
        ledger.close()
        assert (count(path), ledger._writer._thread) == (number + 1, None)
        assert not path.with_name(f"{path.name}-wal").exists()


def test_many_threads_lose_nothing(path: Path, opened: Open) -> None:
    ledger = opened()
    ids = [[new_uid() for _ in range(300)] for _ in range(8)]

    def work(mine: list[str]) -> None:
        for number, id_ in enumerate(mine):
            if number % 50 == 0:
                ledger.commit(made(id_)).result(10)
            else:
                ledger.add(made(id_))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.flush()
    assert {id_ for (id_,) in ask(path, "SELECT id FROM calls")} == {id_ for mine in ids for id_ in mine}
    assert ledger.health() == type(ledger.health())(str(path), None, 0, 2400, 0)
    assert ledger.health().ok


def test_more_rows_than_one_statement_takes(path: Path, opened: Open) -> None:
    ledger = opened()
    for number in range(1500):
        ledger.add(made(f"{number:032x}", attempts=number % 3, tags=["all", *(["odd"] if number % 2 else [])]))
    assert ledger.flush()
    assert ask(path, "SELECT count(*), count(DISTINCT id) FROM calls") == [(1500, 1500)]
    assert ask(path, "SELECT count(*) FROM attempts") == [(1500,)]
    assert ask(path, "SELECT tag, count(*) FROM call_tags GROUP BY tag") == [("all", 1500), ("odd", 750)]
    # The order of arrival.
    assert ask(path, "SELECT id FROM calls ORDER BY seq LIMIT 1 OFFSET 1234") == [(f"{1234:032x}",)]


def test_a_call_comes_into_the_ledger_once(path: Path, opened: Open) -> None:
    ledger = opened()
    make = made()
    for future in [ledger.commit(make) for _ in range(3)]:
        future.result(10)
    assert (count(path), ask(path, "SELECT count(*) FROM attempts")) == (1, [(1,)])


def test_a_row_that_is_being_built_is_not_written_yet(path: Path, opened: Open) -> None:
    ledger = opened()
    building, go_on = threading.Event(), threading.Event()
    make = made()

    def slow() -> Any:
        building.set()
        assert go_on.wait(10)
        return make()

    ledger.add(slow)
    assert building.wait(10)
    assert (ledger.health().pending, count(path)) == (1, 0)
    assert ledger.flush(timeout=0.01) is False
    go_on.set()
    assert ledger.flush()
    assert (ledger.health().pending, count(path)) == (0, 1)


def test_a_waiter_who_has_gone_loses_nothing(path: Path, opened: Open) -> None:
    ledger = opened(mode="strict")
    ledger.commit(made()).result(10)
    with ledger._writer._gate:
        futures = [ledger.commit(made()) for _ in range(3)]
        assert all(future.cancel() for future in futures[1:])
    assert ledger.flush()
    assert count(path) == 4


def test_full_chunks_are_added_up(path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_master.ledger.chunks.CHUNK", 16)
    ledger = opened()
    for _ in range(20):
        ledger.commit(made()).result(10)
    for _ in range(40):  # together, which leaves the sums to the moment after
        ledger.add(made())
    assert ledger.flush()
    until(lambda: ask(path, "SELECT chunk, calls FROM usage_chunks ORDER BY chunk") == [(0, 16), (1, 16), (2, 16)])


# Files


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "usage.sqlite3"
    before = os.umask(0)
    try:
        ledger = Ledger(path)
        ledger.commit(made()).result(10)
        modes = {name.name: stat.S_IMODE(name.stat().st_mode) for name in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys([path.name, f"{path.name}-wal", f"{path.name}-shm"], 0o600)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (path.parent, path.parent.parent)] == [0o700, 0o700]
    ledger.close()


def test_a_file_that_is_there_keeps_its_mode(path: Path, opened: Open) -> None:
    path.parent.mkdir(mode=0o755)
    path.touch(mode=0o640)
    opened().commit(made()).result(10)
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o640, 0o755)


def test_a_file_that_was_taken_away_is_made_again(path: Path, opened: Open) -> None:
    ledger = opened()
    ledger.commit(made()).result(10)
    path.rename(path.with_suffix(".old"))
    ledger.commit(made()).result(10)
    assert (count(path), count(path.with_suffix(".old"))) == (1, 1)


def test_nothing_is_opened_before_the_first_row(tmp_path: Path) -> None:
    code = (
        "import threading\nledger = Ledger(argv[0], mode='strict')\nledger.health()\nledger.flush()\nledger.close()\n"
        "print('sqlite3' in sys.modules, os.path.exists(argv[0]), threading.active_count())\n"
        "ledger.commit(made()).result(10)\nprint('sqlite3' in sys.modules, os.path.exists(argv[0]))"
    )
    assert program(code, tmp_path / "usage.sqlite3").stdout.split() == ["False", "False", "1", "True", "True"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LLM_MASTER_LEDGER": "/srv/ledger.db", "XDG_STATE_HOME": "/x"}, Path("/srv/ledger.db")),
        ({"LLM_MASTER_LEDGER": "~/ledger.db"}, Path("/home/ada/ledger.db")),
        ({"LLM_MASTER_LEDGER": " OFF "}, None),
        ({"XDG_STATE_HOME": "/state"}, Path("/state/llm_master/usage.sqlite3")),
        ({"XDG_STATE_HOME": "relative"}, Path("/home/ada/.local/state/llm_master/usage.sqlite3")),
        ({}, Path("/home/ada/.local/state/llm_master/usage.sqlite3")),
    ],
)
def test_where_it_is(variables: dict[str, str], expected: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLM_MASTER_LEDGER", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Ledger.default_path() == expected
    if expected is None:
        with pytest.raises(ConfigurationError, match="switches the ledger off"):
            Ledger()
    else:
        assert Ledger().path == str(expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "loose"}, "mode is 'relaxed' or 'strict'"),
        ({"on_failure": "crash"}, "on_failure is 'serve' or 'refuse'"),
    ],
)
def test_what_is_misspelt_is_said(options: dict[str, Any], words: str, path: Path) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Ledger(path, **options)


@pytest.mark.parametrize("given", ["postgresql://ada:hunter2@127.0.0.1/books", "postgres://ada:hunter2@127.0.0.1"])
def test_an_address_is_no_path(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_MASTER_LEDGER", given)
    for path in (given, Path(given), None):
        with pytest.raises(ConfigurationError, match="not the address of a PostgreSQL; name that") as caught:
            Ledger(path)
        assert "hunter2" not in str(caught.value)


# Removing


def test_old_calls_go_with_all_that_is_theirs(path: Path, opened: Open) -> None:
    ledger = opened()
    old = int((datetime.now(UTC) - timedelta(days=40)).timestamp() * 1e6)
    for number in range(1200):
        ledger.add(made(attempts=2, ts=old + number, contents="x" * 400))
    ledger.add(made(id_ := new_uid()))
    pruned = ledger.prune(timedelta(days=30))
    assert (pruned.calls, pruned.kept, pruned.held_back_by) == (1200, 0, ())
    assert pruned.freed > 100_000
    assert ask(path, "SELECT id FROM calls") == [(id_,)]
    assert ask(path, "SELECT DISTINCT call_id FROM attempts") == [(id_,)]
    assert ask(path, "SELECT call_id FROM call_tags") == [(id_,)]
    assert ledger.prune(datetime.now(UTC) - timedelta(days=30)) == Pruned(0, 0, (), 0)
    with pytest.raises(ValueError, match="needs a time zone"):
        ledger.prune(datetime(2026, 1, 1))  # noqa: DTZ001  # that is what is tested


def test_what_another_database_waits_for_stays(path: Path, opened: Open) -> None:
    ledger = opened()
    for _ in range(10):
        ledger.commit(made(ts=1000)).result(10)
    connection = open_file(str(path))
    with transaction(connection):
        connection.execute("INSERT INTO forwarding VALUES ('one:5432/db', 'x', 10, NULL, 0)")
        connection.execute("INSERT INTO forwarding VALUES ('two:5432/db', 'y', 6, NULL, 0)")
        connection.execute("INSERT INTO forwarding_refused VALUES ('one:5432/db', 3, 'DataError')")
    connection.close()
    pruned = ledger.prune(timedelta(0))
    # Calls 7 to 10 are not in the second database, and call 3 is nowhere else.
    assert (pruned.calls, pruned.kept, pruned.held_back_by) == (5, 5, ("one:5432/db", "two:5432/db"))
    assert ask(path, "SELECT seq FROM calls") == [(3,), (7,), (8,), (9,), (10,)]
    ledger.forget("two:5432/db")
    assert ledger.prune(timedelta(0)).held_back_by == ("one:5432/db",)
    ledger.forget("one:5432/db")
    assert ledger.prune(timedelta(0)).calls == 1
    assert count(path) == 0


def test_a_bounded_file_keeps_the_newest_calls(path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_LOOK_AFTER", 50)
    ledger = opened(max_bytes=1_000_000)
    ids = [new_uid() for _ in range(3000)]
    for id_ in ids:
        ledger.add(made(id_, contents="x" * 1000))
    assert ledger.flush()
    ledger.close()
    left = [id_ for (id_,) in ask(path, "SELECT id FROM calls ORDER BY seq")]
    assert 100 < len(left) < 1500
    assert left == ids[-len(left) :]
    assert path.stat().st_size < 2_000_000


def test_a_bound_removes_nothing_that_is_not_forwarded(
    path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "_LOOK_AFTER", 50)
    ledger = opened(max_bytes=100_000)
    ledger.commit(made()).result(10)
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO forwarding VALUES ('one:5432/db', NULL, 0, NULL, 0)")
    connection.close()
    for _ in range(300):
        ledger.add(made(contents="x" * 1000))
    ledger.close()
    assert count(path) == 301
    assert "larger than 100000 bytes: PostgreSQL does not have its oldest calls yet" in caplog.text


def test_the_hot_path_is_one_append() -> None:
    """What ``add`` runs is counted, because a time would depend on the machine."""
    ledger = Ledger("/nowhere/usage.sqlite3")
    ledger._writer.idle = False  # as while the writer works
    lines: list[int] = []

    def trace(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_name == "add":
            lines.append(frame.f_lineno)
        else:
            lines.extend([0] * 100)
        return trace

    make = made()
    sys.settrace(trace)
    try:
        ledger.add(make)
    finally:
        sys.settrace(None)
    assert len(lines) <= 6
    assert list(ledger._queue) == [make]
    ledger._queue.clear()
