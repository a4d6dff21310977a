"""
``QueryLLM``: one call for any model.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from llm_master.arguments import FileNeededError, later, watching, with_files
from llm_master.base_provider import (
    UnifiedProvider,
    implementation,
    implementations,
    make_provider,
    row_of,
    table_version,
)
from llm_master.classes import ModelRegistry
from llm_master.config import LLMConfig
from llm_master.errors import ConfigurationError, ModelNotFoundError
from llm_master.lifecycle import Watched
from llm_master.modalities import Modalities
from llm_master.registration import is_provider

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Self

    from llm_master.calls import Step
    from llm_master.classes import LLMResponse, ModelConfig
    from llm_master.defaults import Tables
    from llm_master.events import CallEvent
    from llm_master.fetch_rules import FetchPolicy
    from llm_master.ledger.store import Ledger
    from llm_master.policy.breaker import BreakerPolicy
    from llm_master.policy.cache import ResponseCache
    from llm_master.policy.deadline import Timeouts
    from llm_master.policy.hedge import HedgePolicy
    from llm_master.policy.limits_budget import Budget
    from llm_master.policy.limits_rules import Limit
    from llm_master.policy.retry import RetryPolicy
    from llm_master.resolution import Route
    from llm_master.settings_parts import CacheSettings, Deployment
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


class QueryLLM(Watched, Modalities):
    """
    One async call for any language model.

    Making one costs nothing: no network, no SDK. It works from several event loops and threads, and after fork.

    Args:
        config: keys and addresses; None reads the environment and ``.env``.
        registry: models by name with their prices and limits; None is ``ModelRegistry.CONFIGS``.
        timeouts: limits in seconds of every call.
        retry: how often and how fast a target is tried again.
        drop_params: leave out parameters that a model cannot take, instead of raising.
        deployments: by model name, the places that serve it.
        limits: ``Limit("provider:openai", rpm=500)``, also of ``model:``, ``deployment:`` and ``tag:``.
        budgets: ``Budget("tag:team-a", usd=5)``, also of ``model:``, ``provider:``, ``deployment:``, ``key:``, ``all``.
        redis_url: a Redis or Valkey that shares limits and budgets; None reads ``LLM_MASTER_REDIS_URL``.
        limits_store: the same, ``"sqlite:PATH"`` or ``"memory"``; None reads ``LLM_MASTER_LIMITS``. Without any, limits
            hold for this process, and budgets are in ``~/.local/state/llm_master/limits.sqlite3``.
        limiter: keeps the limits in place of these; it is not closed here.
        breaker: when a deployment is left alone.
        hedge: ask a second target when the first is slow.
        cache: keep answers for equal requests: ``"memory"``, or ``CacheSettings`` for a file or a Redis.
        fetch: what may be fetched for providers that do not fetch images and files by their address.
        telemetry: ``"otel"``, ``"prometheus"``, or objects of ``llm_master.telemetry``, one or a list.
        ledger: ``"relaxed"`` (the default) writes each call down within 100 ms, ``"strict"`` before its answer is
            shown, ``"off"`` never. A ``Ledger``, else ``[ledger]`` of the file, else ``LLM_MASTER_LEDGER`` says where.

    ``QueryLLM.from_file`` takes models, deployments, fallbacks and limits from a settings file.

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
        deployments: Mapping[str, Sequence[Deployment]] | None = None,
        limits: Iterable[Limit] = (),
        budgets: Iterable[Budget] = (),
        redis_url: str | None = None,
        limits_store: str | None = None,
        limiter: Any = None,
        breaker: BreakerPolicy | None = None,
        hedge: HedgePolicy | None = None,
        cache: Literal["memory"] | CacheSettings | ResponseCache | None = None,
        fetch: FetchPolicy | None = None,
        telemetry: Any = None,
        ledger: Literal["relaxed", "strict", "off"] | Ledger | None = None,
    ) -> None:
        self.config = config if config is not None else LLMConfig.from_env()
        self._registry = registry
        self._options: dict[str, Any] = {
            "timeouts": timeouts,
            "retry": retry,
            "deployments": deployments,
            "limits": tuple(limits),
            "budgets": tuple(budgets),
            "redis_url": redis_url,
            "limits_store": limits_store,
            "limiter": limiter,
            "breaker": breaker,
            "hedge": hedge,
            "cache": cache,
            "ledger": ledger,
        }
        self._engine: Any = None
        self._retired: list[tuple[Any, list[Any]]] = []
        self._listeners: list[Callable[[CallEvent], Any]] = watching(telemetry)
        self._drop_params, self._fetch = drop_params, fetch
        self._transport: Transport | None = None
        self._providers: dict[tuple[Any, str | None], Any] = {}
        self._pools: dict[tuple[str, str | None], Any] = {}
        self._version = table_version()
        self._lock = threading.RLock()

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], config: LLMConfig | None = None, **options: Any) -> Self:
        """
        A client with the models, deployments, fallbacks, limits and times of a settings file.

        Args:
            path: ``llm_master.toml``; ``config/llm_master.toml`` of the project shows every setting.
            config, options: as for ``QueryLLM``; what is given here beats the file.

        Raises:
            ConfigurationError: ``FILE:LINE: what is wrong``.
        """
        llm = cls(config, **options)
        llm.reload(path)
        return llm

    def reload(self, path: str | os.PathLike[str] | None = None) -> None:
        """
        Read the settings file again; calls in flight end as they began.

        Raises:
            ConfigurationError: the file is wrong (what held before goes on), or there is none.
        """
        from llm_master.settings import Settings

        known = self._options.get("settings")
        if path is None:
            path = known.path if known is not None else None
        if path is None:
            raise ConfigurationError("this client was not made from a settings file; use QueryLLM.from_file(path)")
        settings = Settings.read(path, UnifiedProvider.PROVIDER_CONFIGS)
        with self._lock:
            options = {**self._options, "settings": settings}
            # Made before anything is changed: what held before goes on when it cannot be.
            engine = self._new_engine(options)
            pools = list(self._pools.values())
            if self._engine is not None:
                self._engine.admission.leave(pools)
            # What calls in flight still use is let go of with the client; a supervised server is shared meanwhile.
            self._retired.append((self._engine, pools))
            self._options, self._pools, self._engine = options, {}, engine

    # -- the call -----------------------------------------------------------------------------------------------

    @overload
    async def query(
        self,
        model_name: str | None = ...,
        messages: Any = ...,
        *,
        stream: Literal[False] = ...,
        **kwargs: Any,
    ) -> LLMResponse: ...

    @overload
    async def query(
        self, model_name: str | None = ..., messages: Any = ..., *, stream: Literal[True], **kwargs: Any
    ) -> LLMStream: ...

    @overload
    async def query(
        self, model_name: str | None = ..., messages: Any = ..., *, stream: bool, **kwargs: Any
    ) -> LLMResponse | LLMStream: ...

    async def query(
        self,
        model_name: str | None = None,
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
        on_interrupt: Literal["continue", "restart"] | None = None,
        tags: str | Sequence[str] = (),
        limit_wait: float | None = None,
        max_cost: Any = None,
        hedge_after: float | None = None,
        cache: bool | None = None,
        repairs: int = 0,
        moderation: bool | str = False,
        **params: Any,
    ) -> LLMResponse | LLMStream:
        """
        Ask a model.

        Args:
            model_name: ``"gpt-4o-mini"``, ``"anthropic/claude-sonnet-5-5"``, ``"local"``; None is the one that
                ``LLM_PROVIDER`` and ``LLM_DEFAULT_MODEL`` name.
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
            on_interrupt: what plain iteration does when a stream breaks off after it gave text: ``"continue"`` goes
                on from there on the next target, ``"restart"`` gives another whole answer; None raises.
            tags: names that the call counts under in limits and records.
            limit_wait: seconds to wait for room under limits; 0 fails at once, None is as long as the deadline allows.
            max_cost: USD that all attempts of the call may cost together; one that might cost more is not sent.
            hedge_after: seconds without an answer after which a second target is asked too.
            cache: False neither looks into the client's cache nor keeps the answer.
            repairs: how often an answer that does not fit ``response_format`` is asked for again.
            moderation: True has the user's last message checked first (by OpenAI's model, or the one named); a flagged
                one raises ContentModerationError and is not sent.
            params: everything else goes to the provider, in the names of the chat format. ``tools`` may hold Python
                functions, ``response_format`` a type or a JSON schema; the value is in ``response.parsed``.

        Raises:
            InvalidRequestError: bad input; nothing was sent.
            ModelNotFoundError: ``Unsupported model: NAME``.
            ConfigurationError: a missing key or address.
            ProviderError: the last target's error, with every attempt in ``error.attempts``.
            StructuredOutputError: the answer does not fit ``response_format``.
        """
        # What only a call needs is imported by the first one.
        engine = self._engine or self._load_engine()
        if model_name is None:
            model_name = self._default_model()
        wanted, lenient = None, False
        if "tools" in params or "response_format" in params:
            given = params.get("response_format")
            params, wanted = engine.shaped(params)
            lenient = params.get("response_format") is given
        if params or extra_headers:
            engine.check_params(
                model_name, params if extra_headers is None else {**params, "extra_headers": extra_headers}
            )
        pool = self._pool(model_name, api)
        steps: list[Step] = [engine.Step(pool, params)]
        if fallback_model is not None or fallback_config is not None or pool.fallbacks:
            for name, own in engine.fallbacks(pool, fallback_model, fallback_config):
                steps.append(engine.Step(self._pool(name, None), own))
        try:
            turns = engine.normalise(messages, prompt=prompt, read_file=later)
        except FileNeededError:
            turns = await with_files(engine, messages, prompt)
        call = engine.call(
            model_name,
            turns,
            headers=extra_headers,
            drop_params=self._drop_params if drop_params is None else drop_params,
            timeout=timeout,
            max_attempts=max_attempts,
            fallback_on=fallback_on,
            tags=tags,
            limit_wait=limit_wait,
            max_cost=max_cost,
            hedge_after=hedge_after,
        )
        if stream or on_interrupt is not None or cache is not None or engine.caching or hedge_after or engine.hedge:
            work = engine.work(call, steps, stream=stream, on_interrupt=on_interrupt, cache=cache, api=api)
        else:
            work = call.run(steps, engine.limits_of(call))
        if wanted is not None:
            work = engine.in_shape(call, work, steps, wanted, stream=stream, lenient=lenient, repairs=repairs)
        if moderation:
            work = self._screened(call, work, moderation)
        return await (call.observed(work, steps) if call.listeners or call.books else work)  # type: ignore[no-any-return]  # late

    def query_sync(self, model_name: str | None = None, messages: Any = None, **kwargs: Any) -> Any:
        """
        The same call for code without an event loop, and under a running one (Jupyter).

        With ``stream=True`` the result is an ordinary iterator of text with ``response``, ``text()`` and ``close()``.
        """
        from llm_master.blocking import SyncStream, run
        from llm_master.stream import LLMStream

        result = run(self.query(model_name, messages, **kwargs))
        return SyncStream(result) if isinstance(result, LLMStream) else result

    def _load_engine(self) -> Any:
        with self._lock:
            if self._engine is None:
                self._engine = self._new_engine(self._options)
            return self._engine

    def _new_engine(self, options: dict[str, Any]) -> Any:
        from llm_master.engine import Engine

        return Engine(self, options, self._listeners)

    # -- routes -------------------------------------------------------------------------------------------------

    def _pool(self, model_name: str, api: str | None) -> Any:
        if self._version != table_version():
            with self._lock:
                self._refresh()
        engine = self._engine or self._load_engine()
        if type(model_name) is not str or (api is not None and type(api) is not str):
            engine.check_model_name(model_name, api)
        found = self._pools.get((model_name, api))
        if found is None:
            engine.check_model_name(model_name)
            with self._lock:
                found = self._pools.get((model_name, api)) or engine.pool(model_name, api, self._entries())
                self._pools[(model_name, api)] = found
        return found

    def _entries(self) -> Mapping[str, ModelConfig]:
        return self._registry if self._registry is not None else ModelRegistry.CONFIGS

    def _named_entries(self) -> Mapping[str, ModelConfig]:
        """The registry together with the models of settings and deployments."""
        if self._options.get("settings") is None and not self._options.get("deployments"):
            return self._entries()
        engine = self._engine or self._load_engine()
        return engine.assembly.registry(self._entries())  # type: ignore[no-any-return]  # the engine is loaded late

    def route(self, model_name: str) -> Route:
        """Which provider and model a name means; raises ModelNotFoundError."""
        from llm_master.defaults import route_of

        return route_of(model_name, self.config, self._tables())

    def _tables(self) -> Tables:
        from llm_master.defaults import Tables

        rows = {name: row_of(name) for name in UnifiedProvider.PROVIDER_CONFIGS}
        return Tables(rows, self._named_entries(), self.provider_map, implementations())

    def _default_model(self) -> str:
        from llm_master.defaults import default_model

        return default_model(self.config, self._tables())

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
        return self._provider_of(route)

    def _provider_of(self, route: Route) -> Any:
        own = implementation(route.provider) if route.provider is not None else None
        provider_class = own[0] if own is not None else (route.provider_class or UnifiedProvider)
        if is_provider(provider_class):
            return provider_class  # an object that the user made, and closes
        with self._lock:
            found = self._providers.get((provider_class, route.provider))
            if found is None:
                kwargs = own[1] if own is not None else None
                found = make_provider(provider_class, route.provider, kwargs, self.config, self._sessions)
                self._providers[(provider_class, route.provider)] = found
        return found

    def _sessions(self) -> Transport:
        if self._transport is None:
            from llm_master.transport import Transport

            self._transport = Transport(self._fetch)
        return self._transport

    # -- life ---------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Forget routes after the provider table changed; a running embedded model goes on."""
        if self._engine is not None:
            self._engine.admission.leave([pool for pool in self._pools.values() if not pool.supervised])
        self._pools = {key: pool for key, pool in self._pools.items() if pool.supervised}
        self._providers.clear()
        self._version = table_version()

    async def aclose(self) -> None:
        """Close the connections of the running loop and stop an embedded model that only this object uses."""
        with self._lock:
            providers = list(self._providers.values())
            parts = [*self._retired, (self._engine, list(self._pools.values()))]
            self._pools, self._retired = {}, []
            self._providers.clear()
        for engine, pools in parts:
            if engine is not None:
                engine.admission.leave(pools)
                await engine.aclose()
            for pool in pools:
                await pool.released()
        for provider in providers:
            close = getattr(provider, "aclose", None)
            if close is not None:
                await close()
        if self._transport is not None:
            await self._transport.aclose()

    def __repr__(self) -> str:
        return f"QueryLLM({self.config!r})"
