"""
One suite over every row of the provider table in every family of its own, against a provider on a loopback socket.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import pathlib
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.behaviours import ok, quota_429, redirect, status
from support.bodies import ALL_FAMILIES, BEDROCK, CHAT, COHERE, GEMINI, MESSAGES, RESPONSES, Family
from support.bodies_families import limited
from support.conformance import (
    ENDS,
    KEY,
    LIVE,
    MODEL,
    PAIRS,
    ROWS,
    STREAMED,
    TOOL,
    api_of,
    asked_model,
    check_key,
    client,
    config_for,
    end_of,
    finished,
    results_in,
    sent_model,
    streams,
)
from support.exchange import Behaviour, Exchange
from support.fault_server import FaultServer

from llm_master import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ContextWindowError,
    LLMConfig,
    MissingKeyError,
    NotFoundError,
    OverloadedError,
    ProviderError,
    QueryLLM,
    QuotaExceededError,
    RateLimitError,
    ResponseError,
    ServerError,
    ToolCall,
    UnifiedProvider,
    Usage,
)
from llm_master.base_provider import row_of

RETIRED = sorted(UnifiedProvider.PROVIDER_CONFIGS.keys() - set(LIVE))
SILENT = [name for name in LIVE if not row_of(name).chats and "images" not in row_of(name).serves]
HISTORY = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}

#: The tool whose arguments are the answer, where a family has no other way to a shape.
FORCED = "structured_answer"

every_pair = pytest.mark.parametrize(("name", "family"), PAIRS)


async def whole(llm: QueryLLM, model: str, **options: Any) -> Any:
    """The whole response to the usual question."""
    return await finished(await llm.query(model, HISTORY, **options))


def asking(
    name: str, server: FaultServer, talk: Callable[[QueryLLM], Coroutine[Any, Any, None]], family: Family | None = None
) -> None:
    """A talk with one client; afterwards every request was of the family."""

    async def main() -> None:
        async with client(name, server) as llm:
            await talk(llm)

    asyncio.run(main())
    if family is not None:
        assert {Exchange.family_of(seen.path) for seen in server.requests} == {family}


@every_pair
def test_plain_and_streamed(name: str, family: Family, fault_server: FaultServer) -> None:
    fault_server.default = ok(["Hel", "lo ", "there."], usage=Usage(11, 7))

    async def talk(llm: QueryLLM) -> None:
        for stream in (False, True):
            answer = await llm.query(f"{name}/{MODEL}", HISTORY, stream=stream, **api_of(name, family))
            response = await finished(answer)
            assert (response.content, response.finish_reason) == ("Hello there.", "stop")
            assert (response.usage.input_tokens, response.usage.output_tokens) == (11, 7)
            assert (response.provider, response.model_name) == (row_of(name).name, f"{name}/{MODEL}")
            assert [attempt.outcome for attempt in response.attempts] == ["ok"]
            assert not stream or response.time_to_first_token <= response.latency

    asking(name, fault_server, talk, family)
    plain, streamed = fault_server.requests
    assert plain.method == streamed.method == "POST"
    assert asked_model(name, family, plain) == asked_model(name, family, streamed) == sent_model(name, family)
    assert not streams(name, family, plain)
    assert streams(name, family, streamed)
    assert "Be brief." in plain.body.decode()


@pytest.mark.parametrize(("name", "family"), [pair for pair in PAIRS if row_of(pair[0]).chat.tools_via == "native"])
def test_tools(name: str, family: Family, fault_server: FaultServer) -> None:
    """A call, plain and streamed; then the turn and its result go back as they are."""

    async def talk(llm: QueryLLM) -> None:
        for stream in (False, True):
            fault_server.default = ok(None, tool_calls=(ToolCall("call_1", "get_weather", {"city": "Oslo"}),))
            options: dict[str, Any] = {"tools": [TOOL], **api_of(name, family)}
            answer = await llm.query(f"{name}/{MODEL}", HISTORY, stream=stream, tool_choice="auto", **options)
            response = await finished(answer)
            (call,) = response.tool_calls
            assert (call.name, call.arguments) == ("get_weather", {"city": "Oslo"})
            assert response.finish_reason == "tool_calls"
            assert "get_weather" in fault_server.requests[-1].body.decode()
            fault_server.default = ok("Rain.")
            history = [*HISTORY, response.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
            assert (await finished(await llm.query(f"{name}/{MODEL}", history, **options))).content == "Rain."
            check_ids(name, family, fault_server)

    asking(name, fault_server, talk, family)
    assert len(fault_server.requests) == 4


def check_ids(name: str, family: Family, server: FaultServer) -> None:
    """One call and one result in the last request, of one id that the family takes."""
    ((of_call, of_result),) = results_in(family, server.requests[-1].json)
    assert of_call == of_result
    if family != GEMINI:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", of_call)
    if family == CHAT and row_of(name).chat.tool_ids == "alnum9":
        assert re.fullmatch(r"[a-zA-Z0-9]{9}", of_call)


async def slow_down(x: Exchange) -> None:
    """A 429 that tells its wait in the family's own way."""
    body, headers = limited(x.family or CHAT, 7)
    await status(429, body, headers)(x)


