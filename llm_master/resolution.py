"""
From a model's name to the provider that serves it.

In this order, without regard to case:

1. ``provider/model`` or ``provider:model``, where the first part is a provider's key or alias. It is split once; the
   rest is sent as it was written. A name with its own registry entry that says ``provider`` is not split.
2. A registry entry, which may say ``provider`` and ``model``.
3. A key of the provider map that occurs in the name: at a token's boundaries before inside a word, then the longest,
   then the one that stands first, then by alphabet. The order of a dict never matters. A row's own key counts at a
   token's boundaries only: ``aya-`` is not in ``himalaya-7b``.

What stands before the first slash of a name is taken for a provider. Where there is none of that name, a row's own key
counts only if the name speaks of that provider all the same: the key begins in that first part (``deepseek-ai/...``,
``accounts/fireworks/...``), or it holds a slash or begins with a sign and so means the form of a whole name
(``publishers/``, ``.gguf``), or the first part is the provider's name with other dashes (``x-ai/grok-4.7``). Otherwise
``opnai/gpt-4o`` would go to OpenAI, ``unsloth/mistral-7b`` to Mistral, and both are errors. Before a colon, which also
stands in ``ft:gpt-4o:acme`` and in tags, that holds only for a misspelt provider, ``opnai:gpt-4o``. Registry entries
and keys that a user put into the provider map are not held back: ``black-forest-labs/flux`` goes where ``flux`` says.

``responses-NAME`` is NAME through the Responses API. Nothing falls back to a default provider: a prompt never goes to a
vendor that nobody named.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal

import msgspec

from llm_master.classes import ModelConfig
from llm_master.errors import ConfigurationError, InvalidRequestError, ModelNotFoundError
from llm_master.rows import ProviderRow

__all__ = ["Route", "names_to_ask", "resolve"]

_RESPONSES = "responses-"
_MISSPELT = 0.75
_SHORT = 2
_SHOWN = 200
_SUGGESTED = 3


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where a model name leads.

    Attributes:
        provider: the key of its row, or the name under which a class was registered; None for a class alone.
        provider_class: the class of the provider map's entry; None for the unified one.
        model: the name to send.
        how: which rule decided: ``explicit``, ``registry`` or ``map``.
        key: the prefix, registry name or map key that matched, as it stands in its table.
        api: the API family that the name asks for, else None.
    """

    provider: str | None
    provider_class: Any = None
    model: str
    how: Literal["explicit", "registry", "map"]
    key: str
    api: str | None = None


class _Entry(msgspec.Struct, frozen=True):
    key: str
    provider: str | None
    provider_class: Any = None
    vetoes: tuple[str, ...] = ()
    shipped: bool = False


def resolve(
    model_name: str,
    *,
    rows: Mapping[str, ProviderRow],
    registry: Mapping[str, ModelConfig],
    provider_map: Mapping[str, tuple[str | None, Any]],
    extra_prefixes: Collection[str] = (),
) -> Route:
    """
    Find the provider of a model.

    Args:
        model_name: the name as the caller gave it.
        rows: every provider's checked row by its key; their ``models`` are keys of the map, unless the map has them.
        registry: models by name.
        provider_map: substring -> (provider's key or None, class); beats a row's own substring of the same text.
        extra_prefixes: further names that an explicit prefix may have (providers with a class of their own).

    Raises:
        InvalidRequestError: the name is empty or no string.
        ModelNotFoundError: no rule matches; ``suggestions`` holds the nearest names that exist.
        ConfigurationError: a registry entry names a provider that does not exist.
    """
    if not isinstance(model_name, str) or not model_name.strip():
        raise InvalidRequestError(f"the model name is {model_name!r}; give a name such as 'openai/gpt-4o' or 'local'")
    table = _Table(rows, registry, provider_map, extra_prefixes)
    route = table.route(model_name)
    if _asks_for_responses(model_name, route):
        behind = table.route(model_name[len(_RESPONSES) :])
        if behind is not None:
            return msgspec.structs.replace(behind, api="responses")
    if route is None:
        raise table.not_found(model_name)
    return route


def names_to_ask(
    models: Mapping[str, Iterable[str]],
    *,
    rows: Mapping[str, ProviderRow],
    registry: Mapping[str, ModelConfig],
    provider_map: Mapping[str, tuple[str | None, Any]],
) -> list[tuple[str, str]]:
    """
    How each model is asked for: its bare name where that leads to its provider, else ``provider/model``.

    Args:
        models: provider's key -> the names that are sent to it.
        rows, registry, provider_map: as ``resolve`` takes them.

    Returns:
        Pairs of name and provider, in the order given.
    """
    table = _Table(rows, registry, provider_map, ())
    return [(table.callable(provider, model), provider) for provider, names in models.items() for model in names]


