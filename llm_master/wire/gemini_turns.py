"""
Messages of the chat format as contents of ``generateContent``.

Turns of one side are joined. The results of a turn's calls stand right after it, in the order of the calls, in a
content of their own: a content that holds other parts beside them is read as the model's
(pydantic/pydantic-ai#4210), and their number must be that of the calls.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.bodies import UNREADABLE
from llm_master.errors import InvalidRequestError
from llm_master.history import text_of
from llm_master.wire.gemini_draft import Draft
from llm_master.wire.gemini_opaque import continuation, kept_call, kept_parts, says_the_same
from llm_master.wire.gemini_parts import Part, mime_of, parts_of

__all__ = ["NO_SIGNATURE", "write_contents"]

#: Stands for the signature of a call that this model did not make; the documented way past its check
#: (https://ai.google.dev/gemini-api/docs/thought-signatures, FAQ).
NO_SIGNATURE = "skip_thought_signature_validator"

_ARGUMENTS = msgspec.json.Decoder(dict[str, Any])
_ROLES = {"user": "user", "assistant": "model"}
_KNOWN_FIELDS = frozenset(
    (
        "role",
        "content",
        "name",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "is_error",
        "refusal",
        "opaque",
    )
)


class _Call:
    """A call of a model's turn: ``given`` is the caller's id, ``native`` the id that the API itself gave."""

    __slots__ = ("given", "media", "name", "native", "result")

    def __init__(self, name: str, given: str, native: str | None) -> None:
        self.name = name
        self.given = given
        self.native = native
        self.result: Part | None = None
        self.media: list[Part] = []


class _Turn:
    """What one side says, and the calls it makes."""

    __slots__ = ("calls", "parts", "role")

    def __init__(self, role: str) -> None:
        self.role = role
        self.parts: list[Part] = []
        self.calls: list[_Call] = []


class _Turns:
    """The turns so far."""

    __slots__ = ("draft", "turns")

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.turns: list[_Turn] = []

    def add(self, message: dict[str, Any]) -> None:
        if len(message) > 2:
            for field, value in message.items():
                if field not in _KNOWN_FIELDS and value is not None:
                    self.draft.drop(field if field == "cache_control" else f"messages.{field}")
        role = message.get("role")
        if role == "user":
            parts = parts_of(message.get("content"), self.draft, name=message.get("name"))
            if parts:
                self._turn("user").parts += parts
        elif role == "assistant":
            self._assistant(message)
        elif role in ("tool", "function"):
            self._result(message)
        elif role in ("system", "developer"):
            self._system(message)
        else:
            raise self.draft.unknown_role(role)

    def _turn(self, role: str) -> _Turn:
        last = self.turns[-1] if self.turns else None
        # Results of calls end a turn as words of the user do.
        if last is None or last.role != role or any(call.result is not None for call in last.calls):
            last = _Turn(role)
            self.turns.append(last)
        return last

    def _system(self, message: dict[str, Any]) -> None:
        parts = parts_of(message.get("content"), self.draft, name=message.get("name"))
        if any("text" not in part for part in parts):
            raise InvalidRequestError(f"{self.draft.target}: a system message takes text only; use role 'user'")
        self.draft.system += [part["text"] for part in parts]

    def _assistant(self, message: dict[str, Any]) -> None:
        calls = list(message.get("tool_calls") or ())
        if message.get("function_call"):
            calls.append({"function": message["function_call"]})
        kept = kept_parts(message, self.draft.request)
        whole = bool(kept) and says_the_same(message, kept)
        if whole:
            parts = list(kept)
        else:
            parts = parts_of(message.get("content"), self.draft, name=message.get("name"))
            refusal = message.get("refusal")
            if isinstance(refusal, str) and refusal:
                parts.append({"text": refusal})
        if not parts and not calls:
            return
        turn = self._turn("model")
        turn.parts += parts
        made = iter([part for part in parts if "functionCall" in part])
        for call in calls:
            part = next(made) if whole else kept_call(kept, call) or self._call(call)
            if not whole:
                turn.parts.append(part)
            function = part["functionCall"]
            turn.calls.append(_Call(function["name"], call.get("id") or "", function.get("id")))

    def _call(self, call: dict[str, Any]) -> Part:
        function = self.draft.function_of(call)
        return {"functionCall": {"name": function["name"], "args": self.draft.arguments_of(function)}}

    def _result(self, message: dict[str, Any]) -> None:
        wanted = message.get("tool_call_id") or ""
        asked = next((turn for turn in reversed(self.turns) if turn.role == "model"), None)
        found = None
        if asked is not None and wanted:
            found = next((call for call in asked.calls if call.given == wanted), None)
        elif asked is not None:
            # Without an id a result answers the first call that is still open; a function's result, that of its name.
            name = message.get("name") if message["role"] == "function" else None
            found = next((call for call in asked.calls if call.result is None and name in (None, call.name)), None)
        if found is None:
            raise InvalidRequestError(
                f"{self.draft.target}: tool result {wanted!r} answers no tool call of the turn before it; keep the "
                "assistant's message with its tool_calls right before its results"
            )
        if found.result is not None:
            raise InvalidRequestError(
                f"{self.draft.target}: tool call {wanted!r} has 2 results; give one message with role 'tool' for each"
            )
        found.result = self._response(found, message)

    def _response(self, call: _Call, message: dict[str, Any]) -> Part:
        content = message.get("content")
        parts = parts_of(content, self.draft) if isinstance(content, list) else []
        media = [part for part in parts if "text" not in part]
        text = text_of(content)
        response: dict[str, Any] = {"name": call.name}
        if call.native is not None:
            response["id"] = call.native
        if message.get("is_error"):
            response["response"] = {"error": text}
        else:
            response["response"] = _as_object(text)
        inside = [part for part in media if mime_of(part) in self.draft.rules.result_media]
        if inside:
            response["parts"] = inside
        call.media = [part for part in media if part not in inside]
        return {"functionResponse": response}

    def finish(self) -> list[dict[str, Any]]:
        contents: list[dict[str, Any]] = []
        apart = False  # whether the last content is one of results, which takes nothing else
        for turn in self.turns:
            if turn.role == "user" and contents and contents[-1]["role"] == "user" and not apart:
                contents[-1]["parts"] += turn.parts
            else:
                contents.append({"role": turn.role, "parts": self._signed(turn.parts)})
            apart = False
            if not turn.calls:
                continue
            if len(contents) == 1:
                raise InvalidRequestError(
                    f"{self.draft.target} needs a user message before the first tool call; keep the one that led to it"
                )
            self._check_answered(turn)
            contents.append({"role": "user", "parts": [call.result for call in turn.calls]})
            apart = True
            seen = [part for call in turn.calls if call.media for part in _introduced(call)]
            if seen:
                contents.append({"role": "user", "parts": seen})
                apart = False
        return contents

    def _signed(self, parts: list[Part]) -> list[Part]:
        """The parts with a signature on the first call, where the model wants one; only that call needs it."""
        if self.draft.rules.signatures:
            for position, part in enumerate(parts):
                if "functionCall" in part:
                    if not part.get("thoughtSignature"):
                        parts[position] = {**part, "thoughtSignature": NO_SIGNATURE}
                    break
        return parts

    def _check_answered(self, turn: _Turn) -> None:
        for call in turn.calls:
            if call.result is None:
                raise InvalidRequestError(
                    f"{self.draft.target}: tool call {call.given or call.name!r} has no results; give one message with "
                    "role 'tool' for each call"
                )


def _introduced(call: _Call) -> list[Part]:
    return [{"text": f"Returned by {call.name}:"}, *call.media]


def _as_object(text: str) -> Any:
    """A result as the object that the API wants; it takes a ``$ref`` in it for a reference to a part of the result."""
    if text.lstrip()[:1] == "{" and '"$ref"' not in text:
        try:
            _ARGUMENTS.decode(text)
        except UNREADABLE:
            pass
        else:
            return msgspec.Raw(text)
    return {"result": text}


def write_contents(draft: Draft) -> None:
    """
    Write ``contents``, and ``continuationToken`` for an answer that is to go on; the system prompt goes to the draft.

    Raises:
        InvalidRequestError: an unknown role, an unreadable part, malformed tool arguments, a tool call without its
            result or a result without its call, or nothing to answer.
        UnsupportedParameterError: an assistant's turn stands last and the model does not go on with one.
    """
    messages = _unfinished(draft)
    contents = _plain(messages, draft)
    if contents is None:
        turns = _Turns(draft)
        for message in messages:
            turns.add(message)
        contents = turns.finish()
    if contents and contents[-1]["role"] == "model" and not draft.rules.prefill:
        draft.refuse("prefill", "its last message must be the user's", "end the messages with the user's")
        contents.pop()
    if not contents:
        raise InvalidRequestError(f"{draft.target} needs a user message, and there is none; add one")
    draft.body["contents"] = contents


def _unfinished(draft: Draft) -> list[dict[str, Any]]:
    """The messages without the pieces of an answer that goes on: those are not sent, the token stands for them."""
    messages = draft.request.messages
    end = len(messages)
    while end and (token := continuation(messages[end - 1], draft.request)) is not None:
        draft.body.setdefault("continuationToken", token)
        end -= 1
    return messages if end == len(messages) else messages[:end]


def _plain(messages: list[dict[str, Any]], draft: Draft) -> list[dict[str, Any]] | None:
    """The hot path: texts only. None when it is not that, with nothing written."""
    contents: list[dict[str, Any]] = []
    system: list[str] = []
    for message in messages:
        content = message.get("content")
        if len(message) != 2 or content.__class__ is not str or not content:
            return None
        role = _ROLES.get(message["role"])
        if role is None:
            if message["role"] not in ("system", "developer"):
                return None
            system.append(content)
        elif contents and contents[-1]["role"] == role:
            contents[-1]["parts"].append({"text": content})
        else:
            contents.append({"role": role, "parts": [{"text": content}]})
    draft.system += system
    return contents