ERRORS: list[tuple[Behaviour, type[ProviderError]]] = [
    (status(400), BadRequestError),
    (status(401), AuthenticationError),
    (status(403), AuthenticationError),
    (status(404), NotFoundError),
    (status(429), RateLimitError),
    (slow_down, RateLimitError),
    (quota_429(), QuotaExceededError),
    (status(500), ServerError),
    (status(503), ServerError),
    (status(529), OverloadedError),
    (status(400, message="This model's maximum context length is 8192 tokens."), ContextWindowError),
    (status(502, "<html><body>Bad gateway</body></html>", content_type="text/html"), ServerError),
    (status(200, "<html>login</html>", content_type="text/html"), ResponseError),
    (redirect("https://elsewhere.example/v1"), ResponseError),
]
#: What only one family's vendor sends.
OWN: dict[Family, list[tuple[Behaviour, type[ProviderError]]]] = {
    GEMINI: [
        (status(400, message="API key not valid.", error_code="API_KEY_INVALID"), AuthenticationError),
        (
            status(400, message="The input token count (9) exceeds the maximum number of tokens allowed (8)."),
            ContextWindowError,
        ),
    ],
    COHERE: [(status(498), AuthenticationError), (status(422), BadRequestError), (status(504), ServerError)],
    BEDROCK: [
        (status(424), ServerError),
        (status(429, {"message": "Not ready."}, [("x-amzn-errortype", "ModelNotReadyException")]), OverloadedError),
        (status(400, message="Input is too long for requested model."), ContextWindowError),
    ],
}


@every_pair
def test_errors_are_typed_and_say_who_and_what_next(name: str, family: Family, fault_server: FaultServer) -> None:
    async def main() -> None:
        for behaviour, expected in (*ERRORS, *OWN.get(family, ())):
            for stream in (False, True):
                # A client of its own for each: one that was refused leaves the key alone for a while.
                async with client(name, fault_server) as llm:
                    fault_server.default = behaviour
                    with pytest.raises(expected) as caught:
                        await whole(llm, f"{name}/{MODEL}", stream=stream, **api_of(name, family))
                    check_error(caught.value, name, family)
                    assert behaviour is not slow_down or 5 <= (caught.value.retry_after or 0) <= 7

    asyncio.run(main())


def check_error(error: ProviderError, name: str, family: Family) -> None:
    assert (error.provider, error.model) == (row_of(name).name, sent_model(name, family))
    text = str(error)
    assert "\n" not in text
    assert row_of(name).name in text
    assert MODEL in text
    assert ";" in text, f"no next step in {text!r}"
    assert KEY not in text
    assert len(error.attempts) == 1


