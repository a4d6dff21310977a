"""
What the calls of a job used together: ``with llm.track("report") as job: ...``.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

from llm_master.classes import Usage
from llm_master.late import pricing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from llm_master.classes import Attempt

__all__ = ["Job", "Jobs"]

# Jobs that the running code belongs to, the outermost first. Tasks and the thread behind ``query_sync`` inherit it.
_RUNNING: ContextVar[tuple[Job, ...]] = ContextVar("llm_master_jobs", default=())
# Digits of a sum of costs, so that none is ever rounded.
_DIGITS = 80


class Jobs:
    """The jobs of one client."""

    def job(self, name: str) -> Job:
        """A new one."""
        pricing().load_aside()  # its calls are priced where they end, on the event loop
        return Job(name, self)

    def running(self) -> tuple[Job, ...]:
        """Those that a call made here and now belongs to."""
        return tuple(dict.fromkeys(job for job in _RUNNING.get() if job.home is self))


class Job:
    """
    Calls that belong together, added up.

    It is entered with ``with`` or ``async with``. Every call of its client that begins inside counts, in tasks too, and
    when it ends, also after the block; so it does for the jobs around it. A thread of your own enters it once more:
    ``with job:``.

    Attributes:
        name: for reports.
        calls: those that have ended: ``ok`` of them with an answer, ``errors``, ``cancelled``; ``cached`` answers cost
            nothing.
        attempts: requests that were sent, those of failed calls too.
        usage: tokens of all attempts.
        bytes_sent, bytes_received: of all bodies, see ``Attempt``.
        reported_cost: USD that providers reported, exactly; None when none did.
        computed_cost: USD by the prices, of all attempts whose price is known; None when none is.
        total_cost: USD, of each attempt what was reported, else computed; None when nothing of what was used is known.
        complete: whether ``total_cost`` is all of it.
    """

    def __init__(self, name: str, home: Jobs) -> None:
        self.name = name
        self.home = home
        self._lock = threading.Lock()
        self.calls = self.ok = self.errors = self.cancelled = self.cached = 0
        self.attempts = 0
        self.usage = Usage()
        self.bytes_sent = self.bytes_received = 0
        self.reported_cost: Decimal | None = None
        self.computed_cost: Decimal | None = None
        self.complete = True
        self._known = Decimal(0)

    def __enter__(self) -> Self:
        _RUNNING.set((*_RUNNING.get(), self))
        return self

    def __exit__(self, *exc: object) -> None:
        running = list(_RUNNING.get())
        if self in running:
            # The innermost of its entries: a job may be entered inside itself.
            del running[len(running) - 1 - running[::-1].index(self)]
        _RUNNING.set(tuple(running))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__()

    # -- as a book of the calls ---------------------------------------------------------------------------------

    def check(self) -> None:
        """Nothing keeps a job from counting."""

    def note(self, call: Any, outcome: str, response: Any, error: BaseException | None) -> None:  # noqa: ARG002  # a book's
        """Add a call that has ended."""
        sent = [attempt for attempt in call.attempts if attempt.outcome != "skipped"]
        cost, complete = _cost(sent, response)
        computed = [attempt.pricer(attempt.usage) for attempt in sent if attempt.usage and attempt.pricer is not None]
        with self._lock, localcontext(prec=_DIGITS):
            self.calls += 1
            self.ok += outcome == "ok"
            self.errors += outcome == "error"
            self.cancelled += outcome == "cancelled"
            self.cached += bool(getattr(response, "cached", False))
            self.attempts += len(sent)
            self.usage = sum((each.usage for each in sent if each.usage is not None), self.usage)
            self.bytes_sent += sum(each.bytes_sent for each in sent)
            self.bytes_received += sum(each.bytes_received for each in sent)
            self.reported_cost = _sum(self.reported_cost, [each.reported_cost for each in sent])
            self.computed_cost = _sum(self.computed_cost, computed)
            self.complete = self.complete and complete
            self._known += cost or 0

    # -- to be read ---------------------------------------------------------------------------------------------

    @property
    def total_cost(self) -> Decimal | None:
        """USD, exactly; see the class."""
        return self._known if self._known or self.complete else None

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON; USD as texts, so that they stay exact."""
        with self._lock:
            usage = {name: getattr(self.usage, name) for name in self.usage.__struct_fields__}
            costs = {
                name: None if (value := getattr(self, name)) is None else f"{value:f}"
                for name in ("reported_cost", "computed_cost", "total_cost")
            }
            counts = ("calls", "ok", "errors", "cancelled", "cached", "attempts", "bytes_sent", "bytes_received")
            return {
                "name": self.name,
                **{name: getattr(self, name) for name in counts},
                "usage": usage,
                **costs,
                "complete": self.complete,
            }

    def __repr__(self) -> str:
        return f"Job({self.name!r}, calls={self.calls}, {self.usage!r}, total_cost={self.total_cost})"


def _cost(sent: Sequence[Attempt], response: Any) -> tuple[Decimal | None, bool]:
    """USD of a call, and whether that is all of it."""
    billed = [attempt for attempt in sent if attempt.usage is not None]
    if len(billed) == 1 and response is not None:
        # Only the answer knows what is not billed by tokens.
        whole: Decimal | None = response.cost
        return whole, whole is not None and _is_complete(billed[0])
    costs = [attempt.cost for attempt in billed]
    if not costs:
        return Decimal(0), True
    with localcontext(prec=_DIGITS):
        return _sum(None, costs), None not in costs and all(map(_is_complete, billed))


def _is_complete(attempt: Attempt) -> bool:
    """Whether the price that an attempt has is that of everything in it."""
    details = getattr(attempt.pricer, "details", None)
    if attempt.reported_cost is not None or details is None:
        return True
    found = details(attempt.usage)
    return found is not None and bool(found.complete)


def _sum(total: Decimal | None, more: Sequence[Decimal | None]) -> Decimal | None:
    """A sum of what is known, None when nothing is."""
    known = [each for each in (total, *more) if each is not None]
    return sum(known, Decimal(0)) if known else None
