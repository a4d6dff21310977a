"""
From a call that has ended to its rows.
"""

from __future__ import annotations

from operator import attrgetter
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any

from llm_master.errors import LLMError, StreamInterrupted
from llm_master.ledger.rows import TOKENS, Rows, picodollars, tags_text
from llm_master.pricing import Pricer
from llm_master.record import usage_of

if TYPE_CHECKING:
    from llm_master.books import Wait
    from llm_master.classes import Attempt, Usage
    from llm_master.ledger.store import Ledger

__all__ = ["LedgerBook"]

_NOTHING = "nothing billed"
# The counts of a usage, in the order of their columns.
_tokens = attrgetter(*TOKENS)
# What a server makes up must neither be too large for its column nor for a sum of it.
_MOST_TOKENS = 10**12
_NO_TOKENS = (0,) * (len(TOKENS) + 1)


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

    def note(self, call: Any, outcome: str, response: Any, error: BaseException | None) -> Wait | None:
        """As ``Book.note``."""
        took = monotonic() - call.started
        entry = _Entry(call, outcome, response, error, took)
        if response is not None:
            response.call_id = call.uid
        if self.ledger.contents:
            entry.contents = _contents(call, response)
        if self._strict:
            try:
                return self.ledger.commit_soon(entry)
            except RuntimeError:  # no loop runs: a stream is collected
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

    def __call__(self) -> Rows:
        """The rows, as tuples in the order of their columns: by name each would take three times as long."""
        attempts, response, uid = self.attempts, self.response, self.uid
        bills = [_Bill(attempt) for attempt in attempts]
        last: Any = attempts[-1] if attempts else None
        cached = getattr(response, "cached", False)
        source: Any = last if response is None else response
        sent = received = 0
        for attempt in attempts:
            sent += attempt.bytes_sent
            received += attempt.bytes_received
        call = (
            uid,
            self.ts,
            "image" if self.kind == "chat" and getattr(response, "images", None) else self.kind,
            int(self.streamed),
            None if source is None else source.request_id,
            self.asked,
            None if source is None else source.model,
            None if source is None else source.provider,
            None if last is None else last.deployment,
            None if last is None else last.key_id,
            tags_text(self.tags) if self.tags else "[]",
            self._outcome(),
            None if self.error is None else self.error[0].__name__,
            None if self.error is None else _text(self.error[1]),
            getattr(response, "finish_reason", None),
            len(attempts),
            0 if response is None else int(response.model_name != self.asked),
            int(cached),
            *self._counts(bills, cached=cached),
            *_owed(bills, cached=cached),
            getattr(response, "service_tier", None),
            int(self.took * 1e6),
            None if source is None else _micros(source.time_to_first_token),
            sent,
            received,
            self.contents,
        )
        tries = [self._attempt(number, *each) for number, each in enumerate(zip(attempts, bills, strict=True), 1)]
        return call, tries, [(tag, uid, self.ts) for tag in dict.fromkeys(self.tags)]

    def _counts(self, bills: list[_Bill], *, cached: bool) -> tuple[int, ...]:
        """The call's tokens: those of its attempts together; a kept answer used none."""
        if cached or not bills:
            return _NO_TOKENS
        return bills[0].counts if len(bills) == 1 else _counts(usage_of(self.attempts))

    def _outcome(self) -> str:
        if self.error is None:
            return self.outcome
        if issubclass(self.error[0], StreamInterrupted):
            return "interrupted"
        # What is no error of ours and no cancellation is a fault in a listener's or a provider's code.
        return "error" if issubclass(self.error[0], (LLMError, Exception)) else self.outcome

    def _attempt(self, number: int, attempt: Attempt, bill: _Bill) -> tuple[Any, ...]:
        return (
            self.uid,
            number,
            self.ts + int(attempt.started * 1e6),
            attempt.provider,
            attempt.model,
            attempt.deployment,
            attempt.key_id,
            attempt.request_id,
            attempt.outcome,
            attempt.status_code,
            attempt.error,
            _text(attempt.error_code),
            *bill.counts,
            bill.cost,
            bill.complete,
            bill.source,
            int(attempt.latency * 1e6),
            _micros(attempt.time_to_first_token),
            int(attempt.waited * 1e6),
            attempt.wait_reason,
        )


def _owed(bills: list[_Bill], *, cached: bool) -> tuple[int | None, int, str | None, str | None]:
    """
    What a call cost: what its attempts cost together; a kept answer cost nothing.

    Returns:
        Picodollars, whether that is all of it, where the price comes from and of which day it is.
    """
    billed = [] if cached else [each for each in bills if each.billed]
    if not billed:
        return 0, 1, "cache" if cached else _NOTHING, None
    known = [each.cost for each in billed if each.cost is not None]
    complete = int(all(each.complete for each in billed))
    return (sum(known) if known else None), complete, billed[-1].source, billed[-1].as_of


class _Bill:
    """
    What an attempt used and cost.

    Attributes:
        billed: whether it used anything; counts: the columns of tokens, ``usage_estimated`` the last of them.
        cost: picodollars, None where no price is known; complete: 1 when that is all of it.
        source, as_of: where the price comes from, and of which day it is.
    """

    __slots__ = ("as_of", "billed", "complete", "cost", "counts", "source")

    def __init__(self, attempt: Attempt) -> None:
        usage, pricer = attempt.usage, attempt.pricer
        self.billed = usage is not None
        self.counts = _NO_TOKENS if usage is None else _counts(usage)
        self.cost: int | None = None
        self.complete = 0
        self.source: str | None = None
        self.as_of: str | None = None
        if attempt.reported_cost is not None:
            self.cost, self.complete, self.source = picodollars(attempt.reported_cost), 1, "provider"
        elif usage is None:
            self.cost, self.complete, self.source = 0, 1, _NOTHING
        elif isinstance(pricer, Pricer):
            found = pricer.picodollars(usage)
            if found is not None:
                self.cost, complete, self.source, self.as_of = found
                self.complete = int(complete)
        elif (details := getattr(pricer, "details", None)) is not None:
            known = details(usage)
            if known is not None:
                self.cost, self.complete = picodollars(known.total), int(known.complete)
                self.source, self.as_of = known.source, _text(known.as_of)
        else:
            self.cost = picodollars(attempt.cost)
            self.complete = int(self.cost is not None)


def _counts(usage: Usage) -> tuple[int, ...]:
    found = _tokens(usage)
    if None in found or max(found) > _MOST_TOKENS:
        found = tuple(min(count or 0, _MOST_TOKENS) for count in found)
    return (*found, int(usage.estimated))


def _micros(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1e6)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _contents(call: Any, response: Any) -> str:
    """Prompt and answer as JSON, taken at once: the caller may change both later."""
    from llm_master.any_json import written

    said = getattr(response, "content", None)
    kept = {"messages": call.messages, "content": getattr(response, "text", None) if said is None else said}
    tools = getattr(response, "tool_calls", None)
    if tools:
        kept["tool_calls"] = [{"id": each.id, "name": each.name, "arguments": each.raw_arguments} for each in tools]
    return written(kept, repr)
