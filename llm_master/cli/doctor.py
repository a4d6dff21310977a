"""
``llm-master doctor``: what is set up, what is reachable, and what to do about the rest.
"""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from llm_master.base_provider import UnifiedProvider, row_of
from llm_master.cli.lists import provider_facts
from llm_master.cli.terminal import print_json
from llm_master.config import LLMConfig
from llm_master.errors import ConfigurationError, LLMError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import aiohttp

    from llm_master.endpoint import Endpoint

__all__ = ["Finding", "doctor", "examine"]

_PATIENCE = 5.0
_LOCAL_PATIENCE = 60.0
# Seconds. A minute shows in logs and rate limits; after five a signed request is refused.
_ODD_CLOCK, _WRONG_CLOCK = 60.0, 300.0


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at; ``state`` is ``ok``, ``off`` (not set up, no harm), ``warn`` or ``bad``."""

    check: str
    state: str
    detail: str


def doctor(
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="List what is not set up too, and reach for every provider.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Look at the set-up only; nothing is started.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """
    Check keys, DNS, TLS, the embedded model and the clock.

    No key is sent. The exit code is 1 when something that is set up does not work.
    """
    import asyncio

    findings = asyncio.run(examine(LLMConfig.from_env(), everything=everything, offline=offline))
    if json_output:
        print_json(findings)
    else:
        shown = findings if everything else _in_short(findings)
        width = max(len(finding.check) for finding in shown)
        for finding in shown:
            typer.echo(f"{finding.state:<4}  {finding.check:<{width}}  {finding.detail}")
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def _in_short(findings: list[Finding]) -> list[Finding]:
    """The findings, with the providers that nobody set up in one line."""
    unused = [finding for finding in findings if finding.state == "off" and finding.check.endswith(" set-up")]
    names = ", ".join(finding.check.removesuffix(" set-up") for finding in unused)
    rest = [finding for finding in findings if finding not in unused]
    if not unused:
        return rest
    return [*rest, Finding("not set up", "off", f"{names} (llm-master providers tells what each needs)")]


async def examine(config: LLMConfig, *, everything: bool = False, offline: bool = False) -> list[Finding]:
    """All findings; no key is sent anywhere, and a provider is asked for nothing but its headers."""
    findings = [_version()]
    reach: list[tuple[str, str]] = []
    for name in UnifiedProvider.PROVIDER_CONFIGS:
        finding, address = _set_up(name, config, everything=everything)
        findings.append(finding)
        if address is not None:
            reach.append((name, address))
    if not offline:
        findings += await _reach_all(reach)
        findings.append(await _local(config))
    return findings


def _version() -> Finding:
    from llm_master import __version__

    return Finding(
        "version", "ok", f"llm-master {__version__}, Python {platform.python_version()}, {platform.system()}"
    )


def _set_up(name: str, config: LLMConfig, *, everything: bool) -> tuple[Finding, str | None]:
    """Whether a provider is set up, and its address if it is to be reached for."""
    row = row_of(name)
    facts = provider_facts(name, config)
    check = f"{name} set-up"
    try:
        addressed = config.url_for(name) is not None
        keyed = config.key_for(row.api_key_attr or "", row.key_variables) is not None
    except ConfigurationError as error:
        return Finding(check, "bad", str(error)), None
    address = facts["base_url"]
    if not facts["ready"]:
        # Somebody who gave an address and no key meant to use it.
        state = "bad" if addressed or keyed else "off"
        return Finding(check, state, facts["missing"]), address if addressed or everything else None
    if row.supervisor and not addressed:
        return Finding(check, "ok", "installed"), None
    if addressed or keyed:
        return Finding(check, "ok", "has a key" if keyed else "needs no key"), address
    return Finding(check, "off", f"expected at {address}, without a key"), None


async def _reach_all(reach: list[tuple[str, str]]) -> list[Finding]:
    import asyncio

    import aiohttp

    skews: list[float] = []
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        found = await asyncio.gather(*(_reach(session, name, url, skews) for name, url in reach))
    return [*(finding for each in found for finding in each), _clock(skews)]


async def _reach(session: aiohttp.ClientSession, name: str, address: str, skews: list[float]) -> list[Finding]:
    """DNS, then the connection (with TLS where the address says so) and the server's date."""
    from yarl import URL

    from llm_master.endpoint import Endpoint

    endpoint = Endpoint(str(URL(address, encoded=True).origin()) + "/", {}, provider=name, model="")
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


async def _local(config: LLMConfig) -> Finding:
    """Whether the embedded model answers; one that is not installed is no fault."""
    from llm_master.providers.local import installed
    from llm_master.response_synthesizer import QueryLLM

    ready, why = installed()
    if not ready:
        return Finding("embedded model", "off", why)
    async with QueryLLM(config) as llm:
        try:
            answer = await llm.query("local", "Say hello.", max_tokens=8, timeout=_LOCAL_PATIENCE)
        except LLMError as error:
            return Finding("embedded model", "bad", str(error))
    return Finding("embedded model", "ok", f"answered in {answer.latency:.2f} s")
