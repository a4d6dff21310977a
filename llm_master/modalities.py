"""
What a client does beside chat: vectors and counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_master.lifecycle import Closing

if TYPE_CHECKING:
    from llm_master.classes import EmbeddingResponse, TokenCount
    from llm_master.policy.deadline import Timeouts

__all__ = ["Modalities"]


class Modalities(Closing):
    """The part of ``QueryLLM`` that is no conversation."""

    _engine: Any

    def _load_engine(self) -> Any:
        raise NotImplementedError

    def _pool(self, model_name: str, api: str | None) -> Any:
        raise NotImplementedError

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
        found: EmbeddingResponse = await call.embed([engine.Step(self._pool(model_name, None), params)], texts)
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
        call = engine.call(model_name, engine.normalise(messages, prompt=prompt), timeout=timeout)
        found: TokenCount = await call.count([engine.Step(self._pool(model_name, None), {})])
        return found
