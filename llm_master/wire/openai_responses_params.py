"""
Parameters on their way out: brought to this API's names, checked against what the model takes, or refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError
from llm_master.refusals import Refusals
from llm_master.wire.openai_responses_effort import settle_reasoning
from llm_master.wire.openai_responses_plan import Plan
from llm_master.wire.openai_responses_tools import flat_choice, flat_format, flat_tool, is_forced, search_tool

__all__ = ["is_stateless", "settle", "wants_object"]

_RESERVED = ("model", "input", "messages", "stream")
_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")
_ENCRYPTED = "reasoning.encrypted_content"
_LOGPROBS = "message.output_text.logprobs"
# What the API lacks: the value that asks for nothing (taken in silence), and what to do instead.
_UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "stop": ([], "cut the text yourself, or use api='chat'"),
    "n": (1, "make several calls"),
    "seed": (None, "leave it out, or use api='chat'"),
    "presence_penalty": (0, "leave it out, or use api='chat'"),
    "frequency_penalty": (0, "leave it out, or use api='chat'"),
    "logit_bias": ({}, "leave it out, or use api='chat'"),
    "modalities": (["text"], "use api='chat' or a model that speaks"),
    "audio": (None, "use api='chat' or a model that speaks"),
    "prediction": (None, "leave it out, or use api='chat'"),
}
# Values that say what happens anyway.
_NO_OP = {"logprobs": False, "top_logprobs": 0, "truncation": "disabled", "store": False, "parallel_tool_calls": True}
_NO_OP_REASONING = {**_NO_OP, "temperature": 1, "top_p": 1}


def is_stateless(params: Mapping[str, Any]) -> bool:
    """Whether the provider keeps nothing of this call and is told of no earlier one."""
    extra = params.get("extra_body")
    given = {**params, **extra} if isinstance(extra, dict) else params
    return not (given.get("store") or given.get("previous_response_id") or given.get("conversation"))


def wants_object(params: Mapping[str, Any]) -> bool:
    """Whether the answer is to be JSON without a schema, for which the input itself must say so."""
    text = params.get("text")
    wanted = (params.get("response_format"), text.get("format") if isinstance(text, Mapping) else None)
    return any(isinstance(each, Mapping) and each.get("type") == "json_object" for each in wanted)


def settle(request: Request, plan: Plan, refusals: Refusals) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    The body fields for the caller's parameters, and those of ``extra_body``.

    Raises:
        UnsupportedParameterError: the model cannot take one of them and ``drop_params`` is off.
        InvalidRequestError: parameters contradict each other or cannot be read.
    """
    dialect = plan.dialect
    given = {name: value for name, value in request.params.items() if value is not None}
    extra = given.pop("extra_body", {})
    _check(given, extra, refusals)
    _synonyms(given, refusals)
    _settle_background(given, refusals)
    _settle_stream_options(given, request, refusals)
    if "web_search_options" in given:
        given["tools"] = [*(given.get("tools") or ()), search_tool(given.pop("web_search_options"))]
    if not given.get("tools", True):
        for name in _TOOLS:
            given.pop(name, None)
    if "tools" in given:
        given["tools"] = [flat_tool(tool, dialect, refusals) for tool in given["tools"]]
    reasons = settle_reasoning(given, dialect, refusals)
    _settle_choice(given, plan, refusals, reasons=reasons)
    _settle_drops(given, plan, refusals, reasons=reasons)
    refusals.clamp(given, dialect.clamp)
    _settle_logprobs(given)
    _settle_text(given, plan, refusals)
    _settle_state(given, plan, stateless=is_stateless(request.params))
    names = {"max_tokens": "max_output_tokens", **dialect.rename}
    body = refusals.renamed(given, names)
    for name, value in dialect.defaults.items():
        body.setdefault(name, value)
    return body, extra


def _check(given: dict[str, Any], extra: Any, refusals: Refusals) -> None:
    for name in _RESERVED:
        if name in given:
            raise InvalidRequestError(
                f"{refusals.who}: {name!r} is not a parameter; pass messages= and stream= to query()"
            )
    if not isinstance(extra, dict):
        raise InvalidRequestError(f"{refusals.who}: extra_body is a {type(extra).__name__}; give a dict of body fields")


def _synonyms(given: dict[str, Any], refusals: Refusals) -> None:
    refusals.one_limit(given)
    if "stop_sequences" in given:
        given["stop"] = given.pop("stop_sequences")
    # The names of tools before 2023-11.
    functions, choice = given.pop("functions", None), given.pop("function_call", None)
    if functions:
        given["tools"] = [*(given.get("tools") or ()), *functions]
    if choice is not None:
        given.setdefault("tool_choice", choice if isinstance(choice, str) else {**choice, "type": "function"})


