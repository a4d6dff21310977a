"""Turn samples into a table, into limits that are reached or not, and into RESULTS.md."""

from __future__ import annotations

import datetime as dt
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from measure import BASELINE, HERE
from peers import BARE, HEAVY, KEPT, LIMITED, OURS, PEERS, SDK, STRICT, TENSORZERO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from measure import Bench, Samples

TITLES = {
    "call@1": "call, 1 in flight (µs CPU)",
    "call@32": "call, 32 in flight (µs CPU)",
    "wall@32": "the same, wall time (µs)",
    "call@1000": "call, 1,000 in flight (µs CPU)",
    "chunk together": "streamed chunk, all at once (µs CPU)",
    "chunk apart": "streamed chunk, one by one (µs CPU)",
    "limiter": "reserve + settle under three limits (µs CPU)",
    "import": "import + client, over bare Python (ms)",
    "import cpu": "the same, CPU only (ms)",
    "memory": "memory after the first call (MB)",
    "memory added": "the same, over bare Python (MB)",
}


class Row(NamedTuple):
    """One line of the table: medians over all turns, and ratios of values of the same turn."""

    metric: str
    peer: str
    value: float
    lowest: float
    highest: float
    to_bare: float | None
    to_ours: float | None


class Limit(NamedTuple):
    """One target: what was measured, between which extremes, and the bound it must not pass."""

    title: str
    value: float
    lowest: float
    highest: float
    bound: float
    unit: str
    #: The same measure of the bare transport in the same rounds, where a bound is a share of a peer.
    bare: float | None = None

    @property
    def reached(self) -> bool:
        """Whether the median keeps the bound."""
        return self.value <= self.bound

    @property
    def judged(self) -> bool:
        """Whether the bound says anything of us: not where the bare transport, which does nothing, misses it too."""
        return self.reached or self.bare is None or self.bare <= self.bound

    @property
    def verdict(self) -> str:
        """The word for the table."""
        return "reached" if self.reached else "NOT reached" if self.judged else f"bare has {_times(self.bare)}"


def pair(left: Sequence[float], right: Sequence[float], combine: Callable[[float, float], float]) -> list[float]:
    """Combine values of the same turn; what slows the machine for a while slows both."""
    return [combine(a, b) for a, b in zip(left, right, strict=False)]


