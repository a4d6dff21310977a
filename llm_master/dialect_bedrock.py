"""
How Bedrock's Converse API is spoken, and what the models behind it take, as data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from llm_master.built import build
from llm_master.media import MediaRule
from llm_master.per_model import PerWord, by_model

__all__ = ["BedrockDialect", "Mode", "Reasoning", "bedrock_profile"]

Kind = Literal["image", "document", "video", "audio"]


class Mode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One way of making a model reason; paths are dotted and lie in ``additionalModelRequestFields``.

    Attributes:
        fields: what is sent there.
        effort: path of the effort; efforts: those it knows, weakest first.
        budget: path of a budget of tokens.
        bars: parameter -> [lowest, highest] value accepted while it reasons, None for none at all. ``forced_tools``
            stands for tool_choice ``required`` or a named tool.
        effort_bars: the same for one effort.
    """

    fields: dict[str, Any] = {}
    effort: str | None = None
    efforts: tuple[str, ...] = ()
    budget: str | None = None
    bars: dict[str, tuple[float, float] | None] = {}
    effort_bars: dict[str, dict[str, tuple[float, float] | None]] = {}


class Reasoning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How a model is made to reason, or not to.

    Attributes:
        by_effort: what ``reasoning_effort`` becomes; without it an effort is turned into a budget.
        by_budget: what ``thinking_budget`` becomes; without it a budget is turned into an effort.
        off: fields that switch reasoning off, {} where it is off unless asked for, None where it cannot be.
    """

    by_effort: Mode | None = None
    by_budget: Mode | None = None
    off: dict[str, Any] | None = None


class BedrockDialect(PerWord, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What a model behind ``bedrock`` takes; the defaults are the conservative ones of an unknown model.

    A pattern of ``per_model`` is a part of a model's name, lower case, that no letter or digit touches: ``nova-2`` is
    in ``us.amazon.nova-2-lite-v1:0`` and not in ``nova-20``.

    Attributes:
        max_tokens: the output limit sent when the caller gives none, None: the service's own.
        sampling: whether it takes temperature, top_p and top_k; top_k: the dotted path of ``top_k`` in
            ``additionalModelRequestFields``, None where it has none.
        stop: whether it takes stop sequences.
        system: whether it takes a system prompt; else it stands before the user's first words.
        takes: kinds of media that it reads in a user's message.
        result_media: kinds that may stand in a tool's result; the others follow it as the user's.
        beside_results: kinds of block that may stand in one message with tool results; None: all.
        result_json: whether a tool result that is a JSON object is sent as ``json``.
        result_status: whether a tool result may be marked as an error.
        tools: whether it takes tools; forced_tools: whether it can be made to call one.
        no_tools: fields of ``additionalModelRequestFields`` that keep it from calling tools, {} where nothing does.
        serial_tools: such fields that keep it to one call at a time.
        strict_tools, native_schema: whether it takes ``strict`` tools and ``outputConfig.textFormat``; a model without
            gets a forced tool for a schema.
        web_search: the system tool that ``web_search_options`` becomes, None where there is none.
        prefill: whether it goes on with an assistant's turn that stands last.
        assistant_first: whether a conversation may begin with the assistant.
        cache: whether it takes cache points; cache_tools: also between tools; cache_hour: also for an hour.
        replay: whether its signed reasoning is given back in history.
        reasonings: name -> a way to reason; reasoning: the name of the model's own, None: none is known.
        clamp: parameter -> [lowest, highest] accepted value; outside is an UnsupportedParameterError, or moved to the
            nearest bound with drop_params.
        defaults: body fields sent unless the caller gives them.
        drop: parameters that cannot be taken.
        media: kind of input -> what is taken of it, in place of ``FAMILY_MEDIA`` of this family.
        per_model: pattern -> fields that replace these for the models it matches; a longer pattern beats a shorter one.
    """

    max_tokens: int | None = None
    sampling: bool = True
    top_k: str | None = None
    stop: bool = True
    system: bool = True
    takes: frozenset[Kind] = frozenset(("image", "document"))
    result_media: frozenset[Kind] = frozenset(("image",))
    beside_results: frozenset[str] | None = None
    result_json: bool = False
    result_status: bool = True
    tools: bool = True
    forced_tools: bool = False
    no_tools: dict[str, Any] = {}
    serial_tools: dict[str, Any] = {}
    strict_tools: bool = False
    native_schema: bool = False
    web_search: str | None = None
    prefill: bool = False
    assistant_first: bool = False
    cache: bool = False
    cache_tools: bool = False
    cache_hour: bool = False
    replay: bool = False
    reasonings: dict[str, Reasoning] = {}
    reasoning: str | None = None
    clamp: dict[str, tuple[float, float]] = msgspec.field(
        default_factory=lambda: {"temperature": (0.0, 1.0), "top_p": (0.0, 1.0)}
    )
    defaults: dict[str, Any] = {}
    drop: frozenset[str] = frozenset()
    media: dict[str, MediaRule] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        for override in self.per_model.values():
            checked = msgspec.convert(override, BedrockDialect)
            if checked.reasoning is not None and checked.reasoning not in self.reasonings:
                raise ValueError(f"per_model names the reasoning {checked.reasoning!r}, which is not in reasonings")

    @property
    def reasons(self) -> Reasoning | None:
        """How the model is made to reason, None when it is not known to."""
        return self.reasonings[self.reasoning] if self.reasoning is not None else None


bedrock_profile: Callable[[BedrockDialect, str], BedrockDialect] = by_model(BedrockDialect.for_model)
"""The dialect for a model, made once."""


build(BedrockDialect)
