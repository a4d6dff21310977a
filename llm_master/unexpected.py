"""
Answers and requests of a shape that nobody expected: whatever that breaks, the caller gets a typed error.
"""

from __future__ import annotations

from typing import Any

from llm_master.errors import InvalidRequestError, ProviderError, ResponseError

__all__ = ["FAILURES", "MISSHAPEN", "cause_of", "told", "unfit"]

#: What is raised at a place where something else was expected.
MISSHAPEN = (TypeError, AttributeError, KeyError, IndexError, StopIteration)
#: What reading an answer ends in: an error that it stands for, or one of these.
FAILURES = (ProviderError, *MISSHAPEN)


def told(error: Exception, target: Any) -> ProviderError:
    """The error as the caller is to see it: retried and fallen back from as any answer that cannot be read."""
    if isinstance(error, ProviderError):
        return error
    return ResponseError(
        f"{target.provider} answered {target.model!r} with something of an unexpected shape"
        f" ({type(error).__name__}: {error}); try again or give a fallback_model=",
        provider=target.provider,
        model=target.model,
        status_code=200,
    )


def cause_of(error: Exception) -> BaseException | None:
    """What is shown as the cause of ``told``'s error."""
    return error.__cause__ if isinstance(error, ProviderError) else error


def unfit(error: Exception, target: Any) -> InvalidRequestError:
    """The error for messages or parameters that cannot be written."""
    return InvalidRequestError(
        f"{target.provider}/{target.model}: messages or parameters hold something of an unexpected shape"
        f" ({type(error).__name__}: {error}); compare them with the chat format"
    )
