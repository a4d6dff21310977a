"""
Addresses made of variables: which variable is asked for, what may stand in it, and where the key then goes.
"""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from support.behaviours import ok, status
from support.fault_server import FaultServer

from llm_master import LLMConfig, QueryLLM, RetryPolicy, UnifiedProvider
from llm_master.addresses import auth_header, base_url, family_url, missing_variables, shown_url
from llm_master.base_provider import row_of
from llm_master.errors import ConfigurationError, ModelNotFoundError, NotFoundError
from llm_master.rows import ProviderRow

ROWS = {name: row_of(name) for name in UnifiedProvider.PROVIDER_CONFIGS}
MADE = sorted(name for name, row in ROWS.items() if row.placeholders)
KEY = "rows-key-0123456789abcdef"

#: Provider -> variables that suffice, and the base URLs of its families that come of them.
SET: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "azure": (
        {"AZURE_OPENAI_RESOURCE": "contoso"},
        dict.fromkeys(("openai_chat", "openai_responses"), "https://contoso.openai.azure.com/openai/v1"),
    ),
    "foundry": (
        {"AZURE_FOUNDRY_RESOURCE": "contoso"},
        {
            "openai_chat": "https://contoso.services.ai.azure.com/openai/v1",
            "anthropic_messages": "https://contoso.services.ai.azure.com/anthropic/v1",
        },
    ),
    "bedrock": (
        {"AWS_REGION": "eu-west-1"},
        {
            "openai_chat": "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1",
            "anthropic_messages": "https://bedrock-mantle.eu-west-1.api.aws/anthropic/v1",
            "bedrock": "https://bedrock-runtime.eu-west-1.amazonaws.com",
        },
    ),
    "vertex": (
        {"GOOGLE_CLOUD_PROJECT": "acme.com:main", "GOOGLE_CLOUD_LOCATION": "us-east5"},
        {
            "openai_chat": "https://us-east5-aiplatform.googleapis.com/v1/projects/acme.com:main/locations/us-east5"
            "/endpoints/openapi",
            **dict.fromkeys(
                ("gemini", "anthropic_messages"),
                "https://us-east5-aiplatform.googleapis.com/v1/projects/acme.com:main/locations/us-east5",
            ),
        },
    ),
    "cloudflare": (
        {"CLOUDFLARE_ACCOUNT_ID": "0a1b2c"},
        {"openai_chat": "https://api.cloudflare.com/client/v4/accounts/0a1b2c/ai/v1"},
    ),
    "cloudflare_gateway": (
        {"CLOUDFLARE_ACCOUNT_ID": "0a1b2c", "CLOUDFLARE_GATEWAY_ID": "my_gate"},
        {"openai_chat": "https://gateway.ai.cloudflare.com/v1/0a1b2c/my_gate/compat"},
    ),
    "databricks": (
        {"DATABRICKS_HOST": "dbc-1.cloud.databricks.com"},
        {"openai_chat": "https://dbc-1.cloud.databricks.com/serving-endpoints"},
    ),
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for row in ROWS.values():
        for variable in (*row.base_variables, *(v for place in row.placeholders.values() for v in place.variables)):
            monkeypatch.delenv(variable, raising=False)


def put(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)


def ask(model: str, config: LLMConfig, **kwargs: Any) -> Any:
    async def main() -> Any:
        async with QueryLLM(config, retry=RetryPolicy(max_attempts=1)) as llm:
            return await llm.query(model, "Hi", **kwargs)

    return asyncio.run(main())


# -- filled in -----------------------------------------------------------------------------------------------------


def test_the_rows_with_variables_are_these() -> None:
    assert sorted(SET) == MADE
    assert all(set(addresses) == set(ROWS[name].families) for name, (_, addresses) in SET.items())


