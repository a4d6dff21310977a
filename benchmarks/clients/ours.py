"""LLM Master: one QueryLLM."""

from __future__ import annotations

from typing import Any

import _worker


class Ours:
    """As the README shows it, without a ledger: the peers keep none."""

    def __init__(self, base_url: str, ledger: Any = "off") -> None:
        from llm_master import LLMConfig, QueryLLM

        config = LLMConfig(openai_api_key=_worker.KEY, base_urls={"openai": base_url})
        self.llm: Any = QueryLLM(config, ledger=ledger)

    async def call(self, prompt: str) -> tuple[str, int]:
        answer = await self.llm.query(_worker.MODEL, messages=_worker.messages(prompt))
        return answer.content, answer.usage.output_tokens

    async def stream(self, prompt: str) -> int:
        pieces = 0
        async for text in await self.llm.query(_worker.MODEL, messages=_worker.messages(prompt), stream=True):
            if text:
                pieces += 1
        return pieces


async def _make(base_url: str) -> Ours:
    return Ours(base_url)


if __name__ == "__main__":
    _worker.main(_make)
