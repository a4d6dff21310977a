"""
The state of circuit breakers in files: when it is written, by whom it may be read, and what becomes of the dead.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import ok, quota_429, status
from support.command import ROOT, bare_environment
from support.fault_server import FaultServer

from llm_master import BreakerPolicy, Deployment, LLMConfig, LLMError, QueryLLM, RetryPolicy
from llm_master.policy.breaker import Breaker
from llm_master.policy.limits import MemoryLimiter
from llm_master.state import BreakerState, ProcessState, Publisher, publisher, running

ONE = RetryPolicy(max_attempts=1)
PATIENCE = 20.0


# -- the hook of a breaker ---------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def hooked(policy: BreakerPolicy) -> tuple[Breaker, Clock, list[str]]:
    clock = Clock()
    breaker = Breaker(policy, clock)
    seen: list[str] = []
    breaker.on_change = lambda one: seen.append(one.state)
    return breaker, clock, seen


def test_the_hook_tells_each_opening_and_closing_and_nothing_else() -> None:
    breaker, clock, seen = hooked(BreakerPolicy(failures=2, failure_rate=None, cooldown=1.0))
    breaker.success(breaker.try_enter())
    breaker.fail(breaker.try_enter(), "server")
    breaker.leave(breaker.try_enter())
    assert seen == []
    breaker.fail(breaker.try_enter(), "server")
    assert seen == ["open"]
    clock.now = 1.0
    breaker.fail(breaker.try_enter(), "server")
    assert seen == ["open", "open"], "a probe that fails opens it again"
    clock.now = 10.0
    probe = breaker.try_enter()
    assert seen == ["open", "open"]
    breaker.answered(probe)
    breaker.success(probe)
    assert seen == ["open", "open", "closed"], "the probe closes it once"


def test_the_hook_tells_a_longer_rest() -> None:
    breaker, _, seen = hooked(BreakerPolicy(failures=1, failure_rate=None))
    late = breaker.try_enter()
    breaker.fail(breaker.try_enter(), "server")
    breaker.fail(late, "server")
    assert seen == ["open"], "what an old call reports of the same outage is no change"
    breaker.fail(late, "quota", 120.0)
    assert seen == ["open", "open"]


def test_the_hook_is_called_with_no_lock_held() -> None:
    breaker, _, seen = hooked(BreakerPolicy(failures=1))

    def look(one: Breaker) -> None:
        thread = threading.Thread(target=lambda: seen.append(one.health().state))
        thread.start()
        thread.join(PATIENCE)

    breaker.on_change = look
    breaker.fail(breaker.try_enter(), "server")
    assert seen == ["open"]


def test_a_hook_that_fails_is_logged_and_does_not_touch_the_call(caplog: pytest.LogCaptureFixture) -> None:
    breaker, _, _ = hooked(BreakerPolicy(failures=1))
    breaker.on_change = lambda _: 1 / 0
    breaker.fail(breaker.try_enter(), "server")
    assert breaker.state == "open"
    assert [record.message for record in caplog.records] == ["the on_change hook of a circuit breaker failed"]


# -- the file of a process ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory for this process, which leaves it at the end."""
    path = tmp_path / "state"
    monkeypatch.setenv("LLM_MASTER_STATE_DIR", str(path))
    yield path
    publisher(str(path)).close()


def mine(folder: Path) -> ProcessState | None:
    try:
        return next((each for each in running(str(folder)) if each.pid == os.getpid()), None)
    except FileNotFoundError:
        return None


