"""
The settings file ``llm_master.toml``: models, deployments, fallbacks, limits, timeouts, retries, cache and ledger.

``config/llm_master.toml`` shows every setting. What nothing reads, and what could have no effect, is a mistake.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master import settings_rules as rules
from llm_master.catalogue import load_rows
from llm_master.classes import ModelConfig
from llm_master.errors import ConfigurationError
from llm_master.policy.deadline import Timeouts
from llm_master.policy.limits_budget import Budget
from llm_master.policy.limits_rules import Limit
from llm_master.policy.retry import RetryPolicy
from llm_master.price_files import read_price_files
from llm_master.settings_budgets import BUDGET, read_budgets
from llm_master.settings_ledger import LEDGER, read_ledger
from llm_master.settings_parts import CacheSettings, Deployment, Fallback, ModelSettings, ProviderSettings
from llm_master.settings_rules import Problem, Reader, nearest, written
from llm_master.toml_lines import key_lines

if TYPE_CHECKING:
    from llm_master.settings_parts import LedgerSettings
    from llm_master.toml_lines import Place

__all__ = ["CacheSettings", "Deployment", "Fallback", "ModelSettings", "Problem", "ProviderSettings", "Settings"]
__all__ += ["check"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """
    A settings file, checked.

    Attributes:
        path: the file.
        timeouts, retry: those of every call; what the file leaves out has its usual value.
        providers: by the provider's own key, whatever alias the file uses.
        models: by name.
        limits: under ``provider:NAME``, ``model:NAME``, ``deployment:NAME`` and ``tag:NAME``; those that stand
            with a model or deployment are in ``models``.
        redis_url_env: variable with the address of the Redis or Valkey that shares the limits, None: each process
            keeps its own.
        cache: None when there is none.
        prices: files and directories of prices, see ``metering.py``.
        budgets: what may be spent.
        ledger: None when the file says nothing of it.
    """

    path: str
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    providers: dict[str, ProviderSettings] = {}
    models: dict[str, ModelSettings] = {}
    limits: tuple[Limit, ...] = ()
    redis_url_env: str | None = None
    cache: CacheSettings | None = None
    prices: tuple[str, ...] = ()
    budgets: tuple[Budget, ...] = ()
    ledger: LedgerSettings | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str], providers: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
        """
        Read and check a file.

        Args:
            path: the file, TOML in UTF-8.
            providers: the rows that may be named, with their aliases; None is the shipped ones.

        Raises:
            ConfigurationError: ``FILE:LINE: what is wrong`` of the first mistake, and how many more there are.
        """
        settings, problems = _load(path, providers)
        if settings is None:
            more = f" (and {len(problems) - 1} more; see: llm-master check FILE)" if len(problems) > 1 else ""
            raise ConfigurationError(f"{os.fspath(path)}:{problems[0].line}: {problems[0].text}{more}")
        return settings


def check(path: str | os.PathLike[str], providers: Mapping[str, Mapping[str, Any]] | None = None) -> list[Problem]:
    """
    Every mistake of a settings file, by line; of a text that is no TOML only the first.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    return _load(path, providers)[1]


def _load(
    path: str | os.PathLike[str], providers: Mapping[str, Mapping[str, Any]] | None
) -> tuple[Settings | None, list[Problem]]:
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:  # noqa: PTH123  # pathlib makes every start slower
            data = file.read()
    except OSError as error:
        raise ConfigurationError(f"the settings file {name} cannot be read: {error.strerror or error}") from None
    try:
        text = data.decode("utf-8-sig")
        document, lines = tomllib.loads(text), key_lines(text)
    except UnicodeDecodeError as error:
        return None, [Problem(data.count(b"\n", 0, error.start) + 1, "this is not UTF-8 text; save the file as UTF-8")]
    except tomllib.TOMLDecodeError as error:
        return None, [_no_toml(str(error), text)]
    except RecursionError:
        return None, [Problem(1, "arrays or tables are nested too deeply to be settings")]
    walk = _File(Reader(lines, _HOMES), load_rows() if providers is None else providers)
    settings = walk.settings(name, document)
    problems = sorted(walk.reader.problems, key=lambda problem: problem.line)
    return (None if problems else settings), problems