def _asks_for_responses(name: str, route: Route | None) -> bool:
    if not name.lower().startswith(_RESPONSES):
        return False
    # A registry entry, or a map key that holds the prefix itself, means the whole name.
    return route is None or not (route.how == "registry" or route.key.lower().startswith(_RESPONSES))


class _Table:
    """Everything that a name may match, with all its keys in lower case."""

    def __init__(
        self,
        rows: Mapping[str, ProviderRow],
        registry: Mapping[str, ModelConfig],
        provider_map: Mapping[str, tuple[str | None, Any]],
        extra_prefixes: Collection[str],
    ) -> None:
        self.rows = rows
        self.registry = registry
        self.extra = {name.lower(): name for name in sorted(extra_prefixes)}
        self.names: dict[str, str] = {}
        for key in sorted(rows):
            for alias in rows[key].aliases:
                self.names.setdefault(alias.lower(), key)
        self.names.update({key.lower(): key for key in sorted(rows)})
        self.entries = self._entries(provider_map)

    def _entries(self, provider_map: Mapping[str, tuple[str | None, Any]]) -> dict[str, _Entry]:
        entries = {
            part.lower(): _Entry(part, key, None, self.rows[key].not_models, shipped=True)
            for key in sorted(self.rows)
            for part in self.rows[key].models
        }
        # Sorted, so that keys which differ only in case do not take their rank from the dict's order.
        for part in sorted(filter(None, provider_map), reverse=True):
            provider, provider_class = provider_map[part]
            key = self.names.get(provider.lower(), provider) if provider is not None else None
            known = entries.get(part.lower())
            if known is not None and known.shipped and known.provider == key:
                entries[part.lower()] = msgspec.structs.replace(known, provider_class=provider_class)
            else:
                entries[part.lower()] = _Entry(part, key, provider_class)
        return entries

    def route(self, name: str) -> Route | None:
        """The route of a name, or None; raises when the name is a provider's alone."""
        registered = self._registered(name)
        if registered is not None:
            entry_name, entry = registered
            if entry.provider is not None:
                return Route(
                    provider=self._known(entry.provider, entry_name),
                    model=entry.model or entry_name,
                    how="registry",
                    key=entry_name,
                )
            # An entry with prices and limits alone says nothing about the way there.
            found = self._unregistered(entry.model or entry_name)
            if found is not None and entry.model:
                return msgspec.structs.replace(found, how="registry", key=entry_name)
            return found
        return self._unregistered(name)

    def _registered(self, name: str) -> tuple[str, ModelConfig] | None:
        if name in self.registry:
            return name, self.registry[name]
        lower = name.lower()
        found = min((key for key in self.registry if key.lower() == lower), default=None)
        return (found, self.registry[found]) if found is not None else None

    def _known(self, provider: str, entry_name: str) -> str:
        key = self.names.get(provider.lower()) or self.extra.get(provider.lower())
        if key is None:
            raise ConfigurationError(
                f"the registry entry {entry_name!r} names the provider {provider!r}, which does not exist;"
                f" known: {', '.join(sorted(self.rows))}"
            )
        return key

    def _unregistered(self, name: str) -> Route | None:
        exact = self.entries.get(name.lower())
        if exact is not None and not exact.shipped:
            return self._by_map(name)
        return self._explicit(name) or self._by_map(name)

    def _explicit(self, name: str) -> Route | None:
        prefix, rest = _split(name)
        key = self.names.get(prefix.lower())
        row = self.rows[key] if key is not None else None
        provider = key if key is not None else self.extra.get(prefix.lower())
        if provider is None:
            return None
        model = rest if row is None or row.strip_prefix else name
        if not rest.strip():
            if row is None or row.default_model is None:
                raise self._no_model(name, provider)
            model = row.default_model
        return Route(provider=provider, model=model, how="explicit", key=prefix.lower())

    def _by_map(self, name: str) -> Route | None:
        lower = name.lower()
        ranked = [
            (rank, part)
            for part, entry in self.entries.items()
            if (rank := _rank(lower, part)) is not None and not any(veto.lower() in lower for veto in entry.vetoes)
        ]
        ranked = [(rank, part) for rank, part in ranked if self._counts(lower, rank, part)]
        if not ranked:
            return None
        entry = self.entries[min(ranked)[1]]
        return Route(provider=entry.provider, provider_class=entry.provider_class, model=name, how="map", key=entry.key)

    def _counts(self, name: str, rank: tuple[int, int, int], part: str) -> bool:
        """Whether a key that stands in a name may decide: always a user's, a row's own by the rule of this module."""
        entry = self.entries[part]
        if not entry.shipped:
            return True
        inside, _, at = rank
        if inside:
            return False
        first, rest = _split(name)
        if not rest or not first or at < len(first) or "/" in part or not part[0].isalnum():
            return True
        if name[len(first)] == ":":
            return not self._misspelt(first)
        return any(_plain(first) == _plain(each) for each, key in self.names.items() if key == entry.provider)

    def _misspelt(self, prefix: str) -> bool:
        """Whether a prefix is likely meant to be a provider's name."""
        import difflib

        return bool(difflib.get_close_matches(prefix, (*self.names, *self.extra), 1, _MISSPELT))

    def _no_model(self, name: str, provider: str) -> ModelNotFoundError:
        known = _known_models().get(provider, ())
        shown = tuple(f"{provider}/{model}" for model in known[:_SUGGESTED])
        hint = f", as in {', '.join(shown)}" if shown else f": {provider}/MODEL"
        return ModelNotFoundError(
            f"Unsupported model: {name}; it names the provider {provider} and no model; add one{hint}",
            model=name,
            suggestions=shown,
        )

    def not_found(self, name: str) -> ModelNotFoundError:
        """The error for a name that nothing matches, with the three nearest names that exist."""
        shown = name if len(name) <= _SHOWN else name[:_SHOWN] + "..."
        near = _nearest(name[:_SHOWN], self._candidates(name[:_SHOWN]))
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        held = f"; there is no provider {_split(shown)[0].removeprefix(_RESPONSES)!r}" if self._held_back(name) else ""
        return ModelNotFoundError(f"Unsupported model: {shown}{held}{hint}", model=name, suggestions=near)

    def _held_back(self, name: str) -> bool:
        """Whether what stands before the first slash or colon is meant as a provider, and is none."""
        first, rest = _split(name)
        if not first or not rest:
            return False
        # After a colon a tag may stand, as in llama3:8b.
        return len(name) <= _SHOWN and (name[len(first)] == "/" or self._by_map(rest) is not None)

    def _candidates(self, name: str) -> dict[str, None]:
        """Names that resolve: registered ones, known models as they are called, the given model at a near provider."""
        of_rows = (key for key, row in self.rows.items() if row.default_model is not None)
        names = dict.fromkeys(sorted((*self.registry, *of_rows)))  # the same in whatever order the tables stand
        for provider, models in _known_models().items():
            if provider in self.rows:
                names.update(dict.fromkeys(self.callable(provider, model) for model in models))
        prefix, rest = _split(name)
        if rest:
            import difflib

            live = [each for each, key in self.names.items() if self.rows[key].retired_on is None]
            near = difflib.get_close_matches(prefix.lower(), sorted((*live, *self.extra)), 3)
            names.update(dict.fromkeys(f"{self.names.get(found, found)}/{rest}" for found in near))
        return names

    def callable(self, provider: str, model: str) -> str:
        """The name under which a provider's model is asked for."""
        found = self._by_map(model)
        bare = found is not None and found.provider == provider and _split(model)[0].lower() not in self.names
        return model if bare else f"{provider}/{model}"


