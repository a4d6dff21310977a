"""
Spans and metrics of calls, as a real OpenTelemetry SDK receives them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode
from support.asking import HI, KEYS, MODELS, client, with_client
from support.asking import answered as ask
from support.behaviours import hold, ok, status
from support.bodies import CHAT, MESSAGES
from support.bodies import Usage as Said

from llm_master import ConfigurationError, Limit, LLMError, LLMResponse, QueryLLM, ToolCall
from llm_master.catalogue import load_rows
from llm_master.telemetry import OpenTelemetry, contents, instrument, listeners_of, semconv

MODEL = MODELS[CHAT]
SECRET = "the-secret-words-of-a-user"


class Sdk:
    """An SDK of its own, and what it was given."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def telemetry(self, **options):
        return OpenTelemetry(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    @property
    def spans(self):
        return sorted(self.exporter.get_finished_spans(), key=lambda span: (span.start_time, span.end_time))

    @property
    def calls(self):
        return [span for span in self.spans if not span.name.startswith("attempt ")]

    def attempts(self, call):
        found = [span for span in self.spans if span.parent and span.parent.span_id == call.context.span_id]
        return sorted(found, key=lambda span: span.attributes.get(semconv.ATTEMPT_NUMBER, 0))

    @property
    def points(self):
        """By metric, its data points."""
        data = self.reader.get_metrics_data()
        metrics = [each for one in data.resource_metrics for scope in one.scope_metrics for each in scope.metrics]
        return {each.name: list(each.data.data_points) for each in metrics}


@pytest.fixture
def sdk():
    return Sdk()


def run(server, work, telemetry, **options):
    return with_client(server, work, telemetry=telemetry, **options)


def everything(sdk):
    """All that was recorded, as one text."""
    spans = [span.to_json() for span in sdk.spans]
    labels = [dict(point.attributes) for points in sdk.points.values() for point in points]
    return "\n".join([*spans, json.dumps(labels)])


# Names ----------------------------------------------------------------------------------------------------------------


def names_of(*modules):
    return {
        value
        for module in modules
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }


def test_every_name_is_one_of_the_conventions_or_ours():
    known = names_of(gen_ai_attributes, gen_ai_metrics, error_attributes, http_attributes, server_attributes)
    used = names_of(semconv) | {attribute for attribute, _ in semconv.PARAMETERS.values()}
    used -= {semconv.SCHEMA_URL}
    assert len(used) > 40
    assert {name for name in used if not name.startswith("llm_master.")} - known == set()


def test_every_word_is_one_of_the_conventions():
    values = {each.value for each in gen_ai_attributes.GenAiProviderNameValues}
    # The conventions have it, the package of 2026-11 not yet.
    assert set(semconv.PROVIDERS.values()) - values == {"moonshot_ai"}
    rows = load_rows()
    assert {key for key in semconv.PROVIDERS if key not in rows} <= {"bedrock_openai"}
    named = {semconv.PROVIDERS.get(key, key) for key in rows}
    assert values - named == {"gcp.gen_ai", "ibm.watsonx.ai"}
    operations = {each.value for each in gen_ai_attributes.GenAiOperationNameValues}
    assert set(semconv.OPERATIONS.values()) <= operations
    outputs = {each.value for each in gen_ai_attributes.GenAiOutputTypeValues}
    assert set(semconv.OUTPUTS.values()) <= outputs


def test_instruments_are_those_of_the_conventions(fault_server, sdk):
    run(fault_server, lambda llm: ask(llm, stream=True), sdk.telemetry())
    metrics = {
        each.name: each
        for one in sdk.reader.get_metrics_data().resource_metrics
        for scope in one.scope_metrics
        for each in scope.metrics
    }
    theirs = Sdk()
    meter = theirs.meters.get_meter("reference")
    gen_ai_metrics.create_gen_ai_client_operation_duration(meter).record(1)
    gen_ai_metrics.create_gen_ai_client_token_usage(meter).record(1)
    gen_ai_metrics.create_gen_ai_client_operation_time_to_first_chunk(meter).record(1)
    reference = {
        each.name: each.unit
        for one in theirs.reader.get_metrics_data().resource_metrics
        for scope in one.scope_metrics
        for each in scope.metrics
    }
    assert {name: each.unit for name, each in metrics.items()} == reference
    bounds = {name: tuple(each.data.data_points[0].explicit_bounds) for name, each in metrics.items()}
    assert bounds[semconv.TOKEN_USAGE] == semconv.TOKENS
    assert bounds[semconv.OPERATION_DURATION] == bounds[semconv.TIME_TO_FIRST_CHUNK] == semconv.SECONDS


# Spans ----------------------------------------------------------------------------------------------------------------


def test_a_call_is_a_span_with_its_attempt_below(fault_server, sdk):
    fault_server.default = ok(usage=Said(11, 7))
    response = run(
        fault_server, lambda llm: ask(llm, temperature=0, max_tokens=50, tags=("team", "a")), sdk.telemetry()
    )
    (call,) = sdk.calls
    (attempt,) = sdk.attempts(call)
    assert (call.name, call.kind, call.status.status_code) == ("chat gpt-4o-mini", SpanKind.CLIENT, StatusCode.UNSET)
    found = dict(call.attributes)
    cost = found.pop(semconv.CALL_COST)
    assert cost == float(response.cost) > 0
    assert found.pop(semconv.CALL_ID, "") in ("", response.call_id)
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.response.model": "gpt-4o-mini",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "server.address": "127.0.0.1",
        "server.port": fault_server.port,
        "llm_master.model": MODEL,
        "llm_master.tags": ("team", "a"),
        "llm_master.outcome": "ok",
        "llm_master.attempts": 1,
        **({"llm_master.request_id": response.request_id} if response.request_id else {}),
    }
    assert attempt.name == "attempt gpt-4o-mini"
    assert attempt.attributes["http.response.status_code"] == 200
    assert attempt.attributes["llm_master.attempt.bytes_sent"] == len(fault_server.requests[0].body)
    assert attempt.attributes["server.port"] == fault_server.port
    assert not [name for name in attempt.attributes if name.startswith("gen_ai.usage")]
    assert attempt.context.trace_id == call.context.trace_id
    assert call.instrumentation_scope.schema_url == semconv.SCHEMA_URL


