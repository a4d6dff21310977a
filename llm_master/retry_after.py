"""
How long a provider asks to wait: every form that is in use, and none of the nonsense.

Sources: the vendors' error documentation and client code, state 2026-11-21.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["google_details", "retry_after_seconds"]

_MAX_WAIT = 86_400.0
_DURATION = re.compile(r"(?P<n>\d+(?:\.\d+)?)(?P<u>ms|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def retry_after_seconds(headers: Mapping[str, str], details: Any = None, *, now: float | None = None) -> float | None:
    """
    Seconds that a provider asks to wait, or None when it says nothing usable.

    Reads ``retry-after-ms``, ``retry-after`` (seconds or HTTP date), Gemini's RetryInfo in the error's details, then
    ``x-ratelimit-reset-requests`` / ``-tokens`` (Go durations). Negative, NaN and absurd values (over a day) are
    ignored, and the next source is read.

    Args:
        headers: the answer's headers, looked up without regard to case by the mapping.
        details: the ``details`` of a Google error.
        now: UNIX time in seconds, for the date form.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    text = headers.get("retry-after")
    seconds = _number(text)
    candidates = [
        _sane(milliseconds / 1000.0) if milliseconds is not None else None,
        _sane(seconds) if seconds is not None else _until(text, now),
        *(
            _duration(entry["retryDelay"])
            for entry in google_details(details)
            if isinstance(entry.get("retryDelay"), str)
        ),
    ]
    asked = next((found for found in candidates if found is not None), None)
    if asked is not None:
        return asked
    resets = [
        found
        for kind in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{kind}") == "0"
        and (found := _duration(headers.get(f"x-ratelimit-reset-{kind}") or "")) is not None
    ]
    return max(resets, default=None)


def google_details(details: Any) -> list[dict[str, Any]]:
    """The entries of a Google error's ``details``; empty for anything else."""
    return [entry for entry in details if isinstance(entry, dict)] if isinstance(details, list) else []


def _until(text: str | None, now: float | None) -> float | None:
    if not text:
        return None
    # Imported here: email.utils brings sockets and time zones with it, and a date is the rare form.
    from datetime import UTC
    from email.utils import parsedate_to_datetime

    try:
        when = parsedate_to_datetime(text)
        # "-0000" means UTC of an unknown place; without a zone it would be read as local time.
        stamp = (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if now is None:
        import time

        now = time.time()
    return _sane(max(0.0, stamp - now))


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _sane(seconds: float) -> float | None:
    return seconds if 0.0 <= seconds <= _MAX_WAIT else None  # NaN is in no range


def _duration(text: str) -> float | None:
    matches = list(_DURATION.finditer(text))
    if not matches or "".join(m[0] for m in matches) != text.strip():
        return None
    return _sane(sum(float(m["n"]) * _UNITS[m["u"]] for m in matches))
