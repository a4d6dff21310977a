"""
From a call that has ended to its rows.
"""

from __future__ import annotations

from operator import attrgetter
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any

from llm_master.errors import LLMError, StreamInterrupted
from llm_master.ledger.rows import TOKENS, AttemptRow, CallRow, picodollars, tags_text
from llm_master.pricing import Pricer
from llm_master.record import usage_of

if TYPE_CHECKING:
    from concurrent.futures import Future
    from decimal import Decimal

    from llm_master.classes import Attempt, Usage
    from llm_master.ledger.store import Ledger

__all__ = ["LedgerBook"]

# Picodollars of an attempt, whether that is all of it, where the price comes from, and of which day it is.
_Price = tuple[int | None, int, str | None, str | None]
# Those of the tokens' columns, in their order.
_tokens = attrgetter(*TOKENS)


class LedgerBook:
    """
    Writes calls into a ledger: in ``strict`` mode a call waits until its rows are committed, else nobody waits.

    Args:
        ledger: where the rows go; it is shared and not closed here.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._strict = ledger.mode == "strict"

    def check(self) -> None:
        """
        Refuse a call that could not be written down, where that was chosen.

        Raises:
            LedgerError: the file cannot be written.
        """
        if self.ledger.refuses:
            self.ledger.check()

    def note(self, call: Any, outcome: str, response: Any, error: BaseException | None) -> Future[None] | None:
        """As ``Book.note``."""
        took = monotonic() - call.started
        entry = _Entry(call, outcome, response, error, took)
        if response is not None:
            response.call_id = call.uid
        if self.ledger.contents:
            entry.contents = _contents(call, response)
        if self._strict:
            return self.ledger.commit(entry)
        self.ledger.add(entry)
        return None

    def flush(self) -> bool:
        """Write what is queued; whether all of it is committed."""
        return self.ledger.flush()


class _Entry:
    """What the rows of a call are made from, in the writer's thread."""

    __slots__ = (
        "asked",
        "attempts",
        "contents",
        "error",
        "kind",
        "outcome",
        "response",
        "streamed",
        "tags",
        "took",
        "ts",
        "uid",
    )

    def __init__(self, call: Any, outcome: str, response: Any, error: BaseException | None, took: float) -> None:
        self.uid: str = call.uid
        self.ts = time_ns() // 1000 - int(took * 1e6)
        self.took = took
        self.asked: str = call.model_name
        self.kind: str = call.kind
        self.streamed: bool = call.streamed
        self.tags: tuple[str, ...] = call.tags
        self.attempts: tuple[Attempt, ...] = tuple(call.attempts)
        self.outcome = outcome
        self.response = response
        # Its traceback would hold the frames of the call until the row is written.
        self.error = None if error is None else (error.__class__, getattr(error, "code", None))
        self.contents: str | None = None

    def __call__(self) -> tuple[CallRow, list[AttemptRow]]:
        attempts = self.attempts
        prices = [_price(attempt) for attempt in attempts]
        rows = [
            self._attempt(number, attempt, price)
            for number, (attempt, price) in enumerate(zip(attempts, prices, strict=True), 1)
        ]
        response = self.response
        last: Any = attempts[-1] if attempts else None
        row = CallRow(
            id=self.uid,
            ts=self.ts,
            kind="image" if self.kind == "chat" and getattr(response, "images", None) else self.kind,
            streamed=int(self.streamed),
            model_asked=self.asked,
            deployment=getattr(last, "deployment", None),
            key_id=getattr(last, "key_id", None),
            tags=tags_text(self.tags),
            outcome=self._outcome(),
            attempts=len(attempts),
            latency_us=int(self.took * 1e6),
            bytes_sent=sum(attempt.bytes_sent for attempt in attempts),
            bytes_received=sum(attempt.bytes_received for attempt in attempts),
            contents=self.contents,
        )
        if self.error is not None:
            row.error, row.error_code = self.error[0].__name__, _text(self.error[1])
        source = response if response is not None else last
        if source is not None:
            row.request_id, row.model, row.provider = source.request_id, source.model, source.provider
            row.ttft_us = _micros(source.time_to_first_token)
        if response is not None:
            row.finish_reason = getattr(response, "finish_reason", None)
            row.service_tier = getattr(response, "service_tier", None)
            row.fallback = int(response.model_name != self.asked)
            row.cached = int(getattr(response, "cached", False))
        self._bill(row, prices)
        return row, rows

    def _outcome(self) -> str:
        if self.error is None:
            return self.outcome
        if issubclass(self.error[0], StreamInterrupted):
            return "interrupted"
        # What is no error of ours and no cancellation is a fault in a listener's or a provider's code.
        return "error" if issubclass(self.error[0], (LLMError, Exception)) else self.outcome

    def _attempt(self, number: int, attempt: Attempt, price: _Price) -> AttemptRow:
        row = AttemptRow(
            call_id=self.uid,
            number=number,
            ts=self.ts + int(attempt.started * 1e6),
            provider=attempt.provider,
            model=attempt.model,
            deployment=attempt.deployment,
            key_id=attempt.key_id,
            request_id=attempt.request_id,
            outcome=attempt.outcome,
            status_code=attempt.status_code,
            error=attempt.error,
            error_code=_text(attempt.error_code),
            latency_us=int(attempt.latency * 1e6),
            ttft_us=_micros(attempt.time_to_first_token),
            waited_us=int(attempt.waited * 1e6),
            wait_reason=attempt.wait_reason,
        )
        _count(row, attempt.usage)
        row.cost, row.cost_complete, row.price_source, _ = price
        return row

    def _bill(self, row: CallRow, prices: list[_Price]) -> None:
        """The call's tokens and cost: those of its attempts together; a kept answer used and cost nothing."""
        billed = [price for each, price in zip(self.attempts, prices, strict=True) if each.usage is not None]
        if row.cached or not billed:
            row.cost, row.cost_complete = 0, 1
            row.price_source = "cache" if row.cached else "nothing billed"
            return
        _count(row, usage_of(self.attempts))
        costs = [price[0] for price in billed if price[0] is not None]
        row.cost = sum(costs) if costs else None
        row.cost_complete = int(len(costs) == len(billed) and all(price[1] for price in billed))
        _cost, _complete, row.price_source, row.price_as_of = billed[-1]


def _price(attempt: Attempt) -> _Price:
    usage, pricer = attempt.usage, attempt.pricer
    if attempt.reported_cost is not None:
        return picodollars(attempt.reported_cost), 1, "provider", None
    if usage is None:
        return 0, 1, "nothing billed", None
    if isinstance(pricer, Pricer):
        found = pricer.picodollars(usage)
        return (None, 0, None, None) if found is None else (found[0], int(found[1]), found[2], found[3])
    details = getattr(pricer, "details", None)
    if details is not None:
        known = details(usage)
        if known is None:
            return None, 0, None, None
        return picodollars(known.total), int(known.complete), known.source, _text(known.as_of)
    cost: Decimal | None = attempt.cost
    return picodollars(cost), int(cost is not None), None, None


def _count(row: CallRow | AttemptRow, usage: Usage | None) -> None:
    if usage is not None:
        for name, count in zip(TOKENS, _tokens(usage), strict=True):
            if count:
                setattr(row, name, count)
        row.usage_estimated = int(usage.estimated)


def _micros(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1e6)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _contents(call: Any, response: Any) -> str:
    """Prompt and answer as JSON, taken at once: the caller may change both later."""
    import msgspec

    kept = {"messages": call.messages, "content": getattr(response, "content", None)}
    return msgspec.json.encode(kept, enc_hook=repr).decode()