def test_times_are_those_of_the_record(fault_server, sdk):
    fault_server.script([status(503), ok()])
    response = run(fault_server, ask, sdk.telemetry())
    (call,) = sdk.calls
    first, second = sdk.attempts(call)
    for span, attempt in zip((first, second), response.attempts, strict=True):
        assert abs((span.end_time - span.start_time) / 1e9 - attempt.latency) < 1e-6
        assert abs((span.start_time - call.start_time) / 1e9 - attempt.started) < 1e-6
        assert call.start_time <= span.start_time <= span.end_time <= call.end_time
    assert first.end_time <= second.start_time
    assert (call.end_time - call.start_time) / 1e9 >= response.latency


def test_retries_and_fallbacks_are_told(fault_server, sdk):
    fault_server.script([status(500), status(500), status(500), ok()])
    run(fault_server, lambda llm: ask(llm, fallback_model=MODELS[MESSAGES]), sdk.telemetry())
    (call,) = sdk.calls
    attempts = sdk.attempts(call)
    assert [span.attributes.get("error.type") for span in attempts] == ["ServerError"] * 3 + [None]
    assert [span.status.status_code for span in attempts] == [StatusCode.ERROR] * 3 + [StatusCode.UNSET]
    assert [span.attributes["gen_ai.provider.name"] for span in attempts] == ["openai"] * 3 + ["anthropic"]
    assert [span.attributes["llm_master.attempt.number"] for span in attempts] == [1, 2, 3, 4]
    assert [event.name for event in call.events] == ["llm_master.retry", "llm_master.retry", "llm_master.fallback"]
    assert call.events[-1].attributes["llm_master.target"] == MODELS[MESSAGES]
    assert call.events[0].attributes["error.type"] == "ServerError"
    assert (call.status.status_code, call.attributes["llm_master.attempts"]) == (StatusCode.UNSET, 4)
    assert call.attributes["gen_ai.provider.name"] == "openai"
    assert call.attributes["gen_ai.response.model"] == "claude-sonnet-4-5"


def test_what_was_never_sent_is_an_event_and_no_span(fault_server, sdk):
    async def work(llm):
        await ask(llm)
        await ask(llm, fallback_model=MODELS[MESSAGES], limit_wait=0)

    run(fault_server, work, sdk.telemetry(), limits=[Limit("provider:openai", rpm=1)])
    _, call = sdk.calls
    (attempt,) = sdk.attempts(call)
    assert attempt.attributes["gen_ai.provider.name"] == "anthropic"
    assert [event.name for event in call.events] == ["llm_master.skipped", "llm_master.fallback"]
    assert call.events[0].attributes["error.type"] == "RateLimitError"
    assert call.attributes["llm_master.attempts"] == 1


