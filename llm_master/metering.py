"""
Prices of your own, and what a job has used: STATEK's metering.

A price belongs to a provider and a model, and to a model family where one is given. Names are compared without
whitespace and without regard to case, and exactly: a price without a family is none of a family's.
"""

from __future__ import annotations

import logging
import os
import threading
from decimal import Decimal, localcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.errors import ConfigurationError
from llm_master.price_files import PriceProblem, price_of, read_price_files, table_key

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "LLM_Usage",
    "ModelPricing",
    "PriceProblem",
    "PriceReport",
    "get_model_pricing",
    "init_model_pricing",
    "known_price",
    "load_price_files",
    "set_model_pricing",
    "version",
]

logger = logging.getLogger("llm_master")

# Digits of an exact product of tokens and prices; both are bounded far below that.
_DIGITS = 80


class ModelPricing:
    """
    Prices of one model in USD per million tokens, each a Decimal or None where it is not known.

    Args:
        input_price_per_M, output_price_per_M: of plain tokens.
        input_price_per_cached_M: of input read from a cache; None is the plain price.

    Attributes:
        source: where the prices are from, ``FILE:LINE`` or ``set_model_pricing``; None while there are none.

    Raises:
        ConfigurationError: a price that is no number, NaN, infinite or negative.
    """

    __slots__ = ("input_price_per_M", "input_price_per_cached_M", "output_price_per_M", "source")

    def __init__(
        self,
        input_price_per_M: Any = None,  # noqa: N803  # STATEK's names
        input_price_per_cached_M: Any = None,  # noqa: N803  # as above
        output_price_per_M: Any = None,  # noqa: N803  # as above
        *,
        source: str | None = None,
    ) -> None:
        self.source = source
        self.input_price_per_M = _price(input_price_per_M, "input_price_per_M")
        self.input_price_per_cached_M = _price(input_price_per_cached_M, "input_price_per_cached_M")
        self.output_price_per_M = _price(output_price_per_M, "output_price_per_M")

    @property
    def is_valid(self) -> bool:
        """Whether the prices of input and output are known; 0 is a price."""
        return self.input_price_per_M is not None and self.output_price_per_M is not None

    def cost(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> Decimal | None:
        """
        What tokens cost in USD, exactly; None while the prices are not valid.

        Args:
            input_tokens: all of them, those read from a cache among them.
            cached_tokens: read from a cache; more than ``input_tokens`` count as all of them. Negative counts are 0.
        """
        plain, output = self.input_price_per_M, self.output_price_per_M
        if plain is None or output is None:
            return None
        cached = self.input_price_per_cached_M
        given = max(input_tokens, 0)
        read = min(max(cached_tokens, 0), given)
        with localcontext(prec=_DIGITS):
            total = (given - read) * plain + read * (plain if cached is None else cached)
            return (total + max(output_tokens, 0) * output).scaleb(-6)

    def __repr__(self) -> str:
        prices = (self.input_price_per_M, self.input_price_per_cached_M, self.output_price_per_M)
        return "ModelPricing(input {}, cached {}, output {}; {})".format(*prices, self.source or "no source")


def _price(value: Any, name: str) -> Decimal | None:
    return None if value is None else price_of(value, name)


class PriceReport(msgspec.Struct, frozen=True):
    """
    What became of price files.

    Attributes:
        files: those that were read, in their order.
        loaded: how many lines gave a price.
        problems: what was left out, each with its file, line and reason.
    """

    files: tuple[str, ...] = ()
    loaded: int = 0
    problems: tuple[PriceProblem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was left out."""
        return not self.problems


class _Table:
    """The prices of this process, by key."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str, str], ModelPricing] = {}
        self.lock = threading.RLock()
        self.version = 0
        self.directories: set[str] = set()

    def put(self, key: tuple[str, str, str], prices: tuple[Any, Any, Any], source: str) -> ModelPricing:
        """The record of a key with these prices (input, cached, output)."""
        fresh = ModelPricing(*prices, source=source)
        with self.lock:
            known = self.records.get(key)
            if known is not None and known.is_valid:
                if _prices(known) == _prices(fresh):
                    return known
            elif known is not None:
                # Usages that hold the empty record see the price.
                known.source = source
                known.input_price_per_M, known.input_price_per_cached_M, known.output_price_per_M = _prices(fresh)
                fresh = known
            self.records[key] = fresh
            self.version += 1
            return fresh


def _prices(record: ModelPricing) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    return record.input_price_per_M, record.input_price_per_cached_M, record.output_price_per_M


@cache
def _table() -> _Table:
    return _Table()


def _reset_lock() -> None:
    if _table.cache_info().currsize:
        _table().lock = threading.RLock()  # it may be held by a thread that fork did not copy


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_lock)


def version() -> int:
    """A number that is another one after every change of a price."""
    return _table().version


def get_model_pricing(
    provider: str,
    model: str,
    model_family: str | None = None,
    no_create: bool = False,
) -> ModelPricing | None:
    """
    The record of a model, the same one each time until its price is changed.

    Without a record an empty one is made, whose ``is_valid`` is False, which ``set_model_pricing`` fills in place; with
    ``no_create`` it is None.

    Raises:
        ConfigurationError: no name of a provider or model.
    """
    key = table_key(provider, model, model_family)
    table = _table()
    with table.lock:
        found = table.records.get(key)
        if found is None and not no_create:
            found = table.records[key] = ModelPricing()
        return found


def set_model_pricing(  # noqa: PLR0917  # STATEK's signature
    provider: str,
    model: str,
    input_price_per_M: Any,  # noqa: N803  # STATEK's names
    output_price_per_M: Any,  # noqa: N803  # as above
    input_price_per_cached_M: Any = None,  # noqa: N803  # as above
    model_family: str | None = None,
) -> ModelPricing:
    """
    Set the prices of a model, USD per million tokens; from now on calls of it are priced by them.

    An empty record is filled in place. Other prices than before make a new record: what was metered with the old one
    keeps it.

    Args:
        input_price_per_cached_M: of input read from a cache, None for the plain price.

    Raises:
        ConfigurationError: a price that is no number, NaN, infinite or negative; no name.
    """
    prices = (input_price_per_M, input_price_per_cached_M, output_price_per_M)
    return _table().put(table_key(provider, model, model_family), prices, "set_model_pricing")


def init_model_pricing(model_info_dir: str | os.PathLike[str], *, strict: bool = False) -> PriceReport:
    """
    Load all ``.csv`` and ``.txt`` files below a directory, or one file; see ``load_price_files``.

    Args:
        strict: load all or nothing.
    """
    return load_price_files([model_info_dir], strict=strict)


def load_price_files(paths: Iterable[str | os.PathLike[str]], *, strict: bool = False) -> PriceReport:
    """
    Load price files: CSV with a header (``price_files.COLUMNS``) and one model a line.

    Files are read in the order of their names; a price in a later file replaces that of an earlier one. A bad line is
    left out, logged and reported; the others hold.

    Args:
        paths: files and directories.
        strict: raise for the first bad line, and load nothing.

    Raises:
        ConfigurationError: ``FILE:LINE: what is wrong``, with ``strict``.
    """
    rows, problems, files = read_price_files(paths)
    if problems and strict:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ConfigurationError(f"{problems[0]}{more}")
    for problem in problems:
        logger.warning("%s", problem)
    table = _table()
    for row in rows:
        table.put(table_key(row.provider, row.model, row.family), (row.input, row.cached, row.output), row.source)
    return PriceReport(tuple(files), len(rows), tuple(problems))


def load_directory_once(directory: str) -> None:
    """Load what ``STATEK_MODEL_INFO_DIR`` names: the first client of a process does, the others find it done."""
    table = _table()
    with table.lock:
        if directory not in table.directories:
            table.directories.add(directory)
            init_model_pricing(directory)


# -- for the cost of calls ----------------------------------------------------------------------------------------


@cache
def _aliases() -> dict[str, tuple[str, ...]]:
    """By a provider's key, all names that a file may give it, in upper case."""
    from llm_master.catalogue import load_rows

    return {
        name: tuple(dict.fromkeys("".join(each.split()).upper() for each in (name, *row.get("aliases", ()))))
        for name, row in load_rows().items()
    }


def known_price(provider: str, *models: str) -> ModelPricing | None:
    """
    The valid prices that were set or loaded for the first of some names of a model, None for none.

    Args:
        provider: a provider's key; prices under any of its aliases count.
        models: its names; ``openai/gpt-4o`` is also looked for as ``gpt-4o`` of the family ``openai``.
    """
    records = _table().records
    if not records:
        return None
    for model in models:
        name = "".join(model.split()).upper()
        family, _, rest = name.rpartition("/")
        for owner in _aliases().get(provider, ("".join(provider.split()).upper(),)):
            for key in ((owner, name, ""), (owner, rest, family)):
                found = records.get(key)
                if found is not None and found.is_valid:
                    return found
    return None


# -- for jobs -----------------------------------------------------------------------------------------------------


class _Period:
    """What was used under one record of prices, before another one took its place."""

    __slots__ = ("cached", "input", "output", "pricing", "reported")

    def __init__(self, pricing: ModelPricing | None, tokens: tuple[int, int, int], reported: Decimal | None) -> None:
        self.pricing = pricing
        self.input, self.cached, self.output = tokens
        self.reported = reported

    @property
    def computed(self) -> Decimal | None:
        """USD by the prices, None without any."""
        if self.pricing is None or self.input + self.output <= 0:
            return None
        return self.pricing.cost(self.input, self.output, self.cached)

    @property
    def cost(self) -> Decimal | None:
        """What holds for the period: computed, else reported."""
        computed = self.computed
        return self.reported if computed is None else computed


class LLM_Usage:  # noqa: N801  # STATEK's name
    """
    What a job has used so far, added up by whoever runs it.

    The totals are plain fields that may be added to; ``add`` does so for one response. Another ``pricing`` counts from
    then on: what was used before keeps its price.

    Args:
        pricing: the prices of the model, None for none.

    Attributes:
        context_bytes: sent and received together.
        total_input_tokens: the whole input; ``total_cached_tokens`` are a part of it.
        total_reported_cost: USD that providers reported, None until one did.
    """

    def __init__(self, pricing: ModelPricing | None = None) -> None:
        self._pricing = pricing
        self._before: list[_Period] = []
        self.context_bytes = 0
        self.total_bytes_sent = 0
        self.total_bytes_received = 0
        self.total_input_tokens = 0
        self.total_cached_tokens = 0
        self.total_output_tokens = 0
        self.total_reported_cost: Any = None

    @classmethod
    def for_model(cls, provider: str, model: str, model_family: str | None = None) -> LLM_Usage:
        """A fresh one with the prices of a model, also those that are set later."""
        return cls(get_model_pricing(provider, model, model_family))

    @property
    def pricing(self) -> ModelPricing | None:
        """The prices of what comes from now on."""
        return self._pricing

    @pricing.setter
    def pricing(self, value: ModelPricing | None) -> None:
        if value is not self._pricing:
            self._before.append(self._now())
            self._pricing = value

    def add(self, response: Any) -> None:
        """
        Add what one response used: bytes of all its attempts, tokens, and what its providers reported; nothing for one
        that was kept.
        """
        if getattr(response, "cached", False):
            return
        sent = sum(attempt.bytes_sent for attempt in response.attempts)
        received = sum(attempt.bytes_received for attempt in response.attempts)
        self.total_bytes_sent += sent
        self.total_bytes_received += received
        self.context_bytes += sent + received
        self.total_input_tokens += response.usage.input_tokens
        self.total_cached_tokens += response.usage.cached_tokens
        self.total_output_tokens += response.usage.output_tokens
        told = [cost for attempt in response.attempts if (cost := attempt.reported_cost) is not None]
        own = getattr(response, "reported_cost", None)
        if told or own is not None:
            known = self.total_reported_cost
            with localcontext(prec=_DIGITS):
                self.total_reported_cost = sum(told or [own], Decimal(0 if known is None else str(known)))

    def _now(self) -> _Period:
        """What was used under the present prices."""
        tokens = (self.total_input_tokens, self.total_cached_tokens, self.total_output_tokens)
        total = self.total_reported_cost
        reported = None if total is None else Decimal(str(total))
        with localcontext(prec=_DIGITS):
            for each in self._before:
                tokens = (tokens[0] - each.input, tokens[1] - each.cached, tokens[2] - each.output)
                if each.reported is not None and reported is not None:
                    # Nothing left of the sum means that nothing was reported since.
                    reported = reported - each.reported or None
        return _Period(self._pricing, tokens, reported)

    @property
    def exact_cost(self) -> Decimal | None:
        """As ``total_cost``, as a Decimal without any rounding."""
        periods = (*self._before, self._now())
        costs = [cost for each in periods if (cost := each.cost) is not None]
        with localcontext(prec=_DIGITS):
            return sum(costs, Decimal(0)) if costs else None

    @property
    def total_cost(self) -> float | None:
        """
        USD: computed from tokens where the prices are known, else what providers reported; None for neither.

        A computed cost beats a reported one here, as in STATEK; ``response.cost`` is the other way round.
        """
        found = self.exact_cost
        return None if found is None else float(found)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if name[0] != "_")
        return f"LLM_Usage({fields}, total_cost={self.total_cost!r})"
