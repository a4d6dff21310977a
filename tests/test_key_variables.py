"""
The keys of built-in aliases: read after the provider's own, and never another vendor's.
"""

from __future__ import annotations

import asyncio
import pathlib
import re

import pytest
from support.behaviours import ok
from support.fault_server import FaultServer

from llm_master import LLMConfig, MissingKeyError, QueryLLM
from llm_master.base_provider import UnifiedProvider
from llm_master.cli.lists import provider_facts
from llm_master.key_variables import ALIAS_VARIABLES, FOREIGN_VARIABLES, KEY_VARIABLES, key_variable
from llm_master.rows import ProviderRow

ROWS = {name: ProviderRow.parse(name, row) for name, row in UnifiedProvider.PROVIDER_CONFIGS.items()}
ALIASES = [(name, variable) for name, variables in ALIAS_VARIABLES.items() for variable in variables]
FOREIGN = [(name, variable) for name, variables in FOREIGN_VARIABLES.items() for variable in variables]
KEY = "sk-of-an-alias-0123456789"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """No variable of any provider, and no ``.env`` file."""
    for row in ROWS.values():
        names = (row.name, *row.aliases)
        for variable in (*row.key_variables, *row.base_variables, *(key_variable(each) for each in names)):
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_alias_has_its_variable_or_a_reason_why_not(name: str) -> None:
    row = ROWS[name]
    wanted = dict.fromkeys(key_variable(alias) for alias in row.aliases)
    foreign = FOREIGN_VARIABLES.get(name, {})
    rest = tuple(variable for variable in wanted if variable not in {*row.key_variables, *foreign})
    assert row.alias_variables == rest
    assert foreign.keys() <= wanted.keys()
    assert all(len(reason) > 20 for reason in foreign.values())


def test_no_variable_of_an_alias_is_another_provider_s() -> None:
    owners: dict[str, set[str]] = {}
    for name, row in ROWS.items():
        taken = {*row.key_variables, key_variable(name), *KEY_VARIABLES.get(name, ())}
        taken |= {each for variables in row.header_variables.values() for each in variables}
        for variable in (*taken, *row.alias_variables):
            owners.setdefault(variable, set()).add(name)
    assert {variable: owners[variable] for _, variable in ALIASES if len(owners[variable]) > 1} == {}
    # What is left out is left out for somebody: where a reason names a provider of ours, the variable is its own.
    assert owners["AI_GATEWAY_API_KEY"] == {"vercel"}
    assert owners["GOOGLE_API_KEY"] == {"gemini", "gemini_openai"}


@pytest.mark.parametrize(("name", "variable"), ALIASES)
def test_the_key_of_an_alias_is_found(name: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, KEY)
    row = ROWS[name]
    assert LLMConfig().key_for(f"{name}_api_key", row.key_variables, row.alias_variables) == KEY
    filled = LLMConfig.from_env(dotenv=False)
    assert [each for each, there in filled.validate().items() if there] == [name]
    assert getattr(filled, f"{name}_api_key") == KEY


@pytest.mark.parametrize(("name", "variable"), FOREIGN)
def test_a_variable_of_another_service_is_not_read(name: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, KEY)
    row = ROWS[name]
    assert LLMConfig().key_for(f"{name}_api_key", row.key_variables, row.alias_variables) is None
    assert getattr(LLMConfig.from_env(dotenv=False), f"{name}_api_key") is None


def test_the_provider_s_own_variable_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("CLAUDE_API_KEY", "of-the-alias")
    (tmp_path / ".env").write_text("ANTHROPIC_API_KEY=its-own\n")
    config = LLMConfig.from_env()
    # Also where it stands in the file, which the environment otherwise beats.
    assert config.anthropic_api_key == "its-own"
    monkeypatch.setenv("ANTHROPIC_API_KEY", "in-the-environment")
    assert LLMConfig.from_env().anthropic_api_key == "in-the-environment"
    assert LLMConfig(anthropic_api_key="given").anthropic_api_key == "given"


@pytest.mark.parametrize(
    ("model", "variable", "sent"),
    [
        ("claude/claude-sonnet-4-5", "CLAUDE_API_KEY", ("x-api-key", KEY)),
        ("grok/grok-4.7", "GROK_API_KEY", ("authorization", f"Bearer {KEY}")),
        ("mistral-large-latest", "MISTRALAI_API_KEY", ("authorization", f"Bearer {KEY}")),
        ("azure_open_ai/gpt-4o", "AZURE_OPEN_AI_API_KEY", ("api-key", KEY)),
    ],
)
def test_it_is_sent_as_the_provider_s_own(
    model: str, variable: str, sent: tuple[str, str], monkeypatch: pytest.MonkeyPatch, fault_server: FaultServer
) -> None:
    monkeypatch.setenv(variable, KEY)
    name = next(name for name, other in ALIASES if other == variable)
    fault_server.default = ok(family=ROWS[name].families[0])

    async def main() -> None:
        async with QueryLLM(LLMConfig(base_urls={name: f"{fault_server.url}/v1"})) as llm:
            await llm.query(model, "Hi")

    asyncio.run(main())
    (seen,) = fault_server.requests
    assert seen.header(sent[0]) == sent[1]


def test_a_missing_key_is_asked_for_by_the_provider_s_own_names() -> None:
    with pytest.raises(MissingKeyError) as caught:
        QueryLLM().query_sync("claude/claude-sonnet-4-5", "Hi")
    assert "ANTHROPIC_API_KEY" in str(caught.value)
    assert not re.search("CLAUDE\\w*_API_KEY", str(caught.value))


def test_a_provider_with_the_key_of_an_alias_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provider_facts("xai", LLMConfig())["ready"] is False
    monkeypatch.setenv("GROK_API_KEY", KEY)
    assert provider_facts("xai", LLMConfig())["ready"] is True


@pytest.mark.parametrize("name", ["cohere", "vllm", "sglang", "llamacpp"])
def test_a_server_that_keeps_prefixes_by_itself_drops_nothing(name: str, fault_server: FaultServer) -> None:
    assert ROWS[name].supports_caching
    assert "caching:" in ROWS[name].source or "(caching:" in ROWS[name].source
    fault_server.default = ok(family=ROWS[name].families[0])

    async def main() -> None:
        config = LLMConfig(base_urls={name: f"{fault_server.url}/v1"})
        setattr(config, f"{name}_api_key", KEY)
        async with QueryLLM(config) as llm:
            plain = await llm.query(f"{name}/m", "Hi")
            asked = await llm.query(f"{name}/m", "Hi", use_prompt_caching=True)
            assert (plain.dropped, asked.dropped) == ((), ())

    asyncio.run(main())
    first, second = fault_server.requests
    assert first.json == second.json
