"""
What a call costs, in exact USD, or None when no price is known.

In this order: what the provider itself reports; the user's own prices (``ModelConfig`` in the registry or the settings
file, then those of ``metering``); the price sheets of ``genai-prices`` together with ``catalogue/prices.json``. What is
unknown is None and never 0; where a part is unknown, ``Cost.complete`` is False and ``Cost.missing`` names it.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache
from time import time
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.classes import ModelRegistry
from llm_master.cost import Cost
from llm_master.errors import ConfigurationError, InvalidRequestError, ModelNotFoundError
from llm_master.money import money, pico, usd
from llm_master.prices import LOADING
from llm_master.prices.rates import Bill, Rates, charge, compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llm_master.answers import OperationResponse
    from llm_master.classes import Attempt, LLMResponse, ModelConfig, Usage
    from llm_master.prices.tariff import Served, Tariff
    from llm_master.rows import ProviderRow

__all__ = [
    "Pricer",
    "attempt_cost",
    "cost_of",
    "is_loaded",
    "load",
    "load_aside",
    "reported",
    "response_cost",
    "upper_bound",
]

_OWN = "own price"
_FREE = "free"
_NOT_BILLED = "nothing billed"
_OWN_PRICER = "own pricer"
_NO_USAGE = "the usage, which the provider did not tell"
# What a column of picodollars holds, some nine million USD.
_MOST_PICO = 2**63 - 1
# UNIX seconds that a calendar has, with a day to spare for every zone.
_FIRST = datetime(1, 1, 2, tzinfo=UTC).timestamp()
_LAST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def reported(amount: Decimal, provider: str | None, at: float | None = None, *, estimated: bool = False) -> Cost:
    """The cost that a provider itself reported for a request made at a UNIX time."""
    day = None if at is None else datetime.fromtimestamp(at, UTC).date().isoformat()
    return Cost(
        total=amount,
        input=None,
        output=None,
        items=None,
        complete=True,
        source=f"reported by {provider or 'the provider'}",
        as_of=day,
        estimated=estimated,
    )


@lru_cache(maxsize=512)
def _own_rates(plain: Any, output: Any, cached: Any) -> Rates | None:
    given = {"input_mtok": money(plain), "output_mtok": money(output), "cache_read_mtok": money(cached)}
    known = {key: price for key, price in given.items() if price is not None}
    # A price that is no amount of money counts as none, here as in price files.
    return compiled(known) if "input_mtok" in known else None


# -- one response ---------------------------------------------------------------------------------------------------


class Pricer(msgspec.Struct):
    """
    Prices one response when its cost is read; a call that nobody asks the price of pays nothing for it.

    Attributes:
        asked: the model name as the caller gave it.
        provider, model: who served it, under which name.
        at: UNIX time of the request in seconds; prices have dates.
        free: whether the provider costs nothing by nature (the embedded model).
        entry: what registry and settings said of the model when it was called, None for nothing.
        host: the host that was asked; some cost more than others.
        tier, speed: as the answer says them, None where it says nothing.
        batch: whether it was part of a batch.
        geo: where the answer says that it was made.
        counted: what is billed besides tokens, by name: ``images``, ``megapixels``, ``audio_seconds``, ``characters``,
            ``search_units``, ``file_searches``, ``containers``, ...; a count of None is not known.
    """

    asked: str
    provider: str
    model: str
    at: float
    free: bool = False
    entry: ModelConfig | None = None
    host: str | None = None
    tier: str | None = None
    speed: str | None = None
    batch: bool = False
    geo: str | None = None
    counted: dict[str, Any] | None = None

    def __call__(self, usage: Usage) -> Decimal | None:
        """The cost in USD; None when no source knows the model, never 0 for that."""
        found = self.details(usage)
        return None if found is None else found.total

    def details(self, usage: Usage) -> Cost | None:
        """The cost and what it is made of; None when no price is known."""
        found = self._bill(usage)
        return None if found is None else _cost(*found, usage)

    def picodollars(self, usage: Usage) -> tuple[int, bool, str, str | None] | None:
        """
        The same for a ledger, at a fifth of the price: the cost as whole picodollars, whether it is complete, its
        source and the day of the prices; None when no price is known.
        """
        found = self._bill(usage)
        if found is None:
            return None
        bill, source, as_of = found
        total = bill.input + bill.output + bill.items
        if (bill.missing and not total) or (cost := pico(total)) > _MOST_PICO:
            return None
        return cost, not bill.missing, source, as_of

    def _bill(self, usage: Usage) -> tuple[Bill, str, str | None] | None:
        """What is owed, by which prices, and of which day they are."""
        own = self.own()
        if own is not None:
            return self._own_bill(own, usage), _OWN, None
        if self.free:
            return Bill(0, 0, 0, []), _FREE, None
        tariff, served = self.tariff()
        if tariff is None:
            return None
        bill = tariff.bill(usage, self.at, self._served(), self.counted)
        if tariff.free:
            return bill, tariff.source, tariff.as_of
        if not served and self.model != self.asked:
            bill.missing.append(f"the price of {self.model!r}, which served it: that of the model asked for is taken")
        if not (usage.input_tokens or usage.output_tokens or self.counted):
            bill.missing.append(_NO_USAGE)
        return bill, tariff.source, tariff.as_of

    def tariff(self) -> tuple[Tariff | None, bool]:
        """The prices of the model that served; else, and then False, those of the model that was asked for."""
        find: Callable[[str, str], Tariff | None] = _tariffs().tariff_of
        found = find(self.provider, self.model)
        return (found, True) if found is not None else (find(self.provider, _behind(self.asked, self.provider)), False)

    def own(self) -> Rates | None:
        """The user's own prices of the model, None where there are none."""
        config = self.entry
        if config is None and ModelRegistry.CONFIGS:
            config = ModelRegistry.get_config(self.asked) or ModelRegistry.get_config(self.model)
        if config is not None and config.input_price_per_million is not None:
            return _own_rates(
                config.input_price_per_million,
                config.output_price_per_million,
                config.cached_input_price_per_million,
            )
        found = _metering().known_price(self.provider, self.model, _behind(self.asked, self.provider))
        if found is None:
            return None
        return _own_rates(found.input_price_per_M, found.output_price_per_M, found.input_price_per_cached_M)

    def _own_bill(self, own: Rates, usage: Usage) -> Bill:
        if usage.web_searches or self.counted:
            # Own prices are for tokens; what is billed by the piece costs what it costs everywhere.
            tariff = self.tariff()[0]
            if tariff is not None and not tariff.free:
                listed = tariff.levels(self.at, self._served())[0][0][1]
                own = msgspec.structs.replace(own, items=listed.items, least=listed.least)
        bill = charge(own, usage, self.counted)
        if not (usage.input_tokens or usage.output_tokens or self.counted or own.is_nothing):
            bill.missing.append(_NO_USAGE)
        return bill

    def _served(self) -> Served:
        made: Served = _tariffs().Served(self.tier, self.speed, self.batch, self.geo, self.host)
        return made


