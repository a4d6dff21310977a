"""
Files that are no ledger, that nobody may read, that are damaged or written at this moment: one line that says so, or
the right figures.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import run
from support.ledger_rows import CHUNK, call, fill, seal
from support.ledgers import made as row_made
from support.ledgers import program

from llm_master.errors import InvalidRequestError, LedgerError
from llm_master.ledger.reading import Reader
from llm_master.ledger.reading_source import Open
from llm_master.ledger.rows import rows_of
from llm_master.ledger.store import Ledger


def in_a_file(path: Path) -> Path:
    path.write_text("no folder")
    return path / "usage.sqlite3"


def in_a_long_folder(path: Path) -> Path:
    return path.parent / ("x" * 300) / "usage.sqlite3"


def a_circle(path: Path) -> Path:
    path.symlink_to(path)
    return path


def a_folder(path: Path) -> Path:
    path.mkdir()
    return path


def a_pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def words(path: Path) -> Path:
    path.write_text("These are words. " * 500)
    return path


def other_tables(path: Path) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    return path


def other_calls(path: Path) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE calls (seq INTEGER PRIMARY KEY, number TEXT)")
        connection.execute("INSERT INTO calls (number) VALUES ('555-0100')")
    return path


def damaged(path: Path) -> Path:
    fill(path, [call(number) for number in range(2000)])
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    for page in range(3, len(data) // size):
        data[page * size : page * size + 64] = b"\xff" * 64
    path.write_bytes(data)
    return path


def cut_off(path: Path) -> Path:
    fill(path, [call(number) for number in range(2000)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    return path


def a_cost_of_letters(path: Path) -> Path:
    fill(path, [call(number) for number in range(3)])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE calls SET cost = 'dear' WHERE seq = 2")
    return path


def a_model_of_bytes(path: Path) -> Path:
    fill(path, [call(number) for number in range(3)])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE calls SET model = x'ff00' WHERE seq = 3")
    return path


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (in_a_file, "cannot be read: Not a directory"),
        (in_a_long_folder, "cannot be read: File name too long"),
        (a_circle, "cannot be read: "),
        (a_folder, "is no file; name the file, usage.sqlite3"),
        (a_pipe, "is no file; name the file, usage.sqlite3"),
        (empty, "is empty: nothing was recorded there yet"),
        (words, "cannot be read: it is no SQLite database; name another file with --ledger"),
        (other_tables, "is a database of another program, not a ledger: no such table: calls"),
        (other_calls, "is a database of another program, not a ledger: no such column"),
        (damaged, "cannot be read: it is damaged; sqlite3's .recover saves what is left of it"),
        (cut_off, "cannot be read: it is damaged; sqlite3's .recover saves what is left of it"),
        (a_cost_of_letters, f"holds a row that cannot be read: call {1:032x}: "),
        (a_model_of_bytes, f"holds a row that cannot be read: call {2:032x}: "),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, made: Callable[[Path], Path], said: str) -> None:
    path = made(tmp_path / "ledger")
    before = sorted(tmp_path.iterdir())
    done = run("usage", "--by", "model", "--ledger", str(path), folder=tmp_path)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("error: ")
    assert said in done.err
    reader = Reader(path)
    with pytest.raises(LedgerError, match=re.escape(said)):
        reader.usage("model")
    with pytest.raises(LedgerError) as caught:
        reader.calls()
    assert "\n" not in str(caught.value)
    if made in (a_cost_of_letters, a_model_of_bytes):  # the other calls are there
        assert reader.call(f"{0:032x}").attempts == []
    assert sorted(tmp_path.iterdir()) == before, "reading made a file"


def test_a_ledger_that_is_written_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite3"
    rows = [call(number, cost=3, tags=["a"] if number % 2 else []) for number in range(2 * CHUNK + 100)]
    fill(path, rows[: CHUNK - 50])
    ledger = Ledger(path)
    done = threading.Event()

    def write() -> None:
        for row in rows[CHUNK - 50 :]:
            ledger.add(lambda row=row: rows_of(row, []))  # type: ignore[misc]
        ledger.flush(60)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    reader, seen = Reader(path), [CHUNK - 50]
    while True:
        last = done.is_set()
        report = reader.report("tag")
        total = report.total
        assert total.cost is not None
        # One state of the file: each call costs the same, and every second one has a tag.
        assert int(total.cost * 10**12) == 3 * total.calls
        assert {row.group["tag"]: row.calls for row in report.rows} == {
            "a": total.calls // 2,
            None: total.calls - total.calls // 2,
        }
        assert total.calls >= seen[-1]
        seen.append(total.calls)
        if last:
            break
    thread.join()
    ledger.close()
    assert seen[-1] == len(rows)
    assert seal(path) == 2
    assert reader.report("tag").summarised == 2 * CHUNK


SHRUNK = """
from datetime import timedelta
from llm_master.ledger.reading import Reader
def work(ledger):
    found = ledger.connection.execute("SELECT request_id FROM calls NOT INDEXED")
    found.fetchone()
    Ledger(argv[0]).prune(timedelta(days=-20_000))
    return len(found.fetchall())
print(Reader(argv[0])._source.read(work))
"""


def test_a_file_that_is_made_smaller_meanwhile_ends_no_reader(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite3"
    fill(path, [call(number, request_id="x" * 400) for number in range(2000)])
    assert program(SHRUNK, path).stdout == "0\n"


def test_short_programs_that_write_meanwhile_spoil_no_report(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite3"
    fill(path, [call(1)])
    tries = []

    def work(ledger: Open) -> int:
        [(found,)] = ledger.run("SELECT count(*) FROM calls")
        tries.append(found)
        other = Ledger(path)
        other.add(row_made())
        other.close()
        if len(tries) == 1:
            raise InvalidRequestError("what half of a state looks like")
        return int(found)

    assert Reader(path)._source.read(work) == 3
    assert tries == [1, 2, 3]
    assert Reader(path).usage()[0].calls == 4


def test_a_question_is_answered_from_one_state(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite3"
    ledger = Ledger(path)

    def counted(state: Open) -> int:
        ledger.add(row_made())
        assert ledger.flush()
        [(found,)] = state.run("SELECT count(*) FROM calls")
        return int(found)

    fill(path, [call(1)])
    ledger.add(row_made())
    assert ledger.flush()
    assert Reader(path)._source.read(lambda state: [counted(state) for _ in range(3)]) == [3, 3, 3]
    ledger.close()
    assert Reader(path).usage()[0].calls == 5
