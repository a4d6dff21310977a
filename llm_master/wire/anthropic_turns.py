"""
Messages of the chat format as turns of the Messages API.

The API wants alternating turns, every result of a turn's tool calls first in the user turn after it, no empty text,
and the system prompt beside the messages. A system message between turns is honoured by some models only, and only
between a user turn and the model's answer, so it slides behind the user turn that it belongs to.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

from llm_master.draft import is_blank
from llm_master.errors import InvalidRequestError
from llm_master.history import check_pairs, free_id, join_neighbours, plain_turns
from llm_master.wire.anthropic_blocks import Block, blocks_of, mark_cache
from llm_master.wire.anthropic_draft import Draft
from llm_master.wire.anthropic_opaque import replayed

__all__ = ["write_messages"]

_VALID_ID = re.compile(r"[a-zA-Z0-9_-]+")
_INVALID = re.compile(r"[^a-zA-Z0-9_-]")
_THINKING = ("thinking", "redacted_thinking")
_KNOWN_FIELDS = frozenset(
    (
        "role",
        "content",
        "name",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "is_error",
        "cache_control",
        "refusal",
        "opaque",
    )
)


class _Turn:
    """One turn: results come before other blocks; ``calls`` maps the ids sent to those of the caller."""

    __slots__ = ("answers", "blocks", "calls", "results", "role")

    def __init__(self, role: str) -> None:
        self.role = role
        self.results: list[Block] = []
        self.blocks: list[Block] = []
        self.calls: dict[str, str] = {}
        self.answers: list[str] = []

    def content(self) -> str | list[Block]:
        blocks = [*self.results, *self.blocks]
        if len(blocks) == 1 and len(blocks[0]) == 2 and blocks[0]["type"] == "text":
            return str(blocks[0]["text"])
        return blocks


class _Turns:
    """The turns so far; ``system`` goes beside them, ``later`` waits for the end of a user turn."""

    __slots__ = ("draft", "ids", "later", "system", "turns", "used")

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.system: list[Block] = []
        self.turns: list[_Turn] = []
        self.later: list[Block] = []
        self.ids: dict[str, str] = {}
        self.used: set[str] = set()

    def add(self, message: dict[str, Any]) -> None:
        if len(message) > 2:
            for field, value in message.items():
                if field not in _KNOWN_FIELDS and value is not None:
                    self.draft.drop(f"messages.{field}")
        role = message.get("role")
        if role == "user":
            self._user(message)
        elif role == "assistant":
            self._assistant(message)
        elif role in ("tool", "function"):
            self._result(message)
        elif role in ("system", "developer"):
            self._system(message)
        else:
            raise self.draft.unknown_role(role)

    def _turn(self, role: str) -> _Turn:
        if self.turns and self.turns[-1].role == role:
            return self.turns[-1]
        if role == "assistant":
            self._place_later()
        turn = _Turn(role)
        self.turns.append(turn)
        return turn

    def _content(self, message: dict[str, Any]) -> list[Block]:
        blocks = blocks_of(message.get("content"), self.draft, name=message.get("name"))
        return self._marked(message, blocks)

    def _marked(self, message: dict[str, Any], blocks: list[Block]) -> list[Block]:
        cache_control = message.get("cache_control")
        if cache_control and not mark_cache(blocks, cache_control):
            self.draft.drop("cache_control")
        return blocks

    def _system(self, message: dict[str, Any]) -> None:
        blocks = self._content(message)
        if any(block["type"] != "text" for block in blocks):
            raise InvalidRequestError(f"{self.draft.target}: a system message takes text only; use role 'user'")
        (self.later if self.turns else self.system).extend(blocks)

    def _place_later(self, *, at_end: bool = False) -> None:
        if not self.later:
            return
        blocks, self.later = self.later, []
        after_answer = self.turns[-1].role == "assistant"
        if self.draft.rules.system_in_messages:
            # Right after an answer the role is not accepted: there the sentence stands as the user's.
            role = "user" if after_answer else "system"
        elif at_end and after_answer:
            role = "user"
        else:
            self.system.extend(blocks)
            return
        turn = _Turn(role)
        turn.blocks = blocks
        self.turns.append(turn)

    def _user(self, message: dict[str, Any]) -> None:
        blocks = self._content(message)
        if not blocks:
            return
        turn = self._turn("user")
        for block in blocks:
            if block["type"] == "tool_result":
                turn.results.append(block)
                turn.answers.append(block.get("tool_use_id", ""))
            else:
                turn.blocks.append(block)

    def _result(self, message: dict[str, Any]) -> None:
        wanted = message.get("tool_call_id") or ""
        asked = next((turn for turn in reversed(self.turns) if turn.role == "assistant"), None)
        turn = self._turn("user")
        call_id = self.ids.get(wanted) if wanted else None
        if not wanted and asked is not None:
            # Without an id a result answers the first call that is still open; a function's result, that of its name.
            name = message.get("name") if message["role"] == "function" else None
            open_calls = (
                block for block in asked.blocks if block["type"] == "tool_use" and name in (None, block["name"])
            )
            call_id = next((block["id"] for block in open_calls if block["id"] not in turn.answers), None)
        if call_id is None:
            raise InvalidRequestError(
                f"{self.draft.target}: tool result {wanted!r} answers no tool call; keep the assistant's message with "
                "its tool_calls before it"
            )
        block: Block = {"type": "tool_result", "tool_use_id": call_id}
        content = message.get("content")
        if isinstance(content, str):
            block["content"] = content
        elif content and (parts := blocks_of(content, self.draft)):
            block["content"] = parts
        if message.get("is_error") is not None:
            block["is_error"] = message["is_error"]
        turn.results.extend(self._marked(message, [block]))
        turn.answers.append(call_id)

    def _assistant(self, message: dict[str, Any]) -> None:
        kept, whole = replayed(message, self.draft.request)
        content = [] if whole else blocks_of(message.get("content"), self.draft, name=message.get("name"))
        if kept and not whole and any(block["type"] in _THINKING for block in content):
            kept = []
        blocks = [*kept, *content]
        refusal = message.get("refusal")
        if isinstance(refusal, str) and not is_blank(refusal) and not whole:
            blocks.append({"type": "text", "text": refusal})
        calls = message.get("tool_calls") or ()
        if message.get("function_call"):
            calls = [*calls, {"function": message["function_call"]}]
        if not blocks and not calls:
            self._marked(message, blocks)
            return
        turn = self._turn("assistant")
        native = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for call_id in native:
            self._know(turn, call_id, call_id)
        blocks.extend(self._call(turn, call) for call in calls if call.get("id") not in native)
        turn.blocks.extend(self._marked(message, blocks))

    def _call(self, turn: _Turn, call: dict[str, Any]) -> Block:
        function = self.draft.function_of(call)
        block: Block = {
            "type": "tool_use",
            "id": self._call_id(turn, call.get("id") or ""),
            "name": function["name"],
            "input": self.draft.arguments_of(function),
        }
        if call.get("cache_control"):
            block["cache_control"] = call["cache_control"]
        return block

    def _call_id(self, turn: _Turn, given: str) -> str:
        if not given:
            sent = f"call_{len(self.turns)}_{len(turn.calls)}"
        elif _VALID_ID.fullmatch(given):
            sent = given
        else:
            sent = f"{_INVALID.sub('_', given)}_{zlib.crc32(given.encode()):08x}"
        sent = free_id(sent, sent, self.used, len(self.turns))
        self._know(turn, given, sent)
        return sent

    def _know(self, turn: _Turn, given: str, sent: str) -> None:
        self.used.add(sent)
        self.ids[given] = sent
        turn.calls[sent] = given

    def finish(self) -> list[dict[str, Any]]:
        self._place_later(at_end=True)
        if not self.turns or self.turns[0].role != "user":
            what = "its first message is the assistant's" if self.turns else "there is none"
            raise InvalidRequestError(f"{self.draft.target} needs a user message first, and {what}; add one")
        if self.used or any(turn.answers for turn in self.turns):
            check_pairs(self.turns, self.draft.target)
        # A turn may not end in thinking; one that was cut off there has nothing else to say.
        self.turns = join_neighbours(self.turns, lambda block: block["type"] in _THINKING)
        self._end_of_last()
        return [{"role": turn.role, "content": turn.content()} for turn in self.turns]

    def _end_of_last(self) -> None:
        last = self.turns[-1]
        if last.role != "assistant":
            return
        # A turn that the provider paused is sent back as it is; it is no prefill.
        paused = any(block["type"] == "server_tool_use" for block in last.blocks)
        if self.draft.rules.no_prefill and not paused:
            self.draft.refuse("prefill", "its last message must be the user's", "end the messages with the user's")
            self.turns.pop()
            return
        block = last.blocks[-1]
        if block["type"] == "text":
            last.blocks[-1] = {**block, "text": block["text"].rstrip()}


def write_messages(draft: Draft) -> list[Block]:
    """
    Write ``messages`` into the body; give the blocks of the system prompt.

    Raises:
        InvalidRequestError: an unknown role, an unreadable part, malformed tool arguments, a tool call without its
            result or a result without its call, or no user message at the start.
    """
    plain = plain_turns(draft.request.messages)
    if plain is not None:
        texts, draft.body["messages"] = plain
        return [{"type": "text", "text": text} for text in texts]
    turns = _Turns(draft)
    for message in draft.request.messages:
        turns.add(message)
    draft.body["messages"] = turns.finish()
    draft.has_calls = bool(turns.used)
    return turns.system
