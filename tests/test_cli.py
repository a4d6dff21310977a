"""
``llm-master ask`` as a user runs it: what stands on stdout and stderr, and the exit code.
"""

from __future__ import annotations

import base64
import json
import re
import signal

import pytest
from support.behaviours import ok, status
from support.command import COMMAND, PICTURE, Done, run, start, summary
from support.fault_server import FaultServer
from support.faults import reset_mid_body, slow_first_token, stall_mid_stream

from llm_master import ToolCall, Usage
from llm_master.cli.main import main

KEY = "sk-test-0123456789abcdef"
SUMMARY = re.compile(summary("openai/gpt-4o-mini", "11 tokens in, 7 out", r"\$0\.0000\d+") + "\n")


def reach(server: FaultServer, **more: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": KEY} | more


@pytest.fixture
def ask(fault_server, tmp_path):
    """``llm-master ask`` with a model of the fault server."""

    def asked(*arguments: str, given: str | bytes | None = None, **env: str) -> Done:
        model = () if "LLM_MASTER_MODEL" in env or "-m" in arguments else ("-m", "gpt-4o-mini")
        return run("ask", *model, *arguments, folder=tmp_path, env=reach(fault_server, **env), given=given)

    return asked


# The answer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "streams"), [((), True), (("--stream",), True), (("--no-stream",), False)])
def test_the_answer_alone_on_stdout_and_one_line_on_stderr(ask, fault_server, flag, streams):
    done = ask("Hello?", *flag)
    assert (done.code, done.out) == (0, "Hello from the other side.\n")
    assert SUMMARY.fullmatch(done.err)
    body = fault_server.requests[0].json
    assert body["messages"] == [{"role": "user", "content": "Hello?"}]
    assert body.get("stream", False) is streams


@pytest.mark.parametrize("flag", ["--stream", "--no-stream"])
@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (("two lines", "\n", "of text\n", "\n"), "two lines\nof text\n"),
        (("a\r\n", "b\r\n"), "a\r\nb\n"),
        (("\n  indented  ",), "\n  indented  \n"),
        (("\n\n",), "\n"),
        ((), "\n"),
        (("über 😀",), "über 😀\n"),
    ],
)
def test_the_answer_ends_in_exactly_one_newline(ask, fault_server, flag, answer, shown):
    fault_server.script([ok(answer)])
    done = ask("Hello?", flag)
    assert (done.code, done.out) == (0, shown)


def test_reasoning_is_not_part_of_the_answer(ask, fault_server):
    fault_server.script([ok("42", reasoning="Let me think of six times seven.")])
    for flag in ("--stream", "--no-stream"):
        done = ask("Hello?", flag)
        assert done.out == "42\n"
        assert "six times" not in done.err
    assert json.loads(ask("Hello?", "--json").out)["reasoning"] == "Let me think of six times seven."


def test_the_whole_response_as_json(ask, fault_server):
    call = ToolCall("call_1", "get_weather", {"city": "Paris"})
    fault_server.script([ok("Let me see.", tool_calls=(call,), usage=Usage(100, 20, cached_tokens=40))])
    done = ask("Hello?", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert done.out.endswith("}\n")
    assert found["content"] == "Let me see."
    assert (found["model_name"], found["model"], found["provider"]) == ("gpt-4o-mini", "gpt-4o-mini", "openai")
    assert found["tool_calls"] == [{"id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}}]
    assert (found["usage"]["input_tokens"], found["usage"]["cached_tokens"]) == (100, 40)
    # 60 fresh tokens at 0.15 USD a million, 40 cached at 0.075, 20 out at 0.60.
    assert found["cost"] == "0.000024"
    assert found["finish_reason"] == "tool_calls"
    assert [attempt["status_code"] for attempt in found["attempts"]] == [200]
    assert done.err.count("\n") == 1
    assert fault_server.requests[0].json.get("stream", False) is False


def test_arguments_that_are_not_json_are_shown_as_text(ask, fault_server):
    fault_server.script([ok(None, tool_calls=(ToolCall("call_1", "f", raw_arguments='{"a": '),))])
    assert json.loads(ask("Hello?", "--json").out)["tool_calls"][0]["arguments"] == '{"a": '


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ok("Once upon a", finish="length"), "ended by length"),
        (ok(None, refusal="I cannot help with that."), "refused: I cannot help with that."),
        (ok(None, tool_calls=(ToolCall("c", "look", {"at": "it"}),)), 'tool call look({"at":"it"})'),
        (ok("x", usage=Usage()), "0 tokens in, 0 out"),
    ],
)
def test_what_is_unusual_stands_in_the_summary(ask, fault_server, answer, words):
    fault_server.script([answer])
    done = ask("Hello?")
    assert done.code == 0
    assert words in done.err
    assert done.err.count("\n") == 1


