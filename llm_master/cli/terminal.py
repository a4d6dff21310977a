"""
What is written where: an answer to stdout, remarks to stderr, and neither more than a terminal or a pipe should get.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Answer", "abandon", "json_line", "prepare", "print_json", "print_table", "tell"]


class _Nowhere(io.TextIOBase):
    """What stands in for a stream that was closed before we started."""

    def write(self, text: str) -> int:
        return len(text)


def prepare() -> None:
    """Make both streams usable: one that is closed swallows, and no character is a reason to fail."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _Nowhere())
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _harmless(text: str) -> str:
    # A model or a provider may say anything, terminal controls included; a terminal must not obey it.
    return "".join(c for c in text if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f"))


def tell(line: str) -> None:
    """Write one line to stderr; nobody is left to tell when that fails."""
    try:
        sys.stderr.write(_harmless(" ".join(line.split())) + "\n")
        sys.stderr.flush()
    except OSError:
        abandon(sys.stderr)


def abandon(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere: the interpreter would write it again at its exit, and fail again."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Answer:
    """
    An answer on its way to stdout: each piece is shown at once, and the whole ends in exactly one newline.

    Args:
        out: where it goes. A pipe gets every other character as it came, a terminal no control characters.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._held = ""
        self._begun = False
        self._terminal = out.isatty()

    def write(self, text: str) -> None:
        """Show a piece; line ends wait until something follows them."""
        text = self._held + (_harmless(text) if self._terminal else text)
        body = text.rstrip("\r\n")
        self._held = text[len(body) :]
        if body:
            self._out.write(body)
            self._out.flush()
            self._begun = True

    def end(self) -> None:
        """Write the newline at the end of a whole answer."""
        self._out.write("\n")
        self._out.flush()
        self._begun = False

    def break_off(self) -> None:
        """End the line of an answer that stops half-way; nothing when there is no such line."""
        if self._begun:
            self.end()


def json_line(value: Any) -> str:
    """A value as JSON on one line, with an escape for each character that a terminal would obey."""
    import msgspec

    text = msgspec.json.encode(value).decode()
    # The others are escaped by every JSON.
    return re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)


def print_json(value: Any) -> None:
    """Indented JSON on stdout."""
    import msgspec

    sys.stdout.write(msgspec.json.format(json_line(value), indent=2) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[dict[str, str]], *, spare: Sequence[str] = ()) -> None:
    """
    Print a table to a terminal, or lines with tabs and no heading to a pipe.

    Args:
        columns: names of the columns, keys of the rows.
        rows: the cells.
        spare: columns that a narrow terminal does without, the first to go first.
    """
    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(row[column] for column in columns) + "\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    plain = bool(os.environ.get("NO_COLOR"))
    console = Console(color_system=None if plain else "auto", highlight=False)
    shown = list(columns)
    for column in spare:
        if sum(max(len(each), *(len(row[each]) for row in rows), 0) + 2 for each in shown) <= console.width:
            break
        shown.remove(column)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in shown:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_harmless(row[column])) for column in shown))
    console.print(table)
    if len(shown) < len(columns):
        left_out = ", ".join(column for column in columns if column not in shown)
        tell(f"not shown for lack of room: {left_out}; --json shows everything")