def test_an_error_names_its_class_and_nothing_of_its_text(fault_server, sdk):
    fault_server.default = status(400, f"we do not like {SECRET}".encode())

    async def failing(llm):
        with pytest.raises(LLMError, match=SECRET):
            await ask(llm, SECRET)

    run(fault_server, failing, sdk.telemetry())
    (call,) = sdk.calls
    assert (call.status.status_code, call.status.description) == (StatusCode.ERROR, None)
    assert call.attributes["error.type"] == "BadRequestError"
    assert call.attributes["llm_master.outcome"] == "error"
    assert sdk.attempts(call)[0].attributes["http.response.status_code"] == 400
    assert SECRET not in everything(sdk)


@pytest.mark.parametrize("stream", [False, True])
def test_no_content_and_no_key_is_recorded(fault_server, sdk, stream):
    fault_server.default = ok(SECRET)

    async def work(llm):
        tools = [{"type": "function", "function": {"name": "t", "description": SECRET, "parameters": {}}}]
        await ask(llm, SECRET, stream=stream, tools=tools, stop=[SECRET], user=SECRET)

    run(fault_server, work, sdk.telemetry())
    text = everything(sdk)
    assert SECRET not in text
    assert KEYS[CHAT] not in text
    assert "gpt-4o-mini" in text


def test_contents_are_recorded_when_asked_for(fault_server, sdk):
    fault_server.default = ok(SECRET)
    run(fault_server, lambda llm: llm.query(MODEL, HI), sdk.telemetry(capture_contents=True))
    (call,) = sdk.calls
    assert json.loads(call.attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "Say hello."}]}
    ]
    assert json.loads(call.attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": SECRET}], "finish_reason": "stop"}
    ]
    assert KEYS[CHAT] not in everything(sdk)


def test_contents_that_no_json_can_hold_lose_no_span(fault_server, sdk):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    half = {"type": "function", "function": {"name": "f", "description": "half \ud800 a character"}}
    far = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "default": deep}}}
    asked = [("half \ud800 a character", {}), (HI, {"tools": [half]}), (HI, {"tools": [far]})]

    async def work(llm):
        for messages, options in asked:
            with pytest.raises(LLMError):  # the request cannot be written either
                await llm.query(MODEL, messages, **options)

    run(fault_server, work, sdk.telemetry(capture_contents=True))
    assert [span.attributes["llm_master.outcome"] for span in sdk.calls] == ["error"] * 3
    first, *others = sdk.calls
    assert "half \\ud800 a character" in json.loads(first.attributes[semconv.INPUT_MESSAGES])["shown"]
    shown = [json.loads(span.attributes[semconv.TOOL_DEFINITIONS])["shown"] for span in others]
    assert "half \\ud800 a character" in shown[0]
    assert shown[1] == "nested too deeply"


def test_errors_show_their_text_with_contents(fault_server, sdk):
    fault_server.default = status(400, b"no such parameter")

    async def failing(llm):
        with pytest.raises(LLMError):
            await ask(llm)

    run(fault_server, failing, sdk.telemetry(capture_contents=True))
    assert "no such parameter" in sdk.calls[0].status.description


# Streams --------------------------------------------------------------------------------------------------------------


def test_a_stream_ends_its_span_when_it_ends(fault_server, sdk):
    fault_server.default = ok(["one ", "two"], middle=hold())

    async def work(llm):
        stream = await llm.query(MODEL, HI, stream=True)
        pieces = aiter(stream)
        await anext(pieces)
        before = len(sdk.spans)
        fault_server.release()
        async for _ in pieces:
            pass
        return before, stream.response

    before, response = run(fault_server, work, sdk.telemetry())
    (call,) = sdk.calls
    assert before == 0
    assert call.attributes["gen_ai.request.stream"] is True
    assert call.attributes["gen_ai.response.time_to_first_chunk"] == response.time_to_first_token
    assert call.attributes["llm_master.outcome"] == "ok"
    assert len(sdk.attempts(call)) == 1


