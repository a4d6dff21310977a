"""
An explanation on the terminal: what a call would do, and an exit code that says whether it could be made.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import typer

from llm_master.cli.terminal import _harmless, print_json

if TYPE_CHECKING:
    from llm_master.explanation import Explanation

__all__ = ["show"]

# How a line begins -> the style of the whole line.
_STYLES = (
    ("  ! ", "yellow"),
    ("  + ", "green"),
    ("  - ", "dim"),
    ("  ", ""),
    ("nothing can", "bold red"),
    ("", "bold"),
)
_CANNOT = 2


def show(explanation: Explanation, *, json_output: bool) -> None:
    """
    Print it, coloured where that is a terminal.

    Raises:
        typer.Exit: with code 2, when nothing could be sent as things stand.
    """
    if json_output:
        print_json(explanation.to_dict())
    elif sys.stdout.isatty():
        _coloured(str(explanation))
    else:
        sys.stdout.write(f"{explanation}\n")
    sys.stdout.flush()
    if not explanation.sendable:
        raise typer.Exit(_CANNOT)


def _coloured(text: str) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(color_system=None if os.environ.get("NO_COLOR") else "auto", highlight=False)
    for line in text.splitlines():
        style = next(style for begin, style in _STYLES if line.startswith(begin))
        console.print(Text(_harmless(line), style=style), soft_wrap=True)
