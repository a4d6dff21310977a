"""
What one model costs at one provider: its prices over time, by tier and place, and the bill of a usage.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_master.money import EXACT
from llm_master.prices import LOADING
from llm_master.prices.rates import Bill, Rates, charge, compiled
from llm_master.prices.rules import Listed, applies, names_of, plain, rules
from llm_master.prices.sheets import Constraint, Model, Period, Price, Provider, Step, Stepped, Variant, means
from llm_master.prices.store import Book, book, is_read

if TYPE_CHECKING:
    from llm_master.classes import Usage

__all__ = ["STANDARD", "Served", "Tariff", "book", "is_read", "rules", "tariff_of"]

_DAY = 86_400
# What is kept of one model, and of models; a process that prices more starts anew.
_MOST_RATES = 256
_MOST_TARIFFS = 1024
_OWN = "llm_master catalogue"
_NO_HOURS = (-1, False)
_HOLIDAY = "whether the day is a public holiday"


class Served(NamedTuple):
    """How a request was served: tier and speed as the answer says, the geography it says, the host that was asked."""

    tier: str | None = None
    speed: str | None = None
    batch: bool = False
    geo: str | None = None
    host: str | None = None


STANDARD = Served()


class Tariff:
    """
    The prices of a model at a provider.

    Args:
        provider: its key; name: the model's, in its shortest form.
        periods, variants: from its price sheet.
        source, as_of: what the prices are from and of which day (UTC); kept as ``2026-11-21``.
        free: whether it costs nothing.
        missing: what can never be known of its price.
    """

    __slots__ = (
        "_clocked",
        "_clocks",
        "_edges",
        "_least",
        "_memo",
        "_more",
        "_peaks",
        "_writes",
        "as_of",
        "free",
        "missing",
        "name",
        "periods",
        "provider",
        "source",
        "variants",
    )

    def __init__(
        self,
        provider: str,
        name: str,
        periods: tuple[Period, ...],
        variants: tuple[Variant, ...] = (),
        *,
        source: str,
        as_of: date,
        free: bool = False,
        missing: tuple[str, ...] = (),
    ) -> None:
        self.provider = provider
        self.name = name
        self.periods = periods
        self.variants = variants
        self.source = source
        self.as_of = as_of.isoformat()
        self.free = free
        self.missing = missing
        own = rules()
        held = [each.constraint for each in (*periods, *variants) if each.constraint is not None]  # type: ignore[attr-defined]  # both have one
        self._edges = sorted({_start(each) for each in held if each.start_date is not None})
        self._clocks = [_clock(each.constraint) if each.constraint is not None else None for each in periods]
        self._clocked = any(hours is not None for hours in self._clocks)
        self._peaks = next((each for each in own.peaks if applies(each, provider, name)), None)
        self._writes = next((each.factor for each in own.long_writes if applies(each, provider, name)), None)
        extras = [each for each in own.extras if applies(each, provider, name)]
        self._more = {key: price for each in extras for key, price in each.prices.items()}
        self._least = {thing: count for each in extras for thing, count in each.least.items()}
        self._memo: dict[Any, tuple[tuple[tuple[int, Rates], ...], tuple[str, ...]]] = {}

    def bill(self, usage: Usage, at: float, served: Served, counted: Mapping[str, Any] | None = None) -> Bill:
        """What a usage costs that was made at a UNIX time; ``counted`` as of ``rates.charge``."""
        if self.free:
            return Bill(0, 0, 0, [])
        levels, missing = self.levels(at, served)
        rates = levels[0][1]
        given = usage.input_tokens if type(usage.input_tokens) is int else 0  # what is no count, ``charge`` tells
        for start, each in levels:
            # Over a threshold all tokens of the request take the higher price, those of the output too.
            if given > start:
                rates = each
        found = charge(rates, usage, counted)
        if missing:
            found.missing.extend(missing)
        return found

    def most(self, given: int, made: int, at: float, served: Served) -> int | None:
        """Grains that so many tokens cost at most, whatever their kind; None when they have no known price."""
        if self.free:
            return 0
        found: list[int] = []
        for each in self._possible(at, served):
            levels, missing = self.levels(at, each)
            if any(part != _HOLIDAY for part in missing):
                return None
            for start, rates in levels:
                if (rates.plain is None and given) or (rates.output is None and made):
                    return None
                if start < max(given, 0):
                    found.append(_most(rates, given, made))
        return max(found, default=None)

    def levels(self, at: float, served: Served) -> tuple[tuple[tuple[int, Rates], ...], tuple[str, ...]]:
        """The rates over each size of input, the smallest first, and what is not known of them."""
        slot = self._slot(at)
        key = (bisect_right(self._edges, at), slot, served)
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= _MOST_RATES:
                self._memo.clear()
            found = self._memo[key] = self._compiled(at, slot, served)
        return found

    # -- at a time --------------------------------------------------------------------------------------------------

    def _slot(self, at: float) -> tuple[int, bool]:
        """The period whose hours it is, -1 for none; and whether a holiday may have no such hours."""
        if not self._clocked:
            return _NO_HOURS
        second = at % _DAY
        for index in range(len(self._clocks) - 1, -1, -1):
            hours = self._clocks[index]
            if hours is None or not _within(hours, second):
                continue
            counts = True if self._peaks is None else self._peaks.counts(at)
            return _NO_HOURS if counts is False else (index, counts is None)
        return _NO_HOURS

    def _standard(self, at: float, active: int) -> dict[str, Price]:
        for index in range(len(self.periods) - 1, -1, -1):
            period = self.periods[index]
            held = period.constraint
            if held is None or index == active or (held.start_date is not None and at >= _start(held)):
                return period.prices
        return self.periods[0].prices

    def _compiled(
        self, at: float, slot: tuple[int, bool], served: Served
    ) -> tuple[tuple[tuple[int, Rates], ...], tuple[str, ...]]:
        missing = list(self.missing)
        if slot[1]:
            missing.append(_HOLIDAY)
        prices = dict(self._standard(at, slot[0]))
        for word in _words(served):
            self._take(prices, word, at, missing)
        factor = self.uplift(served)
        if factor != 1:
            _raise(prices, factor)
        plain_price = prices.get("input_mtok")
        if self._writes is not None and plain_price is not None:
            prices.setdefault("cache_write_1h_mtok", _times(plain_price, self._writes))
        for key, price in self._more.items():
            prices.setdefault(key, price)
        starts = {step.start for price in prices.values() if isinstance(price, Stepped) for step in price.tiers}
        levels = tuple(
            (start, compiled({key: _over(price, start) for key, price in prices.items()}, least=self._least))
            for start in (-1, *sorted(starts))
        )
        return levels, tuple(missing)

    # -- by tier and place ------------------------------------------------------------------------------------------

    def _take(self, prices: dict[str, Price], word: str, at: float, missing: list[str]) -> None:
        """Put the prices of a tier in place of the standard ones; what a tier does not price keeps its price."""
        found = [each for each in self.variants if _is_for(each, word) and _holds(each.constraint, at)]
        if found:
            seen: set[str] = set()
            for each in found:
                prices.update({key: price for key, price in each.prices.items() if key not in seen})
                seen |= each.prices.keys()
            return
        own = rules()
        rule = next((each for each in own.tiers if each.tier == word and applies(each, self.provider, self.name)), None)
        if rule is not None:
            _raise(prices, rule.factor)
        elif word not in own.neutral:
            missing.append(f"the price of the tier {word!r}")

    def uplift(self, served: Served) -> Decimal:
        """By how much more the place of a request costs."""
        geo, host = (served.geo or "").lower(), served.host
        for each in rules().regions:
            there = geo in each.geo or (host and each.hosts is not None and re.fullmatch(each.hosts, host.lower()))
            if there and applies(each, self.provider, self.name):
                return each.factor
        return Decimal(1)

    def _possible(self, at: float, served: Served) -> Iterator[Served]:
        """How a request that asks for this may be served: also in a tier, or in a place, that nobody asked for."""
        own = rules()
        places = {None, served.geo}
        for each in own.regions:
            if applies(each, self.provider, self.name):
                places.update(each.geo)
        tiers = [served.tier]
        for word in own.unasked.get(self.provider, ()):
            known = any(_is_for(each, word) and _holds(each.constraint, at) for each in self.variants)
            if known or any(each.tier == word and applies(each, self.provider, self.name) for each in own.tiers):
                tiers.append(word)
        if served.tier is not None:
            # A tier that is asked for may be refused and the standard one serve.
            tiers.append(None)
        return (served._replace(tier=tier, geo=place) for tier in tiers for place in places)


def _words(served: Served) -> list[str]:
    given = (served.tier, served.speed, "batch" if served.batch else None)
    return list(dict.fromkeys(word.lower() for word in given if word))


def _is_for(variant: Variant, word: str) -> bool:
    return len(variant.when) == 1 and any(
        variant.when.get(key) == word for key in ("service_tier", "speed", "processing")
    )


def _holds(constraint: Constraint | None, at: float) -> bool:
    return constraint is None or constraint.start_date is None or at >= _start(constraint)


def _start(constraint: Constraint) -> float:
    day = constraint.start_date
    assert day is not None  # noqa: S101  # the callers asked
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _clock(constraint: Constraint) -> tuple[int, int] | None:
    if constraint.start_time is None or constraint.end_time is None:
        return None
    return _second(constraint.start_time), _second(constraint.end_time)


def _second(text: str) -> int:
    found = time.fromisoformat(text)
    offset = found.utcoffset()
    ahead = 0 if offset is None else int(offset.total_seconds())
    return (found.hour * 3600 + found.minute * 60 + found.second - ahead) % _DAY


def _within(hours: tuple[int, int], second: float) -> bool:
    first, last = hours
    return first <= second < last if first <= last else second >= first or second < last


def _over(price: Price, start: int) -> Decimal:
    """A price for an input of more than ``start`` tokens."""
    if isinstance(price, Decimal):
        return price
    found = price.base
    for step in sorted(price.tiers, key=lambda each: each.start):
        if step.start <= start:
            found = step.price
    return found


def _times(price: Price, factor: Decimal) -> Price:
    if isinstance(price, Decimal):
        return EXACT.multiply(price, factor)
    steps = tuple(Step(step.start, EXACT.multiply(step.price, factor)) for step in price.tiers)
    return Stepped(EXACT.multiply(price.base, factor), steps)


def _raise(prices: dict[str, Price], factor: Decimal) -> None:
    """Multiply the prices of tokens; what is billed by the piece stays."""
    for key, price in prices.items():
        if key.endswith("_mtok"):
            prices[key] = _times(price, factor)


def _most(rates: Rates, given: int, made: int) -> int:
    plain_rate, output = rates.plain or 0, rates.output or 0
    of_input = max(plain_rate, rates.cached, rates.written, rates.written_long)
    if rates.mixed:
        of_input = max(of_input, rates.audio, rates.image, rates.cached_audio, rates.cached_image)
    of_output = max(output, rates.reasoning, rates.output_audio, rates.output_image) if rates.split else output
    return rates.request + given * of_input + made * of_output


# -- which model ----------------------------------------------------------------------------------------------------

_TARIFFS: dict[tuple[str, str], Tariff | None] = {}
_OF: list[Book] = []


def tariff_of(provider: str, model: str) -> Tariff | None:
    """The tariff of a provider's model, resolved once; None when no source has one."""
    sheets = book()
    if not _OF or _OF[0] is not sheets:
        with LOADING:
            _TARIFFS.clear()
            _OF[:] = [sheets]
    key = (provider, model)
    try:
        return _TARIFFS[key]
    except KeyError:
        pass
    found = _find(provider, model, sheets)
    with LOADING:
        if len(_TARIFFS) >= _MOST_TARIFFS:
            _TARIFFS.clear()
        _TARIFFS[key] = found
    return found


