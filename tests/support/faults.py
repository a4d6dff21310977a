"""
The ways in which a provider fails half-way: of the connection, of time, of a stream's grammar, of a body's content.

Where a fault exists for streams only or for plain answers only, its docstring says what the other kind of request
gets. ``after`` counts the pieces of content that a stream gives before the fault; a plain body fails at its half.
Waits end with ``server.release()`` when no ``delay`` in seconds is given. ``fields`` are those of ``ok``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

from support.behaviours import Reply, close, hold, ok, reset, silence, status
from support.bodies import CHAT, FAMILIES, Event, Family, after_content, dumps, error_event, error_json
from support.bodies_families import FORMS
from support.exchange import Behaviour, Exchange

__all__ = [
    "accept_and_silent",
    "close_before_headers",
    "close_when_idle",
    "cut_mid_stream",
    "duplicate_usage",
    "empty_choices",
    "error_in_stream",
    "error_object_200",
    "finish_without_done",
    "flapping",
    "html_200",
    "interim_responses",
    "invalid_utf8",
    "keep_alive_noise",
    "malformed_chunk",
    "missing_terminal_marker",
    "not_http",
    "null_content",
    "one_byte_a_second",
    "reset_after_headers",
    "reset_before_headers",
    "reset_mid_body",
    "slow_first_token",
    "slow_headers",
    "stall_mid_stream",
    "truncated_json",
    "wrong_content_type",
]

# The connection -------------------------------------------------------------------------------------------------------

accept_and_silent: Behaviour = silence
reset_before_headers: Behaviour = reset
close_before_headers: Behaviour = close


def reset_after_headers(**fields: Any) -> Reply:
    """The head of a good answer, then RST."""
    return ok(after_head=reset, **fields)


def reset_mid_body(after: int = 2, **fields: Any) -> Reply:
    """A part of the body, then RST."""
    return ok(after=after, middle=reset, **fields)


def cut_mid_stream(after: int = 2, **fields: Any) -> Reply:
    """A part of the body, then FIN: the chunks have no end, the length is not reached."""
    return ok(after=after, middle=close, **fields)


def close_when_idle(*, wait: bool = False, **fields: Any) -> Reply:
    """A good answer on a connection that looks reusable and is closed right after it, or when the test releases it."""

    async def idle(x: Exchange) -> None:
        if wait:
            await x.hold()
        x.close()

    return ok(afterwards=idle, **fields)


async def not_http(x: Exchange) -> None:
    """Bytes that are no HTTP answer."""
    await x.send(b"220 mail.example ESMTP ready\r\n")
    x.close()


def interim_responses(**fields: Any) -> Reply:
    """A good answer after two 1xx answers, which a client must skip."""

    async def interim(x: Exchange) -> None:
        await x.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n")

    return ok(before=interim, **fields)


def flapping(times: int, down: Behaviour | None = None, up: Behaviour | None = None) -> list[Behaviour]:
    """A script: so many requests fail (by default with 503), all later ones are answered."""
    return [down or status(503)] * times + [up or ok()]


# Time -----------------------------------------------------------------------------------------------------------------


def slow_first_token(delay: float | None = None, **fields: Any) -> Reply:
    """A stream's head at once and its first event late; a plain answer late as a whole."""

    async def late(x: Exchange, *, streams: bool) -> None:
        if x.wants_stream is streams:
            await x.hold(delay)

    before, after_head = functools.partial(late, streams=False), functools.partial(late, streams=True)
    return ok(before=before, after_head=after_head, **fields)


def slow_headers(interval: float | None = None, **fields: Any) -> Reply:
    """The head byte by byte; then the body likewise."""
    return ok(slow_head=True, each=hold(interval), piece_size=1, **fields)


def one_byte_a_second(interval: float | None = 1.0, **fields: Any) -> Reply:
    """The head at once, then a byte every ``interval`` seconds, or a byte for each ``release(1)`` when it is None."""
    return ok(each=hold(interval), piece_size=1, **fields)


def stall_mid_stream(after: int = 2, delay: float | None = None, **fields: Any) -> Reply:
    """A part of the body, a wait, then the rest."""
    return ok(after=after, middle=hold(delay), **fields)


# A stream's grammar ---------------------------------------------------------------------------------------------------


_NO_CHOICES = '{"id":"answer-1","object":"chat.completion.chunk","choices":[]}'


def _without(*kinds: str) -> Callable[[Family, list[Event]], Iterable[Event]]:
    return lambda _, events: [event for event in events if event.kind not in kinds]


def missing_terminal_marker(**fields: Any) -> Reply:
    """All content, no finish reason, no marker, and a proper end of the body; plain: the finish reason is null."""

    def edit_json(family: Family, body: Any) -> Any:
        if family not in FAMILIES:
            return FORMS[family].incomplete(body)
        if family == CHAT:
            body["choices"][0]["finish_reason"] = None
        else:
            body["stop_reason"] = None
        return body

    return ok(edit=_without("close", "finish", "usage", "end"), edit_json=edit_json, **fields)


def finish_without_done(*, keep_open: bool = False, **fields: Any) -> Reply:
    """
    Finish reason and usage, but neither ``[DONE]`` nor ``message_stop``; a plain answer is good.

    Args:
        keep_open: the body does not end either: the connection stays silent.
    """

    async def stay(x: Exchange) -> None:
        if x.wants_stream:
            x.seen.answered.set()
            await x.silence()

    return ok(edit=_without("end"), at_end=stay if keep_open else None, **fields)