@pytest.mark.parametrize("name", MADE)
def test_variables_make_the_address(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, addresses = SET[name]
    put(monkeypatch, variables)
    for family, address in addresses.items():
        assert base_url(ROWS[name], LLMConfig(), family=family) == address
        assert family_url(ROWS[name], LLMConfig(), family, "/x") == address + ROWS[name].paths.get(family, "/x")
    assert base_url(ROWS[name], LLMConfig()) == addresses[ROWS[name].families[0]]


@pytest.mark.parametrize("name", MADE)
def test_every_further_variable_of_a_placeholder_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, addresses = SET[name]
    for place in ROWS[name].placeholders.values():
        for variable in place.variables[1:]:
            with monkeypatch.context() as patch:
                others = {v: text for v, text in variables.items() if v not in place.variables}
                put(patch, {**others, variable: variables[place.variables[0]]})
                assert base_url(ROWS[name], LLMConfig()) == addresses[ROWS[name].families[0]]


def test_the_dotenv_file_gives_variables_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AWS_REGION=us-west-2\n", encoding="utf-8")
    config = LLMConfig.from_env()
    assert base_url(ROWS["bedrock"], config) == "https://bedrock-runtime.us-west-2.amazonaws.com"
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert base_url(ROWS["bedrock"], config) == "https://bedrock-runtime.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("location", "host"),
    [
        (None, "aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
    ],
)
def test_the_host_of_a_google_location(location: str | None, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, {"GOOGLE_CLOUD_PROJECT": "p", **({"GOOGLE_CLOUD_LOCATION": location} if location else {})})
    found = base_url(ROWS["vertex"], LLMConfig())
    assert found == f"https://{host}/v1/projects/p/locations/{location or 'global'}"


@pytest.mark.parametrize(
    "given", ["dbc-1.cloud.databricks.com", "https://dbc-1.cloud.databricks.com", "https://dbc-1.cloud.databricks.com/"]
)
def test_a_host_may_be_given_as_the_vendors_tools_take_it(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", given)
    assert base_url(ROWS["databricks"], LLMConfig()) == "https://dbc-1.cloud.databricks.com/serving-endpoints"


# -- missing and wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_a_missing_variable_is_named_before_any_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS[name]
    needed = [place for place in row.placeholders.values() if place.default is None]
    assert needed
    config = LLMConfig(**{row.api_key_attr or "": KEY})  # type: ignore[arg-type]  # the field's name is data
    with pytest.raises(ConfigurationError) as caught:
        ask(f"{name}/some-model", config)
    text = str(caught.value)
    assert text.startswith(f"'{name}/some-model' cannot be sent: {name} needs ")
    assert all(variable in text for place in needed for variable in place.variables)
    assert f"{name.upper()}_BASE_URL" in text
    assert f"LLMConfig(base_urls={{'{name}'" in text
    assert "\n" not in text
    # One of two is not enough, and only the other is asked for.
    if len(needed) > 1:
        monkeypatch.setenv(needed[0].variables[0], "abc")
        with pytest.raises(ConfigurationError, match=f"{name} needs {needed[1].variables[0]} for its address"):
            ask(f"{name}/some-model", config)


HOSTILE = [
    *("evil.example/x", "evil.example#", "evil.example?", "x@evil.example", "a/b", "a\\b", "..", ".", "-a", "a b"),
    *("a\tb", "a%2fb", "{AWS_REGION}", "\u00e9", "a\u2028b", "http://evil.example", "https://a/../b", "a;b", "a&b"),
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", MADE)
def test_a_value_that_could_change_the_address_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, addresses = SET[name]
    for hostile in variables:
        put(monkeypatch, {**variables, hostile: value})
        for family in addresses:
            with pytest.raises(ConfigurationError, match=f"^{hostile} cannot stand in the address of {name}, https://"):
                base_url(ROWS[name], LLMConfig(), family=family)


@pytest.mark.parametrize("value", ["evil.example", "evil.example:443", "a-", "a" * 64])
@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("azure", "AZURE_OPENAI_RESOURCE"),
        ("foundry", "AZURE_FOUNDRY_RESOURCE"),
        ("bedrock", "AWS_REGION"),
        ("vertex", "GOOGLE_CLOUD_LOCATION"),
    ],
)
def test_what_stands_in_a_host_is_one_label(
    name: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, {**SET[name][0], variable: value})
    with pytest.raises(ConfigurationError, match=f"^{variable} cannot stand .* letters, digits and dashes; correct it"):
        base_url(ROWS[name], LLMConfig())


@pytest.mark.parametrize("value", ["localhost", "a..example", "evil.example:443", "-a.example", "evil.example/x"])
def test_a_whole_host_is_a_name_with_a_domain(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", value)
    with pytest.raises(ConfigurationError, match="it must be a host such as"):
        base_url(ROWS["databricks"], LLMConfig())


@pytest.mark.parametrize("name", MADE)
def test_what_is_missing_can_be_asked_without_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS[name]
    for family in row.families:
        needed = [" or ".join(place.variables) for place in row.placeholders.values() if place.default is None]
        assert missing_variables(row, LLMConfig(), family=family) == needed
    put(monkeypatch, SET[name][0])
    assert missing_variables(row, LLMConfig()) == []
    assert missing_variables(ROWS["openai"], LLMConfig()) == []


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "")
    with pytest.raises(ConfigurationError, match="bedrock needs AWS_REGION or AWS_DEFAULT_REGION for its address"):
        base_url(ROWS["bedrock"], LLMConfig())


def test_a_row_without_an_address_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match=r"own has no fixed address: set OWN_BASE_URL or LLMConfig\(base_urls"):
        base_url(ProviderRow.parse("own", {}), LLMConfig())


