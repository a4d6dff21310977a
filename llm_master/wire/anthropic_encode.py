"""
A request as the body of ``POST /messages``.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Request
from llm_master.draft import NO_ODDS, ONE_TEXT, UNSUPPORTED
from llm_master.errors import InvalidRequestError
from llm_master.rows import MessagesDialect
from llm_master.wire.anthropic_blocks import Block
from llm_master.wire.anthropic_draft import Draft
from llm_master.wire.anthropic_thinking import THINKING, write_thinking
from llm_master.wire.anthropic_tools import TOOLS, write_tools
from llm_master.wire.anthropic_turns import write_messages

__all__ = ["encode"]

_SAMPLING = ("temperature", "top_p", "top_k")
_USER = ("user", "safety_identifier")
# Parameter -> the value that asks for nothing (taken in silence), and what to do instead.
_UNSUPPORTED: dict[str, tuple[Any, str]] = {
    **UNSUPPORTED,
    **ONE_TEXT,
    **NO_ODDS,
    "store": (False, "leave it out"),
    "web_search_options": (None, "give the provider's web search tool in tools"),
    "prompt_cache_key": (None, "mark the prefix with cache_control"),
    "prompt_cache_retention": (None, "mark the prefix with cache_control and its ttl"),
}


def encode(request: Request, dialect: MessagesDialect) -> bytes:
    """
    The JSON body of a request; what was left out is added to ``request.dropped``.

    Raises:
        InvalidRequestError: messages or parameters that cannot be read.
        UnsupportedParameterError: a parameter that the model cannot take, unless drop_params is set.
    """
    draft = Draft(request, dialect)
    body, params = draft.body, draft.params
    limit = draft.limit()
    body["max_tokens"] = draft.rules.max_tokens if limit is None else limit
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
    return draft.written(body)


def _write_params(draft: Draft, system: list[Block]) -> list[Block]:
    names = draft.params.keys()
    draft.leave_out(_UNSUPPORTED, draft.dialect.drop)
    if not names.isdisjoint(THINKING):
        write_thinking(draft)
    if not names.isdisjoint(_SAMPLING):
        _write_sampling(draft)
    if draft.has_calls or not names.isdisjoint(TOOLS):
        write_tools(draft)
    return _write_rest(draft, system) if draft.params else system


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
            draft.body[name] = draft.clamped(name, value, draft.dialect.clamp.get(name))


def _thinks(draft: Draft) -> bool:
    thinking = draft.body.get("thinking")
    return (
        draft.dialect.strict_thinking and isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")
    )


def _goes_with_thinking(name: str, value: Any) -> bool:
    if name == "temperature":
        return bool(value == 1)
    return name == "top_p" and bool(value >= 0.95)


def _write_rest(draft: Draft, system: list[Block]) -> list[Block]:
    params, body = draft.params, draft.body
    sequences = draft.stops("stop")
    if sequences is not None:
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
