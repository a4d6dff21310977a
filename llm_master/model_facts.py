"""
What is known of a model beside its parameters: limits, kinds of input, and the day it is retired.

The facts are data (``catalogue/capabilities*.json``). What a maker says of a model holds wherever it is served, unless
the provider says otherwise. Only what a source says of this very name is certain; a name that is like a known one, or
new, gets the nearest values, and nothing is refused by them.
"""

from __future__ import annotations

import re
from functools import cache

import msgspec

from llm_master.catalogue import FactsFile, ModelFacts, load_facts, load_models

__all__ = ["Found", "facts_of", "plain"]

#: The key of what holds at any provider.
ANY = "*"
# What may follow a name without making it another model: a date, a version, a word for the newest.
_SAME = re.compile(r"(-(latest|preview|default|free|v\d+(-\d+)?|\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{4,8}))*")
# Before it: vendors and regions, as in us.anthropic.claude-opus-5.
_BEFORE = re.compile(r"([a-z]+-)?(us|eu|apac|au|jp|global)?-?(anthropic|openai|amazon|databricks|meta|google)?-?")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """
    Facts of one name.

    Attributes:
        facts: all fields that are known.
        certain: whether a source speaks of this very model, so that what it does not take may be refused.
        sources: where the facts come from, each with the day it was checked.
    """

    facts: ModelFacts
    certain: bool = False
    sources: tuple[str, ...] = ()


def plain(model: str) -> str:
    """
    A model's name as the facts have it: lower case, without the vendor before a slash, all separators dashes.

    ``moonshotai/Kimi-K3.1-Pro``, ``kimi-k3p1-pro`` and ``kimi-k3.1-pro`` are the same.
    """
    name = model.lower().rstrip("/").rpartition("/")[2]
    return re.sub(r"[.:_@ ]", "-", re.sub(r"(?<=\d)p(?=\d)", "-", name))


def facts_of(provider: str, model: str, *, own_server: bool = False) -> Found:
    """
    What is known of a model at a provider; never an error.

    Args:
        own_server: whether the server is the user's own, where a name says little of what is behind it. So it is with
            a provider of which no names are listed: deployments at Azure have any name, gateways have those of others.
    """
    return _facts_of(provider, plain(model), own_server)


@cache
def _files() -> tuple[FactsFile, ...]:
    return load_facts()


@cache
def _named() -> frozenset[str]:
    """The providers whose names of models are known, and so mean the same as anywhere."""
    return frozenset(load_models())


@cache
def _table(provider: str) -> dict[str, tuple[ModelFacts, tuple[str, ...]]]:
    return {
        name: (facts, tuple(_cited(file, facts)))
        for file in _files()
        for name, facts in file.models.get(provider, {}).items()
    }


def _cited(file: FactsFile, facts: ModelFacts) -> list[str]:
    found = (file.sources[name] for name in facts.sources)
    return [f"{each.source} ({each.checked})" for each in found]


def _facts_of(provider: str, name: str, own_server: bool) -> Found:
    merged: dict[str, object] = {}
    sources: list[str] = []
    certain = False
    for table in (_table(ANY), _table(provider)):
        part = max((part for part in table if _occurs(part, name)), key=len, default=None)
        if part is None:
            continue
        facts, cited = table[part]
        exact = _is_same(part, name) and not facts.family
        # What one provider says of one name, such as the day it is retired, says nothing of names that are like it.
        if table is not _table(ANY) and not exact:
            continue
        certain = exact and (table is not _table(ANY) or (provider in _named() and not own_server))
        merged |= {field: value for field in facts.__struct_fields__ if (value := getattr(facts, field)) is not None}
        sources += cited
    return Found(
        facts=ModelFacts(**{"sources": (), **merged}),  # type: ignore[arg-type]  # the fields of the same struct
        certain=certain,
        sources=tuple(dict.fromkeys(sources)),
    )


def _occurs(part: str, name: str) -> bool:
    return part in name and re.search(rf"(?<![a-z0-9]){re.escape(part)}(?![a-z0-9])", name) is not None


def _is_same(part: str, name: str) -> bool:
    before, _, after = name.partition(part)
    return _SAME.fullmatch(after) is not None and _BEFORE.fullmatch(before) is not None
