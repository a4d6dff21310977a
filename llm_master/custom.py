"""
A user's own provider class, or a generator method of the unified one, called like any other target.
"""

from __future__ import annotations

import inspect
from math import inf
from time import time
from typing import TYPE_CHECKING, Any

from llm_master.classes import LLMResponse, Usage
from llm_master.errors import APITimeoutError, LLMError, ProviderError
from llm_master.pricing import Pricer
from llm_master.stream import Generated, OneAnswer, StreamSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from llm_master.classes import Request
    from llm_master.structural import Shape

__all__ = ["CustomTarget"]


class CustomTarget:
    """
    Args:
        provider: name for records and errors.
        generate: ``async (messages, model, **kwargs) -> LLMResponse``; with ``takes_stream`` also ``stream=``.
        model: the name handed to it; asked: the name as the caller gave it.
        takes_stream: whether ``stream=True`` may be handed on; else streaming is refused before any request.
        shape: how a provider is called that has no ``generate``; see ``structural.py``.
    """

    key_id: str | None = None
    supervised = False
    prices: Any = None
    secrets: tuple[str, ...] = ()

    def __init__(
        self,
        provider: str,
        generate: Callable[..., Any] | None,
        *,
        model: str,
        asked: str,
        takes_stream: bool,
        owner: Any = None,
        shape: Shape | None = None,
    ) -> None:
        self.provider = provider
        self.model = model
        self.asked = asked
        self.owner = owner
        self._generate = generate
        self._takes_stream = takes_stream
        self._shape = shape

    @property
    def counts(self) -> bool:
        """Whether the provider counts tokens."""
        return self._shape is not None and self._shape.counts

    def for_call(self, params: dict[str, Any]) -> CustomTarget:  # noqa: ARG002  # as Target
        """Itself: there is one way for every call."""
        return self

    async def _asked(self, request: Request, **more: Any) -> Any:
        assert self._generate is not None  # noqa: S101  # else there is a shape
        params = dict(request.params)
        if request.headers:
            params["extra_headers"] = request.headers
        result = self._generate(request.messages, request.model, **more, **params)
        return await result if inspect.isawaitable(result) else result

    async def _call(self, work: Coroutine[Any, Any, Any], seconds: float | None) -> Any:
        import asyncio

        try:
            async with asyncio.timeout(seconds):
                return await work
        except LLMError as error:
            if isinstance(error, ProviderError):
                error.provider = error.provider or self.provider
                error.model = error.model or self.model
            raise
        except TimeoutError as error:
            raise APITimeoutError(
                f"{self.provider} did not answer {self.model!r} in time; raise timeout= or give a fallback_model=",
                provider=self.provider,
                model=self.model,
            ) from error
        except Exception as error:
            raise ProviderError(
                f"{self.provider} failed for {self.model!r}: {type(error).__name__}: {error}; see the cause above",
                provider=self.provider,
                model=self.model,
            ) from error

    async def send(self, request: Request, timeout: Any) -> LLMResponse:
        """One call, one whole answer; other exceptions than ours become a ProviderError."""
        work = self._asked(request) if self._shape is None else self._shape.answer(request)
        return self._response(await self._call(work, timeout.total))

    async def count(self, request: Request, timeout: Any) -> int:
        """Tokens of the messages by the provider's own ``count_tokens``; errors as of ``send``."""
        assert self._shape is not None  # noqa: S101  # what counts has a shape
        return int(await self._call(self._shape.count(request), timeout.total))

    async def source(self, request: Request, seconds: float | None) -> StreamSource:
        """One streamed call; raises ProviderError where the provider cannot stream."""
        if not self._takes_stream:
            raise self._no_stream()
        work = self._asked(request, stream=True) if self._shape is None else self._shape.stream(request)
        result = await self._call(work, seconds)
        if hasattr(result, "__aiter__"):
            dropped = request.dropped
            return Generated(_iterator(result), lambda text: self._response(LLMResponse(content=text, dropped=dropped)))
        return OneAnswer(self._response(result))

    def _no_stream(self) -> ProviderError:
        return ProviderError(
            f"{self.provider} cannot stream {self.model!r}; call it without stream=True",
            provider=self.provider,
            model=self.model,
        )

    def _response(self, result: Any) -> LLMResponse:
        if isinstance(result, str):
            result = LLMResponse(content=result)
        if not isinstance(result, LLMResponse):
            raise ProviderError(
                f"{self.provider} gave a {type(result).__name__} for {self.model!r};"
                " generate() must return an LLMResponse",
                provider=self.provider,
                model=self.model,
            )
        result.provider = result.provider or self.provider
        result.model = result.model or self.model
        result.model_name = self.asked
        if result.pricer is None:
            result.pricer = self.pricer(result.model)
        if not _is_counted(result.usage):
            result.usage = _counted(result.usage)
        return result

    def pricer(self, served: str | None = None) -> Any:
        """What prices a request that is made now; ``served``: the model's name as the provider says it."""
        return Pricer(self.asked, self.provider, served or self.model, time(), entry=self.prices)

    async def released(self) -> None:
        """Nothing is held here."""


def _is_counted(usage: Any) -> bool:
    return isinstance(usage, Usage) and all(
        type(count) is int and count >= 0
        for name in usage.__struct_fields__
        if name != "estimated" and (count := getattr(usage, name)) != 0
    )


def _counted(given: Any) -> Usage:
    """What a class of the user's own calls a usage, as counts: what is no count there is not known, and 0."""
    found = Usage()
    for name in found.__struct_fields__:
        count = given.get(name) if isinstance(given, dict) else getattr(given, name, None)
        if isinstance(count, int | float) and 0 < count < inf:
            setattr(found, name, bool(count) if name == "estimated" else int(count))
    return found


def _iterator(pieces: Any) -> AsyncIterator[Any]:
    iterator: AsyncIterator[Any] = pieces.__aiter__()
    return iterator


def takes_stream(generate: Callable[..., Any]) -> bool:
    """Whether a generate method accepts ``stream``."""
    try:
        parameters = inspect.signature(generate).parameters
    except (TypeError, ValueError):
        return True
    return "stream" in parameters
