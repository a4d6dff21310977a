"""
What ``add_provider`` puts into the tables, and what becomes of it when the provider is used.

Registering looks at the name alone. Settings that were not given come from ``{NAME}_API_URL``, ``{NAME}_BASE_URL``,
``{NAME}_API_KEY``, ``{NAME}_RESPONSE_FORMAT_FILE`` and ``{NAME}_USE_PROMPT_CACHING`` on first use.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.addresses import given_url
from llm_master.errors import ConfigurationError
from llm_master.presets import yes_or_no
from llm_master.redaction import Secret, shown

if TYPE_CHECKING:
    from llm_master.config import LLMConfig
    from llm_master.rows import ProviderRow

__all__ = ["SETTINGS", "GivenSettings", "compatible_row", "is_provider", "made", "registered", "takes_arguments"]

#: Arguments of ``add_provider`` that are settings and no part of a request.
SETTINGS = ("api_url", "base_url", "api_key", "response_format_file", "use_prompt_caching")

# Fields of the body that are the call's own.
_OF_CALL = {"model": "the model's name", "messages": "query(messages=...)", "stream": "query(stream=...)"}


class GivenSettings(msgspec.Struct, frozen=True, kw_only=True):
    """
    What an implementation class is given as ``settings``.

    The key shows as ``***``; the address is used as it is.
    """

    api_url: str
    api_key: Any
    response_format_file: str | None = None
    use_prompt_caching: bool = False


def compatible_row(name: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a provider that speaks the chat format; nothing given is looked at."""
    given = {key: value for key, value in kwargs.items() if key in SETTINGS}
    if isinstance(given.get("api_key"), str):
        given["api_key"] = Secret(given["api_key"])
    return {
        "families": ["openai_chat"],
        "key_variables": [f"{_prefix(name)}_API_KEY"],
        "chat": {"defaults": {key: value for key, value in kwargs.items() if key not in SETTINGS}},
        "key_optional": _is_local(given.get("api_url") or given.get("base_url")),
        # Whether such a server keeps prefixes is not known; marks are what one that does would take.
        "supports_caching": True,
        "caching": {"openai_chat": {"marks": [""]}},
        "given": given,
    }


def registered(config: LLMConfig, row: ProviderRow) -> LLMConfig:
    """
    The configuration with what ``add_provider`` was given for a row, and the key that goes with its address.

    What a ``LLMConfig`` says itself comes first, then ``add_provider``, then the environment.

    Raises:
        ConfigurationError: an address or key that cannot be used, or an argument that is no field of a request.
    """
    if row.base_keys:
        return _with_base_key(config, row)
    if not row.given:
        return config
    for field, where in _OF_CALL.items():
        if field in row.chat.defaults:
            raise ConfigurationError(f"add_provider({row.name!r}): {field} is no part of every request; give {where}")
    found = copy.copy(config)
    names = {row.name.lower()}
    if not any(each.lower() in names for urls in (config.api_urls, config.base_urls) for each in urls):
        for field in ("api_url", "base_url"):
            if row.given.get(field):
                setattr(found, f"{field}s", {**getattr(config, f"{field}s"), row.name: row.given[field]})
                break
    attr = row.api_key_attr or f"{row.name}_api_key"
    if not getattr(config, attr, None) and row.given.get("api_key"):
        setattr(found, attr, row.given["api_key"])
    return found


def _with_base_key(config: LLMConfig, row: ProviderRow) -> LLMConfig:
    """The key of another provider goes along only with an address from the variable that says so."""
    attr = row.api_key_attr or f"{row.name}_api_key"
    keyed = config.key_for(attr, row.key_variables, row.alias_variables) is not None
    if keyed or config.url_for(row.name, *row.aliases) is not None:
        return config
    found = config.variable_for(row.base_variables)
    key = config.key_for("", row.base_keys.get(found[0], ())) if found is not None else None
    if key is None or given_url(row, config) is None:
        return config
    filled = copy.copy(config)
    setattr(filled, attr, key)
    return filled


def made(name: str, implementation: Any, kwargs: Mapping[str, Any], config: LLMConfig) -> Any:
    """
    The provider of an implementation: an object as it is, a class with its arguments.

    A constructor that has a parameter ``settings`` is given ``GivenSettings`` and the arguments that are no settings;
    one that has ``config`` and was given none is given the client's. The others get the arguments as they are.

    Raises:
        ConfigurationError: settings are missing, or the constructor does not take the arguments.
    """
    if is_provider(implementation):
        return implementation
    if not callable(implementation):
        raise ConfigurationError(
            f"{name}: llm_api_impl={shown(implementation)} is neither a class nor an object with generate, complete or"
            " chat; give one to add_provider"
        )
    signature = _signature(implementation)
    parameters = signature.parameters if signature is not None else {}
    given = dict(kwargs)
    if "settings" in parameters and "settings" not in given:
        plain = {key: value for key, value in given.items() if key not in SETTINGS}
        given = {"settings": _settings(name, given, config), **plain}
    elif signature is not None and not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        # A setting that the class does not know is for those that do.
        given = {key: value for key, value in given.items() if key not in SETTINGS or key in parameters}
    if "config" in parameters and "config" not in given:
        given["config"] = config
    try:
        if signature is not None:
            signature.bind(**given)
    except TypeError as error:
        raise ConfigurationError(
            f"{name}: {getattr(implementation, '__name__', implementation)!r} cannot be made from the arguments of"
            f" add_provider: {error}; correct them"
        ) from error
    return implementation(**given)


def is_provider(value: Any) -> bool:
    """Whether something is an object that answers messages, and not a class or a function that makes one."""
    return not isinstance(value, type) and any(hasattr(value, name) for name in ("generate", "complete", "chat"))


def takes_arguments(implementation: Any) -> bool:
    """Whether a class can be given a configuration."""
    signature = _signature(implementation)
    return signature is None or bool(signature.parameters)


def _signature(implementation: Any) -> inspect.Signature | None:
    """What a class or function takes, None where Python cannot tell."""
    try:
        return inspect.signature(implementation)
    except (TypeError, ValueError):
        return None


def _settings(name: str, kwargs: Mapping[str, Any], config: LLMConfig) -> GivenSettings:
    prefix = _prefix(name)
    values: dict[str, Any] = {}
    for field in ("api_url", "api_key", "response_format_file", "use_prompt_caching"):
        found = config.variable_for([f"{prefix}_{field.upper()}"]) if kwargs.get(field) is None else None
        values[field] = kwargs.get(field) if found is None else found[1]
    missing = [field for field in ("api_url", "api_key") if not values[field]]
    if missing:
        variables = " and ".join(f"{prefix}_{field.upper()}" for field in missing)
        raise ConfigurationError(
            f"provider {name!r} has no {' and no '.join(missing)}: set {variables} (environment or .env),"
            f" or add_provider({name!r}, {missing[0]}=...)"
        )
    caching = values["use_prompt_caching"]
    return GivenSettings(
        api_url=str(values["api_url"]),
        api_key=Secret(values["api_key"]) if isinstance(values["api_key"], str) else values["api_key"],
        response_format_file=None if values["response_format_file"] is None else str(values["response_format_file"]),
        use_prompt_caching=caching is not None and yes_or_no(str(caching), f"{prefix}_USE_PROMPT_CACHING"),
    )


def _prefix(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name.upper())


def _is_local(url: Any) -> bool:
    from urllib.parse import urlsplit

    try:
        host = urlsplit(url).hostname or "" if isinstance(url, str) else ""
    except ValueError:
        return False
    return host in ("localhost", "::1") or host.startswith("127.")
