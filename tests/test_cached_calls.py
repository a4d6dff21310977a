"""
Calls through the client's cache, and equal calls that share one request.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support import faults
from support.behaviours import ok, status
from support.fault_server import FaultServer

from llm_master import InvalidRequestError, LLMConfig, QueryLLM, RetryPolicy, ServerError, StructuredOutputError
from llm_master.policy.limits import MemoryLimiter
from llm_master.settings_parts import CacheSettings

HI = "Name a colour."


def client(server: FaultServer, **options: Any) -> QueryLLM:
    config = LLMConfig(
        openai_api_key="sk-cached-0123456789",
        anthropic_api_key="sk-ant-cached-0123456789",
        base_urls={"openai": server.url + "/openai", "anthropic": server.url + "/anthropic"},
    )
    options.setdefault("retry", RetryPolicy(max_attempts=1))
    return QueryLLM(config, limiter=MemoryLimiter(), **{"cache": "memory", **options})


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


def test_an_equal_request_is_answered_from_the_cache(fault_server: FaultServer) -> None:
    fault_server.script([ok("red"), ok("blue")])

    async def main() -> Any:
        async with client(fault_server) as llm:
            return [await llm.query("gpt-4o-mini", HI, temperature=0) for _ in range(2)]

    first, second = run(main())
    assert (first.content, first.cached, second.content, second.cached) == ("red", False, "red", True)
    assert (second.attempts, second.cost, second.usage) == ((), Decimal(0), first.usage)
    assert (second.model_name, second.provider, second.finish_reason) == ("gpt-4o-mini", "openai", "stop")
    assert second.latency < first.latency
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"temperature": 1},
        {"tags": "team-b"},
        {"extra_headers": {"X-Use": "b"}},
        {"cache": False},
        {"drop_params": True},
    ],
    ids=str,
)
def test_whatever_may_change_the_answer_asks_again(other: dict[str, Any], fault_server: FaultServer) -> None:
    async def main() -> Any:
        async with client(fault_server) as llm:
            await llm.query("gpt-4o-mini", HI)
            return await llm.query("gpt-4o-mini", HI, **other)

    assert run(main()).cached is False
    assert len(fault_server.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_equal_calls_at_one_time_make_one_request(stream: bool, fault_server: FaultServer) -> None:
    fault_server.script([faults.slow_first_token(text=["one ", "answer"])])

    async def one(llm: QueryLLM) -> Any:
        found = await llm.query("gpt-4o-mini", HI, stream=stream)
        if not stream:
            return found
        return [text async for text in found], found.response

    async def main() -> Any:
        async with client(fault_server) as llm:
            tasks = [asyncio.create_task(one(llm)) for _ in range(20)]
            await asyncio.to_thread(fault_server.wait_held)
            fault_server.release()
            return await asyncio.gather(*tasks)

    answers = run(main())
    responses = [answer[1] for answer in answers] if stream else answers
    assert {response.content for response in responses} == {"one answer"}
    assert [response.cached for response in responses].count(False) == 1
    if stream:
        assert {"".join(texts) for texts, _ in answers} == {"one answer"}
    assert len(fault_server.requests) == 1


def test_a_stream_is_kept_and_replayed(fault_server: FaultServer) -> None:
    fault_server.script([ok(["red ", "and blue"])])

    async def main() -> Any:
        async with client(fault_server) as llm:
            found = []
            for _ in range(2):
                stream = await llm.query("gpt-4o-mini", HI, stream=True)
                found.append(("".join([text async for text in stream]), stream.response.cached))
            whole = await llm.query("gpt-4o-mini", HI)
            return found, whole

    found, whole = run(main())
    assert found == [("red and blue", False), ("red and blue", True)]
    # A whole answer and a stream of the same request are the same answer.
    assert (whole.content, whole.cached) == ("red and blue", True)
    assert len(fault_server.requests) == 1


def test_errors_truncated_answers_and_fallbacks_are_not_kept(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [status(500), ok("cut", finish="length"), status(500), ok("whole")])
    fault_server.route("/anthropic", [ok("from the fallback")])

    async def main() -> Any:
        async with client(fault_server) as llm:
            with pytest.raises(ServerError):
                await llm.query("gpt-4o-mini", HI)
            cut = await llm.query("gpt-4o-mini", HI)
            other = await llm.query("gpt-4o-mini", HI, fallback_model="claude-sonnet-4-5")
            return cut, other, await llm.query("gpt-4o-mini", HI, fallback_model="claude-sonnet-4-5")

    cut, other, last = run(main())
    assert (cut.content, cut.finish_reason) == ("cut", "length")
    assert other.content == "from the fallback"
    assert (last.content, last.cached) == ("whole", False)


def test_a_followers_own_deadline_holds(fault_server: FaultServer) -> None:
    fault_server.script([faults.slow_first_token(text="late")])

    async def main() -> Any:
        async with client(fault_server) as llm:
            leader = asyncio.create_task(llm.query("gpt-4o-mini", HI))
            await asyncio.to_thread(fault_server.wait_held)
            with pytest.raises(TimeoutError, match=r"deadline of 0\.05 s"):
                await llm.query("gpt-4o-mini", HI, timeout=0.05)
            fault_server.release()
            return await leader

    assert run(main()).content == "late"
    assert len(fault_server.requests) == 1


def test_a_file_is_shared_by_clients_and_named_in_the_settings(fault_server: FaultServer, tmp_path: Path) -> None:
    path = tmp_path / "llm_master.toml"
    path.write_text(f'[cache]\nkind = "sqlite"\npath = "{tmp_path / "answers.sqlite"}"\n')
    config = LLMConfig(openai_api_key="sk-cached-0123456789", base_urls={"openai": fault_server.url})

    async def one() -> Any:
        async with QueryLLM.from_file(path, config) as llm:
            return await llm.query("gpt-4o-mini", HI)

    assert run(one()).cached is False
    assert run(one()).cached is True
    assert len(fault_server.requests) == 1
    assert b"sk-cached-0123456789" not in (tmp_path / "answers.sqlite").read_bytes()


def test_cache_true_without_a_cache_is_refused(fault_server: FaultServer) -> None:
    with pytest.raises(InvalidRequestError, match="no cache"):
        client(fault_server, cache=None).query_sync("gpt-4o-mini", HI, cache=True)
    with pytest.raises(ValueError, match="give 'memory'"):
        client(fault_server, cache="disk").query_sync("gpt-4o-mini", HI)


def test_settings_objects_name_the_kind(fault_server: FaultServer) -> None:
    with client(fault_server, cache=CacheSettings(kind="memory", max_entries=1)) as llm:
        for prompt in ("a", "b", "a"):
            llm.query_sync("gpt-4o-mini", prompt)
    assert len(fault_server.requests) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_does_not_fit_its_shape_is_not_kept(stream: bool, fault_server: FaultServer) -> None:
    fault_server.script([ok("no number"), ok("7"), ok("8")])

    async def main() -> Any:
        async with client(fault_server) as llm:
            found = []
            for _ in range(3):
                try:
                    answer = await llm.query("gpt-4o-mini", HI, response_format=int, stream=stream)
                    if stream:
                        await answer.text()
                        answer = answer.response
                    found.append((answer.parsed, answer.cached))
                except StructuredOutputError:
                    found.append((None, False))
            return found

    assert run(main()) == [(None, False), (7, False), (7, True)]


def test_a_shared_answer_has_the_name_and_time_of_each_call(fault_server: FaultServer) -> None:
    fault_server.script([faults.slow_first_token(text=["one ", "answer"])])

    async def one(llm: QueryLLM, model: str) -> Any:
        stream = await llm.query(model, HI, stream=True)
        await stream.text()
        return stream.response

    async def main() -> Any:
        async with client(fault_server) as llm:
            tasks = [asyncio.create_task(one(llm, model)) for model in ("gpt-4o-mini", "openai/gpt-4o-mini")]
            await asyncio.to_thread(fault_server.wait_held)
            fault_server.release()
            return await asyncio.gather(*tasks)

    first, second = run(main())
    assert len(fault_server.requests) == 1
    assert (first.model_name, second.model_name) == ("gpt-4o-mini", "openai/gpt-4o-mini")
    assert second.cached
    assert second.latency > 0
    assert second.time_to_first_token > 0
