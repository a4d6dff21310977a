"""
``llm.track``: what the calls of a job used, to the last byte and digit.
"""

from __future__ import annotations

import asyncio
import json
import threading
from decimal import Decimal

import pytest
from support.asking import HI, MODELS, client, with_client
from support.asking import answered as ask
from support.behaviours import hold, ok, status
from support.bodies import CHAT, MESSAGES

from llm_master import Attempt, LLMError, LLMResponse, ModelConfig, Usage
from llm_master.tracking import Job, Jobs

CHAT_MODEL = MODELS[CHAT]
PRICES = {
    CHAT_MODEL: ModelConfig(input_price_per_million=1.0, output_price_per_million=10.0),
    "openai/text-embedding-3-small": ModelConfig(input_price_per_million=2.0, output_price_per_million=0.0),
}
# The server's good answer: 11 tokens in, 7 out.
GOOD = ok()
COST = Decimal("0.000081")


def run(server, work, **options):
    return with_client(server, work, registry=PRICES, **options)


@pytest.fixture(autouse=True)
def _good(fault_server):
    fault_server.default = GOOD


def test_a_job_adds_up_its_calls(fault_server):
    async def work(llm):
        await ask(llm)
        with llm.track("report") as job:
            first, second = await ask(llm), await ask(llm, stream=True)
        await ask(llm)
        return job, first, second

    job, first, second = run(fault_server, work)
    assert (job.name, job.calls, job.ok, job.attempts, job.errors, job.cancelled) == ("report", 2, 2, 2, 0, 0)
    assert job.usage == first.usage + second.usage == Usage(22, 14)
    assert job.total_cost == job.computed_cost == first.cost + second.cost == 2 * COST
    assert (job.reported_cost, job.complete) == (None, True)
    attempts = (*first.attempts, *second.attempts)
    assert job.bytes_sent == sum(len(seen.body) for seen in fault_server.requests[1:3])
    assert job.bytes_received == sum(each.bytes_received for each in attempts)


def test_jobs_lie_in_each_other(fault_server):
    async def work(llm):
        async with llm.track("outer") as outer:
            await ask(llm)
            with llm.track("inner") as inner, inner, outer:
                await ask(llm)
            await ask(llm)
        return outer, inner

    outer, inner = run(fault_server, work)
    assert (outer.calls, inner.calls) == (3, 1)
    assert outer.total_cost == 3 * COST


def test_tasks_belong_to_the_job_in_which_they_were_made(fault_server):
    async def one(llm, name, times):
        with llm.track(name) as job:
            await asyncio.gather(*(ask(llm) for _ in range(times)))
        return job

    async def work(llm):
        with llm.track("all") as everything:
            jobs = await asyncio.gather(*(one(llm, str(times), times) for times in range(5)))
        return everything, jobs

    everything, jobs = run(fault_server, work)
    assert [job.calls for job in jobs] == [0, 1, 2, 3, 4]
    assert everything.calls == 10
    assert everything.total_cost == sum(job.total_cost for job in jobs) == 10 * COST


def test_calls_without_a_loop_and_of_other_threads_count(fault_server):
    with client(fault_server, registry=PRICES) as llm, llm.track("sync") as job:
        llm.query_sync(CHAT_MODEL, HI)
        assert llm.query_sync(CHAT_MODEL, HI, stream=True).text()

        def elsewhere(*, joins):
            if joins:
                with job:
                    llm.query_sync(CHAT_MODEL, HI)
            else:
                llm.query_sync(CHAT_MODEL, HI)

        for joins in (True, False):
            thread = threading.Thread(target=elsewhere, kwargs={"joins": joins})
            thread.start()
            thread.join()
        assert (job.calls, job.total_cost) == (3, 3 * COST)
    assert len(fault_server.requests) == 4


def test_another_client_is_another_thing(fault_server):
    async def work(llm):
        async with client(fault_server) as other:
            with llm.track("mine") as mine, other.track("other") as others:
                await ask(other)
        return mine, others

    mine, others = run(fault_server, work)
    assert (mine.calls, others.calls) == (0, 1)


