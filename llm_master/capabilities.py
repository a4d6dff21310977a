"""
What one model takes, told once: its parameters by the family that writes its requests, the rest by the facts.

Nothing about parameters is kept here. Each is tried on the encoder that a call would go through, so that what is told
of a model is what happens to a call.
"""

from __future__ import annotations

import datetime as dt
import importlib
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.families import FAMILIES, dialect_of, family_of
from llm_master.model_facts import facts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from llm_master.rows import ProviderRow

__all__ = ["PROBES", "Capabilities", "capabilities_of", "serving_family"]

_TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
_SHAPE = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
_EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
_SAMPLING = ("temperature", "top_p")

#: Name -> parameters that ask for something, to be tried on an encoder. ``tool_choice=...`` are the words of one.
PROBES: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.5},
    "top_k": {"top_k": 5},
    "presence_penalty": {"presence_penalty": 0.5},
    "frequency_penalty": {"frequency_penalty": 0.5},
    "logit_bias": {"logit_bias": {"1": 1}},
    "logprobs": {"logprobs": True},
    "seed": {"seed": 1},
    "n": {"n": 2},
    "stop": {"stop": ["END"]},
    "tools": {"tools": [_TOOL]},
    "tool_choice=required": {"tools": [_TOOL], "tool_choice": "required"},
    "tool_choice=none": {"tools": [_TOOL], "tool_choice": "none"},
    "parallel_tool_calls": {"tools": [_TOOL], "parallel_tool_calls": False},
    "response_format": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": _SHAPE, "strict": True}}
    },
    "reasoning_effort": {"reasoning_effort": "high"},
    "thinking_budget": {"thinking_budget": 2048, "max_tokens": 8192},
    "verbosity": {"verbosity": "low"},
    "web_search_options": {"web_search_options": {}},
    "prediction": {"prediction": {"type": "content", "content": "x"}},
    "store": {"store": True},
    "user": {"user": "eve"},
}
# No encoder looks into a picture that comes as a data URI.
_PNG = "data:image/png;base64,iVBORw0KGgo="
_PARTS: dict[str, dict[str, Any]] = {
    "images": {"type": "image_url", "image_url": {"url": _PNG}},
    "audio": {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    "video": {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
    "files": {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
}


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a model takes at a provider.

    Attributes:
        model, provider: the name that is sent, and to whom.
        family: the API family that a plain call goes through; ``tools_family``: that of a call with tools.
        reasoning: whether it can reason.
        efforts: the words of ``reasoning_effort`` that it knows, weakest first; the others become the nearest, but for
            ``none`` where it is ``always_on``. None:
            any word is passed on. Empty: it has no such setting.
        always_on: whether its reasoning cannot be switched off.
        sampling: ``always``, ``at_rest`` (not while it reasons), or ``never``: temperature and top_p.
        tools, forced_tools: whether it takes tools, and can be made to call one.
        strict_schema: whether the provider itself holds its answers to a JSON schema; else a forced tool or the prompt
            asks for it.
        prefill: whether it goes on with an assistant's turn that stands last.
        refused: parameters that raise UnsupportedParameterError, and are left out with ``drop_params``; names as in
            ``PROBES``.
        refused_reasoning: further ones that are refused while it reasons.
        images, audio, video, files: whether it reads them, None where no source says.
        outputs: what it gives.
        context: tokens of input and answer; ``max_output``: tokens of one answer; None where no source says.
        retires_on: the day on which the provider stops serving it; ``successor``: what it names instead.
        known: whether a source speaks of this very model. The limits of any other are cautious and refuse nothing.
        sources: where the facts come from, each with the day it was checked.
    """

    model: str
    provider: str
    family: str
    tools_family: str
    reasoning: bool
    efforts: tuple[str, ...] | None
    always_on: bool
    sampling: Literal["always", "at_rest", "never"]
    tools: bool
    forced_tools: bool
    strict_schema: bool
    prefill: bool
    refused: tuple[str, ...]
    refused_reasoning: tuple[str, ...]
    images: bool | None
    audio: bool | None
    video: bool | None
    files: bool | None
    outputs: tuple[str, ...]
    context: int | None
    max_output: int | None
    retires_on: str | None
    successor: str | None
    known: bool
    sources: tuple[str, ...]

    def retired(self, today: dt.date | None = None) -> bool:
        """Whether the provider has stopped serving it, by what is known."""
        return self.retires_on is not None and self.retires_on <= (today or dt.datetime.now(dt.UTC).date()).isoformat()


def serving_family(row: ProviderRow, model: str, family: str, *, api: str | None, params: dict[str, Any]) -> str:
    """The family that serves a call with these parameters: the given one, or Responses where a model needs that."""
    if api is None and family == "openai_chat" and "openai_responses" in row.families:
        dialect = dialect_of(row, "openai_responses").for_model(model)
        if (params or dialect.only) and dialect.wanted(params):
            return "openai_responses"
    return family


def capabilities_of(row: ProviderRow, model: str, *, family: str | None = None, api: str | None = None) -> Capabilities:
    """
    What a model takes at a provider; a name that nobody knows gets the cautious values of its family.

    Args:
        model: the name to send.
        family: the API family of the call, None for the row's first.
        api: the family that the caller forces, None for none.

    Raises:
        ConfigurationError: the row does not serve ``api``.
    """
    family = family or family_of(row, api)
    plain = serving_family(row, model, family, api=api, params={})
    trial = _Trial(row, model, plain)
    with_tools = _Trial(row, model, serving_family(row, model, family, api=api, params={"tools": [_TOOL]}))
    refused = [name for name in PROBES if not (with_tools if "tools" in PROBES[name] else trial).takes(PROBES[name])]
    reasoning, efforts, always_on = _reasoning(trial)
    effort = _some(efforts) if reasoning else None
    further = [
        name
        for name, params in PROBES.items()
        if effort is not None
        and name not in (*refused, "reasoning_effort", "thinking_budget")
        and not (with_tools if "tools" in params else trial).takes({**params, "reasoning_effort": effort})
    ]
    found = facts_of(row.name, model, own_server=row.key_optional)
    facts = found.facts
    return Capabilities(
        model=model,
        provider=row.name,
        family=plain,
        tools_family=with_tools.family,
        reasoning=reasoning,
        efforts=efforts,
        always_on=always_on,
        sampling=_sampling(trial, refused, further, always_on=always_on, reasoning=reasoning),
        tools="tools" not in refused,
        forced_tools="tools" not in refused and "tool_choice=required" not in refused,
        strict_schema="response_format" not in refused and _native_schema(trial),
        prefill=trial.prefill,
        refused=tuple(refused),
        refused_reasoning=tuple(further),
        **{kind: getattr(facts, kind) if trial.reads(part) else False for kind, part in _PARTS.items()},
        outputs=facts.outputs or ("text",),
        context=facts.context,
        max_output=facts.max_output,
        retires_on=facts.retires_on,
        successor=facts.successor,
        known=found.certain,
        sources=(*found.sources, *((f"{row.source} ({row.checked})",) if row.source else ())),
    )


class _Trial:
    """The encoder of one family, to be tried for one model; a provider without chat takes nothing."""

    def __init__(self, row: ProviderRow, model: str, family: str) -> None:
        self.family, self.model, self.provider, self.chats = family, model, row.name, row.chats
        self._module: Any = importlib.import_module(FAMILIES[family][0])
        self.dialect: Any = dialect_of(row, family)

    def takes(self, params: dict[str, Any]) -> bool:
        """Whether these parameters can be sent."""
        return self._encodes("hi", params)

    def reads(self, part: dict[str, Any]) -> bool:
        """Whether this part of a message can be sent."""
        return self._encodes([{"type": "text", "text": "hi"}, part], {})

    def _encodes(self, content: Any, params: dict[str, Any]) -> bool:
        if not self.chats:
            return False
        request = Request(self.provider, self.model, [{"role": "user", "content": content}], params)
        try:
            self._module.encode(request, self.dialect)
        except UnsupportedParameterError:
            return False
        except InvalidRequestError:
            # What is tried is well formed: a part that cannot be read there is one that is not taken.
            return False
        return True

    @property
    def prefill(self) -> bool:
        return self.chats and bool(self._module.takes_prefill(self.dialect, self.model))


def _some(efforts: tuple[str, ...] | None) -> str | None:
    """An effort at which a model reasons for certain."""
    return next((each for each in reversed(efforts or ("high",)) if each != "none"), None)


_Reasoning: TypeAlias = tuple[bool, tuple[str, ...] | None, bool]


def _reasoning(trial: _Trial) -> _Reasoning:
    """Whether a model reasons, the efforts that it knows, and whether it always does."""
    return _REASONING[trial.family](trial) if trial.chats else (False, (), False)


def _by_efforts(trial: _Trial) -> _Reasoning:
    dialect = trial.dialect.for_model(trial.model)
    efforts = dialect.efforts
    if efforts is None:
        return bool(dialect.reasons), None, False
    return bool(efforts or dialect.reasons), efforts, dialect.reasons and "none" not in efforts


def _by_rules(trial: _Trial) -> _Reasoning:
    from llm_master.wire.anthropic_rules import rules_for

    rules = rules_for(trial.dialect, trial.model)
    if rules.no_thinking:
        return False, (), False
    always = rules.always_thinking and not rules.between_tools
    return True, (*(() if always else ("none",)), *(rules.effort or _EFFORTS)), always


def _by_levels(trial: _Trial) -> _Reasoning:
    model = trial.dialect.model(trial.model)
    if model.thinking == "none":
        return False, (), False
    efforts = model.levels if model.thinking == "level" else _EFFORTS
    return True, (*(("none",) if model.can_rest else ()), *efforts), not model.can_rest


def _by_budgets(trial: _Trial) -> _Reasoning:
    dialect = trial.dialect.for_model(trial.model)
    return dialect.thinking, ("none", *dialect.budgets) if dialect.thinking else (), False


def _by_ways(trial: _Trial) -> _Reasoning:
    ways = trial.dialect.for_model(trial.model).reasons
    if ways is None:
        return False, (), False
    efforts = ways.by_effort.efforts if ways.by_effort is not None and ways.by_effort.efforts else _EFFORTS
    return True, (*(() if ways.off is None else ("none",)), *efforts), ways.off is None


_REASONING: dict[str, Callable[[_Trial], _Reasoning]] = {
    "openai_chat": _by_efforts,
    "openai_responses": _by_efforts,
    "anthropic_messages": _by_rules,
    "gemini": _by_levels,
    "cohere": _by_budgets,
    "bedrock": _by_ways,
}


def _sampling(
    trial: _Trial, refused: list[str], further: list[str], *, always_on: bool, reasoning: bool
) -> Literal["always", "at_rest", "never"]:
    if not {*_SAMPLING} & {*refused, *further}:
        return "always"
    if not {*_SAMPLING} & {*refused}:
        return "at_rest"
    rests = {**PROBES["temperature"], "reasoning_effort": "none"}
    return "at_rest" if reasoning and not always_on and trial.takes(rests) else "never"


def _native_schema(trial: _Trial) -> bool:
    if trial.family == "gemini":
        return bool(trial.dialect.model(trial.model).json)
    if trial.family == "anthropic_messages":
        from llm_master.wire.anthropic_rules import rules_for

        return rules_for(trial.dialect, trial.model).native_schema
    dialect = trial.dialect.for_model(trial.model)
    if trial.family == "openai_chat":
        return bool(dialect.json_schema == "native" and dialect.strict_tools)
    return bool(getattr(dialect, "native_schema", True))
