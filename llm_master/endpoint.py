"""
Where the requests of one target go, and what it means when they do not get there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from llm_master.errors import (
    APIConnectionError,
    APITimeoutError,
    ConfigurationError,
    ProviderError,
    ResponseError,
)
from llm_master.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COMMON_HEADERS", "Endpoint", "check_header", "proxy_for", "translate"]

#: What nearly every request sends. Sessions hold them, because copying them together is cheaper than one by one.
COMMON_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "llm-master",
}

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Endpoint:
    """
    Where requests of one target go, prepared once.

    Args:
        url: the full address.
        headers: those of the request besides ``COMMON_HEADERS``, or in place of them; the key is a ``Secret``.
        provider, model: for messages of errors.
        secrets: the keys in the headers, masked wherever a server echoes them.

    Raises:
        ConfigurationError: a header holds a control character; nothing is sent.
    """

    __slots__ = ("headers", "model", "provider", "proxy", "secrets", "url")

    def __init__(
        self, url: str, headers: Mapping[str, str], *, provider: str, model: str, secrets: tuple[str, ...] = ()
    ) -> None:
        for name, value in headers.items():
            check_header(name, value)
        self.url = URL(url, encoded=True)
        self.headers: CIMultiDict[str] = CIMultiDict(headers)
        self.provider = provider
        self.model = model
        self.secrets = secrets
        self.proxy = proxy_for(self.url)

    def with_headers(self, extra: Mapping[str, str]) -> Endpoint:
        """The same endpoint with a caller's extra headers, which replace equal ones."""
        for name, value in extra.items():
            check_header(name, value)
        copy = Endpoint.__new__(Endpoint)
        copy.url, copy.provider, copy.model = self.url, self.provider, self.model
        copy.secrets, copy.proxy = self.secrets, self.proxy
        copy.headers = CIMultiDict(self.headers)
        copy.headers.update(extra)
        return copy

    def signed(self, headers: Mapping[str, str], secrets: tuple[str, ...]) -> Endpoint:
        """The same endpoint with the headers that sign one request, and what must be masked of them."""
        copy = self.with_headers(headers)
        copy.secrets = (*self.secrets, *secrets)
        return copy

    def at(self, url: str) -> Endpoint:
        """The same headers for another address of the same origin; raises ConfigurationError for another origin."""
        found = URL(url, encoded=True)
        if found.origin() != self.url.origin():
            raise ConfigurationError(f"the key of {self.provider} does not go to another origin ({found.host})")
        copy = self.with_headers({})
        copy.url = found
        return copy

    def __repr__(self) -> str:
        return f"Endpoint({self.provider}, {redact(str(self.url))})"


def check_header(name: str, value: str) -> None:
    """Refuse control characters in a header, so that no request can be split; raises ConfigurationError."""
    if not name or not name.isascii() or any(c <= " " or c in {":", "\x7f"} for c in name):
        raise ConfigurationError(f"header name {name!r} holds a character that HTTP does not allow; correct it")
    if any((c < " " and c != "\t") or c == "\x7f" for c in value):
        raise ConfigurationError(f"the value of header {name!r} holds a control character (CR, LF ...); correct it")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"the value of header {name!r} holds a character outside latin-1; correct it"
        ) from error.with_traceback(None)


def proxy_for(url: URL) -> str | None:
    """The proxy that the environment names for an address, resolved once; never for loopback."""
    host = url.host or ""
    if host in _LOOPBACK or host.startswith("127.") or proxy_bypass(host):
        return None
    return getproxies().get(url.scheme)


_Kind = tuple[tuple[type[BaseException], ...], type[ProviderError], str, bool | None]

# Before anything could be sent.
_UNSENT = (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError, aiohttp.ClientSSLError, aiohttp.InvalidURL)
# First match wins. Fields of the text: provider, model, host, what (the error), doing (" while streaming").
_FAILURES: tuple[_Kind, ...] = (
    (
        (aiohttp.ConnectionTimeoutError,),
        APITimeoutError,
        (
            "{provider} did not accept a connection for {model!r} at {host} in time;"
            " check the network or give a fallback_model="
        ),
        None,
    ),
    (
        (TimeoutError,),
        APITimeoutError,
        "{provider} did not answer {model!r} in time{doing}; raise timeout= or give a fallback_model=",
        None,
    ),
    (
        (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError),
        APIConnectionError,
        (
            "TLS with {provider} ({host}) failed for {model!r}: {what};"
            " check the clock, the CA certificates (SSL_CERT_FILE) or the proxy"
        ),
        False,
    ),
    (
        (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError),
        APIConnectionError,
        "{provider} broke off its answer for {model!r}{doing}: {what}; try again or give a fallback_model=",
        None,
    ),
    (
        (aiohttp.InvalidURL,),
        APIConnectionError,
        "the address of {provider} for {model!r} cannot be used: {what}; correct its base URL",
        False,
    ),
    (
        (aiohttp.ClientResponseError,),
        ResponseError,
        "{provider} ({host}) sent something that is not HTTP for {model!r}: {what}; check the base URL",
        None,
    ),
    (
        (BaseException,),
        APIConnectionError,
        (
            "cannot reach {provider} at {host} for {model!r}{doing}: {what};"
            " check the network and the base URL, or give a fallback_model="
        ),
        None,
    ),
)


def translate(error: BaseException, endpoint: Endpoint, when: str) -> ProviderError:
    """The typed error for a failure below HTTP."""
    what = redact(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, *endpoint.secrets)
    _, cls, text, retryable = next(kind for kind in _FAILURES if isinstance(error, kind[0]))
    found = cls(
        text.format(
            provider=endpoint.provider,
            model=endpoint.model,
            host=endpoint.url.host,
            what=what,
            doing=f" {when}" if when else "",
        ),
        provider=endpoint.provider,
        model=endpoint.model,
        retryable=retryable,
    )
    if isinstance(error, _UNSENT):
        found.sent = False
    return found
