"""
A call as the tests of faults make it: two targets on one fault server, and everything that the caller was told.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from llm_master import Attempt, LLMConfig, LLMError, LLMResponse, LLMStream, QueryLLM, RetryPolicy, Timeouts
from llm_master.base_provider import row_of
from llm_master.policy.budget import BudgetPolicy, shared_budget
from llm_master.policy.limits import MemoryLimiter
from support.bodies import BEDROCK, CHAT, COHERE, GEMINI, MESSAGES, RESPONSES, Family
from support.exchange import Seen
from support.fault_server import FaultServer
from support.matrix import FALLBACK, LIMITS, Manner

__all__ = ["FAST", "HI", "KEYS", "MODELS", "PROVIDERS", "Told", "answered", "ask", "client", "key_id", "other"]
__all__ += ["requests_of", "run", "serve", "tasks_left", "with_client"]

MODELS: dict[Family, str] = {
    CHAT: "openai/gpt-4o-mini",
    MESSAGES: "anthropic/claude-sonnet-4-5",
    RESPONSES: "perplexity/sonar",
    GEMINI: "gemini/gemini-2.5-flash",
    COHERE: "cohere/command-a-03-2025",
    BEDROCK: "bedrock/amazon.nova-lite-v1:0",
}
PROVIDERS: dict[Family, str] = {family: model.partition("/")[0] for family, model in MODELS.items()}
KEYS: dict[Family, str] = {family: f"sk-{name}-matrix-0123456789abcdef" for family, name in PROVIDERS.items()}
HI = [{"role": "user", "content": "Say hello."}]
FAST = RetryPolicy(max_attempts=3, base_delay=0.01, max_delay=0.03)


def other(family: Family) -> Family:
    """The family of the second target."""
    return MESSAGES if family == CHAT else CHAT


def key_id(family: Family) -> str:
    """The public name that a record gives to a key: the beginning of its SHA-256."""
    return hashlib.sha256(KEYS[family].encode()).hexdigest()[:8]


@dataclasses.dataclass
class Told:
    """
    What the caller was told.

    Attributes:
        given: the pieces of an iteration.
        text: the whole text, None when there was an error.
        response, error: the one that there was.
        left: tasks that were still alive after ``aclose()``.
    """

    given: list[str] = dataclasses.field(default_factory=list)
    text: str | None = None
    response: LLMResponse | None = None
    error: LLMError | None = None
    left: int = 0

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The record, of whichever there was."""
        found: tuple[Attempt, ...] = (self.response or self.error).attempts  # type: ignore[union-attr]  # one there is
        return found


def serve(server: FaultServer, family: Family, script: Any, prefix: str = "") -> None:
    """Give the first target its script and the second one its good answer."""
    server.route(f"{prefix}/{PROVIDERS[family]}", script)
    server.route(f"{prefix}/{PROVIDERS[other(family)]}", [FALLBACK])


def client(server: FaultServer, prefix: str = "", **options: Any) -> QueryLLM:
    """A client all of whose providers are the server; ``base_urls`` replaces addresses."""
    # Retries are rationed over the whole process; here each call shall have those that it needs.
    budget = shared_budget()
    budget.policy = BudgetPolicy(floor=10_000)
    budget.reset_after_fork()
    urls = {name: f"{server.url}{prefix}/{name}" for name in PROVIDERS.values()} | options.pop("base_urls", {})
    keys: dict[str, Any] = {row_of(name).api_key_attr or "": KEYS[family] for family, name in PROVIDERS.items()}
    config = LLMConfig(**keys, base_urls=urls)
    # Limits of its own: what a server's headers say of one test holds for no other that runs at the same time.
    options.setdefault("retry", FAST)
    return QueryLLM(config, limiter=MemoryLimiter(), **options)


def with_client(server: FaultServer, work: Callable[[QueryLLM], Awaitable[Any]], **options: Any) -> Any:
    """What some work with such a client comes to, in a loop of its own."""

    async def main() -> Any:
        async with client(server, **options) as llm:
            return await work(llm)

    return asyncio.run(main())


async def answered(llm: QueryLLM, text: str = "Hi", **options: Any) -> LLMResponse:
    """The answer of the first model, whole also when it is streamed."""
    answer = await llm.query(MODELS[CHAT], text, **options)
    if isinstance(answer, LLMStream):
        await answer.text()
        return answer.response
    return answer


async def ask(
    llm: QueryLLM, server: FaultServer, family: Family, manner: Manner, *, fallback: bool = True, **options: Any
) -> Told:
    """
    One call, read to its end; ``Told`` holds its outcome.

    Faults that wait for the first content are released once the stream is there.
    """
    told = Told()
    if fallback:
        options["fallback_model"] = MODELS[other(family)]
    try:
        answer = await llm.query(MODELS[family], HI, stream=manner != "plain", **options)
        if isinstance(answer, LLMStream):
            server.release()
            await _read(answer, manner, told)
        else:
            told.text, told.response = answer.content, answer
    except LLMError as error:
        told.error = error
    return told


async def _read(stream: LLMStream, manner: Manner, told: Told) -> None:
    if manner == "text":
        told.text = await stream.text()
    else:
        async for piece in stream:
            told.given.append(piece)
        told.text = "".join(told.given)
    told.response = stream.response


async def tasks_left() -> int:
    """Tasks beside this one that do not end by themselves."""
    mine = asyncio.current_task()
    rest = [task for task in asyncio.all_tasks() if task is not mine]
    return len((await asyncio.wait(rest, timeout=5))[1]) if rest else 0


def run(
    server: FaultServer,
    family: Family,
    manner: Manner,
    *,
    timeouts: Timeouts = LIMITS,
    closed: int = 0,
    base_urls: dict[str, str] | None = None,
    **options: Any,
) -> Told:
    """
    One call in a loop of its own.

    Args:
        closed: so many of the first requests must have been closed by the client before it is closed itself.
        options: of ``query``.
    """

    async def main() -> Told:
        async with client(server, timeouts=timeouts, base_urls=base_urls or {}) as llm:
            told = await ask(llm, server, family, manner, **options)
            for index in range(closed):
                await asyncio.to_thread(server.wait_closed, index)
        told.left = await tasks_left()
        return told

    return asyncio.run(main())


def requests_of(server: FaultServer, family: Family, prefix: str = "") -> list[Seen]:
    """The requests that a target got, in order."""
    return [seen for seen in server.requests if seen.path.startswith(f"{prefix}/{PROVIDERS[family]}/")]
