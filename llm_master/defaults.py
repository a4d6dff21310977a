"""
The provider and model of calls that name none: ``LLM_PROVIDER`` and ``LLM_DEFAULT_MODEL``.

Without a model's name a call goes to the model of ``LLM_DEFAULT_MODEL`` at the provider of ``LLM_PROVIDER``, and to no
other. A bare name, which speaks of no provider, goes to ``LLM_PROVIDER`` too; but a provider with models of its own
(OpenAI, Anthropic) leaves a name that is another's to that one, so that a fallback to ``claude-...`` works. A prefix,
a registry entry with a provider and a key that the user put into the provider map come first. Without ``LLM_PROVIDER``
nothing changes: see ``resolution.py``.

``LLM_BASE_URL`` is the address of the provider ``openai_compatible``, and with that address goes ``OPENAI_API_KEY``.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.errors import ConfigurationError, InvalidRequestError, ModelNotFoundError
from llm_master.resolution import Route, resolve

if TYPE_CHECKING:
    from llm_master.classes import ModelConfig
    from llm_master.config import LLMConfig
    from llm_master.rows import ProviderRow

__all__ = ["MODEL", "PROVIDER", "Tables", "default_model", "route_of"]

PROVIDER = "LLM_PROVIDER"
MODEL = "LLM_DEFAULT_MODEL"
_NEAR = 0.75


class Tables(msgspec.Struct, frozen=True):
    """What ``resolution.resolve`` looks names up in."""

    rows: Mapping[str, ProviderRow]
    registry: Mapping[str, ModelConfig]
    provider_map: Mapping[str, tuple[str | None, Any]]
    extra_prefixes: Collection[str] = ()

    def resolve(self, model_name: str) -> Route:
        """The route of a name by the rules of ``resolution.py``; raises as that."""
        return resolve(
            model_name,
            rows=self.rows,
            registry=self.registry,
            provider_map=self.provider_map,
            extra_prefixes=self.extra_prefixes,
        )

    def names(self) -> dict[str, str]:
        """Every name of every provider, lower case, to its key."""
        found = {alias.lower(): key for key, row in self.rows.items() for alias in row.aliases}
        found.update({each.lower(): each for each in (*self.extra_prefixes, *self.rows)})
        return found


def default_model(config: LLMConfig, tables: Tables) -> str:
    """
    The name of the model that serves a call without one.

    Raises:
        InvalidRequestError: neither variable is set.
        ConfigurationError: ``LLM_PROVIDER`` names no provider, or one without a model of its own and no model is set.
    """
    provider, model = _value(config, PROVIDER), _value(config, MODEL)
    if provider is None:
        if model is None:
            raise InvalidRequestError(
                f"no model_name: name a model such as 'gpt-4.1' or 'local', or set {PROVIDER} and {MODEL}"
            )
        return model
    key = _provider(provider, tables)
    if model is None:
        row = tables.rows.get(key)
        if row is None or row.default_model is None:
            raise ConfigurationError(f"{PROVIDER}={provider} names a provider and no model; set {MODEL} too")
        return f"{key}/{row.default_model}"
    try:
        route = tables.resolve(model)
    except ModelNotFoundError:
        return f"{key}/{model}"
    if route.how == "registry" or route.provider == key:
        return model
    return f"{key}/{model}"


def route_of(model_name: str, config: LLMConfig, tables: Tables) -> Route:
    """
    The route of a name, with ``LLM_PROVIDER`` for a bare one.

    Raises:
        ModelNotFoundError, ConfigurationError: as ``resolution.resolve``; ``LLM_PROVIDER`` names no provider.
    """
    provider = _value(config, PROVIDER)
    if provider is None:
        return tables.resolve(model_name)
    try:
        route = tables.resolve(model_name)
    except ModelNotFoundError:
        if _names_a_provider(model_name, tables):
            raise
        return tables.resolve(f"{_provider(provider, tables)}/{model_name}")
    if route.how != "map" or route.api is not None or not _is_rows_own(route, tables):
        return route
    key = _provider(provider, tables)
    if route.provider == key or _makes_models(tables.rows.get(key)):
        return route
    return tables.resolve(f"{key}/{model_name}")


def _value(config: LLMConfig, variable: str) -> str | None:
    found = config.variable_for((variable,))
    return None if found is None or not found[1].strip() else str(found[1]).strip()


def _provider(name: str, tables: Tables) -> str:
    names = tables.names()
    key = names.get(name.lower())
    if key is None:
        near = difflib.get_close_matches(name.lower(), names, 3)
        hint = f"did you mean {', '.join(near)}?" if near else "llm-master providers lists them"
        raise ConfigurationError(f"{PROVIDER}={name} is no provider; {hint}")
    return key


def _names_a_provider(model_name: str, tables: Tables) -> bool:
    """Whether a name begins with a provider's, right or misspelt: that one was meant, and no other is asked."""
    first, slash, _ = model_name.replace(":", "/").partition("/")
    prefix = _letters(first.lower())
    near = difflib.get_close_matches(first.lower(), tables.names(), 1, _NEAR) if slash else []
    # With other dashes it is no mistake: meta-llama/... is how models of that maker are called everywhere.
    return bool(near) and all(_letters(each) != prefix for each in near)


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name))


def _is_rows_own(route: Route, tables: Tables) -> bool:
    """Whether a substring of a row decided, and no key of the user's."""
    row = tables.rows.get(route.provider or "")
    return row is not None and route.key.lower() in {part.lower() for part in row.models}


def _makes_models(row: ProviderRow | None) -> bool:
    """Whether names tell a provider's models; those that serve everybody's models have no such names."""
    return row is not None and any(part[:1].isalnum() and "/" not in part for part in row.models)
