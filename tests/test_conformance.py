"""
One suite over every row of the provider table, against a provider on a loopback socket.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.behaviours import ok, quota_429, redirect, status
from support.fault_server import FaultServer

from llm_master import (
    AuthenticationError,
    BadRequestError,
    ContextWindowError,
    LLMConfig,
    LLMResponse,
    LLMStream,
    MissingKeyError,
    NotFoundError,
    OverloadedError,
    ProviderError,
    QueryLLM,
    QuotaExceededError,
    RateLimitError,
    ResponseError,
    RetryPolicy,
    ServerError,
    ToolCall,
    UnifiedProvider,
    Usage,
)
from llm_master.base_provider import row_of

ROWS = sorted(name for name, row in UnifiedProvider.PROVIDER_CONFIGS.items() if row.get("status", "live") == "live")
KEY = "conf-key-0123456789abcdef"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def config_for(name: str, server: FaultServer) -> LLMConfig:
    return LLMConfig(**{row_of(name).api_key_attr or "": KEY}, base_urls={name: server.url + "/base/v1"})  # type: ignore[arg-type]


def ask(name: str, server: FaultServer, **kwargs: Any) -> Any:
    async def main() -> Any:
        async with QueryLLM(config_for(name, server), retry=RetryPolicy(max_attempts=1)) as llm:
            result = await llm.query(f"{name}/some-model", kwargs.pop("messages", MESSAGES), **kwargs)
            if isinstance(result, LLMStream):
                pieces = [text async for text in result]
                return pieces, result.response
            return result

    return asyncio.run(main())


@pytest.mark.parametrize("name", ROWS)
def test_plain(name: str, fault_server: FaultServer) -> None:
    fault_server.default = ok("Hello there.", usage=Usage(11, 7))
    response = ask(name, fault_server)
    assert isinstance(response, LLMResponse)
    assert (response.content, response.finish_reason) == ("Hello there.", "stop")
    assert (response.usage.input_tokens, response.usage.output_tokens) == (11, 7)
    assert (response.provider, response.model_name) == (row_of(name).name, f"{name}/some-model")
    assert [a.outcome for a in response.attempts] == ["ok"]
    (seen,) = fault_server.requests
    assert seen.method == "POST"
    assert seen.json["model"] == "some-model"
    assert "stream" not in seen.json or seen.json["stream"] is False


@pytest.mark.parametrize("name", ROWS)
def test_streamed(name: str, fault_server: FaultServer) -> None:
    fault_server.default = ok(["Hel", "lo ", "there."], usage=Usage(11, 7))
    pieces, response = ask(name, fault_server, stream=True)
    assert "".join(pieces) == response.content == "Hello there."
    assert (response.usage.input_tokens, response.usage.output_tokens) == (11, 7)
    assert response.finish_reason == "stop"
    assert response.time_to_first_token is not None
    assert response.time_to_first_token <= response.latency
    assert fault_server.requests[0].json["stream"] is True


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", [n for n in ROWS if row_of(n).chat.tools_via == "native"])
def test_tools(name: str, stream: bool, fault_server: FaultServer) -> None:
    fault_server.default = ok(None, tool_calls=(ToolCall("call_1", "get_weather", {"city": "Oslo"}),))
    found = ask(name, fault_server, stream=stream, tools=[TOOL], tool_choice="auto")
    response = found[1] if stream else found
    (call,) = response.tool_calls
    assert (call.name, call.arguments) == ("get_weather", {"city": "Oslo"})
    assert response.finish_reason == "tool_calls"
    assert fault_server.requests[0].json["tools"]

    # The turn and its result go back as they are.
    fault_server.default = ok("Rain.")
    history = [*MESSAGES, response.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    again = ask(name, fault_server, messages=history, tools=[TOOL])
    assert again.content == "Rain."


ERRORS: list[tuple[Any, type[ProviderError]]] = [
    (status(400), BadRequestError),
    (status(401), AuthenticationError),
    (status(403), AuthenticationError),
    (status(404), NotFoundError),
    (status(429), RateLimitError),
    (quota_429(), QuotaExceededError),
    (status(500), ServerError),
    (status(503), ServerError),
    (status(529), OverloadedError),
    (status(400, message="This model's maximum context length is 8192 tokens."), ContextWindowError),
    (status(502, "<html><body>Bad gateway</body></html>", content_type="text/html"), ServerError),
    (status(200, "<html>login</html>", content_type="text/html"), ResponseError),
    (redirect("https://elsewhere.example/v1"), ResponseError),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ROWS)
def test_errors_are_typed_and_say_who_and_what_next(name: str, stream: bool, fault_server: FaultServer) -> None:
    async def main() -> None:
        for behaviour, expected in ERRORS:
            # A client of its own for each: one that was refused leaves the key alone for a while.
            async with QueryLLM(config_for(name, fault_server), retry=RetryPolicy(max_attempts=1)) as llm:
                fault_server.default = behaviour
                with pytest.raises(expected) as caught:
                    await llm.query(f"{name}/some-model", MESSAGES, stream=stream)
                error = caught.value
                assert (error.provider, error.model) == (row_of(name).name, "some-model")
                text = str(error)
                assert "\n" not in text
                assert row_of(name).name in text
                assert "some-model" in text
                assert ";" in text, f"no next step in {text!r}"
                assert KEY not in text
                assert len(error.attempts) == 1

    asyncio.run(main())


@pytest.mark.parametrize("name", ROWS)
def test_the_key_stands_in_its_header_and_the_base_url_is_obeyed(name: str, fault_server: FaultServer) -> None:
    ask(name, fault_server)
    (seen,) = fault_server.requests
    headers = {header.lower(): value for header, value in seen.headers}
    row = row_of(name)
    if row.auth == "bearer":
        assert headers["authorization"] == f"Bearer {KEY}"
    else:
        assert headers[row.auth.lower()] == KEY
        assert "authorization" not in headers
    for header, value in row.headers.items():
        assert headers[header.lower()] == value
    assert seen.path.startswith("/base/v1/")
    assert KEY not in seen.body.decode()
    assert KEY not in seen.path


@pytest.mark.parametrize("name", ROWS)
def test_a_full_endpoint_is_used_as_it_is(
    name: str, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    suffix = "/messages" if row_of(name).families[0] == "anthropic_messages" else "/chat/completions"
    monkeypatch.setenv(f"{name.upper()}_API_URL", f"{fault_server.url}/my/own{suffix}")
    llm = QueryLLM(LLMConfig(**{row_of(name).api_key_attr or "": KEY}))  # type: ignore[arg-type]
    assert llm.query_sync(f"{name}/some-model", MESSAGES).content
    llm.close()
    assert fault_server.requests[0].path == f"/my/own{suffix}"


@pytest.mark.parametrize("name", [n for n in ROWS if not row_of(n).key_optional])
def test_without_a_key_nothing_is_sent(name: str, fault_server: FaultServer) -> None:
    llm = QueryLLM(LLMConfig(base_urls={name: fault_server.url}))
    with pytest.raises(MissingKeyError, match=row_of(name).key_variables[0]):
        llm.query_sync(f"{name}/some-model", MESSAGES)
    assert fault_server.requests == []


@pytest.mark.parametrize("alias", sorted(a for n in ROWS for a in row_of(n).aliases))
def test_every_alias_reaches_its_row(alias: str, fault_server: FaultServer) -> None:
    name = row_of(alias).name
    llm = QueryLLM(config_for(name, fault_server))
    response = llm.query_sync(f"{alias.upper()}:Some-Model", MESSAGES)
    llm.close()
    assert response.provider == name
    assert fault_server.requests[0].json["model"] == "Some-Model"
