"""A provider of your own, as a class: it echoes."""

import asyncio
from typing import Any

from llm_master import BaseLLMProvider, LLMResponse, QueryLLM, Usage


class EchoProvider(BaseLLMProvider):
    """Answers with the last message."""

    async def generate(
        self, messages: list[dict[str, Any]], model: str, stream: bool = False, **kwargs: Any
    ) -> LLMResponse:
        text = messages[-1]["content"]
        return LLMResponse(content=text, model_name=model, usage=Usage(input_tokens=len(text.split())), latency=0.0)


QueryLLM.provider_map["echo-"] = (None, EchoProvider)


async def main() -> None:
    async with QueryLLM() as llm:
        response = await llm.query("echo-1", "Is there anybody out there?")
        print(response.provider, "says:", response.content)


asyncio.run(main())