@pytest.mark.parametrize("how", ["closed", "left", "dropped", "unread"])
def test_a_stream_that_is_left_ends_its_span(fault_server, sdk, how):
    fault_server.default = ok(["one ", "two"], middle=hold())

    async def work(llm):
        stream = await llm.query(MODEL, HI, stream=True)
        if how in ("closed", "left"):
            async for _ in stream:
                break
            if how == "closed":
                await stream.aclose()
        elif how == "dropped":
            await anext(aiter(stream))
        del stream
        gc.collect()
        await asyncio.sleep(0.01)

    run(fault_server, work, telemetry := sdk.telemetry())
    (call,) = sdk.calls
    assert (call.attributes["llm_master.outcome"], call.status.status_code) == ("cancelled", StatusCode.UNSET)
    assert [span.attributes["llm_master.outcome"] for span in sdk.attempts(call)] == ["cancelled"]
    assert telemetry._calls == {}


def test_a_call_that_is_cancelled_ends_its_span(fault_server, sdk):
    fault_server.default = hold()

    async def work(llm):
        task = asyncio.create_task(ask(llm))
        await asyncio.to_thread(fault_server.wait_held)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(fault_server, work, telemetry := sdk.telemetry())
    (call,) = sdk.calls
    assert call.attributes["llm_master.outcome"] == "cancelled"
    assert len(sdk.attempts(call)) == 1
    assert telemetry._calls == {}


def test_a_stream_that_breaks_off_is_an_error(fault_server, sdk):
    from support.faults import cut_mid_stream

    fault_server.default = cut_mid_stream()

    async def work(llm):
        with pytest.raises(LLMError):
            async for _ in await llm.query(MODEL, HI, stream=True, max_attempts=1):
                pass

    run(fault_server, work, telemetry := sdk.telemetry())
    (call,) = sdk.calls
    assert (call.attributes["error.type"], call.status.status_code) == ("StreamInterrupted", StatusCode.ERROR)
    assert [span.attributes["llm_master.outcome"] for span in sdk.attempts(call)] == ["interrupted"]
    assert telemetry._calls == {}


def test_a_call_that_is_refused_before_it_runs_leaves_nothing(fault_server, sdk):
    async def work(llm):
        for wrong in ({"on_interrupt": "sometimes"}, {"timeout": -1}, {"temperature": "hot"}):
            with pytest.raises(LLMError):
                await ask(llm, **wrong)

    run(fault_server, work, telemetry := sdk.telemetry())
    assert (sdk.spans, telemetry._calls) == ([], {})


# Context --------------------------------------------------------------------------------------------------------------


def test_the_span_is_a_child_of_the_current_one_and_current_itself(fault_server, sdk):
    tracer = sdk.tracers.get_tracer("application")
    inside = []

    async def work(llm):
        llm.on_event(lambda event: inside.append((event.name, trace.get_current_span().get_span_context().span_id)))
        with tracer.start_as_current_span("job") as job:
            await asyncio.gather(ask(llm), ask(llm, stream=True))
            assert trace.get_current_span() is job
        assert not trace.get_current_span().get_span_context().is_valid
        await ask(llm)

    run(fault_server, work, sdk.telemetry())
    (job,) = [span for span in sdk.calls if span.name == "job"]
    first, second, third = [span for span in sdk.calls if span.name.startswith("chat")]
    assert first.parent.span_id == second.parent.span_id == job.context.span_id
    assert third.parent is None
    own = {span.context.span_id for span in (first, second, third)}
    assert {span_id for name, span_id in inside if name == "start"} == own


def test_parents_are_right_for_many_calls_at_once(fault_server, sdk):
    tracer = sdk.tracers.get_tracer("application")

    async def one(llm, number):
        with tracer.start_as_current_span(f"job {number}"):
            await asyncio.gather(*(ask(llm, stream=number % 2 == 1) for _ in range(3)))

    async def work(llm):
        await asyncio.gather(*(one(llm, number) for number in range(8)))

    fault_server.script([status(503), ok(), ok(), status(503), ok()])
    run(fault_server, work, sdk.telemetry())
    jobs = {span.context.span_id: span for span in sdk.calls if span.name.startswith("job")}
    calls = [span for span in sdk.calls if span.name.startswith("chat")]
    assert (len(jobs), len(calls)) == (8, 24)
    assert sorted(list(jobs).index(call.parent.span_id) for call in calls) == [n for n in range(8) for _ in range(3)]
    assert sum(len(sdk.attempts(call)) for call in calls) == len(fault_server.requests) == 26
    for call in calls:
        assert all(span.context.trace_id == call.context.trace_id for span in sdk.attempts(call))


