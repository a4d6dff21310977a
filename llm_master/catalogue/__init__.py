"""
The shipped tables: one row of data for each provider, and the names of the models known of it.

Every row names what it was read from and the day it was checked.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

__all__ = ["KnownModels", "load_models", "load_rows"]

# pathlib would cost 6 ms of the 50 that `import llm_master` may take; os is loaded anyway.
_FOLDER = os.path.dirname(__file__)  # noqa: PTH120  # see above


class KnownModels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Names of models that a provider serves, for suggestions and listings; others work as well.

    Attributes:
        models: the names as they are sent to the provider.
        retired: names that the provider no longer serves; they still route and have a price.
        source, checked: where the names come from and the day they were checked.
    """

    models: tuple[str, ...]
    retired: tuple[str, ...] = ()
    source: str
    checked: str


def load_rows() -> dict[str, dict[str, Any]]:
    """The shipped provider rows by key, as plain dicts that ``ProviderRow.parse`` takes; read anew at each call."""
    return msgspec.json.decode(_read("providers.json"), type=dict[str, dict[str, Any]])


def load_models() -> dict[str, KnownModels]:
    """The known models by the key of their provider; read anew at each call."""
    return msgspec.json.decode(_read("models.json"), type=dict[str, KnownModels])


def _read(name: str) -> bytes:
    with open(f"{_FOLDER}/{name}", "rb") as file:  # noqa: PTH123  # see _FOLDER
        return file.read()
