"""The peers' own virtual environment, ``benchmarks/.venv``: made once, made again when a requirement changes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / ".venv"
# The second list is installed without its dependencies; see there why.
LISTS = (("requirements.txt", ()), ("requirements-nodeps.txt", ("--no-deps",)))


def _stamp() -> str:
    made_of = [sys.version, *(Path(HERE, name).read_text() for name, _ in LISTS)]
    return hashlib.sha256("\0".join(made_of).encode()).hexdigest()


def peers_python() -> Path:
    """
    The interpreter of an environment that holds the peers.

    Raises:
        SystemExit: pip could not install them; its own words are on stderr.
    """
    python = FOLDER / "bin" / "python"
    stamp = FOLDER / "made-of"
    if python.exists() and stamp.exists() and stamp.read_text() == _stamp():
        return python
    sys.stderr.write(f"bench: installing the peers into {FOLDER} (about 600 MB)\n")
    shutil.rmtree(FOLDER, ignore_errors=True)
    venv.create(FOLDER, with_pip=True, symlinks=True)
    for name, options in LISTS:
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options]
        done = subprocess.run([*command, "-r", Path(HERE, name)], check=False)
        if done.returncode:
            raise SystemExit(f"bench: pip could not install benchmarks/{name}; see above, then try again")
    stamp.write_text(_stamp())
    return python
