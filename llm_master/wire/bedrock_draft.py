"""
A request body in the making: what is written so far, and what had to be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_master.classes import Request
from llm_master.dialect_bedrock import BedrockDialect, Mode, bedrock_profile
from llm_master.draft import SCHEMA_TOOL, RequestDraft, asks_for_schema, schema_in
from llm_master.errors import InvalidRequestError
from llm_master.subset import compilable

__all__ = ["SCHEMA_TOOL", "Draft", "schema_tool_wanted"]


def schema_tool_wanted(request: Request, dialect: BedrockDialect) -> bool:
    """Whether the answer comes as arguments of ``SCHEMA_TOOL``."""
    if not asks_for_schema(request.params):
        return False
    profile = bedrock_profile(dialect, request.model)
    return profile.tools and not (profile.native_schema and compilable(schema_in(request.params)))


class Draft(RequestDraft):
    """
    One request on its way to a body.

    Attributes:
        dialect: the dialect as it holds for the model.
        inference: ``inferenceConfig`` of the body.
        fields: ``additionalModelRequestFields``, the caller's own first.
        mode: how the model is made to reason, None when it is not; effort: at which effort.
        has_calls: whether the messages hold tool calls.
        instructions: sentences to be added to the system prompt in place of a parameter.
    """

    __slots__ = ("dialect", "effort", "fields", "has_calls", "inference", "instructions", "mode", "schema_tool")

    def __init__(self, request: Request, dialect: BedrockDialect) -> None:
        super().__init__(request)
        self.dialect = bedrock_profile(dialect, request.model)
        self.schema_tool = bool(self.params) and schema_tool_wanted(request, dialect)
        self.inference: dict[str, Any] = self._native("inferenceConfig")
        self.fields: dict[str, Any] = self._native("additionalModelRequestFields")
        self.mode: Mode | None = None
        self.effort: str | None = None
        self.has_calls = False
        self.instructions: list[str] = []

    def _native(self, name: str) -> dict[str, Any]:
        given = self.params.pop(name, {})
        if not isinstance(given, dict):
            raise InvalidRequestError(f"{self.target}: {name} is a dict, not {given!r}")
        return dict(given)

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
