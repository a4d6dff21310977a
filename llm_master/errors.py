"""
Every error of LLM Master, and the table that gives a status its class.

    LLMError
    ├── ConfigurationError              a mistake of set-up; never retried (also a ValueError)
    │   └── MissingKeyError             no key for a provider that needs one
    ├── ModelNotFoundError              no provider for this model name
    ├── InvalidRequestError             bad input, found before anything was sent (also a ValueError)
    │   └── UnsupportedParameterError   this model or provider cannot take the parameter
    ├── ToolArgumentsError              a tool call whose arguments are not a JSON object
    ├── ToolLoopError                   run_tools reached a bound; holds the run so far
    ├── StructuredOutputError           an answer that is not what response_format asked for; holds it
    ├── LedgerError                     the ledger cannot be written or read
    └── ProviderError                   the provider, or the way to it, failed
        ├── APIConnectionError          refused, reset, DNS, TLS
        ├── APITimeoutError             no answer in time (also a TimeoutError)
        │   └── DeadlineExceededError   the call's whole deadline is used up
        ├── BadRequestError             400, 413, 422: the same request will fail again
        │   ├── ContextWindowError      the input does not fit this model
        │   └── ContentPolicyError      the provider's policy refused it
        │       └── ContentModerationError  moderation flagged the input; nothing was sent to the model
        ├── AuthenticationError         401: the key is not accepted
        │   └── PermissionDeniedError   403
        ├── NotFoundError               404: the provider does not know this model or address
        ├── RateLimitError              429: too fast; retry later
        │   └── QuotaExceededError      402, quota 429: no money or allowance left
        │       └── BudgetExceededError  a budget of your own has no room; nothing was sent
        ├── ServerError                 5xx
        │   └── OverloadedError         529, "overloaded"
        ├── ResponseError               an answer that cannot be read (HTML, truncated JSON)
        │   └── ResponseTooLargeError   an answer over the size limit
        └── StreamInterrupted           a stream ended before its answer did; holds the partial text

Every message is one line and names provider, model and what to do next; none holds a secret.
"""

from __future__ import annotations

from typing import Any, ClassVar

from llm_master.redaction import redact

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BudgetExceededError",
    "ConfigurationError",
    "ContentModerationError",
    "ContentPolicyError",
    "ContextWindowError",
    "DeadlineExceededError",
    "InvalidRequestError",
    "LLMError",
    "LedgerError",
    "MissingKeyError",
    "ModelNotFoundError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "ProviderError",
    "QuotaExceededError",
    "RateLimitError",
    "ResponseError",
    "ResponseTooLargeError",
    "ServerError",
    "StreamInterrupted",
    "StructuredOutputError",
    "ToolArgumentsError",
    "ToolLoopError",
    "UnsupportedParameterError",
    "error_class_for_status",
]


def _one_line(message: str) -> str:
    return " ".join(redact(message).split())


class LLMError(Exception):
    """
    The root of every error that LLM Master raises.

    The message is folded to one line and credential-shaped parts are masked before it is stored.

    Attributes:
        run: what ``run_tools`` had when it failed, as a ``ToolRun``: its answers are paid for. None elsewhere.
    """

    run: Any = None

    def __init__(self, message: str = "") -> None:
        super().__init__(_one_line(message))

    @property
    def message(self) -> str:
        """The one-line text of the error."""
        return str(self.args[0]) if self.args else ""


class ConfigurationError(LLMError, ValueError):
    """A mistake of set-up: a missing extra, address or setting. It is never retried."""


class MissingKeyError(ConfigurationError):
    """No API key for a provider that needs one."""


class ModelNotFoundError(LLMError):
    """
    No provider is known for a model name.

    The text is ``Unsupported model: NAME`` followed by the nearest names that exist.
    """

    def __init__(self, message: str = "", *, model: str | None = None, suggestions: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.model = model
        self.suggestions = suggestions


class InvalidRequestError(LLMError, ValueError):
    """Bad input, found before anything was sent."""


class UnsupportedParameterError(InvalidRequestError):
    """
    A parameter that this model or provider cannot take.

    ``drop_params=True`` leaves it out instead and lists it in ``response.dropped``.
    """

    def __init__(self, message: str = "", *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class ToolArgumentsError(LLMError):
    """A model's tool call whose arguments are not a JSON object; ``raw_arguments`` holds its text."""

    def __init__(self, message: str = "", *, raw_arguments: str = "") -> None:
        super().__init__(message)
        self.raw_arguments = raw_arguments


class ToolLoopError(LLMError):
    """``run_tools`` reached ``max_rounds`` or ``max_calls``; ``run`` is the ``ToolRun`` so far."""

    def __init__(self, message: str = "", *, run: Any = None) -> None:
        super().__init__(message)
        self.run = run

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self.args, dict(self.__dict__))


class StructuredOutputError(LLMError):
    """An answer that is not what ``response_format`` asked for; ``response`` is all of it."""

    def __init__(self, message: str = "", *, response: Any = None) -> None:
        super().__init__(message)
        self.response = response

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self.args, dict(self.__dict__))


