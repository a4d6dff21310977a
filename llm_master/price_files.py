"""
Files of prices, ``.csv`` or ``.txt``: a header and one model a line, in USD per million tokens.
"""

from __future__ import annotations

import io
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.errors import ConfigurationError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

__all__ = ["PriceProblem", "PriceRow", "price_of", "read_price_files", "table_key"]

#: The columns, in any order and case; others are ignored. A family and a price of cached input may be missing.
COLUMNS = (
    *("PROVIDER", "MODEL_FAMILY", "MODEL"),
    *("INPUT_PRICE_PER_M", "INPUT_PRICE_PER_CACHED_M", "OUTPUT_PRICE_PER_M"),
)
_OPTIONAL = ("MODEL_FAMILY", "INPUT_PRICE_PER_CACHED_M")
_ENDS = (".csv", ".txt")
_NUMBER = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
#: A price of this many USD per million tokens, or with more digits behind the point, is a mistake of the file.
_HIGHEST = Decimal(10) ** 9
_MOST_DIGITS = 18
_LARGEST_FILE = 64 * 1024 * 1024


class PriceProblem(msgspec.Struct, frozen=True):
    """
    A line of a price file that was left out, and why; ``line`` counts from 1 and is 0 for the file as a whole.

    ``str()`` of it is ``FILE:LINE: what is wrong``.
    """

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


class PriceRow(msgspec.Struct, frozen=True):
    """One model's prices, USD per million tokens; ``source`` is ``FILE:LINE``."""

    provider: str
    family: str | None
    model: str
    input: Decimal
    output: Decimal
    cached: Decimal | None
    source: str


def table_key(provider: Any, model: Any, family: Any = None) -> tuple[str, str, str]:
    """
    What a model is looked up by: names without whitespace and in upper case, ``""`` for no family.

    Raises:
        ConfigurationError: provider or model is no text, or an empty one.
    """
    names = []
    for what, name in (("provider", provider), ("model", model), ("model_family", family or "")):
        if not isinstance(name, str):
            raise ConfigurationError(f"{what}={name!r} of a price: give a name")
        found = "".join(name.split()).upper()
        if (not found and what != "model_family") or not found.isprintable():
            raise ConfigurationError(f"{what}={name!r} of a price: give a name")
        names.append(found)
    return names[0], names[1], names[2]


def price_of(value: Any, what: str) -> Decimal:
    """
    A price as an exact number.

    Args:
        value: a Decimal, an int, a float (the shortest decimal that names it) or a text.
        what: its name, for the error.

    Raises:
        ConfigurationError: no number, NaN, infinite, negative, or absurdly high or long.
    """
    text = "" if isinstance(value, bool) else str(value).strip()
    number = _NUMBER.fullmatch(text)
    found = Decimal(text) if number else None
    if found is None or found >= _HIGHEST or int(found.as_tuple().exponent) < -_MOST_DIGITS:
        raise ConfigurationError(f"{what} {text[:40]!r} is not accepted: give USD per million tokens, such as 0.75")
    return found


def read_price_files(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[PriceRow], list[PriceProblem], list[str]]:
    """
    The rows of files, and of all price files below directories, in the order of their names.

    Returns:
        Good rows, a later one with the same names after an earlier one; what was left out; the files that were read.
    """
    reader = _Files()
    for path in map(Path, paths):
        if path.is_dir():
            for file in sorted(each for each in path.rglob("*") if each.suffix in _ENDS and each.is_file()):
                reader.read(file)
        elif path.exists():
            reader.read(path)
        else:
            reader.problems.append(PriceProblem(str(path), 0, "there is no such file or directory; correct the path"))
    return reader.rows, reader.problems, reader.files


