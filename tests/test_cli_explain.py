"""
``llm-master explain`` and ``ask --dry-run``: what would be sent is shown, and nothing is sent.
"""

from __future__ import annotations

import json

import pytest
from support.behaviours import ok
from support.command import Terminal, run

from llm_master.cli.main import main

KEY = "sk-test-0123456789abcdef"


@pytest.fixture
def command(fault_server, tmp_path):
    def made(*arguments, given=None, **env):
        known = {"OPENAI_BASE_URL": f"{fault_server.url}/v1", "OPENAI_API_KEY": KEY} | env
        return run(*arguments, folder=tmp_path, env=known, given=given)

    return made


@pytest.fixture
def here(fault_server, tmp_path, monkeypatch, capsys):
    """The same command in this process: a start takes most of a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # where budgets are kept
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    for name in ("OPENAI", "COHERE"):
        monkeypatch.setenv(f"{name}_BASE_URL", f"{fault_server.url}/v1")
        monkeypatch.setenv(f"{name}_API_KEY", KEY)

    def made(*arguments):
        code = main(["explain", *arguments])
        out, err = capsys.readouterr()
        assert KEY not in out + err
        assert fault_server.requests == []
        return code, out, err

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


def test_what_is_missing_is_shown_and_the_code_says_so(here):
    code, out, err = here("claude-sonnet-4-5")
    assert (code, err) == (2, "")
    assert "ANTHROPIC_API_KEY" in out
    assert '"max_tokens"' in out
    assert out.endswith("nothing can be sent as things stand\n")


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
def test_wrong_input_is_one_line_and_code_2(here, arguments, said):
    code, out, err = here(*arguments)
    assert code == 2
    assert err.startswith(said)
    assert err.count("\n") == bool(said)
    if not said:
        assert "does not serve api='morse'" in out


def test_parameters_that_are_dropped(here, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    code, out, _ = here("claude-3-haiku-20240307", "-p", "seed=1")
    assert (code, "seed" in out) == (2, True)
    code, out, _ = here("claude-3-haiku-20240307", "-p", "seed=1", "--drop-params")
    assert (code, "  dropped: seed\n" in out) == (0, True)


def test_a_settings_file_is_heeded(here, tmp_path):
    (tmp_path / "mine.toml").write_text('[models."gpt-4o"]\nrate_limit_rpm = 7\nfallbacks = ["local"]\n')
    code, out, _ = here("gpt-4o", "--settings", "mine.toml")
    assert code == 0
    assert "limit model:gpt-4o: 0 of 7 requests a minute used" in out
    assert "2. fallback local" in out


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


def body_of(done, server):
    """Path and body of the first request."""
    code, out, err = done
    assert (code, err) == (0, "")
    plan = json.loads(out)["steps"][0]["deployments"][0]
    return plan["url"].removeprefix(server.url), plan["body"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("text-embedding-3-small", "A.", "--call", "embed", "-p", "dimensions=8"),
            ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["A."], "dimensions": 8}),
        ),
        (
            ("cohere/rerank-v3.5", "Which?", "--call", "rerank", "--document", "a", "--document", "b"),
            ("/v1/v2/rerank", {"model": "rerank-v3.5", "query": "Which?", "documents": ["a", "b"]}),
        ),
        (
            ("omni-moderation-latest", "--call", "moderate"),
            ("/v1/moderations", {"model": "omni-moderation-latest", "input": ["Hello?"]}),
        ),
        (
            ("openai/whisper-1", "talk.wav", "--call", "transcribe", "-p", "language=en"),
            ("/v1/audio/transcriptions", {"model": "whisper-1", "language": "en", "file": "audio/wav, 80 bytes"}),
        ),
        (
            ("openai/whisper-1", "--call", "transcribe"),
            ("/v1/audio/transcriptions", {"model": "whisper-1", "file": "audio/wav, 8044 bytes"}),
        ),
        (
            ("openai/gpt-4o-mini-tts", "Hi.", "--call", "speak", "-p", "voice=alloy", "--stream"),
            ("/v1/audio/speech", {"model": "gpt-4o-mini-tts", "input": "Hi.", "voice": "alloy"}),
        ),
        (
            ("gpt-4o", "Hi.", "--call", "count_tokens"),
            ("/v1/responses/input_tokens", {"model": "gpt-4o", "input": [{"role": "user", "content": "Hi."}]}),
        ),
        (
            ("gpt-image-1", "a cube", "--call", "image", "-p", "n=2"),
            ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "a cube", "n": 2}),
        ),
    ],
)
def test_every_call_is_explained(here, fault_server, tmp_path, arguments, expected):
    (tmp_path / "talk.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(64))
    assert body_of(here(*arguments, "--json"), fault_server) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gpt-4o", "--call", "sing"), "error: --call 'sing' is no call; give one of query, image, embed"),
        (("e", "--call", "embed", "--stream"), "error: --stream means nothing to --call embed; it is for query"),
        (("e", "--call", "embed", "--system", "x"), "error: --system means nothing to --call embed"),
        (("gpt-4o", "--document", "x"), "error: --document means nothing to --call query; it is for rerank"),
        (("gpt-4o", "--call", "count_tokens", "--fallback", "local"), "error: --fallback means nothing"),
        (("openai/tts-1", "--call", "speak"), "error: --call speak needs one of the model's voices; give -p voice="),
        (("openai/w", "gone.wav", "--call", "transcribe"), "error: the recording 'gone.wav' cannot be read"),
        (("openai/e", "--call", "embed", "-p", "cache=true"), "error: embed of 'openai/e': cache= is an option of"),
    ],
)
def test_what_another_call_does_not_have_is_one_line_and_code_2(here, arguments, said):
    code, out, err = here(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(said)


def test_budgets_are_shown(here, tmp_path):
    (tmp_path / "mine.toml").write_text('[[budgets]]\nkey = "all"\nusd = 1\nper = "day"\n')
    code, out, _ = here("text-embedding-3-small", "--call", "embed", "--settings", "mine.toml")
    assert code == 0
    assert "budget all: $1 of $1 a day left; this takes at most $0.0000" in out
    assert "cost: at most $0.0000" in out


def test_what_is_counted_here_needs_nothing(here):
    code, out, _ = here("mistral-small-latest", "Hi.", "--call", "count_tokens")
    assert code == 0
    assert "no endpoint that counts" in out
    assert "POST" not in out