def _no_toml(message: str, text: str) -> Problem:
    found = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = int(found[1]) if found else text.rstrip("\n").count("\n") + 1
    what = message[: found.start()] if found else message.replace(" (at end of document)", " at the end of the file")
    # The parser's words quote no value, but may hold a line end.
    return Problem(line, f"this is not TOML: {' '.join(what.split())}")


_TIMEOUTS = dict.fromkeys(("total", "connect", "first_token", "idle"), rules.SECONDS_LIMIT)
_RETRY = {
    "max_attempts": rules.COUNT,
    **dict.fromkeys(("base_delay", "max_delay", "max_retry_after"), rules.SECONDS),
}
_PROVIDER = {
    "base_url": rules.BASE_URL,
    "api_url": rules.API_URL,
    "api_key_env": rules.VARIABLE,
    "response_format_file": rules.TEXT,
    "use_prompt_caching": rules.FLAG,
}
_MODEL_LIMITS = dict.fromkeys(("rate_limit_rpm", "rate_limit_tpm", "max_concurrency"), rules.COUNT)
_WHERE = {"provider": rules.TEXT, "model": rules.MODEL}
_PRICES = ("input_price_per_million", "output_price_per_million", "cached_input_price_per_million")
_MODEL = {**_WHERE, **dict.fromkeys(_PRICES, rules.PRICE), **_MODEL_LIMITS}
_DEPLOYMENT = {
    **_WHERE,
    **_MODEL_LIMITS,
    "name": rules.TEXT,
    "base_url": rules.BASE_URL,
    "api_key_env": rules.VARIABLE,
    "weight": rules.WEIGHT,
}
_LIMIT = {
    **dict.fromkeys(("rpm", "tpm", "max_concurrency"), rules.COUNT),
    "on_outage": rules.choice("open", "closed"),
}
_LIMITED = ("provider", "model", "deployment", "tag")
_CACHE = {
    "kind": rules.choice("memory", "sqlite", "redis"),
    "ttl": rules.SECONDS_LIMIT,
    "max_entries": rules.COUNT,
    "path": rules.TEXT,
    "redis_url_env": rules.VARIABLE,
}
_PRICE_FILES = {"files": rules.TEXTS}
_SECTIONS = ("timeouts", "retry", "providers", "models", "limits", "cache", "prices", "budgets", "ledger")
_HOMES = {
    **dict.fromkeys(BUDGET, "[budgets]"),
    **dict.fromkeys(LEDGER, "ledger"),
    **dict.fromkeys(_CACHE, "cache"),
    **dict.fromkeys(_MODEL, 'models."NAME"'),
    **dict.fromkeys(_PROVIDER, "providers.NAME"),
    **dict.fromkeys(_LIMIT, 'limits."KIND:NAME"'),
    **dict.fromkeys(_RETRY, "retry"),
    **dict.fromkeys(_TIMEOUTS, "timeouts"),
    "redis_url_env": "limits",
    "files": "prices",
    "fallbacks": 'models."NAME"',
    "deployments": 'models."NAME"',
    "weight": 'models."NAME".deployments',
}


