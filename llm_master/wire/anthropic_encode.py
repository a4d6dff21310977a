"""
A request as the body of ``POST /messages``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError
from llm_master.rows import MessagesDialect
from llm_master.wire.anthropic_blocks import Block
from llm_master.wire.anthropic_draft import Draft
from llm_master.wire.anthropic_thinking import THINKING, write_thinking
from llm_master.wire.anthropic_tools import TOOLS, write_tools
from llm_master.wire.anthropic_turns import write_messages

__all__ = ["encode"]

_ENCODER = msgspec.json.Encoder()
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_SAMPLING = ("temperature", "top_p", "top_k")
_USER = ("user", "safety_identifier")
# Parameter -> the value that asks for nothing (taken in silence), and what to do instead.
_UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "n": (1, "make several calls"),
    "seed": (None, "leave it out"),
    "presence_penalty": (0, "leave it out"),
    "frequency_penalty": (0, "leave it out"),
    "repetition_penalty": (1, "leave it out"),
    "min_p": (0, "use top_p"),
    "logprobs": (False, "use a provider that gives them"),
    "top_logprobs": (0, "use a provider that gives them"),
    "logit_bias": ({}, "leave it out"),
    "modalities": (["text"], "use a model that speaks or draws"),
    "audio": (None, "use a model that speaks"),
    "prediction": (None, "leave it out"),
    "store": (False, "leave it out"),
    "verbosity": ("medium", "ask for it in the prompt"),
    "web_search_options": (None, "give the provider's web search tool in tools"),
    "prompt_cache_key": (None, "mark the prefix with cache_control"),
    "prompt_cache_retention": (None, "mark the prefix with cache_control and its ttl"),
    "functions": (None, "give tools"),
    "function_call": (None, "give tool_choice"),
}
# The way of the request, not its content.
_NOT_BODY = ("stream_options", "extra_headers", "extra_query")


def encode(request: Request, dialect: MessagesDialect) -> bytes:
    """
    The JSON body of a request; what was left out is added to ``request.dropped``.

    Raises:
        InvalidRequestError: messages or parameters that cannot be read.
        UnsupportedParameterError: a parameter that the model cannot take, unless drop_params is set.
    """
    draft = Draft(request, dialect)
    body, params = draft.body, draft.params
    body["max_tokens"] = _limit(draft)
    system = write_messages(draft)
    extra_body = None
    if params:
        extra_body = params.pop("extra_body", None)
        system = _write_params(draft, system)
    elif draft.has_calls:
        write_tools(draft)
    if system or draft.instructions:
        _write_system(draft, system)
    for name, value in dialect.defaults.items():
        body.setdefault(name, value)
    if not dialect.model_in_body:
        del body["model"]
    if request.stream:
        body["stream"] = True
    if extra_body:
        body.update(extra_body)
    if draft.dropped:
        request.dropped = tuple(dict.fromkeys((*request.dropped, *draft.dropped)))
    try:
        return _ENCODER.encode(body)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"{draft.target}: the request cannot be written as JSON: {error}") from error


def _write_params(draft: Draft, system: list[Block]) -> list[Block]:
    names = draft.params.keys()
    if not names.isdisjoint(_UNSUPPORTED) or not names.isdisjoint(_NOT_BODY) or draft.dialect.drop:
        _check(draft)
    if not names.isdisjoint(THINKING):
        write_thinking(draft)
    if not names.isdisjoint(_SAMPLING):
        _write_sampling(draft)
    if draft.has_calls or not names.isdisjoint(TOOLS):
        write_tools(draft)
    return _write_rest(draft, system) if draft.params else system


def _limit(draft: Draft) -> int:
    if not draft.params:
        return draft.rules.max_tokens
    given = [value for name in _LIMITS if (value := draft.params.pop(name, None)) is not None]
    if not given:
        return draft.rules.max_tokens
    limit = given[0]
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise InvalidRequestError(f"{draft.target}: max_tokens is a number of tokens, not {limit!r}")
    return limit


def _check(draft: Draft) -> None:
    params = draft.params
    for name in _NOT_BODY:
        params.pop(name, None)
    for name in draft.dialect.drop:
        if name in params:
            draft.refuse(name, "its server does not know it")
            del params[name]
    for name in [name for name in params if name in _UNSUPPORTED]:
        value = params.pop(name)
        neutral, instead = _UNSUPPORTED[name]
        if neutral is None or value != neutral:
            draft.refuse(name, "it has no such parameter", instead)


def _write_sampling(draft: Draft) -> None:
    for name in _SAMPLING:
        value = draft.params.pop(name, None)
        if value is None:
            continue
        if draft.rules.no_sampling:
            draft.refuse(name, "it rejects sampling parameters", "steer it with the prompt")
        elif _thinks(draft) and not _goes_with_thinking(name, value):
            draft.refuse(name, f"{value!r} does not go with thinking", "leave one of them out")
        else:
            draft.body[name] = _clamped(name, value, draft)


def _thinks(draft: Draft) -> bool:
    thinking = draft.body.get("thinking")
    return (
        draft.dialect.strict_thinking and isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")
    )


def _goes_with_thinking(name: str, value: Any) -> bool:
    if name == "temperature":
        return bool(value == 1)
    return name == "top_p" and bool(value >= 0.95)


def _clamped(name: str, value: Any, draft: Draft) -> Any:
    bounds = draft.dialect.clamp.get(name)
    if bounds is None:
        return value
    low, high = bounds
    if not isinstance(value, (int, float)) or value != value:  # noqa: PLR0124  # NaN differs from itself
        raise InvalidRequestError(f"{draft.target}: {name} is a number between {low:g} and {high:g}, not {value!r}")
    if low <= value <= high:
        return value
    draft.refuse(name, f"{value!r} is not between {low:g} and {high:g}", "change it")
    return low if value < low else high


def _write_rest(draft: Draft, system: list[Block]) -> list[Block]:
    params, body = draft.params, draft.body
    stop = params.pop("stop", None)
    if stop is not None:
        sequences = [stop] if isinstance(stop, str) else list(stop)
        if not all(isinstance(text, str) for text in sequences):
            raise InvalidRequestError(f"{draft.target}: stop is a text or a list of texts, not {stop!r}")
        if any(text.isspace() for text in sequences):
            draft.refuse("stop", "white space alone is no stop sequence", "add a visible character")
            sequences = [text for text in sequences if not text.isspace()]
        if sequences:
            body["stop_sequences"] = sequences
    user = [params.pop(name) for name in _USER if name in params]
    if user:
        metadata = params.pop("metadata", {})
        if not isinstance(metadata, dict):
            raise InvalidRequestError(f"{draft.target}: metadata is a dict, not {metadata!r}")
        body["metadata"] = {"user_id": user[0], **metadata}
    if params.get("service_tier") == "default":
        params["service_tier"] = "standard_only"
    native = params.pop("system", None)
    body.update(params)
    if native is None:
        return system
    return [*([{"type": "text", "text": native}] if isinstance(native, str) else native), *system]


def _write_system(draft: Draft, system: list[Block]) -> None:
    blocks = [*system, *({"type": "text", "text": sentence} for sentence in draft.instructions)]
    if all(len(block) == 2 for block in blocks):
        draft.body["system"] = "\n\n".join(block["text"] for block in blocks)
    else:
        draft.body["system"] = blocks
