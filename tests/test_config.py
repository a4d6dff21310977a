"""
LLMConfig: where keys and addresses come from, what is refused, and that nothing shows a key.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

import llm_master.config
from llm_master.base_provider import UnifiedProvider, row_of
from llm_master.config import KEY_VARIABLES, LLMConfig
from llm_master.errors import ConfigurationError
from llm_master.redaction import Secret

KEY = "sk-" + "abcdef123456"

# The providers, by their keys; a provider that is added gets a field here and there.
PROVIDERS = """
    openai openrouter groq mistral deepseek xai together fireworks cerebras perplexity sambanova nvidia nebius cohere
    moonshot dashscope cloudflare cloudflare_gateway github_models bedrock foundry azure gemini_openai ollama lmstudio
    vllm sglang llamacpp vertex anthropic gemini huggingface deepinfra novita zai minimax meta meta_llama ai21 vercel
    voyage databricks inception scaleway baseten wandb ovhcloud local openai_compatible bfl recraft replicate fal
""".split()  # noqa: SIM905 - a list of 53 lines shows no more


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.endswith(("_KEY", "_TOKEN", "_URL", "_TOKEN_BEDROCK")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


# -- fields ---------------------------------------------------------------------------------------------------------


def test_every_provider_has_a_key_field_that_is_none() -> None:
    fields = [each.name for each in dataclasses.fields(LLMConfig) if each.name.endswith("_api_key")]
    assert sorted(fields) == sorted(f"{name}_api_key" for name in PROVIDERS)
    assert all(getattr(LLMConfig(), name) is None for name in fields)


def test_every_row_of_the_table_finds_its_field() -> None:
    for name in UnifiedProvider.PROVIDER_CONFIGS:
        row = row_of(name)
        config = LLMConfig(**{row.api_key_attr: KEY})
        assert config.key_for(row.api_key_attr, row.key_variables) == KEY
        assert config.validate()[row.api_key_attr.removesuffix("_api_key")] is True


def test_validate_names_every_provider_and_whether_it_has_a_key() -> None:
    result = LLMConfig(openai_api_key=KEY).validate()
    assert sorted(result) == sorted(PROVIDERS)
    assert [name for name, there in result.items() if there] == ["openai"]


def test_a_subclass_with_a_field_works_as_the_guide_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass
    class MyConfig(LLMConfig):
        new_provider_api_key: str | None = None

        @classmethod
        def from_env(cls) -> MyConfig:
            return cls(new_provider_api_key=os.getenv("NEW_PROVIDER_API_KEY"))

        def validate(self) -> dict[str, bool]:
            return {**super().validate(), "new_provider": bool(self.new_provider_api_key)}

    assert MyConfig.from_env().validate()["new_provider"] is False
    monkeypatch.setenv("NEW_PROVIDER_API_KEY", "your-api-key")
    config = MyConfig.from_env()
    assert config.validate()["new_provider"] is True
    assert config.key_for("new_provider_api_key", ("NEW_PROVIDER_API_KEY",)) == "your-api-key"
    assert repr(config).endswith("MyConfig(keys=['new_provider'])")


@pytest.mark.parametrize("decorate", [dataclasses.dataclass, lambda cls: cls], ids=["dataclass", "plain"])
def test_a_subclass_that_only_adds_a_field_works(monkeypatch: pytest.MonkeyPatch, decorate: Any) -> None:
    @decorate
    class MyConfig(LLMConfig):
        new_provider_api_key: str | None = None

    monkeypatch.setenv("NEW_PROVIDER_API_KEY", KEY)
    monkeypatch.setenv("NEW_PROVIDER_BASE_URL", "http://localhost:1/v1")
    config = MyConfig.from_env()
    assert isinstance(config, MyConfig)
    assert config.new_provider_api_key == KEY
    assert config.validate()["new_provider"] is True
    assert config.url_for("new_provider") == ("http://localhost:1/v1", False)
    assert "new_provider" in repr(config)
    assert KEY not in repr(config)
    assert "localhost" not in repr(config)


def test_a_subclass_keeps_a_repr_of_its_own() -> None:
    @dataclasses.dataclass
    class MyConfig(LLMConfig):
        def __repr__(self) -> str:
            return "mine"

    assert repr(MyConfig()) == "mine"


# -- from_env -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_key_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"{name.upper()}_API_KEY", KEY)
    config = LLMConfig.from_env(dotenv=False)
    assert getattr(config, f"{name}_api_key") == KEY
    assert config.validate()[name] is True


@pytest.mark.parametrize(("name", "variable"), [(n, v) for n, variables in KEY_VARIABLES.items() for v in variables])
def test_a_key_comes_from_the_variables_of_its_vendor(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    monkeypatch.setenv(variable, KEY)
    assert getattr(LLMConfig.from_env(dotenv=False), f"{name}_api_key") == KEY
    assert LLMConfig().key_for(f"{name}_api_key") == KEY


@pytest.mark.parametrize(
    ("name", "variable"),
    [("gemini", "GOOGLE_API_KEY"), ("replicate", "REPLICATE_API_TOKEN"), ("fal", "FAL_KEY"), ("azure", "AZURE_API_KEY"),
     ("huggingface", "HF_TOKEN"), ("cohere", "CO_API_KEY"), ("databricks", "DATABRICKS_TOKEN"),
     ("llamacpp", "LLAMA_CPP_API_KEY"), ("bedrock", "AWS_BEARER_TOKEN_BEDROCK")],
)  # fmt: skip
def test_the_usual_other_names_are_known(monkeypatch: pytest.MonkeyPatch, name: str, variable: str) -> None:
    monkeypatch.setenv(variable, KEY)
    assert LLMConfig.from_env(dotenv=False).validate()[name] is True


def test_the_first_variable_that_is_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "second")
    monkeypatch.setenv("GEMINI_API_KEY", "first")
    assert LLMConfig.from_env(dotenv=False).gemini_api_key == "first"
    monkeypatch.setenv("GEMINI_API_KEY", "")
    assert LLMConfig.from_env(dotenv=False).gemini_api_key == "second"


def test_addresses_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_BASE_URL", " http://gpu:8000/v1/ ")
    monkeypatch.setenv("OPENAI_API_URL", "https://proxy/openai?api-version=1")
    config = LLMConfig.from_env(dotenv=False)
    assert config.base_urls == {"vllm": "http://gpu:8000/v1"}
    assert config.api_urls == {"openai": "https://proxy/openai?api-version=1"}
    assert LLMConfig().url_for("vllm") == ("http://gpu:8000/v1", False)
    assert LLMConfig().url_for("openai") == ("https://proxy/openai?api-version=1", True)
    assert LLMConfig().url_for("groq") is None


def test_one_broken_variable_is_an_error_only_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "  \n")
    monkeypatch.setenv("XAI_API_KEY", "a\nb")
    monkeypatch.setenv("VLLM_BASE_URL", "gpu:8000")
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    config = LLMConfig.from_env()
    assert [name for name, there in config.validate().items() if there] == ["openai"]
    assert config.key_for("openai_api_key") == KEY
    with pytest.raises(ConfigurationError, match=r"key of groq is empty.*GROQ_API_KEY"):
        config.key_for("groq_api_key", ("GROQ_API_KEY",))
    with pytest.raises(ConfigurationError, match=r"key of xai.*XAI_API_KEY.*U\+000A"):
        config.key_for("xai_api_key", ("XAI_API_KEY",))
    with pytest.raises(ConfigurationError, match=r"address of vllm.*write http://gpu:8000"):
        config.url_for("vllm")


# -- .env -----------------------------------------------------------------------------------------------------------


def test_a_dotenv_file_is_found_in_the_folder_and_its_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(f'OPENAI_API_KEY="{KEY}"\nVLLM_BASE_URL=http://gpu/v1\nOTHER_API_KEY=o\n')
    assert LLMConfig.from_env().openai_api_key == KEY
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    config = LLMConfig.from_env()
    assert config.openai_api_key == KEY
    assert config.url_for("vllm") == ("http://gpu/v1", False)
    assert config.key_for("other_api_key", ("OTHER_API_KEY",)) == "o"
    assert "OPENAI_API_KEY" not in os.environ
    (below / ".env").write_text("GROQ_API_KEY=g\n")
    assert LLMConfig.from_env().validate()["openai"] is False
    assert LLMConfig.from_env().groq_api_key == "g"


def test_a_dotenv_file_can_be_named_or_left_out(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=from-the-folder\n")
    named = tmp_path / "prod.env"
    named.write_bytes("\ufeffOPENAI_API_KEY=from-prod  # ünïcode\n".encode())
    assert LLMConfig.from_env(named).openai_api_key == "from-prod"
    assert LLMConfig.from_env(str(named)).openai_api_key == "from-prod"
    assert LLMConfig.from_env(dotenv=False).openai_api_key is None


def test_the_process_environment_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("GEMINI_API_KEY=file\nVLLM_API_URL=http://file/x\n")
    monkeypatch.setenv("GOOGLE_API_KEY", "process")
    monkeypatch.setenv("VLLM_BASE_URL", "http://process/v1")
    config = LLMConfig.from_env()
    assert config.gemini_api_key == "process"
    assert config.url_for("vllm") == ("http://process/v1", False)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\xd8"])
def test_a_named_file_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.env"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"x\.env"):
        LLMConfig.from_env(path)
    with pytest.raises(ConfigurationError, match=r"there is no \.env file"):
        LLMConfig.from_env(tmp_path)


def test_a_folder_that_was_removed_has_no_dotenv_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert LLMConfig.from_env().openai_api_key is None


def test_a_folder_of_that_name_is_no_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert LLMConfig.from_env().dotenv_values == {}


# -- key_for --------------------------------------------------------------------------------------------------------


def test_a_field_beats_the_environment_and_a_config_sees_the_live_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LLMConfig()
    assert config.key_for("openai_api_key", ("OPENAI_API_KEY",)) is None
    monkeypatch.setenv("OPENAI_API_KEY", "later")
    assert config.key_for("openai_api_key", ("OPENAI_API_KEY",)) == "later"
    config.openai_api_key = KEY
    assert config.key_for("openai_api_key", ("OPENAI_API_KEY",)) == KEY
    assert isinstance(config.key_for("openai_api_key"), Secret)


def test_a_provider_without_a_field_has_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELLTIME_API_KEY", "k")
    assert LLMConfig().key_for("selltime_api_key", ("SELLTIME_API_KEY",)) == "k"
    assert LLMConfig().key_for("selltime_api_key") == "k"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("abc\r\nX-Evil: 1", "U\\+000D"),
        (KEY + "\n", "U\\+000A"),
        ("a\x00b", "U\\+0000"),
        ("a\x7fb", "U\\+007F"),
        ("a\u20acb", "U\\+20AC"),
        ("a\u200bb", "U\\+200B"),
        (5, "must be a string, not int"),
        (b"bytes", "must be a string, not bytes"),
    ],
)
def test_a_key_that_no_header_can_carry_is_refused(key: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        LLMConfig(openai_api_key=key)
    assert "openai" in str(caught.value)
    assert "abc" not in str(caught.value)
    config = LLMConfig()
    with pytest.raises(ConfigurationError, match=says):
        config.openai_api_key = key
    assert config.openai_api_key is None


def test_an_empty_key_says_which_variable_to_set() -> None:
    with pytest.raises(ConfigurationError, match="GEMINI_API_KEY or GOOGLE_API_KEY"):
        LLMConfig(gemini_api_key=" ")


def test_spaces_around_a_key_are_taken_off() -> None:
    assert LLMConfig(openai_api_key=f" {KEY} ").openai_api_key == KEY


# -- nothing shows a key --------------------------------------------------------------------------------------------


def _full(tmp_path: Path) -> LLMConfig:
    (tmp_path / ".env").write_text(f"GROQ_API_KEY={KEY}\nOTHER_API_KEY={KEY}\n")
    config = LLMConfig.from_env()
    config.openai_api_key = KEY
    config.base_urls = {"openai": "https://host/v1"}
    return config


def test_repr_shows_who_has_a_key_and_no_more(tmp_path: Path) -> None:
    assert repr(LLMConfig()) == "LLMConfig(keys=[])"
    assert repr(_full(tmp_path)) == "LLMConfig(keys=['openai', 'groq'], base_urls=['openai'])"


def test_no_way_of_printing_it_shows_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = _full(tmp_path)
    logging.getLogger("x").warning("%s %r %s", config, config, vars(config))
    texts = [str(config), f"{config}", repr(vars(config)), repr(dataclasses.asdict(config)), caplog.text]
    texts.append(repr(dataclasses.astuple(config)))
    assert all(KEY not in text for text in texts)
    assert "***" in texts[2]


def test_a_pickle_holds_no_key_and_a_copy_does(tmp_path: Path) -> None:
    config = _full(tmp_path)
    data = pickle.dumps(config)
    assert KEY.encode() not in data
    back = pickle.loads(data)
    assert not any(back.validate().values())
    assert back.key_for("openai_api_key") is None
    assert back.url_for("openai") == ("https://host/v1", False)
    assert dataclasses.replace(back, groq_api_key="g").groq_api_key == "g"
    for same in (copy.copy(config), copy.deepcopy(config), dataclasses.replace(config)):
        assert same == config
        assert same.key_for("other_api_key") == KEY


def test_a_traceback_with_locals_shows_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_API_KEY", f"{KEY}\x01")
    config = _full(tmp_path)
    config.base_urls["x"] = "https://me:pa55w0rd@host/v1"
    fails = [
        lambda: config.key_for("xai_api_key"),
        lambda: config.url_for("x"),
        lambda: setattr(config, "groq_api_key", f"{KEY}\n"),
    ]
    for fail in fails:
        with pytest.raises(ConfigurationError) as caught:
            fail()
        report = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
        assert "LLMConfig(keys=" in report
        assert KEY not in report
        # The line of this test that sets it is source text, not a local.
        assert report.count("pa55w0rd") == 0


# -- lightness ------------------------------------------------------------------------------------------------------


def test_import_loads_nothing_heavy_and_reads_no_file(tmp_path: Path) -> None:
    code = "import sys, llm_master.config as c; c.LLMConfig.from_env(); print('\\n'.join(sys.modules))"
    root = str(Path(llm_master.config.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {root!r}); {code}"],
        check=True, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert "llm_master.config" in loaded
    assert not loaded & {"dotenv", "pathlib", "urllib.parse", "asyncio", "openai", "aiohttp", "pydantic", "logging"}
