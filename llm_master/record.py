"""
What one call did: each attempt, with its times and outcome, told to whoever listens.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any

from llm_master.bodies import ODD_USAGE
from llm_master.classes import Attempt
from llm_master.errors import APIConnectionError, APITimeoutError, LLMError, ResponseError, StreamInterrupted
from llm_master.policy.estimate import estimate_input, estimate_output
from llm_master.pricing import Pricer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from llm_master.books import Book, Wait
    from llm_master.classes import Request, Usage
    from llm_master.events import CallEvent, StreamEvent
    from llm_master.incoming import OpenStream
    from llm_master.policy.balance import Lease
    from llm_master.policy.limits_rules import Reservation
    from llm_master.pools import Place

__all__ = ["Record", "Trial", "listening", "logger", "tell_progress", "usage_of"]

logger = logging.getLogger("llm_master")
# Without a handler of the application Python would print warnings of ours on its own.
logger.addHandler(logging.NullHandler())

# What other kinds of calls bill does not follow from their text; an attempt of theirs that was lost has no known cost.
_BY_TEXT = frozenset(("chat", "embed"))
# Tokens of one attempt that count under limits at most.
_MOST_TOKENS = 10**12

# Set only while a call with listeners runs, so that a target far below can tell them how a long job goes.
_LISTENING: ContextVar[Callable[..., None] | None] = ContextVar("llm_master_listening", default=None)


@contextmanager
def listening(tell: Callable[..., None]) -> Iterator[None]:
    """Have ``tell_progress`` of this context reach a call's listeners."""
    token = _LISTENING.set(tell)
    try:
        yield
    finally:
        _LISTENING.reset(token)


def tell_progress(status: str, progress: float | None, target: str) -> None:
    """Tell who listens to the call that runs here what a service says of its job."""
    tell = _LISTENING.get()
    if tell is not None:
        tell("progress", status=status, progress=progress, target=target)


class Record:
    """
    The attempts of one call, oldest first, and the events before its first piece.

    ``started`` is monotonic seconds; ``listeners`` are told each event as it happens, ``books`` its end. ``kind`` is
    ``chat`` or the operation, ``streamed`` whether a stream was asked for. ``uid`` names the call in the ledger.
    """

    __slots__ = (
        "attempts",
        "books",
        "ended",
        "id",
        "kind",
        "listeners",
        "model_name",
        "started",
        "story",
        "streamed",
        "tags",
        "uid",
    )

    # Set by the class below in the house, in one place with its own: this runs once a call.
    attempts: list[Attempt]
    books: tuple[Book, ...]
    ended: bool
    id: int
    kind: str
    streamed: bool
    uid: str | None
    listeners: Sequence[Callable[[CallEvent], Any]]
    model_name: str
    started: float
    story: list[StreamEvent]
    tags: tuple[str, ...]

    def add(self, attempt: Attempt) -> None:
        """Note an attempt that has ended."""
        self.attempts.append(attempt)
        if logger.isEnabledFor(logging.DEBUG):
            self._log(attempt)
        if self.listeners:
            self.tell("attempt", attempt=attempt)

    def skipped(self, place: Place, error: LLMError, began: float) -> None:
        """Note that nothing was sent to a target, and why; the time was spent waiting."""
        self.add(
            Attempt(
                place.target.provider,
                place.target.model,
                outcome="skipped",
                error=type(error).__name__,
                error_code=getattr(error, "code", None),
                started=began - self.started,
                waited=monotonic() - began,
                key_id=place.target.key_id,
                deployment=place.name,
            )
        )

    def tell(self, name: str, **what: Any) -> None:
        """Tell the listeners; an exception of theirs is logged and does not touch the call."""
        if not self.listeners:
            return
        from llm_master.events import CallEvent

        event = CallEvent(name, self.id, self.model_name, monotonic() - self.started, tags=self.tags, **what)
        for listener in self.listeners:
            try:
                listener(event)
            except Exception:  # the application's own code: whatever it is, the call goes on
                logger.exception("a listener of on_event failed at %r of call %d", name, self.id)

    @contextmanager
    def heard(self, steps: Sequence[Any]) -> Iterator[None]:
        """
        What a call with listeners runs in: jobs far below reach them, and those with an ``around`` are around it.

        Args:
            steps: the models of the call, the first one first.
        """
        with ExitStack() as stack:
            stack.enter_context(listening(self.tell))
            for listener in self.listeners:
                around = getattr(listener, "around", None)
                if around is not None:
                    try:
                        stack.enter_context(around(self, steps))
                    except Exception:  # as in ``tell``
                        logger.exception("a listener of on_event failed around call %d", self.id)
            self.tell("start")
            yield

    def end(self, outcome: str, *, response: Any = None, error: BaseException | None = None) -> list[Wait] | None:
        """
        Tell the call's one end: ``ok``, ``error`` or ``cancelled``.

        Returns:
            What to wait for (``settled``) before the answer is shown, None for nothing.
        """
        if self.ended:
            return None
        self.ended = True
        waits: list[Wait] | None = None
        for book in self.books:
            try:
                kept = book.note(self, outcome, response, error)
            except Exception:  # whatever a book of the application does, the call goes on
                logger.exception("a call of %r could not be written down", self.model_name)
                continue
            if kept is not None:
                waits = [*(waits or ()), kept]
        if self.listeners:
            self.tell("end", outcome=outcome, response=response, error=error)
        return waits

    def _log(self, attempt: Attempt) -> None:
        logger.debug(
            "%s -> %s %s%s: %s%s status=%s waited=%.3f s%s took=%.3f s request_id=%s",
            self.model_name,
            attempt.provider,
            attempt.model,
            f" [{attempt.deployment}]" if attempt.deployment else "",
            attempt.outcome,
            f" ({attempt.error})" if attempt.error else "",
            attempt.status_code,
            attempt.waited,
            f" ({attempt.wait_reason})" if attempt.wait_reason else "",
            attempt.latency,
            attempt.request_id,
        )