# What reads prices is loaded with the first one that is asked for.
@cache
def _tariffs() -> Any:
    with LOADING:
        from llm_master.prices import tariff
    return tariff


@cache
def _metering() -> Any:
    with LOADING:
        from llm_master import metering
    return metering


def _cost(bill: Bill, source: str, as_of: str | None, usage: Usage) -> Cost | None:
    total = bill.input + bill.output + bill.items
    if bill.missing and not total:
        return None
    return Cost(
        usd(total),
        usd(bill.input),
        usd(bill.output),
        usd(bill.items),
        not bill.missing,
        source,
        as_of,
        tuple(dict.fromkeys(bill.missing)) if bill.missing else (),
        usage.estimated,
    )


def _behind(asked: str, provider: str) -> str:
    """The name without the provider that stands before it."""
    first, sign, rest = asked.partition("/" if asked.lower().startswith(f"{provider}/") else ":")
    return rest if sign and first.lower() == provider else asked


def load() -> None:
    """Read the price data now, so that the first price does not take the time for it (some 40 ms); for a thread."""
    with LOADING:
        _metering()
        tariffs = _tariffs()
        tariffs.rules()
        tariffs.book()


def load_aside() -> None:
    """Have a thread read it where it has not been read, for those who price on an event loop soon."""
    if not is_loaded():
        import threading

        # Where no thread can be had, the first price reads it.
        with suppress(RuntimeError):
            threading.Thread(target=load, name="llm-master-prices", daemon=True).start()


def is_loaded() -> bool:
    """Whether the price data has been read, so that a price is there at once."""
    return _tariffs.cache_info().currsize > 0 and bool(_tariffs().is_read())


def attempt_cost(attempt: Attempt) -> Cost | None:
    """The cost of one attempt; None when no price is known."""
    usage, pricer = attempt.usage, attempt.pricer
    if attempt.reported_cost is not None:
        return reported(attempt.reported_cost, attempt.provider, getattr(pricer, "at", None))
    if usage is None:
        return _free(_NOT_BILLED)
    return _priced(pricer, usage)


def response_cost(response: LLMResponse | OperationResponse) -> Cost | None:
    """The cost of a call, its failed attempts included; None when no price is known."""
    billed = [attempt for attempt in response.attempts if attempt.usage is not None]
    if len(billed) > 1:
        found = [attempt_cost(attempt) for attempt in billed]
        known = [each for each in found if each is not None]
        if not known:
            return None
        total = known[0]
        for each in known[1:]:
            total += each
        return (
            total
            if len(known) == len(found)
            else msgspec.structs.replace(
                total, complete=False, missing=(*total.missing, "an attempt without a known price")
            )
        )
    if getattr(response, "cached", False):
        return _free("cache")
    amount, pricer = getattr(response, "reported_cost", None), response.pricer
    if amount is not None:
        estimated = response.usage.estimated
        return reported(amount, response.provider, getattr(pricer, "at", None), estimated=estimated)
    return _priced(pricer, response.usage)


