"""
How long a provider asks to wait: every form that is in use, and none of the nonsense.
"""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_master.retry_after import google_details, provider_stop, retry_after_seconds

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def _info(delay: Any) -> list[Any]:
    return [{"@type": "type.googleapis.com/google.rpc.Help"}, {"@type": "RetryInfo", "retryDelay": delay}]


def _anthropic(kind: str, reset: str, left: str = "0") -> dict[str, str]:
    return {
        f"anthropic-ratelimit-{kind}-limit": "50",
        f"anthropic-ratelimit-{kind}-remaining": left,
        f"anthropic-ratelimit-{kind}-reset": reset,
    }


def _resets(requests: str | None, tokens: str | None, left: str = "0") -> dict[str, str]:
    headers = {}
    for kind, reset in (("requests", requests), ("tokens", tokens)):
        if reset is not None:
            headers |= {f"x-ratelimit-remaining-{kind}": left, f"x-ratelimit-reset-{kind}": reset}
    return headers


@pytest.mark.parametrize(
    ("headers", "details", "seconds"),
    [
        ({}, None, None),
        # seconds
        ({"retry-after": "2"}, None, 2.0),
        ({"retry-after": " 2.5 "}, None, 2.5),
        ({"retry-after": "0"}, None, 0.0),
        ({"retry-after": "86400"}, None, 86400.0),
        ({"retry-after": "86401"}, None, None),
        ({"retry-after": "-1"}, None, None),
        ({"retry-after": "nan"}, None, None),
        ({"retry-after": "inf"}, None, None),
        ({"retry-after": "1e400"}, None, None),
        ({"retry-after": "9" * 5000}, None, None),
        ({"retry-after": ""}, None, None),
        ({"retry-after": "soon"}, None, None),
        # milliseconds first
        ({"retry-after-ms": "1500", "retry-after": "9"}, None, 1.5),
        ({"retry-after-ms": "0"}, None, 0.0),
        ({"retry-after-ms": "-1", "retry-after": "9"}, None, 9.0),
        ({"retry-after-ms": "nan", "retry-after": "9"}, None, 9.0),
        ({"retry-after-ms": "x", "retry-after": "9"}, None, 9.0),
        ({"retry-after-ms": "1e12"}, None, None),
        # a date
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, None, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 -0000"}, None, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 23:13:50 +0100"}, None, 30.0),
        ({"retry-after": "Tuesday, 14-Nov-23 22:13:50 GMT"}, None, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, None, 0.0),
        ({"retry-after": "Tue, 14 Nov 2033 22:00:00 GMT"}, None, None),
        ({"retry-after": "Tue, 99 Nov 2023 22:13:50 GMT"}, None, None),
        ({"retry-after": "Tue, 14 Nov 99999 22:13:50 GMT"}, None, None),
        # Gemini's RetryInfo
        ({}, _info("45.8379s"), 45.8379),
        ({}, _info("0s"), 0.0),
        ({}, _info("-5s"), None),
        ({}, _info("99999s"), None),
        ({}, _info(5), None),
        ({}, _info(None), None),
        ({"retry-after": "7"}, _info("45s"), 7.0),
        ({"retry-after": "-1"}, _info("45s"), 45.0),
        # the limits' own reset times, when something is used up; Go durations
        (_resets("1s", None), None, 1.0),
        (_resets("6m0s", None), None, 360.0),
        (_resets("17ms", None), None, 0.017),
        (_resets("1h2m3.5s", None), None, 3723.5),
        (_resets("2m59.56s", "1s"), None, 179.56),
        (_resets("1s", "20s"), None, 20.0),
        (_resets("-1", "20s"), None, 20.0),
        (_resets("1s", "20s", left="3"), None, None),
        (_resets("1s", None, left="-1"), None, None),
        (_resets("", None), None, None),
        (_resets("12", None), None, 12.0),
        (_resets("1700000000", None), None, None),
        (_resets("1s!", None), None, None),
        (_resets("1s 2s", None), None, None),
        (_resets("48h", None), None, None),
        ({"retry-after": "3", **_resets("20s", None)}, None, 3.0),
        (_anthropic("requests", "2023-11-14T22:13:50Z"), None, 30.0),
        (_anthropic("output-tokens", "2023-11-14T22:13:50+00:00"), None, 30.0),
        (_anthropic("requests", "2023-11-14T22:00:00Z"), None, None),
        (_anthropic("requests", "2023-11-14T22:13:50Z", left="1"), None, None),
        ({"retry-after": "-1", **_resets("20s", None)}, None, 20.0),
    ],
)  # fmt: skip
def test_every_form(headers: dict[str, str], details: Any, seconds: float | None) -> None:
    found = retry_after_seconds(headers, details, now=NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_a_date_without_a_zone_is_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XXX+5")
    time.tzset()
    try:
        assert retry_after_seconds({"retry-after": "Tue, 14 Nov 2023 22:13:50 -0000"}, now=NOW) == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_date_is_measured_from_the_present_time() -> None:
    assert retry_after_seconds({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}) == 0.0


_text = st.text(max_size=20) | st.sampled_from(["NaN", "-0", "+5", "1_0", "٣", "0x10", "Mon, 1 Jan 0000 00:00:00 GMT"])


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", *_resets("", "")]), _text | st.floats().map(str), max_size=6
    ),
    st.one_of(
        st.none(), st.text(), st.lists(st.none() | st.dictionaries(st.just("retryDelay"), _text | st.integers()))
    ),
)
def test_whatever_is_sent_the_wait_is_sane(headers: dict[str, str], details: Any) -> None:
    found = retry_after_seconds(headers, details, now=NOW)
    assert found is None or (math.isfinite(found) and 0.0 <= found <= 86_400.0)


def test_the_details_of_a_google_error_are_dicts_in_a_list() -> None:
    assert google_details([{"a": 1}, None, "x", {}]) == [{"a": 1}, {}]
    assert google_details({"a": 1}) == google_details(None) == []


@pytest.mark.parametrize(
    ("headers", "whole", "next_room"),
    [
        ({"x-ratelimit-limit-requests": "60", **_resets("60s", None)}, 60.0, 1.0),
        ({"x-ratelimit-limit-requests": "10000", **_resets("6m0s", None)}, 360.0, 0.036),
        (_resets("12s", None), 12.0, 12.0),
        ({"x-ratelimit-limit-tokens": "30000", **_resets(None, "20s")}, 20.0, 2.0),
        ({"x-ratelimit-limit-requests": "-1", **_resets("60s", None)}, 0.0, 0.0),
        (_anthropic("requests", "2023-11-14T22:14:10Z"), 50.0, 1.0),
    ],
)
def test_room_for_one_call_comes_back_before_a_limit_is_whole(
    headers: dict[str, str], whole: float, next_room: float
) -> None:
    assert provider_stop(headers, NOW) == pytest.approx(whole)
    assert provider_stop(headers, NOW, partial=True) == pytest.approx(next_room)
