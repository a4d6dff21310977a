"""
The error tree: its shape, its fields, what survives a pickle, and the class of each status.
"""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from llm_master import errors
from llm_master.classes import Attempt, LLMResponse, Usage
from llm_master.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ContentModerationError,
    InvalidRequestError,
    LLMError,
    ModelNotFoundError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    QuotaExceededError,
    RateLimitError,
    ResponseError,
    ServerError,
    StreamInterrupted,
    ToolArgumentsError,
    UnsupportedParameterError,
    error_class_for_status,
)

CLASSES = {name: kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)}
PROVIDER_CLASSES = [kind for kind in CLASSES.values() if issubclass(kind, ProviderError)]

TREE = {
    "LLMError": ("Exception",),
    "ConfigurationError": ("LLMError", "ValueError"),
    "MissingKeyError": ("ConfigurationError",),
    "ModelNotFoundError": ("LLMError",),
    "InvalidRequestError": ("LLMError", "ValueError"),
    "UnsupportedParameterError": ("InvalidRequestError",),
    "ToolArgumentsError": ("LLMError",),
    "ToolLoopError": ("LLMError",),
    "StructuredOutputError": ("LLMError",),
    "LedgerError": ("LLMError",),
    "ProviderError": ("LLMError",),
    "APIConnectionError": ("ProviderError",),
    "APITimeoutError": ("ProviderError", "TimeoutError"),
    "DeadlineExceededError": ("APITimeoutError",),
    "BadRequestError": ("ProviderError",),
    "ContextWindowError": ("BadRequestError",),
    "ContentPolicyError": ("BadRequestError",),
    "ContentModerationError": ("ContentPolicyError",),
    "AuthenticationError": ("ProviderError",),
    "PermissionDeniedError": ("AuthenticationError",),
    "NotFoundError": ("ProviderError",),
    "RateLimitError": ("ProviderError",),
    "QuotaExceededError": ("RateLimitError",),
    "BudgetExceededError": ("QuotaExceededError",),
    "ServerError": ("ProviderError",),
    "OverloadedError": ("ServerError",),
    "ResponseError": ("ProviderError",),
    "ResponseTooLargeError": ("ResponseError",),
    "StreamInterrupted": ("ProviderError",),
}

RETRYABLE = {
    "APIConnectionError",
    "APITimeoutError",
    "RateLimitError",
    "ServerError",
    "OverloadedError",
    "ResponseError",
    "StreamInterrupted",
}


def test_the_tree_is_pinned() -> None:
    assert {name: tuple(base.__name__ for base in kind.__bases__) for name, kind in CLASSES.items()} == TREE


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    (?P<lines>[│├└─ ]*)(?P<name>[A-Z]\w+)(?:  |$)", line)
        if found:
            depth = len(found["lines"]) // 4
            above[depth:] = [found["name"]]
            drawn[found["name"]] = above[depth - 1] if depth else "Exception"
    assert drawn == {name: bases[0] for name, bases in TREE.items()}


def test_what_may_succeed_when_it_is_tried_again_is_pinned() -> None:
    assert {kind.__name__ for kind in PROVIDER_CLASSES if kind("x").retryable} == RETRYABLE


@pytest.mark.parametrize("kind", PROVIDER_CLASSES)
@pytest.mark.parametrize("said", [True, False])
def test_what_is_said_beats_the_default(kind: type[ProviderError], said: bool) -> None:
    assert kind("x", retryable=said).retryable is said


STATUSES = {
    400: BadRequestError,
    401: AuthenticationError,
    402: QuotaExceededError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: NotFoundError,
    406: BadRequestError,
    408: APITimeoutError,
    409: ServerError,
    410: NotFoundError,
    413: BadRequestError,
    418: BadRequestError,
    422: BadRequestError,
    425: ServerError,
    429: RateLimitError,
    451: BadRequestError,
    500: ServerError,
    501: ServerError,
    502: ServerError,
    503: ServerError,
    504: ServerError,
    524: ServerError,
    529: OverloadedError,
    599: ServerError,
    # No error status at all: an answer that nobody expected.
    204: ResponseError,
    304: ResponseError,
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_has_its_class(status: int) -> None:
    assert error_class_for_status(status) is STATUSES[status]


def test_every_retryable_status_of_the_field_is_retryable_here() -> None:
    retryable = {status for status in range(400, 600) if error_class_for_status(status).retryable_by_default}
    assert {408, 409, 425, 429, 500, 502, 503, 504, 529} <= retryable
    assert not retryable & {400, 401, 402, 403, 404, 413, 422}


FIELDS = {
    "provider": "openai",
    "model": "gpt-4.1",
    "status_code": 429,
    "code": "rate_limit_exceeded",
    "retryable": False,
    "retry_after": 1.5,
    "request_id": "req_1",
    "body": "slow down",
    "attempts": (Attempt("openai", "gpt-4.1", "error", 429, usage=Usage(1, 2)),),
}


@pytest.mark.parametrize("kind", PROVIDER_CLASSES)
@pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_a_provider_error_travels_whole(kind: type[ProviderError], copied) -> None:
    error = copied(kind("slow down", **FIELDS))
    assert type(error) is kind
    assert str(error) == error.message == "slow down"
    assert {name: getattr(error, name) for name in FIELDS} == FIELDS


def test_the_other_errors_travel_whole() -> None:
    examples = [
        (
            ModelNotFoundError("Unsupported model: x", model="x", suggestions=("y",)),
            {"model": "x", "suggestions": ("y",)},
        ),
        (UnsupportedParameterError("no seed", parameter="seed"), {"parameter": "seed"}),
        (ContentModerationError("flagged", categories=("hate",)), {"categories": ("hate",)}),
        (ToolArgumentsError("not JSON", raw_arguments="{"), {"raw_arguments": "{"}),
        (
            StreamInterrupted("cut", partial_text="half", partial=LLMResponse("half", "m"), provider="p"),
            {"partial_text": "half", "partial": LLMResponse("half", "m"), "provider": "p"},
        ),
        (InvalidRequestError("bad"), {}),
        (ConfigurationError("wrong"), {}),
    ]
    for error, fields in examples:
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is type(error)
        assert back.args == error.args
        assert {name: getattr(back, name) for name in fields} == fields


def test_an_error_that_a_custom_provider_raises_needs_only_a_text() -> None:
    error = ProviderError("Streaming not supported for this provider")
    assert (error.provider, error.model, error.status_code, error.attempts) == (None, None, None, ())
    assert error.retryable is False


@pytest.mark.parametrize("kind", CLASSES.values())
def test_a_message_is_one_line_without_a_secret(kind: type[LLMError]) -> None:
    error = kind("first\n  second\r\n\tkey sk-abcdef123456 end ")
    assert str(error) == "first second key [REDACTED] end"
    assert error.args == ("first second key [REDACTED] end",)
    assert "sk-abc" not in repr(error)
    assert b"sk-abc" not in pickle.dumps(error)


@pytest.mark.parametrize("kind", CLASSES.values())
def test_an_error_without_a_message_has_an_empty_one(kind: type[LLMError]) -> None:
    assert kind().message == ""
    assert str(kind()) == ""


def test_a_body_holds_no_secret() -> None:
    error = ProviderError("x", body='{"api_key": "abcd1234"}')
    assert error.body == '{"api_key": "[REDACTED]"}'
    assert b"abcd1234" not in pickle.dumps(error)


def test_an_error_is_what_python_code_expects_it_to_be() -> None:
    assert issubclass(InvalidRequestError, ValueError)
    assert issubclass(APITimeoutError, TimeoutError)
    assert not issubclass(APIConnectionError, OSError)
