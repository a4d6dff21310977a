"""
A request as the body of ``generateContent``; a streamed one has the same body at another address.
"""

from __future__ import annotations

from typing import Any

from llm_master.classes import Request
from llm_master.dialect_gemini import GeminiDialect
from llm_master.draft import UNSUPPORTED
from llm_master.wire.gemini_config import write_config
from llm_master.wire.gemini_draft import Draft, camel, camel_keys, merged
from llm_master.wire.gemini_thinking import THINKING, write_thinking
from llm_master.wire.gemini_tools import TOOLS, write_tools
from llm_master.wire.gemini_turns import write_contents

__all__ = ["encode"]

# Parameter -> the value that asks for nothing (taken in silence), and what to do instead.
_UNSUPPORTED: dict[str, tuple[Any, str]] = {
    **UNSUPPORTED,
    "user": (None, "use labels where the server takes them"),
    "safety_identifier": (None, "use labels where the server takes them"),
    "metadata": (None, "use labels where the server takes them"),
    "prompt_cache_key": (None, "it caches by itself; or give cached_content"),
    "prompt_cache_retention": (None, "it caches by itself; or give cached_content"),
    "prompt_cache_options": (None, "it caches by itself; or give cached_content"),
}
# What a cachedContent holds already.
_OF_CACHE = {"systemInstruction": "system", "tools": "tools", "toolConfig": "tool_choice"}
_CONFIGURED = frozenset(("safetySettings", "modelArmorConfig"))


def encode(request: Request, dialect: GeminiDialect) -> bytes:
    """
    The JSON body of a request; what was left out is added to ``request.dropped``.

    ``extra_body`` and the dialect's defaults are merged field by field, so that one field of ``generationConfig`` can
    be set without the others.

    Raises:
        InvalidRequestError: messages or parameters that cannot be read.
        UnsupportedParameterError: a parameter that the model cannot take, unless drop_params is set.
    """
    draft = Draft(request, dialect)
    write_contents(draft)
    params, extra_body = draft.params, None
    if params:
        extra_body = params.pop("extra_body", None)
        _write_params(draft)
    body = draft.body
    if draft.config:
        body["generationConfig"] = draft.config
    if draft.system:
        _write_system(draft)
    if "cachedContent" in body:
        _check_cache(draft)
    if dialect.defaults:
        body = merged(dialect.defaults, body)
    if extra_body:
        body = merged(body, extra_body)
    return draft.written(body)


def _write_params(draft: Draft) -> None:
    names = draft.params.keys()
    draft.leave_out(_UNSUPPORTED, draft.dialect.drop)
    if "service_tier" in names or "serviceTier" in names:
        _write_tier(draft)
    write_config(draft)
    if not names.isdisjoint(THINKING):
        write_thinking(draft)
    if not names.isdisjoint(TOOLS):
        write_tools(draft)
    if draft.params:
        _write_rest(draft)


def _write_tier(draft: Draft) -> None:
    tier = draft.params.pop("service_tier", None) or draft.params.pop("serviceTier", None)
    tier = {"default": "standard", "auto": None}.get(tier, tier)
    if tier is None:
        return
    known = draft.dialect.service_tiers
    if tier in known:
        draft.body["serviceTier"] = tier
    elif known:
        draft.refuse("service_tier", f"{tier!r} is no tier of it", f"give one of {', '.join(known)}")
    elif tier != "standard":
        draft.refuse("service_tier", "a header chooses its tier", "give extra_headers")


def _write_rest(draft: Draft) -> None:
    """The API's own fields, in its spelling or in snake case, and whatever nobody knows."""
    native = {camel(name): value for name, value in draft.params.items()}
    system = native.pop("systemInstruction", None)
    if isinstance(system, str):
        draft.system.insert(0, system)
    elif system is not None:
        parts = system.get("parts", ()) if isinstance(system, dict) else ()
        draft.system[:0] = [part["text"] for part in parts if "text" in part]
    for name, value in native.items():
        draft.body[name] = camel_keys(value) if name in _CONFIGURED else value


def _write_system(draft: Draft) -> None:
    parts = [{"text": text} for text in draft.system]
    if draft.rules.system:
        draft.body["systemInstruction"] = {"parts": parts}
        return
    contents = draft.body["contents"]
    first = contents[0]
    if first["role"] == "user":
        contents[0] = {**first, "parts": [*parts, *first["parts"]]}
    else:
        contents.insert(0, {"role": "user", "parts": parts})


def _check_cache(draft: Draft) -> None:
    body = draft.body
    if not draft.rules.explicit_cache:
        draft.refuse("cached_content", "it caches by itself only")
        del body["cachedContent"]
        return
    for field, name in _OF_CACHE.items():
        if field in body:
            draft.refuse(name, "it does not go with cached_content, which holds it already", "put it into the cache")
            del body[field]
