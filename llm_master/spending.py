"""
What an attempt may cost before it is made, and what it came to: held under budgets and the call's own ``max_cost``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from llm_master.errors import BudgetExceededError
from llm_master.explanation import BudgetPlan
from llm_master.model_facts import facts_of
from llm_master.policy.estimate import DEFAULT_OUTPUT, estimate_input, most_output
from llm_master.policy.limits_budget import Budgets, picodollars, shown, usd

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from llm_master.classes import Attempt, Usage
    from llm_master.policy.limits_budget import Budget, Charge
    from llm_master.policy.limits_rules import Reservation
    from llm_master.pools import Place

__all__ = ["Bill", "Most", "Spending", "keys_of", "most_of"]

# An estimate of text is half of the count at the very least (policy/estimate.py), so that twice as much is a bound. Of
# pictures, sound and files it is what is usual.
_SURE = 2
#: Kinds of calls whose price follows from the tokens of their text.
_BY_TEXT = frozenset(("chat", "embed", "count", "moderate"))
# No request costs as many USD, nor has as many tokens.
_DEAREST = 10**6
_MOST_TOKENS = 10**12


class Most(NamedTuple):
    """
    The most that an attempt can take.

    Attributes:
        tokens: input and output; picodollars: their price, None when it has no bound.
        lacks: what keeps the two from being bounds: ``output`` or ``price``, None for nothing.
    """

    tokens: int
    picodollars: int | None
    lacks: str | None

    @property
    def is_free(self) -> bool:
        """Whether it costs nothing, however long its answer becomes."""
        return self.picodollars == 0

    def has_bound(self, unit: str) -> bool:
        """Whether it is known what it takes at most, in ``usd`` or ``tokens``."""
        if unit == "tokens":
            return self.lacks != "output"
        return self.is_free or (self.lacks is None and self.picodollars is not None)


def keys_of(place: Place, tags: Iterable[str]) -> list[str]:
    """What budgets of a request may be under."""
    target = place.target
    found = ["all", f"provider:{target.provider}", f"model:{target.asked}", *(f"tag:{tag}" for tag in tags)]
    if place.name is not None:
        found.append(f"deployment:{place.name}")
    if target.key_id is not None:
        found.append(f"key:{target.key_id}")
    return found


def most_of(target: Any, messages: Any, params: dict[str, Any], kind: str = "chat") -> Most:
    """
    The most that a request can take.

    The output is bounded by the request's own maximum, else by what the model is known to give at most.
    """
    from llm_master.pricing import upper_bound

    body = params.get("extra_body")
    params = {**params, **body} if isinstance(body, dict) else params
    given = _SURE * estimate_input(messages, params)
    row = getattr(target, "row", None)
    output = 0 if kind != "chat" else _most_output(target, row, params)
    tokens = given + (DEFAULT_OUTPUT if output is None else output)
    lacks = "output" if output is None else None if kind in _BY_TEXT else "price"
    if kind == "count" or (row is not None and row.free):
        return Most(tokens, 0, lacks)
    if lacks == "price":
        return Most(tokens, None, lacks)
    cost = upper_bound(
        target.model,
        provider=target.provider,
        input_tokens=given,
        output_tokens=tokens - given,
        entry=target.prices,
        service_tier=_text(params.get("service_tier")),
        speed=_text(params.get("speed")),
        host=urlsplit(str(getattr(target, "url", None) or "")).hostname,
    )
    return Most(tokens, None if cost is None else picodollars(cost), "price" if cost is None else lacks)


async def _read_prices() -> None:
    """Have the price data read where it has not been: reading takes some 40 ms, which the event loop does not stop."""
    from llm_master.pricing import is_loaded, load

    if not is_loaded():
        import asyncio

        await asyncio.to_thread(load)


def _amount(unit: str, amount: int) -> Decimal | int:
    return usd(amount) if unit == "usd" else amount


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _most_output(target: Any, row: Any, params: dict[str, Any]) -> int | None:
    stated = most_output(params)
    if stated is not None or row is None:
        return stated
    found = facts_of(row.name, target.model, own_server=row.key_optional)
    most = found.facts.max_output if found.certain else None
    given = params.get("n")
    return None if most is None else most * (given if isinstance(given, int) and given > 1 else 1)


class Bill:
    """What one attempt holds of its call's ``max_cost``, and how it is settled."""

    __slots__ = ("_amount", "_spending")

    def __init__(self, spending: Spending, amount: int) -> None:
        self._spending, self._amount = spending, amount
        spending.held += amount

    def settle(
        self, limiter: Any, reservation: Reservation, tokens: int | None, attempt: Attempt, *, billed: bool
    ) -> None:
        """
        End a reservation with what the attempt came to.

        What is not known stays as it was held: it may have been billed whole.

        Args:
            tokens: that count under limits, None for those held.
            billed: whether the provider may charge for the attempt although it told no usage.
        """
        cost = _cost_of(attempt, billed=billed)
        self.give_back(cost)
        limiter.settle(reservation, tokens, cost, _tokens_of(attempt) if tokens is None else tokens)

    def give_back(self, cost: int | None) -> None:
        """End what it holds of ``max_cost``, with picodollars that were spent; None for all of it."""
        spending, amount = self._spending, self._amount
        self._amount = 0
        spending.held -= amount
        spending.spent += amount if cost is None else cost


