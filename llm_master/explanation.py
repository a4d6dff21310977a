"""
What a call would do, as data and as a text for people.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from llm_master.candidates import Candidate

__all__ = ["BudgetPlan", "Change", "DeploymentPlan", "Explanation", "LimitPlan", "StepPlan"]

# A value in the text is cut after so many characters; ``body`` and ``to_dict()`` hold all of it.
_SHOWN = 200


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """
    What became of one parameter.

    Attributes:
        given: its name as the caller gave it, None for what the provider's row adds.
        sent: dotted places in the body where it stands now, none when it was left out.
        how: ``same``, ``renamed``, ``moved`` (to another place, or spread over several), ``changed`` (another value),
            ``dropped`` (``drop_params``), ``left out`` (it asks for nothing there) or ``added``.
    """

    given: str | None
    sent: tuple[str, ...]
    how: str


class LimitPlan(msgspec.Struct, frozen=True, kw_only=True):
    """
    A limit that the request counts in, and what of it is used now.

    ``requests``, ``tokens`` and ``inflight`` are those of the last 60 seconds in this process; None where a shared
    store keeps them, which is not asked.
    """

    key: str
    rpm: int | None = None
    tpm: int | None = None
    max_concurrency: int | None = None
    requests: int | None = None
    tokens: int | None = None
    inflight: int | None = None


class BudgetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """
    A budget that the request counts in.

    ``unit`` is ``usd`` or ``tokens``; ``most`` may be used in one window (``per``), ``left`` is not spent in the
    present one, ``held`` is what calls under way hold of that, and ``takes`` is the most that the request can take. The
    two in the middle are None where a shared store keeps them, which is not asked. ``renews`` is when the next window
    begins, ``2026-11-22T00:00:00Z``, None for never.
    """

    key: str
    unit: str
    per: str
    most: Decimal | int
    left: Decimal | int | None = None
    held: Decimal | int | None = None
    takes: Decimal | int | None = None
    renews: str | None = None


class DeploymentPlan(msgspec.Struct, kw_only=True):
    """
    One place that may get the request.

    Attributes:
        name: the deployment's name, None for the only one; weight: its share of the calls.
        family: the API family; None for a provider of the user's own code, which has no body that could be shown.
        url, stream_url: the full addresses; None where they are not known before the call (a server that is started).
        headers: those of the request, secrets as ``***``.
        body: the JSON body, None when it cannot be made; ``findings`` say why then.
        dropped: what the body lacks, as ``response.dropped`` would list it.
        changes: what became of each parameter.
        input_tokens: the estimate, on the high side; output_tokens: the most output there can be, None when unknown.
        cost_bound: USD of one answer at most by these two figures, None when a price or a figure is not known.
        limits, budgets: those that the request counts in.
        health: calls in flight, latency and breaker; None where nothing is known.
        sendable: whether the request could be sent as things stand.
        sends: False where this machine answers by itself, and no request is made.
        findings: what is missing or unusual, one line each.
    """

    name: str | None
    weight: float
    provider: str
    model: str
    family: str | None = None
    url: str | None = None
    stream_url: str | None = None
    headers: dict[str, str] = {}
    body: Any = None
    dropped: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    input_tokens: int = 0
    output_tokens: int | None = None
    cost_bound: Decimal | None = None
    limits: tuple[LimitPlan, ...] = ()
    budgets: tuple[BudgetPlan, ...] = ()
    health: Any = None
    sendable: bool = True
    sends: bool = True
    findings: tuple[str, ...] = ()


class StepPlan(msgspec.Struct, kw_only=True):
    """
    One model of the call: the one asked for, or a fallback.

    Attributes:
        rule: which rule of the resolution chose the provider; candidates: every provider that a rule speaks of.
        params: what this model gets; a fallback gets its own and nothing of the call's.
        deployments: the places that serve it, one of which gets the request.
        ready: False while a key, an address or a service is missing: then ``query`` refuses the whole call, and
            ``findings`` say what it needs.
    """

    model_name: str
    fallback: bool
    provider: str
    model: str
    rule: str
    candidates: tuple[Candidate, ...]
    params: dict[str, Any]
    deployments: tuple[DeploymentPlan, ...]
    ready: bool = True
    findings: tuple[str, ...] = ()

    @property
    def sendable(self) -> bool:
        """Whether one of its deployments could get the request as things stand."""
        return self.ready and any(each.sendable for each in self.deployments)


class Explanation(msgspec.Struct, kw_only=True):
    """
    What ``query`` would do with the same arguments; made without any network.

    Attributes:
        model_name: as asked; stream: whether the answer would be streamed.
        steps: the model and its fallbacks, in the order in which they are tried.
        timeouts: seconds: ``total``, ``connect``, ``first_token``, ``idle``.
        attempts: requests to one target at most.
        cached: whether the client's cache would be looked into first.
    """

    model_name: str
    stream: bool
    steps: tuple[StepPlan, ...]
    timeouts: dict[str, float | None]
    attempts: int
    cached: bool = False

    @property
    def first(self) -> DeploymentPlan:
        """The first deployment of the model asked for; one without an address when there is none."""
        step = self.steps[0]
        if step.deployments:
            return step.deployments[0]
        return DeploymentPlan(name=None, weight=1.0, provider=step.provider, model=step.model, sendable=False)

    @property
    def url(self) -> str | None:
        """Where the request would go: the stream's address with ``stream=True``."""
        return (self.stream and self.first.stream_url) or self.first.url

    @property
    def headers(self) -> dict[str, str]:
        """The headers of that request, secrets as ``***``."""
        return self.first.headers

    @property
    def body(self) -> Any:
        """The JSON body of that request, None when it cannot be made."""
        return self.first.body

    @property
    def dropped(self) -> tuple[str, ...]:
        """What that body lacks."""
        return self.first.dropped

    @property
    def cost_bound(self) -> Decimal | None:
        """USD of one answer at most, whichever model and deployment gives it; None when one of them is not known."""
        bounds = [each.cost_bound for step in self.steps for each in step.deployments]
        known = [bound for bound in bounds if bound is not None]
        return max(known) if known and len(known) == len(bounds) else None

    @property
    def sendable(self) -> bool:
        """Whether any request could be sent as things stand."""
        return all(step.ready for step in self.steps) and any(step.sendable for step in self.steps)

    @property
    def findings(self) -> tuple[str, ...]:
        """Everything that is missing or unusual, each once."""
        parts = [step.findings + tuple(x for each in step.deployments for x in each.findings) for step in self.steps]
        return tuple(dict.fromkeys(found for part in parts for found in part))

    def to_dict(self) -> dict[str, Any]:
        """All of it in dicts, lists, texts and numbers; amounts of money are texts."""
        found: dict[str, Any] = msgspec.to_builtins(self, str_keys=True, enc_hook=_named)
        return {**found, "cost_bound": _money(self.cost_bound), "sendable": self.sendable, "findings": [*self.findings]}

    def __str__(self) -> str:
        lines = [f"{self.model_name}: {'streamed' if self.stream else 'one whole answer'}"]
        for number, step in enumerate(self.steps, 1):
            lines += ["", *_step_lines(number, step)]
        times = ", ".join(f"{name} {_seconds(value)}" for name, value in self.timeouts.items())
        lines += ["", "limits of the call", f"  time: {times}", f"  attempts: {self.attempts} to one target at most"]
        lines.append(f"  cost: {_cost(self.cost_bound)} for one answer, whichever model gives it")
        if self.cached:
            lines.append("  cache: an answer kept for an equal request comes first")
        if not self.sendable:
            lines += ["", "nothing can be sent as things stand"]
        return "\n".join(lines)


