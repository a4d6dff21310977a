"""
``llm-master explain`` and ``ask --dry-run``: what would be sent is shown, and nothing is sent.
"""

from __future__ import annotations

import json

import pytest
from support.behaviours import ok
from support.command import Terminal, run

KEY = "sk-test-0123456789abcdef"


@pytest.fixture
def command(fault_server, tmp_path):
    def made(*arguments, given=None, **env):
        known = {"OPENAI_BASE_URL": f"{fault_server.url}/v1", "OPENAI_API_KEY": KEY} | env
        return run(*arguments, folder=tmp_path, env=known, given=given)

    return made


def test_a_call_is_explained_and_not_made(command, fault_server):
    done = command("explain", "gpt-4o", "How are you?", "-p", "temperature=0.2", "-p", "max_tokens=50")
    assert (done.code, done.err) == (0, "")
    assert f"POST {fault_server.url}/v1/chat/completions" in done.out
    assert "Authorization: Bearer ***" in done.out
    assert '"content": "How are you?"' in done.out
    assert "renamed: max_tokens -> max_completion_tokens" in done.out
    assert "cost: at most $0.00" in done.out
    assert KEY not in done.out
    assert fault_server.requests == []


def test_as_json(command, fault_server):
    arguments = ("--system", "Be brief.", "--stream", "--fallback", "openai/gpt-4o-mini", "--json")
    done = command("explain", "gpt-4o", *arguments, "-p", 'stop=["a"]', "-p", "user=me")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    plan = found["steps"][0]["deployments"][0]
    assert plan["body"]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello?"},
    ]
    assert (plan["body"]["stop"], plan["body"]["user"], plan["body"]["stream"]) == (["a"], "me", True)
    assert [step["model_name"] for step in found["steps"]] == ["gpt-4o", "openai/gpt-4o-mini"]
    assert KEY not in done.out
    assert fault_server.requests == []


def test_what_is_missing_is_shown_and_the_code_says_so(command):
    done = command("explain", "claude-sonnet-4-5")
    assert (done.code, done.err) == (2, "")
    assert "ANTHROPIC_API_KEY" in done.out
    assert '"max_tokens"' in done.out
    assert done.out.endswith("nothing can be sent as things stand\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing-of-the-kind",), "error: Unsupported model: nothing-of-the-kind"),
        (("gpt-4o", "-p", "temperature"), "error: --param 'temperature' is not NAME=VALUE"),
        (("gpt-4o", "-p", "model=x"), "error: gpt-4o: "),
        (("gpt-4o", "--api", "morse"), ""),
        (("gpt-4o", "--settings", "missing.toml"), "error: "),
    ],
)
def test_wrong_input_is_one_line_and_code_2(command, arguments, said):
    done = command("explain", *arguments)
    assert done.code == 2
    assert done.err.startswith(said)
    assert done.err.count("\n") == bool(said)
    if not said:
        assert "does not serve api='morse'" in done.out


def test_parameters_that_are_dropped(command):
    refused = command("explain", "claude-3-haiku-20240307", "-p", "seed=1", ANTHROPIC_API_KEY=KEY)
    assert (refused.code, "seed" in refused.out) == (2, True)
    done = command("explain", "claude-3-haiku-20240307", "-p", "seed=1", "--drop-params", ANTHROPIC_API_KEY=KEY)
    assert (done.code, "  dropped: seed\n" in done.out) == (0, True)


def test_a_settings_file_is_heeded(command, tmp_path):
    (tmp_path / "mine.toml").write_text('[models."gpt-4o"]\nrate_limit_rpm = 7\nfallbacks = ["local"]\n')
    done = command("explain", "gpt-4o", "--settings", "mine.toml")
    assert done.code == 0
    assert "limit model:gpt-4o: 0 of 7 requests a minute used" in done.out
    assert "2. fallback local" in done.out


def test_a_question_from_standard_input(command):
    done = command("explain", "gpt-4o", "-", given="From afar?\n")
    assert (done.code, '"content": "From afar?"' in done.out) == (0, True)


def test_a_dry_run_of_ask(command, fault_server):
    fault_server.default = ok("fine")
    arguments = ("-m", "gpt-4o", "Why?", "-t", "0.5", "--max-tokens", "9", "-s", "Be kind.")
    dry = command("ask", *arguments, "--dry-run", "--json")
    assert (dry.code, dry.err, fault_server.requests) == (0, "", [])
    assert command("ask", *arguments, "--json").code == 0
    assert json.loads(dry.out)["steps"][0]["deployments"][0]["body"] == fault_server.requests[0].json
    text = command("ask", *arguments, "--dry-run")
    assert (text.code, '"stream": true' in text.out) == (0, True)
    assert len(fault_server.requests) == 1


def test_a_terminal_gets_the_same_words(fault_server, tmp_path):
    env = {"OPENAI_BASE_URL": f"{fault_server.url}/v1", "OPENAI_API_KEY": KEY, "NO_COLOR": "1"}
    with Terminal("explain", "gpt-4o", "a\x1b[2Jb", folder=tmp_path, env=env) as terminal:
        done = terminal.end()
    plain = run("explain", "gpt-4o", "a\x1b[2Jb", folder=tmp_path, env=env)
    assert (done.code, done.out.rstrip("\n")) == (0, plain.out.rstrip("\n"))
    assert "\x1b" not in done.out
    with Terminal("explain", "claude-sonnet-4-5", folder=tmp_path, env={}) as terminal:
        coloured = terminal.end()
    assert (coloured.code, "\x1b[33m" in coloured.out) == (2, True)
