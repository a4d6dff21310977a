"""
What an error answer means: read its body before its status.

Sources: the vendors' error documentation and client code, state 2026-11-21.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from llm_master.errors import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
    ContextWindowError,
    NotFoundError,
    OverloadedError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    error_class_for_status,
)
from llm_master.redaction import redact
from llm_master.retry_after import google_details, retry_after_seconds

__all__ = ["CATEGORIES", "error_fields", "error_from_object", "error_from_response", "excerpt", "retry_after_seconds"]

#: Category names, as a row's ``error_codes`` uses them.
CATEGORIES: dict[str, type[ProviderError]] = {
    "quota": QuotaExceededError,
    "context": ContextWindowError,
    "content": ContentPolicyError,
    "auth": AuthenticationError,
    "not_found": NotFoundError,
    "rate": RateLimitError,
    "overloaded": OverloadedError,
    "server": ServerError,
    "timeout": APITimeoutError,
    "bad_request": BadRequestError,
}

# Codes and types that mean the same wherever they occur.
_CODES: dict[str, str] = {
    "insufficient_quota": "quota",
    "billing_hard_limit_reached": "quota",
    "credit_balance_exhausted": "quota",
    "organization_spend_limit_exceeded": "quota",
    "project_spend_limit_exceeded": "quota",
    "organization_usage_limit_exceeded": "quota",
    "exceeded_current_quota_error": "quota",
    "billing_error": "quota",
    "servicequotaexceededexception": "quota",
    "context_length_exceeded": "context",
    "exceed_context_size_error": "context",
    "content_filter": "content",
    "content_policy_violation": "content",
    "moderation_blocked": "content",
    "responsibleaipolicyviolation": "content",
    "invalid_api_key": "auth",
    "api_key_invalid": "auth",
    "authentication_error": "auth",
    "permission_error": "auth",
    "permission_denied": "auth",
    "unauthenticated": "auth",
    "model_not_found": "not_found",
    "not_found_error": "not_found",
    "not_found": "not_found",
    "rate_limit_exceeded": "rate",
    "rate_limit_error": "rate",
    "resource_exhausted": "rate",
    "throttlingexception": "rate",
    "accessdeniedexception": "auth",
    "resourcenotfoundexception": "not_found",
    "modeltimeoutexception": "timeout",
    "modelnotreadyexception": "overloaded",
    "serviceunavailableexception": "overloaded",
    "modelerrorexception": "server",
    "internalserverexception": "server",
    "validationexception": "bad_request",
    "overloaded_error": "overloaded",
    "server_is_overloaded": "overloaded",
    "engine_overloaded_error": "overloaded",
    "unavailable": "overloaded",
    "api_error": "server",
    "server_error": "server",
    "internal_server_error": "server",
    "internal": "server",
    "timeout_error": "timeout",
    "deadline_exceeded": "timeout",
    "request_too_large": "bad_request",
    "unsupported_parameter": "bad_request",
    "unsupported_value": "bad_request",
}

# The status that a code stands for, where it comes without one: inside a good answer or a stream.
_STATUS_OF_CODE: dict[str, int] = {
    "invalid_request_error": 400,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "server_is_overloaded": 503,
    "timeout_error": 504,
    "overloaded_error": 529,
}

# Signs in the message, the statuses where they count, the category; order matters. A provider invites its customers to
# "add a payment method at .../billing" in an ordinary 429, so that word alone is a sign only elsewhere.
_SIGNS: tuple[tuple[str, tuple[int, ...], str], ...] = (
    (
        (
            r"maximum (?:context|prompt) length|reduce the length of the messages|(?:prompt|input) is too long"
            r"|input token count|exceeds the maximum number of tokens|input tokens exceed|too many tokens:"
            r"|exceeds? (?:the )?(?:available )?context (?:size|window|length|limit)|context window"
            r"|input \(\d+ tokens\) is too large to process"
        ),
        (400, 413, 422, 500),
        "context",
    ),
    (
        (
            r"credit balance is too low|spend(?:ing)?[ -]limit|insufficient (?:balance|credits?|quota)"
            r"|quota[^.]{0,40}per ?day|exceeded your current quota(?!.*retry in )"
        ),
        (400, 403, 429),
        "quota",
    ),
    (r"\bbilling\b", (400, 403), "quota"),
    (r"(?:image|audio) input is not supported", (400, 500), "bad_request"),
    (r"api key not valid|(?:invalid|incorrect) api key|invalid x-api-key|invalid token", (400, 401, 403, 498), "auth"),
    (r"not found, try pulling it first|model .{0,80}(?:does not exist|not found)", (400, 404), "not_found"),
    (
        (
            r"content (?:management )?policy|usage polic|safety system|requires moderation|blocked by moderation"
            r"|(?:was|been|input) flagged|flagged (?:as|by|for)\b"
        ),
        (400, 403),
        "content",
    ),
    (r"overloaded|over capacity|loading model", (429, 498, 500, 502, 503), "overloaded"),
    (r"capacity", (498,), "overloaded"),
)

_EXCERPT = 300
_LOOKED_AT = 16_384


def excerpt(body: bytes | str, *secrets: str | None) -> str:
    """The first 300 characters of an answer, on one line and without secrets."""
    text = body[:_LOOKED_AT].decode("utf-8", "replace") if isinstance(body, bytes) else body[:_LOOKED_AT]
    if len(body) > _LOOKED_AT:
        text = text[:-_EXCERPT]  # a key that the cut went through would not be recognised
    clean = " ".join(redact(text, *secrets).split())
    return clean if len(clean) <= _EXCERPT else clean[:_EXCERPT] + "..."


def error_fields(body: Any) -> tuple[str, tuple[str, ...], Any]:
    """
    Message, codes and details of a decoded error body, whatever its shape.

    Known shapes: ``{"error": {message, code, type, status}}`` (also inside a list), ``{"error": "text"}``,
    ``{"message", "code", "type"}``, ``{"detail": text | [{msg}]}``, ``{"errors": [{code, message}]}``.
    """
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return ("", (), None)
    inner = body.get("error", body)
    if isinstance(inner, str):
        return (inner, _codes(body), None)
    if not isinstance(inner, dict):
        inner = body
    errors = body.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        inner = errors[0]
    message = inner.get("message") or inner.get("msg") or inner.get("detail") or body.get("message") or ""
    if isinstance(message, list):
        message = "; ".join(str(m.get("msg", m)) if isinstance(m, dict) else str(m) for m in message[:3])
    metadata = inner.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):
        message = f"{message}: {metadata['raw']}"
    return (str(message), _codes(inner) + (_codes(body) if inner is not body else ()), inner.get("details"))


def _codes(source: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    for field in ("code", "type", "status", "reason"):
        value = source.get(field)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value not in ("error", ""):
            found.append(str(value))
    inner = source.get("innererror")
    if isinstance(inner, dict) and isinstance(inner.get("code"), str):
        found.append(inner["code"])
    return tuple(found)


@cache
def _signs() -> tuple[tuple[re.Pattern[str], tuple[int, ...], str], ...]:
    # Compiled at the first error, not at import.
    return tuple(
        (re.compile(pattern, re.IGNORECASE | re.DOTALL), statuses, category) for pattern, statuses, category in _SIGNS
    )


def _category(status: int, message: str, codes: tuple[str, ...], details: Any, rules: Mapping[str, str]) -> str | None:
    for code in (*codes, str(status)):
        if code in rules:
            return rules[code]
    detailed = _google_category(details)
    if detailed is not None:
        return detailed
    named = [category for code in codes if (category := _CODES.get(code.lower())) is not None]
    # A quota hides behind a rate-limit code, a long input behind a bad request: another code or the message says more.
    vague = ("rate", "server", "bad_request")
    precise = next((category for category in named if category not in vague), None)
    if precise is not None:
        return precise
    for pattern, statuses, category in _signs():
        if status in statuses and pattern.search(message):
            return category
    return named[0] if named else None


def _google_category(details: Any) -> str | None:
    for entry in google_details(details):
        if entry.get("reason") == "API_KEY_INVALID":
            return "auth"
        # The message is the same for a minute's limit and for a day's; only the quota's id tells them apart.
        quotas = str(entry.get("violations") or "").lower()
        if "perday" in quotas:
            return "quota"
        if "perminute" in quotas:
            return "rate"
    return None


def _status_inside(codes: tuple[str, ...]) -> int:
    for code in codes:
        if len(code) == 3 and code.isascii() and code.isdigit() and 400 <= int(code) <= 599:
            return int(code)
    return next((_STATUS_OF_CODE[code.lower()] for code in codes if code.lower() in _STATUS_OF_CODE), 500)


def error_from_object(
    body: Any,
    *,
    provider: str,
    model: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    rules: Mapping[str, str] | None = None,
    secrets: tuple[str | None, ...] = (),
    request_id: str | None = None,
) -> ProviderError:
    """
    The typed error for a decoded error body.

    Args:
        body: the decoded JSON, or None.
        status: the HTTP status; 200 for an error inside a good answer or a stream, where the code gives the status.
        rules: the row's ``error_codes``: code or type -> category.
        secrets: the caller's keys, masked in the text.
    """
    headers = headers or {}
    message, codes, details = error_fields(body)
    amazon = headers.get("x-amzn-errortype")
    if amazon:
        codes = (amazon.partition(":")[0], *codes)
    effective = status if status >= 400 else _status_inside(codes)
    category = _category(effective, message, codes, details, rules or {})
    cls = CATEGORIES[category] if category else error_class_for_status(effective)
    if cls is AuthenticationError and effective == 403:
        cls = error_class_for_status(403)
    code = next((c for c in codes if not c.isdigit()), codes[0] if codes else None)
    text = excerpt(message, *secrets) or f"HTTP {effective} without a message"
    where = f"HTTP {status}" if status >= 400 else "an error inside the answer"
    return cls(
        f"{provider} refused {model!r} ({where}): {text}{_next_step(cls, provider)}",
        provider=provider,
        model=model,
        status_code=effective,
        code=excerpt(code, *secrets) if code else None,
        retry_after=retry_after_seconds(headers, details),
        request_id=request_id,
        body=text,
        retryable={"true": True, "false": False}.get(headers.get("x-should-retry", "")),
    )


def error_from_response(
    status: int,
    body: bytes,
    *,
    provider: str,
    model: str,
    headers: Mapping[str, str] | None = None,
    rules: Mapping[str, str] | None = None,
    secrets: tuple[str | None, ...] = (),
    request_id: str | None = None,
) -> ProviderError:
    """The typed error for an HTTP error answer; a body that is not JSON is quoted in short."""
    try:
        decoded: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = {"message": excerpt(body, *secrets)}
    if not isinstance(decoded, (dict, list)):
        decoded = {"message": str(decoded)}
    return error_from_object(
        decoded,
        provider=provider,
        model=model,
        status=status,
        headers=headers,
        rules=rules,
        secrets=secrets,
        request_id=request_id,
    )


_STEPS: tuple[tuple[type[ProviderError], str], ...] = (
    (QuotaExceededError, "; add credit or use another provider (fallback_model=)"),
    (ContextWindowError, "; shorten the input or use a model with a larger context"),
    (ContentPolicyError, "; change the input, or allow fallback_on={{'content_policy'}}"),
    (AuthenticationError, "; check the key of {provider} (llm-master doctor)"),
    (NotFoundError, "; check the model's name and the base URL"),
    (RateLimitError, "; wait, lower the rate, or give a fallback_model="),
    (BadRequestError, "; correct the request"),
)


def _next_step(cls: type[ProviderError], provider: str) -> str:
    for kind, step in _STEPS:
        if issubclass(cls, kind):
            return step.format(provider=provider)
    return "; try again or give a fallback_model="