async def soon(folder: Path, right: Callable[[ProcessState], bool]) -> ProcessState:
    """The file of this process once it is right; its thread tells nobody, so it can only be looked at again."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = mine(folder)
        if found is not None and right(found):
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"not in {PATIENCE:g} s: {found}")


def client(server: FaultServer, **options: Any) -> QueryLLM:
    config = LLMConfig(openai_api_key="sk-state-0123456789", base_urls={"openai": server.url + "/openai"})
    return QueryLLM(config, retry=ONE, limiter=MemoryLimiter(), **options)


def test_a_call_that_opens_and_closes_a_breaker_is_seen(fault_server: FaultServer, folder: Path) -> None:
    fault_server.route("/openai", [status(500), ok("again")])
    policy = BreakerPolicy(failures=1, cooldown=0.3, max_cooldown=0.3)

    async def main() -> None:
        async with client(fault_server, breaker=policy) as llm:
            with pytest.raises(LLMError):
                await llm.query("gpt-4o", "Hi")
            before = time.time()
            found = await soon(folder, lambda state: True)
            assert found.breakers[0].state in {"open", "half_open"}
            assert (found.breakers[0].model, found.breakers[0].deployment) == ("gpt-4o", None)
            assert (found.breakers[0].kind, found.breakers[0].inflight) == ("server", 0)
            assert found.breakers[0].until <= before + 0.4
            assert (await llm.query("gpt-4o", "Hi")).content == "again"
            found = await soon(folder, lambda state: state.breakers[0].state == "closed")
            assert (found.breakers[0].until, found.breakers[0].kind) == (0.0, "server")

    asyncio.run(main())
    path = folder / f"{os.getpid()}.json"
    assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [each.name for each in folder.iterdir()] == [path.name]
    publisher(str(folder)).close()
    assert list(folder.iterdir()) == []


def test_deployments_and_calls_in_flight_are_seen(fault_server: FaultServer, folder: Path) -> None:
    fault_server.route("/east", [status(500)])
    held = threading.Event()

    async def slow(exchange: Any) -> None:
        await asyncio.to_thread(held.wait, PATIENCE)
        await ok("from the west")(exchange)

    fault_server.route("/west", [slow])
    places = [
        Deployment(name=name, provider="openai", model="m", base_url=f"{fault_server.url}/{name}")
        for name in ("east", "west")
    ]

    async def main() -> None:
        policy = BreakerPolicy(failures=1, cooldown=600, max_cooldown=600)
        async with client(fault_server, breaker=policy, deployments={"team": places}) as llm:
            calls = [asyncio.create_task(llm.query("team", "Hi")) for _ in range(3)]
            try:
                found = await soon(folder, lambda state: sum(each.inflight for each in state.breakers) == 3)
            finally:
                held.set()
            await asyncio.gather(*calls)
        # What is not closed stands first.
        east, west = found.breakers
        assert (east.deployment, east.state, east.kind, east.inflight) == ("east", "open", "server", 0)
        assert (west.deployment, west.state, west.kind, west.inflight) == ("west", "closed", None, 3)
        assert 590 < east.until - found.written <= 600

    asyncio.run(main())


def test_a_key_that_rests_shows_in_every_model_of_it(fault_server: FaultServer, folder: Path) -> None:
    fault_server.route("/openai", [ok(), quota_429()])

    async def main() -> ProcessState:
        async with client(fault_server) as llm:
            await llm.query("gpt-4o-mini", "Hi")
            with pytest.raises(LLMError):
                await llm.query("gpt-4o", "Hi")
            return await soon(folder, lambda state: all(each.state == "open" for each in state.breakers))

    found = asyncio.run(main())
    assert {(each.model, each.kind) for each in found.breakers} == {("gpt-4o", "quota"), ("gpt-4o-mini", "quota")}
    assert all(100 < each.until - found.written <= 120 for each in found.breakers)


def test_nothing_is_written_while_all_is_well_or_nobody_asked(
    fault_server: FaultServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with client(fault_server) as llm:
            await llm.query("gpt-4o", "Hi")
        monkeypatch.delenv("LLM_MASTER_STATE_DIR")
        fault_server.route("/openai", [status(500)])
        async with client(fault_server, breaker=BreakerPolicy(failures=1)) as llm:
            with pytest.raises(LLMError):
                await llm.query("gpt-4o", "Hi")
            assert llm.health()["gpt-4o"][0].breaker.state == "open"
            hooks = [member.breaker.on_change for pool in llm._pools.values() for member in pool.balancer.members]
            assert hooks == [None]

    before = set(threading.enumerate())
    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []
    assert "llm-master-state" not in {thread.name for thread in set(threading.enumerate()) - before}


def test_a_dotenv_file_may_name_the_directory(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.route("/openai", [status(500)])
    folder = tmp_path / "state"
    config = LLMConfig(
        openai_api_key="sk-state-0123456789",
        base_urls={"openai": fault_server.url + "/openai"},
        dotenv_values={"LLM_MASTER_STATE_DIR": str(folder)},
    )

    async def main() -> None:
        async with QueryLLM(config, retry=ONE, breaker=BreakerPolicy(failures=1)) as llm:
            with pytest.raises(LLMError):
                await llm.query("gpt-4o", "Hi")
            await soon(folder, lambda state: state.breakers[0].state != "closed")

    asyncio.run(main())
    publisher(str(folder)).close()
    assert list(folder.iterdir()) == []


class Known:
    """What a publisher looks at, without a call."""

    def __init__(self, *names: str) -> None:
        from llm_master.pools import Place, Pool

        class Target:
            provider, model, key_id, supervised = "p", "m", None, False

        self.on_change: Any = None
        self.pools = [Pool(name, [(Place(Target(), None, (), lambda *_: None), 1.0)]) for name in names]

    def breaker(self, index: int) -> Breaker:
        found = self.pools[index].balancer.members[0].breaker
        assert isinstance(found, Breaker)
        return found


def test_a_client_that_is_gone_is_no_longer_written(tmp_path: Path) -> None:
    writer = Publisher(str(tmp_path))
    one, two = Known("a"), Known("b")
    writer.watch(one)
    writer.watch(two)
    assert one.on_change == writer.changed
    writer.write()
    assert {each.model for each in mine(tmp_path).breakers} == {"a", "b"}  # type: ignore[union-attr]  # it is there
    del one
    gc.collect()
    writer.write()
    assert [each.model for each in mine(tmp_path).breakers] == ["b"]  # type: ignore[union-attr]  # it is there
    writer.watch(two)
    assert len(writer._sources) == 2, "of those that are gone nothing stays"
    writer.close()
    writer.write()
    assert list(tmp_path.iterdir()) == [], "nothing is written after the end"


def test_of_very_many_models_those_in_trouble_are_kept(tmp_path: Path) -> None:
    known = Known(*(f"m{number}" for number in range(1200)))
    known.breaker(1150).fail(known.breaker(1150).try_enter(), "auth", 30.0)
    writer = Publisher(str(tmp_path))
    writer.watch(known)
    assert writer.write() is True
    found = mine(tmp_path)
    assert found is not None
    assert (len(found.breakers), found.left_out) == (1000, 200)
    assert (found.breakers[0].model, found.breakers[0].kind) == ("m1150", "auth")
    assert found.breakers[1].model == "m0"


def test_a_process_that_writes_removes_what_the_dead_left(tmp_path: Path) -> None:
    left = written(tmp_path, f"{dead_pid()}.json")
    Publisher(str(tmp_path)).write()
    assert not left.exists()
    assert mine(tmp_path) is not None


def test_a_directory_of_another_user_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = Path("/usr")
    if os.geteuid() == 0:
        folder = tmp_path / "theirs"
        folder.mkdir()
        os.chown(folder, 12345, 12345)
    before = set(folder.iterdir())
    Publisher(str(folder)).write()
    assert set(folder.iterdir()) == before
    (record,) = caplog.records
    assert record.message == (
        f"the state of the circuit breakers is not written to {folder}: it belongs to another user;"
        " name a directory of your own"
    )
    with pytest.raises(OSError, match="another user"):
        running(str(folder))


def open_to_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def link(path: Path) -> None:
    path.with_name("real").mkdir()
    path.symlink_to(path.with_name("real"))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (open_to_all, "everybody may write to it; name a directory of your own"),
        (link, "it is a link; name the directory itself"),
        (lambda path: path.write_text("x"), "Not a directory"),
        (lambda path: path.parent.joinpath("state").symlink_to("nowhere"), "it is a link"),
    ],
)
def test_a_directory_that_is_not_right_is_told_once_and_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Path], None], why: str
) -> None:
    folder = tmp_path / "state"
    make(folder)
    writer, known = Publisher(str(folder)), Known("a")
    writer.watch(known)
    writer.write()
    writer.write()
    told = [(record.levelname, record.message) for record in caplog.records]
    assert len(told) == 1
    assert told[0][0] == "WARNING"
    assert why in told[0][1]
    assert str(folder) in told[0][1]
    assert not [each for each in tmp_path.rglob("*") if each.suffix != "" and each.is_file()]


@pytest.mark.parametrize("gone", ["a/b", "a"])
def test_a_directory_that_is_missing_is_made_but_not_its_parents(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, gone: str
) -> None:
    writer = Publisher(str(tmp_path / gone))
    writer.write()
    assert (tmp_path / gone).exists() is (gone == "a")
    assert len(caplog.records) == (0 if gone == "a" else 1)


def test_it_heals_when_the_directory_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "state"
    open_to_all(folder)
    writer = Publisher(str(folder))
    writer.write()
    folder.chmod(0o755)
    writer.write()
    assert mine(folder) is not None
    assert len(caplog.records) == 1


def test_a_disk_that_is_full_leaves_the_file_before_and_no_other(tmp_path: Path) -> None:
    # A limit on the size of files does what a full disk does, in a process of its own.
    program = """
