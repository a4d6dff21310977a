"""LiteLLM: `acompletion` with its own client cache, callbacks and debug output off."""

from __future__ import annotations

import os
from typing import Any

import _worker

os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # its price table comes with the package; otherwise it is fetched at import
    "LITELLM_LOG": "ERROR",
    "AIOHTTP_CONNECTOR_LIMIT": "0",  # no limit: at 1,000 in flight its default of 500 a host would queue and warn
    "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": "0",
}


class LiteLLM:
    """Clients are cached by the package, by key and base URL."""

    def __init__(self, base_url: str) -> None:
        import litellm

        litellm.telemetry = False
        litellm.suppress_debug_info = True
        self.complete: Any = litellm.acompletion
        self.target = {"model": f"openai/{_worker.MODEL}", "api_base": base_url, "api_key": _worker.KEY}

    async def call(self, prompt: str) -> tuple[str, int]:
        answer = await self.complete(messages=_worker.messages(prompt), **self.target)
        return answer.choices[0].message.content or "", answer.usage.completion_tokens

    async def stream(self, prompt: str) -> int:
        pieces = 0
        async for chunk in await self.complete(messages=_worker.messages(prompt), stream=True, **self.target):
            if chunk.choices and chunk.choices[0].delta.content:
                pieces += 1
        return pieces


async def _make(base_url: str) -> LiteLLM:
    return LiteLLM(base_url)


if __name__ == "__main__":
    _worker.main(_make)