def _named(value: Any) -> str:
    # What a provider of the user's own takes may be anything; its text may hold a secret.
    return f"<{type(value).__name__}>"


def _step_lines(number: int, step: StepPlan) -> list[str]:
    kind = "fallback" if step.fallback else "model"
    lines = [f"{number}. {kind} {step.model_name} -> {step.provider}, {step.model} (by {step.rule})"]
    lines += [f"  {'+' if each.chosen else '-'} {each.provider}: {each.rule}: {each.why}" for each in step.candidates]
    lines += [f"  ! {found}" for found in step.findings]
    for plan in step.deployments:
        lines += _deployment_lines(plan)
    return lines


def _deployment_lines(plan: DeploymentPlan) -> list[str]:
    lines = [f"  deployment {plan.name}, weight {plan.weight:g}"] if plan.name else []
    lines.append(f"  family: {plan.family or 'code of your own'}")
    if plan.url is not None or (plan.sends and plan.sendable and plan.family is not None):
        lines.append(f"  POST {plan.url or '(an address that is known once its server runs)'}")
    if plan.stream_url not in (None, plan.url):
        lines.append(f"  streamed: POST {plan.stream_url}")
    lines += [f"    {name}: {value}" for name, value in plan.headers.items()]
    if plan.body is not None:
        lines += ["  body:", *_body_lines(plan.body)]
    for change in plan.changes:
        if change.how != "same":
            sent = f" -> {', '.join(change.sent)}" if change.sent else ""
            lines.append(f"  {change.how}: {change.given or ''}{sent}".replace(":  ->", ":"))
    output = "no limit is known for what comes" if plan.output_tokens is None else f"at most {plan.output_tokens}"
    lines.append(f"  tokens: about {plan.input_tokens} in, {output} out; cost: {_cost(plan.cost_bound)}")
    lines += [_limit_line(limit) for limit in plan.limits]
    lines += [_budget_line(budget) for budget in plan.budgets]
    if plan.health is not None:
        lines.append(f"  health: {_health(plan.health)}")
    lines += [f"  ! {found}" for found in plan.findings]
    return lines