import resource, signal, sys
from llm_master.state import Publisher
writer = Publisher(sys.argv[1])
writer.write()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
writer.write()
import os
print(sorted(os.listdir(sys.argv[1])) == [f"{os.getpid()}.json"])
print(os.path.getsize(f"{sys.argv[1]}/{os.getpid()}.json") > 10)
"""
    done = python(program, str(tmp_path))
    assert done.stdout.split() == ["True", "True"]
    assert "is not written to" in done.stderr


# -- other processes ---------------------------------------------------------------------------------------------------


def python(program: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        env=bare_environment(ROOT, env),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def written(folder: Path, name: str, **changes: Any) -> Path:
    """A file as a process leaves it."""
    state = {
        "format": "llm-master state 1",
        "pid": int(name.partition(".")[0]),
        "program": "worker.py",
        "host": os.uname().nodename,
        "born": "17",
        "written": 1.0,
        "breakers": [],
    }
    path = folder / name
    path.write_text(json.dumps(state | changes))
    return path


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_files_of_the_dead_are_removed_and_files_that_are_not_ours_are_not(tmp_path: Path) -> None:
    dead = dead_pid()
    gone = [
        written(tmp_path, f"{dead}.json"),
        written(tmp_path, f"{os.getpid()}.json"),  # another process had our number before
        tmp_path / f"{dead}.llm-master-unfinished",
    ]
    gone[2].write_text("{")
    kept = [
        written(tmp_path, f"{dead + 1}.json", host="another.example"),
        written(tmp_path, f"{dead + 2}.json", format="something else"),
        written(tmp_path, f"0{dead}.json"),
        tmp_path / f"{dead + 3}.json",
        tmp_path / "notes.json",
    ]
    kept[3].write_text('[{"a dataset": 1}]')
    kept[4].write_text("{}")
    assert running(str(tmp_path)) == []
    assert [path.name for path in gone if path.exists()] == []
    assert [path.name for path in kept if not path.exists()] == []


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        path = written(tmp_path, f"{process.pid}.json", born=None)
        assert running(str(tmp_path)) == []
        assert not path.exists()
    finally:
        process.wait()


FAILING = """
import asyncio, os, sys
from llm_master import BreakerPolicy, LLMConfig, LLMError, QueryLLM, RetryPolicy
config = LLMConfig(openai_api_key="sk-state-0123456789", base_urls={"openai": "http://127.0.0.1:1/v1"})

