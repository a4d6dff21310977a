"""
The kit's ``LLM_PROVIDER``, ``LLM_DEFAULT_MODEL`` and ``LLM_BASE_URL``: another provider by the environment alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.command import run
from support.fault_server import FaultServer

from llm_master import (
    ConfigurationError,
    InvalidRequestError,
    LLMConfig,
    ModelConfig,
    ModelNotFoundError,
    QueryLLM,
    UnifiedProvider,
    add_provider,
)

PROMPT = [{"role": "user", "content": "x"}]

pytestmark = pytest.mark.usefixtures("provider_tables")


def environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> QueryLLM:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return QueryLLM(LLMConfig())


def routes(llm: QueryLLM, *names: str) -> list[tuple[str | None, str]]:
    return [(route.provider, route.model) for route in map(llm.route, names)]


@pytest.mark.parametrize(
    ("provider", "model", "sent"),
    [
        ("openai", "gpt-4o", ("/v1/chat/completions", "authorization", "Bearer sk-seed")),
        ("anthropic", "claude-3-5-sonnet-20241022", ("/v1/messages", "x-api-key", "sk-seed")),
    ],
)
def test_the_environment_alone_switches_the_provider(
    provider: str, model: str, sent: tuple[str, str, str], fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = provider.upper()
    values = {f"{name}_API_KEY": "sk-seed", f"{name}_BASE_URL": fault_server.url + "/v1"}
    llm = environment(monkeypatch, LLM_PROVIDER=provider, LLM_DEFAULT_MODEL=model, **values)
    response = llm.query_sync(messages=PROMPT)
    (seen,) = fault_server.requests
    path, header, value = sent
    assert (seen.path, seen.json["model"]) == (path, model)
    assert (header, value) in [(each.lower(), text) for each, text in seen.headers]
    assert (response.provider, response.model_name) == (provider, model)


def test_a_local_server_with_the_seeds_four_variables(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = environment(
        monkeypatch,
        LLM_PROVIDER="openai_compatible",
        LLM_BASE_URL=fault_server.url + "/v1",
        LLM_DEFAULT_MODEL="llama3.2",
        OPENAI_API_KEY="ollama",
    )
    llm.query_sync(messages=PROMPT)
    llm.query_sync("mistral", PROMPT)
    first, second = fault_server.requests
    assert (first.path, first.json["model"], second.json["model"]) == ("/v1/chat/completions", "llama3.2", "mistral")
    assert [dict(each.headers)["Authorization"] for each in (first, second)] == ["Bearer ollama"] * 2


def test_openais_key_goes_along_with_that_variables_address_only(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = environment(monkeypatch, OPENAI_COMPATIBLE_BASE_URL=fault_server.url, OPENAI_API_KEY="sk-of-openai")
    llm.query_sync("openai_compatible/m", PROMPT)
    llm = environment(monkeypatch, LLM_BASE_URL="http://127.0.0.1:1", OPENAI_COMPATIBLE_API_KEY="sk-its-own")
    llm.query_sync("openai_compatible/m", PROMPT)
    first, second = (dict(each.headers) for each in fault_server.requests)
    assert "Authorization" not in first
    assert second["Authorization"] == "Bearer sk-its-own"


def test_the_base_url_stays_with_the_compatible_server(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"LLM_PROVIDER": "anthropic", "LLM_BASE_URL": "http://127.0.0.1:1/v1", "ANTHROPIC_API_KEY": "k-a"}
    llm = environment(monkeypatch, LLM_DEFAULT_MODEL="claude-sonnet-5-5", **values)
    assert llm._pool("claude-sonnet-5-5", None).places[0].target.url == "https://api.anthropic.com/v1/messages"


def test_a_registered_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class MyProvider:
        async def chat(self, messages: Any, model: str | None = None) -> dict[str, Any]:
            return {"reply": f"from {model}", "usage": {"prompt_tokens": 42, "completion_tokens": 128}}

    add_provider("my_provider", llm_api_impl=MyProvider)
    llm = environment(monkeypatch, LLM_PROVIDER="my_provider", LLM_DEFAULT_MODEL="gpt-4o")
    response = llm.query_sync(messages=PROMPT)
    assert (response.content, response.usage.total_tokens) == ("from gpt-4o", 170)
    assert llm.query_sync("other", PROMPT).content == "from other"


def test_a_model_of_an_aggregator_keeps_its_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = environment(monkeypatch, LLM_PROVIDER="openrouter", LLM_DEFAULT_MODEL="anthropic/claude-sonnet-5.5")
    assert routes(llm, llm._default_model()) == [("openrouter", "anthropic/claude-sonnet-5.5")]


def test_the_default_model_never_goes_to_a_provider_that_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = environment(monkeypatch, LLM_PROVIDER="anthropic", LLM_DEFAULT_MODEL="gpt-4o")
    assert routes(llm, llm._default_model()) == [("anthropic", "gpt-4o")]


def test_bare_names(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = environment(monkeypatch, LLM_PROVIDER="together")
    assert routes(llm, "gpt-4o", "something-new", "meta-llama/Llama-3-70b") == [
        ("together", "gpt-4o"),
        ("together", "something-new"),
        ("together", "meta-llama/Llama-3-70b"),
    ]
    llm = environment(monkeypatch, LLM_PROVIDER="OpenAI")
    assert routes(llm, "something-new", "claude-3-5-sonnet-latest", "o3") == [
        ("openai", "something-new"),
        ("anthropic", "claude-3-5-sonnet-latest"),
        ("openai", "o3"),
    ]


def test_what_names_a_provider_is_not_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PROVIDER", "together")
    QueryLLM.provider_map["flux"] = ("groq", UnifiedProvider)
    registry = {"mine": ModelConfig(provider="mistral", model="mistral-large"), "gpt-4o": ModelConfig(rate_limit_rpm=5)}
    llm = QueryLLM(LLMConfig(), registry=registry)
    assert routes(llm, "anthropic/x", "groq:y", "mine", "flux-pro", "gpt-4o") == [
        ("anthropic", "x"),
        ("groq", "y"),
        ("mistral", "mistral-large"),
        ("groq", "flux-pro"),
        ("together", "gpt-4o"),
    ]
    with pytest.raises(ModelNotFoundError, match="there is no provider 'opnai'"):
        llm.route("opnai/gpt-4o")


def test_without_the_variables_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = QueryLLM(LLMConfig())
    with pytest.raises(InvalidRequestError, match=r"no model_name: .*LLM_PROVIDER and LLM_DEFAULT_MODEL"):
        llm.query_sync(messages=PROMPT)
    with pytest.raises(ModelNotFoundError, match="Unsupported model: something-new"):
        llm.route("something-new")
    monkeypatch.setenv("LLM_DEFAULT_MODEL", "gpt-4o")
    assert llm._default_model() == "gpt-4o"


def test_a_provider_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment(monkeypatch, LLM_PROVIDER="local")._default_model() == "local/smollm2-135m-instruct"
    with pytest.raises(ConfigurationError, match="LLM_PROVIDER=openai names a provider and no model"):
        environment(monkeypatch, LLM_PROVIDER="openai").query_sync(messages=PROMPT)
    with pytest.raises(ConfigurationError, match="LLM_PROVIDER=opnai is no provider; did you mean open"):
        environment(monkeypatch, LLM_PROVIDER="opnai").query_sync(messages=PROMPT)


def test_a_dotenv_file_sets_them_too(
    tmp_path: Path, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        f"LLM_PROVIDER=openai_compatible\nLLM_BASE_URL={fault_server.url}/v1\nLLM_DEFAULT_MODEL=llama3.2\n"
    )
    monkeypatch.chdir(tmp_path)
    assert QueryLLM().query_sync(prompt="x").model_name == "openai_compatible/llama3.2"


def test_the_command_asks_the_default_model(tmp_path: Path, fault_server: FaultServer) -> None:
    env = {"LLM_PROVIDER": "openai_compatible", "LLM_BASE_URL": f"{fault_server.url}/v1", "LLM_DEFAULT_MODEL": "l-3"}
    done = run("ask", "hello", folder=tmp_path, env=env)
    assert done.code == 0, done.err
    assert "openai_compatible/" in done.err
    assert fault_server.requests[0].json["model"] == "l-3"
