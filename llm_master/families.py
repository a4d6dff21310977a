"""
The API families: the module of each, and the dialect that a row speaks it in.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.errors import ConfigurationError

if TYPE_CHECKING:
    from llm_master.rows import ProviderRow

__all__ = ["FAMILIES", "dialect_of", "family_of"]

#: API family -> the module with its three verbs, and the field of the row that holds its dialect.
FAMILIES: dict[str, tuple[str, str]] = {
    "openai_chat": ("llm_master.wire.openai_chat", "chat"),
    "anthropic_messages": ("llm_master.wire.anthropic_messages", "messages"),
    "openai_responses": ("llm_master.wire.openai_responses", "responses"),
    "gemini": ("llm_master.wire.gemini", "gemini"),
    "cohere": ("llm_master.wire.cohere", "cohere"),
    "bedrock": ("llm_master.wire.bedrock", "bedrock"),
}
# Dialects that are read on first use: family -> module and class.
_LATE = {
    "openai_responses": ("llm_master.dialect_responses", "ResponsesDialect"),
    "gemini": ("llm_master.dialect_gemini", "GeminiDialect"),
    "cohere": ("llm_master.dialect_cohere", "CohereDialect"),
    "bedrock": ("llm_master.dialect_bedrock", "BedrockDialect"),
}
_DIALECTS: dict[tuple[int, str], tuple[Any, Any]] = {}
_API_NAMES = {
    "chat": "openai_chat",
    "messages": "anthropic_messages",
    "responses": "openai_responses",
    "converse": "bedrock",
}


def family_of(row: ProviderRow, api: str | None) -> str:
    """
    The family that ``api=`` means for a row, its first one for None.

    Raises:
        ConfigurationError: the row does not serve it.
    """
    if api is None:
        return row.families[0]
    wanted = _API_NAMES.get(api, api)
    if wanted in row.families:
        return wanted
    raise ConfigurationError(f"{row.name} does not serve api={api!r}; it serves {', '.join(row.families)}")


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
