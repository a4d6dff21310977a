"""
Single calls of a ledger: the newest ones, and one whole with all its attempts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from llm_master.errors import InvalidRequestError
from llm_master.ledger.reading_chunks import Selection
from llm_master.ledger.reading_source import Open
from llm_master.ledger.rows import ATTEMPT_COLUMNS, CALL_COLUMNS, AttemptRow, CallRow
from llm_master.ledger.summary import Malformed
from llm_master.redaction import shown

__all__ = ["CallRecord", "Tail", "find", "newest", "since"]

_Row = TypeVar("_Row", CallRow, AttemptRow)

_SHORTEST = 6
_NEAREST = 4

# The column that each pattern of a selection speaks of; one model was asked for and one served.
_COLUMNS = {
    "model": ("model", "model_asked"),
    "provider": ("provider",),
    "key": ("key_id",),
    "deployment": ("deployment",),
    "kind": ("kind",),
}


class CallRecord(msgspec.Struct, frozen=True):
    """One call with its attempts, in their order."""

    call: CallRow
    attempts: list[AttemptRow]


class Tail(msgspec.Struct):
    """Where somebody who follows a ledger stands: the last number seen, and the calls seen just before it."""

    seq: int
    seen: set[str]


def newest(ledger: Open, count: int, chosen: Selection, *, errors: bool) -> tuple[list[CallRow], Tail]:
    """The last calls that fit, the newest first, and where those that follow begin."""
    condition, values = _condition(ledger, chosen, errors=errors)
    rows = ledger.run(f"{_select(condition)} ORDER BY seq DESC LIMIT {ledger.dialect.mark}", [*values, count])
    [(last,)] = ledger.run("SELECT coalesce(max(seq), 0) FROM calls")
    recent = ledger.run(f"SELECT id FROM calls WHERE seq > {ledger.dialect.mark}", [last - ledger.dialect.late])  # noqa: S608
    return [_row(row[1:], CALL_COLUMNS, CallRow) for row in rows], Tail(last, {name for (name,) in recent})


def since(ledger: Open, tail: Tail, chosen: Selection, *, errors: bool) -> list[CallRow]:
    """The calls that have come since then, oldest first; ``tail`` moves on."""
    mark, late = ledger.dialect.mark, ledger.dialect.late
    if not late:
        [(last,)] = ledger.run("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'calls'")
        if last < tail.seq:  # SQLite gives no number twice: another file has taken the place of the one before
            tail.seq = 0
    # What does not fit is read as well: it may come to light late, and has been seen then.
    rows = ledger.run(f"SELECT seq, id FROM calls WHERE seq > {mark} ORDER BY seq", [tail.seq - late])  # noqa: S608
    fresh = [seq for seq, name in rows if name not in tail.seen]
    tail.seen = {name for _, name in rows} if late else set()
    if not fresh:
        return []
    known = tail.seq
    tail.seq = max(known, fresh[-1])
    condition, values = _condition(ledger, chosen, errors=errors)
    wanted = set(fresh)
    statement = f"{_select(condition)} AND seq BETWEEN {mark} AND {mark} ORDER BY seq"
    found = ledger.run(statement, [*values, fresh[0], fresh[-1]])
    return [_row(row[1:], CALL_COLUMNS, CallRow) for row in found if row[0] in wanted]


def find(ledger: Open, name: str, where: str) -> CallRecord:
    """
    The call that a name means: its id, the beginning of its id (6 digits or more), or the provider's id of a request.

    Raises:
        InvalidRequestError: no call has it, or several have; the message names the nearest.
    """
    name = name.strip()
    ids = _by_request(ledger, name)
    digits = name.replace("-", "").lower()
    if not ids and re.fullmatch(r"[0-9a-f]{1,32}", digits):
        if len(digits) < _SHORTEST:
            raise InvalidRequestError(f"{shown(name)} is too short for a call's id; give {_SHORTEST} digits or more")
        ids = _by_prefix(ledger, digits)
    if len(ids) > 1:
        raise InvalidRequestError(_ambiguous(name, ids))
    if not ids:
        raise InvalidRequestError(_unknown(ledger, name, digits, where))
    mark = ledger.dialect.mark
    call = ledger.run(f"SELECT {', '.join(CALL_COLUMNS)} FROM calls WHERE id = {mark}", [ids[0]])  # noqa: S608
    attempts = ledger.run(
        f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempts WHERE call_id = {mark} ORDER BY number",  # noqa: S608
        [ids[0]],
    )
    return CallRecord(
        _row(call[0], CALL_COLUMNS, CallRow), [_row(each, ATTEMPT_COLUMNS, AttemptRow) for each in attempts]
    )


def _by_request(ledger: Open, name: str) -> list[str]:
    mark = ledger.dialect.mark
    rows = ledger.run(
        f"SELECT id FROM calls WHERE request_id = {mark} UNION SELECT c.id FROM attempts a JOIN calls c ON"  # noqa: S608
        f" c.id = a.call_id WHERE a.request_id = {mark} ORDER BY 1 DESC LIMIT {mark}",
        [name, name, _NEAREST + 1],
    )
    return [found for (found,) in rows]


def _by_prefix(ledger: Open, digits: str) -> list[str]:
    mark, bytewise = ledger.dialect.mark, ledger.dialect.bytewise
    rows = ledger.run(
        f"SELECT id FROM calls WHERE id{bytewise} >= {mark} AND id{bytewise} < {mark}"  # noqa: S608
        f" ORDER BY id{bytewise} DESC LIMIT {mark}",
        [digits, f"{digits}g", _NEAREST + 1],  # "g" follows every digit
    )
    return [found for (found,) in rows]


def _ambiguous(name: str, ids: Sequence[str]) -> str:
    more = " and more" if len(ids) > _NEAREST else ""
    return f"several calls have the id {shown(name)}: {', '.join(ids[:_NEAREST])}{more}; give more digits"


def _unknown(ledger: Open, name: str, digits: str, where: str) -> str:
    near = [*_neighbours(ledger, "id", digits), *_neighbours(ledger, "request_id", name)]
    near.sort(key=lambda each: -max(_shared(each, digits), _shared(each, name)))
    if not near:
        return f"no call in {where} has the id {shown(name)}; it holds no calls"
    nearest = ", ".join(near[:_NEAREST])
    return f"no call in {where} has the id {shown(name)}; the nearest are {nearest}; `llm-master logs` lists the last"


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with together."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _neighbours(ledger: Open, column: str, name: str) -> list[str]:
    """What stands before and after a name, in the order of the column's index."""
    mark, bytewise = ledger.dialect.mark, ledger.dialect.bytewise
    found = []
    for sign, order in (("<", "DESC"), (">", "ASC")):
        found += ledger.run(
            f"SELECT {column} FROM calls WHERE {column}{bytewise} {sign} {mark} AND {column} IS NOT NULL"  # noqa: S608
            f" ORDER BY {column}{bytewise} {order} LIMIT 2",
            [name],
        )
    return [each for (each,) in found]