def _body_lines(body: Any) -> list[str]:
    text = msgspec.json.format(msgspec.json.encode(_shortened(body)), indent=2).decode()
    return [f"    {line}" for line in text.splitlines()]


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}... ({len(value)} characters)"
    if isinstance(value, dict):
        return {key: _shortened(each) for key, each in value.items()}
    return [_shortened(each) for each in value] if isinstance(value, list) else value


def _limit_line(limit: LimitPlan) -> str:
    pairs = (
        ("requests a minute", limit.requests, limit.rpm),
        ("tokens a minute", limit.tokens, limit.tpm),
        ("at a time", limit.inflight, limit.max_concurrency),
    )
    said = [f"{'?' if used is None else used} of {most} {what}" for what, used, most in pairs if most is not None]
    return f"  limit {limit.key}: {', '.join(said)} used"


def _budget_line(budget: BudgetPlan) -> str:
    def amount(value: Decimal | int | None) -> str:
        if value is None:
            return "?"
        return f"${value:f}" if isinstance(value, Decimal) else f"{value} tokens"

    takes = "no bound is known" if budget.takes is None else f"this takes at most {amount(budget.takes)}"
    renews = "" if budget.renews is None else f", renews {budget.renews}"
    return f"  budget {budget.key}: {amount(budget.left)} of {amount(budget.most)} a {budget.per} left; {takes}{renews}"


def _health(health: Any) -> str:
    breaker = health.breaker
    state = f"breaker {breaker.state}" if breaker is not None else "no breaker"
    latency = f", latency {health.latency:.3g} s" if health.latency is not None else ""
    return f"{state}, {health.inflight} calls in flight{latency}"


def _seconds(value: float | None) -> str:
    return "unlimited" if value is None else f"{value:g} s"


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount.normalize():f}"


def _cost(amount: Decimal | None) -> str:
    return "unknown" if amount is None else f"at most ${_money(amount)}"