def test_a_model_without_a_price_has_an_unknown_cost(ask, fault_server):
    done = ask("-m", "openai/house-model", "Hello?")
    assert done.err.endswith("| cost unknown\n")


# The question ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "given", "content"),
    [
        (("from an argument",), "not read", "from an argument"),
        ((), "from a pipe\n", "from a pipe"),
        (("-",), "from\n  a pipe\n\n", "from\n  a pipe\n"),
        (("--", "--debug"), None, "--debug"),
        (("--", "-"), "from a pipe", "from a pipe"),
        ((), "ü😀".encode(), "ü😀"),
    ],
)
def test_where_the_question_comes_from(ask, fault_server, arguments, given, content):
    assert ask(*arguments, given=given).code == 0
    assert fault_server.requests[0].json["messages"] == [{"role": "user", "content": content}]


def test_every_option_reaches_the_request(ask, fault_server, tmp_path):
    (tmp_path / "picture.png").write_bytes(PICTURE)
    url = "https://pictures.example/a.png"
    done = ask(
        *("What is this?", "-s", "Be brief.", "--image", "picture.png", "--image", url),
        *("-t", "0.5", "--max-tokens", "9", "--timeout", "20"),
    )
    assert done.code == 0
    body = fault_server.requests[0].json
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64," + base64.b64encode(PICTURE).decode()},
                },
                {"type": "image_url", "image_url": {"url": url}},
            ],
        },
    ]
    assert body["temperature"] == 0.5
    assert 9 in (body.get("max_tokens"), body.get("max_completion_tokens"))


def test_the_model_may_stand_in_the_environment(ask, fault_server):
    assert ask("Hello?", LLM_MASTER_MODEL="gpt-4.1-nano").code == 0
    assert fault_server.requests[0].json["model"] == "gpt-4.1-nano"


def test_a_key_may_stand_in_a_file(fault_server, tmp_path):
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={KEY}\nOPENAI_BASE_URL={fault_server.url}/v1\n")
    assert run("ask", "-m", "gpt-4o-mini", "Hello?", folder=tmp_path).code == 0
    assert fault_server.requests[0].header("Authorization") == f"Bearer {KEY}"


def test_a_fallback_answers(ask, fault_server):
    fault_server.script([status(404), ok("Second choice.")])
    done = ask("Hello?", "--fallback", "gpt-4.1-nano")
    assert (done.code, done.out) == (0, "Second choice.\n")
    assert done.err.startswith("openai/gpt-4.1-nano | ")
    assert "| 2 attempts" in done.err


# Mistakes of the user: exit code 2, one clear line, nothing sent ------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "given", "words"),
    [
        (("",), None, "the question is empty"),
        ((" \n",), None, "the question is empty"),
        ((), "", "standard input is empty"),
        ((), b"caf\xe9", "standard input is not UTF-8 text"),
        (("hi", "-m", ""), None, "model_name is empty"),
        (("hi", "--json", "--stream"), None, "leave --stream out"),
        (("hi", "--image", "none.png"), None, "'none.png' cannot be read (No such file or directory)"),
        (("hi", "--image", "words.txt"), None, "is not an image"),
        (("hi", "-t", "nan"), None, "temperature"),
        (("hi", "-t", "warm"), None, "'--temperature' / '-t'"),
        (("hi", "--timeout", "0"), None, "timeout=0.0: give a number of seconds above 0"),
        (("hi", "--timeout", "-3"), None, "timeout=-3.0"),
        (("hi", "--max-tokens", "0"), None, "max_tokens"),
        (("hi", "--max-tokens", "1.5"), None, "'--max-tokens'"),
        (("hi", "--colour"), None, "No such option: --colour"),
        (("hi", "there"), None, "unexpected extra argument"),
        (("hi", "-m", "anthropic/claude-sonnet-4-5"), None, "set ANTHROPIC_API_KEY"),
        (("hi", "--fallback", "nosuch"), None, "Unsupported model: nosuch"),
    ],
)
def test_wrong_input(ask, fault_server, tmp_path, arguments, given, words):  # noqa: PLR0917  # fixtures
    (tmp_path / "words.txt").write_text("no picture")
    done = ask(*arguments, given=given)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert "Traceback" not in done.err
    assert fault_server.requests == []


