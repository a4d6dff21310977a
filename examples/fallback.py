"""Go on with another model when the first one fails: here nothing listens at the first one's address."""

import asyncio

from llm_master import LLMConfig, QueryLLM


async def main() -> None:
    config = LLMConfig(openai_api_key="sk-example", base_urls={"openai": "http://127.0.0.1:9/v1"})
    async with QueryLLM(config) as llm:
        response = await llm.query(
            "gpt-4o-mini",
            "Say hello.",
            temperature=0.2,
            max_attempts=1,
            fallback_model="local",
            fallback_config={"max_tokens": 10},
        )
        print(response.content)
        for attempt in response.attempts:
            print(attempt.provider, attempt.outcome, attempt.error or "")


asyncio.run(main())
