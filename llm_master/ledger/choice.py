"""
Which ledger a client keeps: what its argument says, then its settings file, then the environment.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from llm_master.errors import ConfigurationError
from llm_master.ledger.alarm import say
from llm_master.ledger.store import Ledger, no_place
from llm_master.settings_parts import LedgerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ledger_of", "postgres_of"]


def ledger_of(given: Any, settings: Any, dotenv: Mapping[str, str], *, quiet: bool = False) -> Ledger | None:
    """
    The ledger of a client, None when it is switched off.

    ``LLM_MASTER_LEDGER`` only says where it is when nobody else does; ``off`` there switches it off unless a mode or a
    path was named.

    Args:
        given: the argument of ``QueryLLM``: a ``Ledger``, or a mode, which leaves the rest to the file.
        settings: a checked settings file or None.
        dotenv: what the ``.env`` file holds, for the address of the PostgreSQL.
        quiet: whether nothing is said when there is none that nobody has switched off.

    Raises:
        ConfigurationError: it is none of what ``QueryLLM`` takes, a variable that is not set, or a missing extra.
    """
    if isinstance(given, Ledger):
        return given
    if given is False:
        given = "off"
    if given is not None and given not in ("relaxed", "strict", "off"):
        raise ConfigurationError(f"ledger={given!r}: give 'relaxed', 'strict', 'off' or a Ledger(path)")
    named: LedgerSettings = (settings.ledger if settings is not None else None) or LedgerSettings()
    mode: Literal["relaxed", "strict", "off"] | None = given or named.mode
    if mode == "off":
        return None
    if named.path is None and Ledger.default_path() is None:
        if mode is None:
            if not quiet and not os.environ.get("LLM_MASTER_LEDGER"):
                _say_homeless()
            return None
        who = f"ledger={given!r}" if given else f'{settings.path}: mode = "{mode}"'
        raise ConfigurationError(f"{who} asks for a ledger, and {no_place()}; name a path")
    return Ledger(
        named.path,
        mode=mode or "relaxed",
        on_failure=named.on_failure,
        contents=named.contents,
        max_bytes=named.max_bytes,
        postgres=postgres_of(settings, dotenv),
    )


@cache
def _say_homeless() -> None:
    """Once a process."""
    say(logging.WARNING, f"{no_place()}: calls are not written down; name a file in LLM_MASTER_LEDGER, or off")


def postgres_of(settings: Any, dotenv: Mapping[str, str]) -> str | None:
    """
    The address of the PostgreSQL that a settings file names, None for none.

    Raises:
        ConfigurationError: its variable is not set.
    """
    named: LedgerSettings | None = settings.ledger if settings is not None else None
    variable = named.postgres_url_env if named is not None else None
    if variable is None:
        return None
    address = os.environ.get(variable) or dotenv.get(variable)
    if not address:
        raise ConfigurationError(f"{settings.path}: postgres_url_env names {variable}, which is not set; set it")
    return address