def test_failed_attempts_and_calls_count(fault_server):
    fault_server.script([status(503), GOOD, status(400, b"no"), GOOD])

    async def work(llm):
        with llm.track("job") as job:
            await ask(llm)
            with pytest.raises(LLMError):
                await ask(llm)
            fallback = await llm.query(CHAT_MODEL, HI, fallback_model=MODELS[MESSAGES])
        return job, fallback

    job, _ = run(fault_server, work)
    assert (job.calls, job.ok, job.errors, job.attempts) == (3, 2, 1, 4)
    assert job.bytes_sent == sum(len(seen.body) for seen in fault_server.requests)
    assert (job.usage, job.total_cost) == (Usage(22, 14), 2 * COST)


def test_a_call_that_is_cancelled_counts_as_far_as_it_came(fault_server):
    fault_server.default = ok(["one ", "two ", "three"], middle=hold())

    async def work(llm):
        with llm.track("job") as job:
            stream = await llm.query(CHAT_MODEL, HI, stream=True)
            async for _ in stream:
                break
            await stream.aclose()
        return job

    job = run(fault_server, work)
    assert (job.calls, job.cancelled, job.attempts) == (1, 1, 1)
    assert job.usage.estimated
    assert job.usage.input_tokens > 0
    assert job.total_cost > 0


def test_a_stream_that_ends_after_the_block_counts(fault_server):
    async def work(llm):
        with llm.track("job") as job:
            stream = await llm.query(CHAT_MODEL, HI, stream=True)
        before = job.calls
        await stream.text()
        return job, before

    job, before = run(fault_server, work)
    assert (before, job.calls, job.total_cost) == (0, 1, COST)


def test_a_kept_answer_costs_nothing(fault_server):
    async def work(llm):
        with llm.track("job") as job:
            await ask(llm)
            await ask(llm)
        return job

    job = run(fault_server, work, cache="memory")
    assert (job.calls, job.cached, job.attempts) == (2, 1, 1)
    assert (job.usage, job.total_cost, job.complete) == (Usage(11, 7), COST, True)


def test_other_operations_count_and_counting_tokens_does_not(fault_server):
    body = b'{"model": "m", "data": [{"index": 0, "embedding": [0.5, 0.25]}], "usage": {"prompt_tokens": 3}}'
    count = b'{"object": "response.input_tokens", "input_tokens": 5}'
    fault_server.script([status(200, each, content_type="application/json") for each in (body, count)])

    async def work(llm):
        with llm.track("job") as job:
            await llm.embed("openai/text-embedding-3-small", "a text")
            assert (await llm.count_tokens("openai/gpt-4o-mini", HI)).tokens == 5
        return job

    job = run(fault_server, work)
    assert (job.calls, job.usage, job.total_cost) == (1, Usage(3), Decimal("0.000006"))


def test_what_is_refused_before_it_runs_is_no_call(fault_server):
    async def work(llm):
        with llm.track("job") as job:
            with pytest.raises(LLMError):
                await llm.query(CHAT_MODEL, HI, on_interrupt="sometimes")
            llm.explain(CHAT_MODEL, HI)
        return job

    assert run(fault_server, work).calls == 0


def test_a_job_lives_on_when_the_settings_are_read_again(fault_server, tmp_path):
    path = tmp_path / "llm_master.toml"
    path.write_text("[retry]\nmax_attempts = 2\n", encoding="utf-8")

    async def work(llm):
        with llm.track("job") as job:
            await ask(llm)
            llm.reload(path)
            await ask(llm)
        return job

    assert run(fault_server, work).calls == 2


# By itself ------------------------------------------------------------------------------------------------------------


class Call:
    def __init__(self, *attempts):
        self.attempts = list(attempts)


def attempt(usage=None, cost=None, reported=None, **fields):
    return Attempt("p", "m", usage=usage, pricer=lambda _: cost, reported_cost=reported, **fields)


