"""
Stand-ins for the keys and addresses that a client lacks, so that its requests can be shown all the same.

Nothing made from them is ever sent or kept.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llm_master.addresses import given_url
from llm_master.base_provider import UnifiedProvider, row_of
from llm_master.errors import ConfigurationError, MissingKeyError

if TYPE_CHECKING:
    from llm_master.config import LLMConfig
    from llm_master.rows import ProviderRow

__all__ = ["StandIns"]


class StandIns:
    """What stands in for which variable; ``shown`` puts ``{VARIABLE}`` in its place."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._names)

    def shown(self, text: str) -> str:
        """A text with each stand-in replaced by the variable that is missing."""
        for value, name in self._names.items():
            text = text.replace(value, f"{{{name}}}")
        return text

    def besides(self, text: str) -> tuple[str, ...]:
        """One finding for each missing variable that a text does not name."""
        return tuple(f"{name} is not set either; set it too" for name in self._names.values() if name not in text)

    def pool(self, llm: Any, engine: Any, model_name: str, api: str | None) -> Any:
        """
        The deployments of a model as they would be with everything set; the client does not keep them.

        Raises:
            ConfigurationError: something else than a key or an address is wrong.
        """
        config = copy.copy(llm.config)
        config.dotenv_values = dict(llm.config.dotenv_values)
        config.base_urls = dict(llm.config.base_urls)
        assembly = engine.assembly
        deployments, providers = assembly.parts_of(model_name)
        route = llm.route(model_name)
        names = {route.provider, *(each.provider for each in deployments)}
        rows = [row_of(name) for name in names if name is not None and _is_row(name)]
        for row in rows:
            given = providers.get(row.name)
            own = given is not None and bool(given.base_url or given.api_url)
            self._fill(row, config, addressed=own or any(each.base_url for each in deployments))
            if given is not None and given.api_key_env:
                self._set(config, given.api_key_env)
        for deployment in deployments:
            if deployment.api_key_env:
                self._set(config, deployment.api_key_env)
        return assembly.with_client(
            _Client(llm, config), SimpleNamespace(limiter=engine.admission.limiter, join=_keep)
        ).pool(
            model_name,
            api,
            llm._entries(),  # noqa: SLF001  # the client's own part
        )

    def _fill(self, row: ProviderRow, config: LLMConfig, *, addressed: bool) -> None:
        if not addressed and given_url(row, config) is None and row.supervisor is None:
            if row.base_url is None:
                variable = f"{row.name.upper()}_BASE_URL"
                config.base_urls = {**config.base_urls, row.name: self._stand_in(variable, "http://{}.invalid")}
            addresses = (row.base_url or "", *row.family_urls.values())
            for name, place in row.placeholders.items():
                if place.default is None and config.variable_for(place.variables) is None:
                    is_host = place.form == "{}" and any(urlsplit(each).netloc == f"{{{name}}}" for each in addresses)
                    value = self._stand_in(place.variables[0], "{}.invalid" if is_host else "{}")
                    config.dotenv_values[place.variables[0]] = value
        attr = row.api_key_attr or f"{row.name}_api_key"
        keyed = config.key_for(attr, row.key_variables, row.alias_variables) is not None
        if not row.key_optional and row.api_key is None and not keyed:
            self._set(config, row.key_variables[0])

    def _set(self, config: LLMConfig, variable: str) -> None:
        if config.variable_for((variable,)) is None:
            config.dotenv_values[variable] = self._stand_in(variable, "{}")

    def _stand_in(self, variable: str, form: str) -> str:
        value = form.format("missing-" + variable.lower().replace("_", "-"))
        self._names[value.removeprefix("http://")] = variable
        return value


class _Client:
    """A client whose providers read another configuration."""

    def __init__(self, llm: Any, config: LLMConfig) -> None:
        self.config = config
        self.route = llm.route
        self._llm = llm

    def _get_provider(self, model_name: str) -> Any:
        return self._filled(self._llm._get_provider(model_name))  # noqa: SLF001  # the client's own part

    def _provider_of(self, route: Any) -> Any:
        return self._filled(self._llm._provider_of(route))  # noqa: SLF001  # the client's own part

    def _filled(self, provider: Any) -> Any:
        if type(provider).__init__ is not UnifiedProvider.__init__:
            return provider
        return type(provider)(provider.name, self.config, transport=provider.transport)


def _keep(pool: Any) -> None:
    """Nothing: no call ever passes such a pool."""


def _is_row(name: str) -> bool:
    try:
        row_of(name)
    except (ConfigurationError, MissingKeyError):
        return False
    return True
