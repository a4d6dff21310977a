"""
What one call did: each attempt, with its times and outcome.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from llm_master.classes import Attempt

if TYPE_CHECKING:
    from llm_master.classes import EmbeddingResponse, LLMResponse
    from llm_master.errors import LLMError
    from llm_master.events import StreamEvent

__all__ = ["Record", "logger"]

logger = logging.getLogger("llm_master")
# Without a handler of the application Python would print warnings of ours on its own.
logger.addHandler(logging.NullHandler())


class Record:
    """
    The attempts of one call, oldest first, and the events before its first piece.

    ``waited`` and ``why`` describe the wait before the next attempt; ``started`` is monotonic seconds.
    """

    __slots__ = ("attempts", "model_name", "started", "story", "waited", "why")

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name
        self.attempts: list[Attempt] = []
        self.story: list[StreamEvent] = []
        self.waited = 0.0
        self.why: str | None = None
        self.started = monotonic()

    def finished(
        self, target: Any, response: LLMResponse | EmbeddingResponse, began: float, first: float | None
    ) -> None:
        """
        An attempt gave the whole answer: note it, and complete the answer with the record.

        Args:
            began: monotonic seconds when the attempt began.
            first: seconds from the start of the call to the first piece of a stream, else None.
        """
        now = monotonic()
        started = self.started
        attempt = Attempt(
            target.provider,
            target.model,
            status_code=200,
            started=began - started,
            latency=now - began,
            time_to_first_token=None if first is None else first - (began - started),
            waited=self.waited,
            wait_reason=self.why,
            key_id=target.key_id,
            request_id=response.request_id,
            usage=response.usage,
        )
        self.attempts.append(attempt)
        response.attempts = tuple(self.attempts)
        response.latency = now - started
        response.time_to_first_token = first
        if logger.isEnabledFor(logging.DEBUG):
            self._log(attempt)

    def failed(self, target: Any, error: LLMError, began: float, *, outcome: str = "error") -> None:
        """An attempt failed, or was interrupted after it had given content."""
        attempt = Attempt(
            target.provider,
            target.model,
            outcome=outcome,
            status_code=getattr(error, "status_code", None),
            error=type(error).__name__,
            error_code=getattr(error, "code", None),
            started=began - self.started,
            latency=monotonic() - began,
            waited=self.waited,
            wait_reason=self.why,
            key_id=target.key_id,
            request_id=getattr(error, "request_id", None),
        )
        self.attempts.append(attempt)
        self.waited, self.why = 0.0, None
        if logger.isEnabledFor(logging.DEBUG):
            self._log(attempt)

    def cancelled(self, target: Any, began: float) -> None:
        """The caller left a stream before its end."""
        attempt = Attempt(
            target.provider,
            target.model,
            outcome="cancelled",
            status_code=200,
            started=began - self.started,
            latency=monotonic() - began,
            key_id=target.key_id,
        )
        self.attempts.append(attempt)
        if logger.isEnabledFor(logging.DEBUG):
            self._log(attempt)

    def _log(self, attempt: Attempt) -> None:
        logger.debug(
            "%s -> %s %s: %s%s status=%s waited=%.3f s took=%.3f s request_id=%s",
            self.model_name,
            attempt.provider,
            attempt.model,
            attempt.outcome,
            f" ({attempt.error})" if attempt.error else "",
            attempt.status_code,
            attempt.waited,
            attempt.latency,
            attempt.request_id,
        )
