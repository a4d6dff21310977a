"""
A request body in the making: what is written so far, and what had to be left out.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Request
from llm_master.dialect_cohere import CohereDialect, cohere_profile
from llm_master.errors import UnsupportedParameterError

__all__ = ["SCHEMA_TOOL", "Draft", "schema_tool_wanted"]

#: The tool whose arguments are the answer, where ``response_format`` does not go with the rest of the request.
SCHEMA_TOOL = "structured_answer"


def schema_tool_wanted(request: Request, dialect: CohereDialect) -> bool:
    """Whether the answer comes as arguments of ``SCHEMA_TOOL``: ``response_format`` does not go with tools."""
    params = request.params
    wanted = params.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return False
    profile = cohere_profile(dialect, request.model)
    if not profile.tools:
        return False
    choice = params.get("tool_choice")
    barred = (choice.get("type") if isinstance(choice, dict) else choice) == "none"
    return not profile.native_schema or (bool(params.get("tools")) and not barred)


class Draft:
    """
    One request on its way to a body.

    Attributes:
        params: the caller's parameters without those that are None.
        dialect: the dialect as it holds for the model.
        body: the body so far.
        dropped: what was left out, in order.
        instructions: sentences to be added to the system prompt in place of a parameter.
    """

    __slots__ = ("body", "dialect", "dropped", "instructions", "params", "request", "schema_tool")

    def __init__(self, request: Request, dialect: CohereDialect) -> None:
        self.request = request
        self.dialect = cohere_profile(dialect, request.model)
        self.params: dict[str, Any] = {name: value for name, value in request.params.items() if value is not None}
        self.schema_tool = bool(self.params) and schema_tool_wanted(request, dialect)
        self.body: dict[str, Any] = {"model": request.model, "stream": request.stream}
        self.dropped: list[str] = []
        self.instructions: list[str] = []

    @property
    def target(self) -> str:
        """Provider and model, as error messages name them."""
        return f"{self.request.provider} model {self.request.model!r}"

    @property
    def thinks(self) -> bool:
        """Whether the model reasons in this request."""
        thinking = self.body.get("thinking")
        return self.dialect.thinking and not (isinstance(thinking, dict) and thinking.get("type") == "disabled")

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
