"""
How one server speaks ``openai_responses``, as data.

A row holds it as ``responses``; the family reads it through ``wire/openai_responses_plan.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from llm_master.built import build
from llm_master.media import MediaRule
from llm_master.per_model import PerModel

__all__ = ["SAMPLING", "ResponsesDialect"]

#: Parameters that a reasoning model refuses together; the word ``sampling`` in a dialect stands for them.
SAMPLING = frozenset(("temperature", "top_p", "logprobs", "top_logprobs"))

# Types of tools that chat completions knows too.
_SHARED_TOOLS = ("function", "custom", None)
# Parameters that chat completions does not know: state on the server, and how the input is read.
_OWN_PARAMS = frozenset(
    (
        *("previous_response_id", "conversation", "background", "instructions"),
        *("include", "truncation", "context_management", "max_tool_calls", "reasoning_summary"),
    )
)


class ResponsesDialect(PerModel, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How one server speaks ``openai_responses``; the defaults are the conservative ones of an unknown compatible server.

    Attributes:
        rename: parameter -> the name this server wants. The canonical name of the output limit is ``max_tokens``.
        drop: parameters that this server cannot take: an UnsupportedParameterError, or left out with drop_params.
            ``sampling`` stands for all of ``SAMPLING``, ``forced_tools`` for ``tool_choice`` ``required`` or a named
            tool.
        takes: parameters that the API itself lacks (``stop``, ``seed``, penalties ...) and this server knows.
        clamp: parameter -> [lowest, highest] accepted value; outside is an UnsupportedParameterError, or moved to the
            nearest bound with drop_params.
        defaults: body fields sent unless the caller gives them.
        inputs: kinds of input besides text that are taken: ``image``, ``file``, ``audio``, ``video``.
        tool_parts: whether a tool's result may hold images and files; else they follow in a user message.
        instructions: whether the leading system prompt goes into ``instructions``; else it is an input message.
        developer_role: whether role ``developer`` is known; else it is sent as ``system``.
        typed_messages: whether every input message needs its ``type``.
        strict_tools: whether ``strict`` in tool and schema definitions is known. Where it is, ``strict: false`` is
            sent with tools that do not ask for it: this API would otherwise make every parameter required.
        json_schema: where the shape of the answer stands: ``text`` (``text.format``), or ``response_format`` as in
            chat completions.
        store: the ``store`` that is sent when the caller says nothing of state; None where the server has none.
        reasoning_items: ``no``: reasoning items are not given back; ``plain``: they are, as they came; ``encrypted``:
            they are asked for with their encrypted content where nothing is stored, and given back with it.
        phase: whether ``phase`` of assistant messages is given back.
        cache_marks: what becomes of ``cache_control``: ``no``: it is left out; ``keep``: it stays; ``breakpoint``: it
            becomes ``prompt_cache_breakpoint``.
        efforts: reasoning efforts that are known, weakest first; None: passed as given; (): none at all.
        effort_rename: effort -> the server's word.
        reasons: whether the model reasons when no effort is given (an effort other than ``none`` always reasons).
        drop_reasoning: parameters that are refused while it reasons; as ``drop``.
        finish_reasons: the server's reason of an incomplete answer -> ours, on top of the usual ones.
        cost_path: dotted path in the answer of the cost that the server reports, or None.
        cost_unit: how many of its units are one USD.
        searches_path: dotted path in the answer of the number of web searches, where it is not the usual one.
        only: whether no other family of the row serves the model.
        tools_while_reasoning: whether the model takes tools while it reasons in this family only.
        only_tools: types of tools that this family alone serves; ``wanted`` reads these three.
        media: kind of input -> what is taken of it, in place of ``FAMILY_MEDIA`` of this family.
        per_model: part of a model name -> fields of this dialect that replace these for that model; the longest part
            that occurs in the name wins. Taken by ``for_model``.
    """

    rename: dict[str, str] = {}
    drop: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()
    clamp: dict[str, tuple[float, float]] = {}
    defaults: dict[str, Any] = {}
    inputs: frozenset[Literal["image", "file", "audio", "video"]] = frozenset(("image",))
    tool_parts: bool = False
    instructions: bool = True
    developer_role: bool = False
    typed_messages: bool = False
    strict_tools: bool = True
    json_schema: Literal["text", "response_format"] = "text"
    store: bool | None = False
    reasoning_items: Literal["no", "plain", "encrypted"] = "no"
    phase: bool = False
    cache_marks: Literal["no", "keep", "breakpoint"] = "no"
    efforts: tuple[str, ...] | None = None
    effort_rename: dict[str, str] = {}
    reasons: bool = False
    drop_reasoning: frozenset[str] = frozenset()
    finish_reasons: dict[str, str] = {}
    cost_path: str | None = None
    cost_unit: int = 1
    searches_path: str | None = None
    only: bool = False
    tools_while_reasoning: bool = False
    only_tools: frozenset[str] = frozenset()
    media: dict[str, MediaRule] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.spell_out("sampling", SAMPLING, "drop", "drop_reasoning")

    def parts_in(self, name: str) -> list[str]:
        """The longest part that occurs in a name; no other counts."""
        return super().parts_in(name)[-1:]

    def wanted(self, params: Mapping[str, Any]) -> bool:
        """
        Whether a call must go to this family although another one of the row is the default.

        True for a model that is served nowhere else, for tools together with reasoning where chat completions refuses
        them, for a type of tool that only this family serves, and for parameters that only this family has. To be
        asked of the model's own dialect (``for_model``).
        """
        if self.only:
            return True
        if not _OWN_PARAMS.isdisjoint(params) and any(
            params[name] is not None for name in _OWN_PARAMS.intersection(params)
        ):
            return True
        tools = params.get("tools") or params.get("functions")
        if not tools:
            return False
        kinds = {tool.get("type") for tool in tools if isinstance(tool, Mapping)}
        if not kinds.isdisjoint(self.only_tools):
            return True
        if not self.tools_while_reasoning or kinds.isdisjoint(_SHARED_TOOLS):
            return False
        effort = _effort(params)
        return self.reasons if effort is None else effort != "none"


def _effort(params: Mapping[str, Any]) -> Any:
    """The effort that a call asks for in any of its words, None when it asks for none."""
    effort = params.get("reasoning_effort")
    given = params.get("reasoning")
    if effort is None and isinstance(given, Mapping):
        effort = given.get("effort")
    if effort is None:
        thinking = params.get("thinking")
        if params.get("thinking_budget") == 0 or (isinstance(thinking, Mapping) and thinking.get("type") == "disabled"):
            return "none"
        if params.get("thinking_budget") is not None or thinking is not None:
            return "some"
    return effort


build(ResponsesDialect)
