"""
Spans and metrics of calls for OpenTelemetry, in its conventions for generative AI.
"""

from __future__ import annotations

from contextlib import nullcontext
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llm_master.errors import ConfigurationError
from llm_master.telemetry import semconv
from llm_master.telemetry.watching import Watcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from llm_master.classes import Attempt
    from llm_master.events import CallEvent

__all__ = ["OpenTelemetry"]

_SECOND = 1_000_000_000


class _Call:
    """One call on its way."""

    __slots__ = ("attributes", "context", "identity", "number", "record", "span", "started", "steps")

    def __init__(self, record: Any, steps: Sequence[Any]) -> None:
        self.record, self.steps = record, steps
        #: Wall clock, nanoseconds; the times of the record count from here.
        self.started: int = time_ns() - round((monotonic() - record.started) * _SECOND)
        self.number = 0
        operation = semconv.OPERATIONS.get(record.kind, record.kind)
        self.identity = _identity(operation, *_first(record, steps))
        self.attributes = {**self.identity, **_asked(record, steps)}
        self.span: Any = None
        self.context: Any = None

    def at(self, seconds: float) -> int:
        """The wall clock at a time of the record."""
        return int(self.started) + round(seconds * _SECOND)

    def target_of(self, attempt: Attempt) -> str | None:
        """The address that an attempt went to."""
        for step in self.steps:
            for place in step.pool.places:
                if (place.name, place.target.provider) == (attempt.deployment, attempt.provider):
                    return getattr(place.target, "url", None)
        return None


