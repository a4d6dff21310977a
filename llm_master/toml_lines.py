"""
On which line of a TOML text each key stands; the parser of the standard library does not say.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left

__all__ = ["Place", "key_lines"]

#: The way to a value: names of tables and keys, and positions in arrays.
Place = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_SPACE = re.compile(r"[ \t]*+")
_BARE = re.compile(r"[A-Za-z0-9_-]++")
# The longer ones first: three quotes are no empty string and a quote. The text may end in one or two quotes.
_STRING = re.compile(
    r'"""(?:[^"\\]++|\\[\s\S]|"{1,2}(?!"))*+"{3,5}'
    r"|'''(?:[^']++|'{1,2}(?!'))*+'{3,5}"
    r'|"(?:[^"\\\n]++|\\.)*+"'
    r"|'[^'\n]*+'"
)
_SCALAR = re.compile(r"[^,\]}#\n]++")


def key_lines(text: str) -> dict[Place, int]:
    """
    The line, counted from 1, of every table, key and array element of a text that ``tomllib`` accepts.

    A table stands where its header does, or where it is first mentioned; an array of tables where its first one does.
    """
    return _Walk(text).lines


class _Walk:
    """One pass over a valid text; it only has to know where things end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self._last: dict[Place, int] = {}  # an array of tables -> the position of its newest table
        self.lines: dict[Place, int] = {}
        self._document()

    def _document(self) -> None:
        table: Place = ()
        while self._next() is not None:
            if self._next() == "[":
                table = self._header()
            else:
                self._pair(table)

    def _next(self) -> str | None:
        """The next character that means something, None at the end."""
        self._skip(_BLANK)
        return self._text[self._at] if self._at < len(self._text) else None

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError("not a text that tomllib accepts")
        self._at = found.end()
        return found[0]

    def _note(self, place: Place, at: int) -> None:
        self.lines.setdefault(place, bisect_left(self._ends, at) + 1)

    def _header(self) -> Place:
        start = self._at
        double = self._text.startswith("[[", start)
        self._at += 2 if double else 1
        names = self._key()
        self._at += 2 if double else 1
        place: Place = ()
        for name in names[:-1]:
            place = (*place, name)
            self._note(place, start)
            if place in self._last:
                place = (*place, self._last[place])
        place = (*place, names[-1])
        if not double:
            # Its own header beats a mention in a header before it.
            self.lines[place] = bisect_left(self._ends, start) + 1
            return place
        self._note(place, start)
        self._last[place] = self._last.get(place, -1) + 1
        place = (*place, self._last[place])
        self._note(place, start)
        return place

    def _key(self) -> list[str]:
        names = []
        while True:
            self._skip(_SPACE)
            if self._text[self._at] in "\"'":
                raw = self._skip(_STRING)
                names.append(next(iter(tomllib.loads(f"{raw} = 0"))))
            else:
                names.append(self._skip(_BARE))
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return names
            self._at += 1

    def _pair(self, table: Place) -> None:
        start = self._at
        place = table
        for name in self._key():
            place = (*place, name)
            self._note(place, start)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(place)

    def _value(self, place: Place) -> None:
        opening = self._text[self._at]
        if opening in "\"'":
            self._skip(_STRING)
        elif opening in "[{":
            self._at += 1
            self._items(place, inline_table=opening == "{")
        else:
            self._skip(_SCALAR)

    def _items(self, place: Place, *, inline_table: bool) -> None:
        position = 0
        while (char := self._next()) not in ("]", "}"):
            if char == ",":
                self._at += 1
            elif inline_table:
                self._pair(place)
            else:
                self._note((*place, position), self._at)
                self._value((*place, position))
                position += 1
        self._at += 1
