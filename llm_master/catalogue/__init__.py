"""
The shipped tables: one row of data for each provider, and the names of the models known of it.

Every row names what it was read from and the day it was checked.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

__all__ = ["KnownModels", "load_models", "load_rows"]

# One file a kind of provider: vendors and servers that most people use, other vendors, hosts of other vendors' models,
# clouds whose address depends on an account, and services of images.
_FILES = (
    "providers.json",
    "providers_vendors.json",
    "providers_hosts.json",
    "providers_clouds.json",
    "providers_images.json",
)
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
    """
    The shipped provider rows by key, as plain dicts that ``ProviderRow.parse`` takes; read anew at each call.

    A dialect ``{"like": "openai", ...}`` in a file is that of the other row, which stands in full, with its own fields
    in place of equal ones.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name in _FILES:
        rows.update(msgspec.json.decode(_read(name), type=dict[str, dict[str, Any]]))
    for row in rows.values():
        for field in ("chat", "messages", "responses", "gemini", "cohere", "bedrock"):
            if "like" in row.get(field, ()):
                own = dict(row[field])
                row[field] = {**rows[own.pop("like")][field], **own}
    return rows


def load_models() -> dict[str, KnownModels]:
    """The known models by the key of their provider; read anew at each call."""
    return msgspec.json.decode(_read("models.json"), type=dict[str, KnownModels])


def _read(name: str) -> bytes:
    with open(f"{_FOLDER}/{name}", "rb") as file:  # noqa: PTH123  # see _FOLDER
        return file.read()
