"""
Parameters on their way out: renamed, checked against what the server takes, or refused by name.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError
from llm_master.params import LIMITS
from llm_master.refusals import Refusals
from llm_master.rows import ChatDialect
from llm_master.wire.openai_chat_effort import settle_reasoning
from llm_master.wire.openai_chat_plan import Plan
from llm_master.wire.openai_chat_schema import fit_format, fit_tool

__all__ = ["STANDARD", "settle"]

#: Parameters of the chat format; None for one of them means that it was not given.
STANDARD = frozenset(
    (
        *LIMITS,
        *(
            "temperature",
            "top_p",
            "n",
            "stop",
            "stop_sequences",
            "presence_penalty",
            "frequency_penalty",
            "logit_bias",
            "logprobs",
        ),
        *("top_logprobs", "seed", "response_format", "tools", "tool_choice", "parallel_tool_calls"),
        *("reasoning_effort", "verbosity", "service_tier", "prompt_cache_key", "prompt_cache_options"),
        *("safety_identifier", "user", "store", "metadata", "modalities", "audio", "prediction"),
        *("web_search_options", "stream_options", "functions", "function_call", "extra_body"),
    )
)

_RESERVED = ("model", "messages", "stream")
_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")
# Values that say what happens anyway: left out without a word where the parameter is not taken.
_NO_OP = {"n": 1, "presence_penalty": 0, "frequency_penalty": 0, "logprobs": False, "logit_bias": {}}
_NO_OP_REASONING = {**_NO_OP, "temperature": 1, "top_p": 1}


def settle(params: dict[str, Any], request: Request, plan: Plan, left_out: list[str]) -> dict[str, Any]:
    """
    The body fields for the caller's parameters.

    Args:
        params: parameters in the chat format's names; not changed.
        left_out: the list to which dropped and moved parameters are added.

    Raises:
        UnsupportedParameterError: the server cannot take one of them and ``drop_params`` is off.
        InvalidRequestError: parameters contradict each other.
    """
    dialect = plan.dialect
    refusals = Refusals(request, left_out)
    given = {name: value for name, value in params.items() if value is not None or name not in STANDARD}
    extra = given.pop("extra_body", None)
    _check(given, extra, request)
    refusals.one_limit(given)
    if "stop_sequences" in given:
        given["stop"] = given.pop("stop_sequences")
    if "tool_choice" in given:
        given["tool_choice"] = _choice(given["tool_choice"])
    if not given.get("tools", True):
        for name in _TOOLS:
            given.pop(name, None)
    reasoning = settle_reasoning(given, dialect, refusals)
    reasoning = _settle_tools(given, dialect, refusals, reasoning=reasoning)
    _settle_drops(given, dialect, refusals, reasoning=reasoning)
    refusals.clamp(given, dialect.clamp)
    _settle_schemas(given, dialect)
    _settle_stream_options(given, request, left_out)
    body = refusals.renamed(given, plan.renames)
    return {**body, **extra} if extra else body


def _choice(choice: Any) -> Any:
    """A ``tool_choice`` in the words of chat completions: those of other families mean the same."""
    if isinstance(choice, str):
        word = choice.lower()
        return "required" if word == "any" else word
    kind, name = choice.get("type"), choice.get("name")
    if kind in ("tool", "function") and isinstance(name, str) and "function" not in choice:
        return {"type": "function", "function": {"name": name}}
    if kind in ("auto", "any", "none"):
        return "required" if kind == "any" else kind
    return choice


def _check(given: dict[str, Any], extra: Any, request: Request) -> None:
    for name in _RESERVED:
        if name in given:
            raise InvalidRequestError(
                f"{request.provider}/{request.model}: {name!r} is not a parameter; pass it to query() itself"
            )
    if extra is not None and not isinstance(extra, dict):
        raise InvalidRequestError(
            f"{request.provider}/{request.model}: extra_body is a {type(extra).__name__}; give a dict of body fields"
        )
    wanted = given.get("response_format")
    if wanted is not None and not isinstance(wanted, dict):
        raise InvalidRequestError(
            f"{request.provider}/{request.model}: response_format {wanted!r} is not known; its type is text,"
            " json_object or json_schema"
        )


def _settle_tools(given: dict[str, Any], dialect: ChatDialect, refusals: Refusals, *, reasoning: bool) -> bool:
    """Refuse what cannot be done with tools; whether the model will still reason."""
    refused = dialect.drop | dialect.drop_reasoning if reasoning else dialect.drop
    if given.get("tools") and "tools" in refused and "tools" not in dialect.drop:
        none = dialect.efforts is None or "none" in dialect.efforts
        instead = "pass reasoning_effort='none'" if none else "use api='responses' or another model"
        effort = given.get("reasoning_effort", "default")
        refusals.refuse("tools", " while it reasons", instead, f"reasoning_effort={effort}->none" if none else "tools")
        if none:
            given["reasoning_effort"] = dialect.effort_rename.get("none", "none")
            return False
        for name in _TOOLS:
            given.pop(name, None)
    choice = given.get("tool_choice")
    forced = choice == "required" or isinstance(choice, dict)
    if forced and "forced_tools" in refused:
        word = choice if isinstance(choice, str) else "function"
        while_reasoning = "" if "forced_tools" in dialect.drop else " while it reasons"
        refusals.refuse(
            "tool_choice", f"={word!r}{while_reasoning}", "the nearest it takes is 'auto'", f"tool_choice={word}->auto"
        )
        given["tool_choice"] = "auto"
    if choice == "none" and given.get("tools") and "barred_tools" in refused:
        # Without tools it calls none, which is what was asked for.
        refusals.refuse("tool_choice", "='none'", "leave tools out", "tools")
        for name in _TOOLS:
            given.pop(name, None)
    return reasoning


def _settle_drops(given: dict[str, Any], dialect: ChatDialect, refusals: Refusals, *, reasoning: bool) -> None:
    refused = dialect.drop | dialect.drop_reasoning if reasoning else dialect.drop
    for name in sorted(refused & given.keys()):
        only_reasoning = name not in dialect.drop
        value = given.pop(name)
        no_op = _NO_OP_REASONING if only_reasoning else _NO_OP
        if name in no_op and no_op[name] == value:
            continue
        refusals.refuse(name, " while it reasons" if only_reasoning else "", _instead(name, refused, dialect))


def _instead(name: str, refused: frozenset[str], dialect: ChatDialect) -> str:
    import difflib

    if name not in dialect.drop and dialect.efforts is not None and "none" in dialect.efforts:
        return "pass reasoning_effort='none'"
    near = difflib.get_close_matches(name, STANDARD - refused - {"extra_body"}, 1, 0.6)
    return f"the nearest it takes is {near[0]}" if near else "leave it out"


def _settle_schemas(given: dict[str, Any], dialect: ChatDialect) -> None:
    strict, inline = dialect.strict_tools, dialect.inline_defs
    wanted = given.get("response_format")
    if dialect.json_schema == "object" and isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        # The schema itself stands in the prompt.
        given["response_format"] = {"type": "json_object"}
    elif isinstance(wanted, dict) and (inline or not strict):
        given["response_format"] = fit_format(wanted, strict=strict, inline=inline)
    tools = given.get("tools")
    if isinstance(tools, list) and (inline or not strict):
        given["tools"] = [fit_tool(tool, strict=strict, inline=inline) for tool in tools]


def _settle_stream_options(given: dict[str, Any], request: Request, left_out: list[str]) -> None:
    options = given.get("stream_options")
    if options is None:
        return
    if not request.stream:
        # Servers refuse it without a stream; parameters are often shared between both kinds of call.
        del given["stream_options"]
        left_out.append("stream_options")
    elif isinstance(options, dict):
        given["stream_options"] = {"include_usage": True, **options}