def _free(source: str) -> Cost:
    nothing = Decimal(0)
    return Cost(nothing, nothing, nothing, nothing, complete=True, source=source, as_of=None)


def _priced(pricer: Any, usage: Usage) -> Cost | None:
    if pricer is None:
        return None
    details = getattr(pricer, "details", None)
    if details is not None:
        found: Cost | None = details(usage)
        return found
    total = pricer(usage)
    return None if total is None else Cost(total, None, None, None, complete=True, source=_OWN_PRICER, as_of=None)


# -- without a response ---------------------------------------------------------------------------------------------


def cost_of(
    usage: Usage,
    model_name: str,
    *,
    provider: str | None = None,
    at: datetime | float | None = None,
    service_tier: str | None = None,
    speed: str | None = None,
    batch: bool = False,
    geo: str | None = None,
    host: str | None = None,
    counted: Mapping[str, Any] | None = None,
) -> Cost | None:
    """
    What a usage costs.

    Args:
        usage: the tokens, as ``response.usage`` has them.
        model_name: a name that ``query`` takes, or the name at ``provider``.
        provider: its key; None finds it by the name.
        at: when the request was made: a datetime (without a zone it is UTC) or UNIX seconds; None is now.
        service_tier, speed: as the response says them (``flex``, ``priority``, ``fast``).
        batch: whether it was part of a batch.
        geo: where the response says that it was made (``inference_geo``).
        host: the host that was asked, for providers whose regional addresses cost more.
        counted: what is billed besides tokens, by name; see ``Pricer``.

    Returns:
        The cost; None when no price is known, never 0 for that.

    Raises:
        InvalidRequestError: ``at`` is no time.
    """
    asked = model_name
    if provider is None:
        provider, model_name = _provider_of(model_name)
        if provider is None:
            return None
    pricer = Pricer(
        asked,
        provider,
        model_name,
        _seconds(at),
        _is_free(provider),
        host=host,
        tier=service_tier,
        speed=speed,
        batch=batch,
        geo=geo,
        counted=dict(counted) if counted else None,
    )
    return pricer.details(usage)


def upper_bound(
    model_name: str,
    *,
    provider: str,
    input_tokens: int,
    output_tokens: int,
    at: datetime | float | None = None,
    entry: ModelConfig | None = None,
    service_tier: str | None = None,
    speed: str | None = None,
    host: str | None = None,
) -> Decimal | None:
    """
    The most that the tokens of a call of these sizes can cost in USD, whatever kind they are.

    All input may be written to a cache and kept there for long, and the dearest tier that can serve the call unasked
    serves it. What is billed by the piece (searches, images) is not in it: nobody can know how many there will be.

    Args:
        model_name: the name at ``provider``, or as it was asked for.
        at: as of ``cost_of``.
        entry: the registry's or settings' entry of the model, None to look into ``ModelRegistry``.
        service_tier, speed: what the request asks for.
        host: the host that is asked.

    Returns:
        USD; None when no price is known.

    Raises:
        InvalidRequestError: ``at`` is no time.
    """
    pricer = Pricer(model_name, provider, model_name, _seconds(at), _is_free(provider), entry)
    own = pricer.own()
    if own is not None:
        if own.output is None and output_tokens:
            return None
        dearest = max(own.plain or 0, own.cached, own.written)
        return usd(max(input_tokens, 0) * dearest + max(output_tokens, 0) * (own.output or 0))
    if pricer.free:
        return Decimal(0)
    tariff = pricer.tariff()[0]
    if tariff is None:
        return None
    served = _tariffs().Served(service_tier, speed, host=host)
    found = tariff.most(max(input_tokens, 0), max(output_tokens, 0), pricer.at, served)
    return None if found is None else usd(found)


def _seconds(at: datetime | float | None) -> float:
    if at is None:
        return time()
    found: Any = at
    if isinstance(at, datetime):
        found = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    if not isinstance(found, int | float) or not _FIRST <= found < _LAST:
        raise InvalidRequestError(f"at={at!r} is no time of a request; give a datetime, UNIX seconds or None for now")
    return found


@cache
def _rows() -> dict[str, ProviderRow]:
    from llm_master.catalogue import load_rows
    from llm_master.rows import ProviderRow

    return {name: ProviderRow.parse(name, row) for name, row in load_rows().items()}


def _is_free(provider: str) -> bool:
    row = _rows().get(provider)
    return row is not None and row.free


def _provider_of(model_name: str) -> tuple[str | None, str]:
    """The provider that a name leads to, None for nowhere, and the name there."""
    from llm_master.resolution import resolve

    try:
        route = resolve(model_name, rows=_rows(), registry=ModelRegistry.CONFIGS, provider_map={})
    except (ModelNotFoundError, InvalidRequestError, ConfigurationError):
        return None, model_name
    return route.provider, route.model
