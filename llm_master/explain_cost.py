"""
The most that a request which is explained can cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_master.classes import Usage
from llm_master.dialect_images import DrawDialect
from llm_master.model_facts import facts_of
from llm_master.policy.estimate import estimate_input, estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from llm_master.explanation import DeploymentPlan
    from llm_master.pricing import Pricer

__all__ = ["bound", "images_of", "most_output"]

# Where the families' bodies hold the output limit.
_LIMITS = frozenset(("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens"))
_CACHE_MARKS = (b'"cache_control"', b'"cachePoint"')


def most_output(target: Any, body: Mapping[str, Any], messages: Any, params: dict[str, Any]) -> int | None:
    """The most tokens of all answers by the limit that is sent, else by the model's own; None when none is known."""
    places = (body, *(each for each in body.values() if isinstance(each, dict)))
    sent = [value for place in places for name in _LIMITS if isinstance(value := place.get(name), int) and value > 0]
    given = params.get("n")
    answers = given if isinstance(given, int) and given > 0 else 1
    if sent:
        # A thinking budget may come on top of the limit.
        stated = estimate_tokens(messages, params) - estimate_input(messages, params)
        limited = any(params.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"))
        return max(max(sent) * answers, stated if limited else 0)
    found = facts_of(target.row.name, target.model, own_server=target.row.key_optional)
    most = found.facts.max_output if found.certain else None
    return None if most is None else most * answers


def images_of(target: Any, body: Any) -> dict[str, int] | None:
    """How many images a body asks for; None where the target does not draw."""
    if not isinstance(target.dialect, DrawDialect):
        return None
    name = target.dialect.for_model(target.model).rename.get("n", "n")
    places = (body, *(each for each in body.values() if isinstance(each, dict)))
    asked = [each for place in places if isinstance(each := place.get(name), int) and not isinstance(each, bool)]
    return {"images": max(asked, default=1)}


def bound(
    plan: DeploymentPlan, target: Any, data: bytes, findings: list[str], pieces: dict[str, int] | None = None
) -> Decimal | None:
    """
    USD at most, None when that is not known; then ``findings`` get what is missing.

    Args:
        pieces: what the request has beside tokens that some models are billed by: images, characters.
    """
    pricer: Pricer = target.pricer()
    body = plan.body if isinstance(plan.body, dict) else {}
    pricer.tier, pricer.speed = _text(body.get("service_tier")), _text(body.get("speed"))
    pricer.counted = pieces
    tokens = plan.input_tokens
    usages = [Usage(tokens, plan.output_tokens or 0)]
    if any(mark in data for mark in _CACHE_MARKS):
        # Writing a cache may cost more than reading the input once.
        usages.append(Usage(tokens, plan.output_tokens or 0, cache_write_tokens=tokens))
    by_piece = _things(pricer)
    found = [pricer.details(usage) for usage in usages]
    known = [each.total for each in found if each is not None and (each.complete or not by_piece)]
    if by_piece:
        if not known:
            findings.append(
                f"{target.model!r} is billed by {' and '.join(by_piece)}, and how many there will be nobody knows"
                " before, so its cost has no bound"
            )
        return max(known, default=None)
    if len(known) < len(found):
        findings.append(
            f"no price is known for {target.model!r} at {target.provider}, so its cost is not; give"
            " ModelConfig(input_price_per_million=..., output_price_per_million=...)"
        )
        return None
    if plan.output_tokens is None and not target.row.free:
        findings.append(
            f"{target.asked!r} is billed by tokens, and how many its answer has nobody knows before, so its cost has no"
            " bound"
            if pieces
            else f"{target.asked!r} is sent no output limit and its own is not known, so its cost has no bound; give"
            " max_tokens="
        )
        return None
    return max(known)


def _things(pricer: Pricer) -> tuple[str, ...]:
    """What a model is billed by that has no price for tokens; () for any other."""
    tariff = pricer.tariff()[0] if pricer.own() is None and not pricer.free else None
    if tariff is None or tariff.free:
        return ()
    rates = tariff.levels(pricer.at, pricer._served())[0][0][1]  # noqa: SLF001  # as it prices them
    return tuple(rates.items) if rates.plain is None and rates.output is None else ()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
