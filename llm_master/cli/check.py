"""
``llm-master check``: every mistake of a settings file.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from llm_master.cli.reach import one_line
from llm_master.cli.terminal import tell

__all__ = ["check"]


def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The settings file.")],
    *,
    provider: Annotated[
        list[str] | None,
        typer.Option("--provider", "-p", metavar="NAME", help="A provider of your own code; may be repeated."),
    ] = None,
) -> None:
    """
    Check a settings file.

    Each mistake is printed as FILE:LINE: TEXT, and the exit code is 2 when there is one. Nothing but the file is
    looked at: "llm-master doctor --settings FILE" also tries the keys, addresses and stores that it names.
    """
    from llm_master.catalogue import load_rows
    from llm_master.settings import check as find_problems

    rows = {**load_rows(), **{name: {} for name in provider or ()}}
    problems = find_problems(file, rows)
    for problem in problems:
        sys.stdout.write(one_line(f"{file}:{problem.line}: {problem.text}") + "\n")
    if problems:
        raise typer.Exit(2)
    if sys.stderr.isatty():
        tell(f"{file}: no mistakes")