@every_pair
def test_the_key_stands_in_its_header_and_the_base_url_is_obeyed(
    name: str, family: Family, fault_server: FaultServer
) -> None:
    async def talk(llm: QueryLLM) -> None:
        for stream in (False, True):
            await whole(llm, f"{name}/{MODEL}", stream=stream, **api_of(name, family))

    asking(name, fault_server, talk, family)
    for seen in fault_server.requests:
        check_key(name, family, seen)
        assert seen.path.startswith("/base/"), "a further family is looked for beside the user's base URL"
    path = fault_server.requests[0].path
    assert path.endswith(end_of(name, family))
    assert api_of(name, family) or path.startswith("/base/v1/")


@every_pair
def test_a_full_endpoint_is_used_as_it_is_and_tells_its_family(
    name: str, family: Family, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        config = LLMConfig(**{row_of(name).api_key_attr or "": KEY})  # type: ignore[arg-type]
        async with QueryLLM(config) as llm:
            for stream in (False, True):
                assert (await whole(llm, f"{name}/{MODEL}", stream=stream)).content

    # A row may have an end of its own, and take the family's usual one from whoever stands before it.
    for end in {ENDS[family], end_of(name, family)}:
        monkeypatch.setenv(f"{name.upper()}_API_URL", f"{fault_server.url}/my/own{end}")
        asyncio.run(main())
        plain, streamed = (seen.path for seen in fault_server.requests[-2:])
        assert plain == f"/my/own{end}"
        assert streamed == f"/my/own{STREAMED.get(end, end)}"


@every_pair
def test_reasoning_is_told_apart_and_goes_back(name: str, family: Family, fault_server: FaultServer) -> None:
    fault_server.default = ok("Four.", reasoning="Two and two.", usage=Usage(11, 9, reasoning_tokens=4))

    async def talk(llm: QueryLLM) -> None:
        for stream in (False, True):
            options = {"stream": stream, **api_of(name, family)}
            response = await finished(await llm.query(f"{name}/{MODEL}", HISTORY, **options))
            assert (response.content, response.reasoning) == ("Four.", "Two and two.")
            assert response.usage.output_tokens == 9
            history = [*HISTORY, response.message, {"role": "user", "content": "And three?"}]
            again = await finished(await llm.query(f"{name}/{MODEL}", history, **options))
            assert again.content == "Four."
            assert "Four." in fault_server.requests[-1].body.decode()

    asking(name, fault_server, talk, family)


@every_pair
def test_an_answer_in_the_shape_of_a_schema(name: str, family: Family, fault_server: FaultServer) -> None:
    wanted = {"city": "Oslo", "days": 3}
    form = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA, "strict": True}}

    async def shaped(x: Exchange) -> None:
        """As a tool's arguments where a tool stands for the answer, else as the text."""
        call = ToolCall("call_1", FORCED, wanted)
        await (ok(None, tool_calls=(call,)) if FORCED in x.seen.body.decode() else ok(json.dumps(wanted)))(x)

    fault_server.default = shaped

    async def talk(llm: QueryLLM) -> None:
        for stream in (False, True):
            options = {"stream": stream, **api_of(name, family)}
            response = await finished(await llm.query(f"{name}/{MODEL}", HISTORY, response_format=form, **options))
            assert response.parsed == wanted
            assert json.loads(response.content) == wanted
            assert response.tool_calls == []
            sent = fault_server.requests[-1].body.decode()
            assert "days" in sent, "the schema went out"
            # An unknown model of these two is not known to take a schema, so it is made to call a tool.
            assert (FORCED in sent) == (family in (MESSAGES, BEDROCK))

    asking(name, fault_server, talk, family)


# -- one history through all families ----------------------------------------------------------------------------------