def test_calls_without_a_loop_keep_their_parent(fault_server, sdk):
    job = sdk.tracers.get_tracer("application").start_as_current_span("job")
    with client(fault_server, telemetry=sdk.telemetry()) as llm, job:
        llm.query_sync(MODEL, HI)
    call, job = sorted(sdk.calls, key=lambda span: span.name)
    assert call.parent.span_id == job.context.span_id


def test_hedged_and_shared_calls_have_one_span_each(fault_server, sdk):
    fault_server.script([hold(), ok()])
    run(fault_server, lambda llm: ask(llm, hedge_after=0.01), sdk.telemetry())
    (call,) = sdk.calls
    assert sorted(span.attributes["llm_master.outcome"] for span in sdk.attempts(call)) == ["cancelled", "ok"]
    assert "llm_master.hedge" in [event.name for event in call.events]


def test_an_answer_of_the_cache_has_no_attempt(fault_server, sdk):
    async def work(llm):
        await ask(llm)
        await ask(llm)

    run(fault_server, work, sdk.telemetry(), cache="memory")
    first, second = sdk.calls
    assert (len(sdk.attempts(first)), len(sdk.attempts(second))) == (1, 0)
    assert second.attributes["llm_master.cached"] is True


def test_other_operations_have_their_names(fault_server, sdk):
    body = b'{"model": "m", "data": [{"index": 0, "embedding": [0.5, 0.25]}], "usage": {"prompt_tokens": 3}}'
    fault_server.default = status(200, body, content_type="application/json")
    run(fault_server, lambda llm: llm.embed("openai/text-embedding-3-small", SECRET, dimensions=2), sdk.telemetry())
    (call,) = sdk.calls
    assert call.name == "embeddings text-embedding-3-small"
    assert call.attributes["gen_ai.embeddings.dimension.count"] == 2
    assert call.attributes["gen_ai.usage.input_tokens"] == 3
    assert SECRET not in everything(sdk)


# Metrics --------------------------------------------------------------------------------------------------------------


