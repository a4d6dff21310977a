"""
Price sheets: what ``genai-prices`` knows of every model, in the shape of the file that it publishes.

The data comes from the installed package (``package.py``), or from a newer file that ``llm-master models update`` has
fetched. Reading either takes some milliseconds, so it happens when the first price is asked for and never at import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from llm_master.built import build

__all__ = ["Constraint", "Model", "Period", "Price", "Provider", "Step", "Stepped", "Variant", "parse"]


class Step(msgspec.Struct, frozen=True):
    """The price of every token of a request whose whole input has more than ``start`` tokens."""

    start: int
    price: Decimal


class Stepped(msgspec.Struct, frozen=True):
    """A price that depends on the size of the input: ``base`` up to the first step."""

    base: Decimal
    tiers: tuple[Step, ...]


Price = Decimal | Stepped


class Constraint(msgspec.Struct, frozen=True):
    """When a price holds: from a day on (UTC), or between two times of every day (UTC)."""

    start_date: date | None = None
    start_time: str | None = None
    end_time: str | None = None


class Period(msgspec.Struct, frozen=True):
    """Prices by key (``input_mtok``) while a constraint holds; the last one that holds counts."""

    prices: dict[str, Price]
    constraint: Constraint | None = None


class Variant(msgspec.Struct, frozen=True):
    """Prices in place of the standard ones where the request was served as ``when`` says."""

    when: dict[str, str]
    prices: dict[str, Price]
    constraint: Constraint | None = None


class Model(msgspec.Struct, frozen=True):
    """A model, the names that mean it, and its prices."""

    id: str
    match: dict[str, Any]
    prices: dict[str, Price] | tuple[Period, ...]
    price_variants: tuple[Variant, ...] = ()

    def periods(self) -> tuple[Period, ...]:
        """Its prices over time, the first one for when no other holds."""
        return self.prices if isinstance(self.prices, tuple) else (Period(self.prices),)


class Provider(msgspec.Struct, frozen=True):
    """What one provider serves; ``fallback_model_providers`` have prices of models that it has none of its own for."""

    id: str
    models: tuple[Model, ...]
    fallback_model_providers: tuple[str, ...] = ()


def parse(data: bytes) -> dict[str, Provider]:
    """
    The providers of a published file by their id.

    Raises:
        msgspec.DecodeError: it is no JSON, or not of that shape (also ValidationError, a kind of it).
        ValueError: it holds a negative price.
    """
    build(Provider)
    found = msgspec.json.decode(data, type=list[Provider])
    for provider in found:
        for model in provider.models:
            for period in model.periods():
                _check(f"{provider.id}/{model.id}", period.prices.values())
            for variant in model.price_variants:
                _check(f"{provider.id}/{model.id}", variant.prices.values())
    return {provider.id: provider for provider in found}


def _check(name: str, prices: Iterable[Price]) -> None:
    for price in prices:
        amounts = (price.base, *(step.price for step in price.tiers)) if isinstance(price, Stepped) else (price,)
        if any(not amount.is_finite() or amount < 0 for amount in amounts):
            raise ValueError(f"{name} has a price that is no amount of money")


# -- which model a name means ---------------------------------------------------------------------------------------

# What may follow the part of a name that a sheet knows: dates, versions and words that do not change the price.
_AFTER = re.compile(
    r"(?:[-@:._/]?(?:20\d\d-?\d\d-?\d\d|\d\d-20\d\d|\d\d-\d\d|\d{1,4}|v\d+(?:[.:]\d+)*"
    r"|latest|default|preview|exp|experimental|beta|stable|instruct|it))*"
)
# What may stand before it: a path, an account, a region or a vendor, each closed by a sign.
_BEFORE = re.compile(r"(?:.*[/.:])?")


def means(model: Model, name: str) -> bool:
    """
    Whether a name, in lower case, means a model.

    A part of the name is not enough: what is left of it must be a date, a version or a path, so that
    ``my-gpt-4o-clone`` has no price.
    """
    return _means(model.match, name) or (name == model.id.lower() and _fits(model.match, name))


def _means(match: dict[str, Any], name: str) -> bool:
    kind, value = next(iter(match.items()))
    if kind == "or":
        return any(_means(each, name) for each in value)
    if kind == "and":
        # Together they describe one name, so what one of them leaves is another's.
        return all(_fits(each, name) for each in value) and _AFTER.fullmatch(_rest(value, name)) is not None
    if kind == "equals":
        return _fits(match, name)
    if kind == "regex":
        part = re.search(value, name)
        return part is not None and _is_around(name[: part.start()], name[part.end() :])
    return _holds(kind, value.lower(), name)


def _holds(kind: str, text: str, name: str) -> bool:
    before, found, after = name.partition(text)
    if not found or (kind == "starts_with" and before) or (kind == "ends_with" and after):
        return False
    # What follows a fine-tune's base is its date, and the names that the owner gave.
    return text.startswith("ft:") or _is_around(before, after)


def _is_around(before: str, after: str) -> bool:
    return _BEFORE.fullmatch(before) is not None and _AFTER.fullmatch(after) is not None


def _fits(match: dict[str, Any], name: str) -> bool:
    kind, value = next(iter(match.items()))
    if kind in ("or", "and"):
        return (any if kind == "or" else all)(_fits(each, name) for each in value)
    if kind == "regex":
        return re.search(value, name) is not None
    text = value.lower()
    if kind == "equals":
        return bool(name == text)
    if kind == "starts_with":
        return bool(name.startswith(text))
    return bool(name.endswith(text) if kind == "ends_with" else text in name)


def _rest(parts: list[dict[str, Any]], name: str) -> str:
    """What follows the longest beginning that one of the parts names."""
    starts = [each["starts_with"].lower() for each in parts if "starts_with" in each]
    found = max((start for start in starts if name.startswith(start)), key=len, default="")
    return name[len(found) :] if found else name
