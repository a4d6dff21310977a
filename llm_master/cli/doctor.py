"""
``llm-master doctor``: what is set up, what is reachable, and what to do about the rest.
"""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING, Annotated

import typer

from llm_master.addresses import given_url
from llm_master.base_provider import UnifiedProvider, row_of
from llm_master.cli.lists import provider_facts
from llm_master.cli.reach import Finding, one_line, origin, reach_all, reach_store
from llm_master.cli.terminal import print_json
from llm_master.config import LLMConfig
from llm_master.errors import ConfigurationError, LLMError

if TYPE_CHECKING:
    from llm_master.state import BreakerState, ProcessState

__all__ = ["doctor", "examine"]

_LOCAL_PATIENCE = 60.0
# Providers that nobody set up and that the short form names.
_MOST_NAMED = 15
# Seconds after which what a process wrote is no longer what it knows now.
_RECENT = 2.0


def doctor(
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="List what is not set up too, and reach for every provider.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Look at the set-up only; nothing is started.")] = False,
    settings: Annotated[
        str | None,
        typer.Option("--settings", metavar="FILE", help="Look at this settings file and what it names, too."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """
    Check keys, DNS, TLS, settings, ledger, embedded model, clock and circuit breakers.

    No key is sent. The exit code is 1 when something that is set up does not work. Running processes tell of their
    circuit breakers in the directory that LLM_MASTER_STATE_DIR names, where they have that variable too.
    """
    import asyncio

    found = examine(LLMConfig.from_env(), everything=everything, offline=offline, settings=settings)
    findings = asyncio.run(found)
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
    names = [finding.check.removesuffix(" set-up") for finding in unused]
    if len(names) > _MOST_NAMED:
        names[_MOST_NAMED:] = [f"and {len(names) - _MOST_NAMED} more"]
    rest = [finding for finding in findings if finding not in unused]
    if not unused:
        return rest
    return [*rest, Finding("not set up", "off", f"{', '.join(names)} (llm-master providers tells what each needs)")]


async def examine(
    config: LLMConfig, *, everything: bool = False, offline: bool = False, settings: str | None = None
) -> list[Finding]:
    """
    All findings; no key is sent anywhere, and a provider is asked for nothing but its headers.

    Args:
        everything: reach for every provider.
        offline: look at the set-up only.
        settings: a settings file to examine as well.
    """
    from llm_master.cli.ledger_doctor import ledger_findings
    from llm_master.cli.settings_doctor import SettingsDoctor
    from llm_master.engine import STATE_VARIABLE
    from llm_master.limiting import REDIS_VARIABLE

    findings = [_version()]
    reach: list[tuple[str, str]] = []
    for name in UnifiedProvider.PROVIDER_CONFIGS:
        finding, address = _set_up(name, config, everything=everything)
        findings.append(finding)
        if address is not None:
            reach.append((name, address))
    read = None
    stores = {"shared limits": REDIS_VARIABLE} if _value(REDIS_VARIABLE, config) else {}
    if settings is not None:
        found = SettingsDoctor(settings, config)
        await found.examine()
        findings += found.findings
        read = found.settings
        stores.update(found.stores)
        known = {origin(address) for _, address in reach}
        more = {origin(address): (name, address) for name, address in found.reach}
        reach += [each for address, each in more.items() if address not in known]
    findings += [await reach_store(what, variable, config, ask=not offline) for what, variable in stores.items()]
    findings += await ledger_findings(read, config.dotenv_values, ask=not offline)
    if not offline:
        findings += await reach_all(reach)
        findings.append(await _local(config))
    directory = _value(STATE_VARIABLE, config)
    return [*findings, *_breakers(STATE_VARIABLE, directory)] if directory else findings


def _value(variable: str, config: LLMConfig) -> str | None:
    return os.environ.get(variable) or config.dotenv_values.get(variable) or None


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
        addressed = given_url(row, config) is not None
        keyed = config.key_for(row.api_key_attr or "", row.key_variables, row.alias_variables) is not None
    except ConfigurationError as error:
        return Finding(check, "bad", str(error)), None
    # An address that still waits for a variable leads nowhere.
    address = facts["base_url"] if facts["base_url"] is not None and "{" not in facts["base_url"] else None
    if not facts["ready"]:
        # Somebody who gave an address and no key meant to use it.
        state = "bad" if addressed or keyed else "off"
        return Finding(check, state, facts["missing"]), address if addressed or everything else None
    if row.supervisor and not addressed:
        return Finding(check, "ok", "installed"), None
    if addressed or keyed:
        return Finding(check, "ok", "has a key" if keyed else "needs no key"), address
    return Finding(check, "off", f"expected at {address}, without a key"), None


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


def _breakers(variable: str, directory: str) -> list[Finding]:
    """What the running processes say of their deployments."""
    from llm_master.state import running

    try:
        processes = running(directory)
    except FileNotFoundError:
        processes = []
    except OSError as error:
        return [Finding("circuit breakers", "bad", f"{variable}={directory}: {error.strerror or error}")]
    if not processes:
        why = "no running process has written there; each does when one of its breakers first opens"
        return [Finding("circuit breakers", "off", why)]
    now = time.time()
    return [finding for process in processes for finding in _of_process(process, now)]


def _of_process(process: ProcessState, now: float) -> list[Finding]:
    name = one_line(f"process {process.pid} ({process.program})")
    age = now - process.written
    when = f", as of {age:.0f} s ago" if age > _RECENT else ""
    found = [_breaker(name, each, now, when) for each in process.breakers]
    if process.left_out:
        found.append(Finding(name, "ok", f"{process.left_out} more deployments, all closed{when}"))
    return found or [Finding(name, "ok", f"no model is in use{when}")]


def _breaker(process: str, breaker: BreakerState, now: float, when: str) -> Finding:
    place = f" [{breaker.deployment}]" if breaker.deployment else ""
    calls = f"{breaker.inflight} call{'s' * (breaker.inflight != 1)} in flight{when}"
    state = breaker.state_at(now)
    if state == "closed":
        last = f" (last opened by: {breaker.kind})" if breaker.kind else ""
        detail = f"closed{last}; {calls}"
    elif state == "open":
        detail = f"open (last failure: {breaker.kind}); next probe in {breaker.until - now:.1f} s; {calls}"
    else:
        probe = "a probe is under way" if breaker.probing else "the next call is the probe"
        detail = f"half open (last failure: {breaker.kind}); {probe}; {calls}"
    return Finding(
        one_line(f"{process} {breaker.model}{place}"), "ok" if state == "closed" else "warn", one_line(detail)
    )
