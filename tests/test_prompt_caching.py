"""
``use_prompt_caching``: marks stand where a family needs them, in copies, and nothing is sent that is not wanted.
"""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.behaviours import ok
from support.fault_server import FaultServer

from llm_master import ConfigurationError, InvalidRequestError, LLMConfig, LLMResponse, QueryLLM, add_provider
from llm_master.base_provider import UnifiedProvider
from llm_master.classes import Request
from llm_master.prompt_caching import MOST_MARKS, ask_for_caching

MARK = {"type": "ephemeral"}
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "You know the law."},
    {"role": "user", "content": "First?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Second?"},
]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}

pytestmark = pytest.mark.usefixtures("provider_tables")


def marks(value: Any) -> int:
    if isinstance(value, dict):
        own = sum(1 for name in ("cache_control", "cachePoint", "prompt_cache_breakpoint") if value.get(name))
        return own + sum(marks(each) for each in value.values() if each is not MARK)
    return sum(marks(each) for each in value) if isinstance(value, list) else 0


def body_of(model: str, messages: Any = None, **params: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The body of a request to a model, and what it lacks; a key stands in for every provider's."""
    name = QueryLLM(LLMConfig()).route(model)
    provider = UnifiedProvider(name.provider or "", _keyed(name.provider or ""))
    target = provider.target(name.model)
    request = Request(target.provider, target.model, messages or TALK, {"use_prompt_caching": True, **params})
    return json.loads(target.encode(request)), request.dropped


def _keyed(provider: str) -> LLMConfig:
    config = LLMConfig(base_urls={provider: "http://127.0.0.1:9/v1"})
    setattr(config, f"{provider}_api_key", "key-of-a-test")
    return config


def test_messages_api_marks_system_tool_and_two_turns(fault_server: FaultServer) -> None:
    fault_server.default = ok("noted")
    given, tools = copy.deepcopy(TALK), [copy.deepcopy(TOOL), {**copy.deepcopy(TOOL), "function": {"name": "b"}}]
    before = copy.deepcopy((given, tools))
    config = LLMConfig(anthropic_api_key="k-anthropic", base_urls={"anthropic": fault_server.url + "/v1"})

    async def main() -> LLMResponse:
        async with QueryLLM(config) as llm:
            return await llm.query("claude-sonnet-5-5", given, tools=tools, use_prompt_caching=True)

    response = asyncio.run(main())
    (seen,) = fault_server.requests
    assert seen.json["system"] == [{"type": "text", "text": "You know the law.", "cache_control": MARK}]
    assert [tool.get("cache_control") for tool in seen.json["tools"]] == [None, MARK]
    assert [message["content"] for message in seen.json["messages"]] == [
        [{"type": "text", "text": "First?", "cache_control": MARK}],
        "Yes.",
        [{"type": "text", "text": "Second?", "cache_control": MARK}],
    ]
    assert "use_prompt_caching" not in seen.json
    assert (given, tools) == before
    assert response.dropped == ()


def test_the_vendors_client_takes_the_same_marks(fault_server: FaultServer) -> None:
    body, _ = body_of("claude-sonnet-5-5", tools=[TOOL], max_tokens=100)
    with anthropic.Anthropic(api_key="k", base_url=fault_server.url, max_retries=0) as client:
        client.messages.create(**body)
    assert fault_server.requests[0].json == body


def test_a_stream_is_marked_too(fault_server: FaultServer) -> None:
    config = LLMConfig(anthropic_api_key="k-anthropic", base_urls={"anthropic": fault_server.url + "/v1"})

    async def main() -> str:
        async with QueryLLM(config) as llm:
            stream = await llm.query("claude-sonnet-5-5", TALK, stream=True, use_prompt_caching=True)
            return "".join([text async for text in stream])

    assert asyncio.run(main())
    assert marks(fault_server.requests[0].json) == 3


def test_a_tools_result_is_a_turn() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    talk = [*TALK, {"role": "assistant", "content": None, "tool_calls": [call]}]
    talk.append({"role": "tool", "tool_call_id": "c1", "content": "found"})
    body, _ = body_of("claude-sonnet-5-5", talk, tools=[TOOL])
    assert body["messages"][-1]["content"][-1]["cache_control"] == MARK
    assert marks(body) == MOST_MARKS


def test_the_callers_own_marks_are_kept_and_counted() -> None:
    own = {"type": "ephemeral", "ttl": "5m"}
    talk = [{"role": "user", "content": [{"type": "text", "text": str(n), "cache_control": own}]} for n in range(3)]
    body, _ = body_of("claude-sonnet-5-5", [TALK[0], *talk, *TALK[1:]], tools=[TOOL])
    assert marks(body) == MOST_MARKS
    assert body["system"][0]["cache_control"] == MARK
    assert "cache_control" not in body["tools"][0]
    kept = [part["cache_control"] for message in body["messages"] for part in message["content"] if marks(part)]
    assert kept == [own, own, own]


def test_a_mark_before_an_hours_mark_is_for_an_hour() -> None:
    hour = {"type": "ephemeral", "ttl": "1h"}
    talk = [TALK[0], {**TALK[1], "cache_control": hour}, *TALK[2:]]
    body, _ = body_of("claude-sonnet-5-5", talk, tools=[TOOL])
    assert body["system"][0]["cache_control"] == body["tools"][0]["cache_control"] == hour
    assert body["messages"][-1]["content"][0]["cache_control"] == MARK


def test_converse_gets_cache_points_where_the_model_takes_them() -> None:
    body, dropped = body_of("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", tools=[TOOL])
    point = {"cachePoint": {"type": "default"}}
    assert body["system"] == [{"text": "You know the law."}, point]
    assert body["toolConfig"]["tools"][-1] == point
    assert [message["content"][-1] for message in body["messages"]] == [point, {"text": "Yes."}, point]
    assert dropped == ()
    body, dropped = body_of("bedrock/us.meta.llama4-scout-17b-instruct-v1:0")
    assert marks(body) == 0
    assert dropped == ("use_prompt_caching",)


@pytest.mark.parametrize("model", ["openrouter/anthropic/claude-sonnet-5.5", "openrouter/qwen/qwen3-max"])
def test_a_router_passes_marks_of_parts(model: str) -> None:
    body, _ = body_of(model, tools=[TOOL])
    assert body["messages"][0] == {
        "role": "system",
        "content": [{"type": "text", "text": "You know the law.", "cache_control": MARK}],
    }
    assert [marks(message) for message in body["messages"]] == [1, 1, 0, 1]
    assert body["tools"] == [TOOL]


def test_a_body_field_or_a_key_asks_where_the_row_says_so() -> None:
    body, _ = body_of("vercel/anthropic/claude-sonnet-5.5", providerOptions={"gateway": {"order": ["bedrock"]}})
    assert body["providerOptions"] == {"gateway": {"order": ["bedrock"], "caching": "auto"}}
    one, _ = body_of("mistral-large-latest")
    two, _ = body_of("mistral-large-latest", [TALK[0], {"role": "user", "content": "other"}])
    three, _ = body_of("mistral-large-latest", [{"role": "system", "content": "x"}, TALK[1]])
    own, _ = body_of("mistral-large-latest", prompt_cache_key="mine")
    assert one["prompt_cache_key"] == two["prompt_cache_key"] != three["prompt_cache_key"]
    assert own["prompt_cache_key"] == "mine"


@pytest.mark.parametrize(
    "model", ["gpt-4o", "deepseek/deepseek-chat", "gemini/gemini-2.5-flash", "xai/grok-4.3", "openrouter/openai/gpt-4o"]
)
def test_where_caching_comes_by_itself_nothing_is_sent(model: str) -> None:
    with_it, dropped = body_of(model)
    without, _ = body_of(model, use_prompt_caching=False)
    assert with_it == without
    assert dropped == ()


def test_a_provider_without_a_cache_says_so(fault_server: FaultServer) -> None:
    config = LLMConfig(sambanova_api_key="k-sambanova", base_urls={"sambanova": fault_server.url})

    async def main() -> tuple[LLMResponse, LLMResponse]:
        async with QueryLLM(config) as llm:
            plain = await llm.query("sambanova/m", TALK, use_prompt_caching=True)
            stream = await llm.query("sambanova/m", TALK, stream=True, use_prompt_caching=True)
            async for _ in stream:
                pass
            return plain, stream.response

    for response in asyncio.run(main()):
        assert response.dropped == ("use_prompt_caching",)
    assert fault_server.requests[0].json == {"model": "m", "messages": TALK}


@pytest.mark.parametrize("name", ["ANTHROPIC", "CLAUDE"])
def test_the_environment_says_it_for_all_calls(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{name}_USE_PROMPT_CACHING", "Yes")
    provider = UnifiedProvider("anthropic", _keyed("anthropic"))
    target = provider.target("claude-sonnet-5-5")
    for params, count in (({}, 3), ({"use_prompt_caching": False}, 0)):
        request = Request(target.provider, target.model, TALK, params)
        assert marks(json.loads(target.encode(request))) == count


def test_a_word_that_is_neither_yes_nor_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_USE_PROMPT_CACHING", "maybe")
    llm = QueryLLM(LLMConfig(anthropic_api_key="k-anthropic"))
    with pytest.raises(ConfigurationError, match="ANTHROPIC_USE_PROMPT_CACHING is 'maybe'; write true or false"):
        llm.query_sync("claude-sonnet-5-5", "x")
    with pytest.raises(InvalidRequestError, match="use_prompt_caching='maybe' is not accepted"):
        llm.query_sync("claude-sonnet-5-5", "x", use_prompt_caching="maybe")


def test_a_settings_file_beats_the_environment(tmp_path: Any, fault_server: FaultServer, monkeypatch: Any) -> None:
    monkeypatch.setenv("ANTHROPIC_USE_PROMPT_CACHING", "0")
    path = tmp_path / "llm_master.toml"
    path.write_text(f'[providers.claude]\nbase_url = "{fault_server.url}/v1"\nuse_prompt_caching = true\n')
    llm = QueryLLM.from_file(path, LLMConfig(anthropic_api_key="k-anthropic"))
    llm.query_sync("claude-sonnet-5-5", TALK)
    assert marks(fault_server.requests[0].json) == 3


def test_a_registered_provider_is_marked_when_told(fault_server: FaultServer) -> None:
    add_provider("MARKED_HERE", api_url=fault_server.url + "/chat/completions", api_key="mk-1", use_prompt_caching=True)
    QueryLLM(LLMConfig()).query_sync("marked_here/m", TALK)
    assert marks(fault_server.requests[0].json) == 3


_turns = st.lists(
    st.tuples(
        st.sampled_from(["system", "user", "assistant", "tool"]),
        st.sampled_from(
            ["", "words", [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]]
        ),
        st.sampled_from([None, MARK, {"type": "ephemeral", "ttl": "1h"}]),
    ),
    max_size=8,
)


@given(_turns, st.integers(0, 3), st.sampled_from([None, (True, True), (True, False)]))
def test_never_more_than_four_and_never_in_the_callers_dicts(drawn: Any, tools: int, places: Any) -> None:
    from llm_master.rows import CachingRule

    talk = [
        {"role": role, "content": content, **({"cache_control": own} if own else {})} for role, content, own in drawn
    ]
    params = {"tools": [copy.deepcopy(TOOL) for _ in range(tools)]}
    before = copy.deepcopy((talk, params))
    request = Request("p", "m", talk, params)
    ask_for_caching(request, None if places else CachingRule(marks=("",)), places)
    assert (talk, params) == before
    own = marks(talk)
    found = marks(request.messages) + marks(request.params["tools"])
    assert own <= found <= max(MOST_MARKS, own)
    hours = [at for at, turn in enumerate(talk) if "1h" in str(turn) and turn["role"] != "system"]
    added = [at for at, turn in enumerate(request.messages) if turn is not talk[at] and turn["role"] != "system"]
    assert all("1h" in str(request.messages[at]) for at in added if hours and at < hours[-1])
