"""
What may be spent in a day, a month, an hour or at all: budgets, their windows, and what one attempt holds of them.

Money is a whole number of picodollars here (1 USD is 10**12), so that sums are exact everywhere.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, InvalidOperation, localcontext
from typing import Any, ClassVar, Literal

import msgspec

from llm_master.errors import BudgetExceededError, ConfigurationError, InvalidRequestError

__all__ = ["PICODOLLARS", "Budget", "Budgets", "Charge", "Span", "picodollars", "shown", "usd"]

#: Picodollars of one USD.
PICODOLLARS = 10**12
# What is kept must fit into a whole number of 64 bits, together with one call more.
_MOST_USD = 4_000_000
_MOST_TOKENS = 4 * 10**18
_KINDS = ("tag", "model", "provider", "deployment", "key")
_PERIODS = ("hour", "day", "month", "total")
_EXACT = Context(prec=60)
_LARGEST = 15  # power of ten of the dollars that are read at all


def picodollars(amount: Any, rounding: str = ROUND_CEILING) -> int:
    """
    An amount of USD in picodollars, a fraction of one rounded up or as told.

    Raises:
        InvalidRequestError: it is no finite number of at least 0.
    """
    try:
        # str() first: the shortest decimal that names a float is what the user wrote.
        found = amount if isinstance(amount, Decimal) else Decimal(str(amount).strip())
    except InvalidOperation:
        found = Decimal("NaN")
    if isinstance(amount, bool) or not found.is_finite() or found < 0 or found.adjusted() > _LARGEST:
        raise InvalidRequestError(f"{amount!r} is no amount of USD; give a number of at least 0")
    with localcontext(_EXACT):
        return int((found * PICODOLLARS).to_integral_value(rounding))


def usd(amount: int) -> Decimal:
    """Picodollars as USD, without zeros at its end."""
    found = Decimal(amount).scaleb(-12, _EXACT).normalize(_EXACT)
    return found if found.as_tuple().exponent <= 0 else found.quantize(Decimal(1))  # type: ignore[operator]  # finite


def shown(unit: str, amount: int) -> str:
    """An amount for people."""
    if unit == "tokens":
        return f"{amount} tokens"
    # Down to the sixth place, and never a trace of exponents.
    short = usd(amount).quantize(Decimal("0.000001")).normalize()
    return f"{short:f} USD"


class Span(msgspec.Struct, frozen=True):
    """One window of a budget: its name, and the UNIX seconds of its beginning and end (None: it has none)."""

    name: str
    starts: float
    ends: float | None


class _Keyed(msgspec.Struct, frozen=True):
    key: str


class Budget(_Keyed, frozen=True, kw_only=True):
    """
    What may be spent under one key: ``Budget("tag:team-a", usd=5)`` is 5 USD a day.

    Attributes:
        key: ``tag:NAME``, ``model:NAME`` (as asked), ``provider:NAME``, ``deployment:NAME``, ``key:ID`` (the public id
            of a key, as ``attempt.key_id`` shows it), or ``all``.
        usd: USD in one window, at most 4,000,000.
        tokens: tokens in one window, input and output together.
        per: ``hour``, ``day``, ``month`` or ``total``. A day begins at 00:00, a month on the 1st.
        timezone: where it does: ``"UTC"``, or a name such as ``"Europe/Berlin"``.
        unknown: ``"refuse"`` stops a call whose cost has no bound; ``"allow"`` lets it go and counts what is known.

    Raises:
        ConfigurationError: a value is none of these, or the budget has neither ``usd`` nor ``tokens``.
    """

    usd: Decimal | float | str | None = None
    tokens: int | None = None
    per: Literal["hour", "day", "month", "total"] = "day"
    timezone: str | dt.tzinfo = "UTC"
    unknown: Literal["refuse", "allow"] = "refuse"

    def __post_init__(self) -> None:
        """Refuse what could keep nothing, and hold USD as an exact number."""
        key: Any = self.key
        kind, colon, name = key.partition(":") if isinstance(key, str) else ("", "", "")
        if key != "all" and not (kind in _KINDS and colon and name.strip()):
            raise ConfigurationError(f"{key!r} cannot have a budget: name 'all' or {_or(f'{k}:NAME' for k in _KINDS)}")
        if self.per not in _PERIODS:
            raise ConfigurationError(f"per={self.per!r} of the budget of {key!r}: give {_or(_PERIODS)}")
        if self.unknown not in ("refuse", "allow"):
            raise ConfigurationError(f"unknown={self.unknown!r} of the budget of {key!r}: give 'refuse' or 'allow'")
        if self.usd is None and self.tokens is None:
            raise ConfigurationError(f"the budget of {key!r} bounds nothing; give usd= or tokens=")
        if self.usd is not None:
            self._set_usd()
        count: Any = self.tokens
        if count is not None and (type(count) is not int or not 0 < count <= _MOST_TOKENS):
            raise ConfigurationError(f"tokens={count!r} of the budget of {key!r}: give a whole number above 0")
        msgspec.structs.force_setattr(self, "timezone", _zone_name(self.timezone))
        _zone(self.zone)

    def _set_usd(self) -> None:
        try:
            amount = picodollars(self.usd, ROUND_FLOOR)
        except InvalidRequestError:
            amount = 0
        if not 0 < amount <= _MOST_USD * PICODOLLARS:
            raise ConfigurationError(
                f"usd={self.usd!r} of the budget of {self.key!r}: give USD above 0 and up to {_MOST_USD:,}"
            )
        msgspec.structs.force_setattr(self, "usd", usd(amount))

    @property
    def zone(self) -> str:
        """The name of the timezone."""
        return str(self.timezone)

    def caps(self) -> tuple[tuple[str, int], ...]:
        """What it bounds: ``usd`` in picodollars, ``tokens``."""
        found = (("usd", None if self.usd is None else picodollars(self.usd)), ("tokens", self.tokens))
        return tuple((unit, cap) for unit, cap in found if cap is not None)

    def span(self, now: float) -> Span:
        """The window that a moment (UNIX seconds) lies in."""
        if self.per == "total":
            return Span("total", 0.0, None)
        zone = _zone(self.zone)
        here = dt.datetime.fromtimestamp(now, zone)
        mark = "" if self.zone == "UTC" else f"[{self.zone}]"
        if self.per == "hour":
            # Counted from the UTC offset in force, so that an hour that a clock change repeats is two.
            offset = here.utcoffset() or dt.timedelta()
            starts = now - (now + offset.total_seconds()) % 3600
            begun = dt.datetime.fromtimestamp(starts, dt.UTC)
            return Span(f"{begun:%Y-%m-%dT%H:%MZ}{mark}", starts, starts + 3600)
        first = here.date() if self.per == "day" else here.date().replace(day=1)
        after = first + dt.timedelta(days=1 if self.per == "day" else 32)
        if self.per == "month":
            after = after.replace(day=1)
        name = first.isoformat() if self.per == "day" else f"{first:%Y-%m}"
        starts, ends = (dt.datetime(d.year, d.month, d.day, tzinfo=zone).timestamp() for d in (first, after))
        return Span(f"{name}{mark}", starts, ends)


def _or(words: Iterable[str]) -> str:
    *first, last = (f"'{word}'" for word in words)
    return f"{', '.join(first)} or {last}"


def _zone_name(zone: Any) -> str:
    if zone is dt.UTC:
        return "UTC"
    return zone if isinstance(zone, str) else str(getattr(zone, "key", zone))


def _zone(name: str) -> dt.tzinfo:
    if name == "UTC":
        return dt.UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigurationError(
            f"timezone={name!r} of a budget is not known here; give a name such as 'Europe/Berlin' (where the system"
            " has no table of them: pip install tzdata)"
        ) from None


class Charge(msgspec.Struct, frozen=True, eq=False):
    """
    What one attempt holds of one budget, in one unit and one window.

    It stands among the limits of a reservation, so that all are granted together or none.

    Attributes:
        key: what a store knows the window by.
        budget, unit, span: whose, ``usd`` or ``tokens``, and in which window.
        amount: picodollars or tokens; cap: the most that may be used in the window.
        free: whether it is certain to cost nothing, so that it goes where a budget is overdrawn, too.
    """

    key: str
    budget: Budget
    unit: str
    span: Span
    amount: int
    cap: int
    free: bool = False

    rpm: ClassVar[None] = None
    tpm: ClassVar[None] = None
    max_concurrency: ClassVar[None] = None
    # Money that nobody counts is not spent.
    fail_open: ClassVar[bool] = False

    def final(self, tokens: int | None, cost: int | None) -> int:
        """What it comes to in the end: the tokens or the picodollars really used, the amount where they are unknown."""
        real = cost if self.unit == "usd" else tokens
        return self.amount if real is None else max(0, real)

    def lacks(self, used: int, held: int) -> str | None:
        """
        Why it does not fit now: ``budget`` (it is spent), ``held`` (calls under way hold what it needs), or None.

        Args:
            used: all that is used in the window, what calls under way hold included; held: that part of it.
        """
        if self.free or used + self.amount <= self.cap:
            return None
        return "held" if held > 0 and used - held + self.amount <= self.cap else "budget"

    def refusal(self, kind: str, used: int | None, provider: str | None, model: str | None) -> BudgetExceededError:
        """
        The error of a call that this budget stops.

        Args:
            kind: as ``lacks`` says, or ``line``.
            used: what is used in the window and not held by calls under way, None when that is not known.
        """
        budget, ends = self.budget, self.span.ends
        left = None if used is None else max(0, self.cap - used)
        whole = f"{shown(self.unit, self.cap)} {'in total' if budget.per == 'total' else f'per {budget.per}'}"
        what = f"the budget of {budget.key!r}, {whole},"
        rest = "" if left is None else f", of which {shown(self.unit, left)} is left"
        held = "" if left is None else f" {shown(self.unit, left)} of it is not spent, but"
        renews = None if ends is None else dt.datetime.fromtimestamp(ends, dt.UTC)
        when = "it never renews" if renews is None else f"it renews at {renews:%Y-%m-%d %H:%M} UTC"
        need = f"{_call(provider, model)} may take up to {shown(self.unit, self.amount)}"
        if kind == "budget":
            text = f"{need} of {what.rstrip(',')}{rest}; {when}: lower max_tokens, raise the budget or give a"
            text += " cheaper fallback_model="
        else:
            text = f"{need} of {what.rstrip(',')}:{held} other calls hold it for now; try again when one has ended, or"
            text += " allow more limit_wait="
        return BudgetExceededError(
            text,
            provider=provider,
            model=model,
            code="budget_exceeded" if kind == "budget" else "local_rate_limit",
            retry_after=None if ends is None or kind != "budget" else max(0.0, ends - time.time()),
            key=budget.key,
            unit=self.unit,
            left=left if left is None or self.unit == "tokens" else usd(left),
            renews=renews,
        )


def _call(provider: str | None, model: str | None) -> str:
    return "the call" if model is None else f"the call of {model!r}" + (f" at {provider}" if provider else "")


class Budgets:
    """
    The budgets of one client.

    Args:
        budgets: all of them.
        clock: UNIX seconds.

    Raises:
        ConfigurationError: two have the same key, unit and window.
    """

    def __init__(self, budgets: Iterable[Budget], clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.budgets = tuple(budgets)
        self._by_key: dict[str, list[Budget]] = {}
        self._spans: dict[int, Span] = {}
        seen = set()
        for budget in self.budgets:
            if not isinstance(budget, Budget):
                raise ConfigurationError(f"budgets={budget!r}: give Budget('all', usd=5) and the like")
            self._by_key.setdefault(budget.key, []).append(budget)
            for unit, _ in budget.caps():
                mark = (budget.key, unit, budget.per, budget.timezone)
                if mark in seen:
                    raise ConfigurationError(f"{budget.key!r} has two budgets of {unit} per {budget.per}; remove one")
                seen.add(mark)

    def of(self, keys: Iterable[str]) -> list[Budget]:
        """The budgets under some keys."""
        return [budget for key in keys for budget in self._by_key.get(key, ())]

    def charges(self, budgets: Sequence[Budget], tokens: int, cost: int, *, free: bool = False) -> tuple[Charge, ...]:
        """What an attempt of these sizes (tokens, picodollars) takes from each budget now; ``free``: see ``Charge``."""
        now = self.clock()
        found = []
        for budget in budgets:
            span = self._spans.get(id(budget))
            if span is None or not span.starts <= now or (span.ends is not None and now >= span.ends):
                span = self._spans[id(budget)] = budget.span(now)
            for unit, cap in budget.caps():
                key = f"{budget.key} {unit}/{budget.per}/{span.name}"
                amount, nothing = (cost, free) if unit == "usd" else (tokens, False)
                found.append(Charge(key, budget, unit, span, amount, cap, nothing))
        return tuple(found)

    def is_over(self, charges: Iterable[Charge]) -> bool:
        """Whether the window of one of them has ended meanwhile."""
        now = self.clock()
        return any(charge.span.ends is not None and now >= charge.span.ends for charge in charges)
