"""
``llm-master check``: every mistake with FILE:LINE, the nearest name for a misspelt one, and the exit code.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.command import ROOT, Done, Terminal, run

GOOD = """
[timeouts]
total = 60
[models.team-chat]
fallbacks = ["local"]
[[models.team-chat.deployments]]
name = "east"
provider = "openai"
model = "gpt-4.1"
[limits."deployment:east"]
rpm = 100
"""


@pytest.fixture
def checked(tmp_path: Path):
    """The command on a file of this text."""

    def check(text: str, *arguments: str) -> Done:
        (tmp_path / "llm.toml").write_text(text)
        return run("check", "llm.toml", *arguments, folder=tmp_path)

    return check


def test_a_good_file_is_silent(checked) -> None:
    assert checked(GOOD) == Done(0, "", "")


def test_a_terminal_is_told_that_all_is_well(tmp_path: Path) -> None:
    (tmp_path / "llm.toml").write_text(GOOD)
    with Terminal("check", "llm.toml", folder=tmp_path) as terminal:
        done = terminal.end()
    assert (done.code, done.out) == (0, "llm.toml: no mistakes\n")


@pytest.mark.parametrize("name", [path.name for path in sorted((ROOT / "config").glob("*.toml"))])
def test_the_shipped_samples_are_right(name: str, tmp_path: Path) -> None:
    assert run("check", str(ROOT / "config" / name), folder=tmp_path) == Done(0, "", "")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[timeouts]\n\ntotl = 3", 3, "unknown setting 'totl' in [timeouts]; did you mean 'total'?"),
        ("[timeout]\ntotal = 3", 1, "unknown setting 'timeout' at the top of the file; did you mean 'timeouts'?"),
        ("[timeouts]\nmax_attempts = 3", 2, "it belongs into [retry]"),
        ("[retry]\nmax_attempts = 0", 2, "max_attempts = 0 is not accepted: give a whole number of at least 1"),
        ('[providers.opnai]\napi_key_env = "K"', 1, "unknown provider 'opnai'; did you mean 'openai'?"),
        ("[models.gpt-4.1]\nrate_limit_rpm = 5", 1, 'a name with a dot needs quotes: write [models."gpt-4.1"]'),
        ('[models.x]\nfallbacks = ["x"]', 2, "'x' cannot be its own fallback"),
        ('[limits."deployment:est"]\nrpm = 1', 1, "unknown deployment 'est'"),
        ('[cache]\nkind = "sqlit"\npath = "x"', 2, 'did you mean "sqlite"?'),
        ("[timeouts]\ntotal = ", 2, "this is not TOML"),
    ],
)
def test_a_mistake_has_file_and_line(checked, text: str, line: int, said: str) -> None:
    done = checked(text)
    assert (done.code, done.err) == (2, "")
    assert done.out.startswith(f"llm.toml:{line}: ")
    assert said in done.out
    assert done.out.count("\n") == 1


def test_every_mistake_stands_on_a_line_of_its_own_in_order(checked) -> None:
    done = checked("nonsense = 1\n[retry]\nmax_atempts = 1\n[timeouts]\ntotal = -1\n")
    assert done.code == 2
    assert [re.match(r"llm\.toml:(\d+): \S", line)[1] for line in done.out.splitlines()] == ["1", "3", "5"]


def test_a_key_in_the_file_is_shown_nowhere(checked) -> None:
    done = checked('[providers.openai]\napi_key_env = "sk-abcdefghijklmnop1234"\napi_key = "sk-zyxwvutsrqponm9876"')
    assert done.code == 2
    assert done.out.count("\n") == 2
    assert "sk-" not in done.out + done.err


def test_nothing_in_the_file_reaches_the_terminal_as_a_control(checked) -> None:
    done = checked('[models."a\\u001b[31mb"]\nzzz = 1')
    assert done.code == 2
    assert "\x1b" not in done.out
    assert "\\x1b[31m" in done.out


def test_a_provider_of_ones_own_code_can_be_named(checked) -> None:
    text = '[providers.mine]\nbase_url = "http://127.0.0.1:1"'
    assert checked(text).out.startswith("llm.toml:1: unknown provider 'mine'")
    assert checked(text, "--provider", "mine") == Done(0, "", "")


@pytest.mark.parametrize(("name", "why"), [("absent.toml", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, why: str) -> None:
    done = run("check", name, folder=tmp_path)
    assert done == Done(2, "", f"error: the settings file {name} cannot be read: {why}\n")


def test_a_file_must_be_named(tmp_path: Path) -> None:
    done = run("check", folder=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "Missing argument 'FILE'" in done.err


def test_no_key_and_no_network_is_needed(checked) -> None:
    # What the doctor would call bad: no key, and an address that leads nowhere.
    assert checked('[providers.openai]\nbase_url = "https://api.nosuch.invalid/v1"').code == 0
