"""The openai package: one AsyncOpenAI client with its defaults."""

from __future__ import annotations

from typing import Any

import _worker


class OpenAI:
    """As its README shows it."""

    def __init__(self, base_url: str) -> None:
        from openai import AsyncOpenAI

        self.client = AsyncOpenAI(api_key=_worker.KEY, base_url=base_url)

    async def call(self, prompt: str) -> tuple[str, int]:
        answer = await self.client.chat.completions.create(model=_worker.MODEL, messages=_messages(prompt))
        assert answer.usage is not None
        return answer.choices[0].message.content or "", answer.usage.completion_tokens

    async def stream(self, prompt: str) -> int:
        pieces = 0
        stream = await self.client.chat.completions.create(model=_worker.MODEL, messages=_messages(prompt), stream=True)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                pieces += 1
        return pieces


def _messages(prompt: str) -> Any:
    return _worker.messages(prompt)


async def _make(base_url: str) -> OpenAI:
    return OpenAI(base_url)


if __name__ == "__main__":
    _worker.main(_make)
