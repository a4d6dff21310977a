"""
``llm-master models update``: newer prices, fetched when they are asked for and kept for this user.
"""

from __future__ import annotations

import asyncio
import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llm_master.cli.terminal import print_json, print_table, tell
from llm_master.errors import ConfigurationError, ProviderError
from llm_master.prices.store import LARGEST, VARIABLE, Book, book, checked, data_path, keep

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiohttp

    from llm_master.prices.sheets import Model, Price

__all__ = ["URL", "update_prices"]

#: Where genai-prices publishes its data, seen 2026-11-21.
URL = "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
#: Seconds that the whole of it may take.
SECONDS = 60.0
_CHUNK = 65_536
_OK = 200
#: Changes that are printed at most; ``--json`` has all of them.
_SHOWN = 40
_COLUMNS = ("model", "price", "before", "now")


def update_prices(url: str | None, *, json_output: bool, check: bool = False) -> None:
    """
    Fetch price data, check it and keep it; nothing changes when any of that fails.

    Args:
        url: where from, None for the usual place.
        json_output: print everything as JSON.
        check: say what would change, and keep nothing.

    Raises:
        ConfigurationError: the address is not https, the user wants no fetched data, or they cannot be written.
        ProviderError: it cannot be fetched, is too large, no price data, or worse than what is there.
    """
    address = url or URL
    shown = _check(address)
    path = data_path()
    if path is None and not check:
        raise ConfigurationError(f"{VARIABLE} is off, so fetched prices would not be used; unset it, or give it a path")
    before = book()
    data = asyncio.run(_fetched(address, shown))
    try:
        now = checked(data, shown)
        _check_worth(before, now)
        if path is not None and not check:
            now = keep(data, shown, path)
    except ValueError as error:
        raise ProviderError(f"what stands at {shown} cannot be used: {error}; the prices stay as they were") from error
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror or error}); set {VARIABLE} to another path"
        ) from error
    new, gone, changes = _compared(before, now)
    changed = len({change["model"] for change in changes})
    found = {
        "source": now.source,
        "as_of": now.as_of.isoformat(),
        "providers": len(now.sheets),
        "models": sum(len(sheet.models) for sheet in now.sheets.values()),
        "new": new,
        "gone": gone,
        "changed": changes,
        "sha256": hashlib.sha256(data).hexdigest(),
        "path": None if check else str(path),
        "before": f"{before.source} of {before.as_of.isoformat()}",
    }
    if json_output:
        print_json(found)
        return
    print_table(_COLUMNS, changes[:_SHOWN])
    if len(changes) > _SHOWN:
        tell(f"{len(changes) - _SHOWN} more prices differ; --json has all of them")
    tell(
        f"prices of {found['models']:,} models at {found['providers']} providers, fetched {found['as_of']}:"
        f" {len(new)} models are new, {len(gone)} are gone, {changed} have other prices than in {found['before']};"
        f" {'nothing was kept' if check else f'kept in {path}'}"
    )


def _check(address: str) -> str:
    """The address as it may be shown and kept: without what may be a secret."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or not (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)):
        raise ConfigurationError("prices are fetched over https only; give --url https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("an address of prices holds no user and no password; give --url https://HOST/PATH")
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}{parts.path}"


async def _fetched(address: str, shown: str) -> bytes:
    import aiohttp
    import yarl

    from llm_master.endpoint import proxy_for

    headers = {"Accept": "application/json", "User-Agent": "llm-master"}
    url = yarl.URL(address)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS), headers=headers) as session,
            session.get(url, allow_redirects=False, proxy=proxy_for(url)) as answer,
        ):
            if answer.status != _OK:
                raise ProviderError(
                    f"{shown} answered {answer.status} instead of prices; try again or give --url",
                    status_code=answer.status,
                )
            return await _bounded(answer, shown)
    except TimeoutError as error:
        raise ProviderError(f"{shown} did not answer within {SECONDS:g} seconds; try again or give --url") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ProviderError(
            f"{shown} cannot be reached ({type(error).__name__}); check the network and the proxy, or give --url"
        ) from error


async def _bounded(answer: aiohttp.ClientResponse, shown: str) -> bytes:
    found = bytearray()
    async for chunk in answer.content.iter_chunked(_CHUNK):
        found += chunk
        if len(found) > LARGEST:
            raise ProviderError(
                f"what stands at {shown} is larger than {LARGEST // 2**20} MiB; prices are not: check the address"
            )
    return bytes(found)


# -- what is another one ----------------------------------------------------------------------------------------------


def _check_worth(before: Book, now: Book) -> None:
    """Refuse data that has lost most of what is known; raises ValueError."""
    known, found = (sum(1 for model in _models(each).values() if _priced(model)) for each in (before, now))
    if 2 * found < known:
        raise ValueError(f"it has prices of {found:,} models, and {before.source} of {known:,}")


def _priced(model: Model) -> bool:
    return any(period.prices for period in model.periods())


def _compared(before: Book, now: Book) -> tuple[list[str], list[str], list[dict[str, str]]]:
    """The models that are new, those that are gone, and each price that is another one."""
    old, new = _models(before), _models(now)
    changes = [
        {"model": name, "price": key, "before": was, "now": now}
        for name, model in sorted(new.items())
        if name in old and (model.prices, model.price_variants) != (old[name].prices, old[name].price_variants)
        for key, was, now in _changes(old[name], model)
    ]
    return sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys()), changes


def _changes(old: Model, new: Model) -> Iterator[tuple[str, str, str]]:
    was, now = _texts(old), _texts(new)
    for key in sorted(was.keys() | now.keys()):
        if was.get(key) != now.get(key):
            yield key, was.get(key, "-"), now.get(key, "-")


def _texts(model: Model) -> dict[str, str]:
    """Every price of a model, by what it is for."""
    found = {}
    parts = [("", period) for period in model.periods()]
    parts += [(" ".join(variant.when.values()) + " ", variant) for variant in model.price_variants]  # type: ignore[misc]  # alike
    for word, part in parts:
        held = part.constraint
        since = "" if held is None else f" from {held.start_date or held.start_time}"
        for key, price in part.prices.items():
            found[f"{word}{key}{since}"] = _text(price)
    return found


def _text(price: Price) -> str:
    if isinstance(price, Decimal):
        return f"{price:f}"
    return ", ".join((f"{price.base:f}", *(f"{step.price:f} over {step.start}" for step in price.tiers)))


def _models(given: Book) -> dict[str, Model]:
    return {f"{sheet.id}/{model.id}": model for sheet in given.sheets.values() for model in sheet.models}
