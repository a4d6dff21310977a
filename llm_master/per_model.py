"""
Dialects that differ by the model's name: which of their overrides hold, and each looked up once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Self, TypeVar

import msgspec

__all__ = ["PerModel", "PerWord", "by_model"]

_D = TypeVar("_D")
_T = TypeVar("_T")
_MOST = 1024


class PerModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A dialect with overrides: all whose part occurs in a model's name count, a longer one after a shorter one.

    Attributes:
        per_model: part of a model's name, lower case -> fields of this dialect that replace these for that model.
    """

    per_model: dict[str, dict[str, Any]] = {}

    def __post_init__(self) -> None:
        for override in self.per_model.values():
            msgspec.convert(override, type(self))

    def parts_in(self, name: str) -> list[str]:
        """The parts that occur in a name, those that count most last."""
        return sorted((part for part in self.per_model if part in name), key=lambda part: (len(part), part))

    def for_model(self, model: str) -> Self:
        """The dialect as it holds for one model name, without regard to case."""
        fields: dict[str, Any] = {}
        for part in self.parts_in(model.lower()):
            override = self.per_model[part]
            checked = msgspec.convert(override, type(self))
            fields.update((field, getattr(checked, field)) for field in override)
        return msgspec.structs.replace(self, per_model={}, **fields) if fields else self

    def spell_out(self, word: str, names: frozenset[str], *fields: str) -> None:
        """Put names in place of the word that stands for them; to be called while the dialect is made."""
        for field in fields:
            given: frozenset[str] = getattr(self, field)
            if word in given:
                msgspec.structs.force_setattr(self, field, (given - {word}) | names)


class PerWord(PerModel, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The same for parts that no letter or digit may touch: ``nova-2`` is in ``us.amazon.nova-2-lite-v1:0``, not in
    ``nova-20``.
    """

    def parts_in(self, name: str) -> list[str]:
        """The parts that occur in a name, those that count most last."""
        touched = r"(?<![a-z0-9]){}(?![a-z0-9])"
        return [part for part in super().parts_in(name) if re.search(touched.format(re.escape(part)), name)]


def by_model(make: Callable[[_D, str], _T]) -> Callable[[_D, str], _T]:
    """
    A function of a dialect and a model's name that makes what it gives once.

    A name is matched against dozens of patterns, which is more work than the rest of an encode.
    """
    # An entry holds the dialect itself, so that its id cannot come to mean another one.
    known: dict[tuple[int, str], tuple[_D, _T]] = {}

    def find(dialect: _D, model: str) -> _T:
        key = (id(dialect), model)
        found = known.get(key)
        if found is None:
            if len(known) >= _MOST:
                known.clear()
            found = known[key] = (dialect, make(dialect, model))
        return found[1]

    return find
