"""
``use_prompt_caching``: marks on the prefix of a request, where its provider keeps none without them.

Most providers keep prefixes by themselves and are sent nothing. Where marks are needed they stand on the last system
message, the last tool and the last two turns of the user, in this order of rank: a turn's mark lets the next call read
what this one wrote. Of the four marks that a request may hold, the caller's own count first. Sources:
https://platform.claude.com/docs/en/build-with-claude/prompt-caching and
https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html, read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from llm_master.classes import Request
    from llm_master.rows import CachingRule

__all__ = ["MOST_MARKS", "PARAMETER", "ask_for_caching"]

#: The parameter of a call.
PARAMETER = "use_prompt_caching"
#: Marks that one request may hold.
MOST_MARKS = 4

_SYSTEM = ("system", "developer")
_MARK = {"type": "ephemeral"}
_HOUR = {"type": "ephemeral", "ttl": "1h"}
_KEY_LENGTH = 32

# Where something stands in the prefix: tools before the system's words before the turns.
_Place = tuple[int, int]


def ask_for_caching(request: Request, rule: CachingRule | None, places: tuple[bool, bool] | None) -> None:
    """
    Change a request so that its prefix is kept; what the caller gave is copied where it changes.

    Args:
        rule: what the provider's row says of this family, None for nothing.
        places: whether the family itself takes marks in messages and in tools; None: it needs none.
    """
    if rule is not None:
        name = request.model.lower()
        if any(part in name for part in rule.marks):
            _mark_messages(request, tools=False, parts=places is None)
        if rule.body:
            request.params = _filled(request.params, rule.body)
        if rule.key and request.params.get(rule.key) is None:
            request.params = {**request.params, rule.key: _prefix_key(request)}
    elif places is not None and places[0]:
        _mark_messages(request, tools=places[1], parts=False)


def _mark_messages(request: Request, *, tools: bool, parts: bool) -> None:
    """Place marks; ``parts``: within the content, for servers that know none beside it."""
    messages = request.messages
    given = request.params.get("tools")
    offered = list(given) if isinstance(given, (list, tuple)) else []
    own = [*_tool_marks(offered), *_message_marks(messages), *_other_marks(request.params)]
    room = MOST_MARKS - len(own)
    # A mark for an hour may not come after one for five minutes.
    hours = max((place for place, mark in own if isinstance(mark, Mapping) and mark.get("ttl") == "1h"), default=None)
    marked = {place for place, _ in own}
    made, turns = list(messages), [at for at, each in enumerate(messages) if _is_turn(each, tools_too=not parts)]
    system = [at for at, each in enumerate(messages) if each.get("role") in _SYSTEM and each.get("content")]
    wanted: list[_Place] = [_place(at, messages[at]) for at in system[-1:]]
    last_tool = max((at for at, tool in enumerate(offered) if _can_mark(tool)), default=None)
    if tools and last_tool is not None:
        wanted.append((0, last_tool))
    wanted += [_place(at, messages[at]) for at in reversed(turns[-2:])]
    for place in wanted:
        if room <= 0:
            break
        kind, at = place
        if place in marked:
            continue
        mark = _HOUR if hours is not None and place < hours else _MARK
        if kind == 0:
            offered[at] = {**offered[at], "cache_control": mark}
        else:
            copy = _in_parts(made[at], mark) if parts else {**made[at], "cache_control": mark}
            if copy is None:
                continue
            made[at] = copy
        room -= 1
    request.messages = made
    if offered and offered != given:
        request.params = {**request.params, "tools": offered}


def _place(at: int, message: Mapping[str, Any]) -> _Place:
    return (1 if message.get("role") in _SYSTEM else 2, at)


def _is_turn(message: Mapping[str, Any], *, tools_too: bool) -> bool:
    """Whether a message may carry a mark as a turn of the user; a tool's result is one in the families with marks."""
    return bool(message.get("content")) and (
        message.get("role") == "user" or (tools_too and message.get("role") == "tool")
    )


def _can_mark(tool: Any) -> bool:
    return isinstance(tool, Mapping) and not tool.get("defer_loading")


def _tool_marks(tools: list[Any]) -> list[tuple[_Place, Any]]:
    found = []
    for at, tool in enumerate(tools):
        if isinstance(tool, Mapping):
            inner = tool.get("function")
            mark = tool.get("cache_control") or (isinstance(inner, Mapping) and inner.get("cache_control"))
            if mark:
                found.append(((0, at), mark))
    return found


def _message_marks(messages: list[dict[str, Any]]) -> list[tuple[_Place, Any]]:
    found: list[tuple[_Place, Any]] = []
    for at, message in enumerate(messages):
        place = _place(at, message)
        inner = [message, *_dicts(message.get("content")), *_dicts(message.get("tool_calls"))]
        found += [(place, each["cache_control"]) for each in inner if each.get("cache_control")]
        # The native block of Converse.
        found += [(place, each["cachePoint"]) for each in inner if each.get("cachePoint")]
    return found


def _other_marks(params: Mapping[str, Any]) -> list[tuple[_Place, Any]]:
    """Marks in the native ``system`` of the Messages API, and its mark for the whole request."""
    system = [((1, -1), each["cache_control"]) for each in _dicts(params.get("system")) if each.get("cache_control")]
    whole = params.get("cache_control")
    return [*system, ((3, 0), whole)] if whole else system


def _dicts(value: Any) -> list[Any]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, (list, tuple)) else []


def _in_parts(message: dict[str, Any], mark: dict[str, str]) -> dict[str, Any] | None:
    """The message with a mark on its last text; None where it has none."""
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": [{"type": "text", "text": content, "cache_control": mark}]}
    parts = list(content) if isinstance(content, list) else []
    at = max((i for i, part in enumerate(parts) if isinstance(part, Mapping) and part.get("text")), default=None)
    if at is None:
        return None
    parts[at] = {**parts[at], "cache_control": mark}
    return {**message, "content": parts}


def _filled(given: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both, however deep; what was given wins."""
    found = dict(given)
    for name, value in more.items():
        known = found.get(name)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            found[name] = _filled(known, value)
        elif known is None:
            found[name] = value
    return found


def _prefix_key(request: Request) -> str:
    """A name of what calls of one kind begin with: equal for equal instructions and tools, and telling nothing."""
    from hashlib import blake2b

    system = [each.get("content") for each in request.messages if each.get("role") in _SYSTEM]
    tools = request.params.get("tools")
    prefix = [system, tools] if system or tools else [request.messages[:1]]
    text = msgspec.json.encode(prefix, enc_hook=str)
    return blake2b(text, digest_size=_KEY_LENGTH // 2).hexdigest()
