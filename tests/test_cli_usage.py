"""
``llm-master usage`` and ``logs`` as a user runs them, in pipes and in terminals of several widths.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from decimal import Decimal

import msgspec
import pytest
from support.command import Terminal, run
from support.ledger_rows import START, call, fill

from llm_master.ledger.rows import AttemptRow

EVIL = "evil\x1b[2J\x9b\nmodel"
IDS = [f"0193a1b{number}" + "0" * 24 for number in range(4)]


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "usage.sqlite3"
    calls = [
        call(
            0, id=IDS[0], cost=1_234_567_890_123, input_tokens=1200, output_tokens=34, latency_us=812_345, ttft_us=5000
        ),
        call(1, id=IDS[1], cost=None, tags=["night"], input_tokens=7),
        call(2, id=IDS[2], model="claude-sonnet-4-5", provider="anthropic", outcome="error", error="RateLimitError"),
        call(3, id=IDS[3], model=EVIL, provider=None, cost=None, attempts=2, fallback=1),
    ]
    common = {"call_id": IDS[3], "ts": START, "model": "m"}
    tries = [
        {"number": 1, "provider": "openai", "outcome": "error", "status_code": 429, "error": "RateLimitError"},
        {"number": 2, "provider": "groq", "outcome": "ok", "waited_us": 1_500_000, "wait_reason": "retry-after"},
    ]
    fill(path, calls, [msgspec.convert(common | each, AttemptRow) for each in tries])
    return path


@pytest.fixture
def command(ledger, tmp_path):
    return lambda *arguments, **env: run(*arguments, folder=tmp_path, env={"LLM_MASTER_LEDGER": str(ledger)} | env)


def test_json_equals_sql_to_the_last_digit(command, ledger):
    done = command("usage", "--by", "model", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    with sqlite3.connect(ledger) as connection:
        plain = connection.execute("SELECT count(*), sum(cost), sum(input_tokens), sum(attempts) FROM calls").fetchone()
    total = found["total"]
    assert (total["calls"], int(Decimal(total["cost_usd"]) * 10**12), total["input_tokens"], total["requests"]) == plain
    assert total["unpriced"] == 2
    assert found["rows"][0]["model"] == "gpt-4o-2024-08-06"
    assert {row["model"]: row["cost_usd"] for row in found["rows"]}[EVIL] is None


def test_csv(command):
    done = command("usage", "--by", "provider", "--by", "day", "--csv", "--sort", "calls")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["provider"] for row in rows] == ["openai", "anthropic", ""]
    assert (rows[0]["day"], rows[0]["cost_usd"], rows[2]["cost_usd"]) == ("2026-11-01", "1.234567890123", "")


def test_a_pipe_gets_lines_with_tabs(command):
    done = command("usage", "--by", "model", "--limit", "1")
    cells = done.out.removesuffix("\n").split("\t")
    assert cells == ["gpt-4o-2024-08-06", "2", "0", "1207", "34", "1.234567890123", "1", "1000", "812345", "812345"]
    assert "cost_usd\t1.234567890123\n" in command("usage").out


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("plain", ["", "1"])
def test_a_terminal_of_any_width(ledger, tmp_path, columns, plain):
    known = {"LLM_MASTER_LEDGER": str(ledger), "NO_COLOR": plain}
    with Terminal("usage", "--by", "model", folder=tmp_path, env=known, columns=columns) as terminal:
        done = terminal.end()
    assert done.code == 0
    assert "$1.234567890123+" in done.out
    assert "unknown" in done.out
    assert "2 calls without a known cost" in done.out
    assert "█" in done.out or columns == 60
    assert ("\x1b[1m" in done.out) is not bool(plain)
    bare = done.out.replace("\x1b[1m", "").replace("\x1b[36m", "").replace("\x1b[0m", "")
    assert "\x1b" not in bare
    assert "evil\\x1b[2J" in bare
    assert max(map(len, bare.splitlines())) <= columns
    assert "no room for" in bare


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("usage", "--ledger", "missing.sqlite3"), 1, "error: no ledger at missing.sqlite3: nothing was recorded"),
        (("usage", "--by", "colour"), 2, "error: usage cannot be grouped by 'colour'; take one of model, asked"),
        (("usage", "--since", "soon"), 2, "error: 'soon' is no time"),
        (("usage", "--json", "--csv"), 2, "error: --json and --csv exclude each other"),
        (("logs", "0193a1"), 2, "error: several calls have the id '0193a1'"),
        (("logs", "0193a1c0"), 2, "error: no call in "),
        (("logs", "0193a1b0", "--follow"), 2, "error: --follow shows calls as they come"),
    ],
)
def test_wrong_input_is_one_line(command, arguments, code, said):
    done = command(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert done.err.startswith(said)


def test_the_newest_calls(command):
    lines = command("logs", "-n", "2").out.splitlines()
    assert [line.split("\t")[1] for line in lines] == [IDS[3], IDS[2]]
    assert "\x1b" not in lines[0]
    assert [row["id"] for row in json.loads(command("logs", "--errors", "--json").out)] == [IDS[2]]
    assert [row["tags"] for row in json.loads(command("logs", "--tag", "night", "--json").out)] == [["night"]]


def test_one_call_with_its_attempts(command):
    done = command("logs", IDS[3][:8])
    assert done.code == 0
    for expected in (
        f"call        {IDS[3]}",
        "kind        chat, by a fallback",
        "cost        unknown",
        "attempt 1, +0.000 s: openai/m",
        "  HTTP 429, error: RateLimitError in 0.000 s",
        "  waited 1.500 s (retry-after)",
    ):
        assert expected in done.out.splitlines()
    found = json.loads(command("logs", IDS[3], "--json").out)
    assert [each["status_code"] for each in found["timeline"]] == [429, None]
    assert found["attempts"] == 2


@pytest.mark.parametrize("columns", [60, 120])
def test_following_in_a_terminal(ledger, tmp_path, columns):
    known = {"LLM_MASTER_LEDGER": str(ledger), "NO_COLOR": "1"}
    with Terminal("logs", "--follow", "-n", "1", folder=tmp_path, env=known, columns=columns) as terminal:
        terminal.wait_for("0193a1b3")
        fill(ledger, [call(9, model="brand-new", outcome="cancelled")])
        terminal.wait_for("cancelled")
        terminal.type("\x03")
        done = terminal.end()
    assert done.code == 130
    assert max(map(len, done.out.replace("^C", "").splitlines())) <= columns
