"""
Several deployments behind one name, their circuit breakers, the limits of a call, and what listeners are told.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support import faults
from support.behaviours import hold, ok, quota_429, rate_limited, status
from support.fault_server import FaultServer

from llm_master import (
    AuthenticationError,
    BadRequestError,
    BreakerPolicy,
    ConfigurationError,
    Deployment,
    InvalidRequestError,
    Limit,
    LLMConfig,
    ModelConfig,
    QueryLLM,
    QuotaExceededError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    StreamInterrupted,
    Usage,
)
from llm_master.policy.limits import MemoryLimiter

FAST = RetryPolicy(max_attempts=3, base_delay=0.001, max_delay=0.002)
HI = "Hi"


def config(server: FaultServer) -> LLMConfig:
    return LLMConfig(
        openai_api_key="sk-deploy-0123456789",
        anthropic_api_key="sk-ant-deploy-0123456789",
        base_urls={"openai": server.url + "/openai", "anthropic": server.url + "/anthropic"},
    )


def two(server: FaultServer, **fields: Any) -> dict[str, list[Deployment]]:
    return {
        "team-chat": [
            Deployment(name="east", provider="openai", model="gpt-4.1", base_url=server.url + "/east", **fields),
            Deployment(name="west", provider="openai", model="gpt-4.1-mini", base_url=server.url + "/west", **fields),
        ]
    }


def client(server: FaultServer, **options: Any) -> QueryLLM:
    return QueryLLM(config(server), retry=options.pop("retry", FAST), limiter=MemoryLimiter(), **options)


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


def paths(server: FaultServer) -> list[str]:
    return [seen.path.split("/")[1] for seen in server.requests]


# -- deployments -------------------------------------------------------------------------------------------------------


def test_a_failed_deployment_is_left_for_the_other_at_once(fault_server: FaultServer) -> None:
    fault_server.route("/east", [status(503)])
    fault_server.route("/west", [ok("from the west")])

    async def main() -> Any:
        async with client(fault_server, deployments=two(fault_server), retry=RetryPolicy(base_delay=30)) as llm:
            return [await llm.query("team-chat", HI) for _ in range(12)]

    answers = run(main())
    assert {answer.content for answer in answers} == {"from the west"}
    broken = [answer for answer in answers if len(answer.attempts) == 2]
    assert broken
    for answer in broken:
        assert [(a.deployment, a.outcome, a.model) for a in answer.attempts] == [
            ("east", "error", "gpt-4.1"),
            ("west", "ok", "gpt-4.1-mini"),
        ]
    assert all(answer.model_name == "team-chat" for answer in answers)


@pytest.mark.parametrize(
    "fault", [status(401), status(403), status(404), quota_429()], ids=["401", "403", "404", "quota"]
)
def test_what_no_retry_cures_may_be_cured_by_another_deployment(fault: Any, fault_server: FaultServer) -> None:
    fault_server.route("/east", [fault])
    fault_server.route("/west", [ok("from the west")])
    places = two(fault_server)
    places["team-chat"][0] = Deployment(
        name="east", provider="openai", model="gpt-4.1", base_url=fault_server.url + "/east", api_key="sk-other-key-01"
    )

    async def main() -> Any:
        async with client(fault_server, deployments=places) as llm:
            return [(await llm.query("team-chat", HI)).content for _ in range(6)]

    assert run(main()) == ["from the west"] * 6


def test_a_deployment_has_its_own_key_and_no_text_shows_it(fault_server: FaultServer) -> None:
    place = Deployment(
        provider="openai", model="gpt-4.1", base_url=fault_server.url + "/own", api_key="sk-own-secret-77"
    )

    async def main() -> Any:
        async with client(fault_server, deployments={"mine": [place]}) as llm:
            return await llm.query("mine", HI)

    response = run(main())
    assert fault_server.requests[0].header("Authorization") == "Bearer sk-own-secret-77"
    assert response.attempts[0].deployment == "mine#1"
    assert "sk-own-secret-77" not in f"{place!r} {response!r}"


def test_weights_share_out_the_calls(fault_server: FaultServer) -> None:
    places = {
        "team-chat": [
            Deployment(name="east", provider="openai", model="a", base_url=fault_server.url + "/east", weight=9),
            Deployment(name="west", provider="openai", model="b", base_url=fault_server.url + "/west", weight=1),
        ]
    }

    async def main() -> None:
        async with client(fault_server, deployments=places) as llm:
            for _ in range(120):
                await llm.query("team-chat", HI)

    run(main())
    # 108 expected, standard deviation 3.3; latency may move it a little.
    assert 80 <= paths(fault_server).count("east") <= 120


def test_two_deployments_of_one_name_are_refused(fault_server: FaultServer) -> None:
    twins = {"a": [Deployment(name="x", provider="openai", model="m")], "b": [Deployment(name="x", provider="openai")]}
    with pytest.raises(ConfigurationError, match="two deployments are named 'x'"):
        client(fault_server, deployments=twins).query_sync("a", HI)


# -- breakers ----------------------------------------------------------------------------------------------------------


def test_the_breaker_opens_sends_calls_to_the_fallback_and_closes_after_a_probe(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [*[status(503)] * 4, ok("the primary again")])
    fault_server.route("/anthropic", [ok("from the fallback")])
    policy = BreakerPolicy(failures=4, cooldown=0.05, max_cooldown=0.05)

    async def main() -> Any:
        async with client(fault_server, breaker=policy, retry=RetryPolicy(max_attempts=1)) as llm:
            texts = [(await llm.query("gpt-4o", HI, fallback_model="claude-sonnet-4-5")).content for _ in range(4)]
            state = llm.health()["gpt-4o"][0].breaker.state
            skipped = await llm.query("gpt-4o", HI, fallback_model="claude-sonnet-4-5")
            await asyncio.sleep(0.06)
            texts += [(await llm.query("gpt-4o", HI, fallback_model="claude-sonnet-4-5")).content for _ in range(2)]
            return texts, state, skipped, llm.health()["gpt-4o"][0].breaker

    texts, state, skipped, after = run(main())
    assert texts == ["from the fallback"] * 4 + ["the primary again"] * 2
    assert state == "open"
    assert [(a.provider, a.outcome, a.error_code) for a in skipped.attempts] == [
        ("openai", "skipped", "cooling"),
        ("anthropic", "ok", None),
    ]
    assert (after.state, after.openings) == ("closed", 1)


def test_without_another_target_a_call_waits_for_the_cooling_one(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [status(503), ok("better")])
    policy = BreakerPolicy(failures=1, cooldown=0.05, max_cooldown=0.05)

    async def main() -> Any:
        async with client(fault_server, breaker=policy, retry=RetryPolicy(max_attempts=1)) as llm:
            with pytest.raises(ServerError):
                await llm.query("gpt-4o", HI)
            return await llm.query("gpt-4o", HI)

    response = run(main())
    assert response.content == "better"
    assert response.attempts[0].wait_reason == "cooling"
    first, second = fault_server.requests
    assert second.time - first.time >= 0.05


def test_a_cooling_target_that_takes_too_long_is_an_error_that_says_when(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [status(503), ok("never asked")])
    policy = BreakerPolicy(failures=1, cooldown=50, max_cooldown=50)

    async def main() -> Any:
        async with client(fault_server, breaker=policy, retry=RetryPolicy(max_attempts=1)) as llm:
            with pytest.raises(ServerError):
                await llm.query("gpt-4o", HI)
            with pytest.raises(
                ServerError, match=r"left alone for 'gpt-4o'.*next request may go in (50|49\.\d+) s"
            ) as caught:
                await llm.query("gpt-4o", HI, timeout=5)
            return caught.value

    error = run(main())
    assert (error.code, error.status_code, error.retryable) == ("cooling", None, False)
    assert 45 < error.retry_after <= 50
    assert [a.outcome for a in error.attempts] == ["skipped"]
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize(("fault", "kind"), [(status(401), AuthenticationError), (quota_429(), QuotaExceededError)])
def test_a_refused_key_is_not_tried_again_for_any_model_until_it_cooled(
    fault: Any, kind: type[Exception], fault_server: FaultServer
) -> None:
    fault_server.route("/openai", [fault])

    async def main() -> list[Any]:
        found = []
        async with client(fault_server) as llm:
            for model in ("gpt-4o", "gpt-4o", "gpt-4o-mini"):
                with pytest.raises(kind) as caught:
                    await llm.query(model, HI)
                found.append(caught.value)
            assert (await llm.query("claude-sonnet-4-5", HI)).content
        return found

    first, second, other = run(main())
    assert first.status_code in {401, 429}
    assert second.code == other.code == "cooling"
    assert paths(fault_server) == ["openai", "anthropic"]


def test_a_refused_request_says_nothing_against_the_deployment(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [status(400)])

    async def main() -> Any:
        async with client(fault_server, breaker=BreakerPolicy(failures=2)) as llm:
            for _ in range(5):
                with pytest.raises(BadRequestError):
                    await llm.query("gpt-4o", HI)
            return llm.health()["gpt-4o"][0].breaker

    health = run(main())
    assert (health.state, health.streak) == ("closed", 0)
    assert len(fault_server.requests) == 5


def test_a_hasty_callers_timeouts_do_not_open_the_breaker_for_others(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [*[hold()] * 3, ok("patience")])

    async def main() -> Any:
        async with client(fault_server, breaker=BreakerPolicy(failures=2)) as llm:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await llm.query("gpt-4o", HI, timeout=0.05)
            return await llm.query("gpt-4o", HI)

    assert run(main()).content == "patience"


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_models_own_limit_is_kept_and_limit_wait_zero_says_when(fault_server: FaultServer) -> None:
    async def main() -> Any:
        async with client(fault_server, registry={"gpt-4o": ModelConfig(rate_limit_rpm=2)}) as llm:
            await llm.query("gpt-4o", HI)
            await llm.query("gpt-4o", HI)
            with pytest.raises(RateLimitError, match="allows 2 requests in a minute") as caught:
                await llm.query("gpt-4o", HI, limit_wait=0)
            fallback = await llm.query("gpt-4o", HI, limit_wait=0, fallback_model="claude-sonnet-4-5")
            return caught.value, fallback

    error, fallback = run(main())
    assert (error.code, error.status_code) == ("local_rate_limit", None)
    assert 50 < error.retry_after <= 61
    assert [a.outcome for a in fallback.attempts] == ["skipped", "ok"]
    assert paths(fault_server) == ["openai", "openai", "anthropic"]


def test_calls_wait_in_line_for_a_place(fault_server: FaultServer) -> None:
    fault_server.script([faults.slow_first_token(), ok()])

    async def main() -> Any:
        async with client(fault_server, limits=[Limit("provider:openai", max_concurrency=1)]) as llm:
            first = asyncio.create_task(llm.query("gpt-4o", HI))
            await asyncio.to_thread(fault_server.wait_held)
            second = asyncio.create_task(llm.query("gpt-4o-mini", HI))
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(fault_server.requests) == 1
            fault_server.release()
            return await first, await second

    _, second = run(main())
    assert second.attempts[0].wait_reason == "provider:openai max_concurrency"
    assert second.attempts[0].waited > 0


def test_tags_have_limits_of_their_own(fault_server: FaultServer) -> None:
    async def main() -> None:
        async with client(fault_server, limits=[Limit("tag:team-a", rpm=1)]) as llm:
            await llm.query("gpt-4o", HI, tags="team-a")
            with pytest.raises(RateLimitError, match="tag:team-a"):
                await llm.query("gpt-4o", HI, tags=["team-a", "night"], limit_wait=0)
            await llm.query("gpt-4o", HI, tags=["night"])
            with pytest.raises(InvalidRequestError, match="tags="):
                await llm.query("gpt-4o", HI, tags=[""])

    run(main())
    assert len(fault_server.requests) == 2


def test_tokens_are_reserved_before_and_settled_after(fault_server: FaultServer) -> None:
    fault_server.script([ok("short", usage=Usage(20, 5))])
    limiter = MemoryLimiter()

    async def main() -> None:
        registry = {"gpt-4o": ModelConfig(rate_limit_tpm=1000)}
        async with QueryLLM(config(fault_server), registry=registry, limiter=limiter) as llm:
            # 600 + 600 would not fit; what was really used does.
            for _ in range(3):
                await llm.query("gpt-4o", HI, max_tokens=600, limit_wait=0)
            with pytest.raises(RateLimitError, match="needs up to"):
                await llm.query("gpt-4o", HI, max_tokens=5000)

    run(main())
    window = limiter._windows.get("model:gpt-4o")
    assert (window.request_sum, window.token_sum, window.inflight) == (3, 75, 0)


def test_another_deployment_has_room(fault_server: FaultServer) -> None:
    async def main() -> Any:
        async with client(fault_server, deployments=two(fault_server, rate_limit_rpm=2)) as llm:
            for _ in range(4):
                await llm.query("team-chat", HI, limit_wait=0)
            with pytest.raises(RateLimitError):
                await llm.query("team-chat", HI, limit_wait=0)

    run(main())
    assert sorted(paths(fault_server)) == ["east", "east", "west", "west"]


def test_the_providers_own_headers_stop_the_next_call(fault_server: FaultServer) -> None:
    told = [("x-ratelimit-limit-requests", "10"), ("x-ratelimit-remaining-requests", "0")]
    fault_server.route("/openai", [ok("last one", headers=[*told, ("x-ratelimit-reset-requests", "40s")])])

    async def main() -> Any:
        async with client(fault_server) as llm:
            await llm.query("gpt-4o", HI)
            with pytest.raises(RateLimitError, match="the provider allows nothing more") as caught:
                await llm.query("gpt-4o", HI, limit_wait=0)
            return caught.value

    # The limit of 10 is whole again in 40 s, so room for one request comes every 4 s.
    assert 3 < run(main()).retry_after <= 4
    assert len(fault_server.requests) == 1


def test_a_cancelled_call_gives_its_place_back_and_keeps_what_may_be_billed(fault_server: FaultServer) -> None:
    fault_server.script([hold()])
    limiter = MemoryLimiter()

    async def main() -> Any:
        registry = {"gpt-4o": ModelConfig(rate_limit_tpm=1000, max_concurrency=1)}
        async with QueryLLM(config(fault_server), registry=registry, limiter=limiter) as llm:
            ended: list[Any] = []
            llm.on_event(lambda event: ended.append(event) if event.name in {"attempt", "end"} else None)
            task = asyncio.create_task(llm.query("gpt-4o", HI, max_tokens=100))
            await asyncio.to_thread(fault_server.wait_held)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(fault_server.wait_closed)
            return ended, llm.health()["gpt-4o"][0].inflight

    events, inflight = run(main())
    assert [(e.name, e.outcome or e.attempt.outcome) for e in events] == [
        ("attempt", "cancelled"),
        ("end", "cancelled"),
    ]
    window = limiter._windows.get("model:gpt-4o")
    assert (window.inflight, inflight, window.request_sum) == (0, 0, 1)
    assert window.token_sum >= 100


# -- listeners ---------------------------------------------------------------------------------------------------------


def test_listeners_are_told_every_turn_of_a_call_and_one_end(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [status(503)])
    fault_server.route("/anthropic", [ok("saved")])
    events: list[Any] = []

    async def main() -> Any:
        async with client(fault_server, retry=RetryPolicy(max_attempts=2, base_delay=0.001)) as llm:
            stop = llm.on_event(events.append)
            response = await llm.query("gpt-4o", HI, fallback_model="claude-sonnet-4-5", tags="night")
            stop()
            await llm.query("claude-sonnet-4-5", HI)
            return response

    response = run(main())
    assert [event.name for event in events] == ["start", "attempt", "retry", "attempt", "fallback", "attempt", "end"]
    assert {event.call for event in events} == {events[0].call}
    assert {event.tags for event in events} == {("night",)}
    assert tuple(event.attempt for event in events if event.name == "attempt") == response.attempts
    assert (events[-1].outcome, events[-1].response) == ("ok", response)
    assert events[4].target == "claude-sonnet-4-5"


def test_a_listener_that_fails_does_not_touch_the_call(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> Any:
        async with client(fault_server) as llm:
            llm.on_event(lambda event: 1 / 0)
            return await llm.query("gpt-4o", HI)

    assert run(main()).content
    assert "a listener of on_event failed" in caplog.text


@pytest.mark.parametrize("way", ["read", "left", "broken"])
def test_a_stream_tells_its_one_end(way: str, fault_server: FaultServer) -> None:
    fault_server.script([faults.cut_mid_stream() if way == "broken" else ok(["one ", "two ", "three"])])
    events: list[Any] = []

    async def main() -> None:
        async with client(fault_server) as llm:
            llm.on_event(events.append)
            stream = await llm.query("gpt-4o", HI, stream=True)
            async for _ in stream:
                if way == "left":
                    break
            await stream.aclose()

    if way == "broken":
        with pytest.raises(StreamInterrupted):
            run(main())
    else:
        run(main())
    ends = [event.outcome for event in events if event.name == "end"]
    assert ends == [{"read": "ok", "left": "cancelled", "broken": "error"}[way]]


# -- retry budget ------------------------------------------------------------------------------------------------------


def test_in_a_full_outage_retries_stay_within_the_budget(fault_server: FaultServer) -> None:
    fault_server.script([status(503)])
    calls = 150

    async def one(llm: QueryLLM) -> None:
        with pytest.raises(ServerError):
            await llm.query("gpt-4o", HI)

    async def main() -> None:
        # The breaker is kept closed: what is looked at is the budget alone.
        policy = BreakerPolicy(failures=10**6, failure_rate=None)
        async with client(fault_server, breaker=policy) as llm:
            await asyncio.gather(*(one(llm) for _ in range(calls)))

    run(main())
    seconds = fault_server.requests[-1].time - fault_server.requests[0].time
    assert len(fault_server.requests) <= 1.2 * calls + 10 * (seconds + 1)
    assert len(fault_server.requests) > calls


# -- the settings file -------------------------------------------------------------------------------------------------

SETTINGS = """
[timeouts]
total = 20
[retry]
max_attempts = 1
[providers.anthropic]
base_url = "{url}/claude"
api_key_env = "TEAM_CLAUDE_KEY"
[models.team-chat]
rate_limit_rpm = 100
input_price_per_million = 2.0
output_price_per_million = 8.0
fallbacks = [{{ model = "claude-sonnet-4-5", params = {{ max_tokens = 77 }} }}]
[[models.team-chat.deployments]]
name = "east"
provider = "openai"
model = "gpt-4.1"
base_url = "{url}/east"
[limits."tag:night"]
rpm = 1
"""


def test_a_client_from_a_settings_file(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_CLAUDE_KEY", "sk-ant-team-000111")
    fault_server.route("/east", [ok("from the east", usage=Usage(1_000_000, 0)), status(503)])
    fault_server.route("/claude", [ok("from claude")])
    path = tmp_path / "llm_master.toml"
    path.write_text(SETTINGS.format(url=fault_server.url))

    async def main() -> Any:
        async with QueryLLM.from_file(path, config(fault_server), limiter=MemoryLimiter()) as llm:
            first = await llm.query("team-chat", HI, tags="night")
            second = await llm.query("team-chat", HI)
            with pytest.raises(ServerError):
                await llm.query("team-chat", HI, fallback_model=[])
            with pytest.raises(RateLimitError, match="tag:night"):
                await llm.query("team-chat", HI, tags="night", limit_wait=0, fallback_model=[])
            return first, second

    first, second = run(main())
    assert (first.content, first.attempts[0].deployment, first.cost) == ("from the east", "east", 2)
    assert second.content == "from claude"
    claude = next(seen for seen in fault_server.requests if seen.path.startswith("/claude"))
    assert claude.header("x-api-key") == "sk-ant-team-000111"
    assert claude.json["max_tokens"] == 77


def test_a_reload_changes_the_next_call_and_keeps_the_one_in_flight(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.route("/old", [faults.slow_first_token(text="old")])
    fault_server.route("/new", [ok("new")])
    path = tmp_path / "llm_master.toml"
    text = '[models.m]\n[[models.m.deployments]]\nprovider = "openai"\nmodel = "x"\nbase_url = "{}/{}"\n'
    path.write_text(text.format(fault_server.url, "old"))

    async def main() -> Any:
        async with QueryLLM.from_file(path, config(fault_server)) as llm:
            flying = asyncio.create_task(llm.query("m", HI))
            await asyncio.to_thread(fault_server.wait_held)
            path.write_text("[models.m]\nprovidr = 1\n")
            with pytest.raises(ConfigurationError, match=r"llm_master.toml:2: .*provider"):
                llm.reload()
            path.write_text(text.format(fault_server.url, "new"))
            llm.reload()
            after = await llm.query("m", HI)
            fault_server.release()
            return await flying, after

    flying, after = run(main())
    assert (after.content, flying.content) == ("new", "old")


def test_a_client_without_a_file_has_nothing_to_reload(fault_server: FaultServer) -> None:
    with pytest.raises(ConfigurationError, match="from_file"):
        client(fault_server).reload()


def test_a_429_makes_the_target_rest_for_all_calls(fault_server: FaultServer) -> None:
    fault_server.route("/openai", [rate_limited("0.3"), ok("later")])

    async def main() -> Any:
        async with client(fault_server) as llm:
            return await asyncio.gather(*(llm.query("gpt-4o", HI) for _ in range(3)))

    answers = run(main())
    assert [answer.content for answer in answers] == ["later"] * 3


def test_a_failed_deployment_is_tried_again_rather_than_waiting_for_one_that_cools(fault_server: FaultServer) -> None:
    fault_server.route("/east", [status(503)])
    fault_server.route("/west", [status(503), ok("second try")])
    policy = BreakerPolicy(failures=2, cooldown=60, max_cooldown=60)

    async def main() -> Any:
        async with client(fault_server, deployments=two(fault_server), breaker=policy) as llm:
            east, west = llm._pool("team-chat", None).balancer.members
            for _ in range(2):
                east.breaker.fail(east.breaker.try_enter(), "server")
            assert west.breaker.cooling() is None
            return await llm.query("team-chat", HI)

    answer = run(main())
    assert answer.content == "second try"
    assert paths(fault_server) == ["west", "west"]


def test_a_reload_that_cannot_work_leaves_what_held_before(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "llm_master.toml"
    path.write_text("[models.gpt-4o]\nrate_limit_rpm = 1\n")

    async def main() -> Any:
        async with QueryLLM.from_file(path, config(fault_server), limiter=None) as llm:
            await llm.query("gpt-4o", HI)
            path.write_text('[limits]\nredis_url_env = "NOT_SET_ANYWHERE"\n[limits."tag:x"]\nrpm = 1\n')
            with pytest.raises(ConfigurationError, match="NOT_SET_ANYWHERE, which is not set"):
                llm.reload()
            with pytest.raises(RateLimitError):
                await llm.query("gpt-4o", HI, limit_wait=0)
            assert list(llm.health()) == ["gpt-4o"]

    run(main())


def test_vectors_and_counts_tell_their_end_too(fault_server: FaultServer) -> None:
    events: list[Any] = []

    async def main() -> None:
        async with client(fault_server) as llm:
            llm.on_event(events.append)
            with pytest.raises(Exception, match="embeddings"):
                await llm.embed("claude-sonnet-4-5", "Hi")

    run(main())
    assert [event.name for event in events] == ["start", "end"]
