"""
The stores of the response cache: bounded, private, and never the reason why a call fails; a real file under several
processes, and a real Valkey that is frozen, full, restarted or gone.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import os
import random
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.leaving import cancelled_once
from support.valkey import Valkey, client, namespace

from llm_master.classes import LLMResponse
from llm_master.policy.cache import MemoryStore, RedisStore, ResponseCache, SqliteStore, cache_key
from llm_master.policy.cache_memory import OVERHEAD
from llm_master.redaction import Secret


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# -- bounds, in memory and in a file ----------------------------------------------------------------------------------

keys = st.sampled_from("abcdef")
programs = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, st.integers(0, 120), st.sampled_from([None, 0.0, 1.0, 5.0])),
        st.tuples(st.just("get"), keys),
        st.tuples(st.just("pass"), st.sampled_from([0.5, 1.0, 3.0])),
    ),
    min_size=10,
    max_size=40,
)


class Model:
    """The same store, written the plain way."""

    def __init__(self, entries: int, size: int, overhead: Callable[[str], int]) -> None:
        self.entries, self.size, self.overhead = entries, size, overhead
        self.now = 0.0
        self.kept: list[tuple[str, bytes, float]] = []  # the longest unused first

    def total(self) -> int:
        return sum(len(value) + self.overhead(key) for key, value, _ in self.kept)

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        self.kept = [each for each in self.kept if each[0] != key]
        self.kept.append((key, value, math.inf if ttl is None else self.now + ttl))
        while len(self.kept) > self.entries or self.total() > self.size:
            del self.kept[0]

    def get(self, key: str) -> bytes | None:
        found = [each for each in self.kept if each[0] == key and each[2] > self.now]
        if found:
            self.kept.remove(found[0])
            self.kept.append(found[0])
        return found[0][1] if found else None

    def expire(self) -> None:
        self.kept = [each for each in self.kept if each[2] > self.now]


@settings(max_examples=150, deadline=None)
@given(programs, st.integers(1, 4), st.integers(300, 900))
def test_memory_is_bounded_and_forgets_what_was_not_used_for_longest(
    program: list[Any], entries: int, size: int
) -> None:
    async def main() -> None:
        model, clock = Model(entries, size, lambda key: len(key) + OVERHEAD), Clock(0.0)
        store = MemoryStore(entries, size, clock=clock)
        for name, *arguments in program:
            if name == "pass":
                clock.now = model.now = model.now + arguments[0]
            elif name == "put":
                key, length, ttl = arguments
                value = bytes([length]) * length
                await store.put(key, value, ttl)
                if ttl == 0.0 or len(key) + length + OVERHEAD > size:
                    model.kept = [each for each in model.kept if each[0] != key]
                else:
                    model.put(key, value, ttl)
            else:
                assert await store.get(arguments[0]) == model.get(arguments[0])
                model.kept = [each for each in model.kept if each[0] != arguments[0] or each[2] > model.now]
            assert (len(store), store.size) == (len(model.kept), model.total())
            assert len(store) <= entries
            assert store.size <= size

    asyncio.run(main())


@settings(max_examples=40, deadline=None)
@given(programs, st.integers(1, 4), st.integers(100, 300))
def test_a_file_is_bounded_and_forgets_what_was_not_used_for_longest(
    program: list[Any], entries: int, size: int
) -> None:
    async def main(path: str) -> None:
        model, clock = Model(entries, size, lambda _: 0), Clock(0.0)
        store = SqliteStore(path, entries, size, clock=clock, timeout=60.0)
        assert await store.get("a") is None
        for name, *arguments in program:
            if name == "pass":
                clock.now = model.now = model.now + arguments[0]
            elif name == "put":
                key, length, ttl = arguments
                await store.put(key, bytes(length), ttl)
                if ttl != 0.0 and length <= size:
                    model.expire()
                    model.put(key, bytes(length), ttl)
            else:
                assert await store.get(arguments[0]) == model.get(arguments[0])
        await store.aclose()
        assert store.failures == 0
        with sqlite3.connect(path) as look:
            rows = look.execute("SELECT key, length(value) FROM answers_1").fetchall()
            totals = look.execute("SELECT entries, bytes FROM totals_1").fetchall()
        look.close()
        assert sorted(rows) == sorted((key, len(value)) for key, value, _ in model.kept)
        assert totals == [(len(rows), sum(length for _, length in rows))]

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(main(f"{directory}/answers"))


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_was_read_stays_longer(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        store = MemoryStore(3) if kind == "memory" else SqliteStore(tmp_path / "answers", 3, timeout=60.0)
        for key in "abc":
            await store.put(key, b"x", None)
        assert [await store.get(key) for key in "cab"] == [b"x"] * 3
        assert await store.get("a") == b"x"
        await store.put("d", b"x", None)  # c was not used for longest
        assert await store.get("c") is None
        await store.put("e", b"x", None)
        assert [await store.get(key) for key in "abcde"] == [b"x", None, None, b"x", b"x"]
        await store.put("a", b"y", None)
        await store.put("f", b"x", None)
        assert [await store.get(key) for key in "adef"] == [b"y", None, b"x", b"x"]
        await store.aclose()
        if isinstance(store, MemoryStore):
            assert (len(store), store.size) == (0, 0)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_is_over_is_gone(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        clock, path = Clock(), tmp_path / "answers"
        store = MemoryStore(clock=clock) if kind == "memory" else SqliteStore(path, timeout=60.0, clock=clock)
        for key, ttl in (("a", 10.0), ("b", 20.0), ("c", None)):
            await store.put(key, b"x", ttl)
        clock.now += 9.5
        assert [await store.get(key) for key in "abc"] == [b"x"] * 3
        clock.now += 0.5
        assert [await store.get(key) for key in "abc"] == [None, b"x", b"x"]
        clock.now += 10.0
        await store.put("d", b"x", 1.0)
        assert [await store.get(key) for key in "abcd"] == [None, None, b"x", b"x"]
        await store.aclose()
        if kind == "file":
            with sqlite3.connect(path) as look:
                assert look.execute("SELECT key FROM answers_1 ORDER BY key").fetchall() == [("c",), ("d",)]
            look.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_value_that_is_too_large_takes_nobodys_place(tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        most: dict[str, int] = {"max_bytes": 1000}
        store = MemoryStore(**most) if kind == "memory" else SqliteStore(tmp_path / "answers", timeout=60.0, **most)
        await store.put("a", b"1", None)
        await store.put("b", bytes(1001), None)
        assert [await store.get(key) for key in "ab"] == [b"1", None]
        await store.put("c", bytes(500), None)
        assert [len(await store.get(key) or b"") for key in "ac"] == [1, 500]
        await store.put("d", bytes(600), None)
        assert [len(await store.get(key) or b"") for key in "cd"] == [0, 600]
        await store.aclose()

    asyncio.run(main())


def test_threads_share_a_store_in_memory() -> None:
    store = MemoryStore(max_entries=5)

    async def work(number: int) -> None:
        for step in range(500):
            await store.put(f"{(number + step) % 9}", b"x" * step, 60.0)
            await store.get(f"{step % 9}")

    threads = [threading.Thread(target=asyncio.run, args=(work(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) == 5
    assert store.size == sum(len(k) + len(v) + OVERHEAD for k, (v, _) in store._entries.items())


# -- a file -----------------------------------------------------------------------------------------------------------


def used(make: Callable[[], Any], program: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run a coroutine with a store, which leaves no task behind."""

    async def main() -> Any:
        store = make()
        try:
            return await program(store)
        finally:
            await store.aclose()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    return asyncio.run(main())


