"""
A request body in the making: what is written so far, and what had to be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_master.classes import Request
from llm_master.dialect_bedrock import BedrockDialect, Mode, bedrock_profile
from llm_master.errors import InvalidRequestError, UnsupportedParameterError

__all__ = ["SCHEMA_TOOL", "Draft", "schema_tool_wanted"]

#: The tool whose arguments are the answer, for models without a native JSON schema.
SCHEMA_TOOL = "structured_answer"


def schema_tool_wanted(request: Request, dialect: BedrockDialect) -> bool:
    """Whether the answer comes as arguments of ``SCHEMA_TOOL``."""
    wanted = request.params.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return False
    profile = bedrock_profile(dialect, request.model)
    return profile.tools and not profile.native_schema


class Draft:
    """
    One request on its way to a body.

    Attributes:
        params: the caller's parameters without those that are None.
        dialect: the dialect as it holds for the model.
        body: the body so far; inference: its ``inferenceConfig``.
        fields: ``additionalModelRequestFields``, the caller's own first.
        mode: how the model is made to reason, None when it is not; effort: at which effort.
        dropped: what was left out, in order.
        has_calls: whether the messages hold tool calls.
        instructions: sentences to be added to the system prompt in place of a parameter.
    """

    __slots__ = (
        "body",
        "dialect",
        "dropped",
        "effort",
        "fields",
        "has_calls",
        "inference",
        "instructions",
        "mode",
        "params",
        "request",
        "schema_tool",
    )

    def __init__(self, request: Request, dialect: BedrockDialect) -> None:
        self.request = request
        self.dialect = bedrock_profile(dialect, request.model)
        self.params: dict[str, Any] = {name: value for name, value in request.params.items() if value is not None}
        self.schema_tool = bool(self.params) and schema_tool_wanted(request, dialect)
        self.body: dict[str, Any] = {}
        self.inference: dict[str, Any] = self._native("inferenceConfig")
        self.fields: dict[str, Any] = self._native("additionalModelRequestFields")
        self.mode: Mode | None = None
        self.effort: str | None = None
        self.has_calls = False
        self.dropped: list[str] = []
        self.instructions: list[str] = []

    def _native(self, name: str) -> dict[str, Any]:
        given = self.params.pop(name, {})
        if not isinstance(given, dict):
            raise InvalidRequestError(f"{self.target}: {name} is a dict, not {given!r}")
        return dict(given)

    @property
    def target(self) -> str:
        """Provider and model, as error messages name them."""
        return f"{self.request.provider} model {self.request.model!r}"

    def put(self, path: str, value: Any) -> None:
        """Set a dotted path in ``fields``, unless the caller has."""
        *parents, last = path.split(".")
        at = self.fields
        for name in parents:
            inner = at.get(name)
            at[name] = inner = dict(inner) if isinstance(inner, dict) else {}
            at = inner
        at.setdefault(last, value)

    def merge(self, given: Mapping[str, Any], path: str = "") -> None:
        """Add fields to ``fields``, unless the caller gave them."""
        for name, value in given.items():
            if isinstance(value, dict) and value:
                self.merge(value, f"{path}{name}.")
            else:
                self.put(f"{path}{name}", value)

    def goes_with_reasoning(self, parameter: str, value: Any = None) -> bool:
        """Whether a parameter may have a value while the model reasons as it was told to."""
        if self.mode is None:
            return True
        bars = {**self.mode.bars, **self.mode.effort_bars.get(self.effort or "", {})}
        if parameter not in bars:
            return True
        bounds = bars[parameter]
        return bounds is not None and isinstance(value, (int, float)) and bounds[0] <= value <= bounds[1]

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
