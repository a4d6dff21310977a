"""
Write the hashed locks from ``setup.cfg``.

    python tools/lock.py [--upgrade]     run by `make lock`; needs uv, which the dev extra brings

One lock fits CPython 3.11 and later on Linux and macOS. Pins stay as they are unless ``--upgrade`` or ``setup.cfg``
asks for others. The head of a lock holds a digest of the requirements it was made from; a test compares it.
"""

from __future__ import annotations

import configparser
import hashlib
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = {
    "requirements.txt": ("local",),
    "requirements-dev.txt": (
        *("local", "redis", "bedrock", "postgres", "otel", "prometheus", "tokenizer", "gateway", "dev"),
    ),
}
_LARGEST = "requirements-dev.txt"


def requirements(root: Path, extras: tuple[str, ...]) -> list[str]:
    """What ``setup.cfg`` wants at run time and with these extras, and what ``pyproject.toml`` wants to build it."""
    config = configparser.ConfigParser()
    config.read_string((root / "setup.cfg").read_text(encoding="utf-8"))
    build = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    blocks = [config["options"]["install_requires"], *(config["options.extras_require"][extra] for extra in extras)]
    return sorted({*build, *(line.strip() for block in blocks for line in block.splitlines() if line.strip())})


def digest(root: Path, extras: tuple[str, ...]) -> str:
    """A digest of all that decides a lock, apart from what the index holds."""
    config = configparser.ConfigParser()
    config.read_string((root / "setup.cfg").read_text(encoding="utf-8"))
    text = "\n".join([config["options"]["python_requires"], *requirements(root, extras)])
    return hashlib.sha256(text.encode()).hexdigest()


def head(root: Path, extras: tuple[str, ...]) -> str:
    """The first lines of a lock."""
    return (
        "# Written by `make lock` from setup.cfg and pyproject.toml; do not edit.\n"
        f"# Extras: {', '.join(extras)}\n"
        f"# Requirements: sha256 {digest(root, extras)}\n"
    )


def lock(root: Path, name: str, *, upgrade: bool) -> None:
    """Resolve one lock and write it; raise CalledProcessError when uv finds no solution."""
    command = ["uv", "pip", "compile", "-", "--output-file", name, "--quiet", "--no-header", "--generate-hashes"]
    command += ["--universal", "--python-version", "3.11", "--no-emit-index-url", "--no-emit-find-links"]
    if name != _LARGEST:
        command += ["--constraint", _LARGEST]
    if upgrade:
        command.append("--upgrade")
    uv = Path(sys.executable).with_name(command[0])
    wanted = "\n".join(requirements(root, EXTRAS[name]))
    subprocess.run([str(uv), *command[1:]], cwd=root, input=wanted, text=True, check=True)  # noqa: S603  # our own words
    path = root / name
    pins = path.read_text(encoding="utf-8").replace("-r -", "setup.cfg")
    path.write_text(head(root, EXTRAS[name]) + "\n" + pins, encoding="utf-8")


def main() -> int:
    """Write both locks, the larger first: what its packages ask of each other holds for the smaller one too."""
    try:
        for name in sorted(EXTRAS, key=lambda each: each != _LARGEST):
            lock(ROOT, name, upgrade="--upgrade" in sys.argv[1:])
    except FileNotFoundError:
        print("uv is missing from this environment; run `make lock`", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(main())
