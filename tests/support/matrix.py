"""
The fault matrix: for each fault what a call comes to, and how it must behave on the way.

A ``Row`` is a fault on the route of the first target; a ``Way`` is what a call that meets it makes of it. There is one
way for plain answers and one for streams. Three manners of asking go these ways: ``plain``, ``iterated`` (pieces as
they come) and ``text`` (``await stream.text()``), which goes on where an iteration has to be interrupted.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Literal

from llm_master import Timeouts, Usage
from support import faults, floods
from support.behaviours import close, hold, ok, quota_429, rate_limited, reset, silence, status
from support.bodies import CHAT, MESSAGES, Family
from support.exchange import Behaviour, Exchange

__all__ = [
    "AMPLE",
    "FALLBACK",
    "FLOODS",
    "LIMITS",
    "MANNERS",
    "MORE",
    "PRIMARY",
    "ROWS",
    "Manner",
    "Row",
    "Way",
    "gate",
    "gated",
]

Manner = Literal["plain", "iterated", "text"]
MANNERS: tuple[Manner, ...] = ("plain", "iterated", "text")

TEXT = "Hello from the first."
PRIMARY = ok(TEXT, usage=Usage(11, 7))
FALLBACK = ok("Hello from the second.", usage=Usage(5, 3))
# Where the silent faults end. Only lower bounds of time are ever asserted, so a slow machine may take longer.
LIMITS = Timeouts(total=3.0, first_token=0.5, idle=0.5)
AMPLE = Timeouts(total=30.0)

Status = int | None | tuple[int, ...]
Name = str | tuple[str, ...] | dict[Family, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """
    What a call comes to.

    Attributes:
        failures: attempts on the first target that fail.
        end: who answers after them; ``interrupted`` is the end of an iteration that has given text already.
        status: the status that these attempts record, or one of several; 200 also stands for None, since it says
            nothing of the fault.
        error: the class that they record, one of several, or one for each family.
        connection: ``reused`` by the next attempt, ``closed`` by the client at once, or None where either is right.
    """

    failures: int
    end: Literal["first", "second", "interrupted"]
    status: Status = None
    error: Name = ""
    connection: Literal["reused", "closed"] | None = None

    def errors(self, family: Family) -> tuple[str, ...]:
        """The classes that may be recorded."""
        found = self.error.get(family, tuple(self.error.values())) if isinstance(self.error, dict) else self.error
        return (found,) if isinstance(found, str) else found

    @property
    def statuses(self) -> tuple[int | None, ...]:
        """The statuses that may be recorded."""
        if isinstance(self.status, tuple):
            return self.status
        return (200, None) if self.status == 200 else (self.status,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """
    One fault.

    Attributes:
        name: what it is called.
        script: what the first target does, request by request; the last behaviour repeats.
        plain, stream: what becomes of a call.
        gaps: seconds that lie at least between its first two requests, and so on.
        refused: the first target's port accepts no connection; the script is not used.
        timeouts: of the call.
        finish: the finish reason of the answer that the first target gives in the end.
    """

    name: str
    script: Sequence[Behaviour]
    plain: Way
    stream: Way
    gaps: tuple[float, ...] = ()
    refused: bool = False
    timeouts: Timeouts = AMPLE
    finish: str = "stop"

    def way(self, manner: Manner) -> Way:
        """What becomes of a call in one manner of asking."""
        if manner == "plain":
            return self.plain
        if manner == "text" and self.stream.end == "interrupted":
            return dataclasses.replace(self.stream, end="second")
        return self.stream

    def answer(self, manner: Manner) -> str:
        """The text of the whole answer."""
        answering = FALLBACK if self.way(manner).end == "second" else self.script[-1]
        return getattr(answering, "answer", PRIMARY.answer).text or ""


# Ways -----------------------------------------------------------------------------------------------------------------

FINE = Way(failures=0, end="first")


def cured(status: Status, error: Name, *, after: int = 1, connection: Literal["reused"] | None = "reused") -> Way:
    """The first target fails ``after`` times, then answers."""
    return Way(failures=after, end="first", status=status, error=error, connection=connection)


def given_up(status: Status, error: Name, connection: Literal["reused", "closed"] | None = "reused") -> Way:
    """Three attempts fail, the second target answers."""
    return Way(failures=3, end="second", status=status, error=error, connection=connection)


def elsewhere(status: Status, error: Name, connection: Literal["reused", "closed"] | None = "reused") -> Way:
    """One attempt fails, no other is made there, the second target answers."""
    return Way(failures=1, end="second", status=status, error=error, connection=connection)


def interrupted(status: Status, error: Name, connection: Literal["closed"] | None = "closed") -> Way:
    """Text was given, then the stream failed."""
    return Way(failures=1, end="interrupted", status=status, error=error, connection=connection)


# Behaviours -----------------------------------------------------------------------------------------------------------


async def gate(x: Exchange) -> None:
    """Let a stream wait until the test has seen its first content and calls ``server.release()``."""
    if x.wants_stream:
        await x.hold()


def gated(then: Behaviour) -> Behaviour:
    """A fault of the connection that comes when the caller has got some content for certain."""

    async def behave(x: Exchange) -> None:
        await gate(x)
        await then(x)

    return behave


async def own_reset(x: Exchange) -> None:
    """A 429 whose only hint is the family's own header; Anthropic's is a moment, in whole seconds."""
    if x.family == CHAT:
        await rate_limited(None, reset_in="120ms")(x)
        return
    then = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1.1)
    headers = [
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-requests-reset", then.isoformat(timespec="seconds").replace("+00:00", "Z")),
    ]
    await rate_limited(None, headers=headers)(x)


async def drip(x: Exchange) -> None:
    """A byte every 10 ms, so that the connection is never silent and never brings an answer."""
    await faults.one_byte_a_second(0.01)(x)


async def endless_chunk(x: Exchange) -> None:
    """A chunk that grows by a byte every 10 ms and never ends: bytes come, content does not."""
    await x.chunk(b'data: {"filler":"')
    while True:
        await x.hold(0.01)
        await x.chunk(b"a")


# The table ------------------------------------------------------------------------------------------------------------


def _limited(name: str, behaviour: Behaviour, gap: float = 0.0) -> Row:
    way = cured(429, "RateLimitError")
    return Row(name=f"429, {name}", script=[behaviour, PRIMARY], plain=way, stream=way, gaps=(gap,))


def _always(name: str, behaviour: Behaviour, way: Way, timeouts: Timeouts = AMPLE) -> Row:
    return Row(name=name, script=[behaviour], plain=way, stream=way, timeouts=timeouts)


def _statuses() -> list[Row]:
    busy: Name = {CHAT: "OverloadedError", MESSAGES: "ServerError"}
    slow: Name = {CHAT: "ServerError", MESSAGES: "APITimeoutError"}
    late: Name = {CHAT: "APITimeoutError", MESSAGES: "ServerError"}
    names: dict[int, Name] = {408: late, 500: "ServerError", 502: "ServerError", 503: busy, 504: slow}
    rows = []
    for code, name in (names | {529: "OverloadedError"}).items():
        once = cured(code, name)
        rows.append(Row(name=f"{code} once", script=[status(code), PRIMARY], plain=once, stream=once))
        rows.append(_always(f"{code} for ever", status(code), given_up(code, name)))
    twice = cured(503, busy, after=2)
    rows.append(Row(name="flapping", script=faults.flapping(2, up=PRIMARY), plain=twice, stream=twice))
    return rows


_LIMITED_ROWS = [
    _limited("seconds", rate_limited("1"), 1.0),
    _limited("fraction of a second", rate_limited("0.12"), 0.12),
    _limited("HTTP date", rate_limited(date_in=1.1), 0.1),
    _limited("retry-after-ms", rate_limited(None, ms="120"), 0.12),
    _limited("retry-after-ms before seconds", rate_limited("3600", ms="120"), 0.12),
    _limited("NaN in ms, good seconds", rate_limited("0.12", ms="NaN"), 0.12),
    _limited("no hint", rate_limited(None)),
    _limited("NaN", rate_limited("NaN")),
    _limited("negative", rate_limited("-1")),
    _limited("absurd", rate_limited("1e9")),
    _limited("infinite", rate_limited("inf")),
    _limited("words", rate_limited("soon")),
    _limited("a date in the past", rate_limited(date_in=-3600)),
    _limited("x-ratelimit-reset", rate_limited(None, reset_in="120ms"), 0.12),
    _limited("the family's own reset header", own_reset, 0.1),
    _limited("RetryInfo", rate_limited(None, retry_info="0.12s"), 0.12),
    Row(
        name="500, then 429 with its wait",
        script=[status(500), rate_limited("0.12"), PRIMARY],
        plain=cured((500, 429), ("ServerError", "RateLimitError"), after=2),
        stream=cured((500, 429), ("ServerError", "RateLimitError"), after=2),
        gaps=(0.0, 0.12),
    ),
    _always("429, an hour", rate_limited("3600"), elsewhere(429, "RateLimitError")),
    _always("429, longer than the deadline", rate_limited("60"), elsewhere(429, "RateLimitError")),
    _always("429 for ever", rate_limited(None), given_up(429, "RateLimitError")),
    _always("429, quota", quota_429(), elsewhere(429, "QuotaExceededError")),
    _always("429, quota with a short hint", quota_429("0.01"), elsewhere(429, "QuotaExceededError")),
]

_LOST = "APIConnectionError"
_UNREADABLE = "ResponseError"
_LATE = "APITimeoutError"

_CONNECTION_ROWS = [
    Row(name="refused", script=[PRIMARY], plain=given_up(None, _LOST), stream=given_up(None, _LOST), refused=True),
    Row(
        name="reset before headers, once",
        script=[reset, PRIMARY],
        plain=cured(None, _LOST, connection=None),
        stream=cured(None, _LOST, connection=None),
    ),
    _always("reset before headers", reset, given_up(None, _LOST, None)),
    _always("closed before headers", close, given_up(None, _LOST, "closed")),
    _always("reset after headers", faults.reset_after_headers(), given_up(200, _LOST, None)),
    Row(
        name="reset mid-body",
        script=[ok(TEXT, middle=gated(reset))],
        plain=given_up(200, _LOST, None),
        stream=interrupted(200, _LOST, None),
    ),
    Row(
        name="cut mid-body",
        script=[ok(TEXT, middle=gated(close))],
        plain=given_up(200, _LOST, "closed"),
        stream=interrupted(200, _LOST),
    ),
    Row(
        name="cut that looks clean",
        script=[ok(TEXT, middle=gated(close), framing="close")],
        plain=given_up(200, _UNREADABLE, "closed"),
        stream=interrupted(200, "StreamInterrupted"),
    ),
    _always("not HTTP", faults.not_http, given_up(None, _UNREADABLE, "closed")),
]

_TIME_ROWS = [
    _always("accepted, then silent", silence, elsewhere(None, _LATE, "closed"), LIMITS),
    _always("no first token", faults.slow_first_token(), elsewhere(200, _LATE, "closed"), LIMITS),
    _always("a byte, then none", faults.one_byte_a_second(None), elsewhere(200, _LATE, "closed"), LIMITS),
    _always("a byte now and then", drip, elsewhere(200, _LATE, "closed"), LIMITS),
    Row(
        name="stalled mid-stream",
        script=[ok(TEXT, middle=silence)],
        plain=elsewhere(200, _LATE, "closed"),
        stream=interrupted(200, _LATE),
        timeouts=LIMITS,
    ),
    Row(
        name="a chunk without end",
        script=[ok(TEXT, middle=endless_chunk)],
        plain=elsewhere(200, _LATE, "closed"),
        stream=interrupted(200, _LATE),
        timeouts=LIMITS,
    ),
    Row(
        name="a slow first token, in time",
        script=[faults.slow_first_token(0.02, text=TEXT)],
        plain=FINE,
        stream=FINE,
    ),
]

_BODY_ROWS = [
    _always("a page of HTML", faults.html_200(), given_up(200, _UNREADABLE)),
    Row(
        name="a page of HTML, once",
        script=[faults.html_200(), PRIMARY],
        plain=cured(200, _UNREADABLE),
        stream=cured(200, _UNREADABLE),
    ),
    _always("an error object in 200", faults.error_object_200(500), given_up(500, "ServerError")),
    _always("a rate limit in 200", faults.error_object_200(429), given_up(429, "RateLimitError")),
    Row(
        name="an error before the first content",
        script=[faults.error_in_stream(after=0)],
        plain=given_up(500, "ServerError"),
        stream=given_up(500, "ServerError", None),
    ),
    Row(
        name="an error after content",
        script=[faults.error_in_stream(after=2, middle=gate)],
        plain=given_up(500, "ServerError"),
        stream=interrupted(500, "ServerError", None),
    ),
    Row(
        name="missing terminal marker",
        script=[faults.missing_terminal_marker(middle=gate)],
        plain=FINE,
        stream=interrupted(200, "StreamInterrupted", None),
        finish="error",
    ),
    Row(
        name="truncated JSON",
        script=[faults.truncated_json(middle=gate)],
        plain=given_up(200, _UNREADABLE),
        stream=interrupted(200, ("StreamInterrupted", _UNREADABLE), None),
    ),
    _always("null content", faults.null_content(), FINE),
    Row(
        name="empty choices",
        script=[faults.empty_choices()],
        plain=given_up(200, _UNREADABLE),
        stream=given_up(200, (_UNREADABLE, "StreamInterrupted"), None),
    ),
]

ROWS: list[Row] = [*_LIMITED_ROWS, *_statuses(), *_CONNECTION_ROWS, *_TIME_ROWS, *_BODY_ROWS]

# Answers that never end; the limits of the tests that use these are lowered to a million bytes.
FLOODS: list[tuple[str, Behaviour]] = [
    ("a huge body", floods.huge_body(3_000_000)),
    ("a huge body with its length", floods.huge_body(3_000_000, declared=True)),
    ("a huge line", floods.huge_line(3_000_000)),
    ("a gzip bomb", floods.gzip_bomb(50_000_000)),
]

# What looks odd and is harmless: one request, the whole answer, its usage once.
MORE: list[Row] = [
    _always("a wrong content type", faults.wrong_content_type(), FINE),
    _always("usage twice", faults.duplicate_usage(), FINE),
    _always("comments, pings and empty chunks", faults.keep_alive_noise(), FINE),
    _always("interim responses", faults.interim_responses(), FINE),
    _always("finished without its marker", faults.finish_without_done(), FINE),
    _always("CRLF, BOM, byte by byte", ok("Grüße, 世界 🙂", newline="\r\n", bom=True, piece_size=1), FINE),
    _always("closed after the answer", faults.close_when_idle(), FINE),
    _always("compressed though not asked for", ok(gzip=True), FINE),
    _always("streamed in pieces with pauses", ok(each=hold(0.002)), FINE),
    _always("one body where a stream was asked for", ok(stream=False), FINE),
]