@pytest.mark.parametrize(
    ("model", "near"),
    [
        ("clade-sonnet-4-5", "did you mean claude-sonnet-4-5"),
        ("opnai/some-model", "openai/some-model"),
        ("opnai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ("LOCL", "did you mean local"),
    ],
)
def test_a_misspelt_model_that_leads_nowhere(ask, fault_server, model, near):
    done = ask("hi", "-m", model)
    assert done.code == 2
    assert done.err.startswith(f"error: Unsupported model: {model}")
    assert near in done.err
    assert done.err.count("\n") == 1
    assert fault_server.requests == []


@pytest.mark.parametrize("model", ["gpt-4o-mni", "openai/GPT-4o-mni"])
def test_a_misspelt_model_that_only_its_provider_could_know(ask, fault_server, tmp_path, model):
    words = f"{model!r} is not a model known here: did you mean gpt-4o-mini"
    fault_server.script([status(404)])
    done = ask("hi", "-m", model)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "does not exist" in done.err
    assert words in done.err
    without_key = run("ask", "-m", model, "hi", folder=tmp_path)
    assert without_key.code == 2
    assert "set OPENAI_API_KEY" in without_key.err
    assert words in without_key.err


def test_a_model_that_exists_and_is_not_there_is_the_providers_fault(ask, fault_server):
    fault_server.script([status(404)])
    done = ask("hi")
    assert done.code == 1
    assert "did you mean" not in done.err


# Failures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"), [(400, "The request was wrong."), (401, "check the key of openai"), (402, "add credit")]
)
def test_a_providers_error_exits_1(ask, fault_server, code, words):
    fault_server.script([status(code)])
    done = ask("hi")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: openai refused 'gpt-4o-mini'")
    assert words in done.err
    assert done.err.count("\n") == 1


def test_an_error_cannot_command_the_terminal_nor_show_the_key(ask, fault_server):
    fault_server.script([status(400, message=f"bad\x1b[2J \x9b31m key {KEY}")])
    done = ask("hi")
    assert done.code == 1
    assert "bad" in done.err
    assert not {"\x1b", "\x9b"} & set(done.err)
    assert KEY not in done.err


@pytest.mark.parametrize("flag", ["--stream", "--no-stream"])
def test_an_interrupted_answer(ask, fault_server, flag):
    fault_server.script([reset_mid_body(after=2, text=("The beginning ", "of a tale ", "without end"))])
    done = ask("hi", flag)
    assert done.code == 1
    assert done.out == ("The beginning of a tale \n" if flag == "--stream" else "")
    assert done.err.startswith("error: openai broke off")
    assert done.err.count("\n") == 1


def test_debug_shows_the_traceback_and_every_attempt_but_no_key(ask, fault_server):
    fault_server.script([status(400)])
    for arguments in (("hi", "--debug"), ("--debug", "hi")):
        done = ask(*arguments)
        assert done.code == 1
        assert "Traceback (most recent call last)" in done.err
        assert "llm_master.errors.BadRequestError: openai refused" in done.err
        assert re.search(r"ms .*openai.*gpt-4o-mini", done.err)
        assert KEY not in done.err


# Interruption and closed outputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "shown"),
    [
        (stall_mid_stream(after=2, text=("One ", "two ", "three")), b"One two \n"),
        (slow_first_token(), b""),
    ],
)
def test_ctrl_c_is_quiet(fault_server, tmp_path, behaviour, shown):
    fault_server.script([behaviour])
    with start("ask", "-m", "gpt-4o-mini", "hi", folder=tmp_path, env=reach(fault_server)) as process:
        fault_server.wait_held()
        before = b""
        while len(before) < len(shown.strip(b"\n")):
            before += process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")
    assert before + out == shown
    fault_server.wait_closed(0)


def test_a_reader_that_has_enough_is_no_error(fault_server, tmp_path):
    fault_server.script([stall_mid_stream(after=2, text=("0123456789", "0123456789", *["more "] * 5000))])
    with start("ask", "-m", "gpt-4o-mini", "hi", folder=tmp_path, env=reach(fault_server)) as process:
        assert process.stdout.read(10) == b"0123456789"
        fault_server.wait_held()
        process.stdout.close()
        fault_server.release()
        err = process.stderr.read()
        process.wait(30)
    assert err == b""
    assert process.returncode == 1
    fault_server.wait_closed(0)


