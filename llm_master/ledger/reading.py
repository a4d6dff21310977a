"""
Reading a ledger: what was spent by model, provider, key, tag and day, and single calls with all their attempts.

Reading writes nothing and holds no writer up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from llm_master.errors import ConfigurationError, InvalidRequestError
from llm_master.ledger.groups import BY
from llm_master.ledger.reading_broken import broken
from llm_master.ledger.reading_calls import CallRecord, Tail, find, newest, since
from llm_master.ledger.reading_chunks import Selection
from llm_master.ledger.reading_source import Open, source_of
from llm_master.ledger.reading_usage import Percentiles, UsageReport, UsageRow, report
from llm_master.ledger.reading_when import When, Zone, moment, zone
from llm_master.ledger.rows import AttemptRow, CallRow
from llm_master.ledger.summary import Malformed
from llm_master.redaction import shown

__all__ = [
    "BY",
    "SORTS",
    "AttemptRow",
    "CallRecord",
    "CallRow",
    "Percentiles",
    "Reader",
    "UsageReport",
    "UsageRow",
    "When",
]

_T = TypeVar("_T")

_Names = str | Sequence[str]

SORTS = ("cost", "calls", "tokens", "latency")


class Reader:
    """
    A ledger to be read, also while others write it.

    Nothing is opened before the first question, and each question is answered from one state of the ledger.

    Args:
        path: the file, or ``postgresql://...`` (extra ``postgres``); None is ``Ledger.default_path()``.
        timezone: whose days ``by="day"`` means, and in which a time without a zone is read: ``utc``, ``local`` or a
            name such as ``Europe/Berlin``.

    Raises:
        ConfigurationError: no path was given, and the ledger is switched off or there is no home folder for it; or the
            path names the home of a user whom nobody knows.
        InvalidRequestError: no such time zone.

    Every question raises LedgerError when the ledger is not there, locked, damaged or of another program,
    ConfigurationError when psycopg is missing, and InvalidRequestError for what cannot be asked.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, timezone: str = "utc") -> None:
        self._source = source_of(path if path is not None else _default())
        self.zone: Zone = zone(timezone)

    @property
    def place(self) -> str:
        """The file or the server, without a password."""
        return self._source.name

    def usage(
        self,
        by: _Names = (),
        *,
        since: When | None = None,
        until: When | None = None,
        model: _Names = (),
        provider: _Names = (),
        key: _Names = (),
        deployment: _Names = (),
        kind: _Names = (),
        tag: _Names = (),
        sort: str | None = None,
    ) -> list[UsageRow]:
        """
        What the calls add up to, a row a group; the arguments are those of ``report``.
        """
        chosen = self.selection(
            since=since,
            until=until,
            model=model,
            provider=provider,
            key=key,
            deployment=deployment,
            kind=kind,
            tag=tag,
        )
        return self.report(by, chosen, sort=sort).rows

    def report(self, by: _Names = (), chosen: Selection | None = None, *, sort: str | None = None) -> UsageReport:
        """
        Rows and their total.

        Args:
            by: one or several of ``BY``; without any the only row is the total. A call with two tags counts for both.
            chosen: which calls, see ``selection``; None is all.
            sort: ``cost``, ``calls``, ``tokens`` or ``latency`` (p95), the largest first; None is by day when the first
                of ``by`` is the day, else by cost.
        """
        if sort is not None and sort not in SORTS:
            raise InvalidRequestError(f"usage cannot be sorted by {sort!r}; take one of {', '.join(SORTS)}")
        names = list(dict.fromkeys(_names(by)))
        found = self._ask(lambda ledger: report(ledger, names, chosen or Selection(), self.zone))
        if sort is None and names[:1] == ["day"]:
            found.rows.sort(key=lambda row: [_last(each) for each in row.group.values()])
        else:
            found.rows.sort(key=lambda row: _order(row, sort or "cost"))
        return found

    def selection(
        self,
        *,
        since: When | None = None,
        until: When | None = None,
        model: _Names = (),
        provider: _Names = (),
        key: _Names = (),
        deployment: _Names = (),
        kind: _Names = (),
        tag: _Names = (),
    ) -> Selection:
        """
        Which calls are asked for: those that fit every argument.

        Args:
            since: calls that began at this time or later: ``7d``, ``12h``, ``2026-11-01``, a datetime ...
            until: calls that began before this time.
            model: names or patterns (``gpt-*``, in any case) of which one fits the model asked for or the one served.
            provider: the same of the provider that served.
            key: the same of the key's public id.
            deployment: the same of the deployment.
            kind: the same of the kind of call: chat, embed, image ...
            tag: the same of any of a call's tags.
        """
        now = time.time_ns() // 1000
        start = None if since is None else moment(since, now, self.zone)
        end = None if until is None else moment(until, now, self.zone)
        if start is not None and end is not None and start >= end:
            raise InvalidRequestError(f"since {shown(since)} is not before until {shown(until)}: no call can fit")
        return Selection(
            since=start,
            until=end,
            model=_names(model),
            provider=_names(provider),
            key=_names(key),
            deployment=_names(deployment),
            kind=_names(kind),
            tag=_names(tag),
        )

    def calls(self, count: int = 20, chosen: Selection | None = None, *, errors: bool = False) -> list[CallRow]:
        """
        The last calls that were recorded, the newest first.

        Args:
            count: how many at most.
            chosen: which calls, see ``selection``; None is all.
            errors: only those that failed or broke off.
        """
        return self._ask(lambda ledger: newest(ledger, count, chosen or Selection(), errors=errors))[0]

    def follow(
        self, count: int = 0, chosen: Selection | None = None, *, errors: bool = False, pause: float = 0.5
    ) -> Iterator[list[CallRow]]:
        """
        The last calls, oldest first, and then what is recorded, whenever there is something; without end.

        Args:
            count: how many to begin with.
            chosen: which calls, see ``selection``; None is all.
            errors: only those that failed or broke off.
            pause: seconds between two looks.
        """
        which = chosen or Selection()
        rows, tail = self._ask(lambda ledger: newest(ledger, count, which, errors=errors))
        rows.reverse()
        while True:
            if rows:
                yield rows
            time.sleep(pause)
            rows = self._ask(lambda ledger: self._more(ledger, tail, which, errors=errors))

    @staticmethod
    def _more(ledger: Open, tail: Tail, chosen: Selection, *, errors: bool) -> list[CallRow]:
        # A reading may be done twice when the file changes under it: it must begin at the same place.
        moved = Tail(tail.seq, tail.seen)
        found = since(ledger, moved, chosen, errors=errors)
        tail.seq, tail.seen = moved.seq, moved.seen
        return found

    def call(self, id: str) -> CallRecord:
        """
        One call with all its attempts.

        Args:
            id: the call's id, its first digits (6 or more) when no other call has them, or the provider's id of the
                call or of one of its attempts.

        Raises:
            InvalidRequestError: no call has it, or several; the message names the nearest.
        """
        return self._ask(lambda ledger: find(ledger, id, self.place))

    def _ask(self, work: Callable[[Open], _T]) -> _T:
        def careful(ledger: Open) -> _T:
            try:
                return work(ledger)
            except Malformed as error:
                raise broken(ledger, error, self.place) from error

        return self._source.read(careful)


def _default() -> str:
    from llm_master.ledger.store import Ledger, no_place

    given = os.environ.get("LLM_MASTER_LEDGER", "").strip()
    if given.startswith(("postgresql://", "postgres://")):
        return given
    path = Ledger.default_path()
    if path is None:
        raise ConfigurationError(f"{no_place()}; name the file to read with --ledger")
    return str(path)


def _names(given: _Names) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _last(value: str | None) -> tuple[bool, str]:
    return value is None, value or ""


def _order(row: UsageRow, sort: str) -> tuple[object, ...]:
    """The largest first; what is equal by calls, and then by name, so that the order never depends on the file."""
    size = {
        "cost": -(row.cost or 0),
        "calls": 0,
        "tokens": -row.usage.total_tokens,
        "latency": -(row.latency.p95 if row.latency else 0),
    }[sort]
    return size, -row.calls, [_last(each) for each in row.group.values()]