def test_the_address_for_people_names_the_variables() -> None:
    assert shown_url(ROWS["openai"]) == ROWS["openai"].base_url
    assert shown_url(ROWS["openai_compatible"]) is None
    assert str(shown_url(ROWS["vertex"])).startswith(
        "https://{GOOGLE_CLOUD_LOCATION}-aiplatform.googleapis.com/v1/projects/{GOOGLE_CLOUD_PROJECT}/locations/"
    )


# -- the user's own address ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_a_base_url_of_the_users_own_needs_no_variable(name: str) -> None:
    row = ROWS[name]
    found = base_url(row, LLMConfig(base_urls={name: "https://proxy.example/x/"}))
    assert found == "https://proxy.example/x" + row.version_path


@pytest.mark.parametrize(
    "given",
    [
        "https://contoso.openai.azure.com",
        "https://contoso.openai.azure.com/",
        "https://contoso.openai.azure.com/openai/v1",
    ],
)
def test_the_vendors_own_variable_of_an_address(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", given)
    monkeypatch.setenv("AZURE_OPENAI_RESOURCE", "other")
    assert base_url(ROWS["azure"], LLMConfig()) == "https://contoso.openai.azure.com/openai/v1"
    monkeypatch.setenv("AZURE_OPENAI_BASE_URL", "https://mine.example")
    assert base_url(ROWS["azure"], LLMConfig()) == "https://mine.example/openai/v1"


def test_a_wrong_address_of_the_vendors_own_variable_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "contoso.openai.azure.com")
    with pytest.raises(
        ConfigurationError, match=r"AZURE_OPENAI_ENDPOINT\) does not start with http.*write https://con"
    ):
        base_url(ROWS["azure"], LLMConfig())


@pytest.mark.parametrize(
    ("name", "given", "messages"),
    [
        ("moonshot", "https://api.moonshot.cn/v1", "https://api.moonshot.cn/anthropic/v1"),
        (
            "dashscope",
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
            "https://dashscope.aliyuncs.com/apps/anthropic/v1",
        ),
        ("foundry", "https://contoso.services.ai.azure.com", "https://contoso.services.ai.azure.com/anthropic/v1"),
        ("zai", "https://proxy.example/z/api/paas/v4", "https://proxy.example/z/api/anthropic/v1"),
        ("minimax", "https://proxy.example", "https://proxy.example/anthropic/v1"),
        ("openrouter", "https://proxy.example/v1", "https://proxy.example/v1"),
    ],
)
def test_a_family_lives_beside_the_users_own_base(name: str, given: str, messages: str) -> None:
    config = LLMConfig(base_urls={name: given})
    assert base_url(ROWS[name], config, family="anthropic_messages") == messages


