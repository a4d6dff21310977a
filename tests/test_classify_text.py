"""
What an error made from an answer says: its fields, the next step, nothing secret and nothing long.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_master.classify import error_fields, error_from_object, error_from_response, excerpt
from llm_master.errors import ProviderError, QuotaExceededError, RateLimitError

KEY = "plum-and-apple-99"


def _error(status: int, body: Any, headers: dict[str, str] | None = None, **options: Any) -> ProviderError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_from_response(status, raw, provider="acme", model="m1", headers=headers, **options)


def _openai(message: str = "", code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def test_fields_of_an_error() -> None:
    headers = {"retry-after": "2", "x-request-id": "no"}
    error = _error(429, _openai("slow", "rate_limit_exceeded"), headers, request_id="req_7")
    assert error.code == "rate_limit_exceeded"
    assert error.retry_after == 2.0
    assert error.request_id == "req_7"
    assert error.body == "slow"
    assert error.message == ("acme refused 'm1' (HTTP 429): slow; wait, lower the rate, or give a fallback_model=")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("insufficient_quota", "add credit"),
        ("context_length_exceeded", "shorten the input"),
        ("content_filter", "fallback_on={'content_policy'}"),
        ("invalid_api_key", "check the key of acme (llm-master doctor)"),
        ("model_not_found", "check the model's name and the base URL"),
        ("rate_limit_exceeded", "wait, lower the rate"),
        ("unsupported_parameter", "correct the request"),
        ("server_error", "try again or give a fallback_model="),
    ],
)
def test_an_error_says_what_to_do_next(kind: str, says: str) -> None:
    assert says in str(error_from_object(_openai("x", kind, ""), provider="acme", model="m1"))


@pytest.mark.parametrize(("header", "retryable"), [("true", True), ("false", False), ("maybe", True), (None, True)])
def test_the_provider_may_say_whether_to_retry(header: str | None, retryable: bool) -> None:
    headers = {} if header is None else {"x-should-retry": header}
    assert _error(500, {}, headers).retryable is retryable
    assert _error(400, {}, {"x-should-retry": "true"}).retryable is True


@pytest.mark.parametrize(
    ("body", "message", "codes"),
    [
        ({"error": {"message": "a", "code": "b", "type": "c"}}, "a", ("b", "c")),
        ([{"error": {"message": "a", "status": "B", "code": 400}}], "a", ("400", "B")),
        ({"error": "a", "code": "b"}, "a", ("b",)),
        ({"message": "a", "type": "error", "code": 3}, "a", ("3",)),
        ({"detail": "a"}, "a", ()),
        ({"detail": [{"msg": "a"}, {"msg": "b"}, "c", "d"]}, "a; b; c", ()),
        ({"errors": [{"code": 7, "message": "a"}]}, "a", ("7",)),
        ({"error": {"message": "a", "metadata": {"raw": "b"}}}, "a: b", ()),
        ({"error": {"message": "a", "innererror": {"code": "B"}}}, "a", ("B",)),
        ("text", "", ()),
        (None, "", ()),
        ([], "", ()),
        ([1], "", ()),
    ],
)
def test_message_and_codes_are_found_in_every_shape(body: Any, message: str, codes: tuple[str, ...]) -> None:
    assert error_fields(body)[:2] == (message, codes)


# -- nothing secret, nothing long -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["message", "code", "type"])
def test_no_secret_of_the_body_is_shown(place: str) -> None:
    body = {"error": {"message": "x", place: f"your key {KEY} and sk-abcdef123456 are wrong"}}
    error = _error(401, body, secrets=(KEY, None))
    shown = f"{error!r} {vars(error)} {error.body} {error.code}"
    assert KEY not in shown
    assert "sk-abc" not in shown


def test_no_secret_of_a_page_is_shown() -> None:
    error = _error(502, f"<html>\n<p>Authorization: Bearer {KEY}</p> {KEY}".encode(), secrets=(KEY,))
    assert KEY not in str(error)
    assert "<html> <p>" in str(error)


@pytest.mark.parametrize("at", range(280, 310, 3))
def test_a_key_on_the_edge_of_an_excerpt_is_not_half_shown(at: int) -> None:
    assert "plum" not in excerpt(f"{'x' * at} {KEY}", KEY)


@pytest.mark.parametrize("at", range(16_384 - 20, 16_384 + 3))
def test_a_key_on_the_edge_of_what_is_looked_at_is_not_half_shown(at: int) -> None:
    text = " " * (at - 5) + "key: " + KEY + " and more " * 50
    assert "plum" not in excerpt(text, KEY)
    assert "plum" not in excerpt(text.encode(), KEY)


def test_an_excerpt_is_short_and_one_line() -> None:
    assert excerpt("a\r\n b") == "a b"
    assert excerpt(b"\xffa") == "\ufffda"
    assert excerpt("y" * 300) == "y" * 300
    assert excerpt("y" * 301) == "y" * 300 + "..."
    assert len(str(_error(500, {"message": "y z" * 1_000_000}))) < 500


def test_a_huge_message_is_gone_through() -> None:
    for unit in ("model ", "quota ", "a ", "exceeded your current quota ", "input is "):
        assert type(_error(429, {"message": unit * (300_000 // len(unit))})) in (RateLimitError, QuotaExceededError)