#: A row that serves each family.
SERVES: dict[Family, str] = {
    CHAT: "openai",
    MESSAGES: "anthropic",
    RESPONSES: "openai",
    GEMINI: "gemini",
    COHERE: "cohere",
    BEDROCK: "bedrock",
}


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(ALL_FAMILIES, 2)))
def test_a_turn_of_one_family_goes_to_another(first: Family, second: Family, fault_server: FaultServer) -> None:
    """Text, reasoning and a call of one family in the history of another; what only the first can read stays behind."""
    call = ToolCall("call_1", "get_weather", {"city": "Oslo"})
    names = {SERVES[first], SERVES[second]}
    keys = {row_of(name).api_key_attr or "": KEY for name in names}
    config = LLMConfig(**keys, base_urls={name: f"{fault_server.url}/{name}" for name in names})  # type: ignore[arg-type]

    async def main() -> None:
        async with QueryLLM(config) as llm:
            for stream in (False, True):
                fault_server.default = ok("I look.", reasoning="Where is it?", tool_calls=(call,))
                options: dict[str, Any] = {"tools": [TOOL], "stream": stream}
                answer = await llm.query(f"{SERVES[first]}/{MODEL}", HISTORY, api=first, **options)
                response = await finished(answer)
                (found,) = response.tool_calls
                result = {"role": "tool", "tool_call_id": found.id, "content": "rain"}
                fault_server.default = ok("Rain.")
                history = [*HISTORY, response.message, result]
                answer = await llm.query(f"{SERVES[second]}/{MODEL}", history, api=second, **options)
                assert (await finished(answer)).content == "Rain."

    asyncio.run(main())
    for number in (1, 3):
        seen = fault_server.requests[number]
        assert Exchange.family_of(seen.path) == second
        ((of_call, of_result),) = results_in(second, seen.json)
        assert of_call == of_result
        text = seen.body.decode()
        assert "I look." in text
        assert "rain" in text
        assert "c2lnbmF0dXJl" not in text, "a signature is of no use to another family"
        assert "ZW5jcnlwdGVk" not in text, "nor are encrypted thoughts"


# -- names and keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in ROWS if not row_of(n).key_optional])
def test_without_a_key_nothing_is_sent(
    name: str, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    # Nor are there credentials where the clouds' own programs look for some.
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "CLOUDSDK_CONFIG", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    for variable in ("AWS_EC2_METADATA_DISABLED", "NO_GCE_CHECK"):
        monkeypatch.setenv(variable, "true")
    for variable in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    llm = QueryLLM(LLMConfig(base_urls={name: fault_server.url}))
    with pytest.raises(MissingKeyError, match=row_of(name).key_variables[0]) as caught:
        llm.query_sync(f"{name}/{MODEL}", HISTORY)
    llm.close()
    text = str(caught.value)
    assert name in text
    assert MODEL in text
    assert "\n" not in text
    assert fault_server.requests == []


@pytest.mark.parametrize("alias", sorted(a for n in ROWS for a in row_of(n).aliases))
def test_every_alias_reaches_its_row(alias: str, fault_server: FaultServer) -> None:
    name = row_of(alias).name
    family: Any = row_of(name).families[0]
    llm = QueryLLM(config_for(name, fault_server))
    response = llm.query_sync(f"{alias.upper()}:Some-Model", HISTORY)
    llm.close()
    assert response.provider == name
    assert asked_model(name, family, fault_server.requests[0]) == sent_model(name, family, "Some-Model")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", SILENT)
def test_a_chat_with_a_service_that_has_none_is_refused_before_any_request(
    name: str, stream: bool, fault_server: FaultServer
) -> None:
    services = " and ".join(row_of(name).serves)
    words = rf"^{name} serves {services} and no chat, so '{name}/{MODEL}'"

    async def talk(llm: QueryLLM) -> None:
        with pytest.raises(ConfigurationError, match=words):
            await finished(await llm.query(f"{name}/{MODEL}", HISTORY, stream=stream))

    asking(name, fault_server, talk)
    assert fault_server.requests == []


@pytest.mark.parametrize("name", RETIRED)
def test_a_retired_service_says_since_when_and_what_to_use(name: str, fault_server: FaultServer) -> None:
    row = row_of(name)

    async def talk(llm: QueryLLM) -> None:
        for spelling in (name, *row.aliases):
            with pytest.raises(ConfigurationError) as caught:
                await llm.query(f"{spelling}/{MODEL}", HISTORY)
            assert (
                str(caught.value) == f"{name} is {row.status} and cannot serve '{MODEL}'; use {row.successor} instead"
            )

    asking(name, fault_server, talk)
    assert fault_server.requests == []
