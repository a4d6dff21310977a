"""
Which store keeps the limits and budgets of a client.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from llm_master.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LIMITS_VARIABLE", "REDIS_VARIABLE", "default_path", "limiter_of"]

#: The variable with the address of a Redis or Valkey that shares all limits, unless the settings name another.
REDIS_VARIABLE = "LLM_MASTER_REDIS_URL"
#: The variable with the store of limits and budgets: ``sqlite:PATH``, ``redis://...`` or ``memory``.
LIMITS_VARIABLE = "LLM_MASTER_LIMITS"

_REDIS = ("redis://", "rediss://", "unix://")


def default_path() -> str:
    """The file of budgets where nothing else is named, in the folder of the ledger's usual file."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join("~", ".local", "state")  # noqa: PTH118  # pathlib makes starts slower
    return os.path.join(state, "llm_master", "limits.sqlite3")  # noqa: PTH118  # as above


def limiter_of(
    options: Mapping[str, Any], dotenv: Mapping[str, str], *, budgets: bool, memory: Callable[[], Any]
) -> Any:
    """
    The limiter of a client: what its arguments name, then its settings file, then the environment.

    Where nothing is named, limits hold for this process. Budgets must outlive it and hold for the others, so with them
    it is a file.

    Args:
        options: the arguments of ``QueryLLM`` by name, and ``settings``.
        dotenv: what the ``.env`` file holds.
        budgets: whether there are any.
        memory: gives the limiter of this process.

    Raises:
        ConfigurationError: a store that is none, or a variable that is not set.
    """
    store, url = options.get("limits_store"), options.get("redis_url")
    if store is not None and url is not None:
        raise ConfigurationError("limits_store and redis_url both name a store of the limits; give one of them")
    settings = options.get("settings")
    named = settings.redis_url_env if settings is not None else None
    if store is None and url is None and settings is not None and named is not None:
        url = os.environ.get(named) or dotenv.get(named)
        if not url:
            raise ConfigurationError(f"{settings.path}: redis_url_env names {named}, which is not set; set it")
    if store is None and url is None:
        store = os.environ.get(LIMITS_VARIABLE) or dotenv.get(LIMITS_VARIABLE)
        url = os.environ.get(REDIS_VARIABLE) or dotenv.get(REDIS_VARIABLE) if not store else None
    if store:
        return _limiter_at(store, memory)
    if url:
        return _redis(url)
    return _limiter_at(f"sqlite:{default_path()}", memory) if budgets else memory()


def _limiter_at(store: Any, memory: Callable[[], Any]) -> Any:
    text = store if isinstance(store, str) else ""
    if text == "memory":
        return memory()
    kind, _, path = text.partition(":")
    if kind == "sqlite" and path:
        from llm_master.policy.limits_sqlite import limiter_at

        return limiter_at(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111  # as above
    if text.startswith(_REDIS):
        return _redis(text)
    # Not the text itself, which may be an address with a password.
    raise ConfigurationError(
        f"limits_store= (or {LIMITS_VARIABLE}) names no store of limits; give 'sqlite:PATH', 'redis://HOST:PORT/0' or"
        " 'memory'"
    )


def _redis(url: str) -> Any:
    from llm_master.policy.limits_redis import RedisLimiter

    return RedisLimiter(url)
