"""
From a model name to its deployments, by the provider table, the registry and the settings.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.base_provider import UnifiedProvider, implementation, row_of
from llm_master.classes import ModelConfig
from llm_master.custom import CustomTarget, takes_stream
from llm_master.errors import ConfigurationError, MissingKeyError
from llm_master.operations import operation_of
from llm_master.pools import Place, Pool, limit_of
from llm_master.presets import preset
from llm_master.redaction import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llm_master.admission import Admission
    from llm_master.config import LLMConfig
    from llm_master.policy.breaker import BreakerPolicy
    from llm_master.policy.limits_budget import Budget
    from llm_master.policy.limits_rules import Limit
    from llm_master.rows import ProviderRow
    from llm_master.settings_parts import Deployment, ModelSettings, ProviderSettings

__all__ = ["Assembly", "budgets_of", "configured"]


class Assembly:
    """
    Makes the pools of one ``QueryLLM``.

    Args:
        llm: whose routes and providers are used.
        admission: what their calls pass.
        models: models of the settings; providers: addresses and keys of the settings.
        limits: those of the settings, by key.
        breaker: when a deployment is left alone, None for the usual policy.
    """

    def __init__(
        self,
        llm: Any,
        admission: Admission,
        *,
        models: Mapping[str, ModelSettings],
        providers: Mapping[str, ProviderSettings],
        limits: Iterable[Limit],
        breaker: BreakerPolicy | None = None,
    ) -> None:
        self._llm = llm
        self._admission = admission
        self._models = models
        self._providers = providers
        self._limits = {limit.key: limit for limit in limits}
        self._breaker = breaker

    def entry(self, model_name: str, registry: Mapping[str, ModelConfig]) -> ModelConfig | None:
        """What registry and settings say of a model together; the settings win field by field."""
        named = self._models.get(model_name)
        known = registry.get(model_name)
        if known is None:
            wanted = model_name.lower()
            known = next((config for name, config in registry.items() if name.lower() == wanted), None)
        if named is None or known is None:
            return named.config if named is not None else known
        return merged(known, named.config)

    def registry(self, registry: Mapping[str, ModelConfig]) -> Mapping[str, ModelConfig]:
        """The registry with the models of the settings in it."""
        if not self._models:
            return registry
        found = dict(registry)
        for name, named in self._models.items():
            config = merged(registry[name], named.config) if name in registry else named.config
            first = named.deployments[0] if named.deployments else None
            if first is not None and config.provider is None and first.provider is not None:
                # A name that only its deployments give a meaning.
                config = msgspec.structs.replace(config, provider=first.provider, model=first.model or config.model)
            found[name] = config
        return found

    def pool(self, model_name: str, api: str | None, registry: Mapping[str, ModelConfig]) -> Pool:
        """
        The deployments of a model, ready for calls.

        Raises:
            ModelNotFoundError, ConfigurationError: as ``QueryLLM.query`` says.
        """
        named = self._models.get(model_name)
        entry = self.entry(model_name, registry)
        common = limit_of(f"model:{model_name}", entry) if entry is not None else ()
        common += self._limit(f"model:{model_name}")
        places: list[tuple[Place, float]] = []
        deployments = named.deployments if named is not None else ()
        for deployment in deployments or (None,):
            target = self._target(model_name, api, deployment)
            target.prices = entry
            limits = (*common, *self._limit(f"provider:{target.provider}"))
            name = None
            if deployment is not None:
                name = deployment.name
                limits += limit_of(f"deployment:{name}", deployment) + self._limit(f"deployment:{name}")
            place = Place(target, name, limits, self._admission.limiter.observe)
            places.append((place, 1.0 if deployment is None else deployment.weight))
        pool = Pool(model_name, places, named.fallbacks if named is not None else (), self._breaker)
        self._admission.join(pool)
        return pool

    def fallbacks_of(self, model_name: str) -> tuple[Any, ...]:
        """Where the settings send a model's calls when it fails."""
        named = self._models.get(model_name)
        return tuple(named.fallbacks) if named is not None else ()

    def parts_of(self, model_name: str) -> tuple[tuple[Deployment, ...], Mapping[str, ProviderSettings]]:
        """The deployments that settings and arguments name for a model, and what they say of providers."""
        named = self._models.get(model_name)
        return (named.deployments if named is not None else ()), self._providers

    def counted_here(self, model_name: str) -> str | None:
        """
        A model's name at its provider, where that has no endpoint that counts tokens, so that no key is needed.

        None where there is such an endpoint, or where settings and code of the user's own say what serves the model.
        """
        route = self._llm.route(model_name)
        if self.parts_of(model_name)[0] or route.provider is None or implementation(route.provider) is not None:
            return None
        row = row_of(route.provider)
        return None if row.status != "live" or operation_of(row, "count") is not None else str(route.model)

    def with_client(self, llm: Any, admission: Any) -> Assembly:
        """The same for another client, whose pools pass another admission."""
        other = copy.copy(self)
        other._llm, other._admission = llm, admission  # noqa: SLF001  # a copy of itself
        return other

    def _limit(self, key: str) -> tuple[Limit, ...]:
        found = self._limits.get(key)
        return () if found is None else (found,)

    def _target(self, model_name: str, api: str | None, deployment: Deployment | None) -> Any:
        llm = self._llm
        provider = llm._get_provider(model_name)  # noqa: SLF001  # the guide's own name
        route = llm.route(model_name)
        if deployment is not None and (deployment.provider or deployment.model):
            route = msgspec.structs.replace(
                route, provider=deployment.provider or route.provider, model=deployment.model or route.model
            )
            provider = llm._provider_of(route)  # noqa: SLF001  # one thing in two files
        if isinstance(provider, UnifiedProvider):
            config = self._config(provider.row, deployment, llm.config)
            if config is not llm.config:
                provider = type(provider)(provider.name, config, transport=provider.transport)
            method = provider.generator(route.model)
            if method is None:
                target = provider.target(route.model, asked=model_name, api=api or route.api)
                preset(target, config, self._presets(provider.row))
                return target
            generate, name, can = method, provider.name, takes_stream(method)
        else:
            return _own_target(provider, route, model_name)
        return CustomTarget(name, generate, model=route.model, asked=model_name, takes_stream=can, owner=provider)

    def _presets(self, row: ProviderRow) -> dict[str, Any]:
        """What the settings file says of all calls of a provider."""
        given = self._providers.get(row.name)
        names = ("response_format_file", "use_prompt_caching")
        return {} if given is None else {name: getattr(given, name) for name in names}

    def _config(self, row: ProviderRow, deployment: Deployment | None, config: LLMConfig) -> LLMConfig:
        """The configuration with what settings and deployment say of a provider's address and key."""
        given = self._providers.get(row.name)
        if given is not None:
            config = configured(
                config, row, base_url=given.base_url, api_url=given.api_url, key_variable=given.api_key_env
            )
        if deployment is not None:
            config = configured(
                config,
                row,
                base_url=deployment.base_url,
                key_variable=deployment.api_key_env,
                key=deployment.api_key,
            )
        return config