def _grown(many: Sequence[float], few: Sequence[float]) -> list[float]:
    """Each value of a round to the median of the same round's turns."""
    turns = max(1, len(few) // len(many))
    return [_ratio(each, median(few[at * turns : (at + 1) * turns])) for at, each in enumerate(many)]


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else float("nan")


def settled(bench: Bench) -> dict[str, Samples]:
    """The samples with bare Python taken off the imports and the memory."""
    found = {metric: dict(values) for metric, values in bench.samples.items()}
    for metric in ("import", "import cpu"):
        floor = found[metric].pop(BASELINE)
        found[metric] = {
            name: pair(values, floor, lambda value, less: value - less) for name, values in found[metric].items()
        }
    python = median(found["memory"].pop(BASELINE))
    found["memory added"] = {name: [value - python for value in values] for name, values in found["memory"].items()}
    return found


def rows(bench: Bench) -> list[Row]:
    """Every line of the table, in the order of TITLES and of the peers."""
    found = settled(bench)
    lines = []
    for metric in TITLES:
        values = found.get(metric, {})
        for name in bench.names:
            if name not in values:
                continue
            mine = values[name]
            ratios = [median(pair(mine, values[other], _ratio)) if other in values else None for other in (BARE, OURS)]
            lines.append(Row(metric, name, median(mine), min(mine), max(mine), *ratios))
    return lines


def _limit(title: str, values: list[float], bound: float, unit: str = "x", bare: float | None = None) -> Limit:
    return Limit(title, median(values), min(values), max(values), bound, unit, bare)


def limits(bench: Bench) -> list[Limit]:
    """The targets that these samples can judge."""
    found = settled(bench)
    out: list[Limit] = []

    def compare(title: str, metric: str, other: str, bound: float, own: str = OURS) -> None:
        values = found.get(metric, {})
        if own in values and other in values:
            floor = median(pair(values[BARE], values[other], _ratio)) if BARE in values and other != BARE else None
            out.append(_limit(title, pair(values[own], values[other], _ratio), bound, bare=floor))

    for flight in bench.plan.flights:
        metric = f"call@{flight}"
        compare(f"a call, {flight:,} in flight, to bare aiohttp + msgspec", metric, BARE, 1.25)
        compare(f"a call, {flight:,} in flight, to the openai SDK", metric, SDK, 1 / 9)
        compare(f"a call, {flight:,} in flight, to TensorZero", metric, TENSORZERO, 0.75)
        compare(f"a call with limits, {flight:,} in flight, to bare aiohttp + msgspec", metric, BARE, 1.35, LIMITED)
        compare(
            f"a call with ledger and cost, {flight:,} in flight, to bare aiohttp + msgspec", metric, BARE, 1.5, KEPT
        )
    compare("a streamed chunk, all at once, to the openai SDK", "chunk together", SDK, 1 / 30)
    compare("a streamed chunk, one by one, to the openai SDK", "chunk apart", SDK, 1 / 3)
    if LIMITED in bench.names:
        out.append(_limit("reserve + settle under three limits", found["limiter"][LIMITED], 8, "µs"))
    if STRICT in found.get("wall@32", {}):
        title = "a call with the strict ledger, 32 in flight: 3,000 a second on one core"
        out.append(_limit(title, found["wall@32"][STRICT], 1e6 / 3000, "µs"))
    if OURS in bench.names:
        many, few = found.get("call@1000", {}), found.get("call@32", {})
        if many and few:
            own, bare = (_grown(many[name], few[name]) if name in many else None for name in (OURS, BARE))
            title = "a call at 1,000 in flight, to the same at 32"
            out.append(_limit(title, own or [], 1.4, bare=median(bare) if bare else None))
        out.append(_limit("import llm_master + QueryLLM(), over bare Python", found["import"][OURS], 50, "ms"))
        out.append(_limit(f"of {', '.join(HEAVY)} loaded by that", [float(len(bench.heavy))], 0, "modules"))
        out.append(_limit("memory after the first call", found["memory"][OURS], 60, "MB"))
    return out


def _number(value: float) -> str:
    if value != value:  # noqa: PLR0124 - not a number
        return "-"
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _times(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}x" if abs(value) < 0.1 else f"{_number(value)}x"


def grid(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in a terminal too; numbers stand right."""
    lines = [list(header), *(list(line) for line in body)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    text = [at < 2 for at in range(len(header))]

    def draw(line: Sequence[str]) -> str:
        cells = [c.ljust(w) if t else c.rjust(w) for c, w, t in zip(line, widths, text, strict=True)]
        return f"| {' | '.join(cells)} |"

    rule = "|".join("-" * (w + 2) if t else "-" * (w + 1) + ":" for w, t in zip(widths, text, strict=True))
    return "\n".join([draw(lines[0]), f"|{rule}|", *map(draw, lines[1:])])


def table(bench: Bench) -> str:
    """The one table: each measure, each client, with its ratios."""
    body = []
    before = ""
    for row in rows(bench):
        title = TITLES[row.metric]
        spread = f"{_number(row.lowest)} to {_number(row.highest)}"
        cells = [PEERS[row.peer].title, _number(row.value), spread, _times(row.to_bare), _times(row.to_ours)]
        body.append([title if title != before else "", *cells])
        before = title
    return grid(("what", "client", "median", "lowest to highest", "to bare", "to ours"), body)


def limit_table(bench: Bench) -> str:
    """Every target with its verdict."""
    body = []
    for limit in limits(bench):
        show = _times if limit.unit == "x" else _number
        unit = "" if limit.unit == "x" else f" {limit.unit}"
        spread = f"{show(limit.lowest)} to {show(limit.highest)}"
        body.append([limit.title, limit.verdict, f"{show(limit.value)}{unit}", f"{show(limit.bound)}{unit}", spread])
    return grid(("target", "verdict", "measured", "at most", "lowest to highest"), body)


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        names = [line.partition(":")[2].strip() for line in path.read_text().splitlines() if line.startswith("model n")]
        if names:
            return f"{names[0]}, {len(names)} cores visible"
    if sys.platform == "darwin":
        run = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False)
        return run.stdout.strip() or platform.machine()
    return platform.processor() or platform.machine()


def document(bench: Bench) -> str:
    """RESULTS.md as text."""
    cores = bench.cores
    pinned = "not pinned" if cores.client is None else f"client on core {cores.client}, provider on {cores.provider}"
    plan = bench.plan
    machine = [
        f"- processor: {_processor()}; {pinned}",
        f"- system: {platform.system()} {platform.release().partition('-')[0]}, {platform.python_implementation()}",
        f"- day: {dt.datetime.now(dt.UTC):%Y-%m-%d}",
        f"- rounds: {plan.rounds}, fresh processes in each; about {plan.seconds:g} s of CPU a sample",
        f"- versions: {', '.join(f'{name} {version}' for name, version in bench.versions.items())}",
    ]
    setups = [
        f"- **{PEERS[name].title}** (`clients/{PEERS[name].program}`): {PEERS[name].setup}" for name in bench.names
    ]
    method = Path(HERE, "METHOD.md").read_text().strip()
    parts = [
        "# What a call costs",
        "Written by `make bench`; do not edit.",
        "## Results",
        table(bench),
        "## Limits",
        limit_table(bench),
        "## Machine and versions",
        "\n".join(machine),
        "## How each client is set up",
        "\n".join(setups),
        method,
    ]
    return "\n\n".join(parts) + "\n"
