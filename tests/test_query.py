"""
``QueryLLM`` itself: fallbacks, retries, deadlines, streams left early, loops, threads and forks.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import threading
from typing import Any

import pytest
from support import faults, floods
from support.behaviours import hold, ok, quota_429, rate_limited, reset, status
from support.fault_server import FaultServer, refused_url

from llm_master import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ContentPolicyError,
    InvalidRequestError,
    LLMConfig,
    LLMError,
    LLMResponse,
    LLMStream,
    ModelNotFoundError,
    ProviderError,
    QueryLLM,
    RetryPolicy,
    StreamInterrupted,
    Timeouts,
    Usage,
)

KEY = "sk-query-0123456789abcdef"
FAST = RetryPolicy(max_attempts=3, base_delay=0.001, max_delay=0.002)
HI = [{"role": "user", "content": "Hi"}]


def config(server: FaultServer, **more: str) -> LLMConfig:
    return LLMConfig(
        openai_api_key=KEY,
        anthropic_api_key="sk-ant-query-0123456789",
        base_urls={"openai": server.url + "/openai", "anthropic": server.url + "/anthropic", **more},
    )


def query(server: FaultServer, *args: Any, llm: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    async def main() -> Any:
        async with QueryLLM(config(server), retry=FAST, **(llm or {})) as client:
            result = await client.query(*args, **kwargs)
            if isinstance(result, LLMStream):
                return [text async for text in result], result.response
            return result

    return asyncio.run(main())


# -- fallbacks and retries ---------------------------------------------------------------------------------------------


def test_a_fallback_gets_the_messages_and_no_parameters(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [quota_429()])
    fault_server.route("/anthropic", [ok("from claude")])
    response = query(fault_server, "gpt-4o", HI, temperature=0.7, seed=7, fallback_model="claude-sonnet-4-5")
    assert (response.content, response.provider) == ("from claude", "anthropic")
    assert response.model_name == "claude-sonnet-4-5"
    first, second = fault_server.requests
    assert (first.json["temperature"], first.json["seed"]) == (0.7, 7)
    assert set(second.json) == {"model", "max_tokens", "messages"}
    assert second.json["messages"] == HI
    assert [(a.provider, a.outcome, a.error) for a in response.attempts] == [
        ("openai", "error", "QuotaExceededError"),
        ("anthropic", "ok", None),
    ]


def test_a_fallback_gets_only_what_fallback_config_holds(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [quota_429()])
    query(
        fault_server,
        "gpt-4o",
        HI,
        temperature=0.7,
        top_p=0.5,
        fallback_model="claude-sonnet-4-5",
        fallback_config={"temperature": 0.3},
    )
    second = fault_server.requests[1].json
    assert second["temperature"] == 0.3
    assert "top_p" not in second


@pytest.mark.parametrize(
    "given",
    [
        {"gpt-4o-mini": {"seed": 1}, "claude-sonnet-4-5": {"temperature": 0.2}},
        [{"seed": 1}, {"temperature": 0.2}],
    ],
)
def test_several_fallbacks_each_with_their_own(given: Any, fault_server: FaultServer) -> None:
    fault_server.route("/openai", [status(404)])
    response = query(
        fault_server, "gpt-4o", HI, fallback_model=["gpt-4o-mini", "claude-sonnet-4-5"], fallback_config=given
    )
    assert response.provider == "anthropic"
    one, two, three = (r.json for r in fault_server.requests)
    assert "seed" not in one
    assert two["seed"] == 1
    assert (three["temperature"], "seed" in three) == (0.2, False)


def test_the_last_error_carries_every_attempt(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [status(503)])
    fault_server.route("/anthropic", [status(401)])
    with pytest.raises(AuthenticationError) as caught:
        query(fault_server, "gpt-4o", HI, fallback_model="claude-sonnet-4-5")
    assert [(a.provider, a.status_code) for a in caught.value.attempts] == [("openai", 503)] * 3 + [("anthropic", 401)]
    assert caught.value.provider == "anthropic"


def test_a_retry_cures_what_passes(fault_server: FaultServer) -> None:
    fault_server.script([status(503), status(500), ok("third time")])
    response = query(fault_server, "gpt-4o", HI)
    assert response.content == "third time"
    assert [a.status_code for a in response.attempts] == [503, 500, 200]
    assert response.attempts[2].wait_reason == "retry"


def test_attempts_are_bounded(fault_server: FaultServer) -> None:
    fault_server.default = status(503)
    with pytest.raises(ProviderError):
        query(fault_server, "gpt-4o", HI, max_attempts=2)
    assert len(fault_server.requests) == 2


@pytest.mark.parametrize("behaviour", [status(400), status(401), status(404), quota_429()])
def test_a_permanent_error_is_not_retried(behaviour: Any, fault_server: FaultServer) -> None:
    fault_server.default = behaviour
    with pytest.raises(ProviderError):
        query(fault_server, "gpt-4o", HI)
    assert len(fault_server.requests) == 1


def test_a_bad_request_does_not_fall_back(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [status(400)])
    with pytest.raises(BadRequestError):
        query(fault_server, "gpt-4o", HI, fallback_model="claude-sonnet-4-5")
    assert len(fault_server.requests) == 1


def test_a_policy_refusal_falls_back_only_when_asked(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [status(400, error_code="content_filter", message="filtered: violence")])
    with pytest.raises(ContentPolicyError, match="violence"):
        query(fault_server, "gpt-4o", HI, fallback_model="claude-sonnet-4-5")
    response = query(fault_server, "gpt-4o", HI, fallback_model="claude-sonnet-4-5", fallback_on={"content_policy"})
    assert response.provider == "anthropic"


def test_a_long_retry_after_goes_elsewhere_at_once(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [rate_limited("3600")])
    response = query(fault_server, "gpt-4o", HI, fallback_model="claude-sonnet-4-5")
    assert response.provider == "anthropic"
    assert len(fault_server.requests) == 2


def test_a_silent_route_leaves_time_for_the_fallback(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [faults.accept_and_silent])
    fault_server.route("/anthropic", [ok("in time")])
    response = query(fault_server, "gpt-4o", HI, fallback_model="claude-sonnet-4-5", timeout=2)
    assert response.content == "in time"
    assert [(a.provider, a.error) for a in response.attempts] == [("openai", "APITimeoutError"), ("anthropic", None)]
    fault_server.wait_closed(0)


def test_a_refused_connection_falls_back(fault_server: FaultServer) -> None:
    async def main() -> Any:
        with refused_url() as dead:
            llm = QueryLLM(config(fault_server, openai=dead), retry=FAST)
            with pytest.raises(APIConnectionError, match="cannot reach openai"):
                await llm.query("gpt-4o", HI)
            return await llm.query("gpt-4o", HI, fallback_model="claude-sonnet-4-5")

    assert asyncio.run(main()).provider == "anthropic"


def test_a_fallback_that_is_not_set_up_says_so_before_any_request(fault_server: FaultServer) -> None:
    llm = QueryLLM(LLMConfig(openai_api_key=KEY, base_urls={"openai": fault_server.url}))
    with pytest.raises(ConfigurationError, match="ANTHROPIC_API_KEY"):
        llm.query_sync("gpt-4o", HI, fallback_model="claude-sonnet-4-5")
    with pytest.raises(ModelNotFoundError, match="gtp-4o"):
        llm.query_sync("gpt-4o", HI, fallback_model="gtp-4o")
    assert fault_server.requests == []


# -- streams -----------------------------------------------------------------------------------------------------------


def test_a_stream_falls_back_before_its_first_piece(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [status(503)])
    fault_server.route("/anthropic", [ok(["a", "b"])])

    async def main() -> tuple[list[str], LLMResponse]:
        async with QueryLLM(config(fault_server), retry=FAST) as llm:
            stream = await llm.query("gpt-4o", HI, stream=True, fallback_model="claude-sonnet-4-5")
            assert isinstance(stream, LLMStream)
            kinds = [event.type async for event in stream.events()]
            return kinds, stream.response

    kinds, response = asyncio.run(main())
    assert kinds[:4] == ["retry", "retry", "fallback", "usage"] or kinds[:4] == ["retry", "retry", "fallback", "text"]
    assert kinds[-1] == "end"
    assert response.content == "ab"
    assert len(response.attempts) == 4


def test_a_cut_stream_never_looks_complete(fault_server: FaultServer) -> None:
    fault_server.default = faults.missing_terminal_marker(text=["one ", "two ", "three"])

    async def main() -> StreamInterrupted:
        async with QueryLLM(config(fault_server), retry=FAST) as llm:
            stream = await llm.query("gpt-4o", HI, stream=True)
            assert isinstance(stream, LLMStream)
            with pytest.raises(StreamInterrupted) as caught:
                async for _ in stream:
                    pass
            with pytest.raises(LLMError, match="has not ended"):
                _ = stream.response
            return caught.value

    error = asyncio.run(main())
    assert error.partial_text
    assert "one two three".startswith(error.partial_text)
    assert [a.outcome for a in error.attempts] == ["interrupted"]
    assert (error.provider, error.model) == ("openai", "gpt-4o")


@pytest.mark.parametrize("way", ["break", "aclose", "with", "drop", "cancel"])
def test_leaving_a_stream_closes_the_connection(way: str, fault_server: FaultServer) -> None:
    fault_server.default = ok(["one", "two", "three"], middle=hold())

    async def main() -> None:
        async with QueryLLM(config(fault_server), retry=FAST) as llm:
            stream = await llm.query("gpt-4o", HI, stream=True)
            assert isinstance(stream, LLMStream)
            if way == "break":
                async for _ in stream:
                    break
            elif way == "aclose":
                await stream.aclose()
            elif way == "with":
                async with stream:
                    async for _ in stream:
                        break
            elif way == "drop":
                del stream
                gc.collect()
            else:

                async def read() -> None:
                    async for _ in stream:
                        pass

                task = asyncio.create_task(read())
                await asyncio.to_thread(fault_server.wait_held)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await asyncio.to_thread(fault_server.wait_closed, 0)

    asyncio.run(main())


def test_cancelling_a_call_closes_its_connection(fault_server: FaultServer) -> None:
    fault_server.default = faults.accept_and_silent

    async def main() -> None:
        async with QueryLLM(config(fault_server)) as llm:
            task = asyncio.create_task(llm.query("gpt-4o", HI))
            await asyncio.to_thread(fault_server.wait_requests, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(fault_server.wait_closed, 0)

    asyncio.run(main())


def test_a_finished_stream_gives_its_connection_back(fault_server: FaultServer) -> None:
    async def main() -> None:
        async with QueryLLM(config(fault_server)) as llm:
            for _ in range(5):
                stream = await llm.query("gpt-4o", HI, stream=True)
                assert isinstance(stream, LLMStream)
                assert await stream.text()
                await llm.query("gpt-4o", HI)

    asyncio.run(main())
    assert fault_server.connections.total <= 2


def test_finished_without_its_marker_is_complete(fault_server: FaultServer) -> None:
    fault_server.default = faults.finish_without_done(text=["all ", "of it"], usage=Usage(3, 4))
    pieces, response = query(fault_server, "gpt-4o", HI, stream=True)
    assert "".join(pieces) == "all of it"
    assert response.usage.output_tokens == 4


def test_an_idle_stream_is_given_up(fault_server: FaultServer) -> None:
    fault_server.default = ok(["one", "two", "three"], middle=hold())
    with pytest.raises(StreamInterrupted, match="silent"):
        query(fault_server, "gpt-4o", HI, stream=True, timeout=Timeouts(idle=0.1))
    fault_server.wait_closed(0)


def test_the_deadline_ends_a_slow_stream(fault_server: FaultServer) -> None:
    fault_server.default = ok(["x"] * 200, each=hold(0.02))
    with pytest.raises(StreamInterrupted, match="time was over"):
        query(fault_server, "gpt-4o", HI, stream=True, timeout=0.3)
    fault_server.wait_closed(0)


def test_no_first_token_in_time(fault_server: FaultServer) -> None:
    fault_server.default = ok(after_head=hold())
    with pytest.raises(APITimeoutError):
        query(fault_server, "gpt-4o", HI, stream=True, timeout=Timeouts(first_token=0.1))
    assert len(fault_server.requests) == 1, "a silent route is not asked again"
    fault_server.wait_closed(0)


def test_a_server_that_does_not_stream_is_read_all_the_same(fault_server: FaultServer) -> None:
    fault_server.default = ok("whole", stream=False)
    pieces, response = query(fault_server, "gpt-4o", HI, stream=True)
    assert pieces == ["whole"]
    assert response.content == "whole"
    assert [a.outcome for a in response.attempts] == ["ok"]


def test_a_reset_in_the_middle_is_an_interruption(fault_server: FaultServer) -> None:
    fault_server.default = ok(["one", "two", "three", "four"], middle=reset)
    with pytest.raises(StreamInterrupted) as caught:
        query(fault_server, "gpt-4o", HI, stream=True)
    assert "onetwothreefour".startswith(caught.value.partial_text)
    assert caught.value.partial_text


# -- loops, threads, forks ---------------------------------------------------------------------------------------------


def test_several_loops_one_after_the_other(fault_server: FaultServer) -> None:
    llm = QueryLLM(config(fault_server))
    for _ in range(3):
        assert asyncio.run(llm.query("gpt-4o", HI)).content  # type: ignore[union-attr]
    fault_server.wait_no_connections()


def test_several_threads_at_once(fault_server: FaultServer) -> None:
    llm = QueryLLM(config(fault_server))
    answers: list[str] = []

    def work() -> None:
        async def main() -> list[Any]:
            return await asyncio.gather(*(llm.query("gpt-4o", HI) for _ in range(5)))

        answers.extend(r.content for r in asyncio.run(main()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20


def test_sync_also_under_a_running_loop(fault_server: FaultServer) -> None:
    llm = QueryLLM(config(fault_server))

    async def main() -> Any:
        return llm.query_sync("gpt-4o", HI)

    assert llm.query_sync("gpt-4o", HI).content
    assert asyncio.run(main()).content
    llm.close()


def test_sync_streams_and_their_early_end(fault_server: FaultServer) -> None:
    fault_server.script([ok(["a", "b", "c"]), ok(["a", "b", "c"], middle=hold())])
    with QueryLLM(config(fault_server)) as llm:
        stream = llm.query_sync("gpt-4o", HI, stream=True)
        assert list(stream) == ["a", "b", "c"]
        assert stream.response.content == "abc"
        for _ in llm.query_sync("gpt-4o", HI, stream=True):
            break
        fault_server.wait_closed(1)


def _in_child(url: str, llm: QueryLLM, results: Any) -> None:
    results.put((llm.query_sync("gpt-4o", HI).content, asyncio.run(llm.query("gpt-4o", HI)).content))  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_fork_parent_and_child_go_on(fault_server: FaultServer) -> None:
    llm = QueryLLM(config(fault_server))
    assert llm.query_sync("gpt-4o", HI).content
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_in_child, args=(fault_server.url, llm, results))
    child.start()
    assert results.get(timeout=30) == ("Hello from the other side.",) * 2
    child.join(30)
    assert child.exitcode == 0
    assert llm.query_sync("gpt-4o", HI).content, "the parent's connection is not the child's"
    llm.close()


def test_many_at_once_leave_nothing_behind(fault_server: FaultServer) -> None:
    async def main() -> int:
        async with QueryLLM(config(fault_server)) as llm:
            await asyncio.gather(*(llm.query("gpt-4o", HI) for _ in range(200)))
            return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
    fault_server.wait_no_connections()


# -- input and secrets -------------------------------------------------------------------------------------------------

BAD: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    (("",), {"messages": HI}, InvalidRequestError, "model"),
    (("   ",), {"messages": HI}, InvalidRequestError, "model"),
    (("gpt-4o",), {}, InvalidRequestError, "message"),
    (("gpt-4o",), {"messages": []}, InvalidRequestError, "message"),
    (("gpt-4o", [{"role": "robot", "content": "x"}]), {}, InvalidRequestError, "robot"),
    (("gpt-4o", [{"role": "tool", "tool_call_id": "call_9", "content": "x"}]), {}, InvalidRequestError, "call_9"),
    (("gpt-4o", HI), {"temperature": float("nan")}, InvalidRequestError, "temperature"),
    (("gpt-4o", HI), {"timeout": 0}, InvalidRequestError, "timeout"),
    (("gpt-4o", HI), {"timeout": -1}, InvalidRequestError, "timeout"),
    (("gpt-4o", HI), {"timeout": float("nan")}, InvalidRequestError, "timeout"),
    (("gpt-4o", HI), {"max_attempts": 0}, InvalidRequestError, "max_attempts"),
    (("gpt-4o", HI), {"api_key": "sk-x"}, InvalidRequestError, "api_key"),
    (("gpt-4o", HI), {"model": "other"}, InvalidRequestError, "model"),
    (("gpt-4o", HI), {"fallback_config": {}}, InvalidRequestError, "fallback_model"),
    (("gpt-4o", HI), {"extra_headers": {"X-A": "a\r\nX-B: b"}}, LLMError, "X-A"),
    (("gpt-4o", HI), {"api": "telepathy"}, ConfigurationError, "telepathy"),
    (("gpt-4o", HI), {"tags": 5}, InvalidRequestError, "tags=5: give names"),
    (
        ("gpt-4o", [{"role": "user", "text": "see", "image_paths": ["/no/such/picture.png"]}]),
        {},
        InvalidRequestError,
        "picture.png",
    ),
    (("nonsense-model-xyz", HI), {}, ModelNotFoundError, "Unsupported model: nonsense-model-xyz"),
]


@pytest.mark.parametrize(("args", "kwargs", "expected", "says"), BAD)
def test_bad_input_is_refused_before_any_request(
    args: Any, kwargs: Any, expected: Any, says: str, fault_server: FaultServer
) -> None:
    with pytest.raises(expected, match=says):
        query(fault_server, *args, **kwargs)
    assert fault_server.requests == []


def test_a_picture_is_read_outside_the_loop_and_sent(fault_server: FaultServer, tmp_path: Any) -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 32
    (tmp_path / "dot.png").write_bytes(png)
    query(fault_server, "gpt-4o", [{"role": "user", "text": "see", "image_paths": [str(tmp_path / "dot.png")]}])
    parts = fault_server.requests[0].json["messages"][0]["content"]
    assert parts[0] == {"type": "text", "text": "see"}
    assert parts[1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")


def test_the_key_is_masked_wherever_a_server_echoes_it(fault_server: FaultServer) -> None:
    fault_server.default = status(401, message=f"Incorrect API key provided: {KEY}.")
    with pytest.raises(AuthenticationError) as caught:
        query(fault_server, "gpt-4o", HI)
    assert KEY not in str(caught.value)
    assert KEY not in repr(caught.value.__dict__)
    assert "[REDACTED]" in str(caught.value)


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_of_any_shape_is_masked_in_errors_inside_an_answer(stream: bool, fault_server: FaultServer) -> None:
    odd = "correcthorsebattery"
    fault_server.default = (
        faults.error_in_stream(after=0, error={"message": f"who is {odd}?", "code": 500})
        if stream
        else status(200, {"error": {"message": f"who is {odd}?"}})
    )
    llm = QueryLLM(LLMConfig(openai_api_key=odd, base_urls={"openai": fault_server.url}), retry=FAST)
    with pytest.raises(ProviderError, match=r"who is \[REDACTED\]") as caught:
        llm.query_sync("gpt-4o", HI, stream=stream)
    assert odd not in repr(caught.value.__dict__)
    llm.close()


def test_no_secret_in_tracebacks_with_locals(fault_server: FaultServer) -> None:
    import traceback

    for behaviour in (status(500), faults.reset_before_headers, status(200, "<html>", content_type="text/html")):
        fault_server.default = behaviour
        for stream in (False, True):
            try:
                query(fault_server, "gpt-4o", HI, max_attempts=1, stream=stream)
            except ProviderError as error:
                shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
                assert "gpt-4o" in shown
                assert KEY not in shown.replace("KEY = ", "")
            else:
                raise AssertionError("no error")


def test_no_secret_in_debug_logs(fault_server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    fault_server.script([status(503, message=f"busy {KEY}"), ok()])
    query(fault_server, "gpt-4o", HI)
    lines = [r.getMessage() for r in caplog.records if r.name == "llm_master"]
    assert any("gpt-4o -> openai gpt-4o: error (ServerError) status=503" in line for line in lines)
    assert any("gpt-4o -> openai gpt-4o: ok status=200" in line for line in lines)
    assert KEY not in caplog.text


def test_a_key_goes_to_no_other_origin(fault_server: FaultServer) -> None:
    with FaultServer() as other:
        from support.behaviours import redirect

        fault_server.default = redirect(other.url + "/v1/chat/completions")
        with pytest.raises(ProviderError, match="redirect"):
            query(fault_server, "gpt-4o", HI)
        assert other.requests == []


@pytest.mark.parametrize("stream", [False, True])
def test_bodies_without_end_are_refused(
    stream: bool, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_master.incoming.MAX_BODY", 1_000_000)
    for behaviour in (floods.huge_body(3_000_000), floods.gzip_bomb(50_000_000)):
        fault_server.default = behaviour
        with pytest.raises(ProviderError, match=r"1000000 bytes"):
            query(fault_server, "gpt-4o", HI, stream=stream)


def test_the_three_line_program_leaves_no_warning(fault_server: FaultServer, tmp_path: Any) -> None:
    import subprocess
    import sys

    code = (
        "import asyncio; from llm_master import QueryLLM\n"
        "print(asyncio.run(QueryLLM().query('gpt-4o-mini', 'Hi')).content)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": fault_server.url, "PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("Hello from the other side.\n", "", 0)
