"""
Calls while their ledger cannot be written: they are served or refused as it was chosen, and never crash.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.behaviours import ok, status
from support.fault_server import FaultServer
from support.ledger_troubles import CHOICES, KINDS, MODES, TROUBLES
from support.ledgers import program

WORDS = {
    "locked": "another program holds it locked; end that program, or wait",
    "full": "the disk refuses it: it may be full, over a quota or failing",
    "read-only": "check the modes of the file and its folder",
    "damaged": "it is damaged; move it away and a new one is begun",
    "directory": "cannot be opened",
    "foreign": "is a database of another program, not a ledger; name another path for the ledger",
    "newer": "update LLM Master, or name another place",
}
VECTORS = {"model": "m", "data": [{"index": 0, "embedding": [0.5, 1.0]}], "usage": {"prompt_tokens": 4}}


class Made(NamedTuple):
    """What the program has printed, by trouble, mode and choice; and the prompts that the provider got."""

    found: dict[str, dict[str, Any]]
    sent: set[str]


@pytest.fixture(scope="module")
def calls() -> Made:
    # Not pytest's own folder, which only its owner may enter: root becomes somebody else on the way.
    with tempfile.TemporaryDirectory() as folder, FaultServer() as server:
        Path(folder).chmod(0o755)
        server.default = ok("whole")
        server.route("/v1/embeddings", [status(200, VECTORS)])
        command = [sys.executable, "-W", "error", "-m", "support.ledger_troubles", f"{server.url}/v1", folder]
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        bodies = [seen.json for seen in server.requests]
    sent = {body["messages"][0]["content"] if "messages" in body else body["input"][0] for body in bodies}
    return Made({each["name"]: each for each in lines}, sent)


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("choice", CHOICES)
def test_a_call_is_served_or_refused(trouble: str, mode: str, choice: str, calls: Made) -> None:
    name = f"{trouble} {mode} {choice}"
    found = calls.found[name]
    assert WORDS[trouble] in found["health"]
    for kind in KINDS:
        outcome = found[kind]
        if choice == "refuse":
            assert (outcome["error"], WORDS[trouble] in outcome["words"]) == ("LedgerError", True)
            assert "\n" not in outcome["words"]
        else:
            assert outcome["answer"] == ([[0.5, 1.0]] if kind == "embed" else "whole")
            # Who was promised a row before the answer is told that there is none yet.
            assert [WORDS[trouble] in note for note in outcome["notes"]] == [True] * (mode == "strict")
        assert (f"{name} {kind}" in calls.sent) == (choice == "serve"), "refused before anything is sent"
    # Once it works again nothing is missing and nobody is refused any more.
    assert (found["after"], found["lost"]) == ({"answer": "whole", "notes": []}, 0)
    assert found["pending"] == (3 if choice == "serve" else 0)
    assert found["rows"] == (4 if choice == "serve" else 1)


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("choice", CHOICES)
def test_it_is_said_once_and_not_with_each_call(trouble: str, mode: str, choice: str, calls: Made) -> None:
    first, second = calls.found[f"{trouble} {mode} {choice}"]["told"]
    assert WORDS[trouble] in first
    assert "rows wait, 0 are lost" in first
    assert "works again; 0 rows are lost since the start" in second


def test_where_nothing_is_wrong_nothing_is_said(calls: Made) -> None:
    found = calls.found["none strict refuse"]
    assert (found["health"], found["told"], found["rows"]) == (None, [], 4)


HEARD = """
import asyncio, logging
from llm_master import LLMConfig, QueryLLM
if argv[2] == "level":
    logging.getLogger("llm_master").setLevel(logging.CRITICAL)
elif argv[2] == "handler":
    logging.basicConfig(level=logging.WARNING, format="LOG %(message)s")
ledger = Ledger(argv[1])
ledger._writer.retry = 0.005
async def main():
    config = LLMConfig(openai_api_key="sk-heard-0123456789", base_urls={"openai": argv[0]})
    async with QueryLLM(config, ledger=ledger) as llm:
        for _ in range(3):
            print((await llm.query("gpt-4o-mini", "Hi")).content)
            ledger.flush()
asyncio.run(main())
"""


@pytest.mark.parametrize(("logging", "head"), [("none", "llm_master: "), ("handler", "LOG "), ("level", None)])
def test_a_program_without_logging_hears_it_too(
    logging: str, head: str | None, tmp_path: Path, fault_server: FaultServer
) -> None:
    fault_server.default = ok("whole")
    done = program(HEARD, fault_server.url, tmp_path, logging)
    assert done.stdout == "whole\n" * 3
    words = f"the ledger in {tmp_path} cannot be written: it cannot be opened; "
    lines = done.stderr.splitlines()
    if head is None:
        assert lines == []
    else:
        first, last = lines
        assert first.startswith(f"{head}{words}")
        assert last.startswith(f"{head}3 rows of the ledger in {tmp_path} are lost: {words}")
