"""Ask the embedded model; no key, no network."""

import asyncio

from llm_master import QueryLLM


async def main() -> None:
    async with QueryLLM() as llm:
        response = await llm.query("local", "What is the capital of France?", max_tokens=30)
        print(response.content)
        print(response.usage.input_tokens, "tokens in,", response.usage.output_tokens, "out, cost", response.cost)


asyncio.run(main())
