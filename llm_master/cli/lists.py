"""
``llm-master providers``.
"""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer

from llm_master.addresses import base_url, given_url, missing_variables, shown_url
from llm_master.base_provider import UnifiedProvider, row_of
from llm_master.cli.terminal import print_json, print_table
from llm_master.config import LLMConfig
from llm_master.errors import ConfigurationError
from llm_master.redaction import redact
from llm_master.rows import ProviderRow

__all__ = ["provider_facts", "providers"]


def providers(*, json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """
    List the providers and what each needs.

    The state is "ready", or what is missing. Nothing is asked of a provider: "llm-master doctor" does that.
    """
    config = LLMConfig.from_env()
    rows = [provider_facts(name, config) for name in UnifiedProvider.PROVIDER_CONFIGS]
    if json_output:
        print_json(rows)
        return
    shown = [
        {
            "provider": row["key"],
            "state": "ready" if row["ready"] else row["missing"],
            "base URL": row["base_url"] or "",
            "family": row["family"],
            "key variables": ", ".join(row["key_variables"]),
            "aliases": ", ".join(row["aliases"]),
        }
        for row in rows
    ]
    print_table(
        ("provider", "state", "base URL", "family", "key variables", "aliases"),
        shown,
        spare=("key variables", "aliases", "family"),
    )


def provider_facts(name: str, config: LLMConfig) -> dict[str, Any]:
    """What ``providers --json`` says of a row: key, aliases, base_url, family, key_variables, ready, missing."""
    row = row_of(name)
    given = None
    try:
        given = given_url(row, config)
        missing = _missing(row, config, addressed=given is not None)
    except ConfigurationError as error:
        missing = str(error)
    address = given[0] if given is not None else shown_url(row)
    if given is None and missing is None and row.placeholders:
        address = base_url(row, config)
    return {
        "key": row.name,
        "aliases": list(row.aliases),
        "base_url": redact(address) if address else None,
        "family": row.families[0],
        "key_variables": [] if row.supervisor else list(row.key_variables),
        "ready": missing is None,
        "missing": missing,
    }


def _missing(row: ProviderRow, config: LLMConfig, *, addressed: bool) -> str | None:
    key = config.key_for(row.api_key_attr or "", row.key_variables, row.alias_variables)
    if row.status != "live":
        return row.status
    if not addressed and row.supervisor is not None:
        ready, why = importlib.import_module(row.supervisor.partition(":")[0]).installed()
        return None if ready else str(why)
    if not addressed and row.base_url is None:
        return f"set {row.name.upper()}_BASE_URL"
    if not addressed and (need := missing_variables(row, config)):
        return "set " + " and ".join(need)
    if key is None and not row.key_optional and row.api_key is None:
        return f"set {' or '.join(row.key_variables)}"
    return None
