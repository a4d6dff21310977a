"""
The cost of a call: ours, the bare transport and the peers, measured side by side.

    make bench                                  everything; prints the table and writes RESULTS.md
    python benchmarks/run.py --quick            seconds; bare, openai SDK and ours, in this interpreter
    python benchmarks/run.py --peers bare,ours --rounds 9 --check
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import report
from environment import peers_python
from measure import HERE, Bench, Plan
from peers import BARE, OURS, PEERS, SDK

FULL = Plan(rounds=5, seconds=0.4, imports=12)
QUICK = Plan(rounds=3, seconds=0.04, flights=(1, 32), imports=3, turns=1)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure what a call costs, side by side with the peers.")
    parser.add_argument("--quick", action="store_true", help="a few seconds: bare, openai SDK and ours; writes no file")
    parser.add_argument("--peers", default=None, help=f"names, separated by commas: {','.join(PEERS)}")
    parser.add_argument("--python", type=Path, default=None, help="an interpreter that has the peers (default: .venv)")
    parser.add_argument("--rounds", type=int, default=None, help="rounds of fresh processes")
    parser.add_argument("--seconds", type=float, default=None, help="CPU seconds of one sample")
    parser.add_argument(
        "--output", type=Path, default=None, help="the Markdown file (default: RESULTS.md, if not quick)"
    )
    parser.add_argument("--json", type=Path, default=None, help="write samples and limits as JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a limit is missed")
    options = parser.parse_args(argv)
    default = [BARE, SDK, OURS] if options.quick else list(PEERS)
    options.peers = options.peers.split(",") if options.peers else default
    if options.quick and options.python is None:
        options.python = Path(sys.executable)
    unknown = [name for name in options.peers if name not in PEERS]
    if unknown:
        parser.error(f"unknown peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def main() -> int:
    """Measure, print and write; the exit code is 1 only for a missed limit with ``--check``."""
    options = arguments()
    plan = QUICK if options.quick else FULL
    plan = plan._replace(rounds=options.rounds or plan.rounds, seconds=options.seconds or plan.seconds)
    with tempfile.TemporaryDirectory(prefix="llm-master-bench-") as scratch:
        bench = Bench(options.peers, plan, options.python or peers_python(), Path(scratch))
        bench.run()
    print(report.table(bench))
    limits = report.limits(bench)
    if limits:
        print(f"\n{report.limit_table(bench)}")
    output = options.output or (None if options.quick else HERE / "RESULTS.md")
    if output is not None:
        output.write_text(report.document(bench))
    if options.json is not None:
        judged = [limit._asdict() | {"reached": limit.reached, "judged": limit.judged} for limit in limits]
        settled = report.settled(bench)
        options.json.write_text(json.dumps({"samples": settled, "heavy": bench.heavy, "limits": judged}, indent=1))
    return int(options.check and any(limit.judged and not limit.reached for limit in limits))


if __name__ == "__main__":
    sys.exit(main())