def test_lists_are_quiet_too_when_their_reader_has_enough(tmp_path):
    shell = f"set -o pipefail; {' '.join(COMMAND)} models | head -c 10"
    done = run("-c", shell, folder=tmp_path, command=("bash",))
    assert len(done.out) == 10
    assert done.err == ""


@pytest.mark.parametrize(
    ("redirection", "code", "words"),
    [
        (">&-", 0, "openai/gpt-4o-mini |"),
        ("2>&-", 0, ""),
        (">/dev/full", 1, "error: No space left on device\n"),
        ("2>/dev/full", 0, ""),
        ("<&-", 0, "openai/gpt-4o-mini |"),
    ],
)
def test_streams_that_are_closed_or_full(fault_server, tmp_path, redirection, code, words):
    shell = f"{' '.join(COMMAND)} ask -m gpt-4o-mini hi {redirection}"
    done = run("-c", shell, folder=tmp_path, env=reach(fault_server), command=("bash",))
    assert done.code == code
    assert done.err.startswith(words)
    assert "Traceback" not in done.err
    assert done.err.count("\n") == (1 if words else 0)


def test_a_narrow_encoding_loses_characters_and_not_the_answer(ask, fault_server):
    fault_server.script([ok("café 😀")])
    done = ask("hi", PYTHONIOENCODING="ascii")
    assert (done.code, done.out) == (0, "caf? ?\n")


# The entry ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--version"], 0), (["-h"], 0), (["ask", "--help"], 0), ([], 2), (["nosuch"], 2), (["ask", "--nosuch"], 2)],
)
def test_main_returns_the_exit_code(capsys, arguments, code):
    assert main(arguments) == code
    shown = capsys.readouterr()
    assert bool(shown.err) is (code != 0)
    assert bool(shown.out) is (code == 0)


def test_the_process_exits_with_what_main_returns(tmp_path):
    assert run("nosuch", folder=tmp_path, fork=False).code == 2
    done = run(folder=tmp_path, fork=False)
    assert done.code == 2
    assert {"ask", "models", "providers", "doctor"} <= set(re.findall(r"^  (\w+)  ", done.err, re.MULTILINE))


HEAVY = {"openai", "anthropic", "aiohttp", "requests", "genai_prices", "tenacity", "rich"}


@pytest.mark.parametrize("arguments", [("--help",), ("ask", "--help"), ("models", "--json"), ("providers", "--json")])
def test_what_asks_nobody_starts_light(tmp_path, arguments):
    command = (COMMAND[0], "-X", "importtime", *COMMAND[1:])
    done = run(*arguments, folder=tmp_path, command=command)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.err.splitlines()}
    assert done.code == 0
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_a_call_loads_no_sdk(fault_server, tmp_path):
    command = (COMMAND[0], "-X", "importtime", *COMMAND[1:])
    done = run("ask", "-m", "gpt-4o-mini", "hi", folder=tmp_path, env=reach(fault_server), command=command)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.err.splitlines()}
    assert (done.code, done.out) == (0, "Hello from the other side.\n")
    assert "aiohttp" in loaded
    assert loaded & {"openai", "anthropic", "requests", "rich"} == set()


# The embedded model ---------------------------------------------------------------------------------------------------


def test_the_embedded_model_answers_by_default(tmp_path):
    done = run("ask", "What is the capital of France?", "--max-tokens", "12", folder=tmp_path)
    assert done.code == 0
    assert re.search(r"\w", done.out)
    assert re.fullmatch(summary(r"local/\S+") + "( .*)?\n", done.err)


def test_the_embedded_model_leaves_with_ctrl_c(tmp_path):
    arguments = ("ask", "Tell a long story.", "-t", "1")
    with start(*arguments, folder=tmp_path) as process:
        assert process.stdout.read(20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")
    assert out.endswith(b"\n")


def test_a_model_file_that_is_not_there(tmp_path):
    done = run("ask", "-m", "local:/nowhere/model.gguf", "hi", folder=tmp_path)
    assert done.code == 2
    assert done.err == (
        "error: local: /nowhere/model.gguf cannot be read (No such file or directory); give the path of a GGUF file\n"
    )
