"""
``llm-master models``: what a model takes, for people and for programs.
"""

from __future__ import annotations

import json

from support.command import run


def test_one_model_in_detail(tmp_path):
    done = run("models", "claude-opus-7", "--detail", folder=tmp_path)
    lines = dict(line.split("\t", 1) for line in done.out.splitlines())
    assert lines["efforts"] == "low, medium, high, xhigh, max"
    assert (lines["always on"], lines["known"], lines["retires on"]) == ("yes", "no", "not known")


def test_one_model_as_json(tmp_path):
    found = json.loads(run("models", "gpt-4o", "-d", "--json", folder=tmp_path).out)
    assert (found["provider"], found["max_output"], found["retired"]) == ("openai", 16384, False)
    assert all("2026-" in source for source in found["sources"])
    other = json.loads(run("models", "gpt-oss-120b", "-p", "cerebras", "-d", "--json", folder=tmp_path).out)
    assert other["provider"] == "cerebras"


def test_the_list_as_json_says_what_each_model_takes(tmp_path):
    rows = json.loads(run("models", "claude", "--json", folder=tmp_path).out)
    found = {row["model"]: row for row in rows}
    assert found["claude-3-5-sonnet-latest"]["capabilities"]["retired"] is True
    assert found["claude-opus-5-5"]["capabilities"]["max_output"] == 128000
    assert all(row["capabilities"]["provider"] == row["provider"] for row in rows)


def test_detail_needs_a_model_that_leads_somewhere(tmp_path):
    nobody = run("models", "--detail", folder=tmp_path)
    assert nobody.code == 2
    assert "name the model" in nobody.err
    unknown = run("models", "nosuch", "--detail", folder=tmp_path)
    assert unknown.code != 0
    assert "Unsupported model: nosuch" in unknown.err
