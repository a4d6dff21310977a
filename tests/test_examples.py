"""
Every program in ``examples/`` runs as a user would run it: alone, in an empty folder, without any key.
"""

from __future__ import annotations

import re
import sys

import pytest
from support.command import ROOT, run

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

# What the whole output must look like; the words of the embedded model are its own.
EXPECTED = {
    "add_provider": r"EchoProvider says: Is there anybody out there\?\n",
    "ask": r"(?s).*\w.*\n[1-9]\d* tokens in, [1-9]\d* out, cost 0\n",
    "fallback": r"(?s).*\w.*\nopenai error APIConnectionError\nlocal ok \n",
    "image": r"flux-pro-1\.1 Pending 0\.5\nflux-pro-1\.1 Ready None\ncube-1\.png 70 bytes, USD 0\.04\n",
    "json_schema": r"name: .+\nage: -?\d+\n",
    "reliable": (
        r"(?s)attempt: openai (east|west) error\nretry: team-chat\nattempt: openai (?!\1)(east|west) error\n"
        r"fallback: local\nattempt: local  ok\n.*\w.*\n"
        r"east closed failures in a row: 1\nwest closed failures in a row: 1\n"
    ),
    "stream": r"(?s).*\w.*\nfirst token after \d+(\.\d+)? s\n",
    "tools": r"(?s)the model calls get_weather \{'city': '[^']+'\}\n.*\w.*\n",
}


def test_every_example_has_its_expectation():
    assert {path.stem for path in EXAMPLES} == EXPECTED.keys()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs(tmp_path, path):
    few = {"LLM_MASTER_LOCAL_MAX_TOKENS": "100"}
    done = run(str(path), folder=tmp_path, env=few, command=(sys.executable, "-W", "error"), fork=True)
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(EXPECTED[path.stem], done.out), done.out
    assert list(tmp_path.iterdir()) == []