def _settle_background(given: dict[str, Any], refusals: Refusals) -> None:
    if given.get("background"):
        refusals.refuse(
            "background",
            ": its answer has to be asked for again and again, which this call does not do",
            "leave it out, or pass extra_body={'background': True, 'store': True} and poll the id in response.raw",
        )
    given.pop("background", None)


def _settle_stream_options(given: dict[str, Any], request: Request, refusals: Refusals) -> None:
    options = given.pop("stream_options", None)
    if not isinstance(options, Mapping):
        return
    # The usage comes with every stream.
    kept = {name: value for name, value in options.items() if name != "include_usage"}
    if kept and request.stream:
        given["stream_options"] = kept
    elif kept:
        refusals.note("stream_options")


def _settle_choice(given: dict[str, Any], plan: Plan, refusals: Refusals, *, reasons: bool) -> None:
    if "tool_choice" not in given:
        return
    dialect = plan.dialect
    choice = given["tool_choice"] = flat_choice(given["tool_choice"], refusals)
    refused = dialect.drop | dialect.drop_reasoning if reasons else dialect.drop
    if not is_forced(choice) or "forced_tools" not in refused:
        return
    word = choice if isinstance(choice, str) else choice["type"]
    while_reasoning = "" if "forced_tools" in dialect.drop else " while it reasons"
    refusals.refuse(
        "tool_choice", f"={word!r}{while_reasoning}", "the nearest it takes is 'auto'", f"tool_choice={word}->auto"
    )
    given["tool_choice"] = {**choice, "mode": "auto"} if word == "allowed_tools" else "auto"


def _settle_drops(given: dict[str, Any], plan: Plan, refusals: Refusals, *, reasons: bool) -> None:
    dialect = plan.dialect
    for name in [name for name in given if name in _UNSUPPORTED and name not in dialect.takes]:
        value = given.pop(name)
        neutral, instead = _UNSUPPORTED[name]
        if neutral is None or value != neutral:
            refusals.refuse(name, ": this API has no such parameter", instead)
    refused = dialect.drop | dialect.drop_reasoning if reasons else dialect.drop
    for name in sorted(refused & given.keys()):
        only_reasoning = name not in dialect.drop
        value = given.pop(name)
        no_op = _NO_OP_REASONING if only_reasoning else _NO_OP
        if name in no_op and no_op[name] == value:
            continue
        can_stop = only_reasoning and (dialect.efforts is None or "none" in dialect.efforts)
        refusals.refuse(
            name,
            " while it reasons" if only_reasoning else "",
            "pass reasoning_effort='none'" if can_stop else "leave it out",
        )


def _include(given: dict[str, Any], entry: str) -> None:
    listed = given.get("include")
    listed = list(listed) if isinstance(listed, list | tuple) else []
    if entry not in listed:
        given["include"] = [*listed, entry]


def _settle_logprobs(given: dict[str, Any]) -> None:
    wanted = given.pop("logprobs", None)
    if wanted or given.get("top_logprobs"):
        _include(given, _LOGPROBS)


def _settle_text(given: dict[str, Any], plan: Plan, refusals: Refusals) -> None:
    text = given.pop("text", None) or {}
    if not isinstance(text, Mapping):
        raise InvalidRequestError(f"{refusals.who}: text is a dict such as {{'verbosity': 'low'}}, not {text!r}")
    text = dict(text)
    wanted = given.pop("response_format", None)
    if wanted is not None and plan.dialect.json_schema == "response_format":
        given["response_format"] = wanted
    elif wanted is not None:
        shape = flat_format(wanted, plan.dialect, refusals)
        if shape is not None and text.setdefault("format", shape) != shape:
            raise InvalidRequestError(f"{refusals.who}: give response_format or text.format, not both")
    verbosity = given.pop("verbosity", None)
    if verbosity is not None:
        text["verbosity"] = verbosity
    if text:
        given["text"] = text


def _settle_state(given: dict[str, Any], plan: Plan, *, stateless: bool) -> None:
    if not stateless:
        return
    dialect = plan.dialect
    if dialect.store is not None:
        given.setdefault("store", dialect.store)
    # What is not stored can be given back only where the answer holds it, encrypted.
    if dialect.reasoning_items == "encrypted":
        _include(given, _ENCRYPTED)