def fail():
    async def main():
        async with QueryLLM(config, breaker=BreakerPolicy(failures=1), retry=RetryPolicy(max_attempts=1)) as llm:
            try:
                await llm.query("gpt-4o", "Hi")
            except LLMError:
                pass
            while not os.path.exists(f"{os.environ['LLM_MASTER_STATE_DIR']}/{os.getpid()}.json"):
                await asyncio.sleep(0.01)
            print(os.getpid(), "wrote", flush=True)
            sys.stdin.readline()
    asyncio.run(main())
"""


def test_a_process_removes_its_file_at_its_exit_and_a_killed_one_cannot(tmp_path: Path) -> None:
    folder = tmp_path / "state"

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", FAILING + "fail()"],
            env=bare_environment(tmp_path, {"LLM_MASTER_STATE_DIR": str(folder)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    with begin() as polite, begin() as killed:
        assert polite.stdout is not None
        assert killed.stdout is not None
        for process in (polite, killed):
            assert process.stdout.readline() == f"{process.pid} wrote\n"  # type: ignore[union-attr]  # a pipe, above
        found = running(str(folder))
        assert {each.pid for each in found} == {polite.pid, killed.pid}
        assert {(each.program, each.breakers[0].kind) for each in found} == {("python", "connection")}
        killed.kill()
        polite.communicate("\n", timeout=PATIENCE)
        killed.wait(PATIENCE)
        assert polite.returncode == 0
    # Whoever sees the dead one's file first may remove it, the polite one too.
    assert {path.name for path in folder.iterdir()} <= {f"{killed.pid}.json"}
    assert running(str(folder)) == []
    assert list(folder.iterdir()) == []


def test_a_forked_child_has_a_file_of_its_own(tmp_path: Path) -> None:
    program = (
        FAILING
        + """
import warnings
fail()
# Python 3.12 warns of any fork beside a thread; here that is the point.
warnings.simplefilter("ignore", DeprecationWarning)
child = os.fork()
if child:
    os.waitpid(child, 0)
else:
    fail()
"""
    )
    done = python(program, LLM_MASTER_STATE_DIR=str(tmp_path / "state"))
    pids = {line.split()[0] for line in done.stdout.splitlines()}
    assert len(pids) == 2
    assert done.stderr == ""
    assert list((tmp_path / "state").iterdir()) == [], "each has removed its own"


def test_a_cool_down_that_is_over_is_half_open() -> None:
    one = BreakerState(model="m", state="open", until=100.0)
    assert [one.state_at(now) for now in (99.0, 100.0)] == ["open", "half_open"]
    assert BreakerState(model="m", state="closed").state_at(1e12) == "closed"
