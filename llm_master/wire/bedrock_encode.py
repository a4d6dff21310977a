"""
A request as the body of Converse; ConverseStream takes the same.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Request
from llm_master.dialect_bedrock import BedrockDialect
from llm_master.draft import NO_ODDS, ONE_TEXT, UNSUPPORTED
from llm_master.errors import InvalidRequestError
from llm_master.wire.bedrock_draft import Draft
from llm_master.wire.bedrock_reasoning import REASONING, write_reasoning
from llm_master.wire.bedrock_tools import write_tools
from llm_master.wire.bedrock_turns import write_messages

__all__ = ["encode"]

_SAMPLING = {"temperature": "temperature", "top_p": "topP", "top_k": None}
# Fields of the body that a caller may give by their own names.
_NATIVE = (
    *("guardrailConfig", "promptVariables", "additionalModelResponseFieldPaths", "requestMetadata"),
    *("performanceConfig", "serviceTier", "outputConfig", "toolConfig"),
)
# Parameter -> the value that asks for nothing (taken in silence), and what to do instead.
_UNSUPPORTED: dict[str, tuple[Any, str]] = {
    **UNSUPPORTED,
    **ONE_TEXT,
    **NO_ODDS,
    "user": (None, "give metadata={'user': ...}, which the invocation log keeps"),
    "safety_identifier": (None, "give metadata={'user': ...}, which the invocation log keeps"),
    "store": (False, "leave it out"),
    "prompt_cache_key": (None, "mark the prefix with cache_control"),
    "prompt_cache_retention": (None, "mark the prefix with cache_control and its ttl"),
}


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
    return draft.written(body)


def _write_params(draft: Draft, system: list[dict[str, Any]]) -> list[dict[str, Any]]:
    draft.leave_out(_UNSUPPORTED, draft.dialect.drop)
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


def _write_limit(draft: Draft) -> None:
    limit = draft.limit(least=1)
    if limit is None:
        limit = draft.dialect.max_tokens
    if limit is not None:
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
            draft.inference[native] = draft.clamped(name, value, draft.dialect.clamp.get(name))
        elif draft.dialect.top_k is not None:
            draft.put(draft.dialect.top_k, value)
        else:
            draft.refuse(name, "it has no such parameter", "use top_p")


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
    sequences = draft.stops("stop", "stop_sequences")
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
