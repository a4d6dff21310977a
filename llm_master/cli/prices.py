"""
``llm-master models update``: newer prices, fetched when they are asked for and kept for this user.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llm_master.cli.terminal import print_json, tell
from llm_master.errors import ConfigurationError, ProviderError
from llm_master.prices.store import LARGEST, VARIABLE, Book, book, data_path, keep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm_master.prices.sheets import Model

__all__ = ["URL", "update_prices"]

#: Where genai-prices publishes its data, seen 2026-11-21.
URL = "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SECONDS = 30
_CHUNK = 65_536


def update_prices(url: str | None, *, json_output: bool) -> None:
    """
    Fetch price data, check it and keep it; nothing changes when any of that fails.

    Raises:
        ConfigurationError: the address is not https, or the user wants no fetched data.
        ProviderError: it cannot be fetched, is too large or no price data.
    """
    address = url or URL
    _check(address)
    path = data_path()
    if path is None:
        raise ConfigurationError(f"{VARIABLE} is off, so fetched prices would not be used; unset it, or give it a path")
    before = book()
    data = _fetched(address)
    try:
        now = keep(data, address, path)
    except ValueError as error:
        raise ProviderError(
            f"what stands at {address} cannot be used: {error}; the prices stay as they were"
        ) from error
    new, changed = _compared(before, now)
    found = {
        "source": now.source,
        "as_of": now.as_of.isoformat(),
        "providers": len(now.sheets),
        "models": sum(len(sheet.models) for sheet in now.sheets.values()),
        "new": new,
        "changed": changed,
        "sha256": hashlib.sha256(data).hexdigest(),
        "path": str(path),
        "before": f"{before.source} of {before.as_of.isoformat()}",
    }
    if json_output:
        print_json(found)
        return
    tell(
        f"prices of {found['models']:,} models at {found['providers']} providers, fetched {found['as_of']}:"
        f" {new} models are new, {changed} have other prices than in {found['before']}; kept in {path}"
    )


def _check(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname in _LOOPBACK:
        return
    raise ConfigurationError(f"prices are fetched over https only, not from {address!r}; give --url https://...")


def _fetched(address: str) -> bytes:
    import requests

    try:
        with requests.get(address, timeout=_SECONDS, stream=True, allow_redirects=False) as answer:
            if answer.status_code != requests.codes.ok:
                raise ProviderError(
                    f"{address} answered {answer.status_code} instead of prices; try again or give --url",
                    status_code=answer.status_code,
                )
            return _bounded(answer.iter_content(_CHUNK), address)
    except requests.RequestException as error:
        raise ProviderError(f"{address} cannot be reached ({type(error).__name__}); try again or give --url") from error


def _bounded(chunks: Iterator[bytes], address: str) -> bytes:
    found = bytearray()
    for chunk in chunks:
        found += chunk
        if len(found) > LARGEST:
            raise ProviderError(
                f"what stands at {address} is larger than {LARGEST // 2**20} MiB; prices are not: check the address"
            )
    return bytes(found)


def _compared(before: Book, now: Book) -> tuple[int, int]:
    """How many models are new, and how many have other prices."""
    old, new = _models(before), _models(now)
    return len(new.keys() - old.keys()), sum(
        (each.prices, each.price_variants) != (old[key].prices, old[key].price_variants)
        for key, each in new.items()
        if key in old
    )


def _models(given: Book) -> dict[tuple[str, str], Model]:
    return {(sheet.id, model.id): model for sheet in given.sheets.values() for model in sheet.models}