class OpenTelemetry(Watcher[_Call]):
    """
    A span for each call with a span for each of its attempts, and metrics.

    The span of a call is a child of whatever is current where the call is made, and current itself while it runs.
    Names, tokens and times are recorded; texts, keys and messages of errors are not.

    Args:
        tracer_provider, meter_provider: None for the global ones, with which nothing is recorded until the application
            has set up an SDK.
        capture_contents: record messages, answers, definitions of tools and texts of errors too.

    Raises:
        ConfigurationError: the extra ``otel`` is not installed.
    """

    def __init__(
        self, *, tracer_provider: Any = None, meter_provider: Any = None, capture_contents: bool = False
    ) -> None:
        super().__init__()
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise ConfigurationError("OpenTelemetry needs the otel extra: pip install 'llm-master[otel]'") from error
        from llm_master import __version__

        self._trace = trace
        self._contents = capture_contents
        who: dict[str, Any] = {"schema_url": semconv.SCHEMA_URL}
        self._tracer = trace.get_tracer("llm_master", __version__, tracer_provider, **who)
        meter = metrics.get_meter("llm_master", __version__, meter_provider, **who)
        self._duration = meter.create_histogram(
            semconv.OPERATION_DURATION,
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=semconv.SECONDS,
        )
        self._tokens = meter.create_histogram(
            semconv.TOKEN_USAGE,
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=semconv.TOKENS,
        )
        self._first_chunk = meter.create_histogram(
            semconv.TIME_TO_FIRST_CHUNK,
            "s",
            "Time to receive the first chunk of a streamed answer.",
            explicit_bucket_boundaries_advisory=semconv.SECONDS,
        )

    def begin(self, call: Any, steps: Sequence[Any]) -> _Call:
        """Start the call's span."""
        state = _Call(call, steps)
        state.span = self._tracer.start_span(
            _name(state.identity),
            kind=self._trace.SpanKind.CLIENT,
            attributes=state.attributes,
            start_time=state.started,
        )
        state.context = self._trace.set_span_in_context(state.span)
        if self._contents and state.span.is_recording():
            self._show_request(state)
        return state

    def inside(self, state: _Call) -> AbstractContextManager[Any]:
        """The span as the current one; its end and its errors are told by the record."""
        if state.span is None:
            return nullcontext()
        return self._trace.use_span(
            state.span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        )

    def attempted(self, state: _Call, attempt: Attempt, event: CallEvent) -> None:
        """A span from the record; what was never sent is an event of the call's span."""
        if attempt.outcome == "skipped":
            self.happened(state, event)
            return
        state.number += 1
        operation = state.identity[semconv.OPERATION_NAME]
        identity = _identity(str(operation), attempt.provider, attempt.model, state.target_of(attempt))
        span = self._tracer.start_span(
            f"attempt {attempt.model}",
            context=state.context,
            kind=self._trace.SpanKind.CLIENT,
            attributes={**identity, **_of_attempt(attempt, state.number)},
            start_time=state.at(attempt.started),
        )
        if attempt.error is not None:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(end_time=state.at(attempt.started + attempt.latency))
        usage = attempt.usage
        if usage is not None and not usage.estimated:
            for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                if count:
                    self._tokens.record(count, {**identity, semconv.TOKEN_TYPE: kind}, context=state.context)

    def happened(self, state: _Call, event: CallEvent) -> None:
        """An event of the call's span."""
        if event.name in ("start", "progress"):
            return
        error = event.attempt.error if event.attempt is not None else event.error and type(event.error).__name__
        what = {
            semconv.ERROR_TYPE: error,
            semconv.EVENT_WAIT: event.wait,
            semconv.EVENT_TARGET: event.target or (event.attempt and event.attempt.model),
        }
        name = "skipped" if event.attempt is not None else event.name
        state.span.add_event(f"llm_master.{name}", _given(what), timestamp=state.at(event.seconds))

    def ended(self, state: _Call, event: CallEvent) -> None:
        """End the call's span and measure it."""
        response, error = event.response, event.error
        labels = dict(state.identity)
        model = getattr(response, "model", None)
        if model is not None:
            labels[semconv.RESPONSE_MODEL] = model
        if event.outcome == "error":
            labels[semconv.ERROR_TYPE] = type(error).__name__
        self._duration.record(event.seconds, labels, context=state.context)
        first = getattr(response, "time_to_first_token", None)
        if first is not None:
            self._first_chunk.record(first, labels, context=state.context)
        span = state.span
        if span.is_recording():
            span.set_attributes({**labels, **_of_end(state.record, event)})
            if event.outcome == "error":
                span.set_status(self._trace.StatusCode.ERROR, str(error) if self._contents else None)
            if self._contents:
                span.set_attributes(_given({semconv.OUTPUT_MESSAGES: _answer(response)}))
        span.end(end_time=state.at(event.seconds))

    def _show_request(self, state: _Call) -> None:
        from llm_master.telemetry.contents import input_messages, tool_definitions

        params = state.steps[0].params if state.steps else {}
        shown = {
            semconv.INPUT_MESSAGES: input_messages(state.record.messages),
            semconv.TOOL_DEFINITIONS: tool_definitions(params.get("tools")),
        }
        state.span.set_attributes(_given(shown))


def _answer(response: Any) -> str | None:
    from llm_master.telemetry.contents import output_messages

    return output_messages(response)


