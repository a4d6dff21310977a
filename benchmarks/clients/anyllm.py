"""any-llm: one AnyLLM object, which its documentation recommends where calls are many."""

from __future__ import annotations

from typing import Any

import _worker


class AnyLLM:
    """The provider object is made once and keeps its connections."""

    def __init__(self, base_url: str) -> None:
        from any_llm import AnyLLM as Peer

        self.client = Peer.create("openai", api_key=_worker.KEY, api_base=base_url)

    async def call(self, prompt: str) -> tuple[str, int]:
        answer: Any = await self.client.acompletion(model=_worker.MODEL, messages=_messages(prompt))
        return answer.choices[0].message.content or "", answer.usage.completion_tokens

    async def stream(self, prompt: str) -> int:
        pieces = 0
        stream: Any = await self.client.acompletion(model=_worker.MODEL, messages=_messages(prompt), stream=True)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                pieces += 1
        return pieces


def _messages(prompt: str) -> Any:
    return _worker.messages(prompt)


async def _make(base_url: str) -> AnyLLM:
    return AnyLLM(base_url)


if __name__ == "__main__":
    _worker.main(_make)
