"""
``llm-master models`` and ``llm-master providers``.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from llm_master.base_provider import UnifiedProvider, row_of
from llm_master.cli.complete import known_models
from llm_master.config import LLMConfig
from llm_master.errors import ConfigurationError

__all__ = ["models", "provider_facts", "providers"]


def models(
    search: Annotated[str | None, typer.Argument(help="Show names that contain this.")] = None,
    *,
    provider: Annotated[str | None, typer.Option("--provider", "-p", help="Only this provider's.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that are known by name; others work as provider/model."""
    wanted = row_of(provider).name if provider else None
    rows = [
        {"model": name, "provider": owner, "status": state}
        for name, owner, state in known_models()
        if (wanted is None or owner == wanted) and (search is None or search.lower() in name.lower())
    ]
    if json_output:
        _json(rows)
    else:
        _table(("model", "provider", "status"), rows)


def providers(*, json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the providers, and whether each is ready to be called."""
    rows = [provider_facts(name, LLMConfig.from_env()) for name in UnifiedProvider.PROVIDER_CONFIGS]
    if json_output:
        _json(rows)
        return
    shown = [
        {
            **row,
            "aliases": ", ".join(row["aliases"]),
            "key variables": ", ".join(row["key_variables"]),
            "state": "ready" if row["ready"] else row["missing"],
        }
        for row in rows
    ]
    _table(("key", "aliases", "family", "key variables", "base_url", "state"), shown)


def provider_facts(name: str, config: LLMConfig) -> dict[str, Any]:
    """What ``providers --json`` says of one row: key, aliases, address, family, key variables, ready or what is missing."""
    row = row_of(name)
    missing = None
    given = None
    try:
        given = config.url_for(row.name)
        key = config.key_for(row.api_key_attr or "", row.key_variables)
        if row.status != "live":
            missing = row.status
        elif given is None and row.supervisor is not None:
            missing = _supervised(row.supervisor)
        elif given is None and row.base_url is None:
            missing = f"set {row.name.upper()}_BASE_URL"
        elif key is None and not row.key_optional:
            missing = f"set {' or '.join(row.key_variables)}"
    except ConfigurationError as error:
        missing = str(error)
    return {
        "key": row.name,
        "aliases": list(row.aliases),
        "base_url": given[0] if given else row.base_url,
        "family": row.families[0],
        "key_variables": list(row.key_variables),
        "ready": missing is None,
        "missing": missing,
    }


def _supervised(where: str) -> str | None:
    import importlib

    ready, why = importlib.import_module(where.partition(":")[0]).installed()
    return None if ready else str(why)


def _json(rows: list[dict[str, Any]]) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode() + "\n")


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """A table for a terminal; plain tab-separated lines for a pipe."""
    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(str(row[c] or "") for c in columns) + "\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=None, header_style="bold")
    for row in rows:
        table.add_row(*(str(row[c] or "") for c in columns))
    Console().print(table)
