"""
Which addresses may be fetched on a user's behalf.

An address in a message may come from anywhere, and a fetch runs with the rights of this machine's network. So only
public unicast addresses count, names are judged by what they resolve to, and spellings that clients read differently
are refused rather than guessed at.

Sources: RFC 6890 and the IANA special-purpose registries (IPv4, IPv6), RFC 3964 (6to4), RFC 4380 (Teredo), RFC 6052
(NAT64), RFC 5214 (ISATAP), the metadata addresses of AWS (169.254.169.254, fd00:ec2::254), Azure (168.63.129.16),
Alibaba (100.100.100.200) and Oracle (192.0.0.192); read 2026-11-21.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from llm_master.errors import InvalidRequestError
from llm_master.redaction import shown

__all__ = ["FetchError", "FetchPolicy", "Place", "check_address", "failed", "place_of", "why_refused", "without_query"]


class FetchError(InvalidRequestError):
    """A URL in the messages could not be fetched, or must not be; nothing was sent to the provider."""


class FetchPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """
    What ``QueryLLM`` may fetch for a provider that does not fetch by itself.

    Attributes:
        allow: whether anything is fetched at all.
        hosts: the only host names that are fetched from; None: any.
        private_hosts: host names that may resolve to private addresses, ``{"files.internal"}``.
        allow_private: every host may. Only where all messages are trusted.
        allow_http: plain ``http://`` too.
        max_bytes: the largest thing that is taken, counted as it arrives.
        timeout: seconds for one URL with its redirects; the call's own deadline counts too.
        max_redirects: redirects that are followed, each checked like the first address.
        max_urls: different URLs that are fetched for one request.
        max_total_bytes: all that is fetched for one request together.
    """

    allow: bool = True
    hosts: Collection[str] | None = None
    private_hosts: Collection[str] = frozenset()
    allow_private: bool = False
    allow_http: bool = False
    max_bytes: int = 20 * 1024 * 1024
    timeout: float = 20.0
    max_redirects: int = 3
    max_urls: int = 20
    max_total_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("hosts", "private_hosts"):
            given: Collection[str] | None = getattr(self, name)
            if isinstance(given, str):
                raise TypeError(f"FetchPolicy({name}=...) takes a set of host names, not one text")
            if given is not None:
                msgspec.structs.force_setattr(self, name, frozenset(each.lower() for each in given))

    def may_be_private(self, host: str) -> bool:
        """Whether a host may resolve to a private address."""
        return self.allow_private or host in self.private_hosts


class Place(NamedTuple):
    """An address that was read: ``host`` is lower case and ASCII, or the text of an IP address."""

    scheme: str
    host: str
    port: int
    is_ip: bool


_V4_REFUSED = tuple(
    (ipaddress.IPv4Network(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared (CGNAT)"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud metadata"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_V6_PUBLIC = ipaddress.IPv6Network("2000::/3")
_V6_REFUSED = tuple(
    (ipaddress.IPv6Network(network), why)
    for network, why in (
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3ffe::/16", "reserved"),
        ("3fff::/20", "documentation"),
    )
)
_V6_NAMED = tuple(
    (ipaddress.IPv6Network(network), why)
    for network, why in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
# The interface identifier of an address that carries an IPv4 address through a tunnel (ISATAP).
_ISATAP = (0x00005EFE, 0x02005EFE)


def why_refused(address: str) -> str | None:
    """The word for an IP address that is not public unicast, None for one that is."""
    if "%" in address:
        return "scoped"
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "unreadable"
    if isinstance(ip, ipaddress.IPv4Address):
        return next((why for network, why in _V4_REFUSED if ip in network), None)
    if ip not in _V6_PUBLIC:
        return next((why for network, why in _V6_NAMED if ip in network), "reserved")
    if (int(ip) >> 32) & 0xFFFFFFFF in _ISATAP:
        return "ISATAP"
    return next((why for network, why in _V6_REFUSED if ip in network), None)


_NUMBER = re.compile(r"(?:[0-9]+|0[xX][0-9a-fA-F]*)\Z")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
# What urlsplit reads past, and other clients take for an error or another host.
_BRACKETED = re.compile(r"\[[^\[\]]*\](?::[0-9]*)?\Z")
_PORTS = {"https": 443, "http": 80}


def place_of(url: str, policy: FetchPolicy) -> Place:
    """
    Where a URL leads, if a client may go there as far as its text tells.

    Raises:
        FetchError: what is wrong with it, in words.
    """
    if not policy.allow:
        raise FetchError(f"{shown(url)} is not fetched: fetching is switched off; give the data, bytes or path")
    if not url.isascii() or not url.isprintable() or any(sign in url for sign in ' \\"<>^`{|}'):
        raise _refused(url, "it holds characters that are not allowed in a URL; percent-encode them")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused(url, f"it cannot be read ({error})") from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise _refused(url, "only https:// is fetched")
    if scheme == "http" and not policy.allow_http:
        raise _refused(url, "only https:// is fetched; FetchPolicy(allow_http=True) allows http://")
    if "@" in parts.netloc:
        raise _refused(url, "it holds a user name or password; give the address without")
    bracketed = not {"[", "]"}.isdisjoint(parts.netloc)
    if bracketed and not _BRACKETED.match(parts.netloc):
        raise _refused(url, "something stands beside the brackets of its address")
    host = (parts.hostname or "").lower()
    is_ip = _check_host(url, host, bracketed=bracketed)
    if policy.hosts is not None and host not in policy.hosts:
        raise _refused(url, f"its host {host!r} is not among FetchPolicy(hosts=...)")
    if port == 0:
        raise _refused(url, "port 0 leads nowhere")
    return Place(scheme, host, port or _PORTS[scheme], is_ip)


def check_address(url: str, host: str, address: str, policy: FetchPolicy) -> None:
    """Refuse a host at an IP address that is not public, unless the policy lets it be; raises FetchError."""
    why = None if policy.may_be_private(host) else why_refused(address)
    if why is not None:
        raise failed(
            url,
            f"its host {host!r} is at a {why} address; FetchPolicy(private_hosts={{...}}) allows hosts of your own",
        )


def failed(url: str, why: str) -> FetchError:
    """The error for an address that cannot be fetched."""
    return FetchError(f"{shown(without_query(url), 120)} cannot be fetched for the model: {why}")


def _check_host(url: str, host: str, *, bracketed: bool) -> bool:
    """Whether a host is an IP address; raises FetchError where it is neither that nor a name."""
    if bracketed:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise _refused(url, f"{host!r} is not an IPv6 address") from None
        if "%" in host:
            raise _refused(url, "its address has a zone")
        return True
    labels = host.split(".")
    if _NUMBER.match(labels[-1]):
        # "127.1", "2130706433", "0x7f.1" and "0177.0.0.1" are all loopback to somebody.
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise _refused(url, f"{host!r} is a number and not a plain IPv4 address such as 192.0.2.1") from None
        return True
    if not all(map(_LABEL.match, labels)) or len(host) > 253:
        raise _refused(url, f"{host!r} is not a plain host name; write it without a dot at its end")
    return False


def _refused(url: str, why: str) -> FetchError:
    return FetchError(f"{shown(without_query(url))} is not fetched: {why}")


def without_query(url: str) -> str:
    """A URL fit for a message: its query may hold a signature, its user part a password."""
    head = url.partition("?")[0].partition("#")[0]
    scheme, found, rest = head.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{found}{authority.rpartition('@')[2]}{slash}{path}"
