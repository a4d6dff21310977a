"""
``QueryLLM``: one call for any model.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from llm_master.base_provider import (
    UnifiedProvider,
    implementation,
    implementations,
    row_of,
    table_version,
)
from llm_master.classes import ModelRegistry
from llm_master.config import LLMConfig
from llm_master.errors import InvalidRequestError, LLMError, ModelNotFoundError
from llm_master.policy.deadline import Timeouts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from llm_master.calls import Step
    from llm_master.classes import EmbeddingResponse, LLMResponse, ModelConfig, TokenCount
    from llm_master.policy.retry import RetryPolicy
    from llm_master.resolution import Route
    from llm_master.stream import LLMStream
    from llm_master.transport import Transport

__all__ = ["QueryLLM"]


def _shipped_map() -> dict[str, tuple[str | None, Any]]:
    """Substring of a model name -> provider, from the rows."""
    return {
        pattern: (name, UnifiedProvider)
        for name, row in UnifiedProvider.PROVIDER_CONFIGS.items()
        for pattern in row.get("models", ())
    }


class QueryLLM:
    """
    One async call for any language model.

    Making one costs nothing: no network, no SDK. It works from several event loops and threads, and after fork.

    Args:
        config: keys and addresses; None reads the environment and ``.env``.
        registry: models by name with their prices and limits; None is ``ModelRegistry.CONFIGS``.
        timeouts: limits in seconds of every call.
        retry: how often and how fast a target is tried again.
        drop_params: leave out parameters that a model cannot take, instead of raising.

    ``provider_map`` gives the provider of a model name by substring: ``"flux": (None, MyProvider)`` for a class of
    your own, ``"prefix": ("row", UnifiedProvider)`` for a row of ``PROVIDER_CONFIGS``.
    """

    provider_map: ClassVar[dict[str, tuple[str | None, Any]]] = _shipped_map()

    def __init__(
        self,
        config: LLMConfig | None = None,
        *,
        registry: Mapping[str, ModelConfig] | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        drop_params: bool = False,
    ) -> None:
        self.config = config if config is not None else LLMConfig.from_env()
        self._registry = registry
        self._timeouts = timeouts if timeouts is not None else Timeouts()
        self._retry = retry
        self._engine: Any = None
        self._limits: Any = None
        self._drop_params = drop_params
        self._transport: Transport | None = None
        self._providers: dict[tuple[Any, str | None], Any] = {}
        self._targets: dict[tuple[str, str | None], Any] = {}
        self._version = table_version()
        self._lock = threading.RLock()

    # -- the call -----------------------------------------------------------------------------------------------

    @overload
    async def query(
        self,
        model_name: str,
        messages: Any = ...,
        *,
        stream: Literal[False] = ...,
        **kwargs: Any,
    ) -> LLMResponse: ...

    @overload
    async def query(
        self, model_name: str, messages: Any = ..., *, stream: Literal[True], **kwargs: Any
    ) -> LLMStream: ...

    @overload
    async def query(
        self, model_name: str, messages: Any = ..., *, stream: bool, **kwargs: Any
    ) -> LLMResponse | LLMStream: ...

    async def query(
        self,
        model_name: str,
        messages: Any = None,
        *,
        prompt: str | None = None,
        stream: bool = False,
        fallback_model: str | list[str] | tuple[str, ...] | None = None,
        fallback_config: Mapping[str, Any] | list[Mapping[str, Any]] | None = None,
        fallback_on: Collection[str] = (),
        timeout: float | Timeouts | None = None,
        max_attempts: int | None = None,
        api: str | None = None,
        drop_params: bool | None = None,
        extra_headers: dict[str, str] | None = None,
        **params: Any,
    ) -> LLMResponse | LLMStream:
        """
        Ask a model.

        Args:
            model_name: ``"gpt-4o-mini"``, ``"anthropic/claude-sonnet-5-5"``, ``"local"``.
            messages: chat messages, or one string; see the guide for images and tools.
            prompt: one user message, in place of messages or after them.
            stream: give an ``LLMStream`` once the first piece of the answer is there.
            fallback_model: where to go when the model fails: a name, or several in order.
            fallback_config: the parameters of the fallbacks: one dict for all, or a dict per model name, or a list.
                Without it a fallback gets the messages and no parameters at all.
            fallback_on: ``{"content_policy"}`` lets a refusal by policy fall back too.
            timeout: seconds for the whole call, or ``Timeouts``.
            max_attempts: requests to one target at most.
            api: one of the provider's API families, ``"chat"`` or ``"messages"``.
            drop_params: leave out what the model cannot take and list it in ``response.dropped``.
            extra_headers: headers added to the request.
            params: everything else goes to the provider, in the names of the chat format.

        Raises:
            InvalidRequestError: bad input; nothing was sent.
            ModelNotFoundError: ``Unsupported model: NAME``.
            ConfigurationError: a missing key or address.
            ProviderError: the last target's error, with every attempt in ``error.attempts``.
        """
        # What only a call needs is imported by the first one.
        engine = self._engine or self._load_engine()
        if params or extra_headers:
            engine.check_params(
                model_name, params if extra_headers is None else {**params, "extra_headers": extra_headers}
            )
        steps = self._steps(model_name, api, params, fallback_model, fallback_config)
        try:
            turns = engine.normalise(messages, prompt=prompt, read_file=_later)
        except _FileNeededError:
            turns = await _with_files(engine, messages, prompt)
        call = engine.Call(
            model_name,
            turns,
            self._timeouts if timeout is None else Timeouts.of(timeout, self._timeouts),
            self._retry if max_attempts is None else _with_attempts(self._retry, max_attempts),
            headers=extra_headers,
            drop_params=self._drop_params if drop_params is None else drop_params,
            fallback_on=fallback_on,
        )
        if stream:
            return engine.LLMStream(await call.open(steps))  # type: ignore[no-any-return]  # the engine is loaded late
        limits = self._limits if timeout is None else engine.first_limits(call.timeouts)
        return await call.run(steps, limits)  # type: ignore[no-any-return]  # same

    def query_sync(self, model_name: str, messages: Any = None, **kwargs: Any) -> Any:
        """
        The same call for code without an event loop, and under a running one (Jupyter).

        With ``stream=True`` the result is an ordinary iterator of text with ``response``, ``text()`` and ``close()``.
        """
        from llm_master.blocking import SyncStream, run
        from llm_master.stream import LLMStream

        result = run(self.query(model_name, messages, **kwargs))
        return SyncStream(result) if isinstance(result, LLMStream) else result

    async def embed(
        self,
        model_name: str,
        input: str | list[str],
        *,
        timeout: float | Timeouts | None = None,
        extra_headers: dict[str, str] | None = None,
        **params: Any,
    ) -> EmbeddingResponse:
        """
        Vectors of one text or several, in their order; raises as ``query``.

        Args:
            model_name: ``"text-embedding-3-small"``, ``"local"``.
            input: a text or a list of texts.
            params: ``dimensions`` and whatever else the provider takes.
        """
        engine = self._engine or self._load_engine()
        call = self._call(model_name, [], timeout, extra_headers)
        texts = [input] if isinstance(input, str) else list(input)
        found: EmbeddingResponse = await call.embed([engine.Step(self._target(model_name, None), params)], texts)
        return found

    async def count_tokens(
        self,
        model_name: str,
        messages: Any = None,
        *,
        prompt: str | None = None,
        timeout: float | Timeouts | None = None,
    ) -> TokenCount:
        """Tokens that messages have for a model, as its provider counts them; raises as ``query``."""
        engine = self._engine or self._load_engine()
        turns = engine.normalise(messages, prompt=prompt)
        call = self._call(model_name, turns, timeout, None)
        found: TokenCount = await call.count([engine.Step(self._target(model_name, None), {})])
        return found

    def _call(
        self, model_name: str, turns: list[dict[str, Any]], timeout: float | Timeouts | None, headers: Any
    ) -> Any:
        limits = self._timeouts if timeout is None else Timeouts.of(timeout, self._timeouts)
        return self._engine.Call(model_name, turns, limits, self._retry, headers=headers)

    def _load_engine(self) -> Any:
        from llm_master import calls

        if self._retry is None:
            self._retry = calls.RetryPolicy()
        self._limits = calls.first_limits(self._timeouts)
        self._engine = calls
        return calls

    def _steps(
        self,
        model_name: str,
        api: str | None,
        params: dict[str, Any],
        fallback_model: str | list[str] | tuple[str, ...] | None,
        fallback_config: Any,
    ) -> list[Step]:
        engine = self._engine
        steps: list[Step] = [engine.Step(self._target(model_name, api), params)]
        if fallback_model is not None:
            names = [fallback_model] if isinstance(fallback_model, str) else list(fallback_model)
            configs = _fallback_params(names, fallback_config)
            for name, own in zip(names, configs, strict=True):
                if own:
                    engine.check_params(name, own)
                steps.append(engine.Step(self._target(name, None), own))
        elif fallback_config is not None:
            raise InvalidRequestError("fallback_config without fallback_model: name the model that it is for")
        return steps

    # -- routes -------------------------------------------------------------------------------------------------

    def _target(self, model_name: str, api: str | None) -> Any:
        if self._version != table_version():
            with self._lock:
                self._refresh()
        if type(model_name) is not str:
            self._engine.check_model_name(model_name)
        found = self._targets.get((model_name, api))
        if found is None:
            self._engine.check_model_name(model_name)
            with self._lock:
                found = self._make_target(model_name, api)
                self._targets[(model_name, api)] = found
        return found

    def _make_target(self, model_name: str, api: str | None) -> Any:
        from llm_master.custom import CustomTarget, takes_stream

        provider = self._get_provider(model_name)
        route = self.route(model_name)
        if isinstance(provider, UnifiedProvider):
            method = provider.generator(route.model)
            if method is None:
                return provider.target(route.model, asked=model_name, api=api or route.api)
            generate, name, can = method, provider.name, takes_stream(method)
        else:
            generate = provider.generate
            name, can = route.provider or type(provider).__name__, takes_stream(provider.generate)
        return CustomTarget(name, generate, model=route.model, asked=model_name, takes_stream=can, owner=provider)

    def route(self, model_name: str) -> Route:
        """Which provider and model a name means; raises ModelNotFoundError."""
        from llm_master.resolution import resolve

        return resolve(
            model_name,
            rows={name: row_of(name) for name in UnifiedProvider.PROVIDER_CONFIGS},
            registry=self._registry if self._registry is not None else ModelRegistry.CONFIGS,
            provider_map=self.provider_map,
            extra_prefixes=implementations(),
        )

    def _get_provider(self, model_name: str) -> Any:
        """
        The provider object for a model name.

        Raises:
            ModelNotFoundError: ``Unsupported model: NAME``, also logged.
        """
        try:
            route = self.route(model_name)
        except ModelNotFoundError as error:
            import logging

            logging.getLogger("llm_master").error("Error getting provider: %s", error)  # noqa: TRY400  # the line users know
            raise
        own = implementation(route.provider) if route.provider is not None else None
        provider_class = own[0] if own is not None else (route.provider_class or UnifiedProvider)
        with self._lock:
            found = self._providers.get((provider_class, route.provider))
            if found is None:
                found = self._make_provider(provider_class, route.provider, own[1] if own is not None else None)
                self._providers[(provider_class, route.provider)] = found
        return found

    def _make_provider(self, provider_class: Any, name: str | None, kwargs: dict[str, Any] | None) -> Any:
        if kwargs is not None:
            return provider_class(**kwargs)
        # A subclass with a constructor of its own takes only the configuration, as the guide's classes do.
        if name and getattr(provider_class, "__init__", None) is UnifiedProvider.__init__:
            return provider_class(name, self.config, transport=self._sessions())
        return provider_class(self.config)

    def _sessions(self) -> Transport:
        if self._transport is None:
            from llm_master.transport import Transport

            self._transport = Transport()
        return self._transport

    # -- life ---------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Forget routes after the provider table changed; a running embedded model goes on."""
        self._targets = {key: target for key, target in self._targets.items() if target.supervised}
        self._providers.clear()
        self._version = table_version()

    async def aclose(self) -> None:
        """Close the connections of the running loop and stop an embedded model that only this object uses."""
        with self._lock:
            providers, targets = list(self._providers.values()), list(self._targets.values())
            self._targets.clear()
            self._providers.clear()
        for target in targets:
            await target.released()
        for provider in providers:
            close = getattr(provider, "aclose", None)
            if close is not None:
                await close()
        if self._transport is not None:
            await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """The same as ``aclose`` for code without an event loop."""
        from llm_master.blocking import run

        run(self.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"QueryLLM({self.config!r})"


class _FileNeededError(LLMError):
    """Raised inside the event loop when the messages name a file."""


def _later(path: str) -> bytes:
    raise _FileNeededError(path)


async def _with_files(engine: Any, messages: Any, prompt: str | None) -> list[dict[str, Any]]:
    """The messages with the files that they name, read outside the event loop: a disk may block."""
    import asyncio
    from pathlib import Path

    from llm_master.image_input import MAX_IMAGE_BYTES

    def read(path: str) -> bytes:
        with Path(path).open("rb") as file:
            return file.read(MAX_IMAGE_BYTES + 1)  # one byte more shows that it is too large

    found: list[dict[str, Any]] = await asyncio.to_thread(engine.normalise, messages, prompt=prompt, read_file=read)
    return found


def _with_attempts(policy: Any, attempts: int) -> RetryPolicy:
    import msgspec

    changed: RetryPolicy = msgspec.structs.replace(policy, max_attempts=attempts)
    return changed


def _fallback_params(names: list[str], config: Any) -> Iterator[dict[str, Any]]:
    """The parameters of each fallback: nothing unless the caller gave them."""
    if config is None:
        return iter([{} for _ in names])
    if isinstance(config, (list, tuple)):
        if len(config) != len(names):
            raise InvalidRequestError(f"fallback_config holds {len(config)} dicts for {len(names)} fallback models")
        return iter([dict(c or {}) for c in config])
    if not isinstance(config, dict):
        raise InvalidRequestError(f"fallback_config is a {type(config).__name__}; give a dict of parameters")
    if config and set(config) <= set(names) and all(isinstance(c, dict) for c in config.values()):
        return iter([dict(config.get(name, {})) for name in names])
    return iter([dict(config) for _ in names])
