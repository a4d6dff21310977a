"""
What a ``QueryLLM`` makes at its first call: limits, breakers, pools, and the calls themselves.
"""

from __future__ import annotations

import asyncio
import os
from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Any

from llm_master.admission import Admission
from llm_master.arguments import fallback_params, with_attempts
from llm_master.assembly import Assembly, budgets_of, settings_of
from llm_master.books import new_uid
from llm_master.calls import Call, LLMStream, Step, check_model_name, check_params, first_limits, normalise
from llm_master.errors import InvalidRequestError
from llm_master.limiting import limiter_of
from llm_master.policy.budget import shared_budget
from llm_master.policy.deadline import Timeouts
from llm_master.policy.limits import MemoryLimiter
from llm_master.policy.retry import RetryPolicy
from llm_master.resume import check_mode
from llm_master.structured import shaped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llm_master.books import Book
    from llm_master.classes import ModelConfig
    from llm_master.events import CallEvent
    from llm_master.policy.hedge import HedgePolicy
    from llm_master.pools import Pool
    from llm_master.tracking import Jobs

__all__ = ["Engine", "shared_limiter"]

#: The variable with the directory in which processes leave the state of their breakers for ``llm-master doctor``.
STATE_VARIABLE = "LLM_MASTER_STATE_DIR"
#: The variable with a directory of price files, which every client of the process uses; STATEK's name.
PRICES_VARIABLE = "STATEK_MODEL_INFO_DIR"


def price_files(dotenv: Mapping[str, str], settings: Any) -> None:
    """
    Load the price files that the environment and the settings name; see ``metering.py``.

    Raises:
        ConfigurationError: ``FILE:LINE: what is wrong`` with a file of the settings; others are logged.
    """
    directory = os.environ.get(PRICES_VARIABLE) or dotenv.get(PRICES_VARIABLE)
    if directory:
        from llm_master.metering import load_directory_once

        load_directory_once(directory)
    if settings is not None and settings.prices:
        from llm_master.metering import load_price_files

        load_price_files(settings.prices, strict=True)


@cache
def shared_limiter() -> MemoryLimiter:
    """The limits of this process, the same for every client that has none of its own."""
    return MemoryLimiter()


