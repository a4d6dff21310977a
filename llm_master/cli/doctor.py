"""
``llm-master doctor``: what is set up, what is reachable, and what to do about the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import ssl
import sys
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
import typer

from llm_master.base_provider import UnifiedProvider, row_of
from llm_master.cli.lists import provider_facts
from llm_master.config import LLMConfig

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Finding", "doctor", "examine"]

_PATIENCE = 5.0
_SKEW = 60.0


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at; ``state`` is ``ok``, ``off`` (not set up, no harm), ``warn`` or ``bad``."""

    check: str
    state: str
    detail: str


def doctor(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Reach for providers without a key too.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Look at the set-up only.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check keys, DNS, TLS, the local model and the clock; exit 1 when something is broken."""
    findings = asyncio.run(examine(LLMConfig.from_env(), everything=everything, offline=offline))
    if json_output:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(findings), indent=2).decode() + "\n")
    else:
        for finding in findings:
            typer.echo(f"{finding.state:<5}{finding.check:<22}{finding.detail}")
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


async def examine(config: LLMConfig, *, everything: bool = False, offline: bool = False) -> list[Finding]:
    """All findings; no key is sent anywhere, and nothing is asked of a provider but its date."""
    findings = [_python()]
    reach: list[tuple[str, str]] = []
    for name in UnifiedProvider.PROVIDER_CONFIGS:
        facts = provider_facts(name, config)
        row = row_of(name)
        own = config.url_for(name) is not None
        keyed = row.key_optional is False and facts["ready"]
        findings.append(_key(facts, set_up=own or keyed))
        if facts["base_url"] and (own or keyed or (everything and not row.key_optional)):
            reach.append((name, facts["base_url"]))
    if offline:
        return findings
    skews: list[float] = []
    for found in await asyncio.gather(*(_reach(name, url, skews) for name, url in reach)):
        findings += found
    findings.append(_clock(skews))
    findings.append(await _local(config))
    return findings


def _python() -> Finding:
    from llm_master import __version__

    return Finding(
        "version", "ok", f"llm-master {__version__}, Python {platform.python_version()}, {platform.system()}"
    )


def _key(facts: dict[str, Any], *, set_up: bool) -> Finding:
    check = f"{facts['key']} set-up"
    if facts["ready"]:
        return Finding(
            check, "ok", "ready" if set_up else f"no key needed; expected at {facts['base_url'] or 'this machine'}"
        )
    missing = str(facts["missing"])
    return Finding(check, "off" if missing.startswith("set ") else "bad", missing)


async def _reach(name: str, url: str, skews: list[float]) -> list[Finding]:
    """DNS, then the connection (with TLS where the address says so), then the server's date."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    loop = asyncio.get_running_loop()
    found: list[Finding] = []

    async def step(check: str, work: Callable[[], Awaitable[str]], hint: str) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE):
                found.append(Finding(f"{name} {check}", "ok", await work()))
        except (OSError, TimeoutError, ssl.SSLError) as error:
            why = str(error) or f"no answer in {_PATIENCE:g} s"
            found.append(Finding(f"{name} {check}", "bad", f"{host}: {why}; {hint}"))
            return False
        return True

    async def names() -> str:
        addresses = await loop.getaddrinfo(host, port, type=1)
        return f"{host} is {addresses[0][4][0]}"

    async def connect() -> str:
        context = ssl.create_default_context() if secure else None
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        try:
            session = writer.get_extra_info("ssl_object")
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(_PATIENCE / 2):
                    await _date(reader, writer, host, skews)
            return f"{host}:{port} {session.version() if session else 'without TLS'}"
        finally:
            writer.close()

    if await step("DNS", names, "check the network or the address"):
        await step("TLS" if secure else "connection", connect, "check the proxy, firewall, clock and CA certificates")
    return found


async def _date(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, skews: list[float]) -> None:
    writer.write(f"HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()
    for _ in range(50):
        line = await reader.readline()
        if line.lower().startswith(b"date:"):
            with contextlib.suppress(ValueError, TypeError):
                skews.append(time.time() - parsedate_to_datetime(line[5:].decode("latin-1").strip()).timestamp())
            return
        if line in (b"", b"\r\n"):
            return


def _clock(skews: list[float]) -> Finding:
    if not skews:
        return Finding("clock", "off", "no provider to compare with")
    skew = sorted(skews)[len(skews) // 2]
    if abs(skew) <= _SKEW:
        return Finding("clock", "ok", f"{skew:+.0f} s against {len(skews)} provider(s)")
    return Finding("clock", "bad", f"{skew:+.0f} s off: signatures and TLS will fail; set the clock (NTP)")


async def _local(config: LLMConfig) -> Finding:
    from llm_master.errors import LLMError
    from llm_master.response_synthesizer import QueryLLM

    async with QueryLLM(config) as llm:
        try:
            answer = await llm.query("local", "Say hello.", max_tokens=8, timeout=30)
        except LLMError as error:
            return Finding("local model", "bad", str(error))
    return Finding("local model", "ok", f"answered in {answer.latency:.2f} s")
