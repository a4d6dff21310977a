"""
Points in time as a user writes them, and the days of a time zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache

from llm_master.errors import InvalidRequestError
from llm_master.redaction import shown

__all__ = ["When", "Zone", "moment", "zone"]

#: A time: a datetime (without a zone it is of the report's zone), a date (its first moment), a span before now, the
#: text of one of them, or microseconds since the epoch.
When = datetime | date | timedelta | str | int

_DAY = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPAN = re.compile(r"(\d{1,9})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MICROSECOND = timedelta(microseconds=1)


class Zone:
    """
    The days of a time zone.

    Args:
        name: as it was asked for: ``utc``, ``local`` or a name such as ``Europe/Berlin``.
        info: the zone itself; None is that of this machine.
    """

    def __init__(self, name: str, info: tzinfo | None) -> None:
        self.name = name
        self.info = info
        self.is_utc = info is UTC
        self._start = cache(self._start_of)

    def day_of(self, ts: int) -> date:
        """The day on which a moment lies; raises OverflowError for one that no calendar has."""
        if self.is_utc:
            return date.fromordinal(_EPOCH.toordinal() + ts // _DAY)
        number = _EPOCH.toordinal() + ts // _DAY
        # No zone is more than a day away from UTC.
        return next(date.fromordinal(each) for each in (number + 1, number, number - 1) if self._start(each) <= ts)

    def days_of(self, slots: Iterable[int], unit: int) -> list[str] | None:
        """
        The days in which stretches of time lie; None when one of them lies in two.

        Args:
            slots: the number of each stretch, counted from the epoch.
            unit: microseconds of one.

        Raises:
            OverflowError, ValueError: one lies where no calendar has a day.
        """
        found, name, start, end = [], "", 0, 0
        for slot in slots:
            if not start <= (first := slot * unit) < end:
                day = self.day_of(first)
                name, start, end = day.isoformat(), self._start(day.toordinal()), self._start(day.toordinal() + 1)
            if first + unit > end:
                return None
            found.append(name)
        return found

    def _start_of(self, number: int) -> int:
        day = date.fromordinal(number)
        return _micros(self._within(datetime(day.year, day.month, day.day)))  # noqa: DTZ001  # the zone follows

    def _within(self, naive: datetime) -> datetime:
        return naive.replace(tzinfo=self.info) if self.info is not None else naive.astimezone()

    def moment(self, value: datetime | date) -> int:
        """Microseconds of a time of this zone."""
        if not isinstance(value, datetime):
            return self._start(value.toordinal())
        return _micros(value if value.tzinfo is not None else self._within(value))

    def shown(self, ts: int) -> datetime:
        """A moment in this zone; raises OverflowError for one that no calendar has."""
        return (_EPOCH + timedelta(microseconds=ts)).astimezone(self.info)


def zone(name: str) -> Zone:
    """
    A time zone by its name: ``utc``, ``local`` or one of the IANA database.

    Raises:
        InvalidRequestError: nobody knows the name.
    """
    if name.lower() in ("utc", "z"):
        return Zone("UTC", UTC)
    if name.lower() == "local":
        return Zone("local", None)
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return Zone(name, ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequestError(
            f"{shown(name)} is no time zone known here; write utc, local or a name such as Europe/Berlin"
        ) from error


def moment(value: When, now: int, where: Zone) -> int:
    """
    A point in time as microseconds since the epoch.

    Args:
        value: ``7d``, ``12h``, ``30m``, ``45s``, ``2w`` (before now), ``2026-11-01`` (its first moment),
            ``2026-11-01T12:30``, also with an offset; or what ``When`` names.
        now: microseconds since the epoch.
        where: the zone of what has none.

    Raises:
        InvalidRequestError: it is none of them.
    """
    if isinstance(value, int):
        return value
    try:
        if isinstance(value, timedelta):
            return now - value // _MICROSECOND
        return where.moment(value) if isinstance(value, date) else _read(value.strip(), now, where)
    except (ValueError, OverflowError) as error:
        raise InvalidRequestError(
            f"{shown(value)} is no time; write 7d, 12h, 30m, 2026-11-01 or 2026-11-01T12:30"
        ) from error


def _read(text: str, now: int, where: Zone) -> int:
    span = _SPAN.fullmatch(text.lower())
    if span:
        return now - timedelta(**{_UNITS[span[2]]: int(span[1])}) // _MICROSECOND
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return where.moment(date.fromisoformat(text))
    if not re.match(r"\d{4}-\d{2}-\d{2}[T ]", text):
        raise ValueError(text)
    return where.moment(datetime.fromisoformat(text))


def _micros(value: datetime) -> int:
    return (value - _EPOCH) // _MICROSECOND
