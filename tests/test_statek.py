"""
STATEK's provider settings, as its documents show them: ``add_provider`` and what it reads from the environment.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import ok
from support.bodies import CHAT
from support.fault_server import FaultServer

from llm_master import ConfigurationError, InvalidRequestError, LLMConfig, QueryLLM, add_provider
from llm_master.presets import LARGEST_FILE

PROMPT = [{"role": "user", "content": "x"}]
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}}}

pytestmark = pytest.mark.usefixtures("provider_tables")


def serve(server: FaultServer, path: str) -> str:
    """Let the server speak chat at an address that does not tell so."""
    return server.route(path, [dataclasses.replace(ok(), family=CHAT)])


def ask(name: str, config: LLMConfig | None = None, **kwargs: Any) -> Any:
    return QueryLLM(config or LLMConfig()).query_sync(name, PROMPT, **kwargs)


def key_of(seen: Any) -> str:
    return str(dict(seen.headers)["Authorization"]).removeprefix("Bearer ")


def test_the_documents_first_registration(fault_server: FaultServer) -> None:
    url = serve(fault_server, "/llm_api")
    add_provider(
        "SELLTIME",
        api_url=url,
        api_key="...",
    )
    ask("SELLTIME/model-1")
    (seen,) = fault_server.requests
    assert (seen.path, key_of(seen)) == ("/llm_api", "...")
    assert seen.json == {"model": "model-1", "messages": PROMPT}


def test_direct_arguments_go_into_the_body_and_settings_do_not(fault_server: FaultServer, tmp_path: Path) -> None:
    path = tmp_path / "format.json"
    path.write_text(json.dumps(FORMAT))
    add_provider(
        "CUSTOM_OPENAI",
        api_url=fault_server.url + "/v1/chat/completions",
        api_key="...",
        custom_payload="value",
        timeout_hint=30,
        response_format_file=str(path),
        use_prompt_caching=False,
    )
    ask("custom_openai/m")
    assert fault_server.requests[0].json == {
        "model": "m",
        "messages": PROMPT,
        "custom_payload": "value",
        "timeout_hint": 30,
        "response_format": FORMAT,
    }


def test_the_names_of_the_documents_are_free(fault_server: FaultServer) -> None:
    for name in ("SELLTIME", "CUSTOM_OPENAI", "CUSTOM", "LOCAL_OPENAI_COMPAT"):
        add_provider(name, api_url=fault_server.url + "/x", api_key="local")
        with pytest.raises(ValueError, match="taken"):
            add_provider(name.title(), api_url=fault_server.url + "/x")


def test_settings_come_from_the_environment_on_first_use(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_provider("SELLTIME")
    path = tmp_path / "response-format.json"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SELLTIME_API_URL", serve(fault_server, "/llm_api"))
    monkeypatch.setenv("SELLTIME_API_KEY", "XYZ")
    monkeypatch.setenv("SELLTIME_RESPONSE_FORMAT_FILE", "./response-format.json")
    monkeypatch.setenv("SELLTIME_USE_PROMPT_CACHING", "false")
    llm = QueryLLM(LLMConfig())
    llm.route("selltime/m")
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(FORMAT).encode())
    llm.query_sync("selltime/m", PROMPT)
    llm.query_sync("selltime/m", PROMPT, response_format={"type": "text"})
    first, second = fault_server.requests
    assert (first.path, key_of(first)) == ("/llm_api", "XYZ")
    assert (first.json["response_format"], second.json["response_format"]) == (FORMAT, {"type": "text"})
    assert first.json["messages"] == PROMPT


def test_what_is_given_beats_the_environment_and_the_configuration_beats_both(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERED_API_URL", "http://127.0.0.1:1/wrong")
    monkeypatch.setenv("ORDERED_API_KEY", "from-environment")
    add_provider("ORDERED", base_url=fault_server.url + "/v1", api_key="given")
    ask("ordered/m")
    config = LLMConfig(api_urls={"ordered": serve(fault_server, "/own")})
    config.ordered_api_key = "own"  # type: ignore[attr-defined]  # a provider that has no field
    ask("ordered/m", config)
    first, second = fault_server.requests
    assert (first.path, key_of(first)) == ("/v1/chat/completions", "given")
    assert (second.path, key_of(second)) == ("/own", "own")


def test_a_name_with_dashes_has_variables_all_the_same(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_provider("my-own")
    monkeypatch.setenv("MY_OWN_BASE_URL", fault_server.url)
    monkeypatch.setenv("MY_OWN_API_KEY", "dashed")
    ask("my-own/m")
    assert key_of(fault_server.requests[0]) == "dashed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_url": 7},
        {"api_url": "no url"},
        {"api_url": "http://[broken"},
        {"api_url": "https://host/{model}/chat with space"},
        {"api_url": "http://127.0.0.1:1/x", "api_key": ["k"]},
        {"api_url": "http://127.0.0.1:1/x", "use_prompt_caching": "perhaps"},
        {"api_url": "http://127.0.0.1:1/x", "response_format_file": 5},
        {"api_url": "http://127.0.0.1:1/x", "model": "other"},
        {"api_url": "http://127.0.0.1:1/x", "stream": True},
    ],
)
def test_wrong_arguments_matter_on_use_and_only_there(wrong: dict[str, Any], fault_server: FaultServer) -> None:
    add_provider("WRONGLY", **wrong)
    config = LLMConfig(openai_api_key="sk-other-0001", base_urls={"openai": fault_server.url})
    assert ask("gpt-4o-mini", config).content
    with pytest.raises(ConfigurationError) as caught:
        ask("wrongly/m")
    assert "\n" not in str(caught.value)
    assert "wrongly" in str(caught.value).lower()


def test_a_value_that_is_no_json_is_bad_input() -> None:
    add_provider("UNWRITABLE", api_url="http://127.0.0.1:1/x", thing=object())
    with pytest.raises(InvalidRequestError, match="cannot be written as JSON"):
        ask("unwritable/m")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"{", "is not JSON"),
        (b"[1]", "holds no object with a type"),
        (b'{"name": "x"}', "holds no object with a type"),
        (b'{"type": "array", "items": {"type": "string"}}', "something that is no object"),
        (b'{"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}', "which is not in it"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"type": "' + b"x" * LARGEST_FILE + b'"}', f"more than {LARGEST_FILE} bytes"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_a_response_formats_file_that_is_wrong(
    content: bytes | None, words: str, tmp_path: Path, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "format.json"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("OPENAI_RESPONSE_FORMAT_FILE", str(path))
    config = LLMConfig(openai_api_key="sk-file-00001", base_urls={"openai": fault_server.url})
    with pytest.raises(ConfigurationError, match=words) as caught:
        ask("gpt-4o-mini", config)
    assert "openai (OPENAI_RESPONSE_FORMAT_FILE)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert fault_server.requests == []


def test_a_file_may_hold_the_schema_alone(
    tmp_path: Path, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = {"type": "object", "title": "City", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    monkeypatch.setenv("OPENAI_RESPONSE_FORMAT_FILE", str(path))
    ask("gpt-4o-mini", LLMConfig(openai_api_key="sk-file-00001", base_urls={"openai": fault_server.url}))
    sent = fault_server.requests[0].json["response_format"]
    assert (sent["type"], sent["json_schema"]["name"]) == ("json_schema", "City")
    assert sent["json_schema"]["schema"] == {**schema, "additionalProperties": False}


def test_a_folder_is_no_response_format(tmp_path: Path) -> None:
    add_provider("FOLDERED", api_url="http://127.0.0.1:1/x", api_key="k", response_format_file=str(tmp_path))
    with pytest.raises(ConfigurationError, match="is not a file"):
        ask("foldered/m")


def test_a_shipped_provider_translates_the_file(
    tmp_path: Path, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "format.json"
    path.write_text(json.dumps(FORMAT))
    monkeypatch.setenv("CLAUDEAI_RESPONSE_FORMAT_FILE", str(path))
    ask("claude-sonnet-5-5", LLMConfig(anthropic_api_key="k-a", base_urls={"anthropic": fault_server.url + "/v1"}))
    sent = fault_server.requests[0].json
    assert "response_format" not in sent
    assert sent["output_config"]["format"]["type"] == "json_schema"


def test_two_formats_do_not_share_a_cache(tmp_path: Path, fault_server: FaultServer) -> None:
    from llm_master import CacheSettings

    cache = CacheSettings(kind="sqlite", path=str(tmp_path / "cache.db"))
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    for path in paths:
        path.write_text(json.dumps({**FORMAT, "n": path.stem}))
    config = LLMConfig(openai_api_key="sk-cache-0001", base_urls={"openai": fault_server.url})
    for path in (*paths, paths[0]):
        settings = tmp_path / "llm_master.toml"
        settings.write_text(f'[providers.openai]\nresponse_format_file = "{path}"\n')
        QueryLLM.from_file(settings, config, cache=cache).query_sync("gpt-4o-mini", PROMPT)
    assert [seen.json["response_format"]["n"] for seen in fault_server.requests] == ["one", "two"]
