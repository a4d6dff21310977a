"""
Providers without a base class: what can answer messages is called with what it takes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from llm_master import (
    BaseLLMProvider,
    ConfigurationError,
    LLMConfig,
    LLMResponse,
    ProviderError,
    QueryLLM,
    UnsupportedParameterError,
    Usage,
    add_provider,
)

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}

pytestmark = pytest.mark.usefixtures("provider_tables")


def ask(name: str, *args: Any, **kwargs: Any) -> Any:
    return QueryLLM(LLMConfig()).query_sync(name, *args, **kwargs)


@dataclass
class OtherResponse:
    """The answer of another library."""

    content: str
    usage: dict[str, int] = field(default_factory=dict)
    tool_calls: list[Any] = field(default_factory=list)


class Completing:
    """``complete`` as ExecutionKit has it."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def complete(
        self, messages: Any, *, temperature: Any = None, max_tokens: Any = None, tools: Any = None, **kwargs: Any
    ) -> OtherResponse:
        self.seen.append({"messages": messages, "temperature": temperature, "tools": tools, **kwargs})
        return OtherResponse("Hello", {"prompt_tokens": 3, "completion_tokens": 2})


def test_complete_is_enough() -> None:
    provider = Completing()
    add_provider("by_complete", llm_api_impl=provider)
    response = ask("By_Complete/m-1", "hi", temperature=0.5, seed=7)
    assert (response.content, response.usage) == ("Hello", Usage(3, 2))
    assert (response.provider, response.model, response.model_name) == ("by_complete", "m-1", "By_Complete/m-1")
    assert provider.seen == [
        {"messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "tools": None, "seed": 7}
    ]


def test_tools_go_only_to_what_says_that_it_takes_them() -> None:
    provider = Completing()
    add_provider("no_tools", llm_api_impl=provider)
    with pytest.raises(UnsupportedParameterError, match="no_tools model 'm' does not take tools; set supports_tools"):
        ask("no_tools/m", "hi", tools=[TOOL])
    assert provider.seen == []
    assert ask("no_tools/m", "hi", tools=[TOOL], drop_params=True).dropped == ("tools",)

    class Calling(Completing):
        supports_tools = True

        async def complete(self, messages: Any, *, tools: Any = None, **kwargs: Any) -> OtherResponse:
            call = SimpleNamespace(id="c1", name=tools[0]["function"]["name"], arguments={"at": 1})
            return OtherResponse("", tool_calls=[call])

    add_provider("with_tools", llm_api_impl=Calling)
    response = ask("with_tools/m", "hi", tools=[TOOL])
    assert [(call.id, call.name, call.arguments) for call in response.tool_calls] == [("c1", "look", {"at": 1})]
    assert response.finish_reason == "tool_calls"


def test_what_a_signature_does_not_take_is_refused_or_left_out() -> None:
    class Narrow:
        async def complete(self, messages: Any, max_tokens: int | None = None) -> str:
            return f"{max_tokens}"

    add_provider("narrow", llm_api_impl=Narrow)
    with pytest.raises(UnsupportedParameterError, match="does not take temperature"):
        ask("narrow/m", "hi", temperature=1.0)
    response = ask("narrow/m", "hi", temperature=1.0, max_tokens=5, drop_params=True)
    assert (response.content, response.dropped) == ("5", ("temperature",))


class Chatting:
    """The three methods of the kit's protocol."""

    async def chat(self, messages: Any, model: str | None = None, stream: bool = False) -> dict[str, Any]:
        return {"reply": f"{model}: {messages[-1]['content']}", "usage": {"prompt_tokens": 4, "completion_tokens": 1}}

    async def stream_chat(self, messages: Any, model: str | None = None) -> AsyncIterator[str]:
        for word in messages[-1]["content"].split():
            yield word

    async def count_tokens(self, messages: Any) -> int:
        return len(messages[-1]["content"])


def test_chat_stream_chat_and_count_tokens() -> None:
    add_provider("my_provider", llm_api_impl=Chatting)

    async def main() -> None:
        async with QueryLLM(LLMConfig()) as llm:
            whole = await llm.query("my_provider/m", "one two")
            assert (whole.content, whole.usage) == ("m: one two", Usage(4, 1))
            stream = await llm.query("my_provider/m", "one two", stream=True)
            assert [text async for text in stream] == ["one", "two"]
            assert stream.response.content == "onetwo"
            assert (await llm.count_tokens("my_provider/m", "one two")).tokens == 7

    asyncio.run(main())


def test_chat_with_a_stream_flag() -> None:
    class Flag:
        async def chat(self, messages: Any, stream: bool = False) -> Any:
            async def pieces() -> AsyncIterator[Any]:
                yield {"content": "a"}
                yield {"choices": [{"delta": {"content": "b"}}]}
                yield {"choices": []}

            return pieces() if stream else {"choices": [{"message": {"content": "whole"}, "finish_reason": "length"}]}

    add_provider("flagged", llm_api_impl=Flag)
    whole = ask("flagged/m", "x")
    assert (whole.content, whole.finish_reason) == ("whole", "length")
    assert list(ask("flagged/m", "x", stream=True)) == ["a", "b"]


def test_what_cannot_stream_is_refused_before_it_is_called() -> None:
    provider = Completing()
    add_provider("unstreamed", llm_api_impl=provider)
    with pytest.raises(ProviderError, match="unstreamed cannot stream 'm'"):
        ask("unstreamed/m", "x", stream=True)
    assert provider.seen == []


def test_blocking_methods_run_beside_the_loop() -> None:
    loop_thread: list[int] = []
    threads: set[int] = set()
    both = threading.Barrier(2, timeout=10)

    class Blocking:
        def chat(self, messages: Any) -> str:
            threads.add(threading.get_ident())
            both.wait()  # two calls stand still together: neither holds up the loop
            return "done"

        def stream_chat(self, messages: Any) -> Iterator[str]:
            threads.add(threading.get_ident())
            yield "a"
            threads.add(threading.get_ident())
            yield "b"

        def count_tokens(self, text: str) -> int:
            threads.add(threading.get_ident())
            return len(text)

    add_provider("blocking", llm_api_impl=Blocking)

    async def main() -> None:
        loop_thread.append(threading.get_ident())
        async with QueryLLM(LLMConfig()) as llm:
            answers = await asyncio.gather(*(llm.query("blocking/m", "x") for _ in range(2)))
            assert [each.content for each in answers] == ["done", "done"]
            stream = await llm.query("blocking/m", "x", stream=True)
            assert [text async for text in stream] == ["a", "b"]
            assert (await llm.count_tokens("blocking/m", "four")).tokens == 4

    asyncio.run(main())
    assert threads
    assert loop_thread[0] not in threads


def test_a_blocking_method_that_has_nothing_more_does_not_hang() -> None:
    class Exhausted:
        def complete(self, messages: Any) -> str:
            return next(iter([]))

    add_provider("exhausted", llm_api_impl=Exhausted)
    with pytest.raises(ProviderError, match="complete raised StopIteration"):
        ask("exhausted/m", "hi", max_attempts=1, timeout=20)


def test_a_blocking_stream_left_early_is_closed() -> None:
    closed = threading.Event()

    class Endless:
        def chat(self, messages: Any) -> str:
            return ""

        def stream_chat(self, messages: Any) -> Iterator[str]:
            try:
                while True:
                    yield "x"
            finally:
                closed.set()

    add_provider("endless", llm_api_impl=Endless)

    async def main() -> None:
        async with QueryLLM(LLMConfig()) as llm:
            stream = await llm.query("endless/m", "x", stream=True)
            async for _ in stream:
                break
            await stream.aclose()

    asyncio.run(main())
    assert closed.wait(10)


@pytest.mark.parametrize(
    ("answer", "words"),
    [(7, "gave a int"), ({"usage": {}}, "gave a dict"), ({"content": 7}, "gave a dict"), (None, "gave a NoneType")],
)
def test_what_is_no_answer_is_a_typed_error(answer: Any, words: str) -> None:
    class Odd:
        async def complete(self, messages: Any) -> Any:
            return answer

    add_provider("odd", llm_api_impl=Odd)
    with pytest.raises(ProviderError, match=words) as caught:
        ask("odd/m", "x")
    assert (caught.value.provider, caught.value.model) == ("odd", "m")
    assert "\n" not in str(caught.value)


def test_what_has_no_method_says_which_there_are() -> None:
    add_provider("empty", llm_api_impl=object)
    with pytest.raises(ConfigurationError, match="has none of generate, complete, chat"):
        ask("empty/m", "x")


def test_an_implementation_that_is_none_is_a_mistake_of_set_up() -> None:
    add_provider("number", llm_api_impl=5)
    with pytest.raises(ConfigurationError, match="number: llm_api_impl=5 is neither a class nor an object"):
        ask("number/m", "hi")


def test_a_count_that_is_no_number() -> None:
    class Miscounting(Chatting):
        async def count_tokens(self, messages: Any) -> Any:
            return "many"

    add_provider("miscounting", llm_api_impl=Miscounting)
    with pytest.raises(ProviderError, match="count_tokens gave str"):
        asyncio.run(QueryLLM(LLMConfig()).count_tokens("miscounting/m", "x"))


def test_its_exceptions_are_typed_and_fall_back() -> None:
    class Broken:
        async def complete(self, messages: Any) -> str:
            raise KeyError("id")

    add_provider("broken_one", llm_api_impl=Broken)
    add_provider("sound_one", llm_api_impl=Completing())
    with pytest.raises(ProviderError, match="broken_one failed for 'm': KeyError"):
        ask("broken_one/m", "x", max_attempts=1)
    assert ask("broken_one/m", "x", max_attempts=1, fallback_model="sound_one/m").content == "Hello"


def test_an_object_in_the_provider_map_is_used_and_not_closed() -> None:
    class Own(Completing):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    provider = Own()
    QueryLLM.provider_map["owned-"] = (None, provider)

    async def main() -> LLMResponse:
        async with QueryLLM(LLMConfig()) as llm:
            return await llm.query("owned-1", "x")

    assert asyncio.run(main()).content == "Hello"
    assert provider.closed is False


def test_constructors_get_what_they_take() -> None:
    made: dict[str, Any] = {}

    class Plain(Completing):
        pass

    class WithConfig(Completing):
        def __init__(self, config: Any = None, colour: str = "") -> None:
            super().__init__()
            made["config"], made["colour"] = config, colour

    class WithSettings(Completing):
        def __init__(self, settings: Any, **kwargs: Any) -> None:
            super().__init__()
            made["settings"], made["kwargs"] = settings, kwargs

    add_provider("plain_one", llm_api_impl=Plain, api_url="http://127.0.0.1:1/x")
    add_provider("config_one", llm_api_impl=WithConfig, colour="red")
    add_provider(
        "settings_one", llm_api_impl=WithSettings, api_url="http://127.0.0.1:1/x", api_key="sk-9", vendor_option="v"
    )
    config = LLMConfig(openai_api_key="sk-test-of-constructors")
    for name in ("plain_one/m", "config_one/m", "settings_one/m"):
        assert QueryLLM(config).query_sync(name, "x").content == "Hello"
    assert (made["config"], made["colour"]) == (config, "red")
    assert (made["settings"].api_url, made["settings"].api_key) == ("http://127.0.0.1:1/x", "sk-9")
    assert made["kwargs"] == {"vendor_option": "v"}
    assert "sk-9" not in repr(made["settings"])


def test_a_class_that_needs_settings_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Needs(Completing):
        def __init__(self, settings: Any) -> None:
            super().__init__()
            self.settings = settings

    add_provider("needs_more", llm_api_impl=Needs)
    with pytest.raises(ValueError, match="NEEDS_MORE_API_URL and NEEDS_MORE_API_KEY"):
        ask("needs_more/m", "x")
    monkeypatch.setenv("NEEDS_MORE_API_URL", "http://127.0.0.1:1/x")
    with pytest.raises(ValueError, match=r"set NEEDS_MORE_API_KEY \("):
        ask("needs_more/m", "x")
    monkeypatch.setenv("NEEDS_MORE_API_KEY", "sk-8")
    assert ask("needs_more/m", "x").content == "Hello"


def test_wrong_constructor_arguments_are_a_mistake_of_set_up() -> None:
    add_provider("wrong_made", llm_api_impl=Completing, colour="red")
    with pytest.raises(ConfigurationError, match=r"wrong_made: 'Completing' cannot be made .*colour"):
        ask("wrong_made/m", "x")


def test_a_class_with_generate_goes_on_as_before() -> None:
    class Mine(BaseLLMProvider):
        async def generate(self, messages: Any, model: str, stream: bool = False, **kwargs: Any) -> LLMResponse:
            return LLMResponse(content=f"{model} {kwargs}")

        async def complete(self, messages: Any) -> str:
            raise AssertionError("generate comes first")

    add_provider("generating", llm_api_impl=Mine)
    assert ask("generating/m", "x", seed=1).content == "m {'seed': 1}"
