"""
A request as the body of Converse; ConverseStream takes the same.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.classes import Request
from llm_master.dialect_bedrock import BedrockDialect
from llm_master.errors import InvalidRequestError
from llm_master.wire.bedrock_draft import Draft
from llm_master.wire.bedrock_reasoning import REASONING, write_reasoning
from llm_master.wire.bedrock_tools import write_tools
from llm_master.wire.bedrock_turns import write_messages

__all__ = ["encode"]

_ENCODER = msgspec.json.Encoder()
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_SAMPLING = {"temperature": "temperature", "top_p": "topP", "top_k": None}
# Fields of the body that a caller may give by their own names.
_NATIVE = (
    *("guardrailConfig", "promptVariables", "additionalModelResponseFieldPaths", "requestMetadata"),
    *("performanceConfig", "serviceTier", "outputConfig", "toolConfig"),
)
# Parameter -> the value that asks for nothing (taken in silence), and what to do instead.
_UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "n": (1, "make several calls"),
    "seed": (None, "leave it out"),
    "user": (None, "give metadata={'user': ...}, which the invocation log keeps"),
    "safety_identifier": (None, "give metadata={'user': ...}, which the invocation log keeps"),
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
    "prompt_cache_key": (None, "mark the prefix with cache_control"),
    "prompt_cache_retention": (None, "mark the prefix with cache_control and its ttl"),
    "functions": (None, "give tools"),
    "function_call": (None, "give tool_choice"),
}
# The way of the request, not its content.
_NOT_BODY = ("stream_options", "extra_headers", "extra_query")


def encode(request: Request, dialect: BedrockDialect) -> bytes:
    """
    The JSON body of a request; what was left out is added to ``request.dropped``.

    Raises:
        InvalidRequestError: messages or parameters that cannot be read.
        UnsupportedParameterError: a parameter that the model cannot take, unless drop_params is set.
    """
    draft = Draft(request, dialect)
    body, params = draft.body, draft.params
    extra_body = params.pop("extra_body", None) if params else None
    system = write_messages(draft)
    if params:
        system = _write_params(draft, system)
    else:
        _write_limit(draft)
        if draft.has_calls:
            write_tools(draft)
    _write_config(draft, system)
    if extra_body:
        body.update(extra_body)
    if draft.dropped:
        request.dropped = tuple(dict.fromkeys((*request.dropped, *draft.dropped)))
    try:
        return _ENCODER.encode(body)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"{draft.target}: the request cannot be written as JSON: {error}") from error


def _write_params(draft: Draft, system: list[dict[str, Any]]) -> list[dict[str, Any]]:
    _check(draft)
    params = draft.params
    for name in _NATIVE:
        if name in params:
            draft.body[name] = params.pop(name)
    _write_limit(draft)
    if not params.keys().isdisjoint(REASONING):
        write_reasoning(draft)
    _write_sampling(draft)
    write_tools(draft)
    return _write_rest(draft, system)


def _check(draft: Draft) -> None:
    params = draft.params
    for name in _NOT_BODY:
        params.pop(name, None)
    for name in sorted(draft.dialect.drop & params.keys()):
        draft.refuse(name, "it is not known there")
        del params[name]
    for name in [name for name in params if name in _UNSUPPORTED]:
        value = params.pop(name)
        neutral, instead = _UNSUPPORTED[name]
        if neutral is None or value != neutral:
            draft.refuse(name, "it has no such parameter", instead)


def _write_limit(draft: Draft) -> None:
    given = [value for name in _LIMITS if (value := draft.params.pop(name, None)) is not None]
    limit = given[0] if given else draft.dialect.max_tokens
    if limit is None:
        return
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidRequestError(f"{draft.target}: max_tokens is a number of tokens, not {limit!r}")
    draft.inference.setdefault("maxTokens", limit)


def _write_sampling(draft: Draft) -> None:
    if "maxTokens" in draft.inference and not draft.goes_with_reasoning("max_tokens"):
        draft.refuse("max_tokens", f"it takes none at the effort {draft.effort!r}", "give a lower reasoning_effort")
        del draft.inference["maxTokens"]
    for name, native in _SAMPLING.items():
        value = draft.params.pop(name, None)
        if value is None:
            continue
        if not draft.dialect.sampling:
            draft.refuse(name, "it rejects sampling parameters", "steer it with the prompt")
        elif not draft.goes_with_reasoning(name, value):
            draft.refuse(name, f"{value!r} does not go with reasoning", "leave one of them out")
        elif native is not None:
            draft.inference[native] = _clamped(name, value, draft)
        elif draft.dialect.top_k is not None:
            draft.put(draft.dialect.top_k, value)
        else:
            draft.refuse(name, "it has no such parameter", "use top_p")


def _clamped(name: str, value: Any, draft: Draft) -> Any:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:  # noqa: PLR0124  # NaN
        raise InvalidRequestError(f"{draft.target}: {name} is a number, not {value!r}")
    low, high = draft.dialect.clamp.get(name, (value, value))
    if low <= value <= high:
        return value
    bound = low if value < low else high
    draft.refuse(name, f"{value!r} is not between {low:g} and {high:g}", f"the nearest it takes is {bound:g}")
    return bound


def _write_rest(draft: Draft, system: list[dict[str, Any]]) -> list[dict[str, Any]]:
    params, body = draft.params, draft.body
    _write_stops(draft)
    metadata = params.pop("metadata", None)
    if metadata is not None:
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise InvalidRequestError(f"{draft.target}: metadata is a dict of texts, not {metadata!r}")
        body["requestMetadata"] = {**metadata, **body.get("requestMetadata", {})}
    tier = params.pop("service_tier", None)
    if tier not in (None, "auto"):
        body.setdefault("serviceTier", {"type": tier})
    native = params.pop("system", None)
    # What is left is the model's own.
    draft.merge(params)
    if native is None:
        return system
    return [*([{"text": native}] if isinstance(native, str) else native), *system]


def _write_stops(draft: Draft) -> None:
    given = [draft.params.pop(name) for name in ("stop", "stop_sequences") if name in draft.params]
    if not given:
        return
    sequences = [given[0]] if isinstance(given[0], str) else list(given[0])
    if not all(isinstance(text, str) for text in sequences):
        raise InvalidRequestError(f"{draft.target}: stop is a text or a list of texts, not {given[0]!r}")
    if sequences and not draft.dialect.stop:
        draft.refuse("stop", "it takes no stop sequences", "cut the answer yourself")
    elif sequences:
        draft.inference["stopSequences"] = sequences


def _write_config(draft: Draft, system: list[dict[str, Any]]) -> None:
    body = draft.body
    system = [*system, *({"text": sentence} for sentence in draft.instructions)]
    if system:
        if draft.dialect.system:
            body["system"] = system
        else:
            # It has no place for them but the user's first words.
            first = next(turn for turn in body["messages"] if turn["role"] == "user")
            first["content"] = [*(block for block in system if "text" in block), *first["content"]]
    if draft.inference:
        body["inferenceConfig"] = draft.inference
    if draft.fields:
        body["additionalModelRequestFields"] = draft.fields
    for name, value in draft.dialect.defaults.items():
        body.setdefault(name, value)
