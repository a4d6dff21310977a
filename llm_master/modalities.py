"""
What a client does around a single answer: tools in a loop, another try at a shape, vectors and counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_master.lifecycle import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llm_master.classes import EmbeddingResponse, TokenCount
    from llm_master.policy.deadline import Timeouts
    from llm_master.tools import ToolRun

__all__ = ["Modalities"]


class Modalities(Closing):
    """The part of ``QueryLLM`` that is more, or less, than one question."""

    _engine: Any

    def _load_engine(self) -> Any:
        raise NotImplementedError

    def _pool(self, model_name: str, api: str | None) -> Any:
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
            ToolLoopError: a bound is reached; ``error.run`` is the run so far.
            LLMError: as ``query``.
        """
        from time import monotonic

        from llm_master.tools import ToolBox, run

        engine = self._engine or self._load_engine()
        box = ToolBox(tools, handlers, tool_timeout)
        turns = engine.normalise(messages, prompt=prompt)
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
            deadline=None if timeout is None else monotonic() + timeout,
        )

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
        call = engine.call(model_name, [], headers=extra_headers, timeout=timeout)
        texts = [input] if isinstance(input, str) else list(input)
        work = call.embed([engine.Step(self._pool(model_name, None), params)], texts)
        return await (call.observed(work) if call.listeners else work)  # type: ignore[no-any-return]  # a vector's

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
        call = engine.call(model_name, engine.normalise(messages, prompt=prompt), timeout=timeout)
        work = call.count([engine.Step(self._pool(model_name, None), {})])
        return await (call.observed(work) if call.listeners else work)  # type: ignore[no-any-return]  # a count's
