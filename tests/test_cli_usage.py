"""
``llm-master usage`` and ``logs`` as a user runs them, in pipes and in terminals of several widths.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from decimal import Decimal

import msgspec
import pytest
from support.command import Terminal, run
from support.ledger_rows import START, call, fill

from llm_master.cli.figures import size
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


@pytest.mark.parametrize("sign", ["=", "+", "-", "@"])
def test_no_name_is_a_formula_of_a_spreadsheet(tmp_path, sign):
    fill(tmp_path / "usage.sqlite3", [call(1, model=f"{sign}1+1", cost=None)])
    done = run("usage", "--by", "model", "--csv", "--ledger", "usage.sqlite3", folder=tmp_path)
    [row] = csv.DictReader(io.StringIO(done.out))
    assert (row["model"], row["calls"]) == (f"'{sign}1+1", "1")


def test_json_holds_nothing_that_a_terminal_obeys(command):
    for arguments in (("usage", "--by", "model"), ("logs",), ("logs", IDS[3])):
        done = command(*arguments, "--json")
        assert "\\u009b" in done.out
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.out)
        assert repr(EVIL) in repr(json.loads(done.out))


def test_a_pipe_gets_lines_with_tabs(command):
    done = command("usage", "--by", "model", "--limit", "1")
    cells = done.out.removesuffix("\n").split("\t")
    assert (
        cells
        == ["gpt-4o-2024-08-06", "2", "0", "1207", "34", "1.234567890123", "1", "1000", "812345", "812345", "0"]
        + ["5000"] * 3
    )
    assert "cost_usd\t1.234567890123\n" in command("usage").out


HEADINGS = ("cost", "calls", "failed", "p50 s", "p95 s", "p99 s", "input", "output", "fallback")
HEADINGS += ("1st p50", "1st p95", "1st p99")


def bare(text):
    for code in ("\x1b[1m", "\x1b[36m", "\x1b[31m", "\x1b[0m"):
        text = text.replace(code, "")
    return text


def shown(place, folder, columns, *arguments, plain="1"):
    """What a terminal shows, without its styles."""
    known = {"LLM_MASTER_LEDGER": str(place), "NO_COLOR": plain}
    with Terminal(*arguments, folder=folder, env=known, columns=columns) as terminal:
        done = terminal.end()
    assert done.code == 0
    assert (bare(done.out) == done.out) is bool(plain)
    text = bare(done.out)
    assert "\x1b" not in text
    lines = text.replace("\r", "").splitlines()
    assert max(map(size, lines)) <= columns
    return lines


@pytest.mark.parametrize(("columns", "plain"), [(60, ""), (80, "1"), (120, ""), (200, "1")])
def test_a_terminal_of_any_width(ledger, tmp_path, columns, plain):
    lines = shown(ledger, tmp_path, columns, "usage", "--by", "model", plain=plain)
    found = [line for line in lines if line.startswith("model  ")]
    tables = len(found)
    assert tables == {60: 3, 80: 3, 120: 2, 200: 1}[columns]
    headings = [each for line in found for each in re.split("  +", line.removeprefix("model").strip())]
    assert [each for each in headings if each != "by cost"] == list(HEADINGS)
    assert found[0].endswith("  by cost") is (columns > 60)
    rows = [line for line in lines if line.startswith("gpt-4o-2024-08-06")]
    assert len(rows) == tables
    assert "$1.234567890123+" in rows[0]
    assert rows[0].endswith("  " + "█" * 12) is (columns > 60)
    assert "  + 2 calls without a known cost" in lines
    [unknown] = [line for line in lines if line.startswith("evil") and "unknown" in line]
    assert "$" not in unknown
    assert unknown.startswith("evil\\x1b[2J")


def test_costs_stand_below_each_other_with_every_digit(tmp_path):
    path = tmp_path / "usage.sqlite3"
    costs = {"dear": 1_234_567 * 10**12, "cheap": 1, "free": 0, "dark": None}
    calls = [call(n, model=name, cost=cost) for n, (name, cost) in enumerate(costs.items())]
    fill(path, [*calls, call(9, model="cheap", cost=None), call(10, model="free", cost_complete=0)])
    lines = shown(path, tmp_path, 80, "usage", "--by", "model")
    assert "cost         $1,234,567.000000000001" in lines
    start = next(at for at, line in enumerate(lines) if line.startswith("model"))
    assert [line[:31].rstrip() for line in lines[start : start + 5]] == [
        "model                      cost",
        "dear   $1,234,567.000000000000",
        "cheap          $0.000000000001+",
        "free           $0.000000000000+",
        "dark                   unknown",
    ]


def test_one_call_and_none(tmp_path):
    path = tmp_path / "usage.sqlite3"
    fill(path, [])
    for name in ("usage", "logs"):
        assert shown(path, tmp_path, 80, name) == ["no calls"]
    assert run("usage", "--by", "model", "--ledger", str(path), folder=tmp_path).out == ""
    fill(path, [call(1, cost=None, provider=None)])
    lines = shown(path, tmp_path, 80, "usage", "--by", "provider", "--by", "tag")
    assert "cost         unknown" in lines
    assert next(line for line in lines if line.startswith("(none) / (none)  ")).endswith("█" * 12)
    assert "by calls" in "".join(lines)


@pytest.mark.parametrize("columns", [80, 200])
def test_a_hundred_long_names(tmp_path, columns):
    path = tmp_path / "usage.sqlite3"
    names = [f"{'日本語' if n % 2 else 'customer-of-ours'}-{n:03d}-{'long' * 30}" for n in range(100)]
    fill(path, [call(n, tags=[name], cost=n) for n, name in enumerate(names)])
    lines = shown(path, tmp_path, columns, "usage", "--by", "tag")
    assert len([line for line in lines if "-long" in line]) == 100 * (1 if columns == 200 else 3)
    assert all("…" in line for line in lines if "-long" in line)
    few = shown(path, tmp_path, columns, "usage", "--by", "tag", "--limit", "5")
    assert len(few) < 40
    assert few[-1] == "95 more groups; a larger --limit shows more of them"


@pytest.mark.parametrize("columns", [50, 80, 100, 200])
def test_the_newest_calls_in_a_terminal(ledger, tmp_path, columns):
    lines = shown(ledger, tmp_path, columns, "logs")
    assert lines[0] == "2026-11-01"
    assert [line[9:25] for line in lines[1:]] == [name[:16] for name in reversed(IDS)]
    assert [line.rpartition("  ")[2] for line in lines[1:]] == ["unknown", "$0.00", "unknown", "$1.234567890123"]
    assert ("1200+34 tokens" in lines[-1]) is (columns == 200)
    assert ("gpt-4o-2024-08-06" in lines[-1]) is (columns >= 100)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("usage", "--ledger", "missing.sqlite3"), 1, "error: no ledger at missing.sqlite3: nothing was recorded"),
        (("usage", "--by", "colour"), 2, "error: usage cannot be grouped by 'colour'; take one of model, asked"),
        (
            ("usage", "--since", "soon"),
            2,
            "error: 'soon' is no time; write 7d, 12h, 30m, 2026-11-01 or 2026-11-01T12:30",
        ),
        (("logs", "--since", "1d", "--until", "2d"), 2, "error: since '1d' is not before until '2d': no call can fit"),
        (("usage", "--timezone", "Mars/Olympus"), 2, "error: 'Mars/Olympus' is no time zone known here; write utc"),
        (("logs", "req_unknown"), 2, "error: no call in "),
        (("logs", "0193"), 2, "error: '0193' is too short for a call's id; give 6 digits or more"),
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