def with_file(path: Path | str, program: Callable[[SqliteStore], Awaitable[Any]], **options: Any) -> Any:
    return used(lambda: SqliteStore(path, **{"timeout": 60.0, **options}), program)


def test_a_file_is_private_and_lasts(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    link = tmp_path / "link"
    link.symlink_to(path)

    async def write(store: SqliteStore) -> None:
        await store.put("a", b"1", None)
        modes = {each.name: stat.S_IMODE(each.lstat().st_mode) for each in tmp_path.iterdir() if each != link}
        assert modes == dict.fromkeys(("answers", "answers-wal", "answers-shm"), 0o600)
        await store.aclose()
        assert await store.get("a") == b"1"

    async def read(store: SqliteStore) -> bytes | None:
        return await store.get("a")

    old = os.umask(0)
    try:
        with_file(link, write)
    finally:
        os.umask(old)
    path.chmod(0o640)
    assert with_file(path, read) == b"1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert {each.name for each in tmp_path.iterdir()} == {"answers", "link"}


WORKER = """
import asyncio, sys
from llm_master.policy.cache import SqliteStore

async def main(path, mine, other):
    store = SqliteStore(path, 100, timeout=60.0)
    for number in range(200):
        await store.put(f"{mine}{number % 40}", f"{mine}{number}".encode() * 50, 60.0)
        await store.get(f"{other}{number % 40}")
    print("ready", store.failures, flush=True)
    sys.stdin.readline()
    found = [await store.get(f"{other}{number}") for number in range(40)]
    assert found == [f"{other}{number + 160}".encode() * 50 for number in range(40)], found
    assert store.failures == 0
    await store.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "answers")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", WORKER, path, *names], **pipes)
        for names in (("a", "b"), ("b", "a"))
    ]
    try:
        assert [worker.stdout.readline() for worker in workers if worker.stdout] == ["ready 0\n", "ready 0\n"]
        assert [worker.communicate("go\n", timeout=60)[0] for worker in workers] == ["", ""]
        assert [worker.returncode for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    with sqlite3.connect(path) as look:
        assert look.execute("SELECT entries, bytes FROM totals_1").fetchone() == (80, 40 * 200 * 2)
    look.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, whatever its name says. " * 100)


def torn(path: Path) -> None:
    async def write(store: SqliteStore) -> None:
        for number in range(50):
            await store.put(f"{number}", bytes(500), None)

    with_file(path, write)
    data = path.read_bytes()
    path.write_bytes(data[:4096] + random.Random(7).randbytes(len(data) - 4096))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (garbage, "DatabaseError: file is not a database"),
        (torn, "DatabaseError: database disk image is malformed"),
        (Path.mkdir, "OperationalError: unable to open database file"),
        (lambda _: None, None),
    ],
    ids=["garbage", "torn", "directory", "fine"],
)
def test_a_file_that_cannot_be_used_is_a_miss_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], Any], why: str | None
) -> None:
    path = tmp_path / "answers"
    spoil(path)
    clock = Clock()

    async def program(store: SqliteStore) -> None:
        for _ in range(3):
            clock.now += 10.0
            await store.put("1", b"x", 60.0)
            assert await store.get("1") == (None if why else b"x")

    with_file(path, program, monotonic=clock)
    assert warnings_in(caplog) == ([f"response cache in {path}: {why}; calls go on without it"] if why else [])


def test_a_damaged_file_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    path, clock = tmp_path / "answers", Clock()
    torn(path)

    async def program(store: SqliteStore) -> None:
        await store.put("1", b"x", None)
        assert (await store.get("1"), store.failures) == (None, 2)
        for each in tmp_path.iterdir():
            each.unlink()
        clock.now += 1.0
        await store.put("1", b"x", None)
        assert (await store.get("1"), store.failures) == (b"x", 2)

    with_file(path, program, monotonic=clock)


def test_stores_that_make_a_file_at_once_wait_for_each_other(tmp_path: Path) -> None:
    together, failures = threading.Barrier(4), []

    async def work(number: int) -> None:
        for name in range(25):
            store = SqliteStore(tmp_path / str(name), timeout=60.0)
            together.wait(60)
            await store.put(f"{number}", b"x", None)
            together.wait(60)
            found = [await store.get(f"{each}") for each in range(4)]
            failures.append(store.failures + found.count(None))
            await store.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(work(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [0] * 100


def test_a_file_in_no_directory_is_a_miss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def program(store: SqliteStore) -> None:
        assert await store.get("1") is None
        assert store.failures == 1
        # For a second nobody tries again; writing is another matter.
        assert await store.get("1") is None
        assert store.failures == 1
        await store.put("1", b"x", None)
        assert store.failures == 2
        (tmp_path / "no").mkdir()
        clock.now += 1.0
        await store.put("1", b"x", None)
        assert (await store.get("1"), store.failures) == (b"x", 2)

    clock = Clock()
    with_file(tmp_path / "no" / "answers", program, monotonic=clock)
    assert len(warnings_in(caplog)) == 1
    assert "No such file or directory" in caplog.text


def test_a_file_that_another_process_holds_is_a_miss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, clock = tmp_path / "answers", Clock()

    async def program(store: SqliteStore) -> None:
        await store.put("a", b"1", None)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        await store.put("a", b"2", None)
        assert await store.get("a") == b"1", "reading waits for no writer"
        holder.close()
        clock.now += 1.0
        await store.put("a", b"3", None)
        assert (await store.get("a"), store.failures) == (b"3", 1)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        await store.put("a", b"4", None)
        holder.close()

    with_file(path, program, monotonic=clock)
    # Each of two outages is told.
    assert [text.partition("answers: ")[2] for text in warnings_in(caplog)] == [
        "OperationalError: database is locked; calls go on without it"
    ] * 2


READ_ONLY = """
import asyncio, logging, os, sys
from llm_master.policy.cache import SqliteStore
import sqlite3
logging.basicConfig(format="%(message)s", stream=sys.stdout)
if os.geteuid() == 0:
    os.setuid(65534)  # root may write everywhere

async def main(path):
    store = SqliteStore(path, timeout=60.0, rest=0.0)
    for _ in range(3):
        await store.put("b", b"2", None)
        found = await store.get("a"), await store.get("b")
    print(found)
    await store.aclose()

asyncio.run(main(sys.argv[1]))
"""


def test_a_file_that_may_only_be_read_is_read() -> None:
    async def write(store: SqliteStore) -> None:
        await store.put("a", b"1", None)

    # Not under the directory of the tests, where another user may not look.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "answers"
        with_file(path, write)
        path.chmod(0o444)
        path.parent.chmod(0o777)
        command = [sys.executable, "-W", "error", "-c", READ_ONLY, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stderr, done.stdout.splitlines()) == (
        "",
        [
            f"response cache in {path}: OperationalError: attempt to write a readonly database; calls go on without it",
            "(b'1', None)",
        ],
    )


def test_a_slow_file_holds_up_neither_the_loop_nor_the_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    async def program(store: SqliteStore) -> None:
        await store.put("a", b"1", None)
        with store._lock:  # the store's thread stands still
            store._timeout = 0.01
            assert await store.get("a") is None
            assert await store.get("a") is None
            store._timeout = 60.0
            clock.now += 1.0
            waiting = asyncio.create_task(store.get("a"))
            others = [asyncio.create_task(store.get("a")) for _ in range(5)]
            assert await asyncio.gather(*others) == [None] * 5, "one asks first"
            await asyncio.sleep(0)
            assert not waiting.done()
        assert await waiting == b"1"
        assert await store.get("a") == b"1"

    with_file(tmp_path / "answers", program, monotonic=clock)
    assert len(warnings_in(caplog)) == 1
    assert "did not answer in time" in caplog.text


def test_a_call_cancelled_while_it_reads_leaves_nothing(tmp_path: Path) -> None:
    async def program(store: SqliteStore) -> None:
        with store._lock:
            task = asyncio.create_task(store.get("a"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await store.get("a"), store.failures) == (None, 0)

    with_file(tmp_path / "answers", program)


def test_threads_and_loops_share_a_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "answers", timeout=60.0)

    async def work(number: int) -> None:
        for step in range(50):
            await store.put(f"{number}-{step}", b"x", None)
            assert await store.get(f"{number}-{step}") == b"x"

    threads = [threading.Thread(target=asyncio.run, args=(work(number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.failures == 0
    asyncio.run(store.aclose())


FORKED = """
import asyncio, gc, os, signal, sys, threading, warnings
from llm_master.policy.cache import MemoryStore, RedisStore, SqliteStore
warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
memory = MemoryStore()
stores = [memory, SqliteStore(sys.argv[1], timeout=60.0), RedisStore(sys.argv[2], namespace=sys.argv[3], timeout=5.0)]
end = threading.Event()

async def collect():
    gc.collect()

async def use(*names, close=False):
    gc.collect()
    for store in stores:
        for name in names:
            await store.put(name, name.encode(), None)
            assert await store.get(name) == name.encode()
        assert await store.get("parent") == b"parent"
        if close:
            if store is not memory:
                await store.aclose()
                assert store.failures == 0

def busy():
    while not end.is_set():
        asyncio.run(memory.put("busy", b"", None))

loop = asyncio.new_event_loop()
loop.run_until_complete(use("parent"))
thread = threading.Thread(target=busy)
thread.start()
for _ in range(4):
    child = os.fork()
    if not child:
        signal.alarm(50)
        asyncio.run(use("child", close=True))
        warnings.filterwarnings("ignore", message="unclosed event loop", category=ResourceWarning)
        loop = None
        asyncio.run(use("again", close=True))
        stores.clear()
        asyncio.run(collect())
        os._exit(0)
    assert stores[1]._connection is None
    assert os.waitpid(child, 0)[1] == 0
    loop.run_until_complete(use("parent", "between"))
end.set()
thread.join()
loop.run_until_complete(use("parent", close=True))
assert asyncio.run(memory.get("child")) is None
assert asyncio.run(stores[1].get("child")) == b"child"
loop.run_until_complete(stores[1].aclose())
loop.close()
"""


def test_a_forked_child_has_connections_of_its_own(tmp_path: Path, shared_valkey: Valkey) -> None:
    command = [sys.executable, "-W", "error", "-c", FORKED, str(tmp_path / "answers"), shared_valkey.url, namespace()]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


def test_two_threads_fork_at_once() -> None:
    program = (
        "import os, threading, warnings\n"
        "from llm_master.policy.cache import MemoryStore, SqliteStore\n"
        "warnings.filterwarnings('ignore', message='.*multi-threaded.*fork', category=DeprecationWarning)\n"
        "stores = [MemoryStore() for _ in range(20)] + [SqliteStore('x')]\n"
        "def work():\n"
        "    for _ in range(20):\n"
        "        child = os.fork()\n"
        "        if not child:\n"
        "            stores[0].before_fork()\n"
        "            os._exit(0)\n"
        "        assert os.waitpid(child, 0)[1] == 0\n"
        "        more = [MemoryStore() for _ in range(20)]\n"
        "threads = [threading.Thread(target=work) for _ in range(3)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_nobody_closed_is_closed_with_its_store(tmp_path: Path) -> None:
    async def use(path: Path) -> None:
        store = SqliteStore(path, timeout=60.0)
        await store.put("a", b"1", None)

    asyncio.run(use(tmp_path / "answers"))
    for thread in threading.enumerate():
        if thread.name.startswith("llm-master-cache"):
            thread.join(60)
    assert [each.name for each in tmp_path.iterdir()] == ["answers"], "the last one to close takes the log away"


# -- Redis ------------------------------------------------------------------------------------------------------------


def with_redis(url: str, program: Callable[[RedisStore], Awaitable[Any]], **options: Any) -> Any:
    return used(lambda: RedisStore(url, **{"namespace": namespace(), "timeout": 5.0, **options}), program)


def test_a_shared_store_keeps_values_for_their_time(shared_valkey: Valkey) -> None:
    name = namespace()

    async def program(store: RedisStore) -> None:
        data = bytes(range(256)) * 100
        await store.put("a", data, 50.0)
        await store.put("b", b"", None)
        await store.put("c", b"c", 1e300)
        await store.put("d", b"d", 0.0)
        await store.put("e", b"e", -1.0)
        await store.put("f", b"f", 0.0001)
        assert [await store.get(key) for key in "abcde"] == [data, b"", b"c", None, None]
        other = RedisStore(shared_valkey.url, namespace=namespace(), timeout=5.0)
        assert await other.get("a") is None
        await other.aclose()
        await store.aclose()
        assert await store.get("a") == data
        assert store.failures == 0

    with_redis(shared_valkey.url, program, namespace=name)
    with client(shared_valkey.url) as redis:
        found = {key: redis.pttl(key) for key in redis.scan_iter(f"{name}:*", count=1000)}
    found.pop(f"{name}:answer:f", None)
    assert 40_000 < found.pop(f"{name}:answer:a") <= 50_000
    assert found == {f"{name}:answer:b": -1, f"{name}:answer:c": -1}


def test_a_frozen_store_costs_one_timeout_and_is_then_left_alone(
    valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()

    async def program(store: RedisStore) -> None:
        await store.put("a", b"1", None)
        valkey.freeze()
        assert await asyncio.gather(*(store.get("a") for _ in range(40))) == [None] * 40
        asked = store.failures
        for _ in range(1000):
            await asyncio.sleep(0)
        assert store._link().tasks == set(), "none is left to wait for the store"
        assert 1 <= asked <= 4  # as many as there are connections
        for _ in range(100):
            assert await store.get("a") is None
            await store.put("a", b"2", None)
        assert store.failures == asked
        clock.now += 1.0
        assert await asyncio.gather(*(store.get("a") for _ in range(40))) == [None] * 40
        assert store.failures == asked + 1, "one asks first"
        valkey.thaw()
        clock.now += 1.0
        store._timeout = 5.0
        assert await store.get("a") == b"1"
        assert await asyncio.gather(*(store.get("a") for _ in range(40))) == [b"1"] * 40
        assert store.failures == asked + 1

    with_redis(valkey.url, program, timeout=0.1, clock=clock)
    assert warnings_in(caplog) == ["response cache in Redis: the store did not answer in time; calls go on without it"]


def test_the_first_call_opens_a_connection_for_those_behind_it(valkey: Valkey) -> None:
    async def program(store: RedisStore) -> None:
        with client(valkey.url) as redis:
            before = redis.info("stats")["total_connections_received"]
            assert await asyncio.gather(*(store.get("a") for _ in range(100))) == [None] * 100
            assert redis.info("stats")["total_connections_received"] - before <= 4
        task = asyncio.create_task(store.get("a"))
        valkey.freeze()
        cold = RedisStore(valkey.url, namespace=namespace(), timeout=0.1)
        assert await asyncio.gather(*(cold.get("a") for _ in range(40))) == [None] * 40
        assert cold.failures == 1, "the others did not even begin"
        await cold.aclose()
        valkey.thaw()
        assert await task is None
        assert store.failures == 0

    with_redis(valkey.url, program, timeout=60.0)


def test_a_store_that_is_gone_is_a_miss_until_it_is_back(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    async def program(store: RedisStore) -> None:
        await store.put("a", b"1", None)
        valkey.stop()
        assert await store.get("a") is None
        await store.put("a", b"2", None)
        assert store.failures == 1
        valkey.start()
        assert await store.get("a") is None, "it is left alone for a second"
        clock.now += 1.0
        assert await store.get("a") is None, "it was restarted empty"
        await store.put("a", b"3", None)
        valkey.stop()
        valkey.start()
        assert await store.get("a") is None
        await store.put("a", b"4", None)
        assert (await store.get("a"), store.failures) == (b"4", 1)

    with_redis(valkey.url, program, clock=clock)
    assert warnings_in(caplog) == [
        "response cache in Redis: the store failed (ConnectionError); calls go on without it"
    ]


def test_a_store_that_refuses_to_write_still_gives_what_it_has(
    valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    async def program(store: RedisStore) -> None:
        await store.put("a", b"1", None)
        with client(valkey.url) as redis:
            redis.config_set("maxmemory", "1")
            for _ in range(3):
                await store.put("b", b"2", None)
                assert (await store.get("a"), await store.get("b")) == (b"1", None)
            redis.config_set("maxmemory", "0")
            redis.delete(store._name("a"))
            redis.lpush(store._name("a"), "a list")
        await store.put("b", b"3", None)
        assert (await store.get("a"), await store.get("b")) == (None, b"3")

    with_redis(valkey.url, program)
    assert [text.partition("Redis: ")[2] for text in warnings_in(caplog)] == [
        "the store refuses to put an answer (OutOfMemoryError); calls go on without it",
        "the store refuses to get an answer (ResponseError); calls go on without it",
    ]


def test_an_address_with_wrong_options_is_a_miss(caplog: pytest.LogCaptureFixture) -> None:
    async def program(store: RedisStore) -> None:
        await store.put("a", b"1", None)
        assert await store.get("a") is None

    with_redis("redis://:secret-1@127.0.0.1:1/0?health_check_interval=soon", program)
    assert len(warnings_in(caplog)) == 1
    assert "secret-1" not in caplog.text


def test_a_call_cancelled_while_it_asks_leaves_nothing(valkey: Valkey) -> None:
    async def program(store: RedisStore) -> None:
        await store.put("a", b"1", None)
        valkey.freeze()
        task = asyncio.create_task(store.get("a"))
        await cancelled_once(lambda: store._link().tasks, task)
        valkey.thaw()
        assert (await store.get("a"), store.failures) == (b"1", 0)
        await asyncio.sleep(0)
        assert store._link().tasks == set()

    with_redis(valkey.url, program, timeout=60.0)


def test_a_store_that_is_closed_while_it_is_asked_ends_the_call(
    valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    async def program(store: RedisStore) -> None:
        await store.put("a", b"1", None)
        valkey.freeze()
        tasks = [asyncio.create_task(store.get("a")) for _ in range(20)]
        while not store._link().tasks:
            await asyncio.sleep(0)
        await store.aclose()
        assert await asyncio.gather(*tasks) == [None] * 20
        assert store.failures >= 1

    with_redis(valkey.url, program, timeout=60.0)
    assert warnings_in(caplog) == ["response cache in Redis: the connection was closed; calls go on without it"]


async def cancelled_as_it_fails(store: RedisStore) -> None:
    task = asyncio.create_task(store.get("a"))
    while not store._link().tasks:
        await asyncio.sleep(0)
    next(iter(store._link().tasks)).add_done_callback(lambda _: task.cancel())
    await asyncio.wait({task})
    assert task.cancelled()


def test_a_call_cancelled_as_its_command_fails_leaves_no_error_behind() -> None:
    async def program(store: RedisStore) -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        await cancelled_as_it_fails(store)
        gc.collect()
        assert told == []

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        with_redis(f"redis://127.0.0.1:{closed.getsockname()[1]}/0", program)


def test_threads_and_loops_have_connections_of_their_own(shared_valkey: Valkey) -> None:
    store = RedisStore(shared_valkey.url, namespace=namespace(), timeout=5.0)

    async def work(number: int) -> None:
        await asyncio.gather(*(store.put(f"{number}-{step}", b"x", 60.0) for step in range(40)))
        found = await asyncio.gather(*(store.get(f"{number}-{step}") for step in range(40)))
        assert found == [b"x"] * 40
        await store.aclose()
        await store.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(work(number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (store.failures, len(store._links)) == (0, 0)


def test_a_loop_that_ended_without_closing_is_forgotten(shared_valkey: Valkey) -> None:
    store = RedisStore(shared_valkey.url, namespace=namespace(), timeout=5.0)

    async def use(*, close: bool) -> int:
        await store.put("a", b"1", 60.0)
        found = len(store._links)
        if close:
            await store.aclose()
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of connections that nobody closed
        assert [asyncio.run(use(close=close)) for close in (False, False, True)] == [1, 1, 1]
        gc.collect()
    assert len(store._links) == 0


def test_no_secret_stands_in_a_key_or_a_value(tmp_path: Path, shared_valkey: Valkey) -> None:
    secret, name = "an-unusual-credential", namespace()
    messages = [{"role": "user", "content": f"my password is {secret}"}]
    key = cache_key("id", messages, {"user": Secret(secret)}, secret, headers={"Authorization": f"Bearer {secret}"})
    assert key is not None

    async def main() -> None:
        stores = (
            SqliteStore(tmp_path / "answers", timeout=60.0),
            RedisStore(shared_valkey.url, namespace=name, timeout=5.0),
        )
        for store in stores:
            cache = ResponseCache(store)
            await cache.put(key, LLMResponse("I will keep it"), secrets=[secret])
            assert await cache.get(key) is not None
            await cache.put("other", LLMResponse(f"it is {secret}"), secrets=[secret])
            assert await cache.get("other") is None
            await cache.aclose()

    asyncio.run(main())
    with client(shared_valkey.url) as redis:
        everything = json.dumps([*redis.scan_iter(f"{name}:*", count=1000)])
    everything += "".join(each.read_bytes().decode("latin-1") for each in tmp_path.iterdir())
    assert key in everything
    assert secret not in everything