def test_a_full_endpoint_is_used_as_it_is() -> None:
    config = LLMConfig(
        api_urls={"azure": "https://c.openai.azure.com/openai/deployments/d/chat/completions?api-version=1"}
    )
    assert family_url(ROWS["azure"], config, "openai_chat", "/x") == config.api_urls["azure"]


def test_gemini_has_its_chat_route_under_its_own_base() -> None:
    config = LLMConfig()
    assert family_url(ROWS["gemini"], config, "openai_chat", "/chat/completions") == (
        f"{ROWS['gemini_openai'].base_url}/chat/completions"
    )


# -- keys and names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        ("bearer", "Authorization", "Bearer k"),
        ("x-key", "x-key", "k"),
        ("Authorization: Key", "Authorization", "Key k"),
        ("cf-aig-authorization: Bearer", "cf-aig-authorization", "Bearer k"),
    ],
)
def test_what_carries_a_key(auth: str, name: str, value: str) -> None:
    found = auth_header(auth, "k")
    assert found == (name, value)
    assert "k'" not in repr(found[1])


def headers_of(server: FaultServer) -> dict[str, str]:
    return {name.lower(): value for name, value in server.requests[-1].headers}


def test_a_token_of_another_kind_is_carried_otherwise(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LLMConfig(base_urls={"azure": fault_server.url})
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "ad-token-0123456789")
    ask("azure/gpt-4o", config)
    assert headers_of(fault_server)["authorization"] == "Bearer ad-token-0123456789"
    assert "api-key" not in headers_of(fault_server)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    ask("azure/gpt-4o", config)
    assert headers_of(fault_server)["api-key"] == KEY
    assert "authorization" not in headers_of(fault_server)


def test_a_gateway_gets_its_own_key_and_the_upstreams(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.behaviours import status

    config = LLMConfig(cloudflare_gateway_api_key=KEY, base_urls={"cloudflare_gateway": fault_server.url})
    ask("cloudflare_gateway/openai/gpt-4o", config)
    assert headers_of(fault_server)["cf-aig-authorization"] == f"Bearer {KEY}"
    assert "authorization" not in headers_of(fault_server)
    monkeypatch.setenv("CLOUDFLARE_GATEWAY_UPSTREAM_API_KEY", "upstream-0123456789")
    fault_server.default = status(401, message="no upstream-0123456789 here")
    with pytest.raises(Exception, match="REDACTED") as caught:
        ask("cloudflare_gateway/openai/gpt-4o", config)
    assert headers_of(fault_server)["authorization"] == "Bearer upstream-0123456789"
    assert headers_of(fault_server)["cf-aig-authorization"] == f"Bearer {KEY}"
    assert "upstream-0123456789" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "path", "sent"),
    [
        ("vertex/gemini-3-flash", "/publishers/google/models/gemini-3-flash:generateContent", None),
        ("google/gemini-3-flash", "/publishers/google/models/gemini-3-flash:generateContent", None),
        ("vertex/google/gemini-3-flash", "/publishers/google/models/gemini-3-flash:generateContent", None),
        ("vertex/endpoints/123", "/endpoints/123:generateContent", None),
        ("vertex/meta/llama-4-maas", "/endpoints/openapi/chat/completions", "meta/llama-4-maas"),
        (
            "vertex/claude-sonnet-4-5@20250929",
            "/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict",
            None,
        ),
        ("vertex/anthropic/claude-opus-5", "/publishers/anthropic/models/claude-opus-5:rawPredict", None),
        ("perplexity/sonar", "/responses", "perplexity/sonar"),
        ("pplx:sonar", "/responses", "perplexity/sonar"),
        ("sonar", "/responses", "perplexity/sonar"),
        ("perplexity/openai/gpt-6-sol", "/responses", "openai/gpt-6-sol"),
    ],
)
def test_where_a_model_goes_and_under_what_name(
    asked: str, path: str, sent: str | None, fault_server: FaultServer
) -> None:
    fault_server.default = status(404)
    config = LLMConfig(
        vertex_api_key=KEY,
        perplexity_api_key=KEY,
        base_urls={"vertex": fault_server.url, "perplexity": fault_server.url},
    )
    with pytest.raises(NotFoundError):
        ask(asked, config)
    (seen,) = fault_server.requests
    assert (seen.path, seen.json.get("model")) == (path, sent)


