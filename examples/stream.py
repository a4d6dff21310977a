"""Show an answer while it comes, then what it took."""

import asyncio

from llm_master import QueryLLM


async def main() -> None:
    async with QueryLLM() as llm:
        stream = await llm.query("local", "Count from one to five.", max_tokens=40, stream=True)
        async for text in stream:
            print(text, end="", flush=True)
        print()
        print("first token after", round(stream.response.time_to_first_token or 0, 3), "s")


asyncio.run(main())
