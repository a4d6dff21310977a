"""
The items of a streamed answer on their way: what came of each in pieces, and what its end says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from llm_master.classes import ToolCall
from llm_master.events import ReasoningEvent, RefusalEvent, StreamEvent, ToolCallDeltaEvent, ToolCallEvent
from llm_master.wire.openai_responses_items import call_of

__all__ = ["Draft", "Slot", "is_whole"]

Piece = str | StreamEvent

# Kinds of parts -> the type that they have in an item; the first two make up a message, the others reasoning.
_TYPES = {"text": "output_text", "refusal": "refusal", "reasoning": "reasoning_text", "summary": "summary_text"}
_KINDS = {"output_text": "text", "text": "text", "refusal": "refusal", "reasoning_text": "reasoning"}
_REASONING = ("reasoning", "summary")
# The field of an item that comes in pieces and is a call's own.
_ARGUMENTS = {"function_call": "arguments", "custom_tool_call": "input"}


class Slot:
    """
    One item.

    Attributes:
        item: what is known of it, whole once it is ``closed``; ``kind`` is its type.
        index: its place in the answer, as the server counts.
        announced: whether an event began it; else a piece of it came first.
        parts: its texts by kind and place, in pieces.
        call: the number of the call that it is, -1 while it is none.
        spoken: the kind of reasoning that was given out, None while there was none.
        named: whether its call's name was given out.
    """

    __slots__ = ("annotations", "announced", "call", "closed", "index", "item", "kind", "named", "parts", "spoken")

    def __init__(self, item: dict[str, Any], index: int) -> None:
        self.item = item
        self.kind = str(item.get("type") or "message")
        self.index = index
        self.announced = False
        self.parts: dict[tuple[str, int], list[str]] = {}
        self.annotations: list[Any] = []
        self.call = -1
        self.spoken: str | None = None
        self.named = False
        self.closed = False

    def streamed(self, kind: str) -> str:
        """All that came in pieces of one kind of text."""
        found = sorted((key, pieces) for key, pieces in self.parts.items() if key[0] == kind)
        return "".join(piece for _, pieces in found for piece in pieces)

    def whole(self) -> dict[str, Any]:
        """The item as a plain answer would have it, as far as it came."""
        if self.closed:
            return self.item
        field = _ARGUMENTS.get(self.kind)
        if field is not None:
            return {**self.item, field: self.streamed(field) or self.item.get(field) or ""}
        if self.kind == "reasoning":
            said = self._made(("reasoning",))
            return {**self.item, "summary": self._made(("summary",)), **({"content": said} if said else {})}
        content = self._made(("text", "refusal"))
        if content and self.annotations:
            content[-1] = {**content[-1], "annotations": self.annotations}
        return {**self.item, "content": content} if content else self.item

    def _made(self, kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        return [
            {"type": _TYPES[kind], "refusal" if kind == "refusal" else "text": "".join(pieces)}
            for (kind, _), pieces in sorted(self.parts.items(), key=lambda entry: entry[0][1])
            if kind in kinds
        ]


class Draft:
    """
    All items of one answer.

    Servers that imitate the API give several items the same number, or an item another id in every event, so that an
    event's item is found by what fits best.

    Attributes:
        texts: the pieces of the content, in the order in which they were given out.
        thoughts: the pieces of the reasoning, likewise.
        note: told of what was unusual.
    """

    __slots__ = ("_at", "_calls", "_high", "_slots", "note", "texts", "thoughts")

    def __init__(self, note: Callable[[str], None]) -> None:
        self._slots: list[Slot] = []
        self._at: dict[int, Slot] = {}  # the newest item of each number
        self._calls = 0
        # First halves of surrogate pairs whose second half comes with the next piece, by slot and part.
        self._high: dict[tuple[int, str, int], str] = {}
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.note = note

    @property
    def untouched(self) -> bool:
        """Whether no item came at all."""
        return not self._slots

    def _sorted(self) -> list[Slot]:
        return sorted(self._slots, key=lambda slot: slot.index)

    def items(self) -> list[dict[str, Any]]:
        """All items, as far as they came."""
        return [slot.whole() for slot in self._sorted()]

    def slot(self, index: Any, item_id: Any, kind: str) -> Slot:
        """The item that an event is about; begun if there is none that fits."""
        at = self._at.get(index) if isinstance(index, int) else None
        if at is not None and at.kind == kind and at.item.get("id") == item_id:
            return at
        if item_id:
            named = [slot for slot in self._slots if slot.item.get("id") == item_id and slot.kind == kind]
            if named:
                return named[-1]
        if at is not None and at.kind == kind and not (at.closed and item_id):
            return at
        if at is not None or not (item_id or isinstance(index, int)):
            found = next((slot for slot in reversed(self._slots) if slot.kind == kind and not slot.closed), None)
            if found is not None:
                return found
        return self._new(index, {"id": item_id, "type": kind} if isinstance(item_id, str) else {"type": kind})

    def _new(self, index: Any, item: dict[str, Any]) -> Slot:
        place = index if isinstance(index, int) else max((slot.index for slot in self._slots), default=-1) + 1
        slot = self._at[place] = Slot(item, place)
        self._slots.append(slot)
        return slot

    def begin(self, index: Any, item: dict[str, Any], out: list[Piece]) -> None:
        """Take an item that is announced."""
        slot = self.slot(index, item.get("id"), str(item.get("type") or "message"))
        if slot.announced and slot.item.get("id") != item.get("id"):
            slot = self._new(index, item)
        slot.announced = True
        if not slot.closed:
            slot.item = {**slot.item, **item}
            self._name(slot, out)

    def _name(self, slot: Slot, out: list[Piece]) -> None:
        """Give out a call's id and name, once they are known."""
        if slot.named or slot.kind not in _ARGUMENTS:
            return
        call = call_of(slot.item)
        if call is not None and call.id and call.name:
            slot.named = True
            out.append(ToolCallDeltaEvent(self._number(slot), call.id, call.name))

    def _number(self, slot: Slot) -> int:
        if slot.call < 0:
            slot.call = self._calls
            self._calls += 1
        return slot.call

    def grow(self, slot: Slot, kind: str, place: Any, piece: str, out: list[Piece]) -> None:
        """Take a piece of a text, refusal, reasoning, or of a call's arguments."""
        if not piece or slot.closed:
            return
        key = (kind, place if isinstance(place, int) else 0)
        if self._high or not piece.isascii():
            piece = self._pair(piece, (id(slot), *key))
            if not piece:
                return
        first = key not in slot.parts
        if kind == "text":
            self.texts.append(piece)
            out.append(piece)
        elif kind == "refusal":
            out.append(RefusalEvent(piece))
        elif kind in _REASONING:
            self._think(slot, kind, piece, out, first=first)
        else:
            out.append(ToolCallDeltaEvent(self._number(slot), arguments=piece))
        slot.parts.setdefault(key, []).append(piece)

    def _think(self, slot: Slot, kind: str, piece: str, out: list[Piece], *, first: bool) -> None:
        # A summary says again what the reasoning said: of the two the one that comes first is given out.
        slot.spoken = slot.spoken or kind
        if slot.spoken == kind:
            piece = f"\n\n{piece}" if first and self.thoughts else piece
            self.thoughts.append(piece)
            out.append(ReasoningEvent(piece))

    def _pair(self, piece: str, key: tuple[int, str, int]) -> str:
        piece = self._high.pop(key, "") + piece
        try:
            piece.encode()
        except UnicodeEncodeError:
            if "\ud800" <= piece[-1] <= "\udbff":
                piece, self._high[key] = piece[:-1], piece[-1]
            piece = piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return piece

    def fill(self, slot: Slot, kind: str, place: Any, whole: Any, out: list[Piece]) -> None:
        """Compare a whole text with its pieces, and give out what is missing of it."""
        if not isinstance(whole, str) or slot.closed:
            return
        key = (kind, place if isinstance(place, int) else 0)
        if self._high:
            self._high.pop((id(slot), *key), None)
        given = "".join(slot.parts.get(key, ()))
        if whole == given:
            return
        if whole.startswith(given):
            self.grow(slot, kind, place, whole[len(given) :], out)
        else:
            self.note(f"the {kind} at its end differs from the {kind} that was streamed, which is kept")

    def close(self, index: Any, item: dict[str, Any], out: list[Piece]) -> None:
        """Take an item that is whole."""
        slot = self.slot(index, item.get("id"), str(item.get("type") or "message"))
        self._close(slot, item, out, cut=item.get("status") == "incomplete")

    def _close(self, slot: Slot, item: dict[str, Any], out: list[Piece], *, cut: bool) -> None:
        """
        Close an item.

        Args:
            cut: whether the answer was cut off, so that a call may be incomplete.
        """
        if slot.closed:
            # The end of the answer may say what the end of the item left out.
            missing = {name: value for name, value in item.items() if slot.item.get(name) is None}
            slot.item = {**slot.item, **missing}
            return
        texts = _texts_of(item)
        for kind in dict.fromkeys(kind for kind, _, _ in texts):
            mine = [(place, whole) for each, place, whole in texts if each == kind]
            # How a text is cut into parts may differ.
            if "".join(whole for _, whole in mine) != slot.streamed(kind):
                for place, whole in mine:
                    self.fill(slot, kind, place, whole, out)
        slot.item = {**slot.item, **item}
        self._name(slot, out)
        field = _ARGUMENTS.get(slot.kind)
        if field is not None:
            self._close_call(slot, field, item, out)
        self._settle(slot)
        slot.closed = True
        call = call_of(slot.item)
        if call is not None and (not cut or is_whole(call)):
            self._number(slot)
            out.append(ToolCallEvent(call))

    def _close_call(self, slot: Slot, field: str, item: dict[str, Any], out: list[Piece]) -> None:
        given = slot.streamed(field)
        said = item.get(field)
        if isinstance(said, str) and said.startswith(given):
            self.fill(slot, field, 0, said, out)
        elif not said and given:
            slot.item = {**slot.item, field: given}

    def _settle(self, slot: Slot) -> None:
        """Let a message say what was streamed of it, as that was given out and cannot be taken back."""
        if slot.kind != "message" or not slot.parts:
            return
        texts = _texts_of(slot.item)
        for kind in {kind for kind, _ in slot.parts}:
            if "".join(whole for each, _, whole in texts if each == kind) != slot.streamed(kind):
                whole = slot.whole()
                slot.item = {**slot.item, "content": whole.get("content") or slot.item.get("content")}
                return

    def finish(self, items: list[Any] | None, out: list[Piece], *, cut: bool) -> None:
        """
        Close every item.

        Args:
            items: the items of the whole answer, whose order counts; None where its end does not repeat them.
            cut: whether the answer was cut off, so that its last call may be incomplete.
        """
        streamed = self._sorted()
        order: list[Slot] = []
        whole = [item for item in items or () if isinstance(item, dict)]
        ids = {item.get("id") for item in whole}
        for item in whole:
            slot = _fitting(item, [slot for slot in streamed if slot not in order], ids)
            if slot is None:
                slot = self._new(None, {"type": str(item.get("type") or "message")})
            order.append(slot)
            self._close(slot, item, out, cut=cut)
        for place, slot in enumerate(streamed):
            if slot not in order:
                order.insert(order.index(streamed[place - 1]) + 1 if place else 0, slot)
                self._close(slot, slot.whole(), out, cut=cut)
        for place, slot in enumerate(order):
            slot.index = place


