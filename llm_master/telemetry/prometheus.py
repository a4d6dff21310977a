"""
Metrics of calls for Prometheus.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from llm_master.errors import ConfigurationError
from llm_master.telemetry.watching import Watcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from llm_master.classes import Attempt
    from llm_master.events import CallEvent

__all__ = ["Prometheus"]

#: What stands in a label once it has as many values as it may have.
OTHER = "other"
_MOST_ERRORS = 64
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_PARTS = ("cached_tokens", "cache_write_tokens", "reasoning_tokens", "input_audio_tokens", "output_audio_tokens")


class _Labels:
    """Values of a label, no more than so many different ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[Any] = set()
        self._lock = threading.Lock()

    def bounded(self, value: Any, other: Any) -> Any:
        """The value, or the other one when there are enough of them."""
        if value in self._seen:
            return value
        with self._lock:
            if len(self._seen) >= self._most:
                return other
            self._seen.add(value)
            return value


class _Instruments:
    """The metrics of one registry; names cannot be registered twice."""

    def __init__(self, client: Any, registry: Any) -> None:
        def make(kind: Any, name: str, text: str, labels: Sequence[str], **more: Any) -> Any:
            return kind(f"llm_master_{name}", text, labels, registry=registry, **more)

        model = ("provider", "model")
        counter, histogram = client.Counter, client.Histogram
        self.calls = make(counter, "calls", "Calls that have ended.", (*model, "kind", "outcome"))
        self.running = make(client.Gauge, "calls_in_progress", "Calls that have begun and not ended.", ("kind",))
        self.attempts = make(counter, "attempts", "Requests that were sent.", (*model, "outcome", "error"))
        self.tokens = make(counter, "tokens", "Tokens, of failed attempts too.", (*model, "type"))
        self.parts = make(counter, "token_parts", "Tokens that are parts of llm_master_tokens_total.", (*model, "part"))
        self.cost = make(counter, "cost_usd", "USD of the attempts whose price is known.", model)
        self.unpriced = make(counter, "unpriced_attempts", "Billed attempts whose price is not known.", model)
        self.seconds = make(
            histogram, "call_seconds", "Seconds of a whole call.", (*model, "kind", "outcome"), buckets=_SECONDS
        )
        self.first = make(
            histogram, "time_to_first_token_seconds", "Seconds to the first piece of a stream.", model, buckets=_SECONDS
        )


_INSTRUMENTS: WeakKeyDictionary[Any, _Instruments] = WeakKeyDictionary()
_LOCK = threading.Lock()


class _Call:
    __slots__ = ("kind", "target")

    def __init__(self, kind: str, target: tuple[str, str]) -> None:
        self.kind, self.target = kind, target


class Prometheus(Watcher[_Call]):
    """
    Counters and histograms of calls, attempts, tokens and cost.

    Args:
        registry: where they are registered, None for the client's global one. Clients with the same registry share
            them.
        max_models: pairs of provider and model at most that get labels of their own; the rest counts as ``other``.

    Raises:
        ConfigurationError: the extra ``prometheus`` is not installed, or ``max_models`` is no count.
    """

    def __init__(self, registry: Any = None, *, max_models: int = 200) -> None:
        super().__init__()
        try:
            import prometheus_client as client
        except ImportError as error:
            raise ConfigurationError(
                "metrics for Prometheus need the prometheus extra: pip install 'llm-master[prometheus]'"
            ) from error
        if not isinstance(max_models, int) or isinstance(max_models, bool) or max_models < 1:
            raise ConfigurationError(f"max_models={max_models!r}: give a whole number of at least 1")
        where = client.REGISTRY if registry is None else registry
        with _LOCK:
            found = _INSTRUMENTS.get(where)
            if found is None:
                found = _INSTRUMENTS[where] = _Instruments(client, where)
        self._to = found
        self._models = _Labels(max_models)
        self._errors = _Labels(_MOST_ERRORS)

    def _target(self, provider: str, model: str) -> tuple[str, str]:
        found: tuple[str, str] = self._models.bounded((provider, model), (OTHER, OTHER))
        return found

    def begin(self, call: Any, steps: Sequence[Any]) -> _Call:
        """Count a call that runs."""
        self._to.running.labels(call.kind).inc()
        pool = steps[0].pool if steps else None
        return _Call(call.kind, ("", call.model_name) if pool is None else (pool.provider, pool.model))

    def inside(self, state: _Call) -> AbstractContextManager[Any]:  # noqa: ARG002  # a watcher's
        """Nothing."""
        return nullcontext()

    def attempted(self, state: _Call, attempt: Attempt, event: CallEvent) -> None:  # noqa: ARG002  # a watcher's
        """Count an attempt, its tokens and its cost."""
        state.target = (attempt.provider, attempt.model)
        target = self._target(*state.target)
        error = "" if attempt.error is None else self._errors.bounded(attempt.error, OTHER)
        self._to.attempts.labels(*target, attempt.outcome, error).inc()
        usage = attempt.usage
        if usage is None:
            return
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            self._to.tokens.labels(*target, kind).inc(count)
        for part in _PARTS:
            if count := getattr(usage, part):
                self._to.parts.labels(*target, part.removesuffix("_tokens")).inc(count)
        cost = attempt.cost
        if cost is None:
            self._to.unpriced.labels(*target).inc()
        else:
            self._to.cost.labels(*target).inc(float(cost))

    def ended(self, state: _Call, event: CallEvent) -> None:
        """Count a call and measure it; it belongs to the target that was asked last."""
        target = self._target(*state.target)
        self._to.running.labels(state.kind).dec()
        self._to.calls.labels(*target, state.kind, event.outcome).inc()
        self._to.seconds.labels(*target, state.kind, event.outcome).observe(event.seconds)
        first = getattr(event.response, "time_to_first_token", None)
        if first is not None:
            self._to.first.labels(*target).observe(first)
