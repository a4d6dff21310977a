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
    ConfigurationError,
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

LIVE = sorted(name for name in UnifiedProvider.PROVIDER_CONFIGS if row_of(name).status == "live")
RETIRED = sorted(UnifiedProvider.PROVIDER_CONFIGS.keys() - set(LIVE))
ROWS = [name for name in LIVE if row_of(name).chats]
SILENT = [name for name in LIVE if not row_of(name).chats]
#: Every family of every row that is not its default one.
FURTHER = [(name, family) for name in ROWS for family in row_of(name).families[1:]]
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


def sent_model(name: str, model: str = "some-model") -> str:
    return row_of(name).model_prefix + model


def check_key(seen: Any, auth: str) -> None:
    """The key stands in the one header that a row's ``auth`` means, and nowhere else."""
    header, _, scheme = ("authorization: Bearer" if auth == "bearer" else auth).partition(": ")
    headers = {found.lower(): value for found, value in seen.headers}
    assert headers[header.lower()] == (f"{scheme} {KEY}" if scheme else KEY)
    assert [found for found, value in headers.items() if KEY in value] == [header.lower()]
    assert KEY not in seen.body.decode()
    assert KEY not in seen.path


def ask(name: str, server: FaultServer, **kwargs: Any) -> Any:
    async def main() -> Any:
        async with QueryLLM(config_for(name, server), retry=RetryPolicy(max_attempts=1)) as llm:
            model = kwargs.pop("model", f"{name}/some-model")
            result = await llm.query(model, kwargs.pop("messages", MESSAGES), **kwargs)
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
    assert seen.json["model"] == sent_model(name)
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
                assert (error.provider, error.model) == (row_of(name).name, sent_model(name))
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
    row = row_of(name)
    check_key(seen, row.family_auth.get(row.families[0], row.auth))
    headers = {header.lower(): value for header, value in seen.headers}
    for header, value in row.headers.items():
        assert headers[header.lower()] == value
    assert seen.path.startswith("/base/v1/")


# What the fault server does not speak by itself, and how the address of each family ends.
SPOKEN: dict[str, Any] = {
    "anthropic_messages": ok("Hello there.", usage=Usage(11, 7)),
    "openai_chat": ok("Hello there.", usage=Usage(11, 7)),
    "openai_responses": status(
        200,
        {
            "id": "resp_1",
            "object": "response",
            "status": "completed",
            "model": "some-model",
            "output": [
                {
                    "id": "msg_1",
                    "type": "message",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "Hello there.", "annotations": []}],
                }
            ],
            "usage": {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18},
        },
    ),
    "gemini": status(
        200,
        {
            "candidates": [
                {"content": {"role": "model", "parts": [{"text": "Hello there."}]}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18},
            "modelVersion": "some-model",
        },
    ),
    "cohere": status(
        200,
        {
            "id": "c1",
            "finish_reason": "COMPLETE",
            "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello there."}]},
            "usage": {"billed_units": {"input_tokens": 11, "output_tokens": 7}},
        },
    ),
    "bedrock": status(
        200,
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "Hello there."}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18},
            "metrics": {"latencyMs": 5},
        },
    ),
}
ENDS = {
    "cohere": "/v2/chat",
    "bedrock": "/model/some-model/converse",
    "anthropic_messages": "/messages",
    "openai_chat": "/chat/completions",
    "openai_responses": "/responses",
    "gemini": "some-model:generateContent",
}


@pytest.mark.parametrize(("name", "family"), FURTHER)
def test_every_further_family_answers_beside_the_base_url(name: str, family: str, fault_server: FaultServer) -> None:
    fault_server.default = SPOKEN[family]
    response = ask(name, fault_server, api=family)
    assert (response.content, response.usage.input_tokens, response.usage.output_tokens) == ("Hello there.", 11, 7)
    assert response.finish_reason == "stop"
    (seen,) = fault_server.requests
    row = row_of(name)
    assert seen.path.startswith("/base/")
    assert seen.path.endswith(ENDS[family])
    check_key(seen, row.family_auth.get(family, row.auth))


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
    assert fault_server.requests[0].json["model"] == sent_model(name, "Some-Model")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", SILENT)
def test_a_chat_with_a_service_that_has_none_is_refused_before_any_request(
    name: str, stream: bool, fault_server: FaultServer
) -> None:
    services = " and ".join(row_of(name).serves)
    with pytest.raises(ConfigurationError, match=rf"^{name} serves {services} and no chat, so '{name}/some-model'"):
        ask(name, fault_server, stream=stream)
    assert fault_server.requests == []


@pytest.mark.parametrize("name", RETIRED)
def test_a_retired_service_says_since_when_and_what_to_use(name: str, fault_server: FaultServer) -> None:
    row = row_of(name)
    for spelling in (name, *row.aliases):
        with pytest.raises(ConfigurationError) as caught:
            ask(name, fault_server, model=f"{spelling}/some-model")
        assert str(caught.value) == f"{name} is {row.status} and cannot serve 'some-model'; use {row.successor} instead"
    assert fault_server.requests == []
