"""
What a client does around a single answer: tools in a loop, another try at a shape, and a look at what would be sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_master.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llm_master.capabilities import Capabilities
    from llm_master.explanation import Explanation
    from llm_master.tools import ToolRun
    from llm_master.tracking import Job

__all__ = ["Modalities"]


class Modalities(Services):
    """The part of ``QueryLLM`` that is more, or less, than one question."""

    config: Any
    _lock: Any
    _options: dict[str, Any]

    def route(self, model_name: str) -> Any:
        """Where a name leads; see ``QueryLLM``."""
        raise NotImplementedError

    async def query(self, model_name: str, messages: Any = None, **kwargs: Any) -> Any:
        """One question; see ``QueryLLM``."""
        raise NotImplementedError

    async def run_tools(
        self,
        model_name: str,
        messages: Any = None,
        *,
        tools: Sequence[Any],
        handlers: Mapping[str, Callable[..., Any]] | None = None,
        prompt: str | None = None,
        max_rounds: int = 10,
        max_calls: int = 50,
        parallel: bool = True,
        tool_timeout: float | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> ToolRun:
        """
        Ask, run the tools that the model calls, and go on until it answers without calling one.

        Args:
            tools: Python functions, plain or async, whose types and docstrings become their definitions; or definitions
                whose functions are in ``handlers``.
            handlers: functions by the name of their definition.
            max_rounds: questions to the model at most; max_calls: calls of tools at most.
            parallel: run the calls of one answer at the same time.
            tool_timeout: seconds for one call of a tool; what it raises, a timeout too, is shown to the model.
            timeout: seconds for everything together.
            kwargs: of every ``query``; a ``tool_choice`` other than ``auto`` holds for the first.

        Raises:
            InvalidRequestError: tools, handlers or bounds that cannot be used; nothing was sent.
            ToolLoopError: a bound is reached. ``error.run`` is the run so far, of this and of any other error that
                comes after an answer.
            LLMError: as ``query``.
        """
        from time import monotonic

        from llm_master.arguments import turns_of
        from llm_master.errors import InvalidRequestError
        from llm_master.params import check_timeout
        from llm_master.tools import ToolBox, run

        if kwargs.get("stream"):
            raise InvalidRequestError("run_tools gives whole answers; leave stream= out, or use query(stream=True)")
        engine = self._engine or self._load_engine()
        box = ToolBox(tools, handlers, tool_timeout)
        deadline = None if timeout is None else monotonic() + check_timeout(timeout)
        turns = await turns_of(engine, messages, prompt)
        given = {**kwargs, "tools": box.definitions}

        async def ask(conversation: list[dict[str, Any]], left: float | None) -> Any:
            # A forced choice forces the first call; held to it in every round a model could never answer.
            again = {"tool_choice": "auto"} if len(conversation) > len(turns) and "tool_choice" in given else {}
            limit = {} if left is None else {"timeout": left}
            return await self.query(model_name, conversation, **{**given, **again, **limit})

        return await run(
            ask,
            turns,
            box,
            max_rounds=max_rounds,
            max_calls=max_calls,
            parallel=parallel,
            deadline=deadline,
        )

    def track(self, name: str) -> Job:
        """
        Add up what the calls of a job use: ``with llm.track("report") as job: ...``, or ``async with``.

        Every call of this client that begins inside counts, in tasks and by ``query_sync`` too; jobs may lie in each
        other. The name is for reports and no tag: counting changes nothing about a call.
        """
        from llm_master.tracking import Jobs

        with self._lock:
            jobs: Jobs = self._options.setdefault("jobs", Jobs())
            engine = self._engine or self._load_engine()
            engine.jobs = jobs
        return jobs.job(name)

    def explain(
        self, model_name: str | None = None, messages: Any = None, *, call: str = "query", **kwargs: Any
    ) -> Explanation:
        """
        What ``query``, or another method, would do with the same arguments, without any network.

        Args:
            messages: the method's first argument after the model; kwargs: its other ones.
            call: ``query``, ``embed``, ``rerank``, ``moderate``, ``transcribe``, ``speak`` or ``count_tokens``.

        Returns:
            The route and why, address, headers (secrets as ``***``) and body, what became of each parameter, tokens, a
            bound of the cost, limits and times; ``str()`` of it is for people, ``to_dict()`` for programs. A missing
            key or address, a retired provider and a parameter that the model cannot take are among its ``findings``.

        Raises:
            InvalidRequestError, ModelNotFoundError: as ``query``.
        """
        if call != "query":
            from llm_master.explain_operations import explain_operation

            return explain_operation(self, call, model_name, messages, kwargs)
        from llm_master.explain import explain

        return explain(self, model_name, messages, **kwargs)

    def preview_request(
        self, model_name: str | None = None, messages: Any = None, *, call: str = "query", **kwargs: Any
    ) -> dict[str, Any]:
        """
        The JSON body that ``query``, or another method, would send first; a missing key does not prevent it.

        Args:
            call: as for ``explain``.

        Raises:
            LLMError: there is none, for the reason that the call would give.
        """
        if call != "query":
            from llm_master.explain_operations import preview_operation

            return preview_operation(self, call, model_name, messages, kwargs)
        from llm_master.explain import preview

        return preview(self, model_name, messages, **kwargs)

    def capabilities(self, model_name: str, *, api: str | None = None) -> Capabilities:
        """
        What a model takes: parameters, reasoning, kinds of input, limits, and the day it is retired. No key is needed.

        A model that nobody knows yet gets the cautious values of its family.

        Raises:
            ModelNotFoundError: as ``query``.
            ConfigurationError: its provider is a class of your own, or does not serve ``api``.
        """
        from llm_master.base_provider import implementation, row_of
        from llm_master.capabilities import capabilities_of
        from llm_master.errors import ConfigurationError
        from llm_master.families import family_for

        route = self.route(model_name)
        if route.provider is None or implementation(route.provider) is not None:
            raise ConfigurationError(f"{model_name!r} goes to a class of your own; only that knows what it takes")
        row = row_of(route.provider)
        api = api or route.api
        return capabilities_of(row, route.model, family=family_for(row, self.config, api, route.model), api=api)
