"""
Fetching a URL on a user's behalf, for a provider that does not.

Each hop is resolved once, every address of it is checked, and the connection goes to those addresses and no other, so
that a name cannot change its meaning between check and use. The name stays in SNI and Host.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from llm_master.fetch_rules import FetchError, FetchPolicy, Place, check_address, failed, place_of
from llm_master.file_input import sniff_audio
from llm_master.image_input import sniff_mime
from llm_master.redaction import shown

__all__ = ["Fetched", "fetch"]

Resolve = Callable[[str, int], Awaitable[list[str]]]

_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "llm-master"}
_REDIRECTS = (301, 302, 303, 307, 308)
_UNTOLD = (
    "",
    "application/octet-stream",
    "binary/octet-stream",
    "application/x-download",
    "application/force-download",
)
# What a server may call the thing that is wanted; its first bytes have the last word.
_KINDS = {
    "image": ("image/",),
    "file": ("application/", "text/", "image/"),
    "video": ("video/", "application/mp4"),
    "audio": ("audio/", "application/ogg"),
}


class Fetched(NamedTuple):
    """What was behind a URL."""

    data: bytes
    mime: str


class _Pinned(AbstractResolver):
    """Answers with the addresses that were checked, whatever the name says by now."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
            if family in (socket.AF_UNSPEC, socket.AF_INET6 if ":" in address else socket.AF_INET)
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def fetch(
    url: str, policy: FetchPolicy, *, what: str = "file", resolve: Resolve | None = None, ssl: Any = True
) -> Fetched:
    """
    Fetch a URL.

    Args:
        what: ``image``, ``file``, ``audio`` or ``video``; an answer of another type is refused.
        resolve: gives the IP addresses of a name, the system's by default.
        ssl: a context in place of the usual one.

    Raises:
        FetchError: the address must not be fetched, does not answer in time, or holds something else or too much.
    """
    try:
        async with asyncio.timeout(policy.timeout):
            return await _follow(url, policy, what, resolve or _resolve, ssl)
    except TimeoutError:
        raise failed(url, f"it took longer than {policy.timeout:g} s") from None


async def _follow(url: str, policy: FetchPolicy, what: str, resolve: Resolve, ssl: Any) -> Fetched:
    scheme = ""
    first = url
    for _ in range(policy.max_redirects + 1):
        place = place_of(url, policy)
        if scheme == "https" and place.scheme == "http":
            raise failed(url, "an https address redirects to http")
        scheme = place.scheme
        addresses = await _addresses(url, place, policy, resolve)
        target = URL(url.partition("#")[0], encoded=True)
        if (target.host, target.port) != (place.host, place.port):
            raise failed(url, "its host can be read in two ways")
        connector = aiohttp.TCPConnector(resolver=_Pinned(addresses), use_dns_cache=False, force_close=True, ssl=ssl)
        found = await _get(target, connector, policy, what)
        if isinstance(found, Fetched):
            return found
        url = found
    raise failed(first, f"it redirects more than {policy.max_redirects} times")


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def _addresses(url: str, place: Place, policy: FetchPolicy, resolve: Resolve) -> list[str]:
    """The addresses of a place; one that must not be reached spoils them all."""
    if place.is_ip:
        addresses = [place.host]
    else:
        try:
            addresses = await resolve(place.host, place.port)
        except (OSError, UnicodeError) as error:
            raise failed(url, f"its host {place.host!r} cannot be resolved ({error})") from None
    if not addresses:
        raise failed(url, f"its host {place.host!r} has no address")
    for address in addresses:
        check_address(url, place.host, address, policy)
    return addresses


async def _get(target: URL, connector: aiohttp.TCPConnector, policy: FetchPolicy, what: str) -> Fetched | str:
    """What is there, or the address that it redirects to."""
    url = str(target)
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
                headers=_HEADERS,
            ) as session,
            session.get(target, allow_redirects=False) as response,
        ):
            if response.status in _REDIRECTS and "Location" in response.headers:
                return urljoin(url, response.headers["Location"])
            if response.status != 200:
                raise failed(url, f"it answers with status {response.status}")
            return await _read(url, response, policy, what)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(error, (FetchError, TimeoutError)):
            raise
        raise failed(url, f"{type(error).__name__}: {str(error)[:200]}") from None


async def _read(url: str, response: aiohttp.ClientResponse, policy: FetchPolicy, what: str) -> Fetched:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise failed(url, "its answer is compressed although that was not asked for")
    declared = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if declared not in _UNTOLD and not declared.startswith(_KINDS[what]):
        raise failed(url, f"it holds {shown(declared)} and not {_a(what)}")
    pieces, size = [], 0
    # Counted as it arrives: a Content-Length is a claim.
    async for piece in response.content.iter_chunked(64 * 1024):
        size += len(piece)
        if size > policy.max_bytes:
            raise failed(url, f"it is larger than {policy.max_bytes:,} bytes")
        pieces.append(piece)
    data = b"".join(pieces)
    if not data:
        raise failed(url, "it is empty")
    seen = sniff_mime(data)
    if seen is None and what == "audio" and (word := sniff_audio(data)):
        seen = f"audio/{word}"
    mime = seen or ("" if declared in _UNTOLD else declared)
    if not mime.startswith(_KINDS[what]) or (what == "image" and seen is None):
        raise failed(url, f"its bytes are not {_a(what)}{f' but {seen}' if seen else ''}")
    return Fetched(data, mime)


def _a(what: str) -> str:
    return f"{'an' if what[0] in 'ai' else 'a'} {what}"