def _fitting(item: dict[str, Any], slots: list[Slot], ids: set[Any]) -> Slot | None:
    """The streamed item that an item of the whole answer is: by its id, else the first that no other one can be."""
    kind = str(item.get("type") or "message")
    same = [slot for slot in slots if slot.kind == kind]
    by_id = (slot for slot in same if item.get("id") and slot.item.get("id") == item["id"])
    others = (slot for slot in same if not slot.item.get("id") or slot.item["id"] not in ids)
    return next(by_id, None) or next(others, None)


def _texts_of(item: dict[str, Any]) -> list[tuple[str, int, str]]:
    """Kind, place and text of the parts of a message or reasoning item."""
    found: list[tuple[str, int, str]] = []
    for field in ("content", "summary"):
        parts = item.get(field)
        for place, part in enumerate(parts if isinstance(parts, list) else [parts]):
            kind, text = _text_of(part, field)
            if kind is not None and isinstance(text, str):
                found.append((kind, place, text))
    return found


def _text_of(part: Any, field: str) -> tuple[str | None, Any]:
    if isinstance(part, str):
        return ("summary" if field == "summary" else "text"), part
    if not isinstance(part, dict):
        return None, None
    kind = "summary" if field == "summary" else _KINDS.get(str(part.get("type") or "text"))
    return kind, part.get("refusal" if kind == "refusal" else "text")


def is_whole(call: ToolCall) -> bool:
    """Whether a call's arguments are a JSON object."""
    try:
        return isinstance(msgspec.json.decode(call.raw_arguments), dict)
    except (ValueError, RecursionError):
        return False
