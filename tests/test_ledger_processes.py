"""
The ledger over processes: many writers, forks, ends of the interpreter, and kill -9.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kill9
import pytest
from support.ledgers import ask, children, count, program

TOOL = Path(kill9.__file__)


def test_several_processes_write_one_file(path: Path) -> None:
    code = """
ledger = Ledger(argv[1], mode="strict", patience=60.0)
for _ in range(30):
    for future in [ledger.commit(made()) for _ in range(10)]:
        future.result(60)
ledger.close()
print(ledger.health().written, ledger.lost)
"""
    # They also begin at once: each wants to make the file and its tables.
    assert children(code, 4, path) == ["300 0\n"] * 4
    assert ask(path, "SELECT count(*), count(DISTINCT id) FROM calls") == [(1200, 1200)]
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]


FORK = """
import threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
ledger = Ledger(argv[0])
ledger.commit(made()).result(10)
stop = threading.Event()
sent = [0, 0]

def work(name):
    while not stop.is_set():
        ledger.add(made())
        sent[name] += 1
        if sent[name] % 100 == 0:
            stop.wait(0.001)

threads = [threading.Thread(target=work, args=(name,)) for name in range(2)]
for thread in threads:
    thread.start()
children = []
for number in range(8):
    pid = os.fork()
    if not pid:
        for _ in range(50):
            ledger.add(made())
        ledger.commit(made()).result(20)
        health = ledger.health()
        os._exit(0 if (health.written, health.lost, ledger.flush()) == (51, 0, True) else 1)
    children.append(pid)
statuses = [os.waitpid(pid, 0)[1] for pid in children]
stop.set()
for thread in threads:
    thread.join()
assert ledger.flush(30)
print(statuses == [0] * 8, 1 + sum(sent) + 8 * 51)
"""


def test_a_fork_loses_nothing_and_doubles_nothing(path: Path) -> None:
    fine, rows = program(FORK, path).stdout.split()
    assert fine == "True"
    assert ask(path, "SELECT count(*), count(DISTINCT id) FROM calls") == [(int(rows), int(rows))]
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]


HANDED_DOWN = """
from support.ledgers import until
ledger = Ledger(argv[0], postgres="postgresql://127.0.0.1:9/books")
ledger.commit(made()).result(20)
until(lambda: ledger._writer._connection and ledger._forwarder._marks._connection)
if not os.fork():
    held = [os.path.realpath(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")]
    print([each for each in held if each.startswith(argv[0])], flush=True)
    os._exit(0)
os.wait()
"""


def test_a_child_is_handed_no_open_file(path: Path) -> None:
    # SQLite forbids it: what the child closed would take the parent's locks away.
    assert program(HANDED_DOWN, path).stdout == "[]\n"


LATE = """
import threading
def late():
    threading.main_thread().join()
    for _ in range(100):
        ledger.add(made())
threading.Thread(target=late).start()
"""

MULTIPROCESSING = """
import multiprocessing
def work():
    for _ in range(100):
        ledger.add(made())
ledger.add(made())
process = multiprocessing.get_context("fork").Process(target=work)
process.start()
process.join()
"""


@pytest.mark.parametrize(
    ("code", "rows"),
    [
        ("for _ in range(100): ledger.add(made())", 100),
        # A thread that is no daemon goes on after the main program.
        (LATE, 100),
        # Registered before the ledger's own, so that it runs after it.
        ("", 1),
        ("ledger.add(made())\nraise SystemExit(3)", 2),
        ("ledger.add(made())\nraise KeyError('a bug')", 2),
        (MULTIPROCESSING, 101),
    ],
)
def test_the_end_of_a_program_writes_what_is_queued(code: str, rows: int, path: Path) -> None:
    head = "import atexit\nled = []\natexit.register(lambda: led[0] and led[0].add(made()))\nled.append(None)\nmade()\n"
    # Nothing but the end makes it write: the first row waits for others longer than the program lives.
    head += "ledger = Ledger(argv[0])\nledger._writer.gather = 1000.0\n"
    late = "led[0] = ledger\n" if rows < 3 else ""
    done = program(head + late + code, path, check=False)
    assert "Exception ignored" not in done.stderr
    assert count(path) == rows, done.stderr


MOVED = """
ledger = Ledger(argv[0])
for _ in range(20):
    ledger.add(made())
assert ledger.flush()
os.rename(argv[0], argv[0] + ".old")
"""


def test_a_file_that_is_moved_away_keeps_its_rows_when_the_program_ends(path: Path) -> None:
    program(MOVED, path)
    program("Ledger(argv[0]).add(made())", path)
    assert (count(path.with_name(f"{path.name}.old")), count(path)) == (20, 1)


def test_rows_that_cannot_be_written_at_the_end_are_said(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    done = program("ledger = Ledger(argv[0])\nfor _ in range(7): ledger.add(made())", path)
    assert (
        f"7 rows of the ledger in {path} are lost: the ledger in {path} cannot be written: it is no SQLite"
        in done.stderr
    )


def test_what_a_caller_has_seen_survives_kill_9() -> None:
    """The short form; ``make kill9`` is the long one."""
    command = [sys.executable, "-W", "error", str(TOOL), "--runs", "3", "--seed", "5", "--longest", "0.3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, "violation" in done.stdout) == (0, False), done.stdout + done.stderr
    assert "calls in PostgreSQL, each once" in done.stdout


def test_a_lost_row_is_seen(tmp_path: Path) -> None:
    runs = kill9.Runs(tmp_path, "http://127.0.0.1:9", "postgresql://127.0.0.1/x", "5")
    program(
        "ledger = Ledger(argv[0])\nledger.commit(made('a' * 32, tags=['kill9'])).result(10)\n"
        "ledger.commit(made('b' * 32, tags=[])).result(10)",
        runs.path,
    )
    runs.seen = {"a" * 32, "c" * 32}
    assert runs.check() == 2
    assert runs.wrong == [f"1 answers were seen and have no row, as {'c' * 32}", "1 calls lack their attempts or tags"]