def test_metrics_count_each_call_and_token_once(fault_server, sdk):
    fault_server.script([status(503), ok(usage=Said(11, 7)), status(400, b"no"), ok(usage=Said(5, 3))])

    async def work(llm):
        await ask(llm)
        with pytest.raises(LLMError):
            await ask(llm)
        await ask(llm, stream=True)

    run(fault_server, work, sdk.telemetry())
    duration = sdk.points[semconv.OPERATION_DURATION]
    by_error = {point.attributes.get("error.type"): point.count for point in duration}
    assert by_error == {None: 2, "BadRequestError": 1}
    tokens = {point.attributes["gen_ai.token.type"]: point.sum for point in sdk.points[semconv.TOKEN_USAGE]}
    assert tokens == {"input": 16, "output": 10}
    (first,) = sdk.points[semconv.TIME_TO_FIRST_CHUNK]
    assert first.count == 1
    assert first.attributes["gen_ai.response.model"] == "gpt-4o-mini"
    for point in (*duration, *sdk.points[semconv.TOKEN_USAGE], first):
        assert {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"} <= point.attributes.keys()
        assert point.attributes["server.port"] == fault_server.port


def test_what_was_only_estimated_is_no_token_usage(fault_server, sdk):
    fault_server.default = ok(["one ", "two"], middle=hold(), usage=None)

    async def work(llm):
        stream = await llm.query(MODEL, HI, stream=True)
        async for _ in stream:
            break
        await stream.aclose()

    run(fault_server, work, sdk.telemetry())
    assert semconv.TOKEN_USAGE not in sdk.points
    (span,) = sdk.attempts(sdk.calls[0])
    assert span.attributes["llm_master.attempt.usage_estimated"] is True


# Setting up -----------------------------------------------------------------------------------------------------------


def test_instrument_can_be_ended_and_calls_that_run_are_seen_to_their_end(fault_server, sdk):
    fault_server.script([hold(), ok()])

    async def work(llm):
        stop = instrument(llm, telemetry)
        running = asyncio.create_task(llm.query(MODEL, HI, max_attempts=1, timeout=5))
        await asyncio.to_thread(fault_server.wait_held)
        stop()
        await ask(llm)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        stop()
        return len(llm._listeners)

    telemetry = sdk.telemetry()
    left = run(fault_server, work, None)
    (call,) = sdk.calls
    assert (call.attributes["llm_master.outcome"], left, telemetry._calls) == ("cancelled", 0, {})


def test_calls_that_began_before_are_not_taken_up(fault_server, sdk):
    fault_server.default = hold()

    async def work(llm):
        running = asyncio.create_task(ask(llm))
        await asyncio.to_thread(fault_server.wait_held)
        llm.on_event(telemetry)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    telemetry = sdk.telemetry()
    run(fault_server, work, None)
    assert (sdk.spans, telemetry._calls) == ([], {})


def test_a_telemetry_that_fails_costs_no_call(fault_server, caplog):
    class Broken:
        def around(self, call, steps):
            raise RuntimeError("no way in")

        def __call__(self, event):
            raise RuntimeError("no way on")

    with caplog.at_level(logging.ERROR, logger="llm_master"):
        response = run(fault_server, ask, Broken())
    assert response.content
    assert "no way in" in caplog.text
    assert "no way on" in caplog.text


@pytest.mark.parametrize("given", ["opentelemetry", 5, OpenTelemetry, ["otel", None]])
def test_what_is_no_telemetry_is_refused(given):
    with pytest.raises(ConfigurationError, match="give 'otel', 'prometheus'"):
        QueryLLM(telemetry=given)


def test_several_can_be_given(sdk):
    listener = sdk.telemetry()
    found = listeners_of(["otel", listener, print])
    assert [type(each) for each in found[:2]] == [OpenTelemetry, OpenTelemetry]
    assert found[1:] == [listener, print]


PROGRAM = """
import sys
sys.modules["opentelemetry"] = sys.modules["prometheus_client"] = None
from llm_master import ConfigurationError, QueryLLM
for name in ("otel", "prometheus"):
    try:
        QueryLLM(telemetry=name)
    except ConfigurationError as error:
        print(error)
QueryLLM()
print([name for name in sys.modules if name.startswith("llm_master.telemetry.o")])
"""


def test_a_missing_extra_is_named():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, second, third = done.stdout.splitlines()
    assert first == "OpenTelemetry needs the otel extra: pip install 'llm-master[otel]'"
    assert second == "metrics for Prometheus need the prometheus extra: pip install 'llm-master[prometheus]'"
    assert third == "['llm_master.telemetry.otel']"


def test_a_client_without_telemetry_loads_nothing_of_it(fault_server):
    program = (
        "import sys\nfrom llm_master import LLMConfig, QueryLLM\n"
        f"llm = QueryLLM(LLMConfig(openai_api_key='sk-x', base_urls={{'openai': {fault_server.url!r}}}))\n"
        "print(llm.query_sync('gpt-4o-mini', 'Hi').content)\n"
        "print([name for name in sys.modules if 'telemetry' in name or name.startswith('prometheus')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"


# Contents -------------------------------------------------------------------------------------------------------------


def test_messages_take_the_conventions_form():
    call = ToolCall("c1", "weather", {"city": "Paris"})
    said = contents.input_messages(
        [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [call.to_dict()]},
            {"role": "tool", "tool_call_id": "c1", "content": "rainy"},
        ]
    )
    system, user, assistant, tool = json.loads(said)
    assert system["parts"] == [{"type": "text", "content": "Be brief."}]
    assert [part["type"] for part in user["parts"]] == ["text", "uri", "omitted"]
    assert user["parts"][1] == {"type": "uri", "modality": "image", "uri": "https://example.com/a.png"}
    assert "AAAA" not in said
    assert assistant["parts"] == [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city":"Paris"}'}]
    assert tool == {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rainy"}]}


def test_answers_take_the_conventions_form():
    response = LLMResponse("", "m", finish_reason="tool_calls", reasoning="Hm.", tool_calls=[ToolCall("c1", "t")])
    (message,) = json.loads(contents.output_messages(response))
    assert [part["type"] for part in message["parts"]] == ["reasoning", "tool_call"]
    assert message["finish_reason"] == "tool_call"
    assert contents.output_messages(object()) is None
    assert contents.tool_definitions(None) is None
    tools = [{"type": "function", "function": {"name": "t", "description": "d"}}]
    assert json.loads(contents.tool_definitions(tools)) == [{"type": "function", "name": "t", "description": "d"}]