def _cost_of(attempt: Attempt, *, billed: bool) -> int | None:
    """Picodollars, None when they are not known."""
    usage = attempt.usage
    if usage is None:
        return None if billed else 0
    if _is_silent(usage):
        return None
    cost = attempt.cost
    if cost is None or (not cost and not usage.total_tokens and not getattr(attempt.pricer, "free", False)):
        return None
    # What a server makes up must not be more than a store can hold.
    return picodollars(min(cost, _DEAREST))


def _tokens_of(attempt: Attempt) -> int | None:
    """Tokens of an attempt that did not end well, None when they are not known."""
    usage = attempt.usage
    return None if usage is None or _is_silent(usage) else min(usage.total_tokens, _MOST_TOKENS) or None


def _is_silent(usage: Usage) -> bool:
    """Whether nothing of the answer came: how much of it was made nobody tells."""
    return usage.estimated and not usage.output_tokens


class Spending:
    """
    What one call may spend: the budgets of its client, and its own ``max_cost``.

    Args:
        budgets: of the client.
        max_cost: picodollars, None for no bound of its own.

    Attributes:
        held, spent: picodollars of the call's attempts under way, and of those that have ended.
    """

    __slots__ = ("budgets", "held", "max_cost", "spent")

    def __init__(self, budgets: Budgets, max_cost: int | None) -> None:
        self.budgets, self.max_cost = budgets, max_cost
        self.held = self.spent = 0

    def plans(self, limiter: Any, place: Place, call: Any, params: dict[str, Any]) -> tuple[BudgetPlan, ...]:
        """What ``reserve`` would hold, and what is left, where that costs no network."""
        most = most_of(place.target, call.messages, params, call.kind)
        charges = self._charges(self.budgets.of(keys_of(place, call.tags)), most)
        found = []
        look = getattr(limiter, "spent", lambda _: None)
        for charge in charges:
            seen, ends = look(charge), charge.span.ends
            spent, held = (None, None) if seen is None else seen
            found.append(
                BudgetPlan(
                    key=charge.budget.key,
                    unit=charge.unit,
                    per=charge.budget.per,
                    most=_amount(charge.unit, charge.cap),
                    left=None if spent is None else _amount(charge.unit, max(0, charge.cap - spent)),
                    held=None if held is None else _amount(charge.unit, held),
                    takes=_amount(charge.unit, charge.amount) if most.has_bound(charge.unit) else None,
                    renews=None if ends is None else f"{datetime.fromtimestamp(ends, UTC):%Y-%m-%dT%H:%M:%SZ}",
                )
            )
        if self.max_cost is not None:
            own = usd(self.max_cost)
            takes = usd(most.picodollars or 0) if most.has_bound("usd") else None
            found.append(BudgetPlan(key="max_cost", unit="usd", per="call", most=own, left=own, takes=takes))
        return tuple(found)

    async def reserve(
        self, limiter: Any, limits: tuple[Any, ...], call: Any, step: Any, place: Place, **how: Any
    ) -> Any:
        """
        Room under the limits, the budgets and ``max_cost`` for one attempt; ``how`` as for the limiter.

        Raises:
            BudgetExceededError: there is none, or the attempt has no bound that could be held.
            RateLimitError: as the limiter does.
        """
        target = place.target
        budgets = self.budgets.of(keys_of(place, call.tags))
        if not budgets and self.max_cost is None:
            return await limiter.acquire(limits, **how) if limits else True
        await _read_prices()
        most = most_of(target, call.messages, step.params, call.kind)
        self._check_known(budgets, most, target)
        bill = Bill(self, self._own(most, target))
        try:
            found = await self._acquire(limiter, limits, budgets, most, how)
        except BaseException:
            bill.give_back(0)
            raise
        found.bill = bill
        return found

    def _charges(self, budgets: list[Budget], most: Most) -> tuple[Charge, ...]:
        return self.budgets.charges(budgets, most.tokens, most.picodollars or 0, free=most.is_free)

    async def _acquire(
        self, limiter: Any, limits: tuple[Any, ...], budgets: list[Budget], most: Most, how: dict[str, Any]
    ) -> Any:
        while True:
            charges = self._charges(budgets, most)
            if not charges:
                return await limiter.acquire(limits, **how)
            try:
                return await limiter.acquire(limits, charges=charges, **how)
            except BudgetExceededError:
                # While it stood in line a new day may have begun.
                if not self.budgets.is_over(charges):
                    raise

    def _own(self, most: Most, target: Any) -> int:
        """What the attempt takes of ``max_cost``; raises BudgetExceededError when that is too much."""
        amount = most.picodollars or 0
        if self.max_cost is None:
            return amount
        left = self.max_cost - self.spent - self.held
        if amount > left:
            used = f", of which {shown('usd', max(0, left))} is left" if self.spent or self.held else ""
            raise BudgetExceededError(
                f"the call of {target.model!r} at {target.provider} may take up to {shown('usd', amount)} of"
                f" max_cost={usd(self.max_cost):f} USD{used}; lower max_tokens, shorten the messages, raise max_cost="
                " or give a cheaper fallback_model=",
                provider=target.provider,
                model=target.model,
                code="max_cost",
                key="max_cost",
                unit="usd",
                left=usd(max(0, left)),
            )
        return amount

    def _check_known(self, budgets: list[Budget], most: Most, target: Any) -> None:
        """Refuse an attempt without a bound where one must be kept."""
        if most.lacks is None:
            return
        strict = next(
            (b.key for b in budgets if b.unknown == "refuse" and not all(most.has_bound(u) for u, _ in b.caps())), None
        )
        if self.max_cost is not None and not most.has_bound("usd"):
            strict = "max_cost"
        if strict is None:
            return
        whose = "max_cost" if strict == "max_cost" else f"the budget of {strict!r}"
        if most.lacks == "output":
            what = "it is sent no output limit and its own is not known; give max_tokens="
        else:
            what = "no price bounds it; give ModelConfig(input_price_per_million=..., output_price_per_million=...)"
        allow = "" if strict == "max_cost" else ", or make the budget with unknown='allow'"
        raise BudgetExceededError(
            f"{whose} cannot be kept for {target.model!r} at {target.provider}: {what}{allow}",
            provider=target.provider,
            model=target.model,
            code="cost_unknown",
            key=strict,
        )
