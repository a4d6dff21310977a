"""
Answers kept for requests that are equal in everything.

The cache is off unless it is asked for. A request has a key, the digest of all that could change its answer; an answer
has a form that any process can read back. Where they are kept is a store of one of three kinds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from llm_master.errors import ConfigurationError
from llm_master.policy.cache_entry import decode, encode, is_cacheable, is_plain
from llm_master.policy.cache_memory import MemoryStore
from llm_master.policy.cache_redis import RedisStore
from llm_master.policy.cache_sqlite import SqliteStore

if TYPE_CHECKING:
    from llm_master.classes import LLMResponse
    from llm_master.settings_parts import CacheSettings

__all__ = ["MemoryStore", "RedisStore", "ResponseCache", "SqliteStore", "Store", "cache_key", "is_cacheable"]


def _as_base(value: Any) -> Any:
    """The plain value of a subclass that msgspec does not take, such as a Secret or numpy's float64."""
    if isinstance(value, str):
        return str.__str__(value)
    return float.__float__(value) if isinstance(value, float) else int.__int__(value)


_CANONICAL = msgspec.msgpack.Encoder(order="deterministic", enc_hook=_as_base)
_VERSION = 1


class Store(Protocol):
    """Where values are kept; a failure of the store is a miss and never an error."""

    async def get(self, key: str) -> bytes | None:
        """The value, None when there is none that is still valid."""

    async def put(self, key: str, value: bytes, ttl: float | None) -> None:
        """Keep a value for ``ttl`` seconds; None is for as long as the store likes."""

    async def aclose(self) -> None:
        """Release what the running event loop holds of the store."""


def cache_key(
    identity: str,
    messages: Any,
    params: Mapping[str, Any],
    tenant: str | Iterable[str] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    more: Any = None,
) -> str | None:
    """
    The key of a request: 64 hex digits that tell nothing of it.

    Two requests have the same key only if they are equal in everything; the order of a dict's keys, of tags and of
    headers does not count, nor whether a sequence is a list or a tuple. 1, 1.0 and True differ.

    Args:
        identity: what is asked, as the caller composes it: address, provider, model, API family, key's public id.
        messages: normalised; bytes in them are allowed.
        params: all of them.
        tenant: tags of the caller between whom nothing is shared.
        headers: the extra headers that may change the answer; their names count in any case.
        more: whatever else may change the answer, such as ``drop_params``.

    Returns:
        None for a request that must not be cached: something in it has no single encoding, such as a function, a
        class, a set, an object, a dict with keys that are no text, or an integer of more than 64 bits.
    """
    try:
        tags = [tenant] if isinstance(tenant, str) else sorted(set(tenant or ()))
        named = sorted((name.lower(), value) for name, value in (headers or {}).items())
        whole = [_VERSION, identity, messages, dict(params), tags, named, more]
        return hashlib.sha256(_CANONICAL.encode(whole)).hexdigest() if is_plain(whole) else None
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


class ResponseCache:
    """
    Answers by key.

    Args:
        store: where they are kept.
        ttl: seconds that an answer stays valid; None or infinity: for as long as the store keeps it.

    Raises:
        ConfigurationError: ``ttl`` is not above 0.
    """

    def __init__(self, store: Store, ttl: float | None = 3600.0) -> None:
        if ttl is not None and not ttl > 0.0:
            raise ConfigurationError(f"ttl={ttl!r} of the cache: give a number of seconds above 0, or None for no end")
        self.store = store
        self.ttl = None if ttl is None or math.isinf(ttl) else ttl

    @classmethod
    def of(cls, settings: CacheSettings, environ: Mapping[str, str]) -> ResponseCache:
        """
        The cache that the settings describe; nothing is opened before the first call.

        Raises:
            ConfigurationError: an unknown kind, or the address or file that it needs is missing.
        """
        return cls(_store(settings, environ), settings.ttl)

    async def get(self, key: str, *, model_name: str = "") -> LLMResponse | None:
        """
        The answer kept under a key, None when there is none.

        It says ``cached``, cost exactly 0, and has no attempts; its latency is the caller's to set.

        Args:
            model_name: the name as asked this time.
        """
        data = await self.store.get(key)
        return None if data is None else decode(key, data, model_name)

    async def put(self, key: str, response: LLMResponse, *, secrets: Iterable[str] = ()) -> None:
        """
        Keep an answer, if ``is_cacheable`` says that it is worth it.

        Args:
            secrets: the caller's keys; an answer that repeats one is not kept.
        """
        if is_cacheable(response) and not response.cached:
            data = encode(key, response, secrets)
            if data is not None:
                await self.store.put(key, data, self.ttl)

    async def aclose(self) -> None:
        """Release what the running event loop holds of the store."""
        await self.store.aclose()


def _store(settings: CacheSettings, environ: Mapping[str, str]) -> Store:
    kind = settings.kind
    if kind == "memory":
        return MemoryStore(settings.max_entries)
    if kind == "sqlite":
        if not settings.path:
            raise ConfigurationError('a cache of kind = "sqlite" needs path, the name of its file')
        return SqliteStore(settings.path, settings.max_entries)
    if kind == "redis":
        url = environ.get(settings.redis_url_env or "", "")
        if not url:
            raise ConfigurationError(
                f'a cache of kind = "redis" needs its address in {settings.redis_url_env or "redis_url_env"};'
                " set that environment variable"
            )
        return RedisStore(url)
    raise ConfigurationError(f'unknown kind of cache {kind!r}; it is "memory", "sqlite" or "redis"')