def _select(condition: str) -> str:
    return f"SELECT seq, {', '.join(CALL_COLUMNS)} FROM calls WHERE {condition}"  # noqa: S608  # our own names


def _condition(ledger: Open, chosen: Selection, *, errors: bool) -> tuple[str, list[Any]]:
    mark, like = ledger.dialect.mark, ledger.dialect.like
    parts: list[str] = ["1 = 1"]
    values: list[Any] = []
    for bound, sign in ((chosen.since, ">="), (chosen.until, "<")):
        if bound is not None:
            parts.append(f"ts {sign} {mark}")
            values.append(bound)
    for name, columns in _COLUMNS.items():
        patterns = [_like(each) for each in getattr(chosen, name)]
        if patterns:
            each = [f"{column} {like} {mark} ESCAPE '\\'" for column in columns for _ in patterns]
            parts.append(f"({' OR '.join(each)})")
            values += patterns * len(columns)
    if chosen.tag:
        fits = " OR ".join(f"tag {like} {mark} ESCAPE '\\'" for _ in chosen.tag)
        parts.append(f"id IN (SELECT call_id FROM call_tags WHERE {fits})")  # noqa: S608  # values stand apart
        values += [_like(each) for each in chosen.tag]
    if errors:
        parts.append("outcome IN ('error', 'interrupted')")
    return " AND ".join(parts), values


def _like(pattern: str) -> str:
    """A pattern of a shell (``*`` and ``?``) as one of SQL."""
    escaped = re.sub(r"([\\%_])", r"\\\1", pattern)
    return escaped.replace("*", "%").replace("?", "_")


def _row(values: Sequence[Any], columns: Sequence[str], made: type[_Row]) -> _Row:
    try:
        return msgspec.convert(dict(zip(columns, values, strict=True)), made)
    except msgspec.ValidationError as error:
        raise Malformed(f"{columns[0]} {values[0]!r}: {error}") from error
