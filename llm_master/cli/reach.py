"""
What ``llm-master doctor`` finds, and its look at the network: DNS, TLS, the time that servers tell, and stores.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    import aiohttp

    from llm_master.config import LLMConfig
    from llm_master.endpoint import Endpoint

__all__ = ["Finding", "authority", "one_line", "origin", "reach_all", "reach_store"]

_PATIENCE = 5.0
# Seconds that a store of limits or answers may take; the calls wait no longer.
_STORE_PATIENCE = 0.1
# Seconds. A minute shows in logs and rate limits; after five a signed request is refused.
_ODD_CLOCK, _WRONG_CLOCK = 60.0, 300.0


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at; ``state`` is ``ok``, ``off`` (not set up, no harm), ``warn`` or ``bad``."""

    check: str
    state: str
    detail: str


def one_line(text: str) -> str:
    """A text of a file as a terminal may show it: what is not printable is escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def authority(address: str) -> str:
    """Host and port of an address, the usual port left out."""
    from yarl import URL

    return URL(address, encoded=True).host_port_subcomponent or address


def origin(address: str) -> str:
    """The part of an address that is reached for."""
    from yarl import URL

    return str(URL(address, encoded=True).origin()) + "/"


async def reach_all(reach: Iterable[tuple[str, str]]) -> list[Finding]:
    """Whether addresses, each with a name for the findings, answer, and whether this machine's clock is right."""
    import asyncio

    import aiohttp

    skews: list[float] = []
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        found = await asyncio.gather(*(_reach(session, name, address, skews) for name, address in reach))
    return [*(finding for each in found for finding in each), _clock(skews)]


async def _reach(session: aiohttp.ClientSession, name: str, address: str, skews: list[float]) -> list[Finding]:
    """DNS, then the connection (with TLS where the address says so) and the server's date."""
    from yarl import URL

    from llm_master.endpoint import Endpoint

    endpoint = Endpoint(origin(address), {}, provider=name, model="")
    first = URL(endpoint.proxy) if endpoint.proxy else endpoint.url
    found = await _step(f"{name} DNS", _names(first), f"{first.host}: check the network and the address")
    if found.state == "bad":
        return [found]
    secure = endpoint.url.scheme == "https"
    hint = "check the clock, the CA certificates (SSL_CERT_FILE), the proxy" if secure else "check the address"
    check = f"{name} {'TLS' if secure else 'connection'}"
    return [found, await _step(check, _head(session, endpoint, skews), f"{endpoint.url.authority}: {hint}")]


async def _step(check: str, work: Awaitable[str], hint: str) -> Finding:
    import asyncio

    import aiohttp

    try:
        async with asyncio.timeout(_PATIENCE):
            return Finding(check, "ok", await work)
    except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
        cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
        why = str(cause) or f"no answer in {_PATIENCE:g} s"
        return Finding(check, "bad", f"{why}; {hint}")


async def _names(url: Any) -> str:
    import asyncio
    import socket

    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    return f"{url.host} is {addresses[0][4][0]}"


async def _head(session: aiohttp.ClientSession, endpoint: Endpoint, skews: list[float]) -> str:
    import contextlib
    from email.utils import parsedate_to_datetime

    async with session.head(endpoint.url, proxy=endpoint.proxy, allow_redirects=False) as response:
        with contextlib.suppress(ValueError, KeyError):
            skews.append(time.time() - parsedate_to_datetime(response.headers["Date"]).timestamp())
    return f"{endpoint.url.authority} answers{' through the proxy' if endpoint.proxy else ''}"


def _clock(skews: list[float]) -> Finding:
    if not skews:
        return Finding("clock", "off", "no provider told the time to compare with")
    skew = sorted(skews)[len(skews) // 2]
    seen = f"{skew:+.0f} s against {len(skews)} provider{'s' * (len(skews) > 1)}"
    if abs(skew) <= _ODD_CLOCK:
        return Finding("clock", "ok", seen)
    state = "bad" if abs(skew) > _WRONG_CLOCK else "warn"
    return Finding("clock", state, f"{seen}: certificates and signatures depend on it; set the clock (NTP)")


async def reach_store(what: str, variable: str, config: LLMConfig, *, ask: bool = True) -> Finding:
    """
    Whether a Redis or Valkey answers as fast as the calls need it; its password is shown nowhere.

    Args:
        what: what it is for.
        variable: the environment variable with its address.
        ask: whether it is asked, or only its address looked at.
    """
    check = f"{what} store"
    url = os.environ.get(variable) or config.dotenv_values.get(variable)
    if not url:
        return Finding(check, "bad", f"{variable} is not set; set it to the address of a Redis or Valkey")
    place = _store_place(url)
    if place is None:
        wanted = "redis://HOST:PORT/0, rediss://HOST:PORT/0 or unix:///PATH"
        return Finding(check, "bad", f"the address in {variable} cannot be read; write {wanted}")
    if not ask:
        return Finding(check, "ok", f"{place}, from {variable}")
    problem, seconds = await _ping(url, variable)
    detail = f"{place} answered in {seconds * 1000:.0f} ms" if problem is None else f"{place} {problem}"
    return Finding(check, "ok" if problem is None else "bad", detail)


def _store_place(url: str) -> str | None:
    """A store's address without user, password and query; None when it is none."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme == "unix" and parts.path:
        return one_line(parts.path)
    if parts.scheme not in ("redis", "rediss"):
        return None
    return one_line(f"{parts.hostname or 'localhost'}:{port or 6379}")


async def _ping(url: str, variable: str) -> tuple[str | None, float]:
    """What is wrong with a store, None when nothing is, and the seconds that its answer took."""
    import asyncio

    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError
    except ModuleNotFoundError:
        return "needs the redis extra: pip install 'llm-master[redis]'", 0.0
    try:
        client = Redis.from_url(url, retry=Retry(NoBackoff(), 0))
    except ValueError:
        return f"has an address in {variable} that cannot be read; correct it", 0.0
    began = time.monotonic()
    try:
        async with asyncio.timeout(_STORE_PATIENCE):
            await client.ping()
    except TimeoutError:
        return f"did not answer in {_STORE_PATIENCE * 1000:.0f} ms; check that it runs and is near", 0.0
    except (OSError, RedisError) as error:
        # Not the error's text: that may hold the address with its password.
        return f"failed ({type(error).__name__}); check that it runs, and the address in {variable}", 0.0
    finally:
        await client.aclose()
    return None, time.monotonic() - began
