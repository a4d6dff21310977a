"""
A request as the body of ``POST /chat``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.classes import Request
from llm_master.dialect_cohere import CohereDialect
from llm_master.errors import InvalidRequestError
from llm_master.wire.cohere_draft import Draft
from llm_master.wire.cohere_messages import write_messages
from llm_master.wire.cohere_thinking import write_thinking
from llm_master.wire.cohere_tools import write_tools

__all__ = ["encode"]

_ENCODER = msgspec.json.Encoder()
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# Parameter -> the value that asks for nothing (taken in silence), and what to do instead.
_UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "n": (1, "make several calls"),
    "user": (None, "leave it out"),
    "safety_identifier": (None, "leave it out"),
    "metadata": (None, "leave it out"),
    "logit_bias": ({}, "leave it out"),
    "top_logprobs": (0, "logprobs=True gives those of the chosen tokens"),
    "min_p": (0, "use top_p"),
    "repetition_penalty": (1, "use frequency_penalty"),
    "service_tier": ("auto", "priority=0 to 999 orders requests"),
    "modalities": (["text"], "use a model that speaks or draws"),
    "audio": (None, "use a model that speaks"),
    "prediction": (None, "leave it out"),
    "store": (False, "leave it out"),
    "verbosity": ("medium", "ask for it in the prompt"),
    "web_search_options": (None, "give what was found as documents"),
    "prompt_cache_key": (None, "leave it out: the prefix is cached by itself"),
    "prompt_cache_retention": (None, "leave it out: the prefix is cached by itself"),
    "functions": (None, "give tools"),
    "function_call": (None, "give tool_choice"),
}
# The way of the request, not its content.
_NOT_BODY = ("stream_options", "extra_headers", "extra_query")


def encode(request: Request, dialect: CohereDialect) -> bytes:
    """
    The JSON body of a request; what was left out is added to ``request.dropped``.

    Raises:
        InvalidRequestError: messages or parameters that cannot be read.
        UnsupportedParameterError: a parameter that the model cannot take, unless drop_params is set.
    """
    draft = Draft(request, dialect)
    body, params = draft.body, draft.params
    extra_body = params.pop("extra_body", None) if params else None
    if params:
        _check(draft)
        _write_limit(draft)
        write_thinking(draft)
        write_tools(draft)
        _write_rest(draft)
    write_messages(draft)
    for name, value in draft.dialect.defaults.items():
        body.setdefault(name, value)
    if extra_body:
        body.update(extra_body)
    if draft.dropped:
        request.dropped = tuple(dict.fromkeys((*request.dropped, *draft.dropped)))
    try:
        return _ENCODER.encode(body)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"{draft.target}: the request cannot be written as JSON: {error}") from error


def _check(draft: Draft) -> None:
    params = draft.params
    for name in _NOT_BODY:
        params.pop(name, None)
    for name in sorted(draft.dialect.drop & params.keys()):
        draft.refuse(name, "its server does not know it")
        del params[name]
    for name in [name for name in params if name in _UNSUPPORTED]:
        value = params.pop(name)
        neutral, instead = _UNSUPPORTED[name]
        if neutral is None or value != neutral:
            draft.refuse(name, "it has no such parameter", instead)


def _write_limit(draft: Draft) -> None:
    given = [value for name in _LIMITS if (value := draft.params.pop(name, None)) is not None]
    if not given:
        return
    limit = given[0]
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise InvalidRequestError(f"{draft.target}: max_tokens is a number of tokens, not {limit!r}")
    draft.body["max_tokens"] = limit


def _write_rest(draft: Draft) -> None:
    params, body, dialect = draft.params, draft.body, draft.dialect
    _write_stops(draft)
    mode = params.get("safety_mode")
    if mode is not None and mode not in dialect.safety_modes:
        draft.refuse("safety_mode", f"it does not know {mode!r}", f"it takes {', '.join(dialect.safety_modes)}")
        del params["safety_mode"]
    for given, value in params.items():
        name = dialect.rename.get(given, given)
        body[name] = _clamped(given, name, value, draft)


def _write_stops(draft: Draft) -> None:
    given = [draft.params.pop(name) for name in ("stop", "stop_sequences") if name in draft.params]
    if not given:
        return
    sequences = [given[0]] if isinstance(given[0], str) else list(given[0])
    if not all(isinstance(text, str) for text in sequences):
        raise InvalidRequestError(f"{draft.target}: stop is a text or a list of texts, not {given[0]!r}")
    most = draft.dialect.most_stops
    if len(sequences) > most:
        draft.refuse("stop", f"{len(sequences)} stop sequences are too many", f"give {most} at most")
        sequences = sequences[:most]
    if sequences:
        draft.body["stop_sequences"] = sequences


def _clamped(given: str, name: str, value: Any, draft: Draft) -> Any:
    bounds = draft.dialect.clamp.get(name)
    if bounds is None:
        return value
    low, high = bounds
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:  # noqa: PLR0124  # NaN
        raise InvalidRequestError(f"{draft.target}: {given} is a number between {low:g} and {high:g}, not {value!r}")
    if low <= value <= high:
        return value
    bound = low if value < low else high
    draft.refuse(given, f"{value!r} is not between {low:g} and {high:g}", f"the nearest it takes is {bound:g}")
    return int(bound) if isinstance(value, int) and bound.is_integer() else bound
