"""
Messages of the chat format as ``instructions`` and input items.

A turn of the model is given back as the items that it was, where they travel with the message, and else in its own
words: text and function calls. Every call must have its result among the items.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.refusals import Refusals
from llm_master.wire.openai_responses_items import call_of
from llm_master.wire.openai_responses_opaque import Item, replayed
from llm_master.wire.openai_responses_parts import Part, is_item, mark_last, part_of, text_of
from llm_master.wire.openai_responses_plan import Plan

__all__ = ["encode_input"]

_SYSTEM = ("system", "developer")
_VALID_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KNOWN = frozenset(
    (
        *("role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "opaque"),
        *("cache_control", "phase", "type", "status"),
    )
)
_EMPTY: tuple[Any, ...] = (None, "", [], {})
# What a client's answer to a call is, by the call's item type.
_OUTPUTS = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}


def encode_input(
    request: Request, plan: Plan, refusals: Refusals, *, instructions: bool, stateless: bool
) -> tuple[str | None, list[Any]]:
    """
    The system prompt for ``instructions``, None when there is none, and the input items.

    Messages of plain text stay the same objects.

    Args:
        instructions: whether the leading system prompt may go into ``instructions``.
        stateless: whether the provider knows of no earlier turns.

    Raises:
        InvalidRequestError: a part that cannot be read, a tool call without its result or a result without its call.
        UnsupportedParameterError: a kind of input that the model does not take.
    """
    messages = request.messages
    lead = _leading(messages) if instructions and plan.dialect.instructions else 0
    if lead == len(messages) and stateless:
        lead = 0  # the API wants some input
    system = "\n\n".join(text_of(message.get("content")) for message in messages[:lead]) if lead else None
    dialect = plan.dialect
    roles = ("user", "assistant", *_SYSTEM) if dialect.developer_role else ("user", "assistant", "system")
    rest = messages[lead:] if lead else messages
    if not dialect.typed_messages:
        for message in rest:
            if len(message) != 2 or message.get("role") not in roles or message.get("content").__class__ is not str:
                break
        else:
            return system, rest
    encoder = _Encoder(request, plan, refusals, stateless=stateless)
    for position, message in enumerate(rest, lead):
        encoder.add(position, message)
    return system, encoder.finish()


def _leading(messages: list[dict[str, Any]]) -> int:
    """How many system messages of plain text stand first."""
    count = 0
    for message in messages:
        if message.get("role") not in _SYSTEM or len(message) != 2:
            break
        content = message.get("content")
        if not isinstance(content, str) and not (
            isinstance(content, list)
            and all(isinstance(part, dict) and part.keys() == {"type", "text"} for part in content)
        ):
            break
        count += 1
    return count


class _Call:
    """A call on its way: the id that is sent, its item type, and how many results it has."""

    __slots__ = ("given", "kind", "name", "results", "sent")

    def __init__(self, given: str, sent: str, kind: str, name: str) -> None:
        self.given = given
        self.sent = sent
        self.kind = kind
        self.name = name
        self.results = 0


class _Encoder:
    """Encodes the messages of one request that are not plain text."""

    __slots__ = ("_calls", "_dialect", "_items", "_plan", "_refusals", "_request", "_shown", "_stateless", "_used")

    def __init__(self, request: Request, plan: Plan, refusals: Refusals, *, stateless: bool) -> None:
        self._request = request
        self._plan = plan
        self._dialect = plan.dialect
        self._refusals = refusals
        self._stateless = stateless
        self._items: list[Any] = []
        self._calls: list[_Call] = []
        self._used: set[str] = set()
        self._shown: list[Part] = []  # what tool results show and their items cannot hold

    def add(self, position: int, message: dict[str, Any]) -> None:
        for field, value in message.items():
            if field not in _KNOWN and value not in _EMPTY:
                self._refusals.note(f"messages[{position}].{field}")
        role = message.get("role")
        if role in ("tool", "function"):
            self._result(message)
            return
        self._show()
        if role == "assistant":
            self._assistant(message)
        else:
            known = role != "developer" or self._dialect.developer_role
            self._message(str(role) if known else "system", message)

    def finish(self) -> list[Any]:
        self._show()
        for call in self._calls:
            if call.results != 1 and call.kind in _OUTPUTS:
                raise InvalidRequestError(
                    f"{self._refusals.who}: tool call {call.given!r} has {call.results or 'no'} results; give one"
                    " message with role 'tool' for each call"
                )
        return self._items

    def _put(self, role: str, content: Any, **fields: Any) -> None:
        item: Item = {"role": role, "content": content, **fields}
        self._items.append({"type": "message", **item} if self._dialect.typed_messages else item)

    def _message(self, role: str, message: Mapping[str, Any]) -> None:
        content, name, mark = message.get("content"), message.get("name"), message.get("cache_control")
        if not isinstance(content, list) and not mark:
            text = content if isinstance(content, str) else ""
            self._put(role, f"{name}: {text}" if name else text)
            return
        parts = list(content) if isinstance(content, list) else [content or ""]
        if name:
            parts = _named(str(name), parts)
        made: list[Part] = []
        for part in parts:
            if is_item(part):
                if made:
                    self._put(role, made)
                    made = []
                self._item(part)
            else:
                made.append(part_of(part, self._dialect, self._refusals))
        if mark:
            made = mark_last(made, mark, self._dialect, self._refusals)
        if made:
            self._put(role, made)

    def _item(self, part: Any) -> None:
        """Take an item that is one already: the caller's own, or one that is given back."""
        self._items.append(part)
        if is_result(part):
            call = self._find(part.get("call_id"))
            if call is not None:
                call.results += 1
        else:
            found = call_of(part)
            if found is not None:
                self._used.add(found.id)
                self._calls.append(_Call(found.id, found.id, str(part.get("type")), found.name))

    def _assistant(self, message: dict[str, Any]) -> None:
        kept = replayed(message, self._request, self._plan, stateless=self._stateless)
        if kept is not None:
            for item in kept:
                self._item(item)
            return
        content = self._said(message)
        calls = list(message.get("tool_calls") or ())
        if message.get("function_call"):
            calls.append({"function": message["function_call"]})
        if content or not calls:
            phase = message.get("phase") if self._dialect.phase else None
            self._put("assistant", content, **({"phase": phase} if phase else {}))
        for call in calls:
            self._items.append(self._call(call))

    def _said(self, message: Mapping[str, Any]) -> Any:
        """The content of an assistant message: a text, or a list of texts where one has a mark that stays."""
        content, refusal, name = message.get("content"), message.get("refusal"), message.get("name")
        texts: list[Part] = []
        for part in [*(content if isinstance(content, list) else [content]), refusal]:
            if isinstance(part, Mapping) and part.get("type") == "refusal":
                part = {**part, "type": "text", "text": part.get("refusal") or ""}  # noqa: PLW2901  # said as a text
            if not part:
                continue
            made = part_of(part, self._dialect, self._refusals)
            if made["type"] != "input_text":
                raise UnsupportedParameterError(
                    f"{self._refusals.who} takes only text in an assistant message, not a {made['type']!r} part;"
                    " put it into a user message",
                    parameter=str(made["type"]),
                )
            mark = {"cache_control": made["cache_control"]} if "cache_control" in made else {}
            if "prompt_cache_breakpoint" in made:
                self._refusals.note("cache_control")  # what the model has said takes none
            texts.append({"type": "output_text", "text": made["text"], "annotations": [], **mark})
        if name and texts:
            texts[0] = {**texts[0], "text": f"{name}: {texts[0]['text']}"}
        if message.get("cache_control") and self._dialect.cache_marks == "keep":
            texts = mark_last(texts, message["cache_control"], self._dialect, self._refusals)
        elif message.get("cache_control"):
            self._refusals.note("cache_control")
        if any("cache_control" in part for part in texts):
            return texts
        # Some servers take an assistant's list only as they wrote it themselves, with ids and status.
        return "\n".join(part["text"] for part in texts)

    def _call(self, call: Any) -> Item:
        function, custom = call.get("function"), call.get("custom")
        if call.get("type") == "custom" and isinstance(custom, Mapping):
            kind, name = "custom_tool_call", custom.get("name")
            said: Item = {"input": custom.get("input") or ""}
        elif isinstance(function, Mapping) and function.get("name"):
            kind, name = "function_call", function["name"]
            arguments = function.get("arguments")
            if not isinstance(arguments, str):
                arguments = msgspec.json.encode(arguments or {}).decode()
            said = {"arguments": arguments or "{}"}
        else:
            raise InvalidRequestError(
                f"{self._refusals.who}: tool call {call.get('id')!r} is no function call; give "
                '{"id", "type": "function", "function": {"name", "arguments"}}'
            )
        sent = self._call_id(call.get("id") or "")
        self._calls.append(_Call(call.get("id") or "", sent, kind, str(name)))
        if call.get("cache_control"):
            self._refusals.note("cache_control")
        return {"type": kind, "call_id": sent, "name": name, **said}

    def _call_id(self, given: str) -> str:
        # Some servers number the calls of each turn from zero; here an id may be used once only.
        count, sent = 0, given
        while sent in self._used or not _VALID_ID.fullmatch(sent):
            unique = f"{given}|{len(self._calls)}|{count}".encode("utf-8", "replace")
            sent = f"call_{blake2b(unique, digest_size=12).hexdigest()}"
            count += 1
        self._used.add(sent)
        return sent

    def _find(self, call_id: Any, name: Any = None) -> _Call | None:
        """The call that a result answers: the newest of its id, or without one the first that is still open."""
        if call_id:
            return next((call for call in reversed(self._calls) if call_id in (call.given, call.sent)), None)
        return next((call for call in self._calls if not call.results and name in (None, call.name)), None)

    def _result(self, message: Mapping[str, Any]) -> None:
        wanted = message.get("tool_call_id")
        call = self._find(wanted, message.get("name") if message.get("role") == "function" else None)
        if call is None and (self._stateless or not wanted):
            raise InvalidRequestError(
                f"{self._refusals.who}: tool result {wanted!r} answers no tool call; keep the assistant's message with"
                " its tool_calls before it"
            )
        sent = call.sent if call is not None else wanted
        if call is not None:
            call.results += 1
        content = message.get("content")
        if isinstance(content, list) and len(content) == 1 and is_result(content[0]):
            # The provider's own tools have results of their own form.
            own = content[0]
            self._items.append(own if own.get("call_id") or own.get("id") else {**own, "call_id": sent})
            return
        kind = _OUTPUTS.get(call.kind if call is not None else "function_call")
        if kind is None:
            raise InvalidRequestError(
                f"{self._refusals.who}: the result of {wanted!r} needs its own form; give content="
                f"[{{'type': '{call.kind if call is not None else ''}_output', 'output': ...}}]"
            )
        self._items.append({"type": kind, "call_id": sent, "output": self._output(message, sent)})

    def _output(self, message: Mapping[str, Any], sent: Any) -> Any:
        content, mark = message.get("content"), message.get("cache_control")
        if not isinstance(content, list):
            if not mark:
                return content if isinstance(content, str) else ""
            content = [content or ""]
        parts = [part_of(part, self._dialect, self._refusals) for part in content]
        if mark:
            parts = mark_last(parts, mark, self._dialect, self._refusals)
        texts = [part for part in parts if part["type"] == "input_text"]
        if len(texts) == len(parts) and all(len(part) == 2 for part in parts):
            return "\n".join(part["text"] for part in parts)
        if self._dialect.tool_parts:
            return parts
        if any("cache_control" in part or "prompt_cache_breakpoint" in part for part in texts):
            self._refusals.note("cache_control")
        others = [part for part in parts if part["type"] != "input_text"]
        if others:
            self._shown += [{"type": "input_text", "text": f"Returned by tool call {sent}:"}, *others]
        return "\n".join(part["text"] for part in texts) or "The result is in the next user message."

    def _show(self) -> None:
        if self._shown:
            self._put("user", self._shown)
            self._shown = []


def is_result(part: Any) -> bool:
    """Whether an item or part is the result of a call."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    return isinstance(kind, str) and kind.endswith("_output") and kind != "program_output"


def _named(name: str, parts: list[Any]) -> list[Any]:
    """Parts that say who speaks: this API has no names."""
    for at, part in enumerate(parts):
        if isinstance(part, str):
            return [*parts[:at], f"{name}: {part}", *parts[at + 1 :]]
        if isinstance(part, Mapping) and part.get("type") in ("text", "input_text"):
            return [*parts[:at], {**part, "text": f"{name}: {part.get('text')}"}, *parts[at + 1 :]]
    return [f"{name}:", *parts]
