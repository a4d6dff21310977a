"""
``llm-master models``: which models are known, what one of them takes, and newer prices for them.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from llm_master.base_provider import row_of
from llm_master.cli.complete import complete_provider, known_models
from llm_master.cli.terminal import print_json, print_table, tell
from llm_master.config import LLMConfig
from llm_master.errors import LLMError
from llm_master.response_synthesizer import QueryLLM

__all__ = ["models"]

_UPDATE = "update"


def models(
    search: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Only names that contain this.", show_default=False)
    ] = None,
    *,
    provider: Annotated[
        str | None,
        typer.Option(
            "--provider", "-p", metavar="NAME", help="Only this provider's.", autocompletion=complete_provider
        ),
    ] = None,
    detail: Annotated[
        bool, typer.Option("--detail", "-d", help="Show what the model TEXT takes; it need not be listed.")
    ] = False,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="With update: from here; https.", show_default=False)
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="With update: say what would change, keep nothing.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """
    List the models known by name.

    Each stands as it is asked for with -m. A model that is not listed works as provider/model.

    llm-master models update fetches newer prices, which are used from then on; nothing else fetches any.
    """
    if search == _UPDATE:
        from llm_master.cli.prices import update_prices

        update_prices(url, json_output=json_output, check=check)
        return
    if url is not None or check:
        option, value = ("--check", "") if url is None else ("--url", " https://...")
        raise typer.BadParameter(f"{option} goes with update, as in: llm-master models update {option}{value}")
    if detail:
        if search is None:
            raise typer.BadParameter("name the model, as in: llm-master models gpt-4o --detail")
        _show(f"{provider}/{search}" if provider else search, json_output=json_output)
        return
    wanted = row_of(provider).name if provider else None
    rows = [
        {"model": name, "provider": owner, "status": state}
        for name, owner, state in known_models()
        if (wanted is None or owner == wanted) and (search is None or search.lower() in name.lower())
    ]
    if json_output:
        llm = QueryLLM(LLMConfig())
        print_json([{**row, "capabilities": _facts(llm, row["model"])} for row in rows])
    elif rows:
        print_table(("model", "provider", "status"), rows)
    else:
        tell("no known model is called like that; any model works as provider/model, see: llm-master providers")


def _facts(llm: QueryLLM, name: str) -> dict[str, Any] | None:
    """What a model takes, None where only a class of the user's own knows."""
    try:
        found = llm.capabilities(name)
    except LLMError:
        return None
    return {**msgspec.to_builtins(found), "retired": found.retired()}


def _show(name: str, *, json_output: bool) -> None:
    found = QueryLLM(LLMConfig()).capabilities(name)
    facts = {**msgspec.to_builtins(found), "retired": found.retired()}
    if json_output:
        print_json(facts)
        return
    print_table(("fact", "value"), [{"fact": field.replace("_", " "), "value": _word(facts[field])} for field in facts])


def _word(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) or "none" if isinstance(value, (list, tuple)) else str(value)
