"""
What ``llm-master doctor --settings FILE`` finds: mistakes, and each deployment with its address, key and limits.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from llm_master.base_provider import UnifiedProvider, row_of
from llm_master.classes import ModelConfig, ModelRegistry
from llm_master.cli.reach import Finding, authority, one_line
from llm_master.errors import ConfigurationError, LLMError
from llm_master.settings import ModelSettings, Settings
from llm_master.settings import check as find_problems

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llm_master.config import LLMConfig
    from llm_master.policy.limits_rules import Limit
    from llm_master.pools import Place
    from llm_master.settings import Deployment

__all__ = ["SettingsDoctor"]


class SettingsDoctor:
    """
    Examines a settings file without the network.

    Args:
        path: the file.
        config: where keys and addresses come from that the file does not name.

    Attributes:
        findings: about the file and its deployments.
        reach: names for further findings, and the addresses that calls are sent to.
        stores: what each Redis or Valkey is for, and the variable with its address.
        settings: the file, None while it has mistakes.
    """

    def __init__(self, path: str, config: LLMConfig) -> None:
        self._path = path
        self._config = config
        self.findings: list[Finding] = []
        self.reach: list[tuple[str, str]] = []
        self.stores: dict[str, str] = {}
        self.settings: Settings | None = None

    async def examine(self) -> None:
        """Fill in the findings; a file with mistakes is examined no further, since no call could use it."""
        path, rows = self._path, UnifiedProvider.PROVIDER_CONFIGS
        try:
            problems = find_problems(path, rows)
        except ConfigurationError as error:
            self._find("settings", "bad", str(error))
            return
        for each in problems:
            self._find("settings", "bad", f"{path}:{each.line}: {each.text}")
        if problems:
            return
        settings = self.settings = Settings.read(path, rows)
        self._find("settings", "ok", f"{path}: {_size(settings)}")
        await self._places(settings)
        for limit in settings.limits:
            if limit.key.startswith("tag:"):
                self._find(f"calls with {limit.key}", "ok", _figures(limit))
        if settings.redis_url_env is not None:
            self.stores["shared limits"] = settings.redis_url_env
        if settings.cache is not None and settings.cache.redis_url_env is not None:
            self.stores["cache"] = settings.cache.redis_url_env

    def _find(self, check: str, state: str, detail: str) -> None:
        self.findings.append(Finding(one_line(check), state, one_line(detail)))

    async def _places(self, settings: Settings) -> None:
        """Every deployment, made as the calls make it but alone, so that one's mistake does not hide the others."""
        from llm_master.admission import Admission
        from llm_master.assembly import Assembly
        from llm_master.policy.budget import RetryBudget
        from llm_master.policy.limits import MemoryLimiter
        from llm_master.response_synthesizer import QueryLLM

        def assembly(llm: Any, models: dict[str, ModelSettings]) -> Assembly:
            admission = Admission(MemoryLimiter(), RetryBudget())
            return Assembly(llm, admission, models=models, providers=settings.providers, limits=settings.limits)

        registry = assembly(None, settings.models).registry(ModelRegistry.CONFIGS)
        async with QueryLLM(self._config, registry=registry) as llm:
            for name, deployment, check in _asked_for(settings):
                known = settings.models.get(name, ModelSettings(ModelConfig()))
                alone = ModelSettings(known.config, () if deployment is None else (deployment,))
                try:
                    pool = assembly(llm, {name: alone}).pool(name, None, ModelRegistry.CONFIGS)
                except LLMError as error:
                    self._find(check, "bad", str(error))
                    continue
                self._place(check, pool.places[0], self._key(pool.places[0], deployment, settings))
                await pool.released()

    def _place(self, check: str, place: Place, key: str) -> None:
        target = place.target
        what = f"{target.provider} {target.model}"
        url = getattr(target, "url", None)
        if url is not None:
            self.reach.append((authority(url), url))
            what += f" at {authority(url)}"
        elif target.supervised:
            ready, why = importlib.import_module(str(target.row.supervisor).partition(":")[0]).installed()
            if not ready:
                self._find(check, "bad", why)
                return
            what += ", started on first use"
        self._find(check, "ok", "; ".join(part for part in (what, key, _limits(place.limits)) if part))

    def _key(self, place: Place, deployment: Deployment | None, settings: Settings) -> str:
        """Where the key comes from; empty for what takes none."""
        target = place.target
        if target.key_id is None:
            return "no key" if getattr(target, "url", None) else ""
        given = settings.providers.get(target.provider)
        row = row_of(target.provider)
        named = (
            deployment.api_key_env if deployment is not None else None,
            given.api_key_env if given is not None else None,
            *row.key_variables,
            *row.alias_variables,
        )
        variable = next((each for each in named if each and self._config.key_for("", (each,)) is not None), None)
        return f"key from {variable}" if variable else "has a key"


def _size(settings: Settings) -> str:
    deployments = sum(len(model.deployments) for model in settings.models.values())
    return f"no mistakes; models: {len(settings.models)}, with deployments of their own: {deployments}"


def _asked_for(settings: Settings) -> Iterator[tuple[str, Deployment | None, str]]:
    """Each deployment of each model, then the fallbacks that the file says nothing else of; with a check's name."""
    fallbacks: dict[str, None] = {}
    for name, model in settings.models.items():
        if not model.deployments:
            yield name, None, name
        for deployment in model.deployments:
            yield name, deployment, f"{name} [{deployment.name}]"
        fallbacks.update(dict.fromkeys(each.model for each in model.fallbacks))
    for name in fallbacks:
        if name not in settings.models:
            yield name, None, f"{name} (fallback)"


def _limits(limits: Iterable[Limit]) -> str:
    # What only watches the provider's headers has no figure.
    shown = [f"{limit.key} {_figures(limit)}" for limit in limits if _figures(limit)]
    return f"limits: {', '.join(shown)}" if shown else "no limits"


def _figures(limit: Limit) -> str:
    counts = ((limit.rpm, "rpm"), (limit.tpm, "tpm"), (limit.max_concurrency, "at a time"))
    return " and ".join(f"{count} {noun}" for count, noun in counts if count is not None)