def answer(one, **fields):
    return LLMResponse("a", usage=one.usage, pricer=one.pricer, reported_cost=one.reported_cost, **fields)


def note(job, *attempts, **fields):
    response = answer(attempts[-1], attempts=attempts, **fields) if attempts and attempts[-1].usage else None
    job.note(Call(*attempts), "ok", response, None)


def test_a_reported_cost_beats_a_computed_one_and_both_are_kept():
    job = Job("j", Jobs())
    note(job, attempt(Usage(1, 1), Decimal("0.3"), Decimal("0.1")))
    note(job, attempt(Usage(1, 1), Decimal("0.2")))
    assert (job.reported_cost, job.computed_cost, job.total_cost) == (Decimal("0.1"), Decimal("0.5"), Decimal("0.3"))
    assert job.complete


def test_an_unknown_price_is_not_nothing():
    job = Job("j", Jobs())
    assert (job.total_cost, job.complete) == (0, True)
    note(job, attempt(Usage(1, 1), None))
    assert (job.total_cost, job.complete) == (None, False)
    note(job, attempt(Usage(1, 1), Decimal("0.2")))
    assert (job.total_cost, job.complete) == (Decimal("0.2"), False)


def test_every_billed_attempt_of_a_call_is_paid():
    job = Job("j", Jobs())
    broken = attempt(Usage(5, 1, estimated=True), Decimal("0.01"), outcome="interrupted")
    refused = attempt(outcome="error", bytes_sent=7)
    skipped = attempt(outcome="skipped")
    note(job, skipped, refused, broken, attempt(Usage(1, 1), Decimal("0.02")))
    assert (job.attempts, job.bytes_sent, job.total_cost) == (3, 7, Decimal("0.03"))
    assert job.usage == Usage(6, 2, estimated=True)


def test_sums_are_exact():
    job = Job("j", Jobs())
    tiny = Decimal("0.000000000000000000000000000001")
    for cost in (Decimal(10) ** 9, tiny, tiny):
        note(job, attempt(Usage(1), cost))
    assert job.total_cost == Decimal("1000000000.000000000000000000000000000002")
    assert job.as_dict()["total_cost"] == "1000000000.000000000000000000000000000002"


def test_a_price_that_is_not_all_makes_the_job_incomplete():
    class Partial:
        complete = False

        def __call__(self, usage):
            return Decimal(1)

        def details(self, usage):
            return self

    job = Job("j", Jobs())
    one = Attempt("p", "m", usage=Usage(1), pricer=Partial())
    job.note(Call(one), "ok", answer(one, attempts=(one,)), None)
    assert (job.total_cost, job.complete) == (1, False)


def test_threads_lose_nothing():
    job = Job("j", Jobs())
    one = attempt(Usage(1, 2), Decimal("0.001"), bytes_sent=3)
    threads = [
        threading.Thread(target=lambda: [note(job, one) for _ in range(200)], name=f"t{number}") for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (job.calls, job.usage, job.bytes_sent, job.total_cost) == (1600, Usage(1600, 3200), 4800, Decimal("1.600"))


def test_a_report_is_plain_json(fault_server):
    async def work(llm):
        with llm.track("job") as job:
            await ask(llm)
        return job

    job = run(fault_server, work)
    report = json.loads(json.dumps(job.as_dict()))
    assert report["usage"]["input_tokens"] == 11
    assert {name: report[name] for name in ("name", "calls", "total_cost", "reported_cost", "complete")} == {
        "name": "job",
        "calls": 1,
        "total_cost": "0.000081",
        "reported_cost": None,
        "complete": True,
    }
    assert repr(job) == "Job('job', calls=1, Usage(input_tokens=11, output_tokens=7), total_cost=0.000081)"


def test_nothing_is_asked_of_a_client_without_jobs(fault_server):
    async def work(llm):
        await ask(llm)
        return llm._engine.jobs

    assert run(fault_server, work) is None
