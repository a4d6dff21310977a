"""
Tool calls put together from the pieces in which servers send them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.classes import ToolCall
from llm_master.events import StreamEvent, ToolCallDeltaEvent, ToolCallEvent

__all__ = ["Calls"]

_OWN_FIELDS = frozenset(("id", "index", "type", "function"))


class _Call:
    """A call that is still coming in; ``id`` is the server's, empty while it has given none."""

    __slots__ = ("extra", "given", "id", "index", "name", "pieces", "position")

    def __init__(self, position: int, index: int | None) -> None:
        self.position = position
        self.index = index
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []
        self.extra: dict[str, Any] = {}
        self.given = False

    def whole(self) -> bool:
        """Whether the arguments so far are a JSON object."""
        try:
            return isinstance(msgspec.json.decode("".join(self.pieces)), dict)
        except (ValueError, RecursionError):
            return False


class Calls:
    """
    The tool calls of one answer.

    Args:
        turn: number of the messages before the answer; it makes the ids of calls to which the server gives none
            different from those of earlier turns.
    """

    __slots__ = ("_calls", "_turn")

    def __init__(self, turn: int) -> None:
        self._turn = turn
        self._calls: list[_Call] = []

    def __bool__(self) -> bool:
        return any(self._real(call) for call in self._calls)

    def add(self, entries: list[Any], out: list[str | StreamEvent], *, whole: bool) -> None:
        """
        Take the ``tool_calls`` of a chunk, or with ``whole`` of a message, where each entry is a call of its own.
        """
        for entry in entries:
            if isinstance(entry, dict):
                self._add(entry, out, whole=whole)

    def _add(self, entry: dict[str, Any], out: list[str | StreamEvent], *, whole: bool) -> None:
        function = entry.get("function")
        if not isinstance(function, dict):
            function = _custom(entry)
        call_id = "" if entry.get("id") is None else str(entry["id"])
        name = function.get("name")
        name = name if isinstance(name, str) else ""
        index = entry.get("index")
        index = index if isinstance(index, int) else None
        call = None if whole else self._find(call_id, index, name)
        first = call is None
        if call is None:
            self._give(out, [earlier for earlier in self._calls if earlier.whole()])
            call = _Call(len(self._calls), index)
            self._calls.append(call)
        new_id = bool(call_id) and call.id != call_id
        new_name = bool(name) and call.name != name
        if new_id:
            call.id = call_id
        if new_name:
            # A name may come in pieces, but only before the arguments.
            call.name = name if not call.name or call.pieces else call.name + name
        for field, value in entry.items():
            if field not in _OWN_FIELDS and value is not None:
                call.extra[field] = value
        arguments = _text(function.get("arguments"))
        if arguments:
            call.pieces.append(arguments)
        if first or new_id or new_name or arguments:
            shown = self._id(call) if first or new_id else None
            out.append(ToolCallDeltaEvent(call.position, shown, call.name if new_name else None, arguments))

    def _find(self, call_id: str, index: int | None, name: str) -> _Call | None:
        """The call that a piece belongs to, None when it begins a new one."""
        calls = self._calls
        if index is None:
            at = calls[-1] if calls else None
        else:
            at = next((call for call in reversed(calls) if call.index == index), None)
        if call_id:
            known = next((call for call in reversed(calls) if call.id == call_id), None)
            if known is not None and (index is None or known.index in (None, index)):
                return known
            if at is None or at.id:
                return None
        # Servers without ids send whole calls under one index: a name after whole arguments is the next call.
        return None if at is None or (name and at.name and at.whole()) else at

    def settle(self, out: list[str | StreamEvent], *, cut: bool) -> None:
        """Give out the calls not given yet; of an answer that was cut off only those whose arguments are whole."""
        self._give(out, [call for call in self._calls if not cut or call.whole()])

    def _give(self, out: list[str | StreamEvent], calls: list[_Call]) -> None:
        for call in calls:
            if not call.given and self._real(call):
                call.given = True
                out.append(ToolCallEvent(self._built(call)))

    def result(self) -> list[ToolCall]:
        """All calls so far, in their order."""
        return [self._built(call) for call in self._calls if self._real(call)]

    @staticmethod
    def _real(call: _Call) -> bool:
        return bool(call.name or call.id or call.pieces)

    def _id(self, call: _Call) -> str:
        return call.id or f"call_{self._turn}_{call.position}"

    def _built(self, call: _Call) -> ToolCall:
        arguments = "".join(call.pieces)
        extra = call.extra or None
        if extra is not None and isinstance(extra.get("custom"), dict):
            extra = {**extra, "type": "custom", "custom": {"name": call.name, "input": arguments}}
        return ToolCall(self._id(call), call.name, raw_arguments=arguments, extra=extra)


def _custom(entry: dict[str, Any]) -> dict[str, Any]:
    """A call of a custom tool, whose input is free text, in the form of a function call."""
    custom = entry.get("custom")
    return {"name": custom.get("name"), "arguments": custom.get("input")} if isinstance(custom, dict) else {}


def _text(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else msgspec.json.encode(arguments).decode()