def _split(name: str) -> tuple[str, str]:
    at = next((i for i, char in enumerate(name) if char in "/:"), len(name))
    return name[:at], name[at + 1 :]


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name))


def _rank(name: str, part: str) -> tuple[int, int, int] | None:
    """Where a key of the map stands in a name, the best rank smallest; None when it does not count there."""
    best = None
    at = name.find(part)
    while at >= 0:
        inside = not _at_boundary(name, part, at)
        if not (inside and len(part) <= _SHORT):
            rank = (int(inside), -len(part), at)
            best = rank if best is None else min(best, rank)
        at = name.find(part, at + 1)
    return best


def _at_boundary(name: str, part: str, at: int) -> bool:
    before = name[at - 1] if at else ""
    after = name[at + len(part) : at + len(part) + 1]
    if part[0].isalnum() and before.isalnum():
        return False
    # A digit may follow a word, as in "gpt4", but not a number: "o1" is not in "o10".
    return not (after.isalpha() and part[-1].isalnum()) and not (after.isdigit() and part[-1].isdigit())


def _known_models() -> dict[str, tuple[str, ...]]:
    # Read for the text of an error only, never on the way of a call.
    from llm_master.catalogue import load_models

    return {provider: known.models for provider, known in load_models().items()}


def _nearest(name: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """The three candidates most like a name, the best first; equals in the order in which they are given."""
    import difflib

    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(name.lower())

    def likeness(candidate: str, ratio: Callable[[], float]) -> float:
        whole = candidate.lower()
        best = 0.0
        # A model is often asked for without the provider's and the vendor's part of its name.
        for form in {whole, whole.rpartition("/")[2]}:
            matcher.set_seq1(form)
            best = max(best, ratio())
        return best

    # quick_ratio is never below ratio and costs a tenth of it: most candidates are done with there.
    bounds = sorted((-likeness(each, matcher.quick_ratio), place, each) for place, each in enumerate(candidates))
    best: list[tuple[float, int, str]] = []
    for bound, place, each in bounds:
        if len(best) == _SUGGESTED and bound > best[-1][0]:
            break
        best = sorted([*best, (-likeness(each, matcher.ratio), place, each)])[:_SUGGESTED]
    return tuple(each for *_, each in best)
