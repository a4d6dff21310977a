"""
The price sheets of the installed ``genai-prices``.

Its data is a Python module of calls, ``Provider(id=..., models=[ModelInfo(...)])``. That module is run with shapes of
ours in place of its own, which takes 10 ms; importing the package builds pydantic models and an HTTP client, which
nobody needs here, and takes 200 ms. Where that does not work, because another version looks different, it is imported.
"""

from __future__ import annotations

import builtins
import importlib.metadata
import importlib.util
import logging
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from llm_master.prices.sheets import Constraint, Model, Period, Price, Provider, Step, Stepped, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import date, time
    from decimal import Decimal

__all__ = ["from_import", "from_package", "from_source", "installed_version"]

logger = logging.getLogger("llm_master")

_NAME = "genai_prices"


def from_package() -> tuple[dict[str, Provider], str]:
    """The providers of the installed package by their id, and its version."""
    version = installed_version()
    try:
        return from_source(), version
    except Exception as error:  # noqa: BLE001  # whatever another version of it does, importing it is the other way
        logger.debug("the data of genai-prices %s is imported: %s", version, error)
    return from_import(), version


def installed_version() -> str:
    """The version of the package."""
    return importlib.metadata.version("genai-prices")


# -- its data with shapes of ours -----------------------------------------------------------------------------------


def from_source() -> dict[str, Provider]:
    """
    The providers, read without importing the package.

    Raises:
        Exception: of any kind, where the module is another one than those of version 0.2.
    """
    found = importlib.util.find_spec(_NAME)
    folder = next(iter(found.submodule_search_locations or ()), None) if found is not None else None
    if folder is None:
        raise ImportError("genai-prices is not installed as a folder")
    name = f"{_NAME}.data"
    # The loader takes the compiled form that the import system keeps.
    code = SourceFileLoader(name, str(Path(folder) / "data.py")).get_code(name)
    if code is None:
        raise ImportError("its data has no code")
    space: dict[str, Any] = {
        "__name__": name,
        "__package__": _NAME,
        "__builtins__": {**vars(builtins), "__import__": _import},
    }
    exec(code, space)  # noqa: S102  # the module that an import of the package runs, with other shapes
    providers: list[Provider] = space["providers"]
    if not providers or not all(isinstance(each, Provider) for each in providers):
        raise TypeError("its data is no list of providers")
    return {each.id: each for each in providers}


def _import(name: str, space: Any = None, local: Any = None, wanted: Iterable[str] | None = (), level: int = 0) -> Any:
    """What ``from .types import *`` gives the module: shapes of ours; anything else is imported."""
    if level == 1 and name == "types":
        return _SHAPES
    return builtins.__import__(name, space, local, tuple(wanted or ()), level)


def _clause(kind: str) -> Callable[..., dict[str, Any]]:
    def made(*given: Any, **named: Any) -> dict[str, Any]:
        (value,) = (*given, *named.values())
        return {kind: value}

    return made


def _nothing(*_given: Any, **_named: Any) -> None:
    """How usage is read from answers, which is no matter of prices."""


def _listed(**given: Price | None) -> dict[str, Price]:
    return {name: price for name, price in given.items() if price is not None}


def _stepped(base: Decimal, tiers: list[Step]) -> Stepped:
    return Stepped(base, tuple(sorted(tiers, key=lambda each: each.start)))


def _hours(start_time: time, end_time: time) -> Constraint:
    return Constraint(start_time=start_time.isoformat(), end_time=end_time.isoformat())


def _since(start_date: date) -> Constraint:
    return Constraint(start_date=start_date)


def _model(*, id: str, match: dict[str, Any], prices: Any, price_variants: Any = None, **_else: Any) -> Model:
    periods = tuple(prices) if isinstance(prices, list) else prices
    return Model(id, match, periods, tuple(price_variants or ()))


def _provider(*, id: str, models: Any = None, fallback_model_providers: Any = None, **_else: Any) -> Provider:
    return Provider(id, tuple(models or ()), tuple(fallback_model_providers or ()))


def _variant(*, when: dict[str, str], prices: dict[str, Price], constraint: Constraint | None = None) -> Variant:
    return Variant(when, prices, constraint)


def _period(*, prices: dict[str, Price], constraint: Constraint | None = None) -> Period:
    return Period(prices, constraint)


_SHAPES = SimpleNamespace(
    ArrayMatch=_nothing,
    ClauseAnd=_clause("and"),
    ClauseContains=_clause("contains"),
    ClauseEndsWith=_clause("ends_with"),
    ClauseEquals=_clause("equals"),
    ClauseOr=_clause("or"),
    ClauseRegex=_clause("regex"),
    ClauseStartsWith=_clause("starts_with"),
    ConditionalPrice=_period,
    ModelInfo=_model,
    ModelPrice=_listed,
    PriceVariant=_variant,
    Provider=_provider,
    StartDateConstraint=_since,
    Tier=Step,
    TieredPrices=_stepped,
    TimeOfDateConstraint=_hours,
    UsageExtractor=_nothing,
    UsageExtractorMapping=_nothing,
)


# -- its data as it is imported -------------------------------------------------------------------------------------


def from_import() -> dict[str, Provider]:
    """The providers of the package's own data, imported."""
    from genai_prices.data import providers

    return {each.id: _of_provider(each) for each in providers}


def _of_provider(given: Any) -> Provider:
    models = tuple(_of_model(each) for each in given.models)
    return Provider(given.id, models, tuple(given.fallback_model_providers or ()))


def _of_model(given: Any) -> Model:
    periods = given.prices if isinstance(given.prices, list) else None
    return Model(
        given.id,
        _of_clause(given.match),
        _of_prices(given.prices)
        if periods is None
        else tuple(Period(_of_prices(each.prices), _of_constraint(each.constraint)) for each in periods),
        tuple(
            Variant(dict(each.when), _of_prices(each.prices), _of_constraint(each.constraint))
            for each in given.price_variants or ()
        ),
    )


def _of_prices(given: Any) -> dict[str, Price]:
    return {name: _of_price(value) for name, value in vars(given).items() if value is not None}


def _of_price(value: Any) -> Any:
    # A Decimal has no steps.
    tiers = getattr(value, "tiers", None)
    return value if tiers is None else Stepped(value.base, tuple(Step(each.start, each.price) for each in tiers))


def _of_constraint(given: Any) -> Constraint | None:
    if given is None:
        return None
    day = getattr(given, "start_date", None)
    if day is not None:
        return Constraint(start_date=day)
    return Constraint(start_time=given.start_time.isoformat(), end_time=given.end_time.isoformat())


def _of_clause(given: Any) -> dict[str, Any]:
    name, value = next(iter(vars(given).items()))
    name = name.rstrip("_")
    return {name: [_of_clause(each) for each in value] if isinstance(value, list) else value}