def malformed_chunk(after: int = 1, data: str = '{"choices":[{"delta":{"conte', **fields: Any) -> Reply:
    """One event that is not JSON, after which the stream goes on well; a plain body is cut to its half."""

    def edit(_: Family, events: list[Event]) -> list[Event]:
        at = after_content(events, after)
        return [*events[:at], dataclasses.replace(events[at], kind="noise", data=data), *events[at:]]

    return ok(edit=edit, edit_json=_half, **fields)


def error_in_stream(after: int = 2, code: int = 500, *, error: dict[str, Any] | None = None, **fields: Any) -> Reply:
    """
    An error object in place of the rest of a stream, which then ends well; a plain answer is the error with HTTP 200.

    Args:
        after: pieces of content before it.
        code: the status whose usual error body it is.
        error: another object.
    """

    def spoken(family: Family, _: Any = None) -> Any:
        return error or error_json(family, code)

    def edit(family: Family, events: list[Event]) -> list[Event]:
        failure = error_event(family, code)
        if error is not None:
            failure = dataclasses.replace(failure, data=dumps(error))
        return [*events[: after_content(events, after)], failure]

    return ok(edit=edit, edit_json=spoken, **fields)


def duplicate_usage(**fields: Any) -> Reply:
    """The tokens twice: the usage chunk, or ``message_delta`` whose numbers are cumulative; a plain answer is good."""

    def edit(family: Family, events: list[Event]) -> list[Event]:
        kind = "usage" if any(event.kind == "usage" for event in events) else "finish"
        return [event for event in events for _ in range(2 if event.kind == kind else 1)]

    return ok(edit=edit, **fields)


def keep_alive_noise(**fields: Any) -> Reply:
    """Comments, pings, chunks without choices and unknown events between all others; a plain answer is good."""

    def edit(family: Family, events: list[Event]) -> list[Event]:
        between = [Event("comment", "OPENROUTER PROCESSING")]
        if family not in FAMILIES:
            between = FORMS[family].noise()
        elif family == CHAT:
            between.append(Event("noise", _NO_CHOICES))
        else:
            between += [Event("noise", '{"type":"ping"}', "ping"), Event("noise", '{"type":"hint","n":1}', "hint")]
        noisy = [between[0]]
        for event in events[:-1]:
            noisy += [event, *between]
        return [*noisy, events[-1]]

    return ok(edit=edit, **fields)


# A body's content -----------------------------------------------------------------------------------------------------


def _half(_: Family, body: Any) -> bytes:
    data = dumps(body).encode()
    return data[: len(data) // 2]


def html_200(page: str = "<!DOCTYPE html><html><body><h1>Sign in to the network</h1></body></html>") -> Behaviour:
    """A web page with status 200."""
    return status(200, page, content_type="text/html; charset=utf-8")


def wrong_content_type(content_type: str = "application/octet-stream", **fields: Any) -> Reply:
    """A good answer that says it is something else."""
    return ok(content_type=content_type, **fields)


def truncated_json(after: int = 2, **fields: Any) -> Reply:
    """Half of a JSON body with the right length; half of an event as the end of a stream."""

    def edit(_: Family, events: list[Event]) -> list[Event]:
        at = after_content(events, after)
        half = events[at].data[: len(events[at].data) // 2]
        return [*events[:at], dataclasses.replace(events[at], data=half)]

    return ok(edit=edit, edit_json=_half, **fields)


def error_object_200(code: int = 500, error: dict[str, Any] | None = None, **fields: Any) -> Behaviour:
    """
    A family's error object with status 200, as JSON, to streams too.

    Args:
        code: the status whose usual error body it is.
        error: another object.
        fields: ``message`` and ``type`` of the usual one.
    """

    async def behave(x: Exchange) -> None:
        body = error or error_json(x.family or CHAT, code, **fields)
        await status(200, body)(x)

    return behave


def null_content(**fields: Any) -> Reply:
    """An answer without content: ``content`` is null, or there is no block at all."""

    def edit(family: Family, events: list[Event]) -> list[Event]:
        if family == CHAT:
            empty = events[0].data.replace('"content":""', '"content":null')
            return [dataclasses.replace(events[0], data=empty), *events[1:]]
        return events

    return ok(None, edit=edit, **fields)


def empty_choices(**fields: Any) -> Reply:
    """An answer that says nothing: ``choices`` is ``[]`` everywhere, or content is, and no finish reason is given."""

    def edit(family: Family, events: list[Event]) -> list[Event]:
        if family == CHAT:
            return [Event("noise", _NO_CHOICES), events[-1]]
        if family not in FAMILIES:
            return [event for event in events if event.kind == "start"]
        return [event for event in events if event.kind in ("start", "end")]

    def edit_json(family: Family, body: Any) -> Any:
        if family not in FAMILIES:
            return FORMS[family].speechless(body)
        return body | ({"choices": []} if family == CHAT else {"content": [], "stop_reason": None})

    return ok(edit=edit, edit_json=edit_json, **fields)


def invalid_utf8(**fields: Any) -> Reply:
    """Two bytes inside the text that are no UTF-8."""
    return ok(("bad ", "\udcff\udcfe bytes"), **fields)