def _given(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Only what there is."""
    return {name: value for name, value in attributes.items() if value is not None}


def _name(identity: Mapping[str, Any]) -> str:
    return f"{identity[semconv.OPERATION_NAME]} {identity[semconv.REQUEST_MODEL]}"


def _first(record: Any, steps: Sequence[Any]) -> tuple[str, str, str | None]:
    """Provider, model and address of a call's first target, where there is only one place."""
    if not steps:
        return "", record.model_name, None
    pool = steps[0].pool
    url = getattr(pool.places[0].target, "url", None) if len(pool.places) == 1 else None
    return pool.provider, pool.model, url


def _identity(operation: str, provider: str, model: str, url: str | None) -> dict[str, Any]:
    """What spans and metrics of a target have in common."""
    found: dict[str, Any] = {
        semconv.OPERATION_NAME: operation,
        semconv.PROVIDER_NAME: semconv.PROVIDERS.get(provider, provider) or "_OTHER",
        semconv.REQUEST_MODEL: model,
    }
    parts = urlsplit(url or "")
    if parts.hostname:
        found[semconv.SERVER_ADDRESS] = parts.hostname
        found[semconv.SERVER_PORT] = parts.port or (443 if parts.scheme == "https" else 80)
    return found


def _asked(record: Any, steps: Sequence[Any]) -> dict[str, Any]:
    """What is known of the request when the call begins."""
    params: Mapping[str, Any] = steps[0].params if steps else {}
    found: dict[str, Any] = {semconv.CALL_MODEL: record.model_name, semconv.CALL_ID: record.uid}
    for name, (attribute, kind) in semconv.PARAMETERS.items():
        value = params.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[attribute] = kind(value)
    if found.get(semconv.REQUEST_CHOICE_COUNT) == 1:
        del found[semconv.REQUEST_CHOICE_COUNT]
    if record.streamed:
        found[semconv.REQUEST_STREAM] = True
    wanted = params.get("response_format")
    json = isinstance(wanted, dict) and str(wanted.get("type", "")).startswith("json")
    found[semconv.OUTPUT_TYPE] = "json" if json else semconv.OUTPUTS.get(record.kind)
    found[semconv.CALL_TAGS] = list(record.tags) or None
    return _given(found)


def _of_attempt(attempt: Attempt, number: int) -> dict[str, Any]:
    usage = attempt.usage
    found = {
        semconv.ATTEMPT_NUMBER: number,
        semconv.CALL_OUTCOME: attempt.outcome,
        semconv.ERROR_TYPE: attempt.error,
        semconv.HTTP_STATUS_CODE: attempt.status_code,
        semconv.REQUEST_ID: attempt.request_id,
        semconv.RESPONSE_TIME_TO_FIRST_CHUNK: attempt.time_to_first_token,
        semconv.ATTEMPT_DEPLOYMENT: attempt.deployment,
        semconv.ATTEMPT_WAITED: attempt.waited or None,
        semconv.ATTEMPT_WAIT_REASON: attempt.wait_reason,
        semconv.ATTEMPT_BYTES_SENT: attempt.bytes_sent,
        semconv.ATTEMPT_BYTES_RECEIVED: attempt.bytes_received,
    }
    if usage is not None:
        # Under names of ours: who adds up gen_ai.usage of all spans counts each token once, at the call's.
        found[semconv.ATTEMPT_INPUT_TOKENS] = usage.input_tokens
        found[semconv.ATTEMPT_OUTPUT_TOKENS] = usage.output_tokens
        found[semconv.ATTEMPT_ESTIMATED] = usage.estimated or None
    return _given(found)


def _of_end(record: Any, event: CallEvent) -> dict[str, Any]:
    response = event.response
    sent = [attempt for attempt in record.attempts if attempt.outcome != "skipped"]
    found: dict[str, Any] = {semconv.CALL_OUTCOME: event.outcome, semconv.CALL_ATTEMPTS: len(sent)}
    if response is not None:
        cost = response.cost
        reason = getattr(response, "finish_reason", None)
        found |= {
            semconv.RESPONSE_FINISH_REASONS: None if reason is None else [reason],
            semconv.RESPONSE_TIME_TO_FIRST_CHUNK: response.time_to_first_token,
            semconv.REQUEST_ID: response.request_id,
            semconv.CALL_CACHED: getattr(response, "cached", None) or None,
            semconv.CALL_COST: None if cost is None else float(cost),
            **_usage(response.usage),
        }
    return _given(found)


def _usage(usage: Any) -> dict[str, int | None]:
    if not usage.total_tokens:
        return {}
    return {
        semconv.USAGE_INPUT_TOKENS: usage.input_tokens,
        semconv.USAGE_OUTPUT_TOKENS: usage.output_tokens,
        semconv.USAGE_CACHE_READ_INPUT_TOKENS: usage.cached_tokens or None,
        semconv.USAGE_CACHE_CREATION_INPUT_TOKENS: usage.cache_write_tokens or None,
        semconv.USAGE_REASONING_OUTPUT_TOKENS: usage.reasoning_tokens or None,
    }
