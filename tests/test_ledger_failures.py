"""
A ledger that cannot be written: calls go on or are refused as it was chosen, rows wait, nothing grows without bound.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ledgers import ask, count, made, program, until

from llm_master import LedgerError
from llm_master.books import new_uid
from llm_master.ledger import store
from llm_master.ledger.alarm import Alarm
from llm_master.ledger.sqlite_file import open_file, trouble
from llm_master.ledger.store import Ledger

Open = Callable[..., Ledger]


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    made_here: list[Ledger] = []

    def make(where: Path = path, **options: Any) -> Ledger:
        ledger = Ledger(where, **{"patience": 0.02} | options)
        ledger._writer.retry = 0.005
        made_here.append(ledger)
        return ledger

    yield make
    for ledger in made_here:
        ledger.close()


@pytest.fixture
def holder(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program, which holds the file locked from ``BEGIN`` on."""
    connection = open_file(str(path))
    yield connection
    connection.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_a_locked_file_serves_calls_and_loses_nothing(
    path: Path, opened: Open, holder: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    holder.execute("BEGIN IMMEDIATE")
    ledger = opened()
    for _ in range(50):
        ledger.add(made())
    until(lambda: ledger.health().failure)
    ledger.check()  # the choice is to serve
    health = ledger.health()
    assert f"the ledger in {path} cannot be written: another program holds it locked" in str(health.failure)
    assert (health.written, health.lost, health.ok) == (0, 0, False)
    assert ledger.flush() is False
    ledger.add(made())
    holder.execute("ROLLBACK")
    until(lambda: ledger.health().ok)
    assert ledger.flush()
    assert (count(path), ledger.lost) == (51, 0)
    told = warnings(caplog)
    assert len(told) == 2, "one warning a minute, and one line when it is over"
    assert "50 rows wait, 0 are lost" in told[0]
    assert "works again" in told[1]


def test_a_locked_file_is_waited_for(path: Path, opened: Open, holder: sqlite3.Connection) -> None:
    holder.execute("BEGIN IMMEDIATE")
    ledger = opened(mode="strict", patience=60.0)
    future = ledger.commit(made())
    until(lambda: ledger._writer._kept)
    assert not future.done()
    holder.execute("ROLLBACK")
    future.result(10)
    assert (count(path), ledger.health().failure) == (1, None)


def test_a_commit_that_fails_says_so_and_its_row_is_written_later(
    path: Path, opened: Open, holder: sqlite3.Connection
) -> None:
    holder.execute("BEGIN IMMEDIATE")
    ledger = opened(mode="strict")
    futures = [ledger.commit(made()) for _ in range(3)]
    for future in futures:
        with pytest.raises(LedgerError, match="cannot be written: another program holds it locked"):
            future.result(10)
    holder.execute("ROLLBACK")
    until(lambda: count(path) == 3)
    assert ledger.lost == 0


def test_who_chose_to_refuse_refuses_until_it_works(path: Path, opened: Open, holder: sqlite3.Connection) -> None:
    holder.execute("BEGIN IMMEDIATE")
    ledger = opened(on_failure="refuse")
    assert ledger.refuses
    with pytest.raises(LedgerError, match="another program holds it locked; end that program, or wait"):
        ledger.check()  # before any row: the file is tried
    holder.execute("ROLLBACK")
    until(lambda: ledger.health().failure is None)
    ledger.check()
    holder.execute("BEGIN IMMEDIATE")
    ledger.add(made())
    until(lambda: ledger.health().failure)
    with pytest.raises(LedgerError):
        ledger.check()
    holder.execute("ROLLBACK")
    until(lambda: count(path) == 1)


def test_who_refuses_takes_calls_again_after_it_was_closed(
    path: Path, opened: Open, holder: sqlite3.Connection
) -> None:
    holder.execute("BEGIN IMMEDIATE")
    ledger = opened(on_failure="refuse")
    with pytest.raises(LedgerError):
        ledger.check()
    ledger.close()
    holder.execute("ROLLBACK")
    with pytest.raises(LedgerError):
        ledger.check()  # what it knows; and the file is tried again
    until(lambda: ledger.health().failure is None)
    ledger.check()


def test_a_check_does_not_wait_for_ever(path: Path, opened: Open, holder: sqlite3.Connection) -> None:
    holder.execute("BEGIN IMMEDIATE")
    ledger = opened(on_failure="refuse", patience=60.0)
    with pytest.raises(LedgerError, match=r"could not be opened in 0.01 s"):
        ledger.check(timeout=0.01)
    holder.execute("ROLLBACK")


def garbage(path: Path) -> None:
    path.write_bytes(b"this is a text and no database, but long enough to have a header" * 100)


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()


def newer(path: Path) -> None:
    open_file(str(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()


def corrupt(path: Path) -> None:
    ledger = Ledger(path)
    for number in range(300):
        ledger.add(made(tags=[str(number)]))
    ledger.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (garbage, "it is no SQLite database; name another path"),
        (foreign, "is a database of another program, not a ledger; name another path"),
        (newer, "has tables of version '9999' and this LLM Master knows them up to"),
        (corrupt, "it is damaged; move it away and a new one is begun"),
        (Path.mkdir, "cannot be opened; check the modes of the file and its folder|Is a directory"),
    ],
)
def test_a_file_that_is_no_ledger_is_left_as_it_is(spoil: Any, words: str, path: Path, opened: Open) -> None:
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    ledger = opened(mode="strict")
    with pytest.raises(LedgerError, match=words):
        ledger.commit(made(id_ := new_uid())).result(10)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert "\n" not in str(ledger.health().failure)
    # Who follows the advice has the row that waited.
    for each in [path, *path.parent.glob(f"{path.name}-*")]:
        each.rename(each.with_name(f"moved-{each.name}"))
    until(lambda: ledger.health().ok)
    assert ledger.flush()
    assert ask(path, "SELECT id FROM calls") == [(id_,)]


@pytest.mark.parametrize("table", ["calls", "attempts", "call_tags"])
def test_damage_where_the_next_row_goes_is_seen_before_a_call(table: str, path: Path, opened: Open) -> None:
    before = opened()
    before.add(made(attempts=2))
    before.close()
    [(root,)] = ask(path, "SELECT rootpage FROM sqlite_master WHERE name = ?", table)
    data = bytearray(path.read_bytes())
    data[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    ledger = opened(on_failure="refuse")
    with pytest.raises(LedgerError, match="it is damaged; move it away and a new one is begun"):
        ledger.check()
    assert path.read_bytes() == bytes(data)


def test_a_full_disk(path: Path, opened: Open) -> None:
    """SQLite's own bound on pages ends as a full disk does; it goes with the connection, as room comes back."""
    ledger = opened(mode="strict")
    ledger.commit(made()).result(10)
    with ledger._writer._gate:
        connection = ledger._writer._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerError, match="the disk is full; make room"):
        ledger.commit(made(contents="x" * 100_000)).result(10)
    until(lambda: ledger.health().ok)
    assert ledger.flush()
    assert ask(path, "SELECT length(contents) FROM calls ORDER BY seq") == [(None,), (100_000,)]


def test_a_disk_that_takes_no_more(path: Path) -> None:
    """The operating system's bound on the size of files, in a process of its own."""
    code = """
import resource
ledger = Ledger(argv[0], mode="strict")
ledger._writer.retry = 0.005
ledger.commit(made()).result(10)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
failed = 0
for _ in range(300):
    future = ledger.commit(made(contents="x" * 2000))
    failed += future.exception(10) is not None
print(failed > 0, ledger.health().ok, ledger.lost)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
print(ledger.flush(), ledger.health().ok)
ledger.commit(made()).result(10)
print(ledger.health().written)
"""
    done = program(code, path)
    assert done.stdout.split() == ["True", "False", "0", "True", "True", "302"]
    assert "cannot be written" in done.stderr
    assert (count(path), ask(path, "PRAGMA integrity_check")) == (302, [("ok",)])


def test_a_folder_that_may_not_be_written(path: Path) -> None:
    """Root may write everywhere, so that the process becomes somebody else."""
    code = """
import pathlib, tempfile
folder = pathlib.Path(tempfile.mkdtemp())
new, old = folder / "new" / "usage.sqlite3", folder / "old" / "usage.sqlite3"
old.parent.mkdir()
Ledger(old).commit(made()).result(10)
Ledger(old).close()
old.chmod(0o444)
old.parent.chmod(0o555)
folder.chmod(0o555)
made()
if os.geteuid() == 0:
    os.seteuid(65534)
for path in (new, old):
    ledger = Ledger(path, on_failure="refuse")
    try:
        ledger.check()
    except Exception as error:
        print(type(error).__name__, error)
    ledger.add(made())
    print(ledger.flush(), ledger.health().pending)
print(sorted(str(each.relative_to(folder)) for each in folder.rglob("*")))
"""
    told = program(code, path).stdout.splitlines()
    assert "LedgerError the ledger in" in told[0]
    assert "check the modes of the file and its folder, name another path, or keep none with" in told[0]
    assert "Permission denied" in told[0]
    assert "LedgerError the ledger in" in told[2]
    assert "check the modes of the file and its folder" in told[2]
    assert [told[1], told[3]] == ["False 1", "False 1"]
    assert "new" not in told[4]


def test_a_row_that_cannot_be_built_or_stored_is_given_up_alone(
    path: Path, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = opened()

    def fail() -> Any:
        raise KeyError("usage")

    with ledger._writer._gate:  # so that all of them are one group
        good = [ledger.commit(made()) for _ in range(20)]
        bad = [ledger.commit(make) for make in (fail, made(cost=2**70), made(ts=None), made(model_asked=object()))]
        good += [ledger.commit(made()) for _ in range(20)]
    for future in good:
        future.result(10)
    words = ["could not be built (KeyError", "OverflowError", "IntegrityError: NOT NULL", "does not take a row"]
    for future, word in zip(bad, words, strict=True):
        with pytest.raises(LedgerError) as caught:
            future.result(10)
        assert word in str(caught.value)
    assert (count(path), ledger.lost, ledger.health().failure) == (40, 4, None)
    assert len(warnings(caplog)) == 1


def test_half_a_character_is_replaced(path: Path, opened: Open) -> None:
    ledger = opened()
    ledger.commit(made(model="gpt\ud800", finish_reason="stop")).result(10)
    ledger.commit(made()).result(10)
    assert ask(path, "SELECT model, finish_reason FROM calls ORDER BY seq") == [("gpt?", "stop"), (None, None)]
    assert ledger.lost == 0


def test_what_waits_has_a_bound(path: Path, opened: Open, holder: sqlite3.Connection) -> None:
    holder.execute("BEGIN IMMEDIATE")
    ledger = opened()
    ledger._writer.most_kept = 100_000
    for _ in range(500):
        ledger.add(made(contents="x" * 5000))
    until(lambda: ledger.lost)
    until(lambda: not ledger._queue)
    kept = ledger.health().pending
    assert (0 < kept < 20, kept + ledger.lost) == (True, 500)
    assert ledger._writer._size <= 100_000
    with pytest.raises(LedgerError, match="more than 100000 bytes of rows wait"):
        ledger.commit(made(contents="x" * 100_000)).result(10)
    holder.execute("ROLLBACK")
    until(lambda: count(path) == kept)
    until(lambda: ledger.health().pending == 0)
    assert ledger._writer._size == 0


def test_what_is_queued_has_a_bound(path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_QUEUED", 10)
    ledger = opened()
    ledger.commit(made()).result(10)
    with ledger._writer._gate:
        ledger.commit(made())
        until(lambda: not ledger._queue)  # the writer has it, and waits
        for _ in range(15):
            ledger.add(made())
        with pytest.raises(LedgerError, match="10 calls wait to be written"):
            ledger.commit(made()).result(10)
    assert ledger.flush()
    assert (count(path), ledger.lost) == (12, 6)


def test_without_threads_nothing_is_raised(path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = opened()

    def start(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        ledger.add(made())
        assert ledger.health().pending == 1
    ledger.add(made())
    assert ledger.flush()
    assert count(path) == 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full; make room (OSError"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full; make room (OSError"),
        (OSError(errno.EROFS, "Read-only file system"), "name another path, or keep none with LLM_MASTER_LEDGER=off ("),
        (sqlite3.ProgrammingError("odd"), "see the system's message (ProgrammingError: odd)"),
    ],
)
def test_what_the_system_says_is_advised(error: Exception, words: str) -> None:
    said = trouble(error, "/srv/usage.sqlite3")
    assert said.startswith("the ledger in /srv/usage.sqlite3 cannot be written: ")
    assert words in said


def test_one_warning_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    alarm = Alarm(lambda: now[0])
    alarm.over("nothing was wrong")
    for second in range(125):
        now[0] = float(second)
        alarm.tell(f"at {second}")
    alarm.over("over")
    alarm.over("over")
    for second in range(125, 240):  # it comes and goes
        now[0] = float(second)
        alarm.tell(f"again at {second}")
        alarm.over(f"over at {second}")
    assert warnings(caplog) == ["at 0", "at 60", "at 120", "over", "again at 180", "over at 180"]
