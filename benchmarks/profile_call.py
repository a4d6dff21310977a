"""
Where the time of one of our calls goes: writes PROFILE.md.

    python benchmarks/profile_call.py                 plain calls, then streams
    python benchmarks/profile_call.py --print         to stdout, nothing written

Two views, because each lies in its own way. A sampling profiler looks at the stack every millisecond and hardly slows
anything down: its shares are true, its detail is coarse, C code counts for the Python line that called it, and samples
in which the event loop waits for the network are left out. cProfile counts every call exactly, but makes each one
dearer, so its times are only good for their order.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "clients"), str(HERE), str(HERE.parent)]

import ours  # noqa: E402 - needs the path above
from _worker import PROMPT  # noqa: E402
from measure import Cores  # noqa: E402
from provider import pin  # noqa: E402
from report import grid  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

    Work = Callable[[ours.Ours], Awaitable[object]]

TICK = 0.001
TOP = 30
MARK = "<!-- What was done about the top entries. Written by hand; the program keeps what stands below this line. -->"
_OWN_FILES = {__file__, str(HERE / "clients" / "ours.py"), str(HERE / "clients" / "_worker.py")}


def _layer(filename: str) -> str:
    parts = Path(filename).parts
    if "llm_master" in parts:
        return "llm_master"
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    if "asyncio" in parts or filename.endswith("selectors.py"):
        return "asyncio, selectors"
    return "this program" if filename in _OWN_FILES else "standard library"


def _place(filename: str, line: int, name: str) -> str:
    parts = Path(filename).parts
    for root in ("site-packages", "llm_master", "benchmarks"):
        if root in parts:
            at = parts.index(root) + (root == "site-packages")
            return f"{'/'.join(parts[at:])}:{line} {name}"
    return f"{parts[-1]}:{line} {name}" if filename != "~" else name


class Sampler:
    """Counts the innermost function, and each function anywhere on the stack, at every tick but those of waiting."""

    def __init__(self) -> None:
        self.total = 0
        self.own: Counter[tuple[str, int, str]] = Counter()
        self.within: Counter[tuple[str, int, str]] = Counter()

    def _tick(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler's arguments
        if frame is not None and frame.f_code.co_filename.endswith("selectors.py"):
            return
        self.total += 1
        seen = set()
        first = True
        while frame is not None:
            code = frame.f_code
            key = (code.co_filename, code.co_firstlineno, code.co_qualname)
            if first:
                self.own[key] += 1
                first = False
            seen.add(key)
            frame = frame.f_back
        self.within.update(seen)

    def __enter__(self) -> Self:
        signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
        return self

    def __exit__(self, *error: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


async def _repeat(client: ours.Ours, work: Work, count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        await work(client)
    return (time.process_time() - began) / count * 1e6


def _sampled(sampler: Sampler, cost: float, unit: str) -> str:
    share = cost / max(sampler.total, 1)
    layers: Counter[str] = Counter()
    for (filename, _, _), ticks in sampler.own.items():
        layers[_layer(filename)] += ticks
    by_layer = [[name, "", f"{ticks * share:.1f}"] for name, ticks in layers.most_common()]
    by_function = [
        [_place(*key), _layer(key[0]), f"{ticks * share:.1f}", f"{sampler.within[key] * share:.1f}"]
        for key, ticks in sampler.own.most_common(TOP)
    ]
    ours_within = [
        [_place(*key), "", f"{ticks * share:.1f}"]
        for key, ticks in sampler.within.most_common()
        if _layer(key[0]) == "llm_master"
    ][:TOP]
    return "\n\n".join(
        (
            f"Own time by layer, µs {unit} ({sampler.total} samples):",
            grid(("layer", "", "own µs"), by_layer),
            f"Own time by function (with the C code it calls), µs {unit}:",
            grid(("function", "layer", "own µs", "with callees µs"), by_function),
            f"Our functions with all they call, µs {unit}:",
            grid(("function", "", "µs"), ours_within),
        )
    )


def _counted(profile: cProfile.Profile, count: int, unit: str) -> str:
    stats: Any = pstats.Stats(profile)
    entries = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:TOP]
    body = [
        [_place(*key), _layer(key[0]), f"{calls / count:.1f}", f"{own / count * 1e6:.1f}", f"{all_ / count * 1e6:.1f}"]
        for key, (_, calls, own, all_, _) in entries
    ]
    note = f"cProfile, sorted by own time; counts and µs {unit}, inflated by the profiler:"
    return f"{note}\n\n{grid(('function', 'layer', 'calls', 'own µs', 'with callees µs'), body)}"


async def _section(title: str, client: ours.Ours, work: Work, count: int, *, per: int) -> str:
    unit = "a chunk" if "chunk" in title else "a call"
    await _repeat(client, work, max(1, count // 10))
    plain = await _repeat(client, work, count) / per
    with Sampler() as sampler:
        await _repeat(client, work, count * 3)
    profile = cProfile.Profile()
    profile.enable()
    await _repeat(client, work, count)
    profile.disable()
    head = f"## {title}\n\nWithout a profiler: {plain:.1f} µs of CPU {unit}."
    return "\n\n".join((head, _sampled(sampler, plain, unit), _counted(profile, count * per, unit)))


async def _measure(base_url: str, calls: int) -> list[str]:
    client = ours.Ours(base_url)

    async def call(client: ours.Ours) -> object:
        return await client.call(PROMPT)

    async def many(client: ours.Ours) -> object:
        return await asyncio.gather(*(client.call(PROMPT) for _ in range(32)))

    async def stream(client: ours.Ours) -> object:
        return await client.stream("together:1000")

    async def slow_stream(client: ours.Ours) -> object:
        return await client.stream("apart:200")

    out = [
        await _section("A call, one at a time", client, call, calls, per=1),
        await _section("A call, 32 in flight", client, many, calls // 32, per=32),
        await _section("A streamed chunk, all at once", client, stream, max(10, calls // 50), per=1000),
        await _section("A streamed chunk, one by one", client, slow_stream, 3, per=200),
    ]
    await client.llm.aclose()
    return out


def main() -> None:
    """Profile and write."""
    parser = argparse.ArgumentParser(description="Profile the hot path of a call.")
    parser.add_argument("--print", action="store_true", help="print instead of writing PROFILE.md")
    parser.add_argument("--calls", type=int, default=4000)
    options = parser.parse_args()
    cores = Cores.choose()
    pinned = [] if cores.provider is None else ["--core", str(cores.provider)]
    provider = subprocess.Popen(
        [sys.executable, str(HERE / "provider.py"), *pinned], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert provider.stdin is not None
    assert provider.stdout is not None
    try:
        pin(cores.client)
        base_url = f"http://127.0.0.1:{provider.stdout.readline().strip()}/v1"
        sections = asyncio.run(_measure(base_url, options.calls))
    finally:
        provider.stdin.close()
        provider.wait()
        provider.stdout.close()
    text = "\n\n".join(["# Where the time of a call goes", (__doc__ or "").split("\n\n")[-1].strip(), *sections])
    if options.print:
        print(text)
        return
    path = HERE / "PROFILE.md"
    kept = path.read_text().partition(MARK)[2].strip() if path.exists() else "Nothing is written here yet."
    path.write_text(f"{text}\n\n{MARK}\n\n{kept}\n")


if __name__ == "__main__":
    main()