def test_claude_on_vertex_streams_at_its_own_address_with_its_version(fault_server: FaultServer) -> None:
    fault_server.default = dataclasses.replace(ok("Hello there."), family="anthropic_messages")
    config = LLMConfig(vertex_api_key=KEY, base_urls={"vertex": fault_server.url})

    async def main() -> list[str]:
        async with QueryLLM(config) as llm:
            return [text async for text in await llm.query("vertex/claude-opus-5", "Hi", stream=True, max_tokens=9)]

    assert "".join(asyncio.run(main())) == "Hello there."
    (seen,) = fault_server.requests
    assert seen.path == "/publishers/anthropic/models/claude-opus-5:streamRawPredict"
    assert seen.json == {
        "anthropic_version": "vertex-2023-10-16",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }
    assert headers_of(fault_server)["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("name", "url", "path"),
    [
        ("gemini", "/v1beta/openai", "/v1beta/openai/chat/completions"),
        ("gemini", "/v1beta", "/v1beta/models/m:generateContent"),
        ("gemini", "", "/v1beta/models/m:generateContent"),
        ("cohere", "/compatibility/v1", "/compatibility/v1/chat/completions"),
        ("cohere", "/v2", "/v2/chat"),
        ("bedrock", "/openai/v1", "/openai/v1/chat/completions"),
        ("bedrock", "/anthropic/v1", "/anthropic/v1/messages"),
        ("bedrock", "/proxy", "/proxy/model/m/converse"),
        (
            "vertex",
            "/v1/projects/p/locations/l/endpoints/openapi",
            "/v1/projects/p/locations/l/endpoints/openapi/chat/completions",
        ),
    ],
)
def test_the_address_that_is_given_tells_the_family(name: str, url: str, path: str, fault_server: FaultServer) -> None:
    fault_server.default = status(404)
    with pytest.raises(NotFoundError):
        ask(f"{name}/m", LLMConfig(**{f"{name}_api_key": KEY}, base_urls={name: fault_server.url + url}))  # type: ignore[arg-type]
    assert fault_server.requests[0].path == path


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("gemini", "/own/chat/completions"),
        ("gemini", "/own/gemini-9:generateContent"),
        ("cohere", "/own/chat"),
        ("bedrock", "/own/messages"),
        ("bedrock", "/own/converse"),
        ("openai", "/own/responses"),
        ("azure", "/openai/deployments/m/chat/completions?api-version=2024-10-21"),
    ],
)
def test_a_full_endpoint_tells_its_family(
    name: str, url: str, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault_server.default = status(404)
    monkeypatch.setenv(f"{name.upper()}_API_URL", fault_server.url + url.replace("/m/", "/{model}/"))
    with pytest.raises(NotFoundError):
        ask(f"{name}/m", LLMConfig(**{f"{name}_api_key": KEY}))  # type: ignore[arg-type]
    assert fault_server.requests[0].path == url


@pytest.mark.parametrize("name", ["opnai/gpt-4o", "azzure/gpt-4o", "opnai:gpt-4o"])
def test_an_unknown_provider_is_refused_before_any_request(name: str, fault_server: FaultServer) -> None:
    config = LLMConfig(openai_api_key=KEY, base_urls={"openai": fault_server.url})
    with pytest.raises(ModelNotFoundError, match=f"Unsupported model: {name}; there is no provider"):
        ask(name, config)
    assert fault_server.requests == []
