"""
How long a provider asks to wait: every form that is in use, and none of the nonsense.

Sources: the vendors' error documentation and client code, state 2026-11-21.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["google_details", "provider_stop", "retry_after_seconds"]

_MAX_WAIT = 86_400.0
_DURATION = re.compile(r"(?P<n>\d+(?:\.\d+)?)(?P<u>ms|us|µs|ns|h|m|s)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

# Limit, remaining and reset of one count. Sources: OpenAI's and Anthropic's pages on rate limits, state 2026-11-21.
_HEADERS = tuple(
    (form.format("limit"), form.format("remaining"), form.format("reset"))
    for form in (
        "x-ratelimit-{}-requests",
        "x-ratelimit-{}-tokens",
        "anthropic-ratelimit-requests-{}",
        "anthropic-ratelimit-tokens-{}",
        "anthropic-ratelimit-input-tokens-{}",
        "anthropic-ratelimit-output-tokens-{}",
    )
)


def retry_after_seconds(headers: Mapping[str, str], details: Any = None, *, now: float | None = None) -> float | None:
    """
    Seconds that a provider asks to wait, or None when it says nothing usable.

    Reads ``retry-after-ms``, ``retry-after`` (seconds or HTTP date), Gemini's RetryInfo in the error's details, then
    the ratelimit headers as ``provider_stop`` does. Negative, NaN and absurd values (over a day) are
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
    return provider_stop(headers, now) or None


_DIGITS = "123456789"
# The share of a spent limit of tokens that is waited for: one call seldom needs the whole of it.
_ENOUGH = 0.1


def provider_stop(headers: Mapping[str, str], now: float | None = None, *, partial: bool = False) -> float:
    """
    Seconds for which a provider's ratelimit headers allow nothing more; 0 when they do.

    A reset is the moment at which a limit is whole again. Room for one request comes back long before: ``partial`` is
    the time until then, the reset over the limit, and for tokens a tenth of it.

    Read are ``x-ratelimit-*-requests`` and ``-tokens`` and ``anthropic-ratelimit-*``. A count whose limit is not
    positive says nothing (Azure sends -1 and 0); a reset that cannot be read or is over a day away neither.

    Args:
        headers: the answer's headers, looked up without regard to case by the mapping.
        now: UNIX time in seconds, for resets given as a date; None reads the clock.
        partial: whether room for the next call is enough.
    """
    longest = 0.0
    for limit, remaining, reset in _HEADERS:
        left = headers.get(remaining)
        # Nearly every answer has something left; its first digit tells.
        if left is None or left[:1] in _DIGITS or _number(left) != 0.0:
            continue
        allowed = headers.get(limit)
        if allowed is not None and not (_number(allowed) or 0.0) > 0.0:
            continue
        seconds = _reset(headers.get(reset) or "", now)
        if seconds is not None and partial:
            seconds *= _ENOUGH if "tokens" in limit else 1.0 / (_number(allowed) or 1.0)
        if seconds is not None and seconds > longest:
            longest = seconds
    return longest


def _reset(text: str, now: float | None) -> float | None:
    """Seconds to a moment given as a Go duration, a number of seconds or an RFC 3339 date."""
    found = _duration(text)
    if found is None and (number := _number(text)) is not None:
        found = _sane(number)
    if found is not None or "T" not in text:
        return found
    from datetime import UTC, datetime

    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if now is None:
        import time

        now = time.time()
    return _sane((when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp() - now)


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
