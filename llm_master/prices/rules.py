"""
What no price sheet says, as data: tiers, places, working hours, single things and models priced by the piece.

The rows stand in ``catalogue/prices.json`` and ``catalogue/prices_items.json``, each with its source and the day it was
checked. A row is for one provider of ours, and for models by name; a ``*`` at the end of a name stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

from llm_master.built import build
from llm_master.catalogue import load_prices

__all__ = ["Listed", "Peaks", "Region", "Rules", "Tier", "applies", "names_of", "plain", "rules"]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a row comes from, the day it was read, and whether the maker's own page was."""

    source: str
    checked: date
    verified: bool = True


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    providers: tuple[str, ...]
    models: tuple[str, ...] = ("*",)
    not_models: tuple[str, ...] = ()
    source: str = msgspec.field(name="from")


class Tier(_Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tier whose tokens cost ``factor`` times the standard price; used where a sheet has no prices of the tier."""

    tier: str
    factor: Decimal


class Region(_Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An uplift where the answer says one of ``geo``, or the request went to a host that ``hosts`` matches whole."""

    factor: Decimal
    geo: tuple[str, ...] = ()
    hosts: str | None = None


class LongWrites(_Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cache writes that are kept for long, as a multiple of the plain input price."""

    factor: Decimal


class Extra(_Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices by key that a sheet lacks, and what is billed at least."""

    prices: dict[str, Decimal] = {}
    least: dict[str, int] = {}


class Peaks(_Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    When the peak hours of a sheet count.

    Attributes:
        clock_from: the day (UTC) before which no hour had a price of its own.
        days_from: the day from which other days than ``days`` and holidays have no peak.
        days: working days, Monday is 0, by the clock ``offset_hours`` ahead of UTC.
        holidays: days or spans of days, ``2026-10-01/2026-10-07``.
        known_until: the last day for which the holidays are known.
    """

    clock_from: date
    days_from: date
    days: tuple[int, ...]
    offset_hours: int
    holidays: tuple[str, ...]
    known_until: date

    def counts(self, at: float) -> bool | None:
        """Whether peak hours count at a UNIX time; None when nobody knows whether the day is a holiday."""
        utc = datetime.fromtimestamp(at, UTC)
        if utc.date() < self.clock_from:
            return False
        day = (utc + timedelta(hours=self.offset_hours)).date()
        if day < self.days_from:
            return True
        if day.weekday() not in self.days or day in _days(self.holidays):
            return False
        return True if day <= self.known_until else None


class Listed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A model with prices of its own in the table.

    Attributes:
        prices: by key, as in price sheets; ``images``, ``megapixels`` are USD for one.
        free: whether it costs nothing.
    """

    prices: dict[str, Decimal] = {}
    free: bool = False
    source: str = msgspec.field(name="from")


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sources: dict[str, Source]
    sheet_ids: dict[str, str] = {}
    sheet_dates: dict[str, date] = {}
    neutral: tuple[str, ...] = ()
    unasked: dict[str, tuple[str, ...]] = {}
    routes: dict[str, tuple[str, ...]] = {}
    free: dict[str, tuple[str, ...]] = {}
    suffixed: dict[str, str] = {}
    tiers: tuple[Tier, ...] = ()
    regions: tuple[Region, ...] = ()
    long_writes: tuple[LongWrites, ...] = ()
    extras: tuple[Extra, ...] = ()
    peaks: tuple[Peaks, ...] = ()
    models: dict[str, dict[str, Listed]] = {}


class Rules(_File, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Both files together.

    Attributes:
        sources: by name; every row names one.
        sheet_ids: provider of ours -> its id in price sheets, where that differs.
        sheet_dates: version of ``genai-prices`` -> the day of its data.
        neutral: words of answers that mean the standard tier.
        unasked: provider -> tiers that may be served to a request that asks for none.
        routes: provider -> endings of names that choose a route and not a model.
        free: provider -> endings of names that cost nothing.
        suffixed: provider -> what stands before the part after the last colon of a name, in the id of its sheet.
        models: provider -> name -> prices.
    """

    @property
    def as_of(self) -> date:
        """The day the table was last checked."""
        return max(source.checked for source in self.sources.values())


@cache
def rules() -> Rules:
    """The shipped table, read once."""
    build(Rules, _File)
    base, items = (msgspec.json.decode(data, type=_File) for data in load_prices())
    found = {name: getattr(base, name) for name in _File.__struct_fields__}
    found["sources"] = {**base.sources, **items.sources}
    found["extras"] = (*base.extras, *items.extras)
    found["models"] = {**base.models, **items.models}
    return Rules(**found)


@cache
def _days(spans: tuple[str, ...]) -> frozenset[date]:
    found: set[date] = set()
    for span in spans:
        first, _, last = span.partition("/")
        day, end = date.fromisoformat(first), date.fromisoformat(last or first)
        while day <= end:
            found.add(day)
            day += timedelta(days=1)
    return frozenset(found)


def applies(row: Any, provider: str, model: str) -> bool:
    """Whether a row is for a provider's model, whose name is in lower case and as ``plain`` writes it."""
    return (
        provider in row.providers
        and any(_like(each, model) for each in row.models)
        and not any(_like(each, model) for each in row.not_models)
    )


def _like(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


# -- names ----------------------------------------------------------------------------------------------------------

_PATHS = re.compile(
    r"^(?:models/|google/|publishers/[^/]+/models/|projects/.*/models/"
    r"|arn:aws[a-z-]*:bedrock:[a-z0-9-]*:\d*:(?:inference-profile|foundation-model)/)"
)
_DATE = re.compile(r"(?:[-@](?:20\d{6}|20\d\d-\d\d-\d\d|default)|-v\d+(?::\d+)?|@\d+|:[0-9a-f]{64})$")
_PLACE = re.compile(r"^(?:us|eu|apac|global|jp|au|in|ca|us-gov)\.(?=[a-z0-9-]+\.)")


def names_of(name: str) -> Iterable[str]:
    """A model's name as sheets may have it, the most exact first: as it is, without its path, date, version, place."""
    found = name.strip().lower()
    yield found
    for pattern in (_PATHS, _DATE, _DATE, _PLACE):
        shorter = pattern.sub("", found)
        if shorter != found:
            found = shorter
            yield found


def plain(name: str) -> str:
    """The shortest form of a name, for patterns."""
    *_, last = names_of(name)
    return last
