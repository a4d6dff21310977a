"""
Which price data is in use: what the user has fetched, else what the installed package holds.

Nothing is fetched here. ``llm-master models update`` writes the file; a process reads it when its first price is asked
for, and again after ``forget``.
"""

from __future__ import annotations

import hashlib
import logging
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.built import build
from llm_master.prices import LOADING
from llm_master.prices.package import from_package, installed_version
from llm_master.prices.rules import rules
from llm_master.prices.sheets import Provider, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LARGEST", "VARIABLE", "Book", "book", "checked", "data_path", "forget", "is_read", "keep"]

logger = logging.getLogger("llm_master")

#: A path for the fetched data, or ``off`` for the data of the installed package alone.
VARIABLE = "LLM_MASTER_PRICES"
#: Bytes of fetched data at most; what is published has less than a tenth of that.
LARGEST = 32 * 1024 * 1024
_OFF = "off"


class Book(msgspec.Struct, frozen=True):
    """Price sheets by the provider's id; ``source`` and ``as_of`` (a day in UTC) say what they are."""

    sheets: dict[str, Provider]
    source: str
    as_of: date


class _Kept(msgspec.Struct, frozen=True):
    """The file: the data as it was fetched, when and from where, its hash, and the version of the package then."""

    url: str
    fetched: datetime
    sha256: str
    data: msgspec.Raw
    installed: str | None = None


_BOOK: list[Book] = []


def data_path() -> Path | None:
    """Where fetched data is kept; None when the user wants none of it, or has no home folder."""
    given = os.environ.get(VARIABLE)
    if given:
        return None if given.lower() == _OFF else Path(given).expanduser()
    home = os.environ.get("XDG_DATA_HOME")
    try:
        base = Path(home) if home else Path("~/.local/share").expanduser()
    except RuntimeError:  # a user without an entry and without HOME, as in containers
        return None
    return base / "llm_master" / "prices.json"


def book() -> Book:
    """The price sheets in use, read once."""
    if not _BOOK:
        with LOADING:
            if not _BOOK:
                _BOOK.append(_in_use())
    return _BOOK[0]


def _in_use() -> Book:
    found = _fetched()
    if found is None:
        return _installed()
    fetched, version = found
    if version in (None, installed_version()):
        return fetched
    # The package is another one than when the data was fetched: the later of the two knows of later prices.
    installed = _installed()
    return installed if max(_days(installed.sheets)) > max(_days(fetched.sheets)) else fetched


def is_read() -> bool:
    """Whether the price sheets have been read."""
    return bool(_BOOK)


def forget() -> None:
    """Read the data anew when the next price is asked for."""
    with LOADING:
        _BOOK.clear()


def checked(data: bytes, url: str) -> Book:
    """
    Fetched data as a book.

    Raises:
        ValueError: it is no price data, or lacks the prices of providers that everyone uses.
    """
    try:
        sheets = parse(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"it is no price data: {error}") from error
    priced = {name for name, sheet in sheets.items() if any(p.prices for m in sheet.models for p in m.periods())}
    missing = {"openai", "anthropic", "google"} - priced
    if missing:
        raise ValueError(f"it has no prices of {', '.join(sorted(missing))}")
    return Book(sheets, _named(url), datetime.now(UTC).date())


def keep(data: bytes, url: str, path: Path) -> Book:
    """
    Check fetched data and write it in one piece.

    Args:
        url: where it is from, without anything secret.

    Raises:
        ValueError: as ``checked``.
        OSError: the file cannot be written.
    """
    found = checked(data, url)
    build(_Kept)
    digest = hashlib.sha256(data).hexdigest()
    kept = _Kept(url, datetime.now(UTC), digest, msgspec.Raw(data), installed_version())
    path.parent.mkdir(parents=True, exist_ok=True)
    # Who reads at the same time sees the old file or the new one, whole; so does who reads after a loss of power.
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with beside.open("wb") as file:
            file.write(msgspec.json.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    forget()
    return found


def _named(url: str) -> str:
    return f"genai-prices from {url.split('/')[2]}" if url.count("/") > 1 else "genai-prices"


def _fetched() -> tuple[Book, str | None] | None:
    path = data_path()
    if path is None:
        return None
    build(_Kept)
    try:
        return _read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        logger.warning(
            "the fetched prices %s cannot be used (%s); those of the installed package are: run llm-master models"
            " update, or remove the file",
            path,
            error,
        )
        return None


def _read(path: Path) -> tuple[Book, str | None]:
    kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    data = bytes(kept.data)
    if hashlib.sha256(data).hexdigest() != kept.sha256:
        raise ValueError("its hash is another one")
    return Book(parse(data), _named(kept.url), kept.fetched.date()), kept.installed


def _installed() -> Book:
    sheets, version = from_package()
    known = rules().sheet_dates.get(version)
    return Book(sheets, f"genai-prices {version}", known or _newest(sheets))


def _newest(sheets: dict[str, Provider]) -> date:
    """The last day on which a price changed that is not to come: the data is that new at least."""
    today = datetime.now(UTC).date()
    return max(day for day in _days(sheets) if day <= today)


def _days(sheets: dict[str, Provider]) -> Iterator[date]:
    """The days on which prices change."""
    yield date.min
    for sheet in sheets.values():
        for model in sheet.models:
            changes: tuple[Any, ...] = (*model.periods(), *model.price_variants)
            yield from (
                each.constraint.start_date for each in changes if each.constraint and each.constraint.start_date
            )
