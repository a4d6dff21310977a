"""
The addresses of LLMConfig: which one wins, and what is refused, with its corrected form.
"""

from __future__ import annotations

from typing import Any

import pytest

from llm_master.config import LLMConfig
from llm_master.errors import ConfigurationError


def test_addresses_are_found_without_regard_to_case_and_a_full_endpoint_first() -> None:
    config = LLMConfig(
        base_urls={"OpenAI": "https://a/v1/", "vllm": "http://b"}, api_urls={"openAI": "https://c/chat?x=1"}
    )
    assert config.url_for("openai") == ("https://c/chat?x=1", True)
    assert config.url_for("VLLM") == ("http://b", False)
    assert config.url_for("groq") is None
    assert config.url_for("groq", "Vllm") == ("http://b", False)


def test_a_field_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_URL", "http://environment/x")
    assert LLMConfig(base_urls={"vllm": "http://field"}).url_for("vllm") == ("http://field", False)
    assert LLMConfig().url_for("vllm") == ("http://environment/x", True)


def test_the_variable_of_a_strange_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVER_2_BASE_URL", "http://h")
    assert LLMConfig().url_for("my-server.2") == ("http://h", False)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:8000/v1", "write http://localhost:8000/v1"),
        ("127.0.0.1/v1", "write http://127.0.0.1/v1"),
        ("api.x.ai/v1", "write https://api.x.ai/v1"),
        ("//api.x.ai/v1", "write https://api.x.ai/v1"),
        ("ftp://api.x.ai/v1", "write https://api.x.ai/v1"),
        ("htps://api.x.ai/v1?key=abcdef", "write https://api.x.ai/v1"),
        ("https:///v1", "no valid host"),
        ("http://", "no valid host"),
        ("https://host:port/v1", "no valid host"),
        ("https://host:70000/v1", "no valid host"),
        ("https://a:b:c/v1", "no valid host"),
        ("https://me:pa55w0rd@host/v1", "write https://host/v1 and give the key as LLMConfig\\(x_ai_api_key"),
        ("http://pa55w0rd@host:81/v1", "write http://host:81/v1"),
        ("me:pa55w0rd@host/v1", "write https://host/v1"),
        ("https://me:pa55w0rd/x@host/v1", "no valid host"),
        ("https://host/v1?api-version=1", "api_urls"),
        ("https://host/v1#x", "api_urls"),
        ("https://ho st/v1", "space"),
        ("https://host\\@evil/v1", "backslash"),
        ("https://host/\r\nX: 1", "control character"),
        ("", "is empty"),
        ("   ", "is empty|space"),
        (None, "must be a string, not NoneType"),
        (5, "must be a string, not int"),
    ],
)
def test_an_address_that_is_none_is_refused_and_corrected(url: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        LLMConfig(base_urls={"x-ai": url})
    assert "the address of x-ai" in str(caught.value)
    assert "pa55w0rd" not in str(caught.value)
    assert "abcdef" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://h", "https://h:8443/v1", "HTTPS://H/v1", "http://[::1]:8080/v1", "https://h/accounts/@cf/x"]
)
def test_an_address_that_is_right_stays(url: str) -> None:
    assert LLMConfig(base_urls={"x": url}).url_for("x") == (url, False)
    assert LLMConfig(api_urls={"x": f"{url}/?a=b"}).url_for("x") == (f"{url}/?a=b", True)


def test_an_address_put_in_later_is_checked_when_it_is_used() -> None:
    config = LLMConfig()
    config.base_urls["x"] = "https://me:pa55w0rd@host/v1"
    with pytest.raises(ConfigurationError, match="user name or password") as caught:
        config.url_for("x")
    assert "pa55w0rd" not in str(caught.value)
    assert "pa55w0rd" not in repr(config)


@pytest.mark.parametrize("urls", ["http://h", ["http://h"], {1: "http://h"}])
def test_addresses_must_be_a_dict(urls: Any) -> None:
    with pytest.raises(ConfigurationError, match="base_urls"):
        LLMConfig(base_urls=urls)


def test_the_callers_dict_of_addresses_is_not_shared() -> None:
    urls = {"x": "http://h"}
    config = LLMConfig(base_urls=urls)
    config.base_urls["y"] = "http://i"
    assert urls == {"x": "http://h"}
