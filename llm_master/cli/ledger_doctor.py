"""
What ``llm-master doctor`` finds of the ledger: where it is, whether it can be written, what waits to be forwarded.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from llm_master.cli.reach import Finding, one_line
from llm_master.errors import LLMError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llm_master.ledger.looking import Forwarded, Look
    from llm_master.ledger.store import Ledger
    from llm_master.settings import Settings

__all__ = ["ledger_findings"]


async def ledger_findings(settings: Settings | None, dotenv: Mapping[str, str], *, ask: bool = True) -> list[Finding]:
    """
    The findings; nothing is written.

    Args:
        settings: a checked settings file or None.
        dotenv: what the ``.env`` file holds.
        ask: whether the PostgreSQL is asked for an answer.
    """
    from llm_master.ledger.choice import ledger_of
    from llm_master.ledger.looking import look
    from llm_master.ledger.store import no_place

    try:
        ledger = ledger_of(None, settings, dotenv, quiet=True)
        if ledger is None:
            by_file = settings is not None and settings.ledger is not None and settings.ledger.mode == "off"
            return [_find("ledger", "off", "the settings switch it off" if by_file else no_place())]
        found = await asyncio.to_thread(look, ledger.path)
    except LLMError as error:
        return [_find("ledger", "bad", str(error))]
    return [_find("ledger", "ok", _words(ledger, found)), *await _forwarding(ledger, found, settings, dotenv, ask=ask)]


def _words(ledger: Ledger, found: Look) -> str:
    if found.calls is None:
        state = "not there yet; the first call makes it"
    else:
        state = f"can be written, has {found.calls} call{'s' * (found.calls != 1)}"
        if found.old:
            state += "; the next call brings its tables up to date"
    kept = ", with prompts and answers" if ledger.contents else ""
    return f"{ledger.path}: {state} ({ledger.mode}, {ledger.on_failure}{kept})"


async def _forwarding(
    ledger: Ledger, found: Look, settings: Settings | None, dotenv: Mapping[str, str], *, ask: bool
) -> list[Finding]:
    """The database that the settings name, then those that calls were forwarded to before."""
    from llm_master.ledger.choice import postgres_of
    from llm_master.ledger.looking import Forwarded
    from llm_master.ledger.looking import ask as asked
    from llm_master.ledger.postgres import address_of

    known = {each.target: each for each in found.forwarded}
    findings = []
    address, health = postgres_of(settings, dotenv), ledger.health().forwarding
    if address is not None and health is not None:
        each = known.pop(health.target, Forwarded(health.target, found.calls or 0, 0))
        problem = await asyncio.to_thread(asked, address_of(address)) if ask else None
        state = "ok" if problem is None else "bad"
        findings.append(_find(f"ledger to {each.target}", state, "; ".join(filter(None, (_counts(each), problem)))))
    others = [(f"ledger to {each.target}", each) for each in known.values()]
    return findings + [_find(check, "warn" if each.waiting else "ok", _counts(each)) for check, each in others]


def _counts(each: Forwarded) -> str:
    waiting = f"{each.waiting} call{'s' * (each.waiting != 1)} wait{'s' * (each.waiting == 1)} to be forwarded"
    return waiting + (f", {each.refused} refused" if each.refused else "")


def _find(check: str, state: str, detail: str) -> Finding:
    return Finding(one_line(check), state, one_line(detail))
