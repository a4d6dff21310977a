"""
Why a model name leads to one provider and not to another: the rules of ``resolution.py``, told one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from llm_master.classes import ModelConfig
from llm_master.errors import ConfigurationError, ModelNotFoundError
from llm_master.resolution import _RESPONSES, Route, _asks_for_responses, _Entry, _rank, _split, _Table
from llm_master.rows import ProviderRow

__all__ = ["Candidate", "candidates"]

_RULES = {"explicit": "explicit prefix", "registry": "registry", "map": "provider_map", "row": "table substring"}


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """
    A provider that a model name might have meant.

    Attributes:
        provider: its key, or the name of its class; chosen: whether the call goes there.
        rule: ``explicit prefix``, ``registry``, ``provider_map`` (an entry of the user's), ``table substring`` (a row's
            own) or ``LLM_PROVIDER``.
        key: the prefix, name or substring that the rule looks at.
        why: in one line, why it was chosen or not.
    """

    provider: str
    chosen: bool
    rule: str
    key: str
    why: str


def candidates(
    model_name: str,
    route: Route,
    *,
    rows: Mapping[str, ProviderRow],
    registry: Mapping[str, ModelConfig],
    provider_map: Mapping[str, tuple[str | None, Any]],
    extra_prefixes: Collection[str] = (),
) -> tuple[Candidate, ...]:
    """
    Every provider that a rule speaks of, the chosen one first.

    Args:
        route: what ``resolve`` found for the name; the other arguments are those of ``resolve``.
    """
    table = _Table(rows, registry, provider_map, extra_prefixes)
    name = model_name
    # The prefix counts where it brought the name behind it to its provider.
    if route.api == "responses" and _asks_for_responses(name, table.route(name)):
        name = name[len(_RESPONSES) :]
    winner = _winner(name, route)
    found = [
        *_from_registry(table, name, route),
        *_explicit(table, name, route, winner),
        *_from_map(table, name, route, winner),
    ]
    if not any(each.chosen for each in found):
        why = "no other rule holds the name to a provider, and LLM_PROVIDER names this one"
        found.append(Candidate(provider=_called(route), chosen=True, rule="LLM_PROVIDER", key=route.key, why=why))
    return tuple(sorted(found, key=lambda each: not each.chosen))


def _from_registry(table: _Table, name: str, route: Route) -> list[Candidate]:
    registered = table._registered(name)  # noqa: SLF001  # one set of rules in two files
    if registered is None:
        return []
    key, entry = registered
    if entry.provider is None and route.how != "registry":
        why = "its entry gives prices and limits and says nothing of a provider"
        return [Candidate(provider="-", chosen=False, rule=_RULES["registry"], key=key, why=why)]
    sent = f" and the model {entry.model!r}" if entry.model else ""
    why = f"the entry {key!r} names the provider{sent}; an entry comes before every other rule"
    if entry.provider is None:
        why = f"the entry {key!r} names the model {entry.model!r}, which leads there"
    provider = _called(route)
    return [Candidate(provider=provider, chosen=True, rule=_RULES["registry"], key=key, why=why)]


def _explicit(table: _Table, name: str, route: Route, winner: str) -> list[Candidate]:
    prefix, rest = _split(name)
    try:
        found = table._explicit(name)  # noqa: SLF001  # one set of rules in two files
    except (ModelNotFoundError, ConfigurationError):
        found = None
    if found is None:
        known = table.names.get(prefix.lower())
        if not rest or known is not None:
            return []
        why = f"{prefix!r} before the first slash or colon is no provider's name"
        return [Candidate(provider="-", chosen=False, rule=_RULES["explicit"], key=prefix, why=why)]
    chosen = route.how == "explicit" and found.provider == route.provider
    why = f"{prefix!r} is a name of the provider, and an explicit prefix comes before every substring"
    if not chosen:
        why = f"{prefix!r} is a name of the provider, but {winner} comes first"
    return [Candidate(provider=found.provider or "-", chosen=chosen, rule=_RULES["explicit"], key=prefix, why=why)]


def _from_map(table: _Table, name: str, route: Route, winner: str) -> list[Candidate]:
    lower = name.lower()
    found = []
    for part, entry in table.entries.items():
        rank = _rank(lower, part)
        if rank is None:
            continue
        chosen = route.how == "map" and entry.key == route.key and _provider(entry) == _called(route)
        why = (
            f"{part!r} stands in the name, the first by place, length and position among those that count"
            if chosen
            else _why_not(table, lower, part, rank) or f"{part!r} stands in the name, but {winner} comes first"
        )
        rule = _RULES["row" if entry.shipped else "map"]
        found.append((rank, Candidate(provider=_provider(entry), chosen=chosen, rule=rule, key=entry.key, why=why)))
    return [candidate for _, candidate in sorted(found, key=lambda each: (each[0], each[1].key))]


def _why_not(table: _Table, name: str, part: str, rank: tuple[int, int, int]) -> str | None:
    """Why a substring that stands in a name does not count there; None when it does."""
    entry = table.entries[part]
    veto = next((each for each in entry.vetoes if each.lower() in name), None)
    if veto is not None:
        return f"{part!r} stands in the name, but so does {veto!r}, which is not its model"
    if entry.shipped and rank[0]:
        return f"{part!r} stands inside a word of the name, where a row's own substring does not count"
    before = _split(name)[0]
    if before not in table.names and not table._counts(name, rank, part):  # noqa: SLF001  # one set of rules in two files
        return f"{part!r} stands in the name, but {before!r} before its first slash or colon is no such provider"
    return None


def _winner(name: str, route: Route) -> str:
    """What decided, in a few words."""
    if route.how == "explicit" and _split(name)[0].lower() != route.key:
        return "LLM_PROVIDER"
    said = {"explicit": "the explicit prefix", "registry": "the registry's entry", "map": "the substring"}
    return f"{said[route.how]} {route.key!r}"


def _called(route: Route) -> str:
    return route.provider or str(getattr(route.provider_class, "__name__", "-"))


def _provider(entry: _Entry) -> str:
    return entry.provider or str(getattr(entry.provider_class, "__name__", "-"))
