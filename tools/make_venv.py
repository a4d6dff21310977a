"""
Make ``.venv``, or leave it alone when it already holds what the locks say.

    python3 tools/make_venv.py run     the locked runtime, the embedded model and this package
    python3 tools/make_venv.py dev     the same and everything that testing, linting and locking need

Needs nothing but the standard library. ``.venv/installed.json`` says what is installed; it goes first and comes last,
so that an interrupted run leaves none and the next one starts again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"run": "requirements.txt", "dev": "requirements-dev.txt"}
MODEL = "requirements-model.txt"
PARTS = {
    "run": (LOCKS["run"], MODEL),
    "dev": (LOCKS["run"], LOCKS["dev"], MODEL),
    "package": ("setup.cfg", "pyproject.toml"),
}


def digests(root: Path) -> dict[str, str]:
    """What each part is made from: the interpreter, the place, and the files that say what is in it."""
    place = f"{sys.version} {sys.base_prefix} {root}".encode()
    return {
        part: hashlib.sha256(b"\0".join([place, *((root / name).read_bytes() for name in names)])).hexdigest()
        for part, names in PARTS.items()
    }


def plan(state: dict[str, str], wanted: dict[str, str], kind: str) -> list[str]:
    """
    The steps from what is installed to what is wanted, in order.

    The dev lock holds the run lock's pins, so ``dev`` may go on top of a good ``run`` and serves as ``run`` too. What
    was made from other files is made anew: nothing of an older lock stays behind.
    """
    good = {part for part, digest in state.items() if wanted.get(part) == digest}
    if "run" not in good or (kind not in good and kind in state):
        return ["create", kind, "package"]
    return [part for part in (kind, "package") if part not in good]


def installed(venv: Path) -> dict[str, str]:
    """What ``installed.json`` says; nothing when the environment is broken or was made by something else."""
    if not (venv / "bin" / "python").exists():
        return {}
    try:
        state = json.loads((venv / "installed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def command(step: str, venv: Path) -> list[str]:
    """The command of one step. Locks are complete, so nothing is resolved, built or fetched without its hash."""
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
    if step == "create":
        # Not sys.executable: inside an activated .venv that one is about to be removed.
        return [getattr(sys, "_base_executable", None) or sys.executable, "-m", "venv", "--clear", str(venv)]
    if step == "package":
        return [*pip, "--no-build-isolation", "--editable", str(ROOT)]
    return [*pip, "--require-hashes", "--only-binary=:all:", "--no-compile", "-r", LOCKS[step], "-r", MODEL]


def ensure(kind: str) -> None:
    """Bring ``.venv`` to what the locks say; raise CalledProcessError when a step fails."""
    venv = ROOT / ".venv"
    wanted = digests(ROOT)
    state = installed(venv)
    steps = plan(state, wanted, kind)
    if not steps:
        return
    patience = "" if steps == ["package"] else ", which takes about a minute"
    print(f"making .venv ({', '.join(steps)}){patience} ...", file=sys.stderr, flush=True)
    (venv / "installed.json").unlink(missing_ok=True)
    if steps[0] == "create":
        state = {}
    for step in steps:
        subprocess.run(command(step, venv), cwd=ROOT, stdout=sys.stderr, check=True)  # noqa: S603  # our own words
    now = state | {part: wanted[part] for part in ("run", *steps) if part in wanted}
    partial = venv / "installed.json.part"
    partial.write_text(json.dumps(now), encoding="utf-8")
    partial.rename(venv / "installed.json")


def main() -> int:
    """Ensure one kind, one process at a time."""
    kind = sys.argv[1]
    with (ROOT / "Makefile").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            ensure(kind)
        except subprocess.CalledProcessError as error:
            print(f"{error.cmd[0]} failed (see above); running the same make again starts afresh", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted; running the same make again starts afresh", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
