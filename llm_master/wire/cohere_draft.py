"""
A request body in the making: what is written so far, and what had to be left out.
"""

from __future__ import annotations

from llm_master.classes import Request
from llm_master.dialect_cohere import CohereDialect, cohere_profile
from llm_master.draft import SCHEMA_TOOL, RequestDraft, asks_for_schema

__all__ = ["SCHEMA_TOOL", "Draft", "schema_tool_wanted"]


def schema_tool_wanted(request: Request, dialect: CohereDialect) -> bool:
    """Whether the answer comes as arguments of ``SCHEMA_TOOL``: ``response_format`` does not go with tools."""
    params = request.params
    if not asks_for_schema(params):
        return False
    profile = cohere_profile(dialect, request.model)
    if not profile.tools:
        return False
    choice = params.get("tool_choice")
    barred = (choice.get("type") if isinstance(choice, dict) else choice) == "none"
    return not profile.native_schema or (bool(params.get("tools")) and not barred)


class Draft(RequestDraft):
    """
    One request on its way to a body.

    Attributes:
        dialect: the dialect as it holds for the model.
        instructions: sentences to be added to the system prompt in place of a parameter.
    """

    __slots__ = ("dialect", "instructions", "schema_tool")

    def __init__(self, request: Request, dialect: CohereDialect) -> None:
        super().__init__(request)
        self.dialect = cohere_profile(dialect, request.model)
        self.schema_tool = bool(self.params) and schema_tool_wanted(request, dialect)
        self.body.update(model=request.model, stream=request.stream)
        self.instructions: list[str] = []

    @property
    def thinks(self) -> bool:
        """Whether the model reasons in this request."""
        thinking = self.body.get("thinking")
        return self.dialect.thinking and not (isinstance(thinking, dict) and thinking.get("type") == "disabled")
