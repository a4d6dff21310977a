"""
The ledger that a client keeps by its argument, its settings file and the environment, and what the doctor says of it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import pwd
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import ok
from support.command import run
from support.fault_server import FaultServer
from support.ledgers import ask, count, made

from llm_master import ConfigurationError, Ledger, LLMConfig, QueryLLM
from llm_master.asking import ASKINGS
from llm_master.cli.ledger_doctor import ledger_findings
from llm_master.ledger import choice, forward, writer
from llm_master.ledger.choice import ledger_of
from llm_master.ledger.reading import Reader
from llm_master.ledger.rows import ATTEMPT_COLUMNS, CALL_COLUMNS, TAG_COLUMNS, TOKENS
from llm_master.ledger.sqlite_file import open_file
from llm_master.policy.limits import MemoryLimiter
from llm_master.prices.store import data_path
from llm_master.settings import Settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "usage.sqlite3"


def settings(folder: Path, text: str) -> Settings:
    file = folder / "llm_master.toml"
    file.write_text(text.format(folder=folder))
    return Settings.read(file)


WHOLE = """
[ledger]
mode = "strict"
path = "{folder}/a.sqlite3"
on_failure = "refuse"
contents = true
max_bytes = 2_000_000
"""


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # What nobody says: the environment, else the usual place.
        ((None, "", "{folder}/env.sqlite3"), ("env.sqlite3", "relaxed", "serve", False)),
        ((None, "", "off"), None),
        # The file beats the environment.
        ((None, WHOLE, "{folder}/env.sqlite3"), ("a.sqlite3", "strict", "refuse", True)),
        ((None, WHOLE, "off"), ("a.sqlite3", "strict", "refuse", True)),
        ((None, '[ledger]\nmode = "off"', "{folder}/env.sqlite3"), None),
        ((None, '[ledger]\npath = "{folder}/b.sqlite3"', "off"), ("b.sqlite3", "relaxed", "serve", False)),
        # What the file leaves out is the environment's.
        ((None, '[ledger]\nmode = "strict"', "{folder}/env.sqlite3"), ("env.sqlite3", "strict", "serve", False)),
        ((None, "[ledger]\ncontents = true", "off"), None),
        # The argument beats the file; a mode alone leaves the rest to it.
        (("relaxed", WHOLE, "off"), ("a.sqlite3", "relaxed", "refuse", True)),
        (("strict", '[ledger]\nmode = "off"', "{folder}/env.sqlite3"), ("env.sqlite3", "strict", "serve", False)),
        (("off", WHOLE, "{folder}/env.sqlite3"), None),
        ((False, WHOLE, "{folder}/env.sqlite3"), None),
        (("strict", "", "{folder}/env.sqlite3"), ("env.sqlite3", "strict", "serve", False)),
    ],
)
def test_which_ledger_is_kept(
    said: tuple[Any, str, str], expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argument, text, variable = said
    monkeypatch.setenv("LLM_MASTER_LEDGER", variable.format(folder=tmp_path))
    found = ledger_of(argument, settings(tmp_path, text), {})
    if expected is None:
        assert found is None
        return
    assert found is not None
    name, mode, on_failure, contents = expected
    assert found.path == str(tmp_path / name)
    assert (found.mode, found.on_failure, found.contents) == (mode, on_failure, contents)
    assert found._writer.most_bytes == (2_000_000 if text == WHOLE else None)
    assert list(tmp_path.glob("*.sqlite3")) == [], "nothing is opened before the first row"


def test_a_ledger_of_the_caller_beats_everything(tmp_path: Path, path: Path) -> None:
    mine = Ledger(path)
    assert ledger_of(mine, settings(tmp_path, WHOLE), {}) is mine


def test_a_mode_without_a_place_is_a_contradiction_and_not_silence(tmp_path: Path) -> None:
    # The environment says "off", see conftest.
    read = settings(tmp_path, '[ledger]\nmode = "relaxed"')
    for argument, who in (("strict", "ledger='strict'"), (None, f'{read.path}: mode = "relaxed"')):
        with pytest.raises(ConfigurationError) as error:
            ledger_of(argument, read, {})
        words = f"{who} asks for a ledger, and LLM_MASTER_LEDGER switches the ledger off; name a path"
        assert str(error.value) == words


def test_without_a_home_there_is_no_ledger_and_no_crash(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nobody(_: int) -> Any:
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "LLM_MASTER_LEDGER", "XDG_STATE_HOME", "LLM_MASTER_PRICES", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    choice._say_homeless.cache_clear()
    assert [ledger_of(None, None, {}) for _ in range(3)] == [None] * 3
    words = (
        "there is no home folder for the ledger: calls are not written down; name a file in LLM_MASTER_LEDGER, or off"
    )
    assert [record.message for record in caplog.records] == [words]
    assert data_path() is None
    assert found(None) == [("ledger", "off", "there is no home folder for the ledger")]
    with pytest.raises(ConfigurationError, match="asks for a ledger, and there is no home folder for the ledger; name"):
        ledger_of("strict", None, {})
    with pytest.raises(ConfigurationError, match="there is no home folder for the ledger; make no ledger, or give"):
        Ledger()
    with pytest.raises(ConfigurationError, match="there is no home folder for the ledger; name the file to read"):
        Reader()
    for name in ("~/a.sqlite3", "~nobody-of-this-name/a.sqlite3"):
        for kind in (Ledger, Reader):
            with pytest.raises(ConfigurationError, match=f"the ledger's path '{name}': .*; write it out"):
                kind(name)
    monkeypatch.setenv("LLM_MASTER_LEDGER", "~/a.sqlite3")
    assert found(None)[0][1] == "bad"


POSTGRES = '[ledger]\npath = "{folder}/usage.sqlite3"\npostgres_url_env = "BOOKS"'
ADDRESS = "postgresql://ada:hunter2-secret@127.0.0.1:9/books"


def test_the_address_of_the_postgresql_comes_from_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings(tmp_path, POSTGRES)
    with pytest.raises(ConfigurationError) as error:
        ledger_of(None, read, {})
    assert str(error.value) == f"{read.path}: postgres_url_env names BOOKS, which is not set; set it"
    with pytest.raises(ConfigurationError) as error:
        ledger_of(None, read, {"BOOKS": "hunter2 is no address"})
    assert "no address that can be read" in str(error.value)
    assert "hunter2" not in str(error.value)
    for dotenv, variable in (({"BOOKS": ADDRESS}, None), ({"BOOKS": "postgresql://other/books"}, ADDRESS)):
        if variable is not None:
            monkeypatch.setenv("BOOKS", variable)
        found = ledger_of(None, read, dotenv)
        assert found is not None
        health = found.health().forwarding
        assert health is not None
        assert health.target == "127.0.0.1:9/books"
        assert "hunter2" not in repr(found)


def test_a_client_made_from_a_file_keeps_its_ledger_until_the_file_says_otherwise(
    tmp_path: Path, fault_server: FaultServer
) -> None:
    fault_server.default = ok("whole")
    file = tmp_path / "llm_master.toml"
    path = tmp_path / "a.sqlite3"

    async def main() -> list[int]:
        file.write_text(WHOLE.format(folder=tmp_path))
        config = LLMConfig(openai_api_key="sk-ledger-0123456789", base_urls={"openai": fault_server.url})
        async with QueryLLM.from_file(file, config, limiter=MemoryLimiter()) as llm:
            await llm.query("gpt-4o-mini", "swordfish")
            counts = [count(path)]  # strict: nothing was flushed
            file.write_text('[ledger]\nmode = "off"')
            llm.reload()
            await llm.query("gpt-4o-mini", "swordfish")
            counts.append(count(path))
            file.write_text('[ledger]\nmode = "strickt"')
            with pytest.raises(ConfigurationError, match=r":2: .*did you mean .strict"):
                llm.reload()
            return counts

    assert asyncio.run(main()) == [1, 1]
    assert "swordfish" in ask(path, "SELECT contents FROM calls")[0][0]


# The doctor


def found(where: Settings | None, **options: Any) -> list[tuple[str, str, str]]:
    findings = asyncio.run(ledger_findings(where, {"BOOKS": ADDRESS}, **options))
    return [(each.check, each.state, each.detail) for each in findings]


def placed(folder: Path, path: Path) -> Settings:
    return settings(folder, f'[ledger]\npath = "{path}"')


def test_the_doctor_says_where_it_is(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(None) == [("ledger", "off", "LLM_MASTER_LEDGER switches the ledger off")]
    assert found(settings(tmp_path, '[ledger]\nmode = "off"')) == [("ledger", "off", "the settings switch it off")]
    monkeypatch.setenv("LLM_MASTER_LEDGER", str(path))
    assert found(None) == [("ledger", "ok", f"{path}: not there yet; the first call makes it (relaxed, serve)")]
    assert not path.parent.exists()
    ledger = Ledger(path)
    for number in range(3):
        ledger.add(made())
        if number == 1:
            ledger.close()
            one = found(settings(tmp_path, '[ledger]\nmode = "strict"\non_failure = "refuse"\ncontents = true'))
            words = f"{path}: can be written, has 2 calls (strict, refuse, with prompts and answers)"
            assert one == [("ledger", "ok", words)]
    ledger.close()
    before = path.read_bytes()
    assert found(None) == [("ledger", "ok", f"{path}: can be written, has 3 calls (relaxed, serve)")]
    assert (path.read_bytes(), list(path.parent.iterdir())) == (before, [path])


def test_the_doctor_says_why_it_cannot_be_written(tmp_path: Path, path: Path) -> None:
    def bad(where: Path) -> str:
        [(check, state, words)] = found(placed(tmp_path, where))
        assert (check, state, "\n" in words) == ("ledger", "bad", False)
        return words

    file = tmp_path / "file"
    file.write_bytes(b"no database, but longer than the header of one" * 100)
    assert "is no folder; name another path" in bad(file / "usage.sqlite3")
    assert "it is no SQLite database" in bad(file)
    assert "cannot be opened" in bad(tmp_path)
    open_file(str(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    assert "update LLM Master, or name another place" in bad(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    connection.close()
    assert "the next call brings its tables up to date" in found(placed(tmp_path, path))[0][2]
    path.unlink()
    holder = open_file(str(path))
    holder.execute("BEGIN IMMEDIATE")
    assert "another program holds it locked; end that program, or wait" in bad(path)
    holder.close()


def test_the_doctor_says_what_waits_to_be_forwarded(tmp_path: Path) -> None:
    read = settings(tmp_path, POSTGRES)
    first, second = found(read, ask=False)
    assert "not there yet" in first[2]
    assert second == ("ledger to 127.0.0.1:9/books", "ok", "0 calls wait to be forwarded")
    path = tmp_path / "usage.sqlite3"
    ledger = Ledger(path)
    for _ in range(5):
        ledger.add(made())
    ledger.close()
    assert found(read, ask=False)[1][2] == "5 calls wait to be forwarded"
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO forwarding VALUES ('127.0.0.1:9/books', NULL, 4, NULL, 0)")
        connection.execute("INSERT INTO forwarding VALUES ('gone:5432/books', NULL, 2, NULL, 0)")
        connection.execute("INSERT INTO forwarding_refused VALUES ('gone:5432/books', 1, 'DataError')")
    connection.close()
    here, gone = found(read)[1:]
    # Nobody listens there.
    assert here[:2] == ("ledger to 127.0.0.1:9/books", "bad")
    assert here[2].startswith("1 call waits to be forwarded; OperationalError: ")
    assert "hunter2" not in here[2]
    assert gone == ("ledger to gone:5432/books", "warn", "3 calls wait to be forwarded, 1 refused")


def test_the_doctor_is_asked_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "llm_master.toml").write_text('[ledger]\npath = "file/usage.sqlite3"')
    done = run("doctor", "--offline", "--settings", "llm_master.toml", folder=tmp_path)
    [line] = [line for line in done.out.splitlines() if "  ledger" in line]
    assert (done.code, line.split()[:2]) == (1, ["bad", "ledger"])
    assert f"{os.path.realpath(tmp_path)}/file is no folder" in line


# The page

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "ledger.md").read_text(encoding="utf-8")


def test_the_page_names_every_column_kind_and_outcome() -> None:
    calls, _, rest = PAGE.partition("## What is kept")[2].partition("`attempts`, one row a request")
    attempts = rest.partition("`contents=True`")[0]
    assert {name for name in ("seq", *CALL_COLUMNS) if f"`{name}`" not in calls} == set()
    # "The same counts of tokens" stand with the calls.
    assert {name for name in ATTEMPT_COLUMNS if f"`{name}`" not in attempts} == {*TOKENS, "usage_estimated"}
    assert {name for name in TAG_COLUMNS if f"`{name}`" not in attempts.partition("`call_tags`")[2]} == set()
    assert {name for name in (*ASKINGS, "chat", "image") if f"`{name}`" not in calls} == set()


def test_the_page_says_the_defaults_and_numbers_of_the_code() -> None:
    words = " ".join(PAGE.split())
    defaults = inspect.signature(Ledger).parameters
    shown = [
        f"`{name}={defaults[name].default!r}`".replace("'", '"')
        for name in defaults
        if name not in ("path", "patience")
    ]
    first, longest = forward._FIRST_PAUSE, forward._LONGEST_PAUSE
    assert (first, longest, writer._RETRY, writer._LOOK_AFTER) == (0.5, 60.0, 1.0, 500)
    shown += [
        f"locked for more than {defaults['patience'].default:g} s",
        f"{writer.MOST_KEPT // 1024**2} MiB and {writer.MOST_QUEUED:,} calls at most",
        f"given back after {forward._IDLE:g} s",
        "tried each second",
        "half a second at first, a minute at most",
        "every 500 rows",
    ]
    assert [each for each in shown if each not in words] == []
