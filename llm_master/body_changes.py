"""
What became of each parameter on its way into a request's body, found by leaving it out and looking what is gone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from llm_master.errors import LLMError
from llm_master.explanation import Change

__all__ = ["changes_of"]

# Where the families put the messages and what query() itself says; the rest of an empty call is added by the row.
_SAID = frozenset(
    (
        *("model", "messages", "input", "contents", "system", "systemInstruction", "instructions", "stream"),
        *("texts", "documents", "query", "requests", "instances", "inputText", "file"),
    )
)


def changes_of(
    params: dict[str, Any], body: dict[str, Any], dropped: tuple[str, ...], encode: Callable[[dict[str, Any]], bytes]
) -> tuple[Change, ...]:
    """
    One change for each parameter, then what the provider's row adds.

    Args:
        params: as the caller gave them.
        body: the request's, with all of them.
        dropped: what it lacks.
        encode: gives the body of the same request with other parameters; may raise an ``LLMError``.
    """
    whole = _flat(body)
    lost = {found[0] for entry in dropped if (found := re.match(r"\w+", entry))}
    changes = [_change(name, params, (body, whole), lost, encode) for name in params]
    plain = _encoded(encode, {})
    if plain is not None:
        own = {place for change in changes for place in change.sent}
        added = [
            place
            for place, value in _flat(plain).items()
            if place.partition(".")[0] not in _SAID and place not in own and whole.get(place) == value
        ]
        changes += [Change(given=None, sent=(place,), how="added") for place in added]
    return tuple(changes)


def _change(
    name: str,
    params: dict[str, Any],
    bodies: tuple[dict[str, Any], dict[str, Any]],
    lost: set[str],
    encode: Callable[[dict[str, Any]], bytes],
) -> Change:
    body, whole = bodies
    value = _plain(params[name])
    if name in body and body[name] == value:
        return Change(given=name, sent=(name,), how="same")
    places = _places(name, params, whole, encode)
    if not places:
        return Change(given=name, sent=(), how="dropped" if name in lost else "left out")
    if name in lost or places == (name,):
        return Change(given=name, sent=places, how="changed")
    renamed = len(places) == 1 and "." not in places[0]
    if len(places) > 1 and isinstance(value, dict):
        tops = {place.partition(".")[0] for place in places}
        if len(tops) == 1 and body.get(top := tops.pop()) == value:
            return Change(given=name, sent=(top,), how="renamed")
    return Change(given=name, sent=places, how="renamed" if renamed else "moved")


def _places(
    name: str, params: dict[str, Any], whole: dict[str, Any], encode: Callable[[dict[str, Any]], bytes]
) -> tuple[str, ...]:
    """Where a parameter stands: what is not there, or different, without it."""
    others = {key: value for key, value in params.items() if key != name}
    without = _encoded(encode, others)
    if without is not None:
        rest = _flat(without)
        return tuple(place for place, value in whole.items() if place not in rest or rest[place] != value)
    # The others do not stand without it (a choice of tools without tools): look what it makes alone.
    alone, plain = _encoded(encode, {name: params[name]}), _encoded(encode, {})
    if alone is None or plain is None:
        return ()
    rest = _flat(plain)
    return tuple(place for place, value in _flat(alone).items() if rest.get(place) != value and place in whole)


def _encoded(encode: Callable[[dict[str, Any]], bytes], params: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(encode(params), type=dict[str, Any])
    except LLMError:
        return None


def _flat(value: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Every value of nested objects under its dotted place; a list is one value."""
    found: dict[str, Any] = {}
    for key, each in value.items():
        if isinstance(each, dict) and each:
            found.update(_flat(each, f"{before}{key}."))
        else:
            found[before + key] = each
    return found


def _plain(value: Any) -> Any:
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return value
