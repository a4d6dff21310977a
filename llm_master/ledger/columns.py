"""
Some calls column by column: read from the ledger in one row, put into groups, and kept beside their sums.

One statement gives a whole column as one JSON text. A thread that reads call by call has to ask for the interpreter at
each of them; so it asks once, and the database works meanwhile without it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any

import msgspec

from llm_master.ledger.summary import SUMS, Dialect, Malformed, Summary, numbers, packed, summarised, width_of

__all__ = ["NAMES", "Columns", "Texts", "read"]

#: Columns with names in them, by which calls can be chosen and put into groups.
NAMES = ("kind", "provider", "model", "model_asked", "deployment", "key_id", "tags")

_WHOLE = msgspec.json.Decoder(list[int])
_WHOLE_OR_NONE = msgspec.json.Decoder(list[int | None])
_TEXT = msgspec.json.Decoder(list[str | None])

Run = Callable[[str, Sequence[Any]], Sequence[Sequence[Any]]]
Numbers = Sequence[int]


class Texts(msgspec.Struct, gc=False):
    """A column of names: the different ones, and which of them each call has."""

    values: list[str | None]
    codes: Numbers

    def each(self) -> Iterable[str | None]:
        """The name of every call."""
        return map(self.values.__getitem__, self.codes)


class _Packed(msgspec.Struct, array_like=True, gc=False):
    count: int
    texts: dict[str, tuple[list[str | None], str, memoryview]]
    numbers: dict[str, tuple[str, memoryview]]
    absent: int


class Columns(msgspec.Struct, gc=False):
    """
    Calls in the order in which they were read.

    Args:
        count: how many.
        texts: columns of ``NAMES``.
        numbers: ``ts``, ``latency_us``, ``ttft_us`` and those of ``SUMS`` that are not 0 in every call.
        absent: what stands in ``ttft_us`` for a call without a first token.
    """

    count: int
    texts: dict[str, Texts]
    numbers: dict[str, Numbers]
    absent: int

    def groups(self, chosen: Mapping[Any, Sequence[int]]) -> Summary:
        """
        Add up groups of calls.

        Args:
            chosen: what the calls of a group have in common, and their places; no group is empty.

        Raises:
            OverflowError: a latency has more than 64 bits.
        """
        order = [place for places in chosen.values() for place in places]
        ends = [0]
        for places in chosen.values():
            ends.append(ends[-1] + len(places))
        parts = list(pairwise(ends))
        whole = len(chosen) == 1 and len(order) == self.count

        # A list gives its numbers out faster than an array, which makes them anew each time; to make it takes a while.
        listed = 2 * len(order) > self.count

        def cut(name: str) -> list[Sequence[int]]:
            values = self.numbers.get(name)
            if values is None:
                return []
            if listed and isinstance(values, array):
                values = self.numbers[name] = values.tolist()
            if whole:
                return [values]
            picked = take(values)
            return [picked[start:end] for start, end in parts]

        take: Callable[[Numbers], Sequence[int]] = (
            itemgetter(*order) if len(order) > 1 else lambda values: [values[place] for place in order]
        )
        absent = self.absent
        return summarised(
            list(chosen),
            [list(map(sum, cut(name))) for name in SUMS],
            [sorted(each) for each in cut("latency_us")],
            [sorted([value for value in each if value != absent]) for each in cut("ttft_us")],
        )

    def pack(self) -> bytes:
        """All of it as bytes; raises OverflowError for a number of more than 64 bits."""
        made = _Packed(self.count, {}, {}, self.absent)
        for name, texts in self.texts.items():
            width = width_of(0, len(texts.values))
            made.texts[name] = (texts.values, width, packed(texts.codes, width))
        for name, values in self.numbers.items():
            width = width_of(min(values, default=0), max(values, default=0))
            made.numbers[name] = (width, packed(values, width))
        return msgspec.msgpack.encode(made)

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Columns:
        """What ``pack`` made; raises ValueError for anything else."""
        found = msgspec.msgpack.decode(data, type=_Packed)
        made = cls(found.count, {}, {}, found.absent)
        for name, (values, width, codes) in found.texts.items():
            made.texts[name] = Texts(values, numbers(codes, width))
        for name, (width, each) in found.numbers.items():
            made.numbers[name] = numbers(each, width)
        sizes = {len(each) for each in made.numbers.values()} | {len(each.codes) for each in made.texts.values()}
        if sizes != {found.count}:
            raise ValueError("columns of different lengths")
        return made


def read(run: Run, dialect: Dialect, where: str, values: Sequence[Any], names: Iterable[str] = NAMES) -> Columns:
    """
    The calls for which a condition holds.

    Args:
        run: runs a statement and gives its rows.
        dialect: the database's.
        where: the condition, with the dialect's marks.
        values: what stands for the marks.
        names: which columns of names.

    Raises:
        Malformed: a row holds what its column does not allow.
    """
    names = list(names)
    expressions = [*names, "ts", "latency_us", "ttft_us", *SUMS.values()]
    columns = ", ".join(dialect.listed.format(each) for each in expressions)
    # Only names of our own columns stand in it; the condition is ours as well.
    [row] = run(f"SELECT {columns} FROM calls WHERE {where}", values)  # noqa: S608
    try:
        return _made(names, row)
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise Malformed(str(error)) from error


def _made(names: Sequence[str], row: Sequence[str | None]) -> Columns:
    size = len(names)
    ts, latency = (_WHOLE.decode(each or "[]") for each in row[size : size + 2])
    tokens = _WHOLE_OR_NONE.decode(row[size + 2] or "[]")
    known = [each for each in tokens if each is not None]
    absent = min(known, default=1) - 1
    found: dict[str, Numbers] = {"ts": ts, "latency_us": latency}
    found["ttft_us"] = [absent if each is None else each for each in tokens]
    for name, text in zip(SUMS, row[size + 3 :], strict=True):
        values = _WHOLE.decode(text or "[]")
        if any(values):
            found[name] = values
    texts = {name: _texts(_TEXT.decode(text or "[]")) for name, text in zip(names, row, strict=False)}
    return Columns(len(ts), texts, found, absent)


def _texts(values: Sequence[str | None]) -> Texts:
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return Texts(list(places), array("I", map(places.__getitem__, values)))
