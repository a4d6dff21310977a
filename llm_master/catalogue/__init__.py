"""
The shipped tables: one row of data for each provider, and the names of the models known of it.

Every row names what it was read from and the day it was checked.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from llm_master.built import build

__all__ = [
    "FactsFile",
    "KnownModels",
    "ModelFacts",
    "load_facts",
    "load_models",
    "load_operations",
    "load_prices",
    "load_rows",
]

# One file a kind of provider: vendors and servers that most people use, other vendors, hosts of other vendors' models,
# clouds whose address depends on an account, and services of images.
_FILES = (
    "providers.json",
    "providers_vendors.json",
    "providers_hosts.json",
    "providers_clouds.json",
    "providers_images.json",
)
# What models take: first what their makers say, wherever they are served; then what single providers say.
_FACTS = ("capabilities.json", "capabilities_hosts.json")
# What price sheets lack: rules of tiers, places and hours first, then things and models priced by the piece.
_PRICES = ("prices.json", "prices_items.json")
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


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What is known of a model beside its parameters; None where no source says.

    Attributes:
        context: tokens of input and answer together (of the input alone where the source counts only that).
        max_output: tokens of one answer at most, reasoning included.
        images, audio, video, files: whether it reads them.
        outputs: what it gives where that is not text alone.
        retires_on: the day on which the provider stops serving it, ``2026-12-11``.
        successor: what the provider names in its place.
        family: whether these are the cautious values for names of a family that no other entry fits; nothing is refused
            by them.
        sources: names of entries in the file's ``sources``.
    """

    context: int | None = None
    max_output: int | None = None
    images: bool | None = None
    audio: bool | None = None
    video: bool | None = None
    files: bool | None = None
    outputs: tuple[str, ...] | None = None
    retires_on: str | None = None
    successor: str | None = None
    family: bool = False
    sources: tuple[str, ...] = msgspec.field(name="from")


class _Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str
    checked: str


class FactsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One file of facts: ``sources`` by name, and ``models``: provider (``*``: any) -> name or part of it -> facts.

    A name stands as ``model_facts.plain`` writes it.
    """

    sources: dict[str, _Source]
    models: dict[str, dict[str, ModelFacts]]


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
        for field in ("chat", "messages", "responses", "gemini", "cohere", "bedrock", "images"):
            if "like" in row.get(field, ()):
                own = dict(row[field])
                row[field] = {**rows[own.pop("like")][field], **own}
    return rows


def load_models() -> dict[str, KnownModels]:
    """The known models by the key of their provider; read anew at each call."""
    build(KnownModels)
    return msgspec.json.decode(_read("models.json"), type=dict[str, KnownModels])


def load_facts() -> tuple[FactsFile, ...]:
    """What models take, the makers' file first; read anew at each call."""
    build(FactsFile)
    return tuple(msgspec.json.decode(_read(name), type=FactsFile) for name in _FACTS)


def load_operations() -> dict[str, dict[str, Any]]:
    """What providers serve beside chat, by their key, as plain dicts; read anew at each call."""
    return msgspec.json.decode(_read("operations.json"), type=dict[str, dict[str, Any]])


def load_prices() -> tuple[bytes, ...]:
    """The files of prices as they are, the rules first; read anew at each call."""
    return tuple(_read(name) for name in _PRICES)


def _read(name: str) -> bytes:
    with open(f"{_FOLDER}/{name}", "rb") as file:  # noqa: PTH123  # see _FOLDER
        return file.read()