class _Files:
    """Files that are being read, and what they gave."""

    def __init__(self) -> None:
        self.rows: list[PriceRow] = []
        self.problems: list[PriceProblem] = []
        self.files: list[str] = []

    def _wrong(self, line: int, text: str) -> None:
        self.problems.append(PriceProblem(self.files[-1], line, " ".join(text.split())))

    def read(self, path: Path) -> None:
        """Take in one file."""
        self.files.append(str(path))
        try:
            if path.stat().st_size > _LARGEST_FILE:
                self._wrong(0, f"the file has more than {_LARGEST_FILE} bytes; this is no list of prices")
                return
            self._lines(path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError:
            self._wrong(0, "this is not UTF-8 text; save the file as UTF-8")
        except OSError as error:
            self._wrong(0, f"the file cannot be read: {error.strerror or error}")

    def _lines(self, text: str) -> None:
        import csv

        lines = csv.reader(io.StringIO(text, newline=""))
        header: list[str] = []
        seen: dict[tuple[str, str, str], PriceRow] = {}
        try:
            for cells in lines:
                if not any(map(str.strip, cells)) or cells[0].lstrip().startswith("#"):
                    continue
                if header:
                    self._line(header, cells, lines.line_num, seen)
                    continue
                header = [cell.strip().upper() for cell in cells]
                problem = _header_problem(header)
                if problem:
                    self._wrong(lines.line_num, problem)
                    return
        except csv.Error as error:
            self._wrong(lines.line_num, f"this is not CSV ({error}); the rest of the file is left out")
        if not header:
            self._wrong(1, f"the file has no header; its first line must be {','.join(COLUMNS)}")

    def _line(self, header: list[str], cells: list[str], line: int, seen: dict[tuple[str, str, str], PriceRow]) -> None:
        try:
            row = _row(header, cells, f"{self.files[-1]}:{line}")
            _check_once(row, seen)
        except ConfigurationError as error:
            self._wrong(line, f"{error}; the line is left out")
        else:
            self.rows.append(row)


def _header_problem(header: Sequence[str]) -> str | None:
    missing = [name for name in COLUMNS if name not in header and name not in _OPTIONAL]
    if not missing:
        double = sorted({name for name in COLUMNS if header.count(name) > 1})
        return f"the header names {double[0]} twice" if double else None
    return (
        f"the header lacks {', '.join(missing)}: the first line must be {','.join(COLUMNS)}, with commas between;"
        " the whole file is left out"
    )


def _row(header: Sequence[str], cells: Sequence[str], source: str) -> PriceRow:
    if any(cell.strip() for cell in cells[len(header) :]):
        raise ConfigurationError(
            "there are more cells than columns; a number takes no comma, a text with one needs quotes"
        )
    # What a short line lacks is empty.
    found = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
    prices: dict[str, Decimal | None] = {}
    for name in COLUMNS[3:]:
        text = found.get(name, "")
        if not text and name not in _OPTIONAL:
            raise ConfigurationError(f"{name} is empty")
        prices[name] = price_of(text, name) if text else None
    for name in ("PROVIDER", "MODEL"):
        if not found.get(name):
            raise ConfigurationError(f"{name} is empty")
    provider, model, family = found["PROVIDER"], found["MODEL"], found.get("MODEL_FAMILY") or None
    table_key(provider, model, family)
    whole, cached, output = (prices[name] for name in COLUMNS[3:])
    assert whole is not None  # noqa: S101  # both were checked above
    assert output is not None  # noqa: S101  # as above
    return PriceRow(provider, family, model, whole, output, cached, source)


def _check_once(row: PriceRow, seen: dict[tuple[str, str, str], PriceRow]) -> None:
    """Refuse a second price of a model in one file; in another file it replaces the first."""
    key = table_key(row.provider, row.model, row.family)
    first = seen.setdefault(key, row)
    if (first.input, first.output, first.cached) != (row.input, row.output, row.cached):
        line = first.source.rpartition(":")[2]
        raise ConfigurationError(f"{row.provider} {row.model} has another price in line {line} already")
