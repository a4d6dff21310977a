"""
A chat dialect made ready for one model: what every call would otherwise look up again.
"""

from __future__ import annotations

from llm_master.params import LIMITS
from llm_master.per_model import by_model
from llm_master.rows import ChatDialect

__all__ = ["Plan", "plan_for", "takes_prefill"]

# Parameters that always need a look before they are sent.
_INSPECTED = frozenset(
    (
        *("model", "messages", "stream", "stream_options", "extra_body", "stop_sequences"),
        *("reasoning_effort", "thinking_budget", "response_format", "tools", "tool_choice", "parallel_tool_calls"),
    )
)

# Finish reasons in use; lower case. Sources: the vendors' documentation and client code, state 2026-11-21.
_FINISH = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "complete": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
    "refusal": "refusal",
    "error": "error",
    "insufficient_system_resource": "error",
}

# Paths that usage_of() reads by itself.
_KNOWN_CACHED = frozenset(("prompt_tokens_details.cached_tokens", "prompt_cache_hit_tokens", "cached_tokens"))
_KNOWN_COST = "usage.cost"


class Plan:
    """
    One dialect for one model.

    Attributes:
        dialect: the dialect with the model's own overrides.
        roles: roles whose plain text messages go out as they are.
        renames: parameters that only change their name.
        inspected: parameters that need more than that.
        finish: finish reason -> ours.
        plain_text: whether content is text and nothing else.
        cost: whether ``usage.cost`` is the price of the call.
        usage_path, cached_path, cost_path: paths that need the JSON as a plain dict, split at the dots; or None.
        marker: bytes that occur in any JSON that holds one of these paths; None when there are none.
    """

    __slots__ = (
        "cached_path",
        "cost",
        "cost_path",
        "dialect",
        "finish",
        "inspected",
        "marker",
        "plain_text",
        "renames",
        "roles",
        "usage_path",
    )

    def __init__(self, source: ChatDialect, model: str) -> None:
        dialect = source.for_model(model) if source.per_model else source
        self.dialect = dialect
        roles = {"user", "assistant"}
        if not dialect.single_system:
            roles.add("system")
        if dialect.developer_role and not dialect.single_system:
            roles.add("developer")
        self.roles = frozenset(roles)
        self._plan_parameters(dialect)
        self.finish = _FINISH | {word.lower(): ours for word, ours in dialect.finish_reasons.items()}
        self.plain_text = not dialect.think_tags and dialect.tools_via == "native"
        self._plan_paths(dialect)

    def _plan_parameters(self, dialect: ChatDialect) -> None:
        limit = dialect.rename.get("max_tokens", "max_tokens")
        self.renames = dialect.rename | dict.fromkeys(LIMITS, limit)
        touched = dialect.drop | dialect.clamp.keys()
        if dialect.reasons:
            touched |= dialect.drop_reasoning
        if not touched.isdisjoint(LIMITS):
            touched |= frozenset(LIMITS)
        self.inspected = _INSPECTED | touched

    def _plan_paths(self, dialect: ChatDialect) -> None:
        usage, cached, cost = dialect.usage_path, dialect.cached_tokens_path, dialect.cost_path
        self.cost = cost == _KNOWN_COST and dialect.cost_unit == 1
        self.usage_path = tuple(usage.split(".")) if usage not in (None, "usage") else None
        self.cached_path = tuple(cached.split(".")) if cached and cached not in _KNOWN_CACHED else None
        self.cost_path = tuple(cost.split(".")) if cost and not self.cost else None
        heads = {self.usage_path[0]} if self.usage_path else set()
        if self.cost_path:
            heads.add(self.cost_path[-1])
        if self.cached_path:
            heads.add(self.usage_path[0] if self.usage_path else "usage")
        # Two different heads are too rare to be worth a second search: a quote is in every JSON object.
        self.marker = None if not heads else b'"%s"' % heads.pop().encode() if len(heads) == 1 else b'"'


@by_model
def plan_for(dialect: ChatDialect, model: str) -> Plan:
    """The plan of a dialect for a model, made once."""
    return Plan(dialect, model)


def takes_prefill(dialect: ChatDialect, model: str) -> bool:
    """Whether the model goes on with an assistant's turn that stands last."""
    return plan_for(dialect, model).dialect.prefill != "no"
