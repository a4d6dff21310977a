"""
A dialect made ready for one model.
"""

from __future__ import annotations

from llm_master.dialect_responses import ResponsesDialect
from llm_master.per_model import by_model

__all__ = ["Plan", "plan_for", "takes_prefill"]

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

    __slots__ = ("cost_path", "dialect", "incomplete", "searches_path")

    def __init__(self, source: ResponsesDialect, model: str) -> None:
        dialect = self.dialect = source.for_model(model) if source.per_model else source
        self.incomplete = _INCOMPLETE | dialect.finish_reasons
        self.cost_path = tuple(dialect.cost_path.split(".")) if dialect.cost_path else None
        self.searches_path = tuple(dialect.searches_path.split(".")) if dialect.searches_path else None


@by_model
def plan_for(dialect: ResponsesDialect, model: str) -> Plan:
    """The plan of a dialect for a model, made once."""
    return Plan(dialect, model)


def takes_prefill(dialect: ResponsesDialect, model: str) -> bool:  # noqa: ARG001  # every family has this signature
    """Whether the model goes on with an assistant's turn that stands last: in this API it always begins a new one."""
    return False