class LedgerError(LLMError):
    """
    The ledger cannot be written or read: a locked or damaged file, a full disk, a folder that is read-only.

    A call raises it only when the ledger was made with ``on_failure="refuse"``, and before anything is sent.
    """


class ProviderError(LLMError):
    """
    A provider, or the way to it, failed.

    ``ProviderError("text")`` alone is enough for a custom provider; LLM Master fills in the rest.

    Args:
        message: one line; secrets in it are masked.
        provider: the provider's key, ``"openai"``.
        model: the model name that was asked of the provider.
        status_code: HTTP status, None when there was no answer.
        code: the provider's own error code or type.
        retryable: whether the same request may succeed on the same target; None takes the class's default.
        retry_after: seconds that the provider asked to wait, None when it said nothing usable.
        request_id: the provider's id of the request.
        body: a short redacted excerpt of the answer.
        attempts: every attempt of the call so far, oldest first.
    """

    retryable_by_default: ClassVar[bool] = False
    #: Whether the request may have reached the provider; False when no connection could be made.
    sent: bool = True

    def __init__(
        self,
        message: str = "",
        *,
        provider: str | None = None,
        model: str | None = None,
        status_code: int | None = None,
        code: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        body: str | None = None,
        attempts: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.model = model
        self.status_code = status_code
        self.code = code
        self.retryable = self.retryable_by_default if retryable is None else retryable
        self.retry_after = retry_after
        self.request_id = request_id
        self.body = redact(body) if body else body
        self.attempts = attempts

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception pickles only args by default; the keyword fields travel as state.
        return (type(self), self.args, dict(self.__dict__))


class APIConnectionError(ProviderError):
    """The connection failed: refused, reset, DNS or TLS."""

    retryable_by_default = True


class APITimeoutError(ProviderError, TimeoutError):
    """No answer within a limit: connecting, first token, or between two chunks."""

    retryable_by_default = True


class DeadlineExceededError(APITimeoutError):
    """The whole deadline of the call is used up."""

    retryable_by_default = False


class BadRequestError(ProviderError):
    """The provider refuses the request as it is (400, 413, 422)."""


class ContextWindowError(BadRequestError):
    """The input, or input plus requested output, does not fit the model."""


class ContentPolicyError(BadRequestError):
    """The provider's content policy refused the request."""


class ContentModerationError(ContentPolicyError):
    """Moderation flagged the input, in these ``categories``; nothing was sent to the model."""

    def __init__(self, message: str = "", *, categories: tuple[str, ...] = (), **more: Any) -> None:
        super().__init__(message, **more)
        self.categories = categories


class AuthenticationError(ProviderError):
    """The key is not accepted (401)."""


class PermissionDeniedError(AuthenticationError):
    """The key is known but may not do this (403)."""


class NotFoundError(ProviderError):
    """The provider does not know the model or the address (404)."""


class RateLimitError(ProviderError):
    """Too many requests or tokens (429)."""

    retryable_by_default = True


class QuotaExceededError(RateLimitError):
    """No money or allowance left; waiting a moment does not help."""

    retryable_by_default = False


class BudgetExceededError(QuotaExceededError):
    """
    A budget of your own has no room for the call, or its cost has no bound; nothing was sent.

    ``key`` is the budget's (``"max_cost"``: the call's own), ``left`` what is not spent of it (USD as a Decimal, or
    tokens, as ``unit`` says; None when that is not known) and ``renews`` when its next window begins, None for never.
    A fallback is tried, as it may cost less.
    """

    def __init__(
        self,
        message: str = "",
        *,
        key: str | None = None,
        unit: str | None = None,
        left: Any = None,
        renews: Any = None,
        **fields: Any,
    ) -> None:
        super().__init__(message, **fields)
        self.key = key
        self.unit = unit
        self.left = left
        self.renews = renews


class ServerError(ProviderError):
    """The provider failed (5xx)."""

    retryable_by_default = True


class OverloadedError(ServerError):
    """The provider is overloaded (529 and its like)."""


class ResponseError(ProviderError):
    """An answer that cannot be read: HTML, a wrong content type, truncated JSON, no choices."""

    retryable_by_default = True


class ResponseTooLargeError(ResponseError):
    """An answer over the size limit; reading stopped there."""

    retryable_by_default = False


class StreamInterrupted(ProviderError):
    """
    A stream ended before its answer did.

    ``partial_text`` is the text that had arrived, ``partial`` the partial ``LLMResponse`` or None.
    """

    retryable_by_default = True

    def __init__(self, message: str = "", *, partial_text: str = "", partial: Any = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.partial_text = partial_text
        self.partial = partial


_STATUS: dict[int, type[ProviderError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: QuotaExceededError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: NotFoundError,
    408: APITimeoutError,
    409: ServerError,
    410: NotFoundError,
    413: BadRequestError,
    422: BadRequestError,
    425: ServerError,
    429: RateLimitError,
    504: ServerError,
    529: OverloadedError,
}


def error_class_for_status(status: int) -> type[ProviderError]:
    """The class for an HTTP status that no sign in the body says more about."""
    found = _STATUS.get(status)
    if found is not None:
        return found
    if status >= 500:
        return ServerError
    return BadRequestError if status >= 400 else ResponseError
