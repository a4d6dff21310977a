"""
A request as the body of ``POST /chat``.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Request
from llm_master.dialect_cohere import CohereDialect
from llm_master.draft import ONE_TEXT, UNSUPPORTED
from llm_master.wire.cohere_draft import Draft
from llm_master.wire.cohere_messages import write_messages
from llm_master.wire.cohere_thinking import write_thinking
from llm_master.wire.cohere_tools import write_tools

__all__ = ["encode"]

# Parameter -> the value that asks for nothing (taken in silence), and what to do instead.
_UNSUPPORTED: dict[str, tuple[Any, str]] = {
    **UNSUPPORTED,
    **ONE_TEXT,
    "user": (None, "leave it out"),
    "safety_identifier": (None, "leave it out"),
    "metadata": (None, "leave it out"),
    "top_logprobs": (0, "logprobs=True gives those of the chosen tokens"),
    "repetition_penalty": (1, "use frequency_penalty"),
    "service_tier": ("auto", "priority=0 to 999 orders requests"),
    "store": (False, "leave it out"),
    "web_search_options": (None, "give what was found as documents"),
    "prompt_cache_key": (None, "leave it out: the prefix is cached by itself"),
    "prompt_cache_retention": (None, "leave it out: the prefix is cached by itself"),
}


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
        draft.leave_out(_UNSUPPORTED, draft.dialect.drop)
        limit = draft.limit()
        if limit is not None:
            body["max_tokens"] = limit
        write_thinking(draft)
        write_tools(draft)
        _write_rest(draft)
    write_messages(draft)
    for name, value in draft.dialect.defaults.items():
        body.setdefault(name, value)
    if extra_body:
        body.update(extra_body)
    return draft.written(body)


def _write_rest(draft: Draft) -> None:
    params, body, dialect = draft.params, draft.body, draft.dialect
    _write_stops(draft)
    mode = params.get("safety_mode")
    if mode is not None and mode not in dialect.safety_modes:
        draft.refuse("safety_mode", f"it does not know {mode!r}", f"it takes {', '.join(dialect.safety_modes)}")
        del params["safety_mode"]
    for given, value in params.items():
        name = dialect.rename.get(given, given)
        body[name] = draft.clamped(given, value, dialect.clamp.get(name))


def _write_stops(draft: Draft) -> None:
    sequences = draft.stops("stop", "stop_sequences")
    if not sequences:
        return
    most = draft.dialect.most_stops
    if len(sequences) > most:
        draft.refuse("stop", f"{len(sequences)} stop sequences are too many", f"give {most} at most")
        sequences = sequences[:most]
    draft.body["stop_sequences"] = sequences
