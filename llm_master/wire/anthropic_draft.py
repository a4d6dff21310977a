"""
A request body in the making: what is written so far, and what had to be left out.
"""

from __future__ import annotations

from llm_master.classes import Request
from llm_master.draft import SCHEMA_TOOL, RequestDraft, asks_for_schema, schema_in
from llm_master.rows import MessagesDialect
from llm_master.subset import compilable
from llm_master.wire.anthropic_rules import ModelRules, rules_for

__all__ = ["SCHEMA_TOOL", "Draft", "schema_tool_wanted"]


def schema_tool_wanted(request: Request, rules: ModelRules) -> bool:
    """Whether the answer comes as arguments of ``SCHEMA_TOOL``."""
    params = request.params
    return asks_for_schema(params) and not (rules.native_schema and compilable(schema_in(params)))


class Draft(RequestDraft):
    """
    One request on its way to a body.

    Attributes:
        has_calls: whether the messages hold tool calls.
        instructions: sentences to be added to the system prompt in place of a parameter.
    """

    __slots__ = ("dialect", "has_calls", "instructions", "rules")

    def __init__(self, request: Request, dialect: MessagesDialect) -> None:
        super().__init__(request)
        self.dialect = dialect
        self.rules: ModelRules = rules_for(dialect, request.model)
        self.has_calls = False
        self.body["model"] = request.model
        self.instructions: list[str] = []