def _own_target(provider: Any, route: Any, asked: str) -> CustomTarget:
    """The target of an object that is no ``UnifiedProvider``."""
    name = route.provider or type(provider).__name__
    generate = getattr(provider, "generate", None)
    if callable(generate):
        can = takes_stream(generate)
        return CustomTarget(name, generate, model=route.model, asked=asked, takes_stream=can, owner=provider)
    from llm_master.structural import Shape

    shape = Shape(name, provider)
    return CustomTarget(
        name, None, model=route.model, asked=asked, takes_stream=shape.streams, owner=provider, shape=shape
    )


def configured(
    config: LLMConfig,
    row: ProviderRow,
    *,
    base_url: str | None = None,
    api_url: str | None = None,
    key_variable: str | None = None,
    key: str | None = None,
) -> LLMConfig:
    """
    A configuration with another address or key for one provider; the same object when there is neither.

    Raises:
        MissingKeyError: the variable is not set, and the provider needs a key.
    """
    if not (base_url or api_url or key_variable or key):
        return config
    found = copy.copy(config)
    if base_url or api_url:
        names = {row.name.lower(), *(alias.lower() for alias in row.aliases)}
        for field, url in (("base_urls", base_url), ("api_urls", api_url)):
            urls = {name: known for name, known in getattr(config, field).items() if name.lower() not in names}
            setattr(found, field, {**urls, row.name: url} if url else urls)
    attr = row.api_key_attr or f"{row.name}_api_key"
    if key:
        setattr(found, attr, Secret(key))
    elif key_variable:
        read = config.key_for("", (key_variable,))
        if read is None and not row.key_optional:
            raise MissingKeyError(f"{row.name} needs a key: set {key_variable} (environment or .env)")
        setattr(found, attr, read)
    return found


def merged(one: ModelConfig, two: ModelConfig) -> ModelConfig:
    """Both, field by field, the second first."""
    fields = {name: value for name in two.__struct_fields__ if (value := getattr(two, name)) is not None}
    return msgspec.structs.replace(one, **fields)


def settings_of(settings: Any, deployments: Mapping[str, Any] | None, limits: Iterable[Limit]) -> dict[str, Any]:
    """
    What a settings file and the arguments of ``QueryLLM`` come to together; the arguments win.

    Raises:
        ConfigurationError: two deployments have the same name.
    """
    from llm_master.settings_parts import ModelSettings

    models: dict[str, ModelSettings] = dict(settings.models) if settings is not None else {}
    for name, given in (deployments or {}).items():
        named = tuple(
            each if each.name else msgspec.structs.replace(each, name=f"{name}#{number}")
            for number, each in enumerate(given, 1)
        )
        known = models.get(name)
        models[name] = ModelSettings(
            known.config if known is not None else ModelConfig(), named, known.fallbacks if known is not None else ()
        )
    names = [each.name for model in models.values() for each in model.deployments]
    twin = next((name for name in names if names.count(name) > 1), None)
    if twin is not None:
        raise ConfigurationError(f"two deployments are named {twin!r}; rename one")
    by_key = {limit.key: limit for limit in (settings.limits if settings is not None else ())}
    by_key.update({limit.key: limit for limit in limits})
    return {
        "models": models,
        "providers": settings.providers if settings is not None else {},
        "limits": tuple(by_key.values()),
    }


def budgets_of(settings: Any, budgets: Iterable[Budget]) -> tuple[Budget, ...]:
    """The budgets of a settings file and of the arguments together; of the same key and period the argument counts."""
    given = tuple(budgets)
    own = {(each.key, each.per, each.timezone) for each in given}
    known = settings.budgets if settings is not None else ()
    return (*(each for each in known if (each.key, each.per, each.timezone) not in own), *given)
