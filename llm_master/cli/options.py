"""
Options that several commands have.
"""

from __future__ import annotations

from typing import Annotated

import typer

from llm_master.cli.complete import complete_model

__all__ = ["Fallback", "System"]

Fallback = Annotated[
    list[str] | None,
    typer.Option(
        "--fallback",
        metavar="NAME",
        help="A model to ask when the one before it fails; may be repeated.",
        autocompletion=complete_model,
    ),
]

System = Annotated[str | None, typer.Option("--system", "-s", metavar="TEXT", help="System prompt.")]