def _find(provider: str, model: str, sheets: Book) -> Tariff | None:
    own = rules()
    name = model.strip().lower()
    if name.endswith(own.free.get(provider, ())):
        return Tariff(provider, name, (Period({}),), source=_OWN, as_of=own.as_of, free=True)
    sheet_id = own.sheet_ids.get(provider, provider)
    if provider in own.suffixed:
        name, _, suffix = name.rpartition(":")
        sheet_id = own.suffixed[provider] + suffix
    route = next((each for each in own.routes.get(provider, ()) if name.endswith(each)), None)
    if route is not None and _in_sheets(sheets.sheets, sheet_id, name) is not None:
        route = None  # this one has a price of its own
    elif route is not None:
        name = name.removesuffix(route)
    missing = () if route is None else (f"the price of the route {route!r}",)
    listed: Listed | None = None
    found: Model | None = None
    for each in names_of(name):
        listed = listed or own.models.get(provider, {}).get(each)
        found = found or _in_sheets(sheets.sheets, sheet_id, each)
    short = plain(name)
    if listed is not None and listed.free:
        return Tariff(provider, short, (Period({}),), source=_OWN, as_of=own.sources[listed.source].checked, free=True)
    periods = () if found is None else tuple(each for each in found.periods() if each.prices)
    if found is None or not periods:
        # A sheet with no price at all is a list that nobody has filled in; it does not say that a model is free.
        if listed is None:
            return None
        checked = own.sources[listed.source].checked
        return Tariff(provider, short, (Period(dict(listed.prices)),), source=_OWN, as_of=checked, missing=missing)
    if listed is not None:
        periods = tuple(Period({**listed.prices, **each.prices}, each.constraint) for each in periods)
    return Tariff(
        provider, short, periods, found.price_variants, source=sheets.source, as_of=sheets.as_of, missing=missing
    )


def _in_sheets(sheets: Mapping[str, Provider], sheet_id: str, name: str) -> Model | None:
    sheet = sheets.get(sheet_id)
    if sheet is None:
        return None
    # One step of falling back, as the sheets mean it: Azure has OpenAI's prices where it has none of its own.
    others = (sheets[other] for other in sheet.fallback_model_providers if other in sheets)
    return next((model for each in (sheet, *others) for model in each.models if means(model, name)), None)
