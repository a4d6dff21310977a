"""
All six families side by side: who writes their answers, their errors, and what each says when it is asked too much.
"""

from __future__ import annotations

import datetime as dt
from types import ModuleType
from typing import Any

from support import bodies_bedrock, bodies_cohere, bodies_gemini, bodies_responses
from support.bodies import BEDROCK, CHAT, COHERE, GEMINI, MESSAGES, RESPONSES, Family, error_json

__all__ = ["FORMS", "error_headers", "exhausted", "limited"]

#: The families beside the two of ``bodies`` -> the module that writes them.
FORMS: dict[Family, ModuleType] = {
    RESPONSES: bodies_responses,
    GEMINI: bodies_gemini,
    COHERE: bodies_cohere,
    BEDROCK: bodies_bedrock,
}

_GOOGLE = "type.googleapis.com/google.rpc."
Headers = list[tuple[str, str]]


def error_headers(family: Family | None, status: int) -> Headers:
    """Headers that a family's vendor sends with an error."""
    found: Headers = FORMS[family].error_headers(status) if family in FORMS else []
    return found


def limited(family: Family, seconds: int) -> tuple[dict[str, Any], Headers]:
    """Body and headers of a 429 that a wait cures, the wait told as the family's vendor tells it, if it does."""
    body = error_json(family, 429)
    if family == GEMINI:
        body["error"]["details"] = [{"@type": f"{_GOOGLE}RetryInfo", "retryDelay": f"{seconds}s"}]
        return body, []
    if family == MESSAGES:
        then = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        reset = then.isoformat(timespec="seconds").replace("+00:00", "Z")
        return body, [("retry-after", str(seconds)), ("anthropic-ratelimit-requests-reset", reset)]
    if family in (CHAT, RESPONSES):
        return body, [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", f"{seconds}s")]
    return body, [("Retry-After", str(seconds)), *error_headers(family, 429)]


def exhausted(family: Family) -> tuple[int, dict[str, Any], Headers]:
    """Status, body and headers of an answer that says the money, or the day's share, is gone."""
    if family == GEMINI:
        body = error_json(GEMINI, 429)
        violation = {"quotaMetric": "requests", "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
        body["error"]["details"] = [{"@type": f"{_GOOGLE}QuotaFailure", "violations": [violation]}]
        return 429, body, []
    if family == COHERE:
        return 402, error_json(COHERE, 402), []
    if family == BEDROCK:
        name = "ServiceQuotaExceededException"
        return 400, {"message": "Your request exceeds the service quota of your account."}, [("x-amzn-errortype", name)]
    if family == MESSAGES:
        return 429, error_json(MESSAGES, 429, message="Your organization has reached its monthly spend limit."), []
    words = "You exceeded your current quota, please check your plan and billing details."
    return 429, error_json(family, 429, message=words, type="insufficient_quota", code="insufficient_quota"), []
