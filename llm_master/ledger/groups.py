"""
Putting calls into groups: by model, provider, key, tag, day and whatever else the ledger knows of a call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import msgspec

from llm_master.ledger.columns import Columns, Numbers
from llm_master.ledger.rows import tags_of
from llm_master.ledger.summary import Malformed

__all__ = ["BY", "NEEDS", "SLOT", "Days", "grouped"]

#: Microseconds of a quarter of an hour: every time zone of today begins its days at one.
SLOT = 900_000_000

#: What calls may be grouped by.
BY = ("model", "asked", "provider", "key", "deployment", "kind", "day", "tag")

#: The columns of names that a grouping reads.
NEEDS: dict[str, tuple[str, ...]] = {
    "model": ("model", "model_asked"),
    "asked": ("model_asked",),
    "provider": ("provider",),
    "key": ("key_id",),
    "deployment": ("deployment",),
    "kind": ("kind",),
    "tag": ("tags",),
    "day": (),
    "slot": (),
}

#: The names of the days in which slots lie; None when a slot lies in two.
Days = Callable[[Iterable[int], int], list[str] | None]


class _Labels(msgspec.Struct, gc=False):
    """The names that a call may have, all of them at once, and which of these each call has."""

    values: Sequence[tuple[Any, ...]]
    codes: Numbers


def grouped(
    columns: Columns, by: Sequence[str], *, keep: Sequence[int] | None = None, days: Days | None = None
) -> dict[tuple[Any, ...], list[int]]:
    """
    The places of the calls of each group, by what they have in common.

    Args:
        columns: the calls.
        by: names of ``BY``, or ``slot`` for the quarter of an hour since the epoch; a call with two tags is in two.
        keep: the places of the calls that count; None is all.
        days: tells the days apart, when they are asked for.

    Raises:
        Malformed: a call has tags that are none, or a time that no calendar has.
    """
    places: Sequence[int] = range(columns.count) if keep is None else keep
    if not by:
        return {(): list(places)} if places else {}
    labels = [_labels(columns, name, days) for name in by]
    together: defaultdict[Any, list[int]] = defaultdict(list)
    codes = [_picked(each.codes, keep) for each in labels]
    for place, key in zip(places, codes[0] if len(codes) == 1 else zip(*codes, strict=True), strict=True):
        together[key].append(place)
    found: dict[tuple[Any, ...], list[int]] = {}
    for key, members in together.items():
        named = (key,) if len(codes) == 1 else key
        for label in product(*(each.values[code] for each, code in zip(labels, named, strict=True))):
            if label in found:
                found[label] = found[label] + members
            else:
                found[label] = members
    return found


def _picked(codes: Numbers, keep: Sequence[int] | None) -> Iterable[int]:
    return codes if keep is None else map(codes.__getitem__, keep)


def _labels(columns: Columns, name: str, days: Days | None) -> _Labels:
    if name == "slot":
        return _numbered([ts // SLOT for ts in columns.numbers["ts"]])
    if name == "day":
        return _days(columns.numbers["ts"], days)
    texts = [columns.texts[each] for each in NEEDS[name]]
    first = texts[0]
    if name == "tag":
        return _Labels([_tags(text) for text in first.values], first.codes)
    values = [(value,) for value in first.values]
    if len(texts) == 1 or None not in first.values:
        return _Labels(values, first.codes)
    # No model served: the one that was asked for stands for it.
    absent, start = first.values.index(None), len(values)
    codes = [code if code != absent else start + asked for code, asked in zip(first.codes, texts[1].codes, strict=True)]
    return _Labels(values + [(value,) for value in texts[1].values], codes)


def _tags(text: str | None) -> tuple[str | None, ...]:
    try:
        return tuple(tags_of(text or "")) or (None,)
    except (msgspec.MsgspecError, TypeError) as error:
        raise Malformed(f"tags {text!r}: {error}") from error


def _days(times: Sequence[int], days: Days | None) -> _Labels:
    if days is None:
        raise ValueError("days cannot be told apart without a zone")
    slots = _numbered([ts // SLOT for ts in times])
    names = days([slot for (slot,) in slots.values], SLOT)
    if names is None:  # a day begins within a slot: each call is looked at
        slots = _numbered(times)
        names = days([ts for (ts,) in slots.values], 1) or []
    named = {name: place for place, name in enumerate(dict.fromkeys(names))}
    of_slot = [named[name] for name in names]
    return _Labels([(name,) for name in named], [of_slot[code] for code in slots.codes])


def _numbered(values: Sequence[int]) -> _Labels:
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return _Labels([(value,) for value in places], list(map(places.__getitem__, values)))
