"""LLM Master with every limit that a call may count in."""

from __future__ import annotations

import time
from typing import Any

import _worker

LARGE = 10**9
ROUNDS = 20_000


class Limited:
    """One ``QueryLLM`` whose calls count in limits of model, provider and tag."""

    def __init__(self, base_url: str) -> None:
        from llm_master import Limit, LLMConfig, ModelConfig, QueryLLM

        figures = {"rate_limit_rpm": LARGE, "rate_limit_tpm": LARGE, "max_concurrency": LARGE}
        self.limits = [Limit(key, LARGE, LARGE, LARGE) for key in ("provider:openai", "tag:bench")]
        self.llm: Any = QueryLLM(
            LLMConfig(openai_api_key=_worker.KEY, base_urls={"openai": base_url}),
            registry={_worker.MODEL: ModelConfig(**figures)},
            limits=self.limits,
            ledger="off",
        )

    async def call(self, prompt: str) -> tuple[str, int]:
        answer = await self.llm.query(_worker.MODEL, messages=_worker.messages(prompt), tags="bench")
        return answer.content, answer.usage.output_tokens

    async def stream(self, prompt: str) -> int:
        pieces = 0
        async for text in await self.llm.query(
            _worker.MODEL, messages=_worker.messages(prompt), stream=True, tags="bench"
        ):
            if text:
                pieces += 1
        return pieces

    def limiter(self) -> float:
        """CPU microseconds of one reservation over three limits and its settlement."""
        from llm_master import Limit
        from llm_master.policy.limits import MemoryLimiter

        limits = [*self.limits, Limit("model:bench", LARGE, LARGE, LARGE)]
        limiter = MemoryLimiter()
        began = time.process_time()
        for _ in range(ROUNDS):
            limiter.settle(limiter.try_acquire(limits, 500), 400)
        return (time.process_time() - began) / ROUNDS * 1e6


async def _make(base_url: str) -> Limited:
    return Limited(base_url)


if __name__ == "__main__":
    _worker.main(_make)
