"""Start the provider and the clients, and take samples from them in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

from peers import HEAVY, LIMITED, OURS, OWN, PEERS
from provider import ANSWER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

HERE = Path(__file__).resolve().parent
BASELINE = "python"
MANY = 1000
#: Calls in flight at which calls a second are looked at, too.
RATED = 32
# peer -> its values; those of all peers at the same place of a metric were taken one right after the other.
Samples = dict[str, list[float]]


class Plan(NamedTuple):
    """
    How much is measured.

    Args:
        rounds: how often everything is done; each round starts fresh processes.
        seconds: CPU seconds of one sample, about.
        flights: numbers of calls in flight.
        modes: how streamed chunks arrive.
        imports: how often each import is timed.
        turns: into how many parts a sample of calls is cut, so that the clients follow each other closely.
    """

    rounds: int
    seconds: float
    flights: tuple[int, ...] = (1, 32, 1000)
    modes: tuple[str, ...] = ("together", "apart")
    imports: int = 10
    turns: int = 4


class Cores(NamedTuple):
    """The core of the client and that of the provider; None where a process cannot be pinned."""

    client: int | None
    provider: int | None

    @classmethod
    def choose(cls) -> Cores:
        """Take the last two cores this process may use, or the only one twice."""
        if not hasattr(os, "sched_getaffinity"):
            return cls(None, None)
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[-2:][0], cores[-1])


def _core_argument(core: int | None) -> list[str]:
    return [] if core is None else ["--core", str(core)]


def _environment(name: str) -> dict[str, str]:
    # Only ours gets the tree on its path. Keys, proxies and settings of the caller reach nobody.
    keep = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE"}
    environment = {key: value for key, value in os.environ.items() if key in keep}
    if name in OWN:
        environment["PYTHONPATH"] = str(HERE.parent)
    return environment


class Process:
    """A child that answers one line of JSON for each line it is sent."""

    def __init__(self, name: str, command: list[str], log: IO[str]) -> None:
        self.name = name
        self.log = log
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=_environment(name),
            cwd=HERE,
        )

    def read(self) -> str:
        """The next line; SystemExit with the end of the log when the child is gone."""
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            self.log.flush()
            tail = "\n".join(Path(self.log.name).read_text().splitlines()[-15:])
            raise SystemExit(f"{self.name} ended with exit code {self.child.wait()}:\n{tail}")
        return line.strip()

    def ask(self, **command: object) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(command) + "\n")
        self.child.stdin.flush()
        answer: dict[str, Any] = json.loads(self.read())
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.close()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child.stdout.close()


class Bench:
    """One run: ``samples`` maps a metric's name to the values of each peer."""

    def __init__(self, names: Sequence[str], plan: Plan, python: Path, scratch: Path) -> None:
        self.names = list(names)
        self.plan = plan
        self.python = str(python)
        self.scratch = scratch
        self.cores = Cores.choose()
        self.samples: dict[str, Samples] = {}
        self.heavy: list[str] = []
        self.versions: dict[str, str] = {}

    def run(self) -> None:
        """Measure everything; progress goes to stderr."""
        if self.cores.client is not None:
            os.sched_setaffinity(0, {self.cores.client})  # children inherit it; the provider moves itself
        _say("imports")
        self._imports()
        with ExitStack() as stack:
            log = stack.enter_context(Path(self.scratch, "provider.log").open("w"))
            command = [self.python, "provider.py", *_core_argument(self.cores.provider)]
            provider = stack.enter_context(Process("provider", command, log))
            base_url = f"http://127.0.0.1:{provider.read()}/v1"
            for number in range(self.plan.rounds):
                _say(f"round {number + 1} of {self.plan.rounds}")
                # Each round begins with another peer, so that none is always first after a pause.
                turn = number % len(self.names)
                self._round(base_url, self.names[turn:] + self.names[:turn])

    def _keep(self, metric: str, name: str, value: float) -> None:
        self.samples.setdefault(metric, {}).setdefault(name, []).append(value)

    def _round(self, base_url: str, names: list[str]) -> None:
        with ExitStack() as stack:
            clients: dict[str, Process] = {}
            for name in names:
                log = stack.enter_context(Path(self.scratch, f"{name}.log").open("w"))
                program = f"clients/{PEERS[name].program}"
                command = [self.python, program, base_url, *_core_argument(self.cores.client)]
                clients[name] = stack.enter_context(Process(name, command, log))
                self._first(name, clients[name])
            # Many calls in flight come last: their idle connections expire in the middle of whatever runs next.
            for flight in (each for each in self.plan.flights if each < MANY):
                self._sample_calls(clients, flight)
            for mode in self.plan.modes:
                for name, client in clients.items():
                    self._keep(
                        f"chunk {mode}", name, client.ask(do="chunks", mode=mode, seconds=self.plan.seconds)["us"]
                    )
            if LIMITED in clients:
                self._keep("limiter", LIMITED, clients[LIMITED].ask(do="limiter")["us"])
            for flight in (each for each in self.plan.flights if each >= MANY):
                self._sample_calls(clients, flight)

    def _sample_calls(self, clients: dict[str, Process], flight: int) -> None:
        # Of a thousand in flight one wave alone takes a second with the dearest peer.
        turns = self.plan.turns if flight < MANY else 1
        for _ in range(turns):
            for name, client in clients.items():
                found = client.ask(do="calls", flight=flight, seconds=self.plan.seconds / turns)
                self._keep(f"call@{flight}", name, found["us"])
                if flight == RATED:
                    self._keep(f"wall@{flight}", name, found["wall"])

    def _first(self, name: str, client: Process) -> None:
        first = client.ask(do="first")
        if first["text"] != ANSWER or not first["tokens"]:
            raise SystemExit(f"{name} did not read the provider's answer: {first}")
        self._keep("memory", name, first["mb"])

    def _imports(self) -> None:
        programs = {BASELINE: "pass"} | {name: PEERS[name].construct for name in self.names}
        for number in range(self.plan.imports + 1):
            for name, code in programs.items():
                wall, cpu = self._fresh(name, code)
                if number:  # the first time writes the bytecode and fills the page cache
                    self._keep("import", name, wall)
                    self._keep("import cpu", name, cpu)
        code = "import sys; sys.path.insert(0, 'clients'); from _worker import peak_memory; print(peak_memory())"
        for _ in range(3):
            self._keep("memory", BASELINE, float(self._output(BASELINE, code)))
        wanted = list(dict.fromkeys(version for name in self.names for version in PEERS[name].versions))
        code = f"import json, sys; from importlib.metadata import version as v; w = {wanted!r}\n"
        code += "print(json.dumps({name: v(name) for name in w} | {'Python': sys.version.split()[0]}))"
        self.versions = json.loads(self._output(BASELINE, code))
        if OURS in self.names:
            code = f"{PEERS[OURS].construct}\nimport sys\nprint(*sorted(set(sys.modules) & set({HEAVY!r})))"
            self.heavy = self._output(OURS, code).split()

    def _output(self, name: str, code: str) -> str:
        run = subprocess.run(
            [self.python, "-c", code], env=_environment(name), cwd=HERE, stdout=subprocess.PIPE, text=True, check=True
        )
        return run.stdout

    def _fresh(self, name: str, code: str) -> tuple[float, float]:
        """Milliseconds of wall time and of CPU time of a fresh interpreter that runs ``code``."""
        with Path(self.scratch, f"{name}.import.log").open("w") as log:
            began = time.perf_counter()
            child = subprocess.Popen(
                # Leaving at once keeps the interpreter's own tidying up out of it; one peer's threads abort in there.
                [self.python, "-c", f"{code}\nimport os\nos._exit(0)"],
                env=_environment(name),
                cwd=HERE,
                stdout=log,
                stderr=log,
            )
            _, status, used = os.wait4(child.pid, 0)
            wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{name}: its import ended with {child.returncode}:\n{Path(log.name).read_text()[-2000:]}")
        return wall * 1e3, (used.ru_utime + used.ru_stime) * 1e3


def _say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()
