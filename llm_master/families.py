"""
The API families: the module of each, and the dialect that a row speaks it in.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.addresses import given_url, is_address_of
from llm_master.errors import ConfigurationError

if TYPE_CHECKING:
    from llm_master.config import LLMConfig
    from llm_master.rows import ProviderRow

__all__ = ["FAMILIES", "dialect_of", "family_for", "family_of", "target_class"]

#: API family -> the module with its three verbs, and the field of the row that holds its dialect.
FAMILIES: dict[str, tuple[str, str]] = {
    "openai_chat": ("llm_master.wire.openai_chat", "chat"),
    "anthropic_messages": ("llm_master.wire.anthropic_messages", "messages"),
    "openai_responses": ("llm_master.wire.openai_responses", "responses"),
    "gemini": ("llm_master.wire.gemini", "gemini"),
    "cohere": ("llm_master.wire.cohere", "cohere"),
    "bedrock": ("llm_master.wire.bedrock", "bedrock"),
    "openai_images": ("llm_master.wire.openai_images", "images"),
    "polling": ("llm_master.wire.polling", "polling"),
}
# Families whose requests are more than a body sent to one address: the class of their targets.
_TARGETS = {"openai_images": "llm_master.providers.images:ImagesTarget"}
# Dialects that are read on first use: family -> module and class.
_LATE = {
    "openai_responses": ("llm_master.dialect_responses", "ResponsesDialect"),
    "gemini": ("llm_master.dialect_gemini", "GeminiDialect"),
    "cohere": ("llm_master.dialect_cohere", "CohereDialect"),
    "bedrock": ("llm_master.dialect_bedrock", "BedrockDialect"),
    "openai_images": ("llm_master.dialect_images", "ImagesDialect"),
    "polling": ("llm_master.dialect_images", "PollingDialect"),
}
_DIALECTS: dict[tuple[int, str], tuple[Any, Any]] = {}
_API_NAMES = {
    "chat": "openai_chat",
    "messages": "anthropic_messages",
    "responses": "openai_responses",
    "converse": "bedrock",
    "images": "openai_images",
}


def family_for(row: ProviderRow, config: LLMConfig, api: str | None, model: str) -> str:
    """
    The family that serves a model: the one asked for, the model's own, the one that the user's own address is of, else
    the row's first.

    Raises:
        ConfigurationError: the row does not serve ``api``, or the user's address is no URL.
    """
    if api is not None or (len(row.families) == 1 and not row.model_families):
        return family_of(row, api)
    if row.model_families:
        name = model.lower()
        part = max((part for part in row.model_families if part in name), key=len, default=None)
        if part is not None:
            return row.model_families[part]
    given = given_url(row, config)
    if given is None:
        return row.families[0]
    url, is_full = given
    rest = row.families if is_full else row.families[1:]
    return next((family for family in rest if is_address_of(row, url, family, full=is_full)), row.families[0])


def family_of(row: ProviderRow, api: str | None) -> str:
    """
    The family that ``api=`` means for a row, its first one for None.

    Raises:
        ConfigurationError: the row does not serve it.
    """
    if api is None:
        return row.families[0]
    wanted = _API_NAMES.get(api, api)
    if wanted in row.families or wanted in row.model_families.values():
        return wanted
    raise ConfigurationError(f"{row.name} does not serve api={api!r}; it serves {', '.join(row.families)}")


def target_class(row: ProviderRow, config: LLMConfig, api: str | None, model: str) -> Any:
    """The class of a model's target where it is not the usual one: the row's own, or the family's; else None."""
    name = row.implementation or _TARGETS.get(family_for(row, config, api, model))
    if name is None:
        return None
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def dialect_of(row: ProviderRow, family: str) -> Any:
    """A row's dialect of one family; those that are read late are checked here, once a row."""
    field = FAMILIES[family][1]
    given = getattr(row, field)
    if family not in _LATE:
        return given
    known = _DIALECTS.get((id(given), family))
    if known is None:
        module, name = _LATE[family]
        try:
            found = msgspec.convert(given, getattr(importlib.import_module(module), name))
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"provider {row.name!r}: its {field} dialect is wrong: {error}") from error
        # The row's own dict is held, so that its id cannot come to mean another one.
        known = _DIALECTS[(id(given), family)] = (given, found)
    return known[1]