class Engine:
    """
    The working parts of one ``QueryLLM``.

    Args:
        llm: whose routes, providers and configuration are used.
        options: the arguments of ``QueryLLM`` by name, and ``settings``, a checked file or None.
        listeners: the callbacks of ``on_event``.
    """

    LLMStream = LLMStream
    Step = Step
    check_params = staticmethod(check_params)
    check_model_name = staticmethod(check_model_name)
    normalise = staticmethod(normalise)
    shaped = staticmethod(shaped)

    def __init__(self, llm: Any, options: Mapping[str, Any], listeners: list[Callable[[CallEvent], Any]]) -> None:
        settings = options.get("settings")
        self.listeners = listeners
        self.books: tuple[Book, ...] = (
            *_ledger(options.get("ledger"), settings, llm.config.dotenv_values),
            *(options.get("books") or ()),
        )
        #: The jobs of ``track``; None until there is one.
        self.jobs: Jobs | None = options.get("jobs")
        self.timeouts: Timeouts = options.get("timeouts") or (settings.timeouts if settings else Timeouts())
        self.retry: RetryPolicy = options.get("retry") or (settings.retry if settings else RetryPolicy())
        self.first = first_limits(self.timeouts)
        known = settings_of(settings, options.get("deployments"), options.get("limits") or ())
        self._limiter_is_own = options.get("limiter") is None
        budgets = budgets_of(settings, options.get("budgets") or ())
        limiter = options.get("limiter") or limiter_of(
            options, llm.config.dotenv_values, budgets=bool(budgets), memory=shared_limiter
        )
        self.admission = Admission(limiter, options.get("budget") or shared_budget(), known["limits"], budgets)
        directory = os.environ.get(STATE_VARIABLE) or llm.config.dotenv_values.get(STATE_VARIABLE)
        if directory:
            from llm_master.state import publisher

            publisher(directory).watch(self.admission)
        price_files(llm.config.dotenv_values, settings)
        self.assembly = Assembly(llm, self.admission, breaker=options.get("breaker"), **known)
        self.hedge: HedgePolicy | None = options.get("hedge")
        self._hedges: Any = None
        self.caching: Any = None
        given = options.get("cache") or (settings.cache if settings else None)
        if given is not None:
            from llm_master.caching import Caching, cache_of

            cache = cache_of(given, llm.config.dotenv_values)
            self.caching = None if cache is None else Caching(cache)

    def pool(self, model_name: str, api: str | None, registry: Mapping[str, ModelConfig]) -> Pool:
        """The deployments of a model; raises as ``QueryLLM.query``."""
        return self.assembly.pool(model_name, api, registry)

    def fallbacks(self, pool: Pool, names: Any, config: Any, *, chat: bool = True) -> list[tuple[str, dict[str, Any]]]:
        """
        The fallbacks of a call, each with its parameters: the caller's, else the settings'.

        Args:
            chat: whether ``tools`` and ``response_format`` mean what they do in a chat.

        Raises:
            InvalidRequestError: parameters for no fallback, or of a wrong kind.
        """
        if names is None:
            if config is not None:
                raise InvalidRequestError("fallback_config without fallback_model: name the model that it is for")
            return [(each.model, each.params) for each in pool.fallbacks]
        listed = [names] if isinstance(names, str) else list(names)
        found = []
        for name, own in zip(listed, fallback_params(listed, config), strict=True):
            params = shaped(own)[0] if chat and ("tools" in own or "response_format" in own) else own
            if params:
                check_params(name, params)
            found.append((name, params))
        return found

    def call(
        self,
        model_name: str,
        turns: list[dict[str, Any]],
        *,
        headers: dict[str, str] | None = None,
        drop_params: bool = False,
        timeout: float | Timeouts | None = None,
        max_attempts: int | None = None,
        fallback_on: Any = (),
        tags: Any = (),
        limit_wait: float | None = None,
        max_cost: Any = None,
        hedge_after: float | None = None,
    ) -> Call:
        """One call, not yet begun."""
        call = Call(
            model_name,
            self.admission,
            self.timeouts if timeout is None else Timeouts.of(timeout, self.timeouts),
            self.retry if max_attempts is None else with_attempts(self.retry, max_attempts),
            own_time=timeout is not None,
            fallback_on=fallback_on,
            limit_wait=limit_wait,
        )
        call.prepare(turns, headers, drop_params=drop_params)
        if tags:
            call.tags, call.limits = self.admission.tagged(tags)
        if max_cost is not None or self.admission.budgets is not None:
            call.spending = self.admission.spending(max_cost)
        if hedge_after is not None or self.hedge is not None:
            self._hedged(call, hedge_after)
        if limit_wait is not None and not (isinstance(limit_wait, (int, float)) and limit_wait >= 0):
            raise InvalidRequestError(f"limit_wait={limit_wait!r}: give seconds of at least 0, or None")
        if self.listeners:
            call.watched(self.listeners)
        books = self.books if self.jobs is None else (*self.books, *self.jobs.running())
        if books:
            call.books = books
            call.uid = new_uid()
            for book in books:
                book.check()
        return call

    def quiet_call(self, model_name: str, turns: list[dict[str, Any]], **options: Any) -> Call:
        """A call that is never made, only looked at: as ``call``, and nobody is told of it."""
        quiet = copy(self)
        quiet.listeners, quiet.books, quiet.jobs = [], (), None
        return quiet.call(model_name, turns, **options)

    def _hedged(self, call: Call, after: float | None) -> None:
        from llm_master.policy.hedge import HedgeBudget, HedgePolicy

        policy = self.hedge or HedgePolicy(after=1.0)
        if after is not None:
            policy = HedgePolicy(after=after, max_share=policy.max_share)
        if self._hedges is None:
            self._hedges = HedgeBudget(policy.max_share)
        call.hedge_after, call.hedges = policy.after, self._hedges

    def work(
        self,
        call: Call,
        steps: list[Any],
        *,
        stream: bool,
        on_interrupt: str | None,
        cache: bool | None,
        api: str | None,
    ) -> Any:
        """
        The coroutine of a prepared call.

        Raises:
            InvalidRequestError: an unknown ``on_interrupt``, or ``cache=True`` without a cache.
        """
        check_mode(on_interrupt)
        caching = self.caching if cache is None or cache else None
        if cache and caching is None:
            raise InvalidRequestError("cache=True, but this client has no cache: give QueryLLM(cache='memory')")
        call.streamed = stream
        limits = self.limits_of(call)
        key = caching.key(call, steps, api) if caching is not None else None
        if caching is not None and key is not None:
            return caching.stream(call, steps, on_interrupt, key) if stream else caching.whole(call, steps, limits, key)
        if stream:
            return call.stream(steps, on_interrupt)
        return call.run(steps, limits) if call.hedge_after is None else call.hedged(steps, limits)

    @staticmethod
    def in_shape(
        call: Call, work: Any, steps: list[Any], wanted: Any, *, stream: bool, lenient: bool, repairs: int
    ) -> Any:
        """The same work with the answer's value in ``parsed``; raises InvalidRequestError on repairs that cannot be."""
        if isinstance(repairs, bool) or not isinstance(repairs, int) or repairs < 0:
            work.close()
            raise InvalidRequestError(f"repairs={repairs!r}: give a whole number of at least 0")
        if repairs and stream:
            work.close()
            raise InvalidRequestError("repairs= cannot take back what a stream has given; leave one of them out")
        call.wanted = wanted
        if not stream:
            return call.shaped(work, steps, wanted, lenient=lenient, repairs=repairs)

        async def opened() -> LLMStream:
            found: LLMStream = await work
            found.wants(wanted, lenient=lenient)
            return found

        return opened()

    def limits_of(self, call: Call) -> Any:
        """The time of a call's first attempt when there is no other target."""
        return first_limits(call.timeouts) if call.own_time else self.first

    async def aclose(self) -> None:
        """Close what a shared limiter holds in this loop."""
        if self._limiter_is_own:
            await self.admission.limiter.aclose()
        if self.caching is not None:
            await self.caching.aclose()
        for book in self.books:
            flush = getattr(book, "flush", None)
            if flush is not None:
                await asyncio.to_thread(flush)


def _ledger(given: Any, settings: Any, dotenv: Mapping[str, str]) -> tuple[Book, ...]:
    """The book of the ledger that is meant, none when it is switched off; raises ConfigurationError."""
    if given is False or given == "off":
        return ()
    from llm_master.ledger.book import LedgerBook
    from llm_master.ledger.choice import ledger_of

    found = ledger_of(given, settings, dotenv)
    return () if found is None else (LedgerBook(found),)
