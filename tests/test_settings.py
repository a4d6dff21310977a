"""
The settings file: what it gives, and every mistake with its line and the nearest name that is right.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llm_master.classes import ModelConfig
from llm_master.errors import ConfigurationError
from llm_master.policy.deadline import Timeouts
from llm_master.policy.limits_rules import Limit
from llm_master.policy.retry import RetryPolicy
from llm_master.settings import (
    CacheSettings,
    Deployment,
    Fallback,
    ProviderSettings,
    Settings,
    check,
)
from llm_master.settings_parts import LedgerSettings

SAMPLE = Path(__file__).resolve().parent.parent / "config" / "llm_master.toml"


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "llm_master.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_whole_file(written) -> None:
    path = written("""
[timeouts]
total = 60
idle = inf
[retry]
max_attempts = 2
max_delay = 5
[providers.OpenAI]
base_url = "https://proxy.example.com/v1/"
api_key_env = "TEAM_KEY"
[models."gpt-4.1"]
provider = "openai"
input_price_per_million = 2
rate_limit_rpm = 500
fallbacks = ["a", { model = "b", params = { temperature = 0.5 } }]
[[models.chat.deployments]]
name = "east"
provider = "openai"
weight = 3
max_concurrency = 2
[[models.chat.deployments]]
provider = "groq"
[limits]
redis_url_env = "REDIS"
[limits."provider:openai"]
rpm = 10
on_outage = "closed"
[limits."deployment:east"]
tpm = 20
[limits."tag:team-a"]
max_concurrency = 3
[cache]
kind = "memory"
ttl = inf
[ledger]
mode = "strict"
path = "~/usage.sqlite3"
on_failure = "refuse"
contents = true
max_bytes = 5_000_000
postgres_url_env = "LEDGER"
""")
    assert check(path) == []
    settings = Settings.read(path)
    assert settings.path == str(path)
    assert settings.timeouts == Timeouts(total=60.0, idle=None)
    assert settings.retry == RetryPolicy(max_attempts=2, max_delay=5.0)
    assert settings.providers == {
        "openai": ProviderSettings(base_url="https://proxy.example.com/v1", api_key_env="TEAM_KEY")
    }
    model = settings.models["gpt-4.1"]
    assert model.config == ModelConfig(provider="openai", input_price_per_million=2.0, rate_limit_rpm=500)
    assert model.fallbacks == (Fallback("a"), Fallback("b", {"temperature": 0.5}))
    assert settings.models["chat"].deployments == (
        Deployment(name="east", provider="openai", weight=3.0, max_concurrency=2),
        Deployment(name="chat#2", provider="groq"),
    )
    assert settings.limits == (
        Limit("provider:openai", rpm=10, fail_open=False),
        Limit("deployment:east", tpm=20),
        Limit("tag:team-a", max_concurrency=3),
    )
    assert settings.redis_url_env == "REDIS"
    assert settings.cache == CacheSettings(kind="memory", ttl=None)
    assert settings.ledger == LedgerSettings(
        mode="strict",
        path="~/usage.sqlite3",
        on_failure="refuse",
        contents=True,
        max_bytes=5_000_000,
        postgres_url_env="LEDGER",
    )


def test_an_empty_file_changes_nothing(written) -> None:
    path = written("")
    assert Settings.read(path) == Settings(path=str(path))
    assert Settings.read(path).timeouts == Timeouts()


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[timeouts]\n\ntotl = 3", 3, "unknown setting 'totl' in [timeouts]; did you mean 'total'?"),
        ("[timeout]\ntotal = 3", 1, "unknown setting 'timeout' at the top of the file; did you mean 'timeouts'?"),
        ("[timeouts]\nmax_attempts = 3", 2, "it belongs into [retry]"),
        ("[timeouts]\nzzz = 3", 2, "known are connect, first_token, idle, total"),
        ("timeouts = 30", 1, "timeouts must be a table: write [timeouts]"),
        ("[[timeouts]]\ntotal = 1", 1, "timeouts must be a table"),
        ("[timeouts]\ntotal = 0", 2, "total = 0 is not accepted: give a number of seconds above 0, or inf"),
        ("[timeouts]\ntotal = -1.5", 2, "total = -1.5 is not accepted"),
        ("[timeouts]\ntotal = nan", 2, "total = nan is not accepted"),
        ("[timeouts]\ntotal = true", 2, "total = true is not accepted"),
        ('[timeouts]\ntotal = "60"', 2, "total = '60' is not accepted"),
        ("[timeouts]\nidle = 9\ntotal = 5", 2, "idle = 9 has no effect, since total = 5"),
        ("[retry]\nmax_attempts = 0", 2, "give a whole number of at least 1"),
        ("[retry]\nmax_attempts = 3.0", 2, "give a whole number of at least 1"),
        ("[retry]\nmax_delay = inf", 2, "give a number of seconds of at least 0"),
        ("[retry]\nbase_delay = 40", 2, "base_delay = 40 has no effect above max_delay = 30"),
        ('[providers.opnai]\napi_key_env = "K"', 1, "unknown provider 'opnai'; did you mean 'openai'?"),
        ("[providers.openai]", 1, "[providers.openai] sets nothing"),
        ('[providers.openai]\nbase_url = "example.com/v1"', 2, "write https://example.com/v1"),
        ('[providers.openai]\nbase_url = "https://h/v1?a=b"', 2, "give a full endpoint as api_url"),
        ('[providers.openai]\nbase_url = "https://h"\napi_url = "https://h/v1"', 2, "base_url has no effect"),
        ('[providers.xai]\napi_key_env = "K"\n[providers.grok]\napi_key_env = "K"', 3, "another name of 'xai'"),
        ('[providers.openai]\nmodel = "x"', 2, "it belongs into [models"),
        ("[models.gpt-4.1]\nrate_limit_rpm = 5", 1, 'a name with a dot needs quotes: write [models."gpt-4.1"]'),
        ("[models.a.b.c]\nrate_limit_rpm = 5", 1, 'write [models."a.b.c"]'),
        ("[models.x]\nrpm = 5", 2, "unknown setting 'rpm' in [models.x]; did you mean 'rate_limit_rpm'?"),
        ("[models.x]\ninput_price_per_million = -1", 2, "give USD per million tokens"),
        ('[models.x]\nprovider = "grok5"', 2, "unknown provider 'grok5'"),
        ('[models.x]\nfallbacks = "y"', 2, "fallbacks must be a list"),
        ('[models.x]\nfallbacks = [\n  "y",\n  "x",\n]', 4, "'x' cannot be its own fallback"),
        ('[models.x]\nfallbacks = [\n  "y",\n  "y",\n]', 4, "'y' stands twice in the fallbacks of 'x'"),
        ("[models.x]\nfallbacks = [3]", 2, 'a fallback must be "NAME"'),
        ("[models.x]\nfallbacks = [{ params = {} }]", 2, "a fallback lacks its model"),
        (
            '[models.x]\nfallbacks = [{ modle = "y" }]',
            2,
            "unknown setting 'modle' in [models.x.fallbacks]; did you mean 'model'?",
        ),
        ('[models.x]\nfallbacks = [{ model = "y", params = 1 }]', 2, "params must be a table"),
        ('[models.x]\nfallbacks = [{ model = "y", params = { top_p = 2 } }]', 2, "top_p=2 is not accepted"),
        ("[models.x.deployments]\nweight = 1", 1, "write [[models.x.deployments]] above each"),
        ('[[models.x.deployments]]\nprovider = "groq"\nweight = 2', 3, "weight has no effect on the only deployment"),
        ("[[models.x.deployments]]\nmodel = 'y'\n[[models.x.deployments]]\nweight = 0", 4, "give a number above 0"),
        (
            '[[models.x.deployments]]\nname = "a"\n[[models.x.deployments]]\nname = "a"',
            4,
            "another deployment is named",
        ),
        ('[models.x]\nmodel = "y"\n[[models.x.deployments]]\nmodel = "z"', 2, "model has no effect, since every"),
        ('[limits."provider:opnai"]\nrpm = 1', 1, "unknown provider 'opnai'"),
        ('[limits."providr:openai"]\nrpm = 1', 1, 'did you mean [limits."provider:openai"]?'),
        ('[limits."deployment:x"]\nrpm = 1', 1, "unknown deployment 'x'"),
        ('[limits."tag:a"]\nrate_limit_rpm = 1', 2, "did you mean 'rpm'?"),
        ('[[limits."tag:a"]]\nrpm = 1', 1, "must be a table"),
        ('[limits."tag:a"]\nrpm = 1\non_outage = "open"', 3, "on_outage has no effect without redis_url_env"),
        ('[limits]\nredis_url_env = "R"\n"tag:a" = { rpm = 1, on_outage = "opn" }', 3, 'did you mean "open"?'),
        ('[limits]\nredis_url_env = "R"\n[limits."tag:a"]\non_outage = "open"', 3, "limits nothing"),
        ('[limits]\nredis_url_env = "R"', 2, "redis_url_env has no effect, since no limit is set"),
        ('[models.x]\nrate_limit_rpm = 5\n[limits."model:x"]\nrpm = 6', 4, "is given already as its rate_limit_rpm"),
        ('[limits."provider:xai"]\nrpm = 1\n[limits."provider:grok"]\nrpm = 1', 3, "has its limits already"),
        ("[cache]\nttl = 5", 1, '[cache] lacks kind = "memory", "sqlite" or "redis"'),
        ('[cache]\nkind = "sqlit"\npath = "x"', 2, 'did you mean "sqlite"?'),
        ('[cache]\nkind = "sqlite"', 1, "needs path"),
        ('[cache]\nkind = "memory"\npath = "x"', 3, "path has no effect"),
        ('[cache]\nkind = "redis"\nredis_url_env = "R"\nmax_entries = 5', 4, "max_entries has no effect"),
        ("[ledger]", 1, "[ledger] sets nothing; give it a setting or remove it"),
        ("ledger = true", 1, "ledger must be a table: write [ledger]"),
        ('[ledger]\nmode = "strikt"', 2, 'did you mean "strict"?'),
        ('[ledger]\npath = "off"', 2, 'write mode = "off" to keep no ledger'),
        ('[ledger]\npath = ""', 2, 'give a file such as "~/usage.sqlite3"'),
        ('[ledger]\nmode = "off"\ncontents = true', 3, 'contents has no effect with mode = "off"'),
        ('[ledger]\non_failure = "crash"', 2, 'give one of "serve", "refuse"'),
        ('[ledger]\ncontents = "yes"', 2, "give true or false"),
        ("[ledger]\nmax_bytes = 500", 2, "give bytes, a whole number of at least 1000000"),
        ("[ledger]\nmax_megabytes = 500", 2, "did you mean 'max_bytes'?"),
        ('[cache]\nkind = "memory"\non_failure = "serve"', 3, "it belongs into [ledger]"),
        ("[timeouts]\ntotal = ", 2, "this is not TOML"),
        ("[timeouts]\ntotal = 1\ntotal = 2", 3, "this is not TOML"),
        ("[timeouts]\ntotal = [1,\n2", 3, "this is not TOML"),
        (b"[timeouts]\n# caf\xe9\n", 2, "this is not UTF-8 text"),
        ("x = " + "[" * 5000 + "]" * 5000, 1, "nested too deeply"),
    ],
)
def test_a_mistake(written, text: str | bytes, line: int, said: str) -> None:
    path = written(text)
    problems = check(path)
    assert [(problem.line, said in problem.text) for problem in problems] == [(line, True)], problems
    with pytest.raises(ConfigurationError) as error:
        Settings.read(path)
    assert str(error.value) == f"{path}:{line}: {problems[0].text}"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('api_key = "{}"', "api_key_env"),
        ('"Api-Key" = "{}"', "api_key_env"),
        ('token = "{}"', "api_key_env"),
        ('api_key_env = "{}"', "NAME of an environment variable"),
        ('base_url = "https://user:{}@host/v1"', "user name or password"),
        ('base_url = "ftp://host/{}"', "http:// or https://"),
    ],
)
@pytest.mark.parametrize("key", ["sk-abcdefghijklmnop1234", "gsk_Zyxwvut98765", "a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6"])
def test_a_key_in_the_file_is_refused_and_never_shown(written, setting: str, said: str, key: str) -> None:
    path = written("[providers.openai]\n" + setting.format(key))
    (problem,) = check(path)
    assert problem.line == 2
    assert said in problem.text
    if "ftp" not in setting:
        assert key not in problem.text


def test_a_redis_address_in_the_file_is_refused(written) -> None:
    (problem,) = check(written('[limits]\nredis_url = "redis://:hunter22@host"\n[limits."tag:a"]\nrpm = 1'))
    assert problem.line == 2
    assert "redis_url_env" in problem.text
    assert "hunter22" not in problem.text


@pytest.mark.parametrize("name", ["postgres", "postgres_url", "dsn", "path", "postgres_url_env"])
def test_a_postgresql_address_in_the_file_is_refused(written, name: str) -> None:
    (problem,) = check(written(f'[ledger]\n{name} = "postgresql://ada:hunter22@host/books"'))
    assert problem.line == 2
    assert "variable" in problem.text
    assert "hunter22" not in problem.text


def test_all_mistakes_are_found_in_the_order_of_their_lines(written) -> None:
    path = written('nonsense = 1\n[cache]\nkind = 5\n[retry]\nmax_atempts = 1\n[timeouts]\ntotal = "x"\nidle = -1\n')
    assert [problem.line for problem in check(path)] == [1, 3, 5, 7, 8]
    with pytest.raises(
        ConfigurationError, match=r":1: unknown setting 'nonsense'.* \(and 4 more; see: llm-master check"
    ):
        Settings.read(path)


def test_a_byte_order_mark_and_windows_line_ends_are_harmless(written) -> None:
    path = written(b"\xef\xbb\xbf[timeouts]\r\ntotal = 5\r\nidle = 0\r\n")
    assert [problem.line for problem in check(path)] == [3]


def test_providers_of_the_caller(written) -> None:
    path = written('[providers.mine]\nbase_url = "http://127.0.0.1:1"')
    assert len(check(path)) == 1
    assert check(path, {"my_own": {"aliases": ["mine"]}}) == []
    assert list(Settings.read(path, {"my_own": {"aliases": ["mine"]}}).providers) == ["my_own"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            check(path)


def test_the_sample_is_right_as_it_stands_and_says_what_holds_anyway() -> None:
    settings = Settings.read(SAMPLE)
    assert settings == Settings(path=str(SAMPLE))


def test_the_sample_is_right_with_every_line_taken(written) -> None:
    path = written(re.sub(r"(?m)^#(?=\S)", "", SAMPLE.read_text(encoding="utf-8")))
    settings = Settings.read(path)
    assert [each.name for each in settings.models["team-chat"].deployments] == ["east", "west"]
    assert settings.cache is not None
    assert len(settings.limits) == 2


def test_the_sample_shows_every_setting() -> None:
    from llm_master import settings

    tables = ("_TIMEOUTS", "_RETRY", "_PROVIDER", "_MODEL", "_DEPLOYMENT", "_LIMIT", "_CACHE", "_PRICE_FILES", "LEDGER")
    names = {name for table in tables for name in getattr(settings, table)} | {"fallbacks", "params", "deployments"}
    text = SAMPLE.read_text(encoding="utf-8")
    assert {name for name in names if not re.search(rf"\b{name}( =|\]\])", text)} == set()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    import typer

    from llm_master.cli.check import check as command

    app = typer.Typer()
    app.command()(command)
    code = app(args=list(arguments), standalone_mode=False)
    shown = capsys.readouterr()
    return code or 0, shown.out, shown.err


def test_the_command(written, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written('[timeouts]\ntotl = 3\n[providers.mine]\napi_key_env = "K"'))
    code, out, _ = run(capsys, path)
    assert code == 2
    first, second = out.splitlines()
    assert first == f"{path}:2: unknown setting 'totl' in [timeouts]; did you mean 'total'?"
    assert second.startswith(f"{path}:3: unknown provider 'mine'")
    assert run(capsys, path, "--provider", "mine")[1] == first + "\n"
    assert run(capsys, str(SAMPLE)) == (0, "", "")