class Trial:
    """
    One attempt on its way: where it goes, what it waited for, and what it holds until it ends.

    It ends with one of ``finished``, ``failed``, ``cancelled`` and ``dropped``; each after the first changes nothing.

    Args:
        call: whose attempt it is.
        step: the step of the call that it serves.
        lease: its place at a deployment; ``reservation``: what it holds of the limits, None without any.
        waited: seconds; ``why``: ``retry``, ``cooling`` or the limit waited for.

    Attributes:
        request: what is sent, stream: what is read; None until there is one.
    """

    __slots__ = (
        "began",
        "call",
        "ended",
        "lease",
        "place",
        "request",
        "reservation",
        "step",
        "stream",
        "target",
        "waited",
        "why",
    )

    def __init__(
        self,
        call: Any,
        step: Any,
        lease: Lease,
        reservation: Reservation | None,
        began: float,
        *,
        waited: float = 0.0,
        why: str | None = None,
    ) -> None:
        self.call = call
        self.step = step
        self.lease = lease
        place: Place = lease.member.target
        self.place = place
        self.target: Any = place.target
        self.reservation = reservation
        self.began = began
        self.waited = waited
        self.why = why
        self.request: Request | None = None
        self.stream: OpenStream | None = None
        self.ended = False

    def answered(self, first: float) -> None:
        """The first piece of a stream is there, at this monotonic second."""
        self.lease.answered(first - self.began)

    def finished(self, response: Any, first: float | None = None) -> None:
        """
        It gave the whole answer: note it, and complete the answer with the record.

        Args:
            first: monotonic seconds of the first piece of a stream, else None.
        """
        if self.ended:
            return
        self.ended = True
        call, target = self.call, self.target
        now = monotonic()
        began, started = self.began, call.started
        self.lease.success(now - began if first is None else None)
        usage, pricer = response.usage, response.pricer
        if response.notes and ODD_USAGE in response.notes:
            usage.estimated = True  # what could not be read of it is not known to be nothing
        if type(pricer) is Pricer:
            pricer.at -= now - began  # prices are those of the moment at which the request was made
        request, source = self.request, self.stream or self.request
        call.add(
            Attempt(
                target.provider,
                target.model,
                status_code=200,
                started=began - started,
                latency=now - began,
                time_to_first_token=None if first is None else first - began,
                waited=self.waited,
                wait_reason=self.why,
                key_id=target.key_id,
                deployment=self.place.name,
                request_id=response.request_id,
                usage=usage,
                bytes_sent=0 if request is None else request.bytes_sent,
                bytes_received=0 if source is None else source.bytes_received,
                reported_cost=getattr(response, "reported_cost", None),
                pricer=pricer,
            )
        )
        if self.reservation is not None:
            # What a server makes up must not be more than a store can hold.
            tokens = min(usage.total_tokens, _MOST_TOKENS) or None
            call.admission.settle(self.reservation, tokens, call.attempts[-1])
        response.attempts = attempts = tuple(call.attempts)
        if len(attempts) > 1 and call.kind == "chat":
            response.usage = usage_of(attempts)
        response.latency = now - started
        response.time_to_first_token = None if first is None else first - started
        if self.reservation is not None and self.reservation.note:
            response.notes = (*response.notes, self.reservation.note)

    def counted(self) -> None:
        """It gave a count of tokens, which is free and leaves no attempt in the record."""
        self.ended = True
        self.lease.success()
        if self.reservation is not None:
            nothing = Attempt(self.target.provider, self.target.model)
            self.call.admission.settle(self.reservation, 0, nothing, billed=False)

    def failed(self, error: LLMError, *, outcome: str = "error", usage: Any = None) -> None:
        """It failed, or was interrupted after it had given content."""
        if self.ended:
            return
        self.ended = True
        status = getattr(error, "status_code", None)
        call = self.call
        call.admission.judge(self, error, hasty=call.is_hasty(monotonic() - self.began))
        billed = _may_be_billed(error)
        if usage is None and billed:
            usage = self.used()
        self._note(outcome, error, usage)
        if self.reservation is not None:
            # A refusal bills nothing; what broke later may have been billed whole.
            tokens = 0 if status is not None and status >= 400 else None
            call.admission.settle(self.reservation, tokens, call.attempts[-1], billed=billed)

    def used(self, partial: Any = None) -> Usage | None:
        """
        What an attempt that was cut off has used: what the provider told so far, and the rest estimated.

        Args:
            partial: the answer as far as it came, None for nothing of it.
        """
        from llm_master.classes import Usage

        call = self.call
        if call.kind == "count":
            return None  # which is free
        told = Usage() if partial is None else partial.usage
        found = Usage(*(getattr(told, name) for name in told.__struct_fields__))
        if call.kind in _BY_TEXT:
            found.input_tokens = told.input_tokens or estimate_input(call.messages, self.step.params)
        if call.kind == "chat":
            text = "" if partial is None else f"{partial.content}{partial.reasoning or ''}"
            if partial is not None:
                text += "".join(each.raw_arguments for each in partial.tool_calls)
            found.output_tokens = max(told.output_tokens, estimate_output(text))
        found.estimated = True
        return found

    def cancelled(self, partial: Any = None) -> None:
        """
        The caller, or the other target of a hedge, left it: what was possibly billed stays counted.

        Args:
            partial: the answer as far as it came.
        """
        if self.ended:
            return
        self.ended = True
        self.lease.leave()
        self._note("cancelled", None, self.used(partial), partial)
        if self.reservation is not None:
            self.call.admission.settle(self.reservation, None, self.call.attempts[-1])

    def dropped(self, error: BaseException) -> None:
        """It ended by an error of ours or of the input, or by cancellation."""
        from asyncio import CancelledError

        if isinstance(error, CancelledError | GeneratorExit):
            self.cancelled()
        elif not self.ended:
            self.ended = True
            self.lease.leave()
            if self.reservation is not None:
                self.call.admission.cancel(self.reservation)

    def _note(self, outcome: str, error: LLMError | None, usage: Any, partial: Any = None) -> None:
        call, target = self.call, self.target
        if partial is None:
            partial = getattr(error, "partial", None)
        request, source = self.request, self.stream or self.request
        call.add(
            Attempt(
                target.provider,
                target.model,
                outcome=outcome,
                status_code=getattr(error, "status_code", None),
                error=type(error).__name__ if error is not None else None,
                error_code=getattr(error, "code", None),
                started=self.began - call.started,
                latency=monotonic() - self.began,
                waited=self.waited,
                wait_reason=self.why,
                key_id=target.key_id,
                deployment=self.place.name,
                request_id=getattr(error, "request_id", None),
                usage=usage,
                pricer=None if usage is None else _pricer(target, self.step.params, partial, monotonic() - self.began),
                bytes_sent=0 if request is None else request.bytes_sent,
                bytes_received=0 if source is None else source.bytes_received,
            )
        )


def usage_of(attempts: Sequence[Attempt]) -> Usage:
    """The tokens of a call: those of all its attempts together."""
    from llm_master.classes import Usage

    found = [attempt.usage for attempt in attempts if attempt.usage is not None]
    return sum(found[1:], found[0]) if found else Usage()


def _may_be_billed(error: LLMError) -> bool:
    """Whether a provider may charge for an attempt that failed so: it took the request and did not refuse it."""
    if not isinstance(error, StreamInterrupted | ResponseError | APIConnectionError | APITimeoutError):
        return False
    status = error.status_code
    return error.sent and (status is None or 200 <= status < 300)


def _pricer(target: Any, params: dict[str, Any], partial: Any, ago: float) -> Any:
    """What prices an attempt without a whole answer: as that said it was served, else as it was asked for."""
    make = getattr(target, "pricer", None)
    if make is None:
        return None
    made = make(getattr(partial, "model", None))
    made.at -= ago
    made.geo = getattr(partial, "geo", None) or _word(params.get("inference_geo"))
    made.tier = getattr(partial, "service_tier", None)
    if made.tier is None:
        made.tier, made.speed = _word(params.get("service_tier")), _word(params.get("speed"))
    return made


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None
