"""Deployments, a fallback, limits and live events; here nothing listens at the first two addresses."""

import asyncio

from llm_master import CallEvent, Deployment, Limit, QueryLLM, RetryPolicy

NOWHERE = "http://127.0.0.1:9/v1"
PLACES = [
    Deployment(name="east", provider="openai", model="gpt-4.1", base_url=NOWHERE, api_key="sk-example-east", weight=3),
    Deployment(name="west", provider="openai", model="gpt-4.1", base_url=NOWHERE, api_key="sk-example-west"),
]
LIMITS = [Limit("provider:openai", rpm=1000, tpm=1_000_000), Limit("tag:team-a", max_concurrency=5)]


def show(event: CallEvent) -> None:
    """One line for what has ended or changes course."""
    if event.attempt is not None:
        print(f"{event.name}: {event.attempt.provider} {event.attempt.deployment or ''} {event.attempt.outcome}")
    elif event.name in ("retry", "fallback"):
        print(f"{event.name}: {event.target}")


async def main() -> None:
    retry = RetryPolicy(max_attempts=2, base_delay=0.1)
    async with QueryLLM(deployments={"team-chat": PLACES}, limits=LIMITS, retry=retry) as llm:
        llm.on_event(show)
        response = await llm.query(
            "team-chat",
            "Say hello.",
            timeout=60,
            tags="team-a",
            fallback_model="local",
            fallback_config={"max_tokens": 10},
        )
        print(response.content)
        for place in llm.health()["team-chat"]:
            print(place.name, place.breaker.state, "failures in a row:", place.breaker.streak)


asyncio.run(main())
