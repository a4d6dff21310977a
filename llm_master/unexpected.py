"""
Answers of a shape that no reader of theirs expected: whatever that breaks, the caller gets a typed error.
"""

from __future__ import annotations

from typing import Any

from llm_master.errors import ProviderError, ResponseError

__all__ = ["FAILURES", "cause_of", "told"]

#: What reading an answer ends in: an error that it stands for, or one of a place where something else was expected.
FAILURES = (ProviderError, TypeError, AttributeError, KeyError, IndexError, StopIteration)


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
