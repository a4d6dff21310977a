"""
A request body in the making: what is written so far, and what had to be left out.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Request
from llm_master.errors import UnsupportedParameterError
from llm_master.rows import MessagesDialect
from llm_master.wire.anthropic_rules import ModelRules, rules_for

__all__ = ["SCHEMA_TOOL", "Draft", "schema_tool_wanted"]

#: The tool whose arguments are the answer, for models without a native JSON schema.
SCHEMA_TOOL = "structured_answer"


def schema_tool_wanted(request: Request, rules: ModelRules) -> bool:
    """Whether the answer comes as arguments of ``SCHEMA_TOOL``."""
    wanted = request.params.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") == "json_schema" and not rules.native_schema


class Draft:
    """
    One request on its way to a body.

    Attributes:
        params: the caller's parameters without those that are None.
        body: the body so far.
        dropped: what was left out, in order.
        has_calls: whether the messages hold tool calls.
        instructions: sentences to be added to the system prompt in place of a parameter.
    """

    __slots__ = ("body", "dialect", "dropped", "has_calls", "instructions", "params", "request", "rules")

    def __init__(self, request: Request, dialect: MessagesDialect) -> None:
        self.request = request
        self.dialect = dialect
        self.rules: ModelRules = rules_for(dialect, request.model)
        given = request.params
        self.params: dict[str, Any] = {name: given[name] for name in given if given[name] is not None} if given else {}
        self.has_calls = False
        self.body: dict[str, Any] = {"model": request.model}
        self.dropped: list[str] = []
        self.instructions: list[str] = []

    @property
    def target(self) -> str:
        """Provider and model, as error messages name them."""
        return f"{self.request.provider} model {self.request.model!r}"

    def drop(self, name: str) -> None:
        """Note that something was left out."""
        if name not in self.dropped:
            self.dropped.append(name)

    def refuse(self, parameter: str, why: str, instead: str = "leave it out") -> None:
        """
        Leave a parameter out with drop_params.

        Raises:
            UnsupportedParameterError: without drop_params.
        """
        if not self.request.drop_params:
            raise UnsupportedParameterError(
                f"{self.target} cannot take {parameter!r}: {why}; {instead}, or set drop_params=True",
                parameter=parameter,
            )
        self.drop(parameter)
