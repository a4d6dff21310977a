"""
Messages of the chat format as messages of Converse.

The API wants alternating roles, every result of a turn's tool calls in the user's message after it, no blank text, and
the system prompt beside the messages.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from llm_master.draft import is_blank
from llm_master.errors import InvalidRequestError
from llm_master.history import check_pairs, free_id, join_neighbours, plain_turns
from llm_master.wire.bedrock_blocks import SERVER_TOOL, Block, blocks_of, cache_point, kind_of
from llm_master.wire.bedrock_draft import Draft
from llm_master.wire.bedrock_opaque import replayed

__all__ = ["write_messages"]

_VALID_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_INVALID = re.compile(r"[^a-zA-Z0-9_.:-]")
_ARGUMENTS = msgspec.json.Decoder(dict[str, Any])
_KNOWN_FIELDS = frozenset(
    (
        *("role", "content", "name", "tool_calls", "tool_call_id", "function_call", "is_error"),
        *("cache_control", "refusal", "opaque"),
    )
)
# Stands where the API wants a word and there is none to say.
_FILLER = "."


class _Turn:
    """One message: results come before other blocks; ``calls`` maps the ids sent to those of the caller."""

    __slots__ = ("answers", "blocks", "calls", "results", "role")

    def __init__(self, role: str) -> None:
        self.role = role
        self.results: list[Block] = []
        self.blocks: list[Block] = []
        self.calls: dict[str, str] = {}
        self.answers: list[str] = []

    def message(self) -> dict[str, Any]:
        blocks = [*self.results, *self.blocks]
        if any("document" in block for block in self.blocks) and not any("text" in block for block in blocks):
            # A document is only taken beside a text.
            blocks.append({"text": _FILLER})
        return {"role": self.role, "content": blocks}


class _Turns:
    """The turns so far; ``system`` goes beside them, ``later`` follows the results that come in a row."""

    __slots__ = ("draft", "ids", "later", "names", "system", "turns", "used")

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.system: list[Block] = []
        self.turns: list[_Turn] = []
        self.later: list[Block] = []
        self.names: set[str] = set()
        self.ids: dict[str, str] = {}
        self.used: set[str] = set()

    def add(self, message: dict[str, Any]) -> None:
        for field, value in message.items():
            if field not in _KNOWN_FIELDS and value is not None:
                self.draft.drop(f"messages.{field}")
        role = message.get("role")
        if role in ("tool", "function"):
            self._result(message)
            return
        self._place_later()
        if role == "user":
            self._user(self._content(message))
        elif role == "assistant":
            self._assistant(message)
        elif role in ("system", "developer"):
            self._system(message)
        else:
            raise self.draft.unknown_role(role)

    def _turn(self, role: str) -> _Turn:
        if not self.turns or self.turns[-1].role != role:
            self.turns.append(_Turn(role))
        return self.turns[-1]

    def _content(self, message: dict[str, Any]) -> list[Block]:
        blocks = blocks_of(message.get("content"), self.draft, self.names, name=message.get("name"))
        return self._marked(message, blocks)

    def _marked(self, message: dict[str, Any], blocks: list[Block]) -> list[Block]:
        mark = message.get("cache_control")
        if mark:
            point = cache_point(mark, self.draft) if blocks else None
            if point is not None:
                blocks.append(point)
            else:
                self.draft.drop("cache_control")
        return blocks

    def _system(self, message: dict[str, Any]) -> None:
        blocks = self._content(message)
        if any(kind_of(block) not in ("text", "cachePoint", "guardContent") for block in blocks):
            raise InvalidRequestError(f"{self.draft.target}: a system message takes text only; use role 'user'")
        self.system.extend(blocks)

    def _user(self, blocks: list[Block]) -> None:
        if not blocks:
            return
        results = [block for block in blocks if "toolResult" in block]
        others = [block for block in blocks if "toolResult" not in block]
        turn = self._turn("user")
        turn.results.extend(results)
        turn.answers.extend(block["toolResult"].get("toolUseId", "") for block in results)
        if not others:
            return
        if turn.results and not self._may_stand_beside(others):
            # Two of the user's turns are joined by the API itself, so a word of the assistant's stands between them.
            self._turn("assistant").blocks.append({"text": _FILLER})
            turn = self._turn("user")
        turn.blocks.extend(others)

    def _may_stand_beside(self, blocks: list[Block]) -> bool:
        allowed = self.draft.dialect.beside_results
        return allowed is None or all(kind_of(block) in allowed or "cachePoint" in block for block in blocks)

    def _result(self, message: dict[str, Any]) -> None:
        wanted = message.get("tool_call_id") or ""
        call_id = self.ids.get(wanted) if wanted else self._open_call(message)
        if call_id is None:
            raise InvalidRequestError(
                f"{self.draft.target}: tool result {wanted!r} answers no tool call; keep the assistant's message with "
                "its tool_calls before it"
            )
        inside, outside = self._result_blocks(message)
        result: Block = {"toolUseId": call_id, "content": inside}
        if message.get("is_error") is not None:
            if self.draft.dialect.result_status:
                result["status"] = "error" if message["is_error"] else "success"
            else:
                self.draft.drop("messages.is_error")
        turn = self._turn("user")
        turn.results.extend(self._marked(message, [{"toolResult": result}]))
        turn.answers.append(call_id)
        self.later.extend(outside)

    def _place_later(self) -> None:
        blocks, self.later = self.later, []
        self._user(blocks)

    def _open_call(self, message: dict[str, Any]) -> str | None:
        """The first call without a result; a function's result answers the call of its name."""
        name = message.get("name") if message["role"] == "function" else None
        asked = next((turn for turn in reversed(self.turns) if turn.role == "assistant"), None)
        answered = self.turns[-1].answers if self.turns else []
        calls = [block["toolUse"] for block in asked.blocks if "toolUse" in block] if asked is not None else []
        fitting = (call for call in calls if name in (None, call["name"]) and call["toolUseId"] not in answered)
        return next((call["toolUseId"] for call in fitting), None)

    def _result_blocks(self, message: dict[str, Any]) -> tuple[list[Block], list[Block]]:
        """What stands in a result, and the media that must follow it as the user's."""
        content = message.get("content")
        if self.draft.dialect.result_json and isinstance(content, str) and (found := _json_object(content)):
            return [{"json": found}], []
        blocks = blocks_of(content, self.draft, self.names)
        media = ("image", "document", "video", "audio")
        outside = [b for b in blocks if kind_of(b) in media and kind_of(b) not in self.draft.dialect.result_media]
        inside = [block for block in blocks if block not in outside and "cachePoint" not in block]
        if len(inside) + len(outside) < len(blocks):
            self.draft.drop("cache_control")
        if outside:
            inside.append({"text": "What it gave follows in the user's words."})
        return inside or [{"text": _FILLER}], outside

    def _assistant(self, message: dict[str, Any]) -> None:
        kept, whole = replayed(message, self.draft.request)
        if not self.draft.dialect.replay:
            kept = [block for block in kept if "reasoningContent" not in block]
        name = message.get("name")
        content = [] if whole else blocks_of(message.get("content"), self.draft, self.names, name=name)
        blocks = [*kept, *content]
        refusal = message.get("refusal")
        if isinstance(refusal, str) and not is_blank(refusal) and not whole:
            blocks.append({"text": refusal})
        calls = message.get("tool_calls") or ()
        if message.get("function_call"):
            calls = [*calls, {"function": message["function_call"]}]
        if not blocks and not calls:
            return
        turn = self._turn("assistant")
        own = [block["toolUse"] for block in blocks if "toolUse" in block]
        self.draft.has_calls = self.draft.has_calls or bool(own or calls)
        for call in own:
            # A call of the service's own tool has its result in the same turn.
            if call.get("type") != SERVER_TOOL:
                self._know(turn, call["toolUseId"], call["toolUseId"])
        known = {call["toolUseId"] for call in own}
        blocks.extend(self._call(turn, call) for call in calls if call.get("id") not in known)
        turn.blocks.extend(self._marked(message, blocks))

    def _call(self, turn: _Turn, call: dict[str, Any]) -> Block:
        function = self.draft.function_of(call)
        call_id = self._call_id(turn, call.get("id") or "")
        return {"toolUse": {"toolUseId": call_id, "name": function["name"], "input": self.draft.arguments_of(function)}}

    def _call_id(self, turn: _Turn, given: str) -> str:
        if not given:
            sent = f"call_{len(self.turns)}_{len(turn.calls)}"
        elif _VALID_ID.fullmatch(given):
            sent = given
        else:
            sent = f"{_INVALID.sub('_', given)[:50]}_{hashlib.sha256(given.encode()).hexdigest()[:8]}"
        sent = free_id(sent, sent[:60], self.used, len(self.turns))
        self._know(turn, given, sent)
        return sent

    def _know(self, turn: _Turn, given: str, sent: str) -> None:
        self.used.add(sent)
        self.ids[given] = sent
        turn.calls[sent] = given

    def finish(self) -> list[dict[str, Any]]:
        self._place_later()
        self._check_first()
        if self.used or any(turn.answers for turn in self.turns):
            check_pairs(self.turns, self.draft.target)
        # A turn may not end in thinking; one that was cut off there has nothing else to say.
        self.turns = join_neighbours(self.turns, lambda block: "reasoningContent" in block)
        self._end_of_last()
        return [turn.message() for turn in self.turns]

    def _check_first(self) -> None:
        if not self.turns or (self.turns[0].role != "user" and not self.draft.dialect.assistant_first):
            what = "its first message is the assistant's" if self.turns else "there is none"
            raise InvalidRequestError(f"{self.draft.target} needs a user message first, and {what}; add one")

    def _end_of_last(self) -> None:
        last = self.turns[-1]
        if last.role != "assistant":
            return
        if not self.draft.dialect.prefill:
            self.draft.refuse("prefill", "its last message must be the user's", "end the messages with the user's")
            self.turns.pop()
            if not self.turns:
                raise InvalidRequestError(f"{self.draft.target} needs a user message; add one")
            return
        block = last.blocks[-1]
        if "text" in block:
            last.blocks[-1] = {"text": block["text"].rstrip()}


def _json_object(text: str) -> Any:
    """The text itself, to be sent as JSON, where it is an object; else None."""
    try:
        _ARGUMENTS.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return msgspec.Raw(text.encode())


def write_messages(draft: Draft) -> list[Block]:
    """
    Write ``messages`` into the body; give the blocks of the system prompt.

    Raises:
        InvalidRequestError: an unknown role, an unreadable part, malformed tool arguments, a tool call without its
            result or a result without its call, or no user message at the start.
        UnsupportedParameterError: content of a kind that the model cannot take.
    """
    plain = plain_turns(draft.request.messages)
    if plain is not None:
        texts, said = plain
        draft.body["messages"] = [{"role": each["role"], "content": [{"text": each["content"]}]} for each in said]
        return [{"text": text} for text in texts]
    turns = _Turns(draft)
    for message in draft.request.messages:
        turns.add(message)
    draft.body["messages"] = turns.finish()
    return turns.system
