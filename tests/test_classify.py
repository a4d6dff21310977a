"""
What an error answer means: the tables of the vendors' error shapes, read body before status.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llm_master.classify
from llm_master.classify import CATEGORIES, error_from_object, error_from_response
from llm_master.errors import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
    ContextWindowError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
)


def _error(status: int, body: Any, headers: dict[str, str] | None = None, **options: Any) -> ProviderError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_from_response(status, raw, provider="acme", model="m1", headers=headers, **options)


def _openai(message: str = "", code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _anthropic(kind: str, message: str = "x") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def _google(code: int, status: str, message: str = "", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def _quota(*ids: str) -> dict[str, Any]:
    violations = [{"quotaId": each, "quotaMetric": "generate_content_free_tier_requests"} for each in ids]
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}


GEMINI_429 = "You exceeded your current quota, please check your plan and billing details."
FREE_TIER_429 = (
    "Rate limit reached for gpt-4.1 on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s."
    " You can increase your rate limit by adding a payment method at https://platform.openai.com/account/billing."
)

# (status, body, class)
SHAPES: list[tuple[int, Any, type[ProviderError]]] = [
    # OpenAI
    (400, _openai("Invalid value"), BadRequestError),
    (400, _openai("This model's maximum context length is 8192 tokens."), ContextWindowError),
    (400, _openai("x", "context_length_exceeded"), ContextWindowError),
    (400, _openai("x", "unsupported_parameter"), BadRequestError),
    (400, _openai("Invalid prompt: flagged as violating our usage policy", "invalid_prompt"), ContentPolicyError),
    (400, _openai("Unknown parameter: 'moderation'.", "unknown_parameter"), BadRequestError),
    (400, _openai("Your request was rejected by the safety system", "moderation_blocked"), ContentPolicyError),
    (400, _openai("max_tokens is too large: 5000. This model supports at most 4096"), BadRequestError),
    (401, _openai("Incorrect API key provided", "invalid_api_key"), AuthenticationError),
    (403, _openai("Country not supported", "unsupported_country_region_territory"), PermissionDeniedError),
    (404, _openai("The model `x` does not exist", "model_not_found"), NotFoundError),
    (408, _openai("timeout"), APITimeoutError),
    (409, _openai("conflict"), ServerError),
    (413, _openai("too large"), BadRequestError),
    (422, _openai("unprocessable"), BadRequestError),
    (429, _openai(FREE_TIER_429, "rate_limit_exceeded", "requests"), RateLimitError),
    (429, _openai(FREE_TIER_429, None, "requests"), RateLimitError),
    *(
        (429, _openai("x", code, "insufficient_quota"), QuotaExceededError)
        for code in ("insufficient_quota", "billing_hard_limit_reached", "credit_balance_exhausted",
                     "organization_spend_limit_exceeded", "project_spend_limit_exceeded",
                     "organization_usage_limit_exceeded", "rate_limit_exceeded")
    ),
    (500, _openai("The server had an error", "server_error", "server_error"), ServerError),
    (503, _openai("Slow down", "server_is_overloaded", "service_unavailable_error"), OverloadedError),
    (503, _openai("The engine is currently overloaded"), OverloadedError),
    (503, _openai("That model is currently over capacity"), OverloadedError),
    (503, _openai("unavailable"), ServerError),
    # Azure
    (400, {"error": {"code": "content_filter", "message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
     ContentPolicyError),
    (400, {"error": {"code": "BadRequest", "message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
     ContentPolicyError),
    (429, {"error": {"code": "429", "message": "exceeded call rate limit of your current OpenAI S0 pricing tier"}},
     RateLimitError),
    # Anthropic
    (400, _anthropic("invalid_request_error"), BadRequestError),
    (400, _anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000"), ContextWindowError),
    (400, _anthropic("invalid_request_error", "input length and `max_tokens` exceed context limit: 199000 + 8192"),
     ContextWindowError),
    (400, _anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
     QuotaExceededError),
    (400, _anthropic("invalid_request_error", "You have reached your self-set spend limit"), QuotaExceededError),
    (401, _anthropic("authentication_error", "invalid x-api-key"), AuthenticationError),
    (402, _anthropic("billing_error"), QuotaExceededError),
    (403, _anthropic("permission_error"), PermissionDeniedError),
    (404, _anthropic("not_found_error", "model: x"), NotFoundError),
    (409, _anthropic("conflict_error"), ServerError),
    (413, _anthropic("request_too_large"), BadRequestError),
    (429, _anthropic("rate_limit_error", "This request would exceed your organization's rate limit"), RateLimitError),
    (429, _anthropic("rate_limit_error", "You have reached your monthly spend limit"), QuotaExceededError),
    (500, _anthropic("api_error"), ServerError),
    (504, _anthropic("timeout_error"), APITimeoutError),
    (529, _anthropic("overloaded_error", "Overloaded"), OverloadedError),
    # Gemini; the compatible route wraps it in a list
    (400, _google(400, "INVALID_ARGUMENT", "x"), BadRequestError),
    (400, _google(400, "INVALID_ARGUMENT", "x", {"reason": "API_KEY_INVALID"}), AuthenticationError),
    (400, _google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."), AuthenticationError),
    (400, _google(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed"),
     ContextWindowError),
    (400, _google(400, "FAILED_PRECONDITION", "User location is not supported"), BadRequestError),
    (400, _google(400, "FAILED_PRECONDITION", "Please enable billing on project x"), QuotaExceededError),
    (403, _google(403, "PERMISSION_DENIED", "x"), PermissionDeniedError),
    (404, _google(404, "NOT_FOUND", "models/x is not found"), NotFoundError),
    (429, _google(429, "RESOURCE_EXHAUSTED", GEMINI_429, _quota("RequestsPerMinute-FreeTier")), RateLimitError),
    (429, _google(429, "RESOURCE_EXHAUSTED", GEMINI_429, _quota("RequestsPerDay-FreeTier")), QuotaExceededError),
    (429, _google(429, "RESOURCE_EXHAUSTED", GEMINI_429, _quota("A-PerMinute", "B-PerDay")), QuotaExceededError),
    (429, _google(429, "RESOURCE_EXHAUSTED", f"{GEMINI_429}\nPlease retry in 34.07s."), RateLimitError),
    (429, [_google(429, "RESOURCE_EXHAUSTED", GEMINI_429, _quota("RequestsPerMinute"))], RateLimitError),
    (429, _google(429, "RESOURCE_EXHAUSTED", "Resource exhausted", {"violations": None}, None), RateLimitError),
    (500, _google(500, "INTERNAL"), ServerError),
    (503, _google(503, "UNAVAILABLE", "The model is overloaded."), OverloadedError),
    (504, _google(504, "DEADLINE_EXCEEDED"), APITimeoutError),
    # Cohere, Mistral, xAI, FastAPI, Cloudflare
    (401, {"message": "invalid api token", "id": "x"}, AuthenticationError),
    (498, {"message": "invalid token", "id": "x"}, AuthenticationError),
    (400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"}, ContextWindowError),
    (429, {"message": "Requests rate limit exceeded"}, RateLimitError),
    (400, {"object": "error", "message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context"
           " length", "type": "invalid_request_error", "code": "3051"}, ContextWindowError),
    (422, {"detail": [{"loc": ["body", "user"], "msg": "Extra inputs are not permitted", "type": "extra_forbidden"}]},
     BadRequestError),
    (400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***."},
     AuthenticationError),
    (402, {"detail": "Insufficient credits"}, QuotaExceededError),
    (403, {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}, PermissionDeniedError),
    (402, _openai("Insufficient Balance", "invalid_request_error", "unknown_error"), QuotaExceededError),
    (429, _openai("x", None, "exceeded_current_quota_error"), QuotaExceededError),
    # Groq: the status's meaning is in its row, and in the words
    (498, _openai("Flex tier capacity exceeded", "capacity_exceeded"), OverloadedError),
    # Ollama, llama.cpp, vLLM
    (400, {"error": "bad options"}, BadRequestError),
    (404, {"error": 'model "x" not found, try pulling it first'}, NotFoundError),
    (400, {"error": 'model "x" not found, try pulling it first'}, NotFoundError),
    (500, {"error": "llama runner process has terminated"}, ServerError),
    (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, OverloadedError),
    (400, {"error": {"code": 400, "type": "exceed_context_size_error", "message": "x"}}, ContextWindowError),
    (500, {"error": {"message": "the request exceeds the available context size"}}, ContextWindowError),
    # OpenRouter
    (401, {"error": {"code": 401, "message": "User not found."}}, AuthenticationError),
    (402, {"error": {"code": 402, "message": "Insufficient credits"}}, QuotaExceededError),
    (403, {"error": {"code": 403, "message": "input was flagged", "metadata": {"reasons": ["a"]}}}, ContentPolicyError),
    (403, {"error": {"code": 403, "message": "Your chosen model requires moderation"}}, ContentPolicyError),
    (408, {"error": {"code": 408, "message": "x"}}, APITimeoutError),
    (502, {"error": {"code": 502, "message": "Provider returned error"}}, ServerError),
    (400, {"error": {"code": 400, "message": "Provider returned error",
           "metadata": {"raw": "prompt is too long", "provider_name": "Anthropic"}}}, ContextWindowError),
    # No JSON, nothing, nonsense
    (502, b"<html><body>Bad Gateway</body></html>", ServerError),
    (429, b"", RateLimitError),
    (500, b"\xff\xfe\x00", ServerError),
    (500, b"[" * 100_000, ServerError),
    (400, b"null", BadRequestError),
    (400, b"[]", BadRequestError),
    (400, b'"text"', BadRequestError),
    (400, {"error": None}, BadRequestError),
    (400, {"error": {"message": None, "code": None}}, BadRequestError),
    (400, {"error": {"message": {"detail": "x"}, "code": True, "type": ["a"]}}, BadRequestError),
    (418, {}, BadRequestError),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind"), SHAPES, ids=[f"{s}-{str(b)[:60]}" for s, b, _ in SHAPES])
def test_an_error_answer_has_its_class(status: int, body: Any, kind: type[ProviderError]) -> None:
    error = _error(status, body)
    assert type(error) is kind
    assert error.status_code == status
    assert (error.provider, error.model) == ("acme", "m1")
    assert error.message.startswith(f"acme refused 'm1' (HTTP {status}): ")
    assert error.retryable is kind.retryable_by_default


@pytest.mark.parametrize(
    ("amazon", "status", "message", "kind"),
    [
        ("ThrottlingException:http://internal.amazon.com/", 429, "Too many requests", RateLimitError),
        ("ServiceQuotaExceededException", 400, "x", QuotaExceededError),
        ("ValidationException", 400, "Input is too long for requested model.", ContextWindowError),
        ("ValidationException", 400, "input tokens exceeded", ContextWindowError),
        ("ValidationException", 400, "Malformed input request", BadRequestError),
        ("AccessDeniedException", 403, "x", PermissionDeniedError),
        ("ResourceNotFoundException", 404, "x", NotFoundError),
        ("ModelTimeoutException", 408, "x", APITimeoutError),
        ("ModelErrorException", 424, "x", ServerError),
        ("ModelNotReadyException", 429, "x", OverloadedError),
        ("ServiceUnavailableException", 503, "x", OverloadedError),
    ],
)
def test_amazon_names_its_errors_in_a_header(amazon: str, status: int, message: str, kind: type) -> None:
    error = _error(status, {"message": message}, {"x-amzn-errortype": amazon})
    assert type(error) is kind
    assert error.code == amazon.partition(":")[0]


ZAI = {str(code): "quota" for code in (1113, *range(1308, 1312), *range(1313, 1322))} | {"1305": "overloaded"}


@pytest.mark.parametrize(
    ("status", "body", "rules", "kind"),
    [
        *(
            (429, {"error": {"code": code, "message": "x"}}, ZAI, CATEGORIES[category])
            for code, category in ZAI.items()
        ),
        (429, {"error": {"code": "1302", "message": "x"}}, ZAI, RateLimitError),
        (429, {"error": {"code": 1113, "message": "x"}}, ZAI, QuotaExceededError),
        (498, {"error": {"message": "x"}}, {"498": "overloaded"}, OverloadedError),
        (400, _openai("maximum context length", "odd"), {"odd": "rate"}, RateLimitError),
        (429, _openai("x", "insufficient_quota"), {"insufficient_quota": "server"}, ServerError),
    ],
)
def test_the_rows_own_codes_beat_everything(status: int, body: Any, rules: dict[str, str], kind: type) -> None:
    assert type(_error(status, body, rules=rules)) is kind


# -- errors inside a good answer or a stream ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({"error": {"code": 402, "message": "x"}}, QuotaExceededError, 402),
        ({"error": {"code": 502, "message": "x"}}, ServerError, 502),
        ({"error": {"code": "429", "message": "x"}}, RateLimitError, 429),
        (_anthropic("overloaded_error"), OverloadedError, 529),
        (_anthropic("rate_limit_error"), RateLimitError, 429),
        (_anthropic("api_error"), ServerError, 500),
        (_anthropic("timeout_error"), APITimeoutError, 504),
        (_anthropic("invalid_request_error", "prompt is too long"), ContextWindowError, 400),
        (_anthropic("invalid_request_error"), BadRequestError, 400),
        (_anthropic("authentication_error"), AuthenticationError, 401),
        (_anthropic("permission_error"), PermissionDeniedError, 403),
        ({"error": {"code": "server_error", "message": "x"}}, ServerError, 500),
        ({"error": {"code": "rate_limit_exceeded", "message": "x"}}, RateLimitError, 429),
        ({"error": "llama runner crashed"}, ServerError, 500),
        ({"error": {"code": 200, "message": "x"}}, ServerError, 500),
        ({"error": {"code": "²", "message": "x"}}, ServerError, 500),
        ({"error": {"code": "4" * 5000, "message": "x"}}, ServerError, 500),
        (None, ServerError, 500),
    ],
)
def test_an_error_inside_a_good_answer_has_its_class_and_the_status_it_stands_for(
    body: Any, kind: type, status: int
) -> None:
    error = error_from_object(body, provider="acme", model="m1")
    assert type(error) is kind
    assert error.status_code == status
    assert "(an error inside the answer)" in error.message


# -- whatever comes ---------------------------------------------------------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["error", "message", "code", "type", "detail", "details", "errors", "metadata", "raw", "msg",
                         "violations", "retryDelay", "innererror", "status", "reason"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.integers(100, 999), st.one_of(_json.map(lambda body: json.dumps(body).encode()), st.binary(max_size=50)))
@settings(max_examples=400, deadline=None)
def test_any_answer_gives_a_provider_error(status: int, body: bytes) -> None:
    error = error_from_response(status, body, provider="acme", model="m1")
    assert isinstance(error, ProviderError)
    assert error.message.startswith("acme refused 'm1'")
    assert "\n" not in error.message


def test_import_is_light() -> None:
    root = str(Path(llm_master.classify.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {root!r}); import llm_master.classify; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert not set(done.stdout.split()) & {"email.utils", "socket", "calendar", "asyncio", "aiohttp"}
