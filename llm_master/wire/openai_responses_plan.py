"""
A dialect made ready for one model, and the one way to refuse what it cannot take.
"""

from __future__ import annotations

from llm_master.classes import Request
from llm_master.dialect_responses import ResponsesDialect
from llm_master.errors import UnsupportedParameterError

__all__ = ["Plan", "Refusals", "plan_for", "takes_prefill"]

# Why an answer is incomplete; https://developers.openai.com/api/reference/resources/responses, seen 2026-11-21.
_INCOMPLETE = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "max_messages": "length",
    "length": "length",
    "content_filter": "content_filter",
    "steered": "pause",
}


class Plan:
    """
    One dialect for one model.

    Attributes:
        dialect: the dialect with the model's own overrides.
        incomplete: why an answer is incomplete -> ours.
        cost_path, searches_path: paths in the answer, split at the dots; or None.
    """

    __slots__ = ("cost_path", "dialect", "incomplete", "searches_path", "source")

    def __init__(self, source: ResponsesDialect, model: str) -> None:
        self.source = source
        dialect = self.dialect = source.for_model(model) if source.per_model else source
        self.incomplete = _INCOMPLETE | dialect.finish_reasons
        self.cost_path = tuple(dialect.cost_path.split(".")) if dialect.cost_path else None
        self.searches_path = tuple(dialect.searches_path.split(".")) if dialect.searches_path else None


_PLANS: dict[tuple[int, str], Plan] = {}
_MOST_PLANS = 1024


def plan_for(dialect: ResponsesDialect, model: str) -> Plan:
    """The plan of a dialect for a model, made once."""
    key = (id(dialect), model)
    plan = _PLANS.get(key)
    if plan is None or plan.source is not dialect:
        if len(_PLANS) >= _MOST_PLANS:
            _PLANS.clear()
        # The plan holds its dialect, so that the id in the key cannot come to mean another one.
        plan = _PLANS[key] = Plan(dialect, model)
    return plan


def takes_prefill(dialect: ResponsesDialect, model: str) -> bool:  # noqa: ARG001  # every family has this signature
    """Whether the model goes on with an assistant's turn that stands last: in this API it always begins a new one."""
    return False


class Refusals:
    """
    Raises for what cannot be taken, or notes it where the caller lets it be dropped.

    Attributes:
        who: provider and model, as messages name them.
        show: that of the request.
        left_out: what was dropped or changed so far.
    """

    __slots__ = ("_drop", "left_out", "show", "who")

    def __init__(self, request: Request) -> None:
        self.who = f"{request.provider}/{request.model}"
        self._drop = request.drop_params
        self.show = request.show
        self.left_out: list[str] = []

    def refuse(self, parameter: str, why: str, instead: str, entry: str | None = None) -> None:
        """
        Refuse a parameter.

        Args:
            why: the words after ``does not take PARAMETER``.
            instead: the nearest thing that is taken.
            entry: what stands in ``dropped``, the parameter's name if None.
        """
        if not self._drop:
            raise UnsupportedParameterError(
                f"{self.who} does not take {parameter}{why}; {instead}, or pass drop_params=True", parameter=parameter
            )
        self.note(entry or parameter)

    def note(self, entry: str) -> None:
        """List something that was left out or changed."""
        if entry not in self.left_out:
            self.left_out.append(entry)
