"""
A call beside chat: the same attempts, limits and fallbacks as a question, and texts that need several requests.
"""

from __future__ import annotations

import asyncio
from functools import partial, reduce
from time import monotonic
from typing import TYPE_CHECKING, Any

from llm_master.answers import EmbeddingResponse, TokenCount
from llm_master.chain import Step
from llm_master.classes import Request, Usage
from llm_master.errors import ProviderError, ResponseError, UnsupportedParameterError
from llm_master.operating import operate, operation_at
from llm_master.policy.estimate import estimate_output
from llm_master.policy.retry import falls_back

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from decimal import Decimal

    import aiohttp

    from llm_master.record import Trial

__all__ = ["AT_ONCE", "Asked", "batches", "embed", "run"]

#: Requests of one embedding call that are under way at the same time.
AT_ONCE = 4

# What limits reserve for an answer without a text of the model's: next to nothing.
_NO_OUTPUT = {"max_tokens": 1}


class Asked(Step):
    """A step whose own parameters are sent, while limits reserve no output for it."""

    __slots__ = ("own",)

    def __init__(self, step: Step) -> None:
        super().__init__(step.pool, _NO_OUTPUT)
        self.own = step.params


async def run(call: Any, steps: Sequence[Step], name: str, payload: Any) -> Any:
    """The answer of the first step that gives one."""
    call.admission.budget.deposit()
    return await call.walk([Asked(step) for step in steps], _maker(call, name, payload))


def _maker(call: Any, name: str, payload: Any) -> Callable[[Any, Trial, aiohttp.ClientTimeout], Awaitable[Any]]:
    async def make(step: Asked, trial: Trial, limits: aiohttp.ClientTimeout) -> Any:
        target = trial.target
        request = trial.request = Request(
            *(target.provider, target.model, call.messages, step.own),
            headers=call.headers,
            drop_params=call.drop_params,
        )
        if name == "count" and getattr(target, "counts", False):
            found = await target.count(request, limits)
        else:
            found = await operate(target, name, payload, request, limits)
        if name == "count":
            trial.counted()
            return TokenCount(found, "provider", target.model)
        found.dropped = request.dropped
        trial.finished(found)
        return found

    return make


# -- several requests ---------------------------------------------------------------------------------------------


def batches(texts: Sequence[str], inputs: int | None, tokens: int | None) -> list[list[str]]:
    """
    The texts in their order, in as few requests as a provider's limits allow.

    Args:
        inputs: texts of one request at most; tokens: their tokens together, as estimated, None for no limit. A text
            that is over that alone goes alone: the provider decides about it.
    """
    found: list[list[str]] = []
    used = 0
    for text in texts:
        weight = estimate_output(text) if tokens is not None else 0
        if (
            not found
            or (inputs is not None and len(found[-1]) >= inputs)
            or (tokens is not None and used + weight > tokens)
        ):
            found.append([])
            used = 0
        found[-1].append(text)
        used += weight
    return found


async def embed(call: Any, steps: Sequence[Step], texts: list[str]) -> EmbeddingResponse:
    """
    The vectors of the first step that gives all of them.

    A model's vectors mean nothing beside another's, so a fallback does all texts anew.
    """
    last = len(steps) - 1
    for index, step in enumerate(steps):
        try:
            return await _from_one(call, step, texts, more=index < last)
        except (ProviderError, UnsupportedParameterError) as error:
            if isinstance(error, ProviderError):
                error.attempts = tuple(call.attempts)
                if index == last or not falls_back(error, call.fallback_on):
                    raise
            elif index == last:
                raise
            else:
                call.skipped(step.pool.places[0], error, monotonic())
            call.tell("fallback", error=error, target=steps[index + 1].pool.asked)
    raise AssertionError("a call has at least one step")


async def _from_one(call: Any, step: Step, texts: list[str], *, more: bool) -> EmbeddingResponse:
    served = [operation_at(place.target, "embed") for place in step.pool.places]
    parts = batches(
        texts,
        min((each.inputs for each in served if each.inputs is not None), default=None),
        min((each.tokens for each in served if each.tokens is not None), default=None),
    )

    async def one(part: list[str]) -> EmbeddingResponse:
        twin = call.again([{"role": "user", "content": text} for text in part])
        twin.admission.budget.deposit()
        found: EmbeddingResponse = await twin.walk([Asked(step)], _maker(twin, "embed", part), more=more)
        return found

    if len(parts) == 1:
        return await one(parts[0])
    return _joined(call, await _bounded([partial(one, part) for part in parts]))


async def _bounded(makers: list[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """All results in order, ``AT_ONCE`` at a time; the first error ends the others."""
    results: list[Any] = [None] * len(makers)
    waiting = iter(range(len(makers)))

    async def worker() -> None:
        for index in waiting:
            results[index] = await makers[index]()

    tasks = [asyncio.ensure_future(worker()) for _ in range(min(AT_ONCE, len(makers)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return results


def _joined(call: Any, parts: list[EmbeddingResponse]) -> EmbeddingResponse:
    first = parts[0]
    vectors = [vector for part in parts for vector in part.embeddings]
    if len({len(vector) for vector in vectors}) > 1:
        raise ResponseError(
            f"{first.provider} gave vectors of different lengths for {call.model_name!r}: its deployments are not the"
            " same model; name one of them",
            provider=first.provider,
            model=first.model,
            attempts=tuple(call.attempts),
        )
    return EmbeddingResponse(
        embeddings=vectors,
        model_name=first.model_name,
        model=first.model,
        provider=first.provider,
        usage=sum((part.usage for part in parts[1:]), first.usage),
        latency=monotonic() - call.started,
        attempts=tuple(call.attempts),
        request_id=first.request_id,
        dropped=first.dropped,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        pricer=_Sum(parts),
    )


class _Sum:
    """Prices what several requests cost together: the price of each may differ."""

    def __init__(self, parts: list[EmbeddingResponse]) -> None:
        self.costs = [(part.reported_cost, part.pricer, part.usage) for part in parts]
        self.free = all(part.pricer.free for part in parts)

    def __call__(self, usage: Usage) -> Decimal | None:  # noqa: ARG002  # as Pricer: it is the sum of the parts
        from llm_master.money import EXACT

        costs = [pricer(used) if told is None else told for told, pricer, used in self.costs]
        return None if None in costs else reduce(EXACT.add, costs)