class _File:
    """One file on its way into ``Settings``; each method reads one section."""

    def __init__(self, reader: Reader, rows: Mapping[str, Mapping[str, Any]]) -> None:
        self.reader = reader
        self._budgets: tuple[Budget, ...] = ()
        self._keys = {alias.lower(): name for name, row in rows.items() for alias in (*row.get("aliases", ()), name)}

    def settings(self, path: str, document: dict[str, Any]) -> Settings:
        """Everything; only worth having when the reader found nothing wrong."""
        if "budgets" in document:
            self._budgets = read_budgets(self.reader, document["budgets"], self._provider_key)
        for name in document.keys() - set(_SECTIONS):
            self.reader.unknown((name,), _SECTIONS, document[name])
        parts = {
            name: table
            for name in _SECTIONS
            if name in document and name != "budgets" and self.reader.is_table((name,), table := document[name])
        }
        models = self._models(parts.get("models", {}))
        url, limits = self._limits(parts.get("limits", {}), models)
        return Settings(
            path=path,
            timeouts=self._timeouts(parts.get("timeouts", {})),
            retry=self._retry(parts.get("retry", {})),
            providers=self._providers(parts.get("providers", {})),
            models=models,
            limits=limits,
            redis_url_env=url,
            cache=self._cache(parts["cache"]) if "cache" in parts else None,
            prices=self._prices(parts["prices"]) if "prices" in parts else (),
            budgets=self._budgets,
            ledger=read_ledger(self.reader, parts["ledger"]) if "ledger" in parts else None,
        )

    def _timeouts(self, table: dict[str, Any]) -> Timeouts:
        found = self.reader.table(("timeouts",), table, _TIMEOUTS)
        total = found.get("total")
        for name in ("connect", "first_token", "idle"):
            if total is not None and (found.get(name) or 0) > total:
                self.reader.wrong(
                    ("timeouts", name), f"{name} = {found[name]:g} has no effect, since total = {total:g}; lower it"
                )
        return Timeouts(**found)

    def _retry(self, table: dict[str, Any]) -> RetryPolicy:
        policy = RetryPolicy(**self.reader.table(("retry",), table, _RETRY))
        if "base_delay" in table and policy.base_delay > policy.max_delay:
            self.reader.wrong(
                ("retry", "base_delay"),
                f"base_delay = {policy.base_delay:g} has no effect above max_delay = {policy.max_delay:g}",
            )
        return policy

    def _named(self, place: Place, table: dict[str, Any]) -> Iterable[tuple[str, Place, dict[str, Any]]]:
        """The tables of a section whose keys are names."""
        for name, each in table.items():
            here = (*place, name)
            if not self.reader.is_table(here, each):
                continue
            if each:
                yield name, here, each
            else:
                self.reader.wrong(here, f"[{written(here)}] sets nothing; give it a setting or remove it")

    def _provider_key(self, place: Place, name: str) -> str | None:
        key = self._keys.get(name.lower())
        if key is None:
            near = nearest(name, self._keys)
            hint = f"did you mean {near!r}?" if near else "llm-master providers lists those that exist"
            self.reader.wrong(place, f"unknown provider {name!r}; {hint}")
        return key

    def _providers(self, table: dict[str, Any]) -> dict[str, ProviderSettings]:
        result: dict[str, ProviderSettings] = {}
        for name, place, each in self._named(("providers",), table):
            found = self.reader.table(place, each, _PROVIDER)
            if "base_url" in found and "api_url" in found:
                self.reader.wrong((*place, "base_url"), "base_url has no effect beside api_url; give one of them")
            key = self._provider_key(place, name)
            if key is None:
                continue
            if key in result:
                self.reader.wrong(place, f"{name!r} is another name of {key!r}, which has its settings already")
            result[key] = ProviderSettings(**found)
        return result

    def _models(self, table: dict[str, Any]) -> dict[str, ModelSettings]:
        result = {}
        names: set[str] = set()
        for name, place, each in self._named(("models",), table):
            try:
                rules.MODEL.read(name)
            except ValueError:
                self.reader.wrong(place, f"{name!r} cannot be a model's name")
            plain = {key: value for key, value in each.items() if not self._dotted(place, key, value)}
            found = self.reader.table(place, plain, _MODEL, apart=("fallbacks", "deployments"))
            self._where(place, found)
            deployments = self._deployments(name, (*place, "deployments"), each.get("deployments"), names)
            for key in ("provider", "model"):
                if key in found and deployments and all(getattr(one, key) for one in deployments):
                    self.reader.wrong((*place, key), f"{key} has no effect, since every deployment has its own")
            fallbacks = self._fallbacks(name, (*place, "fallbacks"), each.get("fallbacks", []))
            result[name] = ModelSettings(ModelConfig(**found), deployments, fallbacks)
        return result

    def _dotted(self, place: Place, key: str, value: Any) -> bool:
        """Whether a key is the rest of a model's name that lacks its quotes; noted then."""
        if not isinstance(value, dict) or nearest(key, (*_MODEL, "fallbacks", "deployments")):
            return False
        name = f"{place[-1]}.{key}"
        while len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
            name, value = f"{name}.{next(iter(value))}", inner
        self.reader.wrong((*place, key), f'a name with a dot needs quotes: write [models."{name}"]')
        return True

    def _where(self, place: Place, found: dict[str, Any]) -> None:
        if "provider" in found:
            found["provider"] = self._provider_key((*place, "provider"), found["provider"])

    def _deployments(self, model: str, place: Place, value: Any, names: set[str]) -> tuple[Deployment, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
            self.reader.wrong(place, f"deployments must be tables: write [[{written(place)}]] above each")
            return ()
        result = []
        for number, each in enumerate(value):
            here = (*place, number)
            found = self.reader.table(here, each, _DEPLOYMENT)
            self._where(here, found)
            if "weight" in found and len(value) == 1:
                self.reader.wrong((*here, "weight"), "weight has no effect on the only deployment of a model")
            if not each:
                self.reader.wrong(here, f"[[{written(place)}]] sets nothing; give it a setting or remove it")
            found.setdefault("name", f"{model}#{number + 1}")
            if found["name"] in names:
                self.reader.wrong((*here, "name"), f"another deployment is named {found['name']!r}; rename one")
            names.add(found["name"])
            result.append(Deployment(**found))
        return tuple(result)

    def _fallbacks(self, model: str, place: Place, value: Any) -> tuple[Fallback, ...]:
        if not isinstance(value, list):
            self.reader.wrong(place, 'fallbacks must be a list: ["NAME", { model = "NAME", params = { ... } }]')
            return ()
        result: list[Fallback] = []
        for number, each in enumerate(value):
            here = (*place, number)
            fallback = self._fallback(here, {"model": each} if isinstance(each, str) else each)
            if fallback is None:
                continue
            if fallback.model == model:
                self.reader.wrong(here, f"{model!r} cannot be its own fallback")
            elif fallback in result:
                self.reader.wrong(here, f"{fallback.model!r} stands twice in the fallbacks of {model!r}")
            result.append(fallback)
        return tuple(result)

    def _fallback(self, place: Place, value: Any) -> Fallback | None:
        if not isinstance(value, dict):
            self.reader.wrong(place, 'a fallback must be "NAME" or { model = "NAME", params = { ... } }')
            return None
        found = self.reader.table(place, value, {"model": rules.MODEL}, apart=("params",))
        params = value.get("params", {})
        if "model" not in found:
            if value.keys() <= {"params"}:
                self.reader.wrong(place, "a fallback lacks its model")
            return None
        if not isinstance(params, dict):
            self.reader.wrong((*place, "params"), "params must be a table: { temperature = 0.2 }")
            return None
        problem = rules.params_of(found["model"], params)
        if problem:
            self.reader.wrong((*place, "params"), problem)
        return Fallback(found["model"], params)

    def _limits(self, table: dict[str, Any], models: dict[str, ModelSettings]) -> tuple[str | None, tuple[Limit, ...]]:
        tables = {name: each for name, each in table.items() if isinstance(each, dict) or ":" in name}
        plain = {name: value for name, value in table.items() if name not in tables}
        url = self.reader.table(("limits",), plain, {"redis_url_env": rules.VARIABLE}).get("redis_url_env")
        result: dict[str, Limit] = {}
        for name, place, each in self._named(("limits",), tables):
            found = self.reader.table(place, each, _LIMIT)
            if "on_outage" in found and "redis_url_env" not in table:
                self.reader.wrong(
                    (*place, "on_outage"), "on_outage has no effect without redis_url_env in [limits]; remove it"
                )
            if each.keys() == {"on_outage"}:
                self.reader.wrong(place, f"[{written(place)}] limits nothing; give rpm, tpm or max_concurrency")
            key = self._limited(place, name, found, models)
            if key in result:
                self.reader.wrong(place, f"{name!r} is another name of {key!r}, which has its limits already")
            elif key is not None:
                counts = {kind: found.get(kind) for kind in ("rpm", "tpm", "max_concurrency")}
                result[key] = Limit(key, **counts, fail_open=found.get("on_outage") != "closed")
        if url is not None and not result and not self._budgets and not any(map(_limits_something, models.values())):
            self.reader.wrong(("limits", "redis_url_env"), "redis_url_env has no effect, since no limit is set")
        return url, tuple(result.values())

    def _limited(self, place: Place, name: str, found: dict[str, Any], models: dict[str, ModelSettings]) -> str | None:
        """What a limit's name means, checked against what there is."""
        kind, colon, what = name.partition(":")
        if not colon or kind not in _LIMITED or not what.strip():
            near = nearest(kind, _LIMITED)
            hint = f'; did you mean [limits."{near}:{what or "NAME"}"]?' if near else ""
            forms = ", ".join(f'"{each}:NAME"' for each in _LIMITED)
            self.reader.wrong(place, f"{name!r} cannot be limited: name {forms}{hint}")
            return None
        deployments = {each.name: each for model in models.values() for each in model.deployments}
        if kind == "provider":
            key = self._provider_key(place, what)
            return key and f"provider:{key}"
        if kind == "deployment" and what not in deployments:
            near = nearest(what, deployments)
            hint = f"did you mean {near!r}?" if near else 'give a deployment name = "..."'
            self.reader.wrong(place, f"unknown deployment {what!r}; {hint}")
        own = models[what].config if kind == "model" and what in models else None
        twin = deployments.get(what) if kind == "deployment" else own
        for short in ("rpm", "tpm", "max_concurrency"):
            long = short if short == "max_concurrency" else f"rate_limit_{short}"
            if short in found and twin is not None and getattr(twin, long) is not None:
                self.reader.wrong((*place, short), f"{short} of {what!r} is given already as its {long}; remove one")
        return name

    def _prices(self, table: dict[str, Any]) -> tuple[str, ...]:
        files: tuple[str, ...] = self.reader.table(("prices",), table, _PRICE_FILES).get("files", ())
        for problem in read_price_files(files)[1]:
            self.reader.wrong(("prices", "files"), str(problem))
        if not table:
            self.reader.wrong(("prices",), "[prices] sets nothing; give it a setting or remove it")
        return files

    def _cache(self, table: dict[str, Any]) -> CacheSettings | None:
        place = ("cache",)
        found = self.reader.table(place, table, _CACHE)
        kind = found.get("kind")
        if kind is None:
            if "kind" not in table:
                self.reader.wrong(place, '[cache] lacks kind = "memory", "sqlite" or "redis"')
            return None
        needs = {"sqlite": "path", "redis": "redis_url_env"}
        for owner, name in needs.items():
            if owner == kind and name not in table:
                self.reader.wrong(place, f'a cache of kind = "{kind}" needs {name}')
            elif owner != kind and name in table:
                self.reader.wrong((*place, name), f'{name} has no effect with kind = "{kind}"; it is for "{owner}"')
        if kind == "redis" and "max_entries" in table:
            self.reader.wrong(
                (*place, "max_entries"), 'max_entries has no effect with kind = "redis", which bounds its own memory'
            )
        return CacheSettings(**found)


def _limits_something(model: ModelSettings) -> bool:
    return any(getattr(each, name) is not None for each in (model.config, *model.deployments) for name in _MODEL_LIMITS)
