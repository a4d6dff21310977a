"""
What one section of the settings file comes to, checked.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from llm_master.classes import ModelConfig
from llm_master.redaction import Secret

__all__ = ["CacheSettings", "Deployment", "Fallback", "LedgerSettings", "ModelSettings", "ProviderSettings"]


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where a provider is and which environment variable holds its key; None keeps the shipped one.

    ``response_format_file`` and ``use_prompt_caching`` hold for all its calls; see ``presets.py``.
    """

    base_url: str | None = None
    api_url: str | None = None
    api_key_env: str | None = None
    response_format_file: str | None = None
    use_prompt_caching: bool | None = None


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """
    One of several places that serve a model.

    ``name`` is ``MODEL#1`` and so on when the file gives none; ``provider`` and ``model`` are those of the model then.
    ``weight`` is its share of the calls beside the weights of the others. ``api_key`` is for code; a file names a
    variable in ``api_key_env``.
    """

    name: str = ""
    provider: str | None = None
    model: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    api_key: str | None = None
    weight: float = 1.0
    rate_limit_rpm: int | None = None
    rate_limit_tpm: int | None = None
    max_concurrency: int | None = None

    def __post_init__(self) -> None:
        """Keep a key so that no text of this object shows it."""
        if self.api_key is not None:
            msgspec.structs.force_setattr(self, "api_key", Secret(self.api_key))


class Fallback(msgspec.Struct, frozen=True):
    """Where to go when a model fails, with the only parameters that it gets."""

    model: str
    params: dict[str, Any] = {}


class ModelSettings(msgspec.Struct, frozen=True):
    """What the file says of one model."""

    config: ModelConfig
    deployments: tuple[Deployment, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """
    The response cache; ``ttl`` is in seconds, None for ever.

    ``path`` is the file of ``sqlite``, ``redis_url_env`` names the variable with the address of ``redis``.
    """

    kind: str
    ttl: float | None = 3600.0
    max_entries: int = 10_000
    path: str | None = None
    redis_url_env: str | None = None


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """
    The ledger; see ``ledger.store.Ledger`` for what each means.

    ``mode`` is also ``off``; None is ``relaxed``, unless ``LLM_MASTER_LEDGER`` is ``off`` and no ``path`` is given.
    ``path`` None is ``Ledger.default_path()``. ``postgres_url_env`` names the variable with the address of the
    PostgreSQL that gets every row too.
    """

    mode: Literal["relaxed", "strict", "off"] | None = None
    path: str | None = None
    on_failure: Literal["serve", "refuse"] = "serve"
    contents: bool = False
    max_bytes: int | None = None
    postgres_url_env: str | None = None
